"""Reliability: confidence against accuracy of the images of one group, in bins, and what chance would make of it.

Guo et al., ICML 2017, arXiv 1706.04599, eq. 3 (ECE) and 5 (MCE); Nixon et al., arXiv 1904.01685 (bins of equal mass).
Everything is a ratio of sums over classes, so the class is the unit of the intervals, as in `workbench.metrics`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from workbench import metrics
from workbench.features import Features

from .base import GROUP_ORDER, ROWS, percent

BINNINGS = ("equal_width", "equal_mass")
_CHUNK = 2**22  # logits at a time in double precision


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """One group of one method. Shares in [0, 1]; arrays are (bins,) with nan in empty bins."""

    classes: int  # with images
    images: int
    confidence: float  # mean
    accuracy: float
    gap: metrics.Interval  # confidence minus accuracy: above 0 is over-confident
    ece: metrics.Interval  # bins of equal width
    adaptive_ece: metrics.Interval  # bins of equal mass
    mce: float  # largest gap of a bin of the chosen binning
    chance: float  # mean ECE (equal width) of a calibrated model with these confidences
    p: float  # share of such models with an ECE at least as large, the measured one counted with them
    brier: metrics.Interval | None  # sum over classes of (probability - truth)^2, in [0, 2]; None without logits
    nll: metrics.Interval | None  # nats
    bin_confidence: np.ndarray  # mean
    bin_accuracy: np.ndarray
    bin_images: np.ndarray  # int64

    def __str__(self) -> str:
        if not self.images:
            return "n/a (0 images)"
        scores = ""
        if self.brier is not None and self.nll is not None:
            scores = f"  Brier {self.brier.estimate:.3f}  NLL {self.nll.estimate:.3f}"
        return (
            f"confidence {percent(self.confidence)}  accuracy {percent(self.accuracy)}  "
            f"gap {percent(self.gap.estimate, self.gap.low, self.gap.high, sign=True)}"
            f"{'†' if self.gap.too_small else ''}  "
            f"ECE {percent(self.ece.estimate, self.ece.low, self.ece.high)} (if calibrated {percent(self.chance)}, "
            f"p = {self.p:.2g})  adaptive {percent(self.adaptive_ece.estimate)}  MCE {percent(self.mce)}{scores}"
        )


def group_reliability(
    features: Features, group: str, *, bins: int, binning: str, pooled: bool, level: float, seed: int, draws: int
) -> Reliability:
    """The reliability of "all" images or of a shot group's. In a group classes weigh the same unless `pooled`."""
    members = np.isin(features.group_of, GROUP_ORDER if group == "all" else [group])
    labels, correct = features.labels[members], features.correct[members].astype(np.float64)
    if features.confidence is None:
        raise ValueError("these features have no confidence; extract them with a run on these classes.")
    sure = features.confidence[members].astype(np.float64)
    unit, owner, images = np.unique(labels, return_inverse=True, return_counts=True)
    weight = np.ones(len(labels)) if pooled or group == "all" else 1 / images[owner]  # (n,)

    def over_classes(values: np.ndarray, what: str, low: float, high: float) -> metrics.Interval:
        return _class_interval(values, weight, owner, what=what, ends=(low, high), level=level, seed=seed)

    gaps = sure - correct
    placed = {name: bin_of(sure, weight, bins, name) for name in BINNINGS}
    errors = {}
    for name, place in placed.items():
        # |sum of a bin| is its sum times its sign; the sign held fixed, ECE is a mean over images like any other
        sign = np.sign(np.bincount(place, weights=weight * gaps, minlength=bins))
        errors[name] = over_classes(sign[place] * gaps, f"ECE of {bins} bins of {name}", 0.0, 1.0)
    place = placed[binning]
    mass = np.bincount(place, weights=weight, minlength=bins)
    with np.errstate(invalid="ignore"):
        bin_sure, bin_right = (np.bincount(place, weights=weight * v, minlength=bins) / mass for v in (sure, correct))
    ece = errors["equal_width"].estimate
    by_chance = _drawn(sure, weight, placed["equal_width"], bins, draws, seed) if len(sure) else np.array([math.nan])
    scores: list[metrics.Interval | None] = [None, None]
    if features.logits is not None:
        brier, nll = proper_scores(features.logits[members], labels)
        scores = [over_classes(brier, "Brier score", 0.0, 2.0), over_classes(nll, "log-likelihood", 0.0, math.inf)]
    return Reliability(
        classes=len(unit),
        images=len(labels),
        confidence=_mean(sure, weight),
        accuracy=_mean(correct, weight),
        gap=over_classes(gaps, "confidence minus accuracy", -1.0, 1.0),
        ece=errors["equal_width"],
        adaptive_ece=errors["equal_mass"],
        mce=float(np.nanmax(np.abs(bin_sure - bin_right))) if len(labels) else math.nan,
        chance=float(by_chance.mean()),
        p=float((1 + (by_chance >= ece - 1e-12).sum()) / (1 + draws)) if len(labels) else math.nan,
        brier=scores[0],
        nll=scores[1],
        bin_confidence=bin_sure,
        bin_accuracy=bin_right,
        bin_images=np.bincount(place, minlength=bins),
    )


def bin_of(confidence: np.ndarray, weight: np.ndarray, bins: int, binning: str) -> np.ndarray:
    """(n,) int64 bin of each image, 0 to bins - 1. Bins of equal width are closed on the right, 0 is in the first.

    Of equal mass: equal confidences share a bin, so that the order of images does not matter.
    """
    if binning == "equal_width":
        inner = np.linspace(0, 1, bins + 1)[1:-1]
        return np.searchsorted(inner, confidence, side="left")
    _, owner = np.unique(confidence, return_inverse=True)
    mass = np.bincount(owner, weights=weight)  # of each value of confidence, in rising order
    middle = (np.cumsum(mass) - mass / 2) / max(mass.sum(), 1e-300)
    return np.minimum((middle * bins).astype(np.int64), bins - 1)[owner]


def calibration_errors(
    confidence: np.ndarray, correct: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, bins: int = 15
) -> dict[str, float]:
    """ECE of "all" images and of each shot group, with bins of equal width; nan without images.

    The estimates of `group_reliability` without its intervals, in a few milliseconds for 10,000 images.

    Args:
        confidence: (N,) in [0, 1], probability of the decision.
        correct: (N,) bool.
        labels: (N,) int64 true class index.
        groups: (C,) shot group of each class.
    """
    sure = np.asarray(confidence, dtype=np.float64)
    gaps, place = sure - correct, bin_of(sure, np.ones(len(sure)), bins, "equal_width")
    per_class = np.bincount(labels, minlength=len(groups))
    errors = {}
    for group in ROWS:
        inside = slice(None) if group == "all" else (groups == group)[labels]
        weight = np.ones(len(labels)) if group == "all" else 1 / per_class[labels[inside]]
        total = np.bincount(place[inside], weights=weight * gaps[inside], minlength=bins)
        errors[group] = float(np.abs(total).sum() / weight.sum()) if len(weight) else math.nan
    return errors


def proper_scores(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Brier score and negative log-likelihood (nats) of each image: logits (n, C) of any precision -> (n,), (n,)."""
    brier, nll = np.empty(len(labels)), np.empty(len(labels))
    step = max(1, _CHUNK // logits.shape[1])
    for start in range(0, len(labels), step):
        rows = slice(start, start + step)
        log_p = special.log_softmax(logits[rows].astype(np.float64), axis=1)
        own = log_p[np.arange(len(log_p)), labels[rows]]
        brier[rows] = (np.exp(log_p) ** 2).sum(1) - 2 * np.exp(own) + 1
        nll[rows] = -own
    return np.maximum(brier, 0.0), nll  # rounding can leave -1e-16


def _mean(values: np.ndarray, weight: np.ndarray) -> float:
    return float((weight * values).sum() / weight.sum()) if len(values) else math.nan


def _drawn(
    confidence: np.ndarray, weight: np.ndarray, place: np.ndarray, bins: int, draws: int, seed: int
) -> np.ndarray:
    """(draws,) ECE of outcomes that are right with just the probability that the model states."""
    generator = np.random.default_rng(seed)
    found = np.empty(draws)
    for i in range(draws):
        gaps = confidence - (generator.random(len(confidence)) < confidence)
        found[i] = np.abs(np.bincount(place, weights=weight * gaps, minlength=bins)).sum()
    return found / weight.sum()


def _class_interval(
    values: np.ndarray,
    weight: np.ndarray,
    owner: np.ndarray,
    *,
    what: str,
    ends: tuple[float, float],
    level: float,
    seed: int,
) -> metrics.Interval:
    """Weighted mean of values (n,) with an interval over the classes that own them; bounds stay within `ends`.

    The mean is a ratio of sums over classes, of which the jackknife makes a mean of one value per class. Where classes
    weigh unequally (all images of an uneven test set), Student t has the degrees of freedom of fewer equal ones.
    """
    size = np.bincount(owner, weights=weight)  # 0 of them in an empty group
    total = np.bincount(owner, weights=weight * values)
    n, estimate, stretch = len(size), _mean(values, weight), 1.0
    of_class = np.full(n, estimate)
    if n > 1:
        of_class, freedom = metrics.leave_one_out(total, size)
        stretch = float(special.stdtrit(freedom, 0.5 + level / 2) / special.stdtrit(n - 1, 0.5 + level / 2))
    what = f"{what} over classes like these, for this trained model"
    found = metrics.paired_values(of_class, np.zeros(n), estimand=what, level=level, seed=seed)
    return replace(
        metrics.Interval(**{f: getattr(found, f) for f in metrics.Interval.__dataclass_fields__}),
        estimate=estimate,
        low=float(np.maximum(estimate + stretch * (found.low - estimate), ends[0])),  # np keeps nan
        high=float(np.minimum(estimate + stretch * (found.high - estimate), ends[1])),
    )
