"""Two classes close up: how near their images lie to either mean, and the images themselves."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np

from workbench.diagnostics.base import GROUP_COLOURS, METHOD_COLOURS, METHOD_MARKERS, plain
from workbench.diagnostics.intra_class import IntraClass
from workbench.diagnostics.similarity import ClassSimilarity, cosines_to_means
from workbench.features import Features

from .chart import Chart, Mark, axis
from .pictured_tiles import PicturedTiles
from .pictures import Pictures
from .style import Tiles, bar, caption, card, guarded, shortcut, state

if TYPE_CHECKING:
    from workbench.data import LongTailDataset

MOST = 12  # tiles of either class
DOTS = 400  # of either class and split


class Pair:
    """`show(one, other)` of class indices; `view` is the card.

    Args:
        features: "test" and "train".
        images: likewise, those that are there.
        chosen: called with two class indices when a person chooses.
    """

    def __init__(self, features: dict[str, Features], images: Mapping[str, LongTailDataset], chosen: Any) -> None:
        self.features, self._chosen = features, chosen
        self.pictures = {split: Pictures(features[split], images.get(split)) for split in features}
        self.names = features["test"].classes.names
        self.classes: tuple[int, int] | None = None
        self._busy = False
        options = sorted(set(self.names))
        self.pickers = [
            widgets.Combobox(options=options, placeholder="search class", description=text, ensure_option=False)
            for text in ("class", "and")
        ]
        for picker in self.pickers:
            picker.layout.width, picker.style.description_width = "222px", "40px"
            picker.observe(lambda _: self._asked(), "value")
        shortcut(self.pickers[0], "s")
        self.nearest = widgets.Button(description="nearest", layout=widgets.Layout(width="72px"))
        self.nearest.tooltip = "the class whose mean is most similar to the first one's"
        self.split = widgets.ToggleButtons(options=["test", "train"], value="test")
        self.split.style.button_width = "60px"
        self.split.layout.display = "" if len(images) > 1 else "none"
        self.nearest.on_click(lambda _: self._to_nearest())
        self.split.observe(lambda _: self._show_tiles(), "value")
        self.message, self.numbers = widgets.HTML(), widgets.HTML()
        self.chart, self.tiles = Chart(), [Tiles(shown=64), Tiles(shown=64)]
        self.pictured = [PicturedTiles(tiles, self._say) for tiles in self.tiles]
        self.heads = [widgets.HTML(), widgets.HTML()]
        columns = [widgets.VBox([head, tiles]) for head, tiles in zip(self.heads, self.tiles, strict=True)]
        for column in columns:
            column.add_class("wb-half")
        both = widgets.HBox(columns)
        both.add_class("wb-row")
        controls = bar(*self.pickers, self.nearest, self.split)
        key = caption(
            "each image by its cosine to either mean; filled: train, hollow: test; on the line: as near to both"
        )
        self.view = card("Two classes", controls, self.message, self.numbers, self.chart, key, both)
        self.similar: ClassSimilarity | None = None
        self.inside: IntraClass | None = None
        self.means = "test"

    def show(self, one: int, other: int) -> None:
        """Two classes; what is known of them so far."""
        self.classes = (one, other)
        self._busy = True
        for picker, c in zip(self.pickers, self.classes, strict=True):
            picker.value = self.names[c]
        self._busy = False
        self.message.value = ""
        guarded(self._say)(self._draw)()

    def know(
        self, *, similar: ClassSimilarity | None = None, inside: IntraClass | None = None, means: str = ""
    ) -> None:
        """Numbers that came in, and whose means are meant."""
        self.similar, self.inside = similar or self.similar, inside or self.inside
        self.means = means or self.means
        if self.classes is not None:
            self.show(*self.classes)

    def _say(self, html: str) -> None:
        self.message.value = html

    def _asked(self) -> None:
        if self._busy:
            return
        wanted = [picker.value for picker in self.pickers]
        unknown = [name for name in wanted if name not in self.names]
        if unknown:
            self.message.value = state(f"No class is called {unknown[0]!r}. Choose one of the list.")
            return
        self._chosen(*(self.names.index(name) for name in wanted))

    def _to_nearest(self) -> None:
        if self.classes is None or self.similar is None:
            return
        near = int(self.similar.nearest[self.classes[0]])
        if near >= 0:
            self._chosen(self.classes[0], near)
        else:
            self.message.value = state("This class has no other one to compare with: no images, or alone.")

    def _draw(self) -> None:
        assert self.classes is not None
        self._show_numbers()
        try:
            self.chart.show(**close_up(self.features, self.classes, self.means))
            self.chart.layout.display = ""
        except ValueError as error:
            self.chart.layout.display = "none"
            self.message.value = state(str(error), kind="missing")
        self._show_tiles()  # last: the thread that reads pictures takes turns with this one

    def _show_numbers(self) -> None:
        assert self.classes is not None
        lines = []
        if self.similar is not None:
            value = self.similar.matrix[self.classes]
            said = "n/a (no images)" if np.isnan(value) else f"{value:.3f}"
            near = self.similar.nearest[self.classes[0]]
            nearest = "" if near < 0 else (
                f"; nearest to {escape(plain(self.names[self.classes[0]], 30))}: {escape(plain(self.names[near], 30))} "
                f"({self.similar.matrix[self.classes[0], near]:.3f})"
            )  # fmt: skip
            lines.append(f"cosine of their means in {self.means}: <b>{said}</b>{nearest}")
        if self.inside is not None:
            for c in dict.fromkeys(self.classes):
                train, test = (self.inside.class_means["matched", split][c] for split in ("train", "test"))
                shift = "n/a (fewer than 2 images in a split)"
                if np.isfinite(train):
                    shift = f"{train:.3f} in training, {test:.3f} in testing ({test - train:+.3f})"
                lines.append(
                    f"mean distance of {escape(plain(self.names[c], 30))} to its own mean, size-matched: {shift}"
                )
        self.numbers.value = "<br>".join(lines)

    def _show_tiles(self) -> None:
        if self.classes is None:
            return
        there = [split for split, pictures in self.pictures.items() if pictures.images is not None]
        split = self.split.value if self.split.value in there else next(iter(there), "test")
        part = self.features[split]
        for c, head, pictured in zip(self.classes, self.heads, self.pictured, strict=True):
            rows = np.flatnonzero(part.labels == c)
            group, counts = part.classes.groups[c], part.classes.counts[c]
            more = f"{min(len(rows), MOST)} of {len(rows)} {split} images" if len(rows) else f"no {split} images"
            head.value = (
                f'<b style="color:{GROUP_COLOURS[group]}">{escape(plain(self.names[c], 40))}</b> '
                f"<span class='wb-caption'>{group}, {counts} training images; {more}</span>"
            )
            pictured.tiles.empty = f"This class has no {split} images."
            if split not in there and len(rows):
                rows = rows[:0]
                pictured.tiles.empty = "Pass images=LongTailDataset(manifest, 'test', root) to see them."
            rows = rows[:MOST]
            cells = [{"title": str(i), "caption": "", "colour": GROUP_COLOURS[group]} for i in part.ids[rows]]
            pictured.show(self.pictures[split], rows, lambda cells=cells: cells)


def close_up(features: Mapping[str, Features], pair: tuple[int, int], means: str) -> dict[str, Any]:
    """Keywords of `Chart.show`: each image of two classes by its cosine to either mean; train filled, test hollow.

    means: the split whose means are taken. Raises ValueError where a class has no mean.
    """
    names = features["test"].classes.names
    marks: list[Mark] = []
    said, places, legend = [], [], []
    for which, c in enumerate(dict.fromkeys(pair)):
        colour, marker = METHOD_COLOURS[which], METHOD_MARKERS[which]
        legend.append({"label": plain(names[c], 24), "colour": colour, "marker": marker})
        for split in ("train", "test"):
            part = features[split]
            rows = np.flatnonzero(part.labels == c)[:DOTS]
            if not len(rows):
                continue
            found = cosines_to_means(part[rows], pair, of=features[means])
            places.append(found)
            nearer = int((found[:, which] < found[:, 1 - which]).sum())
            said.append(f"{nearer} of {len(rows)} {split} images of {names[c]} are nearer to the other mean")
            marks += [
                {
                    "kind": "dot", "x": x, "y": y, "colour": colour, "marker": marker, "r": 3,
                    "opacity": 0.6, "hollow": split == "test", "title": f"{name} ({split}): {x:.2f}, {y:.2f}",
                }
                for name, (x, y) in zip(part.ids[rows].tolist(), found.tolist(), strict=True)
            ]  # fmt: skip
    every = np.concatenate(places) if places else np.zeros((1, 2))
    low, high = float(every.min()) - 0.02, float(every.max()) + 0.02
    marks.insert(0, {"kind": "line", "points": [[low, low], [high, high]], "dash": True, "width": 1})
    x, y = (f"cosine to the mean of {plain(names[c], 20)}" for c in pair)
    return {
        "marks": marks, "x": axis(low, high, x), "y": axis(low, high, y), "alt": "; ".join(said), "legend": legend,
        "height": 280,
    }  # fmt: skip
