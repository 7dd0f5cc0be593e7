"""Residual adapters: bottlenecks in a block (AdaptFormer, Adapter) as LIFT uses them, and BALLAD's on a feature.

Chen et al., "AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition", NeurIPS 2022, arXiv
2205.13535; Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019, arXiv 1902.00751. The form with
a LayerNorm of its own is that of Shi et al., "Long-Tail Learning with Foundation Model: Heavy Fine-Tuning Hurts", ICML
2024, arXiv 2309.10019, authors' code shijxcs/LIFT @ 661ead9.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """Up(ReLU(Down(LN(x)))). Exactly zero at initialisation, so the tower starts as the frozen one, bit for bit.

    Args:
        width: D.
        bottleneck: r. Parameters: (2r + 3) D + r.
        generator: draws the initial weights.
    """

    def __init__(self, width: int, bottleneck: int, *, generator: torch.Generator) -> None:
        super().__init__()
        if bottleneck < 1:
            raise ValueError(f"bottleneck={bottleneck} must be at least 1.")
        self.ln = nn.LayerNorm(width, eps=1e-5)
        # skip_init: nn.Linear's own initialisation would draw from the global random state
        self.down_proj = nn.utils.skip_init(nn.Linear, width, bottleneck)
        self.up_proj = nn.utils.skip_init(nn.Linear, bottleneck, width)
        nn.init.kaiming_normal_(self.down_proj.weight, a=math.sqrt(5), generator=generator)
        for tensor in (self.down_proj.bias, self.up_proj.weight, self.up_proj.bias):
            nn.init.zeros_(tensor)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, T, D) -> (B, T, D), the branch without the residual."""
        branch: Tensor = self.up_proj(self.down_proj(self.ln(x)).relu())
        return branch


class Adapter(Bottleneck):
    """A bottleneck that reads the output of the MLP and is added to it, before the residual (LIFT's code)."""


class AdaptFormer(Bottleneck):
    """s times a bottleneck that reads what the MLP reads (before its norm) and is added to the MLP's output.

    s starts at 1 and is learned. Parameters: (2r + 3) D + r + 1.
    """

    def __init__(self, width: int, bottleneck: int, *, generator: torch.Generator) -> None:
        super().__init__(width, bottleneck, generator=generator)
        self.scale = nn.Parameter(torch.ones(1))  # s

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * super().forward(x)


class OriginalAdaptFormer(nn.Module):
    """AdaptFormer as first published: no LayerNorm of its own, a fixed scale of 0.1, kaiming_uniform_ initialisation.

    Placed as LIFT's. The authors train with dropout 0.1 inside the bottleneck, which is left out here: a method's tower
    stays in eval mode. Parameters: (2r + 1) D + r.
    """

    def __init__(self, width: int, bottleneck: int, *, generator: torch.Generator, scale: float = 0.1) -> None:
        super().__init__()
        self.down_proj = nn.utils.skip_init(nn.Linear, width, bottleneck)
        self.up_proj = nn.utils.skip_init(nn.Linear, bottleneck, width)
        self.factor = scale
        nn.init.kaiming_uniform_(self.down_proj.weight, a=math.sqrt(5), generator=generator)
        for tensor in (self.down_proj.bias, self.up_proj.weight, self.up_proj.bias):
            nn.init.zeros_(tensor)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, T, D) -> (B, T, D), the branch without the residual."""
        branch: Tensor = self.factor * self.up_proj(self.down_proj(x).relu())
        return branch


def bottleneck_width(num_classes: int, num_blocks: int, *, rounding: Literal["floor", "ceil"] = "floor") -> int:
    """r = 2^max(0, floor(log2(C / 2L))): all adapters together stay smaller than a classifier (LIFT App. D, code)."""
    exponent = getattr(math, rounding)(math.log2(num_classes / (2 * num_blocks)))
    return int(2 ** max(0, exponent))


class ResidualLinear(nn.Module):
    """residual · W x + (1 - residual) · x: BALLAD's adapter (Ma et al., arXiv 2111.14745; code @ 189603c, train.py).

    Args:
        width: E, of x, a projected feature.
        residual: lambda in [0, 1].
        printed: residual · ReLU(W x + b) + (1 - residual) · x, as eq. 5 prints it.
        generator: draws W and b, uniform in +-1/sqrt(E) as torch's linear layer does. Parameters: E^2, with b E more.
    """

    def __init__(self, width: int, residual: float, *, printed: bool = False, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = nn.utils.skip_init(nn.Linear, width, width, bias=printed)
        self.residual = residual
        self.printed = printed
        for parameter in self.linear.parameters():
            nn.init.uniform_(parameter, -(width**-0.5), width**-0.5, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., E), not normalised -> (..., E)."""
        adapted: Tensor = self.linear(x)
        if self.printed:
            adapted = adapted.relu()
        return self.residual * adapted + (1 - self.residual) * x
