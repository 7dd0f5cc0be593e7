"""An arm: one method with all its training seeds, measured on the test images that every arm of a comparison shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench import metrics
from workbench.features import Features


@dataclass(frozen=True, kw_only=True, eq=False)
class Arm:
    """One method with all its seeds. Accuracies in [0, 1]."""

    name: str
    over_classes: dict[str, metrics.Interval]  # key of metrics.group_accuracy -> its interval over classes
    over_seeds: dict[str, metrics.Interval]  # the same over seeds; empty for one seed
    seed_values: dict[str, np.ndarray]  # (S,) each
    class_accuracy: np.ndarray  # (C,) mean over seeds, nan without test images
    means: metrics.ClassMeans  # of class_accuracy
    class_low: np.ndarray  # (C,) Wilson interval of one seed's class accuracy; nan for several seeds
    class_high: np.ndarray

    @property
    def num_seeds(self) -> int:
        return len(self.seed_values["all"])


def arm_of(name: str, predicted: np.ndarray, labels: np.ndarray, groups: np.ndarray, options: dict[str, Any]) -> Arm:
    per_seed = [metrics.group_accuracy(p, labels, groups, pooled=options["pooled"]) for p in predicted]
    values = {group: np.array([accuracy[group] for accuracy in per_seed]) for group in metrics.ACCURACIES}
    some = {group: v for group, v in values.items() if len(v) > 1 and np.isfinite(v).all()}
    if len(predicted) == 1:
        low, high = metrics.class_intervals(predicted[0], labels, len(groups), level=options["level"])
    else:
        low = high = np.full(len(groups), np.nan)
    accuracy = metrics.class_accuracies(predicted, labels, len(groups))
    return Arm(
        name=name,
        over_classes={
            group: metrics.group_interval(predicted, labels, groups, group, **options) for group in metrics.ACCURACIES
        },
        over_seeds={group: metrics.seed_interval(v, level=options["level"]) for group, v in some.items()},
        seed_values=values,
        class_accuracy=accuracy,
        means=metrics.class_means(accuracy),
        class_low=low,
        class_high=high,
    )


def aligned(features: Features, reference: Features) -> np.ndarray:
    """(N,) predictions in the order of the reference's images."""
    return features.decisions[rows_of_images(features, reference)]


def rows_of_images(features: Features, reference: Features) -> np.ndarray:
    """(N,) row in the features of each image of the reference; ValueError unless both hold the same, labelled alike."""
    if np.array_equal(features.ids, reference.ids):
        order = np.arange(len(reference))
    else:
        shared = np.intersect1d(features.ids, reference.ids)
        if len(shared) < max(len(features), len(reference)):
            raise ValueError(
                f"the test sets differ: {len(reference)} and {len(features)} images, of which {len(shared)} are the "
                "same. Models are compared on the same images only; extract both on one split of one manifest."
            )
        order = np.argsort(features.ids)[np.argsort(np.argsort(reference.ids))]
    wrong = np.flatnonzero(features.labels[order] != reference.labels)
    if len(wrong):
        raise ValueError(
            f"{len(wrong)} images have another label in the other features (e.g. {str(reference.ids[wrong[0]])!r}); "
            "extract both with the same manifest."
        )
    return order
