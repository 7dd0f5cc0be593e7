"""The toybox renders the same picture for the same scene, knows where its toy is, and keeps its two worlds apart."""

from dataclasses import replace

import numpy as np
import pytest

from workbench import toybox
from workbench.toybox.words import COLOUR_SENTENCES, PATTERN_SENTENCES, SHAPE_SENTENCES, TEMPLATES

STAR = toybox.Toy("striped", "red", "star")


def scene(style: str = "downstream", toy: toybox.Toy = STAR, background: str = "sand", index: int = 0) -> toybox.Scene:
    return toybox.Scene(toy, background, style, 0, index)


def test_there_is_as_much_of_everything_as_the_design_asks_for() -> None:
    assert len(toybox.SHAPES) >= 16 and len(toybox.BACKGROUNDS) >= 8
    assert len(toybox.CLASSES) == len(set(toybox.CLASSES)) == 60
    assert len(toybox.every_toy()) == 1000 == len({toy.code for toy in toybox.every_toy()})


def test_the_worlds_share_attributes_and_no_class_and_the_downstream_one_has_backgrounds_of_its_own() -> None:
    upstream = toybox.upstream_toys()
    assert not set(upstream) & set(toybox.CLASSES) and len(upstream) == 940
    for attribute in ("shape", "colour", "pattern"):
        met = {getattr(toy, attribute) for toy in upstream}
        assert {getattr(toy, attribute) for toy in toybox.CLASSES} <= met
    assert set(toybox.DOWNSTREAM_BACKGROUNDS) - set(toybox.UPSTREAM_BACKGROUNDS)
    assert set(toybox.DOWNSTREAM_BACKGROUNDS) & set(toybox.UPSTREAM_BACKGROUNDS)


def test_no_single_attribute_names_a_class() -> None:
    for attributes in (("shape",), ("colour",), ("pattern",), ("shape", "colour"), ("shape", "pattern")):
        values = [tuple(getattr(toy, name) for name in attributes) for toy in toybox.CLASSES]
        assert max(values.count(value) for value in values) > 1


@pytest.mark.parametrize("style", toybox.STYLES)
def test_a_scene_is_a_picture_and_always_the_same_one(style: str) -> None:
    image, mask = toybox.render(scene(style))
    assert image.shape == (56, 56, 3) and image.dtype == np.uint8
    assert mask.shape == (56, 56) and mask.dtype == bool and 0.02 < mask.mean() < 0.6
    again, _ = toybox.render(scene(style))
    assert np.array_equal(image, again)
    assert not np.array_equal(image, toybox.render(scene(style, index=1))[0])


@pytest.mark.parametrize("shape", toybox.SHAPES)
def test_the_mask_is_what_another_background_does_not_change(shape: str) -> None:
    placed = scene("upstream", toybox.Toy("plain", "red", shape), index=4)
    picture, mask = toybox.render(placed)
    other, _ = toybox.render(replace(placed, background="snow"))
    same = (picture == other).all(axis=-1)
    assert same[mask].mean() > 0.75  # all but the soft rim
    assert same[~mask].mean() < 0.05


@pytest.mark.parametrize("style", ["upstream", "downstream"])
def test_another_background_leaves_toy_and_cover_where_they_were(style: str) -> None:
    masks = [toybox.render(scene(style, background=background, index=3))[1] for background in toybox.BACKGROUNDS]
    assert all(np.array_equal(mask, masks[0]) for mask in masks)


def test_every_shape_pattern_and_background_looks_like_no_other() -> None:
    shapes = [toybox.render(scene("sketch", toybox.Toy("plain", "red", shape)))[1] for shape in toybox.SHAPES]
    backgrounds = [toybox.render(scene("upstream", background=name))[0] for name in toybox.BACKGROUNDS]
    for pictures in (shapes, backgrounds):
        assert len({picture.tobytes() for picture in pictures}) == len(pictures)


@pytest.mark.parametrize("style", toybox.STYLES)
def test_a_larger_picture_shows_the_same_scene(style: str) -> None:
    small, small_mask = toybox.render(scene(style, index=2))
    large, large_mask = toybox.render(scene(style, index=2), size=168)
    block = large_mask.reshape(56, 3, 56, 3).mean(axis=(1, 3)) > 0.5
    assert (block == small_mask).mean() > 0.96
    shrunk = large.reshape(56, 3, 56, 3, 3).mean(axis=(1, 3))
    assert np.corrcoef(shrunk.ravel(), small.ravel())[0, 1] > 0.9


def test_wrong_words_are_refused_with_the_right_ones() -> None:
    with pytest.raises(ValueError, match="choose one of plain, striped"):
        toybox.Toy("stripy", "red", "star")
    with pytest.raises(ValueError, match="choose one of grass"):
        scene(background="moonlight")
    with pytest.raises(ValueError, match="choose one of upstream"):
        scene(style="upside down")
    with pytest.raises(ValueError, match="at least 8"):
        toybox.render(scene(), size=4)


def test_captions_speak_of_their_scene_and_never_name_another_class() -> None:
    generator = np.random.default_rng(0)
    one = toybox.upstream_scene(5, seed=0)
    captions = {toybox.caption(one, generator=generator) for _ in range(400)}
    others = {toy.name for toy in toybox.every_toy()} - {one.toy.name}
    assert not any(name in caption for caption in captions for name in others)
    assert sum(one.toy.name in caption for caption in captions) >= len(TEMPLATES)
    assert any(one.background in caption for caption in captions)


def test_every_toy_has_descriptions_that_are_true_of_it() -> None:
    assert set(SHAPE_SENTENCES) == set(toybox.SHAPES) and set(PATTERN_SENTENCES) == set(toybox.PATTERNS)
    found = toybox.descriptions(STAR)
    assert len(found) == len(set(found)) == 5
    assert COLOUR_SENTENCES[0].format("red") in found and set(SHAPE_SENTENCES["star"]) <= set(found)
    assert not any("star" in sentence for sentence in found)
