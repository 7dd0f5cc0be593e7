"""What apps are made of: charts leave out what is not finite, text is escaped, stale answers are dropped."""

from __future__ import annotations

import math
import threading

import ipywidgets as widgets
import numpy as np
import pytest

from workbench.apps import style
from workbench.apps.chart import Chart, axis, class_dots, group_bars, lines, said
from workbench.apps.work import Cancelled, Work
from workbench.metrics import group_interval


def test_axes_have_round_ticks() -> None:
    assert [text for _, text in axis(0, 100)["ticks"]] == ["0", "20", "40", "60", "80", "100"]
    assert [value for value, _ in axis(-0.31, 0.42)["ticks"]] == pytest.approx([-0.2, 0.0, 0.2, 0.4])
    assert len(axis(5, 5)["ticks"]) <= 6, "no spread is no error"


def test_bars_carry_the_numbers_of_metrics_in_words_too() -> None:
    labels = np.repeat(np.arange(6), 10)
    predicted = np.where(np.arange(60) % 3 == 0, (labels + 1) % 6, labels)
    groups = np.array(["many", "many", "medium", "medium", "medium", "medium"])
    rows = ("all", "many", "few")
    arm = {group: group_interval(predicted, labels, groups, group) for group in rows}
    chart = Chart()
    chart.show(**group_bars({"LIFT": arm}, {"all": 6, "many": 2, "few": 0}, rows))
    bars = [mark for mark in chart.spec["marks"] if mark["kind"] == "bar"]
    assert [bar["key"] for bar in bars] == ["all", "many"], "an empty group has no bar"
    assert bars[0]["y"] == pytest.approx(100 * arm["all"].estimate)
    assert said(arm["all"]) in chart.spec["alt"] and "few n/a (0 classes)" in chart.spec["alt"]


def test_dots_stand_by_frequency_and_name_their_class() -> None:
    spec = class_dots(
        np.array([10.0, math.nan, 30.0]), np.array([5, 50, 500]), np.array(["few", "medium", "many"]), "abc", label="x"
    )
    chart = Chart()
    chart.show(**spec)
    assert [(mark["key"], mark["x"]) for mark in chart.spec["marks"]] == [("2", 1), ("0", 3)]
    assert chart.spec["marks"][1]["title"] == "a: 10.0 (few, 5 training images)"


def test_curves_skip_what_is_missing() -> None:
    marks, legend = lines({"train": (np.arange(3), np.array([1.0, math.nan, 3.0]))}, dashed=["train"])
    assert marks[0]["points"] == [[0.0, 1.0], [2.0, 3.0]] and marks[0]["dash"] and legend[0]["label"] == "train"


def test_text_from_outside_is_escaped() -> None:
    hostile = "<img src=x onerror=alert(1)>"
    pixels = np.zeros((2, 2, 3), np.uint8)
    for html in (style.state(hostile), style.picture(pixels, hostile, width=9), style.broken(ValueError(hostile))):
        assert hostile not in html and "&lt;img" in html
    assert hostile not in style.caption(hostile).value and hostile not in style.card(hostile).children[0].value


def test_an_error_in_a_handler_becomes_a_message() -> None:
    shown: list[str] = []

    @style.guarded(shown.append)
    def handler(change: dict[str, int]) -> None:
        raise ValueError(f"no class {change['new']}")

    handler({"new": 3})
    assert "no class 3" in shown[0] and "Traceback" in shown[0] and "<details>" in shown[0]


def test_every_colour_of_the_style_is_filled_in() -> None:
    sheet = style.app("x", widgets.HTML()).children[0].value
    assert not any(token in sheet for token in ("INK", "MUTED", "LINE", "GRID")) and "#1a1a1a" in sheet


def test_tiles_are_one_sheet_in_order() -> None:
    tiles = style.Tiles()
    tiles.show(np.full((3, 96, 96, 3), 128, np.uint8), [{"title": t, "caption": t, "colour": "red"} for t in "abc"])
    assert tiles.side == 96 and tiles.sheet[:2] == b"\xff\xd8" and len(tiles.cells) == 3
    tiles.active = 2
    tiles.show(None, [])
    assert tiles.active == -1 and tiles.sheet == b""


def test_only_the_last_task_answers_and_a_cancelled_one_never() -> None:
    work, answers, go = Work(), [], threading.Event()

    def slow(step: object) -> str:
        go.wait(5)
        return "stale"

    work.start("slow", slow, answers.append, answers.append)
    first = work._thread
    work.start("fast", lambda _: "fresh", answers.append, answers.append)
    work.wait()
    go.set()
    assert first is not None
    first.join(5)
    assert answers == ["fresh"] and work.view.layout.display == "none"

    stopped = threading.Event()

    def counting(step: object) -> None:
        try:
            while True:
                step(1, 10)  # type: ignore[operator]
        except Cancelled:
            stopped.set()
            raise

    work.start("counting", counting, answers.append, answers.append)
    work.cancel()
    assert stopped.wait(5) and answers == ["fresh"]


def test_a_task_that_fails_says_so() -> None:
    work, said_of = Work(), []
    work.start("bad", lambda _: 1 / 0, said_of.append, said_of.append)
    work.wait()
    assert "division by zero" in said_of[0]
