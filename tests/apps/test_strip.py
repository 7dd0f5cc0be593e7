"""One image of the linked lab: under the mouse, and with all that is known of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.apps.explore import explore
from workbench.diagnostics.thumbnails import thumbnail


@pytest.fixture(scope="module")
def pool() -> dict[str, Any]:
    """A method whose images pick prompts, with its features of both splits."""
    manifest = wb.Manifest.load("toybox_lt")
    images, train = (wb.LongTailDataset(manifest, split, per_class=1) for split in ("test", "train"))
    method = wb.create_method("lpt", wb.load_backbone("toybox_vit"), manifest.classes)
    features, bank = (wb.extract(method, each, views="centre") for each in (images, train))
    return {"features": features, "images": images, "method": method, "bank": bank, "bank_images": train}


def test_the_point_under_the_mouse_is_shown_in_words_and_as_a_picture(pool: dict[str, Any]) -> None:
    app = explore(pool["features"], pool["images"])
    app.work.wait()
    sent: list[dict[str, Any]] = []
    widget = app.map.scatter.widget
    widget.send = lambda content, buffers=None: sent.append(content)
    for point in (5, 9):
        widget.hovering = point
        # what the browser asks for half a second later
        widget._handle_custom_msg(
            {"type": "tooltip", "index": point, "properties": ["name", "confidence"], "preview": "picture"}, []
        )
    assert sent[0]["preview"].startswith("data:image/png;base64,") and sent[0]["preview"] != sent[1]["preview"]
    row = app.map.rows[9]
    features = pool["features"]
    assert sent[1]["properties"]["name"] == features.classes.names[features.labels[row]]
    assert sent[1]["properties"]["confidence"] == f"{features.confidence[row]:.2f}"
    assert sum(value != "" for value in app.map._table["picture"]) == 1, "pictures are not hoarded"


def test_all_of_one_image_is_shown_with_prompts_and_neighbours(pool: dict[str, Any]) -> None:
    app = explore(**pool)
    app.work.wait()
    app.filters.groups["few"].value = True
    app.grid.reading.wait()
    assert app.grid.tiles.sheet and len(app.grid.tiles.cells) == 25
    app.grid.tiles.active = 2
    app.strip.wait()
    row, features, bank = int(app.grid.rows[2]), pool["features"], pool["bank"]
    assert app.strip.row == row
    matched = features.extras["prompt_index"][row].tolist()
    titles = ["saliency", "Grad-CAM of", "attention rollout", *(f"what prompt {p} looks at" for p in matched[:2])]
    assert all(title in app.strip.maps.value for title in titles)
    assert app.strip.maps.value.count("<img") == 1 + len(titles) and app.strip.scores.value.count("<tr") >= 5
    similarity = features.extras["prompt_similarity"][row]
    assert f"prompt {matched[0]} ✓" in app.strip.prompts.value
    assert f"{similarity[matched[0]]:.2f}" in app.strip.prompts.value
    cosine = (bank.vectors @ features.vectors[row]) / np.linalg.norm(bank.vectors, axis=1)
    cosine = cosine / np.linalg.norm(features.vectors[row])
    nearest = bank.ids[np.argsort(-cosine)[:6]].tolist()
    places = [app.strip.near.value.find(name) for name in nearest]
    assert -1 not in places and places == sorted(places), "the nearest first"
    assert app.strip.near.value.count("<img") == 6


def test_methods_and_features_without_prompts_say_so(pool: dict[str, Any]) -> None:
    features = pool["features"]
    bare = replace(features, extras={})
    app = explore(bare, pool["images"], pool["method"], replace(pool["bank"], vectors=pool["bank"].vectors[:, :-1]))
    app._chosen(0)
    app.strip.wait()
    assert "Extract the features with this method" in app.strip.prompts.value
    assert "extract both with one model" in app.strip.near.value and "what its prompts look at" in app.strip.maps.value
    manifest = pool["images"].manifest
    probe = wb.create_method("linear_probe", wb.load_backbone("toybox_vit"), manifest.classes)
    other = explore(bare, pool["images"], probe)
    other._chosen(0)
    other.strip.wait()
    assert "Images of linear_probe pick no prompts" in other.strip.prompts.value
    assert "prompts look" not in other.strip.maps.value and other.strip.maps.value.count("<img") == 4


def test_images_of_several_splits_are_shown_from_their_data_sets(pool: dict[str, Any]) -> None:
    features = {"test": pool["features"], "train": pool["bank"]}
    images = {"test": pool["images"], "train": pool["bank_images"]}
    app = explore(features, images, pool["method"], pool["bank"], pool["bank_images"])
    app.work.wait()
    test, train = 3, len(pool["features"]) + 7
    app.select(rows=f"{test},{train}").show(sort="as they come")
    app.grid.reading.wait()
    pictures = [app.map.pictures.one(row) for row in (test, train)]
    for picture, (name, row) in zip(pictures, (("test", 3), ("train", 7)), strict=True):
        np.testing.assert_array_equal(picture, thumbnail(images[name].image(row)))
    app.look(str(pool["bank"].ids[7]))
    app.strip.wait()
    assert app.strip.maps.value.count("<img") > 3 and app.strip.near.value.count("<img") == 6
    assert app.strip.near.value.find(str(pool["bank"].ids[7])) == -1, "an image is no neighbour of itself"

    some = explore(features, {"test": images["test"]}, pool["method"])
    some.work.wait()
    some.select(rows=f"{test},{train}").show(sort="as they come")
    some.grid.reading.wait()
    assert ["missing" in cell for cell in some.grid.tiles.cells] == [False, True] and some.grid.tiles.sheet
    hint = "The features of &#x27;train&#x27; come without images. Pass images={&#x27;train&#x27;: LongTailDataset("
    assert hint in some.grid.message.value
    some.look(str(pool["bank"].ids[7]))
    assert hint in some.strip.maps.value and "split: train" in some.strip.scores.value
    assert some.map.pictures.url(train) == "" != some.map.pictures.url(test)
    some.look(str(pool["features"].ids[3]))
    some.strip.wait()
    assert some.strip.maps.value.count("<img") > 3
    bare = explore(features)
    assert "Pass images={&#x27;test&#x27;: LongTailDataset(" in bare.strip.maps.value
