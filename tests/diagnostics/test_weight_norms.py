"""Norms of classifier rows: by hand, what kind of classifier they act in, degenerate classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from diagnostic_examples import CLASSES, Adapted
from scipy.stats import spearmanr
from torch import nn

import workbench as wb
from workbench.diagnostics.weight_norms import weight_norms


def test_norms_group_means_and_correlation_by_hand() -> None:
    result = weight_norms(Adapted())
    expected = np.linspace(2, 1, 12)  # rows of unit length, times these
    np.testing.assert_allclose(result.norms, expected, rtol=1e-6)
    assert result.means["many"] == (pytest.approx(expected[:4].mean()), 4)
    assert result.means["few"] == (pytest.approx(expected[8:].mean()), 4)
    assert result.correlation == pytest.approx(1)
    frame = result.to_frame()
    assert frame[frame["kind"] == "class"]["norm"].tolist() == pytest.approx(expected.tolist())


def test_a_cosine_classifier_says_that_its_norms_do_nothing_and_a_linear_one_does_not(store: Callable) -> None:
    cosine = weight_norms(Adapted())
    assert not cosine.acts and "do not depend on them" in cosine.caption()
    linear: wb.Run = store("linear_probe")
    result = weight_norms(linear)
    assert result.acts and "do not depend" not in result.caption()
    weight = linear.method().head.weight.detach().numpy()
    np.testing.assert_allclose(result.norms, np.linalg.norm(weight, axis=1), rtol=1e-5)
    assert result.correlation == pytest.approx(spearmanr(result.norms, linear.classes.counts).statistic)


def test_equal_norms_have_no_correlation_and_empty_groups_no_mean() -> None:
    method = Adapted()
    with torch.no_grad():
        method.head.weight /= method.head.weight.norm(dim=1, keepdim=True)
    result = weight_norms(method)
    assert np.isnan(result.correlation) and "n/a" in result.caption()
    method.classes = wb.Classes(CLASSES.names, np.full(12, 500))
    result = weight_norms(method)
    assert np.isnan(result.means["few"][0]) and "few n/a (0 classes)" in str(result)
    result.plot().figure.canvas.draw()


def test_a_head_without_class_rows_is_refused() -> None:
    method = Adapted()
    method.head = nn.Identity()
    with pytest.raises(ValueError, match="no classifier with a row of weights"):
        weight_norms(method)
