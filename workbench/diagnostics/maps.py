"""Two-dimensional maps of vectors, and how much of them to believe: LDA, PCA, t-SNE, UMAP.

Sources: Fisher, Annals of Eugenics 1936 (LDA); Venna and Kaski, "Neighborhood preservation in nonlinear projection
methods", ICANN 2001 (trustworthiness); van der Maaten and Hinton, JMLR 2008 (t-SNE); McInnes et al., 2018, arXiv
1802.03426 (UMAP). The computing is scikit-learn's and umap-learn's.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .base import percent
from .neighbours import metric_space, nearest_neighbours

if TYPE_CHECKING:
    from workbench.features import Features

NONLINEAR = ("tsne", "umap")
LIMITS = {"lda": 25_000, "pca": 25_000, "tsne": 3_000, "umap": 5_000}  # images that a map takes some seconds for
FEWEST = 6  # images of a t-SNE or UMAP map
_FIRST_PCA = 50  # dimensions that t-SNE starts from, as its authors do


@dataclass(frozen=True, kw_only=True)
class Separation:
    """Decisions of the fitted LDA, in all its dimensions, not only the two drawn. Accuracies in [0, 1]."""

    clusters: int  # of what LDA was told to separate
    fitted: int  # images it was fitted on
    held_out: int  # images it was not fitted on; 0 where none could be held out
    accuracy: float  # on the images held out; nan where there are none
    accuracy_fitted: float  # on those it was fitted on
    permuted: np.ndarray  # (P,) accuracy on the images held out when labels are shuffled before fitting
    permuted_fitted: np.ndarray  # (P,) likewise on those it was fitted on

    def caption(self, what: str) -> str:
        """Two lines; what: "classes" or "clusters", which LDA was told to separate."""
        fitted = f"LDA fitted to separate {self.clusters} {what} on {self.fitted} images"
        if not self.held_out:
            return f"{fitted}, the same that are shown:\nit separates anything it is fitted on, so this is no evidence"
        mean = f" (mean of {len(self.permuted)})" if len(self.permuted) else ""
        return (
            f"{fitted}; the other {self.held_out} are shown\n"
            f"of these it puts right {percent(self.accuracy)} %, with shuffled labels {_average(self.permuted)} %{mean}"
        )

    def fit(self) -> str:
        """The same accuracies where nothing was held out: how much of them is the fit itself."""
        shuffled = _average(self.permuted_fitted)
        return f"on the images it was fitted on {percent(self.accuracy_fitted)} %, with shuffled labels {shuffled} %"


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How far neighbours on the map are neighbours in the D dimensions."""

    k: int
    trustworthiness: float  # in [0, 1]; 1: no image among the k nearest on the map is a stranger
    overlap: float  # in [0, 1]: share of the k nearest in D dimensions that are among the k nearest on the map

    def caption(self) -> str:
        kept = f"trustworthiness {self.trustworthiness:.2f}, {self.k}-NN overlap {self.overlap:.2f} (1: all kept)"
        return f"{kept}\ndistances between clusters, their sizes and densities mean little"


def image_codes(several: Sequence[Features]) -> tuple[np.ndarray, np.ndarray]:
    """(N,) int64, equal for the same image (by id, manifest and split); (N,) int64 manifest and split of each row."""
    keys = [f"{f.source.get('manifest')} {f.source.get('split')}" for f in several]
    of_data = np.repeat(np.unique(keys, return_inverse=True)[1], [len(f) for f in several])
    of_id = np.unique(np.concatenate([f.ids for f in several]), return_inverse=True)[1]
    return of_data * (of_id.max() + 1) + of_id, of_data


def thinned(images: np.ndarray, strata: np.ndarray, limit: int, *, rng: np.random.Generator) -> np.ndarray:
    """(N,) bool: rows to keep, at most about `limit`, strata in proportion but none emptied.

    images: (N,) int, equal for rows of the same image, which are kept or left out together; strata: (N,) int.
    """
    first, of_row = np.unique(images, return_index=True, return_inverse=True)[1:]
    if len(images) <= limit:
        return np.ones(len(images), dtype=bool)
    rank, size = _ranks(strata[first], rng=rng)
    share = limit / len(images)
    return (rank < np.maximum(np.floor(share * size + 0.5), 1))[of_row]


def halves(images: np.ndarray, strata: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """(N,) bool: rows to fit on; the others are held out. Arguments as of `thinned`.

    Each stratum is cut in two at random, the larger half (its only image) being fitted on.
    """
    first, of_row = np.unique(images, return_index=True, return_inverse=True)[1:]
    rank, _ = _ranks(strata[first], rng=rng)
    return (rank % 2 == 0)[of_row]


def _ranks(strata: np.ndarray, *, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(M,) place of each item in a random order of its stratum, from 0; (M,) size of its stratum."""
    order = np.lexsort((rng.random(len(strata)), strata))
    of_item, sizes = np.unique(strata, return_inverse=True, return_counts=True)[1:]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    rank = np.empty(len(strata), dtype=np.int64)
    rank[order] = np.arange(len(strata)) - np.repeat(starts, sizes)
    return rank, sizes[of_item]


def frequency_rank(counts: np.ndarray) -> np.ndarray:
    """(C,) place of each class, 1: most training images."""
    rank = np.empty(len(counts), dtype=np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(1, len(counts) + 1)
    return rank


def enough(clusters: np.ndarray) -> bool:
    """Whether LDA can be fitted on images of these clusters (N,)."""
    return 2 <= len(np.unique(clusters)) < len(clusters)


def lda(
    vectors: np.ndarray, clusters: np.ndarray, fit: np.ndarray, *, permutations: int, rng: np.random.Generator
) -> tuple[np.ndarray, Separation]:
    """Coordinates (N, 2) float64 of all rows, from a fit on some of them, and how well it separates the others.

    Two clusters have one discriminant; the second coordinate is then the first principal component of what is left.

    Args:
        vectors: (N, D) float64.
        clusters: (N,) int.
        fit: (N,) bool, rows to fit on.
        permutations: how often labels are shuffled.
    """

    def fitted(labels: np.ndarray) -> Any:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        with quietly():  # "Variables are collinear": so they are in most towers
            return LinearDiscriminantAnalysis().fit(vectors[fit], labels[fit])

    def accuracy(model: Any, labels: np.ndarray, rows: np.ndarray) -> float:
        return float((model.predict(vectors[rows]) == labels[rows]).mean()) if rows.any() else float("nan")

    model = fitted(clusters)
    coordinates = model.transform(vectors)[:, :2]
    if coordinates.shape[1] == 1:
        axis = model.scalings_[:, 0] / np.linalg.norm(model.scalings_[:, 0])
        rest = vectors - vectors[fit].mean(axis=0)
        rest -= (rest @ axis)[:, None] * axis
        direction = np.linalg.svd(rest[fit], full_matrices=False)[2][0]
        coordinates = np.column_stack(
            [coordinates, rest @ (direction * np.sign(direction[np.abs(direction).argmax()]))]
        )
    chance = []
    for _ in range(permutations if (~fit).any() else 0):
        shuffled = rng.permutation(clusters)
        if len(np.unique(shuffled[fit])) < 2:  # a handful of images
            continue
        other = fitted(shuffled)
        chance.append((accuracy(other, shuffled, ~fit), accuracy(other, shuffled, fit)))
    permuted = np.array(chance).reshape(-1, 2)
    return coordinates, Separation(
        clusters=len(np.unique(clusters)),
        fitted=int(fit.sum()),
        held_out=int((~fit).sum()),
        accuracy=accuracy(model, clusters, ~fit),
        accuracy_fitted=accuracy(model, clusters, fit),
        permuted=permuted[:, 0],
        permuted_fitted=permuted[:, 1],
    )


def pca(vectors: np.ndarray, *, seed: int) -> tuple[np.ndarray, tuple[float, float]]:
    """Coordinates (N, 2) float64 and the share of the variance along either axis; (N, D) float64 in."""
    from sklearn.decomposition import PCA

    model = PCA(min(2, *vectors.shape), random_state=seed).fit(vectors)
    coordinates, shares = model.transform(vectors), model.explained_variance_ratio_
    if coordinates.shape[1] == 1:  # features of width 1
        coordinates, shares = np.column_stack([coordinates, np.zeros(len(vectors))]), np.append(shares, 0.0)
    return coordinates, (float(shares[0]), float(shares[1]))


def nonlinear(vectors: np.ndarray, method: str, *, k: int, metric: str, seed: int) -> tuple[np.ndarray, Quality]:
    """Coordinates (N, 2) of t-SNE ("tsne") or UMAP ("umap") and their quality; vectors (N, D) float32.

    Parameters are the libraries' own (perplexity 30; 15 neighbours), smaller only where there are too few images.
    """
    space, number = metric_space(vectors, metric), len(vectors)
    if np.ptp(space, axis=0).max() == 0:
        raise ValueError(f"all {number} vectors have the same direction; use metric='euclidean'.")
    with quietly():
        if method == "tsne":
            from sklearn.decomposition import PCA
            from sklearn.manifold import TSNE

            start = space
            if min(space.shape) > _FIRST_PCA:
                start = PCA(_FIRST_PCA, random_state=seed).fit_transform(space)
            perplexity = min(30.0, (number - 1) / 3)
            coordinates = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(start)
        else:
            import umap

            model = umap.UMAP(
                n_neighbors=min(15, number - 1),
                init="spectral" if number > 30 else "random",
                random_state=seed,
                n_jobs=1,  # what a seed asks for; umap warns otherwise
            )
            coordinates = np.asarray(model.fit_transform(space))
    return coordinates.astype(np.float64), quality(space, coordinates, k=min(k, (number - 1) // 2))


def quality(vectors: np.ndarray, coordinates: np.ndarray, *, k: int) -> Quality:
    """Of a map (N, 2) of vectors (N, D) float32, by Euclidean distances on either side; k below N / 2."""
    from sklearn.manifold import trustworthiness

    flat = np.asarray(coordinates, dtype=np.float32)
    itself = np.arange(len(vectors))
    deep, drawn = (nearest_neighbours(x, x, k, metric="euclidean", itself=itself)[0] for x in (vectors, flat))
    shared = [len(np.intersect1d(a, b, assume_unique=True)) for a, b in zip(deep, drawn, strict=True)]
    return Quality(
        k=k,
        trustworthiness=float(trustworthiness(vectors, coordinates, n_neighbors=k)),
        overlap=float(np.mean(shared)) / k,
    )


@contextmanager
def quietly() -> Iterator[None]:
    """Without the warnings of the libraries that draw maps: of their own imports, of collinear or scattered data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _average(accuracies: np.ndarray) -> str:
    return percent(float(accuracies.mean()) if len(accuracies) else float("nan"))
