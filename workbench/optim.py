"""Learning-rate schedules that the papers' codes use and torch does not have under one name, and GNM's neighbours.

`learning_rate("cosine", lr=0.01, epoch=3, epochs=10)` is the rate used during epoch 3 (0-based). Calling a scheduler
one line earlier or later shifts the whole curve, so the placements of `scheduler.step()` in the authors' loops are
schedules of their own here. Epochs may be fractional, or iterations throughout.
Checked against the executed schedulers of the codes named below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

Schedule = Callable[[float, float, float, float, float], float]  # lr, epoch, epochs, warmup_epochs, warmup_lr -> lr


def learning_rate(
    schedule: str,
    *,
    lr: float,
    epoch: float,
    epochs: float,
    warmup_epochs: float = 0,
    warmup_lr: float = 1e-6,
) -> float:
    """Learning rate of one epoch.

    Args:
        schedule: a name in SCHEDULES.
        lr: the peak rate, after any scaling by batch size.
        epoch: 0-based, below `epochs`.
        epochs: length of the stage, the warm-up included.
        warmup_epochs: 0 for none; refused by schedules without a warm-up.
        warmup_lr: the rate at epoch 0 (timm_cosine, timm_cosine_lag), or the smallest rate of the warm-up
            (cosine_from_warmup); unused by the others.
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule={schedule!r} is not known; choose one of {', '.join(SCHEDULES)}.")
    if not 0 <= epoch < epochs:
        raise ValueError(f"epoch={epoch} is outside this stage of {epochs} epochs; epochs count from 0.")
    if not 0 <= warmup_epochs <= epochs:
        raise ValueError(f"warmup_epochs={warmup_epochs} is not between 0 and epochs={epochs}; shorten it too.")
    if warmup_epochs and schedule not in WITH_WARMUP:
        raise ValueError(f"schedule={schedule!r} has no warm-up; choose one of {', '.join(WITH_WARMUP)}.")
    return SCHEDULES[schedule](lr, epoch, epochs, warmup_epochs, warmup_lr)


def constant(lr: float, epoch: float, epochs: float, warmup_epochs: float, warmup_lr: float) -> float:
    """The same rate in every epoch."""
    return lr


def cosine(lr: float, epoch: float, epochs: float, warmup_epochs: float, warmup_lr: float) -> float:
    """½ lr (1 + cos πe/E): CosineAnnealingLR stepped after each epoch (LIFT)."""
    return _half_cosine(lr, epoch / epochs)


def cosine_lag(lr: float, epoch: float, epochs: float, warmup_epochs: float, warmup_lr: float) -> float:
    """The cosine one epoch late, epochs 0 and 1 at lr: `scheduler.step(epoch)` after each epoch (GNM-PT)."""
    return _half_cosine(lr, max(epoch - 1, 0) / epochs)


def cosine_ahead(lr: float, epoch: float, epochs: float, warmup_epochs: float, warmup_lr: float) -> float:
    """The cosine one epoch early: stepped before each epoch (BALLAD), so the last epoch trains at rate 0."""
    return _half_cosine(lr, min((epoch + 1) / epochs, 1.0))


def cosine_warmup(lr: float, epoch: float, epochs: float, warmup_epochs: float, warmup_lr: float) -> float:
    """Linear from 0 (epoch 0 at rate 0), then a cosine over the remaining epochs (VPT; AdaptFormer by iteration)."""
    if epoch < warmup_epochs:
        return lr * epoch / warmup_epochs
    return _half_cosine(lr, (epoch - warmup_epochs) / (epochs - warmup_epochs))


def cosine_from_warmup(lr: float, epoch: float, epochs: float, warmup_epochs: float, warmup_lr: float) -> float:
    """Linear from 0 but at least `warmup_lr`, then a cosine of full length E that begins after the warm-up.

    It never reaches 0: the rate ends at ½ lr (1 + cos π(E-W)/E). Cross-modal adaptation, by iteration.
    """
    if epoch < warmup_epochs:
        return max(warmup_lr, lr * epoch / warmup_epochs)
    return _half_cosine(lr, (epoch - warmup_epochs) / epochs)


def timm_cosine(lr: float, epoch: float, epochs: float, warmup_epochs: float, warmup_lr: float) -> float:
    """Linear from `warmup_lr`, then the cosine as if there had been no warm-up: timm's, `step(epoch + 1)` (LPT)."""
    if epoch < warmup_epochs:
        return warmup_lr + epoch * (lr - warmup_lr) / warmup_epochs
    return _half_cosine(lr, epoch / epochs)


def timm_cosine_lag(lr: float, epoch: float, epochs: float, warmup_epochs: float, warmup_lr: float) -> float:
    """`timm_cosine` one epoch late, epochs 0 and 1 at `warmup_lr`: `step(epoch)` after each epoch (vpt_reproduce)."""
    return timm_cosine(lr, max(epoch - 1, 0), epochs, warmup_epochs, warmup_lr)


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "cosine": cosine,
    "cosine_lag": cosine_lag,
    "cosine_ahead": cosine_ahead,
    "cosine_warmup": cosine_warmup,
    "cosine_from_warmup": cosine_from_warmup,
    "timm_cosine": timm_cosine,
    "timm_cosine_lag": timm_cosine_lag,
}
WITH_WARMUP = ("cosine_warmup", "cosine_from_warmup", "timm_cosine", "timm_cosine_lag")


def _half_cosine(lr: float, progress: float) -> float:
    return 0.5 * lr * (1.0 + math.cos(math.pi * progress))


def gnm_factor(epoch: int, reweight_epoch: int) -> float:
    """Factor on GNM's radius, 0.5^floor((epoch - 1) / reweight_epoch): 2 in epoch 0, then 1, later halved.

    reweight_epoch: the last epoch before deferred re-weighting, at least 1 (GNM-PT: 59). The authors' default of -1,
    for training without it, makes the factor 2^(epoch - 1), which explodes; it is refused.
    """
    if reweight_epoch < 1:
        raise ValueError(f"reweight_epoch={reweight_epoch} must be at least 1.")
    return float(0.5 ** ((epoch - 1) // reweight_epoch))


@contextmanager
def neighbourhood(parameters: Iterable[Tensor], radius: float) -> Iterator[None]:
    """Gaussian neighbourhood minimisation: inside, every parameter is p + radius xi; afterwards p again, bit for bit.

    xi is N(0, 1/3) clamped to [-1, 1], elementwise, from the default generator of the parameter's device. The step that
    follows applies the neighbour's gradient to p; weight decay sees p. GNM-PT's code (Keke921/GNM-PT, Li et al., 2024),
    where the radius is rho 0.05 times 0.1 times `gnm_factor`. radius 0 changes nothing.
    """
    if radius == 0:
        yield
        return
    moved = list(parameters)
    with torch.no_grad():
        kept = [parameter.clone() for parameter in moved]
        for parameter in moved:
            parameter.add_(torch.randn_like(parameter).div_(3).clamp_(-1, 1), alpha=radius)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, own in zip(moved, kept, strict=True):
                parameter.copy_(own)
