"""Edits of descriptions decide as a method would that had been made with them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import workbench as wb
from workbench.methods.base import Encoded
from workbench.methods.description_edits import EditedDescriptions
from workbench.methods.hlc import HLC, HLCConfig

C, M, N, E = 12, 4, 60, 64


def hlc(**options: Any) -> HLC:
    """Random descriptions near the classes; class 1 has one description only, class 2 has two."""
    rng = torch.Generator().manual_seed(0)
    classes = wb.Classes(tuple(map(str, range(C))), np.arange(C, 0, -1) ** 2, wb.GroupRule())
    config = HLCConfig(visual="none", cross_modal=False, descriptions=M, scale=20.0, **({"candidates": 3} | options))
    method = HLC(wb.load_backbone("toybox_clip", "random"), classes, config, seed=0)
    centres = F.normalize(torch.randn(C, E, generator=rng), dim=-1)
    method.head.weight = torch.nn.Parameter(centres + 0.1 * torch.randn(C, E, generator=rng))
    method.importance = torch.nn.Parameter(torch.rand(C, M, generator=rng))
    method.described[1, 1:] = False
    method.described[2, 2:] = False
    spread = centres[:, None] + 0.3 * torch.randn(C, M, E, generator=rng)
    method.descriptions = F.normalize(spread, dim=-1) * method.described[..., None]
    return method.eval()


def images() -> Tensor:
    return torch.randn(N, E, generator=torch.Generator().manual_seed(1))


def decided(method: HLC, vectors: Tensor) -> tuple[list[int], Tensor]:
    with torch.no_grad():
        logits = method.classify(Encoded(vectors)).logits
    return logits.argmax(1).tolist(), logits.exp()


@pytest.mark.parametrize("weighting", ["softmax", "uniform", "raw"])
@pytest.mark.parametrize("candidates", [1, 3, None])
def test_edits_decide_as_a_method_with_those_descriptions(weighting: Any, candidates: int | None) -> None:
    method, vectors = hlc(weighting=weighting, candidates=candidates), images()
    edits = EditedDescriptions(method, vectors)
    before, _ = decided(method, vectors)
    assert edits.first.tolist() == edits.decisions.tolist() == before and edits.edited == []

    new = torch.randn(E, generator=torch.Generator().manual_seed(2))
    edits.silence(0, 2)
    edits.silence(2, 0)
    edits.reword(5, 1, 3 * new)
    edits.weigh(7, 3, 4.0)
    edited = copy.deepcopy(method)
    edited.described[0, 2] = edited.described[2, 0] = False
    edited.descriptions[5, 1] = F.normalize(new, dim=-1)
    with torch.no_grad():
        if weighting == "raw":
            edited.importance[7, 3] *= 4
        elif weighting == "softmax":
            edited.importance[7, 3] += np.log(4)
        else:  # weights of 1, 1, 1 and 4
            edited.config = HLCConfig(visual="none", cross_modal=False, descriptions=M, candidates=candidates)
            edited.importance.zero_()
            edited.importance[7, 3] = np.log(4)
    after, probabilities = decided(edited, vectors)
    assert edits.decisions.tolist() == after and edits.edited == [0, 2, 5, 7]
    if candidates != 1:
        assert after != before, "the edits change something, or this test shows nothing"
    for row in (0, 17):
        coarse, ranked = edits.probabilities(row)
        torch.testing.assert_close(ranked, probabilities[row], rtol=1e-4, atol=1e-6)
        assert float(coarse.sum()) == pytest.approx(1)
        torch.testing.assert_close(edits.weights(7), edited.description_weights[7])

    edits.undo()
    assert edits.decisions.tolist() == before and edits.edited == []
    torch.testing.assert_close(edits.probabilities(3)[1], decided(method, vectors)[1][3], rtol=1e-4, atol=1e-6)


def test_what_is_taken_back_is_no_edit() -> None:
    edits = EditedDescriptions(hlc(), images())
    scores = edits.scores.clone()
    edits.silence(0, 1)
    edits.weigh(0, 2, 3)
    edits.reword(0, 3, torch.ones(E))
    edits.silence(0, 1, silent=False)
    edits.weigh(0, 2, 1)
    edits.reword(0, 3, None)
    assert edits.edited == []
    torch.testing.assert_close(edits.scores, scores)


def test_contributions_add_up_to_scores_and_the_missing_are_nan() -> None:
    edits = EditedDescriptions(hlc(candidates=C), images())
    matches = edits.matches(4)
    assert matches.shape == (C, M)
    weights = torch.stack([edits.weights(int(c)) for c in edits.candidates[4]])
    torch.testing.assert_close(20 * (weights * matches.nan_to_num(9.0)).sum(1), edits.scores[4])
    of_one = matches[edits.candidates[4].tolist().index(1)]
    assert of_one.isnan().tolist() == [False, True, True, True]


def test_the_last_description_of_a_class_stays() -> None:
    edits = EditedDescriptions(hlc(), images())
    with pytest.raises(ValueError, match="keeps at least one"):
        edits.silence(1, 0)
    edits.silence(2, 1)
    with pytest.raises(ValueError, match="keeps at least one"):
        edits.silence(2, 0)
    with pytest.raises(ValueError, match="descriptions 0 to 0, not 1"):
        edits.reword(1, 1, torch.ones(E))
    with pytest.raises(ValueError, match="must be positive"):
        edits.weigh(0, 0, 0)


def test_other_methods_and_other_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="this hlc takes"):
        EditedDescriptions(hlc(), torch.ones(3, 5))
    other = wb.create_method("linear_probe", wb.load_backbone("toybox_clip", "random"), hlc().classes)
    with pytest.raises(ValueError, match="has no weighted descriptions"):
        EditedDescriptions(other, images())


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    EditedDescriptions(hlc(), images(), lambda done, total: told.append((done, total)))
    assert told == [(N, N)]
