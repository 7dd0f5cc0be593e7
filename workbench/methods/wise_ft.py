"""WiSE-FT: fine-tune the tower and a classifier begun from text, then walk back on the line to where they started.

Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, arXiv 2109.01903; authors' code
mlfoundations/wise-ft @ b3186e0. Every weight that is tested, of the tower, its projection and the classifier, is
(1 - alpha) · zero-shot + alpha · fine-tuned. Training knows nothing of it: `alpha` acts in eval mode, and may be
changed on a trained method (`method.alpha = 0.3`) without training again. 0.5 is the code's default.

The classifier is linear on projected features of unit length; its rows start as class embeddings times CLIP's scale, so
alpha 0 decides as `zero_shot`, and its bias at 0 (code). Recipe: the command in the authors' README (10 epochs, batch
512, lr 3e-5; its weight decay is 0) with the paper's warm-up of 500 steps. Their gradient clipping at norm 1 is left
out. Images are CLIP's: crops of 90 % of the area and more, not mirrored; shorter side and centre for testing, both
bicubic.

LPT's Table 16 has WiSE-FT on a ViT of ImageNet-21k, which has no text, and does not say what stands for zero-shot
there. Here, a guess: unit class means times `scale`, as LIFT begins its classifier without text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.adapters.interpolation import interpolate, move_to, restart
from workbench.backbones import SentenceEncoder, check_templates
from workbench.heads import LinearHead, class_means
from workbench.losses import cross_entropy
from workbench.methods.base import Clock, Encoded, Method, Output, Sentences, Stage, check_choice

if TYPE_CHECKING:
    from workbench.backbones import Backbone
    from workbench.data import Classes, LongTailDataset, Manifest, Preprocessing


@dataclass(frozen=True, kw_only=True)
class WiSEFTConfig:
    """Options of `wise_ft`."""

    alpha: float = 0.5  # where on the line the method is tested: 0 as it started, 1 fine-tuned
    initialisation: Literal["text", "class_mean"] | None = None  # of the head; None: text if create_method is given a
    # text tower, else class_mean
    templates: str | None = None  # of text: a set of backbones.TEMPLATES, "descriptions", or a template with {}; None:
    # "single". The authors have CLIP's 80, imagenet_80
    scale: float | None = None  # length of the rows at the start; None: the text tower's own, 25 (LIFT's) without text

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha={self.alpha} must lie in [0, 1]: 0 is the start, 1 the fine-tuned weights.")
        if self.initialisation is not None:
            check_choice("initialisation", self.initialisation, ("text", "class_mean"))
        if self.templates is not None:
            check_templates(self.templates)
            if self.initialisation == "class_mean":
                raise ValueError(f"templates={self.templates!r} has no effect with initialisation='class_mean'.")
        if self.scale is not None and not self.scale > 0:
            raise ValueError(f"scale={self.scale} must be positive, or None for the text tower's own; CLIP's is 100.")


class WiSEFT(Method):
    name = "wise_ft"
    Config = WiSEFTConfig
    uses_text = True
    head: LinearHead

    def __init__(self, backbone: Backbone, classes: Classes, config: WiSEFTConfig, *, seed: int) -> None:
        super().__init__(backbone, classes, config, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        width = backbone.joint_width or backbone.width
        self.head = LinearHead(width, len(classes), generator=generator)
        interpolate(self.backbone)
        interpolate(self.head)

    @property
    def alpha(self) -> float:
        return float(self.config.alpha)

    @alpha.setter
    def alpha(self, value: float) -> None:
        self.config = replace(self.config, alpha=value)
        self.train(self.training)

    def train(self, mode: bool = True) -> WiSEFT:
        super().train(mode)
        move_to(self, 1.0 if mode else self.alpha)
        return self

    @property
    def tuned(self) -> tuple[str, ...]:
        return ("head.", "backbone.")

    def state(self) -> dict[str, Tensor]:
        """The fine-tuned weights, and where the head started; the tower's start is the backbone's own weights."""
        own = super().state()
        return {name: own[name] for name in own if not (name.startswith("backbone.") and name.endswith(".0.start"))}

    def use_text(self, text: SentenceEncoder | None, texts: Sentences | None, corpus: Sentences | None) -> None:
        wanted = self.config.initialisation
        if wanted is None:
            wanted = "class_mean" if text is None and self.config.templates is None else "text"
        scale = self.config.scale or 25.0
        if wanted == "text":
            text = self.needed_text(text, "initialisation='text' and templates")
            scale = self.config.scale or text.logit_scale
            restart(self.head, "weight", scale * self.embed_classes(text, self.config.templates, texts))
        self.config = replace(self.config, initialisation=wanted, scale=scale)

    def prepare(self, train: LongTailDataset, **progress: Any) -> None:
        """Without text the head starts from the class means of the untuned tower."""
        if self.config.initialisation != "class_mean":
            return
        assert self.config.scale is not None  # since `use_text`
        plain = train.with_preprocessing(self.preprocessing(train=False))
        features = torch.from_numpy(self.backbone.encode_dataset(plain, **progress))
        with torch.no_grad():
            units = self._joined(features.to(self.device))
        means = class_means(units, train.labels, len(self.classes))
        restart(self.head, "weight", self.config.scale * F.normalize(means, dim=1))

    def _joined(self, features: Tensor) -> Tensor:
        """Features (B, D) of the tower -> (B, E) of unit length, what the head sees; D of a tower without text."""
        return F.normalize(features if self.backbone.joint_width is None else self.backbone.project(features), dim=-1)

    def encode(self, images: Tensor) -> Encoded:
        return Encoded(self._joined(self.backbone.encode(images)))

    def loss(self, outputs: list[Output], labels: list[Tensor], clock: Clock) -> dict[str, Tensor]:
        return {"loss": cross_entropy(outputs[0].logits, labels[0])}

    def stages(self, manifest: Manifest) -> list[Stage]:
        return [
            Stage(
                epochs=10,
                batch_size=512,
                trainable=self.tuned,
                optimiser="adamw",
                lr=3e-5,
                schedule="timm_cosine",
                warmup_epochs=2,
                warmup_lr=7e-6,
                precision="amp",
                source="WiSE-FT's README and App. D.2; its 500 steps of warm-up, 2.2 epochs of ImageNet-LT, are 2 "
                "epochs here, the first at their mean rate, and gradients are not clipped",
            )
        ]

    def preprocessing(self, train: bool) -> Preprocessing:
        usual = self.clip_preprocessing(train)
        return replace(usual, name=f"wise-ft-{usual.size}", scale=(0.9, 1.0), augmentations=()) if train else usual
