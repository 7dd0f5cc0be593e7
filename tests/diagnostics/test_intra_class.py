"""Distances to the class mean: by hand, by the closed form of the published variant, and no shift from nothing."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.distance import cosine

from workbench.data import Classes
from workbench.diagnostics.intra_class import density, intra_class_distances, to_own_mean
from workbench.features import Features

Make = Callable[..., Features]


def isotropic(images: int, *, split: str, seed: int, noise: float = 1.0) -> Features:
    """Classes of `images` vectors each: a mean of length 1 plus noise of `noise` times its squared length."""
    classes, width = 40, 2000
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(0).normal(size=(classes, width))
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    labels = np.repeat(np.arange(classes), images)
    vectors = means[labels] + rng.normal(size=(len(labels), width)) * np.sqrt(noise / width)
    return Features(
        vectors=vectors.astype(np.float32),
        logits=None,
        predicted=labels,
        confidence=np.ones(len(labels), np.float32),
        labels=labels,
        ids=np.array([f"{split}/{i}" for i in range(len(labels))]),
        classes=Classes(tuple(f"class {c}" for c in range(classes)), np.full(classes, 5)),
        source={"split": split},
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_published_variant_equals_the_authors_notebook(golden: Callable, split: str) -> None:
    case = golden("lift_notebook")

    def part(name: str) -> Features:
        labels = case.arrays[f"in.{name}_y"]
        return Features(
            vectors=case.arrays[f"in.{name}_x"].astype(np.float32),
            logits=None,
            predicted=labels,
            confidence=np.ones(len(labels), np.float32),
            labels=labels,
            ids=np.array([f"{name}/{i}" for i in range(len(labels))]),
            classes=Classes(tuple("abcdefghi"), case.arrays["in.train_counts"]),
        )

    result = intra_class_distances(part("train"), part("test"))
    distances, labels = result.distances["published", split], result.labels["published", split]
    for c in range(9):
        case.check(np.sort(distances[labels == c]), f"out.nb.{split}_intra_dist_class{c}")
    for group, short in (("many", "many"), ("medium", "med"), ("few", "few")):
        case.check(result.of_group(group, split, "published").mean(), f"out.nb.{split}_{short}_mean_dist")


def test_a_distance_is_one_minus_cosine_to_the_mean_of_its_class(make_features: Make) -> None:
    train, test = make_features(0, split="train"), make_features(1)
    result = intra_class_distances(train, test)
    for split, part in (("train", train), ("test", test)):
        rows = part.vectors[part.labels == 4].astype(np.float64)
        expected = [cosine(row, rows.mean(0)) for row in rows]
        found = result.distances["published", split][part.labels == 4]
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert result.class_means["published", split][4] == pytest.approx(np.mean(expected), abs=1e-6)


@pytest.mark.parametrize("images", [2, 5, 20])
def test_the_published_variant_shrinks_with_few_images_as_the_closed_form_says(images: int) -> None:
    result = intra_class_distances(isotropic(images, split="train", seed=1), isotropic(50, split="test", seed=2))
    for split, n in (("train", images), ("test", 50)):
        expected = 1 - np.sqrt((1 + 1 / n) / (1 + 1))  # r = 1
        assert result.distances["published", split].mean() == pytest.approx(expected, abs=0.01)


def test_without_a_shift_the_published_variant_shows_one_and_the_matched_one_does_not() -> None:
    result = intra_class_distances(isotropic(5, split="train", seed=1), isotropic(50, split="test", seed=2))
    published, matched = (result.shifts[variant, "few"] for variant in ("published", "matched"))
    assert published.difference.estimate > 0.03
    assert abs(matched.difference.estimate) < 0.005
    assert matched.difference.low < 0.005 and matched.difference.high > -0.005
    assert matched.train_images == matched.test_images == 40 * 5


def test_a_planted_shift_is_found() -> None:
    result = intra_class_distances(isotropic(5, split="train", seed=1), isotropic(50, split="test", seed=2, noise=1.5))
    shift = result.shifts["matched", "few"]
    assert shift.difference.low > 0 and shift.wasserstein == pytest.approx(shift.difference.estimate, rel=0.1)
    expected = np.sqrt((1 + 1 / 5) / 2) - np.sqrt((1 + 1.5 / 5) / 2.5)
    assert shift.difference.estimate == pytest.approx(expected, abs=0.01)


def test_a_single_image_lies_on_its_mean_and_takes_no_part_in_the_matched_variant(make_features: Make) -> None:
    train = make_features(0, split="train", images=(20,) * 11 + (1,))
    result = intra_class_distances(train, make_features(1))
    assert result.class_means["published", "train"][11] == pytest.approx(0, abs=1e-7)
    assert result.matched_images[11] == 0 and np.isnan(result.class_means["matched", "test"][11])
    assert result.shifts["matched", "few"].classes == 3


def test_means_without_direction_and_densities() -> None:
    assert to_own_mean(np.array([[1.0, 0.0], [-1.0, 0.0]])).tolist() == [1, 1]
    grid = np.linspace(0, 2, 512)
    curve = density(np.abs(np.random.default_rng(0).normal(0.3, 0.1, 2000)), grid, 0.02)
    assert np.trapezoid(curve, grid) == pytest.approx(1, abs=0.01)
    assert grid[curve.argmax()] == pytest.approx(0.3, abs=0.05)


def test_the_same_images_on_both_sides_are_refused(make_features: Make) -> None:
    with pytest.raises(ValueError, match="share 240 images"):
        intra_class_distances(make_features(), make_features())
    with pytest.raises(ValueError, match="width 16, test 8"):
        intra_class_distances(make_features(split="train"), make_features(width=8))
    with pytest.raises(ValueError, match="at least one draw"):
        intra_class_distances(make_features(split="train"), make_features(), repeats=0)


def test_curves_are_densities_with_one_bandwidth_for_both_splits(make_features: Make) -> None:
    result = intra_class_distances(make_features(0, split="train"), make_features(1))
    grid, curves = result.curves("published")
    assert set(curves) == {(group, split) for group in ("many", "medium", "few") for split in ("train", "test")}
    for (group, split), curve in curves.items():
        assert np.trapezoid(curve, grid) == pytest.approx(1, abs=0.02)
        mean = np.trapezoid(grid * curve, grid)
        assert mean == pytest.approx(getattr(result.shifts["published", group], split), abs=0.02)
