"""How often is the model right, for many-, medium- and few-shot classes, how sure is that, and is one run better?

The arithmetic is that of `workbench.metrics`. Groups are Kang et al.'s (ICLR 2020, arXiv 1910.09217) with the bounds of
the data set's manifest, which are printed with every table, because papers read "100 and 20" in three ways.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench import metrics
from workbench.features import Features

from .arms import Arm, aligned, arm_of
from .base import (
    GROUP_ORDER,
    INK,
    Result,
    percent,
    same_classes,
    scatter_by_frequency,
)
from .group_figure import MOST_BARS, draw_bars, draw_rows
from .group_table import group_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupReport(Result):
    """Accuracy by shot group of one or several arms; of two arms also their difference (first minus second)."""

    diagnostic: ClassVar[str] = "group_report"

    arms: tuple[Arm, ...]
    differences: dict[str, metrics.Difference]  # key of metrics.group_accuracy; empty unless there are two arms
    best: dict[str, str]  # key of metrics.group_accuracy -> the arm that the paired test has above every other one
    mcnemar: tuple[dict[str, metrics.McNemar], ...]  # by key, for each pair of seeds of two arms with equally many
    names: tuple[str, ...]  # of the C classes
    counts: np.ndarray  # (C,) training images
    groups: np.ndarray  # (C,) "many" | "medium" | "few"
    images: np.ndarray  # (C,) test images
    rule: str
    pooled: bool
    level: float

    @property
    def size(self) -> tuple[float, float]:  # type: ignore[override]
        wide, high = Result.size
        return wide, high if len(self.arms) <= MOST_BARS else max(high, 0.9 + 0.42 * len(self.arms))

    @property
    def views(self) -> tuple[str, ...]:  # type: ignore[override]
        """ "groups": bars, of many arms rows; "classes": one point per class; "difference": the same, of two arms."""
        return ("groups", "classes", "difference") if self.differences else ("groups", "classes")

    @property
    def accuracy(self) -> dict[str, float]:
        """The first arm's accuracies as `metrics.group_accuracy` names them, mean over seeds."""
        return {group: interval.estimate for group, interval in self.arms[0].over_classes.items()}

    def sizes(self, group: str) -> tuple[int, int, int]:
        """Classes of a group, how many of them have test images, and their test images."""
        inside = np.isin(self.groups, [group] if group in GROUP_ORDER else GROUP_ORDER)
        return int(inside.sum()), int((inside & (self.images > 0)).sum()), int(self.images[inside].sum())

    def __str__(self) -> str:
        return self.to_markdown()

    def to_markdown(self) -> str:
        """The table in percent with what its intervals mean, as Markdown."""
        return group_table(self).to_markdown()

    def to_latex(self) -> str:
        """The same table for a paper, with booktabs rules."""
        return group_table(self).to_latex()

    def to_frame(self) -> pd.DataFrame:
        """Rows of kind "group" (interval over classes), "seeds", "class", "mean", "difference" and "mcnemar"."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for arm in self.arms:
            rows += [self._group_row(arm.name, "group", *item) for item in arm.over_classes.items()]
            rows += [self._group_row(arm.name, "seeds", *item) for item in arm.over_seeds.items()]
            rows += [
                {
                    "arm": arm.name,
                    "kind": "class",
                    "group": self.groups[c],
                    "class": c,
                    "name": self.names[c],
                    "train_images": self.counts[c],
                    "test_images": self.images[c],
                    "value": arm.class_accuracy[c],
                    "low": arm.class_low[c],
                    "high": arm.class_high[c],
                }
                for c in range(len(self.names))
            ]
            rows += [
                {
                    "arm": arm.name,
                    "kind": "mean",
                    "group": name,
                    "classes": arm.means.n,
                    "value": getattr(arm.means, name),
                }
                for name in ("geometric", "harmonic", "worst")
            ]
        pair = " minus ".join(arm.name for arm in self.arms)
        rows += [
            self._group_row(pair, "difference", group, difference)
            | {"p": difference.p, "smallest_detectable": difference.smallest_detectable}
            for group, difference in self.differences.items()
        ]
        rows += [
            {"arm": f"{pair}, seed {number}" if len(self.mcnemar) > 1 else pair, "kind": "mcnemar", "group": group}
            | {"test_images": test.n, "value": test.estimate, "n": test.n, "unit": "images", "p": test.p}
            | {"smallest_detectable": test.smallest_detectable, "method": "McNemar, exact, mid-p"}
            for number, tests in enumerate(self.mcnemar, start=1)
            for group, test in tests.items()
        ]
        return pd.DataFrame(rows).astype({"class": "Int64", "train_images": "Int64"})

    def _group_row(self, arm: str, kind: str, group: str, interval: metrics.Interval) -> dict[str, Any]:
        _, tested, images = self.sizes(group)
        return {
            "arm": arm,
            "kind": kind,
            "group": group,
            "classes": tested,
            "test_images": images,
            "value": interval.estimate,
            "low": interval.low,
            "high": interval.high,
            "n": interval.n,
            "unit": interval.unit,
            "method": interval.method,
            "estimand": interval.estimand,
        }

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        if view == "groups":
            draw = draw_bars if len(self.arms) <= MOST_BARS else draw_rows
            draw(self, ax, **artist_kw)
            return
        if view == "classes":
            arm = self.arms[0]
            values, mean = arm.class_accuracy, arm.over_classes
            ax.set_ylim(-3, 103)
            ax.set_ylabel("class accuracy (%)" if len(self.arms) == 1 else f"class accuracy of\n{arm.name} (%)")
        else:
            values, mean = self.arms[0].class_accuracy - self.arms[1].class_accuracy, self.differences
            ax.axhline(0, color=INK, linewidth=0.8)
            ax.set_ylabel(f"class accuracy, {self.arms[0].name}\nminus {self.arms[1].name} (points)")
        bands = {group: (mean[group].estimate, mean[group].low, mean[group].high) for group in GROUP_ORDER}
        labels = {
            group: f"{group} {percent(*band, sign=view == 'difference')} (n = {self.sizes(group)[1]})"
            for group, band in bands.items()
        }
        scatter_by_frequency(
            ax,
            100 * values,
            self.counts,
            self.groups,
            labels=labels,
            bands={group: tuple(100 * bound for bound in band) for group, band in bands.items()},
            **artist_kw,
        )
        unit = "mean of classes" if view == "classes" else "mean difference"
        title = f"{unit} [{self.level:.0%}] (n classes)"
        ax.legend(title=title, alignment="left", loc="upper left", bbox_to_anchor=(1.0, 1.0))


def group_report(
    features: Features | Sequence[Features] | Mapping[str, Features | Sequence[Features]],
    *,
    compare: Features | Sequence[Features] | None = None,
    names: tuple[str, ...] = ("first", "second"),
    pooled: bool = False,
    level: float = 0.95,
    seed: int = 0,
) -> GroupReport:
    """Accuracy per class and by shot group, with intervals, of one method or several on the same test images.

    Args:
        features: of one run, or one per training seed, all of the same test images; or several methods' by name.
        compare: of a second method, likewise; its number of seeds may differ.
        names: what to call one method or two.
        pooled: group accuracies as shares of images (LPT) instead of means of class accuracies.
        level: of confidence.
        seed: of the bootstrap over classes.
    """
    if isinstance(features, Mapping):
        if compare is not None:
            raise ValueError("methods were given by name: put the one to compare among them and leave compare= out.")
        names, given = tuple(features), list(features.values())
    else:
        given = [features] if compare is None else [features, compare]
    lists = [[one] if isinstance(one, Features) else list(one) for one in given]
    if not all(lists):
        raise ValueError("an empty list of features was given; give one Features per training seed.")
    reference = lists[0][0]
    classes = same_classes([one for several in lists for one in several])
    groups, labels = np.asarray(classes.groups), reference.labels
    predicted = [np.stack([aligned(one, reference) for one in several]) for several in lists]  # (S, N) each
    options: dict[str, Any] = {"pooled": pooled, "level": level, "seed": seed}

    @cache
    def compared(first: int, second: int, group: str) -> metrics.Difference:
        arms = predicted[first], predicted[second]
        return metrics.paired_difference(*arms, labels, groups, group=group, **options)

    two = len(predicted) == 2
    differences = {group: compared(0, 1, group) for group in metrics.ACCURACIES} if two else {}
    tests: list[dict[str, metrics.McNemar]] = []
    if two and len(predicted[0]) == len(predicted[1]):
        tests = [
            {group: metrics.mcnemar(*pair, labels, groups, group=group, level=level) for group in metrics.ACCURACIES}
            for pair in zip(*predicted, strict=True)
        ]
    arms = tuple(arm_of(name, p, labels, groups, options) for name, p in zip(names, predicted, strict=False))
    best = {group: _best(group, arms, compared) for group in metrics.ACCURACIES}
    return GroupReport(
        arguments=options | {"names": list(names[: len(lists)]), "seeds": [len(several) for several in lists]},
        sources=tuple(one.source for several in lists for one in several),
        arms=arms,
        differences=differences,
        best={group: name for group, name in best.items() if name},
        mcnemar=tuple(tests),
        names=tuple(classes.names),
        counts=np.asarray(classes.counts),
        groups=groups,
        images=np.bincount(labels, minlength=len(classes)),
        rule=str(classes.rule),
        pooled=pooled,
        level=level,
    )


def _best(group: str, arms: Sequence[Arm], compared: Callable[[int, int, str], metrics.Difference]) -> str | None:
    """The arm that is better than each other one; each test at the full level, since all of them must agree."""
    values = [arm.over_classes[group].estimate for arm in arms]
    if len(arms) < 2 or not np.isfinite(values).all():
        return None
    top = int(np.argmax(values))
    for other in set(range(len(arms))) - {top}:
        difference = compared(*sorted((top, other)), group)
        if difference.too_small or difference.verdict != ("first better" if top < other else "second better"):
            return None
    return arms[top].name
