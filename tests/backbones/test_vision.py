"""What every image tower does, run over real timm names; and what the parts of a ViT compute."""

import copy
import json

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed
from torch import nn

from workbench.backbones import Backbone, ResNet, ViT, load_backbone

VITS = {
    "test_vit.r160_in1k": 160,  # class token
    "test_vit2.r160_in1k": 160,  # average pooling, a register, no class token, layer scale
    "vit_tiny_patch16_224": 32,  # the plain ViT, at another resolution
    "vit_xsmall_patch16_clip_224.tinyclip_yfcc15m": 32,  # CLIP: pre-norm, projection
    "vit_small_patch14_reg4_dinov2.lvd142m": 28,  # class token and four registers outside the position embedding
}


def tower(name: str = "test_vit.r160_in1k", size: int | None = None, seed: int = 0) -> Backbone:
    return load_backbone(name, "random", input_size=size, seed=seed)


def images(size: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "size"), VITS.items())
def test_every_vit_keeps_the_contract(name: str, size: int) -> None:
    vit = tower(name, size)
    assert isinstance(vit, ViT) and not vit.training
    assert not any(p.requires_grad for p in vit.parameters())
    assert all(key.startswith("model.") for key in vit.state_dict())
    own = timm.create_model(vit.name, num_classes=0, img_size=size).state_dict()
    assert {key.removeprefix("model.") for key in vit.state_dict()} - {"head.weight"} == own.keys()
    x = vit.embed(images(size))
    P, N = vit.num_prefix, vit.grid[0] * vit.grid[1]
    assert x.shape == (2, P + N, vit.width)
    for block in vit.blocks:
        attention = block.attention(x)
        assert attention.shape == (2, block.inner.attn.num_heads, P + N, P + N)
        torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:3]))
        assert torch.equal(x + block.attend(x) + block.mlp(x + block.attend(x)), block.inner(x))
        x = block.inner(x)
    features = vit.encode(images(size))
    assert features.shape == (2, vit.width) and features.dtype == torch.float32
    reference = vit.model.forward_head(vit.model.forward_features(images(size)), pre_logits=True)
    torch.testing.assert_close(features, reference, rtol=0, atol=1e-6)
    assert torch.equal(vit(images(size)), features)
    if vit.joint_width is None:
        with pytest.raises(ValueError, match="no projection"):
            vit.project(features)
    else:
        assert vit.project(features).shape == (2, vit.joint_width)
    mean, std = vit.normalisation
    assert len(mean) == len(std) == 3
    with pytest.raises(ValueError, match=rf"\(B, 3, {size}, {size}\)"):
        vit.encode(images(size + 2))


@pytest.mark.parametrize("name", ["test_vit.r160_in1k", "test_vit2.r160_in1k"])
def test_prompts_at_the_end_of_the_tokens_do_not_enter_the_pooled_feature(name: str) -> None:
    vit = tower(name)
    x = vit.embed(images(160))
    prompts = torch.full((2, 3, vit.width), 7.0)
    assert torch.equal(vit.pool(torch.cat([x, prompts], 1)), vit.pool(x))


def test_a_clip_feature_is_not_projected_and_the_projection_has_no_bias() -> None:
    vit = tower("vit_xsmall_patch16_clip_224.tinyclip_yfcc15m", 32)
    assert (vit.width, vit.joint_width) == (256, 512)
    features = vit.encode(images(32))
    torch.testing.assert_close(vit.project(features), features @ vit.model.head.weight.T)
    assert vit.model.head.bias is None


@pytest.mark.parametrize("shape", [(2, 2, 101, 101), (1, 1, 101, 101)])
def test_a_bias_gets_the_same_gradient_from_fused_and_from_explicit_attention(shape: tuple[int, ...]) -> None:
    vit = tower()
    block, x = vit.blocks[0], vit.embed(images(160))
    bias = torch.randn(shape, generator=torch.Generator().manual_seed(2)).requires_grad_()
    results = []
    for fused in (True, False):
        block.inner.attn.fused_attn = fused
        out = block.attend(x, bias)
        (gradient,) = torch.autograd.grad(out.square().sum(), bias)
        results.append((out.detach(), gradient))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)
    assert results[0][1].abs().max() > 0
    # the probabilities that `attention` reports are the ones that `attend` multiplies the values with
    attn = block.inner.attn
    value = attn.qkv(block.inner.norm1(x)).chunk(3, -1)[2].unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
    mixed = (block.attention(x, bias) @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(block.inner.ls1(attn.proj(mixed)), results[0][0], rtol=1e-4, atol=1e-5)


def test_a_bias_of_another_shape_or_type_is_refused() -> None:
    vit = tower()
    x = vit.embed(images(160))
    for bias in (torch.zeros(101, 101), torch.zeros(2, 2, 101, 100), torch.zeros(3, 1, 101, 101)):
        with pytest.raises(ValueError, match="must be float and of shape"):
            vit.blocks[0].attend(x, bias)
    with pytest.raises(ValueError, match="bool"):
        vit.blocks[0].attention(x, torch.zeros(1, 1, 101, 101, dtype=torch.bool))


def test_a_replaced_linear_acts_in_both_branches_and_in_the_attention() -> None:
    vit = tower()
    block, x = vit.blocks[1], vit.embed(images(160))
    before = block.attend(x), block.mlp(x), block.attention(x)

    class Doubled(nn.Module):
        def __init__(self, inner: nn.Linear) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * self.inner(x)

    vit.model.blocks[1].attn.qkv = Doubled(block.inner.attn.qkv)
    vit.model.blocks[1].mlp.fc1 = Doubled(block.inner.mlp.fc1)
    for old, new in zip(before, (block.attend(x), block.mlp(x), block.attention(x)), strict=True):
        assert not torch.allclose(old, new)


def test_a_copy_shares_nothing_and_its_blocks_are_its_own() -> None:
    vit = tower()
    other = copy.deepcopy(vit)
    assert torch.equal(other.encode(images(160)), vit.encode(images(160)))
    with torch.no_grad():
        other.model.blocks[0].attn.proj.weight.zero_()
    assert other.blocks[0].inner is other.model.blocks[0] and other.blocks[0].inner is not vit.blocks[0].inner
    assert not torch.equal(other.encode(images(160)), vit.encode(images(160)))


def test_random_weights_are_a_function_of_the_seed_and_leave_the_global_state_alone() -> None:
    state = torch.get_rng_state()
    first, same, other = tower(seed=3), tower(seed=3), tower(seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert first is not same
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), same.state_dict().values(), strict=True))
    assert not torch.equal(first.model.pos_embed, other.model.pos_embed)
    spec = json.loads(json.dumps(tower(size=128, seed=5).spec()))
    again = load_backbone(**spec)
    assert again.spec() == spec and again.input_size == 128
    assert torch.equal(again.model.pos_embed, tower(size=128, seed=5).model.pos_embed)


def test_an_input_size_off_the_patch_grid_names_the_nearest_sizes() -> None:
    with pytest.raises(ValueError, match="96 and 112"):
        load_backbone("vit_tiny_patch16_224", "meta", input_size=100)
    with pytest.raises(ValueError, match="192 and 224"):
        load_backbone("resnet50_clip", "meta", input_size=200)


def test_counts_of_clip_vit_b_16_on_the_meta_device_are_the_published_ones() -> None:
    vit = load_backbone("vit_base_patch16_clip_quickgelu_224.openai", "meta")
    assert vit.device.type == "meta"
    assert (vit.width, vit.joint_width, vit.grid, vit.num_prefix) == (768, 512, (14, 14), 1)
    assert sum(p.numel() for p in vit.parameters()) == 86_192_640
    assert sum(p.numel() for key, p in vit.named_parameters() if not key.startswith("model.head.")) == 85_799_424
    assert vit.encode(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 768)


def test_a_clip_resnet_encodes_and_projects_and_says_that_it_has_no_blocks() -> None:
    resnet = load_backbone("resnet50_clip", "random", input_size=64)
    assert isinstance(resnet, ResNet) and resnet.name == "resnet50_clip.openai"
    assert resnet.width == resnet.joint_width == 1024
    features = resnet.encode(images(64))
    assert features.shape == (2, 1024) and torch.equal(resnet.project(features), features)
    for use in (
        lambda: resnet.blocks,
        lambda: resnet.grid,
        lambda: resnet.num_prefix,
        lambda: resnet.embed(images(64)),
        lambda: resnet.pool(features),
    ):
        with pytest.raises(ValueError, match="need a ViT"):
            use()


def test_the_real_vit_tiny_computes_what_timm_computes(shared) -> None:
    path = shared / "data" / "weights" / "vit_tiny_patch16_224.safetensors"
    vit = load_backbone("vit_tiny_patch16_224", path)
    reference = timm.create_model("vit_tiny_patch16_224", checkpoint_path=str(path)).eval()
    assert sum(p.numel() for p in reference.parameters()) == 5_717_416
    with torch.inference_mode():
        assert torch.equal(vit.encode(images(224)), reference.forward_features(images(224))[:, 0])
    assert vit.weights.sha256 == "3f1f07da5e1337265ac1eb0234d13841467caf730b3c4240bd3f98c49bc16a92"
    assert load_backbone(**vit.spec()).weights == vit.weights
    with pytest.raises(ValueError, match="not the weight file asked for"):
        load_backbone("vit_tiny_patch16_224", path, sha256="0" * 64)


def test_the_real_vit_tiny_at_112_pixels_has_interpolated_position_embeddings(shared) -> None:
    path = shared / "data" / "weights" / "vit_tiny_patch16_224.safetensors"
    vit = load_backbone("vit_tiny_patch16_224", path, input_size=112)
    full = load_backbone("vit_tiny_patch16_224", path)
    assert vit.grid == (7, 7) and vit.spec()["input_size"] == 112
    expected = resample_abs_pos_embed(full.model.pos_embed, new_size=[7, 7], num_prefix_tokens=1)  # bicubic, antialias
    assert torch.equal(vit.model.pos_embed, expected)
    reference = timm.create_model("vit_tiny_patch16_224", checkpoint_path=str(path)).eval()
    reference.set_input_size((112, 112))
    torch.testing.assert_close(vit.encode(images(112)), reference.forward_features(images(112))[:, 0])
