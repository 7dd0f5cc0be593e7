"""Descriptions of candidates: contributions and ranking by hand, what the figure shows, texts that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from workbench.diagnostics.description_matches import description_matches
from workbench.features import Features

Make = Callable[..., Features]
LONG = "A sentence\nwith $dollar$ signs and a line break that " + "goes on and on " * 40
TEXTS = {f"class {c}": [f"first of {c}", f"second of {c}", LONG] for c in range(5)} | {"class 4": ["only one"]}


@pytest.fixture
def features(make_features: Make) -> Features:
    """Five images, of classes 0 to 4, with four candidates of three descriptions; class 4 has one."""
    features = make_features(counts=(500, 200, 50, 10, 5), images=1)
    candidates = np.array([[0, 1, 2, 3], [0, 1, 2, 4], [0, 1, 3, 4], [3, 0, 1, 2], [0, 1, 2, 3]])
    matches = np.tile(np.float32([0.1, 0.2, 0.3]), (5, 4, 1)) + np.float32(0.01) * np.arange(4)[:, None]
    matches = np.where((candidates == 4)[..., None] & (np.arange(3) > 0), np.nan, matches).astype(np.float32)
    predicted = np.array([0, 1, 3, 0, 0])
    return replace(features, predicted=predicted, extras={"candidates": candidates, "description_match": matches})


@pytest.fixture
def weights() -> np.ndarray:
    return np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [1 / 3, 1 / 3, 1 / 3], [0, 0, 1], [1, 0, 0]])


def test_contributions_are_weight_times_similarity_and_their_sum_is_the_score(
    features: Features, weights: np.ndarray
) -> None:
    found = description_matches(features, weights, TEXTS, index=[1])
    assert found.contributions[0, 0] == pytest.approx([0.02, 0.06, 0.15])
    assert found.contributions[0, 1] == pytest.approx([0.6 * 0.11, 0.3 * 0.21, 0.1 * 0.31])
    assert found.scores[0] == pytest.approx([0.23, 0.16, 0.22, 0.13])
    assert np.isnan(found.contributions[0, 3, 1:]).all()
    assert found.ranking(0).tolist() == [0, 2, 1, 3] and found.drawn(0) == [0, 2, 1]


def test_the_table_ranks_descriptions_within_each_candidate(features: Features, weights: np.ndarray) -> None:
    frame = description_matches(features, weights, TEXTS, index=[1]).to_frame()
    assert len(frame) == 3 * 3 + 1  # class 4 has one description
    second = frame[frame["candidate"] == "class 1"]
    assert second["description"].tolist() == ["first of 1", "second of 1", LONG] and second["rank"].tolist() == [
        1,
        2,
        3,
    ]
    assert frame[frame["candidate"] == "class 0"]["description"].tolist() == [LONG, "second of 0", "first of 0"]
    assert set(frame[frame["is_true"]]["candidate"]) == set(frame[frame["is_decision"]]["candidate"]) == {"class 1"}
    assert (frame["contribution"] == frame["weight"] * frame["similarity"]).all()


def test_the_true_class_is_drawn_even_when_its_score_is_low(features: Features, weights: np.ndarray) -> None:
    lost = replace(features, labels=np.array([0, 4, 2, 3, 4]))
    found = description_matches(lost, weights, TEXTS, index=[1])
    assert found.drawn(0) == [0, 2, 3]  # place 3 is class 4, which scores last
    shown = [text.get_text() for text in found.plot().texts]
    assert "\N{CHECK MARK} class 4" in shown and "only one" in shown
    assert "1 more candidate; decision: class 1" in shown
    outside = [text.get_text() for text in description_matches(features, weights, TEXTS, index=[4]).plot().texts]
    assert "1 more candidate; true class, no candidate: class 4" in outside
    assert "\N{BLACK RIGHT-POINTING TRIANGLE} class 0" in outside


def test_figure_shows_top_descriptions_and_their_numbers(features: Features, weights: np.ndarray) -> None:
    found = description_matches(features, weights, TEXTS, index=[1], top=2)
    ax = found.plot()
    shown = [text.get_text() for text in ax.texts]
    assert "0.60 \N{MULTIPLICATION SIGN} 0.11" in shown and "0.10 \N{MULTIPLICATION SIGN} 0.31" not in shown
    widths = [bar.get_width() for bar in ax.patches]
    assert len(widths) == 3 * 2 and max(widths) / widths[-1] == pytest.approx(0.15 / (0.3 * 0.21))
    ax.figure.canvas.draw()  # nothing is read as mathematics
    right = ax.figure.bbox.x1
    assert all(text.get_window_extent().x1 <= right for text in ax.texts)
    taller = description_matches(features, weights, TEXTS, index=[0, 1, 2], top=3)
    assert taller.size[1] > 3 * found.size[1] * 0.8


def test_without_rows_one_fixed_one_broken_and_one_left_image_are_chosen(
    features: Features, weights: np.ndarray
) -> None:
    found = description_matches(features, weights, TEXTS)
    assert found.ids.tolist() == features.ids[[1, 3, 0]].tolist()
    assert found.arguments == {"index": [1, 3, 0], "top": 3}


def test_pictures_are_those_of_the_ids(features: Features, weights: np.ndarray) -> None:
    order = np.array([3, 0, 4, 1, 2])
    dataset = SimpleNamespace(
        ids=features.ids[order], split="test", image=lambda row: Image.new("RGB", (40, 20), (int(order[row]), 0, 0))
    )
    found = description_matches(features, weights, TEXTS, images=dataset, index=[4, 0])  # type: ignore[arg-type]
    assert [picture[0, 0, 0] for picture in found.pictures] == [4, 0]
    left, right, bottom, top = found.plot().images[0].get_extent()
    assert (right - left) / (bottom - top) == pytest.approx(2)
    dataset.ids = dataset.ids[1:]
    with pytest.raises(ValueError, match="not in the data set's split 'test'"):
        description_matches(features, weights, TEXTS, images=dataset, index=[3])  # type: ignore[arg-type]


def test_what_does_not_fit_is_refused(features: Features, weights: np.ndarray) -> None:
    with pytest.raises(ValueError, match="'class 0' has 2 texts and 3 similarities"):
        description_matches(features, weights, TEXTS | {"class 0": ["a", "b"]}, index=[0])
    with pytest.raises(ValueError, match="'class 4' has 2 texts and 1 similarities"):
        description_matches(features, weights, TEXTS | {"class 4": ["a", "b"]}, index=[1])
    with pytest.raises(ValueError, match="row numbers of the 5 images"):
        description_matches(features, weights, TEXTS, index=[5])
    with pytest.raises(ValueError, match=r"expected \(C, M\) = \(5, 3\)"):
        description_matches(features, weights[:, :2], TEXTS)
    with pytest.raises(ValueError, match="top=0"):
        description_matches(features, weights, TEXTS, top=0)
    with pytest.raises(ValueError, match="hold no similarities"):
        description_matches(replace(features, extras={"candidates": features.extras["candidates"]}), weights, TEXTS)
    with pytest.raises(ValueError, match="hold no candidates"):
        description_matches(replace(features, extras={}), weights, TEXTS)
