"""Weights of descriptions: uniform ones, planted effects, the sign test in closed form, kinds that do not fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from workbench.data import Classes
from workbench.diagnostics.description_weights import description_weights

COUNTS = np.array([500, 300, 150, 101, 100, 60, 40, 20, 19, 10, 5, 2])
CLASSES = Classes(tuple(f"class {c}" for c in range(12)), COUNTS)
KINDS = {name: ["good", "wrong", "good", "ambiguous"] for name in CLASSES.names}
PLANTED = np.array([0.4, 0.05, 0.4, 0.15])  # of the four


def test_uniform_weights_are_1_for_every_kind_and_all_ties() -> None:
    found = description_weights(np.full((12, 4), np.float32(0.25)), KINDS, classes=CLASSES)
    for kind in ("good", "wrong", "ambiguous", "bad"):
        for group in ("all", "many", "medium", "few"):
            assert found.mean(kind, group) == pytest.approx((1, 1, 1))
    test = found.signs["all"]
    assert (test.below, test.above, test.ties, test.p) == (0, 0, 12, 1.0) and math.isnan(test.share)


def test_planted_weights_are_found_by_kind_and_by_group() -> None:
    weights = np.full((12, 4), 0.25)
    many = CLASSES.groups == "many"
    weights[many] = PLANTED
    found = description_weights(weights, KINDS, classes=CLASSES)
    assert found.mean("good", "many")[0] == pytest.approx(1.6) and found.mean("wrong", "many")[0] == pytest.approx(0.2)
    assert found.mean("ambiguous", "many")[0] == pytest.approx(0.6) and found.mean("bad", "many")[0] == pytest.approx(
        0.4
    )
    assert found.mean("good", "few")[0] == pytest.approx(1)
    assert found.bad_minus_good["many"].estimate == pytest.approx(0.4 - 1.6)
    assert found.mean("good")[0] == pytest.approx((4 * 1.6 + 8) / 12)
    test = found.signs["all"]
    assert (test.below, test.ties, test.share) == (many.sum(), 8, 1.0) and test.p == pytest.approx(2 * 0.5**4)
    assert "bad below good in 4 of 4 classes (8 ties left out)" in str(found)


def test_the_interval_is_students_over_class_means() -> None:
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(4), 12)
    found = description_weights(weights, KINDS, classes=CLASSES)
    good = 4 * weights[:, [0, 2]].mean(1)
    low, high = stats.t.interval(0.95, 11, good.mean(), stats.sem(good))
    assert found.mean("good") == pytest.approx((good.mean(), low, high))
    paired = stats.ttest_rel(4 * weights[:, [1, 3]].mean(1), good)
    assert found.bad_minus_good["all"].p == pytest.approx(paired.pvalue)
    few = 4 * weights[CLASSES.groups == "few"][:, 1]
    assert found.mean("wrong", "few")[0] == pytest.approx(few.mean())
    below = int((weights[:, [1, 3]].sum(1) < weights[:, [0, 2]].sum(1)).sum())
    assert (found.signs["all"].below, found.signs["all"].above) == (below, 12 - below)


def test_the_sign_test_is_exact_and_two_sided() -> None:
    weights = np.tile(PLANTED, (12, 1))
    weights[:2] = [0.05, 0.4, 0.15, 0.4]  # bad above good
    test = description_weights(weights, KINDS, classes=CLASSES).signs["all"]
    assert (test.below, test.above, test.ties) == (10, 2, 0)
    assert test.p == pytest.approx(2 * sum(math.comb(12, k) for k in range(3)) / 2**12)
    assert test.share == pytest.approx(10 / 12)


def test_a_class_with_fewer_descriptions_is_measured_against_its_own_uniform() -> None:
    weights = np.full((12, 4), 0.25)
    weights[11] = [0.5, 0.5, 0, 0]  # two descriptions, uniform
    weights[10] = 0  # none
    kinds = KINDS | {"class 11": ["good", "wrong"], "class 10": []}
    found = description_weights(weights, kinds, classes=CLASSES)
    assert found.by_class[11, :2] == pytest.approx([1, 1]) and np.isnan(found.by_class[11, 2])
    assert np.isnan(found.by_class[10]).all() and found.number == {"good": 21, "wrong": 11, "ambiguous": 10}
    assert found.from_uniform["ambiguous", "all"].n == 10 and found.signs["all"].ties == 11


def test_further_kinds_than_weights_are_left_out_and_good_alone_has_no_test() -> None:
    longer = {name: ["good"] * 4 + ["wrong"] for name in CLASSES.names}
    found = description_weights(np.full((12, 4), 0.25), longer, classes=CLASSES)
    assert found.kinds == ("good",) and math.isnan(found.signs["all"].p)
    assert str(found.signs["all"]) == "no class has both"
    assert found.views == ("kinds",)
    found.plot().figure.canvas.draw()


def test_the_figure_shows_every_group_of_every_kind() -> None:
    ax = description_weights(np.tile(PLANTED, (12, 1)), KINDS, classes=CLASSES).plot()
    drawn = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 3]
    assert len(drawn) == 4 and all(line == pytest.approx([1.6, 0.2, 0.6]) for line in drawn)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["good\n(24)", "wrong\n(12)", "ambiguous\n(12)"]


@pytest.mark.parametrize(
    ("weights", "kinds", "said"),
    [
        (np.full((11, 4), 0.25), KINDS, "C = 12 classes"),
        (np.full((12, 4), 0.5), KINDS, "sum to 2, not 1"),
        (np.tile([0.75, -0.25, 0.25, 0.25], (12, 1)), KINDS, "negative"),
        (np.full((12, 4), 0.25), KINDS | {"class 3": ["good", "wrong"]}, "weights of 4 descriptions and kinds of 2"),
        (np.full((12, 4), 0.25), KINDS | {"class 99": ["good"] * 4}, "'class 99'"),
        (np.full((12, 4), 0.25), dict.fromkeys(KINDS, ["wrong"] * 4), "no description is 'good'"),
        (np.full((12, 4), 0.25), KINDS | {"class 3": ["bad"] * 4}, "another name"),
    ],
)
def test_what_does_not_fit_is_refused(weights: np.ndarray, kinds: dict[str, list[str]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        description_weights(weights, kinds, classes=CLASSES)
