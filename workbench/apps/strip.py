"""One image: the picture, what the model looks at in it, and the classes it considered."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import ipywidgets as widgets
import numpy as np
import torch
from scipy.special import softmax

from workbench.diagnostics import attention_rollout, grad_cam, heat_maps, saliency
from workbench.diagnostics.base import GROUP_COLOURS
from workbench.diagnostics.thumbnails import rows_of
from workbench.features import Features

from .style import MARKS, card, picture, state
from .work import ONE_MODEL, Work

if TYPE_CHECKING:
    from workbench.data import LongTailDataset
    from workbench.methods import Method

TOP = 5  # classes with a score
SIDE = 130  # CSS pixels of a picture


class Strip:
    """`show(row)` of the features; `view` is the card."""

    def __init__(self, features: Features, images: LongTailDataset | None, method: Method | None) -> None:
        self.features, self.images, self.method = features, images, method
        self.pictures, self.scores = widgets.HTML(), widgets.HTML()
        self.work = Work()
        self.row = -1
        self.view = card("One image", self.pictures, self.work.view, self.scores)
        self.clear()

    def clear(self) -> None:
        self.row = -1
        self.work.cancel()
        self.scores.value = ""
        if self.images is None:
            self.pictures.value = state(
                "These features come without images. Pass images=LongTailDataset(manifest, split, root) to see them.",
                kind="missing",
            )
        else:
            self.pictures.value = state("Choose an image above: click, or arrow keys.")

    def show(self, row: int) -> None:
        self.row = row
        self.scores.value = _scores(self.features, row)
        if self.images is None:
            return
        self.pictures.value = state("Looking.", kind="loading")
        self.work.start("maps of one image", lambda _: self._maps(row), self._put, self._put)

    def _put(self, html: str) -> None:
        self.pictures.value = html

    def _maps(self, row: int) -> str:
        assert self.images is not None
        (place,) = rows_of(self.images, [self.features.ids[row]])
        name = self.features.classes.names[self.features.labels[row]]
        whole = np.asarray(self.images.image(place))
        parts = [("image", picture(whole, f"photograph of {name}", width=SIDE))]
        if self.method is None:
            hint = state("Pass method=run.method() to see what the model looks at.", kind="missing")
            return _side_by_side(parts) + hint
        method = self.method.eval()
        dataset = self.images.with_preprocessing(method.preprocessing(train=False))
        image = dataset[place][0][None].to(next(method.parameters()).device)
        pixels = method.backbone.pixels(image)
        predicted = int(self.features.decisions[row])
        shown = self.features.classes.names[predicted]
        results = {
            "saliency": lambda: saliency.saliency_maps(pixels),
            f"Grad-CAM of {shown}": lambda: grad_cam.grad_cam(method, image, torch.tensor([predicted])),
            "attention rollout": lambda: attention_rollout.attention_rollout(method, image),
        }
        for title, compute in results.items():
            try:
                with ONE_MODEL:
                    found = compute()
            except ValueError as error:  # a ResNet has no attention
                parts.append((title, state(str(error), kind="missing")))
                continue
            blended = heat_maps.blended(found.pictures, found.maps)[0]
            peak = np.unravel_index(int(found.maps[0].argmax()), found.maps[0].shape)
            alt = f"{title} of a photograph of {name}, highest at row {peak[0]}, column {peak[1]}"
            parts.append((title, picture(blended, alt, width=SIDE)))
        return _side_by_side(parts)


def _side_by_side(parts: list[tuple[str, str]]) -> str:
    cells = "".join(
        f'<div style="max-width:{SIDE}px">{html}<div class="wb-caption">{escape(t)}</div></div>' for t, html in parts
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:8px">{cells}</div>'


def _scores(features: Features, row: int) -> str:
    """HTML: the most probable classes as bars, the true one marked."""
    names, label = features.classes.names, int(features.labels[row])
    head = f"<b>{escape(str(features.ids[row]))}</b><br>true class: {escape(names[label])}"
    if features.logits is None:
        return f"{head}{state('These features hold no scores.', kind='missing')}"
    probability = softmax(features.logits[row].astype(np.float64))
    order = np.argsort(-probability)[:TOP].tolist()
    groups = np.asarray(features.classes.groups)
    lines = []
    for c in order if label in order else [*order, label]:
        share, colour = 100 * probability[c], GROUP_COLOURS[groups[c]]
        bar = f'<div style="width:{1.6 * share:.0f}px;height:10px;background:{colour};display:inline-block"></div>'
        sign = f" {MARKS[True]}" if c == label else ""
        lines.append(
            f"<tr><td>{escape(names[c])}{sign}</td><td>{share:.1f} %</td><td style='text-align:left'>{bar}</td></tr>"
        )
    return f"{head}<table>{''.join(lines)}</table>"
