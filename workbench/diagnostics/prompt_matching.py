"""Which prompts of a pool do images pick, and does the choice follow the class?

Source: Dong, Zhou, Yan, Zuo, "LPT: Long-tailed Prompt Tuning for Image Classification", ICLR 2023, arXiv 2210.01033,
figure 6: for each class, how often each prompt is its images' best and second-best match. A look at two classes cannot
tell choice from chance, so the mutual information of class and best prompt stands beside it, with that of shuffled
labels: with few images any two shares differ, and the plain estimate is too large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .base import (
    GROUP_COLOURS,
    GROUP_MARKERS,
    GROUP_ORDER,
    INK,
    SEQUENTIAL,
    Result,
    caption_below,
    dress,
    is_narrow,
    legend_beside,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.features import Features


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptMatching(Result):
    """Shares of images, in [0, 1], that match each of m prompts, by class and rank (0: best); absent classes: nan."""

    diagnostic: ClassVar[str] = "prompt_matching"
    views: ClassVar[tuple[str, ...]] = ("groups", "second", "classes")  # best and second-best by group, best by class

    proportions: np.ndarray  # (C, k, m)
    by_group: dict[str, np.ndarray]  # group, and "all" -> (k, m), mean over its classes with images
    live: np.ndarray  # (m,) bool, whether any image matches it at any rank
    information: float  # bits that the best prompt tells about the class
    shuffled: np.ndarray  # (shuffles,) the same with shuffled labels
    images: np.ndarray  # (C,)
    names: tuple[str, ...]
    counts: np.ndarray  # (C,) training images
    groups: np.ndarray  # (C,) "many" | "medium" | "few"
    rule: str

    @property
    def p_value(self) -> float:
        """Share of shuffles with at least as much information, the measured one counted with them."""
        return float((1 + (self.shuffled >= self.information).sum()) / (1 + len(self.shuffled)))

    def caption(self) -> str:
        dead = int((~self.live).sum())
        return (
            f"the best prompt tells {self.information:.2f} bits about the class "
            f"(shuffled labels: {self.shuffled.mean():.2f}, p = {self.p_value:.2g}); "
            f"{dead} of {len(self.live)} prompts are never matched"
        )

    def __str__(self) -> str:
        best = ", ".join(
            f"{group} {int(np.nanargmax(shares[0]))} ({100 * np.nanmax(shares[0]):.0f} %)"
            for group, shares in self.by_group.items()
            if np.isfinite(shares).any()
        )
        return f"{self.caption()}\nmost matched prompt: {best}\ngroups: {self.rule}"

    def to_frame(self) -> pd.DataFrame:
        """One row per class, rank and prompt."""
        import pandas as pd

        C, k, m = self.proportions.shape
        cls, rank, prompt = (axis.ravel() for axis in np.indices((C, k, m)))
        return pd.DataFrame(
            {
                "class": cls,
                "name": np.array(self.names)[cls],
                "group": self.groups[cls],
                "images": self.images[cls],
                "rank": rank,
                "prompt": prompt,
                "share": self.proportions.ravel(),
            }
        )

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        if view == "classes":
            self._draw_classes(ax, **artist_kw)
        else:
            self._draw_groups(ax, min(("groups", "second").index(view), self.proportions.shape[1] - 1), **artist_kw)
        caption_below(ax, self.caption().replace("; ", ";\n"))

    def _draw_groups(self, ax: Axes, rank: int, **artist_kw: Any) -> None:
        m = len(self.live)
        order = np.argsort(-self.by_group["all"][rank], kind="stable")
        place = np.arange(m)
        for shift, group in zip((-0.25, 0.0, 0.25), GROUP_ORDER, strict=True):
            shares = 100 * self.by_group[group][rank][order]
            number = int(((self.groups == group) & (self.images > 0)).sum())
            if not number:
                continue
            style = {"color": GROUP_COLOURS[group], "width": 0.25, "label": f"{group} ({number})"} | artist_kw
            ax.bar(place + shift, shares, **style)
            shares[shares == 0] = np.nan
            ax.plot(place + shift, shares, GROUP_MARKERS[group], color=GROUP_COLOURS[group], markersize=3)
        ax.axhline(100 / m, color=INK, linestyle=":", linewidth=1, label="all alike")
        step = max(1, -(-m // 25))
        ax.set_xticks(place[::step], [str(prompt) for prompt in order[::step]])
        ax.set_xlabel("prompt, most matched first")
        ax.set_ylabel(f"{('best', 'second-best')[rank]} match\n(% of images, mean over classes)")
        dress(ax)
        legend_beside(ax, title="group (n classes)")

    def _draw_classes(self, ax: Axes, **artist_kw: Any) -> None:
        present = np.flatnonzero(self.images > 0)
        order = present[np.lexsort((-self.counts[present], [GROUP_ORDER.index(g) for g in self.groups[present]]))]
        columns = np.argsort(-self.by_group["all"][0], kind="stable")
        shares = 100 * self.proportions[order, 0][:, columns]
        style = {"aspect": "auto", "cmap": SEQUENTIAL, "vmin": 0, "interpolation": "nearest"}
        picture = ax.imshow(shares, **(style | artist_kw))
        ax.figure.colorbar(picture, ax=ax, label="best match (% of images)")
        found = [(group, np.flatnonzero(self.groups[order] == group)) for group in GROUP_ORDER]
        found = [(group, rows) for group, rows in found if len(rows)]
        ax.hlines([rows[0] - 0.5 for _, rows in found[1:]], -0.5, len(columns) - 0.5, color="white", linewidth=1)
        ax.set_yticks([rows.mean() for _, rows in found], [f"{group} ({len(rows)})" for group, rows in found])
        ax.tick_params(axis="y", length=0)
        step = max(1, -(-len(columns) // (10 if is_narrow(ax) else 20)))
        ax.set_xticks(np.arange(len(columns))[::step], [str(prompt) for prompt in columns[::step]])
        ax.set_xlabel("prompt, most matched first")
        ax.set_ylabel("class, most training images first")


def prompt_matching(
    features: Features, *, num_prompts: int | None = None, layer: int = -1, shuffles: int = 200, seed: int = 0
) -> PromptMatching:
    """Proportions of matched prompts by class and rank, and what they tell about the class.

    Args:
        features: of a method that matches prompts: `extras["prompt_index"]` (N, k), best first, or (N, layers, k).
        num_prompts: m; None takes the width of `extras["prompt_similarity"]`.
        layer: of methods that match in several layers (LT-DPT), which one; -1 is the last.
        shuffles: of the labels, for the comparison.
        seed: of the shuffles.

    Raises:
        ValueError: features without matched prompts, or an index outside of the pool.
    """
    if "prompt_index" not in features.extras:
        raise ValueError(
            f"these features hold no matched prompts (extras: {', '.join(features.extras) or 'none'}); extract them "
            "with a method that has a pool of prompts, such as lpt or lt_dpt."
        )
    index = _of_layer(features.extras["prompt_index"], layer, 2)  # (N, k)
    if num_prompts is None:
        if "prompt_similarity" not in features.extras:
            raise ValueError("these features do not say how many prompts there are; pass num_prompts=.")
        num_prompts = _of_layer(features.extras["prompt_similarity"], layer, 2).shape[1]
    if index.min() < 0 or index.max() >= num_prompts:
        raise ValueError(f"matched prompts run from {index.min()} to {index.max()}, outside 0..{num_prompts - 1}.")
    classes, labels = features.classes, features.labels
    groups = np.asarray(classes.groups)
    images = np.bincount(labels, minlength=len(classes))
    tally = np.zeros((len(classes), index.shape[1], num_prompts))
    for rank in range(index.shape[1]):
        np.add.at(tally, (labels, rank, index[:, rank]), 1)
    with np.errstate(invalid="ignore"):
        proportions = tally / images[:, None, None]
    members = {"all": images > 0} | {group: (groups == group) & (images > 0) for group in GROUP_ORDER}
    nothing = np.full(tally.shape[1:], np.nan)
    rng = np.random.default_rng(seed)
    shuffled = [_information(rng.permutation(labels), index[:, 0], tally[:, 0].shape) for _ in range(shuffles)]
    return PromptMatching(
        arguments={"num_prompts": num_prompts, "layer": layer, "shuffles": shuffles, "seed": seed},
        sources=(features.source,),
        proportions=proportions,
        by_group={name: proportions[rows].mean(0) if rows.any() else nothing for name, rows in members.items()},
        live=tally.sum((0, 1)) > 0,
        information=_information(labels, index[:, 0], tally[:, 0].shape),
        shuffled=np.array(shuffled),
        images=images,
        names=tuple(classes.names),
        counts=np.asarray(classes.counts),
        groups=groups,
        rule=str(classes.rule),
    )


def _of_layer(values: np.ndarray, layer: int, ndim: int) -> np.ndarray:
    if values.ndim == ndim:
        return values
    if not -values.shape[1] <= layer < values.shape[1]:
        raise ValueError(f"layer={layer}, but prompts are matched in {values.shape[1]} layers.")
    return values[:, layer]


def _information(labels: np.ndarray, best: np.ndarray, shape: tuple[int, ...]) -> float:
    """Mutual information of class and best prompt in bits, from their table of counts."""
    table = np.zeros(shape)
    np.add.at(table, (labels, best), 1)
    joint = table / table.sum()
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log2(joint[seen] / apart[seen])).sum())
