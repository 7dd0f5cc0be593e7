"""Linear probe: a plain linear classifier with cross entropy on the features of a frozen backbone.

Recipe: LPT (Dong et al., "LPT: Long-tailed Prompt Tuning for Image Classification", ICLR 2023, arXiv 2210.01033),
Table 1: SGD, lr 0.02, weight decay 1e-4, 20 epochs; Places-LT with a ViT-B/16 of ImageNet-21k: all 33.29 and few 18.77
with shuffled, 41.33 and 27.51 with class-balanced sampling. The paper leaves batch size (256 here) and warm-up (5
epochs here) open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from workbench.heads import LinearHead
from workbench.losses import cross_entropy
from workbench.methods.base import Clock, Encoded, Method, Output, Stage, check_choice

if TYPE_CHECKING:
    from workbench.backbones import Backbone
    from workbench.data import Classes, Manifest, Preprocessing


@dataclass(frozen=True, kw_only=True)
class LinearProbeConfig:
    """Options of `linear_probe`."""

    augment: bool = False  # False: the test transform, features computed once; True: random crops through the tower
    sampler: Literal["shuffle", "class_aware"] = "shuffle"  # class_aware: class-balanced, LPT Table 1

    def __post_init__(self) -> None:
        check_choice("sampler", self.sampler, ("shuffle", "class_aware"))


class LinearProbe(Method):
    name = "linear_probe"
    Config = LinearProbeConfig

    def __init__(self, backbone: Backbone, classes: Classes, config: LinearProbeConfig, *, seed: int) -> None:
        super().__init__(backbone, classes, config, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        self.head = LinearHead(backbone.width, len(classes), generator=generator)
        self.head.draw_uniform(generator=generator)

    @property
    def tuned(self) -> tuple[str, ...]:
        return ("head.",)

    def encode(self, images: Tensor) -> Encoded:
        return Encoded(self.backbone.encode(images))

    def loss(self, outputs: list[Output], labels: list[Tensor], clock: Clock) -> dict[str, Tensor]:
        return {"loss": cross_entropy(outputs[0].logits, labels[0])}

    def stages(self, manifest: Manifest) -> list[Stage]:
        return [
            Stage(
                epochs=20,
                batch_size=256,
                samplers=(self.config.sampler,),
                trainable=self.tuned,
                lr=0.02,
                weight_decay=1e-4,
                schedule="timm_cosine",
                warmup_epochs=5,
                warmup_lr=1e-6,
                cached=not self.config.augment,
                precision="amp",
                source="LPT Table 1 (20 epochs, SGD 0.02, 1e-4); batch 256 and warm-up 5 are ours",
            )
        ]

    def preprocessing(self, train: bool) -> Preprocessing:
        return super().preprocessing(train and self.config.augment)
