"""The linked lab in a real browser: lasso, filter and keys lead to the same images in every view."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from browser.gestures import lasso, latency, plot_canvas, selected_on_screen
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
    shown = app.evaluate_in_kernel("[str(features.ids[r]) for r in app._order]")
    app.page.locator(".wb-tiles [role=option]").first.wait_for()
    assert titles(app) == set(shown) and set(shown) <= set(ids)
    rows = app.evaluate_in_kernel("[int(r) for r in app._map_rows]")
    on_map = {rows[i] for i in selected_on_screen(canvas)}
    assert on_map == set(app.evaluate_in_kernel("app.selection.rows.tolist()"))
    assert app.page.locator(".wb-explore .wb-chip").inner_text().startswith(f"{len(ids)} images")
    assert (
        app.page.locator(".wb-explore .wb-code")
        .inner_text()
        .startswith("explore(features, images, method).select(ids=[")
    )


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
    app.wait_in_kernel("app.tiles.active", 2)
    page.locator(".wb-explore img[alt*='attention rollout']").wait_for()
    chosen = app.evaluate_in_kernel("str(features.ids[app.strip.row])")
    assert chosen in (tiles.nth(2).get_attribute("aria-label") or "")
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
