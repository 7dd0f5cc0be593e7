"""Pictures that need no files of the user's: scikit-learn's digits, and toys, which are rendered and then cached."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from workbench import toybox

from .cache import cached_array
from .manifest import Split


class Pictures(Protocol):
    """The pictures of one split, by row."""

    def image(self, row: int) -> Image.Image: ...

    def mask(self, row: int) -> np.ndarray | None: ...


class Digits:
    """scikit-learn's bundled handwritten digits (UCI Optical Recognition of Handwritten Digits, test part)."""

    def __init__(self, split: Split) -> None:
        from sklearn.datasets import load_digits

        bundle = load_digits()
        self.keys = split.paths
        self.images = np.round(bundle.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8), from 0 to 16
        self.rows = [np.flatnonzero(bundle.target == digit) for digit in range(10)]

    def image(self, row: int) -> Image.Image:
        """Key "class/rank" -> 32 x 32 RGB, each of the 8 x 8 pixels drawn four by four."""
        digit, rank = (int(part) for part in str(self.keys[row]).split("/"))
        pixels = self.images[self.rows[digit][rank]]
        return Image.fromarray(np.kron(pixels, np.ones((4, 4), dtype=np.uint8))).convert("RGB")

    def mask(self, row: int) -> None:
        return None


class Toys:
    """Rendered scenes of the toybox, (N, 56, 56, 3) in the cache under what they depend on: keys and renderer."""

    def __init__(self, split: Split) -> None:
        self.keys = split.paths
        digest = hashlib.sha256("\n".join([_renderer(), *self.keys.tolist()]).encode()).hexdigest()
        self.pixels = cached_array(f"{toybox.VERSION}-{digest[:24]}", self._render)

    def _render(self) -> np.ndarray:
        return np.stack([toybox.render(toybox.scene_of(key))[0] for key in self.keys.tolist()])

    def image(self, row: int) -> Image.Image:
        return Image.fromarray(np.asarray(self.pixels[row]))

    def mask(self, row: int) -> np.ndarray:
        return toybox.render(toybox.scene_of(str(self.keys[row])))[1]

    def background(self, row: int) -> str | None:
        """What the toy stands before; None for a sketch, which is drawn on paper."""
        scene = toybox.scene_of(str(self.keys[row]))
        return None if scene.style == "sketch" else scene.background

    def before(self, row: int, background: str) -> Image.Image:
        """The same toy in the same place and light before another background; rendered anew, never cached."""
        return Image.fromarray(toybox.render(replace(toybox.scene_of(str(self.keys[row])), background=background))[0])


PICTURES: dict[str, type[Digits] | type[Toys]] = {"digits": Digits, "toybox": Toys}


@cache
def _renderer() -> str:
    """sha256 of the code that renders."""
    files = sorted(Path(toybox.__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
