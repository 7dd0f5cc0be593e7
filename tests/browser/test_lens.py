"""The lens in JupyterLab: a key on a slider changes the maps, an own image is looked at, pictures have words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browser.views import Notebook

pytestmark = pytest.mark.slow

CELL = """
import workbench as wb
from workbench.apps.lens import lens
images = wb.LongTailDataset(wb.Manifest.load("toybox_lt"), "test", per_class=2)
towers = [wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=64) for _ in range(2)]
methods = {
    "plain": wb.create_method("gnm_pt", towers[0], images.classes, prompts=2),
    "biased": wb.create_method("lt_dpt", towers[1], images.classes, prompts=2, groups=3, group_prompts=2),
}
app = lens(methods, images)
app
"""


def upload(view: Notebook, file: Path) -> None:
    with view.page.expect_file_chooser() as chooser:
        view.frame.get_by_role("button", name="own image").click()
    chooser.value.set_files(file)


def test_keys_move_the_maps_and_an_own_image_is_looked_at(
    notebook: Callable[[Sequence[str]], Notebook], tmp_path: Path
) -> None:
    view = notebook([CELL])
    lens = view.frame.locator(".wb-lens")
    lens.get_by_text("blocks 0-5, mean").nth(1).wait_for()
    assert lens.locator("img").count() == 12
    words = [image.get_attribute("alt") for image in lens.locator("img").all()]
    assert all("of it on the object" in text for text in words[1:6]), "every map says what it shows"
    block = lens.get_by_role("slider").first
    block.press("ArrowLeft")
    lens.get_by_text("blocks 0-4, mean").nth(1).wait_for()
    assert "block=4" in view.evaluate_in_kernel("app.code.code")
    lens.get_by_label("image", exact=True).press("ArrowUp")
    lens.get_by_text("2000001").first.wait_for()
    lens.get_by_role("button", name="check the maps").click()
    lens.get_by_text("random blocks").nth(1).wait_for()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)).save(tmp_path / "mine.png")
    upload(view, tmp_path / "mine.png")
    lens.get_by_text("mine.png: your image").wait_for()
    (tmp_path / "broken.png").write_bytes(b"<img src=x onerror=alert(1)>")
    upload(view, tmp_path / "broken.png")
    lens.locator("[role=alert]", has_text="broken.png: not an image in a known format").wait_for()
    assert view.last_error() is None and view.errors == []
