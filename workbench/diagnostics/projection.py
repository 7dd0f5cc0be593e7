"""Where do images lie? One or several sets of features on a plane: LDA, PCA, t-SNE or UMAP, and what to believe of it.

Sources: Dong et al., "LPT", ICLR 2023, arXiv 2210.01033, figures 2 and 5: LDA of (data set, model) clusters, fitted on
the images it shows. LDA separates anything it is fitted on (with more dimensions than images even shuffled labels), so
here it is fitted on one half of the images and the other half is shown, with the accuracy of its decisions there and
that of the same procedure on shuffled labels; `hold_out=False` is the published figure. t-SNE and UMAP keep neighbours
and little else; how many they keep stands under each map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from . import maps
from .base import (
    GROUP_COLOURS,
    GROUP_MARKERS,
    GROUP_ORDER,
    METHOD_COLOURS,
    METHOD_MARKERS,
    RASTER_FROM,
    SEQUENTIAL,
    TEXT_WIDTH,
    Result,
    caption_below,
    dress,
    legend_beside,
    plain,
    same_classes,
)
from .neighbours import METRICS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.features import Features

SEPARATE = ("class", "cluster")
_NAMES = {"lda": "LDA", "pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
_TURNS = 8
_RIGHT, _WRONG = METHOD_COLOURS[4], METHOD_COLOURS[5]


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection(Result):
    """N images on a plane: those of the first features in their order, then those of the next."""

    diagnostic: ClassVar[str] = "project"
    views: ClassVar[tuple[str, ...]] = ("group", "class", "cluster", "data set", "method", "correct")  # colours
    size: ClassVar[tuple[float, float]] = (TEXT_WIDTH, 3.7)

    method: str
    coordinates: np.ndarray  # (N, 2) float64
    held_out: np.ndarray  # (N,) bool: not fitted on, and so what the figure shows; all False where nothing is held out
    separation: maps.Separation | None  # of LDA
    quality: maps.Quality | None  # of t-SNE and UMAP
    variance: tuple[float, float] | None  # of PCA: share of the variance along either axis
    separate: str | None  # of LDA: "class" or "cluster"
    total: int  # images given, of which N were drawn
    clusters: tuple[str, ...]  # what each set of features is called
    datasets: tuple[str, ...]  # of each set
    methods: tuple[str, ...]
    of_set: np.ndarray  # (N,) int64 set of features that the image belongs to
    rows: np.ndarray  # (N,) int64 its row there
    ids: np.ndarray  # (N,) str
    labels: np.ndarray  # (N,) int64 true class
    class_names: np.ndarray  # (N,) str
    ranks: np.ndarray  # (N,) int64 place of the class in its data set, 1: most training images
    groups: np.ndarray  # (N,) "many" | "medium" | "few"
    correct: np.ndarray | None  # (N,) bool; None where a set of features holds no decisions
    rule: str

    @property
    def shown(self) -> np.ndarray:
        """(N,) bool: what the figure shows, the half that LDA was not fitted on; everything where none is held out."""
        return self.held_out if self.held_out.any() else np.ones(len(self.rows), dtype=bool)

    def caption(self) -> str:
        """What to believe of the map, as it stands under it."""
        lines = []
        if self.separation is not None:
            lines = [self.separation.caption("classes" if self.separate == "class" else "clusters")]
        elif self.quality is not None:
            lines = [self.quality.caption()]
        elif self.variance is not None:
            lines = [f"the two axes hold {100 * sum(self.variance):.1f} % of the variance of the features"]
        if len(self.rows) < self.total:
            lines.append(f"{len(self.rows)} of {self.total} images drawn, classes in proportion")
        return "\n".join(lines)

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} {(self.of_set == i).sum()}" for i, name in enumerate(self.clusters))
        text = f"{_NAMES[self.method]} of {len(self.rows)} images ({sizes}); groups: {self.rule}\n{self.caption()}"
        if self.separation is not None and self.separation.held_out:
            text += f"\n{self.separation.fit()}"
        return text

    def to_frame(self) -> pd.DataFrame:
        """One row per image; half is "fitted" or "held out", and empty where nothing is held out."""
        import pandas as pd

        half = np.where(self.held_out, "held out", "fitted" if self.held_out.any() else "")
        return pd.DataFrame(
            {
                "cluster": np.array(self.clusters, dtype=object)[self.of_set],
                "dataset": np.array(self.datasets, dtype=object)[self.of_set],
                "method": np.array(self.methods, dtype=object)[self.of_set],
                "set": self.of_set,
                "row": self.rows,
                "id": self.ids,
                "class": self.labels,
                "name": self.class_names,
                "group": self.groups,
                "correct": np.nan if self.correct is None else self.correct,
                "half": half,
                "x": self.coordinates[:, 0],
                "y": self.coordinates[:, 1],
            }
        )

    def _view(self, view: str | None) -> str:
        """Without a view: shot groups of one set of features, and which set of several."""
        return super()._view("cluster" if view is None and len(self.clusters) > 1 else view)

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        shown = self.shown
        size = 16 if shown.sum() <= 1500 else 7
        style = {"s": size, "alpha": 0.75, "linewidths": 0, "rasterized": bool(shown.sum() >= RASTER_FROM)} | artist_kw
        kinds = self._kinds(view)
        if kinds is None:
            drawn = ax.scatter(*self.coordinates[shown].T, **({"c": self.ranks[shown], "cmap": SEQUENTIAL} | style))
            label = "class, 1: most training images" + " of its data set" * (len(set(self.datasets)) > 1)
            ax.figure.colorbar(drawn, ax=ax, label=label, pad=0.02)
        else:
            # in turns, a random part of every kind at a time, so that none is buried under another
            turn = np.random.default_rng(0).integers(_TURNS, size=len(shown))
            for part in range(_TURNS):
                for _, inside, look in kinds:
                    ax.scatter(*self.coordinates[inside & shown & (turn == part)].T, **(style | look | artist_kw))
            for name, inside, look in kinds:
                number = f"{(inside & shown).sum()} images"
                if view == "group":
                    number = f"{self._num_classes(inside)} classes, {number}" if inside.any() else "n/a, 0 classes"
                ax.scatter([], [], label=f"{plain(name, 34)}\n({number})", **(style | look | {"s": 26, "alpha": 1}))
            legend_beside(ax, labelspacing=0.7)
        self._label(ax)

    def _num_classes(self, inside: np.ndarray) -> int:
        """Different classes among these rows (N,) bool; one that stands in two sets of a data set counts once."""
        datasets = np.unique(self.datasets, return_inverse=True)[1][self.of_set]
        return len(np.unique(np.column_stack([datasets, self.labels])[inside], axis=0))

    def _kinds(self, view: str) -> list[tuple[str, np.ndarray, dict[str, Any]]] | None:
        """Name, rows (N,) bool and look of each kind of image; None: too many classes for a legend."""
        if view == "group":
            return [
                (group, self.groups == group, {"color": GROUP_COLOURS[group], "marker": GROUP_MARKERS[group]})
                for group in GROUP_ORDER
            ]
        if view == "correct":
            if self.correct is None:
                raise ValueError("these features hold no decisions to colour by; choose another view.")
            return [
                ("right", self.correct, {"color": _RIGHT}),
                ("wrong", ~self.correct, {"facecolors": "none", "edgecolors": _WRONG, "linewidths": 0.8}),
            ]
        if view == "class":
            names = list(dict.fromkeys(self.class_names[np.argsort(self.ranks, kind="stable")].tolist()))
            of_row = self.class_names
            if len(names) > len(METHOD_COLOURS):
                return None
        else:
            of_set = {"cluster": self.clusters, "data set": self.datasets, "method": self.methods}[view]
            names, of_row = list(dict.fromkeys(of_set)), np.array(of_set, dtype=object)[self.of_set]
        looks = [
            {"color": METHOD_COLOURS[i % 10], "marker": METHOD_MARKERS[(i + i // 10) % 10]} for i in range(len(names))
        ]
        return [(name, of_row == name, look) for name, look in zip(names, looks, strict=True)]

    def _label(self, ax: Axes) -> None:
        name = _NAMES[self.method]
        axes = [f"{name} {axis}" for axis in (1, 2)]
        if self.variance is not None:
            axes = [f"PC {i} ({100 * share:.1f} % of variance)" for i, share in enumerate(self.variance, start=1)]
        elif self.separation is not None and self.separation.clusters == 2:
            axes = ["the only discriminant", "first PC of the rest"]
        ax.set_xlabel(axes[0])
        ax.set_ylabel(axes[1])
        if self.method in maps.NONLINEAR:
            ax.set_xticks([])
            ax.set_yticks([])
        if self.separation is None or self.separation.clusters > 2:
            ax.set_aspect("equal", adjustable="datalim")
        caption_below(ax, self.caption())
        dress(ax, grid=None)


def project(
    *features: Features,
    method: str = "lda",
    seed: int = 0,
    names: Sequence[str] | None = None,
    separate: str | None = None,
    hold_out: bool = True,
    permutations: int = 5,
    k: int = 12,
    metric: str = "cosine",
    limit: int | None = None,
) -> Projection:
    """A map of one set of features or of several of the same width, for example of two methods or two data sets.

    Args:
        features: (N_i, D) vectors each. Data sets may have different classes.
        method: "lda", "pca" (both of the vectors as they are), "tsne" or "umap" (both by `metric`).
        seed: of halves, shuffles, draws, and of t-SNE and UMAP.
        names: what to call each set of features; None: its method and data set.
        separate: what LDA separates: "class", or "cluster", one per set of features. None: classes of one set, clusters
            of several, as LPT does.
        hold_out: LDA is fitted on one half of the images and the other is shown. False: fitted on all, as published.
            An image that stands in several sets is in one half only. Too few images for halves: nothing is held out.
        permutations: fits on shuffled labels.
        k: neighbours of trustworthiness and overlap.
        metric: "cosine" or "euclidean".
        limit: images to draw; None: what takes seconds, 25,000 for LDA and PCA, 5,000 for UMAP, 3,000 for t-SNE.

    Raises:
        ValueError: nothing to map (no spread, too few images, one cluster for LDA), or features of different widths.
    """
    _check(features, method, names, separate, permutations, k, metric, limit)
    several = len(features) > 1
    if method != "lda":
        separate = None
    elif separate is None:
        separate = "cluster" if several else "class"
    if separate == "class" and several:
        same_classes(features)
    datasets, methods = (tuple(str(f.source.get(key, "unknown")) for f in features) for key in ("manifest", "method"))
    rng = np.random.default_rng(seed)
    of_set = np.repeat(np.arange(len(features)), [len(f) for f in features])
    rows = np.concatenate([np.arange(len(f)) for f in features])
    labels = np.concatenate([f.labels for f in features])
    images, of_data = maps.image_codes(features)
    strata = np.unique(np.column_stack([of_data, labels]), axis=0, return_inverse=True)[1].ravel()
    kept = maps.thinned(images, strata, maps.LIMITS[method] if limit is None else limit, rng=rng)
    of_set, rows, labels, images = of_set[kept], rows[kept], labels[kept], images[kept]
    vectors = np.concatenate([f.vectors[rows[of_set == i]] for i, f in enumerate(features)])
    if np.ptp(vectors, axis=0).max() == 0:
        raise ValueError(f"all {len(vectors)} vectors are equal; there is nothing to map.")
    held_out = np.zeros(len(rows), dtype=bool)
    separation, quality, variance = None, None, None
    if method == "lda":
        clusters = labels if separate == "class" else of_set
        fit = maps.halves(images, labels if separate == "class" else of_data[kept], rng=rng)
        if not hold_out or not maps.enough(clusters[fit]):
            fit = np.ones(len(rows), dtype=bool)
        if not maps.enough(clusters[fit]):
            raise ValueError(
                f"LDA separates two or more, with more images than that; here it is to separate {separate} by "
                f"{separate}, {len(np.unique(clusters))} in {len(rows)} images. Use method='pca'."
            )
        held_out = ~fit
        coordinates, separation = maps.lda(
            vectors.astype(np.float64), clusters, fit, permutations=permutations, rng=rng
        )
    elif method == "pca":
        coordinates, variance = maps.pca(vectors.astype(np.float64), seed=seed)
    else:
        coordinates, quality = maps.nonlinear(vectors, method, k=k, metric=metric, seed=seed)
    for array in (coordinates, held_out):
        array.setflags(write=False)

    def of_images(values: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([value[rows[of_set == i]] for i, value in enumerate(values)])

    return Projection(
        arguments={
            "method": method, "seed": seed, "names": None if names is None else list(names), "separate": separate,
            "hold_out": hold_out, "permutations": permutations, "k": k, "metric": metric, "limit": limit,
        },
        sources=tuple(f.source for f in features),
        method=method,
        coordinates=coordinates,
        held_out=held_out,
        separation=separation,
        quality=quality,
        variance=variance,
        separate=separate,
        total=len(kept),
        clusters=_called(methods, datasets) if names is None else tuple(str(name) for name in names),
        datasets=datasets,
        methods=methods,
        of_set=of_set,
        rows=rows,
        ids=of_images([f.ids for f in features]),
        labels=labels,
        class_names=of_images([np.array(f.classes.names, dtype=object)[f.labels] for f in features]),
        ranks=of_images([maps.frequency_rank(f.classes.counts)[f.labels] for f in features]),
        groups=of_images([f.group_of for f in features]),
        correct=of_images([f.correct for f in features]) if all(f.predicted is not None for f in features) else None,
        rule="; ".join(dict.fromkeys(str(f.classes.rule) for f in features)),
    )  # fmt: skip


def _called(methods: Sequence[str], datasets: Sequence[str]) -> tuple[str, ...]:
    """ "method on data set" for each set of features, numbered where two would be called the same."""
    names = [f"{method} on {dataset}" for method, dataset in zip(methods, datasets, strict=True)]
    return tuple(
        f"{name} ({names[: i + 1].count(name)})" if names.count(name) > 1 else name for i, name in enumerate(names)
    )


def _check(
    features: Sequence[Features],
    method: str,
    names: Any,
    separate: Any,
    permutations: int,
    k: int,
    metric: str,
    limit: Any,
) -> None:
    if not features:
        raise ValueError("nothing was given; project takes one or several Features.")
    for name, value, known in (("method", method, maps.LIMITS), ("metric", metric, METRICS)):
        if value not in known:
            raise ValueError(f"{name}={value!r} is not known; choose one of {', '.join(known)}.")
    if separate not in (None, *SEPARATE):
        raise ValueError(f"separate={separate!r} is not known; choose one of {', '.join(SEPARATE)}.")
    if names is not None and len(set(names)) != len(features):
        raise ValueError(f"{len(features)} sets of features need as many different names, got {list(names)}.")
    if permutations < 0 or k < 1 or (limit is not None and limit < 1):
        raise ValueError(
            f"permutations={permutations}, k={k}, limit={limit}: none may be negative, the last two not 0."
        )
    widths = [f.vectors.shape[1] for f in features]
    if len(set(widths)) > 1:
        raise ValueError(f"the features have widths {widths}; only vectors of one width lie on one map.")
    if method in maps.NONLINEAR and sum(len(f) for f in features) < maps.FEWEST:
        raise ValueError(f"{method} needs {maps.FEWEST} images or more; use method='pca'.")
