"""Shot groups and group accuracies against recorded and published values; intervals against scipy and simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from workbench import metrics
from workbench.metrics import Interval

GROUPS3 = np.array(["many", "medium", "few"])


def world(rng: np.random.Generator, difficulties: np.ndarray, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels of classes whose images are right with the given probabilities."""
    classes = len(difficulties)
    labels = np.repeat(np.arange(classes), images)
    right = rng.random(len(labels)) < difficulties[labels]
    return np.where(right, labels, (labels + 1) % classes), labels


def test_the_bounds_of_the_groups_are_inclusive() -> None:
    counts = np.array([500, 101, 100, 21, 20, 19, 1, 0])
    assert metrics.shot_groups(counts).tolist() == ["many"] * 2 + ["medium"] * 3 + ["few"] * 3
    assert metrics.shot_groups(counts, few_to=20).tolist() == ["many"] * 2 + ["medium"] * 2 + ["few"] * 4
    assert metrics.shot_groups(counts, many_from=100, few_to=20).tolist() == ["many"] * 3 + ["medium"] + ["few"] * 4


@pytest.mark.parametrize("name", ["balanced", "unbalanced"])
@pytest.mark.parametrize("pooled", [False, True])
def test_group_accuracies_equal_the_evaluators_of_the_papers(golden: Callable, name: str, pooled: bool) -> None:
    case = golden(f"group_acc_{name}")
    predicted, labels = case.arrays[f"in.{name}.pred"], case.arrays[f"in.{name}.label"]
    counts = case.arrays[f"in.{name}.train_counts"]
    rules = {"gt100_lt20": (101, 19), "gt100_le20": (101, 20), "ge100_le20": (100, 20)}
    kind = "pooled" if pooled else "macro"
    for rule, (many_from, few_to) in rules.items():
        groups = metrics.shot_groups(counts, many_from=many_from, few_to=few_to)
        result = metrics.group_accuracy(predicted, labels, groups, pooled=pooled)
        case.check(100 * np.array([result[group] for group in metrics.GROUPS]), f"out.{name}.{rule}.{kind}")
        case.check(100 * result["all"], f"out.{name}.overall")
        case.check(100 * result["mean_class"], f"out.{name}.lift.mean_acc")
    ranges = metrics.group_accuracy(predicted, labels, np.repeat(GROUPS3, 3))
    case.check(100 * np.array([ranges[group] for group in metrics.GROUPS]), f"out.{name}.index.macro")
    case.check(100 * metrics.class_accuracies(predicted, labels, 9), f"out.{name}.class_acc")


def test_the_groups_of_lpt_on_places_give_its_published_overall_accuracy() -> None:
    sizes = {"many": 131, "medium": 157, "few": 77}  # classes of 100 test images, few <= 20
    groups = np.repeat(list(sizes), list(sizes.values()))
    labels = np.repeat(np.arange(365), 100)
    predicted = labels.copy()
    published = {"many": 49.26718, "medium": 52.30573, "few": 46.88312}
    for group, accuracy in published.items():
        images = np.flatnonzero(groups[labels] == group)
        predicted[images[round(accuracy / 100 * len(images)) :]] = -1
    result = metrics.group_accuracy(predicted, labels, groups, pooled=True)
    for group, accuracy in published.items():
        assert 100 * result[group] == pytest.approx(accuracy, abs=5e-6)
    assert 100 * result["all"] == pytest.approx(50.07123, abs=5e-6)


def test_an_empty_group_and_a_class_without_test_images_are_nan_and_do_not_count() -> None:
    groups = np.array(["many", "many", "few"])
    predicted, labels = np.array([0, 1, 2, 2]), np.array([0, 0, 2, 2])
    result = metrics.group_accuracy(predicted, labels, groups)
    assert math.isnan(result.pop("medium"))
    assert result == {"all": 0.75, "many": 0.5, "few": 1.0, "mean_class": 0.75}
    np.testing.assert_array_equal(metrics.class_accuracies(predicted, labels, 3), [0.5, np.nan, 1.0])
    empty = metrics.group_interval(predicted, labels, groups, "medium")
    assert empty.n == 0 and empty.too_small and all(map(math.isnan, (empty.estimate, empty.low, empty.high)))
    nothing = metrics.group_accuracy(np.empty(0, int), np.empty(0, int), groups)
    assert all(map(math.isnan, nothing.values()))
    difference = metrics.paired_difference(predicted, predicted, labels, groups, group="medium")
    assert difference.verdict == "not testable" and math.isnan(difference.p)


def test_wilson_intervals_equal_scipys(rng: np.random.Generator) -> None:
    images = rng.integers(1, 200, size=50)
    correct = rng.binomial(images, rng.random(50))
    correct[:2] = 0, images[1]
    low, high = metrics.wilson_interval(correct, images)
    for i in range(50):
        expected = stats.binomtest(int(correct[i]), int(images[i])).proportion_ci(method="wilson")
        np.testing.assert_allclose((low[i], high[i]), (expected.low, expected.high), atol=1e-12)
    assert np.isnan(metrics.wilson_interval(0, 0)).all()
    low, high = metrics.class_intervals(np.array([0, 0, 1]), np.array([0, 0, 0]), 2)
    assert 0 < low[0] < 2 / 3 < high[0] < 1 and np.isnan([low[1], high[1]]).all()


def test_small_groups_use_student_t_over_class_accuracies(rng: np.random.Generator) -> None:
    predicted, labels = world(rng, rng.random(12), 20)
    groups = np.repeat(GROUPS3, 4)
    accuracies = metrics.class_accuracies(predicted, labels, 12)
    for group in metrics.GROUPS:
        sample = accuracies[groups == group]
        interval = metrics.group_interval(predicted, labels, groups, group)
        expected = stats.t.interval(0.95, 3, sample.mean(), stats.sem(sample))
        assert interval.estimate == pytest.approx(sample.mean()) and interval.n == 4 and interval.too_small
        np.testing.assert_allclose((interval.low, interval.high), np.clip(expected, 0, 1))
        pooled = metrics.group_interval(predicted, labels, groups, group, pooled=True)  # classes of one size: the same
        np.testing.assert_allclose((pooled.low, pooled.high), (interval.low, interval.high))
    whole = metrics.group_interval(predicted, labels, groups, "mean_class")
    assert whole.n == 12 and whole.unit == "classes" and whole.method == "Student t" and not whole.too_small
    assert "classes like these" in whole.estimand and "(n = 12 classes)" in str(whole)


def test_groups_from_40_classes_use_a_class_bootstrap_that_agrees_with_student_t(rng: np.random.Generator) -> None:
    predicted, labels = world(rng, rng.random(60), 20)
    groups = np.full(60, "few")
    for pooled in (False, True):
        interval = metrics.group_interval(predicted, labels, groups, "few", pooled=pooled, resamples=4000)
        accuracies = metrics.class_accuracies(predicted, labels, 60)
        expected = stats.t.interval(0.95, 59, accuracies.mean(), stats.sem(accuracies))
        assert interval.method.startswith("bootstrap over classes, 4000")
        np.testing.assert_allclose((interval.low, interval.high), expected, atol=0.01)
    again = metrics.group_interval(predicted, labels, groups, "few", pooled=True, resamples=4000)
    other = metrics.group_interval(predicted, labels, groups, "few", pooled=True, resamples=4000, seed=1)
    assert again == interval and other.low != interval.low
    assert metrics.group_accuracy(predicted, labels, groups)["few"] == pytest.approx(interval.estimate)


def test_pooled_intervals_of_classes_of_different_size_equal_a_jackknife(rng: np.random.Generator) -> None:
    labels = np.repeat(np.arange(30), rng.integers(5, 60, size=30))
    predicted = np.where(rng.random(len(labels)) < rng.random(30)[labels], labels, -1)
    interval = metrics.group_interval(predicted, labels, np.full(30, "many"), "all")
    right = predicted == labels
    left_out = np.array([right[labels != k].mean() for k in range(30)])
    error = math.sqrt(29 / 30 * ((left_out - left_out.mean()) ** 2).sum())
    assert interval.estimate == pytest.approx(right.mean())
    assert (interval.high - interval.low) / 2 == pytest.approx(stats.t.ppf(0.975, 29) * error, rel=0.05)


def test_classes_that_do_not_differ_fall_back_on_images() -> None:
    labels = np.repeat(np.arange(6), 10)
    groups = np.full(6, "few")
    interval = metrics.group_interval(labels, labels, groups, "few")
    assert interval.unit == "images" and interval.n == 60 and interval.method.startswith("Wilson")
    expected = stats.binomtest(60, 60).proportion_ci(method="wilson")
    np.testing.assert_allclose((interval.low, interval.high), (expected.low, 1.0))
    worse = np.where(np.arange(60) % 10 == 0, -1, labels)  # one image of every class wrong
    difference = metrics.paired_difference(labels, worse, labels, groups)
    assert difference.unit == "images" and difference.n == 60 and difference.verdict == "first better"
    same = metrics.paired_difference(labels, labels, labels, groups)
    assert (same.estimate, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)
    assert same.verdict == "no difference shown" and math.isnan(same.smallest_detectable)


def test_a_single_class_or_seed_has_no_bounds() -> None:
    one = metrics.group_interval(np.array([0, 1]), np.array([0, 0]), np.array(["few", "many"]), "few")
    assert one.estimate == 0.5 and one.n == 1 and one.too_small and math.isnan(one.low) and math.isnan(one.high)
    seed = metrics.seed_interval([0.5])
    assert seed.estimate == 0.5 and seed.too_small and math.isnan(seed.low)


def test_seed_intervals_are_student_t() -> None:
    values = [0.50, 0.52, 0.51]
    interval = metrics.seed_interval(values)
    np.testing.assert_allclose((interval.low, interval.high), stats.t.interval(0.95, 2, 0.51, stats.sem(values)))
    assert interval.unit == "seeds" and interval.n == 3 and not interval.too_small
    with pytest.raises(ValueError, match="at least 1"):
        metrics.seed_interval([])


def test_a_paired_difference_is_scipys_paired_t_test_over_classes(rng: np.random.Generator) -> None:
    difficulties = rng.random(15) * 0.8
    first, labels = world(rng, difficulties + 0.15, 40)
    second, _ = world(rng, difficulties, 40)
    groups = np.repeat(GROUPS3, 5)
    difference = metrics.paired_difference(first, second, labels, groups)
    accuracies = [metrics.class_accuracies(arm, labels, 15) for arm in (first, second)]
    expected = stats.ttest_rel(*accuracies)
    interval = expected.confidence_interval(0.95)
    np.testing.assert_allclose((difference.low, difference.high), (interval.low, interval.high))
    assert difference.p == pytest.approx(expected.pvalue) and difference.verdict == "first better"
    swapped = metrics.paired_difference(second, first, labels, groups)
    assert swapped.estimate == -difference.estimate and swapped.verdict == "second better"


def test_paired_values_of_classes_leave_absent_ones_out(rng: np.random.Generator) -> None:
    first, second = rng.random(16), rng.random(16)
    difference = metrics.paired_values(np.append(first, np.nan), np.append(second, 0.5))
    interval = stats.ttest_rel(first, second).confidence_interval(0.95)
    np.testing.assert_allclose((difference.low, difference.high), (interval.low, interval.high))
    assert (difference.n, difference.unit) == (16, "classes")
    with pytest.raises(ValueError, match="one value per class"):
        metrics.paired_values(first[None], second[None])


def test_the_smallest_detectable_difference_has_a_power_of_80_percent(rng: np.random.Generator) -> None:
    for classes in (5, 12, 35):
        groups = np.full(classes, "few")
        difficulties = 0.2 + 0.5 * rng.random(classes)
        (first, labels), (second, _) = world(rng, difficulties, 30), world(rng, difficulties, 30)
        difference = metrics.paired_difference(first, second, labels, groups)
        sample = np.subtract(*(metrics.class_accuracies(arm, labels, classes) for arm in (first, second)))
        shift = difference.smallest_detectable / stats.sem(sample)
        critical = stats.t.ppf(0.975, classes - 1)
        power = stats.nct.sf(critical, classes - 1, shift) + stats.nct.cdf(-critical, classes - 1, shift)
        assert power == pytest.approx(0.8, abs=0.02)
        assert "could have shown a difference of" in str(difference)


def test_bootstrapped_differences_agree_with_the_t_test(rng: np.random.Generator) -> None:
    difficulties = 0.2 + 0.5 * rng.random(80)
    for shift in (0.0, 0.03, 0.1):
        first, labels = world(rng, difficulties + shift, 30)
        second, _ = world(rng, difficulties, 30)
        difference = metrics.paired_difference(first, second, labels, np.full(80, "few"), resamples=4000)
        expected = stats.ttest_rel(*(metrics.class_accuracies(arm, labels, 80) for arm in (first, second)))
        interval = expected.confidence_interval(0.95)
        np.testing.assert_allclose((difference.low, difference.high), (interval.low, interval.high), atol=0.005)
        assert difference.p == pytest.approx(expected.pvalue, abs=0.03)
        assert (difference.p < 0.05) == (difference.verdict != "no difference shown")


def test_several_seeds_are_averaged_per_class_first(rng: np.random.Generator) -> None:
    difficulties = rng.random(10)
    labels = world(rng, difficulties, 20)[1]
    first = np.stack([world(rng, difficulties, 20)[0] for _ in range(3)])
    second = np.stack([world(rng, difficulties, 20)[0] for _ in range(2)])
    groups = np.full(10, "medium")
    means = [np.mean([metrics.class_accuracies(seed, labels, 10) for seed in arm], axis=0) for arm in (first, second)]
    difference = metrics.paired_difference(first, second, labels, groups)
    assert difference.p == pytest.approx(stats.ttest_rel(*means).pvalue) and difference.n == 10
    assert "mean of these 3 trained models (first)" in difference.estimand
    assert metrics.group_interval(first, labels, groups, "medium").estimate == pytest.approx(means[0].mean())
    one = metrics.paired_difference(first[:1], second[0], labels, groups)
    assert one == metrics.paired_difference(first[0], second[0], labels, groups)


@pytest.mark.parametrize("classes", [8, 50])
def test_intervals_cover_the_truth_of_the_class_population(rng: np.random.Generator, classes: int) -> None:
    groups, covered, shown = np.full(classes, "few"), 0, 0
    repetitions = 400
    for _ in range(repetitions):
        difficulties = rng.beta(2, 2, size=classes)  # mean 0.5
        first, labels = world(rng, difficulties, 10)
        second, _ = world(rng, difficulties, 10)
        interval: Interval = metrics.group_interval(first, labels, groups, "few", resamples=500)
        covered += interval.low <= 0.5 <= interval.high
        difference = metrics.paired_difference(first, second, labels, groups, resamples=500)
        shown += difference.verdict != "no difference shown"
    assert covered / repetitions == pytest.approx(0.95, abs=0.03)
    assert shown / repetitions == pytest.approx(0.05, abs=0.03)


def test_errors_say_what_does_not_fit() -> None:
    predicted, labels = np.array([0, 1]), np.array([0, 1])
    with pytest.raises(ValueError, match="labels run from 0 to 1 but there are 1 classes"):
        metrics.group_accuracy(predicted, labels, np.array(["many"]))
    with pytest.raises(ValueError, match=r"predicted \(3,\) and labels \(2,\) do not fit"):
        metrics.group_accuracy(np.zeros(3, int), labels, GROUPS3)
    with pytest.raises(ValueError, match=r"names \['tail'\]; expected \(C,\) of many, medium, few"):
        metrics.group_accuracy(predicted, labels, np.array(["many", "tail"]))
    with pytest.raises(ValueError, match="group='tail' is not known; choose one of all, many"):
        metrics.group_interval(predicted, labels, GROUPS3, "tail")
    with pytest.raises(ValueError, match="many_from=20 must be above few_to=20"):
        metrics.shot_groups(np.ones(3), many_from=20, few_to=20)
    with pytest.raises(ValueError, match="one seed at a time"):
        metrics.class_intervals(predicted[None], labels, 2)


def test_class_means_are_those_of_scipy_and_do_not_underflow(rng: np.random.Generator) -> None:
    accuracies = rng.uniform(0.01, 1, 50)
    means = metrics.class_means(np.append(accuracies, np.nan))
    assert means.n == 50 and means.worst == accuracies.min() and means.zeros == 0
    assert means.arithmetic == pytest.approx(accuracies.mean())
    assert means.geometric == pytest.approx(stats.gmean(accuracies))
    assert means.harmonic == pytest.approx(stats.hmean(accuracies))
    inaturalist = metrics.class_means(np.full(8142, 0.7))  # as a product: 0.7 ** 8142 is 0 in float64
    assert (inaturalist.geometric, inaturalist.harmonic) == pytest.approx((0.7, 0.7))
    tiny = metrics.class_means(np.full(10, 1e-300))
    assert (tiny.geometric, tiny.harmonic) == pytest.approx((1e-300, 1e-300), rel=1e-9)


def test_a_class_with_nothing_right_makes_two_means_zero_and_is_counted() -> None:
    means = metrics.class_means(np.array([0.5, 0.0, 1.0, 0.0]))
    assert (means.geometric, means.harmonic, means.worst, means.zeros) == (0, 0, 0, 2)
    empty = metrics.class_means(np.array([np.nan]))
    assert empty.n == 0 and np.isnan([empty.geometric, empty.harmonic, empty.worst]).all()
    with pytest.raises(ValueError, match=r"class accuracies \(C,\) in \[0, 1\]"):
        metrics.class_means(np.array([50.0, 70.0]))


@pytest.mark.parametrize(("first_only", "second_only"), [(9, 2), (2, 9), (0, 6), (5, 5), (0, 0), (40, 61)])
def test_mcnemar_is_the_exact_binomial_test_less_half_its_point(first_only: int, second_only: int) -> None:
    """mid-p = p of the exact test - P(X = observed), for unequal counts (Fagerland, Lydersen and Laake, 2013)."""
    differing = first_only + second_only
    labels, first, second = np.zeros(differing + 30, int), np.zeros(differing + 30, int), np.zeros(differing + 30, int)
    second[:first_only] = 1
    first[first_only:differing] = 1
    first[-10:] = second[-10:] = 1  # both wrong
    found = metrics.mcnemar(first, second, labels, np.array(["many", "few"]))
    assert (found.first_only, found.second_only, found.n) == (first_only, second_only, differing + 30)
    assert found.estimate == pytest.approx((first_only - second_only) / found.n)
    exact = stats.binomtest(first_only, differing, 0.5).pvalue if differing else 1.0
    point = stats.binom.pmf(first_only, differing, 0.5) if first_only != second_only else 0.0
    assert found.p == pytest.approx(exact - point)


def test_mcnemar_is_about_the_images_of_a_group() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    first, second = np.array([0, 0, 0, 0, 0, 0]), np.array([1, 1, 0, 1, 0, 0])
    groups = np.array(["many", "few"])
    counts = {g: metrics.mcnemar(first, second, labels, groups, group=g) for g in ("all", "many", "medium", "few")}
    assert (counts["many"].first_only, counts["many"].second_only, counts["many"].n) == (2, 0, 3)
    assert (counts["few"].first_only, counts["few"].second_only, counts["few"].n) == (0, 1, 3)
    assert counts["medium"].n == 0 and np.isnan(counts["medium"].p)
    with pytest.raises(ValueError, match="give a seed each"):
        metrics.mcnemar(first[None], second, labels, groups)


def test_mcnemars_smallest_detectable_difference_has_a_power_of_80_percent(rng: np.random.Generator) -> None:
    n, share = 400, 0.25
    half = round(n * share / 2)
    labels, groups = np.zeros(n, int), np.array(["many", "few"])
    first, second = np.zeros(n, int), np.zeros(n, int)
    second[:half] = 1
    first[half : 2 * half] = 1
    smallest = metrics.mcnemar(first, second, labels, groups).smallest_detectable
    found = 0
    for _ in range(1000):
        which = rng.choice(3, n, p=[(share + smallest) / 2, (share - smallest) / 2, 1 - share])
        one, other = np.where(which == 1, 1, 0), np.where(which == 0, 1, 0)
        found += metrics.mcnemar(one, other, labels, groups).p < 0.05
    assert 0.75 < found / 1000 < 0.85
