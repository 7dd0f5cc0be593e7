"""Calibration: recorded values, a literal loop, scikit-learn, planted over-confidence, what chance makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from workbench import metrics
from workbench.data import Classes
from workbench.diagnostics.calibration import Calibration, calibration
from workbench.diagnostics.reliability import bin_of, calibration_errors
from workbench.features import Features

Make = Callable[..., Features]
GROUPS = ("many", "medium", "few")


def outcomes(confidence: np.ndarray, right: np.ndarray, labels: np.ndarray, counts: tuple[int, ...]) -> Features:
    """Features without logits whose decision is right or the next class."""
    return Features(
        vectors=np.ones((len(labels), 1), np.float32),
        logits=None,
        predicted=np.where(right, labels, (labels + 1) % len(counts)),
        confidence=confidence.astype(np.float32),
        labels=labels,
        ids=np.array([f"{i}.jpg" for i in range(len(labels))]),
        classes=Classes(tuple(f"class {c}" for c in range(len(counts))), np.array(counts)),
        source={},
    )


def overconfident(excess: float, images: int = 400, seed: int = 0) -> Features:
    """Right with the stated probability in many-shot classes, `excess` less often in few-shot ones; 6 classes each."""
    rng = np.random.default_rng(seed)
    counts = (200,) * 6 + (5,) * 6
    labels = np.repeat(np.arange(12), images)
    confidence = rng.uniform(0.5, 0.9, len(labels))
    right = rng.random(len(labels)) < confidence - excess * (labels >= 6)
    return outcomes(confidence, right, labels, counts)


def row(found: Calibration, group: str = "all") -> Any:
    return found.table[found.methods[0], group]


def test_recorded_errors_of_two_authors_are_reproduced(golden: Callable[[str], Any]) -> None:
    case = golden("calibration")
    labels, predicted = case.arrays["in.label"], case.arrays["in.pred"]
    features = outcomes(case.arrays["in.conf"], predicted == labels, labels, (200, 150, 50, 40, 5, 4))
    fifteen, ten = row(calibration(features)), row(calibration(features, bins=10))
    case.check(fifteen.ece.estimate, "out.ece15")
    case.check(fifteen.mce, "out.mce15")
    case.check(fifteen.bin_accuracy, "out.bin_acc")
    case.check(fifteen.bin_confidence, "out.bin_conf")
    case.check(fifteen.bin_images, "out.bin_count")
    case.check(ten.ece.estimate, "out.ece10")


def by_loop(
    features: Features, inside: np.ndarray, bins: int, *, equal_mass: bool, pooled: bool
) -> tuple[float, float]:
    """ECE and largest gap, image by image and bin by bin; equal_mass: parts of the images sorted by confidence."""
    rows = [i for i in range(len(features)) if inside[i]]
    sizes = {c: sum(features.labels[i] == c for i in rows) for c in set(features.labels[rows].tolist())}
    weight = {i: 1.0 if pooled else 1 / sizes[features.labels[i]] for i in rows}
    total, sure = sum(weight.values()), features.confidence.astype(float)
    if equal_mass:
        parts = [p.tolist() for p in np.array_split(sorted(rows, key=lambda i: sure[i]), bins)]
    else:
        parts = [[i for i in rows if b / bins < sure[i] <= (b + 1) / bins] for b in range(bins)]
    error, worst = 0.0, 0.0
    for part in parts:
        mass = sum(weight[i] for i in part)
        if mass:
            gap = abs(sum(weight[i] * (sure[i] - float(features.correct[i])) for i in part)) / mass
            error, worst = error + mass / total * gap, max(worst, gap)
    return error, worst


def test_every_group_is_what_a_literal_loop_finds(make_features: Make) -> None:
    features = make_features(images=(15, 3, 9, 12, 20, 5, 4, 8, 7, 6, 11, 2))
    for pooled in (False, True):
        found = calibration(features, bins=7, pooled=pooled, draws=2)
        for group in ("all", *GROUPS):
            inside = np.isin(features.group_of, GROUPS if group == "all" else [group])
            expected = by_loop(features, inside, 7, equal_mass=False, pooled=pooled or group == "all")
            assert (row(found, group).ece.estimate, row(found, group).mce) == pytest.approx(expected)


def test_the_quick_errors_are_those_of_the_whole_diagnostic(make_features: Make) -> None:
    features = make_features(2)
    found = calibration(features, bins=7, draws=2)
    groups = np.asarray(features.classes.groups)
    quick = calibration_errors(features.confidence, features.correct, features.labels, groups, bins=7)
    for group, error in quick.items():
        assert error == pytest.approx(row(found, group).ece.estimate), group
    none = calibration_errors(features.confidence[:0], features.correct[:0], features.labels[:0], groups)
    assert all(np.isnan(error) for error in none.values())


def test_bins_of_equal_mass_are_equal_parts_of_the_sorted_images(make_features: Make) -> None:
    features = make_features(images=20)  # 240 images, 80 per group: ten bins divide both
    found = calibration(features, bins=10, binning="equal_mass", draws=2)
    for group in ("all", *GROUPS):
        inside = np.isin(features.group_of, GROUPS if group == "all" else [group])
        expected = by_loop(features, inside, 10, equal_mass=True, pooled=True)
        assert (row(found, group).adaptive_ece.estimate, row(found, group).mce) == pytest.approx(expected)
        assert set(row(found, group).bin_images) == {inside.sum() // 10}


def test_bins_are_closed_on_the_right_and_equal_confidences_share_one() -> None:
    ones = np.ones(6)
    edges = bin_of(np.array([0, 0.25, 0.2500001, 0.5, 0.99, 1]), ones, 4, "equal_width")
    assert edges.tolist() == [0, 0, 1, 1, 3, 3]
    tied = bin_of(np.array([0.9, 0.9, 0.2, 0.9, 1, 0.9]), ones, 3, "equal_mass")
    assert tied.tolist() == [1, 1, 0, 1, 2, 1]  # the middle of four equal ones is at one half
    assert bin_of(np.array([0.1, 0.2]), np.array([3.0, 1.0]), 2, "equal_mass").tolist() == [0, 1]


def test_scores_are_those_of_scikit_learn_and_of_their_definition(make_features: Make) -> None:
    features = make_features()
    probability = softmax(features.logits.astype(float), axis=1)
    found = row(calibration(features, draws=2))
    assert found.nll.estimate == pytest.approx(log_loss(features.labels, probability, labels=range(12)))
    truth = np.eye(12)[features.labels]
    assert found.brier.estimate == pytest.approx(((probability - truth) ** 2).sum(1).mean())
    few = features.group_of == "few"
    of_few = row(calibration(features, draws=2), "few")
    assert of_few.brier.estimate == pytest.approx(((probability - truth) ** 2).sum(1)[few].mean())
    without = row(calibration(replace(features, logits=None), draws=2))
    assert without.brier is None and without.nll is None and without.ece.estimate == found.ece.estimate


def test_accuracy_and_gap_agree_with_the_accuracies_of_groups(make_features: Make) -> None:
    features = make_features(images=(15, 3, 9, 12, 20, 5, 4, 8, 7, 6, 11, 2))
    groups = features.classes.groups
    for pooled in (False, True):
        found = calibration(features, pooled=pooled, draws=2)
        expected = metrics.group_accuracy(features.predicted, features.labels, groups, pooled=pooled)
        for group in ("all", *GROUPS):
            one = row(found, group)
            assert one.accuracy == pytest.approx(expected[group])
            assert one.gap.estimate == pytest.approx(one.confidence - one.accuracy)


def test_with_one_confidence_the_interval_of_the_gap_is_that_of_the_accuracy_turned_around(make_features: Make) -> None:
    features = make_features(images=(25, 10, 19, 22, 30, 15, 14, 18, 17, 16, 21, 12), skill=np.linspace(0.7, 0.3, 12))
    flat = calibration(replace(features, confidence=np.full(len(features), 0.5, np.float32)), draws=2)
    for group, tolerance in (("medium", 1e-6), ("all", 0.02)):  # of all images: a ratio, close to a mean over classes
        gap = row(flat, group).gap
        interval = metrics.group_interval(features.predicted, features.labels, features.classes.groups, group)
        turned = 0.5 - gap.high, 0.5 - gap.low
        assert turned == pytest.approx((interval.low, interval.high), abs=tolerance) and gap.n == interval.n


def test_intervals_of_uneven_classes_cover_what_they_promise() -> None:
    rng, covered = np.random.default_rng(0), 0
    labels = np.repeat(np.arange(8), [5, 10, 20, 40, 80, 160, 10, 20])
    for _ in range(150):
        skill = np.clip(rng.normal(0.5, 0.1, 8), 0, 1)  # every class has its own; 0.5 on average
        features = outcomes(np.full(len(labels), 0.5), rng.random(len(labels)) < skill[labels], labels, (200,) * 8)
        gap = row(calibration(features, draws=1)).gap
        covered += gap.low <= 0 <= gap.high
    assert 0.9 <= covered / 150


def test_planted_over_confidence_is_found_where_it_was_planted() -> None:
    found = calibration(overconfident(0.2))
    few, many = row(found, "few"), row(found, "many")
    assert few.gap.low > 0 and few.gap.estimate == pytest.approx(0.2, abs=0.03) and few.p < 0.01
    assert few.ece.estimate == pytest.approx(few.gap.estimate, abs=0.005)  # every bin errs in one direction
    assert few.ece.low == pytest.approx(few.gap.low, abs=0.005) and few.chance < 0.05
    assert many.gap.low < 0 < many.gap.high and many.p > 0.05
    assert "few" in str(found) and row(calibration(overconfident(-0.1)), "few").gap.high < 0


def test_chance_of_a_single_bin_has_a_closed_form() -> None:
    n, p = 1200, 0.5
    labels = np.repeat(np.arange(12), n // 12)
    features = outcomes(np.full(n, p), np.arange(n) % 2 == 0, labels, (200,) * 6 + (5,) * 6)
    found = calibration(features, bins=1, draws=2000)
    one = row(found)
    assert one.ece.estimate == 0 and one.p == 1
    mean_of_half_normal = np.sqrt(2 / np.pi * p * (1 - p) / n)
    assert one.chance == pytest.approx(mean_of_half_normal, rel=0.06)
    few = row(found, "few").chance  # half as many images
    assert few == pytest.approx(np.sqrt(2) * mean_of_half_normal, rel=0.06)


def test_calibrated_models_are_called_uncalibrated_as_often_as_p_says() -> None:
    found = [row(calibration(overconfident(0, 10, seed), draws=99, seed=seed)).p for seed in range(60)]
    assert 0.3 < np.mean(found) < 0.7 and np.mean(np.array(found) <= 0.1) < 0.25


def test_an_empty_group_has_no_numbers_and_is_said_to_have_none() -> None:
    labels = np.repeat(np.arange(3), 4)
    found = calibration(outcomes(np.full(12, 0.7), labels < 2, labels, (300, 200, 150)))
    few = row(found, "few")
    assert few.images == 0 and np.isnan([few.ece.estimate, few.gap.low, few.chance, few.p, few.mce]).all()
    assert "few    0 classes, n = 0  n/a (0 images)" in str(found)
    assert row(found, "many").gap.too_small and "†" in str(found)
    for view in found.views:
        found.plot(view=view).figure.canvas.draw()


def test_several_methods_have_a_curve_each_in_a_view_of_each_group(make_features: Make) -> None:
    first = make_features()
    found = calibration({"LIFT": first, "$x$": replace(first, confidence=first.confidence**2)}, draws=2)
    assert found.views == ("reliability", "all", "many", "medium", "few", "gap")
    ax = found.plot(view="few")
    curve = ax.lines[0].get_xydata() / 100
    one = found.table["LIFT", "few"]
    some = one.bin_images > 0
    np.testing.assert_allclose(curve, np.stack([one.bin_confidence, one.bin_accuracy], 1)[some])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["LIFT", "$x$", "calibrated"] and found.table["$x$", "all"].confidence < 0.5
    frame = found.to_frame()
    assert frame.query("kind == 'bin' and method == '$x$' and group == 'all'")["images"].sum() == len(first)
    ece = frame.query("measure == 'ece' and group == 'few' and method == 'LIFT'")
    assert ece[["value", "low", "p"]].values.tolist() == [[one.ece.estimate, one.ece.low, one.p]]


def test_what_cannot_be_measured_is_refused(make_features: Make) -> None:
    features = make_features()
    with pytest.raises(ValueError, match="choose one of equal_width, equal_mass"):
        calibration(features, binning="adaptive")
    with pytest.raises(ValueError, match="bins=0"):
        calibration(features, bins=0)
    with pytest.raises(ValueError, match="no features"):
        calibration({})
    with pytest.raises(ValueError, match="without decisions"):
        calibration(replace(features, predicted=None, confidence=None, logits=None))
    with pytest.raises(ValueError, match="test sets differ"):
        calibration({"a": features, "b": make_features(split="val")})
