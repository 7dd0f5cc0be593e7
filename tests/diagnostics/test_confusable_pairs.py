"""Confusable pairs against a full confusion matrix, SciPy's Wilson intervals, and pairs planted in the features."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import confusion_matrix

from workbench.data import Classes, LongTailDataset, Manifest
from workbench.diagnostics.confusable_pairs import confusable_pairs
from workbench.diagnostics.thumbnails import SIDE, thumbnails
from workbench.features import Features

Make = Callable[..., Features]


def decided(predicted: np.ndarray, labels: np.ndarray, classes: Classes) -> Features:
    return Features(
        vectors=np.ones((len(labels), 1), np.float32), logits=None, predicted=np.asarray(predicted),
        confidence=np.linspace(0.2, 0.9, len(labels)).astype(np.float32), labels=np.asarray(labels),
        ids=np.array([f"{i}" for i in range(len(labels))]), classes=classes,
    )  # fmt: skip


def test_counts_are_those_of_the_whole_matrix(make_features: Make) -> None:
    features = make_features(3)
    result = confusable_pairs(features, top=1000)
    matrix = confusion_matrix(features.labels, features.decisions, labels=range(12))
    np.fill_diagonal(matrix, 0)
    both = matrix + matrix.T
    assert result.errors == matrix.sum() and result.confused == np.triu(both).astype(bool).sum() == len(result.pairs)
    totals = both[np.triu_indices(12, 1)]
    assert [pair.images for pair in result.pairs] == sorted(totals[totals > 0], reverse=True)
    assert result.covered == 1
    for pair in result.pairs:
        assert pair.forth.images == matrix[pair.first, pair.second]
        assert pair.back.images == matrix[pair.second, pair.first]
        assert features.classes.counts[pair.first] >= features.classes.counts[pair.second]


def test_shares_and_intervals_are_of_the_true_class(make_features: Make) -> None:
    for pair in confusable_pairs(make_features(1), level=0.9).pairs:
        for one in (pair.forth, pair.back):
            known = stats.binomtest(one.images, one.of).proportion_ci(0.9, method="wilson")
            assert one.share == one.images / 20
            np.testing.assert_allclose((one.low, one.high), (known.low, known.high), atol=1e-12)


def test_a_planted_pair_comes_first_with_the_larger_class_first() -> None:
    classes = Classes(("rare", "frequent", "other"), np.array([5, 500, 50]))
    labels = np.repeat([0, 1, 2], [10, 10, 4])
    predicted = labels.copy()
    predicted[:6], predicted[10], predicted[20:22] = 1, 0, 0
    result = confusable_pairs(decided(predicted, labels, classes))
    first, second = result.pairs
    assert (first.first, first.second, first.forth.images, first.back.images) == (1, 0, 1, 6)
    assert (second.first, second.second, second.forth.share, second.back.share) == (2, 0, 0.5, 0.0)
    frame = result.to_frame()
    assert list(frame["rank"]) == [1, 1, 2, 2] and list(frame["true_name"][:2]) == ["frequent", "rare"]
    assert list(frame["true_group"][:2]) == ["many", "few"] and list(frame["true_train_images"][:2]) == [500, 5]
    assert "rare (few, 5) taken for frequent: 6 of 10, 60.0" in str(result)


def test_of_equal_counts_the_larger_share_comes_first_and_top_cuts() -> None:
    classes = Classes(("a", "b", "c", "d"), np.array([10, 10, 10, 10]))
    labels = np.repeat([0, 1, 2, 3], [8, 8, 2, 8])
    predicted = labels.copy()
    predicted[0], predicted[16] = 1, 3  # one of eight, and one of two
    result = confusable_pairs(decided(predicted, labels, classes), top=1)
    assert (result.pairs[0].first, result.pairs[0].second) == (2, 3)
    assert result.confused == 2 and result.covered == 0.5


def test_a_class_without_test_images_has_no_share() -> None:
    classes = Classes(("a", "b"), np.array([10, 5]))
    pair = confusable_pairs(decided(np.array([1, 0]), np.array([0, 0]), classes)).pairs[0]
    assert pair.forth.share == 0.5 and pair.back.of == 0 and np.isnan([pair.back.share, pair.back.low]).all()
    confusable_pairs(decided(np.array([1, 0]), np.array([0, 0]), classes)).plot()


def test_eight_thousand_classes_take_no_square_of_memory(rng: np.random.Generator) -> None:
    C = 8142
    classes = Classes(tuple(f"species {c}" for c in range(C)), np.arange(C, 0, -1))
    labels = np.repeat(np.arange(C), 3)
    features = decided(np.where(rng.random(3 * C) < 0.7, labels, rng.integers(0, C, 3 * C)), labels, classes)
    tracemalloc.start()
    try:
        result = confusable_pairs(features)
        assert tracemalloc.get_traced_memory()[1] < C * C / 4  # bytes; one byte a cell would be 66 MB
    finally:
        tracemalloc.stop()
    assert len(result.pairs) == 10 and result.pairs[0].images >= result.pairs[-1].images


def test_nothing_wrong_is_said_and_drawn(make_features: Make) -> None:
    features = make_features(skill=np.ones(12))
    result = confusable_pairs(features)
    assert result.pairs == () and result.errors == 0 and len(result.to_frame()) == 0
    assert "no image is decided wrongly" in [text.get_text() for text in result.plot().texts]


def test_names_are_not_mathematics(make_features: Make) -> None:
    features = make_features()
    names = tuple(f"$\\frac{{{c}$ {'long ' * 20}" for c in range(12))
    features = replace(features, classes=replace(features.classes, names=names))
    ax = confusable_pairs(features).plot()
    ax.figure.canvas.draw()
    assert all(text.get_text().startswith("$") and not text.get_parse_math() for text in ax.get_yticklabels())


def test_images_are_the_surest_of_each_kind() -> None:
    dataset = LongTailDataset(Manifest.load("digits_lt"), "test", per_class=4)
    predicted = dataset.labels.copy()
    ones = np.flatnonzero(dataset.labels == 1)
    predicted[ones[:3]] = 7
    features = replace(decided(predicted, dataset.labels, dataset.classes), ids=dataset.ids)
    result = confusable_pairs(features, images=dataset)
    assert result.views == ("pairs", "images") and confusable_pairs(features).views == ("pairs",)
    pair, pictures = result.pairs[0], result.pictures
    assert pictures is not None and {pair.first, pair.second} == {1, 7}
    wrong, right = (0, 1) if pair.first == 1 else (3, 2)
    np.testing.assert_array_equal(pictures[0, wrong], thumbnails(dataset, dataset.ids[ones[[2, 1]]]))
    np.testing.assert_array_equal(pictures[0, right, :1], thumbnails(dataset, dataset.ids[ones[3:]]))
    assert (pictures[0, right, 1] == 255).all(), "white paper where there is no second image"
    assert pictures.shape[3:] == (SIDE, SIDE, 3)


def test_bad_arguments_are_named(make_features: Make) -> None:
    features = make_features()
    with pytest.raises(ValueError, match="top=0"):
        confusable_pairs(features, top=0)
    with pytest.raises(ValueError, match=r"level=95"):
        confusable_pairs(features, level=95)
    with pytest.raises(ValueError, match="vectors without decisions"):
        confusable_pairs(replace(features, predicted=None, confidence=None))
    with pytest.raises(ValueError, match="pass the LongTailDataset"):
        confusable_pairs(features, images=LongTailDataset(Manifest.load("digits_lt"), "test"))
