"""Which of a tower's own parameters train: last blocks, biases, norms, or arbitrary entries of every weight matrix.

As LIFT's code does it (Shi et al., ICML 2024, arXiv 2309.10019; shijxcs/LIFT @ 661ead9). Biases: BitFit, Zaken et al.,
ACL 2022, arXiv 2106.10199.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def block_range(backbone: Any, blocks: int | tuple[int, int] | None) -> range:
    """Indices of the blocks meant: None all, k the last k, (a, b) those from a to b - 1. ValueError if impossible."""
    depth = len(backbone.blocks)
    first, end = (depth - blocks, depth) if isinstance(blocks, int) else blocks or (0, depth)
    if not 0 <= first < end <= depth:
        raise ValueError(
            f"blocks={blocks}, but {backbone.name} has {depth}; give 1 to {depth}, or a pair [first, end] within them."
        )
    return range(first, end)


def last_blocks(backbone: Any, count: int) -> tuple[str, ...]:
    """Parameter-name prefixes of the last `count` blocks, as a method names them: "backbone.model.blocks.11.".

    The embeddings and the final norm stay frozen even when `count` is the depth.
    """
    return tuple(f"backbone.model.blocks.{i}." for i in block_range(backbone, count))


def biases(backbone: Any, blocks: range | None) -> tuple[str, ...]:
    """Names of all biases inside these blocks, those of the norms included; blocks None: of the whole tower."""
    return tuple(name for name in _names(backbone, blocks) if name.endswith(".bias"))


def norms(backbone: Any, blocks: range) -> tuple[str, ...]:
    """Names of the weights and biases of both LayerNorms of these blocks."""
    names = (name for name in _names(backbone, blocks) if ".norm1." in name or ".norm2." in name)
    return tuple(name for name in names if name.endswith((".weight", ".bias")))


def _names(backbone: Any, blocks: range | None) -> list[str]:
    starts = ("",) if blocks is None else tuple(f"blocks.{i}." for i in blocks)
    return [f"backbone.model.{name}" for name, _ in backbone.model.named_parameters() if name.startswith(starts)]


class MaskedLinear(nn.Module):
    """A linear map of which only arbitrary entries train: X (W o M) + X (W o (1 - M)) with the second part detached.

    Lightweight fine-tuning with a random mask M, |M|_0 = int(alpha |W|), LIFT sec. 4.1 and eq. 4. The bias counts as
    one more column of W, as in the authors' code; theirs keeps the mask out of the checkpoint, here it is part of it.

    Args:
        base: stays frozen; the entries start at its values.
        proportion: alpha in (0, 1].
        generator: on the CPU; draws one permutation of all entries per matrix, so masks depend on the order of calls.
    """

    weight_index: Tensor
    bias_index: Tensor

    def __init__(self, base: nn.Linear, proportion: float, *, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        rows, columns = base.weight.shape[0], base.weight.shape[1] + 1
        with torch.device("cpu"):
            chosen = torch.randperm(rows * columns, generator=generator)[: int(proportion * rows * columns)]
        chosen = chosen.sort().values
        row, column = chosen // columns, chosen % columns
        is_bias = column == columns - 1
        index = (row * (columns - 1) + column)[~is_bias]
        for name, found in (("weight", index), ("bias", row[is_bias])):
            values = getattr(base, name).detach()
            on_device = found.to(values.device)
            self.register_buffer(f"{name}_index", on_device.int())  # into the flattened tensor
            picked = values.flatten()[on_device] if not values.is_meta else values.new_empty(len(found))
            self.register_parameter(f"{name}_entries", nn.Parameter(picked))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self._merged("weight"), self._merged("bias"))

    def _merged(self, name: str) -> Tensor:
        values, index = getattr(self.base, name), getattr(self, f"{name}_index")
        return values.flatten().scatter(0, index.long(), getattr(self, f"{name}_entries")).view_as(values)
