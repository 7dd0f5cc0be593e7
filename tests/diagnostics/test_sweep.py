"""A swept option: planted accuracies, what can be told apart from the highest value, trends, axes, and refusals."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

import workbench as wb
from workbench import metrics
from workbench.diagnostics import best_value as statistics
from workbench.diagnostics.sweep import Sweep
from workbench.features import Features

Make = Callable[..., Features]
LEVEL = np.array([14, 15, 16, 17, 18, 13, 12, 16, 17, 11, 15, 14])  # right images of 20, of each of twelve classes
WOBBLE = np.array([1, -1, 1, -1, 0, 0, 1, -1, 1, -1, 0, 0])


def planted(make: Make, right: Sequence[int] | np.ndarray, *, shift: int = 0, **options: object) -> Features:
    """Features of which class c has right[c] of its 20 images right, starting with image `shift`."""
    features = make(0, **options)
    number = np.arange(len(features)) % 20
    hit = (number - shift) % 20 < np.asarray(right)[features.labels]
    return replace(
        features, predicted=np.where(hit, features.labels, (features.labels + 1) % len(features.classes)), logits=None
    )


def verdicts(result: Sweep, row: str = "all", curve: int = 0) -> dict[object, str]:
    swept = result.curves[curve]
    return {swept.values[i]: other.verdict for i, other in swept.best[row].others.items()}


def test_accuracies_by_value_are_the_planted_ones(make_features: Make) -> None:
    low, high = planted(make_features, LEVEL - 5), planted(make_features, LEVEL)
    worse = planted(make_features, LEVEL - 2)
    result = wb.sweep({64: [high, worse], 4: low}, option="r", chosen=64)
    frame = result.to_frame().set_index(["value", "group"])
    groups = {"many": slice(0, 4), "medium": slice(4, 8), "few": slice(8, 12), "all": slice(0, 12)}
    for group, inside in groups.items():
        assert frame.loc[(4, group), "accuracy"] == pytest.approx((LEVEL - 5)[inside].mean() / 20)
        assert frame.loc[(64, group), "accuracy"] == pytest.approx((LEVEL - 1)[inside].mean() / 20)
        assert frame.loc[(64, group), "seeds_sd"] == pytest.approx(0.1 / np.sqrt(2))
        assert frame.loc[(64, group), "highest"] and not frame.loc[(4, group), "highest"]
        assert frame.loc[(4, group), "behind"] == pytest.approx(0.2)
    interval = metrics.group_interval(low.predicted, low.labels, np.asarray(low.classes.groups), "all")
    assert frame.loc[(4, "all"), ["low", "high"]].tolist() == [interval.low, interval.high]
    assert frame["chosen"].tolist() == [value == 64 for value, _ in frame.index]
    assert f"64 (chosen): all {100 * (LEVEL - 1).mean() / 20:.1f} [" in str(result) and "(lowest to highest" in str(
        result
    )


def test_numbers_are_sorted_and_names_keep_their_order(make_features: Make) -> None:
    measured = {value: planted(make_features, np.minimum(LEVEL + value, 20)) for value in (2, 0, 1)}
    first, second = (wb.sweep({k: measured[k] for k in order}, option="k") for order in ((2, 0, 1), (0, 1, 2)))
    assert first.curves[0].values == (0, 1, 2) and str(first) == str(second)
    assert first.to_frame().equals(second.to_frame())
    named = wb.sweep({"N/A": measured[0], 3: measured[2], 1: measured[1]}, option="K", chosen=3)
    assert named.curves[0].values == ("N/A", "3", "1") and named.chosen == "3" and not named.curves[0].trends
    assert [text.get_text() for text in named.plot().get_xticklabels()] == ["N/A", "3", "1"]


def test_the_highest_is_told_apart_from_what_is_lower_and_not_from_its_equal(make_features: Make) -> None:
    equal = planted(make_features, LEVEL + WOBBLE, shift=7)  # other images, the same mean
    lower = planted(make_features, LEVEL - 4 + WOBBLE)
    result = wb.sweep({1: planted(make_features, LEVEL), 2: equal, 3: lower}, option="k")
    assert verdicts(result) == {2: "not distinguishable", 3: "lower"}
    found = result.curves[0].best["all"]
    raw = stats.ttest_1samp((4 - WOBBLE) / 20, 0).pvalue  # classes of 20 images each: the pairs are the sample
    assert found.index == 0 and found.pairs == 3
    assert found.others[2].difference.p == pytest.approx(raw) and found.others[2].p == pytest.approx(3 * raw)
    assert found.others[2].difference.estimate == pytest.approx(0.2) and found.others[1].p == 1.0
    # the interval of one pair of three: at 1 - 0.05 / 3
    half = stats.t.ppf(1 - 0.05 / 6, 11) * (WOBBLE / 20).std(ddof=1) / np.sqrt(12)
    assert found.others[2].difference.low == pytest.approx(0.2 - half)
    assert set(verdicts(result, "few").values()) == {"not testable"}, "four classes are too few"
    text = str(result)
    assert re.search(
        r"all: highest at 1 \(74\.2\); not distinguishable from it: 2 \(could .*lower: 3 \(-20\.0, p", text
    )
    assert "Holm's correction" in text and "choose on val" in text and "mean class: as all" in text


def test_identical_decisions_are_the_same_everywhere(make_features: Make) -> None:
    features = planted(make_features, LEVEL)
    result = wb.sweep({0.1: features, 0.2: features}, option="lambda")
    assert verdicts(result) == {0.2: "not distinguishable"}
    assert "all: the same at all values (74.2)" in str(result)


def test_of_many_classes_and_values_the_lower_one_can_still_be_found(make_features: Make) -> None:
    """From 40 classes on p comes from a bootstrap, whose smallest value must be below 0.05 / 45."""
    right = np.tile(LEVEL, 4)[:45]
    options = {"counts": tuple(range(200, 20, -4))}
    measured = {k: planted(make_features, np.roll(right, k), shift=k, **options) for k in range(9)}
    measured[9] = planted(make_features, right - 4 + np.tile(WOBBLE, 4)[:45], **options)
    result = wb.sweep(measured, option="k")
    found = verdicts(result, "mean_class")
    assert found.pop(9) == "lower" and set(found.values()) == {"not distinguishable"}
    assert result.curves[0].best["mean_class"].pairs == 45


def test_holm_is_that_of_a_worked_example() -> None:
    p = [0.01, 0.04, 0.03, 0.005]  # 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1 but not below the one before it
    assert statistics.holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm(p, 6) == pytest.approx([0.05, 0.12, 0.12, 0.03])  # x 6, 5, 4, 3
    assert statistics.holm([0.5, np.nan, 0.9]) == pytest.approx([1.0, np.nan, 1.0], nan_ok=True)
    assert statistics.holm([0.01, np.nan]) == pytest.approx([0.02, np.nan], nan_ok=True)
    with pytest.raises(ValueError, match="comparisons=1, but 2 p values"):
        statistics.holm([0.1, 0.2], 1)


def test_holm_of_some_pairs_is_never_below_holm_of_all(rng: np.random.Generator) -> None:
    for _ in range(200):
        p = rng.random(10) ** 4
        some = rng.choice(10, 4, replace=False)
        assert (statistics.holm(p[some], 10) >= statistics.holm(p)[some] - 1e-15).all()


def test_of_equal_values_hardly_ever_one_is_called_lower(rng: np.random.Generator) -> None:
    """Corrected for the comparisons with the highest only, the same p values find a difference too often."""
    classes, values, rounds = 30, 8, 250
    labels, groups = np.repeat(np.arange(classes), 20), np.full(classes, "few")
    false, careless = 0, 0
    for _ in range(rounds):
        skill = np.clip(0.6 + 0.15 * rng.normal(size=(values, 1, classes)), 0, 1)[:, :, labels]
        predicted = np.where(rng.random((values, 1, len(labels))) < skill, labels, classes)
        found = statistics.best_value(predicted, labels, groups, "few", pooled=False, level=0.95, seed=0)
        assert found is not None
        false += any(other.verdict == "lower" for other in found.others.values())
        careless += (statistics.holm([other.difference.p for other in found.others.values()]) < 0.05).any()
    assert false / rounds <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / rounds) < careless / rounds


def test_trends_are_those_of_scipy_and_need_five_values(rng: np.random.Generator) -> None:
    assert statistics.trend_of(np.array([0.1, 0.2, 0.3, 0.4]), seed=0) is None
    rising = statistics.trend_of(np.array([0.1, 0.2, 0.3, 0.35, 0.4]), seed=0)
    assert rising is not None and rising.steps == "never falls"
    assert rising.correlation == pytest.approx(1) and rising.p == pytest.approx(2 / 120)  # of 5! orders
    accuracy = rng.random(7)
    found = statistics.trend_of(accuracy, seed=0)
    assert found is not None and found.steps == "rises and falls"
    assert found.correlation == pytest.approx(stats.spearmanr(np.arange(7), accuracy).statistic)
    flat = statistics.trend_of(np.full(5, 0.3), seed=0)
    assert flat is not None and flat.steps == "the same everywhere" and np.isnan(flat.p)
    falling = statistics.trend_of(np.array([0.4, 0.4, 0.3, 0.2, 0.1]), seed=0)
    assert falling is not None and falling.steps == "never rises"


def test_a_second_option_gives_a_line_for_each_of_its_values(make_features: Make) -> None:
    grid = {
        f"depth {depth}": {n: planted(make_features, LEVEL - 4 * (n == 1) + depth) for n in (1, 10, 30)}
        for depth in (0, 1)
    }
    result = wb.sweep(grid, option="prompts N", chosen=10)
    assert result.views == ("curves", "many", "medium", "few", "mean_class")
    assert verdicts(result, curve=1) == {1: "lower", 30: "not distinguishable"}
    for view in result.views:
        ax = result.plot(view=view)
        lines = {line.get_label(): line for line in ax.lines}
        for number in (0, 1):
            expected = result.curves[number].accuracy("all" if view == "curves" else view)
            np.testing.assert_allclose(lines[f"depth {number}"].get_ydata(), 100 * expected)
    single = wb.sweep(grid | {"LIFT": {10: planted(make_features, LEVEL)}}, option="prompts N")
    assert single.plot().has_data() and "LIFT:\n  10: all 74.2" in str(single)
    assert "the highest of 6 was picked" in str(result) and len(result.to_frame()) == 2 * 3 * 5


def test_the_figure_marks_highest_lower_and_chosen(make_features: Make) -> None:
    lower = planted(make_features, LEVEL - 4 + WOBBLE)
    result = wb.sweep({1: lower, 2: planted(make_features, LEVEL), 3: lower}, option="$k$", chosen=3)
    ax = result.plot()
    points = [line for line in ax.lines if line.get_zorder() == 3 and line.get_color() == "#1a1a1a"]  # of "all"
    assert [line.get_markerfacecolor() == "#ffffff" for line in points] == [True, False, True]
    assert np.argmax([line.get_markersize() for line in points]) == 1
    assert any(line.get_linestyle() == ":" and set(line.get_xdata()) == {3.0} for line in ax.lines)
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert {"highest", "lower than it", "chosen: 3", "few (4 classes)"} <= set(legend)


@pytest.mark.parametrize(
    ("values", "scale"),
    [((1, 30), "linear"), ((1, 31), "log"), ((0, 0.001, 0.1), "symlog"), ((-1, 0.01, 1), "linear"), ((0, 1), "linear")],
)
def test_far_apart_values_stand_on_a_logarithmic_axis(
    make_features: Make, values: tuple[float, ...], scale: str
) -> None:
    ax = wb.sweep({value: make_features(i) for i, value in enumerate(values)}, option="x").plot()
    assert ax.get_xscale() == scale and ax.get_xticks().tolist() == list(values)


@pytest.mark.parametrize("values", [range(24), [2.0**k for k in range(-9, 9)], [f"a name {k}" for k in range(9)]])
def test_labels_of_many_values_do_not_touch(make_features: Make, values: Sequence[float | str]) -> None:
    features = make_features(0)
    ax = wb.sweep(dict.fromkeys(values, features), option="x").plot()
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.get_xticklabels() if text.get_text()]
    assert len(ax.get_xticks()) == len(values) and len(boxes) > 4
    assert not any(a.overlaps(b) for a, b in pairwise(boxes))


def test_pooled_groups_are_shares_of_images(make_features: Make) -> None:
    images = (40, 20, 20, 20) * 3
    features = [make_features(seed, images=images) for seed in (0, 1)]
    result = wb.sweep({0: features[0], 1: features[1]}, option="x", pooled=True)
    inside = features[1].labels < 4
    assert result.curves[0].accuracy("many")[1] == pytest.approx(features[1].correct[inside].mean())


def test_images_of_val_are_what_values_are_chosen_on(make_features: Make) -> None:
    result = wb.sweep({i: make_features(i, split="val") for i in (0, 1)}, option="x")
    assert "picked on the images of val" in str(result) and "report its accuracy on test" in str(result)


def test_what_cannot_be_swept_is_refused(make_features: Make) -> None:
    features = make_features(0)
    with pytest.raises(ValueError, match="the test sets differ"):
        wb.sweep({1: features, 2: make_features(0, split="val")}, option="x")
    for few in (
        {},
        {1: features},
        {"a": {1: features}, "b": {2: features}},
        {"a": {1: features, 2: features}, "b": {}},
    ):
        with pytest.raises(ValueError, match="a sweep needs two or more on a curve"):
            wb.sweep(few, option="x")
    with pytest.raises(ValueError, match="1 of 2 entries are mappings"):
        wb.sweep({"a": {1: features}, "b": features}, option="x")
    with pytest.raises(ValueError, match=r"chosen=3 is not among the values: 1, 2\."):
        wb.sweep({1: features, 2: features}, option="x", chosen=3)
    with pytest.raises(ValueError, match="nan is not a place on an axis"):
        wb.sweep({1: features, float("nan"): features}, option="x")
    with pytest.raises(ValueError, match="not unique as text"):
        wb.sweep({1: features, "1": features}, option="x")
    with pytest.raises(ValueError, match="2 has nothing; give Features"):
        wb.sweep({1: features, 2: []}, option="x")
    with pytest.raises(ValueError, match=r"2 has \['float'\]; give Features"):
        wb.sweep({1: features, 2: [0.5]}, option="x")
