"""The images of the inspector of descriptions: a set of them to choose from, as tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import ipywidgets as widgets
import numpy as np

from workbench.diagnostics.base import GROUP_COLOURS, plain
from workbench.features import Features
from workbench.methods.description_edits import EditedDescriptions

from .chip import Chip
from .description_views import SETS, in_set
from .pictured_tiles import PicturedTiles
from .pictures import Pictures
from .selection import Selection
from .style import MARKS, Tiles, caption, card, shortcut, state

if TYPE_CHECKING:
    from workbench.data import LongTailDataset

SHOWN = 60  # tiles; of more the rest is counted


class Images:
    """Two controls, and `view`, the card; `looked` is called with the row of an image, or -1 where a set is empty.

    `code` gives the app's line.
    """

    def __init__(
        self, features: Features, dataset: LongTailDataset | None, looked: Callable[[int], None],
        code: Callable[[], str],
    ) -> None:  # fmt: skip
        self.features, self.pictures, self._looked = features, Pictures(features, dataset), looked
        self.selection = Selection(features)
        self.edits: EditedDescriptions | None = None
        self._busy = False  # both controls are being set
        self.set = widgets.Dropdown(options=SETS, description="images", layout=widgets.Layout(width="290px"))
        self.set.style.description_width = "initial"
        names = sorted(set(features.classes.names))
        self.search = widgets.Combobox(options=names, placeholder="search true class", ensure_option=False)
        self.search.layout.width = "170px"
        self.message, self.more = widgets.HTML(), caption()
        self.chip = Chip(self.selection, code, clear=lambda: self.ask(SETS[-1], ""))
        self.clear = self.chip.clear
        for control, key in ((self.set, "f"), (self.search, "s")):
            shortcut(control, key)
        self.tiles = Tiles(shown=88, empty="The images come after the first pass.")
        self.pictured = PicturedTiles(self.tiles, self._tell)
        for control in (self.set, self.search):
            control.observe(lambda _: self.select(), "value")
        self.tiles.observe(lambda change: self._activate(change["new"]), "active")
        self.view = card("Images", self.chip.view, self.message, self.tiles, self.more)

    def ask(self, which: str, name: str) -> None:
        """Another set and class."""
        self._busy = True
        self.set.value, self.search.value = which, name
        self._busy = False
        self.select()

    def select(self) -> None:
        """The set is another one; the first of its images is looked at."""
        if self.edits is None or self._busy:
            return
        name, self.message.value = self.search.value, ""
        inside = in_set(self.set.value, self.edits, self.features.labels)
        if name:
            inside &= np.asarray(self.features.classes.names, dtype=object)[self.features.labels] == name
        self.selection.set(np.flatnonzero(inside), " · ".join(filter(None, [self.set.value, name])))
        rows = self.selection.rows
        self.tiles.empty = "No images are like that. Choose others above."
        if name and name not in self.features.classes.names:
            self.tiles.empty = f"No class is called {name!r}. Choose one of the list."
        self.more.value = f"{SHOWN} of {len(rows)} shown" if len(rows) > SHOWN else ""
        if self.pictures.images is None:
            self.message.value = state(
                "These features come without images. Pass dataset=LongTailDataset(manifest, split, root) to see them.",
                kind="missing",
            )
        self.pictured.show(self.pictures, rows[:SHOWN], self._cells)
        self._looked(int(rows[0]) if len(rows) else -1)

    def _tell(self, html: str) -> None:
        self.message.value = html

    def refresh(self) -> None:
        """Decisions are others."""
        self.tiles.cells = self._cells()

    def _cells(self) -> list[dict[str, str]]:
        assert self.edits is not None
        names, groups, labels = self.features.classes.names, self.features.classes.groups, self.features.labels
        decided, cells = self.edits.decisions.numpy(), []
        for r in self.selection.rows[:SHOWN].tolist():
            says, right = names[decided[r]], bool(decided[r] == labels[r])
            title = f"{self.features.ids[r]}: {names[labels[r]]}; decision {says}"
            text = f"{MARKS[right]} {plain(says, 11)}"
            cells.append({"title": title, "caption": text, "colour": GROUP_COLOURS[groups[labels[r]]]})
        return cells

    def _activate(self, place: int) -> None:
        if 0 <= place < min(len(self.selection), SHOWN):
            self._looked(int(self.selection.rows[place]))
