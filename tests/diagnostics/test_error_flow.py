"""Error flow: closed forms of chance, planted bias towards frequent classes, how often classes are decided for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from workbench import metrics
from workbench.data import Classes
from workbench.diagnostics.error_flow import ErrorFlow, error_flow
from workbench.features import Features

Make = Callable[..., Features]
GROUPS = ("many", "medium", "few")
COUNTS = (400, 200, 100, 50, 40, 10, 5, 5)  # two many-shot classes, three medium, three few
SIZES = {"many": 2, "medium": 3, "few": 3}


def decided(labels: np.ndarray, predicted: np.ndarray, counts: tuple[int, ...] = COUNTS) -> Features:
    return Features(
        vectors=np.ones((len(labels), 1), np.float32),
        logits=None,
        predicted=predicted,
        confidence=np.full(len(labels), 0.5, np.float32),
        labels=labels,
        ids=np.array([f"{i}.jpg" for i in range(len(labels))]),
        classes=Classes(tuple(f"class {c}" for c in range(len(counts))), np.array(counts)),
        source={},
    )


def everywhere(times: np.ndarray | None = None) -> Features:
    """Every class is taken for every class; times (C, C): how often, default once."""
    C = len(COUNTS)
    pairs = np.array(list(product(range(C), range(C))))
    return decided(*np.repeat(pairs, np.ones(C * C, int) if times is None else times.ravel(), axis=0).T)


def values(found: ErrorFlow, kind: str) -> np.ndarray:
    """(3, 3) of share, even or by_counts."""
    cells = [[getattr(found.table[t, p], kind) for p in GROUPS] for t in GROUPS]
    return np.array([[getattr(cell, "estimate", cell) for cell in line] for line in cells])


def test_errors_that_go_everywhere_alike_are_what_even_chance_gives() -> None:
    found = error_flow(everywhere())
    expected = np.array([[(SIZES[p] - (p == t)) / 7 for p in GROUPS] for t in GROUPS])
    np.testing.assert_allclose(values(found, "even"), expected)
    np.testing.assert_allclose(values(found, "share"), expected)
    assert found.head_bias.estimate == pytest.approx(1) and found.head_bias_by_counts.estimate < 0.4
    assert found.matrix.sum() == 8 * 7
    assert all(rate.estimate == 1 for rate in found.rates.values())


def test_errors_in_proportion_to_training_images_are_what_that_chance_gives() -> None:
    times = np.tile(np.array(COUNTS) // 5, (8, 1))
    found = error_flow(everywhere(times))
    # by hand, for the few-shot classes with 10, 5 and 5 images: 600 of 800, 805, 805 others are of many-shot classes,
    # and class c makes (810 - n_c) / 5 errors
    by_hand = (160 * 600 / 800 + 2 * 161 * 600 / 805) / (160 + 2 * 161)
    assert found.table["few", "many"].by_counts == pytest.approx(by_hand)
    np.testing.assert_allclose(values(found, "share"), values(found, "by_counts"))
    assert found.head_bias_by_counts.estimate == pytest.approx(1)
    assert found.head_bias.estimate == pytest.approx(by_hand / (2 / 7)) and found.head_bias.estimate > 2.6


def test_the_matrix_is_that_of_scikit_learn_summed_over_groups(make_features: Make) -> None:
    features = make_features(images=(15, 3, 9, 12, 20, 5, 4, 8, 7, 6, 11, 2))
    found = error_flow(features)
    confusion = confusion_matrix(features.labels, features.predicted, labels=range(12))
    np.fill_diagonal(confusion, 0)
    member = np.array([features.classes.groups == group for group in GROUPS]).astype(int)  # (3, C)
    expected = member @ confusion @ member.T
    np.testing.assert_array_equal(found.matrix, expected)
    np.testing.assert_allclose(values(found, "share"), expected / expected.sum(1, keepdims=True))
    for kind in ("share", "even", "by_counts"):
        np.testing.assert_allclose(values(found, kind).sum(1), 1)
    assert [found.sizes(group)[2] for group in GROUPS] == expected.sum(1).tolist()


def test_a_planted_head_bias_is_found_with_its_size_and_its_absence_is_not_excluded() -> None:
    rng = np.random.default_rng(0)
    counts = (200,) * 50 + (5,) * 50  # 50 few-shot classes: bootstrap
    labels = np.repeat(np.arange(100), 20)
    few = labels >= 50
    evenly = (labels + rng.integers(1, 100, len(labels))) % 100
    to_head = np.where(few & (rng.random(len(labels)) < 0.6), rng.integers(0, 50, len(labels)), evenly)
    biased, fair = error_flow(decided(labels, to_head, counts)), error_flow(decided(labels, evenly, counts))
    expected = 0.6 / (50 / 99) + 0.4
    assert biased.head_bias.low < expected < biased.head_bias.high and biased.head_bias.low > 1.4
    assert fair.head_bias.low < 1 < fair.head_bias.high and fair.head_bias.n == 50
    assert biased.rates["many"].low > 1 > biased.rates["few"].high
    assert biased.head_bias.method.startswith("bootstrap over classes")


def test_the_interval_is_that_of_shares_of_classes_with_as_many_errors_each() -> None:
    to_many = np.array([2, 3, 5])  # of six errors of each few-shot class
    predicted = np.concatenate([[0] * m + [3] * (6 - m) for m in to_many])
    found = error_flow(decided(np.repeat([5, 6, 7], 6), predicted)).head_bias
    share, even = metrics.seed_interval(to_many / 6), 2 / 7  # Student t
    expected = (10 / 18 / even, max(share.low, 0) / even, min(share.high, 1) / even)
    assert (found.estimate, found.low, found.high) == pytest.approx(expected)
    assert found.too_small and found.unit == "classes" and found.n == 3


def test_decisions_over_images_are_means_over_classes_that_occur() -> None:
    labels = np.array([0] * 4 + [2] * 2 + [5] * 4 + [6] * 2)  # classes 1, 3, 4 and 7 have no images
    predicted = np.array([0, 0, 0, 0, 0, 2, 0, 0, 5, 7, 6, 0])
    found = error_flow(decided(labels, predicted))
    assert found.rates["many"].estimate == 8 / 4 and np.isnan(found.rates["many"].low)
    assert found.rates["medium"].estimate == 1 / 2
    assert found.rates["few"].estimate == (1 / 4 + 1 / 2) / 2 and found.rates["few"].low == 0
    frame = found.to_frame().query("kind == 'class'")
    np.testing.assert_array_equal(frame["value"], [2, np.nan, 0.5, np.nan, np.nan, 0.25, 0.5, np.nan])
    assert frame["predictions"].tolist() == [8, 0, 1, 0, 0, 1, 1, 1]
    caption = [text.get_text() for text in found.plot(view="predictions").texts]
    assert any("1 decisions are for classes without test images" in text for text in caption)


def test_bars_end_where_the_shares_do() -> None:
    found = error_flow(everywhere(np.arange(64).reshape(8, 8)))
    bars = [bar for bar in found.plot().patches if bar.get_width() > 0]
    assert len(bars) == 27  # three groups, measured and two kinds of chance, three parts
    drawn = np.array([bar.get_width() for bar in bars]).reshape(3, 3, 3)[::-1] / 100
    for i, kind in enumerate(("share", "even", "by_counts")):
        np.testing.assert_allclose(drawn[:, i], values(found, kind))


def test_without_errors_or_without_frequent_classes_there_is_no_bias(make_features: Make) -> None:
    features = make_features()
    right = error_flow(replace(features, predicted=features.labels))
    assert not right.matrix.any() and np.isnan(right.head_bias.estimate) and "no head bias" in str(right)
    no_head = error_flow(make_features(counts=(50, 40, 5, 4)))
    assert np.isnan(no_head.head_bias.estimate) and no_head.table["few", "many"].share.estimate == 0
    for found in (right, no_head):
        for view in found.views:
            found.plot(view=view).figure.canvas.draw()
    with pytest.raises(ValueError, match="without decisions"):
        error_flow(replace(features, predicted=None, confidence=None, logits=None))
