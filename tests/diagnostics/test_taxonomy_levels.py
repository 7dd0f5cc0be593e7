"""Accuracy by level of a taxonomy: counted by hand, against literal loops, and on the toybox tower's own words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import workbench as wb
from workbench.backbones import ClassVectors
from workbench.diagnostics.taxonomy_levels import taxonomy_levels
from workbench.features import Features

KINGDOM, ORDER = np.array([7, 7, 7, 0]), np.array([2, 2, 1, 0])
NAMES = {"kingdom": ["plants", *["unused"] * 6, "animals"], "order": ["grass", "bird", "cat"]}
CLASSES = wb.Classes(
    ("lion", "tiger", "owl", "rye"), np.array([200, 50, 10, 5]), taxonomy={"order": ORDER, "kingdom": KINGDOM}
)


def features(probabilities: list[list[float]], labels: list[int], classes: wb.Classes = CLASSES) -> Features:
    """Images whose vectors are random, with these class probabilities."""
    p = np.array(probabilities)
    return Features(
        vectors=np.random.default_rng(0).normal(size=(len(p), 6)).astype(np.float32),
        logits=np.log(p).astype(np.float32),
        predicted=p.argmax(1),
        confidence=p.max(1),
        labels=np.array(labels),
        ids=np.array([str(i) for i in range(len(p))]),
        classes=classes,
    )


def text_of(classes: wb.Classes) -> ClassVectors:
    names = [*classes.names, *NAMES["kingdom"][::7], *NAMES["order"]]
    rows = torch.randn(len(names), 6, generator=torch.Generator().manual_seed(0))
    return ClassVectors(rows, names, logit_scale=100.0)


def test_probabilities_are_summed_below_each_node() -> None:
    found = taxonomy_levels(
        features(
            [
                [0.3, 0.3, 0.0001, 0.3999],  # rye alone is likeliest, the two cats together more so
                [0.1, 0.2, 0.3, 0.4],
                [0.2, 0.2, 0.35, 0.25],  # an owl, but for the two cats
                [0.1, 0.1, 0.1, 0.7],
            ],
            [0, 3, 2, 3],
        )
    )
    assert found.levels == ("kingdom", "order", "each class") and found.nested
    assert found.nodes == {"kingdom": 2, "order": 3, "each class": 4}
    decisions = {level: found.predicted["classes", level].tolist() for level in found.levels}
    assert decisions == {"kingdom": [7, 7, 7, 0], "order": [2, 0, 2, 0], "each class": [3, 3, 2, 3]}
    accuracy = {level: found.table["classes", level]["all"].estimate for level in found.levels}
    assert accuracy == {"kingdom": 0.75, "order": 0.75, "each class": 0.75}
    assert found.largest == {"kingdom": 0.5, "order": 0.5, "each class": 0.5}
    assert found.table["classes", "order"]["few"].estimate == 0.5  # mean over owl (wrong) and rye (right)


def test_names_decide_by_cosine_among_the_nodes_that_have_a_class() -> None:
    given, text = features([[0.25] * 4] * 30, [i % 4 for i in range(30)]), text_of(CLASSES)
    found = taxonomy_levels(given, text=text, names=NAMES)
    for level, nodes in (("kingdom", KINGDOM), ("order", ORDER), ("each class", np.arange(4))):
        names = CLASSES.names if level == "each class" else NAMES[level]
        for i, image in enumerate(torch.tensor(given.vectors)):
            cosines = {node: float(F.cosine_similarity(image, text.encode([names[node]])[0], dim=0)) for node in nodes}
            assert found.predicted["names", level][i] == max(cosines, key=cosines.__getitem__)
    some = taxonomy_levels(replace(given, logits=None), text=text, names={"order": NAMES["order"]})
    assert set(some.table) == {("names", "order"), ("names", "each class")}


def test_intervals_are_those_of_the_metrics_over_classes(make_features: Callable[..., Features]) -> None:
    given = make_features(0)
    levels = {"half": np.arange(12) // 6}
    found = taxonomy_levels(replace(given, classes=replace(given.classes, taxonomy=levels)))
    expected = wb.metrics.group_interval(given.decisions, given.labels, np.asarray(given.classes.groups), "all")  # type: ignore[attr-defined]
    leaf = found.table["classes", "each class"]["all"]
    assert (leaf.estimate, leaf.low, leaf.high) == (expected.estimate, expected.low, expected.high)
    share = float((found.predicted["classes", "half"] == given.labels // 6).mean())
    assert found.table["classes", "half"]["all"].estimate == pytest.approx(share)
    frame = found.to_frame()
    assert set(frame["group"]) == {"all", "many", "medium", "few"} and set(frame["chance"]) == {1 / 2, 1 / 12}


def test_a_level_as_fine_as_the_classes_stands_for_them_and_levels_need_not_lie_in_each_other() -> None:
    species = replace(CLASSES, taxonomy={"species": np.array([3, 1, 0, 2]), "class": ORDER})
    assert taxonomy_levels(features([[0.25] * 4] * 2, [0, 1], species)).levels == ("class", "species")
    crossed = replace(CLASSES, taxonomy={"shape": np.array([0, 0, 1, 1]), "colour": np.array([0, 1, 0, 2])})
    found = taxonomy_levels(features([[0.25] * 4] * 2, [0, 1], crossed), levels=["colour", "shape"])
    assert found.levels == ("shape", "colour") and not found.nested and "do not lie in each other" in str(found)


def test_the_toybox_tower_knows_shapes_colours_and_patterns_by_their_words() -> None:
    manifest = wb.Manifest.load("toybox_lt")
    text = wb.load_text_tower("toybox_clip")
    method = wb.create_method("zero_shot", wb.load_backbone("toybox_clip"), manifest.classes, text=text)
    test = wb.LongTailDataset(manifest, "test", per_class=2)
    given = wb.extract(method, test, views="centre")
    worlds = {"shape": wb.toybox.SHAPES, "colour": wb.toybox.COLOURS, "pattern": wb.toybox.PATTERNS}  # type: ignore[attr-defined]
    found = taxonomy_levels(
        given,
        text=text,
        names={level: list(world) for level, world in worlds.items()},
        templates={
            "colour": ["a photo of a {} star.", "a photo of a {} heart."],
            "pattern": "a photo of a {} red star.",
        },
    )
    assert not found.nested and found.levels[-1] == "each class" and found.nodes["each class"] == 60
    leaf = found.table["names", "each class"]["all"]
    assert leaf.estimate == pytest.approx(found.table["classes", "each class"]["all"].estimate, abs=0.02)
    for level in worlds:
        assert found.table["classes", level]["all"].estimate > leaf.estimate  # right about a part is easier
        assert found.table["names", level]["all"].low > 1 / found.nodes[level], level


def test_what_cannot_be_decided_is_said() -> None:
    given = features([[0.25] * 4] * 2, [0, 1])
    text = text_of(CLASSES)
    with pytest.raises(ValueError, match="have no taxonomy"):
        taxonomy_levels(replace(given, classes=replace(CLASSES, taxonomy=None)))
    with pytest.raises(ValueError, match="give a list of some of order, kingdom, each class"):
        taxonomy_levels(given, levels=["genus"])
    with pytest.raises(ValueError, match="are for text="):
        taxonomy_levels(given, names=NAMES)
    with pytest.raises(ValueError, match="no logits"):
        taxonomy_levels(replace(given, logits=None))
    with pytest.raises(ValueError, match="names= has genus"):
        taxonomy_levels(given, text=text, names={"genus": ["a"]})
    with pytest.raises(ValueError, match=r"names\['kingdom'\] has 2 entries, but its nodes go up to 7"):
        taxonomy_levels(given, text=text, names={"kingdom": ["plants", "animals"]})
    with pytest.raises(ValueError, match="no images in the joint space"):
        taxonomy_levels(replace(given, vectors=given.vectors[:, :5]), text=text)
