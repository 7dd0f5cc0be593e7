"""From which patches does a feature come, if attention says where information flows? For ViTs, prompts included.

Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, arXiv 2005.00928, eq. 1: each block passes on
residual I + (1 - residual) A, with A its attention averaged over heads and residual 1/2; the product over blocks says
how much of each input token is in each output. Values and MLPs are left out, and no class is asked for: it shows where
a feature looks, not what speaks for a class, for which there is Grad-CAM.

The rollout starts at what the feature is read from: the class token; the patches of a tower that averages them; and, in
the pooling of GNM-PT and LT-DPT, half of that and half the mean of the last block's prompts. **Prompts**: what flows
to prompts that enter a block as parameters came from no patch and stays there; rows are not re-normalised. So patches,
prompts and prefix tokens hold 1 together, and a feature that lives on its prompts has little left for the image, where
re-normalised rows would show it as made of patches alone. Prompts whose outputs go on (VPT-shallow) are tokens as any
other. Prompts picked or mixed by looking at the image (LPT, LT-DPT) count as parameters: the choice is not attention.

A method may run a block twice, or drop prompts behind it. What reaches the feature is therefore asked of autograd: a
block's last pass with a gradient counts (of LPT's, the second), and prompts go on where their outputs have one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from .attention import HEADS, fused, mark_used, read_tokens, recorded
from .base import INK, MUTED, Result, dress, legend_beside, method_source
from .heat_maps import as_pictures, image_strips, peaks

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from torch import Tensor

    from workbench.methods import Method


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionRollout(Result):
    """Shares of the feature in [0, 1] of B images, by patch (h, w), and attention to prompts in L blocks.

    `rollout` holds shares and can be compared between images and methods; `maps`, made to be looked at, are stretched
    to [0, 1] each, and zero where all patches have the same share.
    """

    diagnostic: ClassVar[str] = "attention_rollout"
    size: ClassVar[tuple[float, float]] = (5.5, 2.2)
    views: ClassVar[tuple[str, ...]] = ("overlay", "maps", "prompts")

    maps: np.ndarray  # (B, H, W) float32
    rollout: np.ndarray  # (B, h, w) float32, shares of the patches
    pictures: np.ndarray  # (B, H, W, 3) uint8, the images as they look
    prompt_mass: np.ndarray  # (B,) float32, share of the prompts of all blocks; class token and registers have the rest
    prompt_share: np.ndarray  # (B, L) float32, share of attention that the tokens read by the pooling pay to prompts
    even_share: np.ndarray  # (L,) float32, the same if every token got as much
    predicted: np.ndarray  # (B,) int64
    names: tuple[str, ...]
    method: str
    block: int  # the last that is rolled out

    def __str__(self) -> str:
        patches, prompts = float(self.rollout.sum((1, 2)).mean()), float(self.prompt_mass.mean())
        return (
            f"attention rollout of {self.method}, blocks 0 to {self.block}: {len(self.maps)} images, "
            f"{100 * patches:.1f} % from patches, {100 * prompts:.1f} % from prompts, "
            f"{100 * (1 - patches - prompts):.1f} % from prefix tokens (mean over images)"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per image: the peak of its map in pixels, the share of the map in its highest tenth, the shares of
        patches and prompts, and where there are prompts the attention to them in each block."""
        import pandas as pd

        numbers = {
            "image": np.arange(len(self.maps)),
            "predicted": self.predicted,
            "predicted_name": [self.names[cls] for cls in self.predicted],
            **peaks(self.maps),
            "patch_mass": self.rollout.sum((1, 2)),
            "prompt_mass": self.prompt_mass,
        }
        if self.even_share.any():
            numbers |= {f"prompt_share_{block}": shares for block, shares in enumerate(self.prompt_share.T)}
        return pd.DataFrame(numbers)

    def _view(self, view: str | None) -> str:
        view = super()._view(view)
        if view == "prompts" and not self.even_share.any():
            raise ValueError(
                f"{self.method} has no prompts in blocks 0 to {self.block}, so no attention goes to them; draw "
                "'overlay' or 'maps', or roll out a method with prompts, such as vpt or lpt."
            )
        return view

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        if view == "prompts":
            return self._draw_prompts(ax, **artist_kw)
        labels, overlay = [self.names[cls] for cls in self.predicted], view == "overlay"
        image_strips(ax, self.pictures, self.maps, labels, overlay=overlay, xlabel="predicted class", **artist_kw)

    def _draw_prompts(self, ax: Axes, **artist_kw: Any) -> None:
        blocks = np.flatnonzero(self.even_share)
        shares = 100 * self.prompt_share[:, blocks]  # (B, blocks with prompts)
        ax.fill_between(
            blocks, shares.min(0), shares.max(0), color=INK, alpha=0.15, linewidth=0, label="range of images"
        )
        style: dict[str, Any] = {"color": INK, "marker": "o", "label": f"mean (n = {len(shares)} images)"}
        ax.plot(blocks, shares.mean(0), **(style | artist_kw))
        even = 100 * self.even_share[blocks]
        ax.step(blocks, even, where="mid", color=MUTED, linestyle=":", label="every token alike")
        ax.set_xlim(-0.4, self.block + 0.4)
        ax.set_ylim(0, 1.06 * max(shares.max(), even.max()))
        ax.set_xticks(blocks[:: max(1, len(blocks) // 12)])
        ax.set_xlabel("block")
        ax.set_ylabel("attention to prompts (%)")
        dress(ax)
        legend_beside(ax)


def attention_rollout(
    method: Method,
    images: Tensor,
    *,
    block: int = -1,
    residual: float = 0.5,
    heads: Literal["mean", "max", "min"] = "mean",
) -> AttentionRollout:
    """The attention of all blocks multiplied together, read where the method reads its feature.

    Args:
        method: on a ViT, on the device where it shall run.
        images: (B, 3, H, W) float, normalised as the tower reads them.
        block: the last that is rolled out; -1 is the tower's last. After an earlier one the class token, or the patches
            of a tower that pools them, is what is read.
        residual: share of a token that goes around the attention, in [0, 1).
        heads: how the heads of a block become one matrix: "mean" is the paper's; after "max" and "min" rows are made to
            sum to 1 again.

    Raises:
        ValueError: a tower without attention blocks, a block that is not there, other options, or a block that the
            feature does not depend on.
    """
    import torch
    import torch.nn.functional as F

    backbone = method.backbone
    if not backbone.is_vit:
        raise ValueError(
            f"{backbone.name} is a {type(backbone).__name__} and has no attention to roll out; grad_cam takes it too."
        )
    depth = len(backbone.blocks)
    if not -depth <= block < depth:
        raise ValueError(f"block={block}, but {backbone.name} has {depth}; give 0 to {depth - 1}, or -1.")
    if heads not in HEADS or not 0 <= residual < 1:
        raise ValueError(f"heads={heads!r} must be one of {', '.join(HEADS)}, and residual={residual} in [0, 1).")
    was_training = method.training
    method.eval()
    try:
        with torch.enable_grad(), recorded(backbone.blocks) as calls:
            encoded = method.encode(images.to(method.device))
            mark_used(calls, encoded.features)
        predicted = method.classify(encoded).logits.argmax(1)
    finally:
        method.train(was_training)
    used = {call.block: call for call in calls if call.used is not None}  # a later pass takes the earlier's place
    if missing := [i for i in range(block % depth + 1) if i not in used]:
        raise ValueError(
            f"the features of {method.name} do not depend on the attention of block {missing[0]}, so there is no flow "
            "through it to follow; attention_rollout needs a method that runs every block."
        )
    chain = [used[i] for i in range(block % depth + 1)]
    with torch.no_grad():
        patches, prompts, shares, even = _rolled_out(backbone, chain, residual=residual, heads=heads)
        maps = F.interpolate(patches[:, None], images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    return AttentionRollout(
        arguments={"block": block, "residual": residual, "heads": heads},
        sources=(method_source(method),),
        maps=_stretched(maps).float().cpu().numpy(),
        rollout=patches.float().cpu().numpy(),
        pictures=as_pictures(backbone.pixels(images.detach().cpu().float())),
        prompt_mass=prompts.float().cpu().numpy(),
        prompt_share=shares.float().cpu().numpy(),
        even_share=even.float().cpu().numpy(),
        predicted=predicted.cpu().numpy(),
        names=tuple(method.classes.names),
        method=method.name,
        block=block % depth,
    )


def _rolled_out(backbone: Any, chain: list[Any], *, residual: float, heads: str) -> tuple[Tensor, ...]:
    """Follow the feature back from the last block to the first, one row of the product of matrices.

    Returns patches (B, h, w), prompts (B,), and attention to prompts (B, L) beside that of even attention (L,).
    """
    import torch.nn.functional as F

    rows, columns = backbone.grid
    first, image_tokens = backbone.num_prefix, backbone.num_prefix + rows * columns
    B, T = chain[-1].x.shape[:2]
    pooled = read_tokens(backbone).to(chain[-1].x).expand(B, -1)  # what `backbone.pool` reads
    mass = F.pad(pooled, (0, T - image_tokens))  # (B, T) of the tokens that leave the block at hand
    if len(chain) == len(backbone.blocks) and chain[-1].used[image_tokens:].any():
        mass = F.pad(pooled / 2, (0, T - image_tokens), value=0.5 / (T - image_tokens))  # GNM-PT reads prompts too
    prompts, shares, even = (pooled.new_zeros(shape) for shape in ((B,), (B, len(chain)), (len(chain),)))
    for i in reversed(range(len(chain))):
        attention = fused(backbone.blocks[i].attention(chain[i].x, chain[i].bias), heads)  # (B, T, T)
        T = attention.shape[1]
        shares[:, i] = (pooled[:, None] @ attention[:, :image_tokens])[:, 0, image_tokens:].sum(1)
        even[i] = 1 - image_tokens / T
        mass = residual * mass + (1 - residual) * (mass[:, None] @ attention)[:, 0]  # now of the tokens that enter it
        before = chain[i - 1].x.shape[1] if i else image_tokens  # tokens that leave the block before
        kept = min(before, T) if i and chain[i - 1].used[image_tokens:].any() else image_tokens
        prompts = prompts + mass[:, kept:].sum(1)
        mass = F.pad(mass[:, :kept], (0, before - kept))
    return mass[:, first:image_tokens].unflatten(1, (rows, columns)), prompts, shares, even


def _stretched(maps: Tensor) -> Tensor:
    """(B, H, W), not negative, to [0, 1] each; a map whose spread is rounding becomes 0."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    spread = high - low
    return ((maps - low) / spread.clamp(min=1e-30)).where(spread > 1e-5 * high, 0.0)
