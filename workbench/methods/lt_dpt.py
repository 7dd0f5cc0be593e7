"""LT-DPT: prompts for the foreground and for the background, steered by saliency, on top of GNM-PT.

"Decoupling Prompt Tuning for Long-Tailed Visual Recognition", under review, anonymous. Foreground prompts P_f before
every block, and in the last H blocks background prompts P_b: the softmax-weighted sum of the k of G groups whose keys
are nearest to the patches. A bias on the attention logits, alpha S for P_f and beta (1 - S) for P_b with S the saliency
of a patch, is to draw P_f to the object and P_b to what is around it. There is no public code.

**As printed, the bias does nothing to the class token.** Eqs. 3 and 5 put it on rows whose *query* is a prompt; the
outputs of these rows are thrown away after each block, so that only the last block's prompt outputs can carry its
effect, and those reach the classifier in GNM-PT's pooling alone. With `pooling="cls"` logits do not depend on alpha and
beta, bit for bit, and their gradient is 0. `bias_rows` says what is meant:

- "prompt_query" (default): as printed.
- "patch_query": the reading under which the story holds in every block: what patch i asks of P_f is raised by
  alpha S_i, what it asks of P_b by beta (1 - S_i).
- "both": the sum.

Further readings: one key per *group* (the text says n_b keys, which is the length of a group); n_f 10, G 20, n_b 10 are
the natural numbers that give Table 7's 0.55, 1.01 and 1.94 M (keys not counted). Weight decay 0.01 and lr 0.005 are
stated. **Guesses**: k = 2; S is computed on the augmented image (on CIFAR-100, with GNM-PT's transforms, after Cutout
and enlarging) and stretched after pooling to patches; alpha and beta are one scalar each and start at 1; the
orthogonality loss is a mean over blocks; GCL's numbers are GNM-PT's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.adapters.prompts import PromptPool, draw_normal, with_prompts
from workbench.data import saliency
from workbench.methods.base import Clock, Encoded, Output, check_choice
from workbench.methods.gnm_pt import GNMPT, GNMPTConfig


@dataclass(frozen=True, kw_only=True)
class LTDPTConfig(GNMPTConfig):
    """Options of `lt_dpt`: those of `gnm_pt`, of which `prompts` is n_f, and its own."""

    foreground: bool = True  # the saliency bias of the foreground prompts; without it they are GNM-PT's (Table 4)
    background: bool = True  # background prompts, with their bias and orthogonality loss (Table 4)
    background_blocks: int | None = None  # H; None: half of the blocks (Table 7: 6 of 12)
    groups: int = 20  # G
    group_prompts: int = 10  # n_b
    top_k: int = 2
    bias_rows: Literal["prompt_query", "patch_query", "both"] = "prompt_query"
    orthogonality: float = 0.5  # lambda of eq. 7 (Table 6)
    cosines: Literal["signed", "absolute", "squared"] = "signed"  # in the orthogonality loss
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("bias_rows", self.bias_rows, ("prompt_query", "patch_query", "both"))
        check_choice("cosines", self.cosines, ("signed", "absolute", "squared"))
        for name in ("groups", "group_prompts", "top_k"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.top_k > self.groups:
            raise ValueError(f"top_k={self.top_k} groups cannot be picked of groups={self.groups}.")
        if self.orthogonality < 0:
            raise ValueError(f"orthogonality={self.orthogonality} must not be negative.")


class LTDPT(PromptPool, GNMPT):
    name = "lt_dpt"
    Config = LTDPTConfig
    config: LTDPTConfig
    bias_factors: tuple[float, float] = (1.0, 1.0)  # of alpha and beta, set by `scaled_bias`; no part of `state`

    def _draw_more(self, generator: torch.Generator) -> None:
        backbone, config = self.backbone, self.config
        depth, width = len(backbone.blocks), backbone.width
        H = depth // 2 if config.background_blocks is None else config.background_blocks
        if not 1 <= H <= depth:
            raise ValueError(f"background_blocks={H}, but {backbone.name} has {depth}; give 1 to {depth}.")
        self.first = depth - H if config.background else depth  # block of the first background prompts
        self.groups = self.keys = None
        if config.background:
            self.groups = draw_normal(H, config.groups, config.group_prompts, width, generator=generator)
            self.keys = draw_normal(H, config.groups, width, generator=generator)
        self.alpha, self.beta = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))

    @property
    def tuned(self) -> tuple[str, ...]:
        foreground = ("alpha",) if self.config.foreground else ()
        background = ("beta", "groups", "keys") if self.config.background else ()
        return (*super().tuned, *foreground, *background)

    @property
    def picked(self) -> int:
        return self.config.group_prompts

    @contextmanager
    def scaled_bias(self, alpha: float = 1.0, beta: float = 1.0) -> Iterator[None]:
        """The biases are so many times as strong as learned while the context lasts; 0 is none."""
        before, self.bias_factors = self.bias_factors, (alpha, beta)
        try:
            yield
        finally:
            self.bias_factors = before

    def patch_saliency(self, images: Tensor) -> Tensor:
        """S: (B, 3, H, W), normalised as the tower reads them -> (B, h, w) in [0, 1]."""
        with torch.no_grad():
            maps = saliency.spectral_residual(self.backbone.pixels(images))
            return saliency.patch_scores(maps, self.backbone.grid)

    def encode(self, images: Tensor) -> Encoded:
        x = self.backbone.embed(images)  # (B, P+N, D)
        B, image_tokens = x.shape[:2]
        salient = self.patch_saliency(images)
        biases: dict[int, Tensor | None] = {}  # by number of tokens: with and without background prompts
        chosen: list[tuple[Tensor, Tensor]] = []  # similarities (B, G) and groups (B, k) of each background block
        for i, block in enumerate(self.backbone.blocks):
            x = x[:, :image_tokens]
            prompts = self.prompts[i].expand(B, -1, -1)
            if i >= self.first:
                background, similarity, index = self.background_prompts(x, i - self.first)
                chosen.append((similarity, index))
                prompts = torch.cat([prompts, background], dim=1)
            x = with_prompts(x, prompts, image_tokens)
            if x.shape[1] not in biases:
                biases[x.shape[1]] = self.bias(salient.flatten(1), x.shape[1], image_tokens)
            x = x + block.attend(x, biases[x.shape[1]])
            x = x + block.mlp(x)
        extras = {"saliency": salient}
        if chosen:
            similarities, indices = zip(*chosen, strict=True)
            extras |= {"prompt_index": torch.stack(indices, 1), "prompt_similarity": torch.stack(similarities, 1)}
        return Encoded(self.pooled(x, image_tokens), extras)

    def background_prompts(self, x: Tensor, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, P+N, D) entering a block -> P_b (B, n_b, D), similarities (B, G), chosen groups (B, k), eq. 4.

        The similarity of a group is the mean over the patches of their cosine with its key.
        """
        assert self.groups is not None and self.keys is not None
        patches = F.normalize(x[:, self.backbone.num_prefix :], dim=-1)
        similarity = patches.mean(1) @ F.normalize(self.keys[layer], dim=-1).T  # the mean of cosines
        nearest, index = self.choose(similarity, layer)  # (B, k) each
        weights = nearest.softmax(1)
        return torch.einsum("bk,bknd->bnd", weights, self.groups[layer][index]), similarity, index

    def bias(self, salient: Tensor, tokens: int, image_tokens: int) -> Tensor | None:
        """What is added to the scaled attention logits: S (B, N) -> (B, 1, T, T), row = query, or None."""
        n_f, config = self.config.prompts, self.config
        towards = self.bias_factors[0] * self.alpha * salient if config.foreground else torch.zeros_like(salient)
        parts = [towards[:, None].expand(-1, n_f, -1)]  # (B, n_f, N)
        if tokens > image_tokens + n_f:
            away = self.bias_factors[1] * self.beta * (1 - salient)
            parts.append(away[:, None].expand(-1, tokens - image_tokens - n_f, -1))
        elif not config.foreground:
            return None
        steer = torch.cat(parts, dim=1)  # (B, prompts, N)
        first = self.backbone.num_prefix
        whole = salient.new_zeros(len(salient), tokens, tokens)
        rows, columns = slice(image_tokens, tokens), slice(first, image_tokens)
        if config.bias_rows in ("prompt_query", "both"):
            whole[:, rows, columns] = steer
        if config.bias_rows in ("patch_query", "both"):
            whole[:, columns, rows] = steer.transpose(1, 2)
        return whole[:, None]

    def orthogonality(self) -> Tensor:
        """L_b: sum over ordered pairs of groups of the cosine of their flattened prompts, mean over blocks (eq. 6)."""
        assert self.groups is not None
        flat = F.normalize(self.groups.flatten(2), dim=-1)  # (H, G, n_b D)
        cosine = flat @ flat.transpose(1, 2)
        if self.config.cosines != "signed":
            cosine = cosine.abs() if self.config.cosines == "absolute" else cosine.square()
        pairs = ~torch.eye(cosine.shape[1], dtype=torch.bool, device=cosine.device)
        return cosine[:, pairs].sum(1).mean()

    def loss(self, outputs: list[Output], labels: list[Tensor], clock: Clock) -> dict[str, Tensor]:
        parts = super().loss(outputs, labels, clock)
        if self.groups is None:
            return parts
        orthogonality = self.orthogonality()
        total = parts["loss"] + self.config.orthogonality * orthogonality
        return {"loss": total, "gcl": parts["loss"], "orthogonality": orthogonality}

    @classmethod
    def small(cls) -> dict[str, Any]:
        return {"prompts": 2, "groups": 3, "group_prompts": 2}
