"""ImageNet-ReaL: an image may have several correct labels, and an image without any is left out.

Beyer et al., "Are we done with ImageNet?", 2020, arXiv 2006.07159; labels `real.json` of
google-research/reassessed-imagenet @ 25ae485, whose README says what is in it. (Its one line of code that goes by file
names numbers them from 0; the files, as its text says, from 1.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})(\.\w+)?")  # an image of ImageNet's validation split, from 1


def read_real_labels(path: str | Path, ids: Sequence[str] | np.ndarray) -> list[frozenset[int]]:
    """The correct labels of each image, N sets of class indices; an empty one leaves its image out.

    The indices are those of ImageNet's own order, by WordNet id (n01440764 is 0), which is that of ImageNet-LT's lists
    and of the manifests made of them.

    Args:
        path: `real.json`: a list with one list of labels for ILSVRC2012_val_00000001.JPEG and each that follows.
        ids: (N,) names that end in such a file name, in any order: `features.ids`.

    Raises:
        FileNotFoundError, ValueError: no such file, one of another form, or ids that are not images it knows.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of ReaL labels at {path}.")
    try:
        lists = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); ReaL's real.json is a list of lists of labels.") from error
    if not isinstance(lists, list) or not all(map(_is_label_list, lists)):
        raise ValueError(f"{path} is JSON, but not a list with one list of class indices per image, as ReaL's is.")
    found = [VALIDATION.fullmatch(PurePosixPath(str(name)).name) for name in ids]
    numbers = [0 if match is None else int(match[1]) for match in found]
    unknown = [str(name) for name, number in zip(ids, numbers, strict=True) if not 1 <= number <= len(lists)]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(ids)} ids are none of the {len(lists)} images that {path.name} has labels for "
            f"(the first: {unknown[0]!r}); they end in names such as ILSVRC2012_val_00000001.JPEG."
        )
    return [frozenset(lists[number - 1]) for number in numbers]


def real_accuracy(predicted: np.ndarray, label_sets: Sequence[Collection[int]]) -> float:
    """Share in [0, 1] of the images with correct labels whose decision is one of them; nan where no image has any.

    predicted: (N,) int64, or (S, N) for S seeds, whose mean it is. label_sets: N, from `read_real_labels`.
    """
    right, kept = _right(predicted, label_sets)
    return float(right[:, kept].mean()) if kept.any() else float("nan")


def real_decisions(
    predicted: np.ndarray, labels: np.ndarray, label_sets: Sequence[Collection[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """ReaL's verdicts as decisions with one label per image, which every function of this room takes.

    Images without correct labels are left out. A decision for any of an image's correct labels becomes its original
    label, any other -1. So an image counts in the class, and the shot group, that ImageNet gave it:
    `group_interval(*real_decisions(...), groups, "few")`.

    Args:
        predicted: (N,), or (S, N) for S seeds.
        labels: (N,) int64, ImageNet's original ones.
        label_sets: N, from `read_real_labels`.

    Returns:
        decisions (M,) or (S, M), labels (M,) int64.
    """
    right, kept = _right(predicted, label_sets)
    labels = np.asarray(labels, dtype=np.int64)
    if labels.shape != kept.shape:
        raise ValueError(f"labels has shape {labels.shape}, expected ({len(kept)},), one per image.")
    decisions = np.where(right, labels, -1)[:, kept]
    return (decisions if np.ndim(predicted) == 2 else decisions[0]), labels[kept]


def _right(predicted: np.ndarray, label_sets: Sequence[Collection[int]]) -> tuple[np.ndarray, np.ndarray]:
    """(S, N) bool: the decision is among the correct labels; (N,) bool: there are any."""
    arms = np.atleast_2d(predicted)
    if arms.ndim != 2 or arms.shape[1] != len(label_sets):
        raise ValueError(f"predicted {np.shape(predicted)} does not fit label sets of {len(label_sets)} images.")
    right = np.zeros(arms.shape, dtype=bool)
    for image, labels in enumerate(label_sets):
        right[:, image] = np.isin(arms[:, image], list(labels))
    return right, np.array([len(labels) > 0 for labels in label_sets], dtype=bool)


def _is_label_list(labels: object) -> bool:
    return isinstance(labels, list) and all(type(label) is int and label >= 0 for label in labels)
