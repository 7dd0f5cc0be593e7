"""Cost: parameters and operations of a tiny transformer counted by hand."""

from __future__ import annotations

import math

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from workbench.diagnostics.cost import cost

WIDTH, TOKENS, CLASSES = 8, 5, 3  # 4 patches and the class token


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.name, self.input_size = "tiny", 16
        self.model = VisionTransformer(
            img_size=16, patch_size=8, embed_dim=WIDTH, depth=1, num_heads=2, mlp_ratio=4, num_classes=0
        )


class Probe(nn.Module):
    tuned = ("adapters.", "head.")

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Tower()
        self.adapters = nn.ModuleList([nn.Linear(WIDTH, 2, bias=False)])
        self.head = nn.Linear(WIDTH, CLASSES)

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.backbone.model(images)
        self.adapters[0](features)
        return self.head(features)


def products() -> int:
    """Multiply-adds of one forward pass, by hand."""
    patches = 4 * WIDTH * 3 * 8 * 8
    attention = TOKENS * WIDTH * 3 * WIDTH + 2 * TOKENS * TOKENS * WIDTH + TOKENS * WIDTH * WIDTH
    mlp = 2 * TOKENS * WIDTH * 4 * WIDTH
    return patches + attention + mlp + WIDTH * 2 + WIDTH * CLASSES


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_parameters_and_operations_are_those_counted_by_hand(device: str) -> None:
    method = Probe().to(device)
    result = cost(method, repeats=2)
    assert (result.tuned, result.head) == (2 * WIDTH, CLASSES * (WIDTH + 1))
    assert result.total == sum(p.numel() for p in method.parameters())
    assert result.flops == 2 * products()
    assert math.isnan(result.milliseconds) if device == "meta" else result.milliseconds > 0
    assert "not timed" in str(result) if device == "meta" else " ms " in str(result)


def test_training_modes_are_put_back() -> None:
    method = Probe().train()
    method.backbone.eval()
    cost(method, repeats=1)
    assert method.training and method.head.training and not method.backbone.training


def test_a_trainable_tensor_may_enter_a_module_and_what_trains_stays_as_it_was() -> None:
    method = Probe()
    method.backbone.requires_grad_(False)
    plain = cost(method, repeats=1)
    before = [parameter.requires_grad for parameter in method.parameters()]
    method.dropout = nn.Dropout(0.1)  # VPT's of its prompts
    forward = method.forward

    def with_prompts(images: torch.Tensor) -> torch.Tensor:
        method.dropout(method.adapters[0].weight)
        return forward(images)

    method.forward = with_prompts  # type: ignore[method-assign]
    assert cost(method, repeats=1).flops == plain.flops
    assert [parameter.requires_grad for parameter in method.parameters()] == before
    assert any(before) and not all(before)


def test_at_least_one_repeat_is_asked_for() -> None:
    with pytest.raises(ValueError, match="repeats=0"):
        cost(Probe(), repeats=0)
