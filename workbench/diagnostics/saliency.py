"""What stands out in an image before any model has looked at it? Spectral-residual saliency, by pixel and by patch.

Hou and Zhang, "Saliency Detection: A Spectral Residual Approach", CVPR 2007, as OpenCV computes it; LT-DPT ("Decoupling
Prompt Tuning for Long-Tailed Visual Recognition", under review, eqs. 9 to 12) steers its prompts with the mean over
each patch. The arithmetic is in `workbench.data.saliency`; here it is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .base import Result
from .heat_maps import as_pictures, image_strips, peaks

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from torch import Tensor

_TOLERANCE = 1e-5  # by which rounding may carry pixels out of [0, 1]


@dataclass(frozen=True, kw_only=True, eq=False)
class SaliencyMaps(Result):
    """One map per image, its highest pixel near 1; zero everywhere where an image has no contrast.

    No model is asked, so a map says where to look, not what a classifier uses: set Grad-CAM beside it for that.
    """

    diagnostic: ClassVar[str] = "saliency_maps"
    size: ClassVar[tuple[float, float]] = (5.5, 2.2)
    views: ClassVar[tuple[str, ...]] = ("overlay", "maps", "patches")

    maps: np.ndarray  # (B, H, W) float32 in [0, 1]
    scores: np.ndarray | None  # (B, h, w) float32 in [0, 1], mean over each patch, stretched per image; None: no grid
    pictures: np.ndarray  # (B, H, W, 3) uint8, the images

    def __str__(self) -> str:
        flat = int((self.maps.max((1, 2)) == 0).sum())
        pooled = "" if self.scores is None else f", pooled to {self.scores.shape[1]} x {self.scores.shape[2]} patches"
        return (
            f"spectral-residual saliency: {len(self.maps)} images of {self.maps.shape[1]} x {self.maps.shape[2]} "
            f"pixels{pooled}{f'; {flat} without contrast' if flat else ''}"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per image: where its map is highest, in pixels, and the share of the map in its highest tenth."""
        import pandas as pd

        return pd.DataFrame({"image": np.arange(len(self.maps)), **peaks(self.maps)})

    def _view(self, view: str | None) -> str:
        view = super()._view(view)
        if view == "patches" and self.scores is None:
            raise ValueError(
                "these maps were not pooled to patches; call saliency_maps(images, grid=(h, w)), for the patches of a "
                "tower with grid=method.backbone.grid."
            )
        return view

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        drawn, xlabel = self.maps, "image; below: saliency, bright is high"
        if view == "patches":
            assert self.scores is not None  # `_view` has refused it
            (h, w), (H, W) = self.scores.shape[1:], self.maps.shape[1:]
            drawn = self.scores[:, np.arange(H) * h // H][:, :, np.arange(W) * w // W]  # (B, H, W) in squares
            xlabel = f"image; below: saliency of {h} x {w} patches"
        labels = [str(i) for i in range(len(self.maps))]
        image_strips(ax, self.pictures, drawn, labels, overlay=view == "overlay", xlabel=xlabel, **artist_kw)


def saliency_maps(images: Tensor, grid: tuple[int, int] | None = None) -> SaliencyMaps:
    """Spectral-residual saliency of a batch.

    Args:
        images: (B, 3, H, W), or (B, 1, H, W) grey, float in [0, 1], as they look: not normalised.
        grid: (h, w) patches to pool to, as LT-DPT does (`method.backbone.grid`); None leaves `.scores` out.

    Raises:
        ValueError: images of another shape or type, or outside of [0, 1], or a grid that does not fit into them.
    """
    from workbench.data.saliency import patch_scores, spectral_residual

    if images.ndim != 4 or not len(images) or images.shape[1] not in (1, 3) or not images.is_floating_point():
        raise ValueError(
            f"images are {tuple(images.shape)} {images.dtype}; expected (B, 3, H, W) or (B, 1, H, W) float in [0, 1]. "
            "One image: image[None]; pixels of 8 bits: images / 255."
        )
    images = images.detach()
    low, high = float(images.amin()), float(images.amax())
    if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):  # nan fails too
        raise ValueError(
            f"images run from {low:.3g} to {high:.3g}, outside of [0, 1]. Images that are normalised for a tower are "
            "made to look as they did by saliency_maps(method.backbone.pixels(images))."
        )
    images = images.clamp(0, 1)
    if grid is not None and not (1 <= grid[0] <= images.shape[2] and 1 <= grid[1] <= images.shape[3]):
        raise ValueError(
            f"grid={tuple(grid)}, but images are {images.shape[2]} x {images.shape[3]} pixels; give rows and columns "
            "of patches, at least 1 and not more than pixels, for example method.backbone.grid."
        )
    maps = spectral_residual(images)
    return SaliencyMaps(
        arguments={"grid": None if grid is None else [int(side) for side in grid]},
        sources=(),
        maps=maps.cpu().numpy(),
        scores=None if grid is None else patch_scores(maps, (int(grid[0]), int(grid[1]))).cpu().numpy(),
        pictures=as_pictures(images.expand(-1, 3, -1, -1)),
    )
