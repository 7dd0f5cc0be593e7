"""VPT: visual prompt tuning. Learnable tokens beside those of the image, before every block (deep) or once (shallow).

Jia et al., "Visual Prompt Tuning", ECCV 2022, arXiv 2203.12119, authors' code KMnP/vpt; and as the baseline of LPT
(Dong et al., "LPT: Long-tailed Prompt Tuning for Image Classification", ICLR 2023, arXiv 2210.01033, Table 1: Places-LT
with a ViT-B/16 of ImageNet-21k, all 37.52 and few 23.29 with shuffled, 44.17 and 36.18 with class-balanced sampling).

Two recipes, which differ in all but the idea (`recipe`):

- "lpt": 20 epochs, SGD, lr 0.02, weight decay 1e-4 (LPT sec. 3.1), prompts and head from a normal of std 0.02. Batch
  256 and a warm-up of 5 epochs are ours: the paper does not state them.
- "vpt": 100 epochs, 10 of them a warm-up from 0, prompts uniform in a Xavier bound, as in VPT's code. Its lr is the
  best of a grid from 50 to 0.05 times batch / 256, its weight decay that of {0.01, 0.001, 0.0001, 0}: choose both on
  val. It crops 224 of 256 pixels at random; it normalises with ImageNet's statistics, here with those of the weights.

Attention knows no order of tokens, so where prompts stand among them is not an option; which blocks have them is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from workbench.adapters.masks import block_range
from workbench.adapters.prompts import draw_prompts, with_prompts
from workbench.heads import HEADS, Head, create_head
from workbench.losses import cross_entropy
from workbench.methods.base import Clock, Encoded, Method, Output, Stage, check_choice

if TYPE_CHECKING:
    from workbench.backbones import Backbone
    from workbench.data import Classes, Manifest, Preprocessing


@dataclass(frozen=True, kw_only=True)
class VPTConfig:
    """Options of `vpt`."""

    recipe: Literal["lpt", "vpt"] = "lpt"
    depth: Literal["deep", "shallow"] = "deep"  # fresh prompts before every block, or once before the first
    prompts: int = 10  # per block; LPT: 10, VPT: chosen on val
    blocks: int | tuple[int, int] | None = None  # only in the last k blocks, or in those from a to b - 1; None: all
    initialisation: Literal["normal", "uniform"] | None = None  # of prompts; None: the recipe's
    prompt_dropout: float = 0.0  # of the prompts' elements in training; VPT: 0 or 0.1
    head_dropout: float = 0.0  # of the feature before the head in training; LPT's own phases: 0.1
    head: str = "linear"  # name of heads.HEADS
    scale: float = 20.0  # of a cosine head; LPT's
    sampler: Literal["shuffle", "class_aware"] = "shuffle"  # class_aware: class-balanced, LPT Table 1

    def __post_init__(self) -> None:
        check_choice("recipe", self.recipe, ("lpt", "vpt"))
        check_choice("depth", self.depth, ("deep", "shallow"))
        check_choice("head", self.head, tuple(HEADS))
        check_choice("sampler", self.sampler, ("shuffle", "class_aware"))
        if self.initialisation is not None:
            check_choice("initialisation", self.initialisation, ("normal", "uniform"))
        if self.prompts < 1:
            raise ValueError(f"prompts={self.prompts} must be at least 1; without prompts it is linear_probe.")
        for name in ("prompt_dropout", "head_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1).")


class VPT(Method):
    name = "vpt"
    Config = VPTConfig
    head: Head

    def __init__(self, backbone: Backbone, classes: Classes, config: VPTConfig, *, seed: int) -> None:
        super().__init__(backbone, classes, config, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        self.head = create_head(config.head, backbone.width, len(classes), scale=config.scale, generator=generator)
        chosen = block_range(backbone, config.blocks)  # a tower without blocks says here what it does not have
        if config.depth == "shallow":
            chosen = chosen[:1]
        shape = (config.prompts, backbone.width, backbone.patch_size)
        self.prompts = nn.ParameterDict({str(i): draw_prompts(*shape, generator=generator) for i in chosen})
        if (config.initialisation or {"lpt": "normal", "vpt": "uniform"}[config.recipe]) == "normal":
            for prompt in self.prompts.values():
                nn.init.trunc_normal_(prompt, std=0.02, generator=generator)
        if config.recipe == "lpt":
            nn.init.trunc_normal_(self.head.weight, std=0.02, generator=generator)
        self.prompt_dropout = nn.Dropout(config.prompt_dropout)
        self.head_dropout = nn.Dropout(config.head_dropout)

    @property
    def tuned(self) -> tuple[str, ...]:
        return ("head.", "prompts.")

    def encode(self, images: Tensor) -> Encoded:
        x = self.backbone.embed(images)  # (B, P+N, D)
        image_tokens = x.shape[1]
        for i, block in enumerate(self.backbone.blocks):
            if str(i) in self.prompts:
                x = with_prompts(x, self.prompt_dropout(self.prompts[str(i)]), image_tokens)
            x = x + block.attend(x)
            x = x + block.mlp(x)
        return Encoded(self.backbone.pool(x))

    def classify(self, encoded: Encoded) -> Output:
        logits, cosine = self.head(self.head_dropout(encoded.features))
        return Output(logits, encoded.features, cosine, encoded.extras)

    def loss(self, outputs: list[Output], labels: list[Tensor], clock: Clock) -> dict[str, Tensor]:
        return {"loss": cross_entropy(outputs[0].logits, labels[0])}

    def stages(self, manifest: Manifest) -> list[Stage]:
        shared: dict[str, Any] = {"trainable": self.tuned, "samplers": (self.config.sampler,), "precision": "amp"}
        if self.config.recipe == "lpt":
            return [
                Stage(
                    epochs=20,
                    batch_size=256,
                    lr=0.02,
                    weight_decay=1e-4,
                    schedule="timm_cosine",
                    warmup_epochs=5,
                    warmup_lr=1e-6,
                    source="LPT sec. 3.1 (20 epochs, SGD 0.02, 1e-4); batch 256 and warm-up 5 are ours",
                    **shared,
                )
            ]
        return [
            Stage(
                epochs=100,
                batch_size=64,
                lr=1.25,
                weight_decay=1e-3,
                schedule="cosine_warmup",
                warmup_epochs=10,
                source="VPT's code (100 epochs, warm-up 10); batch 64 is ours; lr and weight decay: choose on val",
                **shared,
            )
        ]

    def preprocessing(self, train: bool) -> Preprocessing:
        usual = super().preprocessing(train)
        if self.config.recipe == "lpt" and not train:  # LPT's code squashes a test image, and takes the centre
            return replace(usual, name=f"squash-{usual.size}", resize_mode="squash")
        if self.config.recipe == "vpt" and train:
            wide = super().preprocessing(train=False).resize
            return replace(usual, name=f"crop-{usual.size}", resize=wide, crop="random")
        return usual

    @classmethod
    def small(cls) -> dict[str, Any]:
        return {"prompts": 2}
