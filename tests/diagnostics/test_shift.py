"""Domain shift: planted accuracies on two sets give the drops, shares and lines that closed forms and scipy say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

from workbench import metrics
from workbench.data import Classes
from workbench.diagnostics.base import GROUP_COLOURS, PAPER
from workbench.diagnostics.domain_shift import DomainShift, domain_shift
from workbench.diagnostics.effective_robustness import effective_robustness
from workbench.diagnostics.transfer import difference_bounds
from workbench.features import Features

Make = Callable[..., Features]
Plant = Callable[..., Features]
BEFORE = np.array([20, 18, 16, 17, 14, 12, 13, 9, 10, 8, 5, 6]) / 20  # right share of each class
AFTER = np.array([11, 12, 4, 9, 8, 2, 10, 1, 6, 0, 3, 2]) / 20
GROUPS = np.repeat(["many", "medium", "few"], 4)


@pytest.fixture
def plant(make_features: Make) -> Plant:
    """plant(shares, manifest): features of which exactly these shares of each class's images are right."""

    def make(
        shares: np.ndarray, manifest: str = "photos", *, images: int | tuple[int, ...] = 20, **source: object
    ) -> Features:
        features = make_features(images=images, split=manifest)
        labels, counts = features.labels, np.bincount(features.labels, minlength=12)
        place = np.arange(len(labels)) - (np.cumsum(counts) - counts)[labels]
        hit = place < np.round(np.asarray(shares) * counts)[labels]
        predicted = np.where(hit, labels, (labels + 1) % 12)
        return replace(features, predicted=predicted, source={"manifest": manifest, "method": "lift"} | source)

    return make


@pytest.fixture
def result(plant: Plant) -> DomainShift:
    return domain_shift(plant(BEFORE), plant(AFTER, "sketches"))


def entries(result: DomainShift, kind: str, **where: object) -> dict[str, dict[str, object]]:
    frame = result.to_frame()
    frame = frame[frame["kind"] == kind]
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame.set_index("group").to_dict("index")


def pseudo_values(ratio: Callable[[np.ndarray], float]) -> np.ndarray:
    """Of the delete-one jackknife over twelve classes, by its definition."""
    every = np.ones(12, bool)
    return np.array([12 * ratio(every) - 11 * ratio(every & (np.arange(12) != c)) for c in range(12)])


def around(estimate: float, values: np.ndarray) -> tuple[float, float]:
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return estimate - half, estimate + half


# -- one method --------------------------------------------------------------------------------------------------------


def test_the_same_images_lose_nothing_at_all(plant: Plant) -> None:
    one = domain_shift(plant(BEFORE), plant(BEFORE)).transfers["lift", "shifted 1"]
    for row in metrics.ACCURACIES:
        assert one.drop[row].estimate == 0.0 and one.drop[row].verdict == "no difference shown"
        assert one.kept[row].estimate == pytest.approx(1, abs=1e-15)
    assert not one.class_drop.any()


def test_drops_are_paired_by_class_with_the_interval_of_a_paired_t_test(result: DomainShift) -> None:
    rows = {kind: entries(result, kind) for kind in ("reference", "shifted", "drop")}
    for row in metrics.ACCURACIES:
        inside = np.isin(GROUPS, [row] if row in metrics.GROUPS else metrics.GROUPS)
        before, after = BEFORE[inside], AFTER[inside]
        expected = stats.ttest_rel(before, after)
        drop = rows["drop"][row]
        low, high = expected.confidence_interval(0.95)
        found = [drop[key] for key in ("value", "low", "high", "p")]
        np.testing.assert_allclose(found, [before.mean() - after.mean(), low, high, expected.pvalue])
        freedom = inside.sum() - 1
        power = stats.t.ppf(0.975, freedom) + stats.t.ppf(0.8, freedom)
        assert drop["smallest_detectable"] == pytest.approx(power * stats.sem(before - after))
        assert rows["reference"][row]["value"] == pytest.approx(before.mean())
        assert rows["shifted"][row]["value"] == pytest.approx(after.mean())
        bounds = rows["shifted"][row]["low"], rows["shifted"][row]["high"]
        np.testing.assert_allclose(bounds, np.clip(around(after.mean(), after), 0, 1))
    assert "† fewer than 5 classes" in str(result) and "lift (1 seed), photos to sketches" in str(result)


def test_the_share_that_is_kept_is_a_ratio_of_means_with_a_jackknife_interval(result: DomainShift) -> None:
    kept = entries(result, "kept")["mean_class"]
    values = pseudo_values(lambda inside: AFTER[inside].sum() / BEFORE[inside].sum())
    estimate = AFTER.sum() / BEFORE.sum()
    np.testing.assert_allclose((kept["value"], kept["low"], kept["high"]), (estimate, *around(estimate, values)))


def test_half_the_right_answers_keep_half_and_their_spread_gives_no_interval(plant: Plant) -> None:
    even = np.array([20, 18, 16, 16, 14, 12, 12, 8, 10, 8, 4, 6]) / 20
    one = domain_shift(plant(even), plant(even / 2, "sketches")).transfers["lift", "sketches"]
    for row in metrics.ACCURACIES:
        assert one.kept[row].estimate == pytest.approx(0.5) and np.isnan(one.kept[row].low)
        assert one.drop[row].estimate == pytest.approx(one.shifted.over_classes[row].estimate)
    assert one.kept["all"].method == "none: classes do not differ"


def test_a_share_of_what_may_be_nothing_has_no_interval(plant: Plant) -> None:
    shares = np.where(np.arange(12) == 1, 0.5, 0)  # one many-shot class; no other is ever right
    one = domain_shift(plant(shares), plant(AFTER, "sketches")).transfers["lift", "sketches"]
    assert one.kept["many"].estimate == pytest.approx(AFTER[:4].sum() / 0.5) and np.isnan(one.kept["many"].high)
    assert one.kept["many"].method == "none: the reference accuracy may be 0"
    assert np.isnan(one.kept["few"].estimate)


def test_where_every_class_loses_the_same_images_become_the_unit(plant: Plant) -> None:
    found = domain_shift(plant(np.full(12, 0.8)), plant(np.full(12, 0.6), "sketches"))
    drop = found.transfers["lift", "sketches"].drop["few"]
    assert (drop.n, drop.unit) == (160, "images") and 0 < drop.low < 0.2 < drop.high
    low, high = difference_bounds(*np.array([0.8, 0.6, 80, 80]), level=0.95)
    assert (drop.low, drop.high) == (low, high)


def test_bounds_of_a_difference_of_shares_are_those_that_newcombe_prints() -> None:
    first, second, few = np.array([56 / 70, 9 / 10]), np.array([48 / 80, 3 / 10]), np.array([70.0, 10.0])
    low, high = difference_bounds(first, second, few, np.array([80.0, 10.0]), level=0.95)
    np.testing.assert_allclose(low, (0.0524, 0.1705), atol=5e-5)  # table II, method 10, columns a and b
    np.testing.assert_allclose(high, (0.3339, 0.8090), atol=5e-5)


def test_all_is_the_share_of_images_on_both_sides_and_says_when_their_mix_differs(plant: Plant) -> None:
    few, many = (10, 20, 40) * 4, (40, 20, 10, 20) * 3
    found = domain_shift(plant(BEFORE, images=few), plant(AFTER, "sketches", images=many))
    assert "sketches: other shares of images per class than photos" in str(found)
    sizes = np.array(few), np.array(many)
    hits = np.round(BEFORE * few), np.round(AFTER * many)

    def difference(inside: np.ndarray) -> float:
        return float(np.subtract(*[h[inside].sum() / s[inside].sum() for h, s in zip(hits, sizes, strict=True)]))

    drop = entries(found, "drop")["all"]
    estimate = difference(np.ones(12, bool))
    np.testing.assert_allclose(
        (drop["value"], drop["low"], drop["high"]), (estimate, *around(estimate, pseudo_values(difference)))
    )
    mean = entries(found, "drop")["mean_class"]
    assert mean["value"] == pytest.approx((hits[0] / sizes[0] - hits[1] / sizes[1]).mean())
    assert "other shares" not in str(domain_shift(plant(BEFORE), plant(AFTER, "sketches", images=10)))


def test_classes_without_images_in_one_set_are_left_out_of_both_and_counted(plant: Plant) -> None:
    images = tuple(0 if c in (0, 11) else 20 for c in range(12))
    found = domain_shift(plant(BEFORE), plant(AFTER, "sketches", images=images))
    assert "sketches: 2 of 12 classes have no images in one of the two sets and are left out of both" in str(found)
    before, drop = (entries(found, kind) for kind in ("reference", "drop"))
    assert before["many"]["value"] == pytest.approx(BEFORE[1:4].mean()) and before["many"]["classes"] == 3
    assert drop["mean_class"]["value"] == pytest.approx((BEFORE - AFTER)[1:11].mean())
    of_class = found.to_frame().query("kind == 'class'").set_index("class")
    assert np.isnan(of_class.loc[0, "value"]) and of_class.loc[1, "value"] == pytest.approx(BEFORE[1] - AFTER[1])
    assert of_class.loc[0, "shifted_images"] == 0 and of_class.loc[0, "reference_images"] == 20


def test_groups_are_those_of_the_reference_whatever_the_shifted_manifest_counts(plant: Plant) -> None:
    other = plant(AFTER, "sketches")
    untrained = replace(other, classes=Classes(other.classes.names, np.zeros(12, np.int64)))
    found = domain_shift(plant(BEFORE), untrained)
    assert found.groups.tolist() == GROUPS.tolist() and found.counts[0] == 500
    assert "shot groups of photos: many >= 101" in str(found)
    assert entries(found, "drop")["many"]["value"] == pytest.approx((BEFORE - AFTER)[:4].mean())


def test_seeds_are_averaged_by_class_and_have_an_interval_of_their_own(plant: Plant) -> None:
    ups = 0.0, 0.1
    found = domain_shift(
        [plant(BEFORE, seed=s) for s in (0, 1)], [plant(AFTER + up, "sketches", seed=s) for s, up in enumerate(ups)]
    )
    drop = entries(found, "drop")["mean_class"]
    each = (BEFORE - AFTER).mean() - np.array(ups)
    assert drop["value"] == pytest.approx(each.mean()) and drop["seeds"] == 2
    np.testing.assert_allclose((drop["seeds_low"], drop["seeds_high"]), around(each.mean(), each))
    assert found.to_frame().query("kind == 'class'")["low"].isna().all(), "seeds share their images"


# -- several methods and sets ------------------------------------------------------------------------------------------


def test_drops_of_two_methods_are_compared_class_by_class(plant: Plant) -> None:
    first, second = (BEFORE, AFTER), (AFTER[::-1] * 0.5 + 0.2, AFTER)
    arms = {"a": first, "b": second}
    found = domain_shift({name: (plant(x), plant(y, "sketches")) for name, (x, y) in arms.items()})
    planted = [np.subtract(*(np.round(20 * share) / 20 for share in pair)) for pair in (first, second)]
    expected = stats.ttest_rel(*planted)
    row = entries(found, "difference_of_drops")["mean_class"]
    low, high = expected.confidence_interval(0.95)
    np.testing.assert_allclose(
        (row["value"], row["low"], row["high"], row["p"]), (np.subtract(*planted).mean(), low, high, expected.pvalue)
    )
    assert (row["arm"], row["against"]) == ("a", "b") and low > 0
    assert "drop of a minus that of b, sketches, mean_class" in str(found) and "the first loses more" in str(found)
    same = domain_shift({name: (plant(BEFORE), plant(AFTER, "sketches")) for name in "ab"})
    assert same.differences["b", "sketches", "all"].estimate == 0 and "not testable" in str(same)


def test_each_shifted_set_has_its_numbers_and_views(plant: Plant) -> None:
    found = domain_shift(plant(BEFORE), plant(AFTER, "sketches"), plant(BEFORE - 0.05, "later"), names=("A", "B", "C"))
    assert found.views == ("drop", "arms", "classes", "drop 2", "arms 2", "classes 2")
    assert entries(found, "drop", set="C")["mean_class"]["value"] == pytest.approx(0.05)
    lines = [line for line in found.plot(view="drop 2").lines if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(lines[0].get_ydata(), [100 * BEFORE.mean(), 100 * BEFORE.mean() - 5])
    assert found.arguments["names"] == ["A", "B", "C"]


def test_an_arm_off_the_line_of_the_others_is_as_far_off_as_planted() -> None:
    before = np.array([0.5, 0.6, 0.7, 0.8, 0.65])
    after = special.expit(-1.5 + 0.8 * special.logit(before))
    after[4] += 0.07
    found = effective_robustness(before, after, level=0.95)
    assert found[4].estimate == pytest.approx(0.07) and found[4].high - found[4].low < 1e-9
    assert [one.extrapolated for one in found] == [True, False, False, True, False]
    assert all(one.others == 4 for one in found) and found[4].expected == pytest.approx(after[4] - 0.07)


def test_the_interval_of_effective_robustness_is_the_prediction_interval_of_a_regression(
    rng: np.random.Generator,
) -> None:
    before, after = rng.uniform(0.4, 0.9, 7), rng.uniform(0.1, 0.4, 7)
    found = effective_robustness(before, after, level=0.9)[2]
    x, y = special.logit(np.delete(before, 2)), special.logit(np.delete(after, 2))
    design = np.stack([np.ones(6), x], axis=1)
    weights, (squares,), *_ = np.linalg.lstsq(design, y, rcond=None)
    place = np.array([1, special.logit(before[2])])
    error = np.sqrt(squares / 4 * (1 + place @ np.linalg.inv(design.T @ design) @ place))
    bounds = special.expit(place @ weights + stats.t.ppf([0.95, 0.5, 0.05], 4) * error)
    np.testing.assert_allclose((found.low, found.estimate, found.high), after[2] - bounds)


def test_arms_without_a_logit_or_without_spread_have_no_effective_robustness() -> None:
    before, after = np.array([0.5, 0.6, 0.7, 0.8, 1.0]), np.array([0.2, 0.3, 0.4, 0.5, 0.6])
    found = effective_robustness(before, after, level=0.95)
    assert "of 0 or 1" in found[4].why and "only 3 other arms" in found[0].why and np.isnan(found[0].estimate)
    flat = effective_robustness(np.array([0.5, 0.5, 0.5, 0.5, 0.6]), after, level=0.95)
    assert flat[4].why == "all other arms have the same reference accuracy" and not flat[0].why
    with pytest.raises(ValueError, match="4 arms were given; the line of the others needs at least 5"):
        effective_robustness(before[:4], after[:4], level=0.95)


def test_effective_robustness_is_refused_below_five_arms_and_given_from_there_on(plant: Plant) -> None:
    arms = {f"arm {i}": (plant(BEFORE - i / 20), plant(AFTER * (1 - i / 8), "sketches")) for i in range(5)}
    four, five = (domain_shift({name: arms[name] for name in list(arms)[:n]}) for n in (4, 5))
    said = "not computed, since the line of the other arms needs at least 5 arms and 4 were given"
    frame = four.to_frame().query("kind == 'effective_robustness'")
    assert said in str(four) and said in frame["method"].item() and np.isnan(frame["value"].item())
    pairs = [[getattr(five.transfers[arm, "sketches"], which).over_classes["few"].estimate for arm in arms]
             for which in ("reference", "shifted")]  # fmt: skip
    expected = effective_robustness(*np.array(pairs), level=0.95)[3]
    assert five.robustness["arm 3", "sketches", "few"] == expected
    assert entries(five, "effective_robustness", arm="arm 3")["few"]["value"] == expected.estimate
    labels = [text.get_text() for text in five.plot(view="arms").get_legend().get_texts()]
    assert "line of the arms (all)" in labels
    assert "line of the arms (all)" not in [t.get_text() for t in four.plot(view="arms").get_legend().get_texts()]


# -- figures -----------------------------------------------------------------------------------------------------------


def test_lines_join_the_accuracies_of_each_group_and_points_show_each_class(result: DomainShift) -> None:
    ax = result.plot(view="drop")
    joined = [line for line in ax.lines if len(line.get_xdata()) == 2]
    values = [(BEFORE, AFTER), *((BEFORE[GROUPS == g], AFTER[GROUPS == g]) for g in metrics.GROUPS)]
    np.testing.assert_allclose(
        [line.get_ydata() for line in joined], [[100 * x.mean(), 100 * y.mean()] for x, y in values]
    )
    assert [line.get_color() for line in joined[1:]] == [GROUP_COLOURS[g] for g in metrics.GROUPS]
    ends = [line for line in ax.lines if len(line.get_xdata()) == 1]
    assert [line.get_markerfacecolor() == PAPER for line in ends] == [False, True] * 4, "hollow is shifted"
    points = result.plot(view="classes").collections
    drops = np.concatenate([one.get_offsets()[:, 1] for one in points if len(one.get_offsets()) == 4])
    np.testing.assert_allclose(drops, 100 * (BEFORE - AFTER))
    ax = result.plot(view="arms")
    spots = [line.get_xydata()[0] for line in ax.lines if len(line.get_xdata()) == 1]
    np.testing.assert_allclose(spots, [[100 * x.mean(), 100 * y.mean()] for x, y in values])


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_what_cannot_be_paired_is_refused_with_what_to_do(plant: Plant) -> None:
    one, other = plant(BEFORE), plant(AFTER, "sketches")
    permuted = replace(other, classes=Classes(other.classes.names[::-1], other.classes.counts))
    with pytest.raises(ValueError, match=r"'sketches' of 'lift' has 12 classes.*order differ.*match_classes"):
        domain_shift(one, permuted)
    with pytest.raises(ValueError, match="'lift' has no shifted set"):
        domain_shift(one)
    with pytest.raises(ValueError, match="'LIFT' has no shifted set"):
        domain_shift({"LIFT": one})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="methods were given by name"):
        domain_shift({"LIFT": (one, other)}, other)
    with pytest.raises(ValueError, match="0 methods have no sets"):
        domain_shift({})
    with pytest.raises(ValueError, match="2 methods have 2 and 3 sets"):
        domain_shift({"a": (one, other), "b": (one, other, other)})
    with pytest.raises(ValueError, match=r"'method' has features of 0, 1 training seeds"):
        domain_shift([], other)
    with pytest.raises(ValueError, match=r"'lift' has features of 2, 1 training seeds"):
        domain_shift([one, one], other)
    with pytest.raises(ValueError, match=r"seed number 2: .* another trained model .*seed 7, not 1"):
        domain_shift([plant(BEFORE, seed=s) for s in (0, 1)], [plant(AFTER, "sketches", seed=s) for s in (0, 7)])
    with pytest.raises(ValueError, match="the test sets differ"):
        domain_shift({"a": (one, other), "b": (one, plant(AFTER, "paintings"))})
    with pytest.raises(ValueError, match=r"names=\['A', 'A'\] are for 2 sets"):
        domain_shift(one, other, names=("A", "A"))
    halves = [plant(BEFORE, images=tuple(20 * (c % 2 == odd) for c in range(12))) for odd in (0, 1)]
    with pytest.raises(ValueError, match="no class has images in 'reference' and in 'shifted 1'"):
        domain_shift(*halves)


def test_another_preprocessing_is_said(plant: Plant) -> None:
    one, other = (
        plant(BEFORE, preprocessing={"crop": "centre"}),
        plant(AFTER, "sketches", preprocessing={"crop": "five"}),
    )
    assert "sketches: lift saw its images through another preprocessing than those of photos" in str(
        domain_shift(one, other)
    )
