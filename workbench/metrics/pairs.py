"""Is one model better than another? Differences on the same test images, and the smallest that could have shown."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from .groups import arms, checked_groups, class_counts, group_sums, members, quantity, right
from .intervals import NO_SPREAD, POWER, TRUSTED_FROM, Interval, Sample, class_sample, student


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
    groups = checked_groups(groups)
    right_first, images = class_counts(first, labels, len(groups))
    right_second, _ = class_counts(second, labels, len(groups))
    numerator, size = group_sums(right_first - right_second, images, groups, group, pooled)
    sample = class_sample(numerator, size, level, seed, resamples)
    unit, n = "classes", len(size)
    if n > 1 and sample.error < NO_SPREAD:
        inside = members(images, groups, group)[np.asarray(labels)]  # (N,)
        per_image = (right(first, labels) - right(second, labels))[inside]
        unit, n = "images", len(per_image)
        sample = replace(student(per_image, level), method="Student t over images: classes do not differ")
    estimand = (
        f"difference in {quantity(group, pooled)} over classes like these, between {arms(first)} (first) and "
        f"{arms(second)} (second)"
    )
    return _difference(sample, n, unit, estimand, level=level, too_small=len(size) < TRUSTED_FROM)


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
    sample = class_sample(values * size, size, level, seed, resamples, unit=unit)
    return _difference(sample, len(values), unit, estimand, level=level, too_small=len(values) < TRUSTED_FROM)


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Test images on which exactly one of two models is right. Shares in [0, 1]."""

    first_only: int  # images only the first model has right
    second_only: int
    n: int  # test images
    p: float  # two-sided mid-p of the exact test; nan without images
    smallest_detectable: float  # true difference that such a test shows with a power of 80 %; nan when unknown

    @property
    def estimate(self) -> float:
        """First minus second model, as a share of the images."""
        return (self.first_only - self.second_only) / self.n if self.n else math.nan

    def __str__(self) -> str:
        return (
            f"only the first right {self.first_only}, only the second {self.second_only} of {self.n}, p = {self.p:.3g}"
        )


def mcnemar(
    first: np.ndarray,
    second: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    group: str = "all",
    level: float = 0.95,
) -> McNemar:
    """Do two trained models differ on these images? first, second: (N,) predictions, one model each.

    McNemar (Psychometrika 1947), exact, with the mid-p value that Fagerland, Lydersen and Laake recommend (BMC Medical
    Research Methodology 2013, 13:91). It takes images for independent and speaks of these two models and these
    classes; images of a class are alike, so for "classes like these" see `paired_difference`, whose p is mostly larger.

    The smallest detectable difference solves d sqrt(n) = z(1 - a/2) sqrt(q) + z(0.8) sqrt(q - d^2), a = 1 - level, for
    the share q of images on which the models disagree (Miettinen, Biometrics 1968).
    """
    groups = checked_groups(groups)
    predictions = [np.asarray(first), np.asarray(second)]
    if any(predicted.ndim != 1 for predicted in predictions):
        shapes = " and ".join(str(predicted.shape) for predicted in predictions)
        raise ValueError(f"McNemar's test compares one trained model with one, (N,); got {shapes}: give a seed each.")
    _, images = class_counts(first, labels, len(groups))
    class_counts(second, labels, len(groups))  # checks it
    inside = members(images, groups, group)[np.asarray(labels)]
    hits = [(predicted == labels)[inside] for predicted in predictions]
    only = int((hits[0] & ~hits[1]).sum()), int((~hits[0] & hits[1]).sum())
    n, differing = int(inside.sum()), sum(only)
    if not n:
        return McNemar(first_only=0, second_only=0, n=0, p=math.nan, smallest_detectable=math.nan)
    p, fewer = 1.0, min(only)
    if differing and only[0] != only[1]:
        p = float(special.bdtr(fewer, differing, 0.5)) + (
            float(special.bdtr(fewer - 1, differing, 0.5)) if fewer else 0.0
        )
    share, high, power = differing / n, special.ndtri(0.5 + level / 2), special.ndtri(POWER)
    # the larger root of the square of that equation; above q itself no difference is possible
    root = share * (high**2 * n - (n + power**2) * (high**2 - power**2))
    detectable = (
        (high * math.sqrt(n * share) + math.sqrt(root)) / (n + power**2) if differing and root >= 0 else math.nan
    )
    return McNemar(
        first_only=only[0],
        second_only=only[1],
        n=n,
        p=p,
        smallest_detectable=detectable if detectable <= share else math.nan,
    )


def _difference(sample: Sample, n: int, unit: str, estimand: str, *, level: float, too_small: bool) -> Difference:
    return Difference(
        estimate=sample.estimate,
        low=sample.low,
        high=sample.high,
        level=level,
        n=n,
        unit=unit,
        method=sample.method,
        estimand=estimand,
        too_small=too_small,
        p=sample.p,
        smallest_detectable=sample.detectable,
    )
