"""The upstream images both towers are pretrained on: rendered once, kept in chunks on disk, drawn in batches.

Upstream scenes show toys that are no class of toybox_lt. HELD_OUT of those toys are kept out of the images as well, so
that what the towers make of a combination they never met can be measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from workbench import toybox

CHUNK = 4096  # images of a file
POOL_SEED, HELD_OUT_SEED, TOYS_SEED = 1, 2, 3
HELD_OUT = 60  # toys
ATTRIBUTES = {
    "shape": tuple(toybox.SHAPES),
    "colour": tuple(toybox.COLOURS),
    "pattern": tuple(toybox.PATTERNS),
    "background": tuple(toybox.UPSTREAM_BACKGROUNDS),
}
MARGIN = 3  # pixels a training image is shifted by at most


def attributes(scenes: list[toybox.Scene]) -> np.ndarray:
    """(N, 4) int64: positions of shape, colour, pattern and background in ATTRIBUTES."""
    values = [(s.toy.shape, s.toy.colour, s.toy.pattern, s.background) for s in scenes]
    tables = [{value: i for i, value in enumerate(known)} for known in ATTRIBUTES.values()]
    rows = [[table[value] for table, value in zip(tables, row, strict=True)] for row in values]
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def held_out_toys() -> list[toybox.Toy]:
    """The upstream toys that no pretraining image shows, in an order that never changes."""
    every = toybox.upstream_toys()
    chosen = np.random.default_rng(TOYS_SEED).permutation(len(every))[:HELD_OUT]
    return [every[i] for i in chosen]


def held_out_scenes(count: int) -> list[toybox.Scene]:
    """Scenes with a seed of their own, drawn like those trained on (the held-out toys come too, at their rate)."""
    return [toybox.upstream_scene(index, seed=HELD_OUT_SEED) for index in range(count)]


def held_out_toy_scenes(per_toy: int) -> list[toybox.Scene]:
    """`per_toy` scenes of each held-out toy, toy after toy."""
    found: dict[toybox.Toy, list[toybox.Scene]] = {toy: [] for toy in held_out_toys()}
    index = 10**6  # behind those of held_out_scenes
    while any(len(scenes) < per_toy for scenes in found.values()):
        scene = toybox.upstream_scene(index, seed=HELD_OUT_SEED)
        if len(found.get(scene.toy, [scene] * per_toy)) < per_toy:
            found[scene.toy].append(scene)
        index += 1
    return [scene for scenes in found.values() for scene in scenes]


def render(scenes: list[toybox.Scene]) -> np.ndarray:
    """(N, 56, 56, 3) uint8."""
    return np.stack([toybox.render(scene)[0] for scene in scenes])


@dataclass(frozen=True)
class Batch:
    images: np.ndarray  # (B, 56, 56, 3) uint8
    attributes: np.ndarray  # (B, 4) int64, columns as in ATTRIBUTES
    scenes: list[toybox.Scene]


class Pool:
    """Rendered upstream scenes in a folder that two pretrainings may share: each renders chunks the other has not.

    Args:
        folder: where the chunks lie; made when missing.
        size: images, rounded up to whole chunks of 4096 (one smaller chunk when fewer are asked for).
        on_chunk: called with (chunks done, chunks) while rendering.
    """

    def __init__(self, folder: Path, size: int, *, on_chunk: Callable[[int, int], None] | None = None) -> None:
        chunk = min(CHUNK, size)
        chunks = -(-size // chunk)
        self.scenes = self._scenes(chunk * chunks)
        self.attributes = attributes(self.scenes)
        self.folder = folder / f"{toybox.VERSION}-{chunk}"
        self.folder.mkdir(parents=True, exist_ok=True)
        files = [self.folder / f"{number:04d}.npy" for number in range(chunks)]
        for done, number in enumerate(self._mine_first(files)):
            self._make(files[number], self.scenes[number * chunk : (number + 1) * chunk])
            if on_chunk is not None:
                on_chunk(done + 1, chunks)
        self._chunk = chunk
        self._images = [np.load(file, mmap_mode="r") for file in files]
        look_alikes = self.attributes[:, 1] * len(toybox.PATTERNS) + self.attributes[:, 2]
        self._look_alikes = [np.flatnonzero(look_alikes == value) for value in np.unique(look_alikes)]

    def __len__(self) -> int:
        return len(self.scenes)

    def draw(self, size: int, *, generator: np.random.Generator, hard: float = 0.0) -> Batch:
        """A batch drawn with replacement, each image mirrored half of the time and shifted by up to 3 pixels.

        Args:
            size: images.
            generator: of the draws.
            hard: share of the batch made of groups of about 20 toys that agree in colour and pattern and all differ
                in shape, so that a contrastive loss must tell shapes apart.
        """
        chosen: list[int] = []
        while len(chosen) < round(hard * size):
            group = generator.permutation(self._look_alikes[generator.integers(len(self._look_alikes))])
            _, first = np.unique(self.attributes[group, 0], return_index=True)
            chosen += group[first].tolist()
        chosen = chosen[: round(hard * size)]
        chosen += generator.integers(len(self), size=size - len(chosen)).tolist()
        images = np.stack([self._images[i // self._chunk][i % self._chunk] for i in chosen])
        return Batch(_augment(images, generator), self.attributes[chosen], [self.scenes[i] for i in chosen])

    @staticmethod
    def _scenes(size: int) -> list[toybox.Scene]:
        kept: list[toybox.Scene] = []
        unseen = set(held_out_toys())
        index = 0
        while len(kept) < size:
            scene = toybox.upstream_scene(index, seed=POOL_SEED)
            if scene.toy not in unseen:
                kept.append(scene)
            index += 1
        return kept

    @staticmethod
    def _make(file: Path, scenes: list[toybox.Scene]) -> None:
        with FileLock(file.with_suffix(".lock")):
            if not file.is_file():
                temporary = file.with_suffix(".part")
                with temporary.open("wb") as handle:
                    np.save(handle, render(scenes))
                temporary.replace(file)

    @staticmethod
    def _mine_first(files: list[Path]) -> Iterator[int]:
        """Numbers of the missing files: those nobody works on first, then those another process was making."""
        busy = []
        for number, file in enumerate(files):
            if file.is_file():
                continue
            try:
                with FileLock(file.with_suffix(".lock"), timeout=0):
                    pass
            except Timeout:
                busy.append(number)
                continue
            yield number
        yield from busy


def _augment(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    size = images.shape[1]
    mirrored = generator.random(len(images)) < 0.5
    images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    padded = np.pad(images, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="reflect")
    down, right = generator.integers(2 * MARGIN + 1, size=(2, len(images)))
    return np.stack([p[d : d + size, r : r + size] for p, d, r in zip(padded, down, right, strict=True)])
