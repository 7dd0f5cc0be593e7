"""LIFT: lightweight fine-tuning with a semantic-aware cosine classifier and the logit-adjusted loss.

Shi et al., "Long-Tail Learning with Foundation Model: Heavy Fine-Tuning Hurts", ICML 2024, arXiv 2309.10019.
Authors' code: shijxcs/LIFT @ 661ead9. `tuner` swaps only what is trained, so that the paper's own baselines (classifier
only, full and partial fine-tuning) share head, loss, initialisation and test-time ensemble with LIFT itself.

Where paper and code differ: the bottleneck is 2^floor(log2(C / 2L)) (App. D, code; App. A prints ceil, which does
not give the printed parameter counts); the test ensemble resizes the shorter side and keeps the aspect ratio (code;
Alg. 1 makes a square), and averages logits (code and Alg. 1; eq. 6 averages log-probabilities, same argmax).

Semantic-aware initialisation (sec. 4.3): the head works on the D-wide feature before CLIP's projection P (E, D), so a
class embedding t (E) becomes the row P^T t: its inner product with a feature f is that of t with the projected feature
P f. Rows have unit length; with CLIP ResNets (P is the identity) the authors leave means of several sentences shorter,
which changes nothing in a cosine head but how fast it turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from workbench.adapters.masks import last_blocks
from workbench.adapters.residual import AdaptFormer, bottleneck_width
from workbench.backbones import SentenceEncoder, check_templates, joint_embeddings
from workbench.data import evaluation_preprocessing
from workbench.heads import HEADS, Head, class_means, create_head
from workbench.losses import LOSSES
from workbench.methods.base import Clock, Encoded, Method, Output, Stage, check_choice

if TYPE_CHECKING:
    from workbench.backbones import Backbone
    from workbench.data import Classes, LongTailDataset, Manifest

TUNERS = ("adaptformer", "none", "full", "partial")
INITIALISATIONS = ("text", "class_mean", "random")
FULL_LR_GRID = (0.02, 0.01, 0.005, 0.002, 0.001, 0.0005)  # App. A, Fig. 10: full and partial fine-tuning take the best

# Epochs: App. A. Learning rates: 0.01 for LIFT everywhere (App. A); classifier only and full fine-tuning from the
# authors' scripts, per data set. Accuracy to expect from CLIP ViT-B/16 with the text initialisation of the paper:
# ImageNet-LT 77.0 / 78.3 with the test ensemble, Places-LT 51.5 / 52.2, iNaturalist 79.1 / 80.4, CIFAR-100-LT (ratio
# 100) 80.3 / 81.7 (Tables 1-4).
RECIPES: dict[str, dict[str, float]] = {
    "imagenet_lt": {"epochs": 10, "none": 0.02, "full": 5e-4},
    "places_lt": {"epochs": 10, "none": 0.02, "full": 1e-3},
    "inaturalist2018": {"epochs": 20, "none": 0.01, "full": 5e-3},
}
OTHER = {"epochs": 10, "none": 0.02, "full": 1e-3}  # CIFAR-100-LT's length; lrs not stated there: those of Places-LT


@dataclass(frozen=True, kw_only=True)
class LIFTConfig:
    """Options of `lift`."""

    tuner: Literal["adaptformer", "none", "full", "partial"] = "adaptformer"
    blocks: int | None = None  # tune only the last k blocks; None: all of them ("partial" needs a number)
    bottleneck: int | None = None  # width r of AdaptFormer; None: the paper's rule, 2^floor(log2(C / 2L))
    head: str = "cosine"  # name of heads.HEADS
    scale: float = 25.0  # sigma of the cosine classifier, sec. 4.2
    initialisation: Literal["text", "class_mean", "random"] | None = None  # of the head; None: text if create_method is
    # given a text tower, else class_mean (App. G, for backbones without text)
    templates: str | None = None  # of text: a set of backbones.TEMPLATES ("single" is the paper's and what None means;
    # Table 13 has class_name, imagenet_80 and descriptions too), "descriptions", or a template with {}
    loss: str = "logit_adjusted"  # name of losses.LOSSES
    views: Literal["centre", "five", "ten"] = "five"  # test-time ensemble, sec. 4.4

    def __post_init__(self) -> None:
        check_choice("tuner", self.tuner, TUNERS)
        check_choice("head", self.head, tuple(HEADS))
        if self.initialisation is not None:
            check_choice("initialisation", self.initialisation, INITIALISATIONS)
        if self.templates is not None:
            check_templates(self.templates)
            if self.initialisation in ("class_mean", "random"):
                raise ValueError(
                    f"templates={self.templates!r} has no effect with initialisation={self.initialisation!r}; leave it "
                    "out, or choose initialisation='text'."
                )
        check_choice("loss", self.loss, tuple(LOSSES))
        check_choice("views", self.views, ("centre", "five", "ten"))
        if self.tuner == "partial" and self.blocks is None:
            raise ValueError("tuner='partial' needs the number of last blocks to tune, for example blocks=2.")
        if self.tuner == "none" and self.blocks is not None:
            raise ValueError(f"blocks={self.blocks} has no effect with tuner='none'; leave it out.")
        for name in ("blocks", "bottleneck"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1, or None.")


class LIFT(Method):
    name = "lift"
    Config = LIFTConfig
    uses_text = True
    head: Head

    def __init__(self, backbone: Backbone, classes: Classes, config: LIFTConfig, *, seed: int) -> None:
        super().__init__(backbone, classes, config, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        self.head = create_head(config.head, backbone.width, len(classes), scale=config.scale, generator=generator)
        self.test_views = config.views
        self.adapters = nn.ModuleList()
        self._tuned: tuple[str, ...] = ("head.",)
        if config.tuner == "none":
            return
        depth = len(backbone.blocks)  # a tower without blocks says here what it does not have
        blocks = config.blocks or depth
        if config.tuner == "adaptformer":
            if blocks > depth:
                raise ValueError(f"blocks={blocks}, but {backbone.name} has {depth}; give 1 to {depth}.")
            width = config.bottleneck or bottleneck_width(len(classes), depth)
            self.adapters.extend(AdaptFormer(backbone.width, width, generator=generator) for _ in range(blocks))
            self._tuned += ("adapters.",)
        else:
            self._tuned += last_blocks(backbone, blocks)

    @property
    def tuned(self) -> tuple[str, ...]:
        return self._tuned

    def use_text(self, text: SentenceEncoder | None, texts: Mapping[str, Sequence[str]] | None) -> None:
        """The head starts from the class embeddings, carried back to the width of the features (sec. 4.3)."""
        if self.config.initialisation is None:
            wanted = "class_mean" if text is None and self.config.templates is None else "text"
            self.config = replace(self.config, initialisation=wanted)
        if self.config.initialisation != "text":
            return
        if text is None:
            raise ValueError(
                "initialisation='text' and templates need the text tower of the backbone: create_method('lift', "
                "backbone, classes, text=load_text_tower(name)), with the name of the backbone (workbench fit --text)."
            )
        self.text = text.spec()
        names, templates = self.classes.names, self.config.templates
        embeddings = joint_embeddings(self.backbone, text, names, templates=templates, texts=texts)  # (C, E)
        with torch.no_grad():
            identity = torch.eye(self.backbone.width).to(next(self.backbone.parameters()))
            projection = self.backbone.project(identity)  # (D, E): linear and without bias, so this is its matrix
        self.head.initialise(embeddings.to(projection) @ projection.T)

    def prepare(self, train: LongTailDataset, **progress: Any) -> None:
        """The head starts from the class means of the untuned features (App. G), of whole images without cropping."""
        if self.config.initialisation in (None, "class_mean"):
            size = self.backbone.input_size
            mean, std = self.backbone.normalisation
            whole = evaluation_preprocessing(size, resize=size, mean=mean, std=std)
            features = torch.from_numpy(self.backbone.encode_dataset(train.with_preprocessing(whole), **progress))
            self.head.initialise(class_means(features, train.labels, len(self.classes)))

    def encode(self, images: Tensor) -> Encoded:
        if not self.adapters:
            return Encoded(self.backbone.encode(images))
        x = self.backbone.embed(images)  # (B, T, D)
        first = len(self.backbone.blocks) - len(self.adapters)
        for i, block in enumerate(self.backbone.blocks):
            x = x + block.attend(x)
            # AdaptFormer is parallel to the MLP and reads the tokens before its norm (authors' code, issue 9)
            x = x + block.mlp(x) + self.adapters[i - first](x) if i >= first else x + block.mlp(x)
        return Encoded(self.backbone.pool(x))

    def loss(self, outputs: list[Output], labels: list[Tensor], clock: Clock) -> dict[str, Tensor]:
        return {"loss": LOSSES[self.config.loss](outputs[0].logits, labels[0], self.classes.counts)}

    def stages(self, manifest: Manifest) -> list[Stage]:
        recipe = RECIPES.get(manifest.name, OTHER)
        kind = "full" if self.config.tuner == "partial" else self.config.tuner
        return [
            Stage(
                epochs=int(recipe["epochs"]),
                batch_size=128,
                trainable=self.tuned,
                lr=recipe.get(kind, 0.01),
                weight_decay=5e-4,
                schedule="cosine",
                precision="amp",
                source="LIFT App. A and the authors' scripts"
                + ("" if manifest.name in RECIPES else f"; {manifest.name} is not among them: as for CIFAR-100-LT"),
            )
        ]

    @classmethod
    def small(cls) -> dict[str, Any]:
        return {"bottleneck": 2}
