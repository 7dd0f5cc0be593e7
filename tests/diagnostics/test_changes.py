"""Images that changed: known counts, order, pictures, refusals."""

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from workbench.diagnostics.changes import changes
from workbench.features import Features

Make = Callable[..., Features]


def pair(make: Make) -> tuple[Features, Features]:
    """Class 0 (many): 3 fixed, 1 broken; class 11 (few): 2 broken; every other image right in both."""
    base = make()
    before, after = base.labels.copy(), base.labels.copy()
    many, few = np.flatnonzero(base.labels == 0), np.flatnonzero(base.labels == 11)
    before[many[:3]] = after[many[3]] = 5
    after[few[:2]] = 4
    return dataclasses.replace(base, predicted=before), dataclasses.replace(base, predicted=after)


def test_counts_are_those_that_were_planted(make_features: Make) -> None:
    result = changes(*pair(make_features), names=("a", "b"))
    found = {group: (flow.fixed, flow.broken) for group, flow in result.flows.items()}
    assert found == {"all": (3, 3), "many": (3, 1), "medium": (0, 0), "few": (0, 2)}
    assert result.flows["many"].p == pytest.approx(0.625 - 4 / 16), "mid-p of 3 against 1: exact p less P(3 of 4)"
    assert result.flows["few"].net == pytest.approx(-2 / 80) and result.flows["few"].classes == 4
    assert set(result.ids["fixed"]) == {"test/0.jpg", "test/1.jpg", "test/2.jpg"}
    assert len(result.rows("broken", "few")) == 2 and len(result.rows("fixed", "few")) == 0
    frame = result.to_frame()
    assert frame["kind"].value_counts().to_dict() == {"group": 4, "fixed": 3, "broken": 3}
    assert frame.loc[frame["kind"] == "fixed", "before"].unique().tolist() == ["class 5"]


def test_the_largest_move_of_confidence_comes_first(make_features: Make) -> None:
    before, after = pair(make_features)
    sure = np.full(len(before), 0.5, np.float32)
    sure[:3] = 0.2, 0.9, 0.6
    result = changes(dataclasses.replace(before, confidence=sure), dataclasses.replace(after, confidence=sure))
    assert result.ids["fixed"].tolist() == ["test/1.jpg", "test/2.jpg", "test/0.jpg"]
    assert result.moved[1] == pytest.approx(1.8)


def test_images_in_another_order_are_matched_by_id(make_features: Make, rng: np.random.Generator) -> None:
    before, after = pair(make_features)
    order = rng.permutation(len(after))
    arrays = ("vectors", "logits", "predicted", "confidence", "labels", "ids")
    shuffled = dataclasses.replace(after, **{name: getattr(after, name)[order] for name in arrays})
    first, second = changes(before, after), changes(before, shuffled)
    assert first.flows == second.flows
    np.testing.assert_array_equal(first.confidence, second.confidence)


def test_a_gallery_shows_both_decisions_and_an_empty_one_says_so(make_features: Make) -> None:
    before, after = pair(make_features)
    result = changes(before, after)
    pictures = SimpleNamespace(ids=before.ids, split="test", image=lambda i: Image.new("RGB", (8, 8)))
    figure = result.gallery(pictures, "fixed", 2)  # type: ignore[arg-type]
    assert len(figure.axes) == 2
    title = figure.axes[0].get_title(loc="left")
    assert title.startswith("class 0\n") and "class 5" in title and "\N{CHECK MARK} class 0" in title
    empty = result.gallery(pictures, "fixed", group="few")  # type: ignore[arg-type]
    assert "No few-shot image changed" in empty.texts[0].get_text()
    elsewhere = SimpleNamespace(ids=np.array(["other"]), split="val")
    with pytest.raises(ValueError, match="not in the data set's split 'val'"):
        result.gallery(elsewhere)  # type: ignore[arg-type]


def test_unknown_words_and_unlike_features_are_refused(make_features: Make) -> None:
    result = changes(*pair(make_features))
    with pytest.raises(ValueError, match="choose one of fixed, broken"):
        result.rows("mended")
    with pytest.raises(ValueError, match="choose one of many, medium, few"):
        result.rows("fixed", "tail")
    with pytest.raises(ValueError, match="of which 0 are the same"):
        changes(make_features(), make_features(split="val"))
