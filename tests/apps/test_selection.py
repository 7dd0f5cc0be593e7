"""The selection: views follow it once, expressions and ids give it again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from workbench.apps.chip import Chip
from workbench.apps.selection import MOST_IDS, Selection, positions, rows_of
from workbench.features import Features

Make = Callable[..., Features]


def test_followers_hear_of_a_change_once(make_features: Make) -> None:
    selection, heard = Selection(make_features()), []

    def follow(changed: Selection) -> None:
        heard.append(len(changed))
        changed.set(changed.rows, changed.why)  # a view that sets what it was told

    selection.observe(follow)
    selection.set([5, 3, 3], "lasso")
    selection.set([3, 5], "lasso")
    assert heard == [0, 2] and selection.rows.tolist() == [3, 5]
    assert selection.ids == ["test/0/3.jpg", "test/0/5.jpg"] and selection.code == f"ids={selection.ids!r}"
    selection.clear()
    assert heard == [0, 2, 0] and selection.code == ""


def test_an_expression_selects_and_can_be_inverted(make_features: Make) -> None:
    features = make_features()
    selection = Selection(features)
    selection.query("group == 'few' and not correct")
    expected = np.flatnonzero((features.group_of == "few") & ~features.correct)
    assert 0 < len(expected) < len(features) and selection.rows.tolist() == expected.tolist()
    assert selection.to_frame()["id"].tolist() == features.ids[expected].tolist()
    selection.invert()
    assert len(selection) == len(features) - len(expected)
    again = Selection(features)
    again.query(eval(selection.code))
    assert again.rows.tolist() == selection.rows.tolist()


@pytest.mark.parametrize("expression", ["grop == 'few'", "confidence", "group ==", "confidence > 'a'"])
def test_what_is_no_condition_is_refused_with_the_columns(make_features: Make, expression: str) -> None:
    selection = Selection(make_features())
    with pytest.raises(ValueError, match="id, label, name, group, predicted, correct, confidence"):
        selection.query(expression)
    assert len(selection) == 0


def test_ids_and_positions_that_are_not_there_are_refused(make_features: Make) -> None:
    selection = Selection(make_features())
    selection.take(["test/1/9.jpg"])
    assert selection.rows.tolist() == [9]
    with pytest.raises(ValueError, match=r"1 of 2 images are not in these features \(e.g. 'x.jpg'\)"):
        selection.take(["test/1/9.jpg", "x.jpg"])
    with pytest.raises(ValueError, match="positions 5 to 96"):
        selection.set([5, 96], "lasso")


def test_what_is_kept_is_all_that_can_be_selected(make_features: Make) -> None:
    features = make_features()
    selection = Selection(features)
    selection.query("group == 'few'")
    few = selection.rows.tolist()
    selection.keep()
    assert selection.calls == """.keep("group == 'few'")""", "and so it is selected"
    selection.query("not correct")
    assert selection.rows.tolist() == [row for row in few if not features.correct[row]]
    assert selection.calls == """.keep("group == 'few'").select('not correct')"""
    selection.invert()
    assert selection.rows.tolist() == [row for row in few if features.correct[row]]
    selection.clear()
    assert selection.calls == """.keep("group == 'few'").select()"""
    selection.release()
    selection.query("label >= 0")
    assert len(selection) == len(features) and selection.calls == ".select('label >= 0')"


def test_many_images_are_written_as_positions(make_features: Make) -> None:
    selection = Selection(make_features(images=100))
    selection.set([0, 1, 2, 7, 9, 10], "lasso")
    assert selection.code.startswith("ids=[") and positions(selection.rows) == "0-2,7,9-10"
    rows = np.setdiff1d(np.arange(900), np.arange(0, 900, 7))
    assert len(rows) > MOST_IDS
    selection.set(rows, "lasso")
    code = selection.code
    assert code.startswith("rows='1-6,8-13,") and rows_of(eval(code.removeprefix("rows="))).tolist() == rows.tolist()
    for text in ("", "1-", "a", "1,,2", "-3", "1-2-3"):
        with pytest.raises(ValueError, match="no list of positions"):
            rows_of(text)


def test_the_table_has_plain_texts_and_what_was_added(make_features: Make) -> None:
    features = make_features()
    selection = Selection(features)
    selection.add("half", np.arange(len(features)) % 2)
    selection.query("half == 1 and name == 'class 3'")
    frame = selection.to_frame()
    assert frame["name"].unique().tolist() == ["class 3"] and frame["name"].dtype == object
    assert frame["half"].tolist() == [1] * 4 and frame.index.tolist() == selection.rows.tolist()


def test_the_chip_copies_what_the_kernel_writes(make_features: Make) -> None:
    selection, sent = Selection(make_features()), []
    chip = Chip(selection, lambda: "app(features)", frame=lambda: "frame", narrow=True)
    chip.copies.send = lambda content, buffers=None: sent.append(content)
    assert "0 images" in chip.text.value and not chip.copies.enabled and chip.keep.disabled
    selection.set([3, 5], "<b>by hand</b>")
    assert "2 images · &lt;b&gt;by hand" in chip.text.value and chip.copies.enabled
    for number, what in enumerate(("ids", "code", "frame", "nothing")):
        chip.copies._asked(None, {"what": what, "number": number}, [])
    assert [answer["text"] for answer in sent] == ["test/0/3.jpg\ntest/0/5.jpg", "app(features)", "frame", ""]
    assert [answer["number"] for answer in sent] == [0, 1, 2, 3]
