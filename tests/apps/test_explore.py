"""The linked lab: one selection in every view, states that say what to do, code that gives it again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import workbench as wb
from workbench.apps.explore import SHOWN, Explore, explore
from workbench.features import Features

from .conftest import HOSTILE

Make = Callable[..., Features]


@pytest.fixture
def shown(make_features: Make) -> Explore:
    app = explore(make_features())
    app.work.wait()
    return app


def on_map(app: Explore) -> list[int]:
    return np.sort(app._map_rows[np.asarray(app.scatter.widget.selection, int)]).tolist()


def test_every_view_shows_what_any_view_selects(shown: Explore) -> None:
    shown.filter.value = "group == 'few' and not correct"
    rows = shown.selection.rows
    assert len(rows) and on_map(shown) == rows.tolist()
    assert len(shown.tiles.cells) == min(len(rows), SHOWN) and f"{len(rows)} images" in shown.chip.value
    shown.scatter.widget.selection = [7, 3]
    assert shown.selection.rows.tolist() == sorted(shown._map_rows[[3, 7]].tolist()) and shown.selection.why == "lasso"
    assert {cell["title"].split(":")[0] for cell in shown.tiles.cells} == set(shown.selection.ids)
    shown.clear.click()
    assert not len(shown.selection) and not on_map(shown) and not shown.tiles.cells


def test_the_line_of_code_gives_the_selection_again(shown: Explore) -> None:
    for choose in (
        lambda: setattr(shown.search, "value", HOSTILE),
        lambda: setattr(shown.groups["few"], "value", True),
        lambda: setattr(shown.groups["many"], "value", True),
        lambda: setattr(shown.wrong, "value", True),
        lambda: shown.invert.click(),
        lambda: setattr(shown.scatter.widget, "selection", [1, 2]),
    ):
        choose()
        assert len(shown.selection)
        given = {"explore": explore, "features": shown.features, "images": None, "method": None}
        again = eval(shown.code.code, given)
        assert again.selection.rows.tolist() == shown.selection.rows.tolist(), shown.code.code


def test_tiles_are_sorted_by_confidence(shown: Explore) -> None:
    shown.groups["few"].value = True
    confidence = shown.features.confidence[shown._order]
    assert (np.diff(confidence) >= 0).all() and len(confidence) > 5
    shown.sort.value = "most confident"
    assert (np.diff(shown.features.confidence[shown._order]) <= 0).all()


def test_a_filter_that_cannot_be_says_which_columns_there_are(shown: Explore) -> None:
    shown.filter.value = "grop == 'few'"
    assert "Columns are id, label, name, group" in shown.message.value and not len(shown.selection)
    shown.filter.value = "confidence > 2"
    assert "No images match. Clear the filter." in shown.message.value


def test_keeping_shows_only_the_selection_on_the_map(shown: Explore) -> None:
    shown.groups["few"].value = True
    few = shown.selection.rows.tolist()
    shown.keep.click()
    assert sorted(shown._map_rows.tolist()) == few
    shown.clear.click()
    shown.work.wait()
    assert len(shown._map_rows) == len(shown.features)


@pytest.mark.parametrize("colour", ["group", "correct", "confidence", "class"])
def test_points_are_coloured_by_anything(shown: Explore, colour: str) -> None:
    shown.colour.value = colour
    assert shown.scatter.widget.color_by is not None


def test_features_without_images_or_decisions_say_how_to_get_them(make_features: Make) -> None:
    app = explore(make_features(decisions=False))
    app.work.wait()
    assert "Pass images=LongTailDataset" in app.strip.pictures.value and "hold no decisions" in app.accuracy.value
    assert app.wrong.disabled and "correct" not in app.colour.options
    app.groups["many"].value = True
    app.tiles.active = 0
    assert "no scores" in app.strip.scores.value
    one = explore(make_features(classes=1))
    one.map.value = "lda"
    one.work.wait()
    assert "LDA separates two or more" in one.plot.children[0].value, "one class is a message, not an error"


def test_a_name_of_html_stays_text(shown: Explore) -> None:
    shown.search.value = HOSTILE
    shown.tiles.active = 0
    shown.strip.work.wait()
    for html in (shown.chip.value, shown.strip.scores.value, shown.message.value, shown.quality.value):
        assert "<img" not in html


def test_images_and_maps_of_one_image_are_shown() -> None:
    manifest = wb.Manifest.load("toybox_lt")
    test = wb.LongTailDataset(manifest, "test", per_class=1)
    method = wb.create_method(
        "zero_shot", wb.load_backbone("toybox_clip"), manifest.classes, text=wb.load_text_tower("toybox_clip")
    )
    app = explore(wb.extract(method, test), test, method)
    app.work.wait()
    app.groups["few"].value = True
    assert app.tiles.sheet and len(app.tiles.cells) == 25
    app.tiles.active = 2
    app.strip.work.wait()
    assert app.strip.row == app._order[2]
    assert all(title in app.strip.pictures.value for title in ("saliency", "Grad-CAM of", "attention rollout"))
    assert app.strip.pictures.value.count("<img") == 4 and app.strip.scores.value.count("<tr>") >= 5
