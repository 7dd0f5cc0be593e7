"""Heads against recorded values of LIFT, LPT and GNM-PT, their initialisations, and post-hoc changes.

Left out of the recorded cases: the cross-modal head (no class here computes it), and the initialisations from text,
which belong to the text tower.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from workbench import heads
from workbench.heads import HEADS, CosineHead, LinearHead, NormalisedLinear


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("case_id", "name", "scale"),
    [
        ("linear", "linear", 1.0),
        ("l2normed", "l2_normalised", 1.0),
        ("layernormed", "layer_normalised", 1.0),
        ("cosine_s25.0", "cosine", 25.0),
        ("cosine_s30.0", "cosine", 30.0),
        ("lpt_normed", "cosine", 1.0),
        ("gnm_normed", "cosine", 1.0),
    ],
)
def test_a_head_and_its_gradients_equal_the_authors_code(
    golden: Callable, generator: torch.Generator, case_id: str, name: str, scale: float
) -> None:
    case = golden(case_id)
    head = heads.create_head(name, 16, 7, scale=scale, generator=generator).double()
    head.initialise(case.tensor("in.weight"), normalise=False)
    if isinstance(head, LinearHead):
        head.bias.data.copy_(case.tensor("in.bias"))
    features = case.tensor("in.x").requires_grad_()
    logits, cosine = head(features)
    logits.backward(case.tensor("in.upstream_grad"))
    case.check(logits, f"out.{case_id}.logits")
    assert (cosine is not None) == head.has_cosine
    if cosine is not None:
        torch.testing.assert_close(scale * cosine, logits)
    assert features.grad is not None and head.weight.grad is not None
    rows = [0, 1, 2, 4]  # row 3 is a zero feature, whose gradient is the inverse of the normalisation's epsilon
    recorded = case.arrays[f"out.{case_id}.grad_x"][rows]
    np.testing.assert_allclose(features.grad[rows], recorded, case.rtol, case.atol)
    case.check(head.weight.grad, f"out.{case_id}.grad_weight")
    if isinstance(head, LinearHead):
        case.check(head.bias.grad, "out.linear.grad_bias")


@pytest.mark.parametrize("name", HEADS)
def test_heads_start_with_random_unit_rows_from_their_generator(golden: Callable, name: str) -> None:
    case = golden("head_init_norms")
    first, again, other = (
        heads.create_head(name, 16, 7, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    case.check(first.weight.norm(dim=1), "out.init.cosine_norms")
    case.check(first.weight.norm(dim=1), "out.init.lpt_norms")
    assert torch.equal(first.weight, again.weight) and not torch.equal(first.weight, other.weight)
    assert not isinstance(first, LinearHead) or not first.bias.any()


def test_the_cosine_head_of_the_reference_report(generator: torch.Generator) -> None:
    head = CosineHead(4, 3, scale=25.0, generator=generator)
    head.initialise(np.array([[1, 0, 0, 0], [0, 2, 0, 0], [1, 1, 1, 1]]))
    logits, cosine = head(torch.tensor([[1.0, 2, 3, 4], [0, -1, 1, 0.5]]))
    expected = [[4.564355, 9.128709, 22.821773], [0, -16.666667, 4.166667]]
    np.testing.assert_allclose(logits.detach(), expected, atol=1e-5)
    assert cosine is not None and cosine.abs().max() <= 1.0


def test_class_means_and_linear_probe_initialise_as_in_lift(golden: Callable, generator: torch.Generator) -> None:
    for name, start in (("class_mean", heads.class_means), ("linear_probe", heads.linear_probe)):
        case = golden(f"init_{name}")
        head = CosineHead(16, 7, generator=generator)
        head.initialise(start(case.arrays["in.feats"], case.arrays["in.labels"], 7))
        np.testing.assert_allclose(head.weight.detach(), case.arrays[f"out.{name}.weight"], max(case.rtol, 1e-5), 1e-6)


def test_class_means_are_means_and_keep_the_kind_of_float() -> None:
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]])
    means = heads.class_means(features, torch.tensor([1, 1, 0]), 2)
    torch.testing.assert_close(means, torch.tensor([[0.0, 5.0], [2.0, 0.0]]))


def test_a_linear_probe_of_two_classes_has_two_opposite_rows(rng: np.random.Generator) -> None:
    features = rng.normal(size=(20, 3)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.int64)
    weight = heads.linear_probe(features, labels, 2)
    assert weight.shape == (2, 3) and torch.equal(weight[0], -weight[1]) and weight[1, 0] > 0


def test_a_logit_adjusted_probe_is_scikit_learns_on_balanced_classes_and_optimal_on_others(
    rng: np.random.Generator,
) -> None:
    centres = rng.normal(size=(4, 6))
    labels = np.repeat(np.arange(4), 12)
    features = (centres[labels] + rng.normal(size=(48, 6))).astype(np.float32)
    plain = LogisticRegression(fit_intercept=False).fit(features, labels).coef_  # a constant prior changes nothing
    np.testing.assert_allclose(heads.linear_probe(features, labels, 4, logit_adjusted=True), plain, atol=2e-3)
    labels = np.r_[np.repeat(np.arange(3), 40), 3, 3]
    features = (centres[labels] + rng.normal(size=(122, 6))).astype(np.float32)
    weight = heads.linear_probe(features, labels, 4, logit_adjusted=True).numpy()
    logits = features @ weight.T + np.log(np.bincount(labels) / len(labels))
    gradient = (softmax(logits, axis=1) - np.eye(4)[labels]).T @ features + weight
    assert np.abs(gradient).max() / len(labels) < 2e-4


def test_a_head_that_does_not_fit_names_both_sizes(generator: torch.Generator) -> None:
    head = LinearHead(4, 3, generator=generator)
    with pytest.raises(ValueError, match=re.escape("(3, 5) do not fit this head of (classes, width) (3, 4)")):
        head.initialise(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="width 5 do not fit this head of width 4"):
        head(torch.zeros(2, 5))
    with pytest.raises(RuntimeError, match=r"\[2, 4\].*\[3, 4\]"):
        head.load_state_dict(LinearHead(4, 2, generator=generator).state_dict())
    with pytest.raises(
        ValueError, match="'mlp' is not known; choose one of linear, l2_normalised, layer"
    ):
        heads.create_head("mlp", 4, 3, generator=generator)
    with pytest.raises(ValueError, match="scale=0"):
        CosineHead(4, 3, scale=0.0, generator=generator)


def test_classes_without_features_are_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("1 of 3 classes have no image (the first: [1])")):
        heads.class_means(np.ones((2, 4), np.float32), np.array([0, 2]), 3)
    with pytest.raises(ValueError, match=r"labels run from 0 to 3, outside 0..2"):
        heads.linear_probe(np.ones((2, 4), np.float32), np.array([0, 3]), 3)


def test_a_zero_feature_has_finite_outputs(generator: torch.Generator) -> None:
    for head in (CosineHead(4, 3, generator=generator), NormalisedLinear(4, 3, generator=generator)):
        logits, _ = head(torch.zeros(2, 4))
        assert not logits.any()


def test_heads_can_be_counted_on_the_meta_device() -> None:
    with torch.device("meta"):
        head = LinearHead(768, 365, generator=torch.Generator("cpu"))
    assert sum(parameter.numel() for parameter in head.parameters()) == 768 * 365 + 365


def test_logit_adjustment_subtracts_the_log_prior() -> None:
    logits, counts = torch.tensor([[1.0, 2.0, 3.0]]), np.array([70, 20, 10])
    expected = logits - 0.5 * torch.tensor([0.7, 0.2, 0.1]).log()
    torch.testing.assert_close(heads.adjust_logits(logits, counts, tau=0.5), expected)
    np.testing.assert_allclose(heads.adjust_logits(logits.numpy(), counts, tau=0.5), expected, rtol=1e-6)
    assert torch.equal(heads.adjust_logits(logits, counts, tau=0.0), logits)


def test_logit_adjustment_towards_a_target_is_bayes_rule(rng: np.random.Generator) -> None:
    likelihood = rng.dirichlet(np.ones(4), size=6)  # p(x | y) up to a factor per image
    prior, target = np.array([0.6, 0.2, 0.1, 0.1]), np.array([0.1, 0.1, 0.3, 0.5])
    adjusted = heads.adjust_logits(np.log(likelihood * prior), prior * 1000, target_prior=target)
    np.testing.assert_allclose(adjusted, np.log(likelihood * target), rtol=1e-12)
    logits = np.log(likelihood * prior)
    np.testing.assert_allclose(heads.adjust_logits(logits, prior * 1000, tau=2.0, target_prior=prior), logits)
    uniform = heads.adjust_logits(logits, prior * 1000, target_prior=np.ones(4))
    expected = F.softmax(torch.from_numpy(heads.adjust_logits(logits, prior * 1000)), dim=1)
    torch.testing.assert_close(F.softmax(torch.from_numpy(uniform), dim=1), expected)
    absent = heads.adjust_logits(logits, prior * 1000, tau=0.0, target_prior=[1, 1, 0, 1])
    assert np.isneginf(absent[:, 2]).all() and np.array_equal(absent[:, [0, 1, 3]], logits[:, [0, 1, 3]])


def test_stored_half_precision_logits_are_adjusted_in_full_precision() -> None:
    stored = np.array([[1.0, 2.0]], np.float16)
    assert heads.adjust_logits(stored, [9, 1]).dtype == np.float32
    assert heads.adjust_logits(torch.from_numpy(stored), [9, 1]).dtype == torch.float32


def test_logit_adjustment_refuses_what_has_no_prior() -> None:
    with pytest.raises(ValueError, match=re.escape("1 of 2 classes (the first: [1])")):
        heads.adjust_logits(np.zeros((1, 2)), [5, 0])
    with pytest.raises(ValueError, match=re.escape("counts has shape (3,), expected (2,)")):
        heads.adjust_logits(np.zeros((1, 2)), [5, 1, 1])
    with pytest.raises(ValueError, match="target_prior must be"):
        heads.adjust_logits(np.zeros((1, 2)), [5, 1], target_prior=[0, 0])
    with pytest.raises(ValueError, match="tau=-1"):
        heads.adjust_logits(np.zeros((1, 2)), [5, 1], tau=-1)


def test_tau_normalisation_rescales_rows() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.0, 0.5], [0.0, 0.0]])
    torch.testing.assert_close(heads.tau_normalise(weight, 0.0), weight)
    torch.testing.assert_close(heads.tau_normalise(weight, 1.0), torch.tensor([[0.6, 0.8], [0.0, 1.0], [0.0, 0.0]]))
    np.testing.assert_allclose(heads.tau_normalise(weight.numpy(), 2.0)[0], [3 / 25, 4 / 25], rtol=1e-6)
