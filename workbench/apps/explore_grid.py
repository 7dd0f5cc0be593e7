"""The selected images as tiles, in the order asked for; pictures come as they are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
import numpy as np

from workbench.diagnostics.base import GROUP_COLOURS, plain

from .chip import Chip
from .pictured_tiles import PicturedTiles
from .pictures import Pictures
from .selection import Selection
from .style import MARKS, Tiles, bar, caption, card, state

SORTS = ("least confident", "most confident", "as they come")
SHOWN = 60  # tiles at a time
HINT = "No images are selected: press, hold and draw around points, type a filter, or choose a class."
NONE = "No images match. Clear the filter."


class Grid:
    """Follows the selection; `chosen` is called with the row of the tile that a person chose, or -1 where all changed.

    `view` is the card. `rows` are the images with a tile.
    """

    def __init__(self, selection: Selection, pictures: Pictures, chip: Chip, chosen: Callable[[int], None]) -> None:
        self.selection, self.features, self.pictures = selection, selection.features, pictures
        self._chosen = chosen
        self.rows = np.empty(0, dtype=np.int64)
        self.sort = widgets.Dropdown(options=SORTS, description="sort by", layout=widgets.Layout(width="200px"))
        self.sort.style.description_width = "50px"
        if self.features.confidence is None:
            self.sort.options, self.sort.disabled = SORTS[-1:], True
        self.page = 0
        self.back, self.on = (
            widgets.Button(icon=icon, tooltip=tip, layout=widgets.Layout(width="32px"))
            for icon, tip in (("chevron-left", "images before these"), ("chevron-right", "more images"))
        )
        self.tiles, self.more, self.message = Tiles(empty=HINT), caption(), widgets.HTML()
        self.pictured = PicturedTiles(self.tiles, self._tell)
        self.reading = self.pictured.work
        pages = bar(self.sort, self.back, self.on, self.more)
        self.view = card("Images", chip.view, pages, self.tiles, self.message)
        self.sort.observe(lambda _: self.show(), "value")
        self.back.on_click(lambda _: self.show(self.page - 1))
        self.on.on_click(lambda _: self.show(self.page + 1))
        self.tiles.observe(self._activated, "active")

    def show(self, page: int = 0) -> None:
        """Tiles of the selected images, so many at a time."""
        chosen = self.selection.rows
        if self.sort.value != SORTS[2]:
            assert self.features.confidence is not None
            order = np.argsort(self.features.confidence[chosen], kind="stable")
            chosen = chosen[order if self.sort.value == SORTS[0] else order[::-1]]
        pages = max(1, -(-len(chosen) // SHOWN))
        self.page = min(max(page, 0), pages - 1)
        self.rows = chosen[self.page * SHOWN : (self.page + 1) * SHOWN]
        several = pages > 1
        first = self.page * SHOWN
        self.more.value = f"{first + 1:,} to {first + len(self.rows):,} of {len(chosen):,}" if several else ""
        for button, usable in ((self.back, self.page > 0), (self.on, self.page < pages - 1)):
            button.layout.display, button.disabled = "" if several else "none", not usable
        self.tiles.empty = NONE if self.selection.why else HINT
        self.message.value = self._lacking()
        self.pictured.show(self.pictures, self.rows, self._cells)
        self._chosen(-1)

    def _lacking(self) -> str:
        """HTML: how to get pictures that some of the tiles lack; where all lack them, the view of one image says it."""
        if self.pictures.images is None:
            return ""
        hints = dict.fromkeys(filter(None, map(self.pictures.lacking, self.rows.tolist())))
        return "".join(state(hint, kind="missing") for hint in hints)

    def _tell(self, html: str) -> None:
        self.message.value = html

    def _cells(self) -> list[dict[str, str]]:
        features, names, groups = self.features, self.features.classes.names, self.features.classes.groups
        split = self.selection.frame.get("split")
        cells: list[dict[str, str]] = []
        for r in self.rows.tolist():
            label = int(features.labels[r])
            name, group = names[label], groups[label]
            of = group if split is None else f"{group}, {split.iloc[r]}"
            title, text = f"{features.ids[r]}: {name} ({of})", plain(name, 12)
            if features.predicted is not None and features.confidence is not None:
                predicted = names[features.predicted[r]]
                right = bool(features.predicted[r] == label)
                title += f"; predicted {predicted}, confidence {features.confidence[r]:.2f}"
                text = f"{MARKS[right]} {plain(predicted, 8)}"
            cells.append({"title": title, "caption": text, "colour": GROUP_COLOURS[group]})
            if self.pictures.images is not None and self.pictures.lacking(r):
                cells[-1]["missing"] = "no image"
        return cells

    def _activated(self, change: dict[str, Any]) -> None:
        if 0 <= change["new"] < len(self.rows):
            self._chosen(int(self.rows[change["new"]]))
