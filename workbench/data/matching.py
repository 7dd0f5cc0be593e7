"""Matching: another data set's classes seen as a trained method's, to measure it under domain shift.

Classes are matched by name; where the other set has coarser ones (the 16 of Geirhos et al., ICLR 2019, arXiv
1811.12231, over ImageNet's 1,000), a table says which of the method's classes each of them holds.
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .classes import Classes, GroupRule, read_only
from .manifest import Manifest, Split


@dataclass(frozen=True, eq=False)
class Matching:
    """Which of a method's C classes each class of another data set stands for; made by `match_classes`.

    `merged` are the classes that both sets have in common, in the other set's order where a table merged some, else
    the method's own C, of which `shared` are in common.
    """

    other: Manifest
    known: Classes  # the method's C classes
    merged: Classes
    of_other: np.ndarray  # (O,) int64: index in `merged` of each class of the other set, -1 where it has none
    of_known: np.ndarray  # (C,) int64: likewise of each class of the method
    by_table: bool

    @property
    def shared(self) -> int:
        """Number of classes that both sets have."""
        return int((self.of_other >= 0).sum())

    def left_out(self, split: str) -> tuple[int, int]:
        """Classes of the other set that have no match, and their images in a split."""
        return int((self.of_other < 0).sum()), int((self.of_other[self.other.split(split).labels] < 0).sum())

    def manifest(self, split: str) -> Manifest:
        """The images of a split that have a match, labelled with the method's classes (the first of several)."""
        rows = self.other.split(split)
        place = self.of_other[rows.labels]
        kept = place >= 0
        first = np.full(len(self.merged), -1, np.int64)
        for label in np.flatnonzero(self.of_known >= 0)[::-1]:
            first[self.of_known[label]] = label
        return Manifest(
            name=self.other.name, title=self.other.title, licence=self.other.licence, source=self.other.source,
            kind=self.other.kind, splits={split: Split(rows.paths[kept], first[place[kept]])},
            classes=self.known,
        )  # fmt: skip

    def decide(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decision among the merged classes only, by the sum of the probabilities of the classes in each.

        Args:
            logits: (N, C) of the method.

        Returns:
            predicted (N,) int64, index in `merged`, and confidence (N,) float32 in [0, 1], its share of what all
            merged classes have together.
        """
        wide = logits.astype(np.float64)
        probability = np.exp(wide - wide.max(1, keepdims=True))
        sums = np.zeros((len(logits), len(self.merged)))
        for index in range(len(self.merged)):
            sums[:, index] = probability[:, self.of_known == index].sum(1)
        sums /= np.maximum(sums.sum(1, keepdims=True), np.finfo(np.float64).tiny)
        return sums.argmax(1), sums.max(1).astype(np.float32)

    def __str__(self) -> str:
        how = "by the table" if self.by_table else "by name"
        return f"{self.shared} of the {len(self.other.classes)} classes of {self.other.name} matched {how}"


def match_classes(other: Manifest, known: Classes, table: str | Path | None = None) -> Matching:
    """Match the classes of another data set with those that a method was trained on.

    Args:
        other: the other data set.
        known: the method's classes.
        table: CSV with the columns class (a name in the other set) and run_class (one of the method's names); several
            lines of one class merge several of the method's. Without it names must be equal; a name that one of the
            sets has twice matches nothing, unless the two lists of names are the same.

    Raises:
        ValueError: no class is in common, or the table names one that does not exist or one of the method's twice.
    """
    names = other.classes.names
    if table is not None:
        return _by_table(other, known, Path(table).expanduser())
    if names == known.names:
        same = np.arange(len(names))
        return Matching(other, known, known, read_only(same, np.int64), read_only(same, np.int64), False)
    unique = {name for name, number in Counter(known.names).items() if number == 1}
    unique &= {name for name, number in Counter(names).items() if number == 1}
    of_other = np.array([known.names.index(name) if name in unique else -1 for name in names], np.int64)
    of_known = np.array([i if name in unique else -1 for i, name in enumerate(known.names)], np.int64)
    if not unique:
        raise ValueError(
            f"{other.name} has no class of the run: its classes are {_some(names)}, the run's {_some(known.names)}. "
            "Say with a table (--classes MAP.csv, columns class and run_class) which belong together."
        )
    return Matching(other, known, known, read_only(of_other, np.int64), read_only(of_known, np.int64), False)


def _by_table(other: Manifest, known: Classes, table: Path) -> Matching:
    names = other.classes.names
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if not {"class", "run_class"} <= set(reader.fieldnames or []):
            raise ValueError(f"{table}: a table of classes has the columns class and run_class.")
        pairs = [(row["class"] or "", row["run_class"] or "", reader.line_num) for row in reader]
    of_known = np.full(len(known), -1, np.int64)
    merged = list(dict.fromkeys(name for name, _, _ in pairs))
    for name, run_class, line in pairs:
        for what, value, allowed in (("class", name, names), ("run_class", run_class, known.names)):
            if value not in allowed:
                raise ValueError(f"{table}, line {line}: no {what} {value!r}; there are {_some(allowed)}.")
        for label in (i for i, one in enumerate(known.names) if one == run_class):
            if of_known[label] >= 0:
                raise ValueError(f"{table}, line {line}: {run_class!r} has a class already; each goes into one.")
            of_known[label] = merged.index(name)
    if not merged:
        raise ValueError(f"{table} has no lines; each names a class of {other.name} and one of the run's.")
    of_other = np.array([merged.index(name) if name in merged else -1 for name in names], np.int64)
    counts = np.bincount(of_known[of_known >= 0], known.counts[of_known >= 0], minlength=len(merged)).astype(np.int64)
    rule = GroupRule(many_from=known.rule.many_from, few_to=known.rule.few_to)
    classes = Classes(tuple(merged), counts, rule)
    return Matching(other, known, classes, read_only(of_other, np.int64), read_only(of_known, np.int64), True)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
