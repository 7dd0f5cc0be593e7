"""Cached logits adjusted after training: the same as the head and `adjust_logits` give from scratch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from workbench.data import Classes
from workbench.features import Features, PostHoc, confidence
from workbench.heads import CosineHead, LinearHead, adjust_logits, tau_normalise

COUNTS = np.array([300, 80, 40, 10, 3])


@pytest.fixture
def head() -> LinearHead:
    head = LinearHead(6, 5, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        head.weight *= torch.tensor([4.0, 3.0, 2.0, 1.0, 0.5])[:, None]
        head.bias += torch.tensor([1.0, 0.5, 0.0, -0.5, -1.0])
    return head


@pytest.fixture
def features(head: LinearHead) -> Features:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 6)).astype(np.float32)
    logits = head(torch.from_numpy(vectors))[0].detach().numpy()
    return Features(
        vectors=vectors,
        logits=logits.astype(np.float16),
        predicted=logits.argmax(1),
        confidence=softmax(logits, axis=1).max(1),
        labels=rng.integers(5, size=200),
        ids=np.array([f"{i}" for i in range(200)]),
        classes=Classes(tuple("abcde"), COUNTS),
    )


def test_nothing_changes_by_default(features: Features, head: LinearHead) -> None:
    posthoc = PostHoc(features, head)
    assert np.array_equal(posthoc.adjusted(), features.logits.astype(np.float32))
    assert posthoc.decisions.tolist() == features.predicted.tolist() and posthoc.no_normalisation == ""


def test_a_change_of_prior_is_that_of_the_heads(features: Features) -> None:
    target = np.array([1, 2, 3, 4, 0])
    found = PostHoc(features).adjusted(tau=0.8, target_prior=target)
    expected = adjust_logits(features.logits, COUNTS, tau=0.8, target_prior=target)
    np.testing.assert_allclose(found, expected)
    assert (found.argmax(1) != 4).all(), "a class that cannot come is never decided for"
    again = PostHoc(features).adjusted(tau=2.0, prior=np.ones(5), target_prior=np.ones(5))
    np.testing.assert_allclose(again, features.logits.astype(np.float32), atol=1e-5)


@pytest.mark.parametrize("exponent", [0.3, 1.0, 2.0])
def test_normalised_logits_are_those_of_the_normalised_weight_without_bias(
    features: Features, head: LinearHead, exponent: float
) -> None:
    weight = tau_normalise(head.weight.detach(), exponent).numpy()
    found = PostHoc(features, head).adjusted(normalise=exponent)
    np.testing.assert_allclose(found, features.vectors @ weight.T, rtol=1e-4, atol=1e-5)


def test_it_says_why_a_head_cannot_be_normalised(features: Features, head: LinearHead) -> None:
    generator = torch.Generator().manual_seed(2)
    others = {
        "pass the trained method": None,
        "CosineHead count with unit length": CosineHead(6, 5, generator=generator),
        "it is another head": LinearHead(7, 5, generator=generator),
        "other weights": LinearHead(6, 5, generator=generator),
    }
    for message, other in others.items():
        posthoc = PostHoc(features, other)
        assert message in posthoc.no_normalisation
        with pytest.raises(ValueError, match=message):
            posthoc.adjusted(normalise=1.0)
    with pytest.raises(ValueError, match="hold no logits"):
        PostHoc(replace(features, logits=None), head)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_confidence_is_the_largest_probability(features: Features, temperature: float) -> None:
    logits = features.logits.astype(np.float32)
    before = logits.copy()
    expected = softmax(logits.astype(np.float64) / temperature, axis=1).max(1)
    np.testing.assert_allclose(confidence(logits, temperature=temperature), expected, rtol=1e-5)
    assert np.array_equal(logits, before)
    with pytest.raises(ValueError, match="must be positive"):
        confidence(logits, temperature=0.0)


def test_a_class_that_cannot_come_does_not_spoil_the_confidence() -> None:
    logits = np.array([[1.0, 1.0, -np.inf]], dtype=np.float32)
    assert confidence(logits).tolist() == [0.5]


@pytest.mark.parametrize("changes", [{}, {"tau": 0.8, "target_prior": [1, 2, 3, 4, 0]}, {"tau": 1.0, "normalise": 0.6}])
def test_decisions_in_parts_are_those_of_all_logits(
    features: Features, head: LinearHead, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    posthoc = PostHoc(features, head)
    logits = posthoc.adjusted(**changes)  # type: ignore[arg-type]
    for chunk in (7, 35, 100_000):
        monkeypatch.setattr("workbench.features.posthoc.CHUNK", chunk)
        decisions, sure = posthoc.decided(temperature=1.7, **changes)  # type: ignore[arg-type]
        assert np.array_equal(decisions, logits.argmax(1)) and decisions.dtype == np.int64
        assert np.array_equal(sure, confidence(logits, temperature=1.7)) and sure.dtype == np.float32
