"""What a method makes of the same toys before other backgrounds: which those are, and the probabilities of classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from workbench.data import LongTailDataset
    from workbench.methods import Method


def own_and_others(
    dataset: LongTailDataset, rows: np.ndarray, pool: Sequence[str] | None, *, others: int, seed: int
) -> np.ndarray:
    """(N, 1 + others) str: of each row (N,) the own background, then different ones drawn from the pool.

    pool None: the backgrounds that occur in the data set. What a row is given depends on pool, seed and row alone.
    """
    own = [dataset.background(row) for row in range(len(dataset))]
    if any(own[row] is None for row in rows):
        raise ValueError(
            f"{dataset.manifest.name} has images without a background to exchange; use a data set that is rendered "
            "before one, toybox_lt or toybox_lt_backgrounds."
        )
    if pool is None:
        pool = sorted({name for name in own if name is not None})
    return np.array([[own[row], *_drawn(pool, str(own[row]), others, int(row), seed)] for row in rows])


def _drawn(pool: Sequence[str], own: str, others: int, row: int, seed: int) -> list[str]:
    left = [name for name in dict.fromkeys(pool) if name != own]
    if not 1 <= others <= len(left):
        raise ValueError(
            f"others={others}, but image {row} stands before {own} and {len(left)} of the backgrounds "
            f"{', '.join(pool)} are others; give fewer others (at least 1) or more backgrounds."
        )
    return [left[k] for k in np.random.default_rng((seed, row)).permutation(len(left))[:others]]


def probabilities(
    method: Method,
    dataset: LongTailDataset,
    rows: np.ndarray,
    table: np.ndarray,
    *,
    batch_size: int,
    on_step: Callable[[int, dict[str, float]], None] | None,
) -> np.ndarray:
    """(N, 1 + k, C) float32 of the rows (N,) of a data set before the backgrounds of a table (N, 1 + k), own first.

    Made as `extract` makes them: with the method's test transform and the mean of its views.
    """
    import torch

    preprocessing = method.test_preprocessing()
    if preprocessing.random:
        raise ValueError(
            f"{method.name} looks elsewhere each time ({preprocessing.name}), which changes decisions too; choose "
            "fixed views for it: centre, five or ten."
        )
    look = preprocessing.build()
    jobs = list(np.ndindex(table.shape))
    images_per_step = max(1, batch_size // preprocessing.views)
    was_training = method.training
    method.eval()
    parts: list[torch.Tensor] = []
    try:
        for step, start in enumerate(range(0, len(jobs), images_per_step)):
            batch = [
                look(dataset.image(int(rows[i]), background=str(table[i, j]) if j else None))
                for i, j in jobs[start : start + images_per_step]
            ]
            images = torch.stack(batch)  # (B, 3, H, W) or (B, V, 3, H, W)
            flat = images.flatten(0, 1) if images.ndim == 5 else images
            with torch.inference_mode():
                logits = method(flat.to(method.device)).logits.unflatten(0, (len(batch), -1))  # (B, V, C)
                parts.append(method.ensemble(logits).softmax(-1).float().cpu())
            if on_step is not None:
                on_step(step, {"done": start + len(batch), "total": len(jobs)})
    finally:
        method.train(was_training)
    return torch.cat(parts).unflatten(0, table.shape).numpy()
