"""One image of the linked lab: what the model looks at in it, the classes and prompts it considered, its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np

from workbench.diagnostics import attention_rollout, grad_cam, heat_maps, saliency
from workbench.diagnostics.attention import BlockAttention, block_attention, prompt_attention
from workbench.features import Features

from .pictures import Bank, Pictures
from .strip_facts import best_prompts, class_scores, neighbours, prompt_scores
from .style import card, picture, state
from .work import ONE_MODEL, Work

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.methods import Method

SIDE = 108  # CSS pixels of a picture
REMEMBERED = 64  # images whose maps are kept
NEAREST = 6  # images of the bank
LOOKED_FOR = 2  # prompts, of those that an image matches, whose attention is shown

Part = tuple[str, Callable[[], tuple[np.ndarray, np.ndarray]]]  # title, what gives pictures and maps


class Strip:
    """`show(row)` of the features; `view` is the card of pictures, `facts` that of numbers, hidden without an image."""

    def __init__(self, features: Features, pictures: Pictures, method: Method | None, bank: Bank | None) -> None:
        self.features, self.pictures, self.method, self.bank = features, pictures, method, bank
        self.maps, self.scores, self.prompts, self.near = (widgets.HTML() for _ in range(4))
        for part in (self.scores, self.prompts, self.near):
            part.layout.flex = "1 1 180px"
        self.work, self.looking = Work(), Work()
        self.row = -1
        self._seen: dict[int, str] = {}
        parts = widgets.HBox([self.scores, self.prompts, self.near])
        parts.layout.flex_flow, parts.layout.align_items = "row wrap", "flex-start"
        self.view = card("One image", self.maps, self.work.view)
        self.facts = card("Its classes, prompts and neighbours", parts)
        self.clear()

    def clear(self) -> None:
        self.row = -1
        self.work.cancel()
        self.looking.cancel()
        self.scores.value = self.prompts.value = self.near.value = ""
        self.facts.layout.display = "none"
        if self.pictures.images is None:
            self.maps.value = state(self.pictures.lacking(0), kind="missing")
        else:
            self.maps.value = state("Choose an image above: click, or arrow keys.")

    def wait(self, seconds: float = 60) -> None:
        """Until all of the image is shown; for scripts and tests."""
        self.work.wait(seconds)
        self.looking.wait(seconds)

    def show(self, row: int) -> None:
        """All that is known of an image; what takes long comes bit by bit."""
        if row == self.row:
            return
        self.row = row
        self.facts.layout.display = ""
        self.scores.value = class_scores(self.features, row)
        self.prompts.value = prompt_scores(self.features, row, self.method)
        if self.bank is None:
            self.near.value = neighbours(None)
        else:
            self.near.value = state("Looking for neighbours.", kind="loading")
            self.looking.start("neighbours", lambda _: self._neighbours(row), self._near, self._near)
        if lacking := self.pictures.lacking(row):
            self.work.cancel()
            self.maps.value = state(lacking, kind="missing")
            return
        if row in self._seen:
            self.work.cancel()
            self.maps.value = self._seen[row]
            return
        self.maps.value = state("Looking.", kind="loading")
        self.work.start("maps of one image", lambda step: self._look(row, step), self._put, self._put)

    def _put(self, html: str) -> None:
        self.maps.value = html

    def _near(self, html: str) -> None:
        self.near.value = html

    def _neighbours(self, row: int) -> str:
        assert self.bank is not None
        features = self.features
        found = self.bank.nearest(features.vectors[row], NEAREST, without=str(features.ids[row]))
        return neighbours(self.bank, *found, of=features.classes.names[features.labels[row]])

    # -- what the model looks at ---------------------------------------------------------------------------------------

    def _look(self, row: int, step: Callable[[int, int], None]) -> str:
        images, features = self.pictures.dataset(row), self.features
        place = self.pictures.place(row)
        name = features.classes.names[features.labels[row]]
        whole = np.asarray(images.image(place))
        shown = [("image", picture(whole, f"photograph of {name}", width=SIDE))]
        if self.method is None:
            hint = state("Pass method=run.method() to see what the model looks at.", kind="missing")
            return _side_by_side(shown) + hint
        method = self.method.eval()
        dataset = images.with_preprocessing(method.test_preprocessing("centre"))
        image = dataset[place][0][None].to(next(method.parameters()).device)
        parts = self._parts(method, image, row)
        for number, (title, compute) in enumerate(parts):
            step(number, len(parts))
            self._put(_side_by_side([*shown, *((later, None) for later, _ in parts[number:])]))
            try:
                with ONE_MODEL:
                    found, maps = compute()
            except ValueError as error:  # a ResNet has no attention
                shown.append((title, state(str(error), kind="missing")))
                continue
            if not maps.size:
                continue
            peak = np.unravel_index(int(maps[0].argmax()), maps[0].shape)
            alt = f"{title} of a photograph of {name}, highest at row {peak[0]}, column {peak[1]}"
            shown.append((title, picture(heat_maps.blended(found, maps)[0], alt, width=SIDE)))
        step(len(parts), len(parts))
        if len(self._seen) >= REMEMBERED:
            self._seen.clear()
        self._seen[row] = _side_by_side(shown)
        return self._seen[row]

    def _parts(self, method: Method, image: Tensor, row: int) -> list[Part]:
        """Titles of the maps, and what computes them."""
        import torch

        features, pixels = self.features, method.backbone.pixels(image)
        target = int(features.labels[row] if features.predicted is None else features.predicted[row])

        def of(compute: Callable[[], Any]) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
            def found() -> tuple[np.ndarray, np.ndarray]:
                result = compute()
                return result.pictures, result.maps

            return found

        def looks(attention: BlockAttention, tokens: int) -> tuple[np.ndarray, np.ndarray]:
            photo = heat_maps.as_pictures(pixels)
            if not tokens:
                return photo, np.empty(0)
            return photo, heat_maps.enlarged(attention.looks(tokens), (photo.shape[1], photo.shape[2]))

        def of_prompt(prompt: int) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
            return lambda: looks(prompt_attention(method, image, prompt), method.picked)  # type: ignore[attr-defined]

        def of_all() -> tuple[np.ndarray, np.ndarray]:
            found = block_attention(method, image)
            return looks(found, found.prompts)

        parts: list[Part] = [
            ("saliency", of(lambda: saliency.saliency_maps(pixels))),
            (
                f"Grad-CAM of {features.classes.names[target]}",
                of(lambda: grad_cam.grad_cam(method, image, torch.tensor([target]))),
            ),
            ("attention rollout", of(lambda: attention_rollout.attention_rollout(method, image))),
        ]
        matched = best_prompts(features, row, method)[:LOOKED_FOR]
        parts += [(f"what prompt {prompt} looks at", of_prompt(prompt)) for prompt in matched]
        if not matched and method.backbone.is_vit:
            parts.append(("what its prompts look at", of_all))
        return parts


def _side_by_side(parts: list[tuple[str, str | None]] | list[tuple[str, str]]) -> str:
    """HTML of pictures with their titles; None: it is being computed."""
    waiting = f'<div class="wb-state wb-loading" style="width:{SIDE}px;height:{SIDE}px;box-sizing:border-box"></div>'
    cells = "".join(
        f'<div style="width:{SIDE}px">{waiting if html is None else html}<div class="wb-caption">{escape(title)}</div>'
        "</div>"
        for title, html in parts
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:8px">{cells}</div>'
