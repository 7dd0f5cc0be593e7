"""A head alone, trained on cached features in about a second, and how hard each training image pulls at its scores.

Features of a frozen backbone do not change, so a last layer with another loss needs no image: decoupled training, Kang
et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020, arXiv 1910.09217. The pull of
an image is the gradient with respect to its logits, after Tan et al., "Equalization Loss v2", CVPR 2021, arXiv
2012.08548, and is p - y for cross-entropy. Steps, batch and learning rate are ours: AdamW, lr falling as a half cosine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.heads import CosineHead, Head, create_head
from workbench.losses import COSINE_LOSSES, LOSSES
from workbench.metrics import GROUPS
from workbench.optim import learning_rate

CLOUDED = ("gcl", "asymmetric_gcl")  # losses that draw noise


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedHead:
    """A trained head and how it came about."""

    head: Head  # on the CPU, in eval mode
    logits: np.ndarray  # (N, C) float32 of the training features
    losses: np.ndarray  # (steps,) float32, of each step's batch

    def predict(self, vectors: np.ndarray) -> np.ndarray:
        """Class index of each feature: (N, D) float -> (N,) int64."""
        return _logits(self.head, vectors).argmax(1)


def fit_head(
    vectors: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    loss: str = "cross_entropy",
    options: Mapping[str, Any] | None = None,
    head: str = "cosine",
    scale: float = 25.0,
    steps: int = 300,
    batch_size: int = 256,
    lr: float = 0.05,
    weight_decay: float = 1e-4,
    seed: int = 0,
    on_step: Callable[[int, int], None] | None = None,
) -> FittedHead:
    """Train a head of `workbench.heads` on features, from random rows; the same arguments give the same head.

    Training counts are those of the labels. Batches go through a new order of all images each time it is used up.

    Args:
        vectors: (N, D) float, of the training split.
        labels: (N,) int64.
        loss: a name of `losses.LOSSES`, or of `losses.COSINE_LOSSES`, which need the cosine head and take its scale.
        options: of the loss, such as {"tau": 1.0}.
        head: a name of `heads.HEADS`; `scale` is that of the cosine head.
        on_step: called with (steps done, steps); what it raises ends the training.

    Raises:
        ValueError: arrays that do not fit, an unknown loss or head, a loss that the head or the counts cannot serve.
    """
    x, y = _checked(vectors, labels, num_classes)
    if steps < 1 or batch_size < 1:
        raise ValueError(f"steps={steps} and batch_size={batch_size} must be whole numbers from 1 on.")
    generator = torch.Generator().manual_seed(seed)
    built = create_head(head, x.shape[1], num_classes, scale=scale, generator=generator)
    objective = _objective(loss, options or {}, y, num_classes, generator)
    optimiser = torch.optim.AdamW(built.parameters(), lr=lr, weight_decay=weight_decay)
    history = np.empty(steps, dtype=np.float32)
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        if len(order) < min(batch_size, len(y)):
            order = torch.randperm(len(y), generator=generator)
        rows, order = order[:batch_size], order[batch_size:]
        for group in optimiser.param_groups:
            group["lr"] = learning_rate("cosine", lr=lr, epoch=step, epochs=steps)
        logits, cosine = built(x[rows])
        value = objective(built, logits, cosine, y[rows])
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        history[step] = value.detach()
        if on_step is not None:
            on_step(step + 1, steps)
    if not np.isfinite(history).all():
        raise ValueError(
            f"the loss {loss!r} was no longer finite after {int(np.isfinite(history).argmin())} of {steps} steps; "
            f"take a smaller lr than {lr:g}, or milder options than {dict(options or {})}."
        )
    built.eval()
    return FittedHead(head=built, logits=_logits(built, vectors), losses=history)


def logit_gradients(
    head: Head,
    vectors: np.ndarray,
    labels: np.ndarray,
    *,
    loss: str = "cross_entropy",
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Gradient of the loss, a mean over these images, with respect to each image's logits: (N, C) float32.

    Of cross-entropy it is (p - y) / N. Losses on cosines are differentiated by the logits too, which are s times them.

    Args:
        seed: of GCL's noise.
    """
    x, y = _checked(vectors, labels, head.num_classes)
    objective = _objective(loss, options or {}, y, head.num_classes, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        logits, cosine = head(x)
    outputs = cosine if loss in COSINE_LOSSES else logits
    if outputs is not None:
        outputs.requires_grad_(True)
    (gradient,) = torch.autograd.grad(objective(head, logits, cosine, y), [outputs])
    factor = 1 / head.scale if loss in COSINE_LOSSES and isinstance(head, CosineHead) else 1.0
    return (factor * gradient).numpy()


def gradient_shares(gradients: np.ndarray, group_of: np.ndarray) -> dict[str, float]:
    """Share in [0, 1] of the summed lengths of gradients (N, C) that each group's images have; group_of: (N,) str.

    nan for all where no image pulls at all.
    """
    lengths = np.linalg.norm(np.asarray(gradients, dtype=np.float64), axis=1)
    total = float(lengths.sum())
    return {g: float(lengths[group_of == g].sum()) / total if total > 0 else math.nan for g in GROUPS}


def _objective(
    name: str, options: Mapping[str, Any], labels: Tensor, num_classes: int, generator: torch.Generator
) -> Callable[[Head, Tensor, Tensor | None, Tensor], Tensor]:
    """The loss as a function of head, logits, cosine and labels of a batch; counts are those of all labels."""
    counts = torch.bincount(labels, minlength=num_classes)
    given = dict(options) | ({"generator": generator} if name in CLOUDED else {})

    def of(head: Head, logits: Tensor, cosine: Tensor | None, target: Tensor) -> Tensor:
        if name in LOSSES:
            return LOSSES[name](logits, target, counts, **given)
        scale = head.scale if isinstance(head, CosineHead) else 1.0  # without cosines the loss refuses
        return COSINE_LOSSES[name](cosine, target, counts, scale=scale, **given)

    if name not in LOSSES and name not in COSINE_LOSSES:
        raise ValueError(f"loss={name!r} is not known; choose one of {', '.join([*LOSSES, *COSINE_LOSSES])}.")
    return of


def _checked(vectors: np.ndarray, labels: np.ndarray | Sequence[int], num_classes: int) -> tuple[Tensor, Tensor]:
    """Copies as tensors, (N, D) float32 and (N,) int64: arrays of features are read-only, which torch warns of."""
    x = np.array(vectors, dtype=np.float32)
    y = np.array(labels, dtype=np.int64)
    if x.ndim != 2 or y.shape != x.shape[:1] or not len(y):
        raise ValueError(f"vectors {x.shape} and labels {y.shape} do not fit; expected (N, D) and (N,), N at least 1.")
    if not 0 <= y.min() <= y.max() < num_classes:
        raise ValueError(f"labels run from {y.min()} to {y.max()}, outside the classes 0 to {num_classes - 1}.")
    return torch.from_numpy(x), torch.from_numpy(y)


def _logits(head: Head, vectors: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return head(torch.from_numpy(np.array(vectors, dtype=np.float32)))[0].numpy()
