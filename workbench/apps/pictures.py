"""Small pictures of the images behind features, each read once: for tiles, for hovering, for neighbours."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from workbench.diagnostics.neighbours import metric_space, nearest_neighbours
from workbench.diagnostics.thumbnails import SIDE, rows_of, thumbnail
from workbench.features import Features

from .style import png

if TYPE_CHECKING:
    from workbench.data import LongTailDataset

REMEMBERED = 2000  # thumbnails, 27 kB each


class Pictures:
    """Thumbnails by row of the features; `images` may lack some of them, or be None."""

    def __init__(self, features: Features, images: LongTailDataset | None) -> None:
        self.features, self.images = features, images
        self._seen: dict[int, np.ndarray] = {}
        self._places: np.ndarray | None = None

    def place(self, row: int) -> int:
        """Where the image stands in the data set; ValueError where it does not."""
        assert self.images is not None
        if self._places is None:
            where = dict(zip(self.images.ids.tolist(), range(len(self.images)), strict=True))
            self._places = np.array([where.get(name, -1) for name in self.features.ids.tolist()])
        place = int(self._places[row])
        if place < 0:
            rows_of(self.images, [self.features.ids[row]])  # says what is wrong
        return place

    def has(self, rows: np.ndarray) -> bool:
        """Whether all of these have been read."""
        return all(row in self._seen for row in rows.tolist())

    def of(self, rows: np.ndarray, step: Callable[[int, int], None] | None = None) -> np.ndarray:
        """(n, SIDE, SIDE, 3) uint8 of these rows.

        Raises:
            ValueError: an image that the data set does not hold, or that is broken.
            OSError: a file that is not there.
        """
        found = np.empty((len(rows), SIDE, SIDE, 3), dtype=np.uint8)
        for number, row in enumerate(rows.tolist()):
            if step is not None:
                step(number, len(rows))
            found[number] = self.one(row)
        return found

    def one(self, row: int) -> np.ndarray:
        """(SIDE, SIDE, 3) uint8; errors as of `of`."""
        picture = self._seen.get(row)  # another thread may clear what is remembered
        if picture is None:
            assert self.images is not None
            if len(self._seen) >= REMEMBERED:
                self._seen.clear()
            picture = self._seen[row] = thumbnail(self.images.image(self.place(row)))
        return picture

    def url(self, row: int) -> str:
        """The thumbnail as a data URL; "" without images, or where this one cannot be read."""
        if self.images is None:
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
