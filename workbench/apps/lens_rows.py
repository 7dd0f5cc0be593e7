"""One row of the lens: what one method makes of one image, as pictures with their numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench.diagnostics import attention, attention_rollout, faithfulness, grad_cam, heat_maps, localisation
from workbench.diagnostics import saliency as saliency_of
from workbench.diagnostics.sanity_check import sanity_check
from workbench.methods.lt_dpt import LTDPT

from .style import MARKS, broken, picture, state

if TYPE_CHECKING:
    from PIL import Image

    from workbench.data import LongTailDataset
    from workbench.methods import Method

COLUMNS = ("image", "saliency", "patch scores", "Grad-CAM", "attention rollout", "attention of the block")
CHECKS = ("random weights", "deletion")
SIDE = 150  # CSS pixels of a picture, less where the page is narrow
STEPS = 16  # of the deletion curve
GRID = "display:grid;gap:8px;align-items:start;grid-template-columns:minmax(90px,1fr) repeat({},minmax(0,1fr))"


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is looked at, and how; equal looks give equal rows."""

    source: str  # id of an image, or the name of an upload
    row: int | None  # of the data set; None: an upload
    upload: int = 0  # its number
    background: str | None = None
    block: int = -1
    head: int | str = "mean"
    target: str = "predicted"  # or "true": the class that Grad-CAM explains
    alpha: float = 1.0  # times as learned
    beta: float = 1.0


def biased(method: Method) -> bool:
    """Whether the method has a saliency bias whose strength can be changed."""
    return isinstance(method, LTDPT) and (method.config.foreground or method.config.background)


def for_method(look: Look, method: Method) -> Look:
    """The same without what the method does not have, so that moving it computes nothing again."""
    if biased(method):
        return look
    return Look(**(vars(look) | {"alpha": 1.0, "beta": 1.0}))


def header(columns: tuple[str, ...]) -> str:
    """HTML of the titles above the rows."""
    cells = "".join(f"<div><b>{escape(title)}</b></div>" for title in ("method", *columns))
    return f'<div style="{GRID.format(len(columns))}">{cells}</div>'


def row_of(name: str, method: Method, image: Image.Image, images: LongTailDataset | None, look: Look) -> str:
    """HTML cells of the pictures: what stands out, what speaks for the class, where attention goes."""
    x, mask = seen(method, image, images, look)
    block = at_block(method, look.block)
    with torch.no_grad(), _strength(method, look):
        probability = method.eval()(x.to(method.device)).logits[0].softmax(0).cpu()
    predicted, truth = int(probability.argmax()), _truth(images, look)
    target = truth if look.target == "true" and truth is not None else predicted
    explained = method.classes.names[target]
    backbone = method.backbone
    salient = saliency_of.saliency_maps(backbone.pixels(x), grid=backbone.grid if backbone.is_vit else None)
    photo = salient.pictures

    def scores() -> tuple[np.ndarray, str]:
        if salient.scores is None:
            raise ValueError(f"{backbone.name} has no patches to pool to.")
        h, w = backbone.grid
        return heat_maps.enlarged(salient.scores, photo.shape[1:3], smooth=False), f"saliency of {h} x {w} patches"

    def cam() -> tuple[np.ndarray, str]:
        return grad_cam.grad_cam(method, x, target, block=block).maps, f"for {explained}"

    def rollout() -> tuple[np.ndarray, str]:
        heads = look.head if isinstance(look.head, str) else "mean"
        found = attention_rollout.attention_rollout(method, x, block=block, heads=heads)  # type: ignore[arg-type]
        prompts = f", prompts {100 * found.prompt_mass[0]:.0f} %" if found.even_share.any() else ""
        return found.maps, f"blocks 0-{block}, {heads}; patches {100 * found.rollout[0].sum():.0f} %{prompts}"

    def of_block() -> tuple[np.ndarray, str]:
        found = attention.block_attention(method, x, block)
        head = min(look.head, found.heads - 1) if isinstance(look.head, int) else look.head
        shares = found.read_from(head)
        what = f"head {head}" if isinstance(head, int) else f"{head} of {found.heads} heads"
        text = f"block {block}, {what}; patches get {100 * shares[0].sum():.0f} %"
        return heat_maps.enlarged(shares, photo.shape[1:3]), text

    cells = [_label(name, method, probability, truth, look)]
    cells.append(_cell(picture(photo[0], f"what {name} is shown of {look.source}", width=SIDE), _covered(mask)))
    with _strength(method, look):
        for title, compute in (
            ("saliency", lambda: (salient.maps, "spectral residual")),
            ("patch scores", scores),
            ("Grad-CAM", cam),
            ("attention rollout", rollout),
            ("attention", of_block),
        ):
            cells.append(_heat(title, name, photo, compute, mask))
    return "".join(f"<div>{cell}</div>" for cell in cells)


def checks_of(name: str, method: Method, image: Image.Image, images: LongTailDataset | None, look: Look) -> str:
    """HTML cells: the Grad-CAM of random weights, and what deletion in the order of the map does."""
    x, _ = seen(method, image, images, look)
    block, truth = at_block(method, look.block), _truth(images, look)
    target = truth if look.target == "true" else None
    with _strength(method, look):
        try:
            cam = grad_cam.grad_cam(method, x, target, block=block)
            explain = partial(grad_cam.grad_cam, block=block)
            if target is not None:
                explain = partial(explain, target=target)
            other = _other(method, images, look)
            found = sanity_check(method, torch.cat([x, x.flip(-1) if other is None else other]), explain=explain)
            deleted = faithfulness.faithfulness(method, x, cam, steps=STEPS, target=cam.targets)
        except ValueError as error:
            return f"<div>{state(str(error), kind='missing')}</div><div></div>"
    random = heat_maps.enlarged(found.random[:1], cam.pictures.shape[1:3])
    alike = found.similarity["spearman", "random_weights"][0]
    numbers = f"rank correlation with the map {_number(alike)}"
    if other is not None:
        numbers += f"; of another image {_number(found.similarity['spearman', 'other_image'][0])}"
    alt = f"Grad-CAM of {name} with random weights; {numbers}"
    area, blocks = (float(deleted.auc["deletion", order][0]) for order in ("map", "random"))
    left = f"<div>{_cell(picture(heat_maps.blended(cam.pictures, random)[0], alt, width=SIDE), numbers)}</div>"
    right = f'<div style="font-size:18px">{area:.2f}</div>'
    text = f"area while deleting, random blocks {blocks:.2f} ({area - blocks:+.2f}); lower is better"
    return f"{left}<div>{_cell(right, text)}</div>"


def seen(
    method: Method, image: Image.Image, images: LongTailDataset | None, look: Look
) -> tuple[torch.Tensor, np.ndarray | None]:
    """(1, 3, H, W) as the method is shown the image, and the true foreground (H, W) bool where it is known."""
    preprocessing = method.test_preprocessing("centre")
    mask = None
    if images is not None and look.row is not None:
        mask = images.with_preprocessing(preprocessing).mask(look.row, seen=True)
    return preprocessing.build()(image)[None], mask


def at_block(method: Method, block: int) -> int:
    """The block, or the method's last where it has fewer (of a ResNet: its stages)."""
    depth = len(method.backbone.blocks) if method.backbone.is_vit else len(method.backbone.model.stages)
    return depth - 1 if block < 0 else min(block, depth - 1)


def _strength(method: Method, look: Look) -> Any:
    return method.scaled_bias(look.alpha, look.beta) if isinstance(method, LTDPT) else nullcontext()


def _truth(images: LongTailDataset | None, look: Look) -> int | None:
    return None if images is None or look.row is None else int(images.labels[look.row])


def _other(method: Method, images: LongTailDataset | None, look: Look) -> torch.Tensor | None:
    """An image of another class, for what "unrelated" looks like."""
    if images is None:
        return None
    label = -1 if look.row is None else images.labels[look.row]
    others = np.flatnonzero(images.labels != label)
    if not len(others):
        return None
    return method.test_preprocessing("centre").build()(images.image(int(others[0])))[None]


def _label(name: str, method: Method, probability: torch.Tensor, truth: int | None, look: Look) -> str:
    """The method's name, its decision, and the strength of its biases."""
    names, predicted = method.classes.names, int(probability.argmax())
    sign = "" if truth is None else f" {MARKS[predicted == truth]}"
    lines = [f"<b>{escape(name)}</b>", f"{escape(names[predicted])}{sign} {100 * float(probability[predicted]):.1f} %"]
    if truth is not None and truth != predicted:
        lines.append(f"true class {100 * float(probability[truth]):.1f} %")
    if isinstance(method, LTDPT):
        for sign, has, factor, value in (
            ("alpha", method.config.foreground, look.alpha, method.alpha),
            ("beta", method.config.background, look.beta, method.beta),
        ):
            lines += [f"{sign} = {factor:g} x {float(value.detach()):.2f}"] if has else []
    return _kept_together("<br>".join(lines))


def _covered(mask: np.ndarray | None) -> str:
    return "" if mask is None else f"the object covers {100 * mask.mean():.0f} %"


def _heat(
    title: str, name: str, photo: np.ndarray, compute: Callable[[], tuple[np.ndarray, str]], mask: np.ndarray | None
) -> str:
    """One heat map over the photograph, its numbers below; a message where the method has none."""
    try:
        maps, text = compute()
    except ValueError as error:
        return state(str(error), kind="missing")
    except Exception as error:  # one map that fails leaves the others
        return broken(error)
    if mask is not None and mask.any():
        share = localisation.localisation({title: maps}, mask[None]).values["energy"][0, 0]
        text += f"; {100 * share:.0f} % of it on the object" if math.isfinite(share) else "; empty"
    row, column = np.unravel_index(int(maps[0].argmax()), maps[0].shape)
    alt = f"{title} of {name}, highest at row {row}, column {column}; {text}"
    return _cell(picture(heat_maps.blended(photo, maps)[0], alt, width=SIDE), text)


def _cell(html: str, text: str) -> str:
    return f'{html}<div class="wb-caption">{escape(_kept_together(text))}</div>'


def _kept_together(text: str) -> str:
    """No line ends between a number and its sign."""
    return text.replace(" %", "\u00a0%").replace(" x ", "\u00a0x\u00a0")


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "n/a (a constant map)"
