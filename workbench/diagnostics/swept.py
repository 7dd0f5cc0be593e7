"""What was measured at each value of an option: one curve of a sweep, its highest value and its trend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from workbench import metrics
from workbench.features import Features

from .arms import Arm, aligned, arm_of
from .base import percent
from .best_value import Best, Trend, best_value, trend_of
from .option_axis import Value, label

Measured = Features | Sequence[Features]


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """The V values of the option, in rising order where they are numbers, and what was measured at each."""

    name: str  # empty where there is one curve
    values: tuple[Value, ...]
    arms: tuple[Arm, ...]  # of each value
    best: dict[str, Best]  # key of metrics.group_accuracy; rows without test images are left out
    trends: dict[str, Trend]  # likewise; empty for fewer than five values and for values that are no numbers

    def is_flat(self, row: str) -> bool:
        """Whether the accuracy is the same at all values."""
        return bool(np.ptp(self.accuracy(row)) < 1e-12)

    def accuracy(self, row: str) -> np.ndarray:
        """(V,) in [0, 1], means over seeds; nan without test images."""
        return np.array([arm.over_classes[row].estimate for arm in self.arms])


def listed(values: Mapping[Any, Any]) -> dict[str, dict[Value, list[Features]]]:
    """Curve -> value -> features of each seed, "" where there is one curve; numbers as Python's and in rising order."""
    nested = [isinstance(one, Mapping) for one in values.values()]
    if any(nested) and not all(nested):
        raise ValueError(
            f"{nested.count(True)} of {len(nested)} entries are mappings; give value -> features, or for several "
            "curves name -> (value -> features) everywhere."
        )
    curves = {str(name): dict(one) for name, one in values.items()} if any(nested) else {"": dict(values)}
    if any(nested) and len(curves) < len(values):
        raise ValueError(f"curves {list(values)} are not unique as text; give each another name.")
    if max((len(curve) for curve in curves.values()), default=0) < 2 or not all(curves.values()):
        raise ValueError(
            f"{[len(curve) for curve in curves.values()]} values were given; a sweep needs two or more on a curve, and "
            "no curve without any."
        )
    swept = [value for curve in curves.values() for value in curve]
    numeric = all(isinstance(value, Real) and not isinstance(value, bool) for value in swept)
    found: dict[str, dict[Value, list[Features]]] = {}
    for name, curve in curves.items():
        order = sorted(curve) if numeric else list(curve)
        found[name] = {_value(value, numeric): _seeds(value, curve[value]) for value in order}
        if len(found[name]) < len(curve):
            raise ValueError(f"values {list(curve)} are not unique as text; give each another name.")
    return found


def _value(value: Any, numeric: bool) -> Value:
    """As JSON has it. One that is text makes all of them text."""
    if not numeric:
        return str(value)
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a place on an axis; give a finite number, or a name as text.")
    return int(value) if value == int(value) else float(value)


def _seeds(value: Any, measured: Measured) -> list[Features]:
    seeds = [measured] if isinstance(measured, Features) else list(measured)
    if not seeds or not all(isinstance(one, Features) for one in seeds):
        what = [type(one).__name__ for one in seeds] or "nothing"
        raise ValueError(f"{value!r} has {what}; give Features, or a list of one per training seed.")
    return seeds


def curve_of(
    name: str,
    curve: Mapping[Value, Sequence[Features]],
    reference: Features,
    groups: np.ndarray,
    options: dict[str, Any],
) -> Curve:
    """Accuracies of a curve on the reference's images, groups (C,). options: pooled, level and seed."""
    labels = reference.labels
    predicted = [np.stack([aligned(one, reference) for one in seeds]) for seeds in curve.values()]  # (S, N) each
    arms = [arm_of(str(value), p, labels, groups, options) for value, p in zip(curve, predicted, strict=True)]
    best = {row: best_value(predicted, labels, groups, row, **options) for row in metrics.ACCURACIES}
    trends: dict[str, Trend | None] = {}
    if not any(isinstance(value, str) for value in curve):
        for row in metrics.ACCURACIES:
            accuracy = np.array([arm.over_classes[row].estimate for arm in arms])
            trends[row] = trend_of(accuracy, seed=options["seed"])
    return Curve(
        name=name,
        values=tuple(curve),
        arms=tuple(arms),
        best={row: found for row, found in best.items() if found},
        trends={row: found for row, found in trends.items() if found},
    )


def found(curve: Curve, row: str) -> str:
    """Which value is the highest, from which others it can be told apart, and the trend."""
    best, accuracy = curve.best[row], curve.accuracy(row)
    if curve.is_flat(row):
        return f"the same at all values ({percent(accuracy[0])})"
    if row == "mean_class" and np.allclose(accuracy, curve.accuracy("all"), atol=1e-12):
        return "as all, since the classes have equally many images"
    said: dict[str, list[str]] = {}
    for i, other in best.others.items():
        difference, text = other.difference, label(curve.values[i])
        if other.verdict == "lower":
            text += f" ({percent(-difference.estimate, sign=True)}, p = {other.p:.2g})"
        elif not math.isnan(difference.smallest_detectable) and other.verdict == "not distinguishable":
            text += f" (could have shown {100 * difference.smallest_detectable:.1f})"
        said.setdefault(other.verdict, []).append(text)
    heads = {"not distinguishable": "not distinguishable from it", "lower": "lower", "not testable": "not testable"}
    parts = [f"highest at {label(curve.values[best.index])} ({percent(accuracy[best.index])})"]
    parts += [f"{head}: {', '.join(said[verdict])}" for verdict, head in heads.items() if verdict in said]
    if row in curve.trends:
        trend = curve.trends[row]
        number = "" if math.isnan(trend.p) else f"Spearman {trend.correlation:+.2f} (p = {trend.p:.2g}), "
        parts.append(number + trend.steps)
    return "; ".join(parts)


def cell(arm: Arm, row: str) -> str:
    """ "few 35.1 [30.0, 40.2] (34.0 to 36.2)", with a star where the interval has too few classes."""
    over, seeds = arm.over_classes[row], 100 * arm.seed_values[row]
    spread = f" ({seeds.min():.1f} to {seeds.max():.1f})" if arm.over_seeds.get(row) else ""
    star = "*" if over.too_small and over.n else ""
    return f"{row} {percent(over.estimate, over.low, over.high)}{star}{spread}"
