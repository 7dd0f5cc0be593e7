"""Operations of the prompt methods on a ViT-B/16 at 224 px, counted on the meta device and by hand.

By hand: a block of width D costs 12 T D^2 + 2 T^2 D multiply-adds on T tokens (queries, keys, values and projection 4,
the MLP 8; attention logits and their product with the values T^2 D each). VPT and LPT have 10 prompts per block, and
LPT's last L - K = 6 blocks 10 group prompts more. The public code of LPT runs two whole passes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.diagnostics.cost import cost

D, PATCHES, CLASSES, GROUPS = 768, 196, 365, 20
IMAGE, VPT, BOTH = PATCHES + 1, PATCHES + 11, PATCHES + 21  # tokens: the image's, with 10 prompts, with 20
EMBED, HEAD = PATCHES * D * 3 * 16 * 16, CLASSES * D


def block(tokens: int, width: int = D) -> int:
    return 12 * tokens * width**2 + 2 * tokens**2 * width


def method(name: str, *, tower: str = "vit_base_patch16_224", device: str = "meta", **options: Any) -> wb.Method:
    classes = wb.Classes(tuple(map(str, range(CLASSES))), np.full(CLASSES, 20), wb.GroupRule())
    with torch.device(device):
        backbone = wb.load_backbone(tower, weights="meta" if device == "meta" else "random")
        return wb.create_method(name, backbone, classes, **options)


@pytest.fixture(scope="module")
def flops() -> Callable[..., int]:
    """flops("lpt", query="pretrained"): of one image's forward pass, a multiply-add counting as two."""

    @cache
    def count(name: str, **options: Any) -> int:
        return cost(method(name, **options)).flops

    return count


def test_one_pass_with_prompts_is_counted_as_by_hand(flops: Callable[..., int]) -> None:
    assert flops("vpt") == 2 * (EMBED + 12 * block(VPT) + HEAD)
    assert flops("gnm_pt") == flops("vpt"), "the same prompts; what it does otherwise is training"


def test_both_passes_of_lpt_share_the_first_blocks(flops: Callable[..., int]) -> None:
    keys = GROUPS * D
    assert flops("lpt") == 2 * (EMBED + 12 * block(VPT) + 6 * block(BOTH) + keys + HEAD)
    assert flops("lpt") <= 1.54 * flops("vpt")  # 1.52; with the first blocks twice, as in the public code, 2.02
    assert flops("lpt", phases="shared") == flops("vpt")
    # a query of the bare tower has nothing in common with the prompted pass but the image
    apart = 2 * EMBED + 12 * block(IMAGE) + 6 * block(VPT) + 6 * block(BOTH) + keys + HEAD
    assert flops("lpt", query="pretrained") == 2 * apart > 1.54 * flops("vpt")


def test_lt_dpt_needs_no_second_pass_and_its_saliency_next_to_nothing() -> None:
    """On a ViT-Ti/16, whose arithmetic a CPU does at once: the saliency cannot be computed on the meta device."""
    width, k, prompts = 192, 2, 10
    background = 6 * (GROUPS * width + k * prompts * width)  # similarities to the keys, the weighted sum of k groups
    blur = 5 * 64 * (68 + 64)  # along the rows, then the columns of a 64 x 64 map; Fourier transforms are not counted
    blocks = 6 * block(VPT, width) + 6 * block(BOTH, width)
    by_hand = 2 * (EMBED // D * width + blocks + background + blur + CLASSES * width)
    assert cost(method("lt_dpt", tower="vit_tiny_patch16_224", device="cpu"), repeats=1).flops == by_hand
    assert by_hand < 1.03 * cost(method("vpt", tower="vit_tiny_patch16_224")).flops
