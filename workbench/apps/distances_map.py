"""Which classes look alike: cosines of class means as a picture in which a click picks two classes."""

from __future__ import annotations

from functools import lru_cache
from html import escape
from typing import Any

import anywidget
import ipywidgets as widgets
import numpy as np
import traitlets

from workbench.diagnostics.base import DIVERGING, GROUP_COLOURS, GROUP_ORDER, SEQUENTIAL
from workbench.diagnostics.similarity import BY_FREQUENCY, ClassSimilarity, class_similarity
from workbench.features import Features

from .style import SCRIPTS, bar, caption, card, picture, png, state
from .work import Work

LEAST = 400  # pixels of the picture's side, so that a zoomed page stays sharp
RANGES = {"\N{MINUS SIGN}1 to 1": "fixed", "what is there": "seen"}


class HeatMap(anywidget.AnyWidget):
    """`picture` is a PNG of side x side cells; `picked` is {"row", "column", "n": counts picks}."""

    _esm = SCRIPTS / "heat_map.js"
    picture = traitlets.Bytes().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    side = traitlets.Int(0).tag(sync=True)  # cells
    cell = traitlets.List([-1, -1]).tag(sync=True)  # row and column with lines around them
    picked = traitlets.Dict().tag(sync=True)


class SimilarityMap:
    """`draw()` computes in a thread; `view` is the card.

    Args:
        features: "test" and "train".
        ready: called with the similarities once they are drawn.
        pick: called with two class indices.
        changed: called when a control was set.
    """

    def __init__(self, features: dict[str, Features], ready: Any, pick: Any, changed: Any) -> None:
        self.features, self._ready, self._changed = features, ready, changed
        self.found: ClassSimilarity | None = None
        self.work, self.heat = Work(), HeatMap()
        self._similarity = lru_cache(maxsize=None)(self._computed)
        self._step = 1
        levels = tuple(features["test"].classes.taxonomy or {})
        self.split = widgets.Dropdown(
            options=list(features), description="means of", layout=widgets.Layout(width="150px")
        )
        self.order = widgets.Dropdown(
            options=[BY_FREQUENCY, *levels], description="order", layout=widgets.Layout(width="170px")
        )
        self.range = widgets.Dropdown(options=RANGES, description="colours", layout=widgets.Layout(width="180px"))
        for control in (self.split, self.order, self.range):
            control.style.description_width = "initial"
            control.observe(lambda _: self.draw(), "value")
        self.note, self.scale = widgets.HTML(), widgets.HTML()
        self.said = caption()
        self.heat.observe(lambda change: pick(*self._classes(change["new"])), "picked")
        controls = bar(self.split, self.order, self.range, self.work.view)
        self.view = card("Which classes look alike?", controls, self.note, self.heat, self.scale, self.said)

    def draw(self) -> None:
        self._changed()
        split, order = self.split.value, self.order.value
        self.heat.layout.display, self.scale.value, self.said.value = "none", "", ""
        self.note.value = state("The means are being compared.", kind="loading")
        self.work.start("cosines of class means", lambda _: self._similarity(split, order), self._place, self._refuse)

    def mark(self, one: int, other: int) -> None:
        """Lines around the cell of two classes; classes without images have none."""
        if self.found is None:
            return
        place = {int(c): at // self._step for at, c in enumerate(self.found.drawn)}
        self.heat.cell = [place.get(one, -1), place.get(other, -1)]

    def _classes(self, picked: dict[str, int]) -> tuple[int, int]:
        """Of a cell that stands for several classes, the first of them."""
        assert self.found is not None
        drawn = self.found.drawn
        row, column = (min(picked[side] * self._step, len(drawn) - 1) for side in ("row", "column"))
        return int(drawn[row]), int(drawn[column])

    def _computed(self, split: str, order: str) -> tuple[ClassSimilarity, np.ndarray, int]:
        found = class_similarity(self.features[split], order=order)
        return found, *found.cells()

    def _refuse(self, html: str) -> None:
        self.found, self.note.value = None, html

    def _place(self, computed: tuple[ClassSimilarity, np.ndarray, int]) -> None:
        self.found, cells, self._step = computed
        low, high = (-1.0, 1.0) if self.range.value == "fixed" else _ends(cells)
        palette = DIVERGING if self.range.value == "fixed" else SEQUENTIAL
        pixels = coloured(cells, low, high, palette)
        alt = f"cosines of the means of {len(self.found.drawn)} classes; {self.found.caption()}"
        with self.heat.hold_sync():
            self.heat.alt, self.heat.side = alt, len(cells)
            self.heat.picture = png(np.repeat(np.repeat(pixels, up := max(1, LEAST // len(cells)), 0), up, 1))
        self.note.value, self.heat.layout.display = "", ""
        ramp = coloured(np.linspace(low, high, 160)[None].repeat(8, 0), low, high, palette)
        ends = f"{low:.2f} {picture(ramp, f'colours from {low:.2f} to {high:.2f}', width=160)} {high:.2f}"
        self.scale.value = (
            f"<span class='wb-caption'><span class='wb-scale'>{ends} cosine</span> &nbsp; {_order(self.found)}</span>"
        )
        blocks = f" Each cell is the mean of {self._step} by {self._step} classes." * (self._step > 1)
        absent = len(self.found.images) - len(self.found.drawn)
        left_out = f" {absent} classes without images are left out." * (absent > 0)
        self.said.value = escape(f"{self.found.caption()}.{blocks}{left_out} Click a cell: its two classes.")
        self._ready(self.found)


def coloured(values: np.ndarray, low: float, high: float, palette: str) -> np.ndarray:
    """(H, W) float -> (H, W, 3) uint8 in the colours of the palette, low at its beginning."""
    from matplotlib import colormaps

    return colormaps[palette]((values - low) / (high - low), bytes=True)[..., :3]


def _ends(cells: np.ndarray) -> tuple[float, float]:
    """Lowest and highest cosine of different classes; the diagonal of ones would take half of the colours."""
    apart = cells[~np.eye(len(cells), dtype=bool)] if len(cells) > 1 else cells.ravel()
    low, high = float(apart.min()), float(apart.max())
    return (low, high) if high > low else (low - 0.01, high + 0.01)


def _order(found: ClassSimilarity) -> str:
    """HTML: what stands where."""
    if found.nodes is not None:
        return f"classes by {escape(found.ordered_by)}, then frequency"
    groups = found.groups[found.drawn]
    parts = [
        f'<span style="color:{GROUP_COLOURS[group]}">{group} ({(groups == group).sum()})</span>'
        for group in GROUP_ORDER
        if (groups == group).any()
    ]
    return f"from the upper left: {', '.join(parts)}"
