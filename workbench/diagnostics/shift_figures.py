"""Figures of `domain_shift`: accuracy before and after, arms against the diagonal, and the drop of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from .base import (
    GROUP_COLOURS,
    GROUP_MARKERS,
    GROUP_ORDER,
    INK,
    METHOD_COLOURS,
    METHOD_MARKERS,
    MUTED,
    PAPER,
    ROWS,
    caption_below,
    dress,
    legend_beside,
    percent,
    plain,
    scatter_by_frequency,
)
from .effective_robustness import LEAST_ARMS, line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .domain_shift import DomainShift

_LETTERS = 20  # of a name in the legend
_BARS: dict[str, Any] = {"linewidth": 0.9, "alpha": 0.6, "zorder": 1}


def draw_drop(result: DomainShift, shifted: str, ax: Axes, **artist_kw: Any) -> None:
    """By group, the reference accuracy (filled) joined with the shifted one (hollow); one line per arm."""
    from matplotlib.lines import Line2D

    single = len(result.arms) == 1
    spread = min(0.05 * (len(result.arms) - 1), 0.24)
    shifts = np.linspace(-spread / 2, spread / 2, len(result.arms))
    handles: list[Any] = []
    for number, arm in enumerate(result.arms):
        one = result.transfers[arm, shifted]
        for place, row in enumerate(ROWS):
            colour, marker = (GROUP_COLOURS.get(row, INK), GROUP_MARKERS.get(row, "D")) if single else _look(number)
            pair = one.reference.over_classes[row], one.shifted.over_classes[row]
            if not pair[0].n:
                continue
            x = place + shifts[number] + np.array([-0.2, 0.2])
            y = 100 * np.array([each.estimate for each in pair])
            ax.vlines(x, *(100 * np.array([[e.low for e in pair], [e.high for e in pair]])), color=colour, **_BARS)
            style: dict[str, Any] = {"color": colour, "zorder": 2}
            ax.plot(x, y, **(style | artist_kw))
            for end, fill in enumerate((colour, PAPER)):
                ax.plot(x[end], y[end], color=colour, marker=marker, markerfacecolor=fill, zorder=3)
            if single:
                drop = one.drop[row]
                text = percent(-drop.estimate, -drop.high, -drop.low, sign=True).replace(" [", "\n[")
                top = 100 * np.nanmax([each.high if each.high == each.high else each.estimate for each in pair])
                ax.annotate(
                    text, (place, top), (0, 3), textcoords="offset points", ha="center", va="bottom", fontsize="small"
                )
        if not single:
            colour, marker = _look(number)
            handles.append(Line2D([], [], color=colour, marker=marker, label=plain(arm, _LETTERS)))
    for row in ROWS:
        if not result.num_classes(shifted, row):
            ax.text(ROWS.index(row), 2, "n/a\n(0 classes)", ha="center", va="bottom", color=MUTED, fontsize="small")
    for name, fill in ((result.reference, INK), (shifted, PAPER)):
        handles.append(
            Line2D([], [], color=INK, marker="o", markerfacecolor=fill, linestyle="none", label=plain(name, _LETTERS))
        )
    ticks = [f"{row}\n{result.num_classes(shifted, row)} classes" for row in ROWS]
    ax.set_xticks(range(len(ROWS)), ticks)
    ax.set_xlim(-0.5, len(ROWS) - 0.5)
    ax.set_ylim(0, 122 if single else 103)
    ax.set_yticks(range(0, 101, 20))
    ax.set_ylabel(f"accuracy (%), {result.level:.0%} interval\nover classes")
    dress(ax)
    if single:
        beside = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 2, "borderaxespad": 0.2}
    else:
        beside = {"title": "method"}
    legend_beside(ax, handles=handles, **beside)
    whose = f"{plain(result.arms[0], _LETTERS)}; above: change in points\n" if single else ""
    caption_below(ax, f"{whose}{result.rule}")


def draw_arms(result: DomainShift, shifted: str, ax: Axes, **artist_kw: Any) -> None:
    """Reference against shifted accuracy, a marker per arm in the colour of its group, with both intervals."""
    from matplotlib.lines import Line2D

    ends: list[tuple[float, float]] = []  # of everything drawn, (across, up)
    rows = [row for row in ROWS if result.num_classes(shifted, row)]
    for number, arm in enumerate(result.arms):
        one = result.transfers[arm, shifted]
        for row in rows:
            before, after = one.reference.over_classes[row], one.shifted.over_classes[row]
            colour = GROUP_COLOURS.get(row, INK)
            faint = _BARS | {"color": colour, "alpha": 0.6 if len(result.arms) <= 2 else 0.3}
            ax.hlines(100 * after.estimate, 100 * before.low, 100 * before.high, **faint)
            ax.vlines(100 * before.estimate, 100 * after.low, 100 * after.high, **faint)
            look: dict[str, Any] = {"color": colour, "marker": _look(number)[1], "linestyle": "none", "zorder": 3}
            look["markerfacecolor"] = colour if number < len(METHOD_MARKERS) else PAPER
            ax.plot(100 * before.estimate, 100 * after.estimate, **(look | artist_kw))
            ends += [(100 * getattr(before, end), 100 * getattr(after, end)) for end in ("estimate", "low", "high")]
    (left, low), (right, high) = np.nanmin(ends, 0) - 3, np.nanmax(ends, 0) + 3
    part = 0.35 * (right - left)  # of the diagonal is seen at least
    low, high = min(low, right - part), max(high, left + part)
    ax.axline((50, 50), slope=1, color=MUTED, linewidth=0.8, linestyle="--", zorder=0)
    handles: list[Any] = [
        Line2D([], [], color=GROUP_COLOURS.get(row, INK), linewidth=3,
               label=f"{row} ({result.num_classes(shifted, row)} classes)")
        for row in rows
    ]  # fmt: skip
    handles += [
        Line2D([], [], color=MUTED, marker=_look(number)[1], linestyle="none", label=plain(arm, _LETTERS),
               markerfacecolor=MUTED if number < len(METHOD_MARKERS) else PAPER)
        for number, arm in enumerate(result.arms)
    ]  # fmt: skip
    handles.append(Line2D([], [], color=MUTED, linewidth=0.8, linestyle="--", label="no drop"))
    handles += _fitted(result, shifted, ax)
    ax.set_xlim(max(left, -3), min(right, 103))
    ax.set_ylim(max(low, -3), min(high, 103))
    ax.set_xlabel(f"accuracy on {plain(result.reference, _LETTERS)} (%)", parse_math=False)
    ax.set_ylabel(f"accuracy on\n{plain(shifted, _LETTERS)} (%)", parse_math=False)
    dress(ax, grid=None)
    legend_beside(ax, handles=handles)
    caption_below(ax, f"lines: {result.level:.0%} over classes")


def draw_classes(result: DomainShift, shifted: str, ax: Axes, **artist_kw: Any) -> None:
    """The drop of each class of the first arm, most training images first, with the mean of its group."""
    arm = result.arms[0]
    one = result.transfers[arm, shifted]
    bands = {group: tuple(100 * getattr(one.drop[group], end) for end in ("estimate", "low", "high"))
             for group in GROUP_ORDER}  # fmt: skip
    labels = {}
    for group in GROUP_ORDER:
        drop = percent(*(bound / 100 for bound in bands[group]), sign=True)
        labels[group] = f"{group} {drop} (n = {result.num_classes(shifted, group)})"
    ax.axhline(0, color=INK, linewidth=0.8)
    scatter_by_frequency(
        ax, 100 * one.class_drop, result.counts, result.groups, labels=labels, bands=bands, **artist_kw
    )
    ax.set_ylabel(f"class accuracy of {plain(arm, _LETTERS)}:\nreference minus shifted (points)", parse_math=False)
    legend_beside(ax, title=f"mean drop [{result.level:.0%}] (n classes)")
    caption_below(ax, f"{plain(result.reference, _LETTERS)} to {plain(shifted, _LETTERS)}; above 0 is a loss")


def _fitted(result: DomainShift, shifted: str, ax: Axes) -> list[Any]:
    """The line of all arms between the logits of both accuracies over all images, drawn across their range."""
    transfers = [result.transfers[arm, shifted] for arm in result.arms]
    before = np.array([one.reference.over_classes["all"].estimate for one in transfers])
    after = np.array([one.shifted.over_classes["all"].estimate for one in transfers])
    inside = (before > 0) & (before < 1) & (after > 0) & (after < 1)
    if inside.sum() < LEAST_ARMS or np.ptp(before[inside]) < 1e-9:
        return []
    slope, intercept = line(before[inside], after[inside])
    x = np.linspace(before[inside].min(), before[inside].max(), 50)
    y = special.expit(intercept + slope * special.logit(x))
    return ax.plot(100 * x, 100 * y, color=INK, linewidth=1.0, zorder=2, label="line of the arms (all)")


def _look(number: int) -> tuple[str, str]:
    count = len(METHOD_MARKERS)  # beyond 10 arms a colour comes again with another marker
    return METHOD_COLOURS[number % count], METHOD_MARKERS[(number + number // count) % count]
