"""Do the images of a class lie as close together in training as in testing? Distances to the class mean, by group.

Source: Shi, Wei, Zhou, Shao, Han, Li, "Long-Tail Learning with Foundation Model: Heavy Fine-Tuning Hurts" (LIFT), ICML
2024, arXiv 2309.10019, figures 3, 4, 7 and 8; computed as in the authors' notebook (plot/ at commit 661ead9): the
distance of an image is 1 - cosine to the mean of the raw features of its class in its own split.

That mean contains the image itself, so distances are smaller the fewer images a class has, and a few-shot class seems
to shift between 5 training and 50 test images where nothing shifts. For isotropic noise of r times the squared length
of the class mean, in many dimensions, the expected distance is 1 - sqrt((1 + r / n) / (1 + r)) with n images. Beside
the published variant therefore stands a size-matched one: of each class as many images are drawn from either split as
the smaller of the two has, again and again, and distances are to the mean of the drawn. Without a shift both splits
then have the same distribution, whatever the sizes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy import special, stats

from workbench import metrics

from .base import GROUP_COLOURS, GROUP_ORDER, INK, MUTED, SPLIT_LINES, Result, dress, same_classes, scatter_by_frequency

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.features import Features

SPLITS = ("train", "test")
VARIANTS = ("matched", "published")
_BANDWIDTHS = 4  # beyond the furthest image, where a Gaussian has come down to nothing


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Distances of one group in training and in testing; nan where there is nothing to compare."""

    classes: int  # with images in both splits (matched: two or more)
    train_images: int  # of every class of the group (matched: in one draw, the same number for both splits)
    test_images: int
    train: float  # mean over images
    test: float
    difference: metrics.Interval  # test minus train; bounds (Student t over classes) for the matched variant only
    wasserstein: float  # first Wasserstein distance of the two distributions, in the unit of the distances

    def __str__(self) -> str:
        low, high = self.difference.low, self.difference.high
        bounds = "" if math.isnan(low) else f" [{low:+.3f}, {high:+.3f}]{'*' if self.difference.too_small else ''}"
        return f"{self.difference.estimate:+.3f}{bounds}"


@dataclass(frozen=True, kw_only=True, eq=False)
class IntraClass(Result):
    """Distances 1 - cosine, in [0, 2], of images to the mean of their class; 0 for the only image of a class."""

    diagnostic: ClassVar[str] = "intra_class_distances"
    views: ClassVar[tuple[str, ...]] = (*VARIANTS, "classes")  # distributions by group, and one point per class

    shifts: dict[tuple[str, str], Shift]  # (variant, group)
    distances: dict[tuple[str, str], np.ndarray]  # (variant, split) -> (n,) float64; matched: all draws
    labels: dict[tuple[str, str], np.ndarray]  # (variant, split) -> (n,) class of each distance
    class_means: dict[tuple[str, str], np.ndarray]  # (variant, split) -> (C,) mean distance, nan without images
    images: dict[str, np.ndarray]  # split -> (C,)
    matched_images: np.ndarray  # (C,) images of one draw; 0 where a split has fewer than 2
    repeats: int
    names: tuple[str, ...]
    counts: np.ndarray  # (C,) training images
    groups: np.ndarray  # (C,) "many" | "medium" | "few"
    rule: str
    level: float

    def of_group(self, group: str, split: str, variant: str = "matched") -> np.ndarray:
        """(n,) distances of all images of a group's classes, pooled as in LIFT's histograms; matched: of all draws."""
        inside = self.groups[self.labels[variant, split]] == group
        return self.distances[variant, split][inside]

    def __str__(self) -> str:
        lines = [
            f"distance to the class mean, test minus train [{self.level:.0%} over classes]; groups: {self.rule}",
            f"{'':<10}{'group':<8}{'classes':>8}{'train':>8}{'test':>8}  {'shift':<26}Wasserstein",
        ]
        for (variant, group), shift in self.shifts.items():
            lines.append(f"{variant:<10}{group:<8}{shift.classes:>8}" + _numbers(shift))
        lines.append(f"matched: equally many images of a class from both splits, {self.repeats} draws")
        lines.append("published: all images of a class; the fewer, the smaller their distances, without any shift")
        if any(shift.difference.too_small and shift.difference.n for shift in self.shifts.values()):
            lines.append(f"* fewer than {metrics.TRUSTED_FROM} classes: do not lean on this interval")
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Rows of kind "group" and "class" for each variant: mean distances and their difference, test minus train."""
        import pandas as pd

        rows: list[dict[str, Any]] = [
            {
                "variant": variant,
                "kind": "group",
                "group": group,
                "classes": shift.classes,
                "train_images": shift.train_images,
                "test_images": shift.test_images,
                "train": shift.train,
                "test": shift.test,
                "difference": shift.difference.estimate,
                "low": shift.difference.low,
                "high": shift.difference.high,
                "wasserstein": shift.wasserstein,
            }
            for (variant, group), shift in self.shifts.items()
        ]
        for variant in VARIANTS:
            matched = variant == "matched"
            rows += [
                {
                    "variant": variant,
                    "kind": "class",
                    "group": self.groups[c],
                    "class": c,
                    "name": self.names[c],
                    "train_images": (self.matched_images if matched else self.images["train"])[c],
                    "test_images": (self.matched_images if matched else self.images["test"])[c],
                    "train": self.class_means[variant, "train"][c],
                    "test": self.class_means[variant, "test"][c],
                    "difference": self.class_means[variant, "test"][c] - self.class_means[variant, "train"][c],
                }
                for c in range(len(self.names))
            ]
        return pd.DataFrame(rows).astype({"class": "Int64", "classes": "Int64"})

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        if view == "classes":
            self._draw_classes(ax, **artist_kw)
            return
        grid, curves = self.curves(view)
        top = grid[-1]
        highest = max((curve.max() for curve in curves.values()), default=1.0)
        ticks = []
        for row, group in zip((2, 1, 0), GROUP_ORDER, strict=True):
            shift, colour = self.shifts[view, group], GROUP_COLOURS[group]
            ticks.append(f"{group}\n{shift.classes} classes")
            if (group, "train") not in curves:
                ax.text(0.02 * top, row + 0.1, "n/a (no images to compare)", color=MUTED, fontsize="small")
                continue
            for split, alpha in (("train", 0.28), ("test", 0.10)):
                height = 0.85 * curves[group, split] / highest
                style = {"color": colour, "linestyle": SPLIT_LINES[split], "linewidth": 1.4} | artist_kw
                ax.plot(grid, row + height, **style)
                ax.fill_between(grid, row, row + height, color=colour, alpha=alpha, linewidth=0)
                mean = getattr(shift, split)
                ax.vlines(mean, row, row + np.interp(mean, grid, height), colors=INK, linestyles=SPLIT_LINES[split])
            note = f"shift {str(shift).replace(' [', chr(10) + '[')}\ntrain {shift.train:.3f}, test {shift.test:.3f}"
            ax.annotate(
                f"{note}\nn = {_images(shift)}", (1.02, row + 0.42), xycoords=("axes fraction", "data"),
                va="center", fontsize="small", annotation_clip=False,
            )  # fmt: skip
        ax.set_yticks([2.35, 1.35, 0.35], ticks)
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(-0.03, 3.0)
        ax.set_xlim(0, top)
        ax.set_xlabel("distance to the class mean, 1 \N{MINUS SIGN} cosine")
        for split in SPLITS:
            ax.plot([], [], color=INK, linestyle=SPLIT_LINES[split], label=split)
        how = "size-matched draws" if view == "matched" else "all images, as published"
        ax.legend(title=how, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0, handlelength=2.4)
        dress(ax, grid="x")
        ax.spines["left"].set_visible(False)

    def curves(self, variant: str = "matched") -> tuple[np.ndarray, dict[tuple[str, str], np.ndarray]]:
        """Densities as drawn: grid (G,) of distances, (group, split) -> (G,) heights; a group without images has none.

        Both curves of a group have one bandwidth, so that they differ by their data alone.
        """
        pools = {(group, split): self.of_group(group, split, variant) for group in GROUP_ORDER for split in SPLITS}
        widths = {group: self._bandwidth(pools, group, variant) for group in GROUP_ORDER}
        top = max(
            (pools[group, split].max() + _BANDWIDTHS * widths[group] for group, split in pools if widths[group] > 0),
            default=1.0,
        )
        grid = np.linspace(0, top, 512)
        return grid, {key: density(pool, grid, widths[key[0]]) for key, pool in pools.items() if widths[key[0]] > 0}

    def _bandwidth(self, pools: dict[tuple[str, str], np.ndarray], group: str, view: str) -> float:
        """Of both curves of a group, so that they differ by their data alone: Silverman's rule, smaller split; or 0."""
        pair, shift = [pools[group, split] for split in SPLITS], self.shifts[view, group]
        if not all(len(pool) for pool in pair):
            return 0.0
        spread = float(np.mean([pool.std() for pool in pair]))
        return max(0.9 * spread * min(shift.train_images, shift.test_images) ** -0.2, 1e-3)

    def _draw_classes(self, ax: Axes, **artist_kw: Any) -> None:
        bands, labels = {}, {}
        for group in GROUP_ORDER:
            shift = self.shifts["matched", group]
            bands[group] = (shift.difference.estimate, shift.difference.low, shift.difference.high)
            labels[group] = f"{group} {shift} (n = {shift.classes})"
        values = self.class_means["matched", "test"] - self.class_means["matched", "train"]
        ax.axhline(0, color=INK, linewidth=0.8)
        scatter_by_frequency(ax, values, self.counts, self.groups, labels=labels, bands=bands, **artist_kw)
        ax.set_ylabel("distance to the class mean,\ntest minus train (size-matched)")
        title = f"mean over images [{self.level:.0%}]\n(n classes)"
        ax.legend(title=title, alignment="left", loc="upper left", bbox_to_anchor=(1.0, 1.0))


def intra_class_distances(
    train: Features, test: Features, *, repeats: int = 20, level: float = 0.95, seed: int = 0
) -> IntraClass:
    """Distances of images to the mean of their class in training and in testing, as published and size-matched.

    A positive difference says that test images lie further from their class mean than training images do.

    Args:
        train: training images, extracted with the test transform.
        test: other images of the same classes by the same model.
        repeats: draws of the size-matched variant; a class needs two images in each split to take part.
        level: of the intervals over classes.
        seed: of the draws.
    """
    _check(train, test, repeats, level)
    classes = same_classes([train, test])
    groups, rng = np.asarray(classes.groups), np.random.default_rng(seed)
    parts = {"train": train, "test": test}
    images = {split: np.bincount(part.labels, minlength=len(classes)) for split, part in parts.items()}
    smaller = np.minimum(images["train"], images["test"])
    matched = np.where(smaller >= 2, smaller, 0)
    distances, labels, class_means = {}, {}, {}
    for split, part in parts.items():
        rows = np.split(np.argsort(part.labels, kind="stable"), np.cumsum(images[split])[:-1])  # of each class
        own, drawn = np.empty(len(part)), []
        for of_class, size in zip(rows, matched, strict=True):
            vectors = part.vectors[of_class].astype(np.float64)
            own[of_class] = to_own_mean(vectors)
            if size:
                chosen = np.argsort(rng.random((repeats, len(vectors))), axis=1)[:, :size]
                drawn.append(to_own_mean(vectors[chosen]).ravel())
        distances |= {("published", split): own, ("matched", split): np.concatenate([np.empty(0), *drawn])}
        labels |= {
            ("published", split): part.labels,
            ("matched", split): np.repeat(np.arange(len(classes)), repeats * matched),
        }
        for variant in VARIANTS:
            number = np.bincount(labels[variant, split], minlength=len(classes))
            total = np.bincount(labels[variant, split], distances[variant, split], minlength=len(classes))
            class_means[variant, split] = np.divide(total, number, out=np.full(len(classes), np.nan), where=number > 0)
    for array in (*distances.values(), *class_means.values()):
        array.setflags(write=False)
    shifts = {}
    for variant in VARIANTS:
        sizes = images if variant == "published" else dict.fromkeys(SPLITS, matched)
        means = {split: class_means[variant, split] for split in SPLITS}
        for group in GROUP_ORDER:
            pools = [distances[variant, split][groups[labels[variant, split]] == group] for split in SPLITS]
            shifts[variant, group] = _shift(pools, means, sizes, groups == group, variant, group, level)
    return IntraClass(
        arguments={"repeats": repeats, "level": level, "seed": seed},
        sources=(train.source, test.source),
        shifts=shifts,
        distances=distances,
        labels=labels,
        class_means=class_means,
        images=images,
        matched_images=matched,
        repeats=repeats,
        names=tuple(classes.names),
        counts=np.asarray(classes.counts),
        groups=groups,
        rule=str(classes.rule),
        level=level,
    )


def to_own_mean(vectors: np.ndarray) -> np.ndarray:
    """1 - cosine of each vector to the mean of its set: (..., n, D) float64 -> (..., n).

    A mean of length 0 has no direction: distance 1.
    """
    mean = vectors.mean(axis=-2, keepdims=True)
    lengths = np.linalg.norm(vectors, axis=-1) * np.linalg.norm(mean, axis=-1)
    cosine = np.divide((vectors * mean).sum(axis=-1), lengths, out=np.zeros(lengths.shape), where=lengths > 0)
    return np.clip(1 - cosine, 0, 2)


def density(values: np.ndarray, grid: np.ndarray, bandwidth: float) -> np.ndarray:
    """Density of values (n,) at an even grid (G,) from 0 on: a Gaussian kernel, reflected at 0, where distances end.

    Values are first counted on the grid, which makes it fast for millions; those beyond its end are left out.
    """
    step = grid[1] - grid[0]
    edges = np.append(grid - step / 2, grid[-1] + step / 2)
    counted = np.histogram(np.maximum(values, 0), edges)[0] / (len(values) * step)
    offsets = np.arange(1 - len(grid), len(grid)) * step
    kernel = np.exp(-0.5 * (offsets / bandwidth) ** 2)
    kernel /= kernel.sum()
    folded = np.concatenate([counted[:0:-1], counted])  # from -grid[-1] to grid[-1]
    return np.convolve(folded, kernel, mode="same")[len(grid) - 1 :]


def _shift(
    pools: list[np.ndarray],
    means: dict[str, np.ndarray],
    sizes: dict[str, np.ndarray],
    inside: np.ndarray,
    variant: str,
    group: str,
    level: float,
) -> Shift:
    """One group: pools (n,) of train and test; class means (C,), sizes (C,) by split; inside (C,) bool."""
    members = inside & (sizes["train"] > 0) & (sizes["test"] > 0)
    train, test = (float(pool.mean()) if len(pool) else math.nan for pool in pools)
    low = high = math.nan
    method = "none: distances of different numbers of images are not comparable"
    if variant == "matched":
        low, high, method = _student(
            (means["test"] - means["train"])[members], sizes["train"][members].astype(np.float64), level
        )
    return Shift(
        classes=int(members.sum()),
        train_images=int(sizes["train"][inside].sum()),
        test_images=int(sizes["test"][inside].sum()),
        train=train,
        test=test,
        difference=metrics.Interval(
            estimate=test - train,
            low=low,
            high=high,
            level=level,
            n=int(members.sum()),
            unit="classes",
            method=method,
            estimand=f"mean distance in testing minus training over {group}-shot classes like these, for this model",
            too_small=int(members.sum()) < metrics.TRUSTED_FROM,
        ),
        wasserstein=float(stats.wasserstein_distance(*pools)) if all(len(pool) for pool in pools) else math.nan,
    )


def _student(differences: np.ndarray, sizes: np.ndarray, level: float) -> tuple[float, float, str]:
    """Bounds of the mean of class differences (K,) weighted by sizes (K,): Student t, leaving one class out.

    With the degrees of freedom of 1 / sum of squared weights classes, as in `metrics`: with K - 1 of them, 8 classes of
    3 to 19 images showed a shift in 7 instead of 5 of 100 draws without one.
    """
    n = len(differences)
    if n < 2:
        return math.nan, math.nan, "none: fewer than two classes"
    estimate = float(np.average(differences, weights=sizes))
    jackknife, freedom = metrics.leave_one_out(differences * sizes, sizes)
    half = float(special.stdtrit(freedom, 0.5 + level / 2)) * float(jackknife.std(ddof=1)) / math.sqrt(n)
    return estimate - half, estimate + half, "Student t"


def _numbers(shift: Shift) -> str:
    if not shift.classes:
        return "     n/a"
    return f"{shift.train:8.3f}{shift.test:8.3f}  {shift!s:<26}{shift.wasserstein:.3f}"


def _images(shift: Shift) -> str:
    if shift.train_images == shift.test_images:
        return f"{shift.train_images} images each"
    return f"{shift.train_images} / {shift.test_images} images"


def _check(train: Features, test: Features, repeats: int, level: float) -> None:
    if repeats < 1:
        raise ValueError(f"repeats={repeats}: the size-matched variant needs at least one draw.")
    if not 0 < level < 1:
        raise ValueError(f"level={level} is not between 0 and 1; 0.95 asks for 95 % intervals.")
    widths = train.vectors.shape[1], test.vectors.shape[1]
    if widths[0] != widths[1]:
        raise ValueError(f"train has width {widths[0]}, test {widths[1]}; extract both with one model.")
    both = np.intersect1d(train.ids, test.ids)
    if len(both):
        raise ValueError(
            f"train and test share {len(both)} images (e.g. {str(both[0])!r}); distances in training and testing need "
            "two splits. Extract the train and the test split of one manifest."
        )
    for name, part in (("train", train), ("test", test)):
        zero = int((np.linalg.norm(part.vectors, axis=1) == 0).sum())
        if zero:
            raise ValueError(f"{zero} vectors of {name} are zero and have no cosine; look at the model or its layer.")
