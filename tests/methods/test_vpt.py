"""VPT: recorded features, parameter counts, its two recipes and what they do to images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from towers import recorded_tower

import workbench as wb
from workbench.methods.vpt import VPT, VPTConfig

CLASSES = wb.Classes(("a", "b", "c"), np.array([50, 20, 5]), wb.GroupRule())


def small(**options: Any) -> VPT:
    tower = wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=32)
    method = wb.create_method("vpt", tower, CLASSES, **{"prompts": 3, **options})
    assert isinstance(method, VPT)
    return method


@pytest.mark.parametrize(
    ("case_id", "key", "depth"),
    [("kmnp_vpt_deep", "out.kmnp_deep.cls", "deep"), ("kmnp_vpt_shallow", "out.kmnp_shallow.cls", "shallow")],
)
def test_the_feature_is_that_of_the_original_code(
    golden: Callable[[str], Any], case_id: str, key: str, depth: Any
) -> None:
    case = golden(case_id)
    method = VPT(recorded_tower(golden("backbone_timm")), CLASSES, VPTConfig(depth=depth, prompts=3), seed=0).double()
    state = method.state()
    for name in state:
        if name.startswith("prompts."):
            state[name] = case.tensor(f"param.peft.blocks.{name.removeprefix('prompts.')}.vpt.prompt")
    method.load_state(state)
    case.check(method.encode(case.tensor("in.image")).features, key)


def test_parameter_counts_are_the_papers() -> None:
    with torch.device("meta"):
        tower = wb.load_backbone("vit_base_patch16_224.augreg_in21k", weights="meta")
        deep, shallow = (VPT(tower, CLASSES, VPTConfig(depth=depth), seed=0) for depth in ("deep", "shallow"))
    assert sum(prompt.numel() for prompt in deep.prompts.values()) == 92_160  # LPT Table 1: 92K
    assert sum(prompt.numel() for prompt in shallow.prompts.values()) == 7_680


def test_the_recipes_differ_in_start_length_and_crops() -> None:
    lpt, vpt = small(), small(recipe="vpt", blocks=2)
    assert lpt.prompts["0"].abs().max() < 0.1 and list(vpt.prompts) == ["4", "5"]
    bound = (6 / (3 * 16**2 + lpt.backbone.width)) ** 0.5
    assert 0.8 * bound < vpt.prompts["4"].abs().max() <= bound
    manifest = wb.Manifest.load("digits_lt")
    (one,), (other,) = lpt.stages(manifest), vpt.stages(manifest)
    assert (one.epochs, one.lr, one.weight_decay, one.warmup_epochs) == (20, 0.02, 1e-4, 5)
    assert (other.epochs, other.schedule, other.warmup_epochs) == (100, "cosine_warmup", 10)
    assert lpt.preprocessing(False).resize_mode == "squash" and vpt.preprocessing(False).resize_mode == "shorter"
    assert lpt.preprocessing(True).crop == "random_resized" and vpt.preprocessing(True).crop == "random"
    assert small(sampler="class_aware").stages(manifest)[0].samplers == ("class_aware",)


def test_dropout_acts_in_training_only() -> None:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for options in ({"prompt_dropout": 0.5}, {"head_dropout": 0.5}):
        method = small(**options)
        test = method.eval()(images).logits
        assert torch.equal(test, method(images).logits) and not torch.equal(method.train()(images).logits, test)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": 0}, "linear_probe"),
        ({"depth": "flat"}, "deep, shallow"),
        ({"recipe": "ours"}, "lpt, vpt"),
        ({"head": "cos"}, "cosine"),
        ({"sampler": "balanced"}, "shuffle, class_aware"),
        ({"blocks": 9}, "give 1 to 6"),
        ({"head_dropout": 1.0}, r"lie in \[0, 1\)"),
    ],
)
def test_a_wrong_option_says_what_is_allowed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)
