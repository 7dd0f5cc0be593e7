"""Candidates: a small case by hand, the ceiling, what re-ranking fixes and breaks, confused pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from workbench import metrics
from workbench.diagnostics.candidate_confusion import Pair, candidate_confusion
from workbench.features import Features

Make = Callable[..., Features]


@pytest.fixture
def by_hand(make_features: Make) -> Features:
    """Two images of each of six classes, two per group, with two candidates each."""
    features = make_features(counts=(500, 200, 100, 50, 10, 5), images=2)
    candidates = [
        *([0, 1], [0, 2]),  # class 0: right before
        *([0, 1], [1, 0]),  # class 1: second, first
        *([2, 0], [3, 2]),
        *([2, 3], [2, 0]),  # class 3: second, none
        *([0, 4], [0, 4]),  # class 4: second, second
        *([0, 1], [0, 1]),  # class 5: none, none
    ]
    predicted = [0, 2, 1, 1, 2, 3, 2, 0, 4, 0, 0, 1]
    return replace(features, predicted=np.array(predicted), extras={"candidates": np.array(candidates)})


def test_places_and_flows_are_those_counted_by_hand(by_hand: Features) -> None:
    found = candidate_confusion(by_hand)
    assert found.ranks.tolist() == [1, 1, 2, 1, 1, 2, 2, 0, 2, 2, 0, 0]
    many, medium, few = (found.table[group] for group in ("many", "medium", "few"))
    keys = ("classes", "images", "inside", "fixed", "broken", "kept_right", "kept_wrong")
    assert [getattr(many, key) for key in keys] == [2, 4, 4, 1, 1, 2, 0]
    assert [getattr(medium, key) for key in keys] == [2, 4, 3, 0, 0, 1, 3]
    assert [getattr(few, key) for key in keys] == [2, 4, 2, 1, 0, 0, 3]
    assert [getattr(found.table["all"], key) for key in keys] == [6, 12, 9, 2, 1, 3, 6]
    assert (few.before, few.after, few.ceiling, few.given_inside) == (0, 0.25, 0.5, 0.5)
    assert medium.ceiling == 0.75 and medium.given_inside == pytest.approx((1 / 2 + 0) / 2)  # mean over its classes
    assert found.table["all"].given_inside == pytest.approx(5 / 9)
    assert found.table["all"].ceiling == 0.75
    assert found.shares["many"].tolist() == [0.75, 0.25, 0] and found.shares["few"].tolist() == [0, 0.5, 0.5]
    assert all(shares.sum() == pytest.approx(1) for shares in found.shares.values())


def test_confused_pairs_leave_out_images_whose_truth_was_no_candidate(by_hand: Features) -> None:
    found = candidate_confusion(by_hand)
    assert found.pairs == (
        Pair(true=0, chosen=2, images=1, inside=2),
        Pair(true=2, chosen=3, images=1, inside=2),
        Pair(true=3, chosen=2, images=1, inside=1),
        Pair(true=4, chosen=0, images=1, inside=2),
    )
    repeated = replace(by_hand, predicted=np.array([0, 2, 1, 1, 2, 3, 2, 0, 0, 0, 0, 1]))
    assert candidate_confusion(repeated, pairs=1).pairs == (Pair(true=4, chosen=0, images=2, inside=2),)
    right = replace(by_hand, predicted=by_hand.labels)
    assert candidate_confusion(right).pairs == ()


def test_accuracies_and_their_difference_are_those_of_metrics(make_features: Make) -> None:
    features = make_features()
    rng = np.random.default_rng(1)
    candidates = np.stack([rng.permutation(12)[:5] for _ in range(len(features))])
    chosen = candidates[np.arange(len(features)), rng.integers(0, 5, len(features))]
    found = candidate_confusion(replace(features, predicted=chosen, extras={"candidates": candidates}))
    labels, groups = features.labels, features.classes.groups
    for group, row in found.table.items():
        assert row.before == metrics.group_accuracy(candidates[:, 0], labels, groups)[group]
        assert row.after == metrics.group_accuracy(chosen, labels, groups)[group]
        assert row.difference == metrics.paired_difference(chosen, candidates[:, 0], labels, groups, group=group)
        assert row.fixed + row.broken + row.kept_right + row.kept_wrong == row.images
        assert row.difference.estimate == pytest.approx(row.after - row.before)
    whole = found.table["all"]
    assert whole.after == pytest.approx(whole.ceiling * whole.given_inside)  # no decision outside of the candidates
    assert whole.ceiling == pytest.approx(5 / 12, abs=0.1) and found.strangers == 0


def test_a_perfect_reranking_reaches_the_ceiling_and_one_candidate_changes_nothing(make_features: Make) -> None:
    features = make_features(images=4)
    candidates = (features.labels[:, None] + np.array([3, 0, 1])) % 12
    candidates[::4] = (features.labels[::4, None] + np.array([3, 4, 5])) % 12
    best = np.where((candidates == features.labels[:, None]).any(1), features.labels, candidates[:, 0])
    found = candidate_confusion(replace(features, predicted=best, extras={"candidates": candidates}))
    assert all(row.after == row.ceiling == 0.75 and row.given_inside == 1 for row in found.table.values())
    assert found.table["all"].fixed == 36 and found.table["all"].broken == 0
    single = replace(features, predicted=candidates[:, 0], extras={"candidates": candidates[:, :1]})
    found = candidate_confusion(single)
    assert found.table["all"].fixed == found.table["all"].broken == 0 and found.num_candidates == 1
    assert np.isnan(found.table["few"].given_inside) and "n/a" in str(found)


def test_the_figure_shows_the_counts(by_hand: Features) -> None:
    ax = candidate_confusion(by_hand).plot(view="changes")
    said = {text.get_text() for text in ax.texts}
    assert "0.0 \N{RIGHTWARDS ARROW} 25.0 %" in {text.partition("\n")[0] for text in said}
    widths = sorted(bar.get_width() for bar in ax.patches)
    assert (widths[0], widths[-1]) == (-1, 2)  # broken and fixed of all
    bars = candidate_confusion(by_hand).plot(view="rank").patches
    assert sum(bar.get_width() for bar in bars) == pytest.approx(4 * 100)


def test_decisions_outside_of_the_candidates_are_counted(by_hand: Features) -> None:
    elsewhere = by_hand.predicted.copy()
    elsewhere[:3] = 5
    found = candidate_confusion(replace(by_hand, predicted=elsewhere))
    assert found.strangers == 3 and "3 decisions are none of the candidates" in str(found)


def test_what_is_no_set_of_candidates_is_refused(by_hand: Features) -> None:
    for wrong, said in (
        (np.zeros((12, 2), int), "12 images have a candidate twice"),
        (np.full((12, 1), 6), "0 to 5"),
        (np.zeros((12, 1)), "float64"),
        (np.zeros(12, int), "shape"),
    ):
        with pytest.raises(ValueError, match=said):
            candidate_confusion(replace(by_hand, extras={"candidates": wrong}))
    with pytest.raises(ValueError, match="hold no candidates"):
        candidate_confusion(replace(by_hand, extras={}))
