"""Two maps of the same images, one of either model, the second turned, mirrored and scaled onto the first.

Sources: figures of two projections side by side, such as BALLAD's 6 (Ma et al., 2021, arXiv 2111.14745: t-SNE of the
few-shot classes, trained jointly and decoupled) and LPT's 5 (Dong et al., ICLR 2023, arXiv 2210.01033: LDA of phases 1
and 2). As printed their axes have nothing to do with each other; here they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import maps
from .alignment import Alignment, align
from .base import GROUP_ORDER, percent

if TYPE_CHECKING:
    from workbench.data import Classes

NAMES = {"pca": "PCA", "lda": "LDA", "tsne": "t-SNE", "umap": "UMAP"}
FEWEST = 4  # images on a pair of maps
SHUFFLES = 3  # of labels for LDA, of images for drift
_QUALITY = ("trustworthiness", "overlap")


@dataclass(frozen=True, kw_only=True, eq=False)
class MapPair:
    """M images on two planes. Only images on the maps are aligned, and only by what the maps show of them."""

    method: str
    rows: np.ndarray  # (M,) int64 of the vectors given
    alignment: Alignment  # of the two (M, 2)
    notes: tuple[str, ...]  # how the maps came about and what to believe of either


def listed(classes: int | str | Sequence[int | str] | None) -> Any:
    """The same as JSON: a list, one of the groups, or None."""
    if classes is None or (isinstance(classes, str) and classes in GROUP_ORDER):
        return classes
    several = [classes] if isinstance(classes, int | str | np.integer) else classes
    return [each if isinstance(each, str) else int(each) for each in several]


def chosen_classes(classes: int | str | Sequence[int | str], shared: Classes, labels: np.ndarray) -> np.ndarray:
    """(n,) int64 class indices in the order given, each once; those without images are left out."""
    if isinstance(classes, str) and classes in GROUP_ORDER:
        found = np.flatnonzero(np.asarray(shared.groups) == classes).tolist()
    else:
        found = []
        for each in listed(classes):
            if isinstance(each, str):
                these = [c for c, name in enumerate(shared.names) if name == each]
            else:
                these = [each] if 0 <= each < len(shared) else []
            if not these:
                raise ValueError(
                    f"class {each!r} is not known; give indices from 0 to {len(shared) - 1}, names such as "
                    f"{shared.names[0]!r}, or one of {', '.join(GROUP_ORDER)}."
                )
            found += these
    held = [c for c in dict.fromkeys(found) if (labels == c).any()]
    if not held:
        raise ValueError(f"classes={classes!r}: none of these has an image here; choose others.")
    return np.array(held, dtype=np.int64)


def map_pair(first: np.ndarray, second: np.ndarray, labels: np.ndarray, method: str, *, k: int, seed: int) -> MapPair:
    """A map of each: (N, D1) and (N, D2) float32 unit vectors of the same images; labels (N,).

    LDA is fitted on one half of the images and shows the other, the same half in both. Above `maps.LIMITS` images are
    left out, classes in proportion.

    Args:
        method: "pca", "lda" (of classes), "tsne" or "umap".
        k: neighbours of trustworthiness and overlap.
        seed: of draws, halves, shuffles and of t-SNE and UMAP.
    """
    rng = np.random.default_rng(seed)
    if len(labels) < (fewest := maps.FEWEST if method in maps.NONLINEAR else FEWEST):
        raise ValueError(f"{method} maps need {fewest} images or more, here are {len(labels)}; choose more classes.")
    rows = np.flatnonzero(maps.thinned(np.arange(len(labels)), labels, maps.LIMITS[method], rng=rng))
    sets, of_row = [vectors[rows] for vectors in (first, second)], labels[rows]
    notes = [] if len(rows) == len(labels) else [f"{len(rows)} of {len(labels)} images mapped, classes in proportion"]
    if method == "pca":
        points, shares = zip(*(maps.pca(x.astype(np.float64), seed=seed) for x in sets), strict=True)
        held = " and ".join(f"{100 * sum(share):.1f} %" for share in shares)
        notes.append(f"two axes hold {held} of the variance before and after")
    elif method == "lda":
        fit = _fitted(of_row, rng=rng)
        made = [_lda(x, of_row, fit, seed=seed) for x in sets]
        points, separations = zip(*made, strict=True)
        notes += _of_lda(separations)
        if not fit.all():
            rows, points = rows[~fit], tuple(each[~fit] for each in points)
    else:
        made = [maps.nonlinear(x, method, k=k, metric="cosine", seed=seed) for x in sets]
        points, qualities = zip(*made, strict=True)
        trusted, kept = (" and ".join(f"{getattr(q, name):.2f}" for q in qualities) for name in _QUALITY)
        notes.append(f"before and after: trustworthiness {trusted}, {qualities[0].k}-NN overlap {kept}")
    return MapPair(method=method, rows=rows, alignment=align(*points), notes=tuple(notes))


def _fitted(labels: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """(N,) bool: the half of the images that LDA is fitted on; all, where a half is too small to fit or to show."""
    if not maps.enough(labels):
        raise ValueError(
            f"LDA separates two classes or more, with more images than classes; here are {len(np.unique(labels))} in "
            f"{len(labels)} images. Use method='pca'."
        )
    fit = maps.halves(np.arange(len(labels)), labels, rng=rng)
    return fit if maps.enough(labels[fit]) and (~fit).sum() >= FEWEST else np.ones(len(labels), dtype=bool)


def _lda(vectors: np.ndarray, labels: np.ndarray, fit: np.ndarray, *, seed: int) -> tuple[np.ndarray, maps.Separation]:
    shuffles = np.random.default_rng(seed)  # the same for both sets
    return maps.lda(vectors.astype(np.float64), labels, fit, permutations=SHUFFLES, rng=shuffles)


def _of_lda(separations: tuple[maps.Separation, ...]) -> list[str]:
    first = separations[0]
    if not first.held_out:
        return ["LDA shows the images it was fitted on: it separates anything, so this is no evidence"]
    right = " and ".join(f"{percent(each.accuracy)} %" for each in separations)
    chance = " and ".join(f"{percent(float(each.permuted.mean()))} %" for each in separations if len(each.permuted))
    return [
        f"LDA fitted on {first.fitted} other images puts right, of those shown, {right} before and after",
        *([f"with shuffled labels {chance}"] if chance else []),
    ]
