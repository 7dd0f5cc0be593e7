"""Does training weight good descriptions of a class higher than bad ones?

Source: "Hierarchical Long-tailed Classification with Visual Language Models" (HLC, anonymous submission), section 3.2
and figure 6: a language model's descriptions include some that are non-visual, inconsistent, ambiguous or wrong, and a
weight per description is learnt "to mitigate their impact". The paper shows chosen examples. Where it is known which
descriptions are bad, because they were planted, the claim can be counted over all classes.

Unit: the class, in which weights compete (they are a softmax over its descriptions). A weight is given times the number
of descriptions of its class, so that 1 is what every description has before training.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench import metrics

from .base import (
    GROUP_COLOURS,
    GROUP_MARKERS,
    GROUP_ORDER,
    INK,
    ROWS,
    Result,
    caption_below,
    dress,
    legend_beside,
    plain,
    scatter_by_frequency,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.data.manifest import Classes

GOOD, BAD = "good", "bad"
_EQUAL = 1e-5  # of relative weights: below it two means are a tie; float32 weights are no more exact


@dataclass(frozen=True, kw_only=True)
class SignTest:
    """Of the classes with good and bad descriptions: is the mean weight of the bad ones below that of the good?"""

    below: int
    above: int
    ties: int  # left out of the share and of p
    p: float  # exact, two-sided; 1 where all are ties, nan without classes

    @property
    def share(self) -> float:
        """Of classes in which bad is below good, ties left out, in [0, 1]; nan where there is none."""
        number = self.below + self.above
        return self.below / number if number else math.nan

    def __str__(self) -> str:
        if not self.below + self.above + self.ties:
            return "no class has both"
        ties = f" ({self.ties} ties left out)" if self.ties else ""
        return f"bad below good in {self.below} of {self.below + self.above} classes{ties}, sign test p = {self.p:.2g}"


@dataclass(frozen=True, kw_only=True, eq=False)
class DescriptionWeights(Result):
    """Relative weights (1: uniform) by kind of description. A class without descriptions of a kind is nan there."""

    diagnostic: ClassVar[str] = "description_weights"

    kinds: tuple[str, ...]  # "good" first, the others as they appear
    number: dict[str, int]  # kind -> descriptions
    by_class: np.ndarray  # (C, kinds) float64 mean relative weight
    bad: np.ndarray  # (C,) float64 mean over all descriptions of a class that are not good
    from_uniform: dict[tuple[str, str], metrics.Difference]  # (kind or "bad", group): mean over classes, minus 1
    bad_minus_good: dict[str, metrics.Difference]  # group: paired over classes that have both
    signs: dict[str, SignTest]  # group
    names: tuple[str, ...]
    counts: np.ndarray  # (C,) training images
    groups: np.ndarray  # (C,) "many" | "medium" | "few"
    rule: str
    level: float

    @property
    def views(self) -> tuple[str, ...]:  # type: ignore[override]
        """ "kinds": means by kind and group; "classes": bad minus good of each class, where any class has both."""
        return ("kinds", "classes") if self.bad_minus_good["all"].n else ("kinds",)

    @property
    def good(self) -> np.ndarray:
        """(C,) mean relative weight of a class's good descriptions."""
        return self.by_class[:, self.kinds.index(GOOD)]

    def mean(self, kind: str, group: str = "all") -> tuple[float, float, float]:
        """Mean over classes of the relative weight, and its interval; kind may be "bad", all that are not good."""
        found = self.from_uniform[kind, group]
        return 1 + found.estimate, 1 + found.low, 1 + found.high

    def __str__(self) -> str:
        lines = [
            f"weight relative to uniform, mean over classes [{self.level:.0%}]; groups: {self.rule}",
            f"{'kind':<16}{'number':>7}  " + "".join(f"{group:<22}" for group in ROWS),
        ]
        for kind in (*self.kinds, *([BAD] if len(self.kinds) > 2 else [])):
            number = self.number.get(kind, sum(n for k, n in self.number.items() if k != GOOD))
            cells = "".join(f"{_cell(self.mean(kind, group)):<22}" for group in ROWS)
            lines.append(f"{plain(kind, 15):<16}{number:>7}  {cells}")
        lines += [f"{group}: {test}" for group, test in self.signs.items()]
        lines.append("the sign test takes classes as independent; a bad description is one of any kind but good")
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Rows of kind "mean" (by kind of description and group), "sign test" (by group) and "class"."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for (kind, group), found in self.from_uniform.items():
            values = dict(zip(("weight", "low", "high"), self.mean(kind, group), strict=True))
            rows.append({"row": "mean", "kind": kind, "group": group} | values | {"p": found.p, "classes": found.n})
        for group, test in self.signs.items():
            found = self.bad_minus_good[group]
            counts = {"below": test.below, "above": test.above, "ties": test.ties, "p": test.p, "classes": found.n}
            values = {"bad_minus_good": found.estimate, "low": found.low, "high": found.high}
            rows.append({"row": "sign test", "group": group} | counts | values)
        for c, name in enumerate(self.names):
            rows += [
                {"row": "class", "kind": kind, "group": self.groups[c], "class": c, "name": name, "weight": weight}
                for kind, weight in zip(self.kinds, self.by_class[c], strict=True)
                if np.isfinite(weight)
            ]
        return pd.DataFrame(rows).astype(dict.fromkeys(("classes", "below", "above", "ties", "class"), "Int64"))

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        (self._draw_kinds if view == "kinds" else self._draw_classes)(ax, **artist_kw)
        caption_below(ax, str(self.signs["all"]).replace(", sign", ",\nsign"))

    def _draw_kinds(self, ax: Axes, **artist_kw: Any) -> None:
        shown = [group for group in ROWS if any(self.from_uniform[kind, group].n for kind in self.kinds)]
        for place, group in enumerate(shown):
            x = np.arange(len(self.kinds)) + 0.17 * (place - (len(shown) - 1) / 2)
            middle, low, high = np.array([self.mean(kind, group) for kind in self.kinds]).T
            colour = GROUP_COLOURS.get(group, INK)
            ax.vlines(x, low, high, color=colour, linewidth=1)
            inside = GROUP_ORDER if group == "all" else (group,)
            number = int((np.isfinite(self.by_class).any(1) & np.isin(self.groups, inside)).sum())
            style: dict[str, Any] = {"color": colour, "marker": GROUP_MARKERS.get(group, "D"), "markersize": 4}
            style |= {"linestyle": "none", "label": f"{group} ({number})"}
            ax.plot(x, middle, **(style | artist_kw))
        ax.axhline(1, color=INK, linestyle=":", linewidth=1, label="uniform")
        ticks = [textwrap.fill(plain(kind.replace("_", " "), 24), 12) for kind in self.kinds]
        ticks = [f"{tick}\n({self.number[kind]})" for tick, kind in zip(ticks, self.kinds, strict=True)]
        ax.set_xticks(range(len(self.kinds)), ticks, parse_math=False)
        ax.set_xlim(-0.5, len(self.kinds) - 0.5)
        ax.set_xlabel("kind of description (number of them)")
        ax.set_ylabel(f"weight relative to uniform\n(mean over classes) [{self.level:.0%}]")
        dress(ax)
        legend_beside(ax, title="group (n classes)")

    def _draw_classes(self, ax: Axes, **artist_kw: Any) -> None:
        ax.axhline(0, color=INK, linewidth=0.8)
        bands = {g: (d.estimate, d.low, d.high) for g, d in self.bad_minus_good.items() if g != "all"}
        labels = {
            group: f"{group} {_cell(band, sign=True)}\n(n = {self.bad_minus_good[group].n})"
            for group, band in bands.items()
        }
        scatter_by_frequency(
            ax, self.bad - self.good, self.counts, self.groups, labels=labels, bands=bands, **artist_kw
        )
        ax.set_ylabel("mean relative weight,\nbad minus good")
        legend_beside(ax, title=f"mean over classes\n[{self.level:.0%}] (n classes)")


def description_weights(
    weights: np.ndarray,
    kinds: Mapping[str, Sequence[str]],
    *,
    classes: Classes,
    level: float = 0.95,
    seed: int = 0,
) -> DescriptionWeights:
    """Weights of good descriptions against those of planted-bad ones, class by class.

    Args:
        weights: (C, M) float as the method uses them: each class's sum to 1, 0 where it has no description.
        kinds: class name -> kind of each of its descriptions in their order, the first M of which count: "good", and
            any other words for bad ones.
        classes: names, training counts and shot groups of the C classes.
        level: of confidence.
        seed: of the bootstrap over classes.

    Raises:
        ValueError: weights of another shape, negative or not summing to 1; kinds that do not fit them or never "good".
    """
    weights = np.asarray(weights.detach().cpu() if hasattr(weights, "detach") else weights, dtype=np.float64)
    found = _relative(weights, kinds, classes)  # per class: kind -> relative weights
    seen = list(dict.fromkeys(kind for row in found for kind in row))
    if GOOD not in seen:
        raise ValueError(
            f"no description is {GOOD!r} (kinds: {', '.join(map(repr, seen))}); bad ones are compared with good ones."
        )
    order = (GOOD, *(kind for kind in seen if kind != GOOD))
    by_class = np.array([[np.mean(row[kind]) if kind in row else np.nan for kind in order] for row in found])
    rest = [[w for kind, values in row.items() if kind != GOOD for w in values] for row in found]
    bad = np.array([np.mean(values) if values else np.nan for values in rest])
    good, groups = by_class[:, 0], np.asarray(classes.groups)
    columns = dict(zip(order, by_class.T, strict=True)) | {BAD: bad}
    members = {group: np.isin(groups, GROUP_ORDER if group == "all" else [group]) for group in ROWS}
    options: dict[str, Any] = {"level": level, "seed": seed}
    about = "mean relative weight of such descriptions minus 1, over classes like these"
    return DescriptionWeights(
        arguments={**options, "classes": len(classes), "descriptions": weights.shape[1]},
        sources=(),
        kinds=order,
        number={kind: sum(len(row.get(kind, ())) for row in found) for kind in order},
        by_class=by_class,
        bad=bad,
        from_uniform={
            (kind, group): metrics.paired_values(values[rows], np.ones(rows.sum()), estimand=about, **options)
            for kind, values in columns.items()
            for group, rows in members.items()
        },
        bad_minus_good={
            group: metrics.paired_values(bad[rows], good[rows], **options) for group, rows in members.items()
        },
        signs={group: _sign_test((bad - good)[rows]) for group, rows in members.items()},
        names=tuple(classes.names),
        counts=np.asarray(classes.counts),
        groups=groups,
        rule=str(classes.rule),
        level=level,
    )


def _relative(
    weights: np.ndarray, kinds: Mapping[str, Sequence[str]], classes: Classes
) -> list[dict[str, list[float]]]:
    """Of each class: kind -> weights times the number of the class's descriptions."""
    C = len(classes)
    if weights.ndim != 2 or len(weights) != C:
        raise ValueError(f"weights have shape {weights.shape}; expected (C, M) with C = {C} classes.")
    if not np.isfinite(weights).all() or weights.min(initial=0) < 0:
        raise ValueError(
            "weights are negative or not finite; give them as used, a softmax over a class's descriptions."
        )
    unknown = sorted(set(kinds) - set(classes.names))
    if unknown:
        raise ValueError(f"kinds name {len(unknown)} classes that are not among the {C} (e.g. {unknown[0]!r}).")
    rows = []
    for name, row in zip(classes.names, weights, strict=True):
        own = [str(kind) for kind in kinds.get(name, ())][: len(row)]
        if BAD in own:
            raise ValueError(f"{BAD!r} is the name of all kinds but {GOOD!r} together; give this kind another name.")
        if row[len(own) :].any():
            raise ValueError(
                f"{name!r} has weights of {int(np.flatnonzero(row)[-1]) + 1} descriptions and kinds of {len(own)}; "
                "give the kind of each of its descriptions, in the order in which the method had them."
            )
        if own and abs(row.sum() - 1) > 1e-3:
            raise ValueError(f"the weights of {name!r} sum to {row.sum():.4g}, not 1; give them as used, a softmax.")
        values: dict[str, list[float]] = {}
        for kind, weight in zip(own, row, strict=False):
            values.setdefault(kind, []).append(float(weight) * len(own))
        rows.append(values)
    return rows


def _sign_test(differences: np.ndarray) -> SignTest:
    from scipy.stats import binomtest

    values = differences[np.isfinite(differences)]
    below, above = int((values < -_EQUAL).sum()), int((values > _EQUAL).sum())
    p = float(binomtest(below, below + above).pvalue) if below + above else (1.0 if len(values) else math.nan)
    return SignTest(below=below, above=above, ties=len(values) - below - above, p=p)


def _cell(values: tuple[float, ...], *, sign: bool = False) -> str:
    middle, low, high = (f"{value:{'+' if sign else ''}.2f}" for value in values)
    if math.isnan(values[0]):
        return "n/a"
    return middle if math.isnan(values[1]) else f"{middle} [{low}, {high}]"
