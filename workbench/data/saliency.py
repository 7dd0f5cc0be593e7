"""Spectral-residual saliency: what an image has that its neighbours in frequency do not lead one to expect.

Hou and Zhang, "Saliency Detection: A Spectral Residual Approach", CVPR 2007; LT-DPT (eqs. 8 to 12) makes scores of
patches of it. Computed as OpenCV does (`cv2.saliency.StaticSaliencySpectralResidual`): grey, resized to 64 x 64, both
in whole numbers up to 255; log amplitude minus its 3 x 3 mean, phase kept, inverse transform, 5 x 5 Gaussian of sigma
8, *then* squared, divided by the maximum and resized back. The papers square first and blur after; with order="paper"
so does this, and stretches to [0, 1].

Batched and on the device of the images, so that a method can use it within a training step.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

GREY = (9798, 19235, 3735)  # of red, green, blue, out of 2^15: OpenCV's whole numbers for 0.299, 0.587, 0.114
SIGMA = 8.0


def spectral_residual(images: Tensor, *, size: int = 64, order: Literal["opencv", "paper"] = "opencv") -> Tensor:
    """Saliency of every pixel.

    Args:
        images: (B, 3, H, W) or (B, 1, H, W) float in [0, 1], as they look: not normalised.
        size: pixels of the square on which the spectrum is taken.
        order: "opencv" blurs and then squares; "paper" squares and then blurs.

    Returns:
        (B, H, W) float32 in [0, 1]. An image without any contrast is 0 everywhere (OpenCV: rounding noise).
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
        raise ValueError(f"images are {tuple(images.shape)} {images.dtype}; expected (B, 3, H, W) float in [0, 1].")
    if order not in ("opencv", "paper"):
        raise ValueError(f"order={order!r} is not known; choose opencv or paper.")
    with torch.autocast(images.device.type, enabled=False):  # half precision has no Fourier transform, nor the range
        grey = _rounded(255 * images.float())
        if grey.shape[1] == 3:
            grey = _rounded((grey * grey.new_tensor(GREY)[:, None, None]).sum(1, keepdim=True) / 2**15)
        small = _rounded(F.interpolate(grey, (size, size), mode="bilinear", align_corners=False))  # (B, 1, size, size)
        spectrum = torch.fft.fft2(small[:, 0])
        amplitude = spectrum.abs()
        logarithm = torch.log(amplitude + 1e-12)[:, None]
        around = F.avg_pool2d(F.pad(logarithm, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
        residual = torch.polar((logarithm - around)[:, 0].exp(), spectrum.angle())
        found = torch.fft.ifft2(residual).abs()[:, None]  # (B, 1, size, size)
        found = _blur(found).square() if order == "opencv" else _blur(found.square())
        if order == "paper":
            found = found - found.amin((2, 3), keepdim=True)
        found = found / found.amax((2, 3), keepdim=True).clamp(min=torch.finfo(found.dtype).tiny)
        flat = small.amax((1, 2, 3)) - small.amin((1, 2, 3)) < 1  # (B,)
        found = torch.where(flat[:, None, None, None], 0.0, found)
        back = F.interpolate(found, images.shape[2:], mode="bilinear", align_corners=False)
    return back[:, 0]


def patch_scores(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mean saliency of each patch, stretched to [0, 1] per image: (B, H, W) -> (B, h, w). A constant map gives 0.

    LT-DPT normalises after pooling (our reading: its text does not say); rows run as a ViT's patches do.
    """
    pooled = F.adaptive_avg_pool2d(maps[:, None], grid)[:, 0]
    low, high = pooled.amin((1, 2), keepdim=True), pooled.amax((1, 2), keepdim=True)
    return (pooled - low) / (high - low).clamp(min=1e-6)


def _rounded(values: Tensor) -> Tensor:
    """Halves go up, in OpenCV; torch rounds them to even."""
    return (values + 0.5).floor()


def _blur(maps: Tensor) -> Tensor:
    """A 5 x 5 Gaussian of sigma 8, edges mirrored. maps: (B, 1, h, w)."""
    offsets = torch.arange(-2.0, 3.0, device=maps.device)
    weights = torch.exp(-offsets.square() / (2 * SIGMA**2))
    weights = weights / weights.sum()
    padded = F.pad(maps, (2, 2, 2, 2), mode="reflect")
    return F.conv2d(F.conv2d(padded, weights.view(1, 1, 1, 5)), weights.view(1, 1, 5, 1))
