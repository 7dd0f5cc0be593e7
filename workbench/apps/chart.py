"""Charts of apps: marks in the house's colours, drawn in the browser, so that a slider need not wait for a figure.

A figure for a paper is `result.plot()`; these are quick views of the same numbers. A mark with a `key` can be picked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import numpy as np
import traitlets

from workbench.diagnostics.base import (
    GROUP_COLOURS,
    GROUP_MARKERS,
    GROUP_ORDER,
    METHOD_COLOURS,
    METHOD_MARKERS,
    MUTED,
    percent,
)
from workbench.metrics import Difference, Interval

from .style import SCRIPTS

Mark = dict[str, Any]


class Chart(anywidget.AnyWidget):
    """`show` draws; `picked` is {"key": of the mark, "n": counts picks} after a click or Enter on a mark."""

    _esm = SCRIPTS / "chart.js"
    spec = traitlets.Dict().tag(sync=True)
    picked = traitlets.Dict().tag(sync=True)
    marked = traitlets.Unicode("").tag(sync=True)  # key of the mark with a thick rim

    def show(
        self,
        marks: Sequence[Mark],
        *,
        x: dict[str, Any],
        y: dict[str, Any],
        alt: str,
        legend: Sequence[dict[str, Any]] = (),
        height: int = 220,
    ) -> None:
        """Draw marks; those with a value that is not finite are left out.

        x, y: axes from `axis` or `shares`; alt: what is seen, in words and numbers.
        """
        shown = [mark for mark in marks if _finite(mark)]
        self.spec = {"marks": shown, "x": x, "y": y, "alt": alt, "legend": list(legend), "height": height}


def axis(
    low: float, high: float, label: str = "", *, ticks: Sequence[tuple[float, str]] | None = None
) -> dict[str, Any]:
    """An axis from low to high, with round ticks unless some are given as (value, label)."""
    if ticks is None:
        step = 10 ** math.floor(math.log10(max(high - low, 1e-12) / 4))
        step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (factor * step) <= 5.001)
        values = np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1) * step
        ticks = [(float(value), f"{value:g}") for value in values.round(12)]
    return {"min": float(low), "max": float(high), "label": label, "ticks": [[float(v), text] for v, text in ticks]}


def shares(label: str = "accuracy (%)", *, low: float = 0, high: float = 100) -> dict[str, Any]:
    """An axis in percent."""
    return axis(low, high, label)


def group_bars(
    arms: Mapping[str, Mapping[str, Interval]], sizes: Mapping[str, int], rows: Sequence[str]
) -> dict[str, Any]:
    """Keywords of `Chart.show`: accuracy of each arm in each row ("all", "many", ...) with its interval, in percent.

    The first arm is filled, further ones are paler; sizes: classes of each row.
    """
    marks: list[Mark] = []
    width = 0.8 / max(len(arms), 1)
    for number, (name, values) in enumerate(arms.items()):
        for place, group in enumerate(rows):
            over, at = values[group], place + (number - (len(arms) - 1) / 2) * width
            colour, fill = GROUP_COLOURS.get(group, MUTED), 1 - 0.75 * number / max(len(arms) - 1, 1)
            title = f"{name}, {group}: {said(over)}"
            bar = {"kind": "bar", "x": at, "w": 0.9 * width, "y": 100 * over.estimate, "colour": colour}
            marks.append(bar | {"opacity": fill, "title": title, "key": group})
            if math.isfinite(over.low):
                marks.append({"kind": "interval", "x": at, "low": 100 * over.low, "high": 100 * over.high})
            top = 100 * (over.high if math.isfinite(over.high) else over.estimate)
            marks.append({"kind": "text", "x": at, "y": min(top, 102), "text": f"{100 * over.estimate:.1f}"})
    ticks = [(place, f"{group}\n{sizes.get(group, 0)} classes") for place, group in enumerate(rows)]
    alt = "; ".join(f"{name}: " + ", ".join(f"{g} {said(v[g])}" for g in rows) for name, v in arms.items())
    legend = [{"label": name, "opacity": 1 - 0.75 * n / max(len(arms) - 1, 1)} for n, name in enumerate(arms)]
    x = axis(-0.5, len(rows) - 0.5, ticks=ticks)
    y = axis(0, 110, "accuracy (%)", ticks=[(value, str(value)) for value in range(0, 101, 20)])  # room for numbers
    return {"marks": marks, "x": x, "y": y, "alt": alt, "legend": legend if len(arms) > 1 else []}


def class_dots(
    values: np.ndarray, counts: np.ndarray, groups: np.ndarray, names: Sequence[str], *, label: str, unit: str = ""
) -> dict[str, Any]:
    """Keywords of `Chart.show`: one mark per class, most training images first, picked by its class index.

    values, counts, groups: (C,); nan is left out.
    """
    order = np.lexsort((-np.asarray(counts), [GROUP_ORDER.index(group) for group in groups]))
    marks = [
        {
            "kind": "dot", "x": rank, "y": float(values[c]), "colour": GROUP_COLOURS[groups[c]], "key": str(c),
            "marker": GROUP_MARKERS[groups[c]], "r": 4 if len(values) <= 200 else 2.5,
            "title": f"{names[c]}: {values[c]:.1f}{unit} ({groups[c]}, {counts[c]} training images)",
        }
        for rank, c in enumerate(order.tolist(), start=1)
    ]  # fmt: skip
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    margin = 0.05 * (high - low) or 1.0
    legend = [{"label": g, "colour": GROUP_COLOURS[g], "marker": GROUP_MARKERS[g]} for g in GROUP_ORDER if g in groups]
    alt = f"{label} of {len(known)} classes, from {low:.1f} to {high:.1f}"
    x = axis(0, len(values) + 1, "class, most training images first")
    return {"marks": marks, "x": x, "y": axis(low - margin, high + margin, label), "alt": alt, "legend": legend}


def lines(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    colours: Mapping[str, str] | None = None,
    dashed: Sequence[str] = (),
) -> tuple[list[Mark], list[dict[str, Any]]]:
    """Marks and legend of named curves (x, y), each in the colour of its group, or of the methods in order."""
    marks: list[Mark] = []
    legend = []
    for number, (name, (x, y)) in enumerate(curves.items()):
        colour = (colours or {}).get(name) or METHOD_COLOURS[number % len(METHOD_COLOURS)]
        points = [[float(a), float(b)] for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)]
        if points:
            marks.append({"kind": "line", "points": points, "colour": colour, "dash": name in dashed, "title": name})
        legend.append({"label": name, "colour": colour, "marker": METHOD_MARKERS[0], "hollow": name in dashed})
    return marks, legend


def said(over: Interval) -> str:
    """An interval in words: "51.2 % [47.8, 54.6], n = 25 classes"."""
    if not over.n:
        return "n/a (0 classes)"
    bounds = f" [{100 * over.low:.1f}, {100 * over.high:.1f}]" if math.isfinite(over.low) else ""
    return f"{100 * over.estimate:.1f} %{bounds}, n = {over.n} {over.unit}"


def told(difference: Difference) -> str:
    """A paired difference in points, its interval and verdict on the first arm: "+3.1 [-1.2, +7.4] better"."""
    if not difference.n:
        return "n/a (0 classes)"
    verdict = {"first better": "better", "second better": "worse"}.get(difference.verdict, difference.verdict)
    return f"{percent(difference.estimate, difference.low, difference.high, sign=True)} {verdict}"


def _finite(mark: Mark) -> bool:
    return all(math.isfinite(mark[key]) for key in ("x", "y", "low", "high") if key in mark)
