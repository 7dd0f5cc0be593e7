"""Transfer: what one method keeps on shifted images of the classes it knows, paired class by class.

The images of the two sets are different ones, so the class is what they share: its accuracy on the reference set and
on the shifted set are a pair. The arithmetic is that of `workbench.metrics`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench import metrics

from .arms import Arm, arm_of
from .base import GROUP_ORDER


@dataclass(frozen=True, kw_only=True, eq=False)
class Transfer:
    """One arm on both sets, on the classes that have images in both. Shares in [0, 1]; keys: metrics.ACCURACIES."""

    reference: Arm
    shifted: Arm
    drop: dict[str, metrics.Difference]  # reference minus shifted: above 0 is a loss
    drop_over_seeds: dict[str, metrics.Interval]  # empty for one seed
    kept: dict[str, metrics.Interval]  # shifted over reference; nan where that says nothing, and why is its `method`
    parts: dict[str, np.ndarray]  # (C,) of each class in the drop, whose mean is the drop; nan for classes outside

    @property
    def class_drop(self) -> np.ndarray:
        """(C,) reference minus shifted class accuracy, nan without images in both sets."""
        return self.reference.class_accuracy - self.shifted.class_accuracy


def transfer(
    name: str,
    reference: tuple[np.ndarray, np.ndarray],
    shifted: tuple[np.ndarray, np.ndarray],
    groups: np.ndarray,
    *,
    level: float,
    seed: int,
) -> Transfer:
    """Of one arm.

    Args:
        reference, shifted: (S, N) int64 predictions of S seeds, which are the same models, and (N,) int64 labels.
        groups: (C,) "many" | "medium" | "few" of the reference set.
        level: of confidence.
        seed: of the bootstrap over classes.
    """
    images = [np.bincount(labels, minlength=len(groups)) for _, labels in (reference, shifted)]
    both = (images[0] > 0) & (images[1] > 0)  # (C,)
    options: dict[str, Any] = {"pooled": False, "level": level, "seed": seed}
    before, after = (
        arm_of(name, predicted[:, both[labels]], labels[both[labels]], groups, options)
        for predicted, labels in (reference, shifted)
    )
    drop, kept, parts = {}, {}, {}
    for row in metrics.ACCURACIES:
        inside = both & np.isin(groups, [row] if row in GROUP_ORDER else GROUP_ORDER)
        first, second = (
            _parts(arm.class_accuracy[inside], number[inside], pooled=row == "all")
            for arm, number in zip((before, after), images, strict=True)
        )
        found = metrics.paired_values(
            first,
            second,
            estimand="reference minus shifted accuracy over classes like these, for these trained models and both sets",
            level=level,
            seed=seed,
        )
        if found.n > 1 and _flat(found):
            sizes = [int(number[inside].sum()) for number in images]
            found = _over_images(found, before.over_classes[row].estimate, after.over_classes[row].estimate, sizes)
        drop[row] = found
        kept[row] = _kept(first, second, before.over_classes[row], level=level, seed=seed)
        parts[row] = np.full(len(groups), np.nan)
        parts[row][inside] = first - second
    seeds = {row: before.seed_values[row] - after.seed_values[row] for row in metrics.ACCURACIES}
    some = {row: values for row, values in seeds.items() if len(values) > 1 and np.isfinite(values).all()}
    return Transfer(
        reference=before,
        shifted=after,
        drop=drop,
        drop_over_seeds={row: metrics.seed_interval(values, level=level) for row, values in some.items()},
        kept=kept,
        parts=parts,
    )


def drops_compared(first: Transfer, second: Transfer, *, level: float, seed: int) -> dict[str, metrics.Difference]:
    """The first arm's drop minus the second's, paired by class: above 0, the first loses more.

    Where the drops of all classes differ by the same amount their spread says nothing, and the bounds are nan.
    """
    differences = {}
    for row in metrics.ACCURACIES:
        found = metrics.paired_values(
            first.parts[row],
            second.parts[row],
            estimand="difference of two drops over classes like these, for these trained models and both sets",
            level=level,
            seed=seed,
        )
        if found.n > 1 and _flat(found):
            found = replace(found, low=math.nan, high=math.nan, p=math.nan, method="none: classes do not differ")
        differences[row] = found
    return differences


def difference_bounds(
    first: np.ndarray, second: np.ndarray, images_first: np.ndarray, images_second: np.ndarray, *, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of first minus second share of two independent sets of images; arrays, nan without images.

    Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine 1998,
    17:873, method 10: the distances to the bounds of the two Wilson intervals, added in quadrature.
    """
    low_first, high_first = metrics.wilson_interval(first * images_first, images_first, level=level)
    low_second, high_second = metrics.wilson_interval(second * images_second, images_second, level=level)
    difference = np.asarray(first) - second
    below = np.hypot(first - low_first, high_second - second)
    above = np.hypot(high_first - first, second - low_second)
    return difference - below, difference + above


def _parts(accuracy: np.ndarray, images: np.ndarray, *, pooled: bool) -> np.ndarray:
    """(K,) of each class, whose mean is the mean class accuracy or (pooled) the share of right images."""
    if not pooled or len(accuracy) < 2 or np.ptp(images) == 0:  # equal sizes: the same but for rounding
        return accuracy
    return metrics.leave_one_out(accuracy * images, images.astype(np.float64))[0]


def _flat(found: metrics.Interval) -> bool:
    return found.high - found.low < metrics.NO_SPREAD


def _over_images(drop: metrics.Difference, before: float, after: float, sizes: list[int]) -> metrics.Difference:
    """Where every class loses the same, images are the unit, as in `metrics.group_interval`."""
    low, high = difference_bounds(*np.array([before, after, *sizes], np.float64), level=drop.level)
    return replace(
        drop,
        low=float(low),
        high=float(high),
        p=math.nan,
        n=sum(sizes),
        unit="images",
        method="Newcombe over images: classes do not differ",
    )


def _kept(
    before: np.ndarray, after: np.ndarray, reference: metrics.Interval, *, level: float, seed: int
) -> metrics.Interval:
    """Ratio of the means of (K,) and (K,), by jackknife over classes.

    A ratio to an accuracy that may be 0 has no bounds (Fieller's case), and classes that all keep the same share show
    no spread to take some from.
    """
    n, mean = len(before), float(before.mean()) if len(before) else math.nan
    estimate, low, high, method = math.nan, math.nan, math.nan, "none: nothing to keep"
    if mean > 0:
        estimate, method = float(after.mean()) / mean, "none: the reference accuracy may be 0"
    if mean > 0 and reference.low > 0 and n > 1:
        values, _ = metrics.leave_one_out(after, before)
        found = metrics.paired_values(values, np.zeros(n), level=level, seed=seed)
        method = "none: classes do not differ" if _flat(found) else f"jackknife of a ratio, {found.method}"
        if not _flat(found):
            low, high = max(found.low, 0.0), found.high
    return metrics.Interval(
        estimate=estimate,
        low=low,
        high=high,
        level=level,
        n=n,
        unit="classes",
        method=method,
        estimand="shifted over reference accuracy, for classes like these and these trained models",
        too_small=n < metrics.TRUSTED_FROM,
    )
