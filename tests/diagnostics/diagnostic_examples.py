"""One small example of every diagnostic, for the tests that hold for all of them; a new diagnostic adds a line here."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import nn

from workbench.diagnostics import accuracy, changes, cost, intra_class, knn, separability
from workbench.diagnostics.base import Result
from workbench.features import Features

Make = Callable[..., Features]


class Probe(nn.Module):
    """The least that cost() asks of a method."""

    tuned = ("head.",)

    def __init__(self) -> None:
        super().__init__()
        self.tower, self.head = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 5)
        self.backbone = SimpleNamespace(input_size=16, name="tiny")
        self.device = torch.device("cpu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.tower(images).mean(dim=(2, 3)))


EXAMPLES: dict[str, Callable[[Make], Result]] = {
    "changes": lambda make: changes.changes(make(0), make(1), names=("linear probe", "LIFT")),
    "cost": lambda make: cost.cost(Probe()),
    "group_report": lambda make: accuracy.group_report(
        [make(0), make(1)], compare=[make(2), make(3)], names=("LIFT", "full fine-tuning")
    ),
    "intra_class_distances": lambda make: intra_class.intra_class_distances(
        make(0, split="train", images=(60,) * 6 + (20, 10, 5, 4, 2, 1)), make(1)
    ),
    "knn_accuracy": lambda make: knn.knn_accuracy(
        make(0, split="train", images=(40,) * 6 + (5,) * 6), make(1), k=(1, 5, 20)
    ),
    "separability": lambda make: separability.separability(make(0)),
}
