"""Where did each image move between two models: frozen and tuned, one phase and the next, trained jointly or decoupled?

Sources: the question of BALLAD's figure 6 (Ma et al., 2021, arXiv 2111.14745) and LPT's figure 5 (Dong et al., ICLR
2023, arXiv 2210.01033), which lay two projections side by side. A projection is free up to rotation, reflection and
scale, so that nothing can be read off the two as they stand. Here both models' vectors are aligned by orthogonal
Procrustes first, in all dimensions; what is left of each image's way is its drift (`alignment` has the sources). The
maps are aligned in the same way, and how far they show the drift of all dimensions stands beneath them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy import stats

from workbench import metrics

from . import drift_drawing
from .alignment import align, linear_cka, neighbours_kept, unit_vectors
from .arms import rows_of_images
from .base import GROUP_ORDER, ROWS, TEXT_WIDTH, Result, percent, plain, same_classes
from .map_pairs import NAMES, SHUFFLES, MapPair, chosen_classes, listed, map_pair

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.features import Features

QUANTITIES = ("drift", "kept")
STILL = 1e-4  # drift below which an image has not moved, but for rounding to single precision


@dataclass(frozen=True, kw_only=True, eq=False)
class Drift(Result):
    """N images before and after, in the order of the first features, of which M are on the maps.

    Drift is a distance after alignment, with the root mean square distance of the images from their mean as its unit,
    in either model: 0 where the image lies as before among the others, about 1.4 where the models have nothing in
    common.
    """

    diagnostic: ClassVar[str] = "drift"
    views: ClassVar[tuple[str, ...]] = drift_drawing.VIEWS
    size: ClassVar[tuple[float, float]] = (TEXT_WIDTH + 1, 3.5)

    arms: tuple[str, str]  # what the two are called
    drift: np.ndarray  # (N,) float64, in all dimensions
    kept: np.ndarray  # (N,) float64 in [0, 1]: share of the k nearest neighbours, by cosine, that stayed among them
    k: int
    over_classes: dict[tuple[str, str], metrics.Interval]  # ("drift" | "kept", group): mean over classes
    shuffled: float  # mean drift if every image were paired with a random other one
    disparity: float  # of all dimensions, in [0, 1]: see alignment
    cka: float  # linear, unbiased
    cka_published: float  # linear, as published
    spread: tuple[float, float]  # root mean square distance of unit vectors from their mean
    widths: tuple[int, int]
    pair: MapPair
    rho: float  # Spearman's, of drift on the map and in all dimensions; nan where nothing moved
    chosen: np.ndarray | None  # (n,) int64 classes on the maps; None for all
    ids: np.ndarray  # (N,) str
    labels: np.ndarray  # (N,) int64
    class_names: tuple[str, ...]
    groups: np.ndarray  # (C,) "many" | "medium" | "few"
    rule: str

    @property
    def points(self) -> np.ndarray:
        """(2, M, 2) float64: before and, aligned to it, after; mean 0, root mean square length 1."""
        return np.stack([self.pair.alignment.first, self.pair.alignment.second])

    @property
    def map_drift(self) -> np.ndarray:
        """(M,) float64, on the map."""
        return self.pair.alignment.distances

    @property
    def chance_kept(self) -> float:
        """Share of neighbours that stay if the models have nothing in common."""
        return self.k / (len(self.ids) - 1)

    def sizes(self, group: str) -> tuple[int, int]:
        """Classes with images, and images, of "all", "many", "medium" or "few"."""
        labels = self.labels[np.isin(self.groups[self.labels], GROUP_ORDER if group == "all" else [group])]
        return len(np.unique(labels)), len(labels)

    def verdict(self) -> str:
        """Whether the maps may be read image by image."""
        if math.isnan(self.rho):
            return "nothing moved"
        said = "they disagree: do not read the map image by image"
        if self.rho >= 0.5:
            said = "they agree" if self.rho >= 0.8 else "they agree in part"
        return f"drift on the map and in all dimensions: Spearman {self.rho:.2f}, {said}"

    def caption(self, view: str = "pair") -> str:
        """What to know of the figure, as it stands under it."""
        if view == "groups":
            kept = ", ".join(f"{group} {percent(self.over_classes['kept', group].estimate)}" for group in ROWS)
            return (
                f"% of the {self.k} nearest neighbours kept: {kept}\n"
                f"images paired at random: drift {self.shuffled:.2f}, kept {percent(self.chance_kept)} %"
            )
        of_all = "" if self.chosen is None else ", all images"
        both = (
            f"disparity {self.pair.alignment.disparity:.2f} on the map, {self.disparity:.2f} in all dimensions{of_all}"
        )
        return "\n".join([*self.pair.notes, f"{both} (0: congruent, 1: unrelated)", self.verdict()])

    def __str__(self) -> str:
        wide = self.widths[0] if len(set(self.widths)) == 1 else " and ".join(map(str, self.widths))
        lines = [
            f"from {plain(self.arms[0], 60)} to {plain(self.arms[1], 60)}, {len(self.ids)} images; groups: {self.rule}",
            f"in all dimensions ({wide}): disparity {self.disparity:.3f} (0: congruent, 1: unrelated), linear CKA "
            f"{self.cka:.3f} (unbiased; as published {self.cka_published:.3f})",
            "spread of unit vectors about their mean: {:.3f} before, {:.3f} after".format(*self.spread),
            f"mean over classes [{self.arguments['level']:.0%}]: drift (1: distance of an image from the mean of all), "
            f"% of the {self.k} nearest neighbours kept",
        ]
        for group in ROWS:
            moved, kept = (self.over_classes[quantity, group] for quantity in QUANTITIES)
            bounds = "" if math.isnan(moved.low) else f" [{moved.low:.3f}, {moved.high:.3f}]"
            cells = "n/a" if math.isnan(moved.estimate) else f"{moved.estimate:.3f}{bounds}"
            few = "  too few classes to trust the interval" if moved.too_small and moved.n else ""
            classes, images = self.sizes(group)
            line = f"{group:<7}{classes:>5} classes, n = {images:<6} drift {cells:<22} kept "
            lines.append(f"{line}{percent(kept.estimate, kept.low, kept.high)}{few}")
        chance = f"drift {self.shuffled:.3f}, kept {percent(self.chance_kept)} %"
        lines.append(f"if images were paired at random: {chance}")
        where = "" if self.chosen is None else f" of {len(self.chosen)} classes"
        lines.append(f"{NAMES[self.pair.method]} maps, {len(self.pair.rows)} images{where}:")
        return "\n".join([*lines, *(f"  {line}" for line in self.caption().split("\n"))])

    def to_frame(self) -> pd.DataFrame:
        """Rows of kind "group", "class" and "image"; places and map_drift are empty for images that are on no map."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for group in ROWS:
            classes, images = self.sizes(group)
            row = {"kind": "group", "group": group, "classes": classes, "images": images}
            for quantity in QUANTITIES:
                found = self.over_classes[quantity, group]
                row |= {quantity: found.estimate, f"{quantity}_low": found.low, f"{quantity}_high": found.high}
            rows.append(row)
        images, names = np.bincount(self.labels, minlength=len(self.groups)), np.array(self.class_names, dtype=object)
        held = np.flatnonzero(images)
        of_class = {"kind": "class", "group": self.groups[held], "class": held, "name": names[held]}
        of_class |= {"images": images[held]}
        of_class |= {quantity: self.class_means(quantity)[held] for quantity in QUANTITIES}
        of_image = {"kind": "image", "group": self.groups[self.labels], "class": self.labels}
        of_image |= {"name": names[self.labels], "id": self.ids, "drift": self.drift, "kept": self.kept}
        places = np.full((len(self.ids), 5), np.nan)
        places[self.pair.rows] = np.column_stack([self.map_drift, *self.points])
        of_image |= dict(zip(("map_drift", "x_before", "y_before", "x_after", "y_after"), places.T, strict=True))
        frames = [pd.DataFrame(rows), pd.DataFrame(of_class), pd.DataFrame(of_image)]
        return pd.concat(frames, ignore_index=True).astype(dict.fromkeys(("classes", "images", "class"), "Int64"))

    def class_means(self, quantity: str) -> np.ndarray:
        """(C,) mean "drift" or "kept" of each class's images; nan without images."""
        if quantity not in QUANTITIES:
            raise ValueError(f"quantity={quantity!r} is not known; choose one of {', '.join(QUANTITIES)}.")
        return _class_means(getattr(self, quantity), self.labels, len(self.groups))

    def class_points(self) -> np.ndarray:
        """(2, C, 2) mean place on the maps of each class's images, before and after; nan for classes on no map."""
        labels, C = self.labels[self.pair.rows], len(self.groups)
        return np.stack([np.stack([_class_means(axis, labels, C) for axis in points.T], 1) for points in self.points])

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        drift_drawing.draw(self, ax, view, **artist_kw)


def drift(
    before: Features,
    after: Features,
    *,
    method: str = "pca",
    classes: int | str | Sequence[int | str] | None = None,
    k: int = 10,
    names: tuple[str, str] = ("before", "after"),
    seed: int = 0,
    level: float = 0.95,
) -> Drift:
    """How far each image moved between two models, by shot group, and a pair of maps that can be compared.

    Vectors are divided by their lengths, and both sets brought to the same spread, before they are aligned: neither
    counts as drift. With few images for the width, anything can be turned onto anything: compare with `shuffled`. What
    moves far takes the alignment along a little, so that the rest seems to move the other way: compare classes.

    Args:
        before: (N, D1) vectors of one model.
        after: (N, D2) vectors of another, of the same images; their order and the width may differ.
        method: of the maps: "pca", "lda" (of classes, fitted on one half of the images, showing the other), "tsne" or
            "umap".
        classes: which to map: indices or names, or one of "many", "medium", "few"; None: all. At most ten have colours
            of their own. The numbers of all dimensions are those of all images in any case.
        k: nearest neighbours, below N.
        names: what to call the two.
        seed: of shuffles, of the bootstrap over classes, and of the maps.
        level: of confidence.

    Raises:
        ValueError: other images, labels or classes in the two, fewer than four images, vectors of length 0 or all of
            one direction, unknown classes or methods.
    """
    shared = same_classes([before, after])
    if method not in NAMES:
        raise ValueError(f"method={method!r} is not known; choose one of {', '.join(NAMES)}.")
    if len(names) != 2 or names[0] == names[1]:
        raise ValueError(f"names={list(names)}; give two different ones.")
    if len(before) < 4 or not 1 <= k < len(before):
        raise ValueError(f"k={k} for {len(before)} images; give four images or more, and k from 1 to one fewer.")
    labels, groups = before.labels, np.asarray(shared.groups)
    unit = [unit_vectors("before", before.vectors), unit_vectors("after", after.vectors[rows_of_images(after, before)])]
    chosen = None if classes is None else chosen_classes(classes, shared, labels)
    full = align(*(x.astype(np.float64) for x in unit))
    moved, kept = full.distances, neighbours_kept(*unit, k)
    rng = np.random.default_rng(seed)
    by_chance = [align(full.first, full.second[rng.permutation(len(labels))]) for _ in range(SHUFFLES)]
    rows = np.arange(len(labels)) if chosen is None else np.flatnonzero(np.isin(labels, chosen))
    pair = map_pair(unit[0][rows], unit[1][rows], labels[rows], method, k=k, seed=seed)
    pair = replace(pair, rows=rows[pair.rows])
    on_map, flat = moved[pair.rows], pair.alignment.distances
    still = on_map.max() < STILL or np.ptp(on_map) == 0 or np.ptp(flat) == 0
    for array in (moved, kept):
        array.setflags(write=False)
    return Drift(
        arguments={
            "method": method, "classes": listed(classes), "k": k, "names": list(names), "seed": seed, "level": level,
        },
        sources=(before.source, after.source),
        arms=(str(names[0]), str(names[1])),
        drift=moved,
        kept=kept,
        k=k,
        over_classes={
            (quantity, group): _interval(quantity, values, labels, groups, group, level=level, seed=seed)
            for quantity, values in zip(QUANTITIES, (moved, kept), strict=True)
            for group in ROWS
        },
        shuffled=float(np.mean([each.distances.mean() for each in by_chance])),
        disparity=full.disparity,
        cka=linear_cka(full.first, full.second),
        cka_published=linear_cka(full.first, full.second, unbiased=False),
        spread=tuple(float(np.sqrt(((x - x.mean(axis=0)) ** 2).sum(axis=1).mean())) for x in unit),
        widths=(unit[0].shape[1], unit[1].shape[1]),
        pair=pair,
        rho=math.nan if still else float(stats.spearmanr(on_map, flat).statistic),
        chosen=chosen,
        ids=before.ids,
        labels=labels,
        class_names=tuple(shared.names),
        groups=groups,
        rule=str(shared.rule),
    )  # fmt: skip


def _class_means(values: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(N,) of images -> (C,) means; nan without images."""
    with np.errstate(invalid="ignore"):
        sums = np.bincount(labels, weights=values, minlength=num_classes)
        return sums / np.bincount(labels, minlength=num_classes)


def _interval(
    quantity: str, values: np.ndarray, labels: np.ndarray, groups: np.ndarray, group: str, *, level: float, seed: int
) -> metrics.Interval:
    """Mean over the classes of a group of the mean of each; bounds beyond what is possible are cut off."""
    inside = np.isin(groups, GROUP_ORDER if group == "all" else [group])
    means = _class_means(values, labels, len(groups))[inside]
    what = "drift" if quantity == "drift" else "share of neighbours kept"
    found = metrics.paired_values(
        means, np.zeros(len(means)), estimand=f"mean {what} of classes like these", level=level, seed=seed
    )
    highest = 1.0 if quantity == "kept" else math.inf
    return replace(found, low=float(np.maximum(found.low, 0.0)), high=float(np.minimum(found.high, highest)))
