"""Where does the evidence for a class lie in the image? Grad-CAM, for every method, token layout and CLIP ResNets.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017, arXiv
1610.02391; figures of LPT and LT-DPT. On a ViT the activations are the outputs of a block's first norm, as the package
pytorch-grad-cam recommends: later ones have no gradient at the patches where a classifier reads the class token. Only
patches count, `tokens[P : P + N]`: prompts stand behind them and prefix tokens before. The maps are scaled twice, on
the grid and again after resizing, as in that package, whose results are reproduced on a plain ViT.

A frozen tower's activations carry no gradient, so the chosen block's are made to, in the last pass that needs them: of
LPT's two passes, the second.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .base import Result, method_source
from .heat_maps import as_pictures, image_strips, peaks

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from matplotlib.axes import Axes
    from torch import Tensor

    from workbench.methods import Method


@dataclass(frozen=True, kw_only=True, eq=False)
class GradCAM(Result):
    """One map per image, each stretched to [0, 1]: compare places within a map, not heights between maps.

    A map of zeros says that no patch speaks *for* the class: its evidence is negative, or lies in other tokens.
    """

    diagnostic: ClassVar[str] = "grad_cam"
    size: ClassVar[tuple[float, float]] = (5.5, 2.2)
    views: ClassVar[tuple[str, ...]] = ("overlay", "maps")

    maps: np.ndarray  # (B, H, W) float32
    pictures: np.ndarray  # (B, H, W, 3) uint8, the images as they look
    targets: np.ndarray  # (B,) int64 class whose logit is explained
    predicted: np.ndarray  # (B,) int64
    names: tuple[str, ...]
    method: str
    block: int  # which of the tower's blocks, or of a ResNet's stages

    def __str__(self) -> str:
        explained = int((self.targets == self.predicted).sum())
        return (
            f"Grad-CAM of {self.method}, block {self.block}: {len(self.maps)} images of {self.maps.shape[1]} x "
            f"{self.maps.shape[2]} pixels, {explained} explained for the predicted class"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per image: where its map is highest, in pixels, and the share of the map in its highest tenth."""
        import pandas as pd

        return pd.DataFrame(
            {
                "image": np.arange(len(self.maps)),
                "target": self.targets,
                "target_name": [self.names[target] for target in self.targets],
                "predicted": self.predicted,
                **peaks(self.maps),
            }
        )

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        labels = [self.names[target] for target in self.targets]
        overlay, xlabel = view == "overlay", "class that is explained"
        image_strips(ax, self.pictures, self.maps, labels, overlay=overlay, xlabel=xlabel, **artist_kw)


def grad_cam(method: Method, images: Tensor, target: Any = None, *, block: int = -1) -> GradCAM:
    """Class activation maps of a batch.

    Args:
        method: on the device where it shall run.
        images: (B, 3, H, W) float, normalised as the tower reads them.
        target: class indices (B,), or one for all; None explains what the method predicts.
        block: of the tower; of a ResNet, its stage. -1 is the last.

    Raises:
        ValueError: a block that is not there, classes that are not, or activations without a gradient.
    """
    import torch
    import torch.nn.functional as F

    backbone = method.backbone
    layers = [one.inner.norm1 for one in backbone.blocks] if backbone.is_vit else list(backbone.model.stages)
    if not -len(layers) <= block < len(layers):
        raise ValueError(f"block={block}, but {backbone.name} has {len(layers)}; give 0 to {len(layers) - 1}, or -1.")
    was_training = method.training
    method.eval()
    try:
        with torch.enable_grad(), _captured(layers[block]) as activations:
            logits = method(images.to(method.device)).logits
            predicted = logits.argmax(1)
            wanted = predicted if target is None else target
            if not isinstance(wanted, torch.Tensor):
                wanted = np.array(wanted)  # a copy: labels may be read-only, of which torch warns
            targets = torch.as_tensor(wanted, device=logits.device).expand(len(logits))
            if not 0 <= int(targets.min()) <= int(targets.max()) < logits.shape[1]:
                raise ValueError(f"target={target}: classes run from 0 to {logits.shape[1] - 1}.")
            chosen = logits.gather(1, targets[:, None]).sum()
            found = torch.autograd.grad(chosen, activations, allow_unused=True) if activations else ()
    finally:
        method.train(was_training)
    used = [(a, g) for a, g in zip(activations, found, strict=True) if g is not None and bool(g.any())]
    if not used:
        raise ValueError(
            f"the logits of {method.name} have no gradient at block {block}: nothing of its patches reaches the "
            "classifier from there. Use block=-1, the last."
        )
    activation, gradient = (value.detach().float() for value in used[-1])
    if backbone.is_vit:
        rows, columns = backbone.grid
        first = backbone.num_prefix
        patches = slice(first, first + rows * columns)
        weights = gradient[:, patches].mean(1, keepdim=True)  # (B, 1, D)
        grid = (weights * activation[:, patches]).sum(-1).unflatten(1, (rows, columns))
    else:
        weights = gradient.mean((2, 3), keepdim=True)
        grid = (weights * activation).sum(1)
    resized = F.interpolate(_stretched(grid.relu())[:, None], images.shape[2:], mode="bilinear", align_corners=False)
    return GradCAM(
        arguments={"target": None if target is None else targets.tolist(), "block": block},
        sources=(method_source(method),),
        maps=_stretched(resized[:, 0]).cpu().numpy(),
        pictures=as_pictures(backbone.pixels(images.detach().cpu().float())),
        targets=targets.cpu().numpy(),
        predicted=predicted.cpu().numpy(),
        names=tuple(method.classes.names),
        method=method.name,
        block=block % len(layers),
    )


@contextmanager
def _captured(layer: torch.nn.Module) -> Iterator[list[Tensor]]:
    """Outputs of a layer while the context lasts, each made a leaf that the rest of the forward pass depends on."""
    outputs: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Tensor) -> Tensor:
        leaf = output.detach().requires_grad_()
        outputs.append(leaf)
        return leaf

    handle = layer.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()


def _stretched(maps: Tensor) -> Tensor:
    """(B, h, w) to [0, 1] each; a constant map becomes 0."""
    low = maps.amin((1, 2), keepdim=True)
    return (maps - low) / (1e-7 + (maps - low).amax((1, 2), keepdim=True))
