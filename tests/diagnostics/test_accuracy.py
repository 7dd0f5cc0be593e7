"""The group report: its numbers are those of metrics, its table says what it means, unlike test sets are refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from workbench import metrics
from workbench.data import Classes, GroupRule
from workbench.diagnostics.accuracy import group_report
from workbench.diagnostics.group_figure import opacity
from workbench.features import Features

Make = Callable[..., Features]


def test_numbers_are_those_of_metrics(make_features: Make) -> None:
    features = make_features()
    report = group_report(features, seed=5)
    groups = features.classes.groups
    assert report.accuracy == metrics.group_accuracy(features.predicted, features.labels, groups)
    for group, interval in report.arms[0].over_classes.items():
        assert interval == metrics.group_interval(features.predicted[None], features.labels, groups, group, seed=5)
    pooled = group_report(features, pooled=True).accuracy
    assert pooled == metrics.group_accuracy(features.predicted, features.labels, groups, pooled=True)


def test_the_table_names_thresholds_estimand_and_sizes(make_features: Make) -> None:
    text = str(group_report(make_features(), names=("LIFT", "")))
    assert "many >= 101, few <= 19 training images" in text
    assert "speak of classes like these, for this trained model (Student t: all" in text
    assert "| group | classes | test images | LIFT: % [95% over classes] |" in text
    assert "| few | 4 | 80 |" in text and "† fewer than 5 classes" in text


def test_an_empty_group_is_not_zero(make_features: Make) -> None:
    report = group_report(make_features(counts=(500, 300, 50, 40)))
    assert "| few | 0 | 0 | n/a (0 classes) |" in str(report) and np.isnan(report.accuracy["few"])
    untested = str(group_report(make_features(counts=(500, 300, 50, 2, 1), images=(9, 9, 9, 0, 0))))
    assert "| few | 2 | 0 | n/a (no test images) |" in untested
    assert "2 of 5 classes have no test images" in untested


def test_several_seeds_have_an_interval_over_seeds(make_features: Make) -> None:
    seeds = [make_features(seed) for seed in range(3)]
    report = group_report(seeds)
    (arm,) = report.arms
    values = [metrics.group_accuracy(f.predicted, f.labels, f.classes.groups)["few"] for f in seeds]
    assert arm.num_seeds == 3 and arm.over_seeds["few"] == metrics.seed_interval(values)
    assert report.accuracy["few"] == pytest.approx(np.mean(values))
    assert "[95% over 3 seeds]" in str(report) and "training again with another seed" in str(report)
    assert not group_report(seeds[:1]).arms[0].over_seeds


def test_two_arms_are_paired_class_by_class(make_features: Make) -> None:
    first = [make_features(seed) for seed in (0, 1)]
    second = make_features(7, skill=np.full(12, 0.2))
    report = group_report(first, compare=second, names=("LIFT", "full"))
    both = np.stack([f.predicted for f in first]), second.predicted[None]
    expected = metrics.paired_difference(*both, second.labels, second.classes.groups, group="many")
    assert report.differences["many"] == expected
    assert "LIFT better" in str(report) and "could have shown" in str(report)
    assert report.views == ("groups", "classes", "difference")
    assert group_report(second).views == ("groups", "classes")


def test_several_methods_by_name_stand_side_by_side(make_features: Make) -> None:
    arms = {"zero-shot": make_features(0), "probe": [make_features(1), make_features(2)], "LIFT": make_features(3)}
    report = group_report(arms)
    assert [arm.name for arm in report.arms] == list(arms) and not report.differences
    assert [opacity(number, 3) for number in range(3)] == [1.0, 0.5, 0.0]
    assert "LIFT: % [95% over classes]" in str(report) and report.arguments["names"] == list(arms)
    two = group_report({"a": make_features(0), "b": make_features(1)})
    assert two.differences == group_report(make_features(0), compare=make_features(1), names=("a", "b")).differences
    with pytest.raises(ValueError, match="leave compare= out"):
        group_report(arms, compare=make_features(4))


def test_images_in_another_order_are_matched_by_id(make_features: Make, rng: np.random.Generator) -> None:
    features = make_features()
    order = rng.permutation(len(features))
    arrays = ("vectors", "logits", "predicted", "confidence", "labels", "ids")
    shuffled = dataclasses.replace(features, **{name: getattr(features, name)[order] for name in arrays})
    report = group_report(features, compare=shuffled)
    assert all(difference.estimate == 0 for difference in report.differences.values())


def test_the_frame_holds_groups_seeds_classes_and_differences(make_features: Make) -> None:
    frame = group_report([make_features(0), make_features(1)], compare=make_features(2)).to_frame()
    assert frame["kind"].value_counts().to_dict() == {
        **{"group": 10, "seeds": 5, "class": 24, "mean": 6, "difference": 5}
    }
    few = frame[(frame["kind"] == "class") & (frame["group"] == "few") & (frame["arm"] == "first")]
    assert few["train_images"].tolist() == [19, 10, 5, 2] and (few["test_images"] == 20).all()


def test_bold_is_what_beats_every_other_arm_of_the_row(make_features: Make) -> None:
    good, bad = np.linspace(0.95, 0.8, 12), np.full(12, 0.1)
    arms = {
        "good": make_features(0, skill=good),
        "bad": make_features(1, skill=bad),
        "worse": make_features(2, skill=bad),
    }
    report = group_report(arms)
    assert report.best == {"all": "good", "mean_class": "good"}, "groups of 4 classes are too small for a bold number"
    rows = {line.split(" | ")[0]: line for line in str(report).splitlines() if line.startswith("| ")}
    assert rows["| all"].count("**") == 2 and "**" not in rows["| few"] + rows["| many"]
    assert rows["| all"].split(" | ")[3].startswith("**"), "the number of the best arm"
    assert not group_report({"one": arms["good"], "same": arms["good"], "bad": arms["bad"]}).best, "a tie has no best"
    assert not group_report(arms["good"]).best and "**" not in str(group_report(arms["good"]))


def test_mcnemar_is_reported_for_each_pair_of_seeds(make_features: Make) -> None:
    first, second = [make_features(0), make_features(1)], [make_features(2), make_features(3)]
    report = group_report(first, compare=second, names=("LIFT", "LPT"))
    labels, groups = first[0].labels, first[0].classes.groups
    assert [tests["few"] for tests in report.mcnemar] == [
        metrics.mcnemar(a.predicted, b.predicted, labels, groups, group="few")
        for a, b in zip(first, second, strict=True)
    ]
    assert "only LIFT has right to those only LPT has right, seed by seed:" in str(report)
    rows = report.to_frame().query("kind == 'mcnemar'")
    assert len(rows) == 10 and rows["arm"].unique().tolist() == [f"LIFT minus LPT, seed {n}" for n in (1, 2)]
    assert not group_report(first, compare=second[0]).mcnemar, "one model cannot be paired with two"


def test_other_means_of_class_accuracies_name_the_neglected(make_features: Make) -> None:
    skill = np.full(12, 0.9)
    skill[[3, 11]] = 0.0
    report = group_report(make_features(0, skill=skill), names=("LIFT", ""))
    means = report.arms[0].means
    assert means == metrics.class_means(report.arms[0].class_accuracy) and means.zeros == 2
    assert "LIFT geometric 0.0, harmonic 0.0, worst class 0.0 (2 of 12 classes with nothing right)" in str(report)


@pytest.mark.parametrize(
    ("rule", "few", "said"),
    [
        ("gt100_lt20", 4, "many >= 101, few <= 19 training images"),
        ("gt100_le20", 5, "many >= 101, few <= 20 training images"),
        ("ge100_le20", 5, "many >= 100, few <= 20 training images"),
        ("index:2,10", 2, "many = classes [0, 2), medium = classes [2, 10), few = classes [10, 12)"),
    ],
)
def test_the_group_rule_can_be_chosen_and_is_printed(make_features: Make, rule: str, few: int, said: str) -> None:
    counts = (500, 300, 200, 100, 80, 60, 40, 20, 19, 10, 5, 2)
    features = make_features(counts=counts).with_rule(rule)
    report = group_report(features)
    assert report.sizes("few")[0] == few and said in str(report)
    assert GroupRule.from_json(features.source["groups"]) == features.classes.rule


def test_latex_escapes_names_and_keeps_bold_and_intervals(make_features: Make) -> None:
    arms = {
        r"L\input{x}_1 & 2%": make_features(0, skill=np.full(12, 0.95)),
        "bad": make_features(1, skill=np.full(12, 0.1)),
    }
    text = group_report(arms).to_latex()
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    assert r"L\textbackslash{}input\{x\}\_1 \& 2\%" in text and r"\input" not in text
    columns = text[text.index("{tabular}{") + len("{tabular}{") :].partition("}")[0]
    assert len(body) == 5 and all(line.count("&") - line.count(r"\&") == len(columns) - 1 for line in body)
    assert body[0].startswith(r"all & 12 & 240 & \textbf{") and r"{\scriptsize [" in body[0]
    assert r"\textdagger{}" in body[3] and r"\textbf" not in body[3]
    assert r"many \textgreater{}= 101" in text, "the rule goes with the table"
    assert r"\texttt{all} is the share of test images" in text


def test_unlike_features_are_refused(make_features: Make) -> None:
    features = make_features()
    with pytest.raises(ValueError, match="240 and 240 images, of which 0 are the same"):
        group_report(features, compare=make_features(split="val"))
    with pytest.raises(ValueError, match="240 and 360 images, of which 240 are the same"):
        group_report(features, compare=make_features(images=30))
    with pytest.raises(ValueError, match="number 2 have 2 classes, the first have 12"):
        group_report(features, compare=make_features(counts=(500, 2)))
    with pytest.raises(ValueError, match="120 images have another label"):
        labels = np.roll(features.labels, 10)
        group_report(features, compare=dataclasses.replace(features, labels=labels))
    rule = Classes(features.classes.names, features.classes.counts, GroupRule(few_to=20))
    with pytest.raises(ValueError, match=r"other shot groups .* extract both with the same manifest"):
        group_report(features, compare=dataclasses.replace(features, classes=rule))
    with pytest.raises(ValueError, match="empty list"):
        group_report([])


def test_many_arms_stand_in_rows(make_features: Make) -> None:
    arms = {f"arm {number}": make_features(number) for number in range(7)}
    report, few = group_report(arms), group_report(dict(list(arms.items())[:5]))
    assert report.size[1] > few.size[1]
    ax = report.plot()
    assert [label.get_text() for label in ax.get_yticklabels()] == list(arms) and ax.yaxis_inverted()
    marks = {
        str(line.get_label()).split(",")[0]: line.get_xdata() for line in ax.lines if ", n = " in str(line.get_label())
    }
    for group, xs in marks.items():
        np.testing.assert_allclose(xs, [100 * arm.over_classes[group].estimate for arm in report.arms])
    assert list(marks) == ["all", "many", "medium", "few"]
    assert not few.plot().yaxis_inverted()
