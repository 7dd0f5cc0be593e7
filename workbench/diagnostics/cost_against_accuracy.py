"""What does accuracy cost? Accuracy of several methods against the parameters that they tune, and all they have.

Source: the bubble charts of LIFT (Shi et al., "Long-Tail Learning with Foundation Model: Heavy Fine-Tuning Hurts", ICML
2024, arXiv 2309.10019) and of HLC (figure 1b). Parameters are counted by `cost`: tuned ones without the classifier,
which stands beside them. Here the area of a bubble, not its radius, is proportional to all parameters, as areas are
what readers compare; and each accuracy has its interval over classes, as `metrics.group_interval` gives it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench import metrics
from workbench.features import Features

from .arms import Arm, aligned, arm_of
from .base import (
    GROUP_ORDER,
    INK,
    METHOD_COLOURS,
    METHOD_MARKERS,
    MUTED,
    ROWS,
    Result,
    caption_below,
    dress,
    percent,
    plain,
    same_classes,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_LARGEST = 32.0  # points: diameter of the largest bubble
_LETTERS = 20  # of a method's name in the legend


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Counts of one method, as `cost` gives them."""

    tuned: int  # without the classifier
    head: int
    total: int


@dataclass(frozen=True, kw_only=True, eq=False)
class CostAgainstAccuracy(Result):
    """One bubble per method. Accuracies in [0, 1], means over seeds; intervals are over classes."""

    diagnostic: ClassVar[str] = "cost_against_accuracy"
    views: ClassVar[tuple[str, ...]] = ("all", *GROUP_ORDER, "mean_class")
    size: ClassVar[tuple[float, float]] = (5.5, 3.6)

    arms: tuple[Arm, ...]
    parameters: tuple[Parameters, ...]  # of each arm
    classes: dict[str, int]  # view -> classes with test images
    rule: str
    level: float

    def __str__(self) -> str:
        lines = [
            f"accuracy in % [{self.level:.0%} over classes] and parameters (tuned: without the classifier); groups: "
            f"{self.rule}; classes with test images: " + ", ".join(f"{g} {self.classes[g]}" for g in GROUP_ORDER)
        ]
        small = False
        for arm, count in zip(self.arms, self.parameters, strict=True):
            cells = []
            for group in ROWS:
                over = arm.over_classes[group]
                mark = "*" if over.too_small and over.n else ""
                small |= bool(mark)
                cells.append(f"{group} {percent(over.estimate, over.low, over.high)}{mark}")
            lines.append(
                f"{plain(arm.name, 40)} ({_seeds(arm)}): {count.tuned:,} tuned, {count.head:,} of the classifier, "
                f"{count.total:,} in all; {'  '.join(cells)}"
            )
        if small:
            lines.append(f"* fewer than {metrics.TRUSTED_FROM} classes: do not lean on this interval")
        lines.append("overlapping intervals do not show that two methods are equal: group_report compares in pairs")
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """One row per method and group: parameters, accuracy, its interval over classes and, of seeds, over those."""
        import pandas as pd

        rows = []
        for arm, count in zip(self.arms, self.parameters, strict=True):
            for group, over in arm.over_classes.items():
                seeds = arm.over_seeds.get(group)
                rows.append(
                    {
                        "method": arm.name,
                        "group": group,
                        "tuned": count.tuned,
                        "head": count.head,
                        "total": count.total,
                        "accuracy": over.estimate,
                        "low": over.low,
                        "high": over.high,
                        "too_small": over.too_small,
                        "classes": self.classes[group],
                        "seeds": arm.num_seeds,
                        "seeds_low": seeds.low if seeds else math.nan,
                        "seeds_high": seeds.high if seeds else math.nan,
                    }
                )
        return pd.DataFrame(rows)

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        from matplotlib.ticker import EngFormatter, FixedFormatter, FixedLocator, LogLocator

        tuned = np.array([count.tuned for count in self.parameters])
        positive = tuned[tuned > 0]
        first = math.floor(math.log10(positive.min())) if len(positive) else 3
        last = max(math.ceil(math.log10(positive.max())) if len(positive) else 4, first + 1)
        nothing = 10.0 ** (first - 1)  # a logarithmic axis has no 0: methods that tune nothing stand before a break
        largest = max(count.total for count in self.parameters)
        for number, (arm, count) in enumerate(zip(self.arms, self.parameters, strict=True)):
            over = arm.over_classes[view]
            if not over.n:
                continue
            x, colour = count.tuned or nothing, METHOD_COLOURS[number % 10]
            style: dict[str, Any] = {
                "s": _area(count.total, largest),
                "color": colour,
                "alpha": 0.25,
                "linewidths": 0,
                "zorder": 2,
            }
            ax.scatter(x, 100 * over.estimate, **(style | artist_kw))
            if not math.isnan(over.low):
                ax.vlines(x, 100 * over.low, 100 * over.high, color=colour, linewidth=1.2, zorder=3)
            ax.plot(x, 100 * over.estimate, color=colour, marker=_marker(number), linestyle="none", zorder=4)
        if not self.classes[view]:
            ax.text(0.5, 0.5, "n/a (0 classes with test images)", transform=ax.transAxes, ha="center", color=MUTED)
            ax.set_ylim(0, 100)
        ax.set_xscale("log")
        ax.set_xlim(10.0 ** (first - (1.5 if (tuned == 0).any() else 0.3)), 10.0 ** (last + 0.3))
        engineering = EngFormatter(sep=" ")
        step = max(1, math.ceil((last - first) / 4))
        decades = [10.0**power for power in range(first, last + 1, step)]
        places, labels = decades, [engineering(place) for place in decades]
        if (tuned == 0).any():
            places, labels = [nothing, *decades], ["0", *labels]
            ax.axvline(10.0 ** (first - 0.5), color=MUTED, linewidth=0.8, linestyle=":")
        ax.xaxis.set_major_locator(FixedLocator(places))
        ax.xaxis.set_major_formatter(FixedFormatter(labels))
        ax.xaxis.set_minor_locator(LogLocator(numticks=1))
        ax.margins(y=0.12)
        low, high = ax.get_ylim()
        ax.set_ylim(max(low, -4), min(high, 104))
        ax.set_xlabel("tuned parameters, without the classifier")
        if view == "all":
            what = "share of test images that are right (%)"
        else:
            which = "all" if view == "mean_class" else f"{view}-shot"
            what = f"mean class accuracy (%),\n{self.classes[view]} {which} classes".replace("all classes", "classes")
        ax.set_ylabel(what)
        note = f"lines: {self.level:.0%} intervals over classes; methods are compared in pairs by group_report"
        if 0 < self.classes[view] < metrics.TRUSTED_FROM:
            note += f"\nfewer than {metrics.TRUSTED_FROM} classes: do not lean on these intervals"
        caption_below(ax, note)
        self._legends(ax, largest)
        dress(ax)

    def _legends(self, ax: Axes, largest: int) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.ticker import EngFormatter

        handles: list[Any] = []
        for number, arm in enumerate(self.arms):
            look: dict[str, Any] = {
                "color": METHOD_COLOURS[number % 10],
                "marker": _marker(number),
                "linestyle": "none",
            }
            seeds = f" ({_seeds(arm)})" if arm.num_seeds > 1 else ""
            handles.append(Line2D([], [], label=plain(arm.name, _LETTERS) + seeds, **look))
        names = ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.04), alignment="left")
        ax.add_artist(names)
        names.set_clip_on(False)  # what is clipped to the axes gets no room beside them
        engineering, bubbles = EngFormatter(places=0, sep=" "), []
        for total in _round_totals(largest):
            size: dict[str, Any] = {"markersize": math.sqrt(_area(total, largest)), "markeredgewidth": 0}
            bubbles.append(
                Line2D([], [], marker="o", color=INK, alpha=0.25, linestyle="none", label=engineering(total), **size)
            )
        sizes = ax.legend(
            handles=bubbles, title="area: all parameters", loc="lower left", bbox_to_anchor=(1.0, -0.04),
            alignment="left", handlelength=3.4, handleheight=3.2, labelspacing=0.9, ncols=2, columnspacing=0.8,
        )  # fmt: skip
        for text in (*names.get_texts(), *sizes.get_texts()):
            text.set_parse_math(False)


def cost_against_accuracy(
    arms: Mapping[str, tuple[Any, Features | Sequence[Features]]], *, pooled: bool = False, level: float = 0.95
) -> CostAgainstAccuracy:
    """Accuracy of each method on the same test images against the parameters that it tunes.

    Args:
        arms: name -> (result of `cost`, features of one run or a list of them, one per training seed).
        pooled: group accuracies as shares of images (LPT) instead of means of class accuracies.
        level: of the intervals over classes.

    Raises:
        ValueError: nothing given, an empty list, a count below 0, or features of other test images or classes.
    """
    if not arms:
        raise ValueError("nothing was given; cost_against_accuracy takes name -> (cost, features).")
    lists: dict[str, list[Features]] = {}
    parameters = []
    for name, pair in arms.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not hasattr(pair[0], "tuned"):
            raise ValueError(f"{name!r} is {type(pair).__name__}; give (result of wb.cost, features).")
        count, features = pair
        lists[str(name)] = [features] if isinstance(features, Features) else list(features)
        if not lists[str(name)]:
            raise ValueError(f"{name!r} has an empty list of features; give one Features per training seed.")
        if not 0 <= count.tuned <= count.total or count.total < 1:
            raise ValueError(f"{name!r} tunes {count.tuned} of {count.total} parameters; give the result of wb.cost.")
        parameters.append(Parameters(tuned=count.tuned, head=count.head, total=count.total))
    everything = [one for several in lists.values() for one in several]
    reference, classes = everything[0], same_classes(everything)
    groups, labels = np.asarray(classes.groups), reference.labels
    options: dict[str, Any] = {"pooled": pooled, "level": level}
    found = [
        arm_of(name, np.stack([aligned(one, reference) for one in several]), labels, groups, options)
        for name, several in lists.items()
    ]
    tested = np.bincount(labels, minlength=len(classes)) > 0
    sizes = {group: int((tested & (groups == group)).sum()) for group in GROUP_ORDER}
    return CostAgainstAccuracy(
        arguments=options | {"seeds": {name: len(several) for name, several in lists.items()}},
        sources=tuple(one.source for one in everything),
        arms=tuple(found),
        parameters=tuple(parameters),
        classes=dict.fromkeys(("all", "mean_class"), int(tested.sum())) | sizes,
        rule=str(classes.rule),
        level=level,
    )


def _area(total: int, largest: int) -> float:
    """Points squared, as scatter has it: proportional to the parameters."""
    return _LARGEST**2 * total / largest


def _round_totals(largest: int) -> list[int]:
    """For the key: the largest of 1, 2 or 5 times a power of ten within `largest`, and a quarter of it."""
    power = 10 ** (len(str(largest)) - 1)
    top = max(factor * power for factor in (1, 2, 5) if factor * power <= largest)
    return [top, top // 4] if top >= 4 else [top]


def _marker(number: int) -> str:
    return METHOD_MARKERS[(number + number // 10) % 10]  # beyond 10 arms a colour comes again with another marker


def _seeds(arm: Arm) -> str:
    return "1 seed" if arm.num_seeds == 1 else f"{arm.num_seeds} seeds"
