"""Images named by their ids: where a data set has them, small square pictures, the sheet that a result draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from workbench.data import LongTailDataset

SIDE = 96  # pixels of a thumbnail; half an inch of a figure at 200 dots per inch
GAP = 6  # pixels of paper between two


def thumbnails(dataset: LongTailDataset, ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """(n, SIDE, SIDE, 3) uint8: the images of these ids, whole, centred on white paper, in the order given.

    Raises:
        ValueError: ids that the data set's split does not hold.
    """
    pictures = np.empty((len(ids), SIDE, SIDE, 3), dtype=np.uint8)
    for place, row in enumerate(rows_of(dataset, ids)):
        pictures[place] = thumbnail(dataset.image(row))
    return pictures


def thumbnail(image: Image.Image) -> np.ndarray:
    """(SIDE, SIDE, 3) uint8: the whole image, centred on white paper."""
    square = np.full((SIDE, SIDE, 3), 255, dtype=np.uint8)
    scale = SIDE / max(image.size)
    width, height = (max(1, round(scale * side)) for side in image.size)
    # enlarged pixels stay visible as such: a thumbnail promises no detail that the image lacks
    small = image.resize((width, height), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
    place_on(square, np.asarray(small), (SIDE - height) // 2, (SIDE - width) // 2)
    return square


def rows_of(dataset: LongTailDataset, ids: Sequence[str] | np.ndarray) -> list[int]:
    """Where the images of these ids stand in a data set; ValueError for ids that its split does not hold."""
    where = {name: index for index, name in enumerate(dataset.ids)}
    missing = [name for name in ids if name not in where]
    if missing:
        raise ValueError(
            f"{len(missing)} of these images are not in the data set's split {dataset.split!r} (e.g. "
            f"{str(missing[0])!r}); pass the LongTailDataset whose images the features were extracted from."
        )
    return [where[name] for name in ids]


def place_on(sheet: np.ndarray, picture: np.ndarray, top: int, left: int) -> None:
    """Write the picture (h, w, 3) into the sheet (H, W, 3) with its upper left corner there."""
    sheet[top : top + len(picture), left : left + picture.shape[1]] = picture
