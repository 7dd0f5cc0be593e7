"""The visual language: colours, markers, type and widths of figures are decided here and nowhere else.

The colours of shot groups are from Okabe and Ito's "Color Universal Design" set, those of methods from Paul Tol's
"muted" scheme (SRON/EPS/TN/09-002).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GROUP_ORDER = ("many", "medium", "few")
ROWS = ("all", *GROUP_ORDER)  # of a table or figure by group
GROUP_COLOURS = {"many": "#0072B2", "medium": "#009E73", "few": "#D55E00"}
GROUP_MARKERS = {"many": "o", "medium": "s", "few": "^"}
METHOD_COLOURS = (  # in registry order; the paper's number is a short tick in INK on the same axis
    *("#332288", "#CC6677", "#117733", "#DDCC77", "#88CCEE"),
    *("#882255", "#44AA99", "#999933", "#AA4499", "#661100"),
)
METHOD_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
SPLIT_LINES = {"train": "-", "test": "--"}
SEQUENTIAL, DIVERGING, HEAT = "viridis", "RdBu_r", "inferno"
INK, MUTED, GRID, PAPER = "#1a1a1a", "#6b6b6b", "#e6e6e6", "#ffffff"
COLUMN_WIDTH, TEXT_WIDTH = 3.25, 5.5  # inches: one column of a two-column page, the full text width
NARROW = 4.0  # inches of new axes; in a figure of TEXT_WIDTH they are wider
FONT_SIZE, CAPTION_SIZE = 9, 8  # points at final size; nothing in a figure is below 7
RASTER_FROM = 5000  # scatters of more points are drawn as pixels inside a vector figure
RESOLUTION = 300  # dots per inch of PNG files and of rasterised parts

_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so a figure has the same bytes on every machine
    "font.size": FONT_SIZE,
    "text.usetex": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": FONT_SIZE,
    "axes.edgecolor": INK,
    "axes.facecolor": PAPER,
    "axes.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": CAPTION_SIZE,
    "ytick.labelsize": CAPTION_SIZE,
    "legend.fontsize": CAPTION_SIZE,
    "legend.frameon": False,
    "legend.title_fontsize": CAPTION_SIZE,
    "legend.handlelength": 1.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 5,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "savefig.bbox": None,
    "savefig.facecolor": PAPER,
    "pdf.fonttype": 42,  # TrueType outlines: publishers refuse Type 3
    "pdf.use14corefonts": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "workbench",  # the same element names each time
}


@contextmanager
def figure_style() -> Iterator[None]:
    """The house style of figures for the time of a `with` block; matplotlib's own settings are as before after it."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        yield
        interactive = mpl.is_interactive()
    mpl.interactive(interactive)  # a notebook's first figure turns the showing of figures on, for good


def dress(ax: Axes, *, grid: str | None = "y") -> None:
    """Quiet frame: no upper and right spine, and light grid lines of one axis ("x", "y" or None) behind the data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(axis=grid, color=GRID, linewidth=0.8)


def is_narrow(ax: Axes) -> bool:
    """Whether the axes stand on a column of a page rather than its whole width: labels take more and shorter lines."""
    return bool(ax.get_window_extent().width < NARROW * ax.figure.dpi)


def scatter_by_frequency(
    ax: Axes,
    values: np.ndarray,
    counts: np.ndarray,
    groups: np.ndarray,
    *,
    labels: dict[str, str],
    bands: dict[str, tuple[float, ...]],
    **artist_kw: Any,
) -> None:
    """One point per class, most training images first, each group in its colour and with its marker; nan is left out.

    values, counts, groups: (C,); bands: group -> (level,) or (level, low, high), a line with a band across its classes.
    """
    from matplotlib.ticker import MaxNLocator

    rank = np.empty(len(counts), dtype=int)
    # by group first: a rule of reference counts can order classes slightly otherwise than the training images do
    order = np.lexsort((-counts, [GROUP_ORDER.index(group) for group in groups]))
    rank[order] = np.arange(1, len(counts) + 1)
    size = 22 if len(counts) <= 150 else 10
    for group in GROUP_ORDER:
        inside = (groups == group) & np.isfinite(values)
        if not inside.any():
            continue
        colour = GROUP_COLOURS[group]
        style = {"s": size, "alpha": 0.7, "linewidths": 0, "color": colour, "marker": GROUP_MARKERS[group]}
        style |= {"rasterized": len(counts) >= RASTER_FROM, "label": labels[group]}
        ax.scatter(rank[inside], values[inside], **(style | artist_kw))
        ends = rank[inside].min() - 0.5, rank[inside].max() + 0.5
        ax.hlines(bands[group][0], *ends, color=colour, linewidth=1.6)
        if len(bands[group]) == 3 and np.isfinite(bands[group]).all():
            ax.fill_between(ends, *bands[group][1:], color=colour, alpha=0.18, linewidth=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("class, most training images first")
    dress(ax)


def legend_beside(ax: Axes, **legend_kw: Any) -> None:
    """The legend of the axes, to the right of them; dollar signs in labels stay text."""
    place = {"alignment": "left", "loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    legend = ax.legend(**(place | legend_kw))
    for text in (legend.get_title(), *legend.get_texts()):
        text.set_parse_math(False)


def caption_below(ax: Axes, text: str) -> None:
    """A caveat under the label of the x axis, in small grey type; dollar signs in it stay text."""
    ax.annotate(
        text, (0, 0), (0, -3), xycoords=("axes fraction", ax.xaxis.label), textcoords="offset points", va="top",
        fontsize="small", color=MUTED, annotation_clip=False, parse_math=False,
    )  # fmt: skip


def percent(value: float, low: float = math.nan, high: float = math.nan, *, sign: bool = False) -> str:
    """A share (sign: a difference of shares) in percent, with its interval where there is one: "51.2 [47.8, 54.6]"."""
    if math.isnan(value):
        return "n/a"
    form = "+.1f" if sign else ".1f"
    interval = "" if math.isnan(low) else f" [{100 * low:{form}}, {100 * high:{form}}]"
    return f"{100 * value:{form}}{interval}"


def plain(text: str, letters: int) -> str:
    """On one line and not longer than so many letters, cut in the middle: "striped r…een star"."""
    text = " ".join(text.split())
    if len(text) <= letters:
        return text
    left = letters // 2
    return f"{text[:left]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - (letters - left - 1) :]}"
