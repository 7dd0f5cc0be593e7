"""Does the decision follow the object or what it stands before? The same object on its own background and on others.

Source: Xiao, Engstrom, Ilyas, Madry, "Noise or Signal: The Role of Image Backgrounds in Object Recognition", ICLR 2021,
arXiv 2006.09994. Its background gap is the accuracy on backgrounds of images of the same class (Mixed-Same) minus that
on backgrounds of random images (Mixed-Rand). Here the image's own background takes the place of the first. The paper
cuts objects out; a toy is rendered again, in the same place, light and noise, so nothing but the background differs.

Choose the split with care: where backgrounds go with classes as they did in training (val of `toybox_lt_backgrounds`),
the gap is what the shortcut is worth. Where every background is as likely for every class (its test split, and
`toybox_lt`), the own background is no better than another one: decisions may change while accuracy does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench import metrics
from workbench.data import first_of_each

from .base import (
    GROUP_COLOURS,
    GROUP_ORDER,
    INK,
    MUTED,
    PAPER,
    ROWS,
    Result,
    dress,
    is_narrow,
    method_source,
    percent,
    require_classes,
)
from .other_backgrounds import own_and_others, probabilities

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.data import LongTailDataset
    from workbench.methods import Method

LEVEL = 0.95  # of confidence
_EVER: dict[str, Any] = {
    "marker": "D", "color": INK, "markerfacecolor": PAPER, "linestyle": "none", "markersize": 5,
}  # fmt: skip
_QUANTITIES = {
    "own": "accuracy on the own background",
    "swapped": "accuracy on other backgrounds",
    "gap": "accuracy on the own background minus that on others",
    "changes": "share of decisions that another background changes",
    "drop": "probability of the true class on the own background minus that on others",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class BackgroundReliance(Result):
    """Decisions about N images on their own and on k other backgrounds. All shares in [0, 1].

    `intervals[quantity, group]` is about "own", "swapped" (accuracies), "gap" (own minus swapped), "changes" or "drop"
    (of the true class's probability), for "all" images, or as the mean over classes of "many", "medium" or "few".
    """

    diagnostic: ClassVar[str] = "background_reliance"
    views: ClassVar[tuple[str, ...]] = ("accuracy", "changes")

    method: str
    intervals: dict[tuple[str, str], metrics.Interval]  # gap and drop: metrics.Difference
    ids: np.ndarray  # (N,) str
    labels: np.ndarray  # (N,) int64 true class
    backgrounds: np.ndarray  # (N, 1 + k) str, the own one first
    predicted: np.ndarray  # (N, 1 + k) int64
    probability: np.ndarray  # (N, 1 + k) float32 of the true class
    names: tuple[str, ...]  # of the C classes
    groups: np.ndarray  # (C,) "many" | "medium" | "few"
    rule: str

    @property
    def changed(self) -> np.ndarray:
        """(N, k) bool: whether the decision differs from that on the own background."""
        return self.predicted[:, 1:] != self.predicted[:, :1]

    @property
    def reliance(self) -> float:
        """Share of images whose decision another background changes, mean over the k others."""
        return float(self.changed.mean())

    def ever(self, group: str) -> float:
        """Share of images whose decision any of the k others changes, as in `intervals`; it rises with k."""
        decisions = np.where(self.changed.any(1), self.labels, -1)
        return metrics.group_accuracy(decisions, self.labels, self.groups)[group]

    def sizes(self, group: str) -> tuple[int, int]:
        """Classes with images, and images."""
        inside = np.isin(self.groups[self.labels], GROUP_ORDER if group == "all" else [group])
        return len(np.unique(self.labels[inside])), int(inside.sum())

    def __str__(self) -> str:
        others = self.predicted.shape[1] - 1
        lines = [
            f"{self.method} on {len(self.labels)} images, each on its own background and on {others} others; groups: "
            f"{self.rule}",
            f"{'group':<8}{'n':>6}  {'own':>5}  {'others':>6}  {'gap, points':<24}{'decisions changed':<24}"
            f"{'ever':>5}  drop of probability",
        ]
        for group in ROWS:
            found = {quantity: self.intervals[quantity, group] for quantity in _QUANTITIES}
            cells = {q: percent(i.estimate, i.low, i.high, sign=q in ("gap", "drop")) for q, i in found.items()}
            lines.append(
                f"{group:<8}{self.sizes(group)[1]:>6}  {percent(found['own'].estimate):>5}  "
                f"{percent(found['swapped'].estimate):>6}  {cells['gap']:<24}{cells['changes']:<24}"
                f"{percent(self.ever(group)):>5}  {cells['drop']}{'†' if found['gap'].too_small else ''}"
            )
        lines.append(f"in %, [{LEVEL:.0%} over classes]; ever: by any of the {others}")
        if any(i.too_small and i.n for i in self.intervals.values()):
            lines.append(f"† fewer than {metrics.TRUSTED_FROM} classes: do not lean on these intervals")
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Rows of kind "group", one per quantity and group, then of kind "image", one per image and background."""
        import pandas as pd

        rows: list[dict[str, Any]] = [
            {
                "kind": "group",
                "group": group,
                "quantity": quantity,
                "value": interval.estimate,
            }
            | {key: getattr(interval, key) for key in ("low", "high", "n", "unit", "method", "estimand")}
            for (quantity, group), interval in self.intervals.items()
        ]
        rows += [
            {
                "kind": "image",
                "group": self.groups[self.labels[i]],
                "id": self.ids[i],
                "true": self.names[self.labels[i]],
                "background": self.backgrounds[i, j],
                "own": j == 0,
                "predicted": self.names[self.predicted[i, j]],
                "right": self.predicted[i, j] == self.labels[i],
                "changed": self.predicted[i, j] != self.predicted[i, 0],
                "probability": self.probability[i, j],
            }
            for i, j in np.ndindex(self.predicted.shape)
        ]
        return pd.DataFrame(rows).astype({"n": "Int64"} | dict.fromkeys(("own", "right", "changed"), "boolean"))

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        bars = {"own": -0.2, "swapped": 0.2} if view == "accuracy" else {"changes": -0.12}
        tight = is_narrow(ax)
        ticks = []
        for place, group in enumerate(ROWS):
            classes, images = self.sizes(group)
            ticks.append(f"{group}\n{classes} classes\nn = {images}")
            if not images:
                ax.text(place, 2, "n/a\n(no images)", ha="center", va="bottom", color=MUTED, fontsize="small")
                continue
            colour, top = GROUP_COLOURS.get(group, MUTED), 0.0
            for quantity, shift in bars.items():
                interval = self.intervals[quantity, group]
                fill = PAPER if quantity == "swapped" else colour
                style = {"width": 0.36, "color": fill, "edgecolor": colour, "linewidth": 1.2}
                ax.bar(place + shift, 100 * interval.estimate, **(style | artist_kw))
                ax.vlines(place + shift, 100 * interval.low, 100 * interval.high, color=INK, linewidth=1.2)
                top = max(top, 100 * np.nanmax([interval.estimate, interval.high]))
            if view == "changes":
                ax.plot(place + (0.36 if tight else 0.28), 100 * self.ever(group), **_EVER)
            shown = self.intervals["gap" if view == "accuracy" else "changes", group]
            text = percent(shown.estimate, shown.low, shown.high, sign=view == "accuracy").replace(" [", "\n[")
            ax.annotate(
                text.replace(", ", ",\n") if tight else text,
                (place + sum(bars.values()), top), (0, 3), textcoords="offset points", ha="center", va="bottom",
                fontsize="small", bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.5},
            )  # fmt: skip
        ax.set_xticks(range(len(ROWS)), ticks)
        ax.set_xlim(-0.6, len(ROWS) - 0.4)
        ax.set_ylim(0, 140 if tight else 122)  # room for the numbers
        ax.set_yticks(range(0, 101, 20))
        what = "accuracy (%)" if view == "accuracy" else "changed decisions (%)"
        ax.set_ylabel(f"{what}, {LEVEL:.0%} interval\nover classes")
        dress(ax)
        others = self.predicted.shape[1] - 1
        if view == "accuracy":
            handles: list[Any] = [
                Patch(facecolor=INK, edgecolor=INK, label="own background"),
                Patch(facecolor=PAPER, edgecolor=INK, label=f"{others} others (above: gap in points)"),
            ]
        else:
            handles = [
                Patch(facecolor=INK, edgecolor=INK, label=f"by another background (mean of {others})"),
                Line2D([], [], label=f"by any of the {others}", **_EVER),
            ]
        ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, borderaxespad=0.2)


def background_reliance(
    method: Method,
    dataset: LongTailDataset,
    *,
    backgrounds: Sequence[str] | None = None,
    others: int = 3,
    indices: Sequence[int] | None = None,
    per_class: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> BackgroundReliance:
    """Decisions about rendered images, as `extract` makes them, on their own background and on others drawn for each.

    Args:
        method: a trained method, on the device where it shall run.
        dataset: of the toybox; its preprocessing is replaced by the method's.
        backgrounds: to draw from; None: those that occur in the data set.
        others: how many different ones each image is put on, its own not among them.
        indices: which images; None: all.
        per_class: so many first images of each class instead.
        seed: of the backgrounds and of the bootstrap over classes. The others of an image depend on nothing else.
        batch_size: images per forward pass; several views count as several images.
        on_step: progress, called with the batch number and {"done": images so far, "total": N x (1 + others)}.

    Raises:
        ValueError: images that have no background to exchange, too few backgrounds, other classes than the method's,
            a method that looks at random crops.
    """
    require_classes(method, dataset)
    rows = _chosen(dataset, indices, per_class)
    table = own_and_others(dataset, rows, backgrounds, others=others, seed=seed)  # (N, 1 + k)
    found = probabilities(method, dataset, rows, table, batch_size=batch_size, on_step=on_step)
    labels = dataset.labels[rows]
    probability = np.take_along_axis(found, labels[:, None, None], 2)[..., 0]  # (N, 1 + k)
    predicted = found.argmax(2)
    groups = np.asarray(dataset.classes.groups)
    spec = dataset.spec() | {"preprocessing": method.test_preprocessing().spec()}
    return BackgroundReliance(
        arguments={
            "backgrounds": None if backgrounds is None else list(backgrounds),
            "others": others,
            "indices": None if indices is None else [int(row) for row in rows],
            "per_class": per_class,
            "seed": seed,
            "method": method.name,
        },
        sources=(method_source(method, data=spec),),
        method=method.name,
        intervals=intervals_of(predicted, probability, labels, groups, seed=seed),
        ids=dataset.ids[rows],
        labels=labels,
        backgrounds=table,
        predicted=predicted,
        probability=probability,
        names=tuple(dataset.classes.names),
        groups=groups,
        rule=str(dataset.classes.rule),
    )


def _chosen(dataset: LongTailDataset, indices: Sequence[int] | None, per_class: int | None) -> np.ndarray:
    """(N,) int64 rows of the data set."""
    if indices is not None and per_class is not None:
        raise ValueError("indices and per_class both choose images; give one of them.")
    rows = np.arange(len(dataset)) if indices is None else np.asarray(indices, dtype=np.int64)
    if not len(rows) or rows.min() < 0 or rows.max() >= len(dataset) or len(np.unique(rows)) < len(rows):
        raise ValueError(f"indices={indices}: give different ones of 0 to {len(dataset) - 1}, at least one.")
    return rows if per_class is None else first_of_each(dataset.labels, per_class)


def intervals_of(
    predicted: np.ndarray, probability: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, seed: int
) -> dict[tuple[str, str], metrics.Interval]:
    """The k others of an image take the part of seeds: their outcomes are averaged before classes are compared."""
    own, swapped = predicted[:, 0], predicted[:, 1:].T  # (N,), (k, N)
    hits = np.where(swapped != own, labels, -1)  # "right" where the decision changes, so that its share is an accuracy
    exact = probability.astype(np.float64)
    drop = exact[:, 0] - exact[:, 1:].mean(1)  # (N,)
    images = np.bincount(labels, minlength=len(groups))
    sums = np.bincount(labels, weights=drop, minlength=len(groups))
    found: dict[tuple[str, str], metrics.Interval] = {}
    for group in ROWS:
        options: dict[str, Any] = {"group": group, "level": LEVEL, "seed": seed}
        found["own", group] = metrics.group_interval(own, labels, groups, **options)
        found["swapped", group] = metrics.group_interval(swapped, labels, groups, **options)
        found["gap", group] = metrics.paired_difference(own, swapped, labels, groups, **options)
        found["changes", group] = metrics.group_interval(hits, labels, groups, **options)
        inside = (images > 0) & np.isin(groups, GROUP_ORDER if group == "all" else [group])
        size = images[inside]
        of_class = sums[inside] / size  # (K,)
        sizes = size if group == "all" else None  # where images weigh the same
        found["drop", group] = metrics.paired_values(of_class, np.zeros(len(size)), sizes=sizes, level=LEVEL, seed=seed)
    return {
        (quantity, group): replace(found[quantity, group], estimand=f"{what}, over classes like these")
        for quantity, what in _QUANTITIES.items()
        for group in ROWS
    }
