"""A corpus of odd image files, made on the fly."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from pictures import huge_png, noise, write
from PIL import Image


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """One class folder "odd" of readable oddities and one "bad" of files that are no usable image."""
    root = tmp_path / "corpus"
    odd, bad = root / "odd", root / "bad"
    odd.mkdir(parents=True)
    bad.mkdir()
    noise(1, mode="CMYK").save(odd / "cmyk.jpg")
    grey16 = (np.arange(24 * 20, dtype=np.uint16) * 130).reshape(20, 24)
    Image.fromarray(grey16).save(odd / "grey16.png")
    layer = noise(2, mode="RGBA")
    layer.putalpha(Image.fromarray((np.arange(480) % 256).astype(np.uint8).reshape(20, 24)))
    layer.save(odd / "alpha.png")
    noise(3, mode="P").save(odd / "palette.png", transparency=bytes(range(256)))
    frames = [noise(seed, mode="P") for seed in (4, 5, 6)]
    frames[0].save(odd / "animated.gif", save_all=True, append_images=frames[1:])
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(7).save(odd / "rotated.jpg", exif=exif)
    noise(8, (1, 1)).save(odd / "1x1.png")
    noise(9).save(odd / "png_inside.jpg", format="PNG")
    noise(10).save(odd / 'SPACES and ünïcode, "quotes".JPG', format="JPEG")
    whole = io.BytesIO()
    noise(11, (200, 200)).save(whole, format="JPEG")
    (bad / "truncated.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (bad / "empty.jpg").touch()
    (bad / "page.jpg").write_bytes(b"<!DOCTYPE html><html><body>404</body></html>")
    huge_png(bad / "bomb.png")
    write(tmp_path / "outside.jpg", 12)
    (bad / "escape.jpg").symlink_to(tmp_path / "outside.jpg")
    return root
