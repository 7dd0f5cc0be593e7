"""What the loop tells a method and the optimiser at each step: stage, deferred weights, GNM's radius."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import workbench as wb
from workbench.methods import Clock
from workbench.methods.gnm_pt import GNMPT
from workbench.optim import gnm_factor
from workbench.training import loop


def test_every_step_has_its_stage_its_radius_and_its_class_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    radii: list[float] = []
    clocks: list[Clock] = []
    given, loss = loop.neighbourhood, GNMPT.loss

    @contextmanager
    def neighbourhood(parameters: Iterable[Tensor], radius: float) -> Iterator[None]:
        radii.append(radius)
        with given(parameters, radius):
            yield

    def told(self: GNMPT, outputs: Any, labels: Any, clock: Clock) -> Any:
        assert self.clock is clock
        clocks.append(clock)
        return loss(self, outputs, labels, clock)

    monkeypatch.setattr(loop, "neighbourhood", neighbourhood)
    monkeypatch.setattr(GNMPT, "loss", told)
    manifest = wb.Manifest.load("digits_lt")
    train = wb.LongTailDataset(manifest, "train", per_class=2)
    backbone = wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=32)
    method = wb.create_method("gnm_pt", backbone, manifest.classes, prompts=1)
    (stage,) = method.stages(manifest)
    stage = replace(stage.shortened(4), name="only", batch_size=20, drw=0.5)  # one step per epoch
    wb.fit(method, train, None, out=tmp_path / "run", stages=[stage])
    assert [clock.stage for clock in clocks] == ["only"] * 4
    assert [clock.reweighted for clock in clocks] == [False, False, True, True]
    assert radii == [pytest.approx(0.005 * gnm_factor(epoch, 1)) for epoch in range(4)]
