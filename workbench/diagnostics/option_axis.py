"""Where does a value of an option stand on an axis? Numbers in their place, linear or logarithmic; names in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .base import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Value = float | str

LOG_FROM = 30  # times the smallest value above 0: from there on the axis is logarithmic
LETTERS = 16  # of a value
_POINTS, _LETTER = 235, 5.2  # about how long an axis is, and how wide a letter of its tick labels


def label(value: Value) -> str:
    """A value in a text or at a tick."""
    return plain(value, LETTERS) if isinstance(value, str) else f"{value:g}"


def places(values: Sequence[Value], order: Sequence[Value], *, numeric: bool) -> np.ndarray:
    """(V,) float64 positions of the values; names are numbered as in `order`."""
    return np.array([float(value) if numeric else order.index(value) for value in values], dtype=np.float64)


def scale_axis(ax: Axes, order: Sequence[Value], *, numeric: bool) -> None:
    """The x axis with a tick at each value of `order`, and a label at those that have room for it."""
    x = places(order, order, numeric=numeric)
    positive = x[x > 0]
    edge = 0.04 * float(np.ptp(x)) if numeric else 0.5
    ends = x[0] - edge, x[-1] + edge
    if numeric and len(positive) and x[0] >= 0 and x[-1] > LOG_FROM * positive[0]:
        wide = (x[-1] / positive[0]) ** 0.04
        if x[0] > 0:
            ax.set_xscale("log")
            ends = x[0] / wide, x[-1] * wide
        else:  # a logarithmic axis has no 0: up to the first value above it this one is linear
            ax.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
            ends = -0.2 * positive[0], x[-1] * wide
    ax.set_xlim(*ends)
    labels = [label(value) for value in order]
    crowded = not numeric and sum(map(len, labels)) * _LETTER > 0.8 * _POINTS
    if numeric:
        shares = ax.transAxes.inverted().transform(ax.transData.transform([(place, 0) for place in x]))[:, 0]
        labels = _thinned(labels, _POINTS * shares)
    ax.set_xticks(x, labels, parse_math=False, rotation=90 if crowded else 0)
    ax.set_xticks([], minor=True)


def _thinned(labels: list[str], points: np.ndarray) -> list[str]:
    """Empty where a label would touch the one before it. points (V,): where they stand."""
    kept, end = [], -np.inf
    for text, place in zip(labels, points, strict=True):
        half = len(text) * _LETTER / 2
        fits = place - half > end + _LETTER
        kept.append(text if fits else "")
        end = place + half if fits else end
    return kept
