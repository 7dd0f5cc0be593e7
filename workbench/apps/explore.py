"""Look at features: a map, the images behind it, and what the model saw in one of them, all showing one selection."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np

from workbench.diagnostics.neighbours import neighbour_purity
from workbench.features import Features, joined

from .chip import Chip
from .explore_accuracy import accuracies
from .explore_filters import Filters
from .explore_grid import Grid
from .explore_map import Map
from .pictures import Bank, Pictures
from .selection import Selection, rows_of
from .strip import Strip
from .style import App, CodeLine, app, bar, broken, row
from .work import Work

if TYPE_CHECKING:
    from workbench.data import LongTailDataset
    from workbench.methods import Method

NEIGHBOURS = 10  # of purity


class Explore(App):
    """See `explore`."""

    def __init__(
        self, features: Features | Mapping[str, Features],
        images: LongTailDataset | Mapping[str, LongTailDataset] | None, method: Method | None, bank: Features | None,
        bank_images: LongTailDataset | None,
    ) -> None:  # fmt: skip
        self.features = features = joined(features) if isinstance(features, Mapping) else features
        self.selection = Selection(features)
        self.neighbours = min(NEIGHBOURS, len(features) - 1)
        self._given = _call(images=images, method=method, bank=bank, bank_images=bank_images)
        self.measuring = Work()  # purity
        self._then: dict[str, Callable[[], None]] = {}  # what waits for it
        self.message, self.code = widgets.HTML(), CodeLine()
        pictures = Pictures(features, images)
        self.map = Map(self.selection, pictures)
        self.work = self.map.work
        self.filters = Filters(features, self._ask, purity_of=self.neighbours)
        self.chip = Chip(
            self.selection, lambda: self.code.code, frame=lambda: f"{self.code.code}.selection.to_frame()",
            clear=self._clear, narrow=True,
        )  # fmt: skip
        self.strip = Strip(features, pictures, method, None if bank is None else Bank(bank, bank_images))
        self.grid = Grid(self.selection, pictures, self.chip, self._chosen)
        self.accuracy = widgets.HTML(accuracies(features))
        self.map.view.children = (*self.map.view.children, self.accuracy)
        drawn = (self.map.method, self.map.colour, self.map.size)
        top = bar(*drawn, *self.filters.controls, self.work.view, self.measuring.view)
        views = row(widgets.VBox([self.map.view, self.strip.facts]), widgets.VBox([self.grid.view, self.strip.view]))
        super().__init__([app("explore", top, self.message, views, self.code)])
        for control in (*drawn, self.grid.sort):
            control.observe(lambda _: self._write_code(), "value")
        self.map.colour.observe(lambda _: self._colour(), "value")
        self.selection.observe(self._follow)
        self.map.redraw()

    # -- by code -------------------------------------------------------------------------------------------------------

    def select(self, expression: str | None = None, *, ids: Any = None, rows: str | None = None) -> Explore:
        """Select images; what the code line writes.

        Args:
            expression: over the columns of `features.to_frame()` and `purity`: "group == 'few' and not correct"; also
                `split`, where there are several.
            ids: of images.
            rows: positions in the features, as text: "0-7,12".

        Raises:
            ValueError: no condition, or images that are not there.
        """
        if expression is not None:
            if _asks_for_purity(expression):
                self._know(self._purity())
            self.selection.query(expression)
        elif rows is not None:
            self.selection.set(rows_of(rows), "by position", f"rows={rows!r}")
        else:
            self.selection.take(list(ids or []), "by name" if ids else "")
        return self

    def keep(self, expression: str | None = None, *, ids: Any = None, rows: str | None = None) -> Explore:
        """Select as `select` does, and put all other images out of reach."""
        self.select(expression, ids=ids, rows=rows)
        self.selection.keep()
        return self

    def show(
        self, *, map: str | None = None, colour: str | None = None, size: str | None = None, sort: str | None = None
    ) -> Explore:
        """Another map ("lda", "pca", "tsne", "umap"), colour or size of its points, or order of the tiles."""
        controls = (self.map.method, self.map.colour, self.map.size, self.grid.sort)
        for control, value in zip(controls, (map, colour, size, sort), strict=True):
            if value is not None:
                offered = [option[1] if isinstance(option, tuple) else option for option in control.options]
                if value not in offered:
                    raise ValueError(f"{value!r} is not offered; choose one of {', '.join(offered)}.")
                control.value = value
        return self

    def look(self, image: str) -> Explore:
        """Show the image of this id beside what the model sees in it."""
        found = np.flatnonzero(self.features.ids == image)
        if not len(found):
            raise ValueError(f"{image!r} is no image of these features, such as {str(self.features.ids[0])!r}.")
        self._chosen(int(found[0]))
        return self

    # -- what a person does --------------------------------------------------------------------------------------------

    def _ask(self, expression: str) -> None:
        self.message.value = ""
        self._then.pop("filter", None)
        if not expression:
            self.selection.clear()
        elif _asks_for_purity(expression) and self.map.purity is None:
            self._measure("filter", lambda: self._query(expression))
        else:
            self._query(expression)

    def _query(self, expression: str) -> None:
        try:
            self.selection.query(expression)
        except ValueError as error:
            self.message.value = broken(error)

    def _clear(self) -> None:
        self.message.value = ""
        self.filters.reset()
        self.selection.clear()

    def _chosen(self, chosen: int) -> None:
        if chosen < 0:
            self.strip.clear()
        else:
            self.strip.show(chosen)
        self._write_code()

    def _colour(self) -> None:
        if self.map.colour.value == "purity" and self.map.purity is None:
            self._measure("colour", self.map.recolour)
        else:
            self.map.recolour()

    # -- purity --------------------------------------------------------------------------------------------------------

    def _purity(self, step: Callable[[int, int], None] | None = None) -> np.ndarray:
        if self.map.purity is not None:
            return self.map.purity
        if self.neighbours < 1:
            raise ValueError("purity is a share of neighbours, and a single image has none.")
        return neighbour_purity(self.features.vectors, self.features.labels, self.neighbours, on_step=step)

    def _know(self, purity: np.ndarray) -> None:
        if self.map.purity is None:
            self.map.purity = purity
            self.selection.add("purity", purity)

    def _measure(self, what: str, then: Callable[[], None]) -> None:
        """Compute the purity of every image once, and then do what needs it: of each kind the last that was asked."""
        self._then[what] = then
        if self.measuring.view.layout.display == "none":  # else it is on its way
            self.measuring.start(f"purity of {len(self.features):,} images", self._purity, self._measured, self._tell)

    def _measured(self, purity: np.ndarray) -> None:
        self._know(purity)
        while self._then:
            self._then.popitem()[1]()

    def _tell(self, html: str) -> None:
        self.message.value = html

    # -- what is shown -------------------------------------------------------------------------------------------------

    def _follow(self, selection: Selection) -> None:
        """Every view shows the selection."""
        if selection.why != self.filters.expression:
            self.filters.reset()
        self.map.follow()
        self.grid.show()

    def _write_code(self) -> None:
        usual = (
            ("map", self.map.method, "pca"), ("colour", self.map.colour, "group"), ("size", self.map.size, "equal"),
            ("sort", self.grid.sort, None),
        )  # fmt: skip
        shown = [
            f"{name}={control.value!r}"
            for name, control, value in usual
            if control.value != (value or control.options[0])
        ]
        calls = f".show({', '.join(shown)})" if shown else ""
        looked = f".look({str(self.features.ids[self.strip.row])!r})" if self.strip.row >= 0 else ""
        self.code.code = f"explore({self._given}){calls}{self.selection.calls}{looked}"


def explore(
    features: Features | Mapping[str, Features], images: LongTailDataset | Mapping[str, LongTailDataset] | None = None,
    method: Method | None = None, bank: Features | None = None, bank_images: LongTailDataset | None = None,
) -> Explore:  # fmt: skip
    """The linked lab: a map of the features, the images selected on it, and one of them through the model.

    Args:
        features: of one split, or of several by one model: {"test": test, "train": train}, on one map.
        images: the data set that they were extracted from, for pictures; of several splits by the same names.
        method: the trained method, for what it looks at.
        bank: features of the training images by the same method, among which an image's nearest are shown.
        bank_images: the data set that those were extracted from.

    Raises:
        ValueError: splits that are not of one model and the same classes, or images of a split without features.
    """
    return Explore(features, images, method, bank, bank_images)


def _call(**given: Any) -> str:
    """Arguments of `explore` as code: those that were given, by name after one that was not."""
    words, skipped = ["features"], False
    for name, value in given.items():
        if value is None:
            skipped = True
        else:
            words.append(f"{name}={name}" if skipped or name.startswith("bank") else name)
    return ", ".join(words)


def _asks_for_purity(expression: str) -> bool:
    return re.search(r"\bpurity\b", re.sub(r"'[^']*'|\"[^\"]*\"", "", expression)) is not None
