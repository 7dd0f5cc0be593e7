"""Samplers: in which order one epoch visits the images of a long-tailed data set.

Each is a pure function of the labels and a generator. What they compute was read in the code of LIFT (shijxcs/LIFT @
661ead9), LPT (DongSky/LPT @ e84cd56) and BALLAD (gaopengcuhk/BALLAD @ 189603c); the draws are numpy's, so an order
equals theirs in its properties and not index by index. Each epoch starts afresh, where theirs carries cycles over.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

import numpy as np


class Sampler(Protocol):
    """labels (N,) int64 -> (M,) int64 indices into them, one epoch.

    progress: share of the stage's epochs that are over, in [0, 1); only "mix_balanced" reads it.
    """

    def __call__(self, labels: np.ndarray, *, generator: np.random.Generator, progress: float = 0.0) -> np.ndarray: ...


def shuffle(labels: np.ndarray, *, generator: np.random.Generator, progress: float = 0.0) -> np.ndarray:
    """Every image once, (N,)."""
    return generator.permutation(len(labels))


def class_aware(labels: np.ndarray, *, generator: np.random.Generator, progress: float = 0.0, k: int = 4) -> np.ndarray:
    """Classes in turn, k images of each, until every class had as many as the largest has: (largest * C,).

    The classes come in a new random order each round, the images of a class in a new random order each time all of them
    were used, so a class with fewer than k images repeats some. Only classes with images take part.
    """
    present, counts = np.unique(labels, return_counts=True)
    length = int(counts.max()) * len(present)
    rounds = -(-length // (k * len(present)))
    images = np.argsort(labels, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    picks = np.empty((len(present), rounds * k), dtype=np.int64)
    for index, (start, count) in enumerate(zip(starts, counts, strict=True)):
        cycles = -(-rounds * k // count)
        order = generator.permuted(np.tile(images[start : start + count], (cycles, 1)), axis=1)
        picks[index] = order.reshape(-1)[: rounds * k]
    blocks = picks.reshape(len(present), rounds, k)
    turns = generator.permuted(np.tile(np.arange(len(present)), (rounds, 1)), axis=1)  # (rounds, C)
    return blocks[turns, np.arange(rounds)[:, None]].reshape(-1)[:length]


def class_weights(counts: np.ndarray, rule: str, *, beta: float = 0.9999) -> np.ndarray:
    """Weight of one image of each class, (C,) float64; classes without images weigh 0.

    counts: (C,) images per class. rule "balanced": 1 / n; "square_root": 1 / sqrt(n), so that classes are drawn in
    proportion to sqrt(n); "effective_number": (1 - beta) / (1 - beta ** n) (Cui et al., CVPR 2019, arXiv 1901.05555).
    """
    n = np.maximum(np.asarray(counts, dtype=np.float64), 1)
    if rule == "balanced":
        weights = 1 / n
    elif rule == "square_root":
        weights = 1 / np.sqrt(n)
    elif rule == "effective_number":
        weights = (1 - beta) / -np.expm1(n * np.log(beta))
    else:
        raise ValueError(f"rule={rule!r} is not known; choose balanced, square_root or effective_number.")
    return np.where(np.asarray(counts) > 0, weights, 0.0)


def weighted(labels: np.ndarray, *, generator: np.random.Generator, progress: float = 0.0, rule: str) -> np.ndarray:
    """N draws with replacement, (N,); an image's chance is proportional to its class's `class_weights`."""
    weights = class_weights(np.bincount(labels), rule)[labels]
    return generator.choice(len(labels), size=len(labels), p=weights / weights.sum())


def mix_balanced(labels: np.ndarray, *, generator: np.random.Generator, progress: float = 0.0) -> np.ndarray:
    """N draws with replacement, (N,), from instance-balanced in the first epoch towards class-balanced in the last.

    A class is drawn with (1 - t) n / N + t / C, t = progress; then one of its images. "Progressively balanced" of Kang
    et al. (ICLR 2020, arXiv 1910.09217); the soft mix-balanced sampling of BALLAD (Ma et al., arXiv 2111.14745,
    sec. 4.3.3), which gives no formula.
    """
    counts = np.bincount(labels)
    present = np.count_nonzero(counts)
    chances = (1 - progress) / len(labels) + progress / (present * np.maximum(counts, 1))  # of one image of each class
    return generator.choice(len(labels), size=len(labels), p=chances[labels])


SAMPLERS: dict[str, Sampler] = {
    "shuffle": shuffle,
    "class_aware": class_aware,
    "class_aware_1": partial(class_aware, k=1),
    "balanced": partial(weighted, rule="balanced"),
    "square_root": partial(weighted, rule="square_root"),
    "mix_balanced": mix_balanced,
    "effective_number": partial(weighted, rule="effective_number"),
}


def epoch_order(name: str, labels: np.ndarray, *, generator: np.random.Generator) -> np.ndarray:
    """Order of one epoch by the sampler of that name, (M,) int64 indices; labels: (N,) int64, not empty."""
    if name not in SAMPLERS:
        raise ValueError(f"sampler {name!r} is not known; choose one of {', '.join(SAMPLERS)}.")
    labels = np.asarray(labels)
    if len(labels) == 0:
        raise ValueError("there are no images to sample from.")
    return SAMPLERS[name](labels, generator=generator)
