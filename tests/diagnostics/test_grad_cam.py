"""Grad-CAM against pytorch-grad-cam where its assumptions hold, and right for methods that it does not know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from towers import READ_TEXT, recorded_tower, small_clip_method

import workbench as wb
from workbench.backbones import ViT
from workbench.diagnostics.grad_cam import grad_cam
from workbench.methods import METHODS, method_class

CLASSES = wb.Classes(("a", "b $x$", "c"), np.array([50, 20, 5]), wb.GroupRule())


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def tower(**options: Any) -> ViT:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 0}
        return ViT(VisionTransformer(**(sizes | options)).eval(), name="small")


def test_maps_are_those_of_the_package_recorded(golden: Callable[[str], Any]) -> None:
    case = golden("gradcam")
    backbone = recorded_tower(case)
    classes = wb.Classes(tuple(map(str, range(7))), np.full(7, 9), wb.GroupRule())
    method = wb.create_method("linear_probe", backbone, classes).double()
    with torch.no_grad():
        method.head.weight.copy_(case.tensor("param.head.weight"))
        method.head.bias.copy_(case.tensor("param.head.bias"))
    found = grad_cam(method, case.tensor("in.image"), case.tensor("in.target_class", torch.int64))
    case.check(found.maps, "out.cam_image_size")


def test_maps_are_those_of_the_installed_package(images: torch.Tensor) -> None:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    method = wb.create_method("linear_probe", tower(), CLASSES).eval()

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.method = method

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.method(x).logits

    layer = method.backbone.blocks[-1].inner.norm1
    reshape = lambda tokens: tokens[:, 1:].transpose(1, 2).unflatten(2, (4, 4))  # noqa: E731
    with GradCAM(Logits(), [layer], reshape_transform=reshape) as package:
        theirs = package(images.clone().requires_grad_(), [ClassifierOutputTarget(k) for k in (0, 2, 1)])
    np.testing.assert_allclose(grad_cam(method, images, [0, 2, 1]).maps, theirs, atol=2e-3)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_map_and_is_left_as_it_was(name: str, images: torch.Tensor) -> None:
    if name in READ_TEXT:
        method = small_clip_method(name, CLASSES)
    else:
        method = wb.create_method(name, tower(), CLASSES, **method_class(name).small())
    method.eval().requires_grad_(False)
    found = grad_cam(method, images)
    assert found.maps.shape == (3, 32, 32) and found.maps.min() >= 0 and found.maps.max() <= 1
    assert found.maps.max() > 0.5 and np.array_equal(found.targets, found.predicted)
    assert np.array_equal(found.predicted, method(images).logits.argmax(1).numpy())
    assert not method.training and all(p.grad is None for p in method.parameters())


@pytest.mark.parametrize(
    "options",
    [{"reg_tokens": 3}, {"img_size": (32, 32), "patch_size": 16}, {"class_token": False, "global_pool": "avg"}],
    ids=["registers", "large patches", "average pooling"],
)
def test_other_token_layouts(options: dict[str, Any], images: torch.Tensor) -> None:
    method = wb.create_method("vpt", tower(**options), CLASSES, prompts=2).eval()
    assert grad_cam(method, images).maps.max() > 0.5


def test_a_planted_patch_is_found() -> None:
    backbone = tower(depth=1, class_token=False, global_pool="avg", embed_dim=24)
    method = wb.create_method("linear_probe", backbone, CLASSES).eval()
    image = torch.zeros(1, 3, 32, 32)
    image[:, :, 8:16, 16:24] = 6.0  # row 1, column 2 of the grid
    with torch.no_grad():
        feature = backbone.encode(image) - backbone.encode(torch.zeros_like(image))
        method.head.weight.copy_(torch.cat([feature, -feature, torch.zeros_like(feature)]))
    row = grad_cam(method, image, 0).to_frame().iloc[0]
    assert 8 <= row.peak_row < 16 and 16 <= row.peak_column < 24


def test_labels_of_a_data_set_are_read_only_and_explained_without_a_warning(images: torch.Tensor) -> None:
    method = wb.create_method("linear_probe", tower(), CLASSES)
    labels = np.arange(len(images)) % len(CLASSES)
    labels.setflags(write=False)
    assert grad_cam(method, images, labels).targets.tolist() == labels.tolist()  # a warning would be an error


def test_lpt_reads_its_second_pass_and_says_where_no_gradient_is(images: torch.Tensor) -> None:
    method = wb.create_method("lpt", tower(depth=4), CLASSES, prompts=2, groups=3).eval()
    last, first = grad_cam(method, images), grad_cam(method, images, block=0)
    assert not np.allclose(last.maps, first.maps)
    with pytest.raises(ValueError, match="has 4; give 0 to 3"):
        grad_cam(method, images, block=9)
    with pytest.raises(ValueError, match="classes run from 0 to 2"):
        grad_cam(method, images, 3)
    with torch.no_grad():
        method.head.weight.zero_()
    with pytest.raises(ValueError, match="Use block=-1"):
        grad_cam(method, images)


def test_clip_resnets_have_maps_too() -> None:
    backbone = wb.load_backbone("resnet50_clip.openai", weights="random", input_size=64)
    method = wb.create_method("lift", backbone, CLASSES, tuner="none", initialisation="random").eval()
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    maps = [grad_cam(method, image, k).maps for k in range(3)]  # one of them may have negative evidence only
    assert maps[0].shape == (1, 64, 64) and max(found.max() for found in maps) > 0.5
