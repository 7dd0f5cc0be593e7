"""How does accuracy by shot group follow one option of a method?

Source: the ablations of the papers. LIFT (Shi et al., "Long-Tail Learning with Foundation Model: Heavy Fine-Tuning
Hurts", ICML 2024, arXiv 2309.10019), figures 4a (proportion of tuned weights), 6 (bottleneck r) and 10 (last k blocks
at several learning rates); LPT (Dong et al., ICLR 2023, arXiv 2210.01033), tables 12, 17 and 18; figure 4 of HLC and
5 of BALLAD (Ma et al., arXiv 2111.14745). They print one number per value and call the highest the best. Here each
accuracy has its interval over classes, and the highest is compared in pairs with all others (`best_value`).

    wb.sweep({0.001: run_a, 0.01: [seed_0, seed_1], 0.1: run_c}, option="proportion of tuned weights", chosen=0.01)
    wb.sweep({"lr 0.01": {1: ..., 2: ...}, "lr 0.02": {1: ..., 2: ...}}, option="blocks tuned, k")
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench import metrics

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
    plain,
    same_classes,
)
from .option_axis import Value, label, places, scale_axis
from .swept import Curve, Measured, cell, curve_of, found, listed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_LETTERS = 16  # of a value or a curve in a figure
_BANDS = 3  # curves; bands of more hide each other


@dataclass(frozen=True, kw_only=True, eq=False)
class Sweep(Result):
    """Accuracy by group for each value of an option, on one curve or several. In [0, 1], means over seeds."""

    diagnostic: ClassVar[str] = "sweep"
    size: ClassVar[tuple[float, float]] = (5.5, 3.4)

    option: str
    curves: tuple[Curve, ...]
    chosen: Value | None
    numeric: bool  # all values are numbers
    classes: dict[str, int]  # key of metrics.group_accuracy -> classes with test images
    images: int
    split: str  # of the images, where the features know it
    rule: str
    level: float

    @property
    def views(self) -> tuple[str, ...]:  # type: ignore[override]
        """ "groups": a line per group; of several curves a line per curve, for all images, a group or all classes."""
        rows = tuple(row for row in (*GROUP_ORDER, "mean_class") if self.classes[row])
        return ("curves", *rows) if len(self.curves) > 1 else ("groups",)

    def __str__(self) -> str:
        sizes = ", ".join(f"{group} {self.classes[group]}" for group in GROUP_ORDER)
        lines = [
            f"accuracy in % [{self.level:.0%} over classes] (lowest to highest seed) by {plain(self.option, 60)}; "
            f"{self.images} images; groups: {self.rule}; classes with test images: {sizes}"
        ]
        for curve in self.curves:
            lines += [f"{plain(curve.name, 60)}:"] * (len(self.curves) > 1)
            for value, arm in zip(curve.values, curve.arms, strict=True):
                mark = " (chosen)" if value == self.chosen else ""
                lines.append(f"  {label(value)}{mark}: " + "  ".join(cell(arm, row) for row in ROWS))
            lines += [f"  {row.replace('_', ' ')}: {found(curve, row)}" for row in curve.best if len(curve.values) > 1]
        return "\n".join(lines + self._notes())

    def _notes(self) -> list[str]:
        total = sum(len(curve.values) for curve in self.curves)
        where = f"the images of {self.split}" if self.split else "these images"
        after = "report its accuracy on test" if self.split == "val" else "choose on val"
        notes = [f"the highest of {total} was picked on {where} and looks better than it is there: {after}"]
        if any(best.others for curve in self.curves for best in curve.best.values()):
            several = " or curves" if len(self.curves) > 1 else ""
            notes.append(
                "p: paired by class, Holm's correction for all pairs of values, since any of them could have come out "
                f"highest; not for several rows{several}. What is not distinguishable may still differ by less than "
                "the points that the test could have shown"
            )
        if any(0 < self.classes[row] < metrics.TRUSTED_FROM for row in ROWS):
            notes.append(f"* fewer than {metrics.TRUSTED_FROM} classes: do not lean on this interval, and no test")
        return notes

    def to_frame(self) -> pd.DataFrame:
        """One row per curve, value and group; behind: the highest of the curve and group minus this one."""
        import pandas as pd

        rows = []
        for curve in self.curves:
            for i, (value, arm) in enumerate(zip(curve.values, curve.arms, strict=True)):
                for row, over in arm.over_classes.items():
                    seeds, best = arm.over_seeds.get(row), curve.best.get(row)
                    other = best.others.get(i) if best else None
                    rows.append(
                        {
                            "curve": curve.name,
                            "value": value,
                            "chosen": value == self.chosen,
                            "group": row,
                            "accuracy": over.estimate,
                            "low": over.low,
                            "high": over.high,
                            "too_small": over.too_small,
                            "classes": self.classes[row],
                            "seeds": arm.num_seeds,
                            "seeds_low": seeds.low if seeds else math.nan,
                            "seeds_high": seeds.high if seeds else math.nan,
                            "seeds_sd": arm.seed_values[row].std(ddof=1) if seeds else math.nan,
                            "highest": best is not None and best.index == i,
                            "behind": other.difference.estimate if other else math.nan,
                            "behind_low": other.difference.low if other else math.nan,
                            "behind_high": other.difference.high if other else math.nan,
                            "p": other.difference.p if other else math.nan,
                            "p_holm": other.p if other else math.nan,
                            "verdict": other.verdict if other else "",
                        }
                    )
        return pd.DataFrame(rows)

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        from matplotlib.lines import Line2D

        values, lines = self._order(), list(self._lines(view))
        scale_axis(ax, values, numeric=self.numeric)
        shown = len(lines) <= _BANDS or view == "groups" or not self.numeric
        hollow = False
        for number, (name, curve, row, colour, marker) in enumerate(lines):
            x = places(curve.values, values, numeric=self.numeric)
            if not self.numeric:  # beside each other, since no line leads the eye
                x = x + 0.4 * ((number + 0.5) / len(lines) - 0.5)
            style: dict[str, Any] = {"color": colour, "linestyle": "-" if self.numeric else "none", "label": name}
            middle = 100 * curve.accuracy(row)
            ax.plot(x, middle, **(style | artist_kw))
            if shown:
                self._intervals(ax, x, curve, row, colour)
            if view == "groups":
                self._seeds(ax, x, curve, row, colour)
            best, flat = curve.best[row], curve.is_flat(row)
            for i in range(len(x)):
                lower = i in best.others and best.others[i].verdict == "lower"
                hollow |= lower
                look: dict[str, Any] = {"color": colour, "marker": marker, "zorder": 3}
                look |= {
                    "markerfacecolor": PAPER if lower else colour,
                    "markersize": 7 if i == best.index and not flat else 4.5,
                }
                ax.plot(x[i], middle[i], **look)
        handles: list[Any] = [
            Line2D([], [], color=colour, marker=marker, markersize=4.5, label=name, linestyle=style["linestyle"])
            for name, _, _, colour, marker in lines
        ]
        key: dict[str, Any] = {"color": INK, "linestyle": "none", "marker": "o"}
        handles.append(Line2D([], [], label="highest", markersize=7, **key))
        if hollow:
            handles.append(Line2D([], [], label="lower than it", markersize=4.5, markerfacecolor=PAPER, **key))
        if self.chosen is not None:
            dotted: dict[str, Any] = {"color": INK, "linewidth": 0.9, "linestyle": ":"}
            ax.axvline(places([self.chosen], values, numeric=self.numeric)[0], zorder=1, **dotted)
            handles.append(Line2D([], [], label=f"chosen: {label(self.chosen)}", **dotted))
        ax.margins(y=0.08)
        bottom, top = ax.get_ylim()
        ax.set_ylim(max(bottom, -2), min(top, 102))
        ax.set_xlabel(plain(self.option, 60), parse_math=False)
        ax.set_ylabel(self._measure(view))
        caption_below(ax, self._caption(view, shown, hollow))
        legend_beside(ax, handles=handles)
        dress(ax)

    def _intervals(self, ax: Axes, x: np.ndarray, curve: Curve, row: str, colour: str) -> None:
        over = [arm.over_classes[row] for arm in curve.arms]
        low, high = (100 * np.array([getattr(one, end) for one in over]) for end in ("low", "high"))
        if self.numeric and len(x) > 1:
            ax.fill_between(x, low, high, color=colour, alpha=0.1, linewidth=0)
        else:
            ax.vlines(x, low, high, color=colour, linewidth=0.9, alpha=0.7)

    def _seeds(self, ax: Axes, x: np.ndarray, curve: Curve, row: str, colour: str) -> None:
        """A dot for each of several seeds."""
        for place, arm in zip(x, curve.arms, strict=True):
            seeds = 100 * arm.seed_values[row] if arm.over_seeds else np.empty(0)
            ax.plot(np.full(len(seeds), place), seeds, color=colour, marker=".", markersize=3, linestyle="none")

    def _lines(self, view: str) -> Iterator[tuple[str, Curve, str, str, str]]:
        """Name, curve, row, colour and marker of each line of a view."""
        if view == "groups":
            for row in ROWS:
                if self.classes[row]:
                    colour, marker = GROUP_COLOURS.get(row, INK), GROUP_MARKERS.get(row, "D")
                    yield f"{row} ({self.classes[row]} classes)", self.curves[0], row, colour, marker
            return
        for number, curve in enumerate(self.curves):
            # beyond 10 curves a colour comes again with another marker
            look = METHOD_COLOURS[number % 10], METHOD_MARKERS[(number + number // 10) % 10]
            yield plain(curve.name, _LETTERS), curve, "all" if view == "curves" else view, *look

    def _order(self) -> list[Value]:
        """Values of all curves: in rising order, or in the order given."""
        values = list(dict.fromkeys(value for curve in self.curves for value in curve.values))
        return sorted(values) if self.numeric else values

    def _measure(self, view: str) -> str:
        if view in ("groups", "curves"):
            return "accuracy (%)" if view == "groups" else "share of images\nthat are right (%)"
        which = "" if view == "mean_class" else f"{view}-shot "
        what = "share of right images" if self.arguments["pooled"] and which else "mean class accuracy"
        return f"{what} (%),\n{self.classes[view]} {which}classes"

    def _caption(self, view: str, shown: bool, hollow: bool) -> str:
        drawn = "bands" if self.numeric else "bars"
        notes = [f"{drawn}: {self.level:.0%} over classes" if shown else "intervals are in the table"]
        several = any(arm.over_seeds for curve in self.curves for arm in curve.arms)
        notes += ["dots: seeds"] * (view == "groups" and several)
        notes += ["hollow: lower than the highest (paired, Holm)"] if hollow else []
        after = "report it on test" if self.split == "val" else "choose it on val"
        rows = ROWS if view == "groups" else ("all" if view == "curves" else view,)
        if any(0 < self.classes[row] < metrics.TRUSTED_FROM for row in rows):
            after += f"\nfewer than {metrics.TRUSTED_FROM} classes: do not lean on the intervals, and no test"
        return f"{'; '.join(notes)}\nthe highest of many on the same images looks better than it is: {after}"


def sweep(
    values: Mapping[Value, Measured] | Mapping[str, Mapping[Value, Measured]],
    *,
    option: str,
    chosen: Value | None = None,
    pooled: bool = False,
    level: float = 0.95,
    seed: int = 0,
) -> Sweep:
    """Accuracy by shot group for each value of one option, which value is best, and from which it can be told apart.

    Args:
        values: value of the option -> features of one run, or a list of one per training seed, all of the same test
            images; or, for a second option, curve -> such a mapping. Numbers are sorted; where any value is text, all
            keep the order given.
        option: its name and unit, for the axis.
        chosen: the paper's value, or the one chosen on val; it is marked.
        pooled: group accuracies as shares of images (LPT) instead of means of class accuracies.
        level: of the intervals over classes, and of "lower".
        seed: of the bootstrap over classes and of the permutations.

    Raises:
        ValueError: fewer than two values, features without decisions, or of other test images or classes.
    """
    given = listed(values)
    everything = [features for curve in given.values() for seeds in curve.values() for features in seeds]
    swept = list(dict.fromkeys(value for curve in given.values() for value in curve))
    numeric = not any(isinstance(value, str) for value in swept)
    if chosen is not None:
        chosen = chosen if numeric else str(chosen)
        if chosen not in swept:
            raise ValueError(f"chosen={chosen!r} is not among the values: {', '.join(map(label, swept))}.")
        chosen = swept[swept.index(chosen)]
    reference, classes = everything[0], same_classes(everything)
    groups, labels = np.asarray(classes.groups), reference.labels
    options: dict[str, Any] = {"pooled": pooled, "level": level, "seed": seed}
    tested = np.bincount(labels, minlength=len(classes)) > 0
    splits = {str(features.source.get("split", "")) for features in everything}
    return Sweep(
        arguments=options
        | {
            "option": option,
            "chosen": chosen,
            "seeds": {name: {str(v): len(seeds) for v, seeds in curve.items()} for name, curve in given.items()},
        },
        sources=tuple(features.source for features in everything),
        option=option,
        curves=tuple(curve_of(name, curve, reference, groups, options) for name, curve in given.items()),
        chosen=chosen,
        numeric=numeric,
        classes={row: int((tested & ((groups == row) | (row not in GROUP_ORDER))).sum()) for row in metrics.ACCURACIES},
        images=len(labels),
        split=splits.pop() if len(splits) == 1 else "",
        rule=str(classes.rule),
        level=level,
    )
