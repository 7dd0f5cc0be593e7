"""Learned scales: values by hand, blocks by name, seeds side by side, and of a run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from diagnostic_examples import Adapted

import workbench as wb
from workbench.diagnostics.adapter_scales import adapter_scales


def test_scales_and_strengths_of_every_block_by_hand() -> None:
    result = adapter_scales(Adapted(0))
    assert result.arms == ("adapted",) and result.blocks["adapted"].tolist() == list(range(1, 13))
    np.testing.assert_allclose(result.scales["adapted"], [1 + 0.1 * np.arange(12)], rtol=1e-6)
    norm = 0.25 * np.sqrt(8 * 2)  # of the up-projection, all entries 0.25
    np.testing.assert_allclose(result.strengths["adapted"], norm * result.scales["adapted"], rtol=1e-6)


def test_a_negative_scale_stays_negative_and_its_strength_is_positive() -> None:
    method = Adapted(0)
    with torch.no_grad():
        method.adapters["3"].scale.fill_(-2.0)
    result = adapter_scales(method)
    assert result.scales["adapted"][0, 3] == -2 and result.strengths["adapted"][0, 3] == 2
    assert "4: -2.00" in str(result)


def test_arms_may_tune_other_blocks_and_seeds_of_one_arm_may_not() -> None:
    result = adapter_scales({"all": [Adapted(0), Adapted(1)], "$last$": Adapted(0, blocks=(10, 11))})
    assert result.blocks["$last$"].tolist() == [11, 12] and result.scales["all"].shape == (2, 12)
    frame = result.to_frame()
    assert len(frame) == 26 and frame[frame["arm"] == "all"]["seed"].unique().tolist() == [0, 1]
    for view in result.views:
        result.plot(view=view).figure.canvas.draw()
    with pytest.raises(ValueError, match="adapters in different blocks"):
        adapter_scales([Adapted(0), Adapted(1, blocks=(10, 11))])


def test_a_run_gives_the_scales_of_its_method(store: Callable[[str], wb.Run]) -> None:
    run = store("lift")
    result = adapter_scales(run)
    stored = {name: value.item() for name, value in run.method().state().items() if name.endswith(".scale")}
    assert sorted(result.scales["lift"][0].tolist()) == pytest.approx(sorted(stored.values()))
    assert any(value != 1 for value in stored.values()), "two epochs move the scales"


def test_a_method_without_adaptformer_is_refused(store: Callable[[str], wb.Run]) -> None:
    with pytest.raises(ValueError, match="no AdaptFormer"):
        adapter_scales(store("linear_probe"))
    with pytest.raises(ValueError, match="no method was given for 'a'"):
        adapter_scales({"a": []})
