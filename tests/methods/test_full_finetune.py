"""Full fine-tuning as LPT's Table 14 compares it: tau-normalised (Kang et al.), and trained with GCL."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import workbench as wb
from workbench import losses
from workbench.methods import Clock, Method
from workbench.methods.full_finetune import FullFinetune
from workbench.training import step as steps

COUNTS = [50, 20, 5]
GCL = {"tuner": "full", "loss": "gcl", "initialisation": "random", "views": "centre"}


def small(name: str, **options: Any) -> Method:
    tower = wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=32)
    classes = wb.Classes(("a", "b", "c"), np.array(COUNTS), wb.GroupRule())
    return wb.create_method(name, tower, classes, **options)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_tau_divides_the_rows_and_leaves_the_bias_out_at_test_time_only(images: Tensor, tau: float) -> None:
    method = small("full_finetune", tau=tau)
    assert isinstance(method, FullFinetune)
    with torch.no_grad():
        method.head.weight *= torch.tensor([[3.0], [2.0], [1.0]])
        method.head.bias += 1.0
    weight, bias = method.head.weight, method.head.bias
    features = method.backbone.encode(images)
    plain = features @ weight.T + bias
    torch.testing.assert_close(method.train()(images).logits, plain)
    expected = plain if tau == 0 else features @ (weight / weight.norm(dim=1, keepdim=True) ** tau).T
    torch.testing.assert_close(method.eval()(images).logits, expected)
    with pytest.raises(ValueError, match="tau=-1 must not be negative"):
        small("full_finetune", tau=-1)


def test_gcl_trains_every_block_and_a_cosine_classifier(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    method, labels = small("lift", **GCL), torch.tensor([0, 1, 2])
    noise = torch.tensor([[0.3, -0.2, 0.1], [2.0, 0.4, -0.6], [0.0, 0.5, -3.0]])
    monkeypatch.setattr(losses, "draw_gcl_noise", lambda shape, generator: noise)
    (stage,) = method.stages(wb.Manifest.load("digits_lt"))
    trainable = steps.freeze_all_but(method, stage.trainable)
    blocks = {name for name, _ in method.named_parameters() if name.startswith("backbone.model.blocks.")}
    assert trainable.keys() == blocks | {"head.weight"}
    output = method.train()(images)
    loss = method.loss([output], [labels], Clock(0, 1, 0, 1))["loss"]
    # Li, Cheung and Lu, CVPR 2022, with the constants of GNM-PT: s 25, m 0.1, noise 1
    gap = np.log(COUNTS[0] / np.array(COUNTS)) / np.log(COUNTS[0] / COUNTS[-1])
    clouded = output.cosine - torch.from_numpy(gap).float() * noise.clamp(-1, 1).abs() - 0.1 * torch.eye(3)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(25 * clouded, labels))
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in trainable.values())
