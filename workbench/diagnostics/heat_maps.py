"""What the diagnostics that lay heat maps over images share: maps as arrays, pictures, peaks, and strips of both."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .base import HEAT, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

STRIP_LENGTH = 8  # images beside each other in a strip
HEAT_SHARE = 0.45  # of a map laid over a picture


def map_values(given: Any) -> np.ndarray:
    """Maps as an array on the CPU: of a result that has such `.maps`, of a tensor, or an array as it is."""
    given = getattr(given, "maps", given)
    return np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)


def as_pictures(pixels: Tensor) -> np.ndarray:
    """pixels: (B, 3, H, W) float in [0, 1] -> (B, H, W, 3) uint8."""
    rounded = (255 * pixels.detach().cpu().float()).round().byte()
    return np.ascontiguousarray(rounded.permute(0, 2, 3, 1).numpy())


def peaks(maps: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of a table of maps (B, H, W): where each is highest, in pixels, and the share of its highest tenth."""
    flat = maps.reshape(len(maps), -1)
    rows, columns = np.unravel_index(flat.argmax(1), maps.shape[1:])
    highest, total = np.sort(flat, 1)[:, -max(flat.shape[1] // 10, 1) :].sum(1), flat.sum(1)
    share = np.divide(highest, total, where=total > 0, out=np.full_like(total, np.nan))
    return {"peak_row": rows, "peak_column": columns, "share_of_highest_tenth": share}


def blended(pictures: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """The maps as heat over the pictures in grey: (B, H, W, 3) uint8, (B, H, W) in [0, 1] -> (B, H, W, 3) uint8."""
    from matplotlib import colormaps

    heat = 255 * colormaps[HEAT](maps)[..., :3]
    grey = pictures @ np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601, as Pillow's "L"
    return ((1 - HEAT_SHARE) * grey[..., None] + HEAT_SHARE * heat).astype(np.uint8)


def enlarged(maps: np.ndarray, size: tuple[int, int], *, smooth: bool = True) -> np.ndarray:
    """(B, h, w) of patches -> (B, H, W) float32, each stretched to [0, 1]; in squares if not smooth. Constant: 0."""
    import torch
    import torch.nn.functional as F

    found = torch.as_tensor(np.asarray(maps, dtype=np.float32))
    low, high = found.amin((1, 2), keepdim=True), found.amax((1, 2), keepdim=True)
    found = ((found - low) / (high - low).clamp(min=1e-30)).where(high - low > 1e-6 * high.abs(), 0.0)[:, None]
    if smooth:
        return F.interpolate(found, size, mode="bilinear", align_corners=False)[:, 0].numpy()
    return F.interpolate(found, size, mode="nearest")[:, 0].numpy()


def image_strips(
    ax: Axes, pictures: np.ndarray, maps: np.ndarray, labels: Sequence[str], *, overlay: bool, xlabel: str, **kw: Any
) -> None:
    """The first pictures in a row, below them their maps, on top of the pictures (`overlay`) or alone, then labels.

    pictures: (B, H, W, 3) uint8; maps: (B, H, W) in [0, 1]; labels: B texts, in which dollar signs stay text.
    """
    from matplotlib import colormaps

    shown = min(len(maps), STRIP_LENGTH)
    if overlay:
        heat = blended(pictures[:shown], maps[:shown])
    else:
        heat = (255 * colormaps[HEAT](maps[:shown])[..., :3]).astype(np.uint8)
    gap = max(2, maps.shape[2] // 28)
    rows = [
        np.concatenate([np.pad(one, ((0, gap), (0, gap), (0, 0)), constant_values=255) for one in strip], axis=1)
        for strip in (pictures[:shown], heat)
    ]
    ax.imshow(np.concatenate(rows), **kw)
    centres = np.arange(shown) * (maps.shape[2] + gap) + maps.shape[2] / 2
    ticks = [textwrap.fill(plain(label, 26), 12, break_long_words=False) for label in labels[:shown]]
    ax.set_xticks(centres, ticks, fontsize="small", parse_math=False)
    ax.set_yticks([])
    ax.tick_params(axis="x", length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel(xlabel if shown == len(maps) else f"{xlabel} (the first {shown} of {len(maps)} images)")
