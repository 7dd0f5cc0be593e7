"""The linked lab in a real browser: lasso, filter and keys lead to the same images in every view."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from browser.gestures import (
    ask_plot,
    lasso,
    latency,
    plot_canvas,
    positions_on_screen,
    selected_on_screen,
    wait_for_plot,
    wait_for_selected,
)
from browser.views import Notebook

pytestmark = pytest.mark.slow

CELLS = [
    """
import workbench as wb
from workbench.apps.explore import explore
manifest = wb.Manifest.load("toybox_lt")
images = wb.LongTailDataset(manifest, "test", per_class=5)
text = wb.load_text_tower("toybox_clip")
method = wb.create_method("zero_shot", wb.load_backbone("toybox_clip"), manifest.classes, text=text)
features = wb.extract(method, images)
app = explore(features, images, method)
app.work.wait()
""",
    "app",
]


@pytest.fixture(scope="module")
def app(module_notebook) -> Iterator[Notebook]:  # type: ignore[no-untyped-def]
    notebook = module_notebook(CELLS)
    notebook.resize(1400, 900)
    notebook.page.locator(".wb-explore").scroll_into_view_if_needed()
    yield notebook


def titles(app: Notebook) -> set[str]:
    """Ids under the pictures on the screen."""
    cells = app.page.locator(".wb-tiles [role=option]")
    return {label.split(": ")[0] for label in cells.evaluate_all("all => all.map(cell => cell.ariaLabel)")}


def test_a_lasso_shows_the_same_images_everywhere(app: Notebook, tmp_path: Path) -> None:
    canvas = plot_canvas(app.page)
    lasso(app.page, canvas, [(0.3, 0.3), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7)])
    app.wait_in_kernel("app.selection.why == 'lasso' and len(app.selection) > 0")
    ids = app.evaluate_in_kernel("app.selection.ids")
    shown = app.evaluate_in_kernel("[str(features.ids[r]) for r in app.grid.rows]")
    app.page.locator(".wb-tiles [role=option]").first.wait_for()
    assert titles(app) == set(shown) and set(shown) <= set(ids)
    rows = app.evaluate_in_kernel("app.map.rows.tolist()")
    on_map = {rows[i] for i in selected_on_screen(canvas)}
    assert on_map == set(app.evaluate_in_kernel("app.selection.rows.tolist()"))
    assert app.page.locator(".wb-explore .wb-chip").inner_text().startswith(f"{len(ids)} images")
    assert (
        app.page.locator(".wb-explore .wb-code")
        .inner_text()
        .startswith("explore(features, images, method).select(ids=[")
    )


def test_a_selection_by_code_is_seen_on_the_map_and_can_be_kept(app: Notebook) -> None:
    page, canvas = app.page, plot_canvas(app.page)
    app.run_in_kernel("_ = app.select('confidence < 0.5')")
    points = app.evaluate_in_kernel("app.map._places[app.selection.rows]")
    assert points
    wait_for_selected(canvas, points)
    page.locator(".wb-explore button", has_text="keep only").click()
    app.wait_in_kernel("len(app.selection.kept)", len(points))
    app.run_in_kernel("_ = app.select('not correct')")
    inside = app.evaluate_in_kernel("app.map._places[app.selection.rows]")
    assert set(inside) < set(points)
    wait_for_selected(canvas, inside)
    page.locator(".wb-explore button", has_text="show all").click()
    app.wait_in_kernel("app.selection.kept is None")


def test_the_chip_copies_ids_and_code(app: Notebook) -> None:
    page = app.page
    app.run_in_kernel("_ = app.select(ids=features.ids[[3, 5]].tolist())")
    page.locator(".wb-explore .wb-chip", has_text="2 images · by name").wait_for()
    for what, expression in (
        ("ids", "'\\n'.join(app.selection.ids)"),
        ("code", "app.code.code"),
        ("frame", "app.code.code + '.selection.to_frame()'"),
    ):
        page.locator(f".wb-explore button[data-copies={what}]").click()
        page.locator(f".wb-explore button[data-copies={what}]", has_text="copied").wait_for()
        assert page.evaluate("() => navigator.clipboard.readText()") == app.evaluate_in_kernel(expression)


def test_the_point_under_the_mouse_shows_its_picture(app: Notebook) -> None:
    canvas = plot_canvas(app.page)
    point = app.evaluate_in_kernel("int(app.map._places[features.confidence.argmax()])")
    (x, y) = positions_on_screen(canvas, [point])[0]
    box = canvas.bounding_box()
    assert box is not None
    app.page.mouse.move(box["x"] + x * box["width"] - 30, box["y"] + y * box["height"])
    app.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=5)
    app.wait_in_kernel("app.map.scatter.widget.hovering is not None")
    hovered = app.evaluate_in_kernel("app.map.scatter.widget.hovering")
    picture = app.evaluate_in_kernel(f"app.map._table['picture'][{hovered}]")
    app.page.wait_for_function(
        "(start) => [...document.querySelectorAll('.wb-explore div')]"
        ".some((node) => node.style.backgroundImage.includes(start))",
        arg=picture[:200],
    )
    assert app.errors == [] and app.last_error() is None


def test_keys_filter_choose_images_and_clear(app: Notebook) -> None:
    page = app.page
    page.locator(".wb-explore .wb-tiles").click()
    page.keyboard.press("f")
    page.keyboard.type("group == 'few' and not correct")
    page.keyboard.press("Enter")
    app.wait_in_kernel("app.selection.why == \"group == 'few' and not correct\"")
    tiles = page.locator(".wb-tiles [role=option]")
    tiles.nth(1).click()
    page.keyboard.press("ArrowRight")
    app.wait_in_kernel("app.grid.tiles.active", 2)
    page.locator(".wb-explore img[alt*='attention rollout']").wait_for()
    chosen = app.evaluate_in_kernel("str(features.ids[app.strip.row])")
    assert chosen in (tiles.nth(2).get_attribute("aria-label") or "")
    page.locator(".wb-explore .wb-loading").wait_for(state="detached")
    assert page.locator(".wb-explore img").count() == 4 and all(
        page.locator(".wb-explore img").evaluate_all("all => all.map(i => i.alt)")
    )
    page.keyboard.press("Escape")
    app.wait_in_kernel("len(app.selection)", 0)
    page.locator(".wb-tiles .wb-empty").wait_for()
    assert app.errors == [] and app.outside == [] and app.last_error() is None


def test_a_filter_is_seen_soon_and_a_bad_one_is_explained(app: Notebook) -> None:
    page, field = app.page, app.page.locator(".wb-explore .wb-key-f input")

    def ask(turn: int) -> None:
        field.fill(f"confidence < {0.3 + 0.01 * turn:.2f}")
        field.press("Enter")

    chip = "document.querySelector('.wb-explore .wb-chip').textContent"
    took = latency(page, ask, lambda turn: f"{chip}.includes('confidence < {0.3 + 0.01 * turn:.2f}')")
    print(f"filter to chip: {took:.0f} ms")
    field.fill("grop == 1")
    field.press("Enter")
    message = page.locator(".wb-explore [role=alert]")
    message.wait_for()
    assert "Columns are id, label, name" in message.inner_text()
    field.fill("")
    field.press("Enter")
    app.wait_in_kernel("len(app.selection)", 0)


def test_a_split_is_chosen_and_points_grow_with_confidence(notebook) -> None:  # type: ignore[no-untyped-def]
    several = """
train = wb.LongTailDataset(manifest, "train", per_class=3)
parts = {"test": features, "train": wb.extract(method, train)}
app = explore(parts, {"test": images, "train": train}, method)
app.work.wait()
"""
    app = notebook([CELLS[0] + several, "app"])
    page, canvas = app.page, plot_canvas(app.page)
    number = app.evaluate_in_kernel("len(parts['train'])")
    assert number == app.evaluate_in_kernel("len(train)") > 60
    page.locator(".wb-explore select:has(option:text-is('any split'))").select_option(label="train")
    page.locator(".wb-explore .wb-chip", has_text=f"{number} images · split == 'train'").wait_for()
    points = app.evaluate_in_kernel("(app.features.extras['split'][app.map.rows] == 'train').nonzero()[0]")
    assert len(points) == number
    wait_for_selected(canvas, points)
    for size, kinds in (("confidence", 64), ("equal", 1)):
        page.locator(".wb-explore select:has(option:text-is('equal'))").select_option(label=size)
        wait_for_plot(canvas, "new Set([plot.get('pointSize')].flat()).size === argument", kinds)
    assert ask_plot(canvas, "plot.get('sizeBy')") == "valueW"
    assert app.errors == [] and app.last_error() is None
