"""What is each prompt of a pool worth? Switch it off and see which shot groups lose.

Prompts that images pick are those of Dong et al., "LPT: Long-tailed Prompt Tuning for Image Classification", ICLR 2023,
arXiv 2210.01033, figure 6; the paper shows what is picked (see `prompt_matching`), not what the pick is worth. Here the
key of one prompt at a time is masked, so that an image takes its next nearest instead (ablation by one unit: Morcos et
al., "On the importance of single directions for generalization", ICLR 2018, arXiv 1803.06959). Images that did not pick
the prompt pick as before and keep their decision, so only the others are computed again.

A small difference does not say that a prompt learnt nothing: its neighbours may have learnt the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench import metrics
from workbench.data import first_of_each

from .base import (
    GROUP_COLOURS,
    GROUP_MARKERS,
    GROUP_ORDER,
    INK,
    ROWS,
    Result,
    caption_below,
    dress,
    legend_beside,
    method_source,
    percent,
    require_classes,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.data import LongTailDataset
    from workbench.methods import Method

LEVEL = 0.95
_PLACES = {"all": -0.3, "many": -0.1, "medium": 0.1, "few": 0.3}  # of a prompt's four points
_BARS = {"many": -0.25, "medium": 0.0, "few": 0.25}


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptAblation(Result):
    """Decisions about N images with all m prompts, and with each of P prompts switched off."""

    diagnostic: ClassVar[str] = "ablate_prompts"
    views: ClassVar[tuple[str, ...]] = ("groups", "changes")

    method: str
    prompts: np.ndarray  # (P,) int64 which were switched off, one at a time
    num_prompts: int  # m
    top_k: int  # how many an image picks
    layer: int | None  # of those in which images pick; None: switched off in all of them
    ids: np.ndarray  # (N,) str
    labels: np.ndarray  # (N,) int64 true class
    predicted: np.ndarray  # (N,) int64 with all prompts
    without: np.ndarray  # (P, N) int64
    used: np.ndarray  # (P, N) bool: the image picks the prompt when it can
    differences: dict[tuple[int, str], metrics.Difference]  # (prompt, group): accuracy without it minus with all
    groups: np.ndarray  # (C,) "many" | "medium" | "few"
    rule: str

    @property
    def changed(self) -> np.ndarray:
        """(P, N) bool: the decision is another one without the prompt."""
        return self.without != self.predicted

    @property
    def intact(self) -> dict[str, float]:
        """Group accuracies with all prompts, in [0, 1], as `metrics.group_accuracy` gives them."""
        return metrics.group_accuracy(self.predicted, self.labels, self.groups)

    def shares(self, rows: np.ndarray) -> dict[str, float]:
        """Share of images in [0, 1] for which rows (N,) holds: of all; of a shot group as the mean over its classes."""
        found = metrics.group_accuracy(np.where(rows, self.labels, -1), self.labels, self.groups)
        return {group: found[group] for group in ROWS}

    def sizes(self, group: str) -> tuple[int, int]:
        """Classes with images, and images."""
        inside = np.isin(self.groups[self.labels], GROUP_ORDER if group == "all" else [group])
        return len(np.unique(self.labels[inside])), int(inside.sum())

    def caption(self, view: str = "groups") -> str:
        """How many intervals leave out 0, or how often a decision changes; and how many prompts nobody picks."""
        if view == "groups":
            tested = [difference for difference in self.differences.values() if difference.low < difference.high]
            clear = sum(difference.verdict != "no difference shown" for difference in tested)
            chance = f"by chance, about {(1 - LEVEL) * len(tested):.1f} would"
            said = f"{clear} of {len(tested)} intervals leave out 0, each [{LEVEL:.0%}] for itself: {chance}"
        else:
            times = int(self.used.sum())
            share = percent(self.changed.sum() / max(times, 1))
            said = f"without a prompt that it picks, an image is decided otherwise in {share} % of {times} cases"
        unused = int((~self.used.any(1)).sum())
        return f"{said}; {unused} of {len(self.prompts)} prompts are never picked"

    def __str__(self) -> str:
        where = "" if self.layer is None else f" of layer {self.layer}"
        intact = self.intact
        with_all = ", ".join(f"{group} {percent(intact[group])}" for group in ROWS)
        lines = [
            f"{self.method} on {len(self.labels)} images, each of {len(self.prompts)} prompts{where} switched off; an "
            f"image picks {self.top_k} of {self.num_prompts}",
            f"accuracy with all prompts in %: {with_all}; groups: {self.rule}",
            f"{'prompt':>6} {'used':>6} {'changed':>8}  accuracy without it minus with all, points [{LEVEL:.0%}]",
        ]
        for row in self._order()[: self.used.any(1).sum()]:
            prompt = int(self.prompts[row])
            used, changed = (percent(self.shares(mask[row])["all"]) for mask in (self.used, self.changed))
            found = {group: self.differences[prompt, group] for group in ROWS}
            points = {g: percent(d.estimate, d.low, d.high, sign=True) + "†" * d.too_small for g, d in found.items()}
            cells = "  ".join(f"{group} {shown}" for group, shown in points.items())
            lines.append(f"{prompt:>6} {used:>6} {changed:>8}  {cells}")
        unused = ", ".join(str(prompt) for prompt in self.prompts[~self.used.any(1)])
        lines += [f"never picked: {unused}"] if unused else []
        small = any(difference.too_small for difference in self.differences.values())
        lines += [f"† fewer than {metrics.TRUSTED_FROM} classes: do not lean on these intervals"] if small else []
        return "\n".join([*lines, *map(self.caption, self.views)])

    def to_frame(self) -> pd.DataFrame:
        """One row per prompt and group: accuracies, shares of images that use it and whose decision changes."""
        import pandas as pd

        rows, intact = [], self.intact
        for row, prompt in enumerate(self.prompts):
            without = metrics.group_accuracy(self.without[row], self.labels, self.groups)
            used, changed = self.shares(self.used[row]), self.shares(self.changed[row])
            for group in ROWS:
                found = self.differences[int(prompt), group]
                interval = {"difference": found.estimate, "low": found.low, "high": found.high, "p": found.p}
                sizes = dict(zip(("classes", "images"), self.sizes(group), strict=True))
                values = {"used": used[group], "changed": changed[group], "intact": intact[group]}
                values |= {"without": without[group]} | interval | {"too_small": found.too_small}
                rows.append({"prompt": prompt, "group": group} | sizes | values)
        return pd.DataFrame(rows)

    def _order(self) -> np.ndarray:
        """(P,) rows, most used first."""
        return np.argsort(-self.used.mean(1), kind="stable")

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        order = self._order()
        place = np.arange(len(order), dtype=float)
        if view == "groups":
            self._draw_groups(ax, order, place, **artist_kw)
        else:
            self._draw_changes(ax, order, place, **artist_kw)
        legend_beside(ax, title="group (n classes)")
        step = max(1, -(-len(order) // 25))
        ax.set_xticks(place[::step], [str(prompt) for prompt in self.prompts[order][::step]])
        ax.set_xlim(-0.6, len(order) - 0.4)
        ax.set_xlabel("prompt that is switched off, most used first")
        caption_below(ax, self.caption(view).replace(": by chance", ":\nby chance").replace(" % of", " %\nof"))
        dress(ax)

    def _draw_groups(self, ax: Axes, order: np.ndarray, place: np.ndarray, **artist_kw: Any) -> None:
        ax.axhline(0, color=INK, linewidth=0.8)
        order = order[: self.used.any(1).sum()]  # the others cannot matter
        place = place[: len(order)]
        for group, shift in _PLACES.items():
            number = self.sizes(group)[0]
            if not number:
                continue
            found = [self.differences[int(prompt), group] for prompt in self.prompts[order]]
            low, middle, high = (
                100 * np.array([getattr(d, end) for d in found]) for end in ("low", "estimate", "high")
            )
            colour = GROUP_COLOURS.get(group, INK)
            ax.vlines(place + shift, low, high, color=colour, linewidth=1)
            style: dict[str, Any] = {"color": colour, "marker": GROUP_MARKERS.get(group, "D"), "markersize": 3.5}
            style |= {"linestyle": "none", "label": f"{group} ({number})"}
            ax.plot(place + shift, middle, **(style | artist_kw))
        ax.set_ylabel(f"accuracy without it minus\nwith all (points) [{LEVEL:.0%}]")

    def _draw_changes(self, ax: Axes, order: np.ndarray, place: np.ndarray, **artist_kw: Any) -> None:
        for group, shift in _BARS.items():
            number = self.sizes(group)[0]
            if not number:
                continue
            used, changed = (
                np.array([100 * self.shares(mask[row])[group] for row in order]) for mask in (self.used, self.changed)
            )
            colour = GROUP_COLOURS[group]
            ax.bar(place + shift, used, width=0.25, color=colour, alpha=0.3, linewidth=0)
            style: dict[str, Any] = {"width": 0.25, "color": colour, "label": f"{group} ({number})"}
            ax.bar(place + shift, changed, **(style | artist_kw))
            used[used == 0] = np.nan
            ax.plot(place + shift, used, GROUP_MARKERS[group], color=colour, markersize=3)
        for label, alpha in (("decision changes", 1.0), ("picks the prompt", 0.3)):
            ax.bar(0, 0, color=INK, alpha=alpha, linewidth=0, label=label)  # for the legend
        ax.set_ylabel("images (%, mean over classes)")


def ablate_prompts(
    method: Method,
    dataset: LongTailDataset,
    *,
    prompts: Sequence[int] | None = None,
    layer: int | None = -1,
    per_class: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> PromptAblation:
    """Accuracy by shot group with each prompt of a method's pool switched off, against the intact method.

    One centre crop of each image is seen. Images are read once; each is computed once, and again for every prompt that
    it picks: k + 1 times where all prompts are switched off.

    Args:
        method: trained, with a pool of prompts (lpt, lt_dpt), on the device where it shall run.
        dataset: with the classes of the method; its preprocessing is replaced by the method's.
        prompts: which to switch off, one at a time; None: each.
        layer: of methods that pick in several layers (LT-DPT), where; -1 is the last, as in `prompt_matching`. None
            switches off the prompts of the same number in all layers, which have nothing but the number in common.
        per_class: so many first images of each class; None: all.
        seed: of the bootstrap over classes.
        batch_size: images per forward pass.
        on_step: progress, called with the batch number and {"done": images so far, "total": N}.

    Raises:
        ValueError: a method without a pool, prompts or layers that are not there, fewer prompts than an image picks
            once one is off, other classes than the method's.
    """
    import torch
    from torch.utils.data import DataLoader, Subset

    from workbench.adapters.prompts import PromptPool

    if not isinstance(method, PromptPool) or method.keys is None:
        raise ValueError(
            f"{method.name} picks no prompts with its options; use one that does: lpt with both phases, lt_dpt."
        )
    layers, m = method.pool_size
    chosen = np.arange(m) if prompts is None else np.asarray(prompts, dtype=np.int64)
    if chosen.ndim != 1 or not len(chosen) or len(np.unique(chosen)) < len(chosen):
        raise ValueError(f"prompts={prompts}: give different ones of 0 to {m - 1}, at least one.")
    for prompt in chosen:
        with method.without_prompt(int(prompt), layer=layer):  # refuses what is not there before anything is computed
            pass
    require_classes(method, dataset)
    rows = first_of_each(dataset.labels, per_class)
    dataset = dataset.with_preprocessing(method.test_preprocessing("centre"))
    generator = torch.Generator().manual_seed(0)  # a loader without its own draws from the global state
    loader = DataLoader(Subset(dataset, rows.tolist()), batch_size=batch_size, generator=generator)
    predicted = np.empty(len(rows), dtype=np.int64)
    without = np.empty((len(chosen), len(rows)), dtype=np.int64)
    used = np.zeros((len(chosen), len(rows)), dtype=bool)
    method.eval()
    done = 0
    for step, (images, _) in enumerate(loader):
        at = slice(done, done + len(images))
        done += len(images)
        images = images.to(method.device)
        with torch.inference_mode():
            output = method(images)
            predicted[at] = without[:, at] = output.logits.argmax(1).cpu().numpy()
            index = output.extras["prompt_index"].reshape(len(images), -1, method.config.top_k)  # (B, layers, k)
            index = index if layer is None else index[:, [layer]]
            for row, prompt in enumerate(chosen.tolist()):
                picks = (index == prompt).flatten(1).any(1)  # (B,)
                used[row, at] = picks.cpu().numpy()
                if bool(picks.any()):
                    with method.without_prompt(prompt, layer=layer):
                        without[row, at][used[row, at]] = method(images[picks]).logits.argmax(1).cpu().numpy()
        if on_step is not None:
            on_step(step, {"done": done, "total": len(rows)})
    labels, groups, spec = dataset.labels[rows], np.asarray(dataset.classes.groups), dataset.spec()
    return PromptAblation(
        arguments={"prompts": None if prompts is None else chosen.tolist(), "layer": layer, "per_class": per_class}
        | {"seed": seed, "method": method.name, "options": method.options},
        sources=(method_source(method, data=spec),),
        method=method.name,
        prompts=chosen,
        num_prompts=m,
        top_k=method.config.top_k,
        layer=None if layer is None or layers == 1 else layer % layers,
        ids=dataset.ids[rows],
        labels=labels,
        predicted=predicted,
        without=without,
        used=used,
        differences={
            (prompt, group): metrics.paired_difference(
                without[row], predicted, labels, groups, group=group, level=LEVEL, seed=seed
            )
            for row, prompt in enumerate(chosen.tolist())
            for group in ROWS
        },
        groups=groups,
        rule=str(dataset.classes.rule),
    )
