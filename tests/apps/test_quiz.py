"""A truth stays hidden until a prediction is committed; checks say how far off, never raise, and are kept."""

from __future__ import annotations

import json
import math
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import pytest
import torch

from workbench.apps.quiz import check, predict, progress, reveal, told

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "answers.json"


def seen(widget: widgets.Widget) -> str:
    """Every HTML text in a widget that is not hidden."""
    if widget.layout.display == "none":
        return ""
    own = widget.value if isinstance(widget, widgets.HTML) else ""
    return own + "".join(seen(child) for child in getattr(widget, "children", ()))


def test_a_truth_is_hidden_until_an_option_is_committed(store: Path) -> None:
    question = predict("1.best", "Which?", ["zero", "one", "three"], store=store)
    truth = reveal("1.best", "three", "because of this", store=store, alone=False)
    assert not truth.shown and "Predict first" in seen(truth) and "three" not in seen(truth)
    question.button.click()
    assert "Choose one of" in seen(question) and question.answer is None
    assert "Traceback" not in seen(question), "a slip of the hand is no error"
    truth.again.click()
    assert not truth.shown, "nothing was committed"
    question.control.value = "one"
    truth.again.click()
    assert not truth.shown, "a choice counts when it is committed"
    question.button.click()
    truth.again.click()
    assert truth.shown and truth.buttons.layout.display == "none"
    assert all(word in seen(truth) for word in ("<b>one</b>", "<b>three</b>", "✗", "because of this"))


def test_a_prediction_is_kept_with_its_time_and_cannot_be_changed(store: Path) -> None:
    predict("a", "How many?", unit="%", store=store).commit(" 42,5 ")
    kept = json.loads(store.read_text())["predictions"]["a"]
    assert kept["answer"] == 42.5 and kept["unit"] == "%" and len(kept["time"]) > 18
    again = predict("a", "How many?", unit="%", store=store)
    assert again.answer == 42.5 and again.button.disabled and "42.5 %" in seen(again)
    with pytest.raises(ValueError, match="already"):
        again.commit(50)
    assert [path.name for path in store.parent.iterdir()] == ["answers.json"], "no half-written file is left"


def test_a_question_with_other_options_is_asked_anew(store: Path) -> None:
    predict("a", "Which?", ["x", "y"], store=store).commit("y")
    assert predict("a", "Which one?", ["y", "z"], store=store).answer == "y", "its answer is still an option"
    assert predict("a", "Which?", ["x", "z"], store=store).answer is None
    assert predict("a", "How much?", store=store).answer is None


@pytest.mark.parametrize("given", ["", "many", "nan", "inf"])
def test_a_number_must_be_one(store: Path, given: str) -> None:
    question = predict("a", "How many?", store=store)
    question.control.value = given
    question.button.click()
    assert "no number" in seen(question) and question.answer is None


@pytest.mark.parametrize(("answer", "tolerance", "mark"), [(10, 2, "✓"), (14.1, 2, "✗"), (14, 2, "✓"), (10, None, "")])
def test_a_number_is_right_within_the_tolerance(store: Path, answer: float, tolerance: float, mark: str) -> None:
    predict("a", "How many?", unit="points", store=store).commit(answer)
    text = seen(reveal("a", 12, tolerance=tolerance, store=store, alone=False))
    assert ("✓" in text, "✗" in text) == (mark == "✓", mark == "✗")
    assert f"off by {round(abs(answer - 12), 1):g} points" in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(61.6637, "61.7 %"), (0.43097, "0.431 %"), (1234567, "1,234,567 %"), (100, "100 %"), (0, "0 %"), (-3.0, "-3 %"),
     (9.996, "10 %"), (1e-7, "1e-07 %"), (math.nan, "nan %"), (None, "-"), ("x", "x")],
)  # fmt: skip
def test_numbers_are_told_in_three_digits(value: float | str | None, shown: str) -> None:
    assert told(value, "%") == shown


def test_alone_the_truth_is_shown_and_marked(store: Path) -> None:
    predict("a", "Which?", ["x", "y"], store=store)
    truth = reveal("a", "y", store=store)  # no kernel here: nobody could answer
    assert truth.shown and "no prediction" in seen(truth) and "<b>y</b>" in seen(truth)
    assert json.loads(store.read_text())["predictions"]["a"].get("answer") is None


def test_a_person_may_look_without_a_prediction(store: Path) -> None:
    truth = reveal("never asked", 3, store=store, alone=False)
    assert "running the cell with predict(&#x27;never asked&#x27;" in seen(truth)
    truth.anyway.click()
    assert truth.shown and "no prediction" in seen(truth)


def test_a_truth_that_is_no_option_is_told_to_the_author(store: Path) -> None:
    predict("a", "Which?", ["x", "y"], store=store)
    assert "none of its options: x, y" in seen(reveal("a", "z", store=store, alone=True))


@pytest.mark.parametrize("options", [["x"], ["x", "x"], "xy", []])
def test_options_must_be_a_choice(store: Path, options: list[str]) -> None:
    with pytest.raises(ValueError, match="at least two different"):
        predict("a", "Which?", options, store=store)


@pytest.mark.parametrize(
    ("value", "expected", "tolerance", "right", "said"),
    [
        (0.1 + 0.2, 0.3, 1e-12, True, "largest deviation"),
        (0.31, 0.3, 1e-3, False, "0.01, allowed 0.001"),
        (np.array([1.0, math.nan]), [1, math.nan], 0.0, True, "largest deviation 0"),
        (np.array([1.0, math.nan]), [1, 2], 1.0, False, "largest deviation inf"),
        (np.array([1.0, -math.inf]), np.array([1.0, -math.inf]), 0.0, True, "deviation 0"),
        (torch.tensor([1.0], requires_grad=True), np.ones(1), 0.0, True, "deviation 0"),
        (np.ones((2, 3)), np.ones((3, 2)), 0.0, False, "shape is (2, 3), and should be (3, 2)"),
        (np.array(["many", "few"]), np.array(["many", "few"], dtype=object), 0.0, True, "as expected"),
        (np.array(["many", "few"]), np.array(["many", "medium"]), 0.0, False, "something else"),
        ("0.3", 0.3, 1.0, False, "a number, not str"),
        (None, 0.3, 1.0, False, "no value yet"),
        (..., 0.3, 1.0, False, "no value yet"),
        ([None, None], [1.0, 2.0], 1.0, False, "no value yet"),
        (lambda: 0.3, 0.3, 0.0, True, "deviation 0"),
        (lambda: 1 / 0, 0.3, 0.0, False, "ZeroDivisionError"),
        ([[1], [1, 2]], [1.0], 0.0, False, "ValueError"),
    ],
)
def test_a_check_says_whether_and_why(
    store: Path, value: object, expected: object, tolerance: float, right: bool, said: str
) -> None:
    done = check("a", value, expected, tolerance=tolerance, hint="the secret hint", store=store)
    assert done.right is right and said in seen(done)
    tried = said != "no value yet"
    assert ("the secret hint" in seen(done)) is (tried and not right)
    assert json.loads(store.read_text())["checks"]["a"]["right"] is right


def test_what_is_not_written_yet_is_no_try(store: Path) -> None:
    check("d", lambda: None, 2, store=store)
    assert "0 of 1 checks right" in seen(progress(store)) and "not tried yet" in seen(progress(store))
    check("d", lambda: 2, 2, store=store)
    assert "1 try" in seen(progress(store))


def test_a_check_does_not_give_the_solution_away(store: Path) -> None:
    assert "123.456" not in seen(check("a", 1.0, 123.456, store=store))


def test_progress_lists_what_is_done(store: Path) -> None:
    assert "Nothing is answered" in seen(progress(store)) and not store.exists()
    predict("b", "Which?", ["x", "y"], store=store).commit("y")
    predict("c", "How many?", unit="%", store=store)
    reveal("b", "y", store=store)
    check("d", 1, 2, store=store)
    check("d", 2, 2, store=store)
    text = seen(progress(store))
    assert "1 of 2 predicted, 1 of 1 checks right" in text and "2 tries" in text and text.count("✓") == 2


def test_a_file_of_something_else_is_told_and_kept(store: Path) -> None:
    for content in ("not json", "[1, 2]", '{"predictions": {"a": 3}, "checks": {}}', "\x00"):
        store.write_text(content)
        shown = [predict("a", "?", ["x", "y"], store=store), reveal("a", "x", store=store), progress(store)]
        shown.append(check("a", 1, 1, store=store))
        assert all("no file of answers" in seen(widget) for widget in shown)
        assert shown[-1].right and store.read_text() == content


def test_text_from_outside_is_escaped(store: Path) -> None:
    shown = [predict(HOSTILE, HOSTILE, [HOSTILE, "y"], unit=HOSTILE, store=store)]
    shown[0].commit(HOSTILE)
    shown += [reveal(HOSTILE, HOSTILE, HOSTILE, store=store), check(HOSTILE, "x", "y", hint=HOSTILE, store=store)]
    shown += [check(HOSTILE, lambda: (_ for _ in ()).throw(ValueError(HOSTILE)), 1, store=store), progress(store)]
    assert all("<img" not in seen(widget) and "&lt;img" in seen(widget) for widget in shown)
