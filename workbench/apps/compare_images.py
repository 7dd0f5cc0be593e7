"""Images that one run has right and another wrong: tiles, the largest move of confidence first, and one of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np

from workbench.diagnostics.base import GROUP_COLOURS, plain
from workbench.diagnostics.changes import KINDS, Changes

from .chip import Chip
from .pictured_tiles import PicturedTiles
from .pictures import Pictures
from .selection import Selection
from .style import MARKS, Tiles, caption, card, guarded, picture

if TYPE_CHECKING:
    from workbench.data import LongTailDataset

SHOWN = 60  # tiles; of more the rest is counted


class ChangedImages:
    """Follows the selection, which `pick` sets; `view` is the card. `code` gives the app's line."""

    def __init__(self, selection: Selection, images: LongTailDataset | None, code: Callable[[], str]) -> None:
        self.selection, self.pictures = selection, Pictures(selection.features, images)
        self._drawing = threading.RLock()  # answers come from a thread; what is drawn last must be what is chosen
        self.changed: Changes | None = None
        self.name: str | None = None  # of the class, or
        self.group: str | None = None  # of the group whose images are shown
        self._order = np.empty(0, dtype=np.int64)
        self.kind = widgets.ToggleButtons(options=list(KINDS), tooltips=list(KINDS.values()))
        self.kind.style.button_width = "72px"
        self.chip = Chip(selection, code)
        self.clear = self.chip.clear
        self.tiles, self.more, self.one = Tiles(shown=88), caption(), widgets.HTML()
        self.tiles.observe(lambda change: self._activate(change["new"]), "active")
        self._activate = guarded(self._tell)(self._show_one)
        self.pictured = PicturedTiles(self.tiles, self._tell)
        self.view = card("Images that changed", self.chip.view, self.kind, self.tiles, self.more, self.one)
        selection.observe(lambda _: self._follow())

    @property
    def shown(self) -> np.ndarray:
        """(n,) rows of the images with a tile."""
        return self._order[:SHOWN]

    def place(self, changed: Changes | None) -> None:
        """Two other runs; None for fewer than two."""
        self.changed = changed
        self.view.layout.display = "" if changed else "none"
        if changed is None:
            self._order = np.empty(0, dtype=np.int64)
            self.selection.clear()
        else:
            self.pick()

    def choose(self, name: str | None, group: str | None) -> None:
        """Images of one class, of one group, or of all; where none are of the kind shown, those of the other."""
        with self._drawing:
            self.name, self.group = name, group
            other = next(kind for kind in KINDS if kind != self.kind.value)
            if self.changed is not None and not len(self._found(self.changed, self.kind.value)):
                if len(self._found(self.changed, other)):
                    self.kind.value = other  # picks
                    return
            self.pick()

    def _found(self, changed: Changes, kind: str) -> np.ndarray:
        rows = changed.rows(kind, self.group)
        if self.name is None:
            return rows
        return rows[np.asarray(changed.class_names, dtype=object)[changed.labels[rows]] == self.name]

    def pick(self) -> None:
        """Select the images of the kind, class and group chosen, the largest move of confidence first."""
        with self._drawing:
            if self.changed is not None:
                self._pick(self.changed)

    def _pick(self, changed: Changes) -> None:
        rows = self._order = self._found(changed, self.kind.value)
        where = self.name or (f"{self.group}-shot classes" if self.group else "all classes")
        self.tiles.empty = f"No images of {where} went from {KINDS[self.kind.value]}."
        before = self.selection.rows
        self.selection.set(rows, f"{self.kind.value} · {where}")
        if np.array_equal(before, self.selection.rows):  # the runs may be others all the same
            self._follow()

    def _follow(self) -> None:
        chosen = self.selection
        self.one.value = ""
        if self.changed is None:
            self.pictured.show(self.pictures, self.shown, list)
            return
        self._order = self._order[np.isin(self._order, chosen.rows)]
        before, after = (escape(plain(arm, 30)) for arm in self.changed.arms)
        what = f"wrong with {before}, right with {after}"
        if self.kind.value == "broken":
            what = f"right with {before}, wrong with {after}"
        self.more.value = f"{len(self.shown)} of {len(chosen)} shown: {what}, the largest move of confidence first"
        if self.pictures.images is None:
            self.more.value += " (pass images=LongTailDataset(manifest, split, root) to see them)"
        cells = [self._cell(r) for r in self.shown.tolist()]
        self.pictured.show(self.pictures, self.shown, lambda: cells)

    def _tell(self, html: str) -> None:
        self.one.value = html

    def _says(self, r: int) -> list[str]:
        """Lines: what the image is, and what each run says."""
        found = self.changed
        assert found is not None
        arms = zip(found.arms, found.predicted[:, r].tolist(), found.confidence[:, r].tolist(), strict=True)
        says = [f"{a}: {MARKS[p == found.labels[r]]} {found.class_names[p]} ({100 * c:.0f} %)" for a, p, c in arms]
        return [str(found.image_ids[r]), f"true class: {found.class_names[found.labels[r]]}", *says]

    def _cell(self, r: int) -> dict[str, str]:
        found = self.changed
        assert found is not None
        fixed = bool(found.predicted[1, r] == found.labels[r])
        other = found.class_names[found.predicted[0 if fixed else 1, r]]
        text = f"was {plain(other, 8)}" if fixed else f"{MARKS[False]} {plain(other, 11)}"
        colour = GROUP_COLOURS[found.groups[found.labels[r]]]
        return {"title": "; ".join(self._says(r)), "caption": text, "colour": colour}

    def _show_one(self, place: int) -> Any:
        if self.changed is None or not 0 <= place < len(self.shown):
            return
        r = int(self.shown[place])
        lines = "<br>".join(map(escape, self._says(r)))
        if self.pictures.images is not None:
            shown = picture(self.pictures.one(r), self._says(r)[1], width=120)
            lines = f'<div style="display:flex;gap:8px">{shown}<div>{lines}</div></div>'
        self.one.value = lines
