"""Does the model know when it is wrong: is it right as often as it is confident, for frequent and for rare classes?

Sources: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv 1706.04599, eq. 3 and 5 (expected and
maximum calibration error, ECE and MCE, of bins of equal width, closed on the right); Nixon et al., "Measuring
Calibration in Deep Learning", CVPR workshops 2019, arXiv 1904.01685 (adaptive: bins of equal mass). GNM-PT's numbers
are reproduced from the same confidences; its authors take them from unscaled cosines, here they are the model's own.

An ECE is a sum of absolute values, so chance alone makes it positive, and more so in a group with few images. Beside it
therefore stands what a calibrated model with these very confidences would show, from outcomes that are drawn with them
(Vaicenavicius et al., AISTATS 2019, arXiv 1902.06977), one image independent of the other.
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
    INK,
    METHOD_COLOURS,
    METHOD_MARKERS,
    MUTED,
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
from .reliability import BINNINGS, Reliability, group_reliability

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_LETTERS = 24  # of a method's name
_FEW = 10  # images; a bin with fewer is drawn hollow
_DEPTH = 26.0  # percent of the axis for the fullest bin, below the curves


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration(Result):
    """Confidence against accuracy of each method, for all images and by shot group of the true class.

    "all" counts images; in a shot group every class weighs the same, as in `metrics.group_accuracy` (pooled: images).
    """

    diagnostic: ClassVar[str] = "calibration"

    methods: tuple[str, ...]
    table: dict[tuple[str, str], Reliability]  # (method, "all" or group)
    bins: int
    binning: str
    pooled: bool
    rule: str
    level: float

    @property
    def views(self) -> tuple[str, ...]:  # type: ignore[override]
        """ "reliability": curves of the first method's groups; of several, one view per group; "gap": all of them."""
        rows = tuple(g for g in ROWS if self.table[self.methods[0], g].images) if len(self.methods) > 1 else ()
        return ("reliability", *rows, "gap")

    def __str__(self) -> str:
        lines = [
            f"calibration in % [{self.level:.0%} over classes], {self.bins} bins, MCE of {self._bins()}; "
            f"groups: {self.rule}"
        ]
        for method in self.methods:
            lines.append(plain(method, _LETTERS))
            lines += [
                f"  {group:<7}{self.table[method, group].classes} classes, n = {self.table[method, group].images}  "
                f"{self.table[method, group]}"
                for group in ROWS
            ]
        if any(row.images and row.gap.too_small for row in self.table.values()):
            lines.append(f"† fewer than {metrics.TRUSTED_FROM} classes: do not lean on this interval")
        return "\n".join(lines)

    def _bins(self) -> str:
        return self.binning.replace("_", " ")

    def to_frame(self) -> pd.DataFrame:
        """Rows of kind "group" (one per measure) and "bin" (one per bin: confidence and accuracy of its images)."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for (method, group), row in self.table.items():
            head = {"method": method, "group": group}
            for name in ("confidence", "accuracy", "gap", "ece", "adaptive_ece", "mce", "chance", "brier", "nll"):
                value = getattr(row, name)
                many = {"value": value} if not isinstance(value, metrics.Interval) else {
                    "value": value.estimate, "low": value.low, "high": value.high, "interval": value.method
                }  # fmt: skip
                size = {"classes": row.classes, "images": row.images}
                rows.append({"kind": "group"} | head | {"measure": name} | size | many)
                if name == "ece":
                    rows[-1]["p"] = row.p
            for i, (sure, right, n) in enumerate(
                zip(row.bin_confidence, row.bin_accuracy, row.bin_images, strict=True)
            ):
                one = {"bin": i + 1, "images": n, "confidence": sure, "accuracy": right}
                rows.append({"kind": "bin"} | head | one)
        return pd.DataFrame(rows).astype({"classes": "Int64", "images": "Int64", "bin": "Int64", "value": float})

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        (self._draw_gaps if view == "gap" else self._draw_curves)(ax, view, **artist_kw)

    def _draw_curves(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        first = self.methods[0]
        if view == "reliability":
            lines = [(first, g, GROUP_COLOURS.get(g, INK), GROUP_MARKERS.get(g, "D")) for g in ROWS]
        else:
            palette, shapes = len(METHOD_COLOURS), len(METHOD_MARKERS)
            lines = [
                (m, view, METHOD_COLOURS[i % palette], METHOD_MARKERS[i % shapes]) for i, m in enumerate(self.methods)
            ]
        lines = [line for line in lines if self.table[line[0], line[1]].images]
        shares = {line: self.table[line[0], line[1]].bin_images / self.table[line[0], line[1]].images for line in lines}
        top = max(share.max() for share in shares.values())
        edges, widths = np.linspace(0, 100, self.bins + 1), self.binning == "equal_width"
        width = 0.85 * edges[1] / len(lines)
        for i, line in enumerate(lines):
            method, group, colour, marker = line
            row = self.table[method, group]
            x, y = 100 * row.bin_confidence, 100 * row.bin_accuracy
            some = row.bin_images > 0
            name = f"{group} ({row.images})" if view == "reliability" else plain(method, _LETTERS)
            style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4.5, "label": name}
            ax.plot(x[some], y[some], **(style | artist_kw))
            thin = some & (row.bin_images < _FEW)
            ax.plot(x[thin], y[thin], linestyle="none", color=colour, marker=marker, markersize=4.5, mfc=PAPER)
            if widths:
                place = edges[:-1] + edges[1] * 0.075 + width * (i + 0.5)
                ax.bar(place[some], -_DEPTH * shares[line][some] / top, width=width, color=colour, linewidth=0)
        ax.plot([0, 100], [0, 100], color=INK, linestyle=":", linewidth=1, label="calibrated")
        ax.set_xlim(-1, 101)
        ax.set_ylim(-3, 103)
        ax.set_xlabel("confidence, probability of the decision (%)")
        ax.set_ylabel("accuracy (%)")
        note = "about as many images in every bin"
        if widths:
            note = f"bars: share of the {'group' if view == 'reliability' else 'method'}'s images in the bin"
            ax.axhline(0, color=INK, linewidth=0.8)
            ax.set_ylim(-_DEPTH - 3, 103)
            ax.set_yticks([-_DEPTH, *range(0, 101, 20)], [f"{100 * top:.0f} %", *map(str, range(0, 101, 20))])
            ax.set_ylabel("accuracy (%)\nand, below, images")
        dress(ax)
        legend_beside(ax, title="group (n images)" if view == "reliability" else "method")
        whose = plain(first, _LETTERS) if view == "reliability" else "images" if view == "all" else f"{view}-shot"
        caption_below(ax, f"{whose}; {self.bins} bins of {self._bins()}, hollow: fewer than {_FEW} images;\n{note}")

    def _draw_gaps(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        shifts = np.linspace(0.28, -0.28, len(self.methods)) if len(self.methods) > 1 else [0.0]
        for i, (method, shift) in enumerate(zip(self.methods, shifts, strict=True)):
            for place, group in enumerate(reversed(ROWS)):
                row = self.table[method, group]
                alone = len(self.methods) == 1
                colour = GROUP_COLOURS.get(group, INK) if alone else METHOD_COLOURS[i % len(METHOD_COLOURS)]
                marker = GROUP_MARKERS.get(group, "D") if alone else METHOD_MARKERS[i % len(METHOD_MARKERS)]
                style: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": "none", "markersize": 6}
                if not alone and not place:
                    style["label"] = plain(method, _LETTERS)
                ax.hlines(place + shift, 100 * row.gap.low, 100 * row.gap.high, color=colour, linewidth=1.6)
                ax.plot(100 * row.gap.estimate, place + shift, **(style | artist_kw))
                said = f"ECE {percent(row.ece.estimate)} (calibrated {percent(row.chance)})"
                if alone:
                    ax.annotate(
                        f"{percent(row.confidence)} \N{MINUS SIGN} {percent(row.accuracy)} %\n{said}"
                        if row.images else "n/a (0 images)",
                        (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize="small",
                        annotation_clip=False, color=INK if row.images else MUTED,
                    )  # fmt: skip
        ax.axvline(0, color=INK, linewidth=0.8)
        low, high = ax.get_xlim()
        ax.set_xlim(min(low, -1), max(high, 1))
        sizes = {group: self.table[self.methods[0], group] for group in reversed(ROWS)}
        marks = {g: "†" if row.images and row.gap.too_small else "" for g, row in sizes.items()}
        ax.set_yticks(
            range(len(ROWS)), [f"{g}, {row.classes} classes{marks[g]}\nn = {row.images}" for g, row in sizes.items()]
        )
        ax.set_ylim(-0.6, len(ROWS) - 0.4)
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel("confidence minus accuracy (points)")
        dress(ax, grid="x")
        ax.spines["left"].set_visible(False)
        if len(self.methods) > 1:
            legend_beside(ax, title="method")
        few = f"\n† fewer than {metrics.TRUSTED_FROM} classes: do not lean on it" if any(marks.values()) else ""
        caption_below(ax, f"right of 0: over-confident; bars: {self.level:.0%} over classes{few}")


def calibration(
    features: Features | Mapping[str, Features],
    *,
    bins: int = 15,
    binning: str = "equal_width",
    pooled: bool = False,
    level: float = 0.95,
    seed: int = 0,
    draws: int = 200,
) -> Calibration:
    """Calibration errors, over-confidence and proper scores by shot group, with intervals over classes.

    The intervals of ECE hold the sign of each bin's gap fixed, so near 0 they are rough: look at `chance` and `p`
    there. Brier score and likelihood come from the logits, which features keep in half precision.

    Args:
        features: with decisions, of one method; or of several on the same test images, by name.
        bins: of confidence.
        binning: "equal_width" or "equal_mass", of the curves and of the MCE; ECE and adaptive ECE have one each.
        pooled: in shot groups weigh images, not classes, the same.
        level: of confidence of the intervals.
        seed: of the bootstrap over classes and of the draws.
        draws: of a calibrated model's outcomes.

    Raises:
        ValueError: no features, features without decisions, of other images or classes; bins or draws below 1.
    """
    given = {str(name): one for name, one in features.items()} if isinstance(features, Mapping) else {}
    if isinstance(features, Features):
        given = {str(features.source.get("method", "method")): features}
    if not given:
        raise ValueError("no features were given; give Features, or a dict of method name -> Features.")
    if binning not in BINNINGS:
        raise ValueError(f"binning={binning!r} is not known; choose one of {', '.join(BINNINGS)}.")
    if bins < 1 or draws < 1:
        raise ValueError(f"bins={bins} and draws={draws}; give whole numbers from 1 on, such as 15 and 200.")
    several = list(given.values())
    classes = same_classes(several)
    for one in several:
        aligned(one, several[0])  # refuses other images, and features without decisions
    options = {"bins": bins, "binning": binning, "pooled": pooled, "level": level, "seed": seed, "draws": draws}
    return Calibration(
        arguments=options | {"methods": list(given)},
        sources=tuple(one.source for one in several),
        methods=tuple(given),
        table={
            (name, group): group_reliability(one, group, **options)  # type: ignore[arg-type]
            for name, one in given.items()
            for group in ROWS
        },
        bins=bins,
        binning=binning,
        pooled=pooled,
        rule=str(classes.rule),
        level=level,
    )
