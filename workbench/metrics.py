"""Shot groups, group accuracies, and how far they can be trusted: intervals and paired differences. All in [0, 1].

Shapes throughout: predicted (N,) int64, or (S, N) for S training seeds on the same test images; labels (N,) int64;
groups (C,) of "many" | "medium" | "few", from `shot_groups` (or index ranges of a manifest) and nowhere else.

Where an interval comes from. The images of one class share what makes the class easy or hard, so they are not
independent evidence about a group: the class is the unit that is resampled, with all its test images. An interval of a
group therefore speaks of "classes like these"; for exactly these classes it is wide, never too narrow. It holds for
the trained models at hand; only `seed_interval` speaks of training again. Every interval names what it estimates.

- below 40 classes: Student t over the class accuracies; for shares of images, a ratio of sums, over its jackknife
  values, with the degrees of freedom of (sum of sizes)^2 / (sum of squared sizes) classes: large classes weigh more;
- from 40 classes: bootstrap over classes, percentiles widened by the t / normal factor that a small sample needs
  (Hesterberg, The American Statistician 2015, "expanded percentile");
- fewer than 5 classes: computed, and flagged `too_small`; one class or seed: no bounds (nan);
- classes that do not differ at all: the spread over classes says nothing and images become the unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

GROUPS = ("many", "medium", "few")
ACCURACIES = ("all", *GROUPS, "mean_class")  # the keys of `group_accuracy`
BOOTSTRAP_FROM = 40  # classes; below, Student t
TRUSTED_FROM = 5  # classes; below, an interval is flagged too_small
POWER = 0.8  # of the smallest difference that a comparison could have shown
NO_SPREAD = 1e-12  # standard error below which classes do not differ, but for rounding


def shot_groups(counts: np.ndarray | Sequence[int], *, many_from: int = 101, few_to: int = 19) -> np.ndarray:
    """Group of each class by its training images: counts (C,) int -> (C,) of "many" | "medium" | "few".

    Bounds are inclusive. The defaults are those of Kang et al. (ICLR 2020), LIFT and BALLAD; OLTR used 100 and 20,
    LPT 101 and 20.
    """
    number = np.asarray(counts)
    if number.ndim != 1:
        raise ValueError(f"counts has shape {number.shape}, expected (C,): training images per class.")
    if many_from <= few_to:
        raise ValueError(f"many_from={many_from} must be above few_to={few_to}: a class is in one group only.")
    return np.select([number >= many_from, number <= few_to], ["many", "few"], default="medium")


def class_accuracies(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Share of each class's test images that are right, (C,) float64, nan without test images; mean over seeds."""
    correct, images = _class_counts(predicted, labels, num_classes)
    with np.errstate(invalid="ignore"):
        return correct / images


def group_accuracy(
    predicted: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, pooled: bool = False
) -> dict[str, float]:
    """Accuracies by name: all, many, medium, few, mean_class; nan where there is nothing to average.

    all is the share of test images that are right; many, medium and few are means of class accuracies (pooled=True:
    shares of images, as LPT reports), mean_class that of every class. Classes without test images do not count.
    """
    groups = _checked_groups(groups)
    correct, images = _class_counts(predicted, labels, len(groups))
    result = {}
    for name in ACCURACIES:
        numerator, size = _group_sums(correct, images, groups, name, pooled)
        result[name] = float(numerator.sum() / size.sum()) if len(size) else math.nan
    return result


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its interval; bounds are nan where the sample allows none."""

    estimate: float
    low: float
    high: float
    level: float  # of confidence, 0.95
    n: int  # how many independent units: `unit`
    unit: str  # "classes", "images" (where classes do not differ) or "seeds"
    method: str  # how the bounds were computed
    estimand: str  # what the interval is about
    too_small: bool  # fewer than 5 classes, or 1 seed: do not lean on it

    def __str__(self) -> str:
        remark = ", too few to trust" if self.too_small else ""
        return f"{self.estimate:.4f} [{self.low:.4f}, {self.high:.4f}] (n = {self.n} {self.unit}{remark})"


@dataclass(frozen=True, kw_only=True)
class Difference(Interval):
    """First minus second arm on the same test images, paired class by class."""

    p: float  # two-sided; belongs to the interval: below 1 - level where that excludes 0 (up to bootstrap resolution)
    smallest_detectable: float  # true difference that such a test shows with a power of 80 %; nan when unknown

    @property
    def verdict(self) -> str:
        """One of "first better", "second better", "no difference shown", "not testable"."""
        if math.isnan(self.low):
            return "not testable"
        if self.low <= 0.0 <= self.high:
            return "no difference shown"
        return "first better" if self.estimate > 0 else "second better"

    def __str__(self) -> str:
        return (
            f"{super().__str__()}, p = {self.p:.3g}, {self.verdict}; "
            f"could have shown a difference of {self.smallest_detectable:.4f}"
        )


def wilson_interval(
    correct: np.ndarray | float, images: np.ndarray | float, *, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of a share of independent images (Wilson 1927): two arrays of the arguments' shape, nan for 0 images.

    For one class. Images of different classes are not independent evidence about a group: see `group_interval`.
    """
    right, number = np.asarray(correct, dtype=np.float64), np.asarray(images, dtype=np.float64)
    z = special.ndtri(0.5 + level / 2)
    with np.errstate(invalid="ignore"):
        share = np.where(number > 0, right / number, np.nan)
        centre = (right + z**2 / 2) / (number + z**2)
        half = z / (number + z**2) * np.sqrt(right * (1 - share) + z**2 / 4)
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def class_intervals(
    predicted: np.ndarray, labels: np.ndarray, num_classes: int, *, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Wilson interval of each class accuracy of one model: low (C,), high (C,), nan without test images."""
    if np.ndim(predicted) != 1:
        raise ValueError(f"predicted has shape {np.shape(predicted)}; class intervals take one seed at a time, (N,).")
    return wilson_interval(*_class_counts(predicted, labels, num_classes), level=level)


def group_interval(
    predicted: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    group: str,
    *,
    pooled: bool = False,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 2000,
) -> Interval:
    """Interval of one entry of `group_accuracy`, whose value is `.estimate`. Method: see the head of this file.

    Where every class of the group has the same accuracy (all right, say), a Wilson interval over its images instead.
    An empty group is nan with n = 0.

    Args:
        group: a key of `group_accuracy`.
        seed: of the bootstrap; the same arguments give the same interval.
    """
    groups = _checked_groups(groups)
    correct, images = _class_counts(predicted, labels, len(groups))
    numerator, size = _group_sums(correct, images, groups, group, pooled)
    sample = _class_sample(numerator, size, level, seed, resamples)
    unit, n = "classes", len(size)
    if n > 1 and sample.error < NO_SPREAD:
        members = _members(images, groups, group)
        unit, n = "images", int(images[members].sum())
        low, high = wilson_interval(correct[members].sum(), n, level=level)
        sample = replace(sample, low=float(low), high=float(high), method="Wilson over images: classes do not differ")
    return Interval(
        estimate=sample.estimate,
        low=float(np.maximum(sample.low, 0.0)),  # np keeps nan
        high=float(np.minimum(sample.high, 1.0)),
        level=level,
        n=n,
        unit=unit,
        method=sample.method,
        estimand=f"{_quantity(group, pooled)} over classes like these, for {_arms(predicted)}",
        too_small=len(size) < TRUSTED_FROM,
    )


def seed_interval(values: np.ndarray | Sequence[float], *, level: float = 0.95) -> Interval:
    """Interval of the mean over training seeds: values (S,), one result per seed. Student t; 1 seed gives no bounds.

    Not clipped to [0, 1], so that differences between arms trained with the same seeds can be given too.
    """
    results = np.asarray(values, dtype=np.float64)
    if results.ndim != 1 or not len(results) or not np.isfinite(results).all():
        raise ValueError(f"values must be (S,) finite results, one per seed, S at least 1; got {results}.")
    sample = _student(results, level)
    return Interval(
        estimate=sample.estimate,
        low=sample.low,
        high=sample.high,
        level=level,
        n=len(results),
        unit="seeds",
        method=sample.method,
        estimand="mean result of training again with another seed, on these classes and test images",
        too_small=len(results) < 2,
    )


def paired_difference(
    first: np.ndarray,
    second: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    group: str = "mean_class",
    pooled: bool = False,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 2000,
) -> Difference:
    """Is the first arm better than the second? Both predict the same test images; classes are compared in pairs.

    Each arm's class accuracies are averaged over its seeds first, then the C differences are the sample, by Student t
    or bootstrap as for `group_interval`. Where all classes differ by the same amount, Student t over the paired images.

    p belongs to the same t or bootstrap distribution as the interval. The smallest detectable difference is
    (t(1 - a/2) + t(0.8)) x standard error, a = 1 - level, quantiles of Student t at the interval's degrees of freedom,
    from the spread of the observed differences and not from their mean: with a true difference of that size about 80
    in 100 such comparisons give an interval without 0. "No difference shown" leaves smaller ones open.

    Args:
        first, second: (N,) or (S, N) predictions; the arms may have different numbers of seeds.
        group: which entry of `group_accuracy` to compare.
    """
    groups = _checked_groups(groups)
    right_first, images = _class_counts(first, labels, len(groups))
    right_second, _ = _class_counts(second, labels, len(groups))
    numerator, size = _group_sums(right_first - right_second, images, groups, group, pooled)
    sample = _class_sample(numerator, size, level, seed, resamples)
    unit, n = "classes", len(size)
    if n > 1 and sample.error < NO_SPREAD:
        members = _members(images, groups, group)[np.asarray(labels)]  # (N,)
        per_image = (_right(first, labels) - _right(second, labels))[members]
        unit, n = "images", len(per_image)
        sample = replace(_student(per_image, level), method="Student t over images: classes do not differ")
    estimand = (
        f"difference in {_quantity(group, pooled)} over classes like these, between {_arms(first)} (first) and "
        f"{_arms(second)} (second)"
    )
    return sample.difference(n, unit, estimand, level=level, too_small=len(size) < TRUSTED_FROM)


def paired_values(
    first: np.ndarray,
    second: np.ndarray,
    *,
    sizes: np.ndarray | None = None,
    unit: str = "classes",
    estimand: str = "difference over classes like these",
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 2000,
) -> Difference:
    """As `paired_difference`, for a quantity that each class has, such as its gamma, or each image: (n,) and (n,).

    A pair with nan is left out. sizes (n,) are their weights, such as images of each class; None: all alike. `unit`
    names what the n are, and `estimand` what is estimated.
    """
    values = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"expected one value per class, (C,), in both arms; their difference is {values.shape}.")
    known = np.isfinite(values)
    values, size = values[known], np.ones(known.sum()) if sizes is None else np.asarray(sizes, np.float64)[known]
    sample = _class_sample(values * size, size, level, seed, resamples, unit=unit)
    return sample.difference(len(values), unit, estimand, level=level, too_small=len(values) < TRUSTED_FROM)


def leave_one_out(numerator: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, float]:
    """Jackknife values (n,) of the ratio of two sums, whose mean it is, and the degrees of freedom of their t.

    numerator (n,), size (n,): of the n >= 2 classes; where size is 1, the values are the numerator, and the degrees
    n - 1. The plain linearisation lets a large class pull the ratio to itself, and its intervals cover 83 instead of 95
    in 100 for 8 classes of 5 to 500 test images.
    """
    n, share = len(size), size / size.sum()
    ratio = float(numerator.sum() / size.sum())
    values = (numerator - ratio * size) / size.mean() * (1 - 1 / n) / (1 - share)
    return values + (ratio - values.mean()), max(1 / float((share**2).sum()) - 1, 1.0)


@dataclass(frozen=True)
class _Sample:
    """What a sample of independent units says about the mean they estimate; nan where it says nothing."""

    estimate: float
    low: float
    high: float
    error: float  # standard error
    p: float  # two-sided, of a mean of 0
    detectable: float  # smallest true mean found with a power of POWER
    method: str

    def difference(self, n: int, unit: str, estimand: str, *, level: float, too_small: bool) -> Difference:
        return Difference(
            estimate=self.estimate,
            low=self.low,
            high=self.high,
            level=level,
            n=n,
            unit=unit,
            method=self.method,
            estimand=estimand,
            too_small=too_small,
            p=self.p,
            smallest_detectable=self.detectable,
        )


def _student(values: np.ndarray, level: float, freedom: float | None = None) -> _Sample:
    """Student t for the mean of values (n,), with n - 1 degrees of freedom unless told otherwise."""
    n, estimate = len(values), float(values.mean())
    freedom = n - 1 if freedom is None else freedom
    if n < 2:
        return _Sample(estimate, math.nan, math.nan, math.nan, math.nan, math.nan, "none: a single value")
    error = float(values.std(ddof=1) / math.sqrt(n))
    half = float(special.stdtrit(freedom, 0.5 + level / 2)) * error
    if error < NO_SPREAD:
        p, detectable = float(abs(estimate) < NO_SPREAD), math.nan
    else:
        p, detectable = 2 * float(special.stdtr(freedom, -abs(estimate) / error)), _detectable(error, freedom, level)
    return _Sample(estimate, estimate - half, estimate + half, error, p, detectable, "Student t")


def _class_sample(
    numerator: np.ndarray, size: np.ndarray, level: float, seed: int, resamples: int, *, unit: str = "classes"
) -> _Sample:
    """Sum of numerator (K,) over sum of size (K,), with the K classes (or other units) as the sample."""
    n = len(size)
    if n == 0:
        return _Sample(math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, "none: no class")
    estimate = float(numerator.sum() / size.sum())
    if n == 1:
        return _student(np.array([estimate]), level)
    jackknife, freedom = leave_one_out(numerator, size)
    if n < BOOTSTRAP_FROM or jackknife.std() < NO_SPREAD:
        return replace(_student(jackknife, level, freedom), estimate=estimate)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, 1_000_000 // n)  # bounds the memory for thousands of classes
    for start in range(0, resamples, step):
        chosen = generator.integers(n, size=(min(step, resamples - start), n))
        means[start : start + step] = numerator[chosen].sum(1) / size[chosen].sum(1)
    stretch = math.sqrt(n / (n - 1))  # the bootstrap's spread has divisor n
    tail = float(special.ndtr(-stretch * special.stdtrit(freedom, 0.5 + level / 2)))
    low, high = np.quantile(means, [tail, 1 - tail])
    error = float(means.std()) * stretch
    beyond = (1 + min((means <= 0).sum(), (means >= 0).sum())) / (1 + resamples)
    p = min(1.0, 2 * float(special.stdtr(freedom, special.ndtri(beyond) / stretch)))
    method = f"bootstrap over {unit}, {resamples} resamples, seed {seed}"
    return _Sample(estimate, float(low), float(high), error, p, _detectable(error, freedom, level), method)


def _detectable(error: float, freedom: float, level: float) -> float:
    return error * float(special.stdtrit(freedom, 0.5 + level / 2) + special.stdtrit(freedom, POWER))


def _right(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of the seeds that are right about each image: (N,) or (S, N) -> (N,) float64."""
    return (np.atleast_2d(predicted) == np.asarray(labels)).mean(axis=0)


def _class_counts(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Right images (mean over seeds) and images of each class: (C,), (C,) float64."""
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    arms_fit = predicted.ndim in (1, 2) and 0 not in predicted.shape[:-1]
    if labels.ndim != 1 or not arms_fit or predicted.shape[-1] != len(labels):
        raise ValueError(
            f"predicted {predicted.shape} and labels {labels.shape} do not fit; expected (N,), or (S, N) for S seeds, "
            "and (N,)."
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()} but there are {num_classes} classes; "
            "labels and groups must come from the same manifest."
        )
    images = np.bincount(labels, minlength=num_classes)
    correct = np.bincount(labels, weights=_right(predicted, labels), minlength=num_classes)
    return correct.astype(np.float64), images.astype(np.float64)


def _checked_groups(groups: np.ndarray) -> np.ndarray:
    groups = np.asarray(groups)
    unknown = sorted(set(groups.tolist()) - set(GROUPS))
    if groups.ndim != 1 or unknown:
        raise ValueError(f"groups of shape {groups.shape} names {unknown}; expected (C,) of {', '.join(GROUPS)}.")
    return groups


def _members(images: np.ndarray, groups: np.ndarray, group: str) -> np.ndarray:
    """Which classes (C,) bool an entry of `group_accuracy` is about: those of the group that have test images."""
    if group not in ACCURACIES:
        raise ValueError(f"group={group!r} is not known; choose one of {', '.join(ACCURACIES)}.")
    return (images > 0) & ((groups == group) | (group not in GROUPS))


def _group_sums(
    correct: np.ndarray, images: np.ndarray, groups: np.ndarray, group: str, pooled: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The K classes of a group as (numerator, size): the ratio of sums is its accuracy; size 1 for means of classes."""
    members = _members(images, groups, group)
    correct, images = correct[members], images[members]
    if group == "all" or (pooled and group in GROUPS):
        return correct, images
    return correct / images, np.ones(len(images))


def _quantity(group: str, pooled: bool) -> str:
    if group == "all":
        return "share of test images that are right"
    if group == "mean_class":
        return "mean class accuracy"
    return f"{'share of right test images' if pooled else 'mean class accuracy'} of the {group}-shot classes"


def _arms(predicted: np.ndarray) -> str:
    seeds = 1 if np.ndim(predicted) == 1 else len(predicted)
    return "this trained model" if seeds == 1 else f"the mean of these {seeds} trained models"
