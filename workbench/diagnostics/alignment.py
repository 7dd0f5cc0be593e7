"""Two sets of vectors of the same images: how far is one the other, turned and scaled, and what of it is kept?

Sources: Schönemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 1966 (rotations and
reflections); Kornblith, Norouzi, Lee, Hinton, "Similarity of Neural Network Representations Revisited", ICML 2019,
arXiv 1905.00414 (linear CKA, its table 1); Song, Smola, Gretton, Bedo, Borgwardt, "Feature Selection via Dependence
Maximization", JMLR 2012, equation 5 (the unbiased HSIC that CKA needs where images are few).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .neighbours import nearest_neighbours


@dataclass(frozen=True, kw_only=True, eq=False)
class Alignment:
    """N pairs of points in D dimensions, both sets with mean 0 and root mean square length 1."""

    first: np.ndarray  # (N, D) float64
    second: np.ndarray  # (N, D) float64, turned and mirrored as near to the first as it goes
    agreement: float  # in [0, 1], mean inner product of the pairs; 1: the sets are congruent

    @property
    def disparity(self) -> float:
        """In [0, 1], as scipy has it: share of the mean square that is left when the second is also shrunk to fit."""
        return max(0.0, 1 - self.agreement**2)

    @property
    def distances(self) -> np.ndarray:
        """(N,) of the pairs. Their mean square is 2 - 2 x agreement, whichever set is the first."""
        return np.linalg.norm(self.first - self.second, axis=1)


def align(first: np.ndarray, second: np.ndarray) -> Alignment:
    """Orthogonal Procrustes of (N, D1) and (N, D2) float64; the narrower gets dimensions of zeros.

    Both are brought to the same spread first. The least-squares fit would shrink the second the worse it fits, and the
    distances would then depend on which of the two is the first.

    Raises:
        ValueError: all points of a set coincide.
    """
    sets = []
    width = max(first.shape[1], second.shape[1])
    for name, points in (("first", first), ("second", second)):
        points = points - points.mean(axis=0)
        size = math.sqrt((points**2).sum() / len(points))
        if size < 1e-7:  # vectors come in single precision
            raise ValueError(f"all {len(points)} points of the {name} set are the same; there is nothing to align.")
        sets.append(np.pad(points / size, ((0, 0), (0, width - points.shape[1]))))
    left, values, right = np.linalg.svd(sets[1].T @ sets[0])
    agreement = min(1.0, float(values.sum()) / len(first))
    return Alignment(first=sets[0], second=sets[1] @ (left @ right), agreement=agreement)


def linear_cka(first: np.ndarray, second: np.ndarray, *, unbiased: bool = True) -> float:
    """Similarity of (N, D1) and (N, D2) float64, 1 where one is the other turned and scaled; nan where undefined.

    As published it is biased upwards when N is not much larger than D, up to 1 for unrelated noise; unbiased it is 0 on
    average there (and may be below 0). It is computed from (D1, D2) matrices, so that N may be large. N at least 4.
    """
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    hsic = _unbiased_hsic if unbiased else _hsic
    product = hsic(first, first) * hsic(second, second)
    return hsic(first, second) / math.sqrt(product) if product > 0 else math.nan


def _hsic(x: np.ndarray, y: np.ndarray) -> float:
    """Of linear kernels, up to a factor that depends on N only; x and y centred."""
    return float(((x.T @ y) ** 2).sum())


def _unbiased_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """The same without the diagonals of the kernels K = x x^T and L = y y^T (Song et al., eq. 5)."""
    n = len(x)
    own_x, own_y = (x**2).sum(axis=1), (y**2).sum(axis=1)  # the diagonals
    rows_x, rows_y = x @ x.sum(axis=0) - own_x, y @ y.sum(axis=0) - own_y  # K 1 and L 1
    trace = ((x.T @ y) ** 2).sum() - own_x @ own_y  # of K L
    rest = rows_x.sum() * rows_y.sum() / ((n - 1) * (n - 2)) - 2 * rows_x @ rows_y / (n - 2)
    return float(trace + rest) / (n * (n - 3))


def neighbours_kept(first: np.ndarray, second: np.ndarray, k: int) -> np.ndarray:
    """(N,) share of each image's k nearest neighbours in the first that are so in the second; unit vectors, float32."""
    itself = np.arange(len(first))
    keys = []  # of a neighbour of a row
    for vectors in (first, second):
        found = nearest_neighbours(vectors, vectors, k, metric="cosine", itself=itself)[0]
        keys.append(found + itself[:, None] * len(first))
    return np.isin(*keys).mean(axis=1)


def unit_vectors(name: str, vectors: np.ndarray) -> np.ndarray:
    """(N, D) float32 of length 1."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError(
            f"{int((lengths == 0).sum())} vectors {name} are zero and have no direction; leave these images out of "
            "both: features[rows]."
        )
    return (vectors / lengths).astype(np.float32)
