"""CoOp: the words around a class name in the sentence of CLIP are learnt vectors; everything else is frozen.

Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022, arXiv 2109.01134, eq. 2 and 3; authors' code
KaiyangZhou/CoOp. Recipe: SGD 0.002, cosine over 50 epochs after one at 1e-5, batch 32, bicubic crops and
flips; the paper trains as long on ImageNet, on smaller sets 50 to 200 epochs by the number of shots. Weight decay 5e-4
and momentum 0.9 are the defaults of the authors' toolbox (Dassl). It trained in half precision throughout; here the
weights are float32.

Each step encodes the sentences of all classes again, which takes more time than the images where classes are many.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.backbones import (
    SentenceEncoder,
    TextTower,
    check_joint_space,
    clean_class_name,
    context_length,
    embed_tokens,
    encode_prompts,
    token_width,
)
from workbench.losses import cross_entropy
from workbench.methods.base import Clock, Encoded, Method, Output, Sentences, Stage, check_choice

if TYPE_CHECKING:
    from workbench.backbones import Backbone
    from workbench.data import Classes, Manifest, Preprocessing

TOKENS = 16  # M of the paper's main experiments
MARKS = 2  # start and end of a sentence


@dataclass(frozen=True, kw_only=True)
class CoOpConfig:
    """Options of `coop`."""

    tokens: int | None = None  # learnt vectors, the paper's M; None: 16, or one for each token of `words`
    words: str | None = None  # they start as the embeddings of these ("a photo of a"); None: N(0, 0.02)
    class_specific: bool = False  # each class has vectors of its own (CSC)
    position: Literal["end", "middle", "front"] = "end"  # of the class name; middle: after half of the vectors
    scale: float | None = None  # the factor on cosines; None: the text tower's own
    cached: bool = False  # encode each training image once with the test transform: faster, without crops and flips
    sampler: Literal["shuffle", "class_aware"] = "shuffle"  # class_aware: class-balanced, not in the paper
    width: int | None = None  # of a vector; only ever the text tower's, noted here to build the method again

    def __post_init__(self) -> None:
        check_choice("position", self.position, ("end", "middle", "front"))
        check_choice("sampler", self.sampler, ("shuffle", "class_aware"))
        if self.tokens is not None and self.tokens < 1:
            raise ValueError(f"tokens={self.tokens} must be at least 1; without learnt vectors it is zero_shot.")
        if self.words is not None and not self.words.strip():
            raise ValueError("words is empty; give words to start from, such as 'a photo of a', or leave it out.")
        if self.scale is not None and not self.scale > 0:
            raise ValueError(f"scale={self.scale} must be positive, or None for the text tower's own; CLIP's is 100.")


class CoOp(Method):
    """logits = scale * cos(projected image feature, vector of the class's sentence).

    `context` holds the learnt vectors: (K, W) for all classes or (C, K, W). There is no head.
    """

    name = "coop"
    Config = CoOpConfig
    uses_text = True
    owns_text = True

    def __init__(self, backbone: Backbone, classes: Classes, config: CoOpConfig, *, seed: int) -> None:
        super().__init__(backbone, classes, config, seed=seed)
        self.context = nn.Parameter(torch.empty(0) if config.width is None else self._drawn(config.width))
        self._prompts: tuple[Tensor, Tensor] | None = None  # token ids (C, L) and places (C, K) of the learnt vectors
        self._known: tuple[Any, Tensor] | None = None  # class vectors, and what they were computed from

    # -- text --------------------------------------------------------------------------------------------------------

    def use_text(self, text: SentenceEncoder | None, texts: Sentences | None, corpus: Sentences | None) -> None:
        tower = self.owned_text(text)
        check_joint_space(self.backbone, tower)
        config, width = self.config, token_width(tower)
        if config.width not in (None, width):
            raise ValueError(f"width={config.width}, but {tower.name} has tokens {width} wide; leave width out.")
        start = None if config.words is None else embed_tokens(tower, _words(tower, config.words))[0]  # (K, W)
        if start is not None and config.tokens not in (None, len(start)):
            raise ValueError(f"tokens={config.tokens}, but words={config.words!r} has {len(start)}; leave tokens out.")
        self.config = replace(
            config,
            tokens=config.tokens or (TOKENS if start is None else len(start)),
            scale=config.scale or tower.logit_scale,
            width=width,
        )
        vectors = self._drawn(width) if start is None else start.float().expand(self._shape(width)).clone()
        self.context = nn.Parameter(vectors.to(self.device))
        self.text_tower = tower
        self._prompts = self._made_prompts(tower)  # names that are too long are refused here

    def _shape(self, width: int) -> tuple[int, ...]:
        shared = (self.config.tokens or TOKENS, width)
        return (len(self.classes), *shared) if self.config.class_specific else shared

    def _drawn(self, width: int) -> Tensor:
        return 0.02 * torch.randn(self._shape(width), generator=torch.Generator().manual_seed(self.seed))

    @torch.inference_mode(False)  # kept, and a later training step saves them for its way back
    def _made_prompts(self, tower: TextTower) -> tuple[Tensor, Tensor]:
        """Token ids (C, L) int64 of "name." with room for the K vectors, and their places (C, K) int64, on the CPU."""
        K, limit = self.config.tokens, context_length(tower)
        ids = tower.tokens([f"{clean_class_name(name)}." for name in self.classes.names]).cpu()
        lengths = ids.argmax(-1) - 1  # (C,) tokens of name and full stop: the end token has the largest id
        longest = int(lengths.argmax())
        if (need := int(lengths[longest]) + K + MARKS) > limit:
            fits = limit - MARKS - int(lengths[longest])
            advice = f"Choose tokens={fits} or fewer" if fits > 0 else "Give the class a shorter name"
            name = self.classes.names[longest][:60]
            raise ValueError(
                f"{K} learnt vectors and the class name {name!r} make {need} tokens or more, "
                f"but {tower.name} reads {limit}. {advice}."
            )
        before = {"end": K, "middle": K // 2, "front": 0}[self.config.position]  # vectors in front of the name
        inside = (lengths - 1)[:, None]  # (C, 1) tokens of the name: the last is the full stop
        order = torch.arange(K).expand(len(ids), K)
        places = 1 + order + torch.where(order < before, 0, inside)  # (C, K)
        free = torch.ones(len(ids), int(lengths[longest]) + K + MARKS, dtype=torch.bool).scatter(1, places, False)
        padded = F.pad(ids, (0, free.shape[1]))[:, : free.shape[1] - K]
        made = torch.zeros(free.shape, dtype=torch.int64)
        made[free] = padded.flatten()
        return made, places

    def class_vectors(self) -> Tensor:
        """(C, E) of unit length. Without gradients they are computed once and kept until a weight changes."""
        tower, context = self.text_tower, self.context
        if tower is None:
            raise ValueError("coop has no text tower yet: build it with create_method(..., text=) or Run.method().")
        if self._prompts is None:
            self._prompts = self._made_prompts(tower)
        if torch.is_grad_enabled() and context.requires_grad:
            return F.normalize(encode_prompts(tower, *self._prompts, context).to(context.dtype), dim=-1)
        weights = [context, *tower.parameters()]
        key = (id(context), sum(weight._version for weight in weights), context.device, context.dtype)
        if self._known is None or self._known[0] != key:
            with torch.inference_mode(False), torch.no_grad():  # a tensor that autograd may save for image features
                vectors = encode_prompts(tower, *self._prompts, context).to(context.dtype)
                self._known = (key, F.normalize(vectors, dim=-1))
        return self._known[1]

    # -- the method --------------------------------------------------------------------------------------------------

    @property
    def tuned(self) -> tuple[str, ...]:
        return ("context",)

    def encode(self, images: Tensor) -> Encoded:
        return Encoded(self.backbone.project(self.backbone.encode(images)))

    def classify(self, encoded: Encoded) -> Output:
        vectors = self.class_vectors()
        with torch.autocast(self.device.type, enabled=False):  # a scale of 100 makes bf16's steps of cosines large
            cosine = F.linear(F.normalize(encoded.features.to(vectors), dim=-1), vectors)  # (B, C)
        return Output(self.config.scale * cosine, encoded.features, cosine, encoded.extras)

    def loss(self, outputs: list[Output], labels: list[Tensor], clock: Clock) -> dict[str, Tensor]:
        return {"loss": cross_entropy(outputs[0].logits, labels[0])}  # eq. 3 through its softmax

    def stages(self, manifest: Manifest) -> list[Stage]:
        changed = [
            *(["cached features instead of crops and flips"] if self.config.cached else []),
            *(["class-balanced sampling is ours"] if self.config.sampler == "class_aware" else []),
        ]
        return [
            Stage(
                epochs=50,
                batch_size=32,
                samplers=(self.config.sampler,),
                trainable=self.tuned,
                lr=0.002,
                weight_decay=5e-4,
                schedule="cosine_from_warmup",  # one epoch at 1e-5, then the cosine from its beginning
                warmup_epochs=1,
                warmup_lr=1e-5,
                precision="amp",
                cached=self.config.cached,
                source="; ".join(["CoOp sec. 4.1 and its code (ImageNet: 50 epochs)", *changed]),
            )
        ]

    def preprocessing(self, train: bool) -> Preprocessing:
        return self.clip_preprocessing(train)

    @classmethod
    def small(cls) -> dict[str, Any]:
        return {"tokens": 2}


def _words(tower: TextTower, words: str) -> Tensor:
    """Token ids (1, K) int64 of some words, without the two marks."""
    ids = tower.tokens([clean_class_name(words)])
    end = int(ids.argmax(-1))
    if end < 2 or end + 1 >= context_length(tower):
        raise ValueError(f"words={words[:60]!r} has {end - 1} tokens or more; 1 to {context_length(tower) - 3} fit.")
    return ids[:, 1:end]
