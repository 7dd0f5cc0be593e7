"""Where do wrong decisions go: do images of rare classes end up in frequent ones more often than chance would have it?

Long-tailed training biases decisions towards frequent classes (Kang et al., "Decoupling Representation and Classifier
for Long-Tailed Recognition", ICLR 2020, arXiv 1910.09217; Menon et al., "Long-tail Learning via Logit Adjustment", ICLR
2021, arXiv 2007.07314). Group accuracies show that rare classes lose, not to whom. Here stand the wrong decisions by
shot group of the true and of the chosen class, beside two kinds of chance: a wrong decision that is spread evenly over
all other classes, and one spread over them in proportion to their training images, as the training prior alone would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench import metrics

from .base import (
    GROUP_COLOURS,
    GROUP_ORDER,
    INK,
    Result,
    caption_below,
    dress,
    is_narrow,
    legend_beside,
    percent,
    scatter_by_frequency,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.features import Features

_SHOWN = 7  # percent; a narrower part of a bar has no number in it


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Wrong decisions from the classes of one shot group to those of one; shares in [0, 1] of the group's errors."""

    errors: int
    share: metrics.Interval  # of the wrong decisions about images of the true group
    even: float  # share if each wrong decision went to any other class alike
    by_counts: float  # share if it went to each in proportion to its training images


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrorFlow(Result):
    """Wrong decisions by group of the true and of the chosen class, and how often each class is decided for.

    Shares count errors, so a class with many errors weighs more; intervals still take classes as the unit.
    """

    diagnostic: ClassVar[str] = "error_flow"
    views: ClassVar[tuple[str, ...]] = ("flow", "predictions")

    table: dict[tuple[str, str], Flow]  # (true group, chosen group)
    head_bias: metrics.Interval  # share of few-shot errors in many-shot classes, over the even share; 1 is no bias
    head_bias_by_counts: metrics.Interval  # the same share over that in proportion to training images
    rates: dict[str, metrics.Interval]  # group -> mean over its classes of decisions for a class / its images
    predictions: np.ndarray  # (C,) int64 decisions for each class, right and wrong
    images: np.ndarray  # (C,) int64
    errors: np.ndarray  # (C,) int64 wrong decisions about its images
    names: tuple[str, ...]
    counts: np.ndarray  # (C,) training images
    groups: np.ndarray  # (C,) "many" | "medium" | "few"
    rule: str
    level: float

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3) int64 wrong decisions: true group by chosen group, many, medium, few."""
        return np.array([[self.table[true, chosen].errors for chosen in GROUP_ORDER] for true in GROUP_ORDER])

    def sizes(self, group: str) -> tuple[int, int, int]:
        """Classes of a group that have images, its images, and the wrong decisions about them."""
        inside = (self.groups == group) & (self.images > 0)
        return int(inside.sum()), int(self.images[inside].sum()), int(self.errors[inside].sum())

    def caption(self) -> str:
        """The head bias in words, with what it is about."""
        if math.isnan(self.head_bias.estimate):
            return "no head bias: there are no few-shot errors or no many-shot classes"
        flow = self.table["few", "many"]
        return (
            f"few-shot errors that go to many-shot classes: {percent(flow.share.estimate)} %, "
            f"{_times(self.head_bias)} times the even share ({percent(flow.even)} %), "
            f"{_times(self.head_bias_by_counts)} times that by training images ({percent(flow.by_counts)} %)"
        )

    def __str__(self) -> str:
        lines = [f"{self.caption()}; {self.level:.0%} over classes; groups: {self.rule}"]
        for true in GROUP_ORDER:
            classes, images, wrong = self.sizes(true)
            lines.append(f"{true:<7}{classes} classes, {wrong} errors of {images} images")
            for chosen in GROUP_ORDER if wrong else ():
                flow = self.table[true, chosen]
                share = percent(flow.share.estimate, flow.share.low, flow.share.high)
                lines.append(
                    f"  to {chosen:<7}{flow.errors:>6}  {share} %{'†' if flow.share.too_small else ''}  "
                    f"even {percent(flow.even)}  by training images {percent(flow.by_counts)}"
                )
        rates = "  ".join(f"{group} {_times(rate)}" for group, rate in self.rates.items())
        lines.append(f"decisions for a class over its images, mean over classes: {rates}")
        if any(flow.share.too_small and flow.share.n for flow in self.table.values()):
            lines.append(f"† fewer than {metrics.TRUSTED_FROM} classes: do not lean on this interval")
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Rows of kind "flow" (share of errors), "head_bias", "rate" (decisions over images, by group) and "class"."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for (true, chosen), flow in self.table.items():
            both = {"group": true, "chosen_group": chosen, "errors": flow.errors}
            rows.append({"kind": "flow"} | both | _cells(flow.share) | {"even": flow.even, "by_counts": flow.by_counts})
        for against, bias in (("even", self.head_bias), ("by_counts", self.head_bias_by_counts)):
            both = {"group": "few", "chosen_group": "many", "against": against}
            rows.append({"kind": "head_bias"} | both | _cells(bias))
        for group, rate in self.rates.items():
            inside = self.groups == group
            sums = {name: int(getattr(self, name)[inside].sum()) for name in ("images", "errors", "predictions")}
            rows.append({"kind": "rate", "group": group} | sums | _cells(rate))
        for c, rate in enumerate(_rates(self.predictions, self.images)):
            of_class = {"class": c, "name": self.names[c], "train_images": self.counts[c], "value": rate}
            of_class |= {name: getattr(self, name)[c] for name in ("images", "errors", "predictions")}
            rows.append({"kind": "class", "group": self.groups[c]} | of_class)
        whole = ("class", "train_images", "images", "errors", "predictions")
        return pd.DataFrame(rows).astype(dict.fromkeys(whole, "Int64"))

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        (self._draw_flow if view == "flow" else self._draw_predictions)(ax, **artist_kw)

    def _draw_flow(self, ax: Axes, **artist_kw: Any) -> None:
        tight = is_narrow(ax)
        kinds = (("share", 0.14, 0.44, 1.0), ("even", -0.2, 0.12, 0.55), ("by_counts", -0.36, 0.12, 0.55))
        for place, true in enumerate(reversed(GROUP_ORDER)):
            if not self.sizes(true)[2]:
                ax.text(1, place, "no errors", va="center", fontsize="small")
                continue
            for kind, shift, height, alpha in kinds:
                left = 0.0
                for chosen in GROUP_ORDER:
                    flow = self.table[true, chosen]
                    width = 100 * (flow.share.estimate if kind == "share" else getattr(flow, kind))
                    style = {"height": height, "color": GROUP_COLOURS[chosen], "alpha": alpha, "linewidth": 0}
                    ax.barh(place + shift, width, left=left, **(style | artist_kw))
                    if kind == "share" and width >= _SHOWN:
                        ax.text(
                            left + width / 2, place + shift, f"{width:.0f}", ha="center", va="center", color="white",
                            fontsize="small",
                        )  # fmt: skip
                    left += width
                if kind != "share" and not tight:
                    ax.annotate(
                        {"even": "even", "by_counts": "by training images"}[kind], (101, place + shift), va="center",
                        fontsize=7, annotation_clip=False,
                    )  # fmt: skip
        for group in GROUP_ORDER:
            total = int((self.groups == group).sum())
            ax.barh(0, 0, color=GROUP_COLOURS[group], label=f"to {group} ({total})")
        sizes = {group: self.sizes(group) for group in reversed(GROUP_ORDER)}
        ax.set_yticks(
            range(len(GROUP_ORDER)),
            [f"{g}, {classes} classes\n{wrong} errors of {n}" for g, (classes, n, wrong) in sizes.items()],
        )
        ax.set_xlim(0, 100)
        ax.set_ylim(-0.5, len(GROUP_ORDER) - 0.5)
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel("wrong decisions about images of the group (%)")
        dress(ax, grid="x")
        ax.spines["left"].set_visible(False)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, borderaxespad=0.2)
        said = self.caption().replace("%, ", "%,\n").replace("), ", "),\n")
        thin = "thin: what chance gives" + ", even and, below, by training images" * tight
        caption_below(ax, f"{thin}; [{self.level:.0%} over classes]\n{said}")

    def _draw_predictions(self, ax: Axes, **artist_kw: Any) -> None:
        labels = {group: f"{group} {_times(rate)} ({rate.n})" for group, rate in self.rates.items()}
        bands = {group: (rate.estimate, rate.low, rate.high) for group, rate in self.rates.items()}
        values = _rates(self.predictions, self.images)
        style = {"clip_on": False} | artist_kw  # many classes stand on 0
        scatter_by_frequency(ax, values, self.counts, self.groups, labels=labels, bands=bands, **style)
        ax.axhline(1, color=INK, linestyle=":", linewidth=1)
        ax.set_ylim(0, 1.08 * max(1.0, float(np.nanmax(values))))
        ax.set_ylabel("decisions for a class\nover its test images")
        legend_beside(ax, title=f"mean [{self.level:.0%}] (n classes)")
        stray = int(self.predictions[self.images == 0].sum())
        without = f"; {stray} decisions are for classes without test images" if (self.images == 0).any() else ""
        caption_below(ax, f"1: decided for as often as it occurs{without}")


def error_flow(features: Features, *, level: float = 0.95, seed: int = 0) -> ErrorFlow:
    """Wrong decisions by true and chosen shot group against two kinds of chance, and the bias towards frequent classes.

    Args:
        features: of a test set, with decisions.
        level: of confidence of the intervals, whose units are classes.
        seed: of the bootstrap over classes.

    Raises:
        ValueError: features without decisions.
    """
    classes, labels, predicted = features.classes, features.labels, features.decisions
    groups, counts = np.asarray(classes.groups), np.asarray(classes.counts)
    C = len(classes)
    wrong = predicted != labels
    errors = np.bincount(labels[wrong], minlength=C)
    images, decided = np.bincount(labels, minlength=C), np.bincount(predicted, minlength=C)
    table = {}
    for chosen in GROUP_ORDER:
        target = groups == chosen
        # of each true class (C,): the class itself cannot be its own error
        with np.errstate(invalid="ignore", divide="ignore"):
            even = (target.sum() - target) / (C - 1)
            by_counts = (counts[target].sum() - target * counts) / (counts.sum() - counts)
        hit = np.where(target[predicted], labels, -1)[wrong]  # for `group_interval`: right is what went there
        for true in GROUP_ORDER:
            weight = errors * (groups == true)
            inside = weight > 0
            table[true, chosen] = Flow(
                errors=int((target[predicted] & wrong & (groups[labels] == true)).sum()),
                share=replace(
                    metrics.group_interval(hit, labels[wrong], groups, true, pooled=True, level=level, seed=seed),
                    estimand=f"share of wrong decisions about {true}-shot images that go to {chosen}-shot classes, "
                    "over classes like these, for this trained model",
                ),
                even=_mean(even[inside], weight[inside]),
                by_counts=_mean(by_counts[inside], weight[inside]),
            )
    few_to_many = table["few", "many"]
    rates = _rates(decided, images)
    return ErrorFlow(
        arguments={"level": level, "seed": seed},
        sources=(features.source,),
        table={(true, chosen): table[true, chosen] for true in GROUP_ORDER for chosen in GROUP_ORDER},
        head_bias=_over(few_to_many.share, few_to_many.even, "the even share"),
        head_bias_by_counts=_over(few_to_many.share, few_to_many.by_counts, "the share by training images"),
        rates={group: _mean_rate(rates[groups == group], level, seed) for group in GROUP_ORDER},
        predictions=decided,
        images=images,
        errors=errors,
        names=tuple(classes.names),
        counts=counts,
        groups=groups,
        rule=str(classes.rule),
        level=level,
    )


def _mean(values: np.ndarray, weight: np.ndarray) -> float:
    return float((values * weight).sum() / weight.sum()) if len(values) else math.nan


def _rates(predictions: np.ndarray, images: np.ndarray) -> np.ndarray:
    """(C,) decisions for a class over its images; nan without images."""
    return np.where(images > 0, predictions / np.maximum(images, 1), np.nan)


def _mean_rate(rates: np.ndarray, level: float, seed: int) -> metrics.Interval:
    what = "decisions over images, mean over classes like these"
    found = metrics.paired_values(rates, np.zeros(len(rates)), estimand=what, level=level, seed=seed)
    return replace(found, low=float(np.maximum(found.low, 0.0)))  # np keeps nan


def _over(share: metrics.Interval, chance: float, what: str) -> metrics.Interval:
    """The share as a multiple of what chance gives; nan where chance gives nothing."""
    scale = 1 / chance if chance > 0 else math.nan
    scaled = {end: getattr(share, end) * scale for end in ("estimate", "low", "high")}
    return replace(share, **scaled, estimand=f"{share.estimand}, over {what}")


def _times(interval: metrics.Interval) -> str:
    """ "1.53 [1.20, 1.86]", or n/a."""
    if math.isnan(interval.estimate):
        return "n/a"
    bounds = "" if math.isnan(interval.low) else f" [{interval.low:.2f}, {interval.high:.2f}]"
    return f"{interval.estimate:.2f}{bounds}{'†' if interval.too_small else ''}"


def _cells(interval: metrics.Interval) -> dict[str, Any]:
    return {"value": interval.estimate, "low": interval.low, "high": interval.high, "interval": interval.method}
