"""The towers in the package are those of the model card, know what it says, and the world is as it was frozen."""

from pathlib import Path

import numpy as np
import pytest
import torch

import workbench as wb
from workbench import toybox
from workbench.backbones import joint_embeddings
from workbench.backbones import toybox as towers
from workbench.backbones.toybox.tasks import to_pixels
from workbench.backbones.toybox.upstream import attributes, held_out_scenes, held_out_toy_scenes, held_out_toys, render
from workbench.backbones.weights import file_sha256
from workbench.data import toybox_lt

FOLDER = Path(towers.__file__).parent
CARD = (FOLDER / "README.md").read_text()
FROZEN = [
    [92.535, 124.411, 129.487],
    [129.436, 102.246, 99.601],
    [24.773, 33.736, 28.826],
    [220.377, 223.698, 233.165],
    [133.748, 127.810, 103.172],
]


@pytest.mark.parametrize("name", ["toybox_vit", "toybox_clip"])
def test_the_files_are_those_of_the_model_card(name: str) -> None:
    assert file_sha256(FOLDER / f"{name}.safetensors") in CARD


def test_the_data_set_is_that_of_the_model_card() -> None:
    assert toybox.VERSION == "toybox-1" in CARD
    assert wb.Manifest.load("toybox_lt").sha256 in CARD and toybox_lt().sha256 in CARD


def test_pictures_are_those_that_were_frozen() -> None:
    """Means of channels, which another processor's last digits cannot move by a tenth of a level."""
    scenes = [toybox.class_scene(label, index=label, seed=0) for label in (0, 20, 40)]
    scenes += [toybox.class_scene(5, index=0, seed=0, style="sketch"), toybox.upstream_scene(9, seed=1)]
    means = [toybox.render(scene)[0].mean(axis=(0, 1)) for scene in scenes]
    np.testing.assert_allclose(means, FROZEN, atol=0.1)


def test_toybox_clip_tells_60_names_it_never_met_apart() -> None:
    backbone, text = wb.load_backbone("toybox_clip"), wb.load_text_tower("toybox_clip")
    names = [toy.name for toy in held_out_toys()]
    pixels = to_pixels(render(held_out_toy_scenes(3)), torch.device("cpu"))
    with torch.no_grad():
        joint = backbone.project(backbone.encode(pixels))
    predicted = (joint @ joint_embeddings(backbone, text, names).T).argmax(1)
    assert (predicted == torch.arange(60).repeat_interleave(3)).float().mean() > 0.93


def test_toybox_vit_features_hold_every_attribute() -> None:
    """Nearest class mean on held-out scenes, a classifier that nobody trained."""
    backbone = wb.load_backbone("toybox_vit")
    scenes = held_out_scenes(900)
    labels = attributes(scenes)
    with torch.no_grad():
        vectors = backbone.encode(to_pixels(render(scenes), torch.device("cpu"))).numpy()
    for column, floor in ((0, 0.75), (1, 0.6), (2, 0.6), (3, 0.8)):  # shape, colour, pattern, background
        own = labels[:, column]
        means = np.stack([vectors[:600][own[:600] == value].mean(0) for value in range(own.max() + 1)])
        distances = ((vectors[600:, None] - means) ** 2).sum(-1)
        assert (distances.argmin(1) == own[600:]).mean() > floor


def test_zero_shot_lies_where_the_world_was_fixed() -> None:
    test = wb.LongTailDataset(wb.Manifest.load("toybox_lt"), "test", per_class=10)
    backbone, text = wb.load_backbone("toybox_clip"), wb.load_text_tower("toybox_clip")
    method = wb.create_method("zero_shot", backbone, test.classes, text=text)
    assert 0.33 < wb.extract(method, test).correct.mean() < 0.50  # 0.41 on all test images
