"""Cost against accuracy: what stands in the table and where the bubbles lie, from planted accuracies and counts."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from scipy import stats

from workbench.diagnostics.base import METHOD_COLOURS
from workbench.diagnostics.cost_against_accuracy import CostAgainstAccuracy, cost_against_accuracy
from workbench.features import Features

Make = Callable[..., Features]


def counted(tuned: int, total: int, head: int = 120) -> SimpleNamespace:
    return SimpleNamespace(tuned=tuned, head=head, total=total)


def right(features: Features, shares: np.ndarray) -> Features:
    """The same 20 images per class, of each of which the given share is right: shares (C,), multiples of 1/20."""
    place = np.arange(len(features)) % 20
    labels, number = features.labels, len(features.classes)
    predicted = np.where(place < np.round(20 * shares)[labels], labels, (labels + 1) % number)
    object.__setattr__(features, "predicted", predicted)
    object.__setattr__(features, "logits", None)
    return features


@pytest.fixture
def result(make_features: Make) -> CostAgainstAccuracy:
    shares = np.arange(12) / 20
    return cost_against_accuracy(
        {
            "nothing": (counted(0, 1_000_000), right(make_features(), np.full(12, 0.5))),
            "little $x$": (
                counted(1000, 2_000_000),
                [right(make_features(), shares), right(make_features(), shares + 0.2)],
            ),
            "all": (counted(4_000_000, 4_000_120), right(make_features(), shares[::-1])),
        }
    )


def test_the_table_has_the_counts_and_the_planted_accuracies_with_their_intervals(result: CostAgainstAccuracy) -> None:
    frame = result.to_frame().set_index(["method", "group"])
    assert len(frame) == 3 * 5
    row = frame.loc[("little $x$", "mean_class")]
    assert (row["tuned"], row["head"], row["total"], row["seeds"], row["classes"]) == (1000, 120, 2_000_000, 2, 12)
    sample = np.arange(12) / 20 + 0.1  # mean of both seeds
    low, high = stats.t.interval(0.95, 11, sample.mean(), stats.sem(sample))
    np.testing.assert_allclose((row["accuracy"], row["low"], row["high"]), (sample.mean(), low, high))
    values = np.array([sample.mean() - 0.1, sample.mean() + 0.1])
    low, high = stats.t.interval(0.95, 1, values.mean(), stats.sem(values))
    np.testing.assert_allclose((row["seeds_low"], row["seeds_high"]), (low, high))
    few = frame.loc[("all", "few")]  # the last four classes
    assert few["accuracy"] == pytest.approx(np.mean([3, 2, 1, 0]) / 20) and few["too_small"] and few["classes"] == 4
    assert frame.loc[("nothing", "all"), "accuracy"] == 0.5 and np.isnan(frame.loc[("nothing", "all"), "seeds_low"])
    assert "fewer than 5 classes" in str(result) and "1,000 tuned, 120 of the classifier, 2,000,000 in all" in str(
        result
    )


def test_bubbles_stand_at_their_counts_with_areas_in_proportion_to_all_parameters(result: CostAgainstAccuracy) -> None:
    ax = result.plot()
    circles = [one for one in ax.collections if isinstance(one, PathCollection)]
    x, y = np.array([one.get_offsets()[0] for one in circles]).T
    areas = np.array([one.get_sizes()[0] for one in circles])
    assert x[1:].tolist() == [1000, 4_000_000] and 0 < x[0] < 1000, "what tunes nothing stands left of the rest"
    np.testing.assert_allclose(y, [50, 37.5, 27.5])
    np.testing.assert_allclose(areas / areas[-1], np.array([1e6, 2e6, 4_000_120]) / 4_000_120)
    assert ax.get_xscale() == "log" and ax.get_xticklabels()[0].get_text() == "0"
    markers = [line for line in ax.lines if line.get_marker() not in ("None", None, "")]
    assert [line.get_color() for line in markers] == list(METHOD_COLOURS[:3])
    assert len({line.get_marker() for line in markers}) == 3


@pytest.mark.parametrize("number", [1, 12])
def test_every_arm_has_a_look_of_its_own(make_features: Make, number: int) -> None:
    arms = {f"arm {i}": (counted(10**i % 7919 + 1, 10_000), make_features(i)) for i in range(number)}
    markers = [line for line in cost_against_accuracy(arms).plot().lines if line.get_marker() not in ("None", None, "")]
    assert len({(line.get_color(), line.get_marker()) for line in markers}) == number


def test_what_cannot_be_set_side_by_side_is_refused(make_features: Make) -> None:
    with pytest.raises(ValueError, match="nothing was given"):
        cost_against_accuracy({})
    with pytest.raises(ValueError, match=r"'a' is Features; give \(result of wb\.cost, features\)"):
        cost_against_accuracy({"a": make_features()})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="'a' has an empty list of features"):
        cost_against_accuracy({"a": (counted(1, 2), [])})
    with pytest.raises(ValueError, match="'a' tunes 3 of 2 parameters"):
        cost_against_accuracy({"a": (counted(3, 2), make_features())})
    with pytest.raises(ValueError, match="the test sets differ"):
        cost_against_accuracy({"a": (counted(1, 2), make_features()), "b": (counted(1, 2), make_features(images=5))})
