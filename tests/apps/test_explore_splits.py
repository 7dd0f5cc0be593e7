"""The linked lab with several splits: one map, one table and one selection of all, and what each split is asked by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from workbench.apps.explore import explore
from workbench.features import Features

from .conftest import HOSTILE
from .test_explore import again, on_map

Make = Callable[..., Features]


@pytest.fixture
def parts(make_features: Make) -> dict[str, Features]:
    """Two splits of one model, of 96 and 48 images."""
    test, train = make_features(), make_features(1, images=4)
    return {"test": test, "train": replace(train, ids=np.char.replace(train.ids, "test", "train"), source=test.source)}


def test_several_splits_are_one_selection(parts: dict[str, Features]) -> None:
    app = explore(parts)
    app.work.wait()
    assert len(app.features) == 144 and app.features.ids[96] == parts["train"].ids[0]
    assert [text for text, _ in app.filters.split.options] == ["any split", "test", "train"]
    app.filters.split.value = "train"
    assert app.selection.rows.tolist() == list(range(96, 144)) == on_map(app) and "48 images" in app.chip.text.value
    assert app.grid.tiles.cells[0]["title"].split(": ")[1].split(";")[0].endswith(", train)")
    app.filters.decision.value = "not correct"
    wrong = np.flatnonzero(~app.features.correct & (np.arange(144) >= 96)).tolist()
    assert app.selection.rows.tolist() == wrong
    assert app.code.code == "explore(features).select(\"split == 'train' and not correct\")"
    assert again(app).selection.rows.tolist() == wrong, "of features that were joined before"
    assert eval(app.code.code, {"explore": explore, "features": parts}).selection.rows.tolist() == wrong
    assert set(app.selection.to_frame()["split"]) == {"train"}
    app.chip.clear.click()
    assert app.filters.split.value == "" and not len(app.selection)
    for name, line in zip(parts, app.accuracy.value.split("<tr>")[2:], strict=True):
        assert line.startswith(f"<th>{name}</th>") and f"{100 * parts[name].correct.mean():.1f}&nbsp;%" in line


def test_points_are_coloured_and_described_by_split(parts: dict[str, Features]) -> None:
    app = explore(parts).show(colour="split")
    app.work.wait()
    of = app.features.extras["split"][app.map.rows]
    shades = [set(app.map.scatter.widget.points[of == name, 2].tolist()) for name in parts]
    assert [len(found) for found in shades] == [1, 1] and shades[0] != shades[1]
    assert all(f"{name} <span" in app.map.legend.value for name in parts) and "n = 48" in app.map.legend.value
    assert "split" in app.map.scatter.widget.tooltip_properties and app.map._table["split"].tolist() == of.tolist()
    assert app.code.code == "explore(features).show(colour='split')"


def test_one_split_has_no_controls_for_splits(make_features: Make) -> None:
    for app in (explore(make_features()), explore({"test": make_features()})):
        app.work.wait()
        assert app.filters.split not in app.filters.controls and "split" not in app.map.colour.options
        assert "split" not in app.selection.frame and app.accuracy.value.count("<br>") == 1
        assert "split" not in app.map.scatter.widget.tooltip_properties


def test_splits_that_do_not_fit_are_refused(parts: dict[str, Features]) -> None:
    with pytest.raises(ValueError, match="no features were given"):
        explore({})
    with pytest.raises(ValueError, match="images is one data set, and the features are of 2 splits"):
        explore(parts, object())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'val', which is no split of these features; pass images of 'test', 'train'"):
        explore(parts, {"val": object()})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"'test', which is no split .* pass images=LongTailDataset"):
        explore(parts["test"], {"test": object()})  # type: ignore[dict-item]


def test_a_split_named_in_html_stays_text(parts: dict[str, Features]) -> None:
    name = HOSTILE + ' `it\'s` "@two"'
    app = explore({"test": parts["test"], name: parts["train"]}).show(colour="split")
    app.work.wait()
    app.filters.split.value = name
    assert app.selection.rows.tolist() == list(range(96, 144)) == again(app).selection.rows.tolist()
    app._chosen(100)
    for part in (app.chip.text, app.accuracy, app.map.legend, app.map.quality, app.strip.maps, app.message):
        assert "<img" not in part.value
    assert "&lt;img" in app.accuracy.value and "&lt;img" in app.map.legend.value and "&lt;img" in app.chip.text.value
