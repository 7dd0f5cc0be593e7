"""Prompts that images pick: who picks which, where a prompt looks, and what is lost when it is switched off."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np

from workbench.adapters.prompts import PromptPool
from workbench.diagnostics.base import GROUP_ORDER, require_classes
from workbench.diagnostics.prompt_matching import PromptMatching, prompt_matching
from workbench.diagnostics.thumbnails import thumbnails
from workbench.features import Features, extract
from workbench.runs import Run

from .chart import Chart
from .chip import Chip
from .prompt_cards import Looks, Worth
from .prompt_views import ALL, RANKS, cells_of, matching_bars, pool_line, without_pool
from .selection import Selection
from .style import App, CodeLine, Tiles, app, bar, caption, card, guarded, row, shortcut, state
from .work import ONE_MODEL, Work

if TYPE_CHECKING:
    from workbench.data import LongTailDataset
    from workbench.methods import Method

SHOWN = 24  # tiles; of more the rest is counted


class Prompts(App):
    """See `prompts`."""

    def __init__(self, method: Any, dataset: LongTailDataset, features: Features | None) -> None:
        self.method, self.dataset = method, dataset
        self.work, self.pictures = Work(), Work()
        self.message = widgets.HTML()
        self.body = widgets.VBox([widgets.HTML(state("Each image is shown to the method once.", kind="loading"))])
        self.code = CodeLine(code="prompts(method, dataset, features)")
        self.prompt: int | None = None
        self.rank = 0
        self.among: str | None = None  # the group whose bar was chosen where all are shown
        self.image: str | None = None  # id of the one in which the prompt is shown
        self._matchings: dict[int, PromptMatching] = {}  # by layer
        self._order = np.empty(0, dtype=np.int64)
        self._quiet = False
        self._asked: dict[str, Any] | None = None  # what `show` was asked before there were features
        super().__init__([app("prompts", bar(self.work.view), self.message, self.body, self.code)])
        if not isinstance(method, PromptPool) or method.keys is None:
            self._refuse(state(without_pool(method), kind="missing"))
        elif features is not None:
            guarded(self._refuse)(self._begin)(features)
        else:
            self.work.start("features", self._extracted, self._begin, self._refuse)

    def show(
        self, of: str = ALL, *, prompt: int | None = None, rank: int = 0, among: str | None = None,
        layer: int | None = None, block: int | None = None, image: str | None = None, off: bool = False,
    ) -> Prompts:  # fmt: skip
        """Look at a prompt; what the code line writes.

        Args:
            of: "all", a shot group, or the name of a class.
            prompt: its number.
            rank: 0: images whose best match it is, 1: whose second-best.
            among: images of one shot group only.
            layer: of methods that pick in several; None: the last.
            block: in which its attention is shown; None: the last.
            image: id of an image in which it is shown.
            off: whether it is switched off.
        """
        asked = {"of": of, "prompt": prompt, "rank": rank, "among": among, "layer": layer, "block": block}
        asked |= {"image": image, "off": off}
        if not hasattr(self, "selection"):
            self._asked = asked
            return self
        found = [value for _, value in self.of.options if of in (value, self._name(value))]
        layers, m = self.method.pool_size
        if not found or not (prompt is None or 0 <= prompt < m) or not (layer is None or 0 <= layer < layers):
            raise ValueError(
                f"of={of!r} is {ALL}, one of {', '.join(GROUP_ORDER)} or a class with images, prompt={prompt} one of 0 "
                f"to {m - 1}, layer={layer} one of 0 to {layers - 1}."
            )
        self._quiet = True
        try:
            self.of.value = found[0]
            self.layer.value = layers - 1 if layer is None else layer
            self.looks.at_layer(self.layer.value)
            if block is not None:
                self.looks.block.value = block
            self.worth.off.value = off
        finally:
            self._quiet = False
        self.prompt, self.rank, self.among, self.image = prompt, rank, among, image
        self._redraw()
        return self

    # -- beginning -----------------------------------------------------------------------------------------------------

    def _extracted(self, step: Callable[[int, int], None]) -> Features:
        with ONE_MODEL:
            return extract(self.method, self.dataset, on_step=lambda _, at: step(int(at["done"]), int(at["total"])))

    def _begin(self, features: Features) -> None:
        self.features = features
        layers = self.method.pool_size[0]
        self._matchings[layers - 1] = prompt_matching(features)  # features without matched prompts say so here
        self.chart, self.pool, self.more = Chart(), caption(), caption()
        self.selection = Selection(features)
        self.chip = Chip(self.selection, lambda: self.code.code, nothing="no prompt is chosen")
        self.tiles = Tiles(empty="Click a bar above, or Tab to it and press Enter, to see the images behind it.")
        self.worth = Worth(self.method, self.dataset, features)
        self.looks = Looks(self.method, self.dataset)
        self._controls(layers)
        left = card("Images that pick it", bar(self.chip.view, self.pictures.view), self.tiles, self.more)
        self.body.children = (
            card("Which prompts are picked", bar(self.of, self.layer), self.pool, self.chart),
            row(left, self.worth.view),
            self.looks.view,
        )
        self.show(**(self._asked or {}))

    def _controls(self, layers: int) -> None:
        classes, present = self.features.classes, np.unique(self.features.labels)
        groups = np.asarray(classes.groups)
        options: list[tuple[str, Any]] = [(f"all {len(present)} classes", ALL)]
        options += [(f"{group} ({(groups[present] == group).sum()} classes)", group) for group in GROUP_ORDER]
        options += [(f"{classes.names[c]} ({groups[c]})", int(c)) for c in present]
        self.of = widgets.Dropdown(options=options, description="class", layout=widgets.Layout(width="300px"))
        several = [(f"block {self.method.first + each}", each) for each in range(layers)]
        self.layer = widgets.Dropdown(
            options=several if layers > 1 else [("once for all", 0)], value=layers - 1, disabled=layers == 1,
            description="picked in", layout=widgets.Layout(width="190px"),
        )  # fmt: skip
        for control in (self.of, self.layer):
            control.style.description_width = "60px"
        self.clear = self.chip.clear
        shortcut(self.of, "s")
        for control, handler in (
            (self.of, self._new_class),
            (self.layer, self._new_layer),
            (self.worth.off, self._off),
            (self.looks.block, self._look),
        ):
            control.observe(self._handled(handler), "value")
        self.clear.on_click(self._handled(self._forget))
        self.chart.observe(self._handled(self._picked), "picked")
        self.tiles.observe(self._handled(self._activated), "active")

    def _handled(self, handler: Callable[[], None]) -> Callable[[Any], None]:
        """The handler for what a person did: errors become a message."""

        def handle(_: Any) -> None:
            if not self._quiet:
                self.message.value = ""
                guarded(self._tell)(handler)()

        return handle

    def _tell(self, html: str) -> None:
        self.message.value = html

    def _refuse(self, html: str) -> None:
        self.body.children = (widgets.HTML(html),)

    # -- what a person does --------------------------------------------------------------------------------------------

    def _new_class(self) -> None:
        self.among = None
        self._redraw()

    def _new_layer(self) -> None:
        self._quiet = True
        self.looks.at_layer(self.layer.value)
        self._forget()

    def _forget(self) -> None:
        self.prompt, self.rank, self.among, self.image = None, 0, None, None
        self._quiet = True
        self.worth.off.value = False
        self._quiet = False
        self._redraw()

    def _picked(self) -> None:
        prompt, rank, among = str(self.chart.picked["key"]).split(".")
        self.prompt, self.rank, self.among, self.image = int(prompt), int(rank), among or None, None
        self._redraw()

    def _activated(self) -> None:
        if 0 <= self.tiles.active < len(self._order):
            self.image = str(self.features.ids[self._order[self.tiles.active]])
            self._look()

    def _off(self) -> None:
        self._write_code()
        self.worth.show(self.prompt, self.layer.value)

    def _look(self) -> None:
        self.looks.show(self.prompt, self.image)
        self._write_code()

    # -- what is shown -------------------------------------------------------------------------------------------------

    def _name(self, of: Any) -> str:
        return of if isinstance(of, str) else self.features.classes.names[of]

    def _redraw(self) -> None:
        """Bars of the class or group, and everything that follows the prompt."""
        layer = self.layer.value
        self._select()
        self.worth.show(self.prompt, layer)
        self._write_code()
        order = self._order
        if layer in self._matchings:
            self._draw(layer)

        def task(_: Any) -> np.ndarray:
            if layer not in self._matchings:
                self._matchings[layer] = prompt_matching(self.features, layer=layer)
            return thumbnails(self.dataset, self.features.ids[order])

        def failed(html: str) -> None:
            self._tell(html)
            self._tile(None)

        def done(pictures: np.ndarray) -> None:
            self._draw(layer)
            self._tile(pictures)

        self.pictures.start("pictures", task, done, failed)

    def _draw(self, layer: int) -> None:
        matching = self._matchings[layer]
        self.chart.show(**matching_bars(matching, self.of.value, self._name(self.of.value)))
        self.chart.marked = "" if self.prompt is None else f"{self.prompt}.{self.rank}.{self.among or ''}"
        self.pool.value = pool_line(matching)

    def _select(self) -> None:
        """The images that pick the prompt."""
        features, prompt, of = self.features, self.prompt, self.of.value
        if prompt is None:
            self.selection.clear()
        else:
            index = features.extras["prompt_index"]
            index = index if index.ndim == 2 else index[:, self.layer.value]
            rank = min(self.rank, index.shape[1] - 1)
            chosen = index[:, rank] == prompt  # (N,)
            groups = np.asarray(features.classes.groups)[features.labels]
            if of != ALL:
                chosen &= groups == of if isinstance(of, str) else features.labels == of
            if self.among is not None:
                chosen &= groups == self.among
            where = self.among or (None if of == ALL else self._name(of))
            why = f"{RANKS[min(rank, 1)]} match is prompt {prompt}" + (f" · {where}" if where else "")
            self.selection.set(np.flatnonzero(chosen), why, f"of={self._name(of)!r}, prompt={prompt}")
        self._order = self.selection.rows[:SHOWN]
        self.more.value = f"{SHOWN} of {len(self.selection)} shown" if len(self.selection) > SHOWN else ""

    def _tile(self, pictures: np.ndarray | None) -> None:
        image, ids = self.image, self.features.ids[self._order].tolist()
        self._quiet = True
        self.tiles.show(pictures, cells_of(self.features, self._order))
        self.tiles.active = ids.index(image) if image in ids else -1
        self._quiet = False
        self.image = image if image is None or image in self.dataset.ids else None
        self._look()

    def _write_code(self) -> None:
        last_block, last_layer = self.looks.block.options[-1], self.method.pool_size[0] - 1
        parts = (
            ("of", self._name(self.of.value), ALL), ("prompt", self.prompt, None), ("rank", self.rank, 0),
            ("among", self.among, None), ("layer", self.layer.value, last_layer), ("image", self.image, None),
            ("block", self.looks.block.value, last_block), ("off", self.worth.off.value, False),
        )  # fmt: skip
        given = ", ".join(f"{key}={value!r}" for key, value, usual in parts if value != usual)
        self.code.code = f"prompts(method, dataset, features){f'.show({given})' if given else ''}"


def prompts(method: Method | Run, dataset: LongTailDataset, features: Features | None = None) -> Prompts:
    """Which prompts of its pool a method's images pick, where they look, and what each is worth.

    Args:
        method: trained, or a run of one; with a pool of prompts (lpt, lt_dpt). Others get a message.
        dataset: with the classes of the method.
        features: of this method and data set, which say what each image picks; None: they are computed first.

    Raises:
        ValueError: a data set of other classes.
    """
    built = method.method() if isinstance(method, Run) else method
    require_classes(built, dataset)
    return Prompts(built, dataset, features)
