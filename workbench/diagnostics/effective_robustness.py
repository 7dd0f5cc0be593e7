"""Is a method right more often on shifted images than its accuracy on the reference images predicts?

Source: Taori, Dave, Shankar, Carlini, Recht, Schmidt, "Measuring Robustness to Natural Distribution Shifts in Image
Classification", NeurIPS 2020, arXiv 2007.00644: effective robustness is the shifted accuracy minus beta(reference
accuracy), where beta is a straight line between the logits of both accuracies, fitted to other models.

The paper fits beta to many models without any measure for robustness. Here the other arms of one comparison take their
place: the line of an arm is fitted without that arm, and its prediction interval says how little a few arms pin down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

LEAST_ARMS = 5  # four others to fit a line of two parameters: fewer leave no spread to judge it by


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Shifted accuracy beyond the expected one, of one arm. In [-1, 1]; nan where `why` says so."""

    estimate: float
    low: float
    high: float
    expected: float  # shifted accuracy in [0, 1] that the line of the others predicts
    others: int  # arms that the line is fitted to
    extrapolated: bool  # the arm's reference accuracy lies outside of theirs
    why: str  # there is no number; empty where there is one


def line(reference: np.ndarray, shifted: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of logit(shifted) over logit(reference): (A,), (A,) accuracies in (0, 1), least squares."""
    x, y = special.logit(reference), special.logit(shifted)
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    return slope, float(y.mean() - slope * x.mean())


def effective_robustness(reference: np.ndarray, shifted: np.ndarray, *, level: float) -> tuple[Robustness, ...]:
    """Of each arm, by the line of the others: reference (A,), shifted (A,) accuracies in [0, 1].

    The interval is Student's prediction interval of the line for one more arm, on the logit scale. An accuracy of 0 or
    1 has no logit: such an arm is not among the others.

    Raises:
        ValueError: fewer than five arms.
    """
    reference, shifted = np.asarray(reference, np.float64), np.asarray(shifted, np.float64)
    if len(reference) < LEAST_ARMS:
        raise ValueError(f"{len(reference)} arms were given; the line of the others needs at least {LEAST_ARMS}.")
    usable = (reference > 0) & (reference < 1) & (shifted > 0) & (shifted < 1)
    found = []
    for arm, (own, seen) in enumerate(zip(reference, shifted, strict=True)):
        others = usable.copy()
        others[arm] = False
        found.append(_of_one(own, seen, reference[others], shifted[others], level))
    return tuple(found)


def _of_one(own: float, seen: float, reference: np.ndarray, shifted: np.ndarray, level: float) -> Robustness:
    n, why = len(reference), ""
    if not 0 < own < 1:
        why = "a reference accuracy of 0 or 1, or of no class, has no logit"
    elif n < LEAST_ARMS - 1:
        why = f"only {n} other arms have accuracies between 0 and 1 on both sets"
    elif np.ptp(reference) < 1e-9:
        why = "all other arms have the same reference accuracy"
    if why:
        nan = math.nan
        return Robustness(estimate=nan, low=nan, high=nan, expected=nan, others=n, extrapolated=False, why=why)
    slope, intercept = line(reference, shifted)
    x, place = special.logit(reference), float(special.logit(own))
    rest = special.logit(shifted) - (intercept + slope * x)
    error = math.sqrt((rest**2).sum() / (n - 2))
    error *= math.sqrt(1 + 1 / n + (place - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    half = float(special.stdtrit(n - 2, 0.5 + level / 2)) * error
    centre = intercept + slope * place
    expected, least, most = (float(special.expit(centre + shift)) for shift in (0.0, -half, half))
    return Robustness(
        estimate=float(seen - expected),
        low=float(seen - most),
        high=float(seen - least),
        expected=expected,
        others=n,
        extrapolated=not reference.min() <= own <= reference.max(),
        why="",
    )
