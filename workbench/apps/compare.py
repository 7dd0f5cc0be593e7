"""Compare runs: accuracy by group, where two of them differ, whether that could be chance, and which images changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from workbench.diagnostics.accuracy import GroupReport, group_report
from workbench.diagnostics.base import ROWS, plain
from workbench.diagnostics.changes import Changes, changes
from workbench.diagnostics.drift import Drift, drift

from .chart import Chart, class_dots, group_bars
from .compare_arms import Given, arms_of, published_ticks
from .compare_images import ChangedImages
from .compare_words import verdicts
from .drift_map import DriftMap
from .selection import Selection
from .style import App, CodeLine, app, bar, broken, caption, card, row, shortcut, state
from .work import Work

if TYPE_CHECKING:
    from workbench.data import LongTailDataset

NEIGHBOURS = 10  # of an image, of which drift counts those that stay
AT_ONCE = 4  # runs whose bars are shown at first
WEIGHINGS = {"mean of classes": False, "share of images": True}


class Compare(App):
    """See `compare`."""

    def __init__(
        self,
        runs: Mapping[str, Given],
        images: LongTailDataset | None,
        published: Mapping[str, Mapping[str, float]] | None,
    ) -> None:
        self.message = widgets.HTML()
        self.published = dict(published or {})
        try:
            self.arms = arms_of(runs)
        except (ValueError, OSError) as error:
            self.message.value = broken(error)
            super().__init__([app("compare", self.message)])
            return
        self.names = tuple(self.arms)
        self.selection = Selection(self.arms[self.names[0]][0])
        self.work = Work()
        self._report = lru_cache(maxsize=None)(self._group_report)
        self._changes = lru_cache(maxsize=None)(self._changed)
        self._drift = lru_cache(maxsize=None)(self._moved)
        self.difference: GroupReport | None = None
        self._busy = False  # controls are being set together
        self.code = CodeLine()
        self._controls()
        self.changed = ChangedImages(self.selection, images, lambda: self.code.code)
        self.map = DriftMap(len(self.selection.features), self._of_pair, self._write_code)
        self._cards()
        self.changed.kind.observe(lambda _: self._picked(), "value")
        self.changed.clear.on_click(lambda _: self._choose())
        self.selection.observe(lambda _: self._follow())
        self._pair()

    # -- what is on the screen -----------------------------------------------------------------------------------------

    def _controls(self) -> None:
        names, wide = list(self.names), widgets.Layout(width="190px")
        self.shown = widgets.TagsInput(
            value=names[:AT_ONCE], allowed_tags=names, allow_duplicates=False, placeholder="add a run"
        )
        self.weighing = widgets.Dropdown(
            options=WEIGHINGS, description="accuracy", layout=widgets.Layout(width="210px")
        )
        self.first = widgets.Dropdown(options=names, value=names[0], description="first", layout=wide)
        self.second = widgets.Dropdown(options=names, value=names[-1], description="minus", layout=wide)
        seeds = range(min(len(arm) for arm in self.arms.values()))
        self.seed = widgets.Dropdown(options=list(seeds), description="seed", layout=widgets.Layout(width="110px"))
        self.seed.tooltip = "whose images and vectors are shown; accuracies are means of all seeds"
        self.seed.layout.display = "" if len(seeds) > 1 else "none"
        self.search = widgets.Combobox(
            options=sorted(set(self.selection.features.classes.names)), placeholder="search class", ensure_option=False,
            layout=widgets.Layout(width="150px"),
        )  # fmt: skip
        shortcut(self.search, "s")
        for control in (self.weighing, self.first, self.second, self.seed):
            control.style.description_width = "initial"
        for control in (self.shown, self.weighing, self.first, self.second, self.seed):
            control.observe(lambda _: self._pair(), "value")
        self.search.observe(lambda change: self._choose(name=change["new"] or None), "value")

    def _cards(self) -> None:
        self.bars, self.dots = Chart(), Chart()
        self.verdict, self.alone = widgets.HTML(), widgets.HTML()
        self.bars.observe(lambda change: self._choose(group=change["new"]["key"]), "picked")
        for chart in (self.dots, self.map.chart):
            chart.observe(lambda change: self._choose(name=self._class_name(change["new"]["key"])), "picked")
        controls = (self.shown, self.weighing, self.first, self.second, self.seed, self.search)
        top = bar(widgets.HTML("runs"), *controls, self.work.view)
        rule = caption(f"interval: over classes; groups: {self.selection.features.classes.rule}")
        accuracy = card("Accuracy by group", self.bars, rule)
        self.lower = row(self.changed.view, self.map.view)
        super().__init__(
            [
                app(
                    "compare",
                    top,
                    self.message,
                    row(accuracy, card("Difference by class", self.dots, self.alone)),
                    card("Could it be chance?", self.verdict),
                    self.lower,
                    self.code,
                )
            ]
        )

    # -- two runs ------------------------------------------------------------------------------------------------------

    def show(
        self,
        first: str | None = None,
        second: str | None = None,
        *,
        kind: str = "fixed",
        name: str | None = None,
        group: str | None = None,
        pooled: bool = False,
        seed: int = 0,
        runs: Sequence[str] | None = None,
        map: str = "pca",
    ) -> Compare:
        """Set what is seen; what the code line writes.

        Args:
            first, second: names of the two runs; differences are first minus second.
            kind: "fixed" (wrong in the second, right in the first) or "broken" images.
            name, group: of the class or shot group whose changed images are shown.
            pooled: group accuracies as shares of images.
            seed: number of the training seed whose images and vectors are shown.
            runs: whose bars are shown.
            map: "pca", "lda", "tsne" or "umap".
        """
        self._busy = True
        try:
            self.shown.value = list(runs or self.names[:AT_ONCE])
            self.first.value, self.second.value = first or self.names[0], second or self.names[-1]
            self.weighing.value, self.seed.value, self.search.value = pooled, seed, name or ""
            self.changed.kind.value, self.changed.name, self.changed.group = kind, name, group
            self.map.method.value = map
        finally:
            self._busy = False
        self._pair()
        return self

    def _group_report(self, names: tuple[str, ...], pooled: bool) -> GroupReport:
        return group_report({name: self.arms[name] for name in names}, pooled=pooled)

    def _changed(self, first: str, second: str, seed: int) -> Changes:
        return changes(self.arms[second][seed], self.arms[first][seed], names=(second, first))

    def _moved(self, first: str, second: str, seed: int, method: str) -> Drift:
        before, after = self.arms[second][seed], self.arms[first][seed]
        return drift(before, after, method=method, names=(second, first), k=min(NEIGHBOURS, len(before) - 1))

    def _of_pair(self, method: str) -> Drift | None:
        first, second = self.first.value, self.second.value
        return None if first == second else self._drift(first, second, self.seed.value, method)

    def _pair(self) -> None:
        """Runs, seed or weighing are others: everything is computed again, or taken from the cache."""
        if self._busy:
            return
        self.message.value = ""
        shown = tuple(dict.fromkeys(self.shown.value)) or self.names[:1]
        first, second, pooled, seed = self.first.value, self.second.value, self.weighing.value, self.seed.value
        two = first != second

        def compute(step: Any) -> tuple[GroupReport, GroupReport | None, Changes | None]:
            report = self._report(shown, pooled)
            step(1, 3)
            difference = self._report((first, second), pooled) if two else None
            step(2, 3)
            return report, difference, self._changes(first, second, seed) if two else None

        self.work.start("comparing", compute, self._place, self._refuse)
        self.map.move()

    def _refuse(self, html: str) -> None:
        self.message.value = html

    def _place(self, found: tuple[GroupReport, GroupReport | None, Changes | None]) -> None:
        report, self.difference, changed = found
        drawn = group_bars(
            {arm.name: arm.over_classes for arm in report.arms}, {g: report.sizes(g)[1] for g in ROWS}, ROWS
        )
        if len(report.arms) > 2:  # the numbers over the bars would overlap; they are in the titles
            drawn["marks"] = [mark for mark in drawn["marks"] if mark["kind"] != "text"]
        drawn["marks"] += published_ticks(self.published, [arm.name for arm in report.arms])
        self.bars.show(**drawn, height=260)
        self.dots.layout.display = self.lower.layout.display = "" if self.difference else "none"
        self.alone.value = ""
        if self.difference is None:
            hint = "Add a second run to compare with: compare({'one': features, 'other': features})."
            self.alone.value = state(hint if len(self.names) == 1 else "Choose two different runs above.")
            self.verdict.value = state("One run has nothing to be compared with.")
        else:
            first, second = self.difference.arms
            label = f"{plain(first.name, 20)} \N{MINUS SIGN} {plain(second.name, 20)} (points)"
            values, about = 100 * (first.class_accuracy - second.class_accuracy), self.difference
            dots = class_dots(values, about.counts, about.groups, about.names, label=label, unit=" points")
            dots["marks"].insert(0, {"kind": "level", "y": 0})
            self.dots.show(**dots, height=260)
            self.verdict.value = verdicts(self.difference)
        self.changed.place(changed)
        self._follow()

    # -- the images of a class or group --------------------------------------------------------------------------------

    def _class_name(self, key: str) -> str:
        return self.selection.features.classes.names[int(key)]

    def _choose(self, *, name: str | None = None, group: str | None = None) -> None:
        """Show changed images of one class, of one group, or of all."""
        if self._busy:
            return
        self.message.value = ""
        if name is not None and name not in self.selection.features.classes.names:
            self.message.value = state(f"No class is called {name!r}. Choose one of the list.")
            return
        self._busy = True
        self.search.value = name or ""
        self._busy = False
        self.changed.choose(name, None if group == "all" else group)
        self._follow()

    def _picked(self) -> None:
        if not self._busy:
            self.changed.pick()
            self._follow()

    def _follow(self) -> None:
        """Every view shows the selection."""
        name = self.changed.name
        marked = "" if name is None else str(self.selection.features.classes.names.index(name))
        self.dots.marked = marked
        self.map.draw(self.changed.shown, marked)
        self._write_code()

    def _write_code(self) -> None:
        options = [repr(self.first.value), repr(self.second.value)]
        if list(self.shown.value) != list(self.names[:AT_ONCE]):
            options.append(f"runs={list(self.shown.value)!r}")
        for key, value, usual in (
            ("kind", self.changed.kind.value, "fixed"), ("name", self.changed.name, None),
            ("group", self.changed.group, None), ("pooled", self.weighing.value, False),
            ("seed", self.seed.value, 0), ("map", self.map.method.value, "pca"),
        ):  # fmt: skip
            if value != usual:
                options.append(f"{key}={value!r}")
        given = "runs, images" + (", published=published" if self.published else "")
        self.code.code = f"compare({given}).show({', '.join(options)})"


def compare(
    runs: Mapping[str, Given],
    images: LongTailDataset | None = None,
    *,
    published: Mapping[str, Mapping[str, float]] | None = None,
) -> Compare:
    """Runs side by side on the same test images.

    Args:
        runs: name -> features of one run, a list of them (one per training seed), or `Run`s that hold them.
        images: the data set that the features were extracted from, for pictures.
        published: name -> accuracy in [0, 1] of "all", "many", "medium", "few" as a paper has it; ticks over the bars.
    """
    return Compare(runs, images, published)
