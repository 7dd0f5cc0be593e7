"""Maps: the recorded LDA, PCA by hand, halves that share no image, and numbers that say how much to believe."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from workbench.data import Classes
from workbench.diagnostics.maps import halves, quality, thinned
from workbench.diagnostics.projection import Projection, project
from workbench.features import Features

Make = Callable[..., Features]


def features_of(
    vectors: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    name: str = "a",
    ids: np.ndarray | None = None,
    classes: int = 0,
) -> Features:
    labels = np.zeros(len(vectors), np.int64) if labels is None else np.asarray(labels)
    classes = classes or int(labels.max()) + 1
    return Features(
        vectors=np.asarray(vectors, np.float32),
        logits=None,
        predicted=labels,
        confidence=np.ones(len(labels), np.float32),
        labels=labels,
        ids=np.array([f"{name}/{i}" for i in range(len(labels))]) if ids is None else ids,
        classes=Classes(tuple(f"class {c}" for c in range(classes)), np.full(classes, 5)),
        source={"manifest": name, "split": "test", "method": "lift"},
    )


def test_lda_of_all_images_equals_the_recorded_one(golden: Callable) -> None:
    case = golden("lda_svd")
    stacked = np.concatenate([case.arrays["in.train_x"], case.arrays["in.test_x"]])
    cluster = case.arrays["in.cluster"]
    sets = [features_of(stacked[cluster == c], name=str(c)) for c in range(4)]
    result = project(*sets, hold_out=False)
    assert result.separate == "cluster" and not result.held_out.any() and len(result.coordinates) == len(stacked)
    order = np.argsort(np.argsort(cluster, kind="stable"))  # row of the recorded order -> row of ours
    np.testing.assert_allclose(pdist(result.coordinates[order]), case.arrays["out.lda.pairwise_dist"], rtol=1e-4)
    assert "no evidence" in result.caption()


def test_noise_looks_separated_where_it_was_fitted_and_is_at_chance_on_the_other_half() -> None:
    rng = np.random.default_rng(0)
    sets = [features_of(rng.normal(size=(100, 90)), name=name) for name in "ab"]
    found = project(*sets).separation
    assert found.fitted == found.held_out == 100 and found.clusters == 2
    assert found.accuracy_fitted > 0.95 and found.permuted_fitted.min() > 0.95
    assert abs(found.accuracy - 0.5) < 0.15 and abs(found.permuted.mean() - 0.5) < 0.15


def test_a_real_difference_survives_on_the_other_half_and_shuffled_labels_do_not(make_features: Make) -> None:
    result = project(make_features())
    assert result.separate == "class" and result.separation.clusters == 12
    assert result.separation.accuracy > 0.8 > 0.3 > result.separation.permuted.mean()
    assert result.shown.sum() == result.separation.held_out == 120
    frame = result.to_frame()
    assert frame["half"].value_counts().to_dict() == {"fitted": 120, "held out": 120}
    assert frame.groupby("class")["half"].value_counts().unstack().to_numpy().tolist() == [[10, 10]] * 12


def test_an_image_under_two_methods_is_in_one_half() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(51, 8))
    same = [
        features_of(vectors, name="a"),
        features_of(vectors[::-1] + 3, name="a", ids=np.array([f"a/{i}" for i in range(51)][::-1])),
    ]
    result = project(*same, names=("before", "after"))
    halves_of = result.to_frame().groupby("id")["half"].nunique()
    assert len(halves_of) == 51 and (halves_of == 1).all()
    assert result.to_frame()["cluster"].unique().tolist() == ["before", "after"]
    other_data = project(features_of(vectors, name="a"), features_of(vectors + 3, name="b"))
    assert other_data.clusters == ("lift on a", "lift on b")


def test_two_clusters_have_one_discriminant_and_a_second_axis_without_it(rng: np.random.Generator) -> None:
    vectors = rng.normal(size=(400, 3)) * [1, 5, 1]
    vectors[:200, 0] += 6
    result = project(features_of(vectors[:200], name="a"), features_of(vectors[200:], name="b"))
    first, second = np.abs(np.corrcoef(np.c_[result.coordinates, vectors].T)[:2, 2:])
    assert first.argmax() == 0 and first[0] > 0.98
    assert second.argmax() == 1 and second[1] > 0.98
    assert result.plot().get_ylabel() == "first PC of the rest"


def test_pca_equals_the_singular_values_and_says_what_it_holds(rng: np.random.Generator) -> None:
    vectors = rng.normal(size=(60, 5)) * [5, 3, 1, 1, 1]
    result = project(features_of(vectors), method="pca")
    values = np.linalg.svd(np.float32(vectors) - np.float32(vectors).mean(0), compute_uv=False) ** 2
    np.testing.assert_allclose(result.variance, values[:2] / values.sum(), rtol=1e-5)
    np.testing.assert_allclose((result.coordinates**2).sum(0), values[:2], rtol=1e-5)
    assert f"{100 * sum(result.variance):.1f} % of the variance" in result.caption()
    assert project(features_of(vectors[:, :1]), method="pca").coordinates.shape == (60, 2)


@pytest.mark.parametrize("method", ["tsne", pytest.param("umap", marks=pytest.mark.slow)])
def test_nonlinear_maps_keep_clusters_say_how_well_and_repeat_themselves(make_features: Make, method: str) -> None:
    features = make_features(images=(10,) * 12)
    one, again = (project(features, method=method, k=5, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.coordinates, again.coordinates)
    assert one.coordinates.shape == (120, 2) and np.isfinite(one.coordinates).all()
    assert one.quality.k == 5 and one.quality.trustworthiness > 0.8 and one.quality.overlap > 0.3
    assert f"trustworthiness {one.quality.trustworthiness:.2f}, 5-NN overlap" in one.caption()
    figure = one.plot(view="correct").figure
    assert any(text.get_text() == one.caption() for text in figure.findobj(lambda a: hasattr(a, "get_text")))


def test_quality_is_one_for_the_plane_itself_and_near_chance_for_noise(rng: np.random.Generator) -> None:
    plane = rng.normal(size=(200, 2)).astype(np.float32)
    perfect = quality(plane, plane * 3, k=10)
    assert perfect.trustworthiness == 1 and perfect.overlap == 1
    noise = quality(plane, rng.normal(size=(200, 2)), k=10)
    assert noise.overlap == pytest.approx(10 / 199, abs=0.03) and noise.trustworthiness == pytest.approx(0.5, abs=0.06)
    by_hand = quality(np.float32([[0], [1], [3], [7], [15]]), np.array([[0, 0], [1, 0], [3, 0], [15, 0], [7, 0]]), k=1)
    assert by_hand.overlap == pytest.approx(3 / 5)  # the last two swapped: their nearest is another


def test_more_images_than_the_limit_are_thinned_in_proportion_and_no_class_is_lost(make_features: Make) -> None:
    features = make_features(images=(200,) * 6 + (20,) * 5 + (1,))
    result = project(features, method="pca", limit=130)
    kept = np.bincount(result.labels, minlength=12)
    assert kept.tolist() == [20] * 6 + [2] * 5 + [1] and result.total == 1301
    assert "131 of 1301 images drawn" in result.caption()
    np.testing.assert_array_equal(result.ids, features.ids[result.rows])
    np.testing.assert_array_equal(project(features, method="pca", limit=130).rows, result.rows)
    assert not np.array_equal(project(features, method="pca", limit=130, seed=1).rows, result.rows)


def test_halves_put_single_images_into_the_fit_and_keep_rows_of_one_image_together(rng: np.random.Generator) -> None:
    images, strata = np.array([0, 1, 2, 3, 4, 0, 1]), np.array([0, 0, 0, 0, 1, 0, 0])
    fit = halves(images, strata, rng=rng)
    assert fit[4] and fit[:4].sum() == 2 and fit[0] == fit[5] and fit[1] == fit[6]
    assert thinned(images, strata, 100, rng=rng).all()


@pytest.mark.parametrize("view", Projection.views)
def test_every_colouring_draws_what_is_shown_once_and_names_stay_text(view: str, rng: np.random.Generator) -> None:
    features = features_of(rng.normal(size=(60, 4)), np.arange(60) % 3)
    object.__setattr__(features, "classes", Classes(("$a_b$", "<b>b</b>", "x" * 90), np.array([200, 50, 5])))
    result = project(features, method="pca", names=("LIFT $",))
    ax = result.plot(view=view)
    ax.figure.canvas.draw()
    assert sum(len(c.get_offsets()) for c in ax.collections) == 60
    if view == "class":
        assert [text.get_text().split("\n")[0] for text in ax.get_legend().get_texts()][:2] == ["$a_b$", "<b>b</b>"]


def test_a_group_without_classes_says_so(make_features: Make) -> None:
    ax = project(make_features(counts=(500, 300), images=20), method="pca").plot(view="group")
    assert "few\n(n/a, 0 classes)" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_what_cannot_be_mapped_is_refused_with_advice(make_features: Make, rng: np.random.Generator) -> None:
    one_class = features_of(rng.normal(size=(5, 4)))
    with pytest.raises(ValueError, match=r"LDA separates two or more.*1 in 5 images"):
        project(one_class)
    with pytest.raises(ValueError, match="tsne needs 6 images"):
        project(one_class, method="tsne")
    with pytest.raises(ValueError, match="all 8 vectors have the same direction"):
        project(features_of(np.outer(np.arange(1, 9), np.ones(4))), method="tsne")
    with pytest.raises(ValueError, match="all 5 vectors are equal"):
        project(features_of(np.ones((5, 4))), method="pca")
    with pytest.raises(ValueError, match=r"widths \[16, 8\]"):
        project(make_features(), make_features(width=8))
    with pytest.raises(ValueError, match="choose one of lda, pca, tsne, umap"):
        project(one_class, method="pacmap")
    with pytest.raises(ValueError, match="2 sets of features need as many different names"):
        project(one_class, one_class, names=("a", "a"))
    with pytest.raises(ValueError, match="nothing was given"):
        project()
    singles = project(features_of(rng.normal(size=(12, 4)), np.r_[np.arange(11), 0]))
    assert not singles.held_out.any() and np.isnan(singles.separation.accuracy)
