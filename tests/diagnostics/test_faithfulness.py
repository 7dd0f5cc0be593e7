"""Deletion and insertion curves in closed form: a model whose probability is linear in planted pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import auc as sklearn_auc
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.transforms.functional import gaussian_blur

import workbench as wb
from workbench.backbones import ViT
from workbench.diagnostics.faithfulness import MEASURES, _without_content, faithfulness
from workbench.diagnostics.grad_cam import grad_cam
from workbench.methods import Method, Output

CLASSES = wb.Classes(("a", "b $x$", "c"), np.array([50, 20, 5]), wb.GroupRule())
NORMALISATION = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def tower() -> ViT:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 0}
        return ViT(VisionTransformer(**sizes).eval(), name="small", normalisation=NORMALISATION)


def probe() -> Method:
    method = wb.create_method("linear_probe", tower(), CLASSES).eval()
    with torch.no_grad():
        method.head.weight *= 30  # probabilities that move
    return method


class Planted(nn.Module):
    """Class 1 has probability 0.1 + 0.8 x the mean value of the pixels of the middle, a quarter of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.classes, self.name, self.device = tower(), CLASSES, "planted", torch.device("cpu")

    def forward(self, images: torch.Tensor) -> Output:
        value = self.backbone.pixels(images.double())[:, :, 8:24, 8:24].mean((1, 2, 3))
        p = 0.1 + 0.8 * value
        logits = torch.stack([(1 - p) / 2, p, (1 - p) / 2], 1).log()
        return Output(logits, images.flatten(1))


MIDDLE = np.zeros((12, 32, 32))
MIDDLE[:, 8:24, 8:24] = 1


def squares() -> torch.Tensor:
    """White squares in the middle of black images, normalised."""
    mean, std = (torch.tensor(values)[:, None, None] for values in NORMALISATION)
    return (torch.from_numpy(MIDDLE)[:, None].float() - mean) / std


@pytest.fixture
def images() -> torch.Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in NORMALISATION)
    return (torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) - mean) / std


@pytest.fixture
def maps() -> np.ndarray:
    return np.random.default_rng(1).random((4, 32, 32))


def test_areas_of_a_perfect_map_and_of_its_reverse_are_known() -> None:
    # all pixels: 0.9; the mean colour is 1/4, so without any: 0.3; between them a line over a quarter of the pixels
    few, many = 0.3 + 0.6 * 0.25 / 2, 0.9 - 0.6 * 0.25 / 2
    for maps, deletion, insertion, sign in ((MIDDLE, few, many, 1), (-MIDDLE, many, few, -1)):
        found = faithfulness(Planted(), squares(), maps, target=1, baseline="mean")
        np.testing.assert_allclose(found.auc["deletion", "map"], deletion, atol=1e-6)
        np.testing.assert_allclose(found.auc["insertion", "map"], insertion, atol=1e-6)
        np.testing.assert_allclose(found.curves["deletion", "map"][0, [0, -1]], [0.9, 0.3], atol=1e-6)
        for measure in MEASURES:  # random blocks: 0.6 in expectation
            random = found.auc[measure, "random"]
            assert abs(random.mean() - 0.6) < 4 * random.std(ddof=1) / len(random) ** 0.5 and random.std() > 0
        low = found.difference["deletion" if sign > 0 else "insertion"]
        high = found.difference["insertion" if sign > 0 else "deletion"]
        assert low.high < 0 < high.low and low.n == 12 and low.unit == "images"
    assert "lower is better" in found.caption("deletion") and "higher is better" in found.caption("insertion")


def test_a_step_of_a_random_block_deletes_whole_blocks() -> None:
    found = faithfulness(Planted(), squares(), MIDDLE, target=1, baseline="mean", steps=16)
    lost = found.curves["deletion", "random"][:, :-1] - found.curves["deletion", "random"][:, 1:]
    # 16 blocks of 8 x 8 pixels; each of the four of the middle takes a quarter of 0.6, the others nothing
    np.testing.assert_allclose(np.sort(lost, axis=1), [[0] * 12 + [0.15] * 4] * 12, atol=1e-6)
    assert found.block_size == 8 and len({tuple(np.flatnonzero(row > 0.1)) for row in lost}) > 6


def test_curves_are_those_of_pixels_changed_by_hand(images: torch.Tensor, maps: np.ndarray) -> None:
    method = probe()
    found = faithfulness(method, images, maps, steps=5, baseline="mean", target=[0, 1, 2, 0])
    np.testing.assert_allclose(found.shares, np.rint(np.arange(6) * 1024 / 5) / 1024)
    for i, cls in enumerate([0, 1, 2, 0]):
        colour = images[i].mean((1, 2))  # normalising is linear, so the mean of normalised values is the same colour
        order = np.argsort(-maps[i].ravel())
        for step, share in enumerate(found.shares):
            gone = torch.zeros(1024, dtype=torch.bool)
            gone[order[: round(share * 1024)]] = True
            for measure, where in (("deletion", gone), ("insertion", ~gone)):
                changed = torch.where(where.view(32, 32), colour[:, None, None], images[i])
                with torch.no_grad():
                    expected = method(changed[None]).logits.softmax(1)[0, cls].item()
                assert found.curves[measure, "map"][i, step] == pytest.approx(expected, abs=1e-5)


def test_inserting_is_deleting_in_the_opposite_order_backwards(images: torch.Tensor, maps: np.ndarray) -> None:
    first, opposite = (faithfulness(probe(), images, sign * maps, steps=8) for sign in (1, -1))
    np.testing.assert_allclose(first.curves["insertion", "map"], opposite.curves["deletion", "map"][:, ::-1], atol=1e-5)
    np.testing.assert_allclose(first.auc["deletion", "map"], opposite.auc["insertion", "map"], atol=1e-5)


def test_areas_and_intervals_are_those_of_other_libraries(images: torch.Tensor, maps: np.ndarray) -> None:
    found = faithfulness(probe(), images, maps, steps=7)
    for measure in MEASURES:
        for order in ("map", "random"):
            expected = [sklearn_auc(found.shares, curve) for curve in found.curves[measure, order]]
            np.testing.assert_allclose(found.auc[measure, order], expected)
        test = stats.ttest_rel(found.auc[measure, "map"], found.auc[measure, "random"])
        interval = test.confidence_interval(0.95)
        given = found.difference[measure]
        np.testing.assert_allclose([given.low, given.high, given.p], [interval.low, interval.high, test.pvalue])
    assert "fewer than 5 images: do not lean on these intervals" in str(found)


def test_a_constant_map_is_the_random_order_and_so_are_ties(images: torch.Tensor, maps: np.ndarray) -> None:
    flat = np.zeros_like(maps)
    flat[0] = maps[0]
    found = faithfulness(probe(), images, flat, steps=4)
    for measure in MEASURES:
        same = found.curves[measure, "map"] == found.curves[measure, "random"]
        assert same[1:].all() and not same[0].all()
    assert found.constant.tolist() == [False, True, True, True]
    assert "3 of 4 maps are constant and have the random order" in str(found)
    # all but the first block are tied: what goes after it is the random order of the rest
    only = np.zeros((12, 32, 32))
    only[:, :8, :8] = 1
    found = faithfulness(Planted(), squares(), only, target=1, baseline="mean", steps=16)
    lost = -np.diff(found.curves["deletion", "map"], axis=1)
    np.testing.assert_allclose(np.sort(lost, axis=1), [[0] * 12 + [0.15] * 4] * 12, atol=1e-6)


def test_all_constant_maps_differ_by_nothing(images: torch.Tensor) -> None:
    found = faithfulness(probe(), images, np.ones((4, 32, 32)), steps=3)
    for given in found.difference.values():
        assert (given.estimate, given.low, given.high) == (0, 0, 0) and given.verdict == "no difference shown"


def test_baselines_are_of_the_image_as_it_looks(images: torch.Tensor) -> None:
    backbone = tower()
    pixels = backbone.pixels(images)
    mean = backbone.pixels(_without_content(backbone, images, "mean"))
    expected = pixels.mean((2, 3), keepdim=True).expand_as(mean)
    torch.testing.assert_close(mean, expected)
    blurred = backbone.pixels(_without_content(backbone, images, "blur"))
    mirrored = torch.from_numpy(np.pad(pixels.numpy(), ((0, 0), (0, 0), (16, 16), (16, 16)), mode="symmetric"))
    expected = gaussian_blur(mirrored, [33, 33], [4.0, 4.0])[:, :, 16:-16, 16:-16]
    torch.testing.assert_close(blurred, expected, atol=1e-5, rtol=0)
    loud = _without_content(backbone, 9 * images, "blur")  # pixels beyond black and white look black and white
    assert 0 <= backbone.pixels(loud).min() and loud.abs().max() < images.abs().max()


def test_an_image_of_one_colour_loses_nothing(maps: np.ndarray) -> None:
    images = torch.tensor([0.3, -1.0, 0.5])[None, :, None, None].expand(4, 3, 32, 32)
    for baseline in ("blur", "mean"):
        found = faithfulness(probe(), images, maps, steps=3, baseline=baseline)
        for curve in found.curves.values():
            np.testing.assert_allclose(curve, curve[0, 0], atol=1e-5)


def test_batches_are_bounded_and_change_nothing(images: torch.Tensor, maps: np.ndarray) -> None:
    method = probe().train()
    before = {key: tensor.clone() for key, tensor in method.state_dict().items()}
    sizes: list[int] = []

    def look(module: Any, inputs: tuple[torch.Tensor], output: Output) -> None:
        assert not module.training and not output.logits.requires_grad
        sizes.append(len(inputs[0]))

    handle = method.register_forward_hook(look)
    small = faithfulness(method, images, maps, steps=4, batch_size=3)
    handle.remove()
    assert max(sizes) == 3 and sum(sizes) == 4 + 4 * (2 + 4 * 3)  # decisions, both ends, three steps of four curves
    large = faithfulness(method, images, maps, steps=4)
    for key, curve in small.curves.items():
        np.testing.assert_allclose(curve, large.curves[key], atol=1e-5)
    assert method.training and all(torch.equal(before[key], one) for key, one in method.state_dict().items())


def test_the_class_is_the_predicted_one_unless_given(images: torch.Tensor, maps: np.ndarray) -> None:
    method = probe()
    with torch.no_grad():
        probability = method(images).logits.softmax(1).numpy()
    found, other = faithfulness(method, images, maps, steps=1), faithfulness(method, images, maps, steps=1, target=2)
    assert np.array_equal(found.targets, probability.argmax(1)) and np.array_equal(found.predicted, other.predicted)
    for one, expected in ((found, probability.max(1)), (other, probability[:, 2])):
        np.testing.assert_allclose(one.curves["deletion", "map"][:, 0], expected, atol=1e-5)
        np.testing.assert_allclose(one.curves["insertion", "random"][:, -1], expected, atol=1e-5)


def test_results_of_grad_cam_are_taken_and_named(images: torch.Tensor) -> None:
    method = probe()
    given = grad_cam(method, images, 1)
    found = faithfulness(method, images, given, target=given.targets, steps=2, seed=3)
    plain = faithfulness(method, images, torch.from_numpy(given.maps), target=1, steps=2, seed=3)
    for key, curve in found.curves.items():
        np.testing.assert_array_equal(curve, plain.curves[key])
    assert found.explanation == "grad_cam" and found.arguments["made_by"]["target"] == [1] * 4
    frame = found.to_frame()
    assert len(frame) == 4 * 2 * 2 * (1 + 3)
    row = frame[(frame.image == 2) & (frame.measure == "insertion") & (frame.order == "random")]
    assert row[row.quantity == "auc"].value.item() == found.auc["insertion", "random"][2]
    assert row[row.share == 1].value.item() == found.curves["insertion", "random"][2, -1]


def test_errors_say_what_is_expected(images: torch.Tensor, maps: np.ndarray) -> None:
    method = probe()
    with pytest.raises(ValueError, match=r"maps are \(4, 4, 4\), the images need \(4, 32, 32\)"):
        faithfulness(method, images, maps[:, :4, :4])
    with pytest.raises(ValueError, match="not finite"):
        faithfulness(method, images, maps + np.nan)
    with pytest.raises(ValueError, match="from 1 to the 1024 pixels"):
        faithfulness(method, images, maps, steps=0)
    with pytest.raises(ValueError, match="'grey' is one of blur, mean"):
        faithfulness(method, images, maps, baseline="grey")  # type: ignore[arg-type]
    for target in (3, -1, [0, 1], 0.5):
        with pytest.raises(ValueError, match="give one class or 4, one for each image, from 0 to 2"):
            faithfulness(method, images, maps, target=target)
