"""Class vectors that a CLIP text tower computed elsewhere: a file in place of the tower where only names matter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .templates import clean_class_name
from .text import OPENAI_SCALE
from .weights import file_sha256, read_weights


class ClassVectors:
    """Precomputed sentences: `encode` knows these class names and nothing else; their templates are in the vectors."""

    names_only = True

    def __init__(
        self, vectors: Tensor, names: Sequence[str], *, logit_scale: float, record: dict[str, Any] | None = None
    ) -> None:
        if vectors.ndim != 2 or len(vectors) != len(names):
            raise ValueError(f"{len(names)} names need vectors of shape ({len(names)}, E), got {tuple(vectors.shape)}.")
        self.vectors = vectors.float()  # (C, E), not normalised
        self.names = tuple(names)
        self.width = vectors.shape[1]
        self.logit_scale = float(logit_scale)
        self._record = record or {}
        self._rows: dict[str, list[int]] = {}
        for row, name in enumerate(self.names):
            self._rows.setdefault(name, []).append(row)

    def encode(self, sentences: Sequence[str]) -> Tensor:
        """sentences: S class names -> (S, E) float32, as they lie in the file.

        Raises:
            ValueError: a name that the file does not have, or has twice with different vectors.
        """
        if unknown := sorted(set(sentences) - self._rows.keys()):
            raise ValueError(
                f"{len(unknown)} names have no vector here, first {', '.join(map(repr, unknown[:3]))}; there are "
                f"{len(self.names)}, such as {', '.join(map(repr, self.names[:3]))}. A file of vectors stands for its "
                "own class names only; load_text_tower encodes any sentence."
            )
        for name in set(sentences):
            first, *others = self._rows[name]
            if any(not torch.equal(self.vectors[first], self.vectors[row]) for row in others):
                raise ValueError(
                    f"{name!r} names {len(others) + 1} rows with different vectors ({self._rows[name][:3]} ...); give "
                    "these classes names of their own in names=."
                )
        return self.vectors[[self._rows[name][0] for name in sentences]]

    def spec(self) -> dict[str, Any]:
        """JSON-ready: file, key and sha256. The names are not repeated; what a method took is in its own weights."""
        return dict(self._record)


def load_class_vectors(
    path: str | Path,
    names: Sequence[str] | str | Path,
    *,
    key: str | None = None,
    logit_scale: float = OPENAI_SCALE,
) -> ClassVectors:
    """Class vectors that a CLIP text tower computed elsewhere, in place of the tower.

    Args:
        path: .safetensors or .npy with one row per class, (C, E), or one column per class, (E, C).
        names: the C class names in the order of the rows, or a text file with one per line. They are compared with the
            class names of the data set, after cleaning both.
        key: which tensor of a .safetensors file; may be left out where there is only one.
        logit_scale: the factor on cosines; such files do not store it, CLIP's is 100.

    Raises:
        ValueError: an unknown key (the message lists them), a number of names that fits neither side.
    """
    path = Path(path).expanduser().absolute()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of class vectors at {path}.")
    if isinstance(names, str | Path):
        names = Path(names).expanduser().read_text(encoding="utf-8").splitlines()
    if path.suffix == ".npy":
        vectors = torch.from_numpy(np.load(path, allow_pickle=False))
    else:
        tensors = {name: value for name, value in read_weights(path).items() if isinstance(value, Tensor)}
        if key is None and len(tensors) == 1:
            (key,) = tensors
        if key not in tensors:
            raise ValueError(f"{path} has no tensor key={key!r}; choose one of {', '.join(sorted(tensors))}.")
        vectors = tensors[key]
    if vectors.ndim != 2 or len(names) not in vectors.shape or not vectors.isfinite().all():
        raise ValueError(
            f"{path} holds {tuple(vectors.shape)}, but {len(names)} names need one finite vector each: give the names "
            "in the order of its rows, all of them."
        )
    rows = vectors if len(vectors) == len(names) else vectors.T
    record = {"vectors": str(path), "key": key, "sha256": file_sha256(path), "logit_scale": float(logit_scale)}
    return ClassVectors(rows, [clean_class_name(name) for name in names], logit_scale=logit_scale, record=record)
