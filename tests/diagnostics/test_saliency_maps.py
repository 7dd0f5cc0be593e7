"""Saliency maps: OpenCV's recorded values through the whole diagnostic, and what it says of images it cannot take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

import workbench as wb
from workbench.diagnostics.saliency import saliency_maps

Golden = Callable[[str], Any]
NAMES = ("gray_gradient_square", "bgr_texture", "gray_portrait", "bgr_224_objects", "gray_checker_disc")


def pixels_of(case: Any) -> np.ndarray:
    """(H, W, 1) grey or (H, W, 3) in the order red, green, blue, uint8."""
    pixels = case.arrays["in.image_uint8_bgr_or_gray"]
    return np.ascontiguousarray(pixels[..., ::-1]) if pixels.ndim == 3 else pixels[..., None]


@pytest.mark.parametrize("name", NAMES)
def test_maps_and_scores_are_opencvs(golden: Golden, name: str) -> None:
    case = golden(f"saliency_{name}")
    tolerance, pixels = case.record["tolerance"], pixels_of(case)
    found = saliency_maps(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255, grid=(14, 14))
    assert found.scores is not None and found.maps.dtype == found.scores.dtype == np.float32
    np.testing.assert_allclose(found.maps[0], case.arrays["out.map"], atol=tolerance["atol"])
    pooled = case.arrays["out.pooled14_minmax"]
    np.testing.assert_allclose(found.scores[0], pooled, atol=tolerance["atol_pooled14_minmax"])
    assert found.pictures.dtype == np.uint8 and (found.pictures[0] == pixels).all()  # grey in all three channels
    frame = found.to_frame()
    at_peak = case.arrays["out.map"][frame.peak_row[0], frame.peak_column[0]]
    assert at_peak >= case.arrays["out.map"].max() - 2 * tolerance["atol"]


def test_an_image_without_contrast_is_zero_and_has_no_highest_tenth() -> None:
    images = torch.full((2, 3, 40, 30), 0.3)
    images[1, :, 10:14, 20:24] = 1.0
    found = saliency_maps(images, grid=(4, 3))
    assert found.scores is not None and not found.maps[0].any() and not found.scores[0].any()
    assert found.maps[1].max() > 0.5 and found.scores[1].max() == pytest.approx(1)
    frame = found.to_frame()
    assert np.isnan(frame.share_of_highest_tenth[0])
    ordered = np.sort(found.maps[1].ravel())  # of 1200 pixels, 120 are a tenth
    assert frame.share_of_highest_tenth[1] == pytest.approx(ordered[-120:].sum() / ordered.sum())
    assert 6 <= frame.peak_row[1] <= 18 and 16 <= frame.peak_column[1] <= 28  # at the square
    assert "1 without contrast" in str(found)


def test_the_views_draw_what_they_say() -> None:
    images = torch.rand(10, 3, 28, 56, generator=torch.Generator().manual_seed(0))
    found = saliency_maps(images, grid=(2, 4))
    assert found.scores is not None
    drawn = {view: found.plot(view=view).images[0].get_array() for view in found.views}
    assert all(picture.shape == (2 * (28 + 2), 8 * (56 + 2), 3) for picture in drawn.values())  # eight of ten images
    for picture in drawn.values():
        assert np.array_equal(picture[:28, :56], found.pictures[0])
    heat = plt.get_cmap("inferno")
    assert np.array_equal(drawn["maps"][30:58, :56], (255 * heat(found.maps[0])[..., :3]).astype(np.uint8))
    squares = (255 * heat(np.kron(found.scores[0], np.ones((14, 14), np.float32)))[..., :3]).astype(np.uint8)
    assert np.array_equal(drawn["patches"][30:58, :56], squares)
    grey = np.asarray(Image.fromarray(found.pictures[0]).convert("L"), float)[..., None]
    middle = 0.55 * grey + 0.45 * 255 * heat(found.maps[0])[..., :3]
    assert np.abs(drawn["overlay"][30:58, :56] - middle).max() <= 2, "heat over the picture in grey"


def test_patches_without_a_grid_are_refused_and_leave_no_figure() -> None:
    found = saliency_maps(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert found.scores is None
    plt.close("all")
    with pytest.raises(ValueError, match=r"call saliency_maps\(images, grid=\(h, w\)\)"):
        found.plot(view="patches")
    assert not plt.get_fignums()


def test_normalised_images_are_refused_and_the_advice_works() -> None:
    backbone = wb.load_backbone("toybox_vit", weights="random")
    looks = torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values)[:, None, None] for values in backbone.normalisation)
    images = (looks - mean) / std
    with pytest.raises(ValueError, match=r"outside of \[0, 1\].*method\.backbone\.pixels\(images\)"):
        saliency_maps(images)
    again = saliency_maps(backbone.pixels(images), grid=backbone.grid)
    np.testing.assert_allclose(again.maps, saliency_maps(looks).maps, atol=2e-3)
    assert again.scores is not None and again.scores.shape == (2, *backbone.grid)


@pytest.mark.parametrize(
    ("images", "grid", "message"),
    [
        (torch.rand(3, 8, 8), None, r"One image: image\[None\]"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), None, "images / 255"),
        (torch.zeros(0, 3, 8, 8), None, "expected"),
        (torch.full((1, 3, 8, 8), float("nan")), None, "run from nan"),
        (torch.zeros(1, 3, 8, 8), (9, 2), "images are 8 x 8 pixels"),
        (torch.zeros(1, 3, 8, 8), (0, 2), "at least 1"),
    ],
)
def test_what_is_no_picture_is_refused(images: torch.Tensor, grid: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        saliency_maps(images, grid)
