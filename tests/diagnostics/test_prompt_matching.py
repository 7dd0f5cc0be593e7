"""Prompt matching: the recorded histogram, planted clusters, prompts that nobody matches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from workbench.diagnostics.prompt_matching import prompt_matching
from workbench.features import Features

Make = Callable[..., Features]


def with_index(make: Make, index: np.ndarray, labels: np.ndarray, **options: Any) -> Features:
    features = make(0, counts=(50,) * (labels.max() + 1), images=tuple(np.bincount(labels).tolist()))
    return replace(features, extras={"prompt_index": index[np.argsort(labels, kind="stable")], **options})


def test_proportions_are_the_recorded_ones(golden: Callable[[str], Any], make_features: Make) -> None:
    case = golden("prompt_match_histogram")
    index, labels = case.arrays["in.topk_ids"], case.arrays["in.label"]
    found = prompt_matching(with_index(make_features, index, labels), num_prompts=20, shuffles=5)
    case.check(found.proportions.transpose(1, 0, 2), "out.hist")  # theirs: rank, class, prompt


def test_planted_clusters_tell_all_about_the_class_and_chance_tells_nothing(make_features: Make) -> None:
    labels = np.repeat(np.arange(8), 20)
    planted = with_index(make_features, np.stack([labels, (labels + 1) % 8], 1), labels)
    found = prompt_matching(planted, num_prompts=10)
    assert found.information == pytest.approx(3.0)  # log2 of 8 classes
    assert found.p_value == pytest.approx(1 / 201) and found.shuffled.mean() < 0.6
    assert found.live.tolist() == [True] * 8 + [False] * 2 and "2 of 10 prompts are never matched" in found.caption()
    assert found.by_group["all"][0, :8] == pytest.approx(np.full(8, 1 / 8))
    by_chance = with_index(make_features, np.random.default_rng(3).integers(0, 10, (160, 2)), labels)
    found = prompt_matching(by_chance, num_prompts=10)
    assert found.p_value > 0.05 and found.information == pytest.approx(found.shuffled.mean(), abs=0.15)


def test_the_layer_of_methods_that_match_in_several_is_chosen(make_features: Make) -> None:
    labels = np.repeat(np.arange(4), 10)
    index = np.stack([np.stack([labels, labels], 1), np.zeros((40, 2), int)], 1)  # (N, layers, k)
    features = with_index(make_features, index, labels, prompt_similarity=np.zeros((40, 2, 6), np.float32))
    assert prompt_matching(features).information == 0 and prompt_matching(features, layer=0).information == 2
    with pytest.raises(ValueError, match="in 2 layers"):
        prompt_matching(features, layer=5)


def test_features_without_matched_prompts_say_what_to_do(make_features: Make) -> None:
    with pytest.raises(ValueError, match="such as lpt or lt_dpt"):
        prompt_matching(make_features())
    labels = np.repeat(np.arange(2), 3)
    features = with_index(make_features, np.full((6, 2), 7), labels)
    with pytest.raises(ValueError, match="pass num_prompts="):
        prompt_matching(features)
    with pytest.raises(ValueError, match=r"outside 0\.\.4"):
        prompt_matching(features, num_prompts=5)
