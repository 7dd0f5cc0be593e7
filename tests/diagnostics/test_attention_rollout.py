"""Attention rollout against products of matrices that are written out here, for every way prompts are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from towers import READ_TEXT, small_clip_method, small_clip_vit

import workbench as wb
from workbench.adapters.tuners import ALONE, TOGETHER
from workbench.backbones import ViT
from workbench.diagnostics.attention_rollout import attention_rollout
from workbench.methods import METHODS, Encoded, Method, method_class
from workbench.methods.linear_probe import LinearProbe

CLASSES = wb.Classes(("a", "b $x$", "c"), np.array([50, 20, 5]), wb.GroupRule())
N, GRID = 16, (4, 4)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def tower(**options: Any) -> ViT:
    """Weights large enough for attention that is far from even."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 0}
        model = VisionTransformer(**(sizes | options)).eval()
        for block in model.blocks:
            nn.init.normal_(block.attn.qkv.weight, std=0.5)
    return ViT(model, name="small")


def large_prompts(method: Method) -> Method:
    """Prompts as large as tokens; as they are drawn they would change next to nothing."""
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if name.startswith(("prompts", "shared", "pool", "keys", "groups")):
                parameter.mul_(50)
    return method.eval()


def written_out(
    method: Method,
    images: Tensor,
    prompts: Callable[[int, Tensor], Tensor],
    bias: Callable[[Tensor], Tensor | None] = lambda z: None,
    residual: float = 0.5,
) -> tuple[Tensor, Tensor, Tensor]:
    """Shares of the tokens that enter the first block, and of prompts, in each token that leaves the last.

    Block by block and for every token, where the diagnostic goes back from one. prompts(i, x): (B, p, D) of block i,
    dropped behind it. Returns (B, T, P+N), (B, T), and the class token's attention to prompts (B, L).
    """
    x = method.backbone.embed(images)
    B, n = x.shape[:2]
    sources, of_prompts, paid = torch.eye(n).expand(B, -1, -1), torch.zeros(B, n), []
    for i, block in enumerate(method.backbone.blocks):
        z = torch.cat([x, prompts(i, x)], dim=1)
        attention = block.attention(z, bias(z)).mean(1)
        paid.append(attention[:, 0, n:].sum(-1))
        step = residual * torch.eye(z.shape[1]) + (1 - residual) * attention  # (B, T, T)
        all_sources = step[:, :, :n] @ sources
        all_prompts = (step[:, :, :n] @ of_prompts[..., None])[..., 0] + step[:, :, n:].sum(-1)
        z = z + block.attend(z, bias(z))
        x = (z + block.mlp(z))[:, :n]
        sources, of_prompts = all_sources[:, :n], all_prompts[:, :n]
    return all_sources.detach(), all_prompts.detach(), torch.stack(paid, 1).detach()


def no_prompts(i: int, x: Tensor) -> Tensor:
    return x[:, :0]


@pytest.mark.parametrize("heads", ["mean", "max", "min"])
def test_without_prompts_it_is_the_product_of_the_matrices(images: Tensor, heads: str) -> None:
    method = wb.create_method("linear_probe", tower(), CLASSES).eval()
    x, product = method.backbone.embed(images), torch.eye(1 + N)
    for block in method.backbone.blocks:
        attention = block.attention(x)
        fused = {"mean": attention.mean(1), "max": attention.amax(1), "min": attention.amin(1)}[heads]
        product = (0.3 * torch.eye(1 + N) + 0.7 * fused / fused.sum(-1, keepdim=True)) @ product
        x = x + block.attend(x)
        x = x + block.mlp(x)
    found = attention_rollout(method, images, residual=0.3, heads=heads)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.rollout, product[:, 0, 1:].unflatten(1, GRID), atol=1e-6)
    assert not found.prompt_mass.any() and not found.prompt_share.any()
    for one, shares in zip(found.maps, found.rollout, strict=True):
        assert one.min() == 0 and one.max() == 1
        over_patches = one.reshape(4, 8, 4, 8).mean((1, 3))  # smoothed, but of the same places
        assert np.corrcoef(over_patches.ravel(), shares.ravel())[0, 1] > 0.9


@pytest.mark.parametrize(
    ("options", "row"),
    [
        ({"reg_tokens": 3}, lambda all_rows: all_rows[:, 0, 4:]),
        ({"class_token": False, "global_pool": "avg"}, lambda all_rows: all_rows.mean(1)),
        ({"global_pool": "avg"}, lambda all_rows: all_rows[:, 1:, 1:].mean(1)),
    ],
    ids=["registers", "average pooling", "average pooling beside a class token"],
)
def test_other_token_layouts(options: dict[str, Any], row: Callable[[Tensor], Tensor], images: Tensor) -> None:
    method = wb.create_method("linear_probe", tower(**options), CLASSES).eval()
    sources, _, _ = written_out(method, images, no_prompts)
    np.testing.assert_allclose(attention_rollout(method, images).rollout.reshape(3, N), row(sources), atol=1e-6)


@pytest.mark.parametrize("query", ["phase1", "pretrained"])
def test_lpts_second_pass_counts_and_prompts_that_are_dropped_keep_what_flows_to_them(
    images: Tensor, query: str
) -> None:
    method = large_prompts(wb.create_method("lpt", tower(depth=4), CLASSES, prompts=2, groups=4, query=query))
    index = method(images).extras["prompt_index"]
    chosen = method.pool[index].mean(1)  # type: ignore[index]

    def prompts(i: int, x: Tensor) -> Tensor:
        shared = method.shared[i].expand(3, -1, -1)  # type: ignore[index]
        return shared if i < 2 else torch.cat([shared, chosen[:, i - 2]], dim=1)

    sources, of_prompts, paid = written_out(method, images, prompts)
    found = attention_rollout(method, images)
    np.testing.assert_allclose(found.rollout.reshape(3, N), sources[:, 0, 1:], atol=1e-6)
    np.testing.assert_allclose(found.prompt_mass, of_prompts[:, 0], atol=1e-6)
    np.testing.assert_allclose(found.prompt_share, paid, atol=1e-6)
    np.testing.assert_allclose(found.even_share, [2 / 19, 2 / 19, 4 / 21, 4 / 21], atol=1e-6)


def test_shallow_prompts_go_on_as_tokens_and_deep_ones_do_not(images: Tensor) -> None:
    shallow = large_prompts(wb.create_method("vpt", tower(depth=3), CLASSES, prompts=2, depth="shallow"))
    x = torch.cat([shallow.backbone.embed(images), shallow.prompts["0"].expand(3, -1, -1)], dim=1)  # type: ignore[index]
    product = torch.eye(19)
    for block in shallow.backbone.blocks:
        product = (0.5 * torch.eye(19) + 0.5 * block.attention(x).mean(1)) @ product
        x = x + block.attend(x)
        x = x + block.mlp(x)
    found = attention_rollout(shallow, images)
    np.testing.assert_allclose(found.rollout.reshape(3, N), product[:, 0, 1:17].detach(), atol=1e-6)
    np.testing.assert_allclose(found.prompt_mass, product[:, 0, 17:].sum(1).detach(), atol=1e-6)
    deep = large_prompts(wb.create_method("vpt", tower(depth=3), CLASSES, prompts=2))
    sources, of_prompts, _ = written_out(deep, images, lambda i, x: deep.prompts[str(i)].expand(3, -1, -1))  # type: ignore[index]
    found = attention_rollout(deep, images)
    np.testing.assert_allclose(found.rollout.reshape(3, N), sources[:, 0, 1:], atol=1e-6)
    np.testing.assert_allclose(found.prompt_mass, of_prompts[:, 0], atol=1e-6)
    assert np.abs(product[:, 0, 1:17].detach().numpy() - sources[:, 0, 1:].numpy()).max() > 1e-3  # else nothing is told


@pytest.mark.parametrize("pooling", ["average", "cls"])
@pytest.mark.parametrize("bias_rows", ["prompt_query", "patch_query"])
def test_lt_dpts_bias_acts_and_its_pooling_reads_prompts(images: Tensor, pooling: str, bias_rows: str) -> None:
    options = {"prompts": 2, "groups": 3, "group_prompts": 3, "pooling": pooling, "bias_rows": bias_rows}
    method = large_prompts(wb.create_method("lt_dpt", tower(), CLASSES, **options))
    salient = method.patch_saliency(images).flatten(1)  # type: ignore[operator]

    def prompts(i: int, x: Tensor) -> Tensor:
        own = method.prompts[i].expand(3, -1, -1)  # type: ignore[index]
        return own if i == 0 else torch.cat([own, method.background_prompts(x, 0)[0]], dim=1)  # type: ignore[operator]

    found = {}
    for scale in (0.0, 4.0):
        with torch.no_grad():
            method.alpha.fill_(scale)  # type: ignore[operator]
            method.beta.fill_(scale)  # type: ignore[operator]
        bias = lambda z: method.bias(salient, z.shape[1], 1 + N)  # type: ignore[operator]  # noqa: E731
        sources, of_prompts, _ = written_out(method, images, prompts, bias)
        rows = [sources[:, 0, 1:], sources[:, 1 + N :, 1:].mean(1)]
        masses = [of_prompts[:, 0], of_prompts[:, 1 + N :].mean(1)]
        share = {"average": 0.5, "cls": 0.0}[pooling]
        found[scale] = attention_rollout(method, images)
        expected = (1 - share) * rows[0] + share * rows[1]
        np.testing.assert_allclose(found[scale].rollout.reshape(3, N), expected, atol=1e-6)
        np.testing.assert_allclose(found[scale].prompt_mass, (1 - share) * masses[0] + share * masses[1], atol=1e-6)
    moved = np.abs(found[4.0].rollout - found[0.0].rollout).max()
    assert (moved > 1e-4) == (pooling == "average" or bias_rows == "patch_query")


def planted(backbone: ViT) -> Tensor:
    """Make every token ask for one direction and answer with itself; returns the token (D,) that all attend to."""
    token = torch.full((24,), -1.0)
    token[[0, 12]] = 11.0  # the first feature of either head
    model = backbone.model
    with torch.no_grad():
        for parameter in (model.pos_embed, model.cls_token, model.patch_embed.proj.weight, model.patch_embed.proj.bias):
            parameter.zero_()
        for block in model.blocks:
            block.attn.qkv.weight.zero_()
            block.attn.qkv.weight[24:48] = torch.eye(24)
            block.attn.qkv.bias[[0, 12]] = 1000.0
            block.attn.proj.weight.zero_()
            block.mlp.fc2.weight.zero_()
    return token


def test_a_planted_patch_takes_all_but_the_residual(images: Tensor) -> None:
    backbone = tower()
    backbone.model.pos_embed.data[0, 1 + 6] = planted(backbone)  # row 1, column 2 of the grid
    method = wb.create_method("linear_probe", backbone, CLASSES).eval()
    for residual in (0.0, 0.5):
        found = attention_rollout(method, images, residual=residual)
        expected = np.zeros((3, *GRID))
        expected[:, 1, 2] = 1 - residual**2
        np.testing.assert_allclose(found.rollout, expected, atol=1e-6)
    frame = found.to_frame()
    assert frame.peak_row.between(8, 15).all() and frame.peak_column.between(16, 23).all()
    np.testing.assert_allclose(frame.patch_mass, 0.75, atol=1e-6)
    np.testing.assert_allclose(attention_rollout(method, images, block=0).rollout[:, 1, 2], 0.5, atol=1e-6)


def test_planted_prompts_leave_nothing_for_the_image(images: Tensor) -> None:
    backbone = tower()
    token = planted(backbone)
    method = wb.create_method("vpt", backbone, CLASSES, prompts=3).eval()
    with torch.no_grad():
        for prompts in method.prompts.values():  # type: ignore[operator,union-attr]
            prompts.copy_(token)
    found = attention_rollout(method, images)
    np.testing.assert_allclose(found.prompt_share, 1, atol=1e-6)
    np.testing.assert_allclose(found.prompt_mass, 0.75, atol=1e-6)
    np.testing.assert_allclose(found.rollout, 0, atol=1e-6)
    assert not found.maps.any() and found.to_frame().share_of_highest_tenth.isna().all()


def test_even_attention_gives_a_map_of_zeros_and_the_even_share(images: Tensor) -> None:
    backbone = tower(class_token=False, global_pool="avg")
    with torch.no_grad():
        for block in backbone.model.blocks:
            block.attn.qkv.weight.zero_()
    found = attention_rollout(wb.create_method("vpt", backbone, CLASSES, prompts=2), images)
    np.testing.assert_allclose(found.prompt_share, 2 / 18, atol=1e-6)
    np.testing.assert_allclose(found.even_share, 2 / 18, atol=1e-6)
    assert not found.maps.any() and found.rollout.min() > 0


def build(name: str, backbone: ViT, **options: Any) -> Method:
    """Without a text tower, which would only set the head."""
    cls = method_class(name)
    return large_prompts(cls(backbone, CLASSES, cls.Config(**(cls.small() | options)), seed=0))


def clip_tower() -> ViT:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return ViT(small_clip_vit(24, 2, 8, nn.GELU), name="clip")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_rollout_and_is_left_as_it_was(name: str, images: Tensor) -> None:
    method = large_prompts(small_clip_method(name, CLASSES)) if name in READ_TEXT else build(name, clip_tower())
    method.train()
    found = attention_rollout(method, images)
    assert method.training and all(p.grad is None for p in method.parameters())
    assert not any("attend" in vars(block) for block in method.backbone.blocks)
    assert found.maps.shape == (3, 32, 32) and found.maps.max() == 1 and found.rollout.shape == (3, *GRID)
    prompted = bool(found.even_share.any())
    assert prompted == (name in ("vpt", "lpt", "gnm_pt", "lt_dpt", "hlc")) == bool((found.prompt_mass > 0).all())
    rest = 1 - found.rollout.sum((1, 2)) - found.prompt_mass  # the class token's own share
    assert (rest > 0.2).all() if name not in ("gnm_pt", "lt_dpt") else (rest > 0.1).all()
    assert np.array_equal(found.predicted, method.eval()(images).logits.argmax(1).numpy())


@pytest.mark.parametrize("tuner", [*(name for name in ALONE if name != "partial"), *TOGETHER, "vpt_deep+ssf+lora"])
def test_every_tuner_of_lift_has_a_rollout(tuner: str, images: Tensor) -> None:
    method = build("lift", clip_tower(), tuner=tuner, prompts=2, initialisation="random")
    with torch.no_grad():
        for parameter in method.adapters.parameters():
            parameter.add_(0.3)
    found = attention_rollout(method, images)
    assert bool((found.prompt_mass > 0).all()) == ("vpt" in tuner)
    assert found.maps.max() == 1


def test_prompts_in_some_blocks_go_on_behind_them(images: Tensor) -> None:
    method = large_prompts(wb.create_method("vpt", tower(depth=3), CLASSES, prompts=2, blocks=(1, 2)))
    found = attention_rollout(method, images)
    assert found.even_share[0] == 0 and (found.prompt_share[:, 0] == 0).all()
    assert (found.prompt_share[:, 1:] > 0).all()  # block 2 has none of its own and sees what block 1's became
    drawn = found.plot(view="prompts").lines[0]
    np.testing.assert_allclose(drawn.get_xdata(), [1, 2])
    np.testing.assert_allclose(drawn.get_ydata(), 100 * found.prompt_share[:, 1:].mean(0), rtol=1e-6)
    assert {"prompt_share_0", "prompt_share_2"} <= set(found.to_frame().columns)
    with pytest.raises(ValueError, match="vpt has no prompts in blocks 0 to 0"):
        attention_rollout(method, images, block=0).plot(view="prompts")


def test_attend_comes_back_even_after_an_error_and_a_replaced_one_is_used(
    images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = wb.create_method("linear_probe", tower(), CLASSES).eval()
    first, second = method.backbone.blocks
    passes: list[int] = []

    def counted(x: Tensor, bias: Tensor | None = None, attend: Any = first.attend) -> Tensor:
        passes.append(1)
        return attend(x, bias)

    monkeypatch.setattr(first, "attend", counted)
    attention_rollout(method, images)
    assert passes == [1] and vars(first)["attend"] is counted and "attend" not in vars(second)

    def broken(x: Tensor) -> Tensor:
        raise RuntimeError("in the middle of a block")

    monkeypatch.setattr(second, "mlp", broken)
    method.train()
    with pytest.raises(RuntimeError, match="in the middle"):
        attention_rollout(method, images)
    assert vars(first)["attend"] is counted and "attend" not in vars(second) and method.training


class Early(LinearProbe):
    """Reads the class token after the first block."""

    name = "early"

    def encode(self, images: Tensor) -> Encoded:
        x = self.backbone.embed(images)
        for block in self.backbone.blocks[::-1]:
            y = x + block.attend(x)
        return Encoded(self.backbone.pool(y + block.mlp(y)))


def test_what_cannot_be_rolled_out_is_refused_with_advice(images: Tensor) -> None:
    method = wb.create_method("linear_probe", tower(), CLASSES).eval()
    with pytest.raises(ValueError, match="has 2; give 0 to 1, or -1"):
        attention_rollout(method, images, block=2)
    with pytest.raises(ValueError, match="heads='sum' must be one of mean, max, min"):
        attention_rollout(method, images, heads="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"residual=1 in \[0, 1\)"):
        attention_rollout(method, images, residual=1)
    with pytest.raises(
        ValueError, match=r"linear_probe has no prompts in blocks 0 to 1, so .* draw 'overlay' or 'maps'"
    ):
        attention_rollout(method, images).plot(view="prompts")
    assert not plt.get_fignums()
    early = Early(tower(), CLASSES, Early.Config(), seed=0).eval()
    with pytest.raises(ValueError, match="features of early do not depend on the attention of block 1"):
        attention_rollout(early, images)
    assert attention_rollout(early, images, block=0).maps.max() == 1
    resnet = wb.load_backbone("resnet50_clip.openai", weights="meta")
    with pytest.raises(ValueError, match="is a ResNet and has no attention to roll out; grad_cam takes it"):
        attention_rollout(wb.create_method("linear_probe", resnet, CLASSES), images)
