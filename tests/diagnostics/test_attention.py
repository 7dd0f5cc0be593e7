"""Attention of one block against the block itself, run by hand; a prompt alone against a pool that holds only it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import workbench as wb
from workbench.diagnostics.attention import block_attention, fused, prompt_attention

CLASSES = wb.Classes(("a", "b", "c"), np.array([50, 20, 5]), wb.GroupRule())
OPTIONS = {"lpt": {"prompts": 2, "groups": 4}, "lt_dpt": {"prompts": 2, "groups": 4, "group_prompts": 3}}


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def build(name: str, **options: Any) -> Any:
    """On a random tower of six blocks, with prompts as large as tokens."""
    tower = wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=32)
    method = wb.create_method(name, tower, CLASSES, **(OPTIONS.get(name, {}) | options))
    with torch.no_grad():
        for key, parameter in method.named_parameters():
            if key.startswith(("pool", "groups", "shared", "prompts")):
                parameter.mul_(50)
    return method.eval()


def test_attention_of_a_plain_tower_is_its_blocks(images: Tensor) -> None:
    method = build("linear_probe")
    backbone = method.backbone
    found = block_attention(method, images, 1)
    with torch.no_grad():
        x = backbone.embed(images)
        x = x + backbone.blocks[0].attend(x)
        expected = backbone.blocks[1].attention(x + backbone.blocks[0].mlp(x))
    first, N = backbone.num_prefix, backbone.grid[0] * backbone.grid[1]
    pooled = expected[:, :, 0] if backbone.model.global_pool == "token" else expected[:, :, first:].mean(2)
    shape = (3, *backbone.grid)
    np.testing.assert_allclose(found.read_from(1), pooled[:, 1, first:].reshape(shape), rtol=1e-5)
    np.testing.assert_allclose(found.read_from(), pooled[..., first:].mean(1).reshape(shape), rtol=1e-5)
    assert found.prompts == 0 and found.heads == backbone.blocks[1].inner.attn.num_heads and found.block == 1
    assert N + first == len(found.pooled)
    with pytest.raises(ValueError, match="block 1 has 0 prompts, not 2"):
        found.looks(2)


def test_a_prompt_alone_looks_as_its_tokens_do(images: Tensor) -> None:
    method = build("lpt")
    blocks, block = method.backbone.blocks, method.first + 1
    found = prompt_attention(method, images, 3, block)
    with torch.no_grad():
        x = method.backbone.embed(images)
        for i in range(block + 1):
            own = [method.shared[i], *([method.pool[3, i - method.first]] if i >= method.first else [])]
            both = torch.cat([x, *(tokens.expand(3, -1, -1) for tokens in own)], dim=1)
            attention = blocks[i].attention(both)
            x = method._block(i, x, torch.cat(own))
    first, N = method.backbone.num_prefix, x.shape[1]
    np.testing.assert_allclose(found.looks(2).reshape(3, -1), attention[:, :, -2:, first:N].mean((1, 2)), rtol=1e-4)
    expected = attention[:, :, first:N, -2:].sum(3).mean(1)
    np.testing.assert_allclose(found.read_by(method.picked).reshape(3, -1), expected, rtol=1e-4)
    assert found.prompts == 4 and not found.prompts_count, "LPT throws away what comes out at prompts"


@pytest.mark.parametrize("name", OPTIONS)
def test_a_prompt_alone_is_a_pool_that_holds_nothing_else(name: str, images: Tensor) -> None:
    method = build(name)
    pool = method.pool if name == "lpt" else method.groups
    intact = method(images).features.detach()
    with method.only_prompt(2):
        found = method(images)
    with torch.no_grad():
        pool.copy_(pool[2:3].expand_as(pool) if name == "lpt" else pool[:, 2:3].expand_as(pool))
    torch.testing.assert_close(found.features, method(images).features)
    assert (found.extras["prompt_index"] == 2).all() and not torch.equal(found.features, intact)
    with pytest.raises(ValueError, match="prompt 4 in layer None: there are prompts 0 to 3"), method.only_prompt(4):
        pass


def test_what_comes_out_at_prompts_counts_in_the_pooling_of_gnm_pt_alone(images: Tensor) -> None:
    method = build("lt_dpt")
    last = len(method.backbone.blocks) - 1
    assert prompt_attention(method, images, 0, last).prompts_count
    assert not prompt_attention(method, images, 0, last - 1).prompts_count
    assert not prompt_attention(build("lt_dpt", pooling="cls"), images, 0, last).prompts_count


def test_fused_heads_sum_to_one_and_wrong_ones_are_named() -> None:
    attention = torch.rand(2, 3, 5, 5).softmax(-1)
    for heads in ("mean", "max", "min", 1):
        torch.testing.assert_close(fused(attention, heads).sum(-1), torch.ones(2, 5))
    with pytest.raises(ValueError, match="head 3 is not there; give 0 to 2"):
        fused(attention, 3)
    with pytest.raises(ValueError, match="must be one of mean, max, min"):
        fused(attention, "median")


def test_blocks_without_picked_prompts_and_towers_without_attention_are_named(images: Tensor) -> None:
    method = build("lpt")
    with pytest.raises(ValueError, match="block 0 has no picked prompts; lpt has them in blocks"):
        prompt_attention(method, images, 0, 0)
    with pytest.raises(ValueError, match="give 0 to 5, or -1"):
        block_attention(method, images, 99)
