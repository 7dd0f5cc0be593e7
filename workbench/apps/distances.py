"""Distances: do classes lie as close together in testing as in training, and which of them look alike?"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np

from workbench.diagnostics.base import GROUP_COLOURS, GROUP_ORDER, INK, SPLIT_LINES, same_classes
from workbench.diagnostics.intra_class import SPLITS, VARIANTS, IntraClass, intra_class_distances
from workbench.features import Features

from .chart import Chart, Mark, axis, class_dots
from .distances_map import SimilarityMap
from .distances_pair import Pair
from .style import App, CodeLine, app, bar, broken, caption, card, row, state
from .work import Work

if TYPE_CHECKING:
    from workbench.data import LongTailDataset

FILLS = {"train": 0.28, "test": 0.10}
WHATS = {"matched": "size-matched draws", "published": "all images, as published"}


class Distances(App):
    """See `distances`."""

    def __init__(
        self, train: Features, test: Features, images: LongTailDataset | Mapping[str, LongTailDataset] | None
    ) -> None:
        self.message = widgets.HTML()
        try:
            for name, part in (("train", train), ("test", test)):
                if not isinstance(part, Features):
                    raise ValueError(
                        f"{name} is a {type(part).__name__}; give Features: distances(wb.extract(method, training "
                        "images), wb.extract(method, test images))."
                    )
            self.classes = same_classes([train, test])
            self.images = _by_split(images)
        except ValueError as error:
            self.message.value = broken(error)
            super().__init__([app("distances", self.message)])
            return
        features = {"test": test, "train": train}
        self.features = features
        self.work = Work()
        self._drawing = threading.RLock()  # answers come from a thread; what is drawn last must be what is chosen
        self.found: IntraClass | None = None
        self.code = CodeLine()
        self.variant = widgets.ToggleButtons(options={WHATS[variant]: variant for variant in VARIANTS})
        self.variant.style.button_width = "180px"
        self.variant.observe(lambda _: self._draw(), "value")
        self.ridges, self.dots = Chart(), Chart()
        self.waiting = [widgets.HTML() for _ in range(2)]
        self.numbers = widgets.HTML()
        self.said = caption()
        self.pair = Pair(features, self.images, self._choose)
        self.map = SimilarityMap(features, self._mapped, self._choose, self._write_code)
        self.dots.observe(lambda change: self._one(int(change["new"]["key"])), "picked")
        how = caption("train: solid, darker; test: dashed, lighter; short lines: means")
        super().__init__(
            [
                app(
                    "distances",
                    bar(self.variant, self.work.view),
                    self.message,
                    row(
                        card("Distances to the class mean, by group", self.waiting[0], self.ridges, how),
                        card("Test minus train, by class", self.waiting[1], self.dots),
                    ),
                    card("Is there a shift?", self.numbers, self.said),
                    row(self.map.view, self.pair.view),
                    self.code,
                )
            ]
        )
        self._wait(state("Distances are being measured.", kind="loading"))
        self.work.start(
            "distances of all images, 20 draws", lambda _: intra_class_distances(train, test), self._place, self._wait
        )
        self.map.draw()

    def show(
        self, one: str | None = None, other: str | None = None, *, variant: str = "matched", means: str = "test",
        order: str = "frequency", colours: str = "fixed",
    ) -> Distances:  # fmt: skip
        """Set what is seen; what the code line writes.

        Args:
            one, other: names of two classes to look at; None: the two most similar ones.
            variant: "matched" (equally many images of a class from both splits) or "published" (all).
            means: "test" or "train", whose class means the map compares.
            order: of the map, "frequency" or a level of the taxonomy.
            colours: "fixed" (from -1 to 1) or "seen" (from the lowest to the highest cosine).
        """
        names = self.classes.names
        for name in (one, other):
            if name is not None and name not in names:
                raise ValueError(f"No class is called {name!r}.")
        self.variant.value, self.map.split.value = variant, means
        self.map.order.value, self.map.range.value = order, colours
        if one is not None:
            self._choose(names.index(one), names.index(one if other is None else other))
        return self

    # -- distances to the class mean -----------------------------------------------------------------------------------

    def _wait(self, html: str) -> None:
        for box in self.waiting:
            box.value = html
        self.numbers.value = html

    def _place(self, found: IntraClass) -> None:
        self.found = found
        self._wait("")
        self._draw()
        self.numbers.value = shifts_table(found)
        self.said.value = (
            f"Distance: 1 &minus; cosine to the class mean of the same split. Size-matched: equally many images of a "
            f"class from both splits, {found.repeats} draws; only these can be compared. As published: all images; the "
            f"fewer, the smaller their distances, without any shift. Groups: {escape(found.rule)}"
        )
        with self._drawing:
            self.pair.know(inside=found)

    def _draw(self) -> None:
        with self._drawing:
            self._write_code()
            if self.found is not None:
                self._draw_found(self.found)

    def _draw_found(self, found: IntraClass) -> None:
        self.ridges.show(**ridges(found, self.variant.value))
        means = found.class_means
        values = means[self.variant.value, "test"] - means[self.variant.value, "train"]
        dots = class_dots(1000 * values, found.counts, found.groups, found.names, label="test minus train (1/1000)")
        dots["marks"].insert(0, {"kind": "level", "y": 0})
        self.dots.show(**dots, height=260)

    # -- two classes ---------------------------------------------------------------------------------------------------

    def _mapped(self, similar: Any) -> None:
        """The map is drawn: of the first one the two most similar classes are shown."""
        with self._drawing:
            self.pair.know(similar=similar, means=self.map.split.value)
            self._choose(*(self.pair.classes or _most_alike(similar)))

    def _one(self, c: int) -> None:
        """A class was picked: it is shown with the one that is most similar."""
        near = -1 if self.map.found is None else int(self.map.found.nearest[c])
        self._choose(c, near if near >= 0 else c)

    def _choose(self, one: int, other: int) -> None:
        with self._drawing:
            self.pair.show(one, other)
            self.map.mark(one, other)
            self.dots.marked = str(one)
            self._write_code()

    def _write_code(self) -> None:
        options = [] if self.pair.classes is None else [repr(self.classes.names[c]) for c in self.pair.classes]
        for key, value, usual in (
            ("variant", self.variant.value, "matched"), ("means", self.map.split.value, "test"),
            ("order", self.map.order.value, "frequency"), ("colours", self.map.range.value, "fixed"),
        ):  # fmt: skip
            if value != usual:
                options.append(f"{key}={value!r}")
        self.code.code = "distances(train, test, images)" + (f".show({', '.join(options)})" if options else "")


def distances(
    train: Features, test: Features, images: LongTailDataset | Mapping[str, LongTailDataset] | None = None
) -> Distances:
    """Training against test images of each class, and classes against each other.

    Args:
        train: features of training images, extracted with the test transform.
        test: of other images of the same classes by the same model.
        images: the data set of the test images, for pictures; or {"test": ..., "train": ...}.
    """
    return Distances(train, test, images)


def _by_split(images: LongTailDataset | Mapping[str, LongTailDataset] | None) -> dict[str, LongTailDataset]:
    if images is None:
        return {}
    if not isinstance(images, Mapping):
        return {"test": images}
    unknown = sorted(set(images) - set(SPLITS))
    if unknown:
        raise ValueError(f"images has {', '.join(map(repr, unknown))}; give {{'test': ..., 'train': ...}}, or either.")
    return {split: images[split] for split in ("test", "train") if split in images}


def _most_alike(similar: Any) -> tuple[int, int]:
    """The two classes with the highest cosine; of a single class with images, that one twice."""
    there = np.flatnonzero(similar.nearest >= 0)
    if not len(there):
        c = int(np.flatnonzero(similar.images)[0])
        return c, c
    best = int(there[similar.matrix[there, similar.nearest[there]].argmax()])
    return best, int(similar.nearest[best])


def ridges(found: IntraClass, variant: str) -> dict[str, Any]:
    """Keywords of `Chart.show`: densities of either split, a ridge per group, with their means."""
    grid, curves = found.curves(variant)
    highest = max((float(curve.max()) for curve in curves.values()), default=1.0)
    marks: list[Mark] = []
    ticks, said = [], []
    for place, group in zip((2, 1, 0), GROUP_ORDER, strict=True):
        shift, colour = found.shifts[variant, group], GROUP_COLOURS[group]
        ticks.append((place + 0.05, group))
        said.append(f"{group}: train {shift.train:.3f}, test {shift.test:.3f} ({shift.classes} classes)")
        if (group, "train") not in curves:
            text = {"kind": "text", "x": float(grid[-1]) / 2, "y": place + 0.2, "text": "n/a (no images to compare)"}
            marks.append(text)
            continue
        for split in SPLITS:
            height = 0.85 * curves[group, split] / highest
            line = [[float(x), place + float(y)] for x, y in zip(grid[::4], height[::4], strict=True)]
            title = f"{group}, {split}: mean {getattr(shift, split):.3f}"
            closed = [[line[0][0], place], *line, [line[-1][0], place]]
            style = {"colour": colour, "dash": SPLIT_LINES[split] != "-", "title": title}
            marks.append({"kind": "area", "points": closed, "opacity": FILLS[split], **style})
            marks.append({"kind": "line", "points": line, **style})
            mean = float(getattr(shift, split))
            top = place + float(np.interp(mean, grid, height))
            marks.append({**style, "kind": "line", "points": [[mean, place], [mean, top]], "colour": INK, "width": 1})
    return {
        "marks": marks, "x": axis(0, float(grid[-1]), "distance to the class mean, 1 \N{MINUS SIGN} cosine"),
        "y": axis(-0.03, 3, ticks=ticks), "alt": f"{WHATS[variant]}; {'; '.join(said)}", "height": 260,
    }  # fmt: skip


def shifts_table(found: IntraClass) -> str:
    """HTML: both shift tests, by group."""
    head = "<tr><th></th><th></th><th>classes</th><th>train</th><th>test</th><th>test &minus; train</th>"
    rows = [f"{head}<th>Wasserstein</th><th></th></tr>"]
    for (variant, group), shift in found.shifts.items():
        colour, cells = GROUP_COLOURS[group], "<td colspan=4>n/a (0 classes)</td><td></td>"
        if shift.classes:
            says = "" if variant == "published" else _verdict(shift.difference)
            numbers = (f"{shift.train:.3f}", f"{shift.test:.3f}", str(shift).rstrip("*"), f"{shift.wasserstein:.3f}")
            cells = "".join(f"<td>{number}</td>" for number in numbers) + f'<td style="text-align:left">{says}</td>'
        rows.append(
            f'<tr><td>{WHATS[variant]}</td><td style="color:{colour}">{group}</td><td>{shift.classes}</td>{cells}</tr>'
        )
    return f"<table>{''.join(rows)}</table>"


def _verdict(difference: Any) -> str:
    few = "; few classes: do not lean on it" if difference.too_small else ""
    if np.isnan(difference.low):
        return "not testable: one class"
    if difference.low <= 0 <= difference.high:
        return f"no shift shown{few}"
    where = "further from their mean" if difference.estimate > 0 else "nearer to their mean"
    return f"test images lie {where}{few}"
