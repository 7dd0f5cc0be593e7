"""How `group_report` draws accuracy by shot group: bars of a few arms, and a row for each of many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .base import GRID, GROUP_COLOURS, GROUP_MARKERS, INK, MUTED, PAPER, ROWS, dress, is_narrow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .accuracy import GroupReport

MOST_BARS = 5  # arms side by side in a group: beyond, bars and their numbers are too thin to be read
_SEED: dict[str, Any] = {"color": INK, "marker": ".", "markersize": 6, "markerfacecolor": PAPER, "linestyle": "none"}


def draw_bars(report: GroupReport, ax: Axes, **artist_kw: Any) -> None:
    """A bar per arm and group with its interval and number; points are seeds."""
    arms = report.arms
    width = 0.72 / len(arms)
    upright = len(arms) > 2 - is_narrow(ax)  # numbers that are read from the side, for which there is no room otherwise
    for number, arm in enumerate(arms):
        for place, group in enumerate(ROWS):
            over, colour = arm.over_classes[group], GROUP_COLOURS.get(group, MUTED)
            x = place + (number - (len(arms) - 1) / 2) * width
            if not over.n:
                continue
            style = {"color": (colour, opacity(number, len(report.arms))), "edgecolor": colour, "linewidth": 1.2}
            ax.bar(x, 100 * over.estimate, 0.9 * width, **(style | artist_kw))
            top = 100 * over.estimate
            if not np.isnan(over.low):
                top = 100 * over.high
                ax.vlines(x, 100 * over.low, top, color=INK, linewidth=1.2)
            if arm.over_seeds:
                spread = np.linspace(-0.2, 0.2, arm.num_seeds) * width
                ax.plot(x + spread, 100 * arm.seed_values[group], **_SEED)
            ax.annotate(
                *(f"{100 * over.estimate:.1f}", (x, top), (0, 2)),
                textcoords="offset points", ha="center", va="bottom", fontsize="small",
                rotation=90 if upright else 0,
            )  # fmt: skip
    ticks = []
    for place, group in enumerate(ROWS):
        classes, tested, images = report.sizes(group)
        ticks.append(f"{group}\n{tested} classes\nn = {images}")
        if not tested:
            what = "n/a\n(0 classes)" if not classes else "n/a\n(no test\nimages)"
            ax.text(place, 2, what, ha="center", va="bottom", color=MUTED, fontsize="small")
    ax.set_xticks(range(len(ROWS)), ticks)
    ax.set_xlim(-0.6, len(ROWS) - 0.4)
    ax.set_ylim(0, 118 if upright else 110)  # the number above an interval that ends at 100 stays below the rule
    ax.set_yticks(range(0, 101, 20))
    ax.set_ylabel(f"accuracy (%), {report.level:.0%} interval\nover classes")
    _write_rule(report, ax)
    if len(arms) > 1 or arms[0].over_seeds:
        _legend(report, ax)
    dress(ax)


def draw_rows(report: GroupReport, ax: Axes, **artist_kw: Any) -> None:
    """A row per arm, the first on top, with a mark per group and its interval; numbers are in the table."""
    for place, group in enumerate(ROWS):
        colour, marker = GROUP_COLOURS.get(group, INK), GROUP_MARKERS.get(group, "D")
        over = [arm.over_classes[group] for arm in report.arms]
        y = np.arange(len(over)) + (place - (len(ROWS) - 1) / 2) * 0.2
        low, middle, high = (
            100 * np.array([getattr(each, end) for each in over]) for end in ("low", "estimate", "high")
        )
        ax.hlines(y, low, high, color=colour, linewidth=1.2)
        _, tested, images = report.sizes(group)
        label = f"{group}, {tested} classes, n = {images}" if tested else f"{group}: n/a (0 classes)"
        style = {"color": colour, "marker": marker, "markersize": 5, "linestyle": "none", "label": label}
        ax.plot(middle, y, **(style | artist_kw))
    ax.set_yticks(range(len(report.arms)), [arm.name for arm in report.arms])
    ax.set_ylim(len(report.arms) - 0.5, -0.5)
    ax.set_xlabel(f"accuracy (%), {report.level:.0%} interval over classes")
    for edge in range(1, len(report.arms)):
        ax.axhline(edge - 0.5, color=MUTED, linewidth=0.3)
    _write_rule(report, ax)
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    dress(ax)
    ax.grid(visible=False, axis="y")
    ax.grid(color=GRID, axis="x")


def _write_rule(report: GroupReport, ax: Axes) -> None:
    ax.text(1.0, 1.02, report.rule, transform=ax.transAxes, ha="right", va="bottom", fontsize="small", color=MUTED)


def opacity(number: int, arms: int) -> float:
    """Of an arm's bars: full for the first, hollow for the last."""
    return 1 - number / max(arms - 1, 1)


def _legend(report: GroupReport, ax: Axes) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(facecolor=(INK, opacity(number, len(report.arms))), edgecolor=INK, label=arm.name)
        for number, arm in enumerate(report.arms)
    ]
    if any(arm.over_seeds for arm in report.arms):
        handles.append(Line2D([], [], label="one seed", **_SEED))
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0))
