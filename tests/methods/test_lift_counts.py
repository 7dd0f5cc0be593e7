"""LIFT's parameter counts: the printed tables to the last digit, recorded counts exactly, Table 10's formulas."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.backbones import Backbone
from workbench.methods import Method
from workbench.methods.lift import LIFT, LIFTConfig

B16, L14 = "vit_base_patch16_clip_quickgelu_224.openai", "vit_large_patch14_clip_quickgelu_224.openai"
L14_336, RN50 = "vit_large_patch14_clip_quickgelu_336.openai", "resnet50_clip.openai"
IN21K = "vit_base_patch16_224.augreg_in21k_ft_in1k"

# (where, tower, classes, tuner, tuned parameters without the classifier in millions as printed)
PRINTED = [
    ("Table 1, 23", B16, 1000, "adaptformer", "0.62"),
    ("Table 2, 24", B16, 365, "adaptformer", "0.18"),
    ("Table 3, 25", B16, 8142, "adaptformer", "4.75"),
    ("Table 4", B16, 100, "adaptformer", "0.10"),
    ("Table 4", IN21K, 100, "adaptformer", "0.10"),
    ("Table 23", IN21K, 1000, "adaptformer", "0.62"),
    ("Table 17", L14, 1000, "adaptformer", "0.86"),
    ("Table 18", L14, 365, "adaptformer", "0.27"),
    ("Table 19", L14, 8142, "adaptformer", "6.37"),
    ("Table 20", L14_336, 8142, "adaptformer", "6.37"),
    ("Table 21", RN50, 1000, "ssf", "0.002"),
    ("Table 21", RN50, 1000, "bitfit", "0.034"),
    ("Table 21", RN50, 1000, "ssf+bitfit", "0.036"),
    ("Table 22", RN50, 365, "ssf+bitfit", "0.036"),
]


@cache
def shared_tower(name: str) -> Backbone:
    return wb.load_backbone(name, weights="meta")


def on_meta(backbone: str, num_classes: int, *, tuner: str = "adaptformer", **options: Any) -> LIFT:
    inside = any(part in tuner for part in ("lora", "ssf", "arbitrary"))  # these change the tower they are given
    with torch.device("meta"):
        tower = wb.load_backbone(backbone, weights="meta") if inside else shared_tower(backbone)
        classes = wb.Classes(tuple(f"class {i}" for i in range(num_classes)), np.full(num_classes, 10), wb.GroupRule())
        return LIFT(tower, classes, LIFTConfig(tuner=tuner, **options), seed=0)


def tuned_without_head(method: Method) -> int:
    named = method.named_parameters()
    return sum(p.numel() for name, p in named if name.startswith(method.tuned) and not name.startswith("head."))


@pytest.mark.parametrize(("where", "backbone", "num_classes", "tuner", "millions"), PRINTED)
def test_counts_are_the_printed_ones(where: str, backbone: str, num_classes: int, tuner: str, millions: str) -> None:
    count = tuned_without_head(on_meta(backbone, num_classes, tuner=tuner))
    assert f"{count / 1e6:.{len(millions) - 2}f}" == millions, where


def test_counts_equal_the_recorded_ones_exactly(golden: Callable[[str], Any]) -> None:
    arrays = golden("lift_param_counts").arrays
    names = {"ViT-B/16": B16, "ViT-L/14": L14}
    tuners = {"ln": "layer_norm"}
    columns = ("arch", "num_classes", "method", "count")
    rows = list(zip(*(arrays[f"out.{column}"].tolist() for column in columns), strict=True))
    rows = [row for row in rows if row[2] != "all"]
    assert len(rows) == 80
    for arch, num_classes, kind, count in rows:
        assert tuned_without_head(on_meta(names[arch], num_classes, tuner=tuners.get(kind, kind))) == count, (
            arch,
            kind,
        )


@pytest.mark.parametrize(
    ("tuner", "per_block"),
    [
        ("bitfit", lambda d, r, p: 11 * d),
        ("vpt_deep", lambda d, r, p: p * d),
        ("adapter", lambda d, r, p: (2 * r + 3) * d + r),
        ("lora", lambda d, r, p: 4 * r * d),
        ("adaptformer", lambda d, r, p: (2 * r + 3) * d + r + 1),
        ("adaptformer_original", lambda d, r, p: (2 * r + 1) * d + r),
        ("ssf", lambda d, r, p: 22 * d),
    ],
)
def test_a_block_has_the_parameters_of_table_10(tuner: str, per_block: Callable[[int, int, int], int]) -> None:
    for blocks in (1, 12):
        method = on_meta(B16, 1000, tuner=tuner, blocks=blocks, bottleneck=6, prompts=7)
        assert tuned_without_head(method) == blocks * per_block(768, 6, 7)


def test_arbitrary_masks_take_their_share_of_every_matrix_and_full_tuning_all_of_it() -> None:
    share = 0.01  # of q, k, v, of the projection and of both layers of the MLP, each with its bias as one more column
    matrices = [(2304, 769), (768, 769), (3072, 769), (768, 3073)]
    expected = 12 * sum(int(share * rows * columns) for rows, columns in matrices)
    assert tuned_without_head(on_meta(B16, 1000, tuner="arbitrary", proportion=share)) == expected
    assert tuned_without_head(on_meta(B16, 1000, tuner="full")) == 85_054_464
    assert tuned_without_head(on_meta(B16, 1000, tuner="partial", blocks=2)) == 85_054_464 // 6
