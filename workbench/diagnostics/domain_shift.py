"""Does what a method learnt on the long tail hold where the images look otherwise? Accuracy lost, class by class.

Source: LPT (Dong et al., "LPT: Long-tailed Prompt Tuning for Image Classification", ICLR 2023, arXiv 2210.01033),
section 5.2 and tables 6 and 16: trained on ImageNet-LT, tested on ImageNet-Sketch, where it reports 36.22 % against
31.55 % of linear probing and 32.25 % of full fine-tuning, and on five more sets. Such a table gives shifted accuracies
alone; here the accuracy on the reference set stands beside them, since a better method is mostly better on both.

Shot groups are those of the reference set: a shifted set may have no training images. A class without images in one of
the two sets is left out of both. Where the sets hold other shares of images per class, "all" mixes the shift with that
change; means over classes do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench import metrics
from workbench.features import Features

from .arms import aligned
from .base import Result, percent, plain
from .effective_robustness import LEAST_ARMS, Robustness, effective_robustness
from .shift_figures import draw_arms, draw_classes, draw_drop
from .shifted_sets import arms_and_sets, remarks
from .transfer import Transfer, difference_bounds, drops_compared, transfer

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_VIEWS = ("drop", "arms", "classes")
_LETTERS = 24  # of a name in the tables


@dataclass(frozen=True, kw_only=True, eq=False)
class DomainShift(Result):
    """Accuracy of A arms on a reference set and on K shifted sets of C classes. Shares in [0, 1].

    Rows of every dict are the keys of `metrics.ACCURACIES`.
    """

    diagnostic: ClassVar[str] = "domain_shift"
    size: ClassVar[tuple[float, float]] = (5.5, 3.4)

    arms: tuple[str, ...]
    reference: str  # what the reference set is called
    sets: tuple[str, ...]  # what the shifted sets are called
    transfers: dict[tuple[str, str], Transfer]  # (arm, set)
    differences: dict[
        tuple[str, str, str], metrics.Difference
    ]  # (arm, set, row): the first arm's drop minus this one's
    robustness: dict[tuple[str, str, str], Robustness]  # (arm, set, row); empty for fewer than LEAST_ARMS arms
    names: tuple[str, ...]  # of the C classes
    counts: np.ndarray  # (C,) training images
    groups: np.ndarray  # (C,) "many" | "medium" | "few" of the reference set
    images: np.ndarray  # (1 + K, C) test images of each set, the reference first
    rule: str
    remarks: tuple[str, ...]  # what else differs between the sets
    level: float

    @property
    def views(self) -> tuple[str, ...]:  # type: ignore[override]
        """ "drop", "arms" and "classes" (of the first arm); of a second shifted set "drop 2", and so on."""
        return tuple(f"{view} {k}" if k > 1 else view for k in range(1, len(self.sets) + 1) for view in _VIEWS)

    def in_both(self, shifted: str) -> np.ndarray:
        """(C,) bool: classes that have images in the reference set and in this one."""
        return (self.images[0] > 0) & (self.images[1 + self.sets.index(shifted)] > 0)

    def num_classes(self, shifted: str, row: str) -> int:
        """Classes of a row that have images in both sets."""
        both = self.in_both(shifted)
        return int((both & (self.groups == row)).sum() if row in metrics.GROUPS else both.sum())

    def __str__(self) -> str:
        lines = [f"accuracy in % [{self.level:.0%} over classes]; shot groups of {self.reference}: {self.rule}"]
        for (arm, shifted), one in self.transfers.items():
            seeds = one.reference.num_seeds
            lines += [
                f"{plain(arm, _LETTERS)} ({seeds} seed{'s' if seeds > 1 else ''}), {self.reference} to {shifted}",
                f"  {'':<10}{'classes':>8}  {'reference':<20}{'shifted':<20}{'drop, points':<24}{'kept, %':<21}"
                "could have shown",
            ]
            lines += [self._line(one, row, self.num_classes(shifted, row)) for row in metrics.ACCURACIES]
        for (arm, shifted, row), found in self.differences.items():
            if row in ("all", "few", "mean_class"):
                lines.append(
                    f"drop of {plain(self.arms[0], _LETTERS)} minus that of {plain(arm, _LETTERS)}, {shifted}, "
                    f"{row}: {_points(found)} points, {_verdict(found)}"
                )
        return "\n".join(lines + self._about_robustness() + self._notes())

    def _line(self, one: Transfer, row: str, classes: int) -> str:
        before, after, kept = one.reference.over_classes[row], one.shifted.over_classes[row], one.kept[row]
        cells = [percent(each.estimate, each.low, each.high) for each in (before, after)]
        smallest = one.drop[row].smallest_detectable
        return (
            f"  {row:<10}{classes:>8}  {cells[0]:<20}{cells[1]:<20}"
            f"{_points(one.drop[row]) + ('†' if one.drop[row].too_small and classes else ''):<24}"
            f"{percent(kept.estimate, kept.low, kept.high):<21}{percent(smallest)}"
        )

    def _about_robustness(self) -> list[str]:
        if len(self.arms) < LEAST_ARMS:
            return [_refusal(len(self.arms))]
        lines = ["effective robustness, points beyond what the line of the other arms predicts:"]
        for (arm, shifted, row), found in self.robustness.items():
            if row == "all":
                text = found.why or _points(found) + (", extrapolated" if found.extrapolated else "")
                lines.append(f"  {plain(arm, _LETTERS)}, {shifted}: {text}")
        return lines

    def _notes(self) -> list[str]:
        notes = []
        for shifted in self.sets:
            left = len(self.names) - int(self.in_both(shifted).sum())
            if left:
                notes.append(
                    f"{shifted}: {left} of {len(self.names)} classes have no images in one of the two sets and are "
                    "left out of both"
                )
        notes += self.remarks
        if self.differences:
            notes.append(
                "who has less to lose loses less: read a drop beside both accuracies; group_report on the shifted "
                "features compares accuracies there"
            )
        if any(one.too_small and one.n for each in self.transfers.values() for one in each.drop.values()):
            notes.append(f"† fewer than {metrics.TRUSTED_FROM} classes: do not lean on these intervals")
        notes.append("could have shown: the true drop that this test finds in 80 of 100 repetitions, in points")
        return notes

    def to_frame(self) -> pd.DataFrame:
        """One row per arm, set and group of kind "reference", "shifted", "drop" or "kept"; of kind "class" per class.

        Then "difference_of_drops" (arm minus `against`) and "effective_robustness", whose `method` says why it is nan.
        """
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for (arm, shifted), one in self.transfers.items():
            key = {"arm": arm, "set": shifted, "seeds": one.reference.num_seeds}
            parts: dict[str, tuple[Mapping[str, metrics.Interval], dict[str, metrics.Interval]]] = {
                "reference": (one.reference.over_classes, one.reference.over_seeds),
                "shifted": (one.shifted.over_classes, one.shifted.over_seeds),
                "drop": (one.drop, one.drop_over_seeds),
                "kept": (one.kept, {}),
            }
            for kind, (over, seeds) in parts.items():
                for row in metrics.ACCURACIES:
                    entry = {"kind": kind, **key, "group": row, "classes": self.num_classes(shifted, row)}
                    again = seeds.get(row)
                    bounds = {"seeds_low": again.low, "seeds_high": again.high} if again else {}
                    rows.append(entry | _interval(over[row]) | bounds)
            rows += self._class_rows(one, shifted, key)
        for (arm, shifted, row), found in self.differences.items():
            entry = {"kind": "difference_of_drops", "arm": self.arms[0], "against": arm, "set": shifted, "group": row}
            rows.append(entry | {"classes": self.num_classes(shifted, row)} | _interval(found))
        for (arm, shifted, row), beyond in self.robustness.items():
            said = beyond.why or f"line of {beyond.others} others{', extrapolated' if beyond.extrapolated else ''}"
            entry = {"kind": "effective_robustness", "arm": arm, "set": shifted, "group": row, "method": said}
            rows.append(entry | {"value": beyond.estimate, "low": beyond.low, "high": beyond.high})
        if not self.robustness:
            said = _refusal(len(self.arms))
            rows += [{"kind": "effective_robustness", "set": shifted, "method": said} for shifted in self.sets]
        whole = dict.fromkeys(("class", "train_images", "reference_images", "shifted_images", "classes", "n"), "Int64")
        columns = {name: None for row in rows for name in row} | {"against": None}
        return pd.DataFrame(rows, columns=list(columns)).astype(whole | {"seeds": "Int64"})

    def _class_rows(self, one: Transfer, shifted: str, key: dict[str, Any]) -> list[dict[str, Any]]:
        before, after = one.reference.class_accuracy, one.shifted.class_accuracy
        number = self.images[[0, 1 + self.sets.index(shifted)]].astype(np.float64)  # (2, C)
        low = high = np.full(len(before), math.nan)
        if one.reference.num_seeds == 1:  # seeds share their images, so that their mean has no interval of this kind
            low, high = difference_bounds(before, after, *number, level=self.level)
        return [
            {"kind": "class", **key, "group": self.groups[c], "class": c, "name": self.names[c]}
            | {"train_images": self.counts[c], "reference_images": number[0, c], "shifted_images": number[1, c]}
            | {"reference": before[c], "shifted": after[c], "value": before[c] - after[c], "low": low[c]}
            | {"high": high[c]}
            for c in range(len(before))
        ]

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        kind, _, number = view.partition(" ")
        draw = {"drop": draw_drop, "arms": draw_arms, "classes": draw_classes}[kind]
        draw(self, self.sets[int(number or 1) - 1], ax, **artist_kw)


def domain_shift(
    reference: Features | Sequence[Features] | Mapping[str, tuple[Features | Sequence[Features], ...]],
    *shifted: Features | Sequence[Features],
    names: Sequence[str] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> DomainShift:
    """Accuracy of one method or several on a reference set and on shifted sets of the same classes.

    Args:
        reference: of the images as the method learnt them, one Features or a list of one per training seed; or, of
            several methods, name -> (reference, shifted, ...). The first method's drop is compared with the others'.
        shifted: of each set that looks otherwise, by the same trained models, seeds in the same order.
        names: what to call the sets, the reference first; None: the manifests that the features name.
        level: of confidence.
        seed: of the bootstrap over classes.

    Raises:
        ValueError: no shifted set, classes of other names or in another order, no class with images in both sets,
            methods on other images, or features of another trained model than the reference's.
    """
    lists, called, classes = arms_and_sets(reference, shifted, names)
    bases = [several[0] for several in next(iter(lists.values()))]  # the first arm's, of each set
    labels, groups = [base.labels for base in bases], np.asarray(classes.groups)
    images = np.stack([np.bincount(one, minlength=len(classes)) for one in labels])
    for name, number in zip(called[1:], images[1:], strict=True):
        if not ((images[0] > 0) & (number > 0)).any():
            raise ValueError(f"no class has images in {called[0]!r} and in {name!r}; give sets that share classes.")
    transfers = {}
    for arm, value in lists.items():
        predicted = [
            np.stack([aligned(one, base) for one in several]) for several, base in zip(value, bases, strict=True)
        ]
        for k, name in enumerate(called[1:], start=1):
            pair = (predicted[0], labels[0]), (predicted[k], labels[k])
            transfers[arm, name] = transfer(arm, *pair, groups, level=level, seed=seed)
    arms, sets = tuple(lists), tuple(called[1:])
    return DomainShift(
        arguments={
            "names": called, "level": level, "seed": seed, "seeds": {arm: len(v[0]) for arm, v in lists.items()},
        },
        sources=tuple(one.source for value in lists.values() for several in value for one in several),
        arms=arms,
        reference=called[0],
        sets=sets,
        transfers=transfers,
        differences={
            (arm, name, row): found
            for name in sets
            for arm in arms[1:]
            for row, found in drops_compared(
                transfers[arms[0], name], transfers[arm, name], level=level, seed=seed
            ).items()
        },
        robustness=_robustness(arms, sets, transfers, level) if len(arms) >= LEAST_ARMS else {},
        names=tuple(classes.names),
        counts=np.asarray(classes.counts),
        groups=groups,
        images=images,
        rule=str(classes.rule),
        remarks=remarks(lists, called, images),
        level=level,
    )  # fmt: skip


def _robustness(
    arms: tuple[str, ...], sets: tuple[str, ...], transfers: dict[tuple[str, str], Transfer], level: float
) -> dict[tuple[str, str, str], Robustness]:
    found: dict[tuple[str, str, str], Robustness] = {}
    for name in sets:
        for row in metrics.ACCURACIES:
            before, after = (
                np.array([getattr(transfers[arm, name], which).over_classes[row].estimate for arm in arms])
                for which in ("reference", "shifted")
            )
            each = effective_robustness(before, after, level=level)
            found |= {(arm, name, row): one for arm, one in zip(arms, each, strict=True)}
    return found


def _refusal(number: int) -> str:
    return (
        f"effective robustness: not computed, since the line of the other arms needs at least {LEAST_ARMS} arms and "
        f"{number} {'was' if number == 1 else 'were'} given"
    )


def _points(found: metrics.Interval | Robustness) -> str:
    return percent(found.estimate, found.low, found.high, sign=True)


def _verdict(difference: metrics.Difference) -> str:
    if math.isnan(difference.low):
        return "not testable"
    if difference.low <= 0 <= difference.high:
        return f"no difference shown (could have shown {percent(difference.smallest_detectable)})"
    return f"the first loses {'more' if difference.estimate > 0 else 'less'}"


def _interval(found: metrics.Interval) -> dict[str, Any]:
    """Columns of one interval; p and the smallest detectable value where it is a difference."""
    row = {key: getattr(found, key) for key in ("low", "high", "n", "unit", "method", "estimand")}
    if isinstance(found, metrics.Difference):
        row |= {"p": found.p, "smallest_detectable": found.smallest_detectable}
    return {"value": found.estimate} | row
