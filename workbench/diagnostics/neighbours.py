"""Exact nearest neighbours and nearest class means, in blocks whose memory is bounded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

METRICS = ("cosine", "euclidean")
_BLOCK_BYTES = 2**28  # of one block of similarities: 580 queries against 115,846 images
_SMALL_BLOCK = 128  # queries
_SPARE = 8  # neighbours beyond k that are found in single precision and put in order in double precision


def metric_space(vectors: np.ndarray, metric: str) -> np.ndarray:
    """(M, D) float32 vectors in which the metric is a plain one: of unit norm for the cosine, unchanged otherwise."""
    if metric == "euclidean":
        return vectors
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not norms.all():
        raise ValueError(f"{int((norms == 0).sum())} vectors are zero and have no cosine; use metric='euclidean'.")
    return (vectors / norms).astype(np.float32)


def nearest_neighbours(
    stored: np.ndarray, queried: np.ndarray, k: int, *, metric: str, itself: np.ndarray | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Indices (Q, k) int64 into stored and similarities (Q, k) float64 of the k nearest, nearest first.

    Candidates are found in single precision and put in order in double precision.

    Args:
        stored: (M, D) float32; for the cosine of unit norm.
        queried: (Q, D) float32, likewise.
        k: at most M, or M - 1 with `itself`.
        metric: "cosine" (similarity: inner product) or "euclidean" (similarity: minus the distance).
        itself: (M,) int64 row of queried that each stored row is, which must not find itself; None when there is none.
        on_step: called with the queries that are done and all of them, after every block; blocks are small then, so
            that whoever waits for another thread's turn waits milliseconds.
    """
    import torch

    if metric == "euclidean":  # a common shift changes no distance, and small numbers keep more digits
        centre = stored.mean(axis=0, dtype=np.float64).astype(np.float32)
        stored, queried = stored - centre, queried - centre
    candidates = min(k + _SPARE, len(stored))
    rows = max(1, min(_BLOCK_BYTES // (4 * len(stored)), _BLOCK_BYTES // (8 * candidates * stored.shape[1])))
    if on_step is not None:
        rows = min(rows, _SMALL_BLOCK)
    bank = torch.tensor(stored)
    offset = 0 if metric == "cosine" else (bank**2).sum(dim=1) / 2  # |q - b|^2 / 2 = |q|^2 / 2 - (q b - |b|^2 / 2)
    own_place = np.full(len(queried), -1)
    if itself is not None:
        own_place[itself] = np.arange(len(stored))
    indices = np.empty((len(queried), k), dtype=np.int64)
    similarities = np.empty((len(queried), k))
    for start in range(0, len(queried), rows):
        block = slice(start, start + rows)
        query = queried[block]
        scores = torch.tensor(query) @ bank.T - offset  # (rows, M)
        own = np.flatnonzero(own_place[block] >= 0)
        scores[own, own_place[block][own]] = -np.inf
        near = torch.topk(scores, candidates, dim=1, sorted=False)
        found, exact = near.indices.numpy(), query[:, None].astype(np.float64)
        if metric == "cosine":
            exact = np.einsum("qkd,qjd->qk", stored[found].astype(np.float64), exact)
        else:
            exact = -np.linalg.norm(stored[found] - exact, axis=2)
        exact[np.isneginf(near.values.numpy())] = -np.inf
        order = np.lexsort((found, -exact), axis=1)[:, :k]
        indices[block] = np.take_along_axis(found, order, axis=1)
        similarities[block] = np.take_along_axis(exact, order, axis=1)
        if on_step is not None:
            on_step(min(start + rows, len(queried)), len(queried))
    return indices, similarities


def neighbour_purity(
    vectors: np.ndarray, labels: np.ndarray, k: int, *, metric: str = "cosine",
    on_step: Callable[[int, int], None] | None = None,
) -> np.ndarray:  # fmt: skip
    """(N,) float32 in [0, 1]: share of the k nearest other images that are of an image's own class.

    Of a class with n images it is at most (n - 1) / k.

    Args:
        vectors: (N, D) float32, not normalised.
        labels: (N,) int64 class of each.
        k: from 1 to N - 1.
        metric: "cosine" or "euclidean".
        on_step: as of `nearest_neighbours`.

    Raises:
        ValueError: a k outside of that, or vectors of length 0, which have no cosine.
    """
    if not 1 <= k < len(vectors):
        raise ValueError(f"k={k}, but purity takes 1 to {len(vectors) - 1} neighbours, the other images.")
    space = metric_space(vectors, metric)
    found, _ = nearest_neighbours(space, space, k, metric=metric, itself=np.arange(len(space)), on_step=on_step)
    return (labels[found] == labels[:, None]).mean(axis=1, dtype=np.float32)


def majority(labels: np.ndarray, similarities: np.ndarray) -> np.ndarray:
    """(Q,) class with the most neighbours; a tie goes to the larger summed similarity, then to the lower class index.

    labels: (Q, k) int64 class of each neighbour; similarities: (Q, k).
    """
    winners = np.empty(len(labels), dtype=np.int64)
    rows = max(1, 2**22 // labels.shape[1] ** 2)
    for start in range(0, len(labels), rows):
        label, similarity = labels[start : start + rows], similarities[start : start + rows]
        same = label[:, :, None] == label[:, None, :]  # (rows, k, k)
        votes, summed = same.sum(axis=2), np.where(same, similarity[:, None, :], 0).sum(axis=2)
        best = np.lexsort((label, -summed, -votes), axis=1)[:, :1]
        winners[start : start + rows] = np.take_along_axis(label, best, axis=1)[:, 0]
    return winners


def mean_scores(queried: np.ndarray, means: np.ndarray, *, metric: str) -> np.ndarray:
    """(Q, C) float64 score of each query (Q, D) at each class mean (C, D), the larger the nearer.

    A mean that is nan (a class without images) scores -inf.
    "cosine": inner product with the mean divided by its norm; "euclidean": minus the squared distance.
    """
    queried = queried.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        if metric == "cosine":
            scores = queried @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
        else:
            scores = 2 * queried @ means.T - (means**2).sum(axis=1) - (queried**2).sum(axis=1, keepdims=True)
    return np.where(np.isnan(scores), -np.inf, scores)


def nearest_mean(
    stored: np.ndarray,
    labels: np.ndarray,
    queried: np.ndarray,
    num_classes: int,
    itself: np.ndarray | None,
    metric: str,
) -> np.ndarray:
    """(Q,) class whose mean is nearest; a query that is in the bank is taken out of its own class's mean."""
    sizes = np.bincount(labels, minlength=num_classes)
    sums = np.zeros((num_classes, stored.shape[1]))
    np.add.at(sums, labels, stored)
    with np.errstate(invalid="ignore"):
        means = sums / sizes[:, None]
    own_class = np.full(len(queried), -1)
    if itself is not None:
        own_class[itself] = labels
    nearest = np.empty(len(queried), dtype=np.int64)
    rows = max(1, _BLOCK_BYTES // (8 * num_classes))
    for start in range(0, len(queried), rows):
        block = slice(start, start + rows)
        scores = mean_scores(queried[block], means, metric=metric)
        for row in np.flatnonzero(own_class[block] >= 0):
            own, vector = own_class[block][row], queried[block][row]
            with np.errstate(invalid="ignore", divide="ignore"):
                without = (sums[own] - vector) / (sizes[own] - 1) if sizes[own] > 1 else np.full_like(sums[own], np.nan)
            scores[row, own] = mean_scores(vector[None], without[None], metric=metric)[0, 0]
        nearest[block] = scores.argmax(axis=1)
    return nearest
