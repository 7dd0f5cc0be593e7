"""How far should test images be widened before five crops of them are averaged? Accuracy against the expansion e.

Source: Shi et al., "Long-Tail Learning with Foundation Model: Heavy Fine-Tuning Hurts" (LIFT), ICML 2024, arXiv
2309.10019, figure 11 and algorithm 1: test-time ensembling resizes an image to size + e pixels and averages the logits
of five crops, e = 0 meaning one crop and no ensemble. Multiples of the patch dip, because corner crops that are shifted
by whole patches share most patches with each other. Gains are small beside the spread of classes, so they are paired:
the same images with and without the ensemble.

The features of a curve, from a trained method and its test split (`expand` is in pixels):

    features = {e: wb.extract(method, test, views="five" if e else "centre", expand=e) for e in range(0, 49, 4)}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
    ROWS,
    Result,
    caption_below,
    dress,
    legend_beside,
    percent,
    same_classes,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpansionCurve(Result):
    """Accuracy in [0, 1] for each of E expansions, in rising order; mean over training seeds."""

    diagnostic: ClassVar[str] = "expansion_curve"
    views: ClassVar[tuple[str, ...]] = ("accuracy", "gain")

    expansions: np.ndarray  # (E,) int64 pixels; 0: one crop
    accuracy: dict[str, np.ndarray]  # all, many, medium, few -> (E,); groups are nan where only numbers were given
    gains: dict[str, dict[int, metrics.Difference]]  # group -> expansion -> accuracy there minus at 0; or empty
    patch_size: int | None
    sizes: dict[str, tuple[int, int]]  # group -> (classes with images, images); all 0 where only numbers were given
    seeds: int
    rule: str
    level: float

    @property
    def whole_patches(self) -> np.ndarray:
        """(E,) bool: expansions that are a multiple of the patch, other than 0."""
        if self.patch_size is None:
            return np.zeros(len(self.expansions), dtype=bool)
        return (self.expansions > 0) & (self.expansions % self.patch_size == 0)

    def __str__(self) -> str:
        lines = [f"accuracy in % by expansion in pixels, 0: no ensemble{f'; groups: {self.rule}' * bool(self.rule)}"]
        for i, e in enumerate(self.expansions):
            cells = "  ".join(
                f"{g} {percent(self.accuracy[g][i])}" for g in ROWS if np.isfinite(self.accuracy[g]).any()
            )
            gain = self.gains.get("all", {}).get(int(e))
            note = "" if gain is None else f"  gain {percent(gain.estimate, gain.low, gain.high, sign=True)}"
            lines.append(f"{e:>4}  {cells}{note}{'  whole patches' if self.whole_patches[i] else ''}")
        if len(self.expansions) > 2:
            lines.append(
                "an expansion chosen for its accuracy on these images looks better than it is: choose it on val"
            )
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """One row per expansion and group; gain is against expansion 0, with its interval over classes."""
        import pandas as pd

        rows = []
        for group, values in self.accuracy.items():
            for i, e in enumerate(self.expansions):
                gain = self.gains.get(group, {}).get(int(e))
                bounds = {} if gain is None else {"gain": gain.estimate, "low": gain.low, "high": gain.high}
                row = {"expansion": e, "whole_patches": self.whole_patches[i], "group": group, "accuracy": values[i]}
                rows.append(row | {"classes": self.sizes[group][0], "images": self.sizes[group][1]} | bounds)
        return pd.DataFrame(rows).reindex(columns=[*rows[0], *(c for c in ("gain", "low", "high") if c not in rows[0])])

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        span = min(4, *np.diff(self.expansions)) if len(self.expansions) > 1 else 1
        for place, group in enumerate(ROWS):
            colour, marker = GROUP_COLOURS.get(group, INK), GROUP_MARKERS.get(group, "D")
            values, x = self.accuracy[group], self.expansions.astype(float)
            label = f"{group} ({self.sizes[group][0]} classes)" if self.sizes[group][1] else group
            if not np.isfinite(values).any():
                if self.sizes["all"][1]:
                    ax.plot([], [], color=colour, marker=marker, label=f"{group}, n/a (0 classes)")
                continue
            if view == "gain":
                values = self._gain(group, "estimate")
                x = x + 0.12 * span * (place - 1.5)
                ax.vlines(
                    x, self._gain(group, "low"), self._gain(group, "high"), color=colour, linewidth=0.9, alpha=0.7
                )
            else:
                values = 100 * values
            style = {"color": colour, "marker": marker, "markevery": np.flatnonzero(~self.whole_patches).tolist()}
            ax.plot(x, values, **(style | {"label": label} | artist_kw))
            whole = self.whole_patches
            ax.plot(x[whole], values[whole], color=colour, marker=marker, markerfacecolor="white", linestyle="none")
        if self.whole_patches.any():
            label = f"multiple of the patch, {self.patch_size}"
            ax.plot([], [], color=INK, marker="o", markerfacecolor="white", linestyle="none", label=label)
        ax.set_xticks(self.expansions[:: max(1, -(-len(self.expansions) // 14))])
        ax.set_xlabel("expansion e (pixels), 0: one crop")
        ax.set_ylabel(
            "accuracy (%)" if view == "accuracy" else f"accuracy minus that of\none crop (points) [{self.level:.0%}]"
        )
        if view == "gain":
            ax.axhline(0, color=INK, linewidth=0.8)
            if not self.gains:
                ax.text(0.5, 0.5, "n/a (needs the features, with expansion 0)", transform=ax.transAxes, ha="center")
        caption_below(ax, "choose e on validation images:\nthe best of many on test images looks better than it is")
        legend_beside(ax)
        dress(ax)

    def _gain(self, group: str, bound: str) -> np.ndarray:
        """(E,) points: estimate, low or high; 0 at expansion 0, nan where there is none."""
        found = self.gains.get(group, {})
        values = [0.0 if e == 0 and found else getattr(found.get(int(e)), bound, math.nan) for e in self.expansions]
        return 100 * np.array(values)


Measured = Features | Sequence[Features] | float


def expansion_curve(
    measured: Mapping[int, Measured], *, patch_size: int | None = None, level: float = 0.95, seed: int = 0
) -> ExpansionCurve:
    """Accuracy for each expansion, and its gain over expansion 0 on the same images.

    Args:
        measured: expansion in pixels -> features of the test images extracted with it, one per training seed; or a
            number, the accuracy in [0, 1] of all images. Everywhere features, or everywhere numbers.
        patch_size: of the tower, in pixels; its multiples are marked.
        level: of the intervals over classes.
        seed: of the bootstrap over classes.

    Raises:
        ValueError: nothing given, other images or classes at some expansion, or features whose `source` says that they
            were extracted with another expansion.
    """
    if not measured or min(measured) < 0:
        raise ValueError(f"expansions {sorted(measured)}: give one or more, in pixels, none negative.")
    if patch_size is not None and patch_size < 1:
        raise ValueError(f"patch_size={patch_size} pixels; give 1 or more.")
    expansions = sorted(measured)
    shared: dict[str, Any] = {
        "arguments": {"expansions": expansions, "patch_size": patch_size, "level": level, "seed": seed},
        "expansions": np.array(expansions, dtype=np.int64),
        "patch_size": patch_size,
        "level": level,
    }
    if all(isinstance(value, float | int) for value in measured.values()):
        values = np.array([float(measured[e]) for e in expansions])  # type: ignore[arg-type]
        if values.min() < 0 or values.max() > 1:
            raise ValueError(f"accuracies run from {values.min():g} to {values.max():g}; they lie in [0, 1].")
        nothing = {group: np.full(len(values), math.nan) for group in GROUP_ORDER}
        sizes = dict.fromkeys(ROWS, (0, 0))
        return ExpansionCurve(
            **shared, sources=(), accuracy={"all": values} | nothing, gains={}, sizes=sizes, seeds=1, rule=""
        )
    several = {e: _features(e, measured[e]) for e in expansions}
    reference = several[expansions[0]][0]
    classes = same_classes([one for seeds in several.values() for one in seeds])
    groups, labels = np.asarray(classes.groups), reference.labels
    predicted = {e: np.stack([aligned(one, reference) for one in seeds]) for e, seeds in several.items()}  # (S, N)
    found = {e: [metrics.group_accuracy(p, labels, groups) for p in seeds] for e, seeds in predicted.items()}
    gains: dict[str, dict[int, metrics.Difference]] = {}
    if 0 in predicted:
        options: dict[str, Any] = {"level": level, "seed": seed}
        for group in ROWS:
            gains[group] = {
                e: metrics.paired_difference(p, predicted[0], labels, groups, group=group, **options)
                for e, p in predicted.items()
                if e > 0
            }
    inside = {group: np.isin(groups, GROUP_ORDER if group == "all" else [group])[labels] for group in ROWS}
    return ExpansionCurve(
        **shared,
        sources=tuple(one.source for seeds in several.values() for one in seeds),
        accuracy={g: np.array([np.mean([one[g] for one in found[e]]) for e in expansions]) for g in ROWS},
        gains=gains,
        sizes={group: (len(np.unique(labels[rows])), int(rows.sum())) for group, rows in inside.items()},
        seeds=len(several[expansions[0]]),
        rule=str(classes.rule),
    )


def _features(expansion: int, value: Measured) -> list[Features]:
    """Features of each seed; ValueError where their record contradicts the expansion."""
    if isinstance(value, float | int):
        raise ValueError(f"expansion {expansion} is a number and others are features; give one kind for all.")
    seeds = [value] if isinstance(value, Features) else list(value)
    if not seeds:
        raise ValueError(f"no features were given for expansion {expansion}; give one per training seed.")
    for one in seeds:
        record = one.source.get("preprocessing") or {}
        crop, resize, size = (record.get(key) for key in ("crop", "resize", "size"))
        if crop is None:  # features that were not made by extract
            continue
        made = resize - size if crop in ("five", "ten") and resize is not None else 0
        if made != expansion:
            raise ValueError(
                f"the features given for expansion {expansion} were extracted with {made} (crop {crop!r}); extract "
                "them again, or give them under that number."
            )
    return seeds
