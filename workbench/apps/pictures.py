"""Small pictures of the images behind features, each read once: for tiles, for hovering, for neighbours."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from workbench.diagnostics.neighbours import metric_space, nearest_neighbours
from workbench.diagnostics.thumbnails import SIDE, rows_of, thumbnail
from workbench.features import Features, splits

from .style import png

if TYPE_CHECKING:
    from workbench.data import LongTailDataset

REMEMBERED = 2000  # thumbnails, 27 kB each


class Pictures:
    """Thumbnails by row of the features; `images` may lack some of them, or be None.

    Args:
        images: the data set that the features were extracted from; of joined features split -> data set, some or all.

    Raises:
        ValueError: images of a split that the features do not have, or one data set for several splits.
    """

    def __init__(self, features: Features, images: LongTailDataset | Mapping[str, LongTailDataset] | None) -> None:
        self.features = features
        self._splits, self._split_of = splits(features)
        self._sets = _by_split(self._splits, images)  # one of each split
        self.images = images if any(one is not None for one in self._sets) else None
        self._seen: dict[int, np.ndarray] = {}
        self._places: np.ndarray | None = None

    def lacking(self, row: int) -> str:
        """How to get the data set that this image is of; "" where it was given."""
        if self._sets[self._split_of[row]] is not None:
            return ""
        if len(self._splits) < 2:
            return "These features come without images. Pass images=LongTailDataset(manifest, split, root) to see them."
        name = self._splits[self._split_of[row]]
        return (
            f"The features of {name!r} come without images. Pass images={{{name!r}: LongTailDataset(manifest, "
            f"{name!r}, root), ...}} to see them."
        )

    def dataset(self, row: int) -> LongTailDataset:
        """The data set that the image is of; ValueError where it was not given."""
        images = self._sets[self._split_of[row]]
        if images is None:
            raise ValueError(self.lacking(row))
        return images

    def place(self, row: int) -> int:
        """Where the image stands in its data set; ValueError where it does not."""
        images = self.dataset(row)
        if self._places is None:
            places = np.full(len(self.features), -1)
            for number, each in enumerate(self._sets):
                if each is not None:
                    inside = self._split_of == number
                    where = dict(zip(each.ids.tolist(), range(len(each)), strict=True))
                    places[inside] = [where.get(name, -1) for name in self.features.ids[inside].tolist()]
            self._places = places
        place = int(self._places[row])
        if place < 0:
            rows_of(images, [self.features.ids[row]])  # says what is wrong
        return place

    def has(self, rows: np.ndarray) -> bool:
        """Whether all of these have been read that can be."""
        return all(row in self._seen or self.lacking(row) for row in rows.tolist())

    def of(self, rows: np.ndarray, step: Callable[[int, int], None] | None = None) -> np.ndarray:
        """(n, SIDE, SIDE, 3) uint8 of these rows; white where the split's data set is lacking.

        Raises:
            ValueError: an image that the data set does not hold, or that is broken.
            OSError: a file that is not there.
        """
        found = np.empty((len(rows), SIDE, SIDE, 3), dtype=np.uint8)
        for number, row in enumerate(rows.tolist()):
            if step is not None:
                step(number, len(rows))
            found[number] = 255 if self.lacking(row) else self.one(row)
        return found

    def one(self, row: int) -> np.ndarray:
        """(SIDE, SIDE, 3) uint8; errors as of `of`."""
        picture = self._seen.get(row)  # another thread may clear what is remembered
        if picture is None:
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            picture = self._seen[row] = thumbnail(self.dataset(row).image(self.place(row)))
        return picture

    def url(self, row: int) -> str:
        """The thumbnail as a data URL; "" without images, or where this one cannot be read."""
        if self.lacking(row):
            return ""
        try:
            return f"data:image/png;base64,{base64.b64encode(png(self.one(row))).decode()}"
        except (ValueError, OSError):
            return ""


class Bank:
    """Images to look for neighbours in, usually those of the train split."""

    def __init__(self, features: Features, images: LongTailDataset | None) -> None:
        self.features, self.pictures = features, Pictures(features, images)
        self._space: np.ndarray | None = None  # (M, D) of unit norm

    def nearest(self, vector: np.ndarray, k: int, *, without: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows (k,) and cosines (k,) of the images nearest to vector (D,), nearest first, but for the one of this id.

        Raises:
            ValueError: vectors of another width, or of length 0.
        """
        width = self.features.vectors.shape[1]
        if len(vector) != width:
            raise ValueError(f"the bank has width {width}, these features {len(vector)}; extract both with one model.")
        if self._space is None:
            self._space = metric_space(self.features.vectors, "cosine")
        query = metric_space(vector[None], "cosine")
        rows, cosines = nearest_neighbours(self._space, query, min(k + 1, len(self._space)), metric="cosine")
        others = self.features.ids[rows[0]] != without
        return rows[0][others][:k], cosines[0][others][:k]


def _by_split(
    names: tuple[str, ...], images: LongTailDataset | Mapping[str, LongTailDataset] | None
) -> list[LongTailDataset | None]:
    """The data set of each split, or of features that have no splits the only one."""
    if not isinstance(images, Mapping):
        if images is not None and len(names) > 1:
            raise ValueError(
                f"images is one data set, and the features are of {len(names)} splits; pass images={{"
                f"{names[0]!r}: LongTailDataset(manifest, {names[0]!r}, root), ...}}, for some or all of "
                f"{', '.join(map(repr, names))}."
            )
        return [images] * max(1, len(names))
    unknown = [name for name in images if name not in names]
    if unknown:
        allowed = ", ".join(map(repr, names))
        how = f"pass images of {allowed}" if names else "pass images=LongTailDataset(manifest, split, root)"
        raise ValueError(f"images has {unknown[0]!r}, which is no split of these features; {how}.")
    return [images.get(name) for name in names] or [None]
