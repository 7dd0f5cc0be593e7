"""Look at features: a map, the images behind it, and what the model saw in one of them, all showing one selection."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache, wraps
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np
import pandas as pd

from workbench.diagnostics.base import GROUP_COLOURS, GROUP_ORDER, METHOD_COLOURS, MUTED, ROWS, SEQUENTIAL, plain
from workbench.diagnostics.projection import Projection, project
from workbench.diagnostics.thumbnails import thumbnails
from workbench.features import Features
from workbench.metrics import group_interval

from .chart import said
from .selection import Selection
from .strip import Strip
from .style import GROUP_SIGNS, MARKS, CodeLine, Tiles, app, bar, broken, caption, card, row, shortcut, state
from .work import Work

if TYPE_CHECKING:
    from workbench.data import LongTailDataset
    from workbench.methods import Method

MAPS = {"LDA": "lda", "PCA": "pca", "t-SNE": "tsne", "UMAP": "umap"}
COLOURS = ("group", "correct", "confidence", "class")
SORTS = ("least confident", "most confident", "as they come")
SHOWN = 60  # tiles; of more the rest is counted
FEW_CLASSES = len(METHOD_COLOURS)  # as many have a colour of their own


def _one_at_a_time(handler: Callable[..., None]) -> Callable[..., None]:
    """What changes the views waits until another change is shown."""

    @wraps(handler)
    def alone(self: Explore, *arguments: Any) -> None:
        with self._showing:
            handler(self, *arguments)

    return alone


class Explore(widgets.VBox):
    """See `explore`."""

    def __init__(self, features: Features, images: LongTailDataset | None, method: Method | None) -> None:
        self.features, self.images = features, images
        self.selection = Selection(features)
        self.work = Work()
        self._showing = threading.RLock()  # maps come from a thread, selections from the kernel
        self._projection = lru_cache(maxsize=None)(self._project)  # "cached": each map is computed once
        self._map_rows = np.empty(0, dtype=np.int64)
        self._order = np.empty(0, dtype=np.int64)
        self._controls()
        self.message = widgets.HTML()
        self.plot = widgets.VBox([widgets.HTML(state("The map is being made.", kind="loading"))])
        self.quality = caption()
        self.accuracy = widgets.HTML(_accuracies(features))
        self.tiles = Tiles(
            empty="No images are selected: press, hold and draw around points, type a filter, or choose a class."
        )
        self.more = caption()
        self.strip = Strip(features, images, method)
        self.code = CodeLine()
        chip = bar(self.chip, self.clear, self.invert, self.keep)
        left = card("Map", self.plot, self.quality, self.accuracy)
        right = widgets.VBox([card("Images", chip, bar(self.sort), self.tiles, self.more), self.strip.view])
        top = bar(self.map, self.colour, self.search, *self.groups.values(), self.wrong, self.filter, self.work.view)
        super().__init__([app("explore", top, self.message, row(left, right), self.code)])
        self.selection.observe(self._follow)
        self.tiles.observe(self._activate, "active")
        self._redraw()

    def select(self, expression: str | None = None, *, ids: Any = None) -> Explore:
        """Select by an expression over the columns of `features.to_frame()`, or by ids; what the code line writes."""
        if expression is not None:
            self.selection.query(expression)
        else:
            self.selection.take(list(ids or []))
        return self

    def _controls(self) -> None:
        narrow = widgets.Layout(width="150px")
        self.map = widgets.Dropdown(options=list(MAPS.items()), value="pca", description="map", layout=narrow)
        colours = [name for name in COLOURS if self.features.predicted is not None or name in ("group", "class")]
        self.colour = widgets.Dropdown(options=colours, description="colour", layout=widgets.Layout(width="180px"))
        for control in (self.map, self.colour):
            control.style.description_width = "45px"
        names = sorted(set(self.features.classes.names))
        self.search = widgets.Combobox(options=names, placeholder="search class", ensure_option=False, layout=narrow)
        self.groups = {
            group: widgets.Checkbox(
                description=f"{GROUP_SIGNS[group]} {group}", indent=False, layout=widgets.Layout(width="100px")
            )
            for group in GROUP_ORDER
        }
        self.wrong = widgets.Checkbox(description="wrong only", indent=False, layout=widgets.Layout(width="100px"))
        self.wrong.disabled = self.features.predicted is None
        example = "group == 'few' and not correct"
        self.filter = widgets.Text(placeholder=f"filter: {example}", continuous_update=False)
        self.filter.layout.width = "260px"
        self.sort = widgets.Dropdown(options=SORTS, description="sort by", layout=widgets.Layout(width="220px"))
        self.chip = widgets.HTML()
        self.chip.add_class("wb-chip")
        self.clear, self.invert, self.keep = (
            widgets.Button(description=text, tooltip=tip, layout=widgets.Layout(width="64px"))
            for text, tip in (("clear", "Escape"), ("invert", "all others"), ("keep", "show these only"))
        )
        self._kept: np.ndarray | None = None
        self.clear.on_click(lambda _: self._all())
        self.invert.on_click(lambda _: self.selection.invert())
        self.keep.on_click(lambda _: self._keep())
        for control, key in ((self.filter, "f"), (self.search, "s"), (self.clear, "esc")):
            shortcut(control, key)
        self.map.observe(lambda _: self._redraw(), "value")
        self.colour.observe(lambda _: self._colour(), "value")
        self.sort.observe(lambda _: self._show(), "value")
        self.search.observe(lambda change: self._ask(change["new"] and f"name == {change['new']!r}"), "value")
        self.filter.observe(lambda change: self._ask(change["new"]), "value")
        for box in (*self.groups.values(), self.wrong):
            box.observe(lambda _: self._ask(self._choices()), "value")

    # -- selecting -----------------------------------------------------------------------------------------------------

    def _choices(self) -> str:
        """The expression that the group list and the box "wrong only" stand for."""
        groups = [group for group, box in self.groups.items() if box.value]
        parts = [f"group in {groups!r}" if len(groups) > 1 else f"group == {groups[0]!r}"] if groups else []
        return " and ".join([*parts, *(["not correct"] if self.wrong.value else [])])

    def _ask(self, expression: str | None) -> None:
        self.message.value = ""
        if not expression:
            self.selection.clear()
            return
        try:
            self.selection.query(expression)
        except ValueError as error:
            self.message.value = broken(error)
            return
        if not len(self.selection):
            self.message.value = state("No images match. Clear the filter.")

    def _all(self) -> None:
        self.message.value = ""
        self.selection.clear()
        if self._kept is not None:
            self._kept = None
            self._redraw()

    def _keep(self) -> None:
        if len(self.selection):
            self._kept = self.selection.rows
            self._place()

    @_one_at_a_time
    def _follow(self, selection: Selection) -> None:
        """Every view shows the selection."""
        self.chip.value = f"{len(selection)} images" + (f" · {escape(selection.why)}" if selection.why else "")
        self.code.code = "explore(features, images, method)" + (f".select({selection.code})" if len(selection) else "")
        if hasattr(self, "scatter"):
            place = np.full(len(self.features), -1)
            place[self._map_rows] = np.arange(len(self._map_rows))
            chosen = place[selection.rows]
            self.scatter.widget.selection = chosen[chosen >= 0]
        self._show()

    def _show(self) -> None:
        """Tiles of the selected images."""
        rows = self.selection.rows
        if self.features.confidence is not None and self.sort.value != SORTS[2]:
            order = np.argsort(self.features.confidence[rows], kind="stable")
            rows = rows[order if self.sort.value == SORTS[0] else order[::-1]]
        self._order = rows[:SHOWN]
        frame = self.selection.frame
        names, groups = frame["name"].to_numpy(), frame["group"].to_numpy()
        cells = []
        for r in self._order:
            title, text = f"{self.features.ids[r]}: {names[r]} ({groups[r]})", plain(names[r], 12)
            if self.features.predicted is not None:
                right = bool(frame["correct"].iloc[r])
                predicted, sure = frame["predicted"].iloc[r], frame["confidence"].iloc[r]
                title += f"; predicted {predicted}, confidence {sure:.2f}"
                text = f"{MARKS[right]} {plain(names[r] if right else predicted, 8)}"
            cells.append({"title": title, "caption": text, "colour": GROUP_COLOURS[groups[r]]})
        pictures, self.more.value = None, ""
        if self.images is not None and len(self._order):
            try:
                pictures = thumbnails(self.images, self.features.ids[self._order])
            except (ValueError, OSError) as error:
                self.message.value = broken(error)
        if len(rows) > SHOWN:
            self.more.value = f"{SHOWN} of {len(rows)} shown"
        self.tiles.show(pictures, cells)
        self.strip.clear()

    def _activate(self, change: dict[str, Any]) -> None:
        if 0 <= change["new"] < len(self._order):
            self.strip.show(int(self._order[change["new"]]))

    # -- the map -------------------------------------------------------------------------------------------------------

    def _project(self, method: str) -> Projection:
        return project(self.features, method=method)

    def _redraw(self) -> None:
        method, name = self.map.value, self.map.label
        self.work.start(
            f"{name} of {len(self.features)} images", lambda _: self._projection(method), self._place, self._refuse
        )

    def _refuse(self, message: str) -> None:
        self.plot.children = (widgets.HTML(message),)

    @_one_at_a_time
    def _place(self, projection: Projection | None = None) -> None:
        """Points of the map, those kept."""
        projection = projection or self._projection(self.map.value)
        shown = projection.shown
        rows, coordinates = projection.rows[shown], projection.coordinates[shown]
        if self._kept is not None:
            inside = np.isin(rows, self._kept)
            rows, coordinates = rows[inside], coordinates[inside]
        if not len(rows):
            self._refuse(state("None of the kept images is on this map. Clear the selection."))
            return
        self._map_rows = rows
        self.quality.value = escape(projection.caption()).replace("\n", "<br>")
        import jscatter

        frame = self.selection.frame.iloc[rows].assign(x=coordinates[:, 0], y=coordinates[:, 1])
        if "correct" in frame:
            frame["correct"] = np.where(frame["correct"], "right", "wrong")  # colours are of texts or numbers
        # the legend takes names in the order of categories, and colours in that of the map
        frame["group"] = pd.Categorical(frame["group"], categories=GROUP_ORDER)
        self.scatter = jscatter.Scatter(data=frame.reset_index(drop=True), x="x", y="y", height=420)
        self.scatter.size(default=float(np.clip(200 / len(rows) ** 0.5, 2, 8)))
        self.scatter.axes(False).background("white").tooltip(
            enable=True, properties=["name", "group", *(["predicted"] if "predicted" in frame else [])]
        )
        self._colour()
        self.scatter.widget.observe(self._lassoed, "selection")
        self.plot.children = (self.scatter.show(),)
        self._follow(self.selection)

    @_one_at_a_time
    def _colour(self) -> None:
        if not hasattr(self, "scatter"):
            return
        how = self.colour.value
        if how == "group":
            self.scatter.color(by="group", map=GROUP_COLOURS)
        elif how == "correct":
            self.scatter.color(by="correct", map=dict(zip(("right", "wrong"), METHOD_COLOURS, strict=False)))
        elif how == "confidence":
            self.scatter.color(by="confidence", map=SEQUENTIAL)
        else:
            chosen = self.selection.to_frame()["name"].unique()[:FEW_CLASSES]
            shades = {name: MUTED for name in self.features.classes.names}
            shades |= dict(zip(chosen, METHOD_COLOURS, strict=False))
            self.scatter.color(by="name", map=shades)
        self.scatter.legend(how != "class")

    @_one_at_a_time
    def _lassoed(self, change: dict[str, Any]) -> None:
        """The browser selected points; a selection that came from here says nothing new."""
        rows = np.sort(self._map_rows[np.asarray(change["new"], dtype=np.int64)])
        on_map = np.intersect1d(self.selection.rows, self._map_rows)
        if not np.array_equal(rows, on_map):
            self.selection.set(rows, "lasso" if len(rows) else "")


def explore(features: Features, images: LongTailDataset | None = None, method: Method | None = None) -> Explore:
    """The linked lab: a map of the features, the images selected on it, and one of them through the model.

    Args:
        features: of one split.
        images: the data set that they were extracted from, for pictures.
        method: the trained method, for what it looks at.
    """
    return Explore(features, images, method)


def _accuracies(features: Features) -> str:
    """One line: accuracy of each group with its interval."""
    if features.predicted is None:
        return state("These features hold no decisions, so nothing here is right or wrong.", kind="missing")
    groups = np.asarray(features.classes.groups)
    parts = []
    for group in ROWS:
        over = group_interval(features.predicted, features.labels, groups, group)
        colour = GROUP_COLOURS.get(group, "inherit")
        parts.append(
            f'<span style="white-space:nowrap"><span style="color:{colour}">{group}</span> {said(over)}</span>'
        )
    return f"{' &ensp; '.join(parts)}<br><span class='wb-caption'>groups: {escape(str(features.classes.rule))}</span>"
