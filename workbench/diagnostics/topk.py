"""How often is the true class among the k best, for every k, by shot group and for one method or several?

Source: "Hierarchical Long-tailed Classification with Visual Language Models" (HLC, anonymous submission), section 1 and
figure 1: a coarse classifier that is often wrong may still have the true class among its k best, which is what
re-ranking k candidates lives on.

The first place is `predicted`, the decision in full precision, so that k = 1 is `metrics.group_accuracy` exactly. The
places after it are taken from the logits, which features keep in half precision: another class with the same rounded
logit is counted as if it stood before the true one, so that rounding never flatters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench import metrics
from workbench.features import Features

from .arms import aligned
from .base import (
    GROUP_COLOURS,
    GROUP_MARKERS,
    GROUP_ORDER,
    INK,
    METHOD_COLOURS,
    METHOD_MARKERS,
    PAPER,
    ROWS,
    Result,
    caption_below,
    dress,
    legend_beside,
    percent,
    plain,
    same_classes,
)
from .candidates import candidates_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_LETTERS = 24  # of a method's name in the legend


@dataclass(frozen=True, kw_only=True, eq=False)
class TopK(Result):
    """Shares in [0, 1] of images whose true class is among the k best, of each method.

    Of "all": share of images; of a shot group: mean over its classes, as `metrics.group_accuracy` has it.
    """

    diagnostic: ClassVar[str] = "topk"

    methods: tuple[str, ...]
    k: int  # the largest
    curves: dict[tuple[str, str], tuple[metrics.Interval, ...]]  # (method, group) -> k intervals, for 1, 2, ..., k
    candidates: dict[tuple[str, str], metrics.Interval]  # share of true classes among its candidates, where it has any
    num_candidates: dict[str, int]  # method -> K, of those that have candidates
    ranks: dict[str, np.ndarray]  # method -> (N,) int64 place of the true class, 1 is best; images as its features
    tied: dict[str, int]  # method -> images whose place hangs on equal logits
    sizes: dict[str, tuple[int, int]]  # group -> classes with images, images
    rule: str
    level: float

    @property
    def views(self) -> tuple[str, ...]:  # type: ignore[override]
        """ "groups": the first method's groups; of several methods one view per group, a line per method."""
        several = tuple(group for group in ROWS if self.sizes[group][0]) if len(self.methods) > 1 else ()
        return (*several, "groups")

    def accuracy(self, method: str, group: str = "all") -> np.ndarray:
        """(k,) shares in [0, 1] for 1, 2, ..., k."""
        return np.array([interval.estimate for interval in self.curves[method, group]])

    def __str__(self) -> str:
        shown = sorted({1, 2, 3, 5, 10, self.k} & set(range(1, self.k + 1)))
        lines = [
            f"true class among the k best, % of {self.sizes['all'][1]} images [{self.level:.0%} over classes]; "
            f"groups: {self.rule}"
        ]
        for method in self.methods:
            for group in ROWS:
                found = [self.curves[method, group][k - 1] for k in shown]
                cells = "  ".join(
                    f"k={k} {percent(one.estimate, one.low, one.high)}" for k, one in zip(shown, found, strict=True)
                )
                lines.append(f"{plain(method, _LETTERS):<{_LETTERS}} {group:<6} {cells}")
            if method in self.num_candidates:
                cells = "  ".join(f"{g} {percent(self.candidates[method, g].estimate)}" for g in ROWS)
                lines.append(f"  among its {self.num_candidates[method]} candidates: {cells}")
            if self.tied[method]:
                lines.append(
                    f"  {self.tied[method]} images have equal logits around the true class; counted against it"
                )
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """One row per method, group and k (kind "topk"), then the candidate sets (kind "candidates", k = their K)."""
        import pandas as pd

        entries = [
            ("topk", method, group, k, interval)
            for (method, group), curve in self.curves.items()
            for k, interval in enumerate(curve, start=1)
        ]
        entries += [
            ("candidates", method, group, self.num_candidates[method], interval)
            for (method, group), interval in self.candidates.items()
        ]
        return pd.DataFrame(
            [
                {
                    "kind": kind,
                    "method": method,
                    "group": group,
                    "k": k,
                    "accuracy": interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                    "classes": self.sizes[group][0],
                    "images": self.sizes[group][1],
                    "unit": interval.unit,
                    "interval": interval.method,
                }
                for kind, method, group, k, interval in entries
            ]
        )

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        if view == "groups":
            lines = [
                (self.methods[0], group, GROUP_COLOURS.get(group, INK), GROUP_MARKERS.get(group, "D"))
                for group in ROWS
                if self.sizes[group][0]
            ]
            names = [f"{group} ({self.sizes[group][0]})" for _, group, _, _ in lines]
        else:
            lines = [
                (method, view, METHOD_COLOURS[i % len(METHOD_COLOURS)], METHOD_MARKERS[i % len(METHOD_MARKERS)])
                for i, method in enumerate(self.methods)
            ]
            names = [plain(method, _LETTERS) for method in self.methods]
        shifts = np.linspace(-0.5, 0.5, len(lines)) * min(0.08 * len(lines), 0.6) if len(lines) > 1 else [0.0]
        marked = None  # a method whose candidates are drawn
        for (method, group, colour, marker), shift, name in zip(lines, shifts, names, strict=True):
            place = np.arange(1, self.k + 1) + shift
            curve = self.curves[method, group]
            low, middle, high = (
                100 * np.array([getattr(one, end) for one in curve]) for end in ("low", "estimate", "high")
            )
            ax.vlines(place, low, high, color=colour, linewidth=0.9)
            style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4, "label": name}
            ax.plot(place, middle, **(style | artist_kw))
            K = self.num_candidates.get(method)
            if K is not None and K <= self.k:
                inside = 100 * self.candidates[method, group].estimate
                ring = {"markersize": 9, "markeredgecolor": colour, "color": "none", "linestyle": "none"}
                ax.plot(K + shift, inside, marker="o", **ring)
                marked = K
        if marked is not None:
            ring = {"markersize": 9, "markeredgecolor": INK, "color": PAPER, "linestyle": "none", "marker": "o"}
            ax.plot(
                [],
                [],
                label=f"inside the\n{marked} candidates" if view == "groups" else "inside the\ncandidates",
                **ring,
            )
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
        ax.set_xlim(0.5, self.k + 0.5)
        top = ax.get_ylim()[1]
        ax.set_ylim(top=min(top, 101))
        ax.set_xlabel("k")
        whose = f"images of {view}-shot classes" if view in GROUP_ORDER else "images"
        ax.set_ylabel(f"true class among the k best\n(% of {whose})")
        dress(ax)
        legend_beside(ax, title="group (n classes)" if view == "groups" else "method")
        caption_below(ax, self._caption(view))

    def _caption(self, view: str) -> str:
        group = "all" if view == "groups" else view
        classes, images = self.sizes[group]
        whose = f"{plain(self.methods[0], _LETTERS)}, " if view == "groups" else ""
        means = {"all": "", "groups": "; groups: mean over classes"}.get(view, "; mean over classes")
        return f"{whose}n = {images} images of {classes} classes; bars: {self.level:.0%} over classes{means}"


def topk(
    features: Features | Mapping[str, Features], *, k: int | None = None, level: float = 0.95, seed: int = 0
) -> TopK:
    """The share of images whose true class is among the k best, for k from 1 on, with intervals over classes.

    Where features have `extras["candidates"]` (N, K), the share of true classes inside the candidate set is beside it:
    candidates come from the coarse logits, the curve from the logits after re-ranking.

    Args:
        features: with logits and decisions, of one method; or of several on the same test images, by name.
        k: the largest; None: 10, or as many as there are candidates if that is more, at most the number of classes.
        level: of confidence.
        seed: of the bootstrap over classes.

    Raises:
        ValueError: no features, features without logits, of other images or classes, k outside 1..C, bad candidates.
    """
    given = {str(name): one for name, one in features.items()} if isinstance(features, Mapping) else {}
    if isinstance(features, Features):
        given = {str(features.source.get("method", "method")): features}
    if not given:
        raise ValueError("no features were given; give Features, or a dict of method name -> Features.")
    for name, one in given.items():
        if one.logits is None:
            raise ValueError(
                f"the features of {name!r} hold no logits, and places after the first come from them; extract fewer "
                "images (per_class=), or use group_report, which needs decisions only."
            )
    several = list(given.values())
    classes, reference = same_classes(several), several[0]
    for one in several[1:]:
        aligned(one, reference)  # refuses other images
    groups = np.asarray(classes.groups)
    candidates = {name: candidates_of(one) for name, one in given.items() if "candidates" in one.extras}
    widths = {name: found.shape[1] for name, found in candidates.items()}
    largest = min(max(10, *widths.values(), 1), len(classes)) if k is None else k
    if not 1 <= largest <= len(classes):
        raise ValueError(f"k={k}; give a whole number from 1 to {len(classes)}, the number of classes.")
    ranks, tied = {}, {}
    for name, one in given.items():
        ranks[name], tied[name] = _ranks(one)

    def interval(hit: np.ndarray, labels: np.ndarray, group: str) -> metrics.Interval:
        return metrics.group_interval(np.where(hit, labels, -1), labels, groups, group, level=level, seed=seed)

    return TopK(
        arguments={"k": k, "level": level, "seed": seed, "methods": list(given)},
        sources=tuple(one.source for one in several),
        methods=tuple(given),
        k=largest,
        curves={
            (name, group): tuple(interval(ranks[name] <= best, one.labels, group) for best in range(1, largest + 1))
            for name, one in given.items()
            for group in ROWS
        },
        candidates={
            (name, group): interval((found == given[name].labels[:, None]).any(1), given[name].labels, group)
            for name, found in candidates.items()
            for group in ROWS
        },
        num_candidates=widths,
        ranks=ranks,
        tied=tied,
        sizes={group: _sizes(reference, group) for group in ROWS},
        rule=str(classes.rule),
        level=level,
    )


def _ranks(features: Features) -> tuple[np.ndarray, int]:
    """(N,) place of the true class, the decision first; and how many images' place hangs on equal logits."""
    logits, labels, decided = features.logits, features.labels, features.decisions
    rows = np.arange(len(labels))
    own = logits[rows, labels][:, None]  # (N, 1)
    others = np.ones(logits.shape, dtype=bool)
    others[rows, labels] = others[rows, decided] = False  # the decision has the first place whatever its logit
    above, equal = ((found & others).sum(1) for found in (logits > own, logits == own))
    wrong = decided != labels
    return np.where(wrong, 2 + above + equal, 1), int((wrong & (equal > 0)).sum())


def _sizes(features: Features, group: str) -> tuple[int, int]:
    labels = features.labels[np.isin(features.group_of, GROUP_ORDER if group == "all" else [group])]
    return len(np.unique(labels)), len(labels)
