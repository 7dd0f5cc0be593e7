"""Comparisons, distances and descriptions in a real browser: what is clicked is what every view shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from browser.gestures import latency
from browser.views import Notebook

pytestmark = pytest.mark.slow

CELLS = [
    """
import workbench as wb
from dataclasses import replace
from workbench.apps.compare import compare
from workbench.apps.descriptions import descriptions
from workbench.apps.distances import distances
manifest = wb.Manifest.load("toybox_lt")
images = {split: wb.LongTailDataset(manifest, split, per_class=3) for split in ("train", "test")}
text, tower = wb.load_text_tower("toybox_clip"), wb.load_backbone("toybox_clip")
zero_shot = wb.create_method("zero_shot", tower, manifest.classes, text=text)
hlc = wb.create_method("hlc", tower, manifest.classes, text=text, texts=manifest.texts, visual="none").eval()
features = {split: wb.extract(zero_shot, part) for split, part in images.items()}
seen = wb.extract(hlc, images["test"])
""",
    "comparison = compare({'zero-shot': features['test'], 'HLC': seen}, images['test']); comparison",
    "spread = distances(features['train'], features['test'], images); spread",
    "inspector = descriptions(hlc, seen, images['test'], text=text); inspector",
]


@pytest.fixture(scope="module")
def apps(module_notebook) -> Iterator[Notebook]:  # type: ignore[no-untyped-def]
    notebook = module_notebook(CELLS)
    notebook.resize(1400, 900)
    yield notebook


def test_a_class_dot_leads_to_the_images_that_changed(apps: Notebook) -> None:
    app = apps.page.locator(".wb-compare")
    apps.wait_in_kernel("comparison.map.found is not None and comparison.difference is not None")
    c = apps.evaluate_in_kernel("int(comparison.changed.changed.labels[comparison.changed.changed.fixed[0]])")
    app.locator(f".wb-chart circle[data-key='{c}'], .wb-chart [data-key='{c}']").first.click()
    name = apps.evaluate_in_kernel(f"manifest.classes.names[{c}]")
    app.locator(".wb-chip").get_by_text(f"fixed · {name}").wait_for()
    shown = apps.evaluate_in_kernel("len(comparison.selection)")
    assert app.locator(".wb-tiles [role=option]").count() == shown > 0
    app.locator(".wb-tiles [role=option]").first.click()
    app.get_by_text("true class: ").wait_for()
    app.get_by_role("button", name="broken").click()
    app.locator(".wb-chip").get_by_text("broken").wait_for()
    assert "kind='broken'" in app.locator(".wb-code").inner_text()
    assert apps.last_error() is None and apps.errors == []


def test_a_click_on_the_heat_map_shows_two_classes(apps: Notebook) -> None:
    app = apps.page.locator(".wb-distances")
    apps.wait_in_kernel("spread.map.found is not None and spread.found is not None")
    heat = app.get_by_role("application")
    heat.scroll_into_view_if_needed()
    box = heat.bounding_box()
    assert box is not None
    heat.click(position={"x": 10.5 / 60 * box["width"], "y": 3.5 / 60 * box["height"]})
    one, other = apps.evaluate_in_kernel("[int(c) for c in spread.map.found.drawn[[3, 10]]]")
    apps.wait_in_kernel("list(spread.pair.classes)", [one, other])
    names = apps.evaluate_in_kernel("list(manifest.classes.names)")
    app.get_by_text(f"cosine to the mean of {names[one]}").wait_for()
    heat.press("ArrowDown")
    apps.wait_in_kernel("spread.map.heat.cell", [4, 10])
    app.locator(".wb-code").get_by_text(repr(names[other])).wait_for()
    code = "document.querySelector('.wb-distances .wb-code').textContent"
    drawn = apps.evaluate_in_kernel("[int(c) for c in spread.map.found.drawn]")
    milliseconds = latency(
        apps.page, lambda _: heat.press("ArrowDown"), lambda n: f"{code}.includes({names[drawn[5 + n]]!r})", repeats=3
    )
    print("LATENCY heat map", milliseconds)
    assert 0 < milliseconds < 3000
    assert apps.last_error() is None and apps.errors == []


def test_a_silenced_description_changes_the_decision_line(apps: Notebook) -> None:
    app = apps.page.locator(".wb-descriptions")
    apps.wait_in_kernel("inspector.row >= 0")
    app.locator("input[type=checkbox]").first.click()
    app.get_by_text("decisions are others").wait_for()
    app.locator(".wb-code").get_by_text("silence(").wait_for()
    sentence = app.locator("input[type=text]").nth(2)
    sentence.fill("It is a red star.")
    sentence.press("Enter")
    app.locator(".wb-code").get_by_text("'It is a red star.'").wait_for()
    app.get_by_role("button", name="undo all edits").click()
    app.get_by_text("No edits").wait_for()
    assert apps.evaluate_in_kernel("inspector.edit_log.changes == {}")
    assert apps.last_error() is None and apps.errors == []
