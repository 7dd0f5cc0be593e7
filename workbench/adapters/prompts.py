"""Prompts: learnable tokens beside those of the image.

Jia et al., "Visual Prompt Tuning", ECCV 2022, arXiv 2203.12119.

They are appended behind the patches; attention does not know order, so the papers' other places compute the same.
"""

from __future__ import annotations

import math

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
