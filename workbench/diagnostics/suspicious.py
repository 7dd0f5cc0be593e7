"""Which images are most likely labelled wrongly, which occur twice, and which test images were trained on?

Labels: confident learning (Northcutt, Jiang and Chuang, JAIR 2021, arXiv 1911.00068, eq. 1 to 3) from out-of-sample
probabilities, or, for vectors without logits, the labels of the nearest neighbours. A model that was trained on the
very images has learnt their wrong labels too and hides them: of its train features, expect fewer errors than there are.
And a model that favours frequent classes disagrees with right labels of rare ones in the same way: on a long tail, read
the suggestions and their share as what that model doubts (on toybox, whose labels are right, a fifth of the images).

Duplicates and leakage: pairs whose cosine is at least a threshold. Where none is given it follows from the data.
Distances 1 - cosine to the nearest image are minima of many, so they follow a Weibull law (Fisher and Tippett, 1928),
and their logarithms a Gumbel law, whose location a and scale b follow from median and upper quartile, which fewer than
half of the images, all below them, hardly move: b = (Q3 - Q2) / ln 2, a = Q2 - b ln ln 2. The threshold exp(a - b ln N)
is undercut by one of N images on average if none is a duplicate. Vectors equal up to rounding are exact duplicates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .base import (
    CAPTION_SIZE,
    GROUP_COLOURS,
    GROUP_ORDER,
    MUTED,
    TEXT_WIDTH,
    Result,
    caption_below,
    dress,
    is_narrow,
    plain,
    same_classes,
)
from .neighbours import metric_space
from .suspects import (
    EXACT,
    Finding,
    confident_labels,
    duplicate_threshold,
    label_findings,
    nearest,
    neighbour_labels,
    pair_findings,
)
from .thumbnails import GAP, SIDE, place_on, thumbnails

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.data import LongTailDataset
    from workbench.features import Features

KINDS = {"label": "label in doubt", "leak": "trained on", "duplicate": "occurs twice"}
RULES = ("confident_learning", "neighbours")
_COLUMNS, _LETTERS = 6, 16  # of a sheet of images


@dataclass(frozen=True, kw_only=True, eq=False)
class Suspicious(Result):
    """What was found, by kind, the most suspicious first: pairs across labels, then exact ones, then by score."""

    diagnostic: ClassVar[str] = "suspicious"

    findings: tuple[Finding, ...]
    images: dict[str, int]  # split -> its images
    rules: dict[str, str]  # split -> of RULES
    thresholds: dict[tuple[str, str], float]  # (kind, split) -> 1 - cosine up to which a pair is reported
    noise: dict[str, float]  # split -> share of labels that are wrong, or that a biased model doubts; nan by neighbours
    unjudged: dict[str, int]  # split -> images whose label cannot be judged: no other train image of their class
    in_sample: bool  # the train features are of a model that was trained on these images
    pictures: np.ndarray | None  # (F, 2, SIDE, SIDE, 3) uint8 of the findings `pictured`; None without images
    pictured: tuple[int, ...]  # places in `findings`
    names: tuple[str, ...]
    groups: np.ndarray  # (C,) "many" | "medium" | "few"
    rule: str

    @property
    def size(self) -> tuple[float, float]:  # type: ignore[override]
        return (TEXT_WIDTH, 2.6) if self.pictures is None else (6.6, 5.0)

    @property
    def views(self) -> tuple[str, ...]:  # type: ignore[override]
        """ "counts", and "images" where they were given."""
        return ("counts",) if self.pictures is None else ("counts", "images")

    def of(self, kind: str, split: str | None = None) -> tuple[Finding, ...]:
        """The findings of one kind, in one split or both, most suspicious first."""
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r} is not known; choose one of {', '.join(KINDS)}.")
        return tuple(one for one in self.findings if one.kind == kind and split in (None, one.split))

    def caption(self) -> str:
        """How labels were judged and from which cosine on two images are reported, one line each."""
        lines = []
        for split, rule in self.rules.items():
            line = f"{split} labels by {rule.replace('_', ' ')}"
            if not math.isnan(self.noise[split]):
                line += f": about {100 * self.noise[split]:.1f} % wrong, or doubted by a biased model"
            lines.append(line + (f"; {self.unjudged[split]} images not judged" if self.unjudged[split] else ""))
        if self.in_sample:
            lines.append("the model was trained on these train images and hides errors among their labels")
        ends = (f"{kind} ({split}) {1 - distance:.4f}" for (kind, split), distance in self.thresholds.items())
        return "\n".join([*lines, f"cosine at least: {', '.join(ends)}"])

    def __str__(self) -> str:
        lines = [", ".join(f"{number} {split} images" for split, number in self.images.items()), self.caption()]
        for kind, words in KINDS.items():
            found = self.of(kind)
            extra = f"; {sum(one.across for one in found)} across labels, {sum(one.exact for one in found)} exact"
            lines.append(f"{words}: {len(found)}{extra if kind != 'label' else ''}")
            lines += [f"  {self._line(one)}" for one in found[:5]]
        return "\n".join(lines)

    def _line(self, one: Finding) -> str:
        said = f"{plain(one.id, 40)} ({one.split}), {plain(self.names[one.label], 24)}: {one.score:.4f}, "
        if one.suggested is not None:
            return said + f"rather {plain(self.names[one.suggested], 24)}"
        assert one.partner_label is not None
        return said + f"is {plain(str(one.partner_id), 40)}, {plain(self.names[one.partner_label], 24)}"

    def to_frame(self) -> pd.DataFrame:
        """One row per finding; rank counts within kind and split, score as in `Finding`."""
        import pandas as pd

        columns = ["kind", "split", "rank", "id", "score", "label", "label_name", "group", "suggested"]
        columns += ["suggested_name", "partner_id", "partner_label", "partner_label_name", "across", "exact"]
        ranks: dict[tuple[str, str], int] = {}
        rows = []
        for one in self.findings:
            rank = ranks[one.kind, one.split] = ranks.get((one.kind, one.split), 0) + 1
            other = [None if c is None else self.names[c] for c in (one.suggested, one.partner_label)]
            rows.append(
                (
                    *(one.kind, one.split, rank, one.id, one.score, one.label, self.names[one.label]),
                    *(str(self.groups[one.label]), one.suggested, other[0], one.partner_id, one.partner_label),
                    *(other[1], one.across, one.exact),
                )
            )
        return pd.DataFrame(rows, columns=columns).astype({"suggested": "Int64", "partner_label": "Int64"})

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        (self._draw_images if view == "images" else self._draw_counts)(ax, **artist_kw)

    def _draw_counts(self, ax: Axes, **artist_kw: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        bars = [(kind, split) for kind in KINDS for split in self.images if (kind, split) != ("leak", "train")]
        bars = [bar for bar in bars if bar[0] != "leak" or "test" in self.images]
        largest = 1
        for place, (kind, split) in enumerate(bars):
            found, left = self.of(kind, split), 0
            of_group = [str(self.groups[one.label]) for one in found]
            for group in GROUP_ORDER:
                style = {"left": left, "height": 0.6, "color": GROUP_COLOURS[group]}
                number = of_group.count(group)
                ax.barh(place, number, **(style | {"label": None if place else f"{group}-shot"} | artist_kw))
                left += number
            said = f"{left} of {self.images[split]}"
            if kind != "label" and left:
                across, exact = sum(one.across for one in found), sum(one.exact for one in found)
                said = f"{left}: {across} across labels, {exact} exact"
            ax.annotate(
                said, (left, place), (4, 0), textcoords="offset points", va="center", fontsize=CAPTION_SIZE,
            )  # fmt: skip
            largest = max(largest, left)
        ax.set_yticks(range(len(bars)), [f"{KINDS[kind]}\n({split})" for kind, split in bars])
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(len(bars) - 0.5, -0.5)
        ax.set_xlim(0, 1.55 * largest)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        ax.set_xlabel("images (duplicates: pairs), by the label's group")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, borderaxespad=0.2)
        dress(ax, grid="x")
        caption_below(ax, self.caption())

    def _draw_images(self, ax: Axes, **artist_kw: Any) -> None:
        assert self.pictures is not None
        shown = [self.findings[place] for place in self.pictured]
        kinds = [kind for kind in KINDS if any(one.kind == kind for one in shown)]
        tight = is_narrow(ax)
        columns, letters = (4, 8) if tight else (_COLUMNS, _LETTERS)
        step, words = SIDE + GAP, round((1.1 if tight else 0.75) * SIDE)
        wide, block = step + SIDE, 2 * step + words  # wider than a picture: a name stands below
        sheet = np.full((max(1, len(kinds)) * block, columns * wide, 3), 255, dtype=np.uint8)
        for row, kind in enumerate(kinds):
            places = [place for place, one in enumerate(shown) if one.kind == kind][:columns]
            for column, place in enumerate(places):
                one, left = shown[place], column * wide + (wide - SIDE) // 2
                for half in (0, 1):
                    place_on(sheet, self.pictures[place, half], row * block + half * step, left)
                other = one.suggested if one.kind == "label" else one.partner_label
                assert other is not None
                ax.text(
                    left + SIDE / 2, row * block + 2 * step, f"{plain(self.names[one.label], letters)}\n"
                    f"{plain(self.names[other], letters)}", ha="center", va="top", fontsize=CAPTION_SIZE - 1,
                    parse_math=False,
                )  # fmt: skip
        ax.imshow(sheet, **artist_kw)
        ax.set_yticks([row * block + step for row in range(len(kinds))], [KINDS[kind] for kind in kinds])
        ax.set_xticks([])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        said = "upper image and its label; lower: the other copy and its label, or a train image of the suggested label"
        ax.set_xlabel(said if shown else "nothing suspicious was found", color=MUTED, fontsize=CAPTION_SIZE)


def suspicious(
    train_features: Features,
    test_features: Features | None = None,
    *,
    labels_by: str | None = None,
    k: int = 10,
    duplicate_from: float | None = None,
    images: LongTailDataset | None = None,
    test_images: LongTailDataset | None = None,
) -> Suspicious:
    """Images whose label is in doubt, near and exact duplicates within a split, and test images near a train image.

    Memory stays bounded: neighbours are found in blocks, and only pairs among the k nearest are looked at.

    Args:
        train_features: of the train split. For confident learning best of a model trained on other folds, or zero-shot.
        test_features: of the test split, by the same model; judged in the same way and searched for train images.
        labels_by: "confident_learning" (needs logits) or "neighbours"; None takes the first where there are logits.
            By neighbours a label is in doubt when more than half of the k nearest train images share another, and its
            own class holds less than half of the places that it could fill, min(k, its other images).
        k: nearest neighbours, at most one fewer than train images; also the most copies of one image that are found.
        duplicate_from: cosine in (0, 1] from which on two images are reported; None derives one per comparison.
        images, test_images: hold the images of the two; they add the view "images".

    Raises:
        ValueError: arguments out of range, one train image, different classes or widths, confident learning without
            logits, images of only one of two splits or of another data set.
    """
    sets = {"train": train_features} | ({} if test_features is None else {"test": test_features})
    datasets = {"train": images, "test": test_images}
    _check(sets, datasets, labels_by, k, duplicate_from)
    classes = same_classes(list(sets.values()))
    spaces = {split: metric_space(features.vectors, "cosine") for split, features in sets.items()}
    findings: list[Finding] = []
    rules, noise, unjudged, thresholds = {}, {}, {}, {}
    for split, features in sets.items():
        pairs = {"duplicate": (split, *nearest(spaces[split], spaces[split], k, same=True))}
        if split == "test":
            pairs["leak"] = ("train", *nearest(spaces["train"], spaces["test"], k, same=False))
        near = pairs["leak" if split == "test" else "duplicate"][1]  # train images
        rules[split] = labels_by or RULES[features.logits is None]
        unjudged[split], noise[split] = 0, math.nan
        if rules[split] == "confident_learning":
            suggested, score, noise[split] = confident_labels(features)
        else:
            suggested, score, unjudged[split] = neighbour_labels(features, train_features, near, split == "train")
        findings += label_findings(split, features, train_features, near, suggested, score)
        for kind, (bank, found, distance) in pairs.items():
            end = duplicate_threshold(distance[:, :1].ravel()) if duplicate_from is None else 1 - duplicate_from
            thresholds[kind, split] = end = max(end, EXACT)
            findings += pair_findings(kind, split, features, sets[bank], found, distance, end)
    place = list(KINDS).index
    findings.sort(key=lambda f: (place(f.kind), not f.across, not f.exact, -f.score, f.split, f.row))
    pictured = [at for kind in KINDS for at in [n for n, f in enumerate(findings) if f.kind == kind][:_COLUMNS]]
    source = train_features.source
    return Suspicious(
        arguments={"labels_by": labels_by, "k": k, "duplicate_from": duplicate_from, "images": images is not None},
        sources=tuple(features.source for features in sets.values()),
        findings=tuple(findings),
        images={split: len(features) for split, features in sets.items()},
        rules=rules,
        thresholds=thresholds,
        noise=noise,
        unjudged=unjudged,
        in_sample=source.get("split") == "train" and source.get("method") != "zero_shot",
        pictures=None if images is None else _pictures([findings[at] for at in pictured], datasets),
        pictured=tuple(pictured),
        names=tuple(classes.names),
        groups=np.asarray(classes.groups),
        rule=str(classes.rule),
    )


def _check(
    sets: dict[str, Features],
    datasets: dict[str, LongTailDataset | None],
    labels_by: str | None,
    k: int,
    duplicate_from: float | None,
) -> None:
    if labels_by not in (None, *RULES):
        raise ValueError(f"labels_by={labels_by!r} is not known; choose one of {', '.join(RULES)}, or None.")
    if not 1 <= k < len(sets["train"]):
        raise ValueError(f"k={k}; give a whole number from 1 to {len(sets['train']) - 1}, the other train images.")
    if duplicate_from is not None and not 0 < duplicate_from <= 1:
        raise ValueError(f"duplicate_from={duplicate_from} is no cosine in (0, 1]; None derives one from the data.")
    if len({features.vectors.shape[1] for features in sets.values()}) > 1:
        raise ValueError("train and test features differ in width; extract both with one model.")
    for split, features in sets.items():
        if labels_by == "confident_learning" and features.logits is None:
            raise ValueError(f"the {split} features hold no logits; use labels_by='neighbours'.")
        if (datasets[split] is None) != (datasets["train"] is None):
            raise ValueError("give images= and, with test features, test_images=, or neither.")
    if "test" not in sets and datasets["test"] is not None:
        raise ValueError("test_images= were given without test features.")


def _pictures(findings: list[Finding], datasets: dict[str, LongTailDataset | None]) -> np.ndarray:
    """(F, 2, SIDE, SIDE, 3) uint8: the image and its partner, white where there is none."""
    pictures = np.full((len(findings), 2, SIDE, SIDE, 3), 255, dtype=np.uint8)
    for place, one in enumerate(findings):
        bank = one.split if one.kind == "duplicate" else "train"
        for half, (split, name) in enumerate(((one.split, one.id), (bank, one.partner_id))):
            dataset = datasets[split]
            assert dataset is not None  # checked
            if name is not None:
                pictures[place, half] = thumbnails(dataset, [name])[0]
    return pictures
