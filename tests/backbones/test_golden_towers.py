"""Tiny towers with recorded weights give the recorded tokens, features and gradients (float64)."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from towers import recorded_tower

from workbench.adapters.residual import AdaptFormer

STYLES = ("timm", "clip")


@pytest.mark.parametrize("style", STYLES)
def test_features_and_projection_equal_the_recorded_ones(golden: Callable[[str], Any], style: str) -> None:
    case = golden(f"backbone_{style}")
    tower = recorded_tower(case)
    features = tower.encode(case.tensor("in.image"))
    case.check(features, "out.feature")
    if style == "clip":
        assert (tower.width, tower.joint_width) == (32, 16)
        case.check(tower.project(features), "out.projected")
    else:
        x = tower.embed(case.tensor("in.image"))
        for block in tower.blocks:
            x = x + block.attend(x)
            x = x + block.mlp(x)
        case.check(tower.model.norm(x), "out.tokens_normed")


@pytest.mark.parametrize("style", STYLES)
def test_tokens_entering_each_block_equal_the_recorded_ones(golden: Callable[[str], Any], style: str) -> None:
    case = golden(f"lift_{style}_frozen_cosine")
    tower = recorded_tower(golden(f"backbone_{style}"))
    x = tower.embed(case.tensor("in.image"))
    for i, block in enumerate(tower.blocks):
        case.check(x, f"out.block_input.{i}")
        x = x + block.attend(x)
        x = x + block.mlp(x)
    case.check(tower.pool(x), "out.feature")


@pytest.mark.parametrize("style", STYLES)
def test_adaptformer_tokens_features_and_gradients_equal_the_recorded_ones(
    golden: Callable[[str], Any], style: str
) -> None:
    case = golden(f"lift_{style}_adaptformer_cosine")
    tower = recorded_tower(golden(f"backbone_{style}"))
    adapters = []
    for i in range(len(tower.blocks)):
        adapter = AdaptFormer(tower.width, 4, generator=torch.Generator()).double()
        names = list(adapter.state_dict())
        adapter.load_state_dict({n: case.tensor(f"param.peft.blocks.{i}.adaptformer.{n}") for n in names}, strict=True)
        adapters.append(adapter)
    x = tower.embed(case.tensor("in.image"))
    for i, (block, adapter) in enumerate(zip(tower.blocks, adapters, strict=True)):
        case.check(x, f"out.block_input.{i}")
        x = x + block.attend(x)
        x = x + block.mlp(x) + adapter(x)
    features = tower.pool(x)
    case.check(features, "out.feature")

    counts = case.tensor("in.class_counts")
    weight = case.tensor("param.head.weight")
    logits = case.settings["scale"] * F.normalize(features) @ F.normalize(weight).T
    loss = F.cross_entropy(logits + (counts / counts.sum()).log(), case.tensor("in.target", torch.int64))
    case.check(loss, "out.cosine.la_loss")
    loss.backward()
    for i, adapter in enumerate(adapters):
        for name, parameter in adapter.named_parameters():
            case.check(parameter.grad, f"grad.cosine.peft.blocks.{i}.adaptformer.{name}")
    assert all(parameter.grad is None for parameter in tower.parameters())


@pytest.mark.parametrize("pattern", ["none", "prompt_query", "patch_query", "both"])
def test_a_bias_on_the_attention_logits_changes_a_block_as_recorded(golden: Callable[[str], Any], pattern: str) -> None:
    case = golden("ltdpt_block_bias")
    tower = recorded_tower(case, img=16, patch=4, dim=32, depth=3)
    block, x, saliency = tower.blocks[0], case.tensor("in.tokens"), case.tensor("in.saliency")
    B, T, _ = x.shape
    N = saliency.shape[1]
    alpha = torch.tensor(case.settings["alpha"], dtype=x.dtype, requires_grad=True)
    beta = torch.tensor(case.settings["beta"], dtype=x.dtype, requires_grad=True)
    foreground = (alpha * saliency)[:, None].expand(B, case.settings["nf"], N)
    background = (beta * (1 - saliency))[:, None].expand(B, case.settings["nb"], N)
    prompt_rows = torch.cat([torch.zeros(B, 1 + N, N, dtype=x.dtype), foreground, background], 1)  # (B, T, N)
    prompt_query = F.pad(prompt_rows, (1, T - 1 - N))  # (B, T, T): prompt rows, patch columns
    bias = {
        "none": None,
        "prompt_query": prompt_query,
        "patch_query": prompt_query.mT,
        "both": prompt_query + prompt_query.mT,
    }[pattern]
    bias = bias if bias is None else bias[:, None]
    out = x + block.attend(x, bias)
    out = out + block.mlp(out)
    case.check(out, f"out.{pattern}.tokens")
    case.check(block.attention(x, bias)[..., 1 : 1 + N].sum(-1), f"out.{pattern}.attn_row_sums_over_patches")
    if bias is not None:
        (out * case.tensor("in.upstream_grad")).sum().backward()
        case.check(alpha.grad, f"grad.{pattern}.alpha")
        case.check(beta.grad, f"grad.{pattern}.beta")
