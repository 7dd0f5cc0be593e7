"""HLC: a coarse classifier trained on images and sentences; descriptions of its candidates decide among them.

"Hierarchical Long-tailed Classification with Visual Language Models", anonymous submission under review, no public
code. Accuracy to expect from CLIP ViT-B/16: Places-LT 51.5 (Table 4, row i), iNaturalist 79.8 with full fine-tuning.

Training: image features and as many sentences, class-balanced, are mixed in the joint space (eq. 2) and classified by
cosines. The weights of the descriptions learn from a second loss. Inference: logits minus the log-prior (eq. 4) choose
K candidates, which the weighted cosines with their M descriptions rank (Algorithm 1, `reranking`).

The paper does not state, and these are guesses: AdamW, weight decay, batch 64 + 64, crops and flips as in CoOp; the
scale of all cosines (the text tower's, for CLIP 100; the prior means nothing without one); unit vectors before mixing;
Beta(1, 1); the head's start from class names; the loss of the descriptions (cross-entropy over all classes, images as
they are, weight 1); prompts from a normal of std 0.02, placed behind the first norm; the lr of a fully tuned tower.

The 0.42M tuned parameters of Table 1 fit N = 25 prompts, head included, not the 20 of the text (0.37M). Zero-shot with
descriptions as in VCD (Table 7) is this method before training with visual="none", candidates=None and tau=0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.adapters.prompts import draw_normal, draw_prompts, with_prompts
from workbench.backbones import SentenceEncoder, check_templates, class_sentences
from workbench.backbones.text import OPENAI_SCALE
from workbench.heads import CosineHead, adjust_logits
from workbench.losses import cross_entropy
from workbench.methods import reranking
from workbench.methods.base import Clock, Encoded, Method, Output, Sentences, Stage, check_choice
from workbench.methods.reranking import WEIGHTINGS, Weighting

if TYPE_CHECKING:
    from workbench.backbones import Backbone
    from workbench.data import Classes, Manifest, Preprocessing


@dataclass(frozen=True, kw_only=True)
class HLCConfig:
    """Options of `hlc`."""

    visual: Literal["prompts", "full", "none"] = "prompts"  # what trains before the head; iNaturalist: full
    prompts: int = 20  # N, per block
    depth: int = 12  # L_p: the first blocks have prompts, at most all; behind them no prompt tokens remain (eq. 3)
    prompt_initialisation: Literal["normal", "uniform"] = "normal"  # std 0.02 (MaPLe), or VPT's Xavier bound
    cross_modal: bool = True  # train on sentences too, a corpus (Table 4: f)
    corpus_templates: str | None = "imagenet_7"  # class names in a set of backbones.TEMPLATES (or "descriptions")
    # join the sentences of create_method(corpus=); None: those alone. The seven are CoOp's hand-crafted prompts
    sentences: int | None = None  # how many there are; filled in when they are read
    sfm: bool = True  # shared-feature-space mixup (Table 4: g)
    beta: float = 1.0  # lambda of eq. 2 is from Beta(beta, beta)
    mix_raw: bool = False  # mix features of any length, as eq. 2 prints
    describe: str = "descriptions"  # a class is described by create_method(texts=), or by its name in these templates
    descriptions: int = 10  # M, at most; the first ones of a class that has more
    reweight: bool = True  # train their weights W_llm (Table 4: i); False: they stay uniform (h)
    weighting: Weighting = "softmax"  # Algorithm 1; raw: W_llm as eq. 5 prints it; uniform: ignore it when testing
    descriptor_weight: float = 1.0  # of the descriptions' loss
    weights_lr_factor: float = 1.0  # lr of W_llm, in units of the stage's
    backbone_lr_factor: float = 0.02  # lr of the tower with visual="full": 1e-5
    candidates: int | None = 5  # K; 1: the coarse classifier alone; None: all classes, descriptions alone (Table 6)
    tau: float = 1.0  # strength of the logit adjustment; 0: none (Table 4: d)
    scale: float | None = None  # of all cosines; None: the text tower's own
    initialisation: Literal["text", "random"] = "text"  # of the head
    templates: str | None = None  # of initialisation="text": a set of backbones.TEMPLATES, "descriptions" or a
    # template; None: "single"

    def __post_init__(self) -> None:
        check_choice("visual", self.visual, ("prompts", "full", "none"))
        check_choice("prompt_initialisation", self.prompt_initialisation, ("normal", "uniform"))
        check_choice("weighting", self.weighting, WEIGHTINGS)
        check_choice("initialisation", self.initialisation, ("text", "random"))
        for templates in (self.templates, self.corpus_templates, self.describe):
            if templates is not None:
                check_templates(templates)
        for name in ("prompts", "depth", "descriptions", "candidates"):
            value = getattr(self, name)
            if value is not None and value < 1:
                none = ", or None for all classes" if name == "candidates" else ""
                raise ValueError(f"{name}={value} must be at least 1{none}.")
        for name in ("beta", "scale", "weights_lr_factor", "backbone_lr_factor"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive.")
        if self.tau < 0 or self.descriptor_weight < 0:
            raise ValueError(f"tau={self.tau} and descriptor_weight={self.descriptor_weight} must not be negative.")
        if self.templates is not None and self.initialisation == "random":
            raise ValueError(f"templates={self.templates!r} has no effect with initialisation='random'; leave it out.")


class HLC(Method):
    """Buffers, all in `state` so that a run needs no text tower: descriptions (C, M, E) unit vectors, described (C, M)
    bool (which of them exist), corpus (S, E) sentence vectors as the tower gives them, corpus_labels (S,) int64."""

    name = "hlc"
    Config = HLCConfig
    uses_text = True
    config: HLCConfig
    head: CosineHead
    descriptions: Tensor
    described: Tensor
    corpus: Tensor | None
    corpus_labels: Tensor | None

    def __init__(self, backbone: Backbone, classes: Classes, config: HLCConfig, *, seed: int) -> None:
        super().__init__(backbone, classes, config, seed=seed)
        E, C, M = self.joint_width, len(classes), config.descriptions
        generator = torch.Generator().manual_seed(seed)
        scale = config.scale or OPENAI_SCALE  # replaced by the text tower's in `use_text`
        self.head = CosineHead(E, C, scale=scale, generator=generator)
        self.prompts: nn.Parameter | None = None  # (L_p, N, D)
        if config.visual == "prompts":
            depth = min(config.depth, len(backbone.blocks))  # a tower without blocks says here what it does not have
            if config.prompt_initialisation == "normal":
                self.prompts = draw_normal(depth, config.prompts, backbone.width, generator=generator)
            else:
                drawn = draw_prompts(depth * config.prompts, backbone.width, backbone.patch_size, generator=generator)
                self.prompts = nn.Parameter(drawn.detach().view(depth, config.prompts, -1))
        self.importance = nn.Parameter(torch.zeros(C, M))  # W_llm
        self.register_buffer("descriptions", torch.zeros(C, M, E))
        self.register_buffer("described", torch.ones(C, M, dtype=torch.bool))
        S = config.sentences or 0
        self.register_buffer("corpus", torch.zeros(S, E) if config.cross_modal else None)
        self.register_buffer("corpus_labels", torch.zeros(S, dtype=torch.int64) if config.cross_modal else None)

    @property
    def tuned(self) -> tuple[str, ...]:
        visual = {"prompts": ("prompts",), "full": ("backbone.",), "none": ()}[self.config.visual]
        weights = ("importance",) if self.config.reweight and self.config.descriptor_weight else ()
        return ("head.", *visual, *weights)

    @property
    def description_weights(self) -> Tensor:
        """(C, M) float, as inference uses them: 0 where a class has no such description."""
        return reranking.description_weights(self.importance.detach(), self.described, self.config.weighting)

    # -- text --------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def use_text(self, text: SentenceEncoder | None, texts: Sentences | None, corpus: Sentences | None) -> None:
        text = self.needed_text(text)
        if text.names_only:
            raise ValueError(
                "hlc encodes sentences, and class vectors know class names only; pass text=load_text_tower(name)."
            )
        self.config = replace(self.config, scale=self.config.scale or text.logit_scale)
        self.head.scale = self.config.scale or OPENAI_SCALE
        embedded = self.embed_classes(text, self.config.templates, texts)  # (C, E); refuses towers that do not fit
        if self.config.initialisation == "text":
            self.head.initialise(embedded)
        self._cache_descriptions(text, self._sentences_of_classes(texts))
        if self.config.cross_modal:
            self._cache_corpus(text, texts, corpus)

    def _sentences_of_classes(self, texts: Sentences | None) -> list[list[str]]:
        names = self.classes.names
        if self.config.describe == "descriptions":
            lacking = [name for name in names if not (texts or {}).get(name)]
            if lacking:
                listed = ", ".join(map(repr, lacking[:5])) + (" ..." if len(lacking) > 5 else "")
                raise ValueError(
                    f"hlc reads descriptions of every class, but {len(lacking)} of {len(names)} have none: {listed}. "
                    "Pass texts=manifest.texts of a data set that has them, or class name -> sentences (workbench fit "
                    "--texts FILE); or put class names into templates instead, describe='imagenet_7'."
                )
        M = self.config.descriptions
        return [sentences[:M] for sentences in class_sentences(names, self.config.describe, texts)]

    def _cache_descriptions(self, text: SentenceEncoder, sentences: list[list[str]]) -> None:
        numbers = torch.tensor([len(group) for group in sentences])
        self.described.copy_(torch.arange(self.config.descriptions) < numbers[:, None])  # the first ones of each row
        vectors = F.normalize(text.encode([sentence for group in sentences for sentence in group]), dim=-1)
        self.descriptions.zero_()
        self.descriptions[self.described] = vectors.to(self.descriptions)
        if self.config.weighting == "raw":  # starts from the mean, as zeros do through the softmax
            self.importance.copy_(reranking.description_weights(self.importance, self.described, "uniform"))

    def _cache_corpus(self, text: SentenceEncoder, texts: Sentences | None, corpus: Sentences | None) -> None:
        names, templates = self.classes.names, self.config.corpus_templates
        own = [list((corpus or {}).get(name, ())) for name in names]
        if corpus and not any(own):
            raise ValueError(
                f"corpus has sentences for {len(corpus)} names, first {next(iter(corpus))!r}, and none is a class; the "
                f"classes are {', '.join(map(repr, names[:3]))} ... Name them as the manifest does."
            )
        made = [[] for _ in names] if templates is None else class_sentences(names, templates, texts)
        sentences = [list(dict.fromkeys([*given, *filled])) for given, filled in zip(own, made, strict=True)]
        if not any(sentences):
            raise ValueError(
                "cross_modal=True trains on sentences, but there are none: pass corpus= (class name -> sentences), "
                "name corpus_templates, or choose cross_modal=False."
            )
        vectors = text.encode([sentence for group in sentences for sentence in group])
        if self.config.sentences not in (None, len(vectors)):
            raise ValueError(f"sentences={self.config.sentences}, but there are {len(vectors)}; leave the option out.")
        self.config = replace(self.config, sentences=len(vectors))
        numbers = torch.tensor([len(group) for group in sentences])
        self.corpus = vectors.to(self.head.weight)
        self.corpus_labels = torch.repeat_interleave(torch.arange(len(names)), numbers).to(self.corpus.device)

    # -- images ------------------------------------------------------------------------------------------------------

    def encode(self, images: Tensor) -> Encoded:
        if self.prompts is None:
            return Encoded(self.backbone.project(self.backbone.encode(images)))
        x = self.backbone.embed(images)  # (B, P+N, D)
        image_tokens = x.shape[1]
        for i, block in enumerate(self.backbone.blocks):
            x = with_prompts(x, self.prompts[i], image_tokens) if i < len(self.prompts) else x[:, :image_tokens]
            x = x + block.attend(x)
            x = x + block.mlp(x)
        return Encoded(self.backbone.project(self.backbone.pool(x)))

    def classify(self, encoded: Encoded) -> Output:
        """Training: the coarse classifier's logits. Else they are logs of the re-ranked probabilities, `cosine` is
        still the coarse classifier's, and the extras are candidates (B, K) int64, best coarse class first, and
        description_match (B, K, M) float32, cosines, NaN where a class has no such description."""
        logits, cosine = self.head(encoded.features)
        if self.training:
            return Output(logits, encoded.features, cosine, encoded.extras)
        logits = adjust_logits(logits, self.classes.counts, tau=self.config.tau)
        C = logits.shape[1]
        candidates = logits.topk(min(self.config.candidates or C, C), dim=1).indices  # (B, K)
        unit, weights = F.normalize(encoded.features, dim=-1), self.description_weights
        scores = self.head.scale * reranking.candidate_scores(unit, self.descriptions, weights, candidates)  # (B, K)
        matches = reranking.description_matches(unit, self.descriptions, candidates)  # the decision, explained
        seen = matches.float().masked_fill(~self.described[candidates], torch.nan)
        extras = {**encoded.extras, "candidates": candidates, "description_match": seen}
        return Output(reranking.reranked(logits, candidates, scores), encoded.features, cosine, extras)

    # -- training ----------------------------------------------------------------------------------------------------

    def loss(self, outputs: list[Output], labels: list[Tensor], clock: Clock) -> dict[str, Tensor]:
        features, targets = outputs[0].features, labels[0]
        with torch.autocast(features.device.type, enabled=False):  # a scale of 100 is too much for half precision
            features = features if features.dtype == torch.float64 else features.float()
            classifier = self.classifier_loss(features, targets)
            if not self.config.descriptor_weight:
                return {"loss": classifier}
            weighting: Weighting = "raw" if self.config.weighting == "raw" else "softmax"
            weights = reranking.description_weights(self.importance, self.described, weighting)
            scores = reranking.description_scores(F.normalize(features, dim=-1), self.descriptions, weights)
            described = cross_entropy(self.head.scale * scores, targets)
        total = classifier + self.config.descriptor_weight * described
        return {"loss": total, "classifier": classifier, "descriptions": described}

    def classifier_loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """features: (B, E), labels: (B,) -> scalar. Sentences, permutation and lambda are drawn from torch's own
        generators, which training sets anew at every step."""
        if self.corpus is not None and self.corpus_labels is not None:
            rows = reranking.draw_balanced(self.corpus_labels, len(features))
            features = torch.cat([features, self.corpus[rows]])  # (2B, E)
            labels = torch.cat([labels, self.corpus_labels[rows]])
        if not self.config.sfm:
            return cross_entropy(self.head(features)[0], labels)
        kept = float(torch.distributions.Beta(self.config.beta, self.config.beta).sample())  # lambda
        order = torch.randperm(len(features), device=features.device)
        mixed = reranking.mix(features if self.config.mix_raw else F.normalize(features, dim=-1), order, kept)
        return reranking.mixed_cross_entropy(self.head(mixed)[0], labels, order, kept)

    def stages(self, manifest: Manifest) -> list[Stage]:
        factors = {"importance": self.config.weights_lr_factor, "backbone.": self.config.backbone_lr_factor}
        return [
            Stage(
                epochs=30,
                batch_size=64,
                trainable=self.tuned,
                optimiser="adamw",
                lr=5e-4,
                lr_factors=tuple((name, factor) for name, factor in factors.items() if name in self.tuned),
                weight_decay=0.01,
                schedule="cosine",
                precision="amp",
                source="HLC sec. 4.2 (30 epochs, 5e-4, cosine); AdamW, weight decay 0.01 and batch 64 + 64 are guesses"
                + ("; the tower's lr too" if self.config.visual == "full" else ""),
            )
        ]

    def preprocessing(self, train: bool) -> Preprocessing:
        """A guess, as in CoOp."""
        return self.clip_preprocessing(train)

    @classmethod
    def small(cls) -> dict[str, Any]:
        return {"prompts": 2, "describe": "imagenet_7", "corpus_templates": "single"}
