"""Full and partial fine-tuning: a plain linear classifier with cross entropy, all weights or the last k blocks trained.

No paper of the five states a recipe for this plain form. Optimiser, batch size and length are those of LIFT's full
fine-tuning (Shi et al., "Long-Tail Learning with Foundation Model: Heavy Fine-Tuning Hurts", ICML 2024, arXiv
2309.10019, App. A), whose lr is the best of a grid; pick yours on a validation split. LIFT's own baseline, which shares
LIFT's head, loss, initialisation and test ensemble, is `lift` with `tuner="full"` or `"partial"`.

`tau` is the decoupling of Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR
2020, arXiv 1910.09217, without training again: tau-normalisation. LPT's Table 14 compares with a fully fine-tuned ViT
"Kang et al." and does not say which of their four classifiers that is. Its GCL is `lift` with `tuner="full"`,
`loss="gcl"`, `initialisation="random"` and `views="centre"`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.adapters.masks import last_blocks
from workbench.heads import LinearHead, tau_normalise
from workbench.losses import cross_entropy
from workbench.methods.base import Clock, Encoded, Method, Output, Stage

if TYPE_CHECKING:
    from workbench.backbones import Backbone
    from workbench.data import Classes, Manifest


@dataclass(frozen=True, kw_only=True)
class FullFinetuneConfig:
    """Options of `full_finetune`."""

    blocks: int | None = None  # None: every weight of the backbone; k: the last k transformer blocks only
    tau: float = 0.0  # at test time rows are divided by |w_k|^tau and the bias is left out; 0: neither

    def __post_init__(self) -> None:
        if self.blocks is not None and self.blocks < 1:
            raise ValueError(f"blocks={self.blocks} must be at least 1, or None for every weight of the backbone.")
        if self.tau < 0:
            raise ValueError(f"tau={self.tau} must not be negative; 0 leaves the classifier as it is, 1 is unit rows.")


class FullFinetune(Method):
    name = "full_finetune"
    Config = FullFinetuneConfig
    head: LinearHead

    def __init__(self, backbone: Backbone, classes: Classes, config: FullFinetuneConfig, *, seed: int) -> None:
        super().__init__(backbone, classes, config, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        self.head = LinearHead(backbone.width, len(classes), generator=generator)
        self.head.draw_uniform(generator=generator)
        self._tuned = (
            "head.",
            *(("backbone.",) if config.blocks is None else last_blocks(backbone, config.blocks)),
        )

    @property
    def tuned(self) -> tuple[str, ...]:
        return self._tuned

    def encode(self, images: Tensor) -> Encoded:
        return Encoded(self.backbone.encode(images))

    def classify(self, encoded: Encoded) -> Output:
        if self.training or not self.config.tau:
            return super().classify(encoded)
        logits = F.linear(encoded.features, tau_normalise(self.head.weight, self.config.tau))
        return Output(logits, encoded.features, None, encoded.extras)

    def loss(self, outputs: list[Output], labels: list[Tensor], clock: Clock) -> dict[str, Tensor]:
        return {"loss": cross_entropy(outputs[0].logits, labels[0])}

    def stages(self, manifest: Manifest) -> list[Stage]:
        return [
            Stage(
                epochs=10,
                batch_size=128,
                trainable=self.tuned,
                lr=1e-3,
                weight_decay=5e-4,
                schedule="cosine",
                precision="amp",
                source="LIFT App. A for full fine-tuning; lr is the middle of its grid, no paper states plain CE",
            )
        ]

    @classmethod
    def small(cls) -> dict[str, int]:
        return {"blocks": 1}
