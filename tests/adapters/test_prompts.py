"""Prompts: their initial spread, their place, and that the place does not matter."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from towers import recorded_tower

from workbench.adapters.prompts import draw_prompts, with_prompts


def test_prompts_start_in_the_xavier_bound_of_a_patch_embedding() -> None:
    prompts = draw_prompts(50, 768, 16, generator=torch.Generator().manual_seed(0))
    bound = math.sqrt(6 / (3 * 16**2 + 768))
    assert bound == pytest.approx(0.0625) and 0.99 * bound < prompts.abs().max() <= bound


def test_fresh_prompts_replace_what_stood_behind_the_image() -> None:
    tokens, prompts = torch.randn(2, 5, 3), torch.randn(2, 3)
    once = with_prompts(tokens, prompts, 5)
    assert torch.equal(once[:, :5], tokens) and torch.equal(once[1, 5:], prompts)
    assert torch.equal(with_prompts(once, 2 * prompts, 5)[0, 5:], 2 * prompts)


@pytest.mark.parametrize(
    ("case_id", "key", "deep"),
    [
        ("kmnp_vpt_deep", "out.kmnp_deep.cls", True),
        ("kmnp_vpt_shallow", "out.kmnp_shallow.cls", False),
        ("adaptformer_repo_vpt", "out.af_norm_row0", True),
    ],
)
def test_prompts_between_or_before_the_other_tokens_compute_the_same(
    golden: Callable[[str], Any], case_id: str, key: str, deep: bool
) -> None:
    case = golden(case_id)  # recorded with the prompts at the place of the original VPT, and of AdaptFormer's code
    tower = recorded_tower(golden("backbone_timm"))
    x = tower.embed(case.tensor("in.image"))
    tokens = x.shape[1]
    for i, block in enumerate(tower.blocks):
        if deep or i == 0:
            x = with_prompts(x, case.tensor(f"param.peft.blocks.{i}.vpt.prompt"), tokens)
        x = x + block.attend(x)
        x = x + block.mlp(x)
    case.check(tower.pool(x), key)
