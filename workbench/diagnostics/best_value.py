"""Which value of an option is best, and from which of the others can it be told apart? Does accuracy follow the option?

The highest of V accuracies on the same images was picked because it came out highest, and any of them could have. So
each p value is corrected as one of all V (V - 1) / 2 pairs (Holm, Scandinavian Journal of Statistics 1979), although
only the V - 1 pairs with the highest are looked at: corrected for V - 1 comparisons, ten equal values give a false
"lower" in 13 instead of 5 of 100 sweeps, twenty values in 21. Pairs that are not looked at count as the least
significant, which can only make a corrected p value larger than that of all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from workbench import metrics

TREND_FROM = 5  # values; of four, even a curve that rises at each step is too common by chance


@dataclass(frozen=True, kw_only=True)
class Behind:
    """How far one value lies behind the highest."""

    difference: metrics.Difference  # the highest minus this one; its interval is simultaneous for all pairs
    p: float  # two-sided, corrected for all pairs; nan where it cannot be tested
    verdict: str  # "lower", "not distinguishable" or "not testable": fewer than 5 classes


@dataclass(frozen=True, kw_only=True)
class Best:
    """The value with the highest accuracy, and all others against it."""

    index: int  # of the highest; the first of those that tie
    others: dict[int, Behind]  # index of each other value
    pairs: int  # that the p values are corrected for


@dataclass(frozen=True, kw_only=True)
class Trend:
    """Whether accuracy follows a numeric option."""

    correlation: float  # Spearman's, of value and accuracy; nan where all accuracies are the same
    p: float  # two-sided, by permutation: exact up to 7 values
    steps: str  # "never falls", "never rises", "rises and falls", "the same everywhere"


def holm(p: np.ndarray | Sequence[float], comparisons: int | None = None) -> np.ndarray:
    """Corrected p values (n,), in the order given. nan counts as 1 and stays nan.

    comparisons: all that could have been made, n or more; those that are not in `p` count as larger than any that is.
    """
    values = np.asarray(p, dtype=np.float64)
    total = len(values) if comparisons is None else comparisons
    if total < len(values):
        raise ValueError(f"comparisons={total}, but {len(values)} p values were given; give that many or more.")
    order = np.argsort(np.where(np.isnan(values), 1.0, values), kind="stable")
    steps = np.nan_to_num(values[order], nan=1.0) * (total - np.arange(len(values)))
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return np.where(np.isnan(values), np.nan, corrected)


def best_value(
    predicted: Sequence[np.ndarray],
    labels: np.ndarray,
    groups: np.ndarray,
    group: str,
    *,
    pooled: bool,
    level: float,
    seed: int,
) -> Best | None:
    """The highest of V values by one entry of `metrics.group_accuracy`; None where there are no test images.

    Args:
        predicted: of each value (S, N), S training seeds on the same N test images.
        labels: (N,).
        groups: (C,).
    """
    found = [[metrics.group_accuracy(one, labels, groups, pooled=pooled)[group] for one in p] for p in predicted]
    accuracy = np.array([np.mean(seeds) for seeds in found])
    if not np.isfinite(accuracy).all():
        return None
    index, pairs = int(np.argmax(accuracy)), math.comb(len(predicted), 2)
    if not pairs:
        return Best(index=index, others={}, pairs=0)
    chance = (1 - level) / pairs
    options: dict[str, Any] = {"group": group, "pooled": pooled, "level": 1 - chance, "seed": seed}
    options["resamples"] = max(2000, math.ceil(20 / chance))  # a p value below `chance` must be possible
    differences = {
        i: metrics.paired_difference(predicted[index], other, labels, groups, **options)
        for i, other in enumerate(predicted)
        if i != index
    }
    tested = [math.nan if one.too_small else one.p for one in differences.values()]
    others = {
        i: Behind(difference=differences[i], p=float(p), verdict=_verdict(float(p), level))
        for i, p in zip(differences, holm(tested, pairs), strict=True)
    }
    return Best(index=index, others=others, pairs=pairs)


def _verdict(p: float, level: float) -> str:
    if math.isnan(p):
        return "not testable"
    return "lower" if p < 1 - level else "not distinguishable"


def trend_of(accuracy: np.ndarray, *, seed: int) -> Trend | None:
    """Of the accuracies (V,) of values in rising order; None for fewer than five, or where one is nan."""
    if len(accuracy) < TREND_FROM or not np.isfinite(accuracy).all():
        return None
    accuracy = accuracy.round(12)  # means of the same images in another order differ in the last digits
    change = np.diff(accuracy)
    steps = "never falls" if (change >= 0).all() else "never rises" if (change <= 0).all() else "rises and falls"
    if not change.any():
        return Trend(correlation=math.nan, p=math.nan, steps="the same everywhere")
    ranks = stats.rankdata(accuracy)
    place = np.arange(len(accuracy), dtype=np.float64)

    def agreement(order: np.ndarray, axis: int = -1) -> np.ndarray:  # rises with the correlation
        return (order * place).sum(axis=axis)

    test = stats.permutation_test(
        (ranks,), agreement, permutation_type="pairings", vectorized=True, rng=np.random.default_rng(seed)
    )
    return Trend(correlation=float(np.corrcoef(ranks, place)[0, 1]), p=float(test.pvalue), steps=steps)
