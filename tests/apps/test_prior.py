"""Test-time prior: bars, differences and calibration are those of lower rooms, and code gives them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from workbench import metrics
from workbench.apps.prior import Prior, prior
from workbench.diagnostics.calibration import calibration
from workbench.features import Features
from workbench.heads import LinearHead, adjust_logits, tau_normalise

from .conftest import HOSTILE

Make = Callable[..., Features]


@pytest.fixture
def shown(make_features: Make) -> Prior:
    return prior(make_features(images=20))


@pytest.fixture
def with_head(make_features: Make) -> Prior:
    """Logits of a linear head whose rows are longer for frequent classes."""
    features = make_features(images=20)
    head = LinearHead(6, 12, generator=torch.Generator().manual_seed(0))
    means = np.array([features.vectors[features.labels == c].mean(0) for c in range(12)])
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(means * np.linspace(1.0, 0.2, 12)[:, None]))
        head.bias += 0.3
    logits = head(torch.from_numpy(features.vectors.copy()))[0].detach().numpy()
    features = replace(features, logits=logits, predicted=logits.argmax(1), confidence=softmax(logits, axis=1).max(1))
    return prior(features, SimpleNamespace(head=head))  # type: ignore[arg-type]


def heights(chart: object, arm: str) -> dict[str, float]:
    bars = [mark for mark in chart.spec["marks"] if mark["kind"] == "bar"]  # type: ignore[attr-defined]
    return {bar["key"]: bar["y"] for bar in bars if bar["title"].startswith(f"{arm},")}


def in_percent(predicted: np.ndarray, features: Features) -> dict[str, float]:
    found = metrics.group_accuracy(predicted, features.labels, np.asarray(features.classes.groups))
    return {group: 100 * found[group] for group in ("all", "many", "medium", "few")}


def test_bars_move_with_tau_from_those_of_the_model(shown: Prior) -> None:
    features = shown.features
    logits, counts = features.logits.astype(np.float32), features.classes.counts
    for tau in (0.0, 0.5, 2.0):
        shown.tau.value = tau
        expected = adjust_logits(logits, counts, tau=tau).argmax(1)
        assert shown.decisions.tolist() == expected.tolist()
        assert heights(shown.accuracy, "adjusted") == pytest.approx(in_percent(expected, features))
        assert heights(shown.accuracy, "as it is") == pytest.approx(in_percent(logits.argmax(1), features))
    few = np.asarray(features.classes.groups) == "few"
    assert few[shown.decisions].mean() > few[logits.argmax(1)].mean(), "more decisions for rare classes"
    intervals = [mark for mark in shown.accuracy.spec["marks"] if mark["kind"] == "interval"]
    assert len(intervals) == 8


@pytest.mark.parametrize("target", ["balanced", "training", "test", "reversed"])
@pytest.mark.parametrize("source", ["training", "balanced"])
def test_targets_and_sources_are_priors_of_the_classes(shown: Prior, target: str, source: str) -> None:
    counts = shown.features.classes.counts
    priors = {
        "balanced": np.ones(12),
        "training": counts,
        "test": np.full(12, 20),
        "reversed": counts[::-1],  # the classes are in order of their counts
    }
    shown.set(target=target, source=source, tau=1.0)
    logits = shown.features.logits.astype(np.float32)
    expected = adjust_logits(logits, priors[source], tau=1.0, target_prior=priors[target]).argmax(1)
    assert shown.decisions.tolist() == expected.tolist()
    accuracy = metrics.class_accuracies(expected, shown.features.labels, 12)
    weighted = (accuracy * priors[target]).sum() / priors[target].sum()
    assert f": {100 * weighted:.1f} % right" in shown.expected.value


def test_the_verdict_is_of_the_paired_difference(shown: Prior) -> None:
    shown.tau.value = 3.0
    features, groups = shown.features, np.asarray(shown.features.classes.groups)
    d = metrics.paired_difference(shown.decisions, features.predicted, features.labels, groups, group="many")
    verdict = {"first better": "better", "second better": "worse"}.get(d.verdict, d.verdict)
    said = f"<td>many</td><td>{100 * d.estimate:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}] {verdict}</td>"
    assert said in shown.verdicts.value


def test_temperature_changes_calibration_alone(shown: Prior) -> None:
    shown.tau.value = 0.0
    decisions, before = shown.decisions, heights(shown.calibration, "adjusted")
    assert before == heights(shown.calibration, "as it is")
    shown.temperature.value = 2.0
    assert shown.decisions.tolist() == decisions.tolist()
    logits = shown.features.logits.astype(np.float32)
    warm = replace(shown.features, predicted=decisions, confidence=softmax(logits / 2, axis=1).max(1))
    table = calibration(warm, draws=2).table
    expected = {group: 100 * row.ece.estimate for (_, group), row in table.items()}
    assert heights(shown.calibration, "adjusted") == pytest.approx(expected, abs=1e-3)
    assert heights(shown.calibration, "as it is") == before


def test_normalising_needs_the_head_and_says_so(shown: Prior, with_head: Prior) -> None:
    assert shown.tau_norm.disabled and "pass the trained method" in shown.note.value
    with pytest.raises(ValueError, match="pass the trained method"):
        shown.set(tau_norm=1.0)
    assert not with_head.tau_norm.disabled and with_head.note.value == ""
    with_head.set(tau=0.0, tau_norm=1.0)
    weight = tau_normalise(with_head.method.head.weight.detach(), 1.0).numpy()
    expected = (with_head.features.vectors @ weight.T).argmax(1)
    assert with_head.decisions.tolist() == expected.tolist()
    assert heights(with_head.accuracy, "adjusted")["few"] > heights(with_head.accuracy, "as it is")["few"]


def test_the_line_of_code_gives_the_same_numbers(with_head: Prior) -> None:
    given = {"prior": prior, "features": with_head.features, "method": with_head.method}
    for settings in (
        {},
        {"tau": 0.35, "target": "reversed", "temperature": 1.55},
        {"tau": 0.0, "tau_norm": 0.6, "source": "balanced"},
    ):
        with_head.set(**settings)
        again = eval(with_head.code.code, given)
        assert again.accuracy.spec == with_head.accuracy.spec, with_head.code.code
        assert again.calibration.spec == with_head.calibration.spec and again.code.code == with_head.code.code
    with_head.reset.click()
    assert with_head.code.code == "prior(features, method).set(tau=1.0, target='balanced')"


def test_what_cannot_be_adjusted_says_what_to_do(make_features: Make) -> None:
    app = prior(make_features(decisions=False))
    assert "hold no logits" in app.message.value and "per_class=" in app.message.value
    app.tau.value = 2.0
    assert "hold no logits" in app.message.value
    features = make_features()
    counts = features.classes.counts.copy()
    counts[5] = 0
    empty = prior(replace(features, classes=replace(features.classes, counts=counts)))
    assert "counts is below 1 for 1 of 12 classes" in empty.message.value and "<details>" in empty.message.value
    empty.source.value = "balanced"
    assert empty.message.value == "" and heights(empty.accuracy, "adjusted")
    one = prior(make_features(classes=1))
    assert heights(one.accuracy, "adjusted") and "not testable" in one.verdicts.value


def test_decisions_that_rounding_changed_are_counted(make_features: Make) -> None:
    features = make_features()
    predicted = features.predicted.copy()
    predicted[:3] = (features.logits[:3].argmax(1) + 1) % 12
    app = prior(replace(features, predicted=predicted))
    assert "3 of 96 decisions differ from the model" in app.note.value


def test_settings_that_are_not_there_are_refused(shown: Prior) -> None:
    for settings, message in (
        ({"bias": 1}, "bias cannot be set; choose from tau, target"),
        ({"target": "moon"}, "target='moon' is not known"),
        ({"tau": -1.0}, "tau=-1.0 must be from 0 to 3"),
    ):
        with pytest.raises(ValueError, match=message):
            shown.set(**settings)


def test_many_logits_wait_for_the_release_of_a_slider(make_features: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prior(make_features()).tau.continuous_update
    monkeypatch.setattr("workbench.apps.prior.LIVE", 1000)
    app = prior(make_features())
    assert not app.tau.continuous_update and "act when released" in app.note.value


def test_a_name_of_html_is_not_shown_as_html(shown: Prior) -> None:
    assert HOSTILE in shown.features.classes.names
    for html in (shown.note, shown.message, shown.verdicts, shown.expected, shown.sure):
        assert "<img" not in html.value
