"""The prompt app: bars, images, ablation and attention are those of the lower rooms; what has no pool says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench import metrics
from workbench.apps.prompts import Prompts, prompts
from workbench.diagnostics.attention import prompt_attention

from .conftest import HOSTILE

OPTIONS = {"lpt": {"prompts": 2, "groups": 6}, "lt_dpt": {"prompts": 2, "groups": 4, "group_prompts": 2}}


@pytest.fixture(scope="module")
def images() -> wb.LongTailDataset:
    return wb.LongTailDataset(wb.Manifest.load("digits_lt"), "test", per_class=6)


def build(name: str, images: wb.LongTailDataset) -> Any:
    """On a random tower, its prompts so large that they move decisions."""
    tower = wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=32)
    for parameter in tower.model.blocks.parameters():
        parameter.data *= 4
    method = wb.create_method(name, tower, images.classes, **OPTIONS.get(name, {}))
    for key, parameter in method.named_parameters():
        if key in ("pool", "groups"):
            parameter.data *= 100
    return method.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def method(images: wb.LongTailDataset) -> Any:
    return build("lpt", images)


@pytest.fixture(scope="module")
def features(method: Any, images: wb.LongTailDataset) -> wb.Features:
    return wb.extract(method, images)


def settled(app: Prompts) -> Prompts:
    for work in (app.work, app.pictures, app.worth.work, app.looks.work):
        work.wait()
    assert "wb-broken" not in app.message.value + app.looks.html.value + app.worth.text.value
    return app


@pytest.fixture
def shown(method: Any, images: wb.LongTailDataset, features: wb.Features) -> Prompts:
    return settled(prompts(method, images, features))


def pick(app: Prompts, key: str) -> None:
    app.chart.picked = {"key": key, "n": app.chart.picked.get("n", 0) + 1}
    settled(app)


def bars(app: Prompts) -> dict[str, float]:
    return {mark["key"]: mark["y"] for mark in app.chart.spec["marks"] if "key" in mark}


def test_bars_are_the_shares_of_prompt_matching(shown: Prompts, features: wb.Features) -> None:
    found = wb.prompt_matching(features)
    assert bars(shown) == {
        f"{p}.0.{g}": pytest.approx(100 * found.by_group[g][0, p])
        for g in ("many", "medium", "few")
        for p in range(6)
        if np.isfinite(found.by_group[g][0, p])
    }
    assert f"live {found.live.sum()}/6" in shown.pool.value and f"{found.information:.2f} bits" in shown.pool.value
    shown.of.value = 3
    settled(shown)
    assert bars(shown) == {
        f"{p}.{r}.": pytest.approx(100 * found.proportions[3, r, p]) for r in (0, 1) for p in range(6)
    }


def test_a_click_on_a_bar_shows_its_images(shown: Prompts, features: wb.Features) -> None:
    index, groups = features.extras["prompt_index"], np.asarray(features.classes.groups)[features.labels]
    prompt = int(np.bincount(index[:, 0]).argmax())
    pick(shown, f"{prompt}.0.few")
    expected = np.flatnonzero((index[:, 0] == prompt) & (groups == "few"))
    assert shown.selection.rows.tolist() == expected.tolist() and len(expected)
    assert [cell["title"].split(":")[0] for cell in shown.tiles.cells] == features.ids[expected].tolist()
    assert shown.tiles.sheet and shown.chart.marked == f"{prompt}.0.few"
    shown.of.value = 2
    settled(shown)
    assert shown.selection.rows.tolist() == np.flatnonzero((index[:, 0] == prompt) & (features.labels == 2)).tolist()
    shown.clear.click()
    settled(shown)
    assert not len(shown.selection) and not shown.tiles.cells and shown.worth.off.disabled


def test_switched_off_the_groups_move_as_the_diagnostic_says_and_once(
    shown: Prompts, method: Any, images: wb.LongTailDataset, features: wb.Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = int(np.bincount(features.extras["prompt_index"][:, 0]).argmax())
    pick(shown, f"{prompt}.0.few")
    shown.worth.off.value = True
    settled(shown)
    found = wb.ablate_prompts(method, images, prompts=[prompt])
    text = shown.worth.chart.spec["alt"]
    without = metrics.group_accuracy(found.without[0], found.labels, found.groups)
    assert f"without {prompt}: all {100 * without['all']:.1f} %" in text and f"few {100 * without['few']:.1f} %" in text
    assert f"{100 * found.shares(found.changed[0])['all']:.1f} %" in shown.worth.text.value
    assert (found.without[0] != found.predicted).any(), "something was switched off"
    monkeypatch.setattr("workbench.apps.prompt_cards.ablate_prompts", None)  # a second computation would fail
    shown.worth.off.value = False
    assert "without" not in shown.worth.chart.spec["alt"]
    shown.worth.off.value = True
    settled(shown)
    assert shown.worth.chart.spec["alt"] == text and shown.worth.note.value == "cached"


@pytest.mark.parametrize("name", OPTIONS)
def test_an_image_shows_where_the_prompt_looks(name: str, images: wb.LongTailDataset) -> None:
    method = build(name, images)
    features = wb.extract(method, images)
    app = settled(prompts(method, images, features))
    index = features.extras["prompt_index"].reshape(len(features), -1, 2)[:, -1]
    pick(app, f"{index[0, 0]}.0.")
    app.tiles.active = 0
    settled(app)
    block = app.looks.block.value
    row = int(app.selection.rows[0])
    x = images.with_preprocessing(method.test_preprocessing("centre"))[row][0][None]
    found = prompt_attention(method, x, int(index[0, 0]), block)
    looks, read = found.looks(2)[0], found.read_by(2)[0]
    assert f"{100 * looks.sum():.0f} % of its attention on patches" in app.looks.html.value
    assert f"a patch gives it {100 * read.mean():.1f} % of its attention" in app.looks.html.value
    assert app.looks.html.value.count("<img") == 3 and app.image == features.ids[row]
    assert ("drops what comes out" in app.looks.html.value) == (name == "lpt")
    assert app.layer.disabled == (name == "lpt") and app.looks.block.disabled == (name == "lt_dpt")


def test_the_line_of_code_gives_the_view_again(
    method: Any, images: wb.LongTailDataset, features: wb.Features, shown: Prompts
) -> None:
    prompt = int(features.extras["prompt_index"][5, 1])
    shown.of.value = int(features.labels[5])
    pick(shown, f"{prompt}.1.")
    shown.tiles.active = 0
    shown.looks.block.value = shown.looks.block.options[0]
    shown.worth.off.value = True
    settled(shown)
    given = {"prompts": prompts, "method": method, "dataset": images, "features": features}
    again = settled(eval(shown.code.code, given))
    assert again.code.code == shown.code.code and "off=True" in again.code.code and "image=" in again.code.code
    assert again.selection.rows.tolist() == shown.selection.rows.tolist() and again.tiles.active == 0
    assert again.looks.html.value == shown.looks.html.value and again.worth.chart.spec == shown.worth.chart.spec


def test_another_layer_has_its_own_bars(images: wb.LongTailDataset) -> None:
    method = build("lt_dpt", images)
    features = wb.extract(method, images)
    app = settled(prompts(method, images, features))
    app.layer.value = 0
    settled(app)
    found = wb.prompt_matching(features, layer=0)
    assert bars(app)["1.0.few"] == pytest.approx(100 * found.by_group["few"][0, 1])
    assert app.looks.block.options == (method.first,) and "layer=0" in app.code.code


def test_without_features_they_are_computed_first(method: Any, images: wb.LongTailDataset) -> None:
    app = prompts(method, images).show("few", prompt=1)
    app.work.wait()
    settled(app)
    assert app.of.value == "few" and app.prompt == 1 and "of='few', prompt=1" in app.code.code


def test_what_cannot_be_shown_says_what_to_do(
    method: Any, images: wb.LongTailDataset, features: wb.Features, shown: Prompts
) -> None:
    app = prompts(build("vpt", images), images)
    assert "pick from a pool are lpt and lt_dpt" in app.body.children[0].value
    bare = replace(features, extras={})
    assert "extract them with a method that has a pool" in prompts(method, images, bare).body.children[0].value
    with pytest.raises(ValueError, match="prompt=9 one of 0 to 5"):
        shown.show(prompt=9)
    undecided = settled(prompts(method, images, replace(features, predicted=None, confidence=None, logits=None)))
    assert "hold no decisions" in undecided.worth.text.value
    train = wb.LongTailDataset(images.manifest, "train", per_class=2)
    foreign = prompts(method, train, features)
    foreign.pictures.wait()
    pick_key = f"{features.extras['prompt_index'][0, 0]}.0."
    foreign.chart.picked = {"key": pick_key, "n": 1}
    foreign.pictures.wait()
    assert "not in the data set" in foreign.message.value and foreign.tiles.cells


def test_a_class_name_of_html_stays_text(method: Any, images: wb.LongTailDataset, features: wb.Features) -> None:
    names = (HOSTILE, *features.classes.names[1:])
    classes = wb.Classes(names, np.asarray(features.classes.counts), features.classes.rule)
    app = settled(prompts(method, images, replace(features, classes=classes)))
    app.of.value = 0
    pick(app, f"{features.extras['prompt_index'][0, 0]}.0.")
    app.tiles.active = 0
    settled(app)
    for html in (app.chip.text.value, app.pool.value, app.looks.html.value, app.worth.text.value):
        assert "<img src=x" not in html
