"""The outlines of the toybox: polygons in a unit frame, x right and y down, drawn to fill a circle of radius 1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Polygons = list[np.ndarray]  # each (K, 2) float64


def _ring(count: int, radius: float = 1.0, *, centre: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    angles = np.deg2rad(-90.0 + 360.0 * np.arange(count) / count)
    return np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], axis=1)


def _points(*pairs: tuple[float, float]) -> np.ndarray:
    return np.array(pairs, dtype=np.float64)


def _box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return _points((left, top), (right, top), (right, bottom), (left, bottom))


def _star() -> np.ndarray:
    points = _ring(10)
    points[1::2] *= 0.42
    return points


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x / 17, -(y + 2.5) / 17], axis=1)


def _gear() -> np.ndarray:
    angles = np.deg2rad(np.arange(32) * 360 / 32)
    radius = np.where(np.arange(32) % 4 < 2, 1.0, 0.68)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _moon() -> np.ndarray:
    outer = np.deg2rad(np.linspace(50, 310, 32))
    inner = np.deg2rad(np.linspace(299, 61, 24))  # a smaller circle, moved right, that meets the outer one in its horns
    bite = np.stack([0.33 + 0.876 * np.cos(inner), 0.876 * np.sin(inner)], axis=1)
    return np.concatenate([np.stack([np.cos(outer), np.sin(outer)], axis=1), bite]) + _points((0.2, 0.0))


def _leaf() -> np.ndarray:
    y = np.linspace(-1, 0.7, 20)
    half = 0.55 * np.sin(np.pi * (y + 1) / 1.7) ** 0.8
    left, right = np.stack([-half, y], axis=1), np.stack([half, y], axis=1)[::-1]
    return np.concatenate([left, right])


def _drop() -> np.ndarray:
    belly = np.deg2rad(np.linspace(-30, 210, 32))
    return np.concatenate([_points((0, -1)), np.stack([0.62 * np.cos(belly), 0.38 + 0.62 * np.sin(belly)], axis=1)])


def _dome(radius: float, bottom: float, height: float) -> np.ndarray:
    angles = np.deg2rad(np.linspace(180, 360, 24))
    return np.stack([radius * np.cos(angles), bottom + height * np.sin(angles)], axis=1)


def _fish() -> Polygons:
    t = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    body = np.stack([0.22 + 0.75 * np.cos(t), 0.5 * np.sin(t)], axis=1)
    return [body, _points((-0.35, 0), (-1, -0.55), (-0.8, 0), (-1, 0.55))]


# name -> (filled polygons, polygons cut out of them); the order is part of every seed
SHAPES: dict[str, Callable[[], tuple[Polygons, Polygons]]] = {
    "circle": lambda: ([_ring(48, 0.92)], []),
    "square": lambda: ([_box(-0.78, -0.78, 0.78, 0.78)], []),
    "triangle": lambda: ([_ring(3, centre=(0.0, 0.15))], []),
    "star": lambda: ([_star()], []),
    "heart": lambda: ([_heart()], []),
    "gear": lambda: ([_gear()], [_ring(24, 0.3)]),
    "fish": lambda: (_fish(), [_ring(10, 0.09, centre=(0.62, -0.12))]),
    "house": lambda: (
        [_points((-1, -0.1), (0, -0.95), (1, -0.1)), _box(-0.72, -0.15, 0.72, 0.85), _box(0.4, -0.95, 0.65, -0.3)],
        [_box(-0.2, 0.25, 0.2, 0.85)],
    ),
    "bolt": lambda: (
        [_points((0.25, -1), (-0.6, 0.15), (-0.08, 0.15), (-0.3, 1), (0.62, -0.28), (0.08, -0.28), (0.5, -1))], []
    ),
    "leaf": lambda: ([_leaf(), _box(-0.07, 0.55, 0.07, 1.0)], []),
    "moon": lambda: ([_moon()], []),
    "cross": lambda: ([_box(-0.3, -0.95, 0.3, 0.95), _box(-0.95, -0.3, 0.95, 0.3)], []),
    "arrow": lambda: (
        [_points((1, 0), (0.15, -0.8), (0.15, -0.3), (-1, -0.3), (-1, 0.3), (0.15, 0.3), (0.15, 0.8))], []
    ),
    "crown": lambda: (
        [_points((-0.95, -0.6), (-0.45, 0.0), (0, -0.8), (0.45, 0.0), (0.95, -0.6), (0.75, 0.75), (-0.75, 0.75))], []
    ),
    "cloud": lambda: (
        [
            _ring(24, 0.42, centre=(-0.55, 0.15)), _ring(24, 0.55, centre=(-0.05, -0.15)),
            _ring(24, 0.4, centre=(0.55, 0.15)), _box(-0.55, 0.1, 0.55, 0.56),
        ],
        [],
    ),
    "drop": lambda: ([_drop()], []),
    "mushroom": lambda: ([_dome(0.95, 0.05, 0.9), _points((-0.22, 0), (0.22, 0), (0.32, 0.92), (-0.32, 0.92))], []),
    "tree": lambda: (
        [
            _points((0, -1), (0.45, -0.4), (-0.45, -0.4)), _points((0, -0.7), (0.65, 0.1), (-0.65, 0.1)),
            _points((0, -0.3), (0.85, 0.6), (-0.85, 0.6)), _box(-0.14, 0.55, 0.14, 1.0),
        ],
        [],
    ),
    "key": lambda: (
        [
            _ring(24, 0.45, centre=(-0.52, 0.0)), _box(-0.2, -0.12, 1, 0.12), _box(0.45, 0, 0.6, 0.45),
            _box(0.8, 0, 0.95, 0.4),
        ],
        [_ring(20, 0.22, centre=(-0.52, 0.0))],
    ),
    "umbrella": lambda: (
        [
            _dome(1.0, 0.0, 0.9), _box(-0.06, -0.05, 0.06, 0.85), _box(-0.06, 0.72, 0.35, 0.86),
            _box(0.23, 0.5, 0.35, 0.86),
        ],
        [_ring(20, 0.3, centre=(-0.66, 0.12)), _ring(20, 0.3, centre=(0.66, 0.12))],
    ),
}
