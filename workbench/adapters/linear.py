"""What changes the linear maps of a tower: LoRA on queries and values, SSF (scale and shift) after a layer.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, arXiv 2106.09685; Lian et al., "Scaling &
Shifting Your Features: A New Baseline for Efficient Model Tuning", NeurIPS 2022, arXiv 2210.08823. Initialisation,
places and scales are those of LIFT's code (Shi et al., ICML 2024, arXiv 2309.10019; shijxcs/LIFT @ 661ead9).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LoRA(nn.Module):
    """q and v of a fused projection plus (alpha / r) x A B; k as it is. Equal to the projection at initialisation.

    Args:
        base: (D -> 3D), the rows in the order q, k, v, as timm's `attn.qkv`.
        rank: r. Parameters: 4 r D.
        alpha: LIFT's code has 1, that is a factor 1/r; LoRA's paper suggests alpha = r and more.
        generator: draws A, uniform in +-1/sqrt(r) (the code initialises the transposed matrix, so that r is its
            fan-in). B starts at 0.
    """

    A_q: nn.Parameter  # (D, r)
    B_q: nn.Parameter  # (r, D)
    A_v: nn.Parameter
    B_v: nn.Parameter

    def __init__(self, base: nn.Module, width: int, rank: int, *, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"bottleneck={rank} must be at least 1.")
        self.base = base
        self.factor = alpha / rank
        for name in ("q", "v"):
            bound = rank**-0.5
            self.register_parameter(
                f"A_{name}", nn.Parameter(torch.empty(width, rank).uniform_(-bound, bound, generator=generator))
            )
            self.register_parameter(f"B_{name}", nn.Parameter(torch.zeros(rank, width)))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, T, D), after the norm of the block -> (B, T, 3D)."""
        q, v = x @ self.A_q @ self.B_q, x @ self.A_v @ self.B_v
        out: Tensor = self.base(x) + self.factor * torch.cat([q, torch.zeros_like(q), v], dim=-1)
        return out


class ScaleShift(nn.Module):
    """SSF: x * scale + shift per channel of the last axis, from N(1, 0.02) and N(0, 0.02). Parameters: 2 D."""

    def __init__(self, width: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(width).normal_(1.0, 0.02, generator=generator))
        self.shift = nn.Parameter(torch.empty(width).normal_(0.0, 0.02, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift
