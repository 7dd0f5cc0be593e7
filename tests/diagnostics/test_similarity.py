"""Cosines of class means: the values of the authors' notebook, by hand, orders, classes without images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from workbench.data import Classes
from workbench.diagnostics.similarity import class_similarity, cosines_to_means
from workbench.features import Features


def features_of(vectors: object, labels: object, counts: object, taxonomy: dict | None = None) -> Features:
    labels, counts = np.asarray(labels), np.asarray(counts)
    return Features(
        vectors=np.asarray(vectors, dtype=np.float32),
        logits=None,
        predicted=labels,
        confidence=np.ones(len(labels), np.float32),
        labels=labels,
        ids=np.array([str(i) for i in range(len(labels))]),
        classes=Classes(tuple(f"class {c}" for c in range(len(counts))), counts, taxonomy=taxonomy),
    )


def test_the_heat_map_of_the_authors_notebook(golden: Callable) -> None:
    case = golden("lift_notebook")
    arrays = case.arrays
    result = class_similarity(features_of(arrays["in.test_x"], arrays["in.test_y"], arrays["in.train_counts"]))
    np.testing.assert_array_equal(result.order, arrays["out.nb.sorted_class_order"])
    case.check(result.matrix[np.ix_(result.order, result.order)], "out.nb.cosine_matrix")


def test_means_are_of_raw_features_and_groups_leave_out_the_diagonal() -> None:
    # means (2, 0), (0, 1), (1, 1), (-3, 0): the long vector of class 0 decides its mean
    vectors = [[1, 2], [3, -2], [0, 1], [1, 1], [-3, 0]]
    result = class_similarity(features_of(vectors, [0, 0, 1, 2, 3], [500, 200, 5, 4]))
    r = np.sqrt(0.5)
    expected = [[1, 0, r, -1], [0, 1, r, 0], [r, r, 1, -r], [-1, 0, -r, 1]]
    np.testing.assert_allclose(result.matrix, expected, atol=1e-6)
    assert result.between["many", "many"] == (pytest.approx(0, abs=1e-6), 1)
    assert result.between["many", "few"] == (pytest.approx((2 * r - 1) / 4), 4)
    assert np.isnan(result.between["medium", "few"][0]) and result.between["medium", "few"][1] == 0
    assert result.nearest.tolist() == [2, 2, 0, 1]
    frame = result.to_frame()
    row = frame[frame["class"] == 2].iloc[0]
    assert row["nearest"] == "class 0" and row["similarity"] == pytest.approx(r / 3)
    assert "n/a (0 pairs)" in str(result) and "medium n/a" in result.caption()


def test_classes_without_images_are_nan_and_not_drawn() -> None:
    result = class_similarity(features_of([[1, 0], [0, 1]], [0, 2], [5, 50, 500]))
    assert np.isnan(result.matrix[1]).all() and np.isnan(result.matrix[:, 1]).all()
    assert result.matrix[0, 2] == 0 and result.nearest.tolist() == [2, -1, 0]
    assert result.plot().images[0].get_array().shape == (2, 2)
    assert "1 of 3 classes without images" in str(result)
    alone = class_similarity(features_of([[1, 0]], [0], [5]))
    assert alone.matrix.tolist() == [[1]] and len(alone.to_frame()) == 7
    alone.plot().figure.canvas.draw()


def test_the_order_is_by_frequency_or_by_a_level_of_the_taxonomy() -> None:
    features = features_of(np.eye(4), [0, 1, 2, 3], [5, 50, 500, 60], {"$kingdom$": np.array([1, 0, 0, 1])})
    assert class_similarity(features).order.tolist() == [2, 3, 1, 0]
    by_kingdom = class_similarity(features, order="$kingdom$")
    assert by_kingdom.order.tolist() == [2, 1, 3, 0]
    by_kingdom.plot().figure.canvas.draw()
    with pytest.raises(ValueError, match=r"choose one of frequency, \$kingdom\$"):
        class_similarity(features, order="genus")
    with pytest.raises(ValueError, match="1 class means are zero"):
        class_similarity(features_of([[1, 0], [-1, 0], [0, 1]], [0, 0, 1], [5, 5]))


def test_thousands_of_classes_are_drawn_as_means_of_blocks(rng: np.random.Generator) -> None:
    result = class_similarity(features_of(rng.normal(size=(1301, 8)), np.arange(1301), np.arange(1301)[::-1] + 1))
    ax = result.plot()
    ordered = result.matrix[np.ix_(result.order, result.order)]
    drawn = ax.images[0].get_array()
    assert drawn.shape == (434, 434)
    np.testing.assert_allclose(drawn[1, 2], ordered[3:6, 6:9].mean(), atol=1e-6)
    np.testing.assert_allclose(drawn[433, 0], ordered[1299:, :3].mean(), atol=1e-6)
    assert any("3 by 3 classes" in text.get_text() for text in ax.texts)
    assert ax.images[0].get_clim() == (-1, 1)


def test_images_are_compared_with_the_means_of_chosen_classes(rng: np.random.Generator) -> None:
    features = features_of(rng.normal(size=(6, 3)), [0, 0, 1, 1, 2, 2], [5, 50, 500])
    found = cosines_to_means(features, [2, 0])
    mean = features.vectors[4:].mean(0)
    by_hand = features.vectors[3] @ mean / np.linalg.norm(features.vectors[3]) / np.linalg.norm(mean)
    assert found.shape == (6, 2) and found[3, 0] == pytest.approx(by_hand, abs=1e-6)
    of_others = cosines_to_means(features[:2], [2], of=features)
    np.testing.assert_allclose(of_others[:, 0], found[:2, 0], atol=1e-6)
    with pytest.raises(ValueError, match="no mean direction: its images here are none"):
        cosines_to_means(features, [0], of=features[2:])
