"""How does a figure become one of a paper? Widths of venues, a layout that keeps its type size there, a caption draft.

A figure that is scaled to a column has letters of another size than the text around it, so it is laid out at the width
at which it is printed. Widths are those of the venues' own LaTeX files, named beside each number; a venue whose file
was not read is not here.
"""

from __future__ import annotations

import json
import textwrap
import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.text import Text

    from .base import Result

WIDTHS = ("column", "text")
SMALLEST_AXES, AXES_SHARE = 1.2, 0.55  # a plot is so many inches high, or that share of the figure it was made for
CAPTION_SHARE = 0.75  # of the width of the figure: what stands under an axis begins right of its labels
SPARE = 2.0  # inches of height while labels are being arranged
EDGE = 2.0  # points that stay free at the edges of the figure


@dataclass(frozen=True, kw_only=True)
class Venue:
    """Inches of one column and of the full text; a page of one column has both alike."""

    column: float
    text: float


VENUES = {
    # cvpr-org/author-kit cvpr.sty (2025): \textwidth 6.875in, \columnsep 0.3125in; its README names CVPR, ICCV and 3DV
    "3dv": Venue(column=(6.875 - 0.3125) / 2, text=6.875),
    # aaai25.sty (2025/05/08): \textwidth 7.0in, \columnsep 0.375in
    "aaai": Venue(column=(7.0 - 0.375) / 2, text=7.0),
    "cvpr": Venue(column=(6.875 - 0.3125) / 2, text=6.875),
    # eccv.sty (2024) is for \documentclass{llncs}; Springer's llncs.cls (2.22): \textwidth 12.2cm
    "eccv": Venue(column=12.2 / 2.54, text=12.2 / 2.54),
    "iccv": Venue(column=(6.875 - 0.3125) / 2, text=6.875),
    # ICLR/Master-Template iclr2026_conference.sty: \textwidth 5.5 true in
    "iclr": Venue(column=5.5, text=5.5),
    # icml2025.sty: \textwidth 6.75in, \columnsep 0.25in
    "icml": Venue(column=(6.75 - 0.25) / 2, text=6.75),
    # neurips_2025.sty: textwidth=5.5in
    "neurips": Venue(column=5.5, text=5.5),
}


def page_width(venue: str, width: str) -> float:
    """Inches of a venue's "column" or "text"; ValueError for others."""
    if venue not in VENUES:
        raise ValueError(
            f"venue={venue!r} is not known; choose one of {', '.join(VENUES)}. For another, add the widths of its "
            "LaTeX file to workbench.diagnostics.publication.VENUES."
        )
    if width not in WIDTHS:
        raise ValueError(f"width={width!r}; choose 'column' or 'text'.")
    return float(getattr(VENUES[venue], width))


def refit(figure: Figure) -> None:
    """Make room in a figure that is narrower than it was designed for, at the same type size.

    Legends beside the axes go above them, long labels get more lines, tick labels that overlap are turned, and the
    height follows. ValueError where the labels of a figure need more than its width.
    """
    wide, high = (float(side) for side in figure.get_size_inches())
    picture = figure.axes[0].get_aspect() != "auto" or not figure.axes[0].axison  # its colour bar has no shape
    free = [] if picture else [ax for ax in figure.axes if ax.get_aspect() == "auto" and ax.axison]
    if free:
        figure.set_size_inches(wide, high + SPARE)  # so that labels which wrap do not squeeze the axes to nothing
    for ax in figure.axes:  # captions first: the layout would narrow the axes for them
        for text in ax.texts:
            _break(text, CAPTION_SHARE * figure.bbox.width)
    _laid_out(figure)
    for ax in figure.axes:
        legend = ax.get_legend()
        if legend is not None and legend.get_window_extent().x0 >= ax.get_window_extent().x1 - 1:
            _above(ax, legend)
    _laid_out(figure)
    for _ in range(2):  # axes move when labels wrap
        for text in _texts(figure):
            _wrap(figure, text)
        fits = _laid_out(figure)
    for ax in figure.axes:
        _turn(ax)
    fits = _laid_out(figure) and fits
    if free and fits:
        around = figure.get_size_inches()[1] - min(ax.get_window_extent().height for ax in free) / figure.dpi
        figure.set_size_inches(wide, around + max(AXES_SHARE * high, SMALLEST_AXES))
        fits = _laid_out(figure)
    elif fits:  # pictures keep their shape and leave paper free
        figure.set_size_inches(wide, min(high, figure.get_tightbbox().height + 0.15))
        fits = _laid_out(figure)
    for _ in range(2):  # the axes are elsewhere now, and lower
        for text in _texts(figure):
            _wrap(figure, text)
        fits = _laid_out(figure)
    outside = [" ".join(text.get_text().split())[:40] for text in _texts(figure) if _leaves(figure, text)]
    if outside or not fits:
        named = f" ({'; '.join(outside[:3])})" if outside else ""
        raise ValueError(
            f"the labels of this figure{named} need more than {wide:.2f} inches; save it with width='text', or take "
            "another view."
        )


def _laid_out(figure: Figure) -> bool:
    """Whether the layout found room for the axes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.draw_without_rendering()
    return not any("collapsed to zero" in str(each.message) for each in caught)


def caption_draft(result: Result, view: str, axes: Axes) -> str:
    """What a caption has to say, from the result's own fields: a draft to shorten, not a text to print.

    Names what is shown, the axes, the numbers with their n and intervals, data, method, seeds and what made it.
    """
    from .base import load_diagnostic

    said = (load_diagnostic(result.diagnostic).__doc__ or result.diagnostic).strip().split("\n\n")[0]
    lines = [" ".join(said.split()), f"View: {view}." if len(result.views) > 1 else ""]
    labels = {"across": axes.get_xlabel(), "up": axes.get_ylabel()}
    shown = ", ".join(f"{way} {' '.join(label.split())}" for way, label in labels.items() if label)
    lines += [f"Axes: {shown}." if shown else "", "", "Numbers:", str(result), ""]
    if "level" in result.arguments:
        lines.append(f"Intervals: {100 * float(result.arguments['level']):g} %.")
    lines += _sources(result.sources)
    made = result.provenance
    simple = json.dumps(made["arguments"], sort_keys=True, ensure_ascii=False)
    lines.append(f"Made by workbench {made['versions']['workbench']}, {result.diagnostic}, arguments {simple}.")
    kept = [line.rstrip() for line in "\n".join(lines).split("\n")]
    return "\n".join(line for i, line in enumerate(kept) if line or (i and kept[i - 1])) + "\n"


def _sources(sources: tuple[dict[str, Any], ...]) -> list[str]:
    """Data, methods, seeds, runs and hashes of the features, each once; what is not known is not said."""

    def each(*path: str) -> list[str]:
        found = []
        for value in sources:
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None  # type: ignore[assignment]
            if value is not None:
                found.append(str(value))
        return list(dict.fromkeys(found))

    if not sources:
        return ["Data, method and seeds: not recorded, since this diagnostic was given no features; add them."]
    parts = {
        "Data set": each("manifest"),
        "split": each("split"),
        "manifest sha256": [digest[:12] for digest in each("manifest_sha256")],
        "Method": each("method"),
        "tower": each("backbone", "name"),
        "seeds": each("seed"),
        "Runs": each("run"),
        "weights sha256": [digest[:12] for digest in each("weights_sha256")],
    }
    starts = ("Data set", "Method", "Runs")
    lines: list[str] = []
    for name, values in parts.items():
        if not values:
            continue
        words = f"{name} {', '.join(values)}"
        if name in starts or not lines:
            lines.append(words[0].upper() + words[1:])
        else:
            lines[-1] += f"; {words}"
    return [f"{line}." for line in lines]


def _texts(figure: Figure) -> list[Text]:
    """Visible texts but tick labels beyond the limits, which are not drawn."""
    from matplotlib.text import Text

    hidden: set[Text] = set()
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            unseen = [tick for tick in ticks if not (ax.axison and low <= tick.get_loc() <= high)]
            hidden |= {label for tick in unseen for label in (tick.label1, tick.label2)}
    return [
        text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip() and text not in hidden
    ]


def _above(ax: Axes, legend: Legend) -> None:
    """The same legend above the axes, in as many columns as the figure holds."""
    texts = legend.get_texts()
    room = ax.figure.bbox.width - ax.get_window_extent().x0
    # a note that stands there already stays between the axes and the legend
    notes = [text.get_window_extent() for text in ax.texts if text.get_text().strip()]
    edge = ax.get_window_extent().y1
    taken = max((note.y1 - edge for note in notes if note.y0 >= edge - 1), default=0.0) * 72 / ax.figure.dpi
    columns = max(1, min(len(texts), int(room // legend.get_window_extent().width)))
    title = legend.get_title().get_text()
    moved = ax.legend(
        legend.legend_handles, [text.get_text() for text in texts], title=title or None, ncols=columns,
        loc="lower left", bbox_to_anchor=(0.0, 1.0), alignment="left", columnspacing=1.0,
        borderaxespad=0.2 + taken / texts[0].get_fontsize(),
    )  # fmt: skip
    for text in (moved.get_title(), *moved.get_texts()):
        text.set_parse_math(False)


def _wrap(figure: Figure, text: Text) -> None:
    """Break a text that leaves the figure into lines as long as there is room."""
    if not _leaves(figure, text):
        return
    box, canvas = text.get_window_extent(), figure.bbox
    upright = text.get_rotation() == 90
    length = box.height if upright else box.width
    low, high = (canvas.y0, canvas.y1) if upright else (canvas.x0, canvas.x1)
    middle = (box.y0 + box.y1) / 2 if upright else (box.x0 + box.x1) / 2
    room = 2 * min(high - middle, middle - low)  # about the middle of the axis
    if not upright and text.get_horizontalalignment() == "left":
        room = high - max(box.x0, low)
    room -= 2 * EDGE * figure.dpi / 72
    if room >= 0.25 * length:
        _break(text, room)


def _break(text: Text, room: float) -> None:
    """Lines of at most `room` pixels, where the text has longer ones."""
    box = text.get_window_extent()
    length = box.height if text.get_rotation() == 90 else box.width
    if length <= room or not text.get_text().strip():
        return
    longest = max(len(line) for line in text.get_text().split("\n"))
    letters = max(8, int(longest * room / length) - 1)
    text.set_text("\n".join(part for line in text.get_text().split("\n") for part in textwrap.wrap(line, letters)))


def _turn(ax: Axes) -> None:
    """Turn the labels of the x axis where neighbours overlap."""
    labels = [label for label in ax.get_xticklabels() if label.get_visible() and label.get_text().strip()]
    boxes = [label.get_window_extent() for label in labels]
    if any(a.overlaps(b) for a, b in pairwise(boxes)):
        for label in labels:
            label.set(rotation=45, horizontalalignment="right", rotation_mode="anchor")


def _leaves(figure: Figure, text: Text) -> bool:
    box, canvas = text.get_window_extent(), figure.bbox
    return box.x0 < canvas.x0 - 1 or box.y0 < canvas.y0 - 1 or box.x1 > canvas.x1 + 1 or box.y1 > canvas.y1 + 1
