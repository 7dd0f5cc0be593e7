"""Charts of the loss bench: decision regions with training points, and what bars of groups need beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.diagnostics.base import GROUP_COLOURS, GROUP_MARKERS, GROUP_ORDER, INK, percent
from workbench.training.plane import EXTENT, Plane, best_borders, border_lines, decided, regions

from .chart import Mark, axis

LETTER = 7.0  # height of a number on the axis of percents


def plane_chart(plane: Plane, rows: np.ndarray) -> dict[str, Any]:
    """Keywords of `Chart.show` for the borders (3, 3) of a head; points that it decides wrongly are hollow."""
    marks: list[Mark] = []
    for group, polygon in zip(GROUP_ORDER, regions(rows), strict=True):
        if len(polygon):
            area = {"kind": "area", "points": polygon.tolist(), "colour": GROUP_COLOURS[group], "opacity": 0.22}
            marks.append(area | {"title": f"decided {group}-shot"})
    for line in border_lines(best_borders()):
        dashed = {"kind": "line", "points": line.tolist(), "colour": INK, "dash": True, "width": 1.2}
        marks.append(dashed | {"title": "best border"})
    found = decided(plane.points, rows)
    for (x, y), label, choice in zip(plane.points.tolist(), plane.labels, found, strict=True):
        group = GROUP_ORDER[label]
        dot = {"kind": "dot", "x": x, "y": y, "colour": GROUP_COLOURS[group], "marker": GROUP_MARKERS[group]}
        title = f"{group}-shot training point, decided {GROUP_ORDER[choice]}"
        marks.append(dot | {"r": 4.5 if group == "few" else 3, "hollow": bool(label != choice), "title": title})
    wrong = [int((found != plane.labels)[plane.labels == k].sum()) for k in range(len(GROUP_ORDER))]
    told = ", ".join(f"{g} {n} of {m}" for g, n, m in zip(GROUP_ORDER, wrong, plane.counts, strict=True))
    return {
        "marks": marks,
        "x": axis(EXTENT[0], EXTENT[1]),
        "y": axis(EXTENT[2], EXTENT[3]),
        "alt": f"decision regions of three classes; training points decided wrongly: {told}",
    }


def first_numbers(marks: Sequence[Mark]) -> list[Mark]:
    """Bars of groups with the first arm's numbers only: in a third of a narrow notebook two would run together."""
    return [mark for mark in marks if mark["kind"] != "text" or mark["x"] <= round(mark["x"])]


def with_ticks(marks: Sequence[Mark], values: dict[str, float], what: str) -> list[Mark]:
    """Bars of groups with a short line across each group at a share in [0, 1]; numbers make way for it."""
    ticks: list[Mark] = [
        {"kind": "tick", "x": place, "w": 0.86, "y": 100 * value, "title": f"{what}, {group}: {percent(value)} %"}
        for place, (group, value) in enumerate(values.items())
    ]
    shifted = []
    for mark in marks:
        if mark["kind"] == "text":
            tick = ticks[round(mark["x"])]["y"]
            if tick - LETTER < mark["y"] < tick:
                mark = mark | {"y": tick}
        shifted.append(mark)
    return [*shifted, *ticks]


def groups_axis(sizes: dict[str, int], unit: str) -> dict[str, Any]:
    """The axis of bars by group, with the size of each."""
    ticks = [(place, f"{group}\nn = {size}") for place, (group, size) in enumerate(sizes.items())]
    return axis(-0.5, len(sizes) - 0.5, unit, ticks=ticks)
