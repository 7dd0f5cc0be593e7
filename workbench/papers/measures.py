"""What a table of a paper prints, measured on a trained arm, and how two arms are compared by it.

Accuracies by group are compared by their predictions, quantities that each class has (gamma, inner-class distance)
class by class, and single numbers (parameters, distance between classes) as they are, without an interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from workbench import metrics
from workbench.diagnostics.arms import aligned, rows_of_images
from workbench.diagnostics.base import load_diagnostic
from workbench.features import Features
from workbench.runs import Run

from .setting import test_set_of
from .trainings import Training

KNN = 20  # neighbours, cosine, train as the bank: the papers leave all open
GROUPS = ("all", "many", "medium", "few", "mean_class")


@dataclass(frozen=True)
class Trained:
    """A finished arm: its runs and what they see, loaded when asked for."""

    training: Training
    seeds: tuple[int, ...]
    data: str = ""  # another set whose test images `test` is of

    @property
    def name(self) -> str:
        return self.training.arm.name

    @cached_property
    def test(self) -> list[Features]:
        return self.on(self.data)

    @cached_property
    def train(self) -> list[Features]:
        """The training images under the test transform."""
        return [self._features(seed, "train") for seed in self.seeds]

    def on(self, data: str) -> list[Features]:
        """The test images of another data set; "" is the trained one."""
        return [self._features(seed, "test", data or None) for seed in self.seeds]

    def tested_on(self, data: str) -> Trained | None:
        """The same arm with the test images of another set; None where there is none like it."""
        if not data:
            return self
        known = test_set_of(self.training.experiment, data, self.training.setting)
        return None if known is None else replace(self, data=data)

    @property
    def runs(self) -> list[Run]:
        return [Run.load(self.training.run_folder(seed)) for seed in self.seeds]

    def method(self) -> Any:
        """The first seed's method."""
        return self.runs[0].method()

    def _features(self, seed: int, split: str, data: str | None = None) -> Features:
        features = self.training.extract(seed, split, data)
        rule = self.training.experiment.groups
        return features.with_rule(rule) if fits(rule, features) else features

    @cached_property
    def cost(self) -> Any:
        """Of the first seed's method; a table asks for several of its numbers, and its time must be one timing."""
        return load_diagnostic("cost")(self.method())

    @cached_property
    def separability(self) -> list[Any]:
        """Of the test images of each seed."""
        return [load_diagnostic("separability")(each) for each in self.test]

    @cached_property
    def neighbours_say(self) -> np.ndarray:
        """(S, N) classes of the test images by their KNN nearest training images."""
        find, pairs = load_diagnostic("knn_accuracy"), zip(self.train, self.test, strict=True)
        found: list[Any] = [find(bank, each, k=KNN) for bank, each in pairs]
        return np.stack([each.predicted["long-tailed", KNN] for each in found])

    @cached_property
    def seconds(self) -> float:
        """Of training, all seeds."""
        return float(sum(run.status.get("seconds", 0.0) for run in self.runs))


def fits(rule: str, features: Features) -> bool:
    """Whether a paper's group rule has a meaning here: ranges of class indices belong to CIFAR-100's order."""
    return not rule.startswith("index") or len(features.classes) == 100


@dataclass(frozen=True)
class Measure:
    """One printed quantity. A function of a trained arm that gives (S, N) predictions, (C,) values or one number."""

    of: Callable[[Trained], np.ndarray | float]
    kind: str  # "predictions" | "classes" | "number"
    group: str = "all"  # of predictions
    split: str = "test"
    scale: float = 100.0  # from what is measured to the paper's unit
    form: str = ".1f"


def _predictions(split: str) -> Callable[[Trained], np.ndarray]:
    def predicted(trained: Trained) -> np.ndarray:
        features: list[Features] = getattr(trained, split)
        return np.stack([aligned(each, features[0]) for each in features])

    return predicted


def _knn(trained: Trained) -> np.ndarray:
    return trained.neighbours_say


def _classes(of: Callable[[Any], np.ndarray]) -> Callable[[Trained], np.ndarray]:
    return lambda trained: np.mean([of(each) for each in trained.separability], axis=0)


def _gap(group: str) -> Callable[[Trained], np.ndarray]:
    def gap(trained: Trained) -> np.ndarray:
        found = []
        for train, test in zip(trained.train, trained.test, strict=True):
            C, groups = len(test.classes), np.asarray(test.classes.groups)
            both = [metrics.class_accuracies(each.decisions, each.labels, C) for each in (train, test)]
            inside = np.ones(C, bool) if group == "all" else groups == group
            found.append(np.where(inside, both[0] - both[1], math.nan))
        return np.mean(found, axis=0)

    return gap


def _cost(name: str) -> Callable[[Trained], float]:
    return lambda trained: float(getattr(trained.cost, name))


def _epoch_seconds(trained: Trained) -> float:
    """Training time of one epoch, mean over seeds; other work on the machine is in it."""
    return float(np.mean([run.status["seconds"] / max(len(run.metrics), 1) for run in trained.runs]))


def _inter(trained: Trained) -> float:
    return float(np.mean([each.inter for each in trained.separability]))


def _top5(trained: Trained) -> np.ndarray:
    """Predictions that are right where the true class is among the five best."""
    found = []
    ranked: Any = load_diagnostic("topk")
    for each in trained.test:
        (rank,) = ranked(each).ranks.values()
        found.append(np.where(rank <= 5, each.labels, (each.labels + 1) % len(each.classes)))
    return np.stack(found)


MEASURES: dict[str, Measure] = {
    **{group: Measure(_predictions("test"), "predictions", group) for group in GROUPS},
    **{f"train_{group}": Measure(_predictions("train"), "predictions", group, "train") for group in GROUPS},
    **{f"gap_{group}": Measure(_gap(group), "classes", split="train") for group in ("all", "many", "medium", "few")},
    "top5": Measure(_top5, "predictions"),
    "knn": Measure(_knn, "predictions", "mean_class", "train"),
    "intra": Measure(_classes(lambda found: found.intra), "classes", scale=1, form=".3f"),
    "gamma": Measure(_classes(lambda found: found.intra / found.inter), "classes", scale=1, form=".3f"),
    "inter": Measure(_inter, "number", scale=1, form=".2f"),
    "tuned_m": Measure(_cost("tuned"), "number", scale=1e-6, form=".3f"),
    "total_m": Measure(_cost("total"), "number", scale=1e-6, form=".3f"),
    "gflops": Measure(_cost("flops"), "number", scale=1e-9, form=".3f"),
    "epoch_s": Measure(_epoch_seconds, "number", scale=1, form=".1f"),
    "ms": Measure(_cost("milliseconds"), "number", scale=1, form=".2f"),
}


@dataclass(frozen=True)
class Value:
    """A measured quantity in the paper's unit, its 95 % interval over classes, and each seed's, where it has them."""

    estimate: float
    low: float = math.nan
    high: float = math.nan
    seeds: tuple[float, ...] = ()


def value_of(name: str, trained: Trained) -> Value:
    measure = MEASURES[name]
    found = measure.of(trained)
    if measure.kind == "number":
        return Value(measure.scale * float(found))
    if measure.kind == "classes":
        array = np.asarray(found)[np.isfinite(found)]
        spread = metrics.paired_values(array, np.zeros_like(array))
        return Value(measure.scale * spread.estimate, measure.scale * spread.low, measure.scale * spread.high)
    images = _images(measure, trained)
    labels, groups = images.labels, np.asarray(images.classes.groups)
    over = metrics.group_interval(np.asarray(found), labels, groups, measure.group)
    per_seed = [metrics.group_accuracy(each, labels, groups)[measure.group] for each in np.asarray(found)]
    scale = measure.scale
    return Value(scale * over.estimate, scale * over.low, scale * over.high, tuple(scale * each for each in per_seed))


def difference_of(name: str, first: Trained, second: Trained) -> metrics.Difference | float:
    """First minus second, in the measure's own unit (not scaled); a number alone where there is no sample."""
    measure = MEASURES[name]
    one, other = measure.of(first), measure.of(second)
    if measure.kind == "number":
        return float(one) - float(other)
    if measure.kind == "classes":
        return metrics.paired_values(np.asarray(one), np.asarray(other))
    reference = _images(measure, first)
    order = rows_of_images(_images(measure, second), reference)
    groups = np.asarray(reference.classes.groups)
    return metrics.paired_difference(
        np.asarray(one), np.asarray(other)[:, order], reference.labels, groups, group=measure.group
    )


def _images(measure: Measure, trained: Trained) -> Features:
    """The features whose images the predictions of a measure are of, in their order."""
    features: list[Features] = trained.test if measure.of is _knn else getattr(trained, measure.split)
    return features[0]


def needs_train(names: tuple[str, ...]) -> bool:
    """Whether one of these measures looks at training images."""
    return any(MEASURES[name].split == "train" for name in names)
