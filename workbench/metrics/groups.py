"""Which classes are many-, medium- and few-shot, and how often a model is right about each: shares in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

GROUPS = ("many", "medium", "few")
ACCURACIES = ("all", *GROUPS, "mean_class")  # the keys of `group_accuracy`


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
    correct, images = class_counts(predicted, labels, num_classes)
    with np.errstate(invalid="ignore"):
        return correct / images


def group_accuracy(
    predicted: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, pooled: bool = False
) -> dict[str, float]:
    """Accuracies by name: all, many, medium, few, mean_class; nan where there is nothing to average.

    all is the share of test images that are right; many, medium and few are means of class accuracies (pooled=True:
    shares of images, as LPT reports), mean_class that of every class. Classes without test images do not count.
    """
    groups = checked_groups(groups)
    correct, images = class_counts(predicted, labels, len(groups))
    result = {}
    for name in ACCURACIES:
        numerator, size = group_sums(correct, images, groups, name, pooled)
        result[name] = float(numerator.sum() / size.sum()) if len(size) else math.nan
    return result


@dataclass(frozen=True, kw_only=True)
class ClassMeans:
    """Means of class accuracies that a neglected class pulls down; nan where no class has test images."""

    arithmetic: float
    geometric: float
    harmonic: float
    worst: float  # of the least accurate class
    zeros: int  # classes with no image right: one makes geometric and harmonic mean 0
    n: int  # classes with test images


def class_means(accuracies: np.ndarray) -> ClassMeans:
    """Arithmetic, geometric and harmonic mean of class accuracies (C,); classes with nan (no test images) are left out.

    In log space: as a plain product, the geometric mean of 8,142 classes at 70 % underflows (LIFT's evaluator; reported
    as 91.26 %). A class with nothing right makes geometric and harmonic mean 0, their limit; `zeros` says how many do.
    """
    values = np.asarray(accuracies, dtype=np.float64)
    if values.ndim != 1 or ((values < 0) | (values > 1)).any():
        raise ValueError(f"expected class accuracies (C,) in [0, 1], from class_accuracies; got shape {values.shape}.")
    values = values[~np.isnan(values)]
    if not len(values):
        return ClassMeans(arithmetic=math.nan, geometric=math.nan, harmonic=math.nan, worst=math.nan, zeros=0, n=0)
    with np.errstate(divide="ignore"):
        logs = np.log(values)
    # 1 / mean(exp(-log a)) with the largest term taken out, so that tiny accuracies do not overflow
    harmonic = math.exp(math.log(len(values)) - special.logsumexp(-logs)) if values.min() > 0 else 0.0
    return ClassMeans(
        arithmetic=float(values.mean()),
        geometric=float(np.exp(logs.mean())),
        harmonic=harmonic,
        worst=float(values.min()),
        zeros=int((values == 0).sum()),
        n=len(values),
    )


def right(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of the seeds that are right about each image: (N,) or (S, N) -> (N,) float64."""
    return (np.atleast_2d(predicted) == np.asarray(labels)).mean(axis=0)


def class_counts(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
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
    correct = np.bincount(labels, weights=right(predicted, labels), minlength=num_classes)
    return correct.astype(np.float64), images.astype(np.float64)


def checked_groups(groups: np.ndarray) -> np.ndarray:
    groups = np.asarray(groups)
    unknown = sorted(set(groups.tolist()) - set(GROUPS))
    if groups.ndim != 1 or unknown:
        raise ValueError(f"groups of shape {groups.shape} names {unknown}; expected (C,) of {', '.join(GROUPS)}.")
    return groups


def members(images: np.ndarray, groups: np.ndarray, group: str) -> np.ndarray:
    """Which classes (C,) bool an entry of `group_accuracy` is about: those of the group that have test images."""
    if group not in ACCURACIES:
        raise ValueError(f"group={group!r} is not known; choose one of {', '.join(ACCURACIES)}.")
    return (images > 0) & ((groups == group) | (group not in GROUPS))


def group_sums(
    correct: np.ndarray, images: np.ndarray, groups: np.ndarray, group: str, pooled: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The K classes of a group as (numerator, size): the ratio of sums is its accuracy; size 1 for means of classes."""
    inside = members(images, groups, group)
    correct, images = correct[inside], images[inside]
    if group == "all" or (pooled and group in GROUPS):
        return correct, images
    return correct / images, np.ones(len(images))


def quantity(group: str, pooled: bool) -> str:
    if group == "all":
        return "share of test images that are right"
    if group == "mean_class":
        return "mean class accuracy"
    return f"{'share of right test images' if pooled else 'mean class accuracy'} of the {group}-shot classes"


def arms(predicted: np.ndarray) -> str:
    seeds = 1 if np.ndim(predicted) == 1 else len(predicted)
    return "this trained model" if seeds == 1 else f"the mean of these {seeds} trained models"
