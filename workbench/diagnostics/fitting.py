"""How does a figure keep its type size on a narrower page? Legends move, labels and captions wrap, the height follows.

Works on any matplotlib figure with a constrained layout; it knows nothing of the result that was drawn.
"""

from __future__ import annotations

import re
import textwrap
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.text import Text

SMALLEST_AXES, AXES_SHARE = 1.2, 0.6  # a plot is so many inches high, or that share of the figure it was made for
CAPTION_SHARE = (0.7, 0.55)  # of the width of the figure: right of labels, and left of a colour bar where there is one
NARROWEST_AXES = 0.75  # inches; what is narrower shows nothing
SPARE = 2.0  # inches of height while labels are being arranged
EDGE = 3.0  # points that stay free at the edges of the figure
APART = 2.0  # points between neighbouring tick labels
SETTLED = 3  # pixels: axes that move less stand where they stay
ROUNDS = 12  # of the layout: each moves the axes by a part of what is missing
RESOLUTION = 300  # dots per inch while texts are measured; at fewer, hinting makes them longer than they are printed


def refit(figure: Figure) -> None:
    """Make room in a figure that is narrower than it was designed for, at the same type size.

    Legends beside the axes go above them, long labels and captions get more lines, tick labels that overlap are turned,
    and the height follows. ValueError where the labels of a figure need more than its width.
    """
    from matplotlib.legend import Legend

    figure.set_dpi(RESOLUTION)
    wide, high = (float(side) for side in figure.get_size_inches())
    picture = figure.axes[0].get_aspect() != "auto" or not figure.axes[0].axison  # its colour bar has no shape
    free = [] if picture else [ax for ax in figure.axes if ax.get_aspect() == "auto" and ax.axison]
    if free:
        figure.set_size_inches(wide, high + SPARE)  # so that labels which wrap do not squeeze the axes to nothing
    # captions first: the layout would narrow the axes for them
    captions = {text: ax for ax in figure.axes for text in ax.texts if _stands_below(ax, text)}
    said = {text: text.get_text() for text in captions}
    for text in captions:
        _flow(text, said[text], CAPTION_SHARE[len(figure.axes) > 1] * figure.bbox.width)
    legends = {ax: [part for part in ax.get_children() if isinstance(part, Legend)] for ax in figure.axes}
    for legend in (legend for some in legends.values() for legend in some):
        legend.set_in_layout(False)  # until they are where they stay
    _laid_out(figure)
    for ax, some in legends.items():
        _legends_above(ax, some)
    fits = _settled(figure, captions, said)
    if any([_turn(ax) for ax in figure.axes]):
        fits = _laid_out(figure) and _settled(figure, captions, said)
    if free and fits:
        around = figure.get_size_inches()[1] - min(ax.get_window_extent().height for ax in free) / figure.dpi
        figure.set_size_inches(wide, around + max(AXES_SHARE * high, SMALLEST_AXES))
    elif fits:  # pictures keep their shape and leave paper free
        figure.set_size_inches(wide, min(high, figure.get_tightbbox().height + 0.15))
    fits = _laid_out(figure) and _settled(figure, captions, said)  # the axes are elsewhere now, and lower
    outside = [" ".join(text.get_text().split())[:40] for text in _texts(figure) if _leaves(figure, text)]
    squeezed = any(ax.get_window_extent().width < NARROWEST_AXES * figure.dpi for ax in free[:1])
    if outside or squeezed or not fits:
        named = f" ({'; '.join(outside[:3])})" if outside else ""
        raise ValueError(
            f"the labels of this figure{named} need more than {wide:.2f} inches; save it with width='text', or take "
            "another view."
        )


def _settled(figure: Figure, captions: dict[Text, Axes], said: dict[Text, str]) -> bool:
    """Wrap what leaves the laid out figure until nothing moves any more; whether the axes have room.

    said: what texts were before they were wrapped, which texts that are wrapped now join.
    """
    fits = True
    for again in range(3):  # axes move when labels wrap
        before = [text.get_text() for text in _texts(figure)]
        for text in _texts(figure):
            if text not in captions:
                whole = said.setdefault(text, text.get_text())
                _wrap(figure, text, text.get_text() if again else whole)
            elif len(figure.axes) == 1:
                room = figure.bbox.x1 - captions[text].get_window_extent().x0 - EDGE * figure.dpi / 72
                _flow(text, said[text], room)
        if before == [text.get_text() for text in _texts(figure)]:
            break
        fits = _laid_out(figure)
    return fits


def _laid_out(figure: Figure) -> bool:
    """Lay the figure out until its axes stay where they are; whether there was room for them."""
    engine = figure.get_layout_engine()
    assert engine is not None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(ROUNDS):
            before = [value for ax in figure.axes for value in ax.get_window_extent().extents]
            engine.execute(figure)
            for ax in figure.axes:
                if ax.get_axes_locator() is None:  # a colour bar asks its axes where it is
                    ax.apply_aspect()
            after = [value for ax in figure.axes for value in ax.get_window_extent().extents]
            if all(abs(a - b) < SETTLED for a, b in zip(before, after, strict=True)):
                break
        if len(figure.axes) > 1 or any(ax.get_legend() is not None or ax.artists for ax in figure.axes):
            figure.set_layout_engine("none")
            figure.draw_without_rendering()  # legends and colour bars find their place when they are drawn
            figure.set_layout_engine(engine)
    return not any("collapsed to zero" in str(each.message) for each in caught)


def _stands_below(ax: Axes, text: Text) -> bool:
    """Whether a text of the axes is a caption, placed at the label of the x axis."""
    return getattr(text, "xycoords", None) == ("axes fraction", ax.xaxis.label)


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


def _legends_above(ax: Axes, legends: Sequence[Legend]) -> None:
    """What of the legends stands beside the axes or leaves the figure goes above them, in as many columns as fit."""
    edge, canvas = ax.get_window_extent().y1, ax.figure.bbox
    # a note that stands there already stays between the axes and the legend
    notes = [text.get_window_extent() for text in ax.texts if text.get_text().strip()]
    taken = max((note.y1 - edge for note in notes if note.y0 >= edge - 1), default=0.0)
    for legend in legends:
        legend.set_in_layout(True)
        box = legend.get_window_extent()
        if box.x0 >= ax.get_window_extent().x1 - 1 or box.x0 < canvas.x0 or box.x1 > canvas.x1:
            taken = _above(ax, legend, taken).get_window_extent().y1 - ax.get_window_extent().y1


def _above(ax: Axes, legend: Legend, taken: float) -> Legend:
    """The same legend `taken` pixels above the axes."""
    from matplotlib.legend import Legend

    texts = [text.get_text() for text in legend.get_texts()]
    size, dots = legend.get_texts()[0].get_fontsize(), ax.figure.dpi / 72
    handle = (legend.handlelength + legend.handletextpad + 1.0) * size * dots
    widest = handle + max(text.get_window_extent().width for text in legend.get_texts())
    room = ax.figure.bbox.x1 - ax.get_window_extent().x0 - EDGE * dots
    columns = max(1, min(len(texts), int(room // widest)))
    said = legend.get_title().get_text()
    options: dict[str, Any] = {"handlelength": legend.handlelength, "handleheight": legend.handleheight}
    options |= {"labelspacing": legend.labelspacing}
    options |= {"title": " ".join(said.split()) or None, "ncols": columns, "columnspacing": 1.0, "alignment": "left"}
    options |= {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderpad": 0.2}
    options |= {"borderaxespad": 0.3 + taken / dots / size}
    if legend is ax.get_legend():
        moved = ax.legend(legend.legend_handles, texts, **options)  # takes the other's place
    else:
        legend.remove()
        moved = Legend(ax, legend.legend_handles, texts, **options)
        ax.add_artist(moved)
        moved.set_clip_on(False)  # what is clipped to the axes gets no room beside them
    for text in (moved.get_title(), *moved.get_texts()):
        text.set_parse_math(False)
    _laid_out(ax.figure)
    return moved


def _wrap(figure: Figure, text: Text, said: str) -> None:
    """Break a text that leaves the figure into lines as long as there is room."""
    text.set_text(said)
    box, canvas, edge = text.get_window_extent(), figure.bbox, EDGE * figure.dpi / 72
    upright, side = text.get_rotation() == 90, text.get_horizontalalignment()
    begin, end = (box.y0, box.y1) if upright else (box.x0, box.x1)
    low, high = (canvas.y0, canvas.y1) if upright else (canvas.x0, canvas.x1)
    if begin >= low + edge - 2 and end <= high - edge + 2:  # rounding
        return
    if upright or side == "center":
        middle = (begin + end) / 2
        room = 2 * min(high - middle, middle - low) - 2 * edge  # about the middle of the axis
    else:
        room = high - max(begin, low) - 2 * edge if side == "left" else min(end, high) - low - 2 * edge
    if room >= 0.25 * (end - begin):
        _flow(text, said, room)


def _flow(text: Text, said: str, room: float) -> None:
    """Set the text to `said` in lines of at most `room` pixels, about as long as each other.

    A line that ends in a comma, colon or semicolon goes on in the next; other line ends stay. Brackets stay whole.
    """
    text.set_text(said)
    box = text.get_window_extent()
    length = box.height if text.get_rotation() == 90 else box.width
    if length <= room:
        return
    longest = max(len(line) for line in said.split("\n"))
    letters = max(8, int(longest * room / length))
    whole = re.sub(r"(?<=[,;:])\n", " ", said).split("\n")
    # a no-break space is no place to break
    whole = [re.sub(r"[(\[][^()\[\]]{1,16}[)\]]", lambda part: part[0].replace(" ", "\xa0"), line) for line in whole]
    for width in range(letters, 7, -1):
        lines = [_even(line, width) for line in whole]
        text.set_text("\n".join(lines).replace("\xa0", " "))
        box = text.get_window_extent()
        if (box.height if text.get_rotation() == 90 else box.width) <= room:
            break


def _even(line: str, letters: int) -> str:
    """Wrapped into as few lines as letters allow, none much shorter than the others."""

    def wrapped(width: int) -> list[str]:
        return textwrap.wrap(line, width, break_on_hyphens=False)

    number = len(wrapped(letters))
    return "\n".join(next(lines for width in range(1, letters + 1) if len(lines := wrapped(width)) <= number))


def _turn(ax: Axes) -> bool:
    """Turn the labels of the x axis where neighbours overlap, upright where they would still; whether they did."""
    labels = [label for label in ax.get_xticklabels() if label.get_visible() and label.get_text().strip()]
    boxes = [label.get_window_extent() for label in labels]
    apart = APART * ax.figure.dpi / 72
    if not any(a.x1 + apart > b.x0 and a.x0 < b.x1 + apart for a, b in pairwise(sorted(boxes, key=lambda box: box.x0))):
        return False
    step = min(b.x0 + b.x1 - a.x0 - a.x1 for a, b in pairwise(boxes)) / 2
    upright = step < 1.5 * max(box.height for box in boxes)
    for label in labels:
        if upright:
            label.set(rotation=90)
        else:
            side = "left" if ax.xaxis.get_ticks_position() == "top" else "right"
            label.set(rotation=45, horizontalalignment=side, rotation_mode="anchor")
    return True


def _leaves(figure: Figure, text: Text) -> bool:
    box, canvas = text.get_window_extent(), figure.bbox
    return box.x0 < canvas.x0 - 2 or box.y0 < canvas.y0 - 2 or box.x1 > canvas.x1 + 2 or box.y1 > canvas.y1 + 2
