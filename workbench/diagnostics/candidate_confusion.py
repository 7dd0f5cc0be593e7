"""What does re-ranking the candidates of a coarse classifier set right, what does it break, what can it not reach?

Source: "Hierarchical Long-tailed Classification with Visual Language Models" (HLC, anonymous submission), section 3.3,
algorithm 1 and table 6: the k best classes of the coarse logits are decided anew by their descriptions. The published
table gives accuracies only; here stands why: where the true class was among the candidates, and what became of it. An
image whose true class is no candidate is lost before re-ranking begins, so the share of the others is the ceiling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench import metrics

from .base import (
    GROUP_COLOURS,
    GROUP_ORDER,
    INK,
    MUTED,
    ROWS,
    SEQUENTIAL,
    Result,
    caption_below,
    dress,
    is_narrow,
    legend_beside,
    percent,
    plain,
)
from .candidates import candidates_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.features import Features

_OUTSIDE = "#d9d9d9"  # lighter than MUTED: what is lost recedes


@dataclass(frozen=True, kw_only=True)
class Reranking:
    """One group: counts of images, and shares in [0, 1] of images ("all") or as means over the group's classes."""

    classes: int  # with images
    images: int
    inside: int  # the true class is a candidate
    fixed: int  # first candidate wrong, decision right
    broken: int  # first candidate right, decision wrong
    kept_right: int
    kept_wrong: int  # wrong before and after, also where the decision moved from one wrong class to another
    before: float  # accuracy of the first candidate
    after: float  # of the decision
    ceiling: float  # share with the true class among the candidates: of a re-ranking that is always right
    given_inside: float  # accuracy of the decision among those images; nan where there is none
    difference: metrics.Difference  # after minus before, over classes

    def __str__(self) -> str:
        if not self.images:
            return "n/a (0 images)"
        found = self.difference
        return (
            f"before {percent(self.before)}, after {percent(self.after)} "
            f"({percent(found.estimate, found.low, found.high, sign=True)}{'†' if found.too_small else ''}), "
            f"ceiling {percent(self.ceiling)}; right of those inside {percent(self.given_inside)}"
        )


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A class that re-ranking takes for another although it was a candidate."""

    true: int
    chosen: int
    images: int
    inside: int  # images of the true class for which it was a candidate


@dataclass(frozen=True, kw_only=True, eq=False)
class CandidateConfusion(Result):
    """N images, K candidates each; before: the first candidate, after: the decision."""

    diagnostic: ClassVar[str] = "candidate_confusion"
    views: ClassVar[tuple[str, ...]] = ("rank", "changes")

    ranks: np.ndarray  # (N,) int64 place of the true class among the candidates, 1 to K; 0: it is none
    before: np.ndarray  # (N,) int64 first candidate
    predicted: np.ndarray  # (N,) int64 decision
    labels: np.ndarray  # (N,) int64 true class
    shares: dict[str, np.ndarray]  # group, and "all" -> (K + 1,) shares of places 1 to K and outside; nan if empty
    table: dict[str, Reranking]
    pairs: tuple[Pair, ...]  # most frequent first
    strangers: int  # decisions that are no candidate, as with several views, whose mean decides
    names: tuple[str, ...]
    groups: np.ndarray  # (C,) "many" | "medium" | "few"
    rule: str

    @property
    def num_candidates(self) -> int:
        return len(self.shares["all"]) - 1

    def caption(self) -> str:
        whole = self.table["all"]
        return (
            f"{percent(whole.ceiling)} % of n = {whole.images} images have the true class among {self.num_candidates} "
            f"candidates; of these {percent(whole.given_inside)} % are decided right"
        )

    def __str__(self) -> str:
        lines = [
            f"{self.caption()}; groups: {self.rule}",
            f"{'group':<8}{'classes':>8}{'images':>8}{'inside':>8}{'fixed':>7}{'broken':>8}{'right':>7}{'wrong':>7}",
        ]
        for group, row in self.table.items():
            counts = f"{row.classes:>8}{row.images:>8}{row.inside:>8}{row.fixed:>7}{row.broken:>8}"
            lines.append(f"{group:<8}{counts}{row.kept_right:>7}{row.kept_wrong:>7}  {row}")
        lines += [
            f"{plain(self.names[p.true], 32)} taken for {plain(self.names[p.chosen], 32)}: {p.images} of {p.inside}"
            for p in self.pairs
        ]
        if any(row.difference.too_small and row.images for row in self.table.values()):
            lines.append(f"† fewer than {metrics.TRUSTED_FROM} classes: do not lean on this interval")
        if self.strangers:
            lines.append(f"{self.strangers} decisions are none of the candidates (the mean of several views decided)")
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Rows of kind "group", "rank" (share of a place; empty rank: outside) and "pair" (true and chosen class)."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for group, row in self.table.items():
            values = {key: value for key, value in vars(row).items() if key != "difference"}
            interval = {"low": row.difference.low, "high": row.difference.high, "p": row.difference.p}
            rows.append({"kind": "group", "group": group} | values | {"difference": row.difference.estimate} | interval)
        K = self.num_candidates
        for group, shares in self.shares.items():
            rows += [
                {"kind": "rank", "group": group, "rank": place if place <= K else None, "share": share}
                for place, share in enumerate(shares, start=1)
            ]
        for pair in self.pairs:
            both = {"true": self.names[pair.true], "chosen": self.names[pair.chosen]}
            rows.append(
                {"kind": "pair", "group": self.groups[pair.true], "images": pair.images, "inside": pair.inside} | both
            )
        counts = ("classes", "images", "inside", "fixed", "broken", "kept_right", "kept_wrong", "rank")
        return pd.DataFrame(rows).astype(dict.fromkeys(counts, "Int64"))

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        (self._draw_ranks if view == "rank" else self._draw_changes)(ax, **artist_kw)
        ax.set_yticks(
            range(len(ROWS)),
            [
                f"{g},{chr(10) if is_narrow(ax) else ' '}{self.table[g].classes} classes\nn = {self.table[g].images}"
                for g in reversed(ROWS)
            ],
        )
        ax.tick_params(axis="y", length=0)
        dress(ax, grid="x")
        ax.spines["left"].set_visible(False)
        caption_below(ax, self.caption().replace("; ", ";\n"))

    def _draw_ranks(self, ax: Axes, **artist_kw: Any) -> None:
        from matplotlib import colormaps

        K = self.num_candidates
        colours = [*colormaps[SEQUENTIAL](np.linspace(0.1, 0.95, K)), _OUTSIDE]
        shares = 100 * np.stack([self.shares[group] for group in reversed(ROWS)])  # (4, K + 1)
        left = np.cumsum(shares, 1) - shares
        for place, colour in enumerate(colours):
            label = str(place + 1) if place < K else "no candidate"
            style: dict[str, Any] = {"left": left[:, place], "height": 0.62, "color": [colour], "label": label}
            ax.barh(range(len(ROWS)), np.nan_to_num(shares[:, place]), **(style | artist_kw))
            light = place == K or place > 0.6 * K
            for row, share in enumerate(shares[:, place]):
                if share >= 6:
                    ax.text(
                        left[row, place] + share / 2, row, f"{share:.0f}", ha="center", va="center", fontsize="small",
                        color=INK if light else "white",
                    )  # fmt: skip
        ax.set_xlim(0, 100)
        ax.set_xlabel("images (%; groups: mean over classes)")
        legend_beside(ax, title="place of the\ntrue class")

    def _draw_changes(self, ax: Axes, **artist_kw: Any) -> None:
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        tight = is_narrow(ax)
        for place, group in enumerate(reversed(ROWS)):
            row, colour = self.table[group], GROUP_COLOURS.get(group, MUTED)
            style = {"edgecolor": colour, "linewidth": 1.2, "height": 0.6}
            ax.barh(place, row.fixed, **(style | {"color": colour} | artist_kw))
            ax.barh(place, -row.broken, **(style | {"color": "none"} | artist_kw))
            for count, side, align in ((row.fixed, 1, "left"), (row.broken, -1, "right")):
                ax.annotate(
                    f"{count}", (side * count, place), (3 * side, 0), textcoords="offset points", ha=align,
                    va="center", fontsize="small",
                )  # fmt: skip
            found = row.difference
            said = f"{percent(row.before)} \N{RIGHTWARDS ARROW} {percent(row.after)} %"
            said += f"\n{percent(found.estimate, found.low, found.high, sign=True)}{'†' if found.too_small else ''}"
            said = said.replace(" [", "\n[") if tight else said
            ax.annotate(
                said if row.images else "n/a (0 images)", (1.02, place), xycoords=("axes fraction", "data"),
                va="center", fontsize="small", annotation_clip=False, color=INK if row.images else MUTED,
            )  # fmt: skip
        ax.axvline(0, color=INK, linewidth=0.8)
        reach = (1.65 if tight else 1.2) * max(1, self.table["all"].fixed, self.table["all"].broken)
        ax.set_xlim(-reach, reach)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=4 if tight else 6, integer=True))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):g}"))
        ax.set_xlabel("images that re-ranking decides otherwise")
        for face, label in (("none", "right to wrong"), (INK, "wrong to right")):
            ax.barh(0, 0, facecolor=face, edgecolor=INK, label=label)  # for the legend
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, borderaxespad=0.2)


def candidate_confusion(
    features: Features, *, pairs: int = 5, level: float = 0.95, seed: int = 0
) -> CandidateConfusion:
    """Where the true class stands among the candidates, and what re-ranking them changes, by shot group.

    Args:
        features: of a method that re-ranks candidates: `extras["candidates"]` (N, K) int, in falling order of the
            coarse logits; `predicted` is the decision after re-ranking.
        pairs: how many of the most frequently confused pairs (true, chosen) to keep, of images whose true class was a
            candidate; of equally frequent ones those of lower class index.
        level: of confidence.
        seed: of the bootstrap over classes.

    Raises:
        ValueError: features without candidates or decisions, candidates that are no classes or appear twice.
    """
    candidates, predicted, labels = candidates_of(features), features.decisions, features.labels
    K = candidates.shape[1]
    hit = candidates == labels[:, None]
    inside = hit.any(1)
    ranks = np.where(inside, hit.argmax(1) + 1, 0)
    before = candidates[:, 0]
    groups = np.asarray(features.classes.groups)
    of_image = groups[labels]

    def by_group(rows: np.ndarray, of: np.ndarray | slice = slice(None)) -> dict[str, float]:
        """Share of images for which rows (N,) holds, among those of `of`."""
        return metrics.group_accuracy(np.where(rows, labels, -1)[of], labels[of], groups)

    accuracies = [by_group(rows) for rows in (before == labels, predicted == labels, inside)]
    given_inside = by_group(predicted == labels, inside)
    places = [by_group(ranks == place) for place in (*range(1, K + 1), 0)]
    table = {}
    for group in ROWS:
        members = np.isin(of_image, GROUP_ORDER if group == "all" else [group])
        right_before, right_after = (before == labels) & members, (predicted == labels) & members
        table[group] = Reranking(
            classes=len(np.unique(labels[members])),
            images=int(members.sum()),
            inside=int((inside & members).sum()),
            fixed=int((right_after & ~right_before).sum()),
            broken=int((right_before & ~right_after).sum()),
            kept_right=int((right_before & right_after).sum()),
            kept_wrong=int((members & ~right_before & ~right_after).sum()),
            **dict(zip(("before", "after", "ceiling"), (found[group] for found in accuracies), strict=True)),
            given_inside=given_inside[group] if (inside & members).any() else math.nan,
            difference=metrics.paired_difference(
                predicted, before, labels, groups, group=group, level=level, seed=seed
            ),
        )
    return CandidateConfusion(
        arguments={"pairs": pairs, "level": level, "seed": seed},
        sources=(features.source,),
        ranks=ranks,
        before=before,
        predicted=predicted,
        labels=labels,
        shares={group: np.array([share[group] for share in places]) for group in ROWS},
        table=table,
        pairs=_pairs(predicted[inside], labels[inside], pairs),
        strangers=int((~(candidates == predicted[:, None]).any(1)).sum()),
        names=tuple(features.classes.names),
        groups=groups,
        rule=str(features.classes.rule),
    )


def _pairs(predicted: np.ndarray, labels: np.ndarray, number: int) -> tuple[Pair, ...]:
    wrong = predicted != labels
    if not wrong.any():
        return ()
    both, images = np.unique(np.stack([labels, predicted])[:, wrong], axis=1, return_counts=True)
    order = np.argsort(-images, kind="stable")[:number]
    return tuple(
        Pair(true=int(t), chosen=int(c), images=int(n), inside=int((labels == t).sum()))
        for (t, c), n in zip(both.T[order], images[order], strict=True)
    )
