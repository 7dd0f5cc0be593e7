"""Zero-shot: the class whose sentence lies nearest to the image in the joint space of CLIP. Nothing is trained.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, arXiv 2103.00020,
sec. 3.1. Single template and test transform (256 / 224, bilinear, where CLIP itself takes 224 bicubic) are those of the
baseline in LIFT (Shi et al., ICML 2024, arXiv 2309.10019; shijxcs/LIFT @ 661ead9). Accuracy to expect from CLIP
ViT-B/16: ImageNet-LT 68.3, Places-LT 40.2 with LIFT's test ensemble (`views="five"` of `extract`).

With several sentences per class there are two ways to one score (`ensemble`): CLIP and LIFT compare the image with the
normalised mean of the unit sentence vectors; Menon and Vondrick ("Visual Classification via Description from Large
Language Models", ICLR 2023, arXiv 2210.07183, eq. 1) average the cosines with the sentences, which favours classes
whose sentences agree: their mean is longer. HLC's Table 7 is about the second, with sentences of `Manifest.texts`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.backbones import SentenceEncoder, check_templates, joint_embeddings
from workbench.heads import CosineHead
from workbench.methods.base import Encoded, Method, Output, Sentences, Stage, check_choice

if TYPE_CHECKING:
    from workbench.backbones import Backbone
    from workbench.data import Classes, Manifest


@dataclass(frozen=True, kw_only=True)
class ZeroShotConfig:
    """Options of `zero_shot`."""

    templates: str | tuple[str, ...] | None = None  # a set of backbones.TEMPLATES, "descriptions", a template with {},
    # or several templates; None: "single"
    ensemble: Literal["vectors", "scores"] = "vectors"  # of a class's sentences: their mean vector, or the mean cosine
    scale: float | None = None  # the factor on cosines; None: the text tower's own

    def __post_init__(self) -> None:
        if self.templates is not None:
            check_templates(self.templates)
            if not isinstance(self.templates, str):  # a list, as JSON has it
                object.__setattr__(self, "templates", tuple(self.templates))
        check_choice("ensemble", self.ensemble, ("vectors", "scores"))
        if self.scale is not None and not self.scale > 0:
            raise ValueError(f"scale={self.scale} must be positive, or None for the text tower's own; CLIP's is 100.")


class ZeroShot(Method):
    """logits = scale * cos(projected image feature, class embedding). The class embeddings are the rows of the head.

    With ensemble="scores" a row is the mean of unit vectors, shorter than 1, and "cosine" a mean of cosines.
    """

    name = "zero_shot"
    Config = ZeroShotConfig
    uses_text = True
    head: CosineHead

    def __init__(self, backbone: Backbone, classes: Classes, config: ZeroShotConfig, *, seed: int) -> None:
        super().__init__(backbone, classes, config, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        scale = config.scale or 100.0  # replaced by the text tower's in `use_text`
        self.head = CosineHead(self.joint_width, len(classes), scale=scale, generator=generator)
        self.head.requires_grad_(False)

    def use_text(self, text: SentenceEncoder | None, texts: Sentences | None, corpus: Sentences | None) -> None:
        text = self.needed_text(text)
        scores = self.config.ensemble == "scores"
        if scores and text.names_only:
            raise ValueError("ensemble='scores' needs sentences, but class vectors are means already; leave it out.")
        embeddings = joint_embeddings(
            self.backbone, text, self.classes.names, templates=self.config.templates, texts=texts, unit=not scores
        )
        self.head.initialise(embeddings, normalise=not scores)
        self.config = replace(self.config, scale=self.config.scale or text.logit_scale)
        self.head.scale = self.config.scale

    @property
    def tuned(self) -> tuple[str, ...]:
        return ()

    def encode(self, images: Tensor) -> Encoded:
        return Encoded(self.backbone.project(self.backbone.encode(images)))

    def classify(self, encoded: Encoded) -> Output:
        if self.config.ensemble == "vectors":
            return super().classify(encoded)
        cosine = F.linear(F.normalize(encoded.features, dim=-1), self.head.weight)  # (B, C), the mean over sentences
        return Output(self.head.scale * cosine, encoded.features, cosine, encoded.extras)

    def stages(self, manifest: Manifest) -> list[Stage]:
        return []
