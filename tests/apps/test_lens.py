"""The lens: rows of the methods, numbers of the lower rooms, what cannot be moved says why, uploads, code."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import workbench as wb
from workbench.apps.lens import Lens, lens
from workbench.diagnostics.attention import block_attention
from workbench.diagnostics.heat_maps import enlarged

from .conftest import HOSTILE


def tower() -> Any:
    return wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=64)


@pytest.fixture(scope="module")
def images() -> wb.LongTailDataset:
    return wb.LongTailDataset(wb.Manifest.load("toybox_lt"), "test", per_class=2)


@pytest.fixture(scope="module")
def methods(images: wb.LongTailDataset) -> dict[str, Any]:
    classes = images.classes
    options = {"prompts": 2, "groups": 3, "group_prompts": 2, "bias_rows": "patch_query"}
    biased = wb.create_method("lt_dpt", tower(), classes, **options)
    return {"plain": wb.create_method("gnm_pt", tower(), classes, prompts=2), "biased": biased}


@pytest.fixture
def shown(methods: dict[str, Any], images: wb.LongTailDataset) -> Lens:
    app = lens(methods, images)
    app.work.wait()
    return app


def rows(app: Lens) -> dict[str, str]:
    app.work.wait()
    assert "wb-broken" not in app.message.value + "".join(row.value for row in app.rows.values())
    return {name: row.value.replace("\u00a0", " ") for name, row in app.rows.items()}


def test_every_method_has_a_row_with_the_numbers_of_the_lower_rooms(shown: Lens, images: wb.LongTailDataset) -> None:
    block = shown.block.max
    for name, html in rows(shown).items():
        method = shown.methods[name]
        assert html.count("<img") == 6 and f"<b>{name}</b>" in html
        x = images.with_preprocessing(method.test_preprocessing("centre"))[shown.picker.row][0][None]
        share = method(x).logits.softmax(1).max().item()
        found = wb.attention_rollout(method, x)
        assert f"{100 * share:.1f} %" in html
        assert f"patches {100 * found.rollout.sum():.0f} %, prompts {100 * found.prompt_mass[0]:.0f} %" in html
        attended = block_attention(method, x, block).read_from()
        assert f"block {block}, mean of 2 heads; patches get {100 * attended.sum():.0f} %" in html


def test_the_bias_moves_only_methods_that_have_one_and_the_rest_is_not_computed_again(shown: Lens) -> None:
    before, cached = rows(shown), set(shown._cache)
    shown.alpha.value = 8.0
    after = rows(shown)
    assert after["plain"] == before["plain"] and "alpha = 8 x 1.00" in after["biased"] != before["biased"]
    assert {key[0] for key in set(shown._cache) - cached} == {"biased"}
    assert shown.methods["biased"].bias_factors == (1.0, 1.0), "the method is left as it was"
    shown.alpha.value = 1.0
    assert rows(shown) == before and "cached" in shown.about.value


def test_a_method_without_a_bias_says_why_the_sliders_are_off(
    methods: dict[str, Any], images: wb.LongTailDataset
) -> None:
    app = lens(methods["plain"], images)
    assert app.alpha.disabled and app.beta.disabled and "lt_dpt has" in app.bias_note.value
    assert list(app.rows) == ["gnm_pt"]


def test_the_line_of_code_gives_the_view_again(
    shown: Lens, methods: dict[str, Any], images: wb.LongTailDataset
) -> None:
    shown.picker.kind.value = 7
    shown.picker.number.value = 1
    shown.picker.background.value = "carpet"
    shown.block.value, shown.head.value, shown.beta.value, shown.target.value = 5, 1, 2.5, "true"
    again = eval(shown.code.code, {"lens": lens, "methods": methods, "images": images})
    assert rows(again) == rows(shown) and again.code.code == shown.code.code
    assert images.ids[15] in shown.code.code and "background='carpet'" in shown.code.code
    assert "before carpet in place of" in shown.about.value


def test_another_background_is_another_image(shown: Lens) -> None:
    own = shown.picker.own_background
    before = rows(shown)
    shown.picker.background.value = own
    assert rows(shown) == before, "its own background is no exchange"
    shown.picker.background.value = next(name for name in ("lava", "carpet") if name != own)
    after = rows(shown)
    assert all(after[name] != before[name] for name in after)


def test_checks_are_those_of_the_diagnostics(shown: Lens, images: wb.LongTailDataset) -> None:
    shown.checks.value = True
    html = rows(shown)["plain"]
    method = shown.methods["plain"]
    look = images.with_preprocessing(method.test_preprocessing("centre"))
    x = look[shown.picker.row][0][None]
    found = wb.faithfulness(method, x, wb.grad_cam(method, x))
    assert f"{found.auc['deletion', 'map'][0]:.2f}" in html and "random blocks" in html
    assert "rank correlation with the map" in html and html.count("<img") == 7
    assert "checks=True" in shown.code.code


WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def png(size: int = 60) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def uploaded(app: Lens, name: str, content: bytes) -> None:
    app.picker.upload.value = (
        {
            "name": name,
            "type": "image/png",
            "size": len(content),
            "content": memoryview(content),
            "last_modified": WHEN,
        },
    )
    app.work.wait()


def test_an_upload_is_looked_at_and_a_broken_one_is_named(
    methods: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = lens(methods)
    assert "Upload one above" in app.message.value and app.picker.background.disabled
    uploaded(app, "broken.png", b"no image")
    assert "broken.png: not an image in a known format" in app.message.value
    uploaded(app, "mine.png", png())
    assert "mine.png: your image" in app.about.value and not app.message.value
    assert all(html.count("<img") == 6 for html in rows(app).values())
    (tmp_path / "mine.png").write_bytes(png())
    monkeypatch.chdir(tmp_path)
    again = eval(app.code.code, {"lens": lens, "methods": methods, "images": None})
    assert rows(again) == rows(app)
    uploaded(app, "mine.png", png(90))
    assert rows(again) != rows(app), "another file of the same name is another image"


def test_names_of_html_stay_text(methods: dict[str, Any]) -> None:
    classes = wb.Classes((HOSTILE, "b"), np.array([5, 2]), wb.GroupRule())
    app = lens({HOSTILE: wb.create_method("gnm_pt", tower(), classes, prompts=2)})
    uploaded(app, HOSTILE, png())
    for html in (*rows(app).values(), app.about.value, app.bias_note.value):
        assert "<img src=x" not in html


def test_an_image_that_is_not_on_disk_is_a_message(
    methods: dict[str, Any], images: wb.LongTailDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = lens(methods, images)
    rows(app)

    def gone(self: Any, index: int, *, background: str | None = None) -> Any:
        raise FileNotFoundError("birds/1.jpg is not there.")

    monkeypatch.setattr(wb.LongTailDataset, "image", gone)
    app.picker.kind.value = 3
    app.work.wait()
    assert "birds/1.jpg is not there." in app.message.value
    assert not any(row.value for row in app.rows.values()), "no maps of another image stay"


def test_a_resnet_has_no_attention_but_the_rest(images: wb.LongTailDataset) -> None:
    tower = wb.load_backbone("resnet50_clip.openai", weights="random", input_size=64)
    app = lens(wb.create_method("linear_probe", tower, images.classes), images)
    html = rows(app)["linear_probe"]
    assert "has no attention" in html and "no patches to pool to" in html and html.count("<img") == 3
    assert app.head.disabled


def test_wrong_arguments_are_named(methods: dict[str, Any], images: wb.LongTailDataset, shown: Lens) -> None:
    with pytest.raises(ValueError, match="methods is empty"):
        lens({}, images)
    digits = wb.LongTailDataset(wb.Manifest.load("digits_lt"), "test", per_class=1)
    with pytest.raises(ValueError, match="plain knows 60 classes"):
        lens(methods, digits)
    with pytest.raises(ValueError, match="neither an image of this data set"):
        shown.show("nothing.jpg")


def test_patches_become_squares_or_a_smooth_map() -> None:
    given = np.array([[[0.0, 1.0], [2.0, 4.0]]])
    assert np.array_equal(enlarged(given, (4, 4), smooth=False)[0, ::2, ::2], given[0] / 4)
    smooth = enlarged(given, (4, 4))[0]
    assert smooth[0, 0] == 0 and smooth[-1, -1] == 1 and 0 < smooth[1, 1] < 1
    assert not enlarged(np.ones((1, 2, 2)), (4, 4)).any() and torch.is_tensor(torch.ones(1))
