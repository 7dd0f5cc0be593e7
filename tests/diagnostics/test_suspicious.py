"""Label flips and duplicates planted in known places, confident learning by hand, and the law of the threshold."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.data import Classes, LongTailDataset, Manifest
from workbench.diagnostics.suspects import EXACT, confident_labels, duplicate_threshold, nearest
from workbench.diagnostics.suspicious import suspicious
from workbench.diagnostics.thumbnails import thumbnails
from workbench.features import Features

Make = Callable[..., Features]


def bare(vectors: np.ndarray, labels: np.ndarray, classes: Classes, prefix: str, **more: object) -> Features:
    """Vectors without decisions."""
    given = {"logits": None, "predicted": None, "confidence": None} | more
    ids = np.array([f"{prefix}/{i}" for i in range(len(labels))])
    return Features(vectors=np.asarray(vectors, np.float32), labels=labels, ids=ids, classes=classes, **given)  # type: ignore[arg-type]


def planted(rng: np.random.Generator) -> tuple[Features, Features, set[int]]:
    """Ten classes of 60 to 3 train images in 16 dimensions, 12 of them with another label; test images of each."""
    sizes = np.array([60, 50, 40, 30, 25, 20, 15, 10, 6, 3])
    classes = Classes(tuple(f"class {c}" for c in range(10)), sizes)
    means = 3 * rng.normal(size=(10, 16))
    truth = np.repeat(np.arange(10), sizes)
    flipped = rng.choice(np.flatnonzero(truth < 6), 12, replace=False)
    labels = truth.copy()
    labels[flipped] = (labels[flipped] + 1 + rng.integers(0, 5, 12)) % 7
    labels[flipped] += labels[flipped] == truth[flipped]
    vectors = means[truth] + rng.normal(size=(len(truth), 16))
    logits = -((vectors[:, None] - means) ** 2).sum(2) / 2  # of the true clusters: out of sample
    train = bare(vectors, labels, classes, "train", logits=logits.astype(np.float16))
    tested = np.repeat(np.arange(10), 10)
    test = bare(means[tested] + rng.normal(size=(100, 16)), tested, classes, "test")
    return train, test, {int(row) for row in flipped}


def test_confident_learning_by_hand() -> None:
    shares = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.2, 0.8], [0.4, 0.6], [0.8, 0.2]])
    classes = Classes(("a", "b"), np.array([3, 3]))
    features = bare(np.ones((6, 1)), np.array([0, 0, 0, 1, 1, 1]), classes, "x", logits=np.log(shares))
    # thresholds: a (0.9 + 0.7 + 0.2) / 3 = 0.6, b (0.8 + 0.6 + 0.2) / 3 = 0.533...
    suggested, score, noise = confident_labels(features)
    assert suggested.tolist() == [-1, -1, 1, -1, -1, 0]
    np.testing.assert_allclose(score, [0, 0, 0.6, 0, 0, 0.6], atol=2e-3)  # half precision
    assert noise == pytest.approx(1 / 3)  # counts [[2, 1], [1, 2]]


def test_unsure_images_and_classes_without_labels_count_for_nothing() -> None:
    shares = np.array([[0.9, 0.05, 0.05], [0.5, 0.2, 0.3], [0.1, 0.8, 0.1], [0.02, 0.08, 0.9]])
    classes = Classes(("a", "b", "empty"), np.array([2, 2, 1]))
    features = bare(np.ones((4, 1)), np.array([0, 0, 1, 1]), classes, "x", logits=np.log(shares))
    suggested, _, noise = confident_labels(features)  # thresholds 0.7, 0.44, none
    assert suggested.tolist() == [-1] * 4 and noise == 0


@pytest.mark.parametrize("rule", ["confident_learning", "neighbours"])
def test_planted_flips_are_found(rng: np.random.Generator, rule: str) -> None:
    train, _, flipped = planted(rng)
    found = suspicious(train, labels_by=rule).of("label")
    rows = {one.row for one in found}
    assert len(rows & flipped) / len(flipped) >= 0.9 and len(rows & flipped) / len(rows) >= 0.9
    for one in found:
        assert one.suggested != one.label == train.labels[one.row] and 0 < one.score <= 1
        assert one.partner is None or train.labels[one.partner] == one.suggested
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_the_estimated_share_of_errors_is_the_planted_one(rng: np.random.Generator) -> None:
    train, _, flipped = planted(rng)
    assert suspicious(train).noise["train"] == pytest.approx(len(flipped) / len(train), abs=0.015)


def test_a_class_of_three_is_asked_for_two_neighbours_and_a_single_image_for_none(rng: np.random.Generator) -> None:
    far = np.eye(3)[[0] * 20 + [1] * 3 + [2]] * 10
    classes = Classes(("head", "three", "one"), np.array([20, 3, 1]))
    labels = np.array([0] * 20 + [1] * 3 + [2])
    result = suspicious(bare(far + 0.1 * rng.normal(size=far.shape), labels, classes, "t"), k=10)
    assert result.of("label") == () and result.unjudged == {"train": 1}


def test_planted_copies_are_found_and_told_apart(rng: np.random.Generator) -> None:
    train, test, _ = planted(rng)
    vectors, tested, labels = train.vectors.copy(), test.vectors.copy(), train.labels.copy()
    labels[1] = labels[0]
    vectors[1], vectors[200] = 2 * vectors[0], vectors[10] * (1 + 1e-3 * rng.normal(size=16))
    tested[5], tested[50] = train.vectors[3], train.vectors[30] * (1 + 1e-3 * rng.normal(size=16))
    result = suspicious(replace(train, vectors=vectors, labels=labels), replace(test, vectors=tested))
    within, leaked = result.of("duplicate", "train"), result.of("leak")
    assert {(10, 200), (0, 1)} <= {(one.row, one.partner) for one in within}
    assert {(5, 3), (50, 30)} <= {(one.row, one.partner) for one in leaked}
    assert len(within) + len(leaked) + len(result.of("duplicate", "test")) <= 4 + 3, "one false alarm per comparison"
    exact = {(one.kind, one.row) for one in result.findings if one.exact}
    assert exact == {("duplicate", 0), ("leak", 5)}
    assert (within[0].row, within[0].partner, within[0].across) == (10, 200, True), "across labels first"
    given = suspicious(replace(train, vectors=vectors), duplicate_from=1.0).of("duplicate")
    assert [(one.row, one.partner) for one in given] == [(0, 1)]


def test_a_copy_under_another_label_is_found_behind_one_under_its_own(rng: np.random.Generator) -> None:
    vectors = rng.normal(size=(40, 8))
    vectors[[1, 2]] = vectors[0]
    labels = np.array([0, 0, 1] + [1] * 37)
    found = suspicious(bare(vectors, labels, Classes(("a", "b"), np.array([2, 38])), "t"), k=3).of("duplicate")
    assert [(one.row, one.partner, one.across) for one in found[:3]] == [(0, 2, True), (1, 2, True), (0, 1, False)]


def test_the_threshold_is_undercut_once_without_duplicates_and_holds_with_many(rng: np.random.Generator) -> None:
    false = []
    for _ in range(300):
        distance = rng.weibull(5.0, 500)
        false.append((distance <= duplicate_threshold(distance)).sum())
    assert 0.6 < np.mean(false) < 1.8
    distance[:150] = 1e-6
    assert ((distance <= duplicate_threshold(distance)) == (distance == 1e-6)).all()
    assert duplicate_threshold(np.full(50, 0.3)) == duplicate_threshold(np.arange(1, 19)) == EXACT


def test_distances_near_zero_keep_their_digits() -> None:
    angles = np.array([0.0, 1e-3, 0.5])
    points = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    found, distance = nearest(points, points, 2, same=True)
    assert found.tolist() == [[1, 2], [0, 2], [1, 0]]
    assert distance[0, 0] == pytest.approx(1 - np.cos(1e-3), rel=1e-4)


def test_features_of_a_trained_model_carry_a_warning(rng: np.random.Generator) -> None:
    train, _, _ = planted(rng)
    warning = "hides errors among their labels"
    for method, split, warns in (("lift", "train", True), ("zero_shot", "train", False), ("lift", "val", False)):
        seen = replace(train, source={"method": method, "split": split})
        assert (warning in str(suspicious(seen))) == warns


def test_bad_arguments_are_named(rng: np.random.Generator) -> None:
    train, test, _ = planted(rng)
    for more, said in (
        ({"labels_by": "votes"}, "confident_learning, neighbours"),
        ({"k": 0}, "k=0"),
        ({"k": len(train)}, "the other train images"),
        ({"duplicate_from": 1.5}, r"no cosine in \(0, 1\]"),
        ({"labels_by": "confident_learning"}, "test features hold no logits"),
        ({"images": LongTailDataset(Manifest.load("digits_lt"), "train")}, "test_images="),
    ):
        with pytest.raises(ValueError, match=said):
            suspicious(train, test, **more)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="differ in width"):
        suspicious(train, replace(test, vectors=test.vectors[:, :3]))


def test_two_known_test_photos_of_tiny_imagenet_are_training_photos(shared: Path) -> None:
    """Of the training photos those of two classes are read, of the test photos likewise; pixels at 8 x 8 are enough."""
    folder = shared / "data" / "tiny_imagenet_lt100"
    if not (folder / "manifest.csv").is_file():
        pytest.skip(f"{folder} is absent")
    with (folder / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    classes = Classes(tuple(f"class {c}" for c in range(100)), np.full(100, 100))
    sets = []
    for split, kept in (("train", "5 61"), ("val", "10 54")):
        some = [row for row in rows if row["split"] == split and row["label"] in kept.split()]
        small = [Image.open(folder / row["path"]).convert("RGB").resize((8, 8)) for row in some]
        pixels = np.stack([np.asarray(image, np.float32).ravel() / 255 - 0.5 for image in small])
        features = bare(pixels, np.array([int(row["label"]) for row in some]), classes, split)
        sets.append(replace(features, ids=np.array([Path(row["path"]).name for row in some])))
    exact = [one for one in suspicious(*sets).of("leak") if one.exact]
    assert {(one.id, one.partner_id, one.across) for one in exact} == {
        ("val_2157.JPEG", "n01855672_44.JPEG", True),
        ("val_5819.JPEG", "n03770439_128.JPEG", True),
    }


def test_images_stand_above_their_copies(rng: np.random.Generator) -> None:
    sets = [LongTailDataset(Manifest.load("digits_lt"), split, per_class=4) for split in ("train", "test")]
    train, test = (bare(rng.normal(size=(len(s), 8)), s.labels, s.classes, "x") for s in sets)
    vectors = test.vectors.copy()
    vectors[5] = train.vectors[9]
    train, test = replace(train, ids=sets[0].ids), replace(test, ids=sets[1].ids, vectors=vectors)
    result = suspicious(train, test, k=3, duplicate_from=1.0, images=sets[0], test_images=sets[1])
    assert result.views == ("counts", "images") and result.pictures is not None
    place = [result.findings[at].kind for at in result.pictured].index("leak")
    np.testing.assert_array_equal(result.pictures[place, 0], thumbnails(sets[1], sets[1].ids[[5]])[0])
    np.testing.assert_array_equal(result.pictures[place, 1], thumbnails(sets[0], sets[0].ids[[9]])[0])
