"""The prompt app in Voila (the lens is looked at in JupyterLab): a click on a bar, on an image, on the switch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from browser.views import Dashboard

pytestmark = pytest.mark.slow

CELL = """
import workbench as wb
from workbench.apps.prompts import prompts
dataset = wb.LongTailDataset(wb.Manifest.load("digits_lt"), "test", per_class=6)
tower = wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=32)
method = wb.create_method("lpt", tower, dataset.classes, prompts=2, groups=6)
app = prompts(method, dataset)
app
"""


def test_bars_images_and_the_switch_follow_clicks(dashboard: Callable[[Sequence[str]], Dashboard]) -> None:
    view = dashboard([CELL])
    app = view.frame.locator(".wb-prompts")
    app.get_by_text("bits about the class").wait_for()
    prompt = view.evaluate_in_kernel("int(app.features.extras['prompt_index'][0, 0])")
    bar = app.locator(f"[data-key='{prompt}.0.few']")
    if not bar.count():
        bar = app.locator(f"[data-key^='{prompt}.0.']").first
    bar.press("Enter")
    app.get_by_text(f"best match is prompt {prompt}").wait_for()
    app.locator(".wb-tiles [role=option]").first.click()
    app.get_by_text(f"what prompt {prompt} looks at").wait_for()
    assert app.locator("img").count() == 3
    app.get_by_role("button", name=f"switch prompt {prompt} off").click()
    app.get_by_text("decided otherwise").wait_for()
    assert f"without {prompt}: all" in view.evaluate_in_kernel("app.worth.chart.spec['alt']")
    assert "off=True" in app.inner_text()
    assert view.last_error() is None and view.errors == []
