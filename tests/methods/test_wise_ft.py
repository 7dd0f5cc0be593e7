"""WiSE-FT: its ends are zero-shot and fine-tuned, every weight lies on the line between, and training is plain."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from towers import Photos, small_clip_vit

import workbench as wb
from workbench.backbones import Backbone, TextTower, ViT
from workbench.methods import Clock
from workbench.methods.base import rebuild_method
from workbench.methods.wise_ft import WiSEFT
from workbench.training import step as steps

PLAIN = "test_vit.r160_in1k"
CLASSES = wb.Classes(("cat", "horse", "pigeon"), np.array([30, 10, 3]), wb.GroupRule())
LABELS = torch.tensor([0, 1, 2])


class Rows(nn.Module):
    """A text tower with one vector per sentence, told by its length."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(200, 12, generator=torch.Generator().manual_seed(5)))

    def forward(self, ids: Tensor) -> Tensor:
        return self.rows[ids]


@cache
def text() -> TextTower:
    return TextTower(Rows(), lambda texts: torch.tensor([len(t) for t in texts]), name="t", width=12, logit_scale=40.0)


def tower(name: str | None = None) -> Backbone:
    """A CLIP of two blocks unless named, the same at every call."""
    if name is not None:
        return wb.load_backbone(name, weights="random", input_size=32)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return ViT(small_clip_vit(16, 2, 12, nn.GELU), name="small")


def wise(backbone: Backbone | None = None, **options: Any) -> WiSEFT:
    backbone = tower() if backbone is None else backbone
    given = text() if backbone.joint_width else None
    method = wb.create_method("wise_ft", backbone, CLASSES, text=given, **options)
    assert isinstance(method, WiSEFT)
    return method.eval()


@torch.no_grad()
def tune(method: WiSEFT) -> WiSEFT:
    """Stands for training: every weight moves."""
    generator = torch.Generator().manual_seed(3)
    for parameter in method.parameters():
        parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return method


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def plain_names(tensors: dict[str, Tensor], ending: str) -> dict[str, Tensor]:
    """{"head.parametrizations.weight" + ending: t} -> {"head.weight": t}"""
    kept = {name: tensor for name, tensor in tensors.items() if name.endswith(ending)}
    return {name.removesuffix(ending).replace("parametrizations.", ""): tensor for name, tensor in kept.items()}


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_every_weight_is_a_point_of_the_line(images: Tensor, alpha: float) -> None:
    method = tune(wise(alpha=alpha))
    own = method.state_dict()
    start, tuned = plain_names(own, ".0.start"), plain_names(own, ".original")
    assert start.keys() == tuned.keys() and not any(torch.equal(start[name], tuned[name]) for name in start)
    between = {name: (1 - alpha) * start[name] + alpha * tuned[name] for name in start}
    plain = tower()
    plain.model.load_state_dict({k.removeprefix("backbone.model."): v for k, v in between.items() if "head." != k[:5]})
    joint = F.normalize(plain.project(plain.encode(images)), dim=-1)
    output = method(images)
    torch.testing.assert_close(output.features, joint, rtol=1e-4, atol=1e-5)
    expected = joint @ between["head.weight"].T + between["head.bias"]
    torch.testing.assert_close(output.logits, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(method.backbone.encode(images), plain.encode(images), rtol=1e-4, atol=1e-5)


def test_the_ends_are_zero_shot_and_the_fine_tuned_model(images: Tensor) -> None:
    method = tune(wise(templates="imagenet_80"))
    zero_shot = wb.create_method("zero_shot", tower(), CLASSES, text=text(), templates="imagenet_80").eval()
    method.alpha = 0.0
    torch.testing.assert_close(method(images).logits, zero_shot(images).logits, rtol=1e-4, atol=1e-4)
    method.alpha = 1.0
    at_one = method(images).logits
    assert (at_one - zero_shot(images).logits).abs().max() > 0.1
    method.alpha = 0.5
    assert (method(images).logits - at_one).abs().max() > 0.1
    assert torch.equal(method.train()(images).logits, at_one)  # training knows no alpha
    assert method.options["alpha"] == 0.5 and method.options["scale"] == text().logit_scale


def test_training_is_that_of_the_plain_model_whatever_alpha_is(images: Tensor) -> None:
    method = wise(alpha=0.25)
    (stage,) = method.stages(wb.Manifest.load("digits_lt"))
    trainable = steps.freeze_all_but(method, stage.trainable)
    assert trainable.keys() == dict(method.named_parameters()).keys()
    method.train()
    method.loss([method(images)], [LABELS], Clock(0, 1, 0, 1))["loss"].backward()
    plain = tower().requires_grad_(True)
    rows = method.head.weight.detach().clone().requires_grad_()
    logits = F.linear(F.normalize(plain.project(plain.encode(images)), dim=-1), rows)
    F.cross_entropy(logits, LABELS).backward()
    torch.testing.assert_close(trainable["head.parametrizations.weight.original"].grad, rows.grad)
    found = plain_names({name: p.grad for name, p in trainable.items() if p.grad is not None}, ".original")
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(found[f"backbone.{name}"], parameter.grad, rtol=1e-3, atol=1e-5)
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    steps.make_optimiser(stage, trainable).step()
    still = {name for name, tensor in method.state_dict().items() if torch.equal(tensor, before[name])}
    assert still == {name for name in before if name.endswith(".start")}


def test_the_state_is_the_fine_tuned_weights_and_goes_to_any_alpha_again(images: Tensor) -> None:
    method = tune(wise())
    state = {name: tensor.clone() for name, tensor in method.state().items()}
    assert len(state) == sum(1 for _ in method.parameters()) + 2  # and where the head's weight and bias started
    assert not any(name.endswith(".start") and name.startswith("backbone.") for name in state)
    again = rebuild_method("wise_ft", tower(), CLASSES, seed=0, options=method.options).eval()
    again.load_state(state)
    copied = copy.deepcopy(method)
    assert type(copied.head).__name__ == "LinearHead"
    for alpha in (0.0, 0.3, 1.0):
        for each in (method, again, copied):
            each.alpha = alpha
        assert torch.equal(method(images).logits, again(images).logits)
        assert torch.equal(method(images).logits, copied(images).logits)


def test_without_text_the_line_starts_at_the_class_means() -> None:
    method = wise(tower(PLAIN), scale=10.0)
    assert method.options["initialisation"] == "class_mean"
    method.prepare(Photos(3, 2))  # type: ignore[arg-type]
    pictures = torch.stack([Photos(3, 2)[i][0] for i in range(6)])
    units = F.normalize(tower(PLAIN).encode(pictures), dim=1)
    means = 10 * F.normalize(units.unflatten(0, (3, 2)).mean(1), dim=1)
    torch.testing.assert_close(method.head.weight, means, rtol=1e-4, atol=1e-4)
    tune(method).alpha = 0.0
    torch.testing.assert_close(method(pictures).logits, units @ means.T, rtol=1e-4, atol=1e-4)


def test_a_clip_resnet_lies_on_the_line_as_well() -> None:
    resnet = wb.load_backbone("resnet50_clip.openai", weights="random", input_size=64)
    start = copy.deepcopy(resnet)
    method = wb.create_method("wise_ft", resnet, CLASSES, initialisation="class_mean", alpha=0.0).eval()
    assert isinstance(method, WiSEFT)
    pictures = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(tune(method)(pictures).features, F.normalize(start.encode(pictures), dim=-1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, r"alpha=1.5 must lie in \[0, 1\]"),
        ({"initialisation": "random"}, "choose one of text, class_mean"),
        ({"initialisation": "class_mean", "templates": "single"}, "has no effect"),
        ({"scale": 0.0}, "scale=0.0 must be positive"),
        ({"templates": "ensemble"}, "imagenet_80"),
    ],
)
def test_a_wrong_option_says_what_is_allowed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wise(**options)
    with pytest.raises(ValueError, match="need the text tower"):
        wb.create_method("wise_ft", tower(), CLASSES, initialisation="text")
    method = wise()
    with pytest.raises(ValueError, match="alpha=-1"):
        method.alpha = -1.0
