"""Drift: a turned copy has none, a displaced class has its own; Procrustes as scipy, CKA as its formula on kernels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from scipy import spatial, stats

from workbench.data import Classes
from workbench.diagnostics.alignment import align, linear_cka, neighbours_kept
from workbench.diagnostics.drift import Drift, drift
from workbench.features import Features

Make = Callable[..., Features]


def with_vectors(features: Features, vectors: np.ndarray) -> Features:
    return dataclasses.replace(features, vectors=np.asarray(vectors, np.float32))


def rotation(width: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(width, width)))[0]


@pytest.mark.parametrize("method", ["pca", "lda"])
def test_a_turned_mirrored_and_enlarged_copy_has_no_drift(
    make_features: Make, rng: np.random.Generator, method: str
) -> None:
    before = make_features()
    turn = rotation(16, rng)
    turn[:, 0] *= -1
    result = drift(before, with_vectors(before, 3 * before.vectors @ turn), method=method)
    assert result.drift.max() < 1e-5 and result.disparity < 1e-6 and (result.kept == 1).all()
    assert result.cka == pytest.approx(1, abs=1e-6) and result.cka_published == pytest.approx(1, abs=1e-6)
    assert result.map_drift.max() < 1e-3, "the maps of a turned set are turned maps"
    assert np.isnan(result.rho) and result.verdict() == "nothing moved"
    assert result.shuffled > 1.2


def test_zeros_beside_the_vectors_change_nothing_so_that_widths_may_differ(
    make_features: Make, rng: np.random.Generator
) -> None:
    before = make_features()
    wider = np.pad(before.vectors, ((0, 0), (0, 8))) @ rotation(24, rng)
    result = drift(before, with_vectors(before, wider))
    assert result.widths == (16, 24) and result.drift.max() < 1e-5 and result.cka == pytest.approx(1, abs=1e-6)
    back = drift(with_vectors(before, wider), before)
    np.testing.assert_allclose(back.drift, result.drift, atol=1e-5)


def test_a_displaced_class_drifts_and_the_others_hardly(make_features: Make, rng: np.random.Generator) -> None:
    before = make_features(counts=tuple(range(120, 0, -2)), images=10, width=32)  # 60 classes
    moved = before.vectors.copy()
    moved[before.labels == 57] += 8 * rotation(32, rng)[0]
    result = drift(before, with_vectors(before, moved @ rotation(32, rng)), k=5)
    of_class = result.class_means("drift")
    assert of_class.argmax() == 57 and of_class[57] > 8 * np.delete(of_class, 57).max()
    few = result.over_classes["drift", "few"]
    assert few.estimate == pytest.approx(of_class[51:].mean()) and few.n == 9 and few.unit == "classes"
    half = stats.t.ppf(0.975, 8) * stats.sem(of_class[51:])
    assert few.high == pytest.approx(few.estimate + half) and few.low == 0 > few.estimate - half
    assert result.kept[before.labels != 57].mean() > 0.95


def test_drift_is_the_same_forwards_and_back_and_two_is_its_mean_square_without_relation(
    make_features: Make, rng: np.random.Generator
) -> None:
    before = make_features(images=100)
    after = with_vectors(before, before.vectors + 2 * rng.normal(size=before.vectors.shape))
    there, back = drift(before, after), drift(after, before)
    np.testing.assert_allclose(there.drift, back.drift, rtol=1e-5)
    assert there.disparity == pytest.approx(back.disparity, rel=1e-5) and there.spread == back.spread[::-1]
    noise = drift(before, with_vectors(before, rng.normal(size=(len(before), 6))))
    assert (noise.drift**2).mean() == pytest.approx(2, abs=0.25)
    assert noise.drift.mean() == pytest.approx(noise.shuffled, rel=0.03)
    assert noise.kept.mean() == pytest.approx(noise.chance_kept, abs=0.01)
    assert abs(noise.cka) < 0.01


def test_alignment_is_scipys(rng: np.random.Generator) -> None:
    x = rng.normal(size=(40, 5)) * [3, 2, 1, 1, 1]
    y = (x + rng.normal(size=(40, 5))) @ rotation(5, rng) + 7
    found = align(x, y)
    a, b, disparity = spatial.procrustes(x, y)
    assert found.disparity == pytest.approx(disparity)
    np.testing.assert_allclose(found.first / np.sqrt(40), a)
    np.testing.assert_allclose(found.second * found.agreement / np.sqrt(40), b)  # scipy shrinks it to fit
    assert (found.distances**2).mean() == pytest.approx(2 - 2 * found.agreement)
    with pytest.raises(ValueError, match="all 4 points of the second set are the same"):
        align(x[:4], np.ones((4, 2)))


def test_cka_is_its_formula_on_kernels(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(12, 5)), rng.normal(size=(12, 3))
    y[:, 0] += 2 * x[:, 1]
    n, centre = 12, np.eye(12) - 1 / 12

    def published(k: np.ndarray, m: np.ndarray) -> float:
        return float(np.trace(k @ centre @ m @ centre)) / (n - 1) ** 2  # Kornblith et al., eq. 3

    def unbiased(k: np.ndarray, m: np.ndarray) -> float:  # Song et al., eq. 5
        k, m, one = k - np.diag(np.diag(k)), m - np.diag(np.diag(m)), np.ones(n)
        sums = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 * one @ k @ m @ one / (n - 2)
        return float(np.trace(k @ m) + sums) / (n * (n - 3))

    k, m = x @ x.T, y @ y.T
    for hsic, plain in ((published, False), (unbiased, True)):
        expected = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
        assert linear_cka(x, y, unbiased=plain) == pytest.approx(expected)
        assert linear_cka(x + 5, 2 * y - 1, unbiased=plain) == pytest.approx(expected)


def test_unbiased_cka_of_few_images_of_noise_is_near_nothing_where_the_published_one_is_near_one(
    rng: np.random.Generator,
) -> None:
    values = [
        [linear_cka(x, y, unbiased=plain) for plain in (True, False)]
        for x, y in (rng.normal(size=(2, 20, 200)) for _ in range(20))
    ]
    unbiased, published = np.mean(values, axis=0)
    assert abs(unbiased) < 0.05 and published > 0.8


def test_neighbours_kept_are_counted() -> None:
    angles = np.deg2rad([0, 1, 3, 90, 91, 93])
    first = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    second = first[[0, 1, 3, 2, 4, 5]]  # the third and the fourth change places
    assert neighbours_kept(first, second, 1).tolist() == [1, 1, 0, 0, 0, 1]
    assert neighbours_kept(first, second, 5).tolist() == [1] * 6
    assert neighbours_kept(first, second, 2).tolist() == [0.5, 0.5, 0, 0, 0.5, 0.5]


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_images_in_another_order_are_matched_by_id(make_features: Make, rng: np.random.Generator, method: str) -> None:
    before, after = make_features(images=5), make_features(1, images=5)
    shuffled = after[rng.permutation(len(after))]
    one, other = (drift(before, each, method=method, k=5) for each in (after, shuffled))
    for name in ("drift", "kept", "points", "cka", "shuffled", "rho"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.to_frame().to_numpy(str), other.to_frame().to_numpy(str))


def test_the_map_says_when_it_hides_the_drift_of_all_dimensions(make_features: Make, rng: np.random.Generator) -> None:
    base = make_features(images=50)
    plane = rng.normal(size=(600, 2)) * 5
    depth = np.zeros((600, 14))
    hidden = rng.permutation(600)[:300]
    still = np.column_stack([plane, depth, np.full(600, 20)])
    moved = still.copy()
    moved[hidden, 2 + rng.integers(14, size=300)] = 3 * rng.choice([-1, 1], 300)  # not along the plane
    deep = drift(with_vectors(base, still), with_vectors(base, moved))
    assert deep.drift[hidden].min() > deep.drift[np.setdiff1d(np.arange(600), hidden)].max()
    assert deep.rho < 0.5 and "they disagree: do not read the map image by image" in deep.caption()
    assert deep.rho == pytest.approx(stats.spearmanr(deep.drift, deep.map_drift).statistic)
    along = still.copy()
    along[:, :2] += rng.normal(size=(600, 2)) * rng.exponential(1, (600, 1))
    flat = drift(with_vectors(base, still), with_vectors(base, along))
    assert flat.rho > 0.95 and "they agree" in str(flat)


def test_chosen_classes_are_mapped_and_the_numbers_stay_those_of_all_images(make_features: Make) -> None:
    before, after = make_features(), make_features(1)
    full = drift(before, after)
    assert full.chosen is None and len(full.pair.rows) == 240
    few = drift(before, after, classes="few")
    assert few.chosen.tolist() == [8, 9, 10, 11] and set(few.labels[few.pair.rows]) == {8, 9, 10, 11}
    np.testing.assert_array_equal(few.drift, full.drift)
    named = drift(before, after, classes=["class 7", np.int64(2), 7])
    assert named.chosen.tolist() == [7, 2] and named.arguments["classes"] == ["class 7", 2, 7]
    texts = [text.get_text() for text in named.plot().get_legend().get_texts()]
    assert texts == ["class 7\n(medium, n = 20)", "class 2\n(many, n = 20)"]
    assert drift(before, after, classes="class 3").chosen.tolist() == [3]
    frame = named.to_frame()
    images = frame[frame["kind"] == "image"]
    assert len(images) == 240 and images["map_drift"].notna().sum() == 40
    shown = images[images["map_drift"].notna()]
    assert set(shown["class"]) == {2, 7}
    way = np.hypot(shown["x_after"] - shown["x_before"], shown["y_after"] - shown["y_before"])
    np.testing.assert_allclose(way.astype(float), shown["map_drift"].astype(float))


def test_lda_shows_the_half_that_it_was_not_fitted_on(make_features: Make) -> None:
    result = drift(make_features(), make_features(1), method="lda")
    assert len(result.pair.rows) == 120 and np.bincount(result.labels[result.pair.rows]).tolist() == [10] * 12
    assert "LDA fitted on 120 other images" in result.caption() and "with shuffled labels" in result.caption()
    singles = drift(make_features(images=(2,) + (1,) * 11), make_features(1, images=(2,) + (1,) * 11), method="lda")
    assert len(singles.pair.rows) == 13 and "this is no evidence" in singles.caption()


@pytest.mark.parametrize("view", Drift.views)
def test_all_images_or_so_many_lines_are_drawn_and_names_stay_text(make_features: Make, view: str) -> None:
    before, after = make_features(images=30), make_features(1, images=30)
    odd = Classes(("$a_b$", "<b>", *(f"{c}" for c in range(10))), before.classes.counts)
    for features in (before, after):
        object.__setattr__(features, "classes", odd)
    result = drift(before, after, names=("$\\frac$", "b"), classes=None if view == "groups" else range(12))
    ax = result.plot(view=view)
    ax.figure.canvas.draw()
    drawn = [collection for panel in ax.child_axes for collection in panel.collections]
    if view == "pair":
        assert sum(len(each.get_offsets()) for each in drawn) == 2 * 360
        assert [label.get_text() for label in ax.get_xticklabels()] == ["$\\frac$", "b"]
        left, right = ax.child_axes
        assert left.viewLim.extents == pytest.approx(right.viewLim.extents)
    if view == "drift":
        assert sum(len(each.get_segments()) for each in drawn if hasattr(each, "get_segments")) == 300
        assert any("lines: 300 of 360 images" in text.get_text() for text in ax.texts)


def test_what_cannot_be_compared_is_refused_with_advice(make_features: Make) -> None:
    before, after = make_features(), make_features(1)
    with pytest.raises(ValueError, match=r"240 and 239 images, of which 239 are the same"):
        drift(before, after[1:])
    with pytest.raises(ValueError, match="of which 0 are the same"):
        drift(before, make_features(split="train"))
    other = dataclasses.replace(after, labels=np.roll(after.labels, 1))
    with pytest.raises(ValueError, match=r"12 images have another label in the other .*'test/0\.jpg'"):
        drift(before, other)
    zero = before.vectors.copy()
    zero[:2] = 0
    with pytest.raises(ValueError, match="2 vectors after are zero"):
        drift(before, with_vectors(before, zero))
    with pytest.raises(ValueError, match="all 240 points of the first set are the same"):
        drift(with_vectors(before, np.ones((240, 4))), after)
    for options, said in (
        ({"method": "pacmap"}, "choose one of pca, lda, tsne, umap"),
        ({"k": 240}, "k from 1 to one fewer"),
        ({"names": ("a", "a")}, "give two different ones"),
        ({"classes": ["none"]}, "class 'none' is not known; give indices from 0 to 11"),
        ({"classes": [12]}, "class 12 is not known"),
        ({"classes": []}, "none of these has an image"),
        ({"classes": [0], "method": "lda"}, "LDA separates two classes or more"),
    ):
        with pytest.raises(ValueError, match=said):
            drift(before, after, **options)
    small = make_features(images=3)
    with pytest.raises(ValueError, match="pca maps need 4 images or more, here are 3"):
        drift(small, small, classes=0)
    with pytest.raises(ValueError, match="choose one of drift, kept"):
        drift(before, after).class_means("moved")


def test_classes_stand_at_the_mean_of_their_images_on_the_map(make_features: Make) -> None:
    result = drift(make_features(0), make_features(1), classes=["class 2", "class 5"])
    places = result.class_points()
    labels = result.labels[result.pair.rows]
    np.testing.assert_allclose(places[1, 5], result.points[1][labels == 5].mean(0))
    assert np.isfinite(places).all(axis=(0, 2)).nonzero()[0].tolist() == [2, 5]
