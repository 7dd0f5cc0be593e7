"""The map of the linked lab: points, their colours, a lasso around them, and the picture of the one under the mouse."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd

from workbench.diagnostics.base import GROUP_COLOURS, GROUP_ORDER, METHOD_COLOURS, MUTED, SEQUENTIAL, plain
from workbench.diagnostics.projection import Projection, project
from workbench.features import Features, splits

from .pictures import Pictures
from .selection import Selection
from .style import GROUP_SIGNS, MARKS, caption, card, state
from .work import Work

MAPS = {"LDA": "lda", "PCA": "pca", "t-SNE": "tsne", "UMAP": "umap"}
COLOURS = ("group", "correct", "confidence", "purity", "class", "predicted", "prompt")
OF_DECISIONS = ("correct", "confidence", "predicted")
SIZES = ("equal", "confidence")
HEIGHT = 360  # CSS pixels; a card at 1000 pixels is as wide, so that no point is outside
DRAWN = 50_000  # points of PCA; the other maps take fewer
KINDS = ("class", "predicted", "prompt")  # colours of many kinds, of which
FEW = len(METHOD_COLOURS)  # have one of their own
REST = "all others"
STEPS = 64  # of a scale of colours or sizes; each is checked and sent
COLUMNS = ("colour", "colour again")  # of the table


class Map:
    """Follows the selection and sets it; `view` is the card, `rows` are the images on it.

    `method`, `colour` and `size` choose what is drawn. `purity` is (N,) once it is known: whoever sets it calls
    `recolour`.
    """

    def __init__(self, selection: Selection, pictures: Pictures) -> None:
        self.selection, self.pictures = selection, pictures
        self.features: Features = selection.features
        self.work = Work()
        self.purity: np.ndarray | None = None
        self.rows = np.empty(0, dtype=np.int64)
        self._places = np.full(len(self.features), -1)  # of every image among the points
        self._showing = threading.RLock()  # maps come from a thread, selections from the kernel
        self.project = lru_cache(maxsize=None)(self._project)  # each map is computed once
        self.scatter: Any = None
        self._table = pd.DataFrame()  # one row per point
        self._drawn: np.ndarray | None = None  # points that are drawn; None: all
        self._column = ""  # of the table, whose values colours show
        self._shades: tuple[str, ...] = ()  # kinds that have a colour
        self._hovered = 0
        self.method = widgets.Dropdown(
            options=list(MAPS.items()), value="pca", description="map", layout=widgets.Layout(width="140px")
        )
        lacking = set() if self.features.predicted is not None else set(OF_DECISIONS)
        lacking |= set() if "prompt_index" in self.features.extras else {"prompt"}
        self._splits, self._split_of = splits(self.features)
        self.colour = widgets.Dropdown(
            options=[*(name for name in COLOURS if name not in lacking), *["split"] * (len(self._splits) > 1)],
            description="colour", layout=widgets.Layout(width="165px"),
        )  # fmt: skip
        self.size = widgets.Dropdown(
            options=SIZES[: 1 if "confidence" in lacking else None], disabled="confidence" in lacking,
            description="size", tooltip="of the points", layout=widgets.Layout(width="150px"),
        )  # fmt: skip
        for control in (self.method, self.colour, self.size):
            control.style.description_width = "30px" if control is self.size else "45px"
        self.plot = widgets.VBox([widgets.HTML(state("The map is being made.", kind="loading"))])
        self.plot.layout.min_height = f"{HEIGHT}px"
        self.legend, self.quality, self.missing = widgets.HTML(), caption(), caption()
        self.view = card("Map", self.legend, self.plot, self.quality, self.missing)
        self.method.observe(lambda _: self.redraw(), "value")
        self.size.observe(lambda _: self.resize(), "value")

    def redraw(self) -> None:
        """Draw the map that was chosen, as soon as it is there."""
        method, name = self.method.value, self.method.label
        self.work.start(
            f"{name} of {len(self.features):,} images", lambda _: self.project(method), self.place, self._refuse
        )

    def follow(self) -> None:
        """Mark the selected points, and hide those that are not kept."""
        with self._showing:
            if self.scatter is None:
                return
            chosen = self._places[self.selection.rows]
            on_map = chosen[chosen >= 0]
            self.scatter.widget.selection = on_map
            outside = len(chosen) - len(on_map)
            self.missing.value = f"{outside:,} of the selected images are not on this map" if outside else ""
            kept = self.selection.kept
            drawn = None if kept is None else self._places[kept][self._places[kept] >= 0]
            if (drawn is None) != (self._drawn is None) or not np.array_equal(drawn, self._drawn):
                self._drawn = drawn
                self.scatter.filter(drawn)
            if self.colour.value in KINDS and self._kinds() != self._shades:
                self.recolour()

    def recolour(self) -> None:
        """Colour the points by what was chosen."""
        with self._showing:
            how, features = self.colour.value, self.features
            if self.scatter is None or (how == "purity" and self.purity is None):
                return
            if how in ("confidence", "purity"):
                share = features.confidence if how == "confidence" else self.purity
                assert share is not None
                self._paint(share[self.rows], shades(STEPS))
                self.legend.value = scale(how)
            elif how == "group":
                codes = np.array([GROUP_ORDER.index(group) for group in features.classes.groups])
                names = [f"{GROUP_SIGNS[group]} {group}" for group in GROUP_ORDER]
                self._paint_kinds(codes[features.labels[self.rows]], names, [GROUP_COLOURS[g] for g in GROUP_ORDER])
            elif how == "correct":
                wrong = (~features.correct[self.rows]).astype(np.int64)
                self._paint_kinds(wrong, [f"{MARKS[True]} right", f"{MARKS[False]} wrong"], list(METHOD_COLOURS[:2]))
            elif how == "split":
                colours = [METHOD_COLOURS[i] if i < FEW else MUTED for i in range(len(self._splits))]
                self._paint_kinds(self._split_of[self.rows], list(self._splits), colours)
            else:
                self._shades = kinds = self._kinds()
                of_row, names = self._kind_of(how, self.rows)
                code = {name: number for number, name in enumerate(kinds)}
                codes = np.array([code.get(name, len(kinds)) for name in names])[of_row]
                self._paint_kinds(codes, [*kinds, REST], [*METHOD_COLOURS[: len(kinds)], MUTED])

    def resize(self) -> None:
        """Draw the points as large as was chosen: all alike, or the surer the larger."""
        with self._showing:
            if self.scatter is None:
                return
            # equal ones are a scale of one size: jupyter-scatter's page stumbles where a scale is taken away
            low, high = (0.5, 1.6) if self.size.value == "confidence" else (1.0, 1.0)
            sizes = self._usual_size() * np.linspace(low, high, STEPS)
            self.scatter.size(by="sure", map=sizes.tolist(), norm=(0, 1))

    def _usual_size(self) -> int:
        """Pixels: the fewer points, the larger."""
        return int(np.clip(200 / len(self.rows) ** 0.5, 2, 8))

    def _paint_kinds(self, codes: np.ndarray, names: list[str], colours: list[str]) -> None:
        """codes: (n,) of each point among the names."""
        # steps of a scale: of texts jupyter-scatter looks at every single one, which takes too long for 50,000
        self._paint((codes + 0.5) / len(colours), [colour for colour in colours for _ in range(4)])
        self.legend.value = key(names, colours, np.bincount(codes, minlength=len(names)))

    def _paint(self, values: np.ndarray, colours: list[str]) -> None:
        """values: (n,) in [0, 1] of each point on a scale of colours."""
        # a column of another name: jupyter-scatter sends the values of one that it knows only once
        self._column = COLUMNS[self._column == COLUMNS[0]]
        self._table[self._column] = values
        self.scatter.color(by=self._column, map=colours, norm=(0, 1))

    def _project(self, method: str) -> Projection:
        return project(self.features, method=method, limit=DRAWN if method == "pca" else None)

    def _refuse(self, message: str) -> None:
        self.plot.children = (widgets.HTML(message),)
        with self._showing:
            self.scatter, self.rows = None, np.empty(0, dtype=np.int64)
        self.legend.value = self.quality.value = self.missing.value = ""

    def place(self, projection: Projection) -> None:
        """Points of a map."""
        import jscatter

        with self._showing:
            shown = projection.shown
            self.rows = projection.rows[shown]
            self._places[:] = -1
            self._places[self.rows] = np.arange(len(self.rows))
            self.quality.value = escape(projection.caption()).replace("\n", "<br>")
            self._table, told = self._told(projection.coordinates[shown])
            old, self._shades, self._drawn, self._hovered = self.scatter, (), None, 0
            ends = {f"{axis}_scale": _around(self._table[axis]) for axis in ("x", "y")}
            self.scatter = jscatter.Scatter(data=self._table, x="x", y="y", height=HEIGHT, **ends)
            self.scatter.size(default=self._usual_size())
            self.scatter.axes(False).background("white").tooltip(enable=True, properties=told)
            if self.pictures.images is not None:
                self.scatter.tooltip(preview="picture", preview_type="image", preview_image_height=96)
            self.recolour()
            if self.size.value != "equal":
                self.resize()
            self.scatter.widget.observe(self._lassoed, "selection")
            self.scatter.widget.observe(self._hovering, "hovering")
            self.plot.children = (self.scatter.show(),)
            self.follow()
        if old is not None:
            old.widget.close()

    def _told(self, coordinates: np.ndarray) -> tuple[pd.DataFrame, list[str]]:
        """Points (n, 2) with what is told of one that is hovered, and the columns with its words."""
        rows, features = self.rows, self.features
        frame = self.selection.frame.iloc[rows][["name", "group"]].reset_index(drop=True)
        frame["x"], frame["y"], frame["picture"] = coordinates[:, 0], coordinates[:, 1], ""
        told = ["name", "group"]
        if len(self._splits) > 1:
            frame["split"] = self.selection.frame["split"].to_numpy()[rows]
            told.append("split")
        if features.predicted is not None:
            assert features.confidence is not None
            frame["predicted"] = self.selection.frame["predicted"].to_numpy()[rows]
            frame["sure"] = features.confidence[rows]  # a number, for sizes
            frame["confidence"] = np.char.mod("%.2f", features.confidence[rows]).astype(object)
            told += ["predicted", "confidence"]
        return frame, told

    # -- colours of many kinds -----------------------------------------------------------------------------------------

    def _kinds(self) -> tuple[str, ...]:
        """The kinds that get a colour of their own: the most frequent ones among the selected, or among all, images."""
        rows = self.selection.rows if len(self.selection) else self.rows
        of_row, names = self._kind_of(self.colour.value, rows)
        number = np.bincount(of_row, minlength=len(names))
        order = np.argsort(-number, kind="stable").tolist()
        return tuple(dict.fromkeys(names[i] for i in order if number[i]))[:FEW]  # two classes may share a name

    def _kind_of(self, how: str, rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
        features = self.features
        if how == "prompt":
            index = features.extras["prompt_index"][rows]
            best = index.reshape(len(rows), -1, index.shape[-1])[:, -1, 0].astype(np.int64)
            return best, [f"prompt {number}" for number in range(int(features.extras["prompt_index"].max()) + 1)]
        codes = features.labels if how == "class" else features.predicted
        assert codes is not None
        return codes[rows], list(features.classes.names)

    # -- what the hand does --------------------------------------------------------------------------------------------

    def _lassoed(self, change: dict[str, Any]) -> None:
        """The browser selected points; a selection that came from here says nothing new."""
        with self._showing:
            points = np.asarray(change["new"], dtype=np.int64)
            before = self._places[self.selection.rows]
            if np.array_equal(np.sort(points), np.sort(before[before >= 0])):
                return
            self.selection.set(self.rows[points], "lasso" if len(points) else "")

    def _hovering(self, change: dict[str, Any]) -> None:
        """The plot asks for the point's words and picture half a second later: by then it is in the table."""
        with self._showing:
            point = change["new"]
            if self.scatter is None or point is None or not 0 <= point < len(self.rows):
                return
            self._table.at[self._hovered, "picture"] = ""
            self._table.at[point, "picture"] = self.pictures.url(int(self.rows[point]))
            self._hovered = point


def key(names: Sequence[str], colours: Sequence[str], number: np.ndarray) -> str:
    """HTML: what the colours of kinds mean, and how many images are of each; those without any are left out."""
    parts = [
        f'<span style="white-space:nowrap"><span style="display:inline-block;width:10px;height:10px;border-radius:5px;'
        f'background:{colour}"></span> {escape(plain(name, 24))} <span class="wb-caption">n = {n:,}</span></span>'
        for name, colour, n in zip(names, colours, number.tolist(), strict=True)
        if n
    ]
    return f'<div style="display:flex;flex-wrap:wrap;gap:0 12px">{"".join(parts)}</div>'


def shades(number: int) -> list[str]:
    """So many colours from 0 to 1."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colormaps[SEQUENTIAL](share)) for share in np.linspace(0, 1, number)]


def _around(values: pd.Series) -> tuple[float, float]:
    """The ends of an axis, with room for the points at its border: they are as large as 5 % of it."""
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def scale(what: str) -> str:
    """HTML: a bar of the colours from 0 to 1."""
    bar = f"display:inline-block;width:140px;height:10px;background:linear-gradient(to right, {', '.join(shades(9))})"
    return f'{what} &ensp; 0 <span style="{bar}"></span> 1'
