"""How far down a taxonomy does a classifier see: its accuracy at every level, from kingdoms to species.

Shi et al., "Long-Tail Learning with Foundation Model: Heavy Fine-Tuning Hurts", ICML 2024, arXiv 2309.10019, Figure 2c:
zero-shot CLIP on iNaturalist 2018. Two ways to decide among the nodes of a level:

- "names": the node whose name lies nearest to the image in the joint space, as zero-shot CLIP decides among classes.
  Needs projected features (those of zero_shot, say), the text tower and names of the nodes.
- "classes": the node whose classes together have the highest probability. Needs logits alone, of any method.

A level with few nodes is easier by chance alone, and more so where one node has most images; both are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench import metrics

from .base import (
    INK,
    METHOD_COLOURS,
    MUTED,
    ROWS,
    Result,
    caption_below,
    dress,
    legend_beside,
    percent,
    plain,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.backbones import SentenceEncoder
    from workbench.data import Classes
    from workbench.features import Features
    from workbench.metrics import Interval

RULES = {"names": "by nodes' names", "classes": "by the sum of\nclass probabilities"}
LEAVES = "each class"  # the level of the classes themselves; "class" is a rank of biology
Templates = str | Sequence[str]


@dataclass(frozen=True, kw_only=True, eq=False)
class TaxonomyLevels(Result):
    """Accuracy in [0, 1] at each level, coarse to fine.

    `table[rule, level]` maps "all" (share of images) and the shot groups of the images' classes (mean over classes) to
    intervals over classes.
    """

    diagnostic: ClassVar[str] = "taxonomy_levels"

    levels: tuple[str, ...]  # fewest nodes first
    nodes: dict[str, int]  # level -> nodes that have a class
    table: dict[tuple[str, str], dict[str, Interval]]
    predicted: dict[tuple[str, str], np.ndarray]  # (N,) int64 node of each image
    largest: dict[str, float]  # level -> share of the images in the node that has most
    nested: bool  # each node lies in one node of the level before
    n: int  # images
    rule: str

    def __str__(self) -> str:
        lines = [f"accuracy in % at each level of the taxonomy, n = {self.n} images [interval over classes]"]
        for level in self.levels:
            found = [
                f"{rule} {percent(interval.estimate, interval.low, interval.high)}"
                for rule in RULES
                if (interval := self.table.get((rule, level), {}).get("all")) is not None
            ]
            chance = f"chance {percent(1 / self.nodes[level])}, largest node {percent(self.largest[level])}"
            lines.append(f"{plain(level, 20):<20} {self.nodes[level]:>5} nodes  {'  '.join(found)}  ({chance})")
        if not self.nested:
            lines.append("the levels do not lie in each other")
        lines.append(f"groups in the table: {self.rule}")
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """One row per level, rule and group; chance is 1 / nodes, largest the share of images in the largest node."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "level": level,
                    "nodes": self.nodes[level],
                    "rule": rule,
                    "group": group,
                    "accuracy": interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                    "classes": interval.n if interval.unit == "classes" else None,
                    "chance": 1 / self.nodes[level],
                    "largest": self.largest[level],
                }
                for level in self.levels
                for rule in RULES
                for group, interval in self.table.get((rule, level), {}).items()
            ]
        ).astype({"classes": "Int64"})

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        places = np.arange(len(self.levels), dtype=float)
        used = [rule for rule in RULES if any(key[0] == rule for key in self.table)]
        for rule in used:
            number = list(RULES).index(rule)  # its colour, whether or not the other is there
            there = [i for i, level in enumerate(self.levels) if (rule, level) in self.table]
            found = [self.table[rule, self.levels[i]]["all"] for i in there]
            values, low, high = (
                100 * np.array([getattr(one, name) for one in found]) for name in ("estimate", "low", "high")
            )
            x = places[there] + (0.16 * (number - 0.5) if len(used) > 1 else 0)
            colour = METHOD_COLOURS[number]
            style = {"color": colour, "marker": "os"[number], "label": RULES[rule]}
            style["linestyle"] = "-" if self.nested else "none"  # a line where one level refines the one before
            ax.plot(x, values, clip_on=False, **(style | artist_kw))
            ax.vlines(x, low, high, color=colour, linewidth=1)
        half = 0.3
        largest = 100 * np.array([self.largest[level] for level in self.levels])
        chance = 100 / np.array([self.nodes[level] for level in self.levels])
        ax.hlines(largest, places - half, places + half, color=MUTED, linewidth=1, label="always the\nlargest node")
        ax.hlines(
            chance, places - half, places + half, color=INK, linewidth=1, linestyles=":", label="chance (1 / nodes)"
        )
        many = len(places) > 5
        letters = 14 if many else 48 // len(places)
        names = [f"{plain(level, letters)}{' ' if many else chr(10)}({self.nodes[level]})" for level in self.levels]
        turned = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if many else {}
        ax.set_xticks(places, names, parse_math=False, **turned)
        ax.set_xlim(-0.5, len(places) - 0.5)
        ax.set_ylim(0, 100)
        ax.set_xlabel("level of the taxonomy (nodes), coarse to fine")
        ax.set_ylabel(f"accuracy (% of {self.n} images)")
        dress(ax)
        legend_beside(ax, title="decision")
        if not self.nested:
            caption_below(ax, "These levels do not lie in each other: each is a question of its own.")


def taxonomy_levels(
    features: Features,
    *,
    text: SentenceEncoder | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
    templates: Templates | Mapping[str, Templates] | None = None,
    levels: Sequence[str] | None = None,
    seed: int = 0,
) -> TaxonomyLevels:
    """Accuracy at every level of the classes' taxonomy, with the classes themselves as the finest.

    Args:
        features: of a data set whose classes have a taxonomy. With `text`, their vectors must be images in the joint
            space, not normalised: what zero_shot saw, or another method on projected features.
        text: the text tower of these features; None leaves "names" out. Classes are compared by their names too.
        names: level -> names of its nodes, by the number of the node in `classes.taxonomy[level]`, such as
            {"shape": list(workbench.toybox.SHAPES)}. Levels without names are decided by "classes" alone.
        templates: of the sentences, as for zero_shot; or level -> templates, for levels that need other words ("a photo
            of a {} toy." for colours).
        levels: which of them, None is all; drawn with the fewest nodes first.
        seed: of the intervals' bootstrap.

    Raises:
        ValueError: no taxonomy, unknown levels, too few names, vectors of another width than the text's, or neither
            logits nor text.
    """
    classes, labels = features.classes, features.labels
    chosen = _levels(classes, levels)
    if text is None and (names or templates):
        raise ValueError("names= and templates= are for text=, the text tower that encodes them; give it, or neither.")
    if text is None and features.logits is None:
        raise ValueError("these features hold no logits (too many classes), and without text= nothing can be decided.")
    named = dict(names or {}) | {LEAVES: classes.names}
    if unknown := sorted(named.keys() - chosen.keys() - {LEAVES}):
        raise ValueError(f"names= has {', '.join(unknown)}, but the levels are {', '.join(chosen)}.")
    predicted: dict[tuple[str, str], np.ndarray] = {}
    for level, nodes in chosen.items():
        if text is not None and level in named:
            own = templates.get(level) if isinstance(templates, Mapping) else templates
            predicted["names", level] = _by_names(features, level, nodes, named[level], text, own)
        if features.logits is not None:
            whole = len(np.unique(nodes)) == len(classes)  # logits are rounded, the decisions are not
            predicted["classes", level] = nodes[features.decisions] if whole else _summed(features.logits, nodes)
    groups, table = np.asarray(classes.groups), {}
    for (rule, level), nodes in predicted.items():
        right = nodes == chosen[level][labels]
        # some other class stands for "wrong": what counts here is the class of the image and whether it is right
        stands = np.where(right, labels, (labels + 1) % len(classes))
        table[rule, level] = {group: metrics.group_interval(stands, labels, groups, group, seed=seed) for group in ROWS}
    return TaxonomyLevels(
        arguments={
            "names": None if names is None else {level: list(some) for level, some in names.items()},
            "templates": _as_json(templates),
            "levels": None if levels is None else list(levels),
            "text": None if text is None else text.spec(),
            "seed": seed,
        },
        sources=(features.source,),
        levels=tuple(chosen),
        nodes={level: len(np.unique(nodes)) for level, nodes in chosen.items()},
        table=table,
        predicted=predicted,
        largest={level: float(np.bincount(nodes[labels]).max() / len(labels)) for level, nodes in chosen.items()},
        nested=_nested(list(chosen.values())),
        n=len(labels),
        rule=str(classes.rule),
    )


def _levels(classes: Classes, levels: Sequence[str] | None) -> dict[str, np.ndarray]:
    """Level -> (C,) node of each class, fewest nodes first; the classes come last unless a level is as fine."""
    if not classes.taxonomy:
        raise ValueError(
            "these classes have no taxonomy; give Classes(taxonomy={level: node of each class}), or use toybox_lt or "
            "iNaturalist 2018, which have one."
        )
    known = dict(classes.taxonomy)
    if LEAVES not in known and all(len(np.unique(nodes)) < len(classes) for nodes in known.values()):
        known[LEAVES] = np.arange(len(classes))
    if levels is not None:
        if not levels or isinstance(levels, str) or (set(levels) - known.keys()):
            raise ValueError(f"levels={levels!r}: give a list of some of {', '.join(known)}.")
        known = {level: known[level] for level in levels}
    return dict(sorted(known.items(), key=lambda item: len(np.unique(item[1]))))


def _by_names(
    features: Features,
    level: str,
    nodes: np.ndarray,
    names: Sequence[str],
    text: SentenceEncoder,
    templates: Templates | None,
) -> np.ndarray:
    """(N,) the node whose name has the largest cosine with the image, among those that have a class."""
    from workbench.backbones import class_embeddings

    present = np.unique(nodes)
    if isinstance(names, str) or present[-1] >= len(names):
        raise ValueError(f"names[{level!r}] has {len(names)} entries, but its nodes go up to {present[-1]}.")
    if features.vectors.shape[1] != text.width:
        raise ValueError(
            f"the vectors are {features.vectors.shape[1]} wide and the text vectors {text.width}: these are no images "
            "in the joint space. Extract them with zero_shot (layer='head'), or leave text= out."
        )
    rows = class_embeddings(text, [str(names[node]) for node in present], templates=templates)  # (K, E)
    return present[(features.vectors @ rows.cpu().numpy().T).argmax(1)]  # the image's length changes no order


def _summed(logits: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """(N,) the node with the largest sum of the probabilities of its classes; logits (N, C)."""
    order = np.argsort(nodes, kind="stable")
    present, starts = np.unique(nodes[order], return_index=True)
    found = []
    for start in range(0, len(logits), 1024):  # thousands of classes in float32 take much memory
        some = logits[start : start + 1024, order].astype(np.float32)
        weights = np.exp(some - some.max(1, keepdims=True))  # their sum over classes changes no order
        found.append(present[np.add.reduceat(weights, starts, axis=1).argmax(1)])
    return np.concatenate(found)


def _nested(levels: list[np.ndarray]) -> bool:
    """Whether all classes of a node share their node in the level before."""
    return all(
        len(np.unique(np.stack([coarse, fine]), axis=1).T) == len(np.unique(fine)) for coarse, fine in pairwise(levels)
    )


def _as_json(templates: Templates | Mapping[str, Templates] | None) -> Any:
    if isinstance(templates, Mapping):
        return {level: _as_json(own) for level, own in templates.items()}
    return templates if templates is None or isinstance(templates, str) else list(templates)
