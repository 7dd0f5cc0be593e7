"""Differences in the data of two runs: classes, counts, splits, the rule that makes groups of classes."""

from __future__ import annotations

import numpy as np

from workbench.data import Manifest

from .difference import Difference, Differences
from .facts import Facts

SPLITS = ("train", "val", "test")
_SHOWN_CLASSES = 3


def data_differences(one: Facts, other: Facts) -> Differences:
    first, second = one.classes, other.classes
    same_names = first.names == second.names
    if not same_names:
        if sorted(first.names) == sorted(second.names):
            where = next(i for i, pair in enumerate(zip(first.names, second.names, strict=True)) if pair[0] != pair[1])
            yield Difference("class_order", *(f"class {where} is {c.names[where]!r}" for c in (first, second)))
        else:
            only = [[n for n in a.names if n not in set(b.names)] for a, b in ((first, second), (second, first))]
            texts = (f"{len(c)} classes{_alone(names)}" for c, names in zip((first, second), only, strict=True))
            yield Difference("classes", *texts)
    here, there = _counts(one), _counts(other)
    tail = same_names and not np.array_equal(here, there)
    if tail:
        yield Difference("class_counts", _tail(here), _tail(there), note=_other_counts(first.names, here, there))
    splits = [facts.config["train"]["split"] for facts in (one, other)]
    if splits[0] != splits[1]:
        yield Difference("train_split", *(f"the split {split!r}" for split in splits))
    yield from _splits(one, other, told=() if same_names and not tail else ("train",) if same_names else SPLITS)
    if same_names and first.rule != second.rule:
        moved = int((first.groups != second.groups).sum())
        note = f"Here {moved} of {len(first)} classes are in another group{'' if moved else ', so no number moves'}."
        yield Difference("group_rule", str(first.rule), str(second.rule), note=note, harmless=not moved)


def _counts(facts: Facts) -> np.ndarray:
    per_class = facts.config["train"]["per_class"]
    counts = facts.classes.counts
    return counts if per_class is None else np.minimum(counts, per_class)


def _splits(one: Facts, other: Facts, told: tuple[str, ...]) -> Differences:
    hashes = [facts.config["train"]["manifest_sha256"] for facts in (one, other)]
    if hashes[0] == hashes[1]:
        return
    if one.manifest is None or other.manifest is None:
        if not told:
            names = [facts.config["train"]["manifest"] for facts in (one, other)]
            yield Difference("data", *(f"{n}, sha256 {h[:16]}" for n, h in zip(names, hashes, strict=True)))
        return
    for split in SPLITS:
        if split not in told and _split_sha256(one.manifest, split) != _split_sha256(other.manifest, split):
            yield Difference(f"{split}_images", _split_text(one.manifest, split), _split_text(other.manifest, split))


def _split_sha256(manifest: Manifest, split: str) -> str | None:
    return manifest.split_sha256(split) if split in manifest.splits else None


def _split_text(manifest: Manifest, split: str) -> str:
    digest = _split_sha256(manifest, split)
    return "no such split" if digest is None else f"{len(manifest.split(split)):,} images, sha256 {digest[:16]}"


def _alone(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN_CLASSES} more" if len(names) > _SHOWN_CLASSES else ""
    return f", alone with {', '.join(map(repr, names[:_SHOWN_CLASSES]))}{more}" if names else ""


def _tail(counts: np.ndarray) -> str:
    return f"{counts.sum():,} images, {counts.max():,} to {counts.min():,} per class"


def _other_counts(names: tuple[str, ...], one: np.ndarray, other: np.ndarray) -> str:
    where = np.flatnonzero(one != other)
    first = where[0]
    return (
        f"{len(where)} of {len(names)} classes have another number, first {names[first]!r} with {one[first]:,} and "
        f"{other[first]:,}."
    )
