"""Which classes look alike to the model? Cosines of class means, most training images first.

Source: Shi et al., "Long-Tail Learning with Foundation Model: Heavy Fine-Tuning Hurts" (LIFT), ICML 2024, arXiv
2309.10019, figures 3, 4, 7 and 8; computed as in the authors' notebook (plot/ at commit 661ead9): cosines of the means
of raw features, classes sorted by training images. The authors draw them in "rainbow"; here the map is diverging and
centred on 0, so that equal steps of colour are equal steps of cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .base import DIVERGING, GROUP_COLOURS, GROUP_ORDER, INK, Result, caption_below

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.features import Features

BY_FREQUENCY = "frequency"
_CELLS = 600  # along either side of a drawn heat map; larger matrices are drawn as means of blocks
_MANY_NODES = 40  # more nodes of a taxonomy than that are not told apart by lines
_APART = 0.09  # of the side: least distance of two group labels


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassSimilarity(Result):
    """Cosines of class means. Rows and columns of classes without images are nan.

    A mean over few images carries their noise, which makes it less similar to others; and what all features share
    (towers put them into a narrow cone) raises every cosine alike. Compare groups and models, not cosines with 0.
    """

    diagnostic: ClassVar[str] = "class_similarity"
    size: ClassVar[tuple[float, float]] = (4.8, 4.2)

    matrix: np.ndarray  # (C, C) float32 in [-1, 1], rows and columns in the order of the class indices
    order: np.ndarray  # (C,) int64 class indices as drawn: matrix[np.ix_(order, order)] is the published heat map
    ordered_by: str  # "frequency" or a level of the taxonomy
    nodes: np.ndarray | None  # (C,) int64 node of each class on that level
    between: dict[tuple[str, str], tuple[float, int]]  # two groups -> mean cosine of pairs of classes, number of pairs
    nearest: np.ndarray  # (C,) int64 the most similar other class; -1 for a class without images or without others
    images: np.ndarray  # (C,)
    names: tuple[str, ...]
    counts: np.ndarray  # (C,) training images
    groups: np.ndarray  # (C,) "many" | "medium" | "few"
    rule: str

    def caption(self) -> str:
        """Within groups: "mean of pairs within a group: many 0.41, medium n/a, few 0.38"."""
        found = {group: self.between[group, group] for group in GROUP_ORDER}
        cells = [f"{group} {round(value, 2) + 0.0:.2f}" if n else f"{group} n/a" for group, (value, n) in found.items()]
        return f"mean of pairs within a group: {', '.join(cells)}"

    def __str__(self) -> str:
        present = self.images > 0
        lines = [f"cosines of the means of {present.sum()} classes, raw features; groups: {self.rule}"]
        for (one, other), (value, pairs) in self.between.items():
            lines.append(f"{one + ' - ' + other:<16}{f'{value:.3f} ({pairs} pairs)' if pairs else 'n/a (0 pairs)'}")
        if present.any() and self.images[present].min() < 10:
            few = int((self.images[present] < 10).sum())
            lines.append(
                f"{few} of {present.sum()} means are of fewer than 10 images: noise makes these less similar to others"
            )
        if not present.all():
            lines.append(f"{(~present).sum()} of {len(present)} classes without images are left out")
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Rows of kind "groups" (mean off the diagonal for two groups) and "class" (mean, and the nearest other)."""
        import pandas as pd

        rows: list[dict[str, Any]] = [
            {"kind": "groups", "group": one, "other_group": other, "similarity": value, "pairs": pairs}
            for (one, other), (value, pairs) in self.between.items()
        ]
        others = int((self.images > 0).sum()) - 1
        total = np.nansum(self.matrix, axis=1, dtype=np.float64) - 1
        for c, near in enumerate(self.nearest):
            row = {
                "kind": "class",
                "group": self.groups[c],
                "class": c,
                "name": self.names[c],
                "images": self.images[c],
            }
            if near >= 0:
                row |= {"similarity": total[c] / others, "pairs": others, "nearest": self.names[near]}
                row |= {"nearest_class": near, "nearest_similarity": self.matrix[c, near]}
            rows.append(row)
        whole = ("pairs", "class", "images", "nearest_class")
        frame = pd.DataFrame(rows).reindex(columns=[*rows[0], "class", "name", "images", "nearest", *_NEAREST])
        return frame.astype(dict.fromkeys(whole, "Int64"))

    @property
    def drawn(self) -> np.ndarray:
        """(M,) int64 classes with images, in the order of rows and columns as drawn."""
        return self.order[self.images[self.order] > 0]

    def cells(self, most: int = _CELLS) -> tuple[np.ndarray, int]:
        """The matrix as drawn, at most so many cells along either side, and how many classes each cell is a mean of."""
        drawn = self.drawn
        step = max(1, -(-len(drawn) // most))
        return _blocks(self.matrix, drawn, step), step

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        drawn, (cells, step) = self.drawn, self.cells()
        side = len(drawn)
        style = {"cmap": DIVERGING, "vmin": -1, "vmax": 1, "interpolation": "nearest", "extent": (0, side, side, 0)}
        picture = ax.imshow(cells, **(style | artist_kw))
        ax.figure.colorbar(picture, ax=ax, label="cosine of class means", fraction=0.045, pad=0.03)
        kinds = self.groups if self.nodes is None else self.nodes
        edges = np.flatnonzero(kinds[drawn][1:] != kinds[drawn][:-1]) + 1
        if len(edges) < _MANY_NODES:
            ax.hlines(edges, 0, side, color=INK, linewidth=0.6)
            ax.vlines(edges, 0, side, color=INK, linewidth=0.6)
        ax.set_xticks([])
        ax.set_yticks([])
        what = "by frequency" if self.nodes is None else f"by {self.ordered_by}, then frequency"
        ax.set_xlabel(f"classes {what}", parse_math=False)
        if self.nodes is None:
            self._label_groups(ax, drawn, edges)
        note = f"\neach cell is the mean of {step} by {step} classes" if step > 1 else ""
        caption_below(ax, self.caption().replace(": ", ":\n") + note)

    def _label_groups(self, ax: Axes, drawn: np.ndarray, edges: np.ndarray) -> None:
        """Group names at the rows of their classes, moved apart where a group is small."""
        side, bounds = len(drawn), [0, *edges.tolist(), len(drawn)]
        places: list[float] = []
        for low, high in pairwise(bounds):
            middle = (low + high) / 2
            places.append(max(middle, places[-1] + _APART * side) if places else middle)
        for i in range(len(places) - 1, -1, -1):  # and back up, where the last would leave the side
            places[i] = min(places[i], side * (1 - _APART * (len(places) - 1 - i)))
        labels = [str(self.groups[drawn[low]]) for low in bounds[:-1]]
        ax.set_yticks(places, [f"{g} ({(self.groups[drawn] == g).sum()})" for g in labels])
        ax.tick_params(axis="y", length=0)
        for tick, group in zip(ax.get_yticklabels(), labels, strict=True):
            tick.set_color(GROUP_COLOURS[group])


_NEAREST = ("nearest_class", "nearest_similarity")


def class_similarity(features: Features, *, order: str = BY_FREQUENCY) -> ClassSimilarity:
    """Cosine of the means of the raw features of every two classes; LIFT takes the test split.

    Args:
        features: (N, D) vectors, not normalised; their split decides whose means they are.
        order: of rows and columns as drawn: "frequency" (training images, falling) or a level of `classes.taxonomy`,
            by frequency inside each of its nodes.

    Raises:
        ValueError: an order that these classes do not have, or a class mean of length 0, which has no cosine.
    """
    classes, labels = features.classes, features.labels
    levels = classes.taxonomy or {}
    if order != BY_FREQUENCY and order not in levels:
        raise ValueError(f"order={order!r} is not known; choose one of {', '.join((BY_FREQUENCY, *levels))}.")
    counts, groups = np.asarray(classes.counts), np.asarray(classes.groups)
    images = np.bincount(labels, minlength=len(classes))
    present = np.flatnonzero(images)
    sums = np.zeros((len(classes), features.vectors.shape[1]))
    np.add.at(sums, labels, features.vectors)
    means = sums[present] / images[present, None]
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    if not norms.all():
        raise ValueError(
            f"{int((norms == 0).sum())} class means are zero and have no cosine; look at the model or its layer."
        )
    means = (means / norms).astype(np.float32)
    cosines = np.clip(means @ means.T, -1, 1)
    np.fill_diagonal(cosines, 1)
    matrix = cosines
    if len(present) < len(classes):
        matrix = np.full((len(classes), len(classes)), np.nan, dtype=np.float32)
        matrix[np.ix_(present, present)] = cosines
    nearest = np.full(len(classes), -1)
    if len(present) > 1:
        apart = cosines.copy()
        np.fill_diagonal(apart, -2)
        nearest[present] = present[apart.argmax(axis=1)]
    nodes = None if order == BY_FREQUENCY else np.asarray(levels[order])
    # by group first: a rule of reference counts can order classes slightly otherwise than the training images do
    first = nodes if nodes is not None else np.array([GROUP_ORDER.index(group) for group in groups])
    for array in (matrix, nearest):
        array.setflags(write=False)
    return ClassSimilarity(
        arguments={"order": order},
        sources=(features.source,),
        matrix=matrix,
        order=np.lexsort((-counts, first)),
        ordered_by=order,
        nodes=nodes,
        between=_between(cosines, groups[present]),
        nearest=nearest,
        images=images,
        names=tuple(classes.names),
        counts=counts,
        groups=groups,
        rule=str(classes.rule),
    )


def cosines_to_means(features: Features, classes: Sequence[int], of: Features | None = None) -> np.ndarray:
    """(N, n) float32 cosines of each image with the means of n classes in `of` (None: in the same features).

    Raises:
        ValueError: a class without images in `of`, or whose mean has length 0.
    """
    of = features if of is None else of
    means = []
    for c in classes:
        mean = of.vectors[of.labels == c].astype(np.float64).sum(axis=0)
        if not np.linalg.norm(mean):
            why = "cancel each other" if (of.labels == c).any() else "are none"
            raise ValueError(f"{features.classes.names[c]!r} has no mean direction: its images here {why}.")
        means.append(mean / np.linalg.norm(mean))
    lengths = np.linalg.norm(features.vectors, axis=1, keepdims=True)
    return (features.vectors @ np.stack(means, 1) / np.maximum(lengths, 1e-12)).astype(np.float32)


def _between(cosines: np.ndarray, groups: np.ndarray) -> dict[tuple[str, str], tuple[float, int]]:
    """Two groups -> mean cosine over pairs of different classes, number of pairs; nan where there is no pair."""
    found = {}
    inside = {group: np.flatnonzero(groups == group) for group in GROUP_ORDER}
    for i, one in enumerate(GROUP_ORDER):
        for other in GROUP_ORDER[i:]:
            part = cosines[np.ix_(inside[one], inside[other])]
            total, pairs = float(part.sum(dtype=np.float64)), part.size
            if one == other:
                total, pairs = (total - len(part)) / 2, (pairs - len(part)) // 2
            found[one, other] = (total / pairs if pairs else float("nan"), pairs)
    return found


def _blocks(matrix: np.ndarray, drawn: np.ndarray, step: int) -> np.ndarray:
    """The matrix in the order drawn (M,), as means of step x step cells."""
    if step == 1:
        return matrix[np.ix_(drawn, drawn)]
    starts = np.arange(0, len(drawn), step)
    sizes = np.diff(np.append(starts, len(drawn)))
    summed = [
        np.add.reduceat(matrix[np.ix_(drawn[start : start + step], drawn)].sum(axis=0), starts) for start in starts
    ]
    return np.array(summed) / np.outer(sizes, sizes)
