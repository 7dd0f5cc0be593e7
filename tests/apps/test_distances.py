"""Distances: ridges, dots and tables are the diagnostics' numbers; a pick shows two classes everywhere."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import workbench as wb
from workbench.apps.distances import Distances, distances
from workbench.apps.distances_map import coloured
from workbench.apps.distances_pair import close_up
from workbench.data import Classes
from workbench.diagnostics.intra_class import intra_class_distances
from workbench.diagnostics.similarity import class_similarity
from workbench.features import Features

from .conftest import HOSTILE

Make = Callable[..., Features]


def settled(app: Distances) -> Distances:
    app.work.wait()
    app.map.work.wait()
    for tiles in app.pair.pictured:
        tiles.work.wait()
    return app


@pytest.fixture
def splits(make_features: Make) -> tuple[Features, Features]:
    test = make_features(1)
    taxonomy = {"kind": np.arange(12) % 2}
    classes = Classes(test.classes.names, test.classes.counts, taxonomy=taxonomy)
    train = make_features(0)
    train = replace(train, ids=np.array([f"train/{i}" for i in range(len(train))]), classes=classes)
    return train, replace(test, classes=classes)


@pytest.fixture
def shown(splits: tuple[Features, Features]) -> Distances:
    return settled(distances(*splits))


def pixels(app: Distances) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(app.map.heat.picture)))


def test_ridges_dots_and_table_are_the_diagnostics_numbers(shown: Distances, splits: tuple[Features, Features]) -> None:
    found = intra_class_distances(*splits)
    for variant in ("matched", "published"):
        shown.variant.value = variant
        few = found.shifts[variant, "few"]
        assert f"few: train {few.train:.3f}, test {few.test:.3f}" in shown.ridges.spec["alt"]
        values = 1000 * (found.class_means[variant, "test"] - found.class_means[variant, "train"])
        dots = {int(mark["key"]): mark["y"] for mark in shown.dots.spec["marks"] if mark["kind"] == "dot"}
        assert [dots[c] for c in range(12)] == pytest.approx(values.tolist())
        assert f"<td>{few.wasserstein:.3f}</td>" in shown.numbers.value, "both tests stand in the table"
    lines = [mark for mark in shown.ridges.spec["marks"] if mark["kind"] == "line" and len(mark["points"]) > 9]
    assert [mark["dash"] for mark in lines] == [False, True] * 3, "train solid, test dashed"


def test_the_map_is_the_published_one_in_its_order_and_colours(
    shown: Distances, splits: tuple[Features, Features]
) -> None:
    train, test = splits
    for order, means, part in (("frequency", "test", test), ("kind", "train", train)):
        shown.map.order.value, shown.map.split.value = order, means
        settled(shown)
        similar = class_similarity(part, order=order)
        step = len(pixels(shown)) // 12
        cells = similar.matrix[np.ix_(similar.order, similar.order)]
        np.testing.assert_array_equal(
            pixels(shown)[step // 2 :: step, step // 2 :: step], coloured(cells, -1, 1, "RdBu_r")
        )
        assert similar.caption() in shown.map.said.value.replace("&#x27;", "'")
    shown.map.range.value = "seen"
    settled(shown)
    apart = cells[~np.eye(12, dtype=bool)]
    assert f"{apart.min():.2f}" in shown.map.scale.value and f"{apart.max():.2f}" in shown.map.scale.value


def test_a_pair_is_picked_on_the_map_by_name_or_by_a_dot(shown: Distances, splits: tuple[Features, Features]) -> None:
    similar = class_similarity(splits[1])
    np.fill_diagonal(apart := similar.matrix.copy(), -2)
    assert sorted(shown.pair.classes) == sorted(np.unravel_index(apart.argmax(), apart.shape)), (
        "at first the most alike"
    )
    shown.map.heat.picked = {"row": 2, "column": 9, "n": 1}
    one, other = similar.order[[2, 9]].tolist()
    names = shown.classes.names
    assert shown.pair.classes == (one, other) and [p.value for p in shown.pair.pickers] == [names[one], names[other]]
    assert shown.map.heat.cell == [2, 9] and shown.dots.marked == str(one)
    assert f"<b>{similar.matrix[one, other]:.3f}</b>" in shown.pair.numbers.value
    shown.pair.pickers[1].value = "class 7"
    assert shown.pair.classes == (one, 7)
    shown.pair.pickers[1].value = "class"
    assert "No class is called" in shown.pair.message.value and shown.pair.classes == (one, 7)
    shown.dots.picked = {"key": "4", "n": 1}
    assert shown.pair.classes == (4, similar.nearest[4])
    shown.pair.pickers[1].value = "class 1"
    shown.pair.nearest.click()
    assert shown.pair.classes == (4, similar.nearest[4])


def test_close_up_places_images_by_their_cosines_to_both_means(splits: tuple[Features, Features]) -> None:
    train, test = splits
    spec = close_up({"train": train, "test": test}, (3, 8), "train")
    dots = [mark for mark in spec["marks"] if mark["kind"] == "dot"]
    assert len(dots) == 32 and sum(mark["hollow"] for mark in dots) == 16
    mean = train.vectors[train.labels == 8].mean(0)
    row = np.flatnonzero(test.labels == 3)[0]
    cosine = test.vectors[row] @ mean / np.linalg.norm(mean) / np.linalg.norm(test.vectors[row])
    assert next(m for m in dots if m["title"].startswith(f"{test.ids[row]} "))["y"] == pytest.approx(cosine, abs=1e-5)
    nearer = sum(mark["x"] < mark["y"] for mark in dots if mark["marker"] == "o" and mark["hollow"])
    assert nearer and f"{nearer} of 8 test images of class 3 are nearer to the other mean" in spec["alt"]


def test_the_line_of_code_gives_what_is_seen_again(shown: Distances, splits: tuple[Features, Features]) -> None:
    for change in (
        lambda: setattr(shown.map.heat, "picked", {"row": 1, "column": 0, "n": 3}),
        lambda: (setattr(shown.variant, "value", "published"), setattr(shown.map.split, "value", "train")),
        lambda: (setattr(shown.map.order, "value", "kind"), setattr(shown.map.range, "value", "seen")),
    ):
        change()
        settled(shown)
        given = {"distances": distances, "train": splits[0], "test": splits[1], "images": None}
        again = settled(eval(shown.code.code, given))
        assert again.code.code == shown.code.code and again.pair.classes == shown.pair.classes
        assert again.ridges.spec == shown.ridges.spec and again.map.heat.picture == shown.map.heat.picture
        assert again.map.heat.cell == shown.map.heat.cell and again.pair.chart.spec == shown.pair.chart.spec


def test_states_say_what_to_do(make_features: Make, splits: tuple[Features, Features]) -> None:
    train, test = splits
    assert "train is a NoneType; give Features" in distances(None, test).message.value  # type: ignore[arg-type]
    assert "have 11 classes" in distances(train, make_features(classes=11)).message.value
    assert "images has &#x27;val&#x27;" in distances(train, test, {"val": None}).message.value  # type: ignore[dict-item]
    same = settled(distances(test, test))
    assert "share 96 images" in same.numbers.value and same.map.heat.picture, "the map needs one split only"
    one = make_features(classes=1)
    alone = settled(distances(replace(one, ids=np.array([f"a{i}" for i in range(8)])), one))
    assert alone.pair.classes == (0, 0) and "not testable: one class" in alone.numbers.value
    alone.pair.nearest.click()
    assert "no other one to compare with" in alone.pair.message.value
    lacking = settled(distances(train, test[test.labels != 5]))
    assert "1 classes without images" in lacking.map.said.value
    lacking.pair.pickers[0].value = "class 5"
    assert "no mean direction" in lacking.pair.message.value and "no test images" in lacking.pair.tiles[0].empty


def test_many_classes_become_blocks_of_which_a_click_picks_the_first(make_features: Make) -> None:
    test = make_features(1, classes=1250, images=1)
    app = settled(distances(replace(test, ids=np.array([f"a{i}" for i in range(1250)])), test))
    assert "mean of 3 by 3 classes" in app.map.said.value and app.map.heat.side == 417
    app.map.heat.picked = {"row": 100, "column": 416, "n": 1}
    order = app.map.found.order
    assert app.pair.classes == (order[300], order[1248]) and app.map.heat.cell == [100, 416]


def test_a_name_of_html_stays_text(shown: Distances) -> None:
    shown.pair.pickers[0].value = HOSTILE
    assert shown.pair.classes[0] == 0
    texts = [shown.pair.numbers, shown.pair.message, shown.map.said, shown.numbers, *shown.pair.heads]
    assert not any("<img" in html.value for html in texts)


def test_images_of_both_classes_are_shown_of_either_split() -> None:
    manifest = wb.Manifest.load("toybox_lt")
    images = {split: wb.LongTailDataset(manifest, split, per_class=1) for split in ("train", "test")}
    method = wb.create_method(
        "zero_shot", wb.load_backbone("toybox_clip"), manifest.classes, text=wb.load_text_tower("toybox_clip")
    )
    features = {split: wb.extract(method, part) for split, part in images.items()}
    app = settled(distances(features["train"], features["test"], images))
    assert [len(tiles.cells) for tiles in app.pair.tiles] == [1, 1] and all(tiles.sheet for tiles in app.pair.tiles)
    before = app.pair.tiles[0].sheet
    app.pair.split.value = "train"
    settled(app)
    assert app.pair.tiles[0].sheet != before and "train images" in app.pair.heads[0].value
    assert "taxonomy" not in app.code.code and set(app.map.order.options) > {"frequency", "shape"}
