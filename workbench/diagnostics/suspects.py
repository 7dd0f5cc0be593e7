"""The arithmetic of `suspicious`: labels in doubt, and pairs of images that are too near each other to be two.

Sources: Northcutt, Jiang and Chuang, "Confident learning", JAIR 2021, arXiv 1911.00068, eq. 1 to 3; the law of the
nearest distance: Fisher and Tippett, "Limiting forms of the frequency distribution of the largest or smallest member of
a sample", 1928.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from workbench.features import Features

from .neighbours import majority, nearest_neighbours

EXACT = 1e-8  # 1 - cosine of vectors that differ by rounding: by one part in 7,000
_ENOUGH = 20  # distances from which a threshold can be derived
_BLOCK = 2**22  # numbers at a time


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One suspicious image; a pair of duplicates within a split is one finding, with the earlier image first."""

    kind: str  # "label", "leak" or "duplicate"
    split: str  # "train" or "test": of the image
    row: int  # of the image in the features of its split
    id: str
    label: int
    score: float  # label: probability (or share of neighbours) of suggested minus given label; else cosine
    suggested: int | None  # label: class that the image seems to show
    partner: int | None  # row of the other copy; label: of the nearest train neighbour with the suggested label
    partner_id: str | None
    partner_label: int | None
    exact: bool  # vectors equal up to rounding

    @property
    def across(self) -> bool:
        """The two copies have different labels."""
        return self.kind != "label" and self.partner_label != self.label


def confident_labels(features: Features) -> tuple[np.ndarray, np.ndarray, float]:
    """Suggested class (N,), -1 where the label stands; score (N,) = its probability minus the label's; share of errors.

    An image counts for class j when p_j reaches the mean of p_j over the images labelled j; of several such classes for
    the most probable (eq. 1, 2). Off the diagonal of these counts the label is in doubt. The share of wrong labels
    follows from the counts brought to the sizes of the labelled classes (eq. 3).
    """
    assert features.logits is not None
    labels, C = features.labels, features.logits.shape[1]
    N, size = len(labels), np.bincount(labels, minlength=C)
    rows = max(1, _BLOCK // C)
    starts = range(0, N, rows)
    own = np.concatenate([_softmax(features.logits[s : s + rows])[_at(labels[s : s + rows])] for s in starts])
    with np.errstate(invalid="ignore"):
        needed = np.bincount(labels, weights=own, minlength=C) / size
    needed[size == 0] = np.inf  # no image has this label, so none shows how sure of it one can be
    suggested, score = np.full(N, -1), np.zeros(N)
    counted, kept = np.zeros(C), np.zeros(C)
    for start in starts:
        block = slice(start, start + rows)
        share, label = _softmax(features.logits[block]), labels[block]
        # the mean of equal numbers may exceed them by rounding
        best = np.where(share >= needed * (1 - 1e-12), share, -1).argmax(1)
        sure = share[_at(best)] >= needed[best] * (1 - 1e-12)
        counted += np.bincount(label[sure], minlength=C)
        kept += np.bincount(label[sure & (best == label)], minlength=C)
        off = sure & (best != label)
        suggested[block] = np.where(off, best, -1)
        score[block] = np.where(off, share[_at(best)] - share[_at(label)], 0)
    wrong = np.divide(counted - kept, counted, where=counted > 0, out=np.zeros(C))
    return suggested, score, float((size * wrong).sum() / N)


def _at(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(len(columns)), columns


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def neighbour_labels(
    features: Features, train: Features, near: np.ndarray, leave_one_out: bool
) -> tuple[np.ndarray, np.ndarray, int]:
    """Suggested class (N,), -1 where the label stands; score (N,) = shares of neighbours; images that were not judged.

    near: (N, k) rows of train. In doubt: more than half share another label, and the image's own class holds less than
    half of the places that it could fill. A class of three can never hold ten places, so it is asked for its two only.
    """
    k = near.shape[1]
    around = train.labels[near]
    there = np.bincount(train.labels, minlength=len(train.classes))[features.labels] - leave_one_out
    winner = majority(around, np.zeros(around.shape))
    votes = (around == winner[:, None]).mean(1)
    own = (around == features.labels[:, None]).sum(1) / np.maximum(np.minimum(there, k), 1)
    doubt = (winner != features.labels) & (votes > 0.5) & (own < 0.5) & (there > 0)
    return np.where(doubt, winner, -1), np.where(doubt, votes - own, 0), int((there == 0).sum())


def nearest(stored: np.ndarray, queried: np.ndarray, k: int, *, same: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows (Q, k) of stored nearest to each query and 1 - cosine (Q, k) float64 ascending; vectors of unit norm.

    same: both are the same images, and none finds itself. Distances are |u - v|^2 / 2, which keeps the digits that
    1 - u v loses near 0.
    """
    k = min(k, len(stored) - same)
    if k < 1:
        return np.empty((len(queried), 0), dtype=np.int64), np.empty((len(queried), 0))
    itself = np.arange(len(stored)) if same else None
    found, _ = nearest_neighbours(stored, queried, k, metric="cosine", itself=itself)
    distance = np.empty(found.shape)
    rows = max(1, _BLOCK // (k * stored.shape[1]))
    for start in range(0, len(queried), rows):
        block = slice(start, start + rows)
        apart = stored[found[block]].astype(np.float64) - queried[block, None]
        distance[block] = (apart**2).sum(2) / 2
    order = np.argsort(distance, axis=1, kind="stable")
    return np.take_along_axis(found, order, 1), np.take_along_axis(distance, order, 1)


def duplicate_threshold(distance: np.ndarray) -> float:
    """Distance that one of these N nearest distances undercuts on average if none belongs to a duplicate.

    Of Weibull-distributed distances the logarithm has the quantile a + b ln(-ln(1 - q)): median and upper quartile give
    b = (Q3 - Q2) / ln 2 and a = Q2 - b ln ln 2, and 1 / N lies near a - b ln N. Duplicates, fewer than half of the
    images, sit below both. EXACT where there are fewer than 20 distances or they do not vary.
    """
    logs = np.log(np.maximum(distance, np.finfo(float).tiny))
    if len(logs) < _ENOUGH:
        return EXACT
    median, upper = np.quantile(logs, [0.5, 0.75])
    scale = (upper - median) / math.log(2)
    if scale <= 0:
        return EXACT
    return max(EXACT, math.exp(median - scale * (math.log(math.log(2)) + math.log(len(logs)))))


def label_findings(
    split: str, features: Features, train: Features, near: np.ndarray, suggested: np.ndarray, score: np.ndarray
) -> list[Finding]:
    """The images whose label is in doubt, each with the nearest of its neighbours that has the suggested label."""
    findings = []
    for row in np.flatnonzero(suggested >= 0):
        like = near[row][train.labels[near[row]] == suggested[row]]
        partner = int(like[0]) if len(like) else None
        findings.append(
            Finding(
                kind="label", split=split, row=int(row), id=str(features.ids[row]), label=int(features.labels[row]),
                score=float(score[row]), suggested=int(suggested[row]), partner=partner, exact=False,
                partner_id=None if partner is None else str(train.ids[partner]),
                partner_label=None if partner is None else int(train.labels[partner]),
            )
        )  # fmt: skip
    return findings


def pair_findings(
    kind: str, split: str, features: Features, bank: Features, near: np.ndarray, distance: np.ndarray, end: float
) -> list[Finding]:
    """Pairs at most `end` apart: within a split each once, of test and train images all that are among the nearest."""
    rows, columns = np.nonzero(distance <= end)
    pairs = {}
    for row, column in zip(rows, columns, strict=True):
        other = int(near[row, column])
        key = (min(row, other), max(row, other)) if kind == "duplicate" else (row, other)
        pairs[int(key[0]), int(key[1])] = float(distance[row, column])
    return [
        Finding(
            kind=kind, split=split, row=row, id=str(features.ids[row]), label=int(features.labels[row]),
            score=1 - apart, suggested=None, partner=other, partner_id=str(bank.ids[other]),
            partner_label=int(bank.labels[other]), exact=apart <= EXACT,
        )
        for (row, other), apart in pairs.items()
    ]  # fmt: skip
