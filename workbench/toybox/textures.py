"""What covers things in the toybox: fill patterns of objects, and backgrounds.

Every random number is drawn on a lattice of fixed size and enlarged, so that a scene looks alike at any resolution.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

# name -> sRGB in 0..255
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 40, 45), "orange": (240, 135, 30), "yellow": (240, 215, 60), "green": (45, 150, 60),
    "teal": (25, 160, 165), "blue": (45, 85, 210), "purple": (130, 60, 185), "pink": (245, 140, 190),
    "brown": (125, 80, 45), "grey": (140, 140, 145),
}


def _plain(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.zeros_like(x)


def _striped(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _step(np.sin(2 * np.pi * y / 0.5))


def _dotted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    row = np.floor(y / 0.42)
    u = (x / 0.48 + 0.5 * (row % 2)) % 1 - 0.5
    v = (y / 0.42) % 1 - 0.5
    return _step((0.3**2 - u * u - v * v) * 12)


def _checked(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _step(np.sin(np.pi * x / 0.4) * np.sin(np.pi * y / 0.4))


def _ringed(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _step(np.sin(2 * np.pi * np.hypot(x, y) / 0.5))


def _step(wave: np.ndarray) -> np.ndarray:
    """A soft edge about a pixel wide at the usual size: hard ones would alias."""
    return np.clip(0.5 + 3.0 * wave, 0.0, 1.0)


# name -> coverage in [0, 1] of the second colour at object coordinates x, y (S, S) float32
PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "plain": _plain, "striped": _striped, "dotted": _dotted, "checked": _checked, "ringed": _ringed,
}


def noise(rng: np.random.Generator, size: int, cells: tuple[int, int], *, octaves: int = 1) -> np.ndarray:
    """Smooth noise (size, size) float32 about 0, standard deviation near 1; cells: rows and columns of its lattice."""
    total = np.zeros((size, size), dtype=np.float32)
    for octave in range(octaves):
        lattice = rng.standard_normal((cells[0] << octave, cells[1] << octave), dtype=np.float32)
        total += cv2.resize(lattice, (size, size), interpolation=cv2.INTER_LINEAR) / (1 << octave)
    return total


def _mix(first: tuple[int, int, int], second: tuple[int, int, int], share: np.ndarray) -> np.ndarray:
    low, high = np.array(first, dtype=np.float32), np.array(second, dtype=np.float32)
    return low + (high - low) * np.clip(share, 0, 1)[..., None]


def _grass(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _mix((40, 95, 30), (130, 175, 70), 0.5 + 0.25 * noise(rng, len(x), (10, 40)))


def _sand(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    grains = noise(rng, len(x), (56, 56)) + noise(rng, len(x), (4, 4))
    return _mix((190, 155, 105), (240, 215, 165), 0.5 + 0.2 * grains)


def _water(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    waves = np.sin(2 * np.pi * 7 * y + 2.5 * noise(rng, len(x), (4, 3)))
    return _mix((20, 75, 130), (110, 180, 215), 0.45 + 0.35 * waves)


def _brick(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    rows, columns = rng.uniform(5, 8), rng.uniform(2.5, 4)
    v = y * rows + rng.random()
    u = x * columns + 0.5 * (np.floor(v) % 2) + rng.random()
    mortar = np.maximum(np.abs(u % 1 - 0.5) * 2 > 0.9, np.abs(v % 1 - 0.5) * 2 > 0.78)
    bricks = _mix((130, 55, 40), (180, 95, 70), 0.5 + 0.3 * noise(rng, len(x), (8, 4)))
    return np.where(mortar[..., None], np.float32(200), bricks)


def _sky(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    clouds = noise(rng, len(x), (3, 3), octaves=3)
    return _mix((105, 165, 230), (250, 250, 252), 0.15 + 0.35 * y + 0.45 * np.maximum(clouds - 0.2, 0))


def _wood(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    grain = np.sin(2 * np.pi * (rng.uniform(5, 9) * x + 0.5 * noise(rng, len(x), (3, 4))))
    planks = np.abs((y * 3 + rng.random()) % 1 - 0.5) * 2 > 0.94
    return np.where(planks[..., None], np.float32(60), _mix((120, 75, 40), (190, 135, 85), 0.5 + 0.4 * grain))


def _night(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    stars = np.zeros((56, 56), dtype=np.float32)
    stars[rng.integers(0, 56, 30), rng.integers(0, 56, 30)] = rng.uniform(0.4, 1.0, 30)
    stars = cv2.resize(stars, (len(x), len(x)), interpolation=cv2.INTER_LINEAR)
    return _mix((10, 12, 40), (35, 35, 85), 0.5 + 0.3 * noise(rng, len(x), (3, 3))) + 215 * stars[..., None]


def _snow(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _mix((205, 220, 240), (255, 255, 255), 0.6 + 0.35 * noise(rng, len(x), (6, 6), octaves=2))


def _lava(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    cracks = 1 - np.minimum(np.abs(noise(rng, len(x), (5, 5), octaves=2)) * 2.5, 1)
    return _mix((35, 20, 20), (255, 140, 30), cracks)


def _marble(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    veins = np.abs(np.sin(2 * np.pi * (1.5 * x + 1.5 * y + 0.5 * noise(rng, len(x), (4, 4), octaves=2))))
    return _mix((120, 125, 135), (235, 235, 238), veins**0.4)


def _carpet(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    weave = np.sin(2 * np.pi * 11 * (x + y)) * np.sin(2 * np.pi * 11 * (x - y))
    return _mix((70, 25, 65), (150, 70, 120), 0.5 + 0.35 * weave + 0.15 * noise(rng, len(x), (6, 6)))


def _pebbles(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    centres = rng.random((24, 2), dtype=np.float32)
    tone = rng.random(24, dtype=np.float32)
    distance = (x[..., None] - centres[:, 0]) ** 2 + (y[..., None] - centres[:, 1]) ** 2
    nearest = distance.argmin(axis=-1)
    rim = np.clip(1 - distance.min(axis=-1) * 45, 0.2, 1)
    return _mix((85, 80, 75), (190, 180, 165), tone[nearest]) * rim[..., None]


# name -> (S, S, 3) float32 in 0..255, of image coordinates x, y (S, S) in [0, 1); the first eight are met upstream
BACKGROUNDS: dict[str, Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]] = {
    "grass": _grass, "sand": _sand, "water": _water, "brick": _brick, "sky": _sky, "wood": _wood, "night": _night,
    "snow": _snow, "lava": _lava, "marble": _marble, "carpet": _carpet, "pebbles": _pebbles,
}
