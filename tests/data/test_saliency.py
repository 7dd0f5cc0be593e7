"""Spectral-residual saliency against OpenCV's recorded maps, and where those are noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from workbench.data.saliency import patch_scores, spectral_residual

Golden = Callable[[str], Any]
NAMES = ("gray_gradient_square", "bgr_texture", "gray_portrait", "bgr_224_objects", "gray_checker_disc")


def image_of(case: Any) -> torch.Tensor:
    pixels = case.arrays["in.image_uint8_bgr_or_gray"]
    pixels = pixels[..., ::-1].copy() if pixels.ndim == 3 else pixels[..., None]
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("name", NAMES)
def test_maps_and_patch_scores_are_opencvs(golden: Golden, name: str) -> None:
    case = golden(f"saliency_{name}")
    tolerance = case.record["tolerance"]
    found = spectral_residual(image_of(case))
    assert found.shape[1:] == case.arrays["out.map"].shape and 0 <= found.min() and found.max() <= 1
    np.testing.assert_allclose(found[0], case.arrays["out.map"], atol=tolerance["atol"])
    scores = patch_scores(found, (14, 14))[0]
    np.testing.assert_allclose(scores, case.arrays["out.pooled14_minmax"], atol=tolerance["atol_pooled14_minmax"])
    grey = torch.from_numpy(case.arrays["in.gray64"].astype(np.float32))[None, None] / 255
    for order, key in (("opencv", "out.map64_numpy"), ("paper", "out.map64_paper_order_numpy")):
        on_64 = spectral_residual(grey, order=order)[0]  # type: ignore[arg-type]
        np.testing.assert_allclose(on_64, case.arrays[key], atol=tolerance["atol_map64"])


def test_the_image_of_the_reference_report() -> None:
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    pixels = (7 * x + 13 * y + 5 * ((x * y) % 31)) % 256
    pixels[20:28, 36:44] = 250
    found = spectral_residual(torch.from_numpy(pixels / 255).float()[None, None])[0]
    for place, value in {(0, 0): 0.019550, (24, 40): 0.745037, (32, 32): 0.261740, (63, 63): 0.784077}.items():
        assert float(found[place]) == pytest.approx(value, abs=1e-3)
    assert float(found.mean()) == pytest.approx(0.316824, abs=1e-3)
    assert np.unravel_index(int(found.argmax()), found.shape) == (22, 38)
    scores = patch_scores(found[None], (14, 14))[0]
    assert float(scores[5, 8]) == pytest.approx(0.985727, abs=2e-3)


def test_an_image_without_contrast_has_no_saliency(golden: Golden) -> None:
    case = golden("saliency_constant")
    found = spectral_residual(image_of(case))
    assert not found.any()
    np.testing.assert_allclose(patch_scores(found, (14, 14))[0], case.arrays["out.pooled14_minmax"])
    assert not spectral_residual(torch.full((2, 3, 40, 30), 0.3)).any()


def test_a_batch_is_what_each_image_is_alone_and_half_precision_is_widened() -> None:
    images = torch.rand(3, 3, 56, 40, generator=torch.Generator().manual_seed(0))
    together = spectral_residual(images)
    assert together.shape == (3, 56, 40) and together.dtype == torch.float32
    torch.testing.assert_close(together[1:2], spectral_residual(images[1:2]), rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(spectral_residual(images), together)
    scores = patch_scores(together, (7, 5))
    assert scores.shape == (3, 7, 5) and float(scores.amin()) == 0 and float(scores.amax()) == pytest.approx(1)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 2, 8, 8)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        spectral_residual(torch.zeros(shape))
