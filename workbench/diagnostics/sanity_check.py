"""Does an explanation change when the model forgets what it learned? Maps of the trained and of random weights.

Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim, "Sanity Checks for Saliency Maps", NeurIPS 2018, arXiv 1810.03292: the
model parameter randomisation test, all layers of the tower at once, similarity by Spearman's rank correlation. Where
the paper adds SSIM and HOG features, here is the plain Pearson correlation of the two maps. A map that looks the same
with random weights draws edges of the image, not what the model learned.

Weights are drawn again by a permutation of the values within each tensor. It keeps each tensor's scale, so activations
neither vanish nor explode, and it needs no knowledge of the architecture; `reset_parameters` would leave out what has
none (position embeddings, class tokens) and give CLIP towers a scale that is not theirs. A tensor of one value repeated
stays as it is. Classifier, prompts and adapters that stand outside of the tower are kept.

Two maps may be alike for a duller reason: objects stand in the middle. Each trained map is therefore also compared with
that of another image, which is what "unrelated" looks like.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .base import HEAT, INK, MUTED, TEXT_WIDTH, Result, caption_below, dress, method_source, plain
from .heat_maps import STRIP_LENGTH, as_pictures, map_values

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from torch import Tensor

    from workbench.methods import Method

MEASURES = ("spearman", "pearson")
COMPARISONS = {"random_weights": "random weights", "other_image": "other image"}
NO_SPREAD = 1e-6  # of its largest absolute value: a map that varies less is constant, but for rounding


@dataclass(frozen=True, kw_only=True, eq=False)
class SanityCheck(Result):
    """Correlations in [-1, 1] of B maps; nan where either map is constant.

    1 with random weights: the map does not depend on what the tower learned. Near the values of "other_image": it does.
    -1: the same places with the opposite sign.
    """

    diagnostic: ClassVar[str] = "sanity_check"
    views: ClassVar[tuple[str, ...]] = ("maps", "similarity")
    size: ClassVar[tuple[float, float]] = (TEXT_WIDTH, 2.9)

    trained: np.ndarray  # (B, h, w) float64 maps of the method
    random: np.ndarray  # (B, h, w) float64 maps of the copy whose tower has random weights
    similarity: dict[tuple[str, str], np.ndarray]  # (measure, comparison) -> (B,)
    other: np.ndarray  # (B,) int64, the image that each is compared with as "other_image"
    constant: np.ndarray  # (2, B) bool, maps of the trained and of the random weights
    pictures: np.ndarray  # (B, H, W, 3) uint8, the images as they look
    predicted: np.ndarray  # (B,) int64 of the trained method: the class that is explained where there is a choice
    predicted_random: np.ndarray  # (B,) int64 of the copy
    names: tuple[str, ...]
    method: str
    explanation: str

    def caption(self) -> str:
        alike = float((self.predicted == self.predicted_random).mean())
        text = f"with random weights {100 * alike:.0f} % of {len(self.predicted)} decisions stay the same"
        trained, random = (int(which.sum()) for which in self.constant)
        if trained or random:
            text += f"; constant maps, without a correlation: {trained} trained, {random} with random weights"
        return text

    def __str__(self) -> str:
        lines = [
            f"{self.explanation} of {self.method}: {self.caption()}",
            f"{'trained map compared with':<27}{'measure':<10}{'n':>5}  {'mean':>6}  {'quartiles'}",
        ]
        for comparison, label in COMPARISONS.items():
            for measure in MEASURES:
                values = self.similarity[measure, comparison]
                values = values[np.isfinite(values)]
                numbers = "   n/a"
                if len(values):
                    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
                    numbers = f"{values.mean():>6.2f}  {low:.2f}, {middle:.2f}, {high:.2f}"
                lines.append(f"{label:<27}{measure:<10}{len(values):>5}  {numbers}")
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """One row per image, comparison and measure."""
        import pandas as pd

        rows = [
            {
                "image": i,
                "predicted": self.predicted[i],
                "predicted_name": self.names[self.predicted[i]],
                "predicted_random": self.predicted_random[i],
                "compared_with": comparison,
                "other": self.other[i] if comparison == "other_image" else i,
                "measure": measure,
                "similarity": values[i],
            }
            for (measure, comparison), values in self.similarity.items()
            for i in range(len(values))
        ]
        return pd.DataFrame(rows)

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        (self._draw_maps if view == "maps" else self._draw_similarity)(ax, **artist_kw)

    def _draw_maps(self, ax: Axes, **artist_kw: Any) -> None:
        from matplotlib import colormaps

        shown = min(len(self.pictures), STRIP_LENGTH)
        H, W = self.pictures.shape[1:3]
        rows, columns = (np.arange(n) * m // n for n, m in zip((H, W), self.trained.shape[1:], strict=True))
        strips = [self.pictures[:shown]]
        for maps in (self.trained, self.random):
            heat = _stretched(maps[:shown])[:, rows[:, None], columns]  # each pixel has the value of its cell
            strips.append((255 * colormaps[HEAT](heat)[..., :3]).astype(np.uint8))
        gap = max(2, W // 28)
        tiles = np.pad(np.stack(strips), ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
        picture = tiles.transpose(0, 2, 1, 3, 4).reshape(3 * (H + gap), shown * (W + gap), 3)
        ax.imshow(picture, **artist_kw)
        values = self.similarity["spearman", "random_weights"]
        ticks = ["n/a" if np.isnan(value) else f"{round(value, 2) + 0:.2f}" for value in values[:shown]]
        ax.set_xticks(np.arange(shown) * (W + gap) + W / 2, ticks)
        ax.set_yticks(np.arange(3) * (H + gap) + H / 2, ["image", "trained", "random\nweights"])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_xlabel("Spearman correlation of the two maps")
        explained = f"{plain(self.explanation, 30)} of {plain(self.method, 30)}, each map stretched to its own range"
        caption_below(ax, f"{explained}\nthe first {shown} of {len(self.pictures)} images")

    def _draw_similarity(self, ax: Axes, **artist_kw: Any) -> None:
        places = {key: len(self.similarity) - 1 - row for row, key in enumerate(self.similarity)}
        for (measure, comparison), place in places.items():
            values = self.similarity[measure, comparison]
            values = np.sort(values[np.isfinite(values)])
            colour = INK if comparison == "random_weights" else MUTED
            # golden-ratio steps lay neighbours apart, the same way each time
            shift = 0.5 * ((np.arange(len(values)) * 0.618034) % 1 - 0.5)
            style: dict[str, Any] = {"s": 14, "color": colour, "alpha": 0.6, "linewidths": 0}
            ax.scatter(values, place + shift, **(style | artist_kw))
            text = "n/a"
            if len(values):
                median = float(np.median(values))
                ax.vlines(median, place - 0.36, place + 0.36, color=colour, linewidth=2)
                text = f"median {median:.2f}"
            ax.annotate(
                f"{text}\nn = {len(values)}", (1.02, place), xycoords=("axes fraction", "data"), va="center",
                fontsize="small", annotation_clip=False,
            )  # fmt: skip
        labels = [f"{COMPARISONS[comparison]},\n{measure.title()}" for measure, comparison in places]
        ax.set_yticks(list(places.values()), labels)
        ax.set_ylim(-0.6, len(places) - 0.4)
        ax.set_xlim(-1.05, 1.05)
        ax.axvline(1, color=INK, linestyle=":", linewidth=1)
        ax.set_xlabel("similarity to the trained map (1: the same map)")
        dress(ax, grid="x")
        caption_below(ax, self.caption().replace("; ", ";\n"))


def sanity_check(method: Method, images: Tensor, *, explain: Callable[..., Any], seed: int = 0) -> SanityCheck:
    """Compare the maps of a method with those of a copy whose tower has random weights; the method stays as it is.

    One draw of random weights: the images tell how maps differ for this draw, not how draws differ.

    Args:
        method: on the device where it shall run; the copy stands beside it in memory.
        images: (B, 3, H, W) float, normalised as the tower reads them, at least two.
        explain: called as explain(method, images) -> maps (B, h, w), or a result that has such `.maps`, for example
            `grad_cam`. If it has a parameter `target`, both maps are of the class that the trained method predicts,
            unless a functools.partial fixes another one.
        seed: of the random weights and of the choice of other images.

    Raises:
        ValueError: fewer than two images, or maps that are not (B, h, w) finite numbers of one size.
    """
    import torch

    if len(images) < 2:
        raise ValueError(f"{len(images)} images given; each map is compared with that of another, so give two or more.")
    was_training = method.training
    method.eval()
    try:
        copied = copy.deepcopy(method)
        _redraw(copied.backbone, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            predicted, predicted_random = (one(images.to(one.device)).logits.argmax(1) for one in (method, copied))
        target = {"target": predicted} if _takes_target(explain) else {}
        trained, random = (_maps(explain(one, images, **target), len(images)) for one in (method, copied))
    finally:
        method.train(was_training)
    if trained.shape != random.shape:
        raise ValueError(
            f"explain gave maps {trained.shape} of the method and {random.shape} of its copy; it must give maps of one "
            "size, whatever the weights."
        )
    other = _others(len(images), np.random.default_rng(seed))
    partners = {"random_weights": random, "other_image": trained[other]}
    correlations = {"spearman": _spearman, "pearson": _pearson}
    name = _name(explain)
    return SanityCheck(
        arguments={"explain": name, "seed": seed, "target": "predicted" if target else None, "method": method.name},
        sources=(method_source(method),),
        trained=trained,
        random=random,
        similarity={
            (measure, comparison): correlations[measure](trained, partners[comparison])
            for measure in MEASURES
            for comparison in COMPARISONS
        },
        other=other,
        constant=np.stack([_is_constant(trained), _is_constant(random)]),
        pictures=as_pictures(method.backbone.pixels(images.detach().cpu().float())),
        predicted=predicted.cpu().numpy(),
        predicted_random=predicted_random.cpu().numpy(),
        names=tuple(method.classes.names),
        method=method.name,
        explanation=name,
    )


def _redraw(backbone: Any, generator: Any) -> None:
    """Permute the values within each tensor of floats, in place; running means and variances are learned as well."""
    import torch

    with torch.no_grad():
        for tensor in backbone.state_dict().values():
            if tensor.is_floating_point():
                order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
                tensor.copy_(tensor.flatten()[order].view_as(tensor))


def _takes_target(explain: Callable[..., Any]) -> bool:
    fixed = isinstance(explain, functools.partial) and "target" in explain.keywords
    return not fixed and "target" in inspect.signature(explain).parameters


def _name(explain: Any) -> str:
    if isinstance(explain, functools.partial):
        given = "".join(f", {key}={value!r}" for key, value in explain.keywords.items())
        return f"{_name(explain.func)}{given}"
    return str(getattr(explain, "__name__", type(explain).__name__))


def _maps(given: Any, B: int) -> np.ndarray:
    found = map_values(given).astype(np.float64)
    if found.ndim != 3 or len(found) != B or not found.size:
        raise ValueError(f"explain gave maps {found.shape}; expected ({B}, h, w), one for each image.")
    if not np.isfinite(found).all():
        raise ValueError("explain gave maps with values that are not finite; a map needs a number at every place.")
    return found


def _others(B: int, rng: np.random.Generator) -> np.ndarray:
    """(B,) another image for each, each once: the next one around a random circle."""
    circle = rng.permutation(B)
    other = np.empty(B, dtype=np.int64)
    other[circle] = np.roll(circle, 1)
    return other


def _is_constant(maps: np.ndarray) -> np.ndarray:
    """(B,) bool."""
    return np.ptp(maps, axis=(1, 2)) <= NO_SPREAD * np.abs(maps).max((1, 2))


def _pearson(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(B, h, w) twice -> (B,), nan where either is constant."""
    spread = ~(_is_constant(first) | _is_constant(second))
    # to [0, 1] first: sums of squares of very small or large maps would leave what float64 holds
    a, b = (_stretched(maps[spread]) for maps in (first, second))
    a, b = (maps - maps.mean((1, 2), keepdims=True) for maps in (a, b))
    found = np.full(len(first), np.nan)
    found[spread] = ((a * b).sum((1, 2)) / np.sqrt((a**2).sum((1, 2)) * (b**2).sum((1, 2)))).clip(-1, 1)
    return found


def _spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """As `_pearson`, of the ranks; equal values share their mean rank."""
    from scipy.stats import rankdata

    constant = _is_constant(first) | _is_constant(second)
    ranks = [rankdata(maps.reshape(len(maps), -1), axis=1).reshape(maps.shape) for maps in (first, second)]
    return np.where(constant, np.nan, _pearson(*ranks))


def _stretched(maps: np.ndarray) -> np.ndarray:
    """(B, h, w) to [0, 1] each; a constant map becomes 0."""
    low = maps.min((1, 2), keepdims=True)
    spread = np.ptp(maps, axis=(1, 2), keepdims=True)
    return np.divide(maps - low, spread, where=spread > 0, out=np.zeros_like(maps))
