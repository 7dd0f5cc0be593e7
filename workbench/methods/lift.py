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

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from workbench.adapters.tuners import Tuner, tuner_names
from workbench.backbones import SentenceEncoder, check_templates
from workbench.data import evaluation_preprocessing, views_of
from workbench.heads import HEADS, Head, adjust_logits, class_means, create_head, linear_probe
from workbench.losses import COSINE_LOSSES, LOSSES, WEIGHTED_LOSSES, effective_number_weights
from workbench.methods.base import Clock, Encoded, Method, Output, Sentences, Stage, check_choice

if TYPE_CHECKING:
    from workbench.backbones import Backbone
    from workbench.data import Classes, LongTailDataset, Manifest

INITIALISATIONS = ("text", "class_mean", "linear_probe", "linear_probe_la", "random")
PRIOR_LOSSES = ("balanced_softmax", "logit_adjusted", "lade")  # train with the prior, so logits are adjusted already
CLOUDS = {"gcl": {"margin": 0.1, "noise_scale": 1.0}}  # GNM-PT's, whose scale is LIFT's 25; A-GCL: LPT's defaults
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

    tuner: str = "adaptformer"  # adapters.tuners: none, full, partial, arbitrary, or one or several (joined by "+") of
    # adaptformer, adapter, lora, bitfit, layer_norm, vpt_shallow, vpt_deep, ssf
    blocks: int | tuple[int, int] | None = None  # tune the last k blocks, or those from a to b - 1; None: all of them
    # ("partial" needs it)
    bottleneck: int | None = None  # r of AdaptFormer, Adapter, LoRA; None: the paper's rule, 2^floor(log2(C / 2L))
    bottleneck_rounding: Literal["floor", "ceil"] = "floor"  # of that rule. App. A prints ceil
    prompts: int = 10  # per block, VPT
    proportion: float = 0.01  # alpha of "arbitrary", sec. 4.1; best on ImageNet-LT, 0.005 on Places-LT
    lora_alpha: float = 1.0  # LoRA's factor is lora_alpha / r; 1 is the code's, no paper of the five states it
    head: str = "cosine"  # name of heads.HEADS
    scale: float = 25.0  # sigma of the cosine classifier, sec. 4.2
    initialisation: Literal["text", "class_mean", "linear_probe", "linear_probe_la", "random"] | None = None  # of the
    # head; None: text if create_method is given a text tower, else class_mean (App. G, for backbones without text)
    templates: str | None = None  # of text: a set of backbones.TEMPLATES ("single" is the paper's and what None means;
    # Table 13 has class_name, imagenet_80 and descriptions too), "descriptions", or a template with {}
    loss: str = "logit_adjusted"  # name of losses.LOSSES or losses.COSINE_LOSSES; the latter take the head's scale
    drw: float = 0.0  # deferred re-weighting: share of the last epochs with effective-number weights, beta 0.9999
    post_hoc: float = 0.0  # tau of logit adjustment at test time, for a loss that knows no prior (eq. 12)
    views: str = "five"  # test-time ensemble, sec. 4.4: centre, five, ten (five and mirrored), random20 and the like
    expand: int | None = None  # pixels by which five and ten widen the image; None: data.default_expand
    ensemble_resize: Literal["shorter", "square"] = "shorter"  # code: the shorter side; Alg. 1: a square
    ensemble_mean: Literal["logits", "log_probabilities"] = "logits"  # code and Alg. 1: logits; eq. 6: ln p

    def __post_init__(self) -> None:
        tuner_names(self.tuner)
        if isinstance(self.blocks, list | tuple) and len(self.blocks) == 2:  # a list as JSON has it
            object.__setattr__(self, "blocks", (int(self.blocks[0]), int(self.blocks[1])))
        elif not isinstance(self.blocks, int | None):
            raise ValueError(f"blocks={self.blocks!r}: give a number of last blocks, or a pair such as [0, 6].")
        check_choice("head", self.head, tuple(HEADS))
        check_choice("loss", self.loss, (*LOSSES, *COSINE_LOSSES))
        check_choice("bottleneck_rounding", self.bottleneck_rounding, ("floor", "ceil"))
        check_choice("ensemble_resize", self.ensemble_resize, ("shorter", "square"))
        check_choice("ensemble_mean", self.ensemble_mean, ("logits", "log_probabilities"))
        views_of(self.views)
        if self.initialisation is not None:
            check_choice("initialisation", self.initialisation, INITIALISATIONS)
        if self.templates is not None:
            check_templates(self.templates)
        for name, value in (("bottleneck", self.bottleneck), ("prompts", self.prompts)):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if not 0 < self.proportion <= 1:
            raise ValueError(f"proportion={self.proportion} of the weights must lie in (0, 1]; the paper has 0.01.")
        if not 0 <= self.drw < 1 or self.post_hoc < 0:
            raise ValueError(f"drw={self.drw} must lie in [0, 1), and post_hoc={self.post_hoc} must not be negative.")
        for problem in self._contradictions():
            raise ValueError(problem)

    def _contradictions(self) -> Iterator[str]:
        """Options that exclude each other, or would silently do nothing."""
        if self.templates is not None and self.initialisation not in (None, "text"):
            yield (
                f"templates={self.templates!r} has no effect with initialisation={self.initialisation!r}; leave it "
                "out, or choose initialisation='text'."
            )
        if self.tuner == "partial" and self.blocks is None:
            yield "tuner='partial' needs the number of last blocks to tune, for example blocks=2."
        if self.tuner == "none" and self.blocks is not None:
            yield f"blocks={self.blocks} has no effect with tuner='none'; leave it out."
        if self.loss in COSINE_LOSSES and not HEADS[self.head].has_cosine:
            yield (
                f"loss={self.loss!r} has margins on cosines, and head={self.head!r} has none; choose head='cosine', or "
                f"one of the losses {', '.join(LOSSES)}."
            )
        if self.drw and self.loss not in WEIGHTED_LOSSES:
            yield (
                f"drw={self.drw} weighs classes in the last epochs, which loss={self.loss!r} does not take; choose one "
                f"of {', '.join(WEIGHTED_LOSSES)}, or leave drw out."
            )
        if self.post_hoc and self.loss in PRIOR_LOSSES:
            yield (
                f"post_hoc={self.post_hoc} would subtract the prior from logits that loss={self.loss!r} has already "
                "freed of it; choose loss='cross_entropy', or leave post_hoc out."
            )


class LIFT(Method):
    name = "lift"
    Config = LIFTConfig
    uses_text = True
    head: Head

    def __init__(self, backbone: Backbone, classes: Classes, config: LIFTConfig, *, seed: int) -> None:
        super().__init__(backbone, classes, config, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        self.head = create_head(config.head, backbone.width, len(classes), scale=config.scale, generator=generator)
        self.test_views, self.test_expand = config.views, config.expand
        self.test_resize, self.test_mean = config.ensemble_resize, config.ensemble_mean
        self.adapters = Tuner(
            backbone,
            config.tuner,
            num_classes=len(classes),
            blocks=config.blocks,
            bottleneck=config.bottleneck,
            rounding=config.bottleneck_rounding,
            prompts=config.prompts,
            proportion=config.proportion,
            lora_alpha=config.lora_alpha,
            generator=generator,
        )

    @property
    def tuned(self) -> tuple[str, ...]:
        return ("head.", *self.adapters.trained)

    def use_text(self, text: SentenceEncoder | None, texts: Sentences | None, corpus: Sentences | None) -> None:
        """The head starts from the class embeddings, carried back to the width of the features (sec. 4.3)."""
        if self.config.initialisation is None:
            wanted = "class_mean" if text is None and self.config.templates is None else "text"
            self.config = replace(self.config, initialisation=wanted)
        if self.config.initialisation != "text":
            return
        text = self.needed_text(text, "initialisation='text' and templates")
        embeddings = self.embed_classes(text, self.config.templates, texts)  # (C, E)
        with torch.no_grad():
            identity = torch.eye(self.backbone.width).to(next(self.backbone.parameters()))
            projection = self.backbone.project(identity)  # (D, E): linear and without bias, so this is its matrix
        self.head.initialise(embeddings.to(projection) @ projection.T)

    def prepare(self, train: LongTailDataset, **progress: Any) -> None:
        """The head starts from the untuned features of whole images without cropping: their class means (App. G), or
        the rows of a linear probe on them (Table 7)."""
        start = self.config.initialisation or "class_mean"
        if start not in ("class_mean", "linear_probe", "linear_probe_la"):
            return
        size = self.backbone.input_size
        mean, std = self.backbone.normalisation
        whole = evaluation_preprocessing(size, resize=size, mean=mean, std=std)
        features = torch.from_numpy(self.backbone.encode_dataset(train.with_preprocessing(whole), **progress))
        if start == "class_mean":
            rows = class_means(features, train.labels, len(self.classes))
        else:
            rows = linear_probe(features, train.labels, len(self.classes), logit_adjusted=start == "linear_probe_la")
        self.head.initialise(rows)

    def encode(self, images: Tensor) -> Encoded:
        return Encoded(self.adapters.encode(self.backbone, images))

    def classify(self, encoded: Encoded) -> Output:
        output = super().classify(encoded)
        if self.training or not self.config.post_hoc:
            return output
        return replace(output, logits=adjust_logits(output.logits, self.classes.counts, tau=self.config.post_hoc))

    def loss(self, outputs: list[Output], labels: list[Tensor], clock: Clock) -> dict[str, Tensor]:
        name, counts = self.config.loss, self.classes.counts
        options: dict[str, Any] = dict(CLOUDS.get(name, {}))
        if clock.reweighted:
            options["weight"] = effective_number_weights(counts, beta=0.9999)
        if name in LOSSES:
            return {"loss": LOSSES[name](outputs[0].logits, labels[0], counts, **options)}
        if name in ("gcl", "asymmetric_gcl"):
            options["generator"] = torch.default_generator  # training sets it anew at every step
        loss = COSINE_LOSSES[name](outputs[0].cosine, labels[0], counts, scale=self.config.scale, **options)
        return {"loss": loss}

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
                drw=self.config.drw,
                precision="amp",
                source="LIFT App. A and the authors' scripts"
                + ("" if manifest.name in RECIPES else f"; {manifest.name} is not among them: as for CIFAR-100-LT"),
            )
        ]

    @classmethod
    def small(cls) -> dict[str, Any]:
        return {"bottleneck": 2}
