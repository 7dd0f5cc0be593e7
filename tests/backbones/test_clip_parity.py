"""timm's and open_clip's image towers compute the same with the same weights, converted by timm's own function.

Files of whole towers are in test_weight_files.py; here are small towers with OpenAI's QuickGELU and the recorded CLIP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import QuickGELU
from open_clip.transformer import VisionTransformer as OpenClipViT
from timm.layers import get_act_layer
from timm.models import byobnet, vision_transformer
from torch import nn
from towers import recorded_clip_image_tower, small_clip_vit

from workbench.backbones import ViT


@pytest.mark.parametrize("quick", [True, False])
def test_a_vit_gives_the_features_of_open_clip(quick: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = OpenClipViT(
            image_size=32, patch_size=8, width=64, layers=2, heads=4, mlp_ratio=4, output_dim=16,
            act_layer=QuickGELU if quick else nn.GELU,
        ).eval()  # fmt: skip
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
        images = torch.randn(4, 3, 32, 32)
    model = small_clip_vit(64, 4, 16, get_act_layer("quick_gelu") if quick else nn.GELU)
    state = {f"visual.{name}": value for name, value in theirs.state_dict().items()}
    converted = vision_transformer.checkpoint_filter_fn(state, model)
    assert not converted.pop("head.bias", torch.zeros(1)).any()
    model.load_state_dict(converted, strict=True)
    tower = ViT(model, name="small")
    with torch.inference_mode():
        expected = theirs(images)
    torch.testing.assert_close(tower.project(tower.encode(images)), expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.1
    other = small_clip_vit(64, 4, 16, nn.GELU if quick else get_act_layer("quick_gelu"))
    other.load_state_dict(converted, strict=True)
    wrong = ViT(other, name="small")
    assert (wrong.project(wrong.encode(images)) - expected).abs().max() > 1e-3  # the test can tell the two GELUs apart


@pytest.mark.slow
def test_a_clip_resnet_gives_the_features_of_open_clip() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = ModifiedResNet((3, 4, 6, 3), output_dim=1024, heads=32, image_size=64, width=64).eval()
        images = torch.randn(2, 3, 64, 64)
    model = timm.create_model("resnet50_clip", pretrained=False, num_classes=1024, img_size=64).eval()
    state = {f"visual.{name}": value for name, value in theirs.state_dict().items()}
    model.load_state_dict(byobnet.checkpoint_filter_fn(state, model), strict=True)
    with torch.inference_mode():
        expected = theirs(images)
        torch.testing.assert_close(model(images), expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 1e-3


def test_image_features_of_the_recorded_clip(golden: Callable[[str], Any]) -> None:
    case = golden("clip_zeroshot")
    tower = recorded_clip_image_tower(case)
    case.check(tower.project(tower.encode(case.tensor("in.image"))), "out.image_features")
