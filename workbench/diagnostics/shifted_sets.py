"""Shifted sets: the features of several arms on a reference set and on others, checked to be fit for comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.data.classes import Classes
from workbench.features import Features

from .base import same_classes

_SAME = ("method", "options", "seed", "weights_sha256")  # of the source of two features that one trained model made


def arms_and_sets(
    reference: Any, shifted: tuple[Any, ...], names: Sequence[str] | None
) -> tuple[dict[str, list[list[Features]]], list[str], Classes]:
    """Arm -> for each set, the reference first, its features by seed; the names of the sets; the reference's classes.

    Arguments and errors: see `domain_shift`.
    """
    if isinstance(reference, Mapping):
        if shifted:
            raise ValueError(
                "methods were given by name: put the shifted features there too, name -> (reference, shifted, ...)."
            )
        given = {str(name): value for name, value in reference.items()}
    else:
        first = reference if isinstance(reference, Features) else next(iter(reference), None)
        given = {"method" if first is None else str(first.source.get("method", "method")): (reference, *shifted)}
    lists = {name: _by_seed(name, value) for name, value in given.items()}
    lengths = sorted({len(value) for value in lists.values()})
    if len(lengths) != 1:
        raise ValueError(
            f"{len(lists)} methods have {' and '.join(map(str, lengths)) or 'no'} sets; give at least one method, and "
            "each on the same sets in the same order."
        )
    classes = same_classes([one for value in lists.values() for one in value[0]])
    called = _set_names([several[0] for several in next(iter(lists.values()))], names)
    for arm, value in lists.items():
        for name, several in zip(called, value, strict=True):
            other = next((one for one in several if one.classes.names != classes.names), None)
            if other is not None:
                raise ValueError(
                    f"{name!r} of {arm!r} has {len(other.classes)} classes, {called[0]!r} has {len(classes)}, and "
                    "their names or order differ. Sets are paired class by class: extract from "
                    "match_classes(manifest, classes).manifest(split) of workbench.data."
                )
    return lists, called, classes


def remarks(lists: dict[str, list[list[Features]]], called: list[str], images: np.ndarray) -> tuple[str, ...]:
    """What differs beside the shift itself, one sentence each. images: (1 + K, C) of each set."""
    found = []
    for k, name in enumerate(called[1:], start=1):
        both = images[:, (images[0] > 0) & (images[k] > 0)][[0, k]]
        shares = both / both.sum(1, keepdims=True)
        if not np.allclose(shares[0], shares[1]):
            found.append(f"{name}: other shares of images per class than {called[0]}, which `all` mixes into the shift")
        for arm, value in lists.items():
            pairs = zip(value[0], value[k], strict=True)
            if any(_differ(one.source, other.source, "preprocessing") for one, other in pairs):
                found.append(f"{name}: {arm} saw its images through another preprocessing than those of {called[0]}")
    return tuple(found)


def _by_seed(arm: str, value: Any) -> list[list[Features]]:
    """(1 + K) lists of S features."""
    if isinstance(value, Features) or len(value) < 2:
        raise ValueError(f"{arm!r} has no shifted set; give its features of the reference set and of at least another.")
    lists = [[one] if isinstance(one, Features) else list(one) for one in value]
    numbers = [len(several) for several in lists]
    if 0 in numbers or len(set(numbers)) > 1:
        raise ValueError(
            f"{arm!r} has features of {', '.join(map(str, numbers))} training seeds on its sets; give one Features per "
            "seed on each, the same seeds in the same order."
        )
    for several in lists[1:]:
        for number, (one, other) in enumerate(zip(lists[0], several, strict=True), start=1):
            for key in _SAME:
                if _differ(one.source, other.source, key):
                    raise ValueError(
                        f"{arm!r}, seed number {number}: the shifted features come from another trained model than the "
                        f"reference's ({key} {other.source[key]!r}, not {one.source[key]!r}); a drop is of one model."
                    )
    return lists


def _differ(source: dict[str, Any], other: dict[str, Any], key: str) -> bool:
    """Both name it, and differently."""
    return None not in (source.get(key), other.get(key)) and source[key] != other[key]


def _set_names(bases: list[Features], names: Sequence[str] | None) -> list[str]:
    """Of each set, all different: as given, else its manifest, with the split where manifests come twice."""
    if names is not None:
        called = [str(name) for name in names]
        if len(called) != len(bases) or len(set(called)) < len(called):
            raise ValueError(
                f"names={called} are for {len(bases)} sets; give each a name of its own, the reference first."
            )
        return called
    called = [str(one.source.get("manifest", "")) for one in bases]
    if len(set(called)) < len(called):
        called = [f"{name} {one.source.get('split', '')}".strip() for name, one in zip(called, bases, strict=True)]
    if len(set(called)) < len(called) or "" in called:
        called = ["reference", *(f"shifted {k}" for k in range(1, len(bases)))]
    return called
