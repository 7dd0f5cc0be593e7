"""Maps of trained and of random weights: planted maps that ignore the model, or are nothing but its weights."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from timm.models.vision_transformer import VisionTransformer
from towers import READ_TEXT, small_clip_method

import workbench as wb
from workbench.backbones import ViT
from workbench.diagnostics.grad_cam import grad_cam
from workbench.diagnostics.sanity_check import MEASURES, sanity_check
from workbench.methods import METHODS, Method, method_class

CLASSES = wb.Classes(("a", "b $x$", "c"), np.array([50, 20, 5]), wb.GroupRule())


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def build(name: str = "linear_probe", **options: Any) -> Method:
    if name in READ_TEXT:
        return small_clip_method(name, CLASSES).eval()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 0}
        tower = ViT(VisionTransformer(**sizes).eval(), name="small")
    return wb.create_method(name, tower, CLASSES, **(method_class(name).small() | options)).eval()


def given(method: Method, trained: np.ndarray, random: np.ndarray) -> Callable[..., np.ndarray]:
    return lambda one, images: trained if one is method else random


def edges(method: Method, images: torch.Tensor) -> torch.Tensor:
    return (images[:, :, 1:, 1:] - images[:, :, :-1, :-1]).abs().sum(1)


def test_edges_of_the_image_are_found_not_to_depend_on_the_model(images: torch.Tensor) -> None:
    found = sanity_check(build(), images, explain=edges)
    for measure in MEASURES:
        np.testing.assert_allclose(found.similarity[measure, "random_weights"], 1)
        assert np.abs(found.similarity[measure, "other_image"]).max() < 0.2  # images of noise have nothing in common
    assert not found.constant.any() and "constant" not in str(found)


def test_a_map_of_the_weights_keeps_its_values_and_loses_their_order(images: torch.Tensor) -> None:
    def weights(method: Method, images: torch.Tensor) -> torch.Tensor:
        return method.backbone.model.patch_embed.proj.weight.flatten(1).expand(len(images), -1, -1)

    found = sanity_check(build(), images, explain=weights)
    assert np.array_equal(np.sort(found.trained, axis=None), np.sort(found.random, axis=None))
    for measure in MEASURES:
        assert np.abs(found.similarity[measure, "random_weights"]).max() < 0.06  # 4 / sqrt(24 x 192 values)
        np.testing.assert_allclose(found.similarity[measure, "other_image"], 1)


def test_correlations_are_those_of_scipy(images: torch.Tensor) -> None:
    method, rng = build(), np.random.default_rng(0)
    trained = rng.integers(0, 4, (5, 6, 7)).astype(float)  # many ties
    random = trained + rng.normal(size=trained.shape).round()
    found = sanity_check(method, images, explain=given(method, trained, random))
    for measure, correlation in (("spearman", stats.spearmanr), ("pearson", stats.pearsonr)):
        for comparison, second in (("random_weights", random), ("other_image", trained[found.other])):
            expected = [correlation(a.ravel(), b.ravel()).statistic for a, b in zip(trained, second, strict=True)]
            np.testing.assert_allclose(found.similarity[measure, comparison], expected, atol=1e-12)


def test_opposite_signs_give_minus_one_and_ranks_ignore_the_scale(images: torch.Tensor) -> None:
    method = build()
    maps = np.random.default_rng(0).normal(size=(5, 8, 8))
    opposite = sanity_check(method, images, explain=given(method, maps, -1e-9 * maps))
    bent = sanity_check(method, images, explain=given(method, maps, np.exp(3 * maps)))
    for measure in MEASURES:
        np.testing.assert_allclose(opposite.similarity[measure, "random_weights"], -1)
    np.testing.assert_allclose(bent.similarity["spearman", "random_weights"], 1)
    assert bent.similarity["pearson", "random_weights"].max() < 0.9


def test_constant_maps_have_no_correlation_and_are_counted(images: torch.Tensor) -> None:
    method, rng = build(), np.random.default_rng(0)
    trained, random = rng.random((5, 8, 8)), rng.random((5, 8, 8))
    trained[1] = 0
    random[2] = 7 + 1e-9 * random[2]  # rounding is no map
    found = sanity_check(method, images, explain=given(method, trained, random))
    for measure in MEASURES:
        undefined = np.isnan(found.similarity[measure, "random_weights"])
        assert np.flatnonzero(undefined).tolist() == [1, 2]
        undefined = np.isnan(found.similarity[measure, "other_image"])
        assert np.flatnonzero(undefined).tolist() == sorted([1, *np.flatnonzero(found.other == 1)])
    assert "constant maps, without a correlation: 1 trained, 1 with random weights" in str(found)
    none = sanity_check(method, images, explain=given(method, np.zeros_like(trained), random))
    assert "n/a" in str(none) and none.to_frame().similarity.isna().all()
    for view in none.views:
        none.plot(view=view).figure.canvas.draw()


@pytest.mark.parametrize("name", METHODS)
def test_the_method_is_left_as_it_was_and_only_the_tower_of_its_copy_changes(name: str, images: torch.Tensor) -> None:
    method = build(name).train()
    before = {key: tensor.clone() for key, tensor in method.state_dict().items()}
    trainable = [key for key, one in method.named_parameters() if one.requires_grad]
    seen: list[Method] = []

    def remember(one: Method, images: torch.Tensor) -> torch.Tensor:
        assert not one.training
        seen.append(one)
        return edges(one, images)

    found = sanity_check(method, images, explain=remember)
    assert seen[0] is method and method.training
    assert trainable == [key for key, one in method.named_parameters() if one.requires_grad]
    after, copied = method.state_dict(), seen[1].state_dict()
    changed = {key for key in before if not torch.equal(before[key], copied[key])}
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(key.startswith("backbone.") for key in changed)
    constant = {key for key in before if before[key].unique().numel() == 1}  # norms of an untrained tower
    assert changed >= {key for key in before if key.startswith("backbone.")} - constant
    with torch.no_grad():
        logits = [one.eval()(images).logits for one in seen]
    assert not torch.allclose(*logits, atol=1e-3)
    for predicted, expected in zip((found.predicted, found.predicted_random), logits, strict=True):
        assert np.array_equal(predicted, expected.argmax(1).numpy())


def test_both_maps_are_of_the_class_that_the_trained_method_predicts(images: torch.Tensor) -> None:
    method = build()
    with torch.no_grad():
        method.head.bias -= method(images).logits.mean(0)  # decisions that differ between images
    asked: list[Any] = []

    def explain(one: Method, images: torch.Tensor, target: Any = None) -> torch.Tensor:
        asked.append(target)
        return edges(one, images)

    found = sanity_check(method, images, explain=explain)
    assert len(set(found.predicted)) > 1 and (found.predicted != found.predicted_random).any()
    assert [target.tolist() for target in asked] == [found.predicted.tolist()] * 2
    sanity_check(method, images, explain=functools.partial(explain, target=2))
    assert asked[2:] == [2, 2]
    sanity_check(method, images, explain=lambda one, images: explain(one, images))
    assert asked[4:] == [None, None]


def test_grad_cam_can_be_asked_and_the_seed_decides(images: torch.Tensor) -> None:
    method = build()
    explain = functools.partial(grad_cam, block=1)
    first, again, other = (sanity_check(method, images, explain=explain, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.trained, grad_cam(method, images, block=1).maps)
    np.testing.assert_array_equal(first.random, again.random)
    assert not np.array_equal(first.random, other.random) and np.array_equal(first.trained, other.trained)
    assert first.arguments["explain"] == "grad_cam, block=1" and first.explanation in str(first)
    assert sorted(first.other) == list(range(5)) and (first.other != np.arange(5)).all()
    frame = first.to_frame()
    assert len(frame) == 5 * 2 * 2
    row = frame[(frame.image == 3) & (frame.compared_with == "other_image") & (frame.measure == "pearson")].iloc[0]
    assert row.similarity == first.similarity["pearson", "other_image"][3] and row.other == first.other[3]


def test_errors_say_what_is_expected(images: torch.Tensor) -> None:
    method = build()
    with pytest.raises(ValueError, match=r"1 images given; .* give two or more"):
        sanity_check(method, images[:1], explain=edges)
    with pytest.raises(ValueError, match=r"explain gave maps \(3, 8, 8\); expected \(5, h, w\)"):
        sanity_check(method, images, explain=lambda one, images: np.zeros((3, 8, 8)))
    with pytest.raises(ValueError, match="not finite"):
        sanity_check(method, images, explain=lambda one, images: np.full((5, 8, 8), np.nan))
    with pytest.raises(ValueError, match="of one size"):
        sanity_check(method, images, explain=given(method, np.ones((5, 8, 8)), np.ones((5, 4, 4))))
    assert not method.train().backbone.training
    with pytest.raises(ZeroDivisionError):
        sanity_check(method, images, explain=lambda one, images: 1 / 0)
    assert method.training
