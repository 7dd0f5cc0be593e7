"""The map of two models, one laid onto the other: lines from where classes and images were to where they are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as widgets
import numpy as np

from workbench.diagnostics.base import GROUP_COLOURS, GROUP_MARKERS, GROUP_ORDER, MUTED, plain
from workbench.diagnostics.drift import Drift

from .chart import Chart, Mark, axis
from .style import bar, card, state
from .work import Work

CLASSES = 300  # with a line; of more those that drifted most
SHAPE = 1.7  # of the map: its width in units of its height
SOON = 5000  # images whose drift is computed without being asked for; more take many seconds
MAPS = {"PCA": "pca", "LDA": "lda", "t-SNE": "tsne", "UMAP": "umap"}
ALONE = "Choose two different runs above to see what moved between them."


class DriftMap:
    """`move()` asks `compute(method)` in a thread and draws its answer; `view` is the card.

    Args:
        compute: gives the drift of two runs for a method of maps, or None where there are no two.
        changed: called when another method was chosen.
    """

    def __init__(self, images: int, compute: Callable[[str], Drift | None], changed: Callable[[], None]) -> None:
        self.images, self._compute, self._changed = images, compute, changed
        self.work, self.chart = Work(), Chart()
        self._drawing = threading.RLock()  # images and drift come from two threads; the last drawn must have both
        self.found: Drift | None = None
        self.rows = np.empty(0, dtype=np.int64)  # of images that are drawn
        self.method = widgets.Dropdown(options=MAPS, description="map", layout=widgets.Layout(width="130px"))
        self.method.style.description_width = "initial"
        self.start = widgets.Button(description="draw the map", layout=widgets.Layout(width="110px"))
        self.note, self.quality = widgets.HTML(), widgets.HTML()
        self.quality.add_class("wb-caption")
        self.method.observe(lambda _: self.move(asked=True), "value")
        self.start.on_click(lambda _: self.move(asked=True))
        controls = bar(self.method, self.start, self.work.view)
        self.view = card("Where images moved", controls, self.chart, self.note, self.quality)

    def move(self, *, asked: bool = False) -> None:
        """The runs or the method are others."""
        self._changed()
        self.found = None
        self.work.cancel()
        self.chart.layout.display, self.quality.value, self.start.layout.display = "none", "", "none"
        if self.images > SOON and not asked:
            self.start.layout.display = ""
            self.note.value = state(f"Comparing the neighbours of {self.images} images takes a while.")
            return
        self.note.value = state("The map is being made.", kind="loading")
        method = self.method.value
        self.work.start(f"drift of {self.images} images", lambda _: self._compute(method), self._place, self._refuse)

    def draw(self, rows: np.ndarray, marked: str) -> None:
        """Draw these images too, and mark the class with this key."""
        with self._drawing:
            self.rows, self.chart.marked = rows, marked
            if self.found is not None:
                self.chart.show(**drift_map(self.found, rows))

    def _refuse(self, html: str) -> None:
        self.note.value = html

    def _place(self, found: Drift | None) -> None:
        if found is None:
            self.note.value = state(ALONE)
            return
        self.note.value, self.chart.layout.display = "", ""
        self.quality.value = escape(found.caption()).replace("\n", "<br>")
        with self._drawing:
            self.found = found
            self.draw(self.rows, self.chart.marked)


def drift_map(found: Drift, rows: np.ndarray, *, height: int = 300) -> dict[str, Any]:
    """Keywords of `Chart.show`: means of classes before (hollow) and after, and so many images, grey.

    rows: (n,) positions in the features of images to draw; those that are on no map are left out.
    """
    before, after = found.class_points()
    moved, kept = found.class_means("drift"), found.class_means("kept")
    there = np.flatnonzero(np.isfinite(before).all(axis=1))
    shown = there[np.argsort(-moved[there], kind="stable")][:CLASSES]
    marks: list[Mark] = []
    place = np.full(len(found.ids), -1)
    place[found.pair.rows] = np.arange(len(found.pair.rows))
    drawn = place[rows][place[rows] >= 0]
    for at, one in zip(drawn, found.points[:, drawn].transpose(1, 0, 2).tolist(), strict=True):
        row = found.pair.rows[at]
        title = f"{found.ids[row]}: drift {found.drift[row]:.2f}"
        marks.append({"kind": "line", "points": one, "width": 0.8, "colour": MUTED, "title": title})
        marks.append({"kind": "dot", "x": one[1][0], "y": one[1][1], "r": 2, "colour": MUTED, "title": title})
    for c in shown[::-1].tolist():
        colour, marker = GROUP_COLOURS[found.groups[c]], GROUP_MARKERS[found.groups[c]]
        title = (
            f"{found.class_names[c]} ({found.groups[c]}): mean drift {moved[c]:.2f}, "
            f"{100 * kept[c]:.0f} % of {found.k} neighbours kept"
        )
        ends = [before[c].tolist(), after[c].tolist()]
        style = {"colour": colour, "marker": marker, "title": title}
        marks.append({"kind": "line", "points": ends, "width": 1.2, **style})
        marks.append({"kind": "dot", "x": ends[0][0], "y": ends[0][1], "r": 2.5, "hollow": True, **style})
        marks.append({"kind": "dot", "x": ends[1][0], "y": ends[1][1], "r": 4, "key": str(c), **style})
    places = np.concatenate([before[shown], after[shown], *found.points[:, drawn]])
    middle = (places.max(0) + places.min(0)) / 2
    half = 1.06 * max(float(np.ptp(places[:, 0])) / SHAPE, float(np.ptp(places[:, 1])), 1e-6) / 2
    none: list[tuple[float, str]] = []  # a map has no units
    groups = [group for group in GROUP_ORDER if (found.groups[shown] == group).any()]
    legend = [{"label": g, "colour": GROUP_COLOURS[g], "marker": GROUP_MARKERS[g]} for g in groups]
    legend.append({"label": f"hollow: {plain(found.arms[0], 20)}", "marker": "o", "hollow": True})
    most = ", ".join(f"{plain(found.class_names[c], 30)} {moved[c]:.2f}" for c in shown[:3])
    return {
        "marks": marks,
        "x": axis(middle[0] - SHAPE * half, middle[0] + SHAPE * half, ticks=none),
        "y": axis(middle[1] - half, middle[1] + half, ticks=none),
        "alt": f"{len(shown)} classes from {found.arms[0]} to {found.arms[1]}; most drift: {most}",
        "legend": legend,
        "height": height,
    }
