"""Runs side by side: the numbers are those of the reports, a pick reaches every view, the code line gives it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench.apps.compare import Compare, compare
from workbench.apps.compare_words import in_words
from workbench.diagnostics.accuracy import group_report
from workbench.diagnostics.changes import changes
from workbench.features import Features

from .conftest import HOSTILE

Make = Callable[..., Features]


def settled(app: Compare) -> Compare:
    app.work.wait()
    app.map.work.wait()
    if hasattr(app, "changed"):
        app.changed.pictured.work.wait()
    return app


@pytest.fixture
def runs(make_features: Make) -> dict[str, Features | list[Features]]:
    return {"lift": make_features(0), HOSTILE: make_features(1), "full": [make_features(2), make_features(3)]}


@pytest.fixture
def shown(runs: dict[str, Features | list[Features]]) -> Compare:
    return settled(compare(runs))


def bars(app: Compare) -> dict[tuple[str, str], float]:
    marks = [mark for mark in app.bars.spec["marks"] if mark["kind"] == "bar"]
    return {(mark["title"].split(", ")[0], mark["key"]): mark["y"] for mark in marks}


def test_bars_dots_and_verdicts_are_those_of_the_report(shown: Compare, runs: dict[str, Features]) -> None:
    report = group_report({"lift": runs["lift"], "full": runs["full"]})
    assert bars(shown)["full", "few"] == pytest.approx(100 * report.arms[1].over_classes["few"].estimate)
    dots = {int(mark["key"]): mark["y"] for mark in shown.dots.spec["marks"] if mark["kind"] == "dot"}
    values = 100 * (report.arms[0].class_accuracy - report.arms[1].class_accuracy)
    assert [dots[c] for c in range(12)] == pytest.approx(values.tolist())
    assert f"{100 * report.differences['all'].estimate:+.1f} [" in shown.verdict.value
    shown.weighing.value = True
    settled(shown)
    pooled = group_report({"lift": runs["lift"]}, pooled=True).arms[0].over_classes["few"]
    assert bars(shown)["lift", "few"] == pytest.approx(100 * pooled.estimate)
    shown.shown.value = ["full"]
    settled(shown)
    assert {name for name, _ in bars(shown)} == {"full"}


def test_a_class_picked_shows_its_changed_images_in_every_view(shown: Compare, runs: dict[str, Features]) -> None:
    shown.second.value = HOSTILE
    settled(shown)
    expected = changes(runs[HOSTILE], runs["lift"])
    assert shown.selection.rows.tolist() == sorted(expected.fixed)
    c = int(expected.labels[expected.fixed[0]])
    shown.dots.picked = {"key": str(c), "n": 1}
    name = shown.selection.features.classes.names[c]
    rows = expected.fixed[expected.labels[expected.fixed] == c]
    assert shown.selection.rows.tolist() == sorted(rows) and shown.search.value == name
    assert [cell["title"].split(";")[0] for cell in shown.changed.tiles.cells] == runs["lift"].ids[rows].tolist()
    assert shown.dots.marked == shown.map.chart.marked == str(c)
    grey = [mark for mark in shown.map.chart.spec["marks"] if mark["kind"] == "dot" and mark.get("r") == 2]
    assert len(grey) == len(rows)
    shown.bars.picked = {"key": "few", "n": 1}
    assert shown.selection.rows.tolist() == sorted(expected.rows("fixed", "few")) and shown.search.value == ""
    shown.changed.kind.value = "broken"
    assert shown.selection.rows.tolist() == sorted(expected.rows("broken", "few"))
    shown.changed.clear.click()
    assert len(shown.selection) == len(expected.broken)
    shown.changed.tiles.active = 0
    assert "true class: " in shown.changed.one.value


def test_the_line_of_code_gives_what_is_seen_again(shown: Compare, runs: dict[str, Features]) -> None:
    for change in (
        lambda: setattr(shown.bars, "picked", {"key": "few", "n": 2}),
        lambda: (setattr(shown.second, "value", HOSTILE), setattr(shown.search, "value", "class 3")),
        lambda: (setattr(shown.changed.kind, "value", "broken"), setattr(shown.weighing, "value", True)),
        lambda: (setattr(shown.shown, "value", ["full", "lift"]), setattr(shown.map.method, "value", "lda")),
        lambda: shown.changed.clear.click(),
    ):
        change()
        settled(shown)
        again = settled(eval(shown.code.code, {"compare": compare, "runs": runs, "images": None}))
        assert again.code.code == shown.code.code
        assert again.selection.rows.tolist() == shown.selection.rows.tolist(), shown.code.code
        assert bars(again) == bars(shown) and again.verdict.value == shown.verdict.value
        assert again.map.chart.spec == shown.map.chart.spec


def test_the_map_has_a_line_per_class_that_can_be_picked(shown: Compare) -> None:
    assert shown.map.found is not None
    places = shown.map.found.class_points()
    ends = {int(m["key"]): (m["x"], m["y"]) for m in shown.map.chart.spec["marks"] if "key" in m}
    assert len(ends) == 12 and ends[5] == pytest.approx(tuple(places[1, 5]))
    shown.map.chart.picked = {"key": "5", "n": 1}
    assert shown.changed.name == "class 5"


def test_seeds_are_chosen_for_images_and_averaged_in_bars(make_features: Make) -> None:
    runs = {"a": [make_features(0), make_features(1)], "b": [make_features(2), make_features(3)]}
    app = settled(compare(runs))
    assert app.seed.layout.display == "" and len(app.selection) == len(changes(runs["b"][0], runs["a"][0]).fixed)
    app.seed.value = 1
    settled(app)
    assert len(app.selection) == len(changes(runs["b"][1], runs["a"][1]).fixed)
    assert bars(app)["a", "all"] == pytest.approx(100 * group_report(runs["a"]).accuracy["all"])


def test_images_in_another_order_are_matched(make_features: Make) -> None:
    one, other = make_features(0), make_features(1)
    order = np.random.default_rng(0).permutation(len(other))
    assert (
        settled(compare({"a": one, "b": other[order]})).verdict.value
        == settled(compare({"a": one, "b": other})).verdict.value
    )


def test_published_numbers_are_ticks(make_features: Make) -> None:
    app = settled(compare({"a": make_features(0)}, published={"a": {"all": 0.5, "few": 0.25}}))
    ticks = [(mark["x"], mark["y"]) for mark in app.bars.spec["marks"] if mark["kind"] == "tick"]
    assert ticks == [(0, 50.0), (3, 25.0)] and "published=published" in app.code.code


def test_states_say_what_to_do(make_features: Make, tmp_path: Path) -> None:
    one = make_features(0)
    assert "Nothing to compare" in compare({}).message.value
    assert "empty list" in compare({"a": []}).message.value
    assert "hold vectors without decisions" in compare({"a": make_features(decisions=False)}).message.value
    assert "have 11 classes" in compare({"a": one, "b": make_features(classes=11)}).message.value
    assert "the test sets differ" in compare({"a": one, "b": make_features(images=5)}).message.value
    alone = settled(compare({"a": one}))
    assert "Add a second run" in alone.alone.value and bars(alone)
    same = settled(compare({"a": one, "b": one}))
    assert "undecided" in same.verdict.value and "No images" in same.changed.tiles.empty
    same.second.value = "a"
    settled(same)
    assert "Choose two different runs" in same.alone.value and "Choose two different" in same.map.note.value
    same.second.value = "b"
    settled(same)
    same.search.value = "no such"
    assert "No class is called" in same.message.value
    single = settled(compare({"a": make_features(0, classes=1), "b": make_features(1, classes=1)}))
    assert "not testable" in single.verdict.value and single.map.chart.spec["marks"]


def test_a_run_brings_its_saved_test_features(make_features: Make, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"format": 1}')
    run = wb.Run.load(tmp_path)
    assert "has no saved test features" in compare({"a": run}).message.value
    make_features(0).save(tmp_path / "features" / "test.npz")
    app = settled(compare({"a": run, "b": make_features(1)}))
    assert bars(app)["a", "all"] == pytest.approx(100 * group_report(make_features(0)).accuracy["all"])
    make_features(0).save(tmp_path / "features" / "test-ten.npz")
    assert "has several (test-ten.npz, test.npz)" in compare({"a": run}).message.value


def test_a_name_of_html_stays_text(shown: Compare) -> None:
    shown.second.value = HOSTILE
    settled(shown)
    shown.search.value = HOSTILE
    shown.changed.tiles.active = 0
    for html in (shown.verdict.value, shown.changed.chip.text.value, shown.changed.one.value, shown.map.quality.value):
        assert "<img" not in html


def test_verdicts_in_words() -> None:
    labels, groups = np.repeat(np.arange(10), 20), np.array(["many"] * 10)
    rng = np.random.default_rng(0)
    half = np.where(rng.random(200) < 0.5, labels, -1)
    clear = wb.metrics.paired_difference(labels, half, labels, groups)
    assert in_words(clear, "a", "b") == "a is better."
    assert in_words(replace(clear, too_small=True), "a", "b").startswith("a is better. Few classes")
    other = np.where(rng.random(200) < 0.5, labels, -1)
    open_ = wb.metrics.paired_difference(half, other, labels, groups)
    assert f"A true difference of {100 * open_.smallest_detectable:.1f} points" in in_words(open_, "a", "b")
    assert in_words(wb.metrics.paired_difference(half, other, labels, groups, group="few"), "a", "b").startswith("noth")


def test_images_are_shown() -> None:
    manifest = wb.Manifest.load("toybox_lt")
    test = wb.LongTailDataset(manifest, "test", per_class=1)
    backbone, text = wb.load_backbone("toybox_clip"), wb.load_text_tower("toybox_clip")
    features = wb.extract(wb.create_method("zero_shot", backbone, manifest.classes, text=text), test)
    wrong = replace(features, predicted=(features.predicted + 1) % 60)
    app = settled(compare({"a": features, "b": wrong}, test))
    assert len(app.changed.tiles.cells) == len(app.selection) > 10 and app.changed.tiles.sheet
    app.changed.tiles.active = 1
    assert "<img" in app.changed.one.value
