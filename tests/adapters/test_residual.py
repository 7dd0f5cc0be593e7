import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from workbench.adapters.masks import last_blocks
from workbench.adapters.residual import Adapter, AdaptFormer, OriginalAdaptFormer, bottleneck_width
from workbench.backbones import load_backbone


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("name", "kind"), [("module_adaptformer", AdaptFormer), ("module_adapter", Adapter)])
def test_output_and_gradients_equal_the_recorded_ones(
    golden: Callable[[str], Any], generator: torch.Generator, name: str, kind: type[Adapter]
) -> None:
    case = golden(name)
    adapter = kind(case.settings["dim"], case.settings["r"], generator=generator).double()
    adapter.load_state_dict({name: case.tensor(f"param.{name}") for name in adapter.state_dict()}, strict=True)
    x = case.tensor("in.x").requires_grad_()
    y = adapter(x)
    case.check(y, "out.y")
    (y * case.tensor("in.upstream_grad")).sum().backward()
    case.check(x.grad, "grad.x")
    for name, parameter in adapter.named_parameters():
        case.check(parameter.grad, f"grad.{name}")


def test_the_worked_example_of_the_reference(generator: torch.Generator) -> None:
    adapter = AdaptFormer(4, 2, generator=generator)
    with torch.no_grad():
        adapter.scale.fill_(0.5)
        adapter.down_proj.weight.copy_(torch.tensor([[0.1, -0.2, 0.3, -0.4], [0.5, 0.6, -0.7, 0.8]]))
        adapter.down_proj.bias.copy_(torch.tensor([0.01, -0.02]))
        adapter.up_proj.weight.copy_(torch.tensor([[0.2, -0.1], [0.3, 0.4], [-0.5, 0.6], [0.7, -0.8]]))
        adapter.up_proj.bias.copy_(torch.tensor([0.05, 0.0, -0.05, 0.1]))
    y = adapter(torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, -1.0, 1.0, 0.5]]))
    expected = torch.tensor([[0.025, 0.0, -0.025, 0.05], [0.069948, 0.067421, -0.137369, 0.207317]])
    torch.testing.assert_close(y, expected, atol=1e-6, rtol=0)


def test_the_tower_starts_as_the_frozen_one_bit_for_bit(generator: torch.Generator) -> None:
    tower = load_backbone("test_vit.r160_in1k", "random")
    images = torch.randn(2, 3, 160, 160, generator=generator)
    x = tower.embed(images)
    for block in tower.blocks:
        x = x + block.attend(x)
        x = x + block.mlp(x) + AdaptFormer(tower.width, 4, generator=generator)(x)
    assert torch.equal(tower.pool(x), tower.encode(images))


def test_initial_weights_have_the_stated_spread_and_leave_the_global_random_state_alone(
    generator: torch.Generator,
) -> None:
    before = torch.get_rng_state()
    adapter = AdaptFormer(768, 64, generator=generator)
    assert torch.equal(before, torch.get_rng_state())
    assert adapter.down_proj.weight.std().item() == pytest.approx(math.sqrt(1 / 3) / math.sqrt(768), rel=0.02)
    assert adapter.scale.item() == 1 and adapter.ln.eps == 1e-5
    again = AdaptFormer(768, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(adapter.down_proj.weight, again.down_proj.weight)


def test_a_bottleneck_of_zero_is_refused(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        AdaptFormer(8, 0, generator=generator)


@pytest.mark.parametrize(
    ("name", "arch"),
    [("vit_base_patch16_clip_quickgelu_224", "ViT-B/16"), ("vit_large_patch14_clip_quickgelu_224", "ViT-L/14")],
)
def test_tuned_parameters_equal_the_papers_tables(golden: Callable[[str], Any], name: str, arch: str) -> None:
    table = golden("lift_param_counts").arrays
    tower = load_backbone(name, "meta")
    depth = len(tower.blocks)
    rows = 0
    for row in np.flatnonzero(table["out.arch"] == arch):
        method, classes, count = table["out.method"][row], int(table["out.num_classes"][row]), table["out.count"][row]
        if method == "adaptformer":
            width = bottleneck_width(classes, depth)
            assert width == table["out.r"][row]
            adapters = nn.ModuleList(AdaptFormer(tower.width, width, generator=torch.Generator()) for _ in range(depth))
            assert sum(p.numel() for p in adapters.parameters()) == count
        elif method == "full":  # of LIFT: the blocks only
            prefixes = last_blocks(tower, depth)
            named = [(f"backbone.{key}", p) for key, p in tower.named_parameters()]
            assert sum(p.numel() for key, p in named if key.startswith(prefixes)) == count
        elif method == "all":
            assert sum(p.numel() for p in tower.parameters()) == count
        else:
            continue
        rows += 1
    assert rows == 11


def test_bottleneck_width_floors_and_never_falls_below_one() -> None:
    assert [bottleneck_width(c, 12) for c in (10, 23, 24, 100, 365, 1000, 8142)] == [1, 1, 1, 4, 8, 32, 256]
    assert bottleneck_width(48, 12) == 2 and bottleneck_width(47, 12) == 1


def test_last_blocks_names_the_last_blocks_and_refuses_other_numbers() -> None:
    tower = load_backbone("vit_tiny_patch16_224", "meta")
    assert last_blocks(tower, 2) == ("backbone.model.blocks.10.", "backbone.model.blocks.11.")
    for count in (0, 13):
        with pytest.raises(ValueError, match="1 to 12"):
            last_blocks(tower, count)
    with pytest.raises(ValueError, match="has no blocks"):
        last_blocks(load_backbone("resnet50_clip", "meta"), 1)


def test_the_original_adaptformer_equals_the_recorded_one(
    golden: Callable[[str], Any], generator: torch.Generator
) -> None:
    case = golden("module_adaptformer_orig_none")
    adapter = OriginalAdaptFormer(32, 4, generator=generator).double()
    adapter.load_state_dict({name: case.tensor(f"param.{name}") for name in adapter.state_dict()}, strict=True)
    case.check(adapter(case.tensor("in.x")), "out.y")
    case.check(adapter(case.tensor("in.x")) + case.tensor("in.x"), "out.y_residual")


def test_the_worked_example_of_the_original_in_the_reference(generator: torch.Generator) -> None:
    adapter = OriginalAdaptFormer(4, 2, generator=generator)
    with torch.no_grad():
        adapter.down_proj.weight.copy_(torch.tensor([[0.1, -0.2, 0.3, -0.4], [0.5, 0.6, -0.7, 0.8]]))
        adapter.down_proj.bias.copy_(torch.tensor([0.01, -0.02]))
        adapter.up_proj.weight.copy_(torch.tensor([[0.2, -0.1], [0.3, 0.4], [-0.5, 0.6], [0.7, -0.8]]))
        adapter.up_proj.bias.copy_(torch.tensor([0.05, 0.0, -0.05, 0.1]))
    y = adapter(torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, -1.0, 1.0, 0.5]]))
    expected = torch.tensor([[-0.0228, 0.1112, 0.1618, -0.2124], [0.0112, 0.0093, -0.0205, 0.0317]])
    torch.testing.assert_close(y, expected, atol=1e-6, rtol=0)
    assert not torch.equal(adapter.down_proj.weight, OriginalAdaptFormer(4, 2, generator=generator).down_proj.weight)


def test_the_paper_prints_a_ceiling_that_does_not_give_its_counts() -> None:
    widths = [(100, 12, 8), (365, 12, 16), (1000, 12, 64), (8142, 12, 512)]  # 0.18, 0.32, 1.21, 9.47 M, not printed
    assert [bottleneck_width(C, L, rounding="ceil") for C, L, _ in widths] == [r for _, _, r in widths]
