"""Weights on the straight line between a module as it started and as it was tuned (WiSE-FT)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Interpolation(nn.Module):
    """(1 - alpha) · start + alpha · tuned: what a module reads in place of its parameter, which is `tuned`.

    alpha 1, as it is built, is the parameter itself and 0 the start, both exactly.
    """

    start: Tensor

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.register_buffer("start", start.detach().clone())
        self.alpha = 1.0

    def forward(self, tuned: Tensor) -> Tensor:
        return tuned if self.alpha == 1 else self.start.lerp(tuned, self.alpha)


def interpolate(module: nn.Module) -> None:
    """Put every parameter in `module` on a line that starts at its present value.

    It is changed in place: a parameter `weight` is named `parametrizations.weight.original` from then on, its start
    `parametrizations.weight.0.start`, and `.weight` reads the point of the line, wherever it is asked for.
    """
    for part in list(module.modules()):
        kind = type(part).__name__
        for name, parameter in list(part.named_parameters(recurse=False)):
            parametrize.register_parametrization(part, name, Interpolation(parameter))
        type(part).__name__ = kind  # registering gives each module a class of its own, called Parametrized...


@torch.no_grad()
def restart(module: nn.Module, name: str, value: Tensor) -> None:
    """Start the line of `module`'s parameter `name` at `value`, and the parameter with it."""
    line: parametrize.ParametrizationList = module.get_submodule(f"parametrizations.{name}")  # type: ignore[assignment]
    for tensor in (line.get_parameter("original"), line.get_buffer("0.start")):
        tensor.copy_(value)


def move_to(module: nn.Module, alpha: float) -> None:
    """Let everything in `module` that lies on such a line be read at `alpha`."""
    for part in module.modules():
        if isinstance(part, Interpolation):
            part.alpha = alpha
