"""Tiles with photographs: captions at once, pictures as they are read; a broken file is told, stale ones dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from workbench.apps.pictured_tiles import PicturedTiles
from workbench.apps.pictures import Pictures
from workbench.apps.style import Tiles
from workbench.features import Features

Make = Callable[..., Features]


class Slow:
    """A data set whose images are there once `go` is set; that of row 3 is broken."""

    def __init__(self, features: Features) -> None:
        self.ids, self.go, self.read = features.ids, threading.Event(), 0

    def __len__(self) -> int:
        return len(self.ids)

    def image(self, row: int) -> Image.Image:
        self.go.wait(10)
        self.read += 1
        if row == 3:
            raise OSError(f"{self.ids[row]} is <b>broken</b>.")
        return Image.new("RGB", (40, 20), (row, 0, 0))


@pytest.fixture
def parts(make_features: Make) -> tuple[PicturedTiles, Pictures, Any, list[str]]:
    features, said = make_features(), []
    images = Slow(features)
    return PicturedTiles(Tiles(), said.append), Pictures(features, images), images, said  # type: ignore[arg-type]


def cells(*names: str) -> Callable[[], list[dict[str, str]]]:
    return lambda: [{"title": name, "caption": name, "colour": "red"} for name in names]


def test_captions_do_not_wait_for_pictures_which_are_read_once(parts: Any) -> None:
    pictured, pictures, images, said = parts
    rows = np.array([5, 2])
    pictured.show(pictures, rows, cells("five", "two"))
    assert [cell["caption"] for cell in pictured.tiles.cells] == ["five", "two"] and pictured.tiles.sheet == b""
    pictured.tiles.active = 1
    images.go.set()
    pictured.work.wait()
    assert pictured.tiles.sheet and pictured.tiles.active == 1 and "waiting" not in pictured.tiles.cells[0]
    sheet, read = pictured.tiles.sheet, images.read
    pictured.show(pictures, rows, cells("5", "2"))
    assert pictured.tiles.sheet == sheet and images.read == read == 2 and pictured.tiles.cells[0]["caption"] == "5"
    assert said == []


def test_what_was_asked_before_is_dropped(parts: Any) -> None:
    pictured, pictures, images, _ = parts
    pictured.show(pictures, np.array([0, 1, 2]), cells("a", "b", "c"))
    first = pictured.work._thread
    pictured.show(pictures, np.empty(0, dtype=np.int64), cells())
    images.go.set()
    first.join(10)
    assert pictured.tiles.cells == [] and pictured.tiles.sheet == b""


def test_a_broken_file_is_told_and_nothing_waits_for_it(parts: Any) -> None:
    pictured, pictures, images, said = parts
    images.go.set()
    pictured.show(pictures, np.array([2, 3]), cells("two", "three"))
    pictured.work.wait()
    assert "is &lt;b&gt;broken" in said[0] and pictured.tiles.cells == cells("two", "three")()


def test_without_images_there_are_captions(parts: Any, make_features: Make) -> None:
    pictured, *_ = parts
    pictured.show(Pictures(make_features(), None), np.array([1]), cells("one"))
    assert pictured.tiles.cells == cells("one")() and pictured.tiles.sheet == b""
