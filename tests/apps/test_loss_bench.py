"""The loss bench: what is seen is what `fit_head` and metrics give, for every loss; code gives it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from workbench import metrics
from workbench.apps.loss_bench import LossBench, loss_bench
from workbench.apps.retraining import CHOICES
from workbench.features import Features
from workbench.losses import COSINE_LOSSES, LOSSES
from workbench.training import fit_head, gradient_shares, logit_gradients, three_clouds
from workbench.training.plane import borders

from .conftest import HOSTILE

Make = Callable[..., Features]


STEPS = 60


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.apps.retraining.STEPS", STEPS)


@pytest.fixture
def bench() -> LossBench:
    app = loss_bench()
    app.work.wait()
    return app


@pytest.fixture
def trained(make_features: Make) -> LossBench:
    app = loss_bench(of_split(make_features(0), "train"), of_split(make_features(1), "test"))
    app.data.value = "cached features"
    app.work.wait()
    return app


def of_split(features: Features, split: str) -> Features:
    return replace(features, source=features.source | {"split": split})


def heights(chart: object, arm: str) -> dict[str, float]:
    """Bars of one arm: group -> percent."""
    bars = [mark for mark in chart.spec["marks"] if mark["kind"] == "bar"]  # type: ignore[attr-defined]
    return {bar["key"]: bar["y"] for bar in bars if bar["title"].startswith(f"{arm},")}


def test_every_loss_of_the_house_is_on_the_bench_and_has_only_its_own_options() -> None:
    assert set(CHOICES) == {*LOSSES, *COSINE_LOSSES} - {"balanced_softmax"}, "which is LA at its default"
    plane = three_clouds()
    for name, choice in CHOICES.items():
        options = {knob.option: knob.value for knob in choice.knobs}
        assert np.isfinite(fit_head(plane.vectors, plane.labels, 3, loss=name, options=options, steps=2).losses).all()


def test_it_opens_with_logit_adjustment_beside_cross_entropy(bench: LossBench) -> None:
    plane = three_clouds()
    for arm, name, options in (("LA τ 1", "logit_adjusted", {"tau": 1.0}), ("was CE", "cross_entropy", {})):
        head = fit_head(plane.vectors, plane.labels, 3, loss=name, options=options, steps=STEPS).head
        expected = plane.accuracy(borders(head))
        assert heights(bench.accuracy, arm) == pytest.approx({g: 100 * over.estimate for g, over in expected.items()})
        pull = logit_gradients(head, plane.vectors, plane.labels, loss=name, options=options)
        shares = gradient_shares(pull, plane.group_of)
        assert heights(bench.pull, arm) == pytest.approx({group: 100 * share for group, share in shares.items()})
    ticks = [mark["y"] for mark in bench.pull.spec["marks"] if mark["kind"] == "tick"]
    assert ticks == pytest.approx([100 * n / 248 for n in (200, 40, 8)])


def test_the_plane_shows_every_point_hollow_where_it_is_decided_wrongly(bench: LossBench) -> None:
    plane = three_clouds()
    fitted = fit_head(plane.vectors, plane.labels, 3, loss="logit_adjusted", options={"tau": 1.0}, steps=STEPS)
    dots = [mark for mark in bench.plane.spec["marks"] if mark["kind"] == "dot"]
    assert [dot["hollow"] for dot in dots] == (fitted.predict(plane.vectors) != plane.labels).tolist()
    areas = [mark["title"] for mark in bench.plane.spec["marks"] if mark["kind"] == "area"]
    assert areas == ["decided many-shot", "decided medium-shot", "decided few-shot"]


def test_what_was_is_what_was_seen_before(bench: LossBench) -> None:
    before = heights(bench.accuracy, "LA τ 1")
    bench.sliders["logit_adjusted"]["tau"].value = 2.0
    bench.work.wait()
    assert heights(bench.accuracy, "was LA τ 1") == before and "retrained in" in bench.accuracy_note.value
    assert heights(bench.accuracy, "LA τ 2")["few"] > before["few"]
    bench.sliders["logit_adjusted"]["tau"].value = 1.0
    assert heights(bench.accuracy, "LA τ 1") == before and bench.accuracy_note.value.startswith("cached")
    bench.reset.click()
    assert "was CE" in bench.accuracy.spec["alt"]


def test_controls_are_those_of_the_loss(bench: LossBench) -> None:
    bench.loss.value = "ldam"
    assert (
        bench.knobs.children == (bench.sliders["ldam"]["max_margin"], bench.scale, bench.head) and bench.head.disabled
    )
    bench.set("focal", head="linear")
    assert bench.knobs.children == (bench.sliders["focal"]["gamma"], bench.head) and not bench.head.disabled
    bench.work.wait()
    assert bench.message.value == ""


@pytest.mark.parametrize("name", ["class_balanced", "lade", "asymmetric_gcl"])
def test_a_head_is_retrained_on_features_and_tested_on_others(trained: LossBench, name: str) -> None:
    trained.set(name)
    trained.work.wait()
    train, test = trained.features, trained.test
    options = {knob.option: knob.value for knob in CHOICES[name].knobs}
    predicted = fit_head(train.vectors, train.labels, 12, loss=name, options=options, steps=STEPS).predict(test.vectors)
    expected = metrics.group_accuracy(predicted, test.labels, np.asarray(test.classes.groups))
    found = heights(trained.accuracy, trained.settings.label())
    assert found == pytest.approx({group: 100 * expected[group] for group in found}) and set(found) == {
        "all", "many", "medium", "few"
    }  # fmt: skip
    dots = {mark["key"]: mark["y"] for mark in trained.classes.spec["marks"]}
    assert dots["11"] == pytest.approx(100 * (predicted[test.labels == 11] == 11).mean())


def test_the_difference_and_its_verdict_are_those_of_metrics(trained: LossBench) -> None:
    trained.set("logit_adjusted", tau=3.0)
    trained.work.wait()
    train, test, groups = trained.features, trained.test, np.asarray(trained.test.classes.groups)
    now, was = (
        fit_head(train.vectors, train.labels, 12, loss="logit_adjusted", options={"tau": tau}, steps=STEPS).predict(
            test.vectors
        )
        for tau in (3.0, 1.0)
    )
    d = metrics.paired_difference(now, was, test.labels, groups, group="few")
    assert f"few {100 * d.estimate:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]" in trained.accuracy_note.value


def test_the_line_of_code_gives_the_same_numbers(trained: LossBench) -> None:
    given = {"loss_bench": loss_bench, "features": trained.features, "test": trained.test}
    for settings in (
        {"loss": "asymmetric_gcl", "gamma_negative": 2.0, "noise_scale": 0.3, "scale": 20, "data": "features"},
        {"loss": "class_balanced", "beta": 0.99, "head": "linear", "seed": 4, "data": "plane"},
    ):
        trained.set(**settings)
        trained.work.wait()
        again = eval(trained.code.code, given)
        again.work.wait()
        assert again.settings == trained.settings, trained.code.code
        arm = trained.settings.label()
        assert heights(again.accuracy, arm) == heights(trained.accuracy, arm) and heights(again.accuracy, arm)


def test_what_is_missing_is_said_with_what_to_pass(make_features: Make, bench: LossBench) -> None:
    bench.data.value = "cached features"
    assert "Pass loss_bench(features=" in bench.classes_state.value and bench.accuracy.spec == {}
    bench.data.value = "2-D toy"
    bench.work.wait()
    assert heights(bench.accuracy, "LA τ 1"), "back in the plane"
    train, test = of_split(make_features(decisions=False), "train"), make_features(1)
    alone = loss_bench(train).set(data="features")
    alone.work.wait()
    assert "Pass loss_bench(features, test=" in alone.accuracy_state.value and heights(alone.pull, "LA τ 1")
    wide = replace(test, vectors=np.ones((96, 5), np.float32))
    one = of_split(make_features(classes=1), "train")
    for given, message in (
        ((test,), "These are features of the test split"),
        ((train, wide), "the test features are 5 wide"),
        ((train, make_features(classes=5)), "only features of one data set"),
        ((one,), "one class only"),
    ):
        assert message in loss_bench(*given).set(data="features").classes_state.value


def test_a_loss_that_cannot_be_computed_is_a_message(make_features: Make) -> None:
    features = of_split(make_features(), "train")
    app = loss_bench(features[features.labels != 3]).set("logit_adjusted", data="features")
    app.work.wait()
    assert "counts is below 1 for 1 of 12 classes" in app.message.value and "<details>" in app.message.value
    assert app.pull.spec == {}, "no numbers of other settings beside it"
    app.loss.value = "cross_entropy"
    app.work.wait()
    assert app.message.value == "" and heights(app.pull, "CE")


def test_settings_that_are_not_there_are_refused(bench: LossBench) -> None:
    for settings, message in (
        ({"loss": "hinge"}, "loss='hinge' is not on the bench"),
        ({"loss": "focal", "tau": 1.0}, "focal has no setting tau; it has data, head, scale, seed, gamma"),
        ({"tau": 9.0}, "tau=9.0 must be a number from 0.0 to 3.0"),
        ({"loss": "class_balanced", "beta": 0.5}, "beta=0.5 is not one of 0.0, 0.9"),
        ({"loss": "ldam", "head": "linear"}, "ldam needs head='cosine'"),
        ({"data": "moon"}, "data='moon'"),
    ):
        with pytest.raises(ValueError, match=message):
            bench.set(**settings)
    assert bench.settings.label() == "LA τ 1", "nothing was changed"


def test_a_name_of_html_stays_text_on_hover(trained: LossBench) -> None:
    titles = [mark["title"] for mark in trained.classes.spec["marks"]]
    assert any(HOSTILE in title for title in titles), "the chart writes titles as text"
    htmls = (trained.message, trained.plane_note, trained.accuracy_note, trained.classes_state, trained.pull_note)
    assert not any("<img" in html.value for html in htmls)
