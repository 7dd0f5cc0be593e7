"""How far apart do images and class vectors lie in the joint space of images and text, and for which shot groups?

Source: Liang, Zhang, Kwon, Yeung, Zou, "Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive
Representation Learning", NeurIPS 2022, arXiv 2203.02053: the gap is the difference of the means of unit image vectors
and unit text vectors. There every image has its own caption. Here a text belongs to a class, so an image's partner is
the vector of its class, and each class counts once on both sides: more images of one class are no gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench import metrics
from workbench.features import Features

from .base import (
    GROUP_COLOURS,
    GROUP_MARKERS,
    GROUP_ORDER,
    INK,
    PAPER,
    RASTER_FROM,
    ROWS,
    Result,
    caption_below,
    dress,
    legend_beside,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.data.manifest import Classes

_PAIRS = ("matched", "unmatched")


@dataclass(frozen=True, kw_only=True, eq=False)
class ModalityGap(Result):
    """Unit vectors of N images and C class texts of width E. Classes without images are nan and count nowhere."""

    diagnostic: ClassVar[str] = "modality_gap"
    views: ClassVar[tuple[str, ...]] = ("map", "cosines")

    vectors: dict[str, np.ndarray]  # all, many, medium, few -> (E,) image mean minus text mean; nan where empty
    matched: np.ndarray  # (C,) mean cosine of a class's images with its own text
    unmatched: np.ndarray  # (C,) and with the texts of all other classes; nan where there is one class
    cosines: dict[tuple[str, str], metrics.Difference]  # ("matched" | "unmatched", group): mean over classes
    margin: dict[str, metrics.Difference]  # group: matched minus unmatched, paired over classes
    of_image: np.ndarray  # (N, 2) cosine of each image with its own text, mean with the others
    image_points: np.ndarray  # (N, 2) on the plane
    text_points: np.ndarray  # (C, 2)
    variance: tuple[float, float]  # share along either axis, of images and their classes' texts in equal number
    ids: np.ndarray  # (N,) str
    labels: np.ndarray  # (N,) int64
    names: tuple[str, ...]
    groups: np.ndarray  # (C,) "many" | "medium" | "few"
    rule: str
    level: float

    @property
    def gap(self) -> dict[str, float]:
        """Length of the gap of all, many, medium, few, in [0, 2]. A mean of fewer classes is longer by chance alone."""
        return {group: float(np.linalg.norm(vector)) for group, vector in self.vectors.items()}

    @property
    def images(self) -> np.ndarray:
        """(C,) images of each class."""
        return np.bincount(self.labels, minlength=len(self.names))

    def sizes(self, group: str) -> tuple[int, int]:
        """Classes with images, and images."""
        inside = np.isin(self.groups, GROUP_ORDER if group == "all" else [group])
        return int((inside & (self.images > 0)).sum()), int(self.images[inside].sum())

    def caption(self, view: str = "map") -> str:
        shown = ", ".join(f"{group} {length:.3f}" for group, length in self.gap.items() if np.isfinite(length))
        plane = f"the plane holds {100 * sum(self.variance):.1f} % of the variance"
        return f"length of the gap: {shown}; {plane if view == 'map' else 'unmatched: the texts of all other classes'}"

    def __str__(self) -> str:
        lines = [self.caption("cosines"), f"cosines, mean over classes [{self.level:.0%}]; groups: {self.rule}"]
        for group in ROWS:
            classes, images = self.sizes(group)
            cells = [f"{kind} {_cell(self.cosines[kind, group])}" for kind in _PAIRS]
            cells.append(f"matched minus unmatched {_cell(self.margin[group])}")
            lines.append(f"{group:<7} {classes} classes, n = {images}: " + "  ".join(cells))
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Rows of kind "group", "class" (its text's place on the plane) and "image"."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for group in ROWS:
            classes, images = self.sizes(group)
            row = {"kind": "group", "group": group, "classes": classes, "images": images, "gap": self.gap[group]}
            for kind in _PAIRS:
                found = self.cosines[kind, group]
                row |= {kind: found.estimate, f"{kind}_low": found.low, f"{kind}_high": found.high}
            found = self.margin[group]
            row |= {"margin": found.estimate, "margin_low": found.low, "margin_high": found.high, "p": found.p}
            rows.append(row)
        frames = [
            pd.DataFrame(rows),
            pd.DataFrame(
                {
                    "kind": "class",
                    "group": self.groups,
                    "name": self.names,
                    "images": self.images,
                    "matched": self.matched,
                    "unmatched": self.unmatched,
                    "x": self.text_points[:, 0],
                    "y": self.text_points[:, 1],
                }
            ),
            pd.DataFrame(
                {
                    "kind": "image",
                    "group": self.groups[self.labels],
                    "name": np.array(self.names, dtype=object)[self.labels],
                    "id": self.ids,
                    "matched": self.of_image[:, 0],
                    "unmatched": self.of_image[:, 1],
                    "x": self.image_points[:, 0],
                    "y": self.image_points[:, 1],
                }
            ),
        ]
        return pd.concat(frames, ignore_index=True).astype({"classes": "Int64", "images": "Int64"})

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        (self._draw_map if view == "map" else self._draw_cosines)(ax, **artist_kw)
        caption_below(ax, self.caption(view).replace("; ", ";\n"))

    def _draw_map(self, ax: Axes, **artist_kw: Any) -> None:
        of_image = self.groups[self.labels]
        many = len(self.labels) > 500
        for group in GROUP_ORDER:
            inside, classes = of_image == group, (self.groups == group) & (self.images > 0)
            if not inside.any():
                continue
            colour, marker = GROUP_COLOURS[group], GROUP_MARKERS[group]
            style: dict[str, Any] = {"s": 4 if many else 12, "alpha": 0.4, "linewidths": 0, "color": colour}
            style |= {"marker": marker, "rasterized": len(self.labels) >= RASTER_FROM}
            ax.scatter(*self.image_points[inside].T, **(style | artist_kw))
            ax.scatter(*self.text_points[classes].T, s=26, color=PAPER, edgecolors=colour, marker=marker, linewidths=1)
            ax.plot([], [], marker, color=colour, label=f"{group} ({classes.sum()}), n = {inside.sum()}")
        for label, face in (("image", INK), ("text of a class", PAPER)):
            ax.plot([], [], "o", color=INK, markerfacecolor=face, label=label)
        ax.set_aspect("equal", adjustable="datalim")
        ax.set_xlabel(f"first axis of PCA ({100 * self.variance[0]:.1f} % of the variance)")
        ax.set_ylabel(f"second axis ({100 * self.variance[1]:.1f} %)")
        dress(ax, grid=None)
        legend_beside(ax, title="group (n classes), images")

    def _draw_cosines(self, ax: Axes, **artist_kw: Any) -> None:
        ticks = []
        for place, group in enumerate(ROWS):
            colour = GROUP_COLOURS.get(group, INK)
            for kind, shift in zip(_PAIRS, (-0.12, 0.12), strict=True):
                found = self.cosines[kind, group]
                style: dict[str, Any] = {"color": colour, "marker": GROUP_MARKERS.get(group, "D")}
                style |= {"markerfacecolor": colour if kind == "matched" else PAPER, "linestyle": "none"}
                ax.vlines(place + shift, found.low, found.high, color=colour, linewidth=1.2)
                ax.plot(place + shift, found.estimate, **(style | artist_kw))
            classes, images = self.sizes(group)
            ticks.append(f"{group}\n{classes} classes\nn = {images}")
        for kind, face in zip(_PAIRS, (INK, PAPER), strict=True):
            ax.plot([], [], "o", color=INK, markerfacecolor=face, label=kind)
        ax.set_xticks(range(len(ROWS)), ticks)
        ax.set_xlim(-0.5, len(ROWS) - 0.5)
        ax.set_ylabel(f"cosine of image and text\n(mean over classes) [{self.level:.0%}]")
        ax.set_xlabel("shot group")
        dress(ax)
        legend_beside(ax)


def modality_gap(
    images: Features | np.ndarray,
    text: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    classes: Classes | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> ModalityGap:
    """The gap between images and class texts, cosines of matched and unmatched pairs by shot group, and a plane.

    The plane is PCA of the images together with, for each image, the text of its class, so that both count alike.

    Args:
        images: features whose vectors are in the joint space; or (N, E) float vectors, of any length but 0.
        text: (C, E) float class vectors of the same space, of any length but 0.
        labels: (N,) int true class of each image; for vectors only.
        classes: names and shot groups of the C classes; for vectors only.
        level: of confidence.
        seed: of the bootstrap over classes.

    Raises:
        ValueError: vectors of different width or of length 0, texts or labels that do not fit the classes.
    """
    given = images if isinstance(images, Features) else None
    if given is not None:
        images, labels, classes = given.vectors, given.labels, given.classes
    elif labels is None or classes is None:
        raise ValueError("labels= and classes= are needed beside vectors; or give Features, which have both.")
    x, t, labels = _unit("images", images), _unit("text", text), np.asarray(labels)
    C = len(classes)
    if x.shape[1] != t.shape[1]:
        raise ValueError(
            f"images have width {x.shape[1]}, texts {t.shape[1]}; both must be vectors of the joint space, after the "
            "projections of a vision-language model."
        )
    if len(t) != C or labels.shape != (len(x),) or not 0 <= labels.min() <= labels.max() < C:
        raise ValueError(
            f"{len(t)} texts and {len(labels)} labels for {C} classes and {len(x)} images; give one text per class and "
            f"one label, 0 to {C - 1}, per image."
        )
    sizes, groups = np.bincount(labels, minlength=C), np.asarray(classes.groups)

    def over_classes(values: np.ndarray) -> np.ndarray:
        """(N, ...) values of images -> (C, ...) means; nan for a class without images."""
        total = np.zeros((C, *values.shape[1:]))
        np.add.at(total, labels, values)
        with np.errstate(invalid="ignore"):
            return total / sizes.reshape(-1, *(1,) * (values.ndim - 1))

    own = (x * t[labels]).sum(1)
    others = (x @ t.sum(0) - own) / (C - 1) if C > 1 else np.full(len(x), np.nan)
    apart = over_classes(x) - t  # (C, E)
    matched, unmatched = over_classes(own), over_classes(others)
    members = {group: np.isin(groups, GROUP_ORDER if group == "all" else [group]) & (sizes > 0) for group in ROWS}
    nothing, zero = np.full(x.shape[1], np.nan), np.zeros(C)
    options: dict[str, Any] = {"level": level, "seed": seed}
    image_points, text_points, variance = _plane(x, t, labels)
    return ModalityGap(
        arguments=options,
        sources=() if given is None else (given.source,),
        vectors={group: apart[rows].mean(0) if rows.any() else nothing for group, rows in members.items()},
        matched=matched,
        unmatched=unmatched,
        cosines={
            (kind, group): metrics.paired_values(values[rows], zero[rows], estimand="mean cosine", **options)
            for kind, values in zip(_PAIRS, (matched, unmatched), strict=True)
            for group, rows in members.items()
        },
        margin={
            group: metrics.paired_values(matched[rows], unmatched[rows], **options) for group, rows in members.items()
        },
        of_image=np.stack([own, others], 1),
        image_points=image_points,
        text_points=text_points,
        variance=variance,
        ids=np.arange(len(x)).astype(str) if given is None else given.ids,
        labels=labels,
        names=tuple(classes.names),
        groups=groups,
        rule=str(classes.rule),
        level=level,
    )


def _unit(name: str, vectors: np.ndarray) -> np.ndarray:
    """(n, E) float64 of length 1."""
    values = np.asarray(vectors.detach().cpu() if hasattr(vectors, "detach") else vectors, dtype=np.float64)
    if values.ndim != 2 or not len(values) or values.shape[1] < 2 or not np.isfinite(values).all():
        raise ValueError(f"{name} have shape {values.shape} or hold nan; expected (n, E) finite numbers, E at least 2.")
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    if not norms.all():
        raise ValueError(f"{int((norms == 0).sum())} vectors of {name} are zero and have no direction; leave them out.")
    return values / norms


def _plane(x: np.ndarray, t: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Images (N, 2) and texts (C, 2) on the first two axes of PCA of N images and N texts; the axes' variance."""
    partners = np.bincount(labels, minlength=len(t))  # how often each text counts
    centre = (x.mean(0) + partners @ t / len(x)) / 2
    x, t = x - centre, t - centre
    covariance = (x.T @ x + (t * partners[:, None]).T @ t) / (2 * len(x))
    values, axes = np.linalg.eigh(covariance)
    values, axes = values[::-1], axes[:, ::-1]
    axes = axes[:, :2] * np.where(axes[np.abs(axes[:, :2]).argmax(0), [0, 1]] < 0, -1, 1)  # the same sign everywhere
    total = values.sum()
    share = np.maximum(values[:2], 0) / total if total > 0 else np.zeros(2)
    return x @ axes, t @ axes, (float(share[0]), float(share[1]))


def _cell(found: metrics.Difference) -> str:
    if np.isnan(found.estimate):
        return "n/a"
    interval = "" if np.isnan(found.low) else f" [{found.low:.3f}, {found.high:.3f}]"
    return f"{found.estimate:.3f}{interval}"
