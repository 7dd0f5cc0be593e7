"""Arbitrary masks against the recorded ones; which biases and norms a tuner means."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import workbench as wb
from workbench.adapters.masks import MaskedLinear, biases, block_range, norms


@pytest.mark.parametrize("name", ["r0.3_s0", "r0.5_s7", "r1.0_s0", "r0.01_s0"])
def test_masks_and_their_effect_equal_the_recorded_ones(golden: Callable[[str], Any], name: str) -> None:
    case = golden(f"mask_pattern_{name}")
    weight, bias = case.tensor("in.w"), case.tensor("in.b")
    base = nn.Linear(weight.shape[1], weight.shape[0]).double()
    with torch.no_grad():
        base.weight.copy_(weight)
        base.bias.copy_(bias)
    generator = torch.Generator().manual_seed(case.settings["seed"])
    first, second = (MaskedLinear(base, float(case.settings["ratio"]), generator=generator) for _ in range(2))
    for number, masked in ((1, first), (2, second)):
        for kind, letter in (("weight", "w"), ("bias", "b")):
            found = torch.zeros(getattr(base, kind).numel(), dtype=torch.bool)
            found[getattr(masked, f"{kind}_index").long()] = True
            recorded = case.arrays[f"out.{name}.mask_{letter}{number}"]
            assert (found.view_as(getattr(base, kind)).numpy() == recorded.astype(bool)).all()
    if case.settings["forward"] == "ok":
        with torch.no_grad():
            first.weight_entries += 1
            first.bias_entries += 1
        case.check(first(case.tensor(f"in.x_{name}")), f"out.{name}.y")


def test_only_the_masked_entries_get_a_gradient_and_it_is_that_of_the_full_matrix() -> None:
    base = nn.Linear(6, 5).requires_grad_(False)
    masked = MaskedLinear(base, 0.4, generator=torch.Generator().manual_seed(0))
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    assert torch.equal(masked(x), base(x))
    masked(x).square().sum().backward()
    full = nn.Linear(6, 5)
    full.load_state_dict(base.state_dict())
    full(x).square().sum().backward()
    assert full.weight.grad is not None and full.bias.grad is not None and base.weight.grad is None
    torch.testing.assert_close(masked.weight_entries.grad, full.weight.grad.flatten()[masked.weight_index.long()])
    torch.testing.assert_close(masked.bias_entries.grad, full.bias.grad[masked.bias_index.long()])
    assert len(masked.weight_entries) + len(masked.bias_entries) == int(0.4 * 5 * 7)


def test_a_mask_travels_with_the_state() -> None:
    base = nn.Linear(6, 5)
    one, other = (MaskedLinear(base, 0.3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert not torch.equal(one.weight_index, other.weight_index)
    entries = len(one.weight_entries) == len(other.weight_entries)
    if not entries:  # the bias column took another share
        other = MaskedLinear(base, 0.3, generator=torch.Generator().manual_seed(0))
    other.load_state_dict(one.state_dict())
    x = torch.randn(2, 6)
    assert torch.equal(one(x), other(x))


def test_the_names_of_biases_norms_and_blocks() -> None:
    tower = wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=32)
    found = biases(tower, range(4, 6))
    assert len(found) == 12 and all(
        name.startswith(("backbone.model.blocks.4", "backbone.model.blocks.5")) for name in found
    )
    assert {name.rsplit(".", 1)[1] for name in norms(tower, range(6))} == {"weight", "bias"}
    assert len(norms(tower, range(6))) == 24
    assert list(block_range(tower, None)) == list(range(6)) and list(block_range(tower, (1, 3))) == [1, 2]
    for wrong in (0, 7, (2, 2), (3, 9)):
        with pytest.raises(ValueError, match="give 1 to 6"):
            block_range(tower, wrong)
