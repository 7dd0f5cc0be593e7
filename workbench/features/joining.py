"""Features of several splits as one, which remembers the split of every image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.features.container import _OPTIONAL, Features

_OF_MODEL = ("method", "options", "seed", "backbone", "layer", "weights_sha256")  # of `source`, what one model shares
_OF_CLASSES = ("names", "counts", "rule", "taxonomy")


def joined(parts: Mapping[str, Features]) -> Features:
    """All images of several splits, one split after the other, with what all of the parts know of them.

    `extras["split"]` (N,) str names the split of each image: `splits` reads it. Logits, decisions and other extras are
    kept where every part has them, extras in the same shape but for the number of images. `source` has what the
    sources of the parts have in common, and all of each under "parts".

    Args:
        parts: name of a split -> its features, by one model: {"test": test, "train": train}.

    Raises:
        ValueError: no parts, a name that is empty or no text, other classes, another width, another model or layer (as
            far as `source` tells), or an image that stands in two splits.
    """
    if not parts:
        raise ValueError("no features were given to join; give them by split: joined({'test': test, 'train': train}).")
    for name, part in parts.items():
        if not isinstance(name, str) or not name:
            raise ValueError(f"{name!r} is no name of a split; give text, as in joined({{'test': test}}).")
        if not isinstance(part, Features):
            raise ValueError(
                f"{name!r} is a {type(part).__name__}; give Features: joined({{{name!r}: wb.extract(method, images)}})."
            )
    (first_name, first), *others = parts.items()
    for name, part in others:
        _check(first_name, first, name, part)
    several = list(parts.values())
    split = np.repeat(np.array(list(parts)), [len(part) for part in several])
    ids = np.concatenate([part.ids for part in several])
    _check_ids(ids, split)
    return Features(
        vectors=_together([part.vectors for part in several]),
        **{name: _together([getattr(part, name) for part in several]) for name in _OPTIONAL},
        labels=np.concatenate([part.labels for part in several]),
        ids=ids,
        classes=first.classes,
        extras=_shared_extras(several) | {"split": split},
        source={
            key: value
            for key, value in first.source.items()
            if all(key in part.source and part.source[key] == value for part in several)
        }
        | {"parts": {name: part.source for name, part in parts.items()}},
    )


def splits(features: Features) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the splits that were joined, in the order of their first images, and (N,) int64: which each image is of.

    Features that were not joined have no such names, and zeros.
    """
    found = features.extras.get("split")
    if found is None or found.ndim != 1 or found.dtype.kind != "U":
        return (), np.zeros(len(features), dtype=np.int64)
    import pandas as pd

    of_image, names = pd.factorize(found.astype(object))  # a tenth of the time that sorting them takes
    return tuple(names.tolist()), of_image.astype(np.int64)


def _check(first_name: str, first: Features, name: str, part: Features) -> None:
    """ValueError unless both are by one model, of the same classes."""
    if part.classes != first.classes:
        records = first.classes.to_json(), part.classes.to_json()
        unlike = [key for key in _OF_CLASSES if records[0][key] != records[1][key]]
        raise ValueError(
            f"{name!r} has {len(part.classes)} classes, {first_name!r} {len(first.classes)}, and their "
            f"{' and '.join(unlike)} differ; extract both from splits of one manifest."
        )
    widths = first.vectors.shape[1], part.vectors.shape[1]
    if widths[0] != widths[1]:
        raise ValueError(
            f"{name!r} has vectors of width {widths[1]}, {first_name!r} of {widths[0]}; extract both with one model."
        )
    for key in _OF_MODEL:
        one, other = first.source.get(key), part.source.get(key)
        if None not in (one, other) and one != other:
            raise ValueError(
                f"{name!r} comes from {key} {other!r}, {first_name!r} from {one!r}; vectors of two models or layers "
                "have no distances between them. Extract both with one model and the same layer=."
            )


def _check_ids(ids: np.ndarray, split: np.ndarray) -> None:
    unique, number = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        twice = unique[number > 1]
        one, other = split[ids == twice[0]][:2].tolist()
        raise ValueError(
            f"{str(twice[0])!r} stands in {one!r} and in {other!r}; {len(twice)} of the images are in two splits, and "
            "each can be of one only. Leave them out of one, as in test[~np.isin(test.ids, train.ids)]."
        )


def _shared_extras(several: list[Features]) -> dict[str, np.ndarray]:
    """Extras that all of them have, alike in kind and shape."""
    kinds = [{name: (array.shape[1:], array.dtype.kind) for name, array in part.extras.items()} for part in several]
    return {
        name: np.concatenate([part.extras[name] for part in several])
        for name, kind in kinds[0].items()
        if all(other.get(name) == kind for other in kinds)
    }


def _together(arrays: list[Any]) -> Any:
    """One below the other, or None where one is; read-only, so that Features need not copy what may be large."""
    if any(array is None for array in arrays):
        return None
    found = np.concatenate(arrays)
    found.flags.writeable = False
    return found
