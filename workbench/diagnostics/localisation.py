"""Do explanation maps fall on the object? The pointing game and the energy inside, measured with true masks.

Pointing: Zhang, Lin, Brandt, Shen, Sclaroff, "Top-down Neural Attention by Excitation Backprop", ECCV 2016, arXiv
1608.00507: is the highest pixel on the object? The paper allows 15 pixels of tolerance on large images and averages
over categories; here the default is none, and images weigh the same. Energy: Wang et al., "Score-CAM", CVPR Workshops
2020, arXiv 1910.01279: which share of the map's sum lies on the object; there its box, here its mask.

A large object in the middle is hit by anything. Beside each map therefore stand chance, which is what a random pixel or
a uniform map gives on the same images, and the centre pixel.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench import metrics

from .base import INK, MUTED, TEXT_WIDTH, Result, caption_below, dress, is_narrow, percent, plain
from .heat_maps import map_values

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MEASURES = ("pointing", "energy")
_WHAT = {"pointing": "share of images whose highest pixel is on the object", "energy": "share of a map on the object"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Localisation(Result):
    """Values in [0, 1] of M kinds of maps on B images; nan where a map is zero everywhere or the mask is empty."""

    diagnostic: ClassVar[str] = "localisation"
    views: ClassVar[tuple[str, ...]] = MEASURES

    names: tuple[str, ...]  # of the M kinds of maps
    values: dict[str, np.ndarray]  # measure -> (M, B); pointing: the share of the highest pixels that hit
    chance: dict[str, np.ndarray]  # measure -> (B,) of a random pixel (pointing), of a uniform map (energy)
    centre: dict[str, np.ndarray]  # measure -> (B,) of the centre pixel, or of a map that is nothing else
    tied: np.ndarray  # (M, B) int64 pixels that share the highest value
    intervals: dict[tuple[str, str], metrics.Interval]  # (measure, name): mean over images; Wilson, or Student t
    over_chance: dict[tuple[str, str], metrics.Interval]  # (measure, name): the same minus chance, image by image
    empty_masks: np.ndarray  # (B,) bool
    zero_maps: np.ndarray  # (M, B) bool
    tolerance: float  # pixels
    level: float

    @property
    def size(self) -> tuple[float, float]:  # type: ignore[override]
        return (TEXT_WIDTH, 1.5 + 0.42 * len(self.names))

    def baseline(self, name: str, measure: str) -> tuple[float, float]:
        """Chance and centre pixel, mean over the images that count for this kind of map; nan without any."""
        kept = np.isfinite(self.values[measure][self.names.index(name)])
        if not kept.any():
            return math.nan, math.nan
        return float(self.chance[measure][kept].mean()), float(self.centre[measure][kept].mean())

    def left_out(self) -> str:
        """Which images do not count: "images left out: 2 (empty mask); 1 of Grad-CAM (map of zeros)", or ""."""
        parts = [f"{int(self.empty_masks.sum())} (empty mask)"] if self.empty_masks.any() else []
        counts = (self.zero_maps & ~self.empty_masks).sum(1)
        parts += [f"{k} of {plain(n, 22)} (map of zeros)" for n, k in zip(self.names, counts, strict=True) if k]
        return f"images left out: {'; '.join(parts)}" if parts else ""

    def __str__(self) -> str:
        lines = [
            f"{len(self.empty_masks)} images, tolerance {self.tolerance:g} pixels; % [{self.level:.0%} over images]",
            f"{'map':<23}{'measure':<10}{'n':>6}  {'on the object':<22}{'chance':>7}{'centre':>8}  over chance, points",
        ]
        for (measure, name), interval in self.intervals.items():
            over = self.over_chance[measure, name]
            value = percent(interval.estimate, interval.low, interval.high)
            chance, centre = (percent(share) for share in self.baseline(name, measure))
            gain = percent(over.estimate, over.low, over.high, sign=True)
            lines.append(
                f"{plain(name, 22):<23}{measure:<10}{interval.n:>6}  {value:<22}{chance:>7}{centre:>8}  {gain}"
            )
        return "\n".join([*lines, *filter(None, [self.left_out()])])

    def to_frame(self) -> pd.DataFrame:
        """One row per image and kind of map; `left_out` says why a row has no values."""
        import pandas as pd

        rows = []
        for m, name in enumerate(self.names):
            for i in range(len(self.empty_masks)):
                why = "empty mask" if self.empty_masks[i] else "map of zeros" if self.zero_maps[m, i] else None
                row: dict[str, Any] = {"map": name, "image": i, "tied_pixels": self.tied[m, i], "left_out": why}
                for measure in MEASURES:
                    row[measure] = self.values[measure][m, i]
                    row[f"{measure}_chance"] = self.chance[measure][i]
                    row[f"{measure}_centre"] = self.centre[measure][i]
                rows.append(row)
        return pd.DataFrame(rows)

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        from matplotlib.lines import Line2D

        places = list(range(len(self.names)))[::-1]
        for place, name in zip(places, self.names, strict=True):
            interval = self.intervals[view, name]
            for share, dashes in zip(self.baseline(name, view), ("-", ":"), strict=True):
                ax.vlines(100 * share, place - 0.36, place + 0.36, color=MUTED, linestyle=dashes, linewidth=1.6)
            ax.hlines(place, 100 * interval.low, 100 * interval.high, color=INK, linewidth=1.2)
            ax.plot(100 * interval.estimate, place, **({"color": INK, "marker": "o", "markersize": 6} | artist_kw))
            text = percent(interval.estimate, interval.low, interval.high)
            ax.annotate(
                f"{text}\nn = {interval.n}", (1, place), (6, 0), xycoords=("axes fraction", "data"),
                textcoords="offset points", va="center", fontsize="small", annotation_clip=False,
            )  # fmt: skip
        letters = 13 if is_narrow(ax) else 24  # of a line
        ax.set_yticks(places, [textwrap.fill(plain(name, 24), letters) for name in self.names], parse_math=False)
        ax.set_ylim(-0.6, len(places) - 0.4)
        ax.set_xlim(-2, 102)
        where = f"within {self.tolerance:g} pixels of the object" if self.tolerance else "on the object"
        xlabel = f"highest pixel {where} (% of images)" if view == "pointing" else "share of the map on the object (%)"
        ax.set_xlabel(xlabel)
        dress(ax, grid="x")
        if self.left_out():
            caption_below(ax, self.left_out().replace("; ", ";\n"))
        handles = [
            Line2D([], [], color=INK, marker="o", markersize=6, label=f"map [{self.level:.0%}]"),
            Line2D([], [], color=MUTED, linewidth=1.6, label="chance"),
            Line2D([], [], color=MUTED, linewidth=1.6, linestyle=":", label="centre pixel"),
        ]
        ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, borderaxespad=0.2)


def localisation(
    maps: Any, masks: Any, *, names: Sequence[str] | None = None, tolerance: float = 0.0, level: float = 0.95
) -> Localisation:
    """How often, and with how much of their sum, maps fall on the object, beside what chance and the centre give.

    An image counts once; intervals take images as independent and speak of images like these.

    Args:
        maps: name -> map, or one map or a list of them. A map is (B, H, W) float, not negative, or a result that has
            such `.maps`, from Grad-CAM for instance. Its scale does not matter.
        masks: (B, H, W) bool, True on the object, resized and cropped as the images that the maps are of:
            `dataset.mask(i, seen=True)`. A test transform shows only the middle of an image, so plain masks miss maps.
        names: what to call the maps where they are not given by name.
        tolerance: pixels, Euclidean, that the highest pixel may miss the object by.
        level: of confidence.

    Raises:
        ValueError: shapes that differ, maps with negative or undefined values, masks that are not bool, no object.
    """
    named = _named(maps, names)
    masks = map_values(masks)
    if masks.ndim != 3 or masks.dtype != bool or not masks.any():
        raise ValueError(
            f"masks are {masks.shape} {masks.dtype} with {int((masks != 0).sum())} pixels on an object; expected "
            "(B, H, W) bool, True on the object, at least one of them not empty (e.g. masks > 0)."
        )
    if not 0 <= tolerance < math.inf or not 0 < level < 1:
        raise ValueError(f"tolerance={tolerance} is in pixels, 0 or more, and level={level} lies between 0 and 1.")
    B, H, W = masks.shape
    reach = _widened(masks, tolerance) if tolerance else masks
    middle = np.s_[:, (H - 1) // 2 : H // 2 + 1, (W - 1) // 2 : W // 2 + 1]  # 1, 2 or 4 pixels
    empty = ~masks.any((1, 2))
    values = {measure: np.full((len(named), B), np.nan) for measure in MEASURES}
    tied, zero = np.zeros((len(named), B), dtype=np.int64), np.zeros((len(named), B), dtype=bool)
    for m, (name, given) in enumerate(named.items()):
        found = _checked(name, given, masks.shape)
        highest = found == found.max((1, 2), keepdims=True)  # (B, H, W)
        total = found.sum((1, 2))
        tied[m], zero[m] = highest.sum((1, 2)), total == 0
        kept = ~zero[m] & ~empty
        values["pointing"][m, kept] = ((highest & reach).sum((1, 2)) / tied[m])[kept]
        values["energy"][m, kept] = (found * masks).sum((1, 2))[kept] / total[kept]
    chance = {"pointing": reach.mean((1, 2)), "energy": masks.mean((1, 2))}
    intervals, over_chance = {}, {}
    for m, name in enumerate(named):
        for measure in MEASURES:
            kept = np.isfinite(values[measure][m])
            pair = _intervals(values[measure][m][kept], chance[measure][kept], measure, level)
            intervals[measure, name], over_chance[measure, name] = pair
    results = {name: given for name, given in named.items() if isinstance(given, Result)}
    made_by = {name: {"diagnostic": given.diagnostic} | given.arguments for name, given in results.items()}
    return Localisation(
        arguments={"names": list(named), "tolerance": tolerance, "level": level, "made_by": made_by},
        sources=tuple(source for given in results.values() for source in given.sources),
        names=tuple(named),
        values=values,
        chance=chance,
        centre={"pointing": reach[middle].mean((1, 2)), "energy": masks[middle].mean((1, 2))},
        tied=tied,
        intervals=intervals,
        over_chance=over_chance,
        empty_masks=empty,
        zero_maps=zero,
        tolerance=float(tolerance),
        level=level,
    )


def _named(maps: Any, names: Sequence[str] | None) -> dict[str, Any]:
    if isinstance(maps, Mapping):
        several, chosen = list(maps.values()), list(maps)
        if names is not None:
            raise ValueError("the maps are given by name already; leave names out.")
    else:
        several = list(maps) if isinstance(maps, list | tuple) else [maps]
        chosen = [getattr(one, "diagnostic", "map") for one in several] if names is None else list(names)
    if not several or len(set(chosen)) != len(several) or len(chosen) != len(several):
        raise ValueError(f"{len(several)} kinds of maps and the names {chosen}; give each kind a name of its own.")
    return {str(name): one for name, one in zip(chosen, several, strict=True)}


def _checked(name: str, given: Any, shape: tuple[int, ...]) -> np.ndarray:
    found = map_values(given).astype(np.float64)
    if found.shape != shape:
        raise ValueError(
            f"maps {name!r} are {found.shape}, masks {shape}; give both (B, H, W) of the same images as the model "
            "sees them. dataset.mask(i, seen=True) resizes and crops a mask as the data set's preprocessing does."
        )
    if not np.isfinite(found).all() or found.min() < 0:
        raise ValueError(f"maps {name!r} have negative or undefined values; stretch them to [0, 1] or clip them at 0.")
    return found


def _widened(masks: np.ndarray, tolerance: float) -> np.ndarray:
    """(B, H, W) bool: pixels at most so far from a pixel of the mask; nothing for an empty mask."""
    from scipy.ndimage import distance_transform_edt

    near = [mask.any() & (distance_transform_edt(~mask) <= tolerance) for mask in masks]
    return np.stack(near)


def _intervals(
    values: np.ndarray, chance: np.ndarray, measure: str, level: float
) -> tuple[metrics.Interval, metrics.Interval]:
    """Of the mean of values (n,), within [0, 1], and of their mean distance from chance (n,).

    Hits: Wilson, a tie being a part of a hit, and the same minus chance, which is known. Shares: Student t, paired.
    """
    n = len(values)
    whole = {"unit": "images", "estimand": f"{_WHAT[measure]}, over images like these"}
    above = {"unit": "images", "estimand": f"{_WHAT[measure]}, minus chance on the same images, over images like these"}
    few = n < metrics.TRUSTED_FROM
    if n and measure == "energy":
        t, over = (metrics.seed_interval(sample, level=level) for sample in (values, values - chance))
        low, high = float(np.maximum(t.low, 0.0)), float(np.minimum(t.high, 1.0))  # np keeps nan
        return replace(t, low=low, high=high, too_small=few, **whole), replace(over, too_small=few, **above)
    low, high = (float(bound) for bound in metrics.wilson_interval(values.sum(), n, level=level))
    estimate, known = (float(mean.mean()) if n else math.nan for mean in (values, chance))
    form = {"level": level, "n": n, "method": "Wilson over images", "too_small": few}
    return (
        metrics.Interval(estimate=estimate, low=low, high=high, **form, **whole),
        metrics.Interval(estimate=estimate - known, low=low - known, high=high - known, **form, **above),
    )
