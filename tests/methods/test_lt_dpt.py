"""LT-DPT against derived values (no code is public), the proof that its printed bias is a no-op, and its switches."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from towers import recorded_tower

import workbench as wb
from workbench import losses
from workbench.backbones import ViT
from workbench.methods import Clock
from workbench.methods.gnm_pt import GNMPT, GNMPTConfig
from workbench.methods.lt_dpt import LTDPT, LTDPTConfig

Golden = Callable[[str], Any]
READINGS = list(product(("cls", "gnm_avg"), ("prompt_query", "patch_query", "both")))


def recorded(golden: Golden, monkeypatch: pytest.MonkeyPatch, head: str, bias_rows: Any) -> LTDPT:
    """A float64 LT-DPT on the recorded tower, with the recorded prompts, keys, head, scales and saliency."""
    case = golden("ltdpt_model")
    s = case.settings
    tower = recorded_tower(case, img=16, patch=4, dim=s["D"])
    classes = wb.Classes(tuple(map(str, range(s["C"]))), case.arrays["in.class_counts"], wb.GroupRule())
    config = LTDPTConfig(
        prompts=s["nf"], groups=s["G"], group_prompts=s["nb"], top_k=s["k"], background_blocks=s["H"], dropout=0.0,
        pooling={"cls": "cls", "gnm_avg": "average"}[head], bias_rows=bias_rows,
    )  # fmt: skip
    method = LTDPT(tower, classes, config, seed=0).double()
    names = {"prompts": "foreground", "groups": "background", "keys": "keys", "head.weight": "head"}
    state = {name: case.tensor(f"param.{other}") for name, other in names.items()}
    state |= {"alpha": torch.tensor(s["alpha"]).double(), "beta": torch.tensor(s["beta"]).double()}
    method.load_state(state)
    given = case.tensor("in.saliency").unflatten(1, (4, 4))
    monkeypatch.setattr(method, "patch_saliency", lambda images: given)
    return method


@pytest.mark.parametrize(("head", "bias_rows"), READINGS)
def test_every_reading_equals_the_derived_values(
    golden: Golden, monkeypatch: pytest.MonkeyPatch, head: str, bias_rows: str
) -> None:
    case, at = golden("ltdpt_model"), f"{head}_{bias_rows}"
    method = recorded(golden, monkeypatch, head, bias_rows)
    output = method(case.tensor("in.image"))
    case.check(output.features, f"out.{at}.feature")
    case.check(output.cosine, f"out.{at}.cosine")
    found = output.extras["prompt_index"].sort(-1).values
    recorded_index = torch.from_numpy(case.arrays[f"out.{at}.topk"]).sort(-1).values
    assert torch.equal(found, recorded_index) or torch.equal(found.transpose(0, 1), recorded_index)
    monkeypatch.setattr(losses, "draw_gcl_noise", lambda shape, generator: case.tensor("in.noise_raw"))
    parts = method.loss([output], [case.tensor("in.target", torch.int64)], Clock(1, 70, 0, 1))
    case.check(parts["gcl"], f"out.{at}.gcl")
    case.check(parts["orthogonality"], f"out.{at}.orth")
    case.check(parts["loss"], f"out.{at}.total")
    parts["loss"].backward()
    for name, ours in {"alpha": method.alpha, "beta": method.beta}.items():
        case.check(0.0 if ours.grad is None else ours.grad, f"grad.{at}.{name}")
    named = {"foreground": method.prompts, "background": method.groups, "keys": method.keys}
    for name, ours in named.items():
        assert ours is not None and ours.grad is not None
        case.check(ours.grad.norm(), f"gradnorm.{at}.{name}")
    with torch.no_grad():
        method.alpha.zero_()
        method.beta.zero_()
        case.check(method(case.tensor("in.image")).cosine, f"out.{at}.cosine_alpha0")


def small(**options: Any) -> LTDPT:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = VisionTransformer(img_size=16, patch_size=4, embed_dim=32, depth=4, num_heads=2, num_classes=0)
    classes = wb.Classes(tuple("abcdef"), np.array([120, 60, 30, 15, 8, 4]), wb.GroupRule())
    options = {"prompts": 2, "groups": 4, "group_prompts": 3, **options}
    method = wb.create_method("lt_dpt", ViT(model.eval(), name="small"), classes, **options)
    assert isinstance(method, LTDPT)
    return method.eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(("pooling", "bias_rows", "acts"), [
    ("cls", "prompt_query", False), ("cls", "patch_query", True), ("cls", "both", True),
    ("average", "prompt_query", True), ("average", "patch_query", True),
])  # fmt: skip
def test_the_printed_bias_cannot_reach_the_class_token(
    images: torch.Tensor, pooling: str, bias_rows: str, acts: bool
) -> None:
    method = small(pooling=pooling, bias_rows=bias_rows)
    found = []
    for scale in (0.0, 5.0):
        with torch.no_grad():
            method.alpha.fill_(scale)
            method.beta.fill_(scale)
        found.append(method(images).logits)
    assert torch.equal(*found) != acts  # equal: bit for bit
    found[1].sum().backward()
    for scale in (method.alpha, method.beta):
        assert scale.grad is not None and bool(scale.grad != 0) == acts


def test_in_the_printed_reading_only_the_last_block_acts_on_the_average(
    images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = small()
    whole = method(images).logits
    for block in method.backbone.blocks[:-1]:
        monkeypatch.setattr(block, "attend", lambda x, bias, attend=block.attend: attend(x))
    torch.testing.assert_close(method(images).logits, whole, rtol=0, atol=1e-5)


def test_without_its_two_switches_it_is_gnm_pt(images: torch.Tensor) -> None:
    bare = small(foreground=False, background=False)
    base = GNMPT(bare.backbone, bare.classes, GNMPTConfig(prompts=2), seed=0).eval()
    base.load_state({"prompts": bare.prompts.detach(), "head.weight": bare.head.weight.detach()})
    torch.testing.assert_close(bare(images).logits, base(images).logits, rtol=0, atol=1e-5)
    assert bare.groups is None and "orthogonality" not in bare.loss(
        [bare(images)], [torch.arange(3)], Clock(1, 7, 0, 1)
    )
    only_background = small(foreground=False)
    assert only_background.bias(torch.rand(3, 16), 17 + 2 + 3, 17)[:, :, 17:19].abs().sum() == 0  # type: ignore[index]


@pytest.mark.parametrize("foreground", [True, False])
@pytest.mark.parametrize("background", [True, False])
def test_what_trains_is_there_and_gets_a_gradient(images: torch.Tensor, foreground: bool, background: bool) -> None:
    method = small(foreground=foreground, background=background)
    wanted = {name for name, _ in method.named_parameters() if name.startswith(method.tuned)}
    assert all(any(name.startswith(prefix) for name in wanted) for prefix in method.tuned)
    for name, parameter in method.named_parameters():
        parameter.requires_grad_(name in wanted)
    method.loss([method(images)], [torch.arange(3)], Clock(0, 7, 0, 1))["loss"].backward()
    assert {name for name, p in method.named_parameters() if p.grad is not None and p.grad.any()} == wanted


def test_the_selection_and_the_orthogonality_loss_equal_the_derived_values(golden: Golden) -> None:
    case = golden("ltdpt_select")
    method = small(groups=5, group_prompts=2).double()
    method.keys = torch.nn.Parameter(case.tensor("in.keys")[None])
    method.groups = torch.nn.Parameter(case.tensor("in.groups")[None])
    found, similarity, index = method.background_prompts(case.tensor("in.tokens"), 0)
    case.check(similarity, "out.s")
    case.check(index, "out.topk")
    case.check(found, "out.background")
    (found * case.tensor("in.upstream_grad")).sum().backward()
    case.check(method.keys.grad[0], "grad.keys")
    case.check(method.groups.grad[0], "grad.groups")
    case = golden("ltdpt_orth")
    for ours, theirs in {"signed": "signed", "absolute": "abs", "squared": "squared"}.items():
        method = small(cosines=ours).double()
        method.groups = torch.nn.Parameter(case.tensor("in.background_prompts"))
        value = method.orthogonality()
        case.check(value, f"out.{theirs}.mean_over_layers")
        value.backward()
        case.check(method.groups.grad, f"grad.{theirs}")


@pytest.mark.parametrize(("H", "millions"), [(3, "0.55"), (6, "1.01"), (12, "1.94")])
def test_the_parameter_counts_are_those_of_table_7(H: int, millions: str) -> None:
    with torch.device("meta"):
        tower = wb.load_backbone("vit_base_patch16_224.augreg_in21k", weights="meta")
        classes = wb.Classes(tuple(map(str, range(100))), np.full(100, 10), wb.GroupRule())
        method = LTDPT(tower, classes, LTDPTConfig(background_blocks=H), seed=0)
    assert method.groups is not None
    assert f"{(method.prompts.numel() + method.groups.numel()) / 1e6:.2f}" == millions


def test_saliency_is_that_of_the_picture_before_normalisation() -> None:
    from workbench.data.saliency import patch_scores, spectral_residual

    method = small()
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    mean, std = (torch.tensor(values)[:, None, None] for values in method.backbone.normalisation)
    expected = patch_scores(spectral_residual(pixels), (4, 4))
    torch.testing.assert_close(method.patch_saliency((pixels - mean) / std), expected, rtol=1e-3, atol=1e-3)
    assert method((pixels - mean) / std).extras["saliency"].shape == (2, 4, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"background_blocks": 5}, "give 1 to 4"),
        ({"top_k": 9}, "cannot be picked"),
        ({"bias_rows": "all"}, "prompt_query, patch_query, both"),
        ({"orthogonality": -1.0}, "must not be negative"),
        ({"pooling": "mean"}, "average, cls"),
    ],
)
def test_a_wrong_option_says_what_is_allowed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_a_scaled_bias_is_that_of_scaled_parameters_and_ends_with_its_context(images: torch.Tensor) -> None:
    model = small(bias_rows="patch_query").eval()
    with torch.no_grad():
        before = model(images).logits
        with model.scaled_bias(5, 0):
            found = model(images).logits
        assert torch.equal(model(images).logits, before) and not torch.allclose(found, before)
        model.alpha.mul_(5)
        model.beta.mul_(0)
        torch.testing.assert_close(found, model(images).logits)
