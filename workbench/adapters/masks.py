"""Which of a tower's own parameters train: the last k blocks.

As LIFT's full fine-tuning does it (Shi et al., ICML 2024, arXiv 2309.10019; authors' code shijxcs/LIFT @ 661ead9): the
embeddings and the final norm stay frozen even when k is the depth.
"""

from __future__ import annotations

from typing import Any


def last_blocks(backbone: Any, count: int) -> tuple[str, ...]:
    """Parameter-name prefixes of the last `count` blocks, as a method names them: "backbone.model.blocks.11."."""
    depth = len(backbone.blocks)
    if not 1 <= count <= depth:
        raise ValueError(f"blocks={count}, but {backbone.name} has {depth}; give 1 to {depth}.")
    return tuple(f"backbone.model.blocks.{i}." for i in range(depth - count, depth))
