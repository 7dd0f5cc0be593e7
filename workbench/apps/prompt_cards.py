"""Two cards of the app `prompts`: what a prompt is worth (it is switched off), and where it looks in one image."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from workbench.diagnostics.prompt_ablation import PromptAblation, ablate_prompts
from workbench.diagnostics.thumbnails import rows_of

from .chart import Chart
from .prompt_views import accuracies, accuracies_without, looks_of, moved
from .style import bar, caption, card, state
from .work import ONE_MODEL, Work

if TYPE_CHECKING:
    from workbench.data import LongTailDataset
    from workbench.features import Features


class Worth:
    """`show(prompt, layer)`; `off` says whether the prompt is switched off. Each prompt is computed once."""

    def __init__(self, method: Any, dataset: LongTailDataset, features: Features) -> None:
        self.method, self.dataset = method, dataset
        self.work, self.chart, self.text, self.note = Work(), Chart(), widgets.HTML(), caption()
        self.off = widgets.ToggleButton(description="switch it off", disabled=True)
        self.view = card("What it is worth", bar(self.off, self.work.view), self.chart, self.text, self.note)
        self._cache: dict[tuple[int, int], PromptAblation] = {}  # (layer, prompt)
        self._intact = None if features.predicted is None else accuracies(features)
        self.show(None, 0)

    def show(self, prompt: int | None, layer: int) -> None:
        """Group bars with all prompts, and without the one where it is switched off."""
        self.off.disabled = prompt is None
        self.off.description = "switch it off" if prompt is None else f"switch prompt {prompt} off"
        if prompt is None or not self.off.value:
            self.work.cancel()
            self.note.value = ""
            if self._intact is None:
                self.text.value = state("These features hold no decisions; switch a prompt off to compute them.")
                return
            self.chart.show(**self._intact)
            self.text.value = state("Choose a prompt and switch it off: images take their next nearest instead.")
            return
        if (layer, prompt) in self._cache:
            self.work.cancel()
            self._put(self._cache[layer, prompt])
            self.note.value = "cached"
            return
        self.note.value = ""
        self.text.value = state(f"Images that pick prompt {prompt} are decided again without it.", kind="loading")
        self.work.start(
            f"without prompt {prompt}", lambda step: self._ablate(prompt, layer, step), self._put, self._say
        )

    def _ablate(self, prompt: int, layer: int, step: Callable[[int, int], None]) -> PromptAblation:
        def on_step(_: int, seen: dict[str, float]) -> None:
            step(int(seen["done"]), int(seen["total"]))
            ONE_MODEL.release()  # between two batches another view may look
            time.sleep(0.002)
            ONE_MODEL.acquire()

        with ONE_MODEL:
            found = ablate_prompts(self.method, self.dataset, prompts=[prompt], layer=layer, on_step=on_step)
        self._cache[layer, prompt] = found
        return found

    def _put(self, found: PromptAblation) -> None:
        self.chart.show(**accuracies_without(found))
        self.text.value = moved(found)

    def _say(self, html: str) -> None:
        self.text.value = html


class Looks:
    """`show(prompt, image, layer)`; `block` chooses among those in which the layer's prompts stand."""

    def __init__(self, method: Any, dataset: LongTailDataset) -> None:
        self.method, self.dataset = method, dataset
        self.work, self.html = Work(), widgets.HTML()
        self.html.add_class("wb-pixels")
        self.block = widgets.Dropdown(options=[0], description="block", layout=widgets.Layout(width="140px"))
        self.block.style.description_width = "60px"
        self.view = card("Where it looks", bar(self.block, self.work.view), self.html)
        self._cache: dict[tuple[int, int, int], str] = {}  # (row of the data set, prompt, block)
        self._places = dict(zip(dataset.ids.tolist(), range(len(dataset)), strict=True))
        self.at_layer(method.pool_size[0] - 1)

    def at_layer(self, layer: int) -> None:
        """Offer the blocks in which the prompts of this layer stand, the last chosen."""
        first, layers = self.method.first, self.method.pool_size[0]
        blocks = [first + layer] if layers > 1 else list(range(first, len(self.method.backbone.blocks)))
        self.block.options = blocks
        self.block.value, self.block.disabled = blocks[-1], len(blocks) == 1

    def show(self, prompt: int | None, image: str | None) -> None:
        """The image of this id: where the prompt looks in it, and what reads the prompt."""
        if prompt is None or image is None:
            self.work.cancel()
            self.html.value = state("Choose a prompt and an image above: click, or arrow keys.")
            return
        place = self._places.get(image)
        if place is None:
            (place,) = rows_of(self.dataset, [image])  # says what is wrong
        key = (place, prompt, int(self.block.value))
        if key in self._cache:
            self.work.cancel()
            self._put(self._cache[key])
            return

        def task(step: Callable[[int, int], None]) -> str:
            with ONE_MODEL:
                step(0, 1)
                self._cache[key] = looks_of(self.method, self.dataset, *key)
            return self._cache[key]

        self.work.start(f"prompt {prompt} in one image", task, self._put, self._put)

    def _put(self, html: str) -> None:
        self.html.value = html
