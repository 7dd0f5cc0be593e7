"""Tiles whose pictures are read in a thread: a click is answered at once, and photographs come as they are read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .pictures import Pictures
from .style import Tiles
from .work import Work

Cells = list[dict[str, str]]


class PicturedTiles:
    """`show(rows, cells)` fills `tiles`; pictures that were read before are there at once.

    Args:
        tiles: what is filled.
        failed: called with the HTML of what is wrong with the images.
    """

    def __init__(self, tiles: Tiles, failed: Callable[[str], None]) -> None:
        self.tiles, self._failed = tiles, failed
        self.work = Work()

    def show(self, pictures: Pictures, rows: np.ndarray, cells: Callable[[], Cells]) -> None:
        """rows (n,) of the features; cells() are theirs, asked again when the pictures are there."""
        self.work.cancel()
        if pictures.images is None or not len(rows):
            self.tiles.show(None, cells())
        elif pictures.has(rows):
            self.tiles.show(pictures.of(rows), cells())
        else:
            self.tiles.show(None, [cell | {"waiting": "yes"} for cell in cells()])

            def read(found: np.ndarray) -> None:
                with self.tiles.hold_sync():
                    active = self.tiles.active  # a tile may have been chosen meanwhile
                    self.tiles.show(found, cells())
                    self.tiles.active = active

            def unread(html: str) -> None:
                self.tiles.cells = cells()
                self._failed(html)

            self.work.start("pictures", lambda step: pictures.of(rows, step), read, unread)
