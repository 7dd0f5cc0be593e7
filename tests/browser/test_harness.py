"""The browser tests' own tools, proved on small widgets: what they report is what browser and kernel hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from browser.gestures import lasso, latency, plot_canvas, positions_on_screen, selected_on_screen, wait_for_selected
from browser.views import CellError, Dashboard, Notebook

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

SLIDER = """
import ipywidgets
slider = ipywidgets.IntSlider(value=3, min=0, max=100, description="block")
label = ipywidgets.Label("block 3")
label.add_class("told")
slider.observe(lambda change: setattr(label, "value", f"block {change.new}"), "value")
ipywidgets.VBox([slider, label])
"""
SCATTER = """
import jscatter, numpy as np
points = np.random.default_rng(0).uniform(-1, 1, (20_000, 2)).astype("float32")
plot = jscatter.Scatter(x=points[:, 0], y=points[:, 1], width=500, height=400)
count = ipywidgets.Label("0 points")
count.add_class("count")
plot.widget.observe(lambda change: setattr(count, "value", f"{len(change.new)} points"), "selection")
ipywidgets.VBox([plot.show(), count])
"""
BUTTON = '''
import anywidget, traitlets
class Counter(anywidget.AnyWidget):
    presses = traitlets.Int(0).tag(sync=True)
    _esm = """
    export default { render({ model, el }) {
        const button = document.createElement("button");
        const show = () => { button.textContent = `pressed ${model.get("presses")}`; };
        button.onclick = () => { model.set("presses", model.get("presses") + 1); model.save_changes(); };
        model.on("change:presses", show);
        show();
        el.append(button);
    } };
    """
counter = Counter()
counter
'''
SHAPE = 500 / 400  # of the plot: what it shows is 2 units high and 2 * SHAPE wide
PIXEL = 2 / 400
TRIANGLE = [(0.2, 0.2), (0.5, 0.3), (0.4, 0.7)]


@pytest.fixture(scope="module")
def widgets(module_notebook: Callable[[Sequence[str]], Notebook]) -> Notebook:
    return module_notebook([SLIDER, SCATTER, BUTTON])


def depth(points: np.ndarray, polygon: Sequence[tuple[float, float]]) -> np.ndarray:
    """How deep points (N, 2) lie in a convex polygon: distance to the nearest edge's line, negative outside."""
    corners = np.asarray(polygon)
    edges = np.roll(corners, -1, axis=0) - corners
    normals = np.stack([-edges[:, 1], edges[:, 0]], axis=1) / np.linalg.norm(edges, axis=1, keepdims=True)
    inward = normals * np.sign(((corners.mean(0) - corners) * normals).sum(1, keepdims=True))
    return ((points[:, None] - corners) * inward).sum(-1).min(1)


def test_keys_on_a_slider_reach_the_kernel_and_its_answer_the_page(widgets: Notebook) -> None:
    slider = widgets.page.get_by_role("slider")
    widgets.run_in_kernel("slider.value = 3")
    widgets.page.get_by_text("block 3", exact=True).wait_for()
    slider.press("ArrowRight")
    widgets.page.get_by_text("block 4", exact=True).wait_for()
    assert widgets.evaluate_in_kernel("[slider.value, label.value]") == [4, "block 4"]
    assert widgets.errors == [] and widgets.last_error() is None


def test_a_slider_answers_keys_soon(widgets: Notebook) -> None:
    slider = widgets.page.get_by_role("slider")
    widgets.run_in_kernel("slider.value = 10")
    widgets.page.get_by_text("block 10", exact=True).wait_for()
    told = "document.querySelector('.told').textContent"
    milliseconds = latency(
        widgets.page, lambda _: slider.press("ArrowRight"), lambda number: f"{told} === 'block {11 + number}'"
    )
    assert 0 < milliseconds < 3000


def test_a_lasso_selects_in_the_kernel_what_lies_inside(widgets: Notebook) -> None:
    canvas = plot_canvas(widgets.page)
    widgets.run_in_kernel("plot.selection([])")
    lasso(widgets.page, canvas, TRIANGLE)
    widgets.wait_in_kernel("len(plot.selection()) > 1")
    selected = np.array(widgets.evaluate_in_kernel("plot.selection()"))
    assert sorted(selected.tolist()) == selected_on_screen(canvas)

    points = np.random.default_rng(0).uniform(-1, 1, (20_000, 2)).astype("float32")
    inside = depth(points, [((2 * x - 1) * SHAPE, 1 - 2 * y) for x, y in TRIANGLE])
    assert len(selected) > 1000
    assert inside[selected].min() > -2 * PIXEL
    assert inside[np.setdiff1d(np.arange(20_000), selected)].max() < 2 * PIXEL
    assert widgets.errors == []


def test_a_lasso_can_be_drawn_in_the_lasso_mode_of_the_toolbar(widgets: Notebook) -> None:
    canvas = plot_canvas(widgets.page)
    widgets.run_in_kernel("plot.selection([]); plot.mouse('lasso')")
    widgets.wait_in_kernel("plot.widget.mouse_mode", "lasso")
    lasso(widgets.page, canvas, TRIANGLE)
    widgets.wait_in_kernel("len(plot.selection()) > 1")
    widgets.run_in_kernel("plot.mouse('panZoom')")


def test_a_lasso_is_answered_soon(widgets: Notebook) -> None:
    page, canvas = widgets.page, plot_canvas(widgets.page)
    text = "document.querySelector('.count').textContent"
    sizes = (0.3, 0.4, 0.5)
    milliseconds = latency(
        page,
        lambda number: lasso(page, canvas, [(0.3, 0.3), (0.6, 0.3), (0.6, 0.3 + sizes[number])]),
        lambda _: f"{text} !== {page.evaluate(text)!r}",
        since="mouseup",
        repeats=len(sizes),
    )
    assert 0 < milliseconds < 5000


def test_a_selection_made_in_python_shows_in_the_browser(widgets: Notebook, tmp_path: Path) -> None:
    canvas = plot_canvas(widgets.page)
    central = np.abs(np.random.default_rng(0).uniform(-1, 1, (20_000, 2))).max(1).argmin()
    ids = sorted({int(central), 5, 77})
    widgets.run_in_kernel(f"plot.selection({ids})")
    wait_for_selected(canvas, ids)
    box = canvas.bounding_box()
    assert box is not None
    ((x, y),) = positions_on_screen(canvas, [int(central)])
    assert x == pytest.approx(0.5, abs=0.01) and y == pytest.approx(0.5, abs=0.01)
    widgets.screenshot(tmp_path / "page.png")
    column, row = round(box["x"] + x * box["width"]), round(box["y"] + y * box["height"])
    red, _, blue = Image.open(tmp_path / "page.png").convert("RGB").getpixel((column, row))
    assert blue > red + 100  # plain points are black


def test_another_canvas_of_a_plot_is_refused(widgets: Notebook) -> None:
    with pytest.raises(Exception, match="not the canvas of points"):
        positions_on_screen(widgets.page.locator("canvas").nth(1), [0])


def test_a_widget_of_ones_own_counts_presses(widgets: Notebook) -> None:
    before = widgets.evaluate_in_kernel("counter.presses")
    widgets.output(2).get_by_role("button", name=f"pressed {before}").click()
    widgets.page.get_by_role("button", name=f"pressed {before + 1}").wait_for()
    widgets.wait_in_kernel("counter.presses", before + 1)
    widgets.run_in_kernel("counter.presses = 40")
    widgets.page.get_by_role("button", name="pressed 40").wait_for()


def test_the_page_takes_the_size_asked_for(widgets: Notebook) -> None:
    widgets.resize(1000, 800)
    assert widgets.page.evaluate("[innerWidth, innerHeight]") == [1000, 800]
    widgets.resize(1400)


def test_the_page_may_use_the_clipboard(widgets: Notebook) -> None:
    widgets.page.evaluate("() => navigator.clipboard.writeText('explore(features)')")
    assert widgets.page.evaluate("() => navigator.clipboard.readText()") == "explore(features)"


def test_a_restarted_kernel_is_empty_and_runs_again(widgets: Notebook) -> None:
    widgets.restart_kernel()
    with pytest.raises(RuntimeError, match="NameError"):
        widgets.evaluate_in_kernel("slider.value")
    widgets.run()
    widgets.page.get_by_role("slider").press("ArrowRight")
    widgets.page.get_by_text("block 4", exact=True).wait_for()
    assert widgets.evaluate_in_kernel("np.arange(3) + slider.value") == [4, 5, 6]


def test_errors_of_the_console_are_kept_and_other_hosts_are_out_of_reach(widgets: Notebook) -> None:
    address = "http://example.invalid/library.js"
    widgets.page.evaluate("(address) => fetch(address).catch(() => null)", address)
    assert address in widgets.outside
    before = len(widgets.errors)
    widgets.page.evaluate("() => console.error('broken view')")
    assert widgets.errors[before:] == ["broken view"]
    widgets.errors.clear()


def test_a_callback_that_raises_is_known(notebook: Callable[[Sequence[str]], Notebook]) -> None:
    view = notebook([SLIDER, "slider.observe(lambda change: 1 / 0, 'value')"])
    assert view.last_error() is None
    view.page.get_by_role("slider").press("ArrowRight")
    view.page.get_by_text("block 4", exact=True).wait_for()
    assert "ZeroDivisionError: division by zero" in str(view.last_error())


def test_a_cell_that_raises_fails_with_its_error_and_source(
    notebook: Callable[[Sequence[str]], Notebook],
) -> None:
    with pytest.raises(CellError, match=r"ZeroDivisionError: division by zero\n(?s:.*)share = 1 / 0"):
        notebook(["total = 1", "share = 1 / 0", "never = 3"])


def test_voila_shows_the_slider_and_its_kernel_answers(
    dashboard: Callable[[Sequence[str]], Dashboard],
) -> None:
    view = dashboard([SLIDER, "import sys; print('only a warning', file=sys.stderr)"])
    view.page.get_by_role("slider").press("ArrowRight")
    view.page.get_by_text("block 4", exact=True).wait_for()
    assert view.evaluate_in_kernel("slider.value") == 4
    assert "import ipywidgets" not in view.frame.inner_text()
    assert view.errors == []


def test_a_cell_that_raises_in_voila_fails_with_its_error(
    dashboard: Callable[[Sequence[str]], Dashboard],
) -> None:
    with pytest.raises(CellError, match="ZeroDivisionError: division by zero"):
        dashboard(["1 / 0"])


def test_latency_is_the_time_that_a_page_takes(page: Page) -> None:
    page.set_content("<button onclick='setTimeout(() => { this.textContent += 1; }, 200)'>x</button>")
    shown = "document.querySelector('button').textContent"
    milliseconds = latency(
        page,
        lambda _: page.get_by_role("button").click(),
        lambda number: f"{shown} === 'x{'1' * (number + 1)}'",
        since="click",
        repeats=3,
    )
    assert 200 <= milliseconds < 1000
    with pytest.raises(ValueError, match="holds before the action"):
        latency(page, lambda _: None, lambda _: "true")
