"""The linked lab: one selection in every view, states that say what to do, code that gives it again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from workbench.apps.explore import Explore, explore
from workbench.apps.explore_grid import NONE, SHOWN
from workbench.apps.explore_map import COLOURS
from workbench.features import Features

from .conftest import HOSTILE

Make = Callable[..., Features]


@pytest.fixture
def shown(make_features: Make) -> Explore:
    app = explore(make_features())
    app.work.wait()
    return app


def on_map(app: Explore) -> list[int]:
    return np.sort(app.map.rows[np.asarray(app.map.scatter.widget.selection, int)]).tolist()


def again(app: Explore, **given: Any) -> Explore:
    """What the line of code gives."""
    return eval(app.code.code, {"explore": explore, "features": app.features} | given)


def test_every_view_shows_what_any_view_selects(shown: Explore) -> None:
    shown.filters.text.value = "group == 'few' and not correct"
    rows = shown.selection.rows
    assert len(rows) and on_map(shown) == rows.tolist()
    assert len(shown.grid.tiles.cells) == min(len(rows), SHOWN) and f"{len(rows)} images" in shown.chip.text.value
    shown.map.scatter.widget.selection = [7, 3]
    assert shown.selection.rows.tolist() == sorted(shown.map.rows[[3, 7]].tolist()) and shown.selection.why == "lasso"
    assert {cell["title"].split(":")[0] for cell in shown.grid.tiles.cells} == set(shown.selection.ids)
    assert shown.filters.text.value == "", "a filter that no longer holds is not shown"
    shown.chip.clear.click()
    assert not len(shown.selection) and not on_map(shown) and not shown.grid.tiles.cells


def test_filters_join_into_one_condition(shown: Explore) -> None:
    features, filters = shown.features, shown.filters
    filters.groups["few"].value = filters.groups["many"].value = True
    filters.decision.value = "not correct"
    filters.confidence.value = (0.2, 0.6)
    filters.text.value = "label != 11 or correct"
    expected = np.isin(features.group_of, ["few", "many"]) & ~features.correct & (features.labels != 11)
    expected &= (features.confidence >= 0.2) & (features.confidence <= 0.6)
    assert 0 < expected.sum() < len(features)
    assert shown.selection.rows.tolist() == np.flatnonzero(expected).tolist()
    shown.chip.clear.click()
    assert filters.expression == "" and not len(shown.selection)
    filters.search.value = "ass 1"
    assert set(features.labels[shown.selection.rows]) == {1, 10, 11}, "part of a name is searched for too"
    filters.search.value = "class 1"
    assert set(features.labels[shown.selection.rows]) == {1}


def test_the_line_of_code_gives_the_selection_again(shown: Explore) -> None:
    assert shown.code.code == "explore(features)"
    for choose in (
        lambda: setattr(shown.filters.search, "value", HOSTILE),
        lambda: shown.chip.clear.click(),
        lambda: setattr(shown.filters.groups["few"], "value", True),
        lambda: setattr(shown.filters.groups["many"], "value", True),
        lambda: setattr(shown.filters.purity, "value", (0.0, 0.8)) or shown.measuring.wait(),
        lambda: setattr(shown.filters.decision, "value", "not correct"),
        lambda: shown.chip.invert.click(),
        lambda: setattr(shown.map.scatter.widget, "selection", list(range(60))),
        lambda: shown.chip.keep.click(),
        lambda: setattr(shown.map.scatter.widget, "selection", [1, 2]),
        lambda: setattr(shown.map.colour, "value", "class"),
        lambda: setattr(shown.grid.sort, "value", "most confident"),
        lambda: setattr(shown.grid.tiles, "active", 1),
    ):
        choose()
        same = again(shown)
        assert same.selection.rows.tolist() == shown.selection.rows.tolist(), shown.code.code
        kept = [None if app.selection.kept is None else app.selection.kept.tolist() for app in (same, shown)]
        assert kept[0] == kept[1] and same.code.code == shown.code.code
        assert same.strip.row == shown.strip.row and same.map.colour.value == shown.map.colour.value
    assert ".look(" in shown.code.code and "colour='class'" in shown.code.code
    frame = eval(shown.chip.copies._texts["frame"](), {"explore": explore, "features": shown.features})
    assert frame["id"].tolist() == shown.selection.ids


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, "explore(features)"),
        ({"images": 1}, "explore(features, images)"),
        ({"method": 1}, "explore(features, method=method)"),
        ({"images": 1, "bank": 1, "bank_images": 1}, "explore(features, images, bank=bank, bank_images=bank_images)"),
    ],
)
def test_the_line_of_code_says_only_what_was_given(given: dict[str, int], code: str) -> None:
    from workbench.apps.explore import _call

    assert f"explore({_call(**{'images': None, 'method': None, 'bank': None, 'bank_images': None} | given)})" == code


def test_tiles_are_sorted_by_confidence_page_by_page(shown: Explore) -> None:
    shown.filters.text.value = "confidence >= 0"
    seen = [*shown.grid.rows]
    assert len(seen) == SHOWN and f"1 to {SHOWN} of {len(shown.features)}" in shown.grid.more.value
    shown.grid.on.click()
    seen += [*shown.grid.rows]
    assert len(seen) == len(shown.features) and shown.grid.on.disabled
    assert (np.diff(shown.features.confidence[seen]) >= 0).all()
    shown.grid.sort.value = "most confident"
    assert shown.grid.page == 0 and (np.diff(shown.features.confidence[shown.grid.rows]) <= 0).all()


def test_a_filter_that_cannot_be_says_which_columns_there_are(shown: Explore) -> None:
    shown.filters.text.value = "grop == 'few'"
    assert "Columns are id, label, name, group" in shown.message.value and not len(shown.selection)
    shown.filters.text.value = "confidence > 2"
    assert shown.grid.tiles.empty == NONE and shown.message.value == ""


def test_keeping_puts_all_others_out_of_reach(shown: Explore) -> None:
    shown.filters.groups["few"].value = True
    few = shown.selection.rows.tolist()
    shown.chip.keep.click()
    assert sorted(shown.map.rows[shown.map.scatter.widget.filter].tolist()) == few
    shown.chip.clear.click()
    shown.filters.decision.value = "not correct"
    assert set(shown.selection.rows) < set(few) and f"{len(few)} kept" in shown.chip.text.value
    shown.chip.invert.click()
    assert set(shown.selection.rows) < set(few)
    shown.chip.all.click()
    assert shown.map.scatter.widget.filter is None and shown.chip.all.layout.display == "none"


@pytest.mark.parametrize("colour", [colour for colour in COLOURS if colour != "prompt"])
def test_points_are_coloured_by_anything(shown: Explore, colour: str) -> None:
    before = shown.map.scatter.widget.points[:, 2].copy()
    shown.map.colour.value = colour
    shown.measuring.wait()
    after = shown.map.scatter.widget.points[:, 2]
    features, rows = shown.features, shown.map.rows
    if colour in ("confidence", "purity"):
        share = features.confidence if colour == "confidence" else shown.map.purity
        np.testing.assert_allclose(after, share[rows], atol=1e-6)
        assert f"{colour} " in shown.map.legend.value
        return
    of = {"group": features.group_of, "correct": features.correct}.get(colour)
    if of is None:  # ten kinds have a colour of their own
        of = features.labels if colour == "class" else features.predicted
        assert shown.map.legend.value.count("border-radius") == 11 and "all others" in shown.map.legend.value
        assert len(np.unique(after)) == 11
    else:
        values = {kind: set(after[of[rows] == kind]) for kind in np.unique(of)}
        assert all(len(found) == 1 for found in values.values()) and len(set.union(*values.values())) == len(values)
    assert colour == "group" or not np.array_equal(before, after)


def test_colours_of_classes_follow_the_selection(shown: Explore) -> None:
    shown.map.colour.value = "class"
    shown.filters.search.value = "class 11"
    assert "class 11" in shown.map.legend.value and shown.map.legend.value.count("border-radius") == 2


def test_purity_is_a_filter_that_is_computed_once(shown: Explore, monkeypatch: pytest.MonkeyPatch) -> None:
    shown.filters.purity.value = (0.0, 0.5)
    shown.measuring.wait()
    unit = shown.features.vectors / np.linalg.norm(shown.features.vectors, axis=1, keepdims=True)
    near = np.argsort(-(unit @ unit.T - 9 * np.eye(len(unit))), axis=1)[:, :10]
    purity = (shown.features.labels[near] == shown.features.labels[:, None]).mean(1)
    assert shown.selection.rows.tolist() == np.flatnonzero(purity <= 0.5).tolist() and len(shown.selection)
    monkeypatch.setattr("workbench.apps.explore.neighbour_purity", None)  # not once more
    shown.filters.purity.value = (0.9, 1.0)
    assert shown.selection.rows.tolist() == np.flatnonzero(purity >= 0.9).tolist()


def test_all_that_waits_for_purity_is_done_with_the_last_wish(
    make_features: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, begun = threading.Event(), []

    def slow(vectors: np.ndarray, labels: np.ndarray, k: int, on_step: Any) -> np.ndarray:
        begun.append(k)
        go.wait(20)
        return np.linspace(0, 1, len(vectors), dtype=np.float32)

    monkeypatch.setattr("workbench.apps.explore.neighbour_purity", slow)
    app = explore(make_features())
    app.work.wait()
    app.filters.purity.value = (0.0, 0.5)
    app.map.colour.value = "purity"
    app.filters.purity.value = (0.0, 0.25)
    assert not len(app.selection)
    go.set()
    app.measuring.wait()
    assert begun == [10] and app.selection.rows.tolist() == list(range(24)) and "purity" in app.map.legend.value


def test_features_without_images_or_decisions_say_how_to_get_them(make_features: Make) -> None:
    app = explore(make_features(decisions=False))
    app.work.wait()
    assert "Pass images=LongTailDataset" in app.strip.maps.value and "hold no decisions" in app.accuracy.value
    assert app.filters.decision.disabled and app.grid.sort.disabled
    assert not {"correct", "confidence", "predicted"} & set(app.map.colour.options)
    app.filters.groups["many"].value = True
    app.grid.tiles.active = 0
    assert "no scores" in app.strip.scores.value and "Pass bank=" in app.strip.near.value
    one = explore(make_features(classes=1))
    one.map.method.value = "lda"
    one.work.wait()
    assert "LDA separates two or more" in one.map.plot.children[0].value, "one class is a message, not an error"
    alone = explore(make_features(classes=1, images=1))
    alone.filters.purity.value = (0.0, 0.5)
    alone.measuring.wait()
    assert "a single image has none" in alone.message.value


def test_a_name_of_html_stays_text(shown: Explore) -> None:
    shown.filters.search.value = HOSTILE
    shown.map.colour.value = "class"
    shown.grid.tiles.active = 0
    shown.strip.wait()
    for part in (shown.chip.text, shown.strip.scores, shown.message, shown.map.quality, shown.map.legend):
        assert "<img" not in part.value
    assert "&lt;img" in shown.map.legend.value and "&lt;img" in shown.strip.scores.value


def test_points_are_as_large_as_the_model_is_sure(shown: Explore, make_features: Make) -> None:
    widget = shown.map.scatter.widget
    equal = widget.size
    shown.map.size.value = "confidence"
    np.testing.assert_allclose(widget.points[:, 3], shown.features.confidence[shown.map.rows], atol=1e-6)
    assert widget.size_by == "valueB" and widget.size[0] < equal < widget.size[-1]
    assert shown.code.code == "explore(features).show(size='confidence')"
    assert again(shown).map.size.value == "confidence"
    shown.map.colour.value = "class"
    shown.show(map="lda")
    shown.work.wait()
    widget = shown.map.scatter.widget
    np.testing.assert_allclose(widget.points[:, 3], shown.features.confidence[shown.map.rows], atol=1e-6)
    shown.show(size="equal")
    assert set(widget.size) == {equal} and "size" not in shown.code.code
    shown.show(map="pca")
    shown.work.wait()
    assert shown.map.scatter.widget.size == equal and shown.map.scatter.widget.size_by is None
    with pytest.raises(ValueError, match="'confidence' is not offered; choose one of equal"):
        explore(make_features(decisions=False)).show(size="confidence")
