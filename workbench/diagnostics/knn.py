"""K-nearest-neighbour accuracy: how well labels follow from distances alone, without a trained classifier.

Source: Dong et al., "LPT", ICLR 2023, arXiv 2210.01033, tables 2 and 10. The paper states neither K nor (in table 2)
the metric, so several K and both metrics are offered. A long-tailed bank is biased on its own: neighbours of a rare
class are mostly images of frequent ones. Beside it therefore stands a bank in which every class has as many images as
the smallest (`matched`), and the nearest class mean, which no class wins by its size (Kang et al., ICLR 2020, arXiv
1910.09217).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench import metrics

from .base import GROUP_COLOURS, GROUP_MARKERS, GROUP_ORDER, INK, ROWS, Result, dress, percent, same_classes
from .neighbours import METRICS, majority, metric_space, nearest_mean, nearest_neighbours

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.features import Features

NEAREST_MEAN = "nearest mean"


@dataclass(frozen=True, kw_only=True, eq=False)
class KnnAccuracy(Result):
    """Accuracy in [0, 1] of each classifier on each bank.

    `table[bank, rule]` is what `metrics.group_accuracy` gives (all, many, medium, few, mean_class); bank is
    "long-tailed" (as given) or "matched", rule is k or "nearest mean". All nan where a bank has fewer than k images.
    """

    diagnostic: ClassVar[str] = "knn_accuracy"

    k: int | tuple[int, ...]
    metric: str
    table: dict[tuple[str, int | str], dict[str, float]]
    predicted: dict[tuple[str, int | str], np.ndarray]  # (N,) class index per query
    bank_images: int
    matched_images: int  # per class
    n: int  # queries
    group_sizes: dict[str, tuple[int, int]]  # all, many, medium, few -> (classes with queries, queries)
    leave_one_out: bool
    absent: np.ndarray  # classes without an image in the bank: never predicted
    rule: str

    @property
    def accuracy(self) -> Any:
        """Share of queries that are right, long-tailed bank: one number when one k was asked for, else k -> number."""
        if isinstance(self.k, int):
            return self.table["long-tailed", self.k]["all"]
        return {k: self.table["long-tailed", k]["all"] for k in self.k}

    @property
    def groups(self) -> dict[Any, Any]:
        """Group accuracies, long-tailed bank: group -> number when one k was asked for, else k -> (group -> number)."""
        if isinstance(self.k, int):
            return self.table["long-tailed", self.k]
        return {k: self.table["long-tailed", k] for k in self.k}

    def __str__(self) -> str:
        sizes = ", ".join(f"{group} {self.group_sizes[group][0]} classes" for group in GROUP_ORDER)
        lines = [
            f"{self.metric} nearest neighbours, accuracy in % of n = {self.n} queries; bank of {self.bank_images} "
            f"images, matched: {self.matched_images} per class{'; leave-one-out' if self.leave_one_out else ''}",
            f"groups: {self.rule} ({sizes})",
        ]
        if len(self.absent):
            lines.append(f"{len(self.absent)} classes have no image in the bank and are never predicted")
        for (bank, rule), values in self.table.items():
            cells = "  ".join(f"{group} {percent(values[group])}" for group in ROWS)
            lines.append(f"{bank:<12} {rule if isinstance(rule, str) else f'k = {rule}':<13} {cells}")
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """One row per bank, rule and group; k is empty for the nearest mean."""
        import pandas as pd

        rows = [
            {
                "bank": bank,
                "classifier": NEAREST_MEAN if rule == NEAREST_MEAN else "k nearest",
                "k": None if rule == NEAREST_MEAN else rule,
                "group": group,
                "accuracy": value,
                "classes": self.group_sizes.get(group, self.group_sizes["all"])[0],
                "queries": self.group_sizes.get(group, self.group_sizes["all"])[1],
                "metric": self.metric,
            }
            for (bank, rule), values in self.table.items()
            for group, value in values.items()
        ]
        return pd.DataFrame(rows).astype({"k": "Int64"})

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        rules = list(dict.fromkeys(rule for _, rule in self.table))
        places = np.arange(len(rules), dtype=float)
        for group in ROWS:
            if not self.group_sizes[group][0]:
                continue
            colour, marker = GROUP_COLOURS.get(group, INK), GROUP_MARKERS.get(group, "D")
            shift = 0.18 * (ROWS.index(group) - 1.5)
            for bank, fill in (("long-tailed", colour), ("matched", "none")):
                values = [100 * self.table[bank, rule][group] for rule in rules]
                style = {"marker": marker, "linestyle": "none", "color": colour, "markerfacecolor": fill}
                label = None
                if bank == "long-tailed":
                    label = "{} ({} classes, n = {})".format(group, *self.group_sizes[group])
                ax.plot(places + shift, values, label=label, clip_on=False, **(style | artist_kw))
        ax.plot([], [], marker="o", linestyle="none", color=INK, label=f"bank as given ({self.bank_images} images)")
        label = f"size-matched bank ({self.matched_images} per class)"
        ax.plot([], [], marker="o", linestyle="none", color=INK, markerfacecolor="none", label=label)
        ax.set_xticks(places, [f"k = {rule}" if isinstance(rule, int) else rule.replace(" ", "\n") for rule in rules])
        ax.set_ylim(0, 100)
        ax.set_xlim(-0.5, len(rules) - 0.5)
        ax.set_xlabel(f"classifier ({self.metric})")
        ax.set_ylabel("accuracy (%)")
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        dress(ax)


def knn_accuracy(
    bank: Features,
    queries: Features,
    *,
    k: int | Sequence[int] = 20,
    metric: str = "cosine",
    seed: int = 0,
) -> KnnAccuracy:
    """Accuracy of k nearest neighbours and of the nearest class mean, exact.

    The majority of the k neighbours decides; a tie goes to the class with the larger summed similarity (Euclidean:
    smaller summed distance), then to the lower class index. Neighbours at equal distance come in the order of the bank.

    Args:
        bank: labelled images to search, usually the training split with the test transform.
        queries: images to classify. The same object as `bank` is measured leave-one-out: no image finds itself.
        k: one number of neighbours or several.
        metric: "cosine" or "euclidean".
        seed: which images of each class make up the size-matched bank.
    """
    ks = (k,) if isinstance(k, int) else tuple(int(number) for number in k)
    leave_one_out = bank is queries
    _check(bank, queries, ks, metric)
    classes = same_classes([bank, queries])
    sizes = np.bincount(bank.labels, minlength=len(classes))
    smallest = int(sizes[sizes > 0].min())
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(np.flatnonzero(bank.labels == c), smallest, replace=False) for c in np.flatnonzero(sizes)]
    rows = {"long-tailed": np.arange(len(bank)), "matched": np.sort(np.concatenate(chosen))}
    queried = metric_space(queries.vectors, metric)
    stored = metric_space(bank.vectors, metric)
    table, predicted = {}, {}
    for name, kept in rows.items():
        vectors, labels = stored[kept], bank.labels[kept]
        itself = kept if leave_one_out else None
        found: dict[int | str, np.ndarray] = dict(
            _vote(vectors, labels, queried, [n for n in ks if n <= len(kept) - leave_one_out], itself, metric)
        )
        found[NEAREST_MEAN] = nearest_mean(vectors, labels, queried, len(classes), itself, metric)
        for rule in (*ks, NEAREST_MEAN):
            if rule in found:
                predicted[name, rule] = found[rule]
                table[name, rule] = metrics.group_accuracy(found[rule], queries.labels, classes.groups)
            else:
                table[name, rule] = dict.fromkeys(table["long-tailed", rule], float("nan"))
    return KnnAccuracy(
        arguments={"k": k if isinstance(k, int) else list(ks), "metric": metric, "seed": seed},
        sources=(bank.source, queries.source),
        k=k if isinstance(k, int) else ks,
        metric=metric,
        table=table,
        predicted=predicted,
        bank_images=len(bank),
        matched_images=smallest,
        n=len(queries),
        group_sizes={"all": _sizes(queries.labels)}
        | {group: _sizes(queries.labels[queries.group_of == group]) for group in GROUP_ORDER},
        leave_one_out=leave_one_out,
        absent=np.flatnonzero(sizes == 0),
        rule=str(classes.rule),
    )


def _sizes(labels: np.ndarray) -> tuple[int, int]:
    """Classes and images among these labels."""
    return len(np.unique(labels)), len(labels)


def _check(bank: Features, queries: Features, ks: tuple[int, ...], metric: str) -> None:
    if metric not in METRICS:
        raise ValueError(f"metric={metric!r} is not known; choose one of {', '.join(METRICS)}.")
    available = len(bank) - (bank is queries)
    if not ks or min(ks) < 1 or max(ks) > available or len(set(ks)) < len(ks):
        raise ValueError(f"k={list(ks)}; give different whole numbers from 1 to {available}, the images in the bank.")
    if bank.vectors.shape[1] != queries.vectors.shape[1]:
        raise ValueError(
            f"bank has width {bank.vectors.shape[1]}, queries {queries.vectors.shape[1]}; extract both with one model."
        )
    if bank is not queries:
        both = np.intersect1d(bank.ids, queries.ids)
        if len(both):
            raise ValueError(
                f"bank and queries share {len(both)} images (e.g. {str(both[0])!r}), which would find themselves. Use "
                "another split, or give the same object twice for leave-one-out."
            )


def _vote(
    stored: np.ndarray,
    labels: np.ndarray,
    queried: np.ndarray,
    ks: list[int],
    itself: np.ndarray | None,
    metric: str,
) -> dict[int, np.ndarray]:
    if not ks:
        return {}
    indices, similarities = nearest_neighbours(stored, queried, max(ks), metric=metric, itself=itself)
    return {k: majority(labels[indices[:, :k]], similarities[:, :k]) for k in ks}
