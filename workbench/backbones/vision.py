"""Vision transformers and CLIP ResNets of timm as `Backbone`s, and `load_backbone`, which hands them out.

ViT: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, arXiv 2010.11929. CLIP: Radford et al., "Learning
Transferable Visual Models From Natural Language Supervision", ICML 2021, arXiv 2103.00020. Both as built by timm.

Token order is a house constant: [prefix | patches | prompts]. Prompts go last, so patches are always x[:, P:P+N].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import Attention, PatchEmbed
from timm.models.vision_transformer import Block as TimmBlock
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from .base import Backbone, WeightsRecord
from .tags import SUPPORTED, Tower, find_tower
from .toybox.towers import build_vit
from .weights import download, file_sha256, load_weights


class Block(nn.Module):
    """One ViT block as two residual branches; x + attend(x), then x + mlp(x), is the block.

    `inner` is timm's block. Every product goes through its modules, so replacing `inner.attn.qkv` or `inner.mlp.fc1`
    by a module of the same shape takes effect at once.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner: Any = inner

    def attend(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """The attention branch: norm, attention, layer scale.

        Args:
            x: (B, T, D) tokens.
            bias: (B or 1, heads or 1, T, T) float, added to the scaled attention logits; row = query, column = key.

        Returns:
            (B, T, D), to be added to x.
        """
        block = self.inner
        if bias is None:
            attended = block.attn(block.norm1(x))
        else:
            attended = block.attn(block.norm1(x), attn_mask=self._checked(bias, x))
        branch: Tensor = block.drop_path1(block.ls1(attended))
        return branch

    def mlp(self, x: Tensor) -> Tensor:
        """The MLP branch: norm, MLP, layer scale. x: (B, T, D) -> (B, T, D), to be added to x."""
        block = self.inner
        branch: Tensor = block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        return branch

    def attention(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """The attention probabilities in `attend`. x: (B, T, D), bias as there -> (B, heads, T, T), rows sum to 1."""
        attn = self.inner.attn
        B, T, _ = x.shape
        qkv = attn.qkv(self.inner.norm1(x)).reshape(B, T, 3, attn.num_heads, -1)
        q, k, _ = qkv.permute(2, 0, 3, 1, 4)  # 3 x (B, heads, T, head width)
        logits: Tensor = (attn.q_norm(q) * attn.scale) @ attn.k_norm(k).transpose(-2, -1)
        if bias is not None:
            logits = logits + self._checked(bias, x)
        return logits.softmax(-1)

    def _checked(self, bias: Tensor, x: Tensor) -> Tensor:
        B, T, heads = x.shape[0], x.shape[1], self.inner.attn.num_heads
        fits = bias.ndim == 4 and bias.shape[0] in (1, B) and bias.shape[1] in (1, heads) and bias.shape[2:] == (T, T)
        if not fits or not bias.is_floating_point():
            raise ValueError(
                f"bias is {tuple(bias.shape)} {bias.dtype}, but must be float and of shape ({B} or 1, {heads} or 1, "
                f"{T}, {T}) for tokens of shape {tuple(x.shape)}."
            )
        return bias


class ViT(Backbone):
    """A timm VisionTransformer. The feature is the class token, or the mean of the patches, after the final LayerNorm.

    A CLIP tower's feature is ln_post(cls), D wide; the projection into the joint space stays apart (`project`), as in
    LIFT's code, and lies where timm puts it: `model.head`, here without bias.
    """

    is_vit = True

    def __init__(self, model: VisionTransformer, **facts: Any) -> None:
        facts.setdefault("name", type(model).__name__)
        _refuse_other_transformers(model, facts["name"])
        super().__init__(model, width=model.embed_dim, input_size=model.patch_embed.img_size[0], **facts)
        self._blocks = [Block(block) for block in model.blocks]  # a list: `model` alone registers the parameters

    @property
    def blocks(self) -> list[Block]:
        return self._blocks

    @property
    def num_prefix(self) -> int:
        """P: class token and registers."""
        return int(self.model.num_prefix_tokens)

    @property
    def patch_size(self) -> int:
        return int(self.model.patch_embed.patch_size[0])

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches; N is their product."""
        rows, columns = self.model.patch_embed.grid_size
        return rows, columns

    @property
    def joint_width(self) -> int | None:
        return self.model.head.out_features if isinstance(self.model.head, nn.Linear) else None

    def encode(self, images: Tensor) -> Tensor:
        x = self.embed(images)
        for block in self._blocks:
            x = x + block.attend(x)
            x = x + block.mlp(x)
        return self.pool(x)

    def embed(self, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) float32, normalised -> tokens (B, P+N, D) that enter the first block."""
        self._check_images(images)
        model = self.model
        tokens: Tensor = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
        return tokens

    def pool(self, tokens: Tensor) -> Tensor:
        """tokens: (B, T, D) after the last block, T >= P+N, prompts last -> features (B, D). Prompts are left out."""
        model, P, (rows, columns) = self.model, self.num_prefix, self.grid
        if model.global_pool == "token":
            features: Tensor = model.fc_norm(model.norm(tokens[:, 0]))
        else:
            first = 0 if model.pool_include_prefix else P
            features = model.fc_norm(model.norm(tokens[:, first : P + rows * columns]).mean(1))
        return features

    def project(self, features: Tensor) -> Tensor:
        if self.joint_width is None:
            return super().project(features)
        projected: Tensor = self.model.head(features)
        return projected


class ResNet(Backbone):
    """A CLIP ResNet. The feature is the output of its attention pooling, which ends in the projection.

    So the features already lie in the joint space (D = E) and `project` returns them as they are; LIFT and BALLAD use
    these towers in the same way. Other input sizes interpolate the position embeddings of the pooling.
    """

    def __init__(self, model: nn.Module, *, input_size: int, **facts: Any) -> None:
        pooling: Any = model.head
        super().__init__(model, width=pooling.proj.out_features, input_size=input_size, **facts)

    @property
    def joint_width(self) -> int | None:
        return self.width

    def encode(self, images: Tensor) -> Tensor:
        self._check_images(images)
        features: Tensor = self.model(images)
        return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features  # under autocast

    def project(self, features: Tensor) -> Tensor:
        return features


def load_backbone(
    name: str,
    weights: str | Path | None = None,
    *,
    input_size: int | None = None,
    seed: int = 0,
    sha256: str | None = None,
) -> Backbone:
    """A fresh image tower: eval mode, nothing requires a gradient, on the CPU.

    Args:
        name: a timm name with its tag, "vit_base_patch16_224.augreg_in21k". The tag may be left out where this package
            pins one (`backbones.tags.PINS`), with random weights, and with a local file. "toybox_vit" and "toybox_clip"
            are small towers that come with this package.
        weights: None downloads the tag's pretrained weights, or takes the file in this package; "random" draws them
            from `seed`; "meta" allocates none, for counting; anything else is a local file: .safetensors, or .pth / .pt
            / .bin holding tensors only, in the layout of timm, OpenAI's CLIP or open_clip.
        input_size: pixels; None takes the pretrained one, others interpolate the position embeddings (bicubic).
        seed: of random weights.
        sha256: what the weight file must hash to; a mismatch is refused.

    Raises:
        ValueError: an unknown or unsupported name, a missing tag, a file that does not fit; the message says which
            names or shapes differ, or what is allowed.
        FileNotFoundError: no file at `weights`, or the pretrained weights could not be downloaded.
    """
    tower = find_tower(name, tag_needed=weights is None, from_file=weights not in (None, "random", "meta"))
    model = _build(tower, input_size, seed=seed, on_meta=weights != "random")
    facts: dict[str, Any] = {"normalisation": tower.normalisation, "interpolation": tower.interpolation}
    record = WeightsRecord(None, None, None)
    if weights not in ("random", "meta"):
        path = download(tower) if weights is None else Path(weights).expanduser().absolute()
        if not path.is_file():
            raise FileNotFoundError(
                f"There is no weight file at {path}. weights= takes a file, 'random', 'meta', or None for pretrained "
                "weights."
            )
        digest = file_sha256(path, needed=sha256)
        load_weights(model, tower, path)
        record = WeightsRecord(tower.name if tower.tag_known else None, digest, str(path))
        weights = weights and path
    known_as = tower.name if tower.tag_known else name
    request = {"name": known_as, "weights": None if weights is None else str(weights), "seed": seed}
    facts |= {"name": known_as, "weights": record, "request": request}
    if isinstance(model, VisionTransformer):
        return ViT(model, **facts)
    return ResNet(model, input_size=input_size or tower.input_size, **facts)


def _build(tower: Tower, input_size: int | None, *, seed: int, on_meta: bool) -> nn.Module:
    """The timm model without classifier. CLIP ViTs get their projection as `head`, without bias."""
    own = tower.packaged is not None  # not one of timm's models
    options: dict[str, Any] = {} if own else {"num_classes": tower.joint_width if tower.kind == "resnet" else 0}
    if input_size is not None and tower.kind == "vit":
        options["img_size"] = input_size
    with torch.random.fork_rng(devices=[]), torch.device("meta" if on_meta else "cpu"):
        torch.default_generator.manual_seed(seed)  # timm draws from the global state, which fork_rng gives back
        model: Any = build_vit(**options) if own else timm.create_model(tower.name, pretrained=False, **options)
        if tower.kind == "vit":
            _refuse_other_transformers(model, tower.name)
            if tower.joint_width is not None:
                model.head = nn.Linear(model.embed_dim, tower.joint_width, bias=False)
                nn.init.normal_(model.head.weight, std=model.embed_dim**-0.5)
    step = model.patch_embed.patch_size[0] if tower.kind == "vit" else 32  # pixels per token, or of a ResNet's last map
    if input_size is not None and (input_size < step or input_size % step):
        below = max(input_size // step, 1) * step
        raise ValueError(
            f"input_size={input_size} does not divide into {tower.architecture}'s steps of {step} pixels; the nearest "
            f"are {below} and {below + step}."
        )
    built: nn.Module = model
    return built


def _refuse_other_transformers(model: Any, name: str) -> None:
    """ValueError unless the model is made of the parts that `embed`, `Block` and `pool` rely on."""
    reason = None
    if type(model) is not VisionTransformer:
        reason = f"it is a {type(model).__name__}"
    elif type(model.patch_embed) is not PatchEmbed:
        reason = f"it embeds patches with {type(model.patch_embed).__name__}"
    elif model.global_pool not in ("token", "avg"):
        reason = f"it pools with {model.global_pool!r}"
    elif odd := [b for b in model.blocks if type(b) is not TimmBlock or not isinstance(b.attn, Attention)]:
        reason = f"it is made of {type(odd[0]).__name__} with {type(getattr(odd[0], 'attn', None)).__name__}"
    elif model.patch_embed.img_size[0] != model.patch_embed.img_size[1]:
        reason = f"its images are {model.patch_embed.img_size}, not square"
    if reason is not None:
        raise ValueError(f"{name} is not supported: {reason}. {SUPPORTED}")
