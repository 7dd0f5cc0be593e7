"""What a hand does on a page and a browser test needs: a lasso around points, and how long an answer takes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from browser.lab import SOON

if TYPE_CHECKING:  # a test module must import where Playwright is missing; its tests skip then
    from playwright.sync_api import Locator, Page

# jupyter-scatter keeps its plot at an element above the canvas, from when it is made
FIND = """(canvas, argument) => {
    const plotOf = (node) => node && (node.api ?? plotOf(node.parentElement));
    const plot = plotOf(canvas);
    if (plot && plot.get('canvas') !== canvas) throw new Error('not the canvas of points; use plot_canvas(page)');
    return plot && (%s);
}"""
LONG_PRESS = 750  # ms until regl-scatterplot takes a press for the start of a lasso


def plot_canvas(page: Page, number: int = 0) -> Locator:
    """The canvas with the points of the jupyter-scatter plot with this number in the page, counted from 0.

    A plot has more canvases: one for labels, one for each example in its legends.
    """
    return page.locator("div[id] > div[id] > div > canvas:first-child").nth(number)


def ask_plot(canvas: Locator, question: str, argument: Any = None) -> Any:
    """A JavaScript expression over `plot`, `canvas` and `argument` for a jupyter-scatter plot, once it has drawn.

    `plot` is its regl-scatterplot, e.g. `plot.get('selectedPoints')`: the ids it shows as selected.
    """
    wait_for_plot(canvas, "plot.get('isPointsDrawn')")
    return canvas.evaluate(FIND % question, argument)


def wait_for_plot(canvas: Locator, condition: str, argument: Any = None) -> None:
    """Returns once a JavaScript condition, as of `ask_plot`, holds for the plot on this canvas."""
    canvas.wait_for()
    look = f"([canvas, argument]) => ({FIND % condition})(canvas, argument)"
    canvas.page.wait_for_function(look, arg=[canvas.element_handle(), argument], timeout=SOON * 1000)


def wait_for_selected(canvas: Locator, ids: Sequence[int]) -> None:
    """Returns once the plot shows exactly these points as selected."""
    wait_for_plot(canvas, "String([...plot.get('selectedPoints')].sort((a, b) => a - b)) === argument", _text(ids))


def selected_on_screen(canvas: Locator) -> list[int]:
    """The ids that the plot on this canvas shows as selected, ascending."""
    return sorted(ask_plot(canvas, "[...plot.get('selectedPoints')]"))


def positions_on_screen(canvas: Locator, ids: Sequence[int]) -> list[tuple[float, float]]:
    """Where the plot shows these points: parts of the canvas's width and height, (0, 0) its upper left corner."""
    width, height = _size(canvas)
    found = ask_plot(canvas, "argument.map((id) => plot.getScreenPosition(id))", list(ids))
    return [(x / width, y / height) for x, y in found]


def lasso(page: Page, canvas: Locator, polygon: Sequence[tuple[float, float]]) -> None:
    """Draws a lasso on a jupyter-scatter plot with the mouse.

    In the plot's lasso mode (a button of its toolbar) it is a drag; otherwise a long press starts it. There is no
    modifier key for it: jupyter-scatter 1.0 takes Shift away from regl-scatterplot. Each corner waits for the plot,
    which takes up the pointer at most every 10 ms and drops what is pending when the button comes up. The lasso must
    be freeform, as it is by default.

    Args:
        canvas: of the plot's points, `plot_canvas(page)`.
        polygon: at least 3 corners in parts of the canvas's width and height, (0, 0) its upper left corner.
    """
    if len(polygon) < 3 or not all(0 <= part <= 1 for corner in polygon for part in corner):
        raise ValueError(f"a lasso needs at least 3 corners with parts in [0, 1], not {list(polygon)}")
    ask_plot(canvas, COUNT_CORNERS)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None, "the plot's canvas is not in the page"
    corners = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in polygon]
    (x1, y1), (x2, y2) = corners[0], corners[-1]
    page.mouse.move((x1 + x2) / 2, (y1 + y2) / 2)  # on the last edge: released where it was pressed it were a click
    page.mouse.down()
    if ask_plot(canvas, "plot.get('mouseMode')") != "lasso":
        page.evaluate(f"() => new Promise((done) => setTimeout(done, {LONG_PRESS + 1}))")  # begun after the plot's own
    for taken, corner in enumerate(corners, start=1):
        page.mouse.move(*corner)
        page.wait_for_function(
            "([canvas, taken]) => canvas.corners >= taken", arg=[canvas.element_handle(), taken], timeout=SOON * 1000
        )
    page.mouse.up()


def latency(
    page: Page,
    action: Callable[[int], object],
    until: Callable[[int], str],
    *,
    since: str = "keydown",
    repeats: int = 5,
) -> float:
    """Median time in ms from an input event to the moment the page shows its effect.

    Both are read in the page, so that Playwright's own time does not count; the condition is looked at whenever the
    page changes and once per frame.

    Args:
        action: does it, given 0, 1, ... `repeats` - 1; its last event of type `since` starts the clock.
        until: a JavaScript expression for the same number, false before the action and true once its effect is seen.
        since: type of the event, e.g. "keydown", "click", "mouseup".

    Raises:
        ValueError: a condition holds before its action.
    """
    times = []
    for number in range(repeats):
        if not page.evaluate(WATCH, [until(number), since]):
            raise ValueError(f"{until(number)!r} holds before the action; give a condition that only its effect meets")
        action(number)
        page.wait_for_function("() => window.latencyWatch.elapsed !== undefined", timeout=SOON * 1000)
        times.append(page.evaluate("() => window.latencyWatch.elapsed"))
    return statistics.median(times)


# `canvas.corners`: how many corners the lasso has; the plot reports the first one only as a start
COUNT_CORNERS = """(
    canvas.corners === undefined && (
        plot.subscribe('lassoStart', () => { canvas.corners = 1; }),
        plot.subscribe('lassoExtend', (event) => { canvas.corners = event.coordinates.length; })
    ), canvas.corners = 0
)"""
WATCH = """([condition, type]) => {
    const holds = new Function(`return Boolean(${condition});`);
    if (holds()) return false;
    const watch = (window.latencyWatch = {});
    let begun;
    const note = (event) => { begun = event.timeStamp; };  // when the browser got it, busy or not
    const look = () => {
        if (watch.elapsed !== undefined || begun === undefined || !holds()) return;
        watch.elapsed = performance.now() - begun;
        observer.disconnect();
        window.removeEventListener(type, note, true);
    };
    const observer = new MutationObserver(look);
    observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
    const frame = () => { look(); if (watch.elapsed === undefined) requestAnimationFrame(frame); };
    window.addEventListener(type, note, true);
    frame();
    return true;
}"""


def _size(canvas: Locator) -> tuple[float, float]:
    box = canvas.bounding_box()
    assert box is not None, "the plot's canvas is not in the page"
    return box["width"], box["height"]


def _text(ids: Sequence[int]) -> str:
    return ",".join(map(str, sorted(int(number) for number in ids)))  # as JavaScript writes an array
