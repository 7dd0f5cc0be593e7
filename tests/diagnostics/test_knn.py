"""K-NN accuracy: recorded cases, scikit-learn as oracle, ties, leave-one-out, the size-matched bank."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from workbench.data import Classes
from workbench.diagnostics import neighbours
from workbench.diagnostics.knn import NEAREST_MEAN, knn_accuracy
from workbench.diagnostics.neighbours import majority, mean_scores, nearest_neighbours, neighbour_purity
from workbench.features import Features


def plain(vectors: np.ndarray, labels: np.ndarray, split: str, num_classes: int) -> Features:
    return Features(
        vectors=vectors,
        logits=None,
        predicted=labels,
        confidence=np.ones(len(labels), dtype=np.float32),
        labels=labels,
        ids=np.array([f"{split}/{i}" for i in range(len(labels))]),
        classes=Classes(tuple(f"c{c}" for c in range(num_classes)), np.full(num_classes, 50)),
    )


@pytest.mark.parametrize("k", [1, 5, 20])
def test_recorded_cosine_cases(golden, k: int) -> None:
    case = golden(f"knn_k{k}")
    arrays = case.arrays
    bank = plain(arrays["in.train_x"], arrays["in.train_y"], "train", 9)
    queries = plain(arrays["in.test_x"], arrays["in.test_y"], "test", 9)
    result = knn_accuracy(bank, queries, k=k)
    np.testing.assert_array_equal(result.predicted["long-tailed", k], arrays[f"out.knn{k}.pred_simtie"])
    assert 100 * result.accuracy == pytest.approx(float(arrays[f"out.knn{k}.acc_simtie"]))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank.vectors, queries.vectors)]
    indices, similarities = nearest_neighbours(*unit, k, metric="cosine")
    np.testing.assert_array_equal(indices, arrays[f"out.knn{k}.neighbors"])
    case.check(1 - similarities, f"out.knn{k}.distances")


def test_recorded_nearest_class_mean(golden) -> None:
    case = golden("nearest_class_mean")
    train, labels, test = (case.arrays[key].astype(np.float64) for key in ("in.train_x", "in.train_y", "in.test_x"))
    centre = train.mean(axis=0)
    unit = {"un": lambda x: x, "l2n": _unit, "cl2n": lambda x: _unit(x - centre)}
    for name, transform in unit.items():
        means = np.stack([transform(train)[labels == c].mean(axis=0) for c in range(9)])
        case.check(means, f"out.ncm_{name}.centroids")
        case.check(mean_scores(transform(test), means, metric="euclidean"), f"out.ncm_{name}_l2.logits")
        # The recorded "cosine" divides by the width instead of the norms.
        cosine = mean_scores(transform(test), means, metric="cosine") * np.linalg.norm(means, axis=1) / test.shape[1]
        case.check(cosine, f"out.ncm_{name}_cos.logits")


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("block_bytes", [2**28, 4000])
def test_agrees_with_scikit_learn(rng, metric: str, block_bytes: int, monkeypatch) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK_BYTES", block_bytes)
    labels = rng.integers(0, 7, 150)
    vectors = (rng.normal(size=(150, 6)) + 0.7 * np.eye(7, 6)[labels] + 20).astype(np.float32)
    bank, queries = plain(vectors[:90], labels[:90], "train", 7), plain(vectors[90:], labels[90:], "test", 7)
    result = knn_accuracy(bank, queries, k=(1, 4, 9), metric=metric)
    space = (bank.vectors, queries.vectors) if metric == "euclidean" else (_unit(bank.vectors), _unit(queries.vectors))
    for k in (1, 4, 9):
        oracle = KNeighborsClassifier(k, metric="euclidean", algorithm="brute").fit(space[0], bank.labels)
        found = nearest_neighbours(*space, k, metric=metric)[0]
        np.testing.assert_array_equal(found, oracle.kneighbors(space[1], return_distance=False))
        votes = np.sort(oracle.predict_proba(space[1]), axis=1)
        clear = votes[:, -1] > votes[:, -2]  # scikit-learn gives ties to the lowest class
        np.testing.assert_array_equal(result.predicted["long-tailed", k][clear], oracle.predict(space[1])[clear])
        assert result.accuracy[k] == np.mean(result.predicted["long-tailed", k] == queries.labels)
    if metric == "euclidean":
        oracle = NearestCentroid().fit(bank.vectors.astype(np.float64), bank.labels)
        expected = oracle.predict(queries.vectors.astype(np.float64))
        np.testing.assert_array_equal(result.predicted["long-tailed", NEAREST_MEAN], expected)


def test_equal_neighbours_come_in_bank_order() -> None:
    stored = np.tile(np.array([[3.0, 4.0]], dtype=np.float32), (6, 1))
    indices, _ = nearest_neighbours(stored, stored[:2], 3, metric="euclidean")
    assert indices.tolist() == [[0, 1, 2]] * 2


def test_a_tie_goes_to_the_larger_summed_similarity_then_to_the_lower_class() -> None:
    labels = np.array([[2, 1, 1, 2], [2, 1, 1, 2], [0, 3, 3, 1]])
    similarities = np.array([[0.9, 0.8, 0.7, 0.1], [0.9, 0.9, 0.1, 0.1], [1.0, 0.1, 0.1, 0.1]])
    assert majority(labels, similarities).tolist() == [1, 1, 3]


def test_the_same_object_is_measured_leave_one_out(rng) -> None:
    vectors = rng.normal(size=(40, 3)).astype(np.float32)
    labels = rng.integers(0, 4, 40)
    features = plain(vectors, labels, "train", 4)
    result = knn_accuracy(features, features, k=1, metric="euclidean")
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert result.leave_one_out
    np.testing.assert_array_equal(result.predicted["long-tailed", 1], labels[distances.argmin(axis=1)])
    for i in range(40):
        others = np.arange(40) != i
        means = np.stack([vectors[others & (labels == c)].mean(axis=0) for c in range(4)])
        expected = np.linalg.norm(means - vectors[i], axis=1).argmin()
        assert result.predicted["long-tailed", NEAREST_MEAN][i] == expected


def test_shared_images_are_refused(make_features: Callable[..., Features]) -> None:
    bank = make_features(split="train")
    with pytest.raises(ValueError, match=r"share 240 images \(e.g. 'train/0.jpg'\).*leave-one-out"):
        knn_accuracy(bank, dataclasses.replace(bank))


def test_the_matched_bank_gives_every_class_the_same_number(make_features: Callable[..., Features]) -> None:
    bank = make_features(1, split="train", images=(60, 40, 30, 20, 20, 9, 9, 9, 4, 4, 3, 0))
    queries = make_features(2)
    result = knn_accuracy(bank, queries, k=5, seed=3)
    again = knn_accuracy(bank, queries, k=5, seed=3)
    assert result.matched_images == 3 and result.absent.tolist() == [11]
    np.testing.assert_array_equal(result.predicted["matched", 5], again.predicted["matched", 5])
    few = [np.isin(result.predicted[name, 5], np.flatnonzero(bank.classes.groups == "few")).mean()
           for name in ("long-tailed", "matched")]  # fmt: skip
    assert few[1] > few[0]
    assert not np.isin(result.predicted["matched", NEAREST_MEAN], [11]).any()


def test_more_neighbours_than_the_matched_bank_has_are_not_available(make_features: Callable[..., Features]) -> None:
    bank = make_features(1, split="train", images=(60, 40, 30, 20, 20, 9, 9, 9, 4, 4, 3, 1))
    result = knn_accuracy(bank, make_features(2), k=(1, 13))
    assert np.isnan(result.table["matched", 13]["all"]) and not np.isnan(result.table["matched", 1]["all"])
    assert "n/a" in str(result)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "manhattan"}, "choose one of cosine, euclidean"),
        ({"k": 0}, r"k=\[0\]; give different whole numbers from 1 to 240"),
        ({"k": 241}, "from 1 to 240"),
        ({"k": (5, 5)}, "different"),
        ({"k": ()}, "different"),
    ],
)
def test_wrong_options_are_refused(make_features: Callable[..., Features], options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        knn_accuracy(make_features(split="train"), make_features(), **options)


def test_features_of_another_model_or_data_set_are_refused(make_features: Callable[..., Features]) -> None:
    with pytest.raises(ValueError, match="width 8, queries 16"):
        knn_accuracy(make_features(split="train", width=8), make_features())
    with pytest.raises(ValueError, match="12 classes, the first have 2"):
        knn_accuracy(make_features(split="train", counts=(9, 9)), make_features())
    zero = make_features(split="train")
    zero = dataclasses.replace(zero, vectors=zero.vectors * (zero.labels[:, None] > 0))
    with pytest.raises(ValueError, match="20 vectors are zero"):
        knn_accuracy(zero, make_features())


def test_purity_is_the_share_of_neighbours_of_the_own_class(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.array([[0.0], [1.0], [2.1], [10.0], [11.1], [12.0]], dtype=np.float32) + 1
    labels = np.array([0, 0, 1, 1, 1, 0])
    monkeypatch.setattr(neighbours, "_BLOCK_BYTES", 64)  # two blocks and more
    steps: list[tuple[int, int]] = []
    found = neighbour_purity(vectors, labels, 2, metric="euclidean", on_step=lambda *step: steps.append(step))
    # nearest two, by hand: {1, 2}, {0, 2}, {1, 0}, {4, 5}, {5, 3}, {4, 3}
    assert found.tolist() == [0.5, 0.5, 0.0, 0.5, 0.5, 0.0] and found.dtype == np.float32
    assert steps[-1] == (6, 6) and len(steps) > 1
    turned = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], dtype=np.float32) * np.array([[1], [9], [1], [9]], "f4")
    assert neighbour_purity(turned, np.array([0, 0, 1, 1]), 1).tolist() == [1, 1, 1, 1], "by angle, not by length"
    with pytest.raises(ValueError, match="1 to 5 neighbours"):
        neighbour_purity(vectors, labels, 6, metric="euclidean")
