"""Preprocessing: pixels and boxes of the public code's transforms, records, and refused combinations."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from workbench.data import Preprocessing, default_expand, evaluation_preprocessing, training_preprocessing

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@pytest.mark.parametrize("image", [0, 1, 2])
@pytest.mark.parametrize("expand", [4, 8])
def test_evaluation_pixels_equal_the_recorded_ones(golden, image, expand):
    case = golden(f"tte_pixels_{image}_e{expand}")
    key = {name.rsplit(".", 1)[1]: name for name in case.arrays}
    picture = Image.fromarray(case.arrays[key["image_uint8_hwc"]])
    plain = evaluation_preprocessing(32, resize=36, mean=MEAN, std=STD)
    five = plain.with_views("five", expand)
    assert five.resize == 32 + expand and five.views == 5
    case.check(five.build()(picture), key["fivecrop"])
    ten = plain.with_views("ten", expand).build()(picture)
    assert ten.shape == (10, 3, 32, 32) and ten.dtype == torch.float32
    case.check(ten.mean(dim=(2, 3)), key["tencrop_mean"])
    case.check(plain.build()(picture), key["lift_plain"])
    half = (0.5, 0.5, 0.5)  # LPT normalises with these whatever the settings of the case say
    squash = Preprocessing(name="lpt", size=32, resize=36, resize_mode="squash", crop="centre", mean=half, std=half)
    case.check(squash.build()(picture), key["lpt_squash"])
    ballad = evaluation_preprocessing(32, resize=32, interpolation="bicubic", mean=MEAN, std=STD)
    case.check(ballad.build()(picture), key["ballad_bicubic"])


@pytest.mark.parametrize("number", range(5))
def test_crop_boxes_equal_the_recorded_ones(golden, number):
    """The boxes are read from images whose pixels say where they are, so that no box rule is written twice."""
    case = golden(f"tte_boxes_{number}")
    settings = case.settings
    size, expand = settings["res"], settings["expand"]
    height, width = case.arrays[f"out.{number}.resized_hw"].tolist()
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    # the image already has the size it is resized to, so resizing leaves it and pixels keep their coordinates
    coordinates = np.stack([rows % 256, columns % 256, rows // 256 * 16 + columns // 256], -1)
    picture = Image.fromarray(coordinates.astype(np.uint8))
    views = evaluation_preprocessing(size, **PLAIN).with_views("five", expand).build()(picture)
    boxes = [(_at(view, 0, 0), _at(view, -1, -1)) for view in views]
    found = [[top, left, bottom + 1, right + 1] for (top, left), (bottom, right) in boxes]
    case.check(np.array(found), f"out.{number}.five_boxes")
    whole = Image.new("RGB", (settings["width"], settings["height"]))
    resize = evaluation_preprocessing(size, **PLAIN).with_views("five", expand).build().geometry.transforms[0]
    assert resize(whole).size == (width, height)
    plain = evaluation_preprocessing(size, **PLAIN).build().geometry.transforms[0]
    assert list(plain(whole).size[::-1]) == case.arrays[f"out.{number}.eval_resized_hw"].tolist()


def _at(view, row, column):
    red, green, blue = (round(float(value) * 255) for value in view[:, row, column])
    return red + 256 * (blue // 16), green + 256 * (blue % 16)


@pytest.mark.parametrize(
    "size, patch, expected",
    [(224, 16, 24), (224, 14, 21), (56, 8, 6), (112, 16, 12), (336, 14, 21), (224, 32, 24), (224, 8, 12)],
)
def test_default_expand_is_that_of_the_papers(size, patch, expected):
    assert default_expand(size, patch) == expected


def test_default_expand_is_never_a_multiple_of_the_patch():
    for patch in (4, 8, 14, 16, 32):
        for size in range(patch, 600):
            assert default_expand(size, patch) % patch != 0


def test_records_survive_json_and_hashes_follow_them():
    p = training_preprocessing(112, mean=MEAN, std=STD, scale=(0.5, 1.0), interpolation="bicubic")
    again = Preprocessing.from_spec(json.loads(json.dumps(p.spec())))
    assert again == p and again.sha256 == p.sha256 and len(p.sha256) == 16
    assert p.random and p.augmentations == ("flip",) and p.views == 1
    assert evaluation_preprocessing(112, mean=MEAN, std=STD).resize == 128
    assert p.sha256 != training_preprocessing(112, mean=MEAN, std=STD).sha256


def test_pipelines_can_be_sent_to_worker_processes():
    p = evaluation_preprocessing(16, mean=MEAN, std=STD)
    picture = Image.new("RGB", (20, 30), (200, 10, 0))
    torch.testing.assert_close(pickle.loads(pickle.dumps(p.build()))(picture), p.build()(picture))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"crop": "middle"}, "choose one of centre"),
        ({"resize": 8}, "does not fit"),
        ({"crop": "none"}, "squash"),
        ({"augmentations": ("mirror",)}, "flip"),
        ({"crop": "five", "augmentations": ("flip",)}, "test views"),
        ({"interpolation": "lanczos"}, "bilinear"),
        ({"std": (1.0, 0.0, 1.0)}, "positive"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"crop": "padded", "resize": None}, "needs resize"),
    ],
)
def test_wrong_settings_are_refused_with_what_is_allowed(changes, message):
    fields = {"name": "x", "size": 16, "resize": 20, "resize_mode": "shorter", "crop": "centre", **PLAIN}
    with pytest.raises(ValueError, match=message):
        Preprocessing(**{**fields, **changes})


def test_views_are_made_of_an_evaluation_only():
    plain = evaluation_preprocessing(16, **PLAIN)
    assert plain.with_views("centre", 3) is plain
    for other in (training_preprocessing(16, **PLAIN), plain.with_views("five", 2)):
        with pytest.raises(ValueError, match="evaluation with one crop"):
            other.with_views("five", 2)
    with pytest.raises(ValueError, match="five, ten"):
        plain.with_views("seven", 2)


def test_squashed_whole_images_and_random_crops():
    picture = Image.new("RGB", (40, 20), (255, 0, 0))
    whole = Preprocessing(name="w", size=16, resize=16, resize_mode="squash", crop="none", **PLAIN)
    assert whole.build()(picture).shape == (3, 16, 16) and not whole.random
    augmentations = ("flip", "colour_jitter")
    crop = Preprocessing(
        name="r", size=16, resize=18, resize_mode="shorter", crop="random", augmentations=augmentations, **PLAIN
    )
    with torch.random.fork_rng(devices=[]):
        assert crop.build()(picture).shape == (3, 16, 16)


def padded(size, *augmentations):
    """32 px of an image padded by 4, as GNM-PT's code takes them of CIFAR."""
    fields = {"name": "p", "size": size, "resize": 32, "resize_mode": "squash", "crop": "padded", **PLAIN}
    return Preprocessing(**fields, augmentations=augmentations)


def test_padded_crops_lie_up_to_an_eighth_outside_of_the_image():
    rows, columns = np.meshgrid(np.arange(32), np.arange(32), indexing="ij")
    picture = Image.fromarray(np.stack([rows + 1, columns + 1, 255 + 0 * rows], -1).astype(np.uint8))
    pipeline, offsets = padded(32).build(), set()
    assert padded(32).random
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        for _ in range(200):
            view = pipeline(picture)
            inside = view[2] == 1
            top, left = (round(float(view[channel, 16, 16]) * 255) - 17 for channel in (0, 1))
            offsets.add((top, left))
            seen = [(rows + move >= 0) & (rows + move < 32) for move in (top, left)]
            assert torch.equal(inside, torch.from_numpy(seen[0] & seen[1].T)), "a black border, and nothing else"
    assert {top for top, _ in offsets} == {left for _, left in offsets} == set(range(-4, 5))


def test_cutout_blackens_half_the_height_around_any_pixel_before_the_image_is_enlarged():
    white, holes = Image.new("RGB", (32, 32), (255, 255, 255)), []
    step = padded(32, "cutout").build().numbers  # behind crop and border
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        for _ in range(500):
            black = (step(white) == 0).all(0)
            rows, columns = black.any(1), black.any(0)
            assert torch.equal(black, rows[:, None] & columns)
            holes.append((int(rows.sum()), int(columns.sum())))
        large = padded(224, "cutout").build().numbers(white)
    heights, widths = np.array(holes).T
    assert set(heights) == set(widths) == set(range(8, 17))  # 8 where the pixel is in the first row
    # 16 rows around each of 17 pixels, 8 to 15 around 8 at the top and 15 to 9 around 7 at the bottom: 14 on average
    assert heights.mean() == pytest.approx(14, abs=0.4) and widths.mean() == pytest.approx(14, abs=0.4)
    black = large[0] < 0.5  # a bilinear edge passes through the half where the edge of the pixels was
    assert all(int(black.any(axis).sum()) / 7 in range(8, 17) for axis in (0, 1)), "whole pixels, seven times as large"


def test_all_that_the_cifar_transform_draws_comes_from_torch(rng):
    picture = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    pipeline = padded(48, "flip", "auto_augment", "cutout").build()

    def drawn(seed):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return pipeline(picture)

    first = [drawn(seed) for seed in range(8)]
    assert all(view.shape == (3, 48, 48) and 0 <= view.min() and view.max() <= 1 for view in first)
    assert all(torch.equal(drawn(seed), view) for seed, view in enumerate(first))
    assert len({view.numpy().tobytes() for view in first}) == 8
