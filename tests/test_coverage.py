"""Do 95 % intervals cover the truth in 93 to 97 of 100 simulated data sets, and do tests err as rarely as they say?

Class accuracies are drawn from a Beta distribution and right images from a binomial one; the truth is the mean of the
Beta. Thousands of data sets are evaluated at once with the formulas written out below, and a few of them through the
package, which must give the same numbers: so what the simulation says holds for the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from workbench import metrics
from workbench.data import Classes
from workbench.diagnostics.accuracy import group_report
from workbench.diagnostics.intra_class import IntraClass, intra_class_distances
from workbench.features import Features

REPEATS = 4000
CHECKED = 5  # of them, through the package
RESAMPLES = 400
BETAS = {"even": (2.0, 2.0), "easy": (6.0, 2.0), "hard": (2.0, 5.0)}
SIZES: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "balanced": lambda rng, shape: np.full(shape, 10),
    "uneven": lambda rng, shape: rng.integers(5, 51, shape),
    "long-tailed": lambda rng, shape: np.exp(rng.uniform(math.log(5), math.log(500), shape)).astype(int),
}


def t_bounds(numerator: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Low, high and smallest detectable (R,) of the ratio of sums of numerator and size (R, n): leave one class out."""
    n, total = numerator.shape[1], size.sum(1, keepdims=True)
    ratio = numerator.sum(1) / total[:, 0]
    left_out = (numerator.sum(1, keepdims=True) - numerator) / (total - size)
    error = np.sqrt((n - 1) / n * ((left_out - left_out.mean(1, keepdims=True)) ** 2).sum(1))
    freedom = np.maximum(total[:, 0] ** 2 / (size**2).sum(1) - 1, 1)
    upper = stats.t.ppf(0.975, freedom)
    return ratio - upper * error, ratio + upper * error, (upper + stats.t.ppf(0.8, freedom)) * error


def bootstrap_bounds(numerator: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same by the expanded percentile bootstrap; every data set sees the same resamples, as with one seed."""
    n = numerator.shape[1]
    chosen = np.random.default_rng(0).integers(n, size=(RESAMPLES, n))
    times = np.stack([np.bincount(row, minlength=n) for row in chosen]).astype(float)  # (B, n)
    means = (times @ numerator.T) / (times @ size.T)  # (B, R)
    freedom = np.maximum(size.sum(1) ** 2 / (size**2).sum(1) - 1, 1)
    stretch = math.sqrt(n / (n - 1))
    tails = stats.norm.cdf(-stretch * stats.t.ppf(0.975, freedom))
    means.sort(axis=0)

    def quantile(share: np.ndarray) -> np.ndarray:
        place = share * (RESAMPLES - 1)
        below = np.minimum(place.astype(int), RESAMPLES - 2)
        low, high = (np.take_along_axis(means, row[None], 0)[0] for row in (below, below + 1))
        return low + (place - below) * (high - low)

    factor = stats.t.ppf(0.975, freedom) + stats.t.ppf(0.8, freedom)
    return quantile(tails), quantile(1 - tails), factor * stretch * means.std(0)


def bounds(numerator: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    formula = t_bounds if numerator.shape[1] < metrics.BOOTSTRAP_FROM else bootstrap_bounds
    return formula(numerator.astype(float), size.astype(float))


def images_of(right: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels (N,) of classes with so many right images of all: (n,), (n,)."""
    labels = np.repeat(np.arange(len(images)), images)
    place = np.arange(len(labels)) - np.repeat(np.cumsum(images) - images, images)
    return np.where(place < right[labels], labels, -1), labels


def covered(low: np.ndarray, high: np.ndarray, truth: float) -> float:
    return float(((low <= truth) & (truth <= high)).mean())


CASES = [(classes, sizes, beta) for classes in (8, 20) for sizes in SIZES for beta in BETAS]


@pytest.mark.parametrize(("classes", "sizes", "beta"), [*CASES, (50, "balanced", "easy"), (50, "long-tailed", "hard")])
def test_group_intervals_and_paired_differences_cover_the_truth(classes: int, sizes: str, beta: str) -> None:
    rng = np.random.default_rng([classes, len(sizes), len(beta)])
    a, b = BETAS[beta]
    repeats = REPEATS if classes < metrics.BOOTSTRAP_FROM else REPEATS // 2
    difficulty = rng.beta(a, b, (repeats, classes))
    images = SIZES[sizes](rng, difficulty.shape)
    first, second = rng.binomial(images, difficulty), rng.binomial(images, difficulty)
    ones, groups = np.ones_like(images), np.full(classes, "few")
    cases = {  # group -> numerators of one arm and of the difference, sizes
        "few": (first / images, (first - second) / images, ones),
        "all": (first, first - second, images),
    }
    for group, (one, difference, size) in cases.items():
        one_low, one_high, _ = bounds(one, size)
        low, high, detectable = bounds(difference, size)
        for r in range(CHECKED):
            predicted, labels = images_of(first[r], images[r])
            other, _ = images_of(second[r], images[r])
            interval = metrics.group_interval(predicted, labels, groups, group, resamples=RESAMPLES)
            expected = np.clip((one_low[r], one_high[r]), 0, 1)
            np.testing.assert_allclose((interval.low, interval.high), expected, atol=1e-9)
            paired = metrics.paired_difference(predicted, other, labels, groups, group=group, resamples=RESAMPLES)
            found = paired.low, paired.high, paired.smallest_detectable
            np.testing.assert_allclose(found, (low[r], high[r], detectable[r]), atol=1e-9)
        error = 2 * math.sqrt(0.07 * 0.93 / repeats)  # of the simulation itself, under 0.012
        one_arm, both = covered(one_low, one_high, a / (a + b)), covered(low, high, 0.0)
        assert 0.93 - error <= one_arm <= 0.97 + error, f"{group}: one arm"
        # differences of classes of very different sizes err on the safe side
        assert 0.93 - error <= both <= (0.985 if sizes == "long-tailed" else 0.97 + error), f"{group}: difference"


def test_wilson_intervals_cover_a_class_accuracy_on_average_over_class_accuracies() -> None:
    rng = np.random.default_rng(1)
    for images in (5, 20, 100):
        accuracy = rng.beta(2, 2, 20_000)
        low, high = metrics.wilson_interval(rng.binomial(images, accuracy), np.full(20_000, images))
        assert 0.93 <= ((low <= accuracy) & (accuracy <= high)).mean() <= 0.97


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_seed_intervals_cover_the_mean_of_training_again(seeds: int) -> None:
    results = np.random.default_rng(seeds).normal(0.5, 0.01, (REPEATS, seeds))
    intervals = [metrics.seed_interval(row) for row in results]
    low, high = (np.array([getattr(one, bound) for one in intervals]) for bound in ("low", "high"))
    assert 0.93 <= covered(low, high, 0.5) <= 0.97


@pytest.mark.parametrize("classes", [8, 20, 50])
def test_the_smallest_detectable_difference_is_found_in_80_of_100_data_sets(classes: int) -> None:
    rng = np.random.default_rng(classes)

    def arms(gain: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        difficulty = rng.beta(6, 6, (REPEATS, classes))
        better = np.clip(difficulty + gain, 0, 1)
        return bounds((rng.binomial(30, better) - rng.binomial(30, difficulty)) / 30, np.ones_like(difficulty))

    # the spread of one data set is a guess; a comparison is planned with the typical one
    typical = float(np.sqrt((arms(0.0)[2] ** 2).mean()))
    low, high, _ = arms(typical)
    assert ((low > 0) | (high < 0)).mean() == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("classes", [3, 5])
def test_the_report_says_below_5_classes_that_there_are_too_few(make_report_features: Callable, classes: int) -> None:
    features = make_report_features(classes)
    report = group_report(features)
    row = next(line for line in report.to_markdown().splitlines() if line.startswith("| few"))
    assert report.arms[0].over_classes["few"].too_small == ("\N{DAGGER}" in row) == (classes < 5)
    assert ("fewer than 5 classes: do not lean on this interval" in report.to_markdown()) == (classes < 5)


@pytest.fixture
def make_report_features() -> Callable[[int], Features]:
    """make_report_features(classes): 20 images of each of that many few-shot classes and of 8 of either other group."""

    def make(classes: int) -> Features:
        counts = np.array([500] * 8 + [50] * 8 + [5] * classes)
        rng = np.random.default_rng(0)
        predicted, labels = images_of(rng.integers(5, 15, len(counts)), np.full(len(counts), 20))
        return features_of(rng.normal(size=(len(labels), 4)), labels, counts, "test", predicted=predicted)

    return make


def features_of(
    vectors: np.ndarray, labels: np.ndarray, counts: np.ndarray, split: str, *, predicted: np.ndarray | None = None
) -> Features:
    return Features(
        vectors=vectors.astype(np.float32),
        logits=None,
        predicted=labels if predicted is None else np.where(predicted < 0, (labels + 1) % len(counts), predicted),
        confidence=np.ones(len(labels), np.float32),
        labels=labels,
        ids=np.array([f"{split}/{i}" for i in range(len(labels))]),
        classes=Classes(tuple(f"class {c}" for c in range(len(counts))), counts),
        source={"split": split},
    )


SHIFT_GROUP = 8  # classes of a simulated group
GROUP_TRAIN = {"many": np.full(SHIFT_GROUP, 30), "few": np.array([3, 4, 5, 6, 8, 10, 12, 19])}


def shift_result(groups: int, train: np.ndarray, noise: float, seed: int) -> IntraClass:
    """Distances of so many groups of SHIFT_GROUP classes at once: train images (8,), 20 test images with more noise."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(groups * SHIFT_GROUP, 16))
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    counts = np.full(len(means), 10)  # few-shot, all of them

    def part(images: np.ndarray, spread: float, split: str) -> Features:
        labels = np.repeat(np.arange(len(means)), images)
        vectors = means[labels] + rng.normal(size=(len(labels), 16)) * math.sqrt(spread / 16)
        return features_of(vectors, labels, counts, split)

    return intra_class_distances(
        part(np.tile(train, groups), 1.0, "train"), part(np.full(len(means), 20), noise, "test"), repeats=5
    )


def shift_bounds(result: IntraClass, alpha: float) -> np.ndarray:
    """(2, groups) level-(1 - alpha) interval of each group of 8 classes: leave one class out, weighted by images."""
    means = result.class_means["matched", "test"] - result.class_means["matched", "train"]
    difference = means.reshape(-1, SHIFT_GROUP)
    weight = result.matched_images.reshape(-1, SHIFT_GROUP).astype(float)
    weighted, total = difference * weight, weight.sum(1, keepdims=True)
    left_out = (weighted.sum(1, keepdims=True) - weighted) / (total - weight)
    error = np.sqrt((SHIFT_GROUP - 1) / SHIFT_GROUP * ((left_out - left_out.mean(1, keepdims=True)) ** 2).sum(1))
    estimate, freedom = weighted.sum(1) / total[:, 0], total[:, 0] ** 2 / (weight**2).sum(1) - 1
    half = stats.t.ppf(1 - alpha / 2, freedom) * error
    return np.stack([estimate - half, estimate + half])


@pytest.mark.parametrize("group", GROUP_TRAIN)
def test_the_intervals_of_the_simulation_are_those_of_intra_class_distances(group: str) -> None:
    for seed, noise in enumerate((1.0, 1.5, 2.5)):
        result = shift_result(1, GROUP_TRAIN[group], noise, seed)
        interval, expected = result.shifts["matched", "few"].difference, shift_bounds(result, 0.05)[:, 0]
        np.testing.assert_allclose((interval.low, interval.high), expected, atol=1e-9)
        assert interval.n == SHIFT_GROUP and not interval.too_small


@pytest.mark.parametrize("group", GROUP_TRAIN)
def test_a_shift_is_shown_in_no_more_than_alpha_of_the_groups_without_one(group: str) -> None:
    groups = 1200
    result = shift_result(groups, GROUP_TRAIN[group], 1.0, 11)
    for alpha in (0.05, 0.01):
        low, high = shift_bounds(result, alpha)
        error = 2 * math.sqrt(alpha * (1 - alpha) / groups)  # of the simulation itself: 0.013 and 0.006
        assert ((low > 0) | (high < 0)).mean() <= alpha + error


# With 1.3 and 2 times the noise of training, test images lie 0.04 to 0.05 and 0.11 to 0.13 further from their mean.
@pytest.mark.parametrize(
    ("group", "noise", "least", "most"),
    [("many", 1.3, 0.8, 0.98), ("many", 2.0, 0.98, 1.0), ("few", 1.3, 0.35, 0.65), ("few", 2.0, 0.93, 1.0)],
)
def test_the_power_against_a_small_and_a_large_shift(group: str, noise: float, least: float, most: float) -> None:
    result = shift_result(200, GROUP_TRAIN[group], noise, 12)
    assert least <= (shift_bounds(result, 0.05)[0] > 0).mean() <= most


def test_no_single_class_is_given_an_interval_of_its_shift() -> None:
    frame = shift_result(1, GROUP_TRAIN["few"], 1.5, 0).to_frame()
    assert frame.loc[frame["kind"] == "class", ["low", "high"]].isna().all(axis=None)
    assert frame.loc[(frame["kind"] == "class"), "difference"].notna().all()
