"""Subsets: validation images out of train, a long tail out of a fuller set, both in `digits_lt`; fewer classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .manifest import Classes, GroupRule, Manifest, Split, exponential_counts


def take_validation(
    train: Split, eligible: np.ndarray, per_class: int, num_classes: int, *, generator: np.random.Generator
) -> tuple[Split, Split]:
    """(train, val): `per_class` random images of each class go to val, at most a fifth of the class's, rounded down.

    So no class is emptied, and a class of fewer than five images gives none. eligible: (N,) bool, images that may go.
    """
    taken = np.zeros(len(train), dtype=bool)
    for label in range(num_classes):
        rows = np.flatnonzero(train.labels == label)
        candidates = rows[eligible[rows]]
        taken[generator.permutation(candidates)[: min(per_class, len(rows) // 5)]] = True
    return _rows(train, ~taken), _rows(train, taken)


def long_tail(train: Split, ratio: float, num_classes: int, *, generator: np.random.Generator) -> Split:
    """A random part of train, in its order, with counts by `exponential_counts` and the given imbalance ratio.

    Classes are ranked by their images, equal ones by label: in a balanced set the tail falls with the label, as in
    CIFAR-LT. The largest count is the highest one for which every class has the images its rank asks for.
    """
    available = np.bincount(train.labels, minlength=num_classes)
    order = np.argsort(-available, kind="stable")
    low, high = 0, int(available.max())  # counts grow with the largest one: search for the last that fits
    while low < high:
        middle = (low + high + 1) // 2
        fits = (exponential_counts(middle, num_classes, ratio) <= available[order]).all()
        low, high = (middle, high) if fits else (low, middle - 1)
    counts = np.zeros(num_classes, dtype=np.int64)
    if low > 0:
        counts[order] = exponential_counts(low, num_classes, ratio)
    if counts.min() < 1:
        raise ValueError(
            f"imbalance_ratio={ratio:g} would leave class {int(counts.argmin())} without images: the largest class "
            f"could have {low}, so a ratio of at most {max(low, 1)} is possible (smallest class: {available.min()})."
        )
    kept = np.zeros(len(train), dtype=bool)
    for label in range(num_classes):
        kept[generator.permutation(np.flatnonzero(train.labels == label))[: counts[label]]] = True
    return _rows(train, kept)


def choose_classes(manifest: Manifest, labels: Sequence[int]) -> Manifest:
    """The same data set with fewer classes, in the order given, under the name "<name>_<number>_classes".

    Every image of a chosen class stays, with its group: the counts that decide are subset too. Group rules by ranges of
    class indices have no meaning in a part of the classes and are refused, as are repeated and unknown labels.
    """
    old = manifest.classes
    chosen = [int(label) for label in labels]
    if len(chosen) < 2 or len(set(chosen)) < len(chosen) or not all(0 <= label < len(old) for label in chosen):
        raise ValueError(f"labels={chosen}: choose at least two different ones of 0 to {len(old) - 1}.")
    if old.rule.ranges is not None:
        raise ValueError(f"{manifest.name} has groups by class index ({old.rule}), which a part of its classes lacks.")
    new = np.full(len(old), -1)
    new[chosen] = np.arange(len(chosen))
    splits = {}
    for name, split in manifest.splits.items():
        kept = _rows(split, new[split.labels] >= 0)
        splits[name] = Split(kept.paths, new[kept.labels])
    names = tuple(old.names[label] for label in chosen)
    reference = old.rule.reference_counts
    rule = replace(old.rule, reference_counts=None if reference is None else tuple(reference[k] for k in chosen))
    levels = None if old.taxonomy is None else {level: nodes[chosen] for level, nodes in old.taxonomy.items()}
    texts = None if manifest.texts is None else {name: manifest.texts[name] for name in names if name in manifest.texts}
    return replace(
        manifest,
        name=f"{manifest.name}_{len(chosen)}_classes",
        title=f"{manifest.title}, {len(chosen)} of {len(old)} classes",
        splits=splits,
        classes=Classes(names, old.counts[chosen], rule, levels),
        texts=texts,
        path=None,
    )


def _rows(split: Split, keep: np.ndarray) -> Split:
    return Split(split.paths[keep], split.labels[keep])


def digits_lt(seed: int = 0) -> Manifest:
    """The packaged manifest `digits_lt`: real digits that come with scikit-learn, so that nothing is downloaded.

    Of each digit 50 random images are test and 10 val; of the others a long tail from 100 to 5 (ratio 20) is train. Its
    thresholds, many >= 50 and few <= 13, make 3 many-, 3 medium- and 4 few-shot classes.
    """
    from sklearn.datasets import load_digits

    generator = np.random.default_rng(seed)
    target = load_digits().target
    wanted = exponential_counts(100, 10, 20)
    parts: dict[str, list[tuple[str, int]]] = {"train": [], "val": [], "test": []}
    for digit in range(10):
        order = generator.permutation(int((target == digit).sum()))
        ranks = {"test": order[:50], "val": order[50:60], "train": order[60 : 60 + wanted[digit]]}
        for split, chosen in ranks.items():
            parts[split] += [(f"{digit}/{rank}", digit) for rank in np.sort(chosen)]
    splits = {
        name: Split(np.array([key for key, _ in rows], np.str_), np.array([label for _, label in rows], np.int64))
        for name, rows in parts.items()
    }
    return Manifest(
        name="digits_lt",
        title="Handwritten digits, long-tailed (ratio 20)",
        licence="CC BY 4.0 (UCI Machine Learning Repository)",
        source="sklearn.datasets.load_digits: Optical Recognition of Handwritten Digits, E. Alpaydin, C. Kaynak, 1998",
        kind="digits",
        splits=splits,
        classes=Classes(tuple(str(digit) for digit in range(10)), wanted, GroupRule(many_from=50, few_to=13)),
    )
