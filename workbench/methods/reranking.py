"""The arithmetic of HLC: images mixed with sentences, scores from weighted descriptions, candidates ranked again.

"Hierarchical Long-tailed Classification with Visual Language Models", anonymous submission, eqs. 2, 4 and 5 and
Algorithm 1. Corrected: Algorithm 1's `v.norm(...)` is the length of v, where v / |v| is meant; the factor 1/M of eq. 5
and of Algorithm 1 is left out, as the softmax over the descriptions already makes a mean.

Shapes throughout: B images, C classes, M descriptions of a class, K candidates of an image, E the joint width. Vectors
called unit have length 1 in E.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Weighting = Literal["softmax", "raw", "uniform"]
WEIGHTINGS = ("softmax", "raw", "uniform")
TILE = 8  # images that are compared with the descriptions of one class at once
FEW = 16  # up to 16 K classes, comparing images with all descriptions is as fast as picking those of the candidates


def draw_balanced(labels: Tensor, count: int) -> Tensor:
    """Class-balanced draws with replacement from torch's generator of the device.

    labels: (S,) int64, classes of sentences -> (count,) int64 in 0..S-1: a class uniform among those that have
    sentences, then one of its sentences uniform.
    """
    weights = torch.bincount(labels).double().reciprocal()[labels]  # (S,) 1 / sentences of the class
    return torch.multinomial(weights, count, replacement=True)


def mix(features: Tensor, order: Tensor, kept: float) -> Tensor:
    """Shared-feature-space mixup, eq. 2. features: (R, E), order: (R,) a permutation, kept: lambda -> (R, E)."""
    return kept * features + (1 - kept) * features[order]


def mixed_cross_entropy(logits: Tensor, labels: Tensor, order: Tensor, kept: float) -> Tensor:
    """Cross-entropy against the labels mixed as the features were. logits: (R, C), labels: (R,) -> scalar, mean."""
    own, other = F.cross_entropy(logits, labels), F.cross_entropy(logits, labels[order])
    return kept * own + (1 - kept) * other


def description_weights(importance: Tensor, described: Tensor, weighting: Weighting) -> Tensor:
    """W_llm as it is used: importance (C, M) float, described (C, M) bool -> (C, M), 0 where there is no description.

    softmax: over the descriptions of a class (Algorithm 1). raw: as they are (eq. 5). uniform: their mean, as in VCD.
    """
    if weighting == "raw":
        return importance * described
    chosen = importance if weighting == "softmax" else torch.zeros_like(importance)
    return chosen.masked_fill(~described, -torch.inf).softmax(1)


def description_scores(features: Tensor, descriptions: Tensor, weights: Tensor) -> Tensor:
    """Weighted cosines with all classes, eq. 5.

    unit features (B, E), unit descriptions (C, M, E), weights (C, M) -> (B, C). The weighted sum is linear in the
    descriptions, so they are added first and compared once per class.
    """
    return features @ torch.einsum("cm,cme->ce", weights, descriptions).T


def candidate_scores(features: Tensor, descriptions: Tensor, weights: Tensor, candidates: Tensor) -> Tensor:
    """`description_scores` of each image's candidates (B, K) int64 alone -> (B, K)."""
    K, C = candidates.shape[1], len(descriptions)
    if C <= FEW * K:
        return description_scores(features, descriptions, weights).gather(1, candidates)
    vectors = torch.bmm(weights[:, None], descriptions)[:, 0]  # (C, E)
    # one place of the candidates at a time: (B, E) stays in the cache, (B, K, E) would not, and is three times slower
    return torch.stack([(vectors.index_select(0, place) * features).sum(1) for place in candidates.unbind(1)], 1)


def description_matches(features: Tensor, descriptions: Tensor, candidates: Tensor) -> Tensor:
    """Cosine of each image with each description of its candidates.

    unit features (B, E), unit descriptions (C, M, E), candidates (B, K) int64 -> (B, K, M).
    """
    (B, K), (C, M, E) = candidates.shape, descriptions.shape
    if C <= FEW * K:
        matches = (features @ descriptions.reshape(C * M, E).T).view(B, C, M)
        return matches.gather(1, candidates[:, :, None].expand(-1, -1, M))
    # Copying M descriptions per candidate, (B, K, M, E), would take longer than comparing them. So pairs of image and
    # candidate are sorted by class, and each class compares its descriptions with its images in tiles of TILE rows.
    classes, pairs = candidates.reshape(-1).sort(stable=True)  # (B*K,)
    counts = torch.bincount(classes, minlength=C)  # (C,) pairs of each class
    tiles = (counts + TILE - 1) // TILE
    first_pair, first_tile = counts.cumsum(0) - counts, tiles.cumsum(0) - tiles
    rank = torch.arange(B * K, device=classes.device) - first_pair[classes]  # of a pair among those of its class
    place = first_tile[classes] * TILE + rank  # its row among those of all tiles
    owners = torch.repeat_interleave(torch.arange(C, device=classes.device), tiles)  # (tiles,) their classes
    rows = place.new_zeros(len(owners) * TILE)  # image of each row; those that stay empty take image 0 and are not read
    rows[place] = pairs // K
    tiled = features.index_select(0, rows).view(-1, TILE, E)
    compared = torch.bmm(tiled, descriptions.index_select(0, owners).transpose(1, 2))  # (tiles, TILE, M)
    matches = features.new_empty(B * K, M)
    matches[pairs] = compared.reshape(-1, M).index_select(0, place)
    return matches.view(B, K, M)


def reranked(logits: Tensor, candidates: Tensor, scores: Tensor) -> Tensor:
    """Log-probabilities after re-ranking, whose argmax is the candidate of the largest score.

    The candidates share the probability that the coarse classifier gave them, by a softmax over their scores; every
    other class keeps its own. Algorithm 1 gives the decision alone; this is our reading of it as a probability. The
    decision is the same: the K candidates hold at least K times what any other class has, and the best of them gets at
    least 1/K of that, so no other class exceeds it.

    Args:
        logits: (B, C) of the coarse classifier, adjusted.
        candidates: (B, K) int64, the K classes of the largest logits.
        scores: (B, K) of these, scaled.

    Returns:
        (B, C), logs of probabilities that sum to 1.
    """
    coarse = logits.log_softmax(1)
    together = coarse.gather(1, candidates).logsumexp(1, keepdim=True)  # (B, 1)
    return coarse.scatter(1, candidates, together + scores.log_softmax(1))
