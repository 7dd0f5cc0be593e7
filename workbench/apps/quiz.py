"""Predict, then see: questions answered before the measured truth is shown, and checks of what a student wrote.

Committing to a guess before the result is shown is what makes a demonstration teach (Crouch et al., "Classroom
demonstrations: learning tools or entertainment?", Am. J. Phys. 72, 835, 2004). Answers stay in a file of this computer.

    predict("1.best", "Which tau is best for few-shot classes?", ["0", "1", "3"])
    reveal("1.best", best, "Bayes' rule says 1; what does the model say?")
    check("1.adjust", lambda: adjust(logits, counts, 1.0), expected, tolerance=1e-5, hint="add log(counts)?")
    progress()
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np

from .answers import Answers
from .style import MARKS, app, bar, broken, card, guarded, state

STORE = "answers.json"
WIDE = "640px"  # of text that is read
UNWRITTEN = "there is no value yet"  # what a function gives whose lines are still to be written


class Question(widgets.VBox):
    """See `predict`."""

    def __init__(self, key: str, question: str, options: Sequence[str] | None, unit: str, answers: Answers) -> None:
        self.key, self.options, self.unit, self.answers = key, options, unit, answers
        self.message = widgets.HTML(layout={"max_width": WIDE})
        self.button = widgets.Button(description="commit", tooltip="keep this answer; it cannot be changed afterwards")
        self.button.layout.width = "96px"
        if options is None:
            self.control: Any = widgets.Text(placeholder="a number", layout={"width": "120px"})
            asked = bar(self.control, widgets.HTML(escape(unit)), self.button)
        else:
            self.control = widgets.RadioButtons(options=list(options), value=None, layout={"width": "max-content"})
            asked = widgets.VBox([self.control, self.button])
        self.button.on_click(lambda _: guarded(self._say)(self._press)())
        text = widgets.HTML(f"<div style='max-width:{WIDE}'>{escape(question)}</div>")
        super().__init__([app("quiz", card(f"Predict: {key}", text, asked, self.message))])
        guarded(self._say)(lambda: self._ask(question))()

    @property
    def answer(self) -> str | float | None:
        """What was committed, or None."""
        return self.answers.prediction(self.key).get("answer")

    def commit(self, answer: str | float | None) -> None:
        """Keep an answer as the button does.

        Raises:
            ValueError: no answer, none of the options, no number, or there is an answer already.
        """
        if self.answer is not None:
            raise ValueError(f"There is an answer already: {told(self.answer, self.unit)}. It stays as it is.")
        self.answers.predict(self.key, answer if self.options is None else _chosen(answer, self.options))
        self._follow()

    def _press(self) -> None:
        try:
            self.commit(self.control.value)
        except ValueError as error:  # a slip of the hand needs no traceback
            self._say(state(str(error), kind="broken"))

    def _ask(self, question: str) -> None:
        self.answers.ask(self.key, question, None if self.options is None else list(self.options), self.unit)
        self._follow()

    def _follow(self) -> None:
        answer = self.answer
        if answer is None:
            self._say("<i>Commit an answer, then run on.</i>")
            return
        self.control.value = f"{answer:g}" if self.options is None else answer
        self.control.disabled = self.button.disabled = True
        when = str(self.answers.prediction(self.key)["time"])[:16].replace("T", " ")
        self._say(f"Your prediction: <b>{escape(told(answer, self.unit))}</b>, kept {escape(when)}.")

    def _say(self, html: str) -> None:
        self.message.value = html


class Truth(widgets.VBox):
    """See `reveal`."""

    def __init__(
        self, key: str, truth: str | float, explanation: str, tolerance: float | None, answers: Answers, alone: bool
    ) -> None:
        self.key, self.truth, self.explanation, self.tolerance = key, truth, explanation, tolerance
        self.answers, self.shown = answers, False
        self.text = widgets.HTML(layout={"max_width": WIDE})
        self.again = widgets.Button(description="I have predicted: show", layout={"width": "180px"})
        self.anyway = widgets.Button(description="show without a prediction", layout={"width": "200px"})
        self.again.on_click(lambda _: self.look())
        self.anyway.on_click(lambda _: self.look(anyway=True))
        self.buttons = bar(self.again, self.anyway)
        super().__init__([app("quiz", card(f"Truth: {key}", self.text, self.buttons))])
        self.look(anyway=alone)

    def look(self, *, anyway: bool = False) -> None:
        """Show the truth if there is a prediction, or `anyway`."""
        guarded(self._broken)(self._look)(anyway)

    def _broken(self, html: str) -> None:
        self.text.value = html

    def _look(self, anyway: bool) -> None:
        asked = self.answers.prediction(self.key)
        answer, unit = asked.get("answer"), str(asked.get("unit", ""))
        if answer is None and not anyway:
            where = "in the cell above" if asked else f"by running the cell with predict({self.key!r}, ...)"
            self.text.value = state(f"Predict first, {where}; then press the button.")
            return
        options = asked.get("options")
        if options is not None and self.truth not in options:
            raise ValueError(f"The truth {self.truth!r} of {self.key!r} is none of its options: {', '.join(options)}.")
        hit = None if answer is None else agreement(answer, self.truth, self.tolerance)
        self.answers.reveal(self.key, self.truth, hit)
        mine = "<i>no prediction</i>" if answer is None else f"<b>{escape(told(answer, unit))}</b>"
        verdict = "" if hit is None else f" {MARKS[hit]}"
        if isinstance(answer, float) and not isinstance(self.truth, str):
            step = "points" if unit == "%" else unit  # a difference of percentages
            verdict += f" (off by {told(abs(answer - self.truth), step)}"
            verdict += ")" if self.tolerance is None else f"; within {told(self.tolerance, step)} counts as right)"
        self.text.value = (
            f"<table><tr><td>your prediction</td><td>{mine}</td><td>{escape(verdict)}</td></tr>"
            f"<tr><td>measured</td><td><b>{escape(told(self.truth, unit))}</b></td><td></td></tr></table>"
            f"<div>{escape(self.explanation)}</div>"
        )
        self.shown, self.buttons.layout.display = True, "none"


class Check(widgets.VBox):
    """See `check`. `right` says whether the value was."""

    def __init__(
        self, key: str, value: Any, expected: Any, tolerance: float, hint: str, answers: Answers
    ) -> None:  # fmt: skip
        self.text = widgets.HTML(layout={"max_width": WIDE})
        self.right, self.why = False, ""
        try:
            given = value() if callable(value) else value
            self.right, self.why = compare(given, expected, tolerance)
        except Exception as error:  # a student's code may fail in every way; the check says how
            self.why = f"it stopped with {type(error).__name__}: {error}"
        verdict = f"<b>{MARKS[self.right]} {'right' if self.right else 'not yet'}</b>: {escape(self.why)}."
        tried = self.why != UNWRITTEN
        more = f"<div>Hint: {escape(hint)}</div>" if hint and tried and not self.right else ""  # think first
        self.text.value = verdict + more
        super().__init__([app("quiz", card(f"Check: {key}", self.text))])
        try:
            answers.check(key, self.right, self.why, tried=tried)
        except (OSError, ValueError) as error:
            self.text.value += broken(error)


def predict(
    key: str, question: str, options: Sequence[str] | None = None, *, unit: str = "", store: str | Path = STORE
) -> Question:
    """Ask before showing: the student commits an answer, once, and it is kept with its time.

    Args:
        key: unique in the store, such as "2.best_tau".
        options: answers to choose from, at least two; None: a number is asked for.
        unit: of the number, such as "%".
        store: a JSON file; it is made when missing.

    Raises:
        ValueError: fewer than two options or two alike.
    """
    if options is not None and (isinstance(options, str) or len(set(options)) < max(2, len(options))):
        raise ValueError(f"options={options!r} must be at least two different answers, or None to ask for a number.")
    return Question(key, question, options, unit, Answers(store))


def reveal(
    key: str, truth: str | float, explanation: str = "", *, tolerance: float | None = None,
    store: str | Path = STORE, alone: bool | None = None,
) -> Truth:  # fmt: skip
    """The measured truth beside the prediction; without one it asks to predict first.

    Args:
        key: of the prediction.
        truth: one of its options, or a number in its unit.
        tolerance: a number so near counts as right; None: the distance is told without a verdict.
        store: as in `predict`.
        alone: nobody is there to answer (nbconvert, tests): show it, marked "no prediction". None: find out.
    """
    exact = truth if isinstance(truth, str) else float(truth)
    return Truth(key, exact, explanation, tolerance, Answers(store), nobody_there() if alone is None else alone)


def check(
    key: str, value: Any, expected: Any, *, tolerance: float = 0.0, hint: str = "", store: str | Path = STORE
) -> Check:
    """Is a student's result right? Says "right" or "not yet", keeps it, and never raises.

    Args:
        value: a number, text, array or tensor, or a function without arguments that makes it: its errors are told.
        expected: likewise; shapes must agree. What it is, is not shown.
        tolerance: largest absolute deviation that counts as right.
        hint: shown after a try that was wrong; no value, or None, is no try.
    """
    return Check(key, value, expected, tolerance, hint, Answers(store))


def progress(store: str | Path = STORE) -> widgets.VBox:
    """Questions and checks of the store so far: predicted, measured, right; checks with their number of tries."""
    text = widgets.HTML()
    try:
        text.value = _table(Answers(store).read())
    except (OSError, ValueError, TypeError, KeyError) as error:
        text.value = broken(error)
    return widgets.VBox([app("quiz", card("Progress", text))])


def _table(kept: dict[str, dict[str, dict[str, Any]]]) -> str:
    """HTML of what a store holds."""
    asked, checks = kept["predictions"], kept["checks"]
    if not asked and not checks:
        return state("Nothing is answered yet.")
    rows = []
    for key, p in sorted(asked.items()):
        unit = str(p.get("unit", ""))
        rows.append([key, told(p.get("answer"), unit), told(p.get("truth"), unit), MARKS.get(p.get("hit"), "")])
    for key, c in sorted(checks.items()):
        tries = "1 try" if c["tries"] == 1 else f"{c['tries']} tries" if c["tries"] else "not tried yet"
        rows.append([key, f"check, {tries}", "", MARKS[c["right"]] if c["tries"] else ""])
    heads = ["", "your answer", "measured", "right"]
    table = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    told_heads = "".join(f"<th>{head}</th>" for head in heads)
    committed = sum(p.get("answer") is not None for p in asked.values())
    passed = sum(bool(c["right"]) for c in checks.values())
    total = f"{committed} of {len(asked)} predicted, {passed} of {len(checks)} checks right."
    return f"<table><tr>{told_heads}</tr>{table}</table><div>{total}</div>"


def agreement(answer: str | float, truth: str | float, tolerance: float | None) -> bool | None:
    """Whether a prediction was right; None for numbers without a tolerance."""
    if isinstance(answer, str) or isinstance(truth, str):
        return answer == truth
    return None if tolerance is None else abs(answer - truth) <= tolerance


def compare(value: Any, expected: Any, tolerance: float) -> tuple[bool, str]:
    """Whether a value is as expected within a tolerance, and why (not), in words. NaN agrees with NaN."""
    given, wanted = _array(value), _array(expected)
    if any(one is None or one is ... for one in given.flat):  # as of a function that is not written yet
        return False, UNWRITTEN
    if given.shape != wanted.shape:
        return False, f"its shape is {given.shape}, and should be {wanted.shape}"
    if wanted.dtype.kind not in "biuf":
        same = bool((given.astype(str) == wanted.astype(str)).all())
        return same, "as expected" if same else "it is something else"
    if given.dtype.kind not in "biuf":
        return False, f"it should be {'numbers' if wanted.shape else 'a number'}, not {type(value).__name__}"
    a, b = given.astype(float), wanted.astype(float)
    with np.errstate(invalid="ignore"):  # inf - inf
        far = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    furthest = float(np.where(np.isnan(far), math.inf, far).max(initial=0.0))
    return furthest <= tolerance, f"largest deviation {furthest:.3g}, allowed {tolerance:g}"


def told(value: str | float | None, unit: str = "") -> str:
    """An answer as text."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    size = abs(value)
    if not 1e-3 <= size < math.inf:  # and nan
        return f"{value:.3g} {unit}".rstrip()
    rounded = f"{value:,.{max(0, 2 - math.floor(math.log10(size)))}f}"  # three digits, and all before the point
    return f"{rounded.rstrip('0').rstrip('.') if '.' in rounded else rounded} {unit}".rstrip()


def nobody_there() -> bool:
    """Whether the running cell was sent by something that cannot be asked: nbconvert, nbclient, a script."""
    from IPython.core.getipython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    return not getattr(kernel, "_allow_stdin", False)  # JupyterLab allows questions with every cell it sends


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _chosen(answer: Any, options: Sequence[str]) -> str:
    if answer not in options:
        raise ValueError(f"Choose one of: {', '.join(options)}.")
    return str(answer)
