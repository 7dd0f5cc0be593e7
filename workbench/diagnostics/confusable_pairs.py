"""Which pairs of classes are taken for each other most, readable at thousands of classes.

A confusion matrix of 8,142 classes (iNaturalist 2018) has 66 million cells and cannot be read; its few largest pairs
can. Both directions stand side by side, because on a long tail they differ: rare classes are taken for frequent ones.
Intervals: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927. They hold for a
pair named in advance; the pairs shown were chosen for being large, so their shares are rather too high.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench import metrics

from .base import (
    CAPTION_SIZE,
    GROUP_COLOURS,
    GROUP_ORDER,
    INK,
    MUTED,
    Result,
    caption_below,
    dress,
    is_narrow,
    percent,
    plain,
)
from .thumbnails import GAP, SIDE, place_on, thumbnails

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.data import LongTailDataset
    from workbench.features import Features

_DRAWN = 12  # pairs of a figure, which is as many as can be read
_PICTURED = 6  # pairs with images
_EACH = 2  # images of each of the four kinds
_KINDS = ("first\ntaken for\nsecond", "first,\nright", "second,\nright", "second\ntaken for\nfirst")


@dataclass(frozen=True, kw_only=True)
class Direction:
    """Images of one class that were taken for another."""

    true: int
    predicted: int
    images: int  # of class `true`, decided as `predicted`
    of: int  # images of class `true`
    low: float  # Wilson interval of images / of; nan where the class has no images
    high: float

    @property
    def share(self) -> float:
        """Of the true class's images, in [0, 1]; nan where it has none."""
        return self.images / self.of if self.of else float("nan")


@dataclass(frozen=True, kw_only=True)
class ClassPair:
    """Two classes that were taken for each other; `first` has at least as many training images."""

    first: int
    second: int
    forth: Direction  # first taken for second
    back: Direction  # second taken for first

    @property
    def images(self) -> int:
        """In both directions."""
        return self.forth.images + self.back.images


@dataclass(frozen=True, kw_only=True, eq=False)
class ConfusablePairs(Result):
    """The pairs of classes with the most wrong decisions between them, most first."""

    diagnostic: ClassVar[str] = "confusable_pairs"
    size: ClassVar[tuple[float, float]] = (6.6, 5.2)

    pairs: tuple[ClassPair, ...]
    confused: int  # pairs of classes with at least one wrong decision
    errors: int  # wrong decisions
    n: int  # images
    level: float  # of the intervals
    pictures: np.ndarray | None  # (pairs with images, 4 kinds, 2, SIDE, SIDE, 3) uint8; None without images
    names: tuple[str, ...]
    counts: np.ndarray  # (C,) training images
    groups: np.ndarray  # (C,) "many" | "medium" | "few"
    rule: str

    @property
    def views(self) -> tuple[str, ...]:  # type: ignore[override]
        """ "pairs", and "images" where they were given."""
        return ("pairs",) if self.pictures is None else ("pairs", "images")

    @property
    def covered(self) -> float:
        """Share of all wrong decisions that lie in these pairs, in [0, 1]; nan without errors."""
        return sum(pair.images for pair in self.pairs) / self.errors if self.errors else float("nan")

    def __str__(self) -> str:
        lines = [
            f"{self.errors} of {self.n} images are decided wrongly, in {self.confused} pairs of classes; the "
            f"{len(self.pairs)} pairs below hold {percent(self.covered)} % of them",
            f"groups: {self.rule}; [Wilson {self.level:.0%}, for pairs named in advance; these are the largest]",
        ]
        for rank, pair in enumerate(self.pairs, start=1):
            for one, mark in ((pair.forth, f"{rank:>4}"), (pair.back, "    ")):
                arrow = f"{self._described(one.true)} taken for {plain(self.names[one.predicted], 28)}"
                share = f"{percent(one.share, one.low, one.high)} %" if one.of else "n/a"
                lines.append(f"{mark}  {arrow}: {one.images} of {one.of}, {share}")
        return "\n".join(lines)

    def _described(self, c: int, letters: int = 28) -> str:
        return f"{plain(self.names[c], letters)} ({self.groups[c]}, {self.counts[c]})"

    def to_frame(self) -> pd.DataFrame:
        """One row per pair and direction; share, low and high in [0, 1]."""
        import pandas as pd

        columns = ["rank", "direction", "true", "predicted", "true_name", "predicted_name", "images", "of", "share"]
        columns += ["low", "high", "true_train_images", "predicted_train_images", "true_group", "predicted_group"]
        rows = [
            (
                *(rank, direction, one.true, one.predicted, self.names[one.true], self.names[one.predicted]),
                *(one.images, one.of, one.share, one.low, one.high),
                *(int(self.counts[one.true]), int(self.counts[one.predicted])),
                *(str(self.groups[one.true]), str(self.groups[one.predicted])),
            )
            for rank, pair in enumerate(self.pairs, start=1)
            for direction, one in (("forth", pair.forth), ("back", pair.back))
        ]
        return pd.DataFrame(rows, columns=columns)

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        if not self.pairs:
            ax.text(0.5, 0.5, "no image is decided wrongly", ha="center", va="center", transform=ax.transAxes)
            ax.set(xticks=[], yticks=[], xlabel=f"n = {self.n} images")
            ax.spines[:].set_visible(False)
        elif view == "images":
            self._draw_images(ax, **artist_kw)
        else:
            self._draw_pairs(ax, **artist_kw)

    def _draw_pairs(self, ax: Axes, **artist_kw: Any) -> None:
        shown = self.pairs[:_DRAWN]
        present: dict[str, str] = {}
        for place, pair in enumerate(shown):
            for one, shift in ((pair.forth, -0.2), (pair.back, 0.2)):
                colour = GROUP_COLOURS[str(self.groups[one.true])]
                present[str(self.groups[one.true])] = colour
                ends = (100 * np.nan_to_num(value) for value in (one.share, one.low, one.high))
                share, low, high = ends
                ax.barh(place + shift, share, **({"height": 0.36, "color": colour} | artist_kw))
                if one.of:
                    ax.hlines(place + shift, low, high, color=INK, linewidth=0.9)
                ax.annotate(
                    f"{one.images} of {one.of}", (high, place + shift), (3, 0), textcoords="offset points",
                    va="center", fontsize=CAPTION_SIZE - 1, annotation_clip=False,
                )  # fmt: skip
        letters = 12 if is_narrow(ax) else 24
        ticks = [f"{self._described(pair.first, letters)}\n{self._described(pair.second, letters)}" for pair in shown]
        ax.set_yticks(range(len(shown)), ticks, fontsize=CAPTION_SIZE - 1, parse_math=False)
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(len(shown) - 0.5, -0.5)
        ax.set_xlim(0, max(2.0, 118 * max(np.nan_to_num(one.high) for p in shown for one in (p.forth, p.back))))
        ax.set_xlabel("of the true class's images, decided as the other (%)")
        dress(ax, grid="x")
        for group in (group for group in GROUP_ORDER if group in present):
            ax.barh(0, 0, color=present[group], label=f"{group}-shot true class")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, borderaxespad=0.2)
        caption_below(
            ax,
            f"upper bar: the first class taken for the second; lower bar: the reverse\n"
            f"{self._chosen(len(shown))}; Wilson {self.level:.0%}, for pairs named in advance",
        )

    def _chosen(self, shown: int) -> str:
        return f"{shown} of {self.confused} pairs with errors"

    def _draw_images(self, ax: Axes, **artist_kw: Any) -> None:
        assert self.pictures is not None
        step, apart = SIDE + GAP, SIDE // 4
        P, K, E = self.pictures.shape[:3]
        lefts = [kind * (E * step + apart) + place * step for kind in range(K) for place in range(E)]
        sheet = np.full((P * step, lefts[-1] + SIDE, 3), 255, dtype=np.uint8)
        for row in range(P):
            for left, picture in zip(lefts, self.pictures[row].reshape(K * E, SIDE, SIDE, 3), strict=True):
                place_on(sheet, picture, row * step, left)
        ax.imshow(sheet, **artist_kw)
        centres = [np.mean(lefts[kind * E : (kind + 1) * E]) + SIDE / 2 for kind in range(K)]
        ax.set_xticks(centres, _KINDS, fontsize=CAPTION_SIZE - 1)
        ax.xaxis.tick_top()
        letters = 12 if is_narrow(ax) else 20
        names = [
            f"{self._described(pair.first, letters)}\n{self._described(pair.second, letters)}"
            for pair in self.pairs[:P]
        ]
        ax.set_yticks(np.arange(P) * step + SIDE / 2, names, fontsize=CAPTION_SIZE - 1, parse_math=False)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_xlabel(f"{self._chosen(P)}, at most {E} images each, surest first", color=MUTED, fontsize=CAPTION_SIZE)


def confusable_pairs(
    features: Features, *, top: int = 10, level: float = 0.95, images: LongTailDataset | None = None
) -> ConfusablePairs:
    """The pairs of classes with the most wrong decisions between them, in both directions together.

    Of pairs with equally many, the one with the larger sum of shares comes first, then lower class indices. Only pairs
    that occur take memory, never C x C.

    Args:
        features: with decisions.
        top: at most so many pairs.
        level: of the Wilson intervals, in (0, 1).
        images: holds the images of the features; adds the view "images" with, for the first pairs, the wrong images
            of both directions and right ones of both classes, those of highest confidence.

    Raises:
        ValueError: features without decisions, `top` below 1, `level` outside (0, 1), images of another data set.
    """
    if top < 1:
        raise ValueError(f"top={top}: ask for at least one pair of classes.")
    if not 0 < level < 1:
        raise ValueError(f"level={level} is no level of confidence; give a number between 0 and 1, such as 0.95.")
    predicted, labels, classes = features.decisions, features.labels, features.classes
    C, counts = len(classes), np.asarray(classes.counts)
    sizes = np.bincount(labels, minlength=C)
    wrong = predicted != labels
    cells, number = np.unique(labels[wrong].astype(np.int64) * C + predicted[wrong], return_counts=True)
    true, chosen = cells // C, cells % C
    keys, pair_of = np.unique(np.minimum(true, chosen) * C + np.maximum(true, chosen), return_inverse=True)
    totals = np.bincount(pair_of, weights=number, minlength=len(keys))
    shares = np.bincount(pair_of, weights=number / sizes[true], minlength=len(keys))
    order = np.lexsort((keys, -shares, -totals))[:top]
    count_of = {int(cell): int(images_there) for cell, images_there in zip(cells, number, strict=True)}

    def direction(a: int, b: int) -> Direction:
        found = count_of.get(a * C + b, 0)
        low, high = (float(bound) for bound in metrics.wilson_interval(found, int(sizes[a]), level=level))
        return Direction(true=a, predicted=b, images=found, of=int(sizes[a]), low=low, high=high)

    pairs = []
    for a, b in ((int(key) // C, int(key) % C) for key in keys[order]):
        first, second = (b, a) if counts[b] > counts[a] else (a, b)
        forth, back = direction(first, second), direction(second, first)
        pairs.append(ClassPair(first=first, second=second, forth=forth, back=back))
    return ConfusablePairs(
        arguments={"top": top, "level": level, "images": images is not None},
        sources=(features.source,),
        pairs=tuple(pairs),
        confused=len(keys),
        errors=int(wrong.sum()),
        n=len(labels),
        level=level,
        pictures=None if images is None else _pictures(features, pairs[:_PICTURED], images),
        names=tuple(classes.names),
        counts=counts,
        groups=np.asarray(classes.groups),
        rule=str(classes.rule),
    )


def _pictures(features: Features, pairs: list[ClassPair], images: LongTailDataset) -> np.ndarray:
    """(P, 4, 2, SIDE, SIDE, 3) uint8, white where there is no such image."""
    pictures = np.full((len(pairs), len(_KINDS), _EACH, SIDE, SIDE, 3), 255, dtype=np.uint8)
    confidence = features.confidence
    assert confidence is not None  # Features has both or neither, and has decisions
    for row, pair in enumerate(pairs):
        a, b = pair.first, pair.second
        for kind, (true, decided) in enumerate(((a, b), (a, a), (b, b), (b, a))):
            rows = np.flatnonzero((features.labels == true) & (features.decisions == decided))
            rows = rows[np.argsort(-confidence[rows], kind="stable")[:_EACH]]
            pictures[row, kind, : len(rows)] = thumbnails(images, features.ids[rows])
    return pictures
