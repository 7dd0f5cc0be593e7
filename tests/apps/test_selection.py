"""The selection: views follow it once, expressions and ids give it again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from workbench.apps.selection import Selection
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
