"""What every image tower can do: encode images and whole data sets, project into a joint space, say where it came from.

Normalisation, interpolation and input size are facts of the weights, taken from timm's record of the pretrained tag, so
no caller ever asks a tower for its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .tags import Normalisation


@dataclass(frozen=True)
class WeightsRecord:
    """Where the weights of a tower came from."""

    tag: str | None  # "architecture.tag" of timm; None for random weights and for a file under a name without a tag
    sha256: str | None  # of the file as it lies on disk; None for "random" and "meta"
    path: str | None  # the file; None for "random" and "meta"


class Backbone(nn.Module):
    """An image tower, frozen and in eval mode as it is handed out. The timm model is `.model`; its names are timm's.

    Args:
        model: the timm model.
        name: the name it was asked for.
        width: D, the length of a feature.
        input_size: height and width of the images in pixels.
        normalisation: mean and std per channel for pixels in [0, 1].
        interpolation: how the pretraining resized images.
        weights: where the weights came from.
        request: the arguments of `load_backbone` that rebuild this tower, JSON-ready; None for a hand-made tower.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        name: str,
        width: int,
        input_size: int,
        normalisation: Normalisation = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        interpolation: str = "bicubic",
        weights: WeightsRecord | None = None,
        request: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model: Any = model.requires_grad_(False)  # Any: timm ships no types
        self.name = name
        self.width = width
        self.input_size = input_size
        self.normalisation = normalisation
        self.interpolation = interpolation
        self.weights = weights or WeightsRecord(None, None, None)
        self._request = request
        self.eval()

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def joint_width(self) -> int | None:
        """E, the width of the joint image-text space; None where the tower has no projection into one."""
        return None

    def encode(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) float32, normalised, H = W = input_size -> features (B, D) float32, not normalised."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        return self.encode(images)

    def project(self, features: Tensor) -> Tensor:
        """features: (B, D) of `encode` -> (B, E) in the joint image-text space, not normalised."""
        raise ValueError(
            f"{self.name} has no projection into a joint image-text space (joint_width is None). Use a CLIP tower with "
            "its projection, for example vit_base_patch16_clip_quickgelu_224.openai."
        )

    def pixels(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W), normalised as the tower reads them -> the same as they look, in [0, 1]."""
        mean, std = (images.new_tensor(values)[:, None, None] for values in self.normalisation)
        return (images * std + mean).clamp(0, 1)

    is_vit: bool = False

    # -- only ViTs have these; the others say so ---------------------------------------------------------------------

    @property
    def blocks(self) -> list[Any]:
        raise ValueError(self._not_a_vit("blocks"))

    @property
    def num_prefix(self) -> int:
        raise ValueError(self._not_a_vit("prefix tokens"))

    @property
    def patch_size(self) -> int:
        """Pixels between neighbouring cells of the last feature map: a ViT's patch, 32 for a ResNet."""
        return 32

    @property
    def grid(self) -> tuple[int, int]:
        raise ValueError(self._not_a_vit("a grid of patches"))

    def embed(self, images: Tensor) -> Tensor:
        raise ValueError(self._not_a_vit("tokens"))

    def pool(self, tokens: Tensor) -> Tensor:
        raise ValueError(self._not_a_vit("tokens"))

    def _not_a_vit(self, what: str) -> str:
        return (
            f"{self.name} is a {type(self).__name__} and has no {what}: prompts, adapters and partial fine-tuning need "
            "a ViT, for example vit_base_patch16_clip_quickgelu_224.openai. Linear probes and full fine-tuning work "
            "with it."
        )

    # -- whole data sets ---------------------------------------------------------------------------------------------

    def encode_dataset(
        self,
        dataset: Dataset[Any],
        *,
        batch_size: int = 64,
        workers: int = 0,
        on_step: Callable[[int, dict[str, float]], None] | None = None,
    ) -> np.ndarray:
        """Features of every item, in order.

        Args:
            dataset: items are an image (3, H, W) float32 or a tuple that starts with one, such as (image, label). One
                view per image: averaging over views happens on logits, which only `extract` has.
            batch_size: images per forward pass.
            workers: processes that read images; 0 reads in this one.
            on_step: called after each batch with its number (from 0) and {"done": images so far, "total": N}.

        Returns:
            (N, D) float32, not normalised.
        """
        total = len(dataset)  # type: ignore[arg-type]  # torch's Dataset does not declare its length
        features = np.empty((total, self.width), dtype=np.float32)
        device = self.device
        loader = DataLoader(
            dataset,
            batch_size=batch_size,
            num_workers=workers,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # a loader without its own draws from the global state
        )
        done = 0
        with torch.inference_mode():
            for step, batch in enumerate(loader):
                images = batch if isinstance(batch, Tensor) else batch[0]
                if images.ndim != 4:
                    raise ValueError(
                        "encode_dataset takes one view per image, (3, H, W), but this data set gives "
                        f"{tuple(images.shape[1:])}. Use a preprocessing with one view; for five or ten crops use "
                        "extract(views=), which averages logits."
                    )
                encoded = self.encode(images.to(device, non_blocking=True))
                features[done : done + len(images)] = encoded.float().cpu().numpy()
                done += len(images)
                if on_step is not None:
                    on_step(step, {"done": done, "total": total})
        if done != total:
            raise ValueError(f"The data set says it has {total} items but gave {done}: its len() disagrees with it.")
        return features

    # -- provenance --------------------------------------------------------------------------------------------------

    def spec(self) -> dict[str, Any]:
        """JSON-ready arguments: load_backbone(**spec) rebuilds this tower and checks the sha256 of its weight file."""
        if self._request is None:
            raise ValueError(f"{self.name} was built by hand, not by load_backbone: no record can rebuild it.")
        return {**self._request, "input_size": self.input_size, "sha256": self.weights.sha256}

    def _check_images(self, images: Tensor) -> None:
        size = self.input_size
        if images.ndim != 4 or images.shape[1:] != (3, size, size):
            raise ValueError(
                f"{self.name} takes images of shape (B, 3, {size}, {size}), got {tuple(images.shape)}. Resize and crop "
                f"them to {size} pixels, or load the tower with input_size=."
            )
