"""How tight classes are and how far apart: inner-class distance R, inter-class distance D, and their ratio gamma.

Source: Dong, Zhou, Yan, Zuo, "LPT: Long-tailed Prompt Tuning for Image Classification", ICLR 2023, arXiv 2210.01033.
R_i is the mean Euclidean distance of the images of class i to their mean, D the mean distance between the means of two
different classes, gamma = mean(R_i) / D. The paper does not say which split it measured nor whether features were
normalised; its values are to be read as an ordering of methods on equal terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .base import GROUP_ORDER, INK, Result, scatter_by_frequency

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.features import Features

_BLOCK = 1024  # rows of one block of pairwise distances; 8,142 classes take 64 MB each


@dataclass(frozen=True, kw_only=True, eq=False)
class Separability(Result):
    """Inner- and inter-class Euclidean distances, in the unit of the features (L2-normalised: means lie within 2).

    A class without images has nan. A class with one image has distance 0 to its own mean: the paper's formula counts
    it, so it counts here, and `singletons` says how many such classes pull gamma down.
    """

    diagnostic: ClassVar[str] = "separability"

    normalize: bool
    intra: np.ndarray  # (C,) R_i
    intra_mean: float
    intra_std: float  # over classes, as the paper's "±"; divided by the number of classes
    inter: float  # D
    inter_std: float  # over pairs of classes
    gamma: float
    n: int  # images
    images: np.ndarray  # (C,) images per class
    names: tuple[str, ...]
    counts: np.ndarray  # (C,) training images
    groups: np.ndarray  # (C,) "many" | "medium" | "few"
    rule: str

    @property
    def singletons(self) -> np.ndarray:
        """Indices of the classes with a single image, whose inner-class distance is 0 by definition."""
        return np.flatnonzero(self.images == 1)

    @property
    def absent(self) -> np.ndarray:
        """Indices of the classes without an image, which are left out."""
        return np.flatnonzero(self.images == 0)

    def __str__(self) -> str:
        text = (
            f"gamma {self.gamma:.3f}: inner-class {self.intra_mean:.3f} ± {self.intra_std:.3f} (std over classes), "
            f"inter-class {self.inter:.3f} ± {self.inter_std:.3f} (std over pairs); "
            f"{'L2-normalised' if self.normalize else 'raw'} features, n = {self.n} images"
        )
        for classes, what in ((self.singletons, "with one image (distance 0)"), (self.absent, "without images")):
            if len(classes):
                text += f"; {len(classes)} of {len(self.images)} classes {what}"
        return text

    def to_frame(self) -> pd.DataFrame:
        """One row per class; inter and gamma belong to the whole set and are repeated."""
        import pandas as pd

        return pd.DataFrame(
            {
                "class": np.arange(len(self.names)),
                "name": self.names,
                "group": self.groups,
                "train_images": self.counts,
                "images": self.images,
                "intra": self.intra,
                "inter": self.inter,
                "gamma": self.gamma,
                "normalized": self.normalize,
            }
        )

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        inside = {group: (self.groups == group) & (self.images > 0) for group in GROUP_ORDER}
        means = {group: self.intra[rows].mean() for group, rows in inside.items() if rows.any()}
        labels = {group: f"{group} R = {mean:.3g} (n = {inside[group].sum()})" for group, mean in means.items()}
        bands = {group: (mean,) for group, mean in means.items()}
        scatter_by_frequency(ax, self.intra, self.counts, self.groups, labels=labels, bands=bands, **artist_kw)
        if np.isfinite(self.inter):
            ax.axhline(self.inter, color=INK, linestyle="--", label=f"between means D = {self.inter:.3g}")
        ax.set_ylim(bottom=0)
        unit = "L2-normalised features" if self.normalize else "units of the features"
        ax.set_ylabel(f"Euclidean distance\n({unit})")
        title = f"\N{GREEK SMALL LETTER GAMMA} = mean R / D = {self.gamma:.3f}\n{self.n} images, n classes:"
        ax.legend(title=title, alignment="left", loc="upper left", bbox_to_anchor=(1.0, 1.0))


def separability(features: Features, *, normalize: bool = False) -> Separability:
    """Inner-class distance, inter-class distance and gamma of the images in `features`.

    The test split is what the paper's question is about (training distances of few-shot classes are too small, because
    a mean of few images lies close to each of them); this function measures whatever split the features hold.

    Args:
        features: at least two classes with images.
        normalize: divide each vector by its Euclidean norm first.
    """
    vectors = features.vectors.astype(np.float64)
    if normalize:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not norms.all():
            raise ValueError(f"{int((norms == 0).sum())} vectors are zero and have no direction; use normalize=False.")
        vectors /= norms
    classes, labels = features.classes, features.labels
    images = np.bincount(labels, minlength=len(classes))
    present = np.flatnonzero(images)
    if len(present) < 2:
        raise ValueError(
            f"these features hold images of {len(present)} class; distances between classes need two or more."
        )
    # A common shift changes no distance, and small vectors keep more digits in the inner products below.
    vectors -= vectors.mean(axis=0)
    order = np.argsort(labels, kind="stable")
    starts = np.concatenate([[0], np.cumsum(images[present])[:-1]])
    means = np.add.reduceat(vectors[order], starts, axis=0) / images[present, None]  # (present classes, D)
    row_of = np.cumsum(images > 0) - 1  # class index -> row of means
    vectors -= means[row_of[labels]]
    intra = np.full(len(classes), np.nan)
    summed = np.bincount(labels, np.linalg.norm(vectors, axis=1), minlength=len(classes))
    intra[present] = summed[present] / images[present]
    inter, inter_std = _pairwise(means)
    intra_mean = float(np.nanmean(intra))
    return Separability(
        arguments={"normalize": normalize},
        sources=(features.source,),
        normalize=normalize,
        intra=intra,
        intra_mean=intra_mean,
        intra_std=float(np.nanstd(intra)),
        inter=inter,
        inter_std=inter_std,
        gamma=intra_mean / inter if inter > 0 else float("nan"),
        n=len(labels),
        images=images,
        names=tuple(classes.names),
        counts=np.asarray(classes.counts),
        groups=np.asarray(classes.groups),
        rule=str(classes.rule),
    )


def _pairwise(means: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the Euclidean distances of all pairs of rows i < j of means (M, D) float64."""
    squares = (means**2).sum(axis=1)
    count, total, total_squared = 0, 0.0, 0.0
    for start in range(0, len(means), _BLOCK):
        rows = slice(start, start + _BLOCK)
        squared = squares[rows, None] + squares[None] - 2 * means[rows] @ means.T  # (block, M)
        upper = np.arange(start, min(start + _BLOCK, len(means)))[:, None] < np.arange(len(means))
        squared = np.maximum(squared[upper], 0)  # rounding can leave a tiny negative number for equal means
        count += squared.size
        total += float(np.sqrt(squared).sum())
        total_squared += float(squared.sum())
    mean = total / count
    return mean, max(total_squared / count - mean**2, 0.0) ** 0.5
