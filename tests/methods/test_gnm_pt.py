"""GNM-PT against recorded values of the authors' code: forward, steps with their noise, the factor's table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from towers import recorded_tower

import workbench as wb
from workbench import losses
from workbench.backbones import ViT
from workbench.methods import Clock
from workbench.methods.gnm_pt import GNMPT, GNMPTConfig
from workbench.optim import gnm_factor, neighbourhood
from workbench.training import step as steps

Golden = Callable[[str], Any]


def recorded(case: Any, **options: Any) -> GNMPT:
    """A float64 GNM-PT on the recorded tower with the recorded prompts and head."""
    s = case.settings
    tower = recorded_tower(case, ln_eps=s["eps"][0])
    classes = wb.Classes(tuple(map(str, range(s["C"]))), np.array(s["counts"]), wb.GroupRule())
    method = GNMPT(tower, classes, GNMPTConfig(prompts=s["p"], **options), seed=0).double()
    method.load_state({"prompts": case.tensor("param.peft.shared"), "head.weight": case.tensor("param.head.weight")})
    return method


def test_forward_equals_the_recorded_one(golden: Golden) -> None:
    case = golden("gnmpt_forward")
    method = recorded(case)
    output = method.eval()(case.tensor("in.image"))
    case.check(output.features, "out.feature")
    case.check(output.cosine, "out.cosine")
    case.check(recorded(case, pooling="cls").eval()(case.tensor("in.image")).features, "out.ln_cls")


def test_steps_with_recorded_noise_equal_the_recorded_ones(golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, case = golden("gnmpt_forward"), golden("gnmpt_steps")
    s = case.settings
    method = recorded(forward, dropout=0.0)
    (stage,) = method.stages(wb.Manifest.load("toybox_lt"))
    assert (stage.epochs, stage.reweighted_from, stage.lr) == (70, 60, s["lr"])
    assert stage.gnm_radius == pytest.approx(s["rho"] * s["dis"]) and stage.weight_decay == s["wd"]
    trainable = steps.freeze_all_but(method, stage.trainable)
    optimiser = steps.make_optimiser(stage, trainable)
    recorded_as = {"prompts": "shared", "head.weight": "head"}
    for number, epoch in enumerate(s["epochs"]):
        noises = iter([case.tensor(f"in.step{number}.param_noise.{recorded_as[name]}") for name in trainable])
        monkeypatch.setattr(torch, "randn_like", lambda parameter, noises=noises: 3 * next(noises))  # theirs is clamped
        cloud = case.tensor(f"in.step{number}.gcl_noise")
        monkeypatch.setattr(losses, "draw_gcl_noise", lambda shape, generator, cloud=cloud: cloud)
        radius = steps.radius_of(stage, epoch)
        assert radius == pytest.approx(float(case.arrays[f"out.step{number}.perturb_factor"]))
        with neighbourhood(trainable.values(), radius):
            for name, parameter in trainable.items():
                case.check(parameter, f"out.step{number}.perturbed_{recorded_as[name]}")
            output = method(forward.tensor("in.image"))
            case.check(output.cosine, f"out.step{number}.cosine")
            clock = Clock(epoch, 70, 0, 1, "train", epoch >= stage.reweighted_from)
            loss = method.loss([output], [forward.tensor("in.target", torch.int64)], clock)["loss"]
            case.check(loss, f"out.step{number}.loss")
            loss.backward()
        for name, parameter in trainable.items():
            case.check(parameter.grad, f"grad.step{number}.{recorded_as[name]}")
        optimiser.step()
        optimiser.zero_grad()
        for name, parameter in trainable.items():
            case.check(parameter, f"out.step{number}.{recorded_as[name]}")


def test_the_factor_is_the_recorded_one_and_never_explodes(golden: Golden) -> None:
    arrays = golden("gnm_factor_table").arrays
    rows = zip(*(arrays[f"out.{name}"].tolist() for name in ("reweight_epoch", "epoch", "factor")), strict=True)
    for last, epoch, factor in rows:
        if last >= 1:
            assert gnm_factor(epoch, last) == factor
    with pytest.raises(ValueError, match="at least 1"):
        gnm_factor(5, -1)


def test_a_neighbour_is_left_bit_for_bit_and_the_toy_step_is_the_recorded_one(
    golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = nn.Parameter(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    before = weight.detach().clone()
    with neighbourhood([weight], 0.005):
        assert 0 < (weight - before).abs().max() <= 0.005 + 1e-6  # rounding of a difference of float32
    assert torch.equal(weight, before)
    with pytest.raises(RuntimeError), neighbourhood([weight], 0.005):
        raise RuntimeError
    assert torch.equal(weight, before)
    case = golden("gnm_scalar_toy")
    one = nn.Parameter(torch.ones(1, dtype=torch.float64))
    monkeypatch.setattr(torch, "randn_like", lambda parameter: torch.full_like(parameter, 0.9))  # xi = 0.3
    optimiser = torch.optim.SGD([one], lr=0.1, weight_decay=0.01)
    with neighbourhood([one], 0.05 * 0.1 * gnm_factor(1, 59)):
        case.check(one, "out.perturbed")
        (one.square() / 2).sum().backward()
    case.check(one.grad, "out.grad")
    optimiser.step()
    case.check(one, "out.w")


def test_dropout_acts_in_the_first_epoch_only_unless_asked(golden: Golden) -> None:
    images = golden("gnmpt_forward").tensor("in.image")
    for where, acts in (("first_epoch", False), ("every_epoch", True)):
        method = recorded(golden("gnmpt_forward"), dropout_in=where).train()
        plain = method.eval()(images).logits
        for epoch, wanted in ((0, True), (1, acts)):
            method.train().clock = Clock(epoch, 70, 0, 1)
            assert torch.equal(method(images).logits, plain) != wanted


def test_places_lt_has_its_own_length(golden: Golden) -> None:
    class Places:
        name = "places_lt"

    (stage,) = recorded(golden("gnmpt_forward")).stages(Places())  # type: ignore[arg-type]
    assert (stage.epochs, stage.reweighted_from) == (100, 60)
    # deferred: the first epoch never has class weights, however short the recipe
    assert [stage.shortened(epochs).reweighted_from for epochs in (1, 2, 5)] == [1, 1, 3]


def on_cifar(name: str = "gnm_pt", **options: Any) -> wb.Method:
    """On a tower of two blocks for 224 px whose weights were made with other statistics."""
    model = VisionTransformer(img_size=224, patch_size=56, embed_dim=8, depth=2, num_heads=1, num_classes=0)
    classes = wb.Manifest.load("cifar100_lt_ir100").classes
    return wb.create_method(name, ViT(model.eval(), name="tiny"), classes, prompts=2, **options)


def test_cifar_pixels_equal_the_recorded_ones(golden: Golden) -> None:
    """But for the random parts, which were not recorded."""
    case = golden("gnmpt_cifar_transforms")
    picture, every = Image.fromarray(case.arrays["in.image_uint8_hwc"]), case.settings["stride"]
    method = on_cifar()
    case.check(method.test_preprocessing().build()(picture)[:, ::every, ::every], "out.eval_sub")
    train = method.preprocessing(train=True)
    assert train.augmentations == ("flip", "auto_augment", "cutout") and (train.crop, train.resize) == ("padded", 32)
    tail = replace(train, augmentations=()).build().numbers
    case.check(tail(picture)[:, ::every, ::every], "out.train_tail_sub")


def test_only_cifar_is_preprocessed_as_cifar_unless_told_otherwise() -> None:
    usual = on_cifar(transforms="usual")
    assert usual.preprocessing(train=True).crop == "random_resized" and usual.backbone.normalisation[0][0] == 0.5
    digits = wb.Manifest.load("digits_lt").classes
    for told, crop in ((None, "random_resized"), ("cifar", "padded")):
        other = wb.create_method("gnm_pt", usual.backbone, digits, transforms=told)
        assert other.preprocessing(train=True).crop == crop
    with pytest.raises(ValueError, match="choose one of cifar, usual"):
        on_cifar(transforms="imagenet")


@pytest.mark.parametrize("name", ["gnm_pt", "lt_dpt"])
def test_what_the_tower_reads_of_cifar_is_made_to_look_as_it_did(name: str) -> None:
    """The saliency of LT-DPT and the maps of diagnostics need the picture back."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    method = on_cifar(name)
    transform = method.test_preprocessing()
    seen = method.backbone.pixels(transform.build()(picture)[None])[0]
    plain = replace(transform, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    torch.testing.assert_close(seen, plain.build()(picture), atol=1e-6, rtol=0)
