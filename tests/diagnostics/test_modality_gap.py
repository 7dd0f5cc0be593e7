"""Modality gap: equal clouds, a planted shift, matched and unmatched pairs, the plane against scikit-learn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.decomposition import PCA

from workbench.data import Classes
from workbench.diagnostics.modality_gap import modality_gap
from workbench.features import Features

Make = Callable[..., Features]
COUNTS = np.array([500, 300, 150, 101, 100, 60, 40, 20, 19, 10, 5, 2])
CLASSES = Classes(tuple(f"class {c}" for c in range(12)), COUNTS)
LABELS = np.repeat(np.arange(12), np.arange(1, 13))  # as many images as a class's number


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@pytest.fixture
def text(rng: np.random.Generator) -> np.ndarray:
    return unit(rng.normal(size=(12, 8)))


def test_equal_clouds_have_no_gap_however_many_images_a_class_has(text: np.ndarray) -> None:
    found = modality_gap(3 * text[LABELS], 0.5 * text, LABELS, classes=CLASSES)  # lengths do not matter
    assert list(found.gap.values()) == pytest.approx([0, 0, 0, 0], abs=1e-12)
    assert found.matched == pytest.approx(np.ones(12))


def test_a_planted_shift_is_recovered_in_length_and_direction_by_group(rng: np.random.Generator) -> None:
    inner = unit(rng.normal(size=(12, 6)))
    # Two further axes: texts at height 0.3 on one, images at the group's height on the other; all of unit length.
    height = np.select([CLASSES.groups == "many", CLASSES.groups == "medium"], [0.2, 0.4], 0.6)
    text = np.column_stack([np.sqrt(1 - 0.3**2) * inner, np.full(12, 0.3), np.zeros(12)])
    images = np.column_stack([np.sqrt(1 - height[:, None] ** 2) * inner, np.zeros(12), height])[LABELS]
    found = modality_gap(images, text, LABELS, classes=CLASSES)
    for group, own in (("many", 0.2), ("medium", 0.4), ("few", 0.6)):
        assert found.vectors[group][6:] == pytest.approx([-0.3, own])
        members = CLASSES.groups == group
        rest = (np.sqrt(1 - own**2) - np.sqrt(1 - 0.3**2)) * inner[members].mean(0)
        assert found.gap[group] == pytest.approx(np.sqrt(rest @ rest + 0.3**2 + own**2))
        expected = np.sqrt(1 - own**2) * np.sqrt(1 - 0.3**2)
        assert found.cosines["matched", group].estimate == pytest.approx(expected)
    assert found.vectors["all"][7] == pytest.approx(height.mean())


def test_opposite_clouds_are_two_apart() -> None:
    text = np.tile([1.0, 0, 0], (12, 1))
    found = modality_gap(-text[LABELS], text, LABELS, classes=CLASSES)
    assert found.gap["all"] == pytest.approx(2) and found.matched == pytest.approx(-np.ones(12))
    assert found.variance == pytest.approx((1, 0))
    assert abs(found.image_points[0, 0] - found.text_points[0, 0]) == pytest.approx(2)


def test_matched_and_unmatched_cosines_are_those_of_the_whole_table(rng: np.random.Generator, text: np.ndarray) -> None:
    images = rng.normal(size=(len(LABELS), 8))
    found = modality_gap(images, text, LABELS, classes=CLASSES)
    table = unit(images) @ text.T  # (N, C)
    own = np.eye(12, dtype=bool)[LABELS]
    assert found.of_image[:, 0] == pytest.approx(table[own])
    others = np.array([row[~mine].mean() for row, mine in zip(table, own, strict=True)])
    assert found.of_image[:, 1] == pytest.approx(others)
    by_class = np.array([table[own][LABELS == c].mean() for c in range(12)])
    assert found.cosines["matched", "few"].estimate == pytest.approx(by_class[CLASSES.groups == "few"].mean())
    assert found.margin["all"].estimate == pytest.approx(
        by_class.mean() - np.mean([others[LABELS == c].mean() for c in range(12)])
    )


def test_the_plane_is_pca_of_images_and_their_partners(rng: np.random.Generator, text: np.ndarray) -> None:
    images = unit(text[LABELS] + 0.3 * rng.normal(size=(len(LABELS), 8)) + 0.2)
    found = modality_gap(images, text, LABELS, classes=CLASSES)
    oracle = PCA(2).fit(np.concatenate([images, text[LABELS]]))
    for ours, theirs in ((found.image_points, images), (found.text_points, text)):
        assert np.abs(ours) == pytest.approx(np.abs(oracle.transform(theirs)), abs=1e-9)
    assert found.variance == pytest.approx(oracle.explained_variance_ratio_)


def test_features_give_their_own_labels_and_ids(make_features: Make, rng: np.random.Generator) -> None:
    features = make_features(images=(3,) * 11 + (0,), width=8)
    text = rng.normal(size=(12, 8))
    found = modality_gap(features, text)
    alone = modality_gap(features.vectors, text, features.labels, classes=features.classes)
    assert found.gap == alone.gap and found.ids.tolist() == features.ids.tolist()
    assert found.sources == (features.source,) and np.isnan(found.matched[11])  # without images: counts nowhere
    assert found.sizes("few") == (3, 9) and found.cosines["matched", "few"].n == 3
    assert not np.isnan(found.gap["few"])
    ax = found.plot(view="map")
    drawn = [len(points.get_offsets()) for points in ax.collections]
    assert drawn == [12, 4, 12, 4, 9, 3]  # images and texts of each group


def test_one_class_alone_has_nothing_unmatched() -> None:
    one = Classes(("only",), np.array([5]))
    found = modality_gap(np.array([[1.0, 0], [0, 1]]), np.array([[1.0, 0]]), np.array([0, 0]), classes=one)
    assert np.isnan(found.unmatched[0]) and found.matched[0] == pytest.approx(0.5)
    assert found.gap["all"] == pytest.approx(np.sqrt(0.5)) and np.isnan(found.gap["many"])
    found.plot(view="cosines").figure.canvas.draw()


def test_what_does_not_fit_is_refused(make_features: Make, text: np.ndarray) -> None:
    features = make_features(images=2, width=8)
    with pytest.raises(ValueError, match="images have width 8, texts 7"):
        modality_gap(features, text[:, :7])
    with pytest.raises(ValueError, match="11 texts and 24 labels for 12 classes"):
        modality_gap(features, text[:11])
    with pytest.raises(ValueError, match="1 vectors of text are zero"):
        modality_gap(features, np.where(np.arange(12)[:, None] == 3, 0, text))
    with pytest.raises(ValueError, match="labels= and classes="):
        modality_gap(features.vectors, text)
    with pytest.raises(ValueError, match="images have shape"):
        modality_gap(features.vectors[:0], text, features.labels[:0], classes=features.classes)
