"""Inner- and inter-class distances: the recorded values of the paper's formula, a known answer, odd class sizes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from workbench.data import Classes
from workbench.diagnostics.separability import separability
from workbench.features import Features


def recorded(case, split: str) -> Features:
    vectors, labels = case.arrays[f"in.{split}_x"], case.arrays[f"in.{split}_y"]
    counts = np.array([500, 101, 100, 99, 60, 21, 20, 19, 3])
    return Features(
        vectors=vectors,
        logits=None,
        predicted=labels,
        confidence=np.ones(len(labels), dtype=np.float32),
        labels=labels,
        ids=np.array([f"{split}/{i}" for i in range(len(labels))]),
        classes=Classes(tuple("abcdefghi"), counts),
    )


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("norm", ["raw", "l2"])
def test_recorded_values_of_the_papers_formula(golden, split: str, norm: str) -> None:
    case = golden(f"gamma_{split}_{norm}")
    result = separability(recorded(case, split), normalize=norm == "l2")
    for key, value in {
        "R": result.intra,
        "R_mean": result.intra_mean,
        "R_std": result.intra_std,
        "D": result.inter,
        "D_std": result.inter_std,
        "gamma": result.gamma,
    }.items():
        case.check(value, f"out.gamma_{split}_{norm}.{key}")


def two_classes(images: tuple[int, ...], make_features: Callable[..., Features]) -> Features:
    return make_features(counts=(200, 50, 5), images=images)


def test_known_answer_on_a_square() -> None:
    vectors = np.array([[0, 1], [0, -1], [10, 2], [10, -2]], dtype=np.float32) + 1000
    labels = np.array([0, 0, 1, 1])
    features = Features(
        vectors, None, labels, np.ones(4, dtype=np.float32), labels, np.array(list("abcd")),
        Classes(("x", "y"), np.array([2, 2])),
    )  # fmt: skip
    result = separability(features)
    np.testing.assert_allclose(result.intra, [1, 2])
    assert result.inter == pytest.approx(10) and result.gamma == pytest.approx(0.15)


def test_classes_with_one_and_no_image_are_reported(make_features: Callable[..., Features]) -> None:
    result = separability(make_features(counts=(200, 50, 5, 3), images=(20, 20, 1, 0)))
    assert result.singletons.tolist() == [2] and result.absent.tolist() == [3]
    assert result.intra[2] == 0 and np.isnan(result.intra[3])
    assert result.intra_mean == pytest.approx(result.intra[:3].mean())
    assert "1 of 4 classes with one image" in str(result) and "1 of 4 classes without" in str(result)
    assert "n = 41 images" in str(result)


def test_one_class_alone_is_refused(make_features: Callable[..., Features]) -> None:
    with pytest.raises(ValueError, match="need two or more"):
        separability(make_features(counts=(200, 50), images=(20, 0)))


def test_pairs_are_counted_once_across_blocks(make_features: Callable[..., Features], monkeypatch) -> None:
    features = make_features()
    whole = separability(features)
    monkeypatch.setattr("workbench.diagnostics.separability._BLOCK", 5)
    blocked = separability(features)
    assert blocked.inter == pytest.approx(whole.inter, rel=1e-12)
    assert blocked.inter_std == pytest.approx(whole.inter_std, rel=1e-9)
