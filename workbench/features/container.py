"""Features: what a model saw in every image of a data set, as read-only arrays in one file.

Everything right of features (diagnostics, apps, heads on cached features) needs neither the model nor the images, so a
features file can be mailed to somebody who has neither. The file is a NumPy archive (.npz) without pickled objects.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.data.classes import Classes, GroupRule

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "workbench-features-1"
# Logits kept in half precision may take up to 512 MiB (50,000 images of 5,368 classes); larger ones are left out.
MAX_LOGITS = 2**28
_ARRAYS = ("vectors", "logits", "predicted", "confidence", "labels", "ids")
_OPTIONAL = ("logits", "predicted", "confidence")


def keeps_logits(num_images: int, num_classes: int) -> bool:
    """Whether the logits of this many images and classes are small enough to be kept in features."""
    return num_images * num_classes <= MAX_LOGITS


@dataclass(frozen=True, eq=False)
class Features:
    """One row per image, in the order of the data set; N images, D width, C classes.

    Arrays are checked, brought to the dtype below and made read-only. Writable arrays are copied, so nothing that the
    caller does to its own arrays afterwards changes the features; arrays that are read-only already are taken as is.

    Attributes:
        vectors: (N, D) float32, not normalised: what the head saw, or what the backbone gave (source["layer"]).
        logits: (N, C) float16 (softmax of them is the model's probability), or None when left out as too large. They
            are rounded, so `predicted` (taken in full precision) is the model's decision, not their argmax.
        predicted: (N,) int64 class index, the model's decision; None, like logits and confidence, where the model knows
            other classes than the data set has.
        confidence: (N,) float32 in [0, 1], probability of the predicted class, or None.
        labels: (N,) int64 true class index.
        ids: (N,) str, unique name of the image in its data set.
        classes: names, training counts and shot-group rule of the C classes.
        extras: further arrays of N rows each, by name (prompt_index, candidates, ...).
        source: where it all comes from, as JSON: manifest and its hash, split, run, preprocessing, layer, versions.
    """

    vectors: np.ndarray
    logits: np.ndarray | None
    predicted: np.ndarray | None
    confidence: np.ndarray | None
    labels: np.ndarray
    ids: np.ndarray
    classes: Classes
    extras: dict[str, np.ndarray] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vectors = _floats("vectors", self.vectors, np.float32, 2)
        num_images, num_classes = len(vectors), len(self.classes)
        if vectors.size == 0:
            raise ValueError(f"vectors has shape {vectors.shape}; features need at least one image and one dimension.")
        logits = None if self.logits is None else _floats("logits", self.logits, np.float16, 2)
        if logits is not None and logits.shape[1] != num_classes:
            raise ValueError(f"logits has {logits.shape[1]} columns, but there are {num_classes} classes.")
        if (self.predicted is None) != (self.confidence is None):
            raise ValueError("predicted and confidence belong together: give both, or None for both.")
        confidence = None if self.confidence is None else _floats("confidence", self.confidence, np.float32, 1)
        if confidence is not None and confidence.size and (confidence.min() < 0 or confidence.max() > 1 + 1e-5):
            raise ValueError(
                f"confidence runs from {confidence.min():g} to {confidence.max():g}; it is a probability in [0, 1]. "
                "Take the softmax of the logits at the predicted class."
            )
        checked: dict[str, Any] = {
            "vectors": vectors,
            "logits": logits,
            "confidence": confidence,
            "predicted": None if self.predicted is None else _class_indices("predicted", self.predicted, num_classes),
            "labels": _class_indices("labels", self.labels, num_classes),
            "ids": _names("ids", self.ids),
            "extras": {name: _extra(name, value) for name, value in self.extras.items()},
            "source": _json_object("source", self.source),
        }
        rows = {name: checked[name] for name in _ARRAYS if checked[name] is not None} | checked["extras"]
        for name, array in rows.items():
            if len(array) != num_images:
                raise ValueError(f"{name} has {len(array)} rows, but vectors has {num_images}: one row per image.")
        unique, first = np.unique(checked["ids"], return_index=True)
        if len(unique) != num_images:
            repeated = checked["ids"][np.setdiff1d(np.arange(num_images), first)[0]]
            raise ValueError(f"ids are not unique: {str(repeated)!r} names more than one image.")
        for name, value in checked.items():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: np.ndarray | slice) -> Features:
        """Some of the images: `features[features.group_of == "few"]`. rows: (N,) bool, or indices, each once."""
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            if rows.dtype == bool and len(rows) != len(self):
                raise ValueError(f"{len(rows)} marks were given for {len(self)} images; give one for each.")
        kept: dict[str, Any] = {name: getattr(self, name) for name in _ARRAYS}
        kept = {name: None if array is None else array[rows] for name, array in kept.items()}
        extras = {name: array[rows] for name, array in self.extras.items()}
        return replace(self, **kept, extras=extras)

    def with_rule(self, rule: GroupRule | str) -> Features:
        """The same features with classes grouped by another rule: see `Classes.with_rule`; `source` keeps it."""
        classes = self.classes.with_rule(rule)
        return replace(self, classes=classes, source=self.source | {"groups": classes.rule.to_json()})

    def __repr__(self) -> str:
        logits = "no logits" if self.logits is None else "logits"
        split = f", split {self.source['split']!r}" if "split" in self.source else ""
        size = f"{len(self)} images, width {self.vectors.shape[1]}, {len(self.classes)} classes"
        return f"Features({size}, {logits}{split})"

    @property
    def group_of(self) -> np.ndarray:
        """(N,) str: shot group of each image's true class, "many" | "medium" | "few"."""
        return np.asarray(self.classes.groups)[self.labels]

    @property
    def correct(self) -> np.ndarray:
        """(N,) bool: the model's decision is the true class."""
        return np.asarray(self.decisions == self.labels)

    @property
    def decisions(self) -> np.ndarray:
        """`predicted`, or a ValueError that says why there is none."""
        if self.predicted is None:
            raise ValueError(
                "these features hold vectors without decisions: the model that made them knows other classes than "
                f"{self.source.get('manifest', 'the data set')} has. Distances, neighbours and projections work with "
                "them; accuracy needs a run on these classes."
            )
        return self.predicted

    def to_frame(self) -> pd.DataFrame:
        """One row per image: id, label, name, group and, of a model's decisions, predicted, correct, confidence.

        `name` and `predicted` are names of classes, `label` is the index; without decisions the last three are absent.
        """
        import pandas as pd

        names = np.array(self.classes.names, dtype=object)
        columns: dict[str, Any] = {"id": self.ids.astype(object), "label": self.labels, "name": names[self.labels]}
        columns["group"] = self.group_of.astype(object)
        if self.predicted is not None:
            columns |= {"predicted": names[self.predicted], "correct": self.correct, "confidence": self.confidence}
        return pd.DataFrame(columns)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write everything into one .npz file and return its path.

        The file appears under its name only when it is complete. An existing file stays unless `overwrite` is given.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"{path} does not end in .npz; features are saved as NumPy archives: {path.stem}.npz.")
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists and was left as it is; give another name or overwrite=True.")
        arrays = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        arrays |= {f"extras.{name}": value for name, value in self.extras.items()}
        arrays |= {
            "format": np.array(FORMAT),
            "classes": np.array(json.dumps(self.classes.to_json())),
            "source": np.array(json.dumps(self.source)),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with unfinished.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Features:
        """Read features written by `save`; ValueError when the file is broken or something else."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not a file; features are made by `workbench extract` or wb.extract().")
        try:
            with path.open("rb") as file:  # opened here, because np.load leaves a broken archive open
                archive = np.load(file, allow_pickle=False)
                if not isinstance(archive, np.lib.npyio.NpzFile):
                    raise ValueError("it holds a single array")
                arrays = {name: archive[name] for name in archive.files}
            found = str(arrays.pop("format", "no format entry"))
            if found != FORMAT:
                raise ValueError(f"its format is {found!r}, and {FORMAT!r} is what can be read")
            missing = [f.name for f in fields(cls) if f.name not in (*arrays, *_OPTIONAL, "extras")]
            if missing:
                raise ValueError(f"it lacks {', '.join(missing)}")
            for array in arrays.values():
                array.flags.writeable = False  # ours alone, so __post_init__ need not copy it
            return cls(
                **{name: arrays.get(name) for name in _ARRAYS},  # type: ignore[arg-type]
                classes=Classes.from_json(json.loads(str(arrays["classes"]))),
                extras={name.removeprefix("extras."): a for name, a in arrays.items() if name.startswith("extras.")},
                source=json.loads(str(arrays["source"])),
            )
        except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(
                f"{path} is broken or was not written by Features.save ({error}). "
                "Make it again with `workbench extract`, or copy it again if it was sent to you."
            ) from error


def _owned(array: np.ndarray, dtype: Any) -> np.ndarray:
    """The array in this dtype: itself when it is already so and read-only, else a copy."""
    return array if array.dtype == dtype and not array.flags.writeable else np.array(array, dtype=dtype, order="C")


def _floats(name: str, values: Any, dtype: Any, ndim: int) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != ndim or array.dtype.kind != "f":
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}; it must be floating with {ndim} axes.")
    with np.errstate(over="ignore"):  # an overflow in half precision becomes inf and is reported as such below
        array = _owned(array, dtype)
    finite = np.isfinite(array.reshape(len(array), -1).sum(axis=1, dtype=np.float64)) if array.size else np.array([])
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise ValueError(
            f"{name} is not finite in {len(bad)} of {len(array)} rows (first row {bad[0]}), as {np.dtype(dtype).name}. "
            "A diverged run or an overflow in half precision does this; look at the training loss and the input there."
        )
    return array


def _class_indices(name: str, values: Any, num_classes: int) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}; it must be (N,) integers.")
    if array.size and (array.min() < 0 or array.max() >= num_classes):
        raise ValueError(
            f"{name} runs from {array.min()} to {array.max()}, but there are {num_classes} classes: "
            f"0 to {num_classes - 1}."
        )
    return _owned(array, np.int64)


def _names(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array.flat):
        array = array.astype(np.str_)
    if array.ndim != 1 or array.dtype.kind != "U":
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}; it must be (N,) strings.")
    return _owned(array, array.dtype)


def _extra(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim < 1 or array.dtype.kind not in "fiubU":
        raise ValueError(
            f"extras[{name!r}] is {array.dtype} of shape {array.shape}; it must have one row of numbers, booleans or "
            "strings per image."
        )
    array = _owned(array, array.dtype)
    array.flags.writeable = False
    return array


def _json_object(name: str, value: Any) -> dict[str, Any]:
    """A deep copy of the value as JSON gives it back, so that saving and loading change nothing."""
    try:
        copy = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be plain JSON (text, numbers, lists, objects): {error}.") from error
    if not isinstance(copy, dict):
        raise ValueError(f"{name} is a {type(value).__name__}; it must be an object with text keys.")
    return copy
