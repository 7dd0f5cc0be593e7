"""How a method is trained: the stages of a recipe, and where training stands in one of them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from workbench.optim import SCHEDULES


@dataclass(frozen=True)
class Clock:
    """Where training stands in its stage: `step` of `steps`, in `epoch` of `epochs`, all 0-based integers."""

    epoch: int
    epochs: int
    step: int
    steps: int
    stage: str = "train"  # its name
    reweighted: bool = False  # whether deferred class weights act (`Stage.drw`)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stretch of training with one optimiser. Vary it with `dataclasses.replace` or `shortened`."""

    name: str = "train"
    epochs: int
    batch_size: int  # images per optimiser step and sampler
    micro_batch_size: int | None = None  # images per forward pass; gradients accumulate to batch_size
    samplers: tuple[str, ...] = ("shuffle",)  # one loader each; names of data.sampling.SAMPLERS
    trainable: tuple[str, ...]  # parameter-name prefixes of the method; everything else is frozen
    optimiser: Literal["sgd", "adamw"] = "sgd"
    lr: float  # the lr of the first epoch after warm-up, not rescaled by the batch size
    momentum: float = 0.9  # SGD only
    lr_factors: tuple[tuple[str, float], ...] = ()  # (prefix, factor): parameters whose names start so take lr * factor
    weight_decay: float = 0.0
    schedule: str = "cosine"  # name of optim.SCHEDULES
    warmup_epochs: int = 0
    warmup_lr: float = 0.0  # lr of epoch 0 when there is a warm-up
    drw: float = 0.0  # share of the last epochs with deferred class weights, which the method's loss applies
    gnm_radius: float = 0.0  # of the Gaussian neighbour at which each step takes its gradient (optim.neighbourhood)
    mixup: float = 0.0  # alpha of Beta(alpha, alpha); 0 is off
    precision: Literal["fp32", "amp"] = "fp32"  # amp: autocast on CUDA (bf16, or fp16 with loss scaling), fp32 on a CPU
    cached: bool = False  # encode the training images once with the test transform, then train on those features
    select: Literal["last", "best"] = "last"  # best: the epoch of best mean class accuracy on val, where there is a val
    source: str  # where these numbers come from

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"Stage {self.name!r}: {name}={getattr(self, name)} must be at least 1.")
        if self.micro_batch_size is not None and not 1 <= self.micro_batch_size <= self.batch_size:
            raise ValueError(
                f"Stage {self.name!r}: micro_batch_size={self.micro_batch_size} must lie in 1..{self.batch_size}."
            )
        if not self.lr > 0 or min(self.weight_decay, self.mixup, self.gnm_radius) < 0 or not 0 <= self.drw < 1:
            raise ValueError(
                f"Stage {self.name!r}: lr={self.lr} must be positive, weight_decay={self.weight_decay}, mixup="
                f"{self.mixup} and gnm_radius={self.gnm_radius} not negative, and drw={self.drw} in [0, 1)."
            )
        if not 0 <= self.warmup_epochs < max(self.epochs, 1):
            raise ValueError(
                f"Stage {self.name!r}: warmup_epochs={self.warmup_epochs} must be fewer than epochs={self.epochs}."
            )
        for prefix, factor in self.lr_factors:
            if not factor > 0 or not prefix.startswith(self.trainable):
                raise ValueError(
                    f"Stage {self.name!r}: lr_factors has {factor} for {prefix!r}: factors are positive, and prefixes "
                    f"among what the stage trains ({', '.join(self.trainable)})."
                )
        choices: dict[str, tuple[str, ...]] = {
            "optimiser": ("sgd", "adamw"),
            "precision": ("fp32", "amp"),
            "select": ("last", "best"),
            "schedule": tuple(SCHEDULES),
        }
        for name, allowed in choices.items():
            check_choice(name, getattr(self, name), allowed)
        if self.cached and self.mixup:
            raise ValueError(f"Stage {self.name!r}: mixup mixes images, so it cannot run on cached features.")

    @property
    def reweighted_from(self) -> int:
        """First epoch with deferred class weights: the last ceil(drw * epochs) have them, the first never has."""
        return max(1, self.epochs - math.ceil(self.drw * self.epochs))

    def shortened(self, epochs: int) -> Stage:
        """The same recipe squeezed into fewer epochs: warm-up keeps its share, and `source` says what was done."""
        if epochs == self.epochs:
            return self
        warmup = min(round(self.warmup_epochs * epochs / self.epochs), epochs - 1)
        return replace(
            self,
            epochs=epochs,
            warmup_epochs=warmup,
            source=f"{self.source}; {epochs} epochs instead of {self.epochs}",
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Stage:
        factors = tuple((str(prefix), float(factor)) for prefix, factor in record.get("lr_factors", ()))
        lists = {name: tuple(record[name]) for name in ("samplers", "trainable")}
        return cls(**{**record, **lists, "lr_factors": factors})


def check_choice(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Raises ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is not known; choose one of {', '.join(map(str, allowed))}.")
