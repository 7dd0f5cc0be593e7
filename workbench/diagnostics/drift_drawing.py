"""How drift is drawn: the two maps beside each other, each image's way on one map, drift by shot group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .base import (
    GRID,
    GROUP_COLOURS,
    GROUP_MARKERS,
    GROUP_ORDER,
    INK,
    METHOD_COLOURS,
    METHOD_MARKERS,
    MUTED,
    PAPER,
    RASTER_FROM,
    ROWS,
    caption_below,
    dress,
    legend_beside,
    plain,
)
from .map_pairs import NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .drift import Drift

VIEWS = ("pair", "drift", "groups")
LINES = 300  # images whose way is drawn
_TURNS = 8  # parts in which the kinds of images are drawn, so that none is buried under another
_GAP = 0.03  # between the panels of a pair, of the width of both


def draw(result: Drift, ax: Axes, view: str, **artist_kw: Any) -> None:
    """Draw one of VIEWS into the axes."""
    {"pair": _draw_pair, "drift": _draw_ways, "groups": _draw_groups}[view](result, ax, **artist_kw)


def _kinds(result: Drift) -> list[tuple[str, np.ndarray, dict[str, Any]]]:
    """Name, images (M,) bool of the maps and look of each kind of image: few chosen classes, else shot groups."""
    labels = result.labels[result.pair.rows]
    if result.chosen is not None and len(result.chosen) <= len(METHOD_COLOURS):
        return [
            (
                f"{plain(result.class_names[c], 24)}\n({result.groups[c]}, n = {(labels == c).sum()})",
                labels == c,
                {"color": METHOD_COLOURS[i], "marker": METHOD_MARKERS[i]},
            )
            for i, c in enumerate(result.chosen)
        ]
    kinds = []
    for group in GROUP_ORDER:
        inside = result.groups[labels] == group
        if result.chosen is None or inside.any():
            name = f"{group}\n({len(np.unique(labels[inside]))} classes, n = {inside.sum()})"
            kinds.append((name, inside, {"color": GROUP_COLOURS[group], "marker": GROUP_MARKERS[group]}))
    return kinds


def _scatter(ax: Axes, points: np.ndarray, kinds: list[tuple[str, np.ndarray, dict[str, Any]]], **style: Any) -> None:
    turn = np.random.default_rng(0).integers(_TURNS, size=len(points))
    for part in range(_TURNS):
        for _, inside, look in kinds:
            ax.scatter(*points[inside & (turn == part)].T, **(look | style))


def _panels(result: Drift, ax: Axes, number: int) -> list[Axes]:
    """So many maps of one scale inside the axes, which keep their labels, legend and caption."""
    points = result.points.reshape(-1, 2)
    width = (1 - _GAP * (number - 1)) / number
    panels = [ax.inset_axes((place * (width + _GAP), 0, width, 1)) for place in range(number)]
    for panel in panels:
        panel.update_datalim([points.min(axis=0), points.max(axis=0)])
        panel.margins(0.04)
        panel.set_aspect("equal", adjustable="datalim")
        panel.set_xticks([])
        panel.set_yticks([])
        panel.spines[:].set_color(MUTED)
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.set_xlim(0, 1)
    names = [plain(name, 30) for name in result.arms] if number == 2 else []
    ax.set_xticks([place * (width + _GAP) + width / 2 for place in range(len(names))], names, parse_math=False)
    ax.set_xlabel(f"{NAMES[result.pair.method]} of each, the second turned and scaled onto the first")
    return panels


def _draw_pair(result: Drift, ax: Axes, **artist_kw: Any) -> None:
    kinds, points = _kinds(result), result.points
    number = points.shape[1]
    style = {"s": 6 if number > 800 else 16, "alpha": 0.7, "linewidths": 0, "rasterized": number >= RASTER_FROM}
    for panel, places in zip(_panels(result, ax, 2), points, strict=True):
        _scatter(panel, places, kinds, **(style | artist_kw))
    for name, _, look in kinds:
        ax.scatter([], [], label=name, **(look | style | {"s": 26, "alpha": 1}))
    legend_beside(ax, labelspacing=0.7)
    caption_below(ax, result.caption("pair"))


def _draw_ways(result: Drift, ax: Axes, **artist_kw: Any) -> None:
    from matplotlib.collections import LineCollection

    kinds, (before, after) = _kinds(result), result.points
    number = len(before)
    (panel,) = _panels(result, ax, 1)
    shown = np.zeros(number, dtype=bool)
    # evenly over the ranks of drift, so that short and long ways appear as often as they are
    ranks = np.unique(np.linspace(0, number - 1, min(number, LINES)).round().astype(int))
    shown[np.argsort(result.map_drift, kind="stable")[ranks]] = True
    small = 12 if shown.sum() <= 150 else 7
    faint = {"s": 4, "alpha": 0.15, "linewidths": 0, "zorder": 1, "rasterized": number >= RASTER_FROM}
    for name, inside, look in kinds:
        rows, colour = inside & shown, look["color"]
        panel.scatter(*after[inside & ~shown].T, **(look | faint))
        ways = np.stack([before[rows], after[rows]], axis=1)
        panel.add_collection(LineCollection(ways, colors=colour, linewidths=0.6, alpha=0.5, zorder=2))
        hollow = {"s": small, "color": PAPER, "edgecolors": colour, "linewidths": 0.5, "zorder": 3}
        panel.scatter(*before[rows].T, **(look | hollow | artist_kw))
        filled = {"s": small, "linewidths": 0, "zorder": 4, "alpha": 0.8}
        panel.scatter(*after[rows].T, **(look | filled | artist_kw))
        ax.scatter([], [], label=name, s=26, **look)
    for name, face in zip(result.arms, (PAPER, INK), strict=True):
        ax.scatter([], [], label=plain(name, 24), s=20, color=face, edgecolors=INK, linewidths=0.8)
    legend_beside(ax, labelspacing=0.7)
    said = f"lines: {shown.sum()} of {number} images, evenly over the ranks of drift\n" if number > LINES else ""
    caption_below(ax, said + result.caption("drift"))


def _draw_groups(result: Drift, ax: Axes, **artist_kw: Any) -> None:
    of_image, means = result.groups[result.labels], result.class_means("drift")
    rng, ticks, top = np.random.default_rng(0), [], 1.06 * float(np.nanmax(means))
    for place, group in enumerate(ROWS):
        colour, marker = GROUP_COLOURS.get(group, MUTED), GROUP_MARKERS.get(group, "D")
        names = GROUP_ORDER if group == "all" else [group]
        images, of_class = result.drift[np.isin(of_image, names)], means[np.isin(result.groups, names)]
        of_class = of_class[np.isfinite(of_class)]
        classes, number = result.sizes(group)
        ticks.append(f"{group}\n{classes} classes\nn = {number}")
        if not number:
            continue
        low, high = np.quantile(images, [0.1, 0.9])
        top = max(top, 1.06 * high)
        ax.bar(place, high - low, 0.64, bottom=low, color=colour, alpha=0.16, linewidth=0)
        aside = place + 0.08 + 0.2 * rng.random(len(of_class))
        style = {"s": 10, "color": colour, "alpha": 0.6, "linewidths": 0, "rasterized": len(means) >= RASTER_FROM}
        ax.scatter(aside, of_class, **(style | {"marker": marker} | artist_kw))
        found = result.over_classes["drift", group]
        ax.vlines(place - 0.14, found.low, found.high, color=colour if group != "all" else INK, linewidth=1.6)
        ax.plot(place - 0.14, found.estimate, marker, color=colour if group != "all" else INK, markersize=5)
    if 0 < result.shuffled < 1.6 * top:  # further away it would press the groups together
        ax.axhline(result.shuffled, color=MUTED, linewidth=0.8, linestyle="--", label="images paired\nat random")
        top = max(top, 1.04 * result.shuffled)
    ax.plot([], [], "o", color=INK, markersize=5, label=f"mean over classes\n[{result.arguments['level']:.0%}]")
    ax.scatter([], [], s=10, color=INK, alpha=0.6, linewidths=0, label="a class")
    ax.bar([0], [0], color=GRID, label="middle 80 %\nof the images")
    ax.set_xticks(range(len(ROWS)), ticks)
    ax.set_xlim(-0.5, len(ROWS) - 0.5)
    ax.set_ylim(0, top if top > 0 else 1)
    ax.set_ylabel("drift in all dimensions\n(1: distance from the mean of all)")
    ax.set_xlabel(f"shot group, from {plain(result.arms[0], 24)} to {plain(result.arms[1], 24)}", parse_math=False)
    dress(ax)
    legend_beside(ax, labelspacing=0.8)
    caption_below(ax, result.caption("groups"))
