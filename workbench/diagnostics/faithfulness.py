"""Do the pixels that a map calls important carry the decision? Deletion and insertion curves, beside random ones.

Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018, arXiv
1806.07421, section 4.2: remove pixels from the most important on, or insert them into an image without content, and
watch the probability of the class. The area under the curve is low for good maps when pixels are deleted, high when
they are inserted. The paper deletes to a constant and inserts into a blurred image; here both use one `baseline`.

Any removal hurts a model that never saw such images. Beside each map therefore stands a random order of square blocks,
of the size of the tower's patches: scattered pixels are a different kind of damage than the regions that maps remove.
What counts is the difference of the two areas, paired over images. Where objects stand in the middle, a map of nothing
but the distance to the middle is worth a comparison too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from workbench import metrics

from .base import INK, MUTED, Result, caption_below, dress, legend_beside, method_source, plain
from .heat_maps import map_values

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from torch import Tensor

    from workbench.methods import Method

MEASURES = ("deletion", "insertion")
ORDERS = ("map", "random")
BASELINES = ("blur", "mean")
BLUR = 1 / 8  # standard deviation over the longer side; RISE's 5 of 224 pixels leave most of the evidence in place
LEVEL = 0.95  # of confidence


@dataclass(frozen=True, kw_only=True, eq=False)
class Faithfulness(Result):
    """Probabilities in [0, 1] of one class per image while B images are deleted or inserted, and areas below them."""

    diagnostic: ClassVar[str] = "faithfulness"
    views: ClassVar[tuple[str, ...]] = MEASURES

    shares: np.ndarray  # (steps + 1,) of the pixels that are deleted or inserted, 0 to 1
    curves: dict[tuple[str, str], np.ndarray]  # (measure, order) -> (B, steps + 1) float64
    auc: dict[tuple[str, str], np.ndarray]  # (measure, order) -> (B,) in [0, 1], trapezoid rule
    difference: dict[str, metrics.Difference]  # measure -> area of the map minus that of the random order, over images
    targets: np.ndarray  # (B,) int64 class whose probability is watched
    predicted: np.ndarray  # (B,) int64
    constant: np.ndarray  # (B,) bool, maps without any order: theirs is the random one, their difference 0
    block_size: int  # pixels, of the random order
    baseline: str
    explanation: str
    names: tuple[str, ...]
    method: str

    def caption(self, measure: str) -> str:
        found = self.difference[measure]
        own, random = (float(self.auc[measure, order].mean()) for order in ORDERS)
        interval = "n/a" if np.isnan(found.low) else f"[{found.low:+.3f}, {found.high:+.3f}]"
        good = "lower" if measure == "deletion" else "higher"
        text = (
            f"area {own:.3f}, random {random:.3f}; difference {found.estimate:+.3f} {interval} "
            f"(n = {found.n} images), {good} is better"
        )
        constant = f"; {int(self.constant.sum())} of {found.n} maps are constant and have the random order"
        return text + constant if self.constant.any() else text

    def __str__(self) -> str:
        start, end = (float(self.curves["deletion", "map"][:, step].mean()) for step in (0, -1))
        lines = [
            f"{plain(self.explanation, 40)} of {self.method}, {len(self.shares) - 1} steps; probability of the class "
            f"{start:.3f} with all pixels, {end:.3f} with the image's {self.baseline} instead",
            *(f"{measure}: {self.caption(measure)}" for measure in MEASURES),
        ]
        if any(found.too_small for found in self.difference.values()):
            lines.append(f"fewer than {metrics.TRUSTED_FROM} images: do not lean on these intervals")
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """One row per image, measure, order and quantity: "auc", or "probability" at a share of the pixels."""
        import pandas as pd

        rows = []
        for (measure, order), curves in self.curves.items():
            for i, curve in enumerate(curves):
                row: dict[str, Any] = {
                    "image": i,
                    "target": self.targets[i],
                    "target_name": self.names[self.targets[i]],
                    "predicted": self.predicted[i],
                    "measure": measure,
                    "order": order,
                }
                rows.append(row | {"quantity": "auc", "share": np.nan, "value": self.auc[measure, order][i]})
                for share, value in zip(self.shares, curve, strict=True):
                    rows.append(row | {"quantity": "probability", "share": share, "value": value})
        return pd.DataFrame(rows)

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        looks: dict[str, dict[str, Any]] = {
            "map": {"color": INK, "marker": "o", "markersize": 3.5},
            "random": {"color": MUTED, "linestyle": "--"},
        }
        labels = {"map": plain(self.explanation, 22), "random": f"random blocks\n({self.block_size} pixels)"}
        for order in ORDERS:
            style = looks[order] | (artist_kw if order == "map" else {})
            ax.plot(100 * self.shares, self.curves[view, order].mean(0), **({"label": labels[order]} | style))
        verb = "deleted" if view == "deletion" else "inserted"
        ax.set_xlabel(f"pixels {verb}, highest of the map first (%)")
        ax.set_ylabel(f"probability of the class\n(mean of n = {len(self.targets)} images)")
        ax.set_xlim(-2, 102)
        ax.set_ylim(0, 1.08 * max(self.curves[view, order].mean(0).max() for order in ORDERS))
        dress(ax)
        legend_beside(ax)
        caption_below(ax, self.caption(view).replace("; ", ";\n"))


def faithfulness(
    method: Method,
    images: Tensor,
    maps: Any,
    *,
    steps: int = 16,
    target: Any = None,
    baseline: Literal["blur", "mean"] = "blur",
    seed: int = 0,
    batch_size: int = 64,
) -> Faithfulness:
    """Probability of a class while pixels go, or come, in the order of a map, and in a random order of blocks.

    Equal values of a map, such as the zeros of a Grad-CAM, go in the random order: a constant map gives the random
    curve. An image costs about 4 x steps forward passes. Intervals take images as independent.

    Args:
        method: on the device where it shall run.
        images: (B, 3, H, W) float, normalised as the tower reads them.
        maps: (B, H, W) float, higher is more important, or a result that has such `.maps`, such as Grad-CAM's.
        steps: equal shares of the pixels, one after the other.
        target: class indices (B,), or one for all; None is what the method predicts. Give those of the maps, where
            they explain another class.
        baseline: what stands in for a deleted pixel, computed from the image as it looks: its "blur", or its "mean"
            colour.
        seed: of the random orders and of the bootstrap over images.
        batch_size: images per forward pass.

    Raises:
        ValueError: maps of another size or without finite values, classes that are not there, an unknown baseline.
    """
    import torch

    B, _, H, W = images.shape
    scores, explanation = _scores(maps, (B, H, W)), str(getattr(maps, "diagnostic", "map"))
    if not 1 <= steps <= H * W or baseline not in BASELINES or batch_size < 1:
        raise ValueError(
            f"steps={steps} runs from 1 to the {H * W} pixels, baseline={baseline!r} is one of {', '.join(BASELINES)}, "
            f"and batch_size={batch_size} is at least 1."
        )
    cuts = np.rint(np.linspace(0, H * W, steps + 1)).astype(np.int64)
    block = min(method.backbone.patch_size, H, W)
    rng = np.random.default_rng(seed)
    random = np.stack([_block_ranks(H, W, block, rng) for _ in range(B)])  # (B, H, W)
    ranks = {"random": random, "map": np.stack([_ranks(one, tie) for one, tie in zip(scores, random, strict=True)])}
    was_training = method.training
    method.eval()
    try:
        with torch.no_grad():
            predicted = torch.cat(
                [method(one.to(method.device)).logits.argmax(1).cpu() for one in images.split(batch_size)]
            )
            targets = predicted if target is None else _targets(target, B, len(method.classes))
            without = _without_content(method.backbone, images, baseline)
            curves = _curves(method, images, without, ranks, cuts, targets, batch_size)
    finally:
        method.train(was_training)
    shares = cuts / (H * W)
    auc = {key: np.trapezoid(curve, shares, axis=1) for key, curve in curves.items()}
    own, given = method_source(method), maps.sources if isinstance(maps, Result) else ()
    made_by = {"diagnostic": explanation} | maps.arguments if isinstance(maps, Result) else None
    return Faithfulness(
        arguments={
            "steps": steps,
            "target": None if target is None else targets.tolist(),
            "baseline": baseline,
            "seed": seed,
            "method": method.name,
            "made_by": made_by,
        },
        sources=(own, *(source for source in given if source != own)),
        shares=shares,
        curves=curves,
        auc=auc,
        difference={
            measure: metrics.paired_values(
                *(auc[measure, order] for order in ORDERS),
                unit="images",
                estimand=f"area under the {measure} curve, minus that of random blocks, over images like these",
                level=LEVEL,
                seed=seed,
            )
            for measure in MEASURES
        },
        targets=targets.numpy(),
        predicted=predicted.numpy(),
        constant=np.ptp(scores, axis=(1, 2)) == 0,
        block_size=block,
        baseline=baseline,
        explanation=explanation,
        names=tuple(method.classes.names),
        method=method.name,
    )


def _scores(maps: Any, shape: tuple[int, ...]) -> np.ndarray:
    found = map_values(maps).astype(np.float64)
    if found.shape != shape:
        raise ValueError(f"maps are {found.shape}, the images need {shape}; resize each map to the size of its image.")
    if not found.size or not np.isfinite(found).all():
        raise ValueError(f"maps {found.shape} hold no pixel, or values that are not finite; every pixel needs a value.")
    return found


def _targets(target: Any, B: int, num_classes: int) -> Tensor:
    import torch

    # a copy of an array: labels may be read-only, of which torch warns
    found = target.cpu() if isinstance(target, torch.Tensor) else torch.as_tensor(np.array(target))
    if (
        found.shape not in ((), (1,), (B,))
        or found.is_floating_point()
        or not 0 <= found.min() <= found.max() < num_classes
    ):
        raise ValueError(f"target={target}: give one class or {B}, one for each image, from 0 to {num_classes - 1}.")
    return found.long().expand(B)


def _block_ranks(H: int, W: int, block: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) int64: place of each pixel, 0 first, if blocks go in a random order, each row by row."""
    rows, columns = np.indices((H, W)) // block
    number = rows * (columns.max() + 1) + columns
    return _ranks(-rng.permutation(number.max() + 1)[number], np.arange(H * W).reshape(H, W))


def _ranks(scores: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """(H, W) int64: place of each pixel, 0 for the highest score; of equal scores the lower `ties` goes first."""
    ranks = np.empty(scores.size, dtype=np.int64)
    ranks[np.lexsort((ties.ravel(), -scores.ravel()))] = np.arange(scores.size)
    return ranks.reshape(scores.shape)


def _without_content(backbone: Any, images: Tensor, baseline: str) -> Tensor:
    """What stands in for deleted pixels, (B, 3, H, W) as `images`: blurred or averaged as it looks, then normalised."""
    from scipy.ndimage import gaussian_filter

    pixels = backbone.pixels(images.detach().cpu().double())
    if baseline == "blur":
        sigma = BLUR * max(images.shape[2:])
        plain_images = images.new_tensor(gaussian_filter(pixels.numpy(), (0, 0, sigma, sigma)))
    else:
        plain_images = pixels.mean((2, 3), keepdim=True).expand_as(pixels).to(images)
    mean, std = (plain_images.new_tensor(values)[:, None, None] for values in backbone.normalisation)
    return (plain_images - mean) / std


def _curves(
    method: Method,
    images: Tensor,
    without: Tensor,
    ranks: dict[str, np.ndarray],
    cuts: np.ndarray,
    targets: Tensor,
    batch_size: int,
) -> dict[tuple[str, str], np.ndarray]:
    """(measure, order) -> (B, steps + 1). Whole and empty images are the ends of all curves and run once."""
    import torch

    B, last = len(images), len(cuts) - 1
    curves = {(measure, order): np.empty((B, last + 1)) for measure in MEASURES for order in ORDERS}
    jobs = [(i, "deletion", "map", step) for i in range(B) for step in (0, last)]
    jobs += [(i, *key, step) for i in range(B) for key in curves for step in range(1, last)]
    for start in range(0, len(jobs), batch_size):
        batch = jobs[start : start + batch_size]
        index = torch.tensor([i for i, *_ in batch])
        gone = torch.from_numpy(
            np.stack([(ranks[o][i] < cuts[s]) == (m == "deletion") for i, m, o, s in batch])  # (b, H, W)
        ).to(images.device)
        where = index.to(images.device)
        mixed = torch.where(gone[:, None], without[where], images[where]).to(method.device)
        probability = method(mixed).logits.cpu().double().softmax(1)
        values = probability.gather(1, targets[index, None])[:, 0].numpy()
        for (i, measure, order, step), value in zip(batch, values, strict=True):
            curves[measure, order][i, step] = value
    ends = curves["deletion", "map"][:, [0, last]].copy()
    for (measure, _), curve in curves.items():
        curve[:, [0, last]] = ends if measure == "deletion" else ends[:, ::-1]
    return curves
