"""Pictures for the tests of this folder: noise that differs per seed, and a file that claims to be huge."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def noise(seed: int, size: tuple[int, int] = (24, 20), mode: str = "RGB") -> Image.Image:
    """A picture that no other seed has; size is (width, height)."""
    width, height = size
    generator = np.random.default_rng(seed)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


def write(path: Path, seed: int = 0, **changes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise(seed, **changes).save(path)
    return path


def huge_png(path: Path, width: int = 40_000, height: int = 40_000) -> Path:
    """A PNG of a few bytes whose header claims 1.6 gigapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return path
