"""Prompts: learnable tokens beside those of the image.

Jia et al., "Visual Prompt Tuning", ECCV 2022, arXiv 2203.12119.

They are appended behind the patches; attention does not know order, so the papers' other places compute the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def draw_prompts(count: int, width: int, patch_size: int, *, generator: torch.Generator) -> nn.Parameter:
    """(count, D) uniform in +-sqrt(6 / (3 p^2 + D)), the Xavier bound of a patch embedding (VPT, LIFT)."""
    bound = math.sqrt(6 / (3 * patch_size**2 + width))
    return nn.Parameter(torch.empty(count, width).uniform_(-bound, bound, generator=generator))


def draw_normal(*shape: int, generator: torch.Generator) -> nn.Parameter:
    """Prompts or keys from a normal of std 0.02, cut at +-2: LPT, GNM-PT and, our choice, LT-DPT."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(*shape), std=0.02, generator=generator))


def with_prompts(tokens: Tensor, prompts: Tensor, image_tokens: int) -> Tensor:
    """tokens (B, T, D), of which the first `image_tokens` are the image's, and prompts (p, D) -> (B, P+N+p, D).

    What stood behind the image's tokens, the outputs of earlier prompts, is dropped: VPT-deep. Inserted once and
    never again it is VPT-shallow.
    """
    return torch.cat([tokens[:, :image_tokens], prompts.expand(len(tokens), -1, -1)], dim=1)


class PromptPool:
    """What methods share whose images pick prompts: the choice, and prompts that are switched off for a while.

    Such a method has `keys` (m, D), or (layers, m, D) where images pick in several blocks, from prompts of each block's
    own; None where its options leave it without a pool. `config.top_k` prompts are picked.
    """

    keys: nn.Parameter | None
    config: Any
    first: int  # block before which the first picked prompts stand
    alone: tuple[int | None, int] | None = None  # (layer or all, prompt) that every image gets; no part of `state`
    switched_off: frozenset[tuple[int, int]] = frozenset()  # (layer, prompt); no part of `state`

    @property
    def pool_size(self) -> tuple[int, int]:
        """Layers in which images pick, and prompts m of each."""
        if self.keys is None:
            raise ValueError("this method picks no prompts: its options leave it without a pool of them.")
        return (1 if self.keys.ndim == 2 else len(self.keys)), self.keys.shape[-2]

    @property
    def picked(self) -> int:
        """Tokens that the prompts which an image picks become, behind all others."""
        raise NotImplementedError

    def choose(self, similarity: Tensor, layer: int = 0) -> tuple[Tensor, Tensor]:
        """similarity (B, m) to the keys -> the k highest and their prompts, (B, k) each, nearest first."""
        if self.alone is not None and self.alone[0] in (None, layer):
            index = torch.full((len(similarity), 1), self.alone[1], device=similarity.device)
            index = index.expand(-1, self.config.top_k)  # k times the same: any mean or weighted sum is this prompt
            return similarity.gather(1, index), index
        off = sorted(prompt for at, prompt in self.switched_off if at == layer)
        if off:
            similarity = similarity.index_fill(1, torch.tensor(off, device=similarity.device), -math.inf)
        best = similarity.topk(self.config.top_k, dim=1)
        return best.values, best.indices

    @contextmanager
    def without_prompt(self, *prompts: int, layer: int | None = None) -> Iterator[None]:
        """These prompts cannot be picked while the context lasts; the next nearest take their place.

        layer: where, counted from 0 among the blocks in which images pick; None: in each of them.

        Raises:
            ValueError: prompts or layers that are not there, or too few prompts left.
        """
        layers, m = self.pool_size
        wrong = [prompt for prompt in prompts if not 0 <= prompt < m]
        if wrong or (layer is not None and not -layers <= layer < layers):
            raise ValueError(
                f"prompts {list(prompts)} in layer {layer}: there are prompts 0 to {m - 1} in layers 0 to {layers - 1}."
            )
        where = range(layers) if layer is None else [layer % layers]
        off = self.switched_off | {(at, prompt) for at in where for prompt in prompts}
        left = min(m - sum(at == each for at, _ in off) for each in where)
        if self.config.top_k > left:
            raise ValueError(
                f"{left} of {m} prompts would be left and each image picks top_k={self.config.top_k}; switch fewer off."
            )
        before, self.switched_off = self.switched_off, off
        try:
            yield
        finally:
            self.switched_off = before

    @contextmanager
    def only_prompt(self, prompt: int, *, layer: int | None = None) -> Iterator[None]:
        """Every image gets this prompt alone while the context lasts, whatever it would pick.

        layer: as in `without_prompt`.

        Raises:
            ValueError: a prompt or a layer that is not there.
        """
        layers, m = self.pool_size
        if not 0 <= prompt < m or (layer is not None and not -layers <= layer < layers):
            raise ValueError(
                f"prompt {prompt} in layer {layer}: there are prompts 0 to {m - 1} in layers 0 to {layers - 1}."
            )
        before, self.alone = self.alone, (None if layer is None else layer % layers, prompt)
        try:
            yield
        finally:
            self.alone = before
