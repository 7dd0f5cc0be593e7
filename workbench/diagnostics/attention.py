"""Who looks where in one block: attention as a method runs it, of the tokens that are read and of prompts.

Attention of a block says where information may flow, not that anything comes of it. What a prompt *looks at* (its row)
changes only what comes out at its own place, which most methods throw away; what patches *read* of it (its column) is
how it changes an image. Both are given, and whether the feature depends on the first: asked of autograd, not assumed.

A method may run a block twice (LPT); the last pass that its feature depends on counts, as in `attention_rollout`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.methods import Method

HEADS = ("mean", "max", "min")


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockAttention:
    """Attention probabilities of one block for B images; tokens are [prefix | patches | prompts]."""

    block: int
    probabilities: Tensor  # (B, heads, T, T) float, on the CPU; row = query, rows sum to 1
    pooled: Tensor  # (P + N,) shares with which the pooling reads the image's tokens
    prefix: int  # P
    grid: tuple[int, int]  # (h, w) patches
    prompts_count: bool  # whether the feature depends on what comes out at the prompts' places

    @property
    def heads(self) -> int:
        return self.probabilities.shape[1]

    @property
    def prompts(self) -> int:
        """Tokens behind the image's."""
        return self.probabilities.shape[-1] - len(self.pooled)

    def read_from(self, heads: int | str = "mean") -> np.ndarray:
        """(B, h, w) float32: attention that what the pooling reads (class token, or patches) pays to each patch.

        heads: how they become one, "mean", "max" or "min" (rows then sum to 1 again), or the number of one.
        """
        matrix = fused(self.probabilities, heads)[:, : len(self.pooled)]
        return self._patches((self.pooled.to(matrix)[None, None] @ matrix)[:, 0])

    def looks(self, last: int, heads: int | str = "mean") -> np.ndarray:
        """(B, h, w) float32: attention that the `last` prompts pay to each patch, mean over them."""
        return self._patches(fused(self.probabilities, heads)[:, self._last(last)].mean(1))

    def read_by(self, last: int, heads: int | str = "mean") -> np.ndarray:
        """(B, h, w) float32: share of its attention that each patch pays to the `last` prompts together."""
        return self._patches(fused(self.probabilities, heads)[:, :, self._last(last)].sum(2))

    def _last(self, number: int) -> slice:
        if not 1 <= number <= self.prompts:
            raise ValueError(f"block {self.block} has {self.prompts} prompts, not {number}; choose a block with them.")
        T = self.probabilities.shape[-1]
        return slice(T - number, T)

    def _patches(self, values: Tensor) -> np.ndarray:
        """(B, T) -> (B, h, w)."""
        return values[:, self.prefix : len(self.pooled)].unflatten(1, self.grid).float().numpy()


def block_attention(method: Method, images: Tensor, block: int = -1) -> BlockAttention:
    """Attention of one block.

    Args:
        method: on a ViT, on the device where it shall run.
        images: (B, 3, H, W) float, normalised as the tower reads them.
        block: -1 is the tower's last.

    Raises:
        ValueError: a tower without attention, or a block that is not there or does not reach the feature.
    """
    import torch

    backbone = method.backbone
    check_block(backbone, block, "block_attention")
    block %= len(backbone.blocks)
    was_training = method.training
    method.eval()
    try:
        with torch.enable_grad(), recorded(backbone.blocks) as calls:
            mark_used(calls, method.encode(images.to(method.device)).features)
        used = [(call, call.used) for call in calls if call.used is not None and call.block == block]
        if not used:
            raise ValueError(f"the features of {method.name} do not depend on the attention of block {block}.")
        call, tokens = used[-1]
        with torch.no_grad():
            found = backbone.blocks[block].attention(call.x, call.bias)
    finally:
        method.train(was_training)
    pooled = read_tokens(backbone).cpu()
    return BlockAttention(
        block=block,
        probabilities=found.float().cpu(),
        pooled=pooled,
        prefix=backbone.num_prefix,
        grid=backbone.grid,
        prompts_count=bool(tokens[len(pooled) :].any()),
    )


def prompt_attention(method: Any, images: Tensor, prompt: int, block: int = -1) -> BlockAttention:
    """As `block_attention`, with images that get this prompt of the method's pool alone; it stands last.

    Images mix the prompts that they pick, so that two prompts of a mix cannot be told apart; alone they can. Of methods
    that pick in several layers, the prompt is the block's own.

    Raises:
        ValueError: as `block_attention`; prompts that are not there, a block without picked prompts.
    """
    check_block(method.backbone, block, "prompt_attention")
    block %= len(method.backbone.blocks)
    layers, _ = method.pool_size
    if block < method.first:
        last = len(method.backbone.blocks) - 1
        raise ValueError(
            f"block {block} has no picked prompts; {method.name} has them in blocks {method.first}-{last}."
        )
    with method.only_prompt(prompt, layer=None if layers == 1 else block - method.first):
        return block_attention(method, images, block)


# -- what passes through a tower's attention, also for `attention_rollout` ---------------------------------------------


def check_block(backbone: Any, block: int, name: str) -> None:
    """ValueError for a tower without attention blocks, or a block that is not there."""
    if not backbone.is_vit:
        raise ValueError(f"{backbone.name} is a {type(backbone).__name__} and has no attention for {name}.")
    depth = len(backbone.blocks)
    if not -depth <= block < depth:
        raise ValueError(f"block={block}, but {backbone.name} has {depth}; give 0 to {depth - 1}, or -1.")


def read_tokens(backbone: Any) -> Tensor:
    """(P + N,) float: with which shares `backbone.pool` reads the image's tokens."""
    import torch

    rows, columns = backbone.grid
    image_tokens = backbone.num_prefix + rows * columns
    pooled = torch.zeros(image_tokens)
    if backbone.model.global_pool == "token":
        pooled[0] = 1
    else:
        start = 0 if backbone.model.pool_include_prefix else backbone.num_prefix
        pooled[start:] = 1 / (image_tokens - start)
    return pooled


@dataclass(eq=False)
class Call:
    """One pass through the attention of a block."""

    block: int
    x: Tensor  # (B, T, D) tokens that entered
    bias: Tensor | None
    marker: Tensor  # (B, T, D) zeros that were added to what came out: their gradient says what is used of it
    used: Tensor | None = None  # (T,) bool, tokens of which the feature depends on what came out; None: on none


@contextmanager
def recorded(blocks: Sequence[Any]) -> Iterator[list[Call]]:
    """The passes through the attention of these blocks while the context lasts, in their order."""
    import torch

    calls: list[Call] = []
    before = [vars(block).get("attend") for block in blocks]  # who replaced it already gets it back

    def recording(number: int, attend: Any) -> Any:
        def attend_and_record(x: Tensor, bias: Tensor | None = None) -> Any:
            branch = attend(x, bias)
            marker = torch.zeros_like(branch, requires_grad=True)
            calls.append(Call(number, x.detach(), None if bias is None else bias.detach(), marker))
            return branch + marker

        return attend_and_record

    try:
        for number, block in enumerate(blocks):
            block.attend = recording(number, block.attend)
        yield calls
    finally:
        for block, own in zip(blocks, before, strict=True):
            vars(block).pop("attend", None)
            if own is not None:
                block.attend = own


def mark_used(calls: list[Call], features: Tensor) -> None:
    """Say of each pass, and of each token in it, whether features (B, D) depend on what came out."""
    import torch

    if not calls or not features.requires_grad:
        return
    # in a random direction: along the ones, a feature that ends in a LayerNorm has no gradient
    direction = torch.randn(features.shape[1], generator=torch.Generator().manual_seed(0)).to(features)
    gradients = torch.autograd.grad((features @ direction).sum(), [one.marker for one in calls], allow_unused=True)
    for call, gradient in zip(calls, gradients, strict=True):
        if gradient is not None and gradient.any():
            call.used = gradient.ne(0).any(2).any(0)


def fused(attention: Tensor, heads: int | str) -> Tensor:
    """(B, heads, T, T) -> (B, T, T), rows sum to 1: "mean", "max" or "min" over heads, or one by its number."""
    if isinstance(heads, str):
        if heads not in HEADS:
            raise ValueError(f"heads={heads!r} must be one of {', '.join(HEADS)}, or the number of a head.")
        one = attention.mean(1) if heads == "mean" else attention.amax(1) if heads == "max" else attention.amin(1)
        return one / one.sum(-1, keepdim=True).clamp(min=1e-12)
    if not 0 <= heads < attention.shape[1]:
        raise ValueError(f"head {heads} is not there; give 0 to {attention.shape[1] - 1}, or {', '.join(HEADS)}.")
    return attention[:, heads]
