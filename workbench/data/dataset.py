"""LongTailDataset: images and labels of one split, and `read_image`, the only way from a file to pixels.

Decoding policy: the first frame; the orientation tag of the camera is applied, as viewers do; 16-bit grey keeps its
high byte; transparency is laid on white; everything becomes 8-bit RGB. A file that cannot be decoded whole is an error.
"""

from __future__ import annotations

import copy
import stat
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from .cifar import Cifar100, file_of, has_batches
from .classes import Classes
from .manifest import Manifest, resolve_inside
from .pictures import PICTURES, Pictures, Toys
from .preprocessing import Preprocessing

MAX_PIXELS = 64_000_000  # read from the header before decoding: larger claims are refused as decompression bombs
Image.init()  # registers Pillow's decoders, which it otherwise does at the first file, in whichever thread that is
# nothing that starts another program; Pillow can be built without some of them
FORMATS = tuple(
    name for name in ("JPEG", "MPO", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF") if name in Image.OPEN
)


class ImageError(ValueError):
    """A file that is there but is no usable image; `outcome` is "empty", "broken" or "too_large"."""

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(outcome, message)
        self.outcome = outcome
        self.message = message

    def __str__(self) -> str:
        return self.message


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the image at path completely into 8-bit RGB.

    Raises FileNotFoundError, PermissionError, or ImageError for a file that is empty, broken or claims too many pixels.
    """
    path = Path(path)
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):  # opening a pipe would wait for ever
        raise ImageError("broken", "not a regular file")
    if state.st_size == 0:
        raise ImageError("empty", "the file is empty")
    with path.open("rb") as file:
        try:
            with Image.open(file, formats=FORMATS) as image:
                if image.width * image.height > max_pixels:
                    raise ImageError(
                        "too_large",
                        f"the header claims {image.width} x {image.height} pixels, the limit is {max_pixels:,}",
                    )
                image.load()
                return _upright(_to_rgb(image), _orientation(image))
        except ImageError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageError("too_large", f"{error}; the limit is {max_pixels:,} pixels") from error
        except Image.UnidentifiedImageError as error:
            raise ImageError("broken", f"not an image in a known format ({', '.join(FORMATS)})") from error
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error ... on malformed bytes
            raise ImageError("broken", f"cannot be decoded: {type(error).__name__}: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it at 255
        grey = np.asarray(image).astype(np.int64)
        if grey.min(initial=0) < 0 or grey.max(initial=0) > 65535:
            raise ValueError("grey values beyond 16 bits")
        return Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # a damaged tag block says nothing of the pixels, which are whole
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


class LongTailDataset(Dataset[tuple[torch.Tensor, int]]):
    """One split of a manifest as (image (3, H, W) float32, label) pairs.

    The randomness of item i is a function of (seed, epoch, i) alone: not of the order of visits, the number of worker
    processes or any global generator, and no global generator advances. An epoch that draws an image more than once
    asks for item (i, n), n counting from 0, and sees it augmented differently each time.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        root: str | Path | None = None,
        preprocessing: Preprocessing | None = None,
        *,
        seed: int = 0,
        per_class: int | None = None,
    ) -> None:
        """`root`: folder where the manifest's paths start, or that holds CIFAR-100; `per_class`: keep so many first."""
        self.manifest, self.split, self.seed, self.per_class = manifest, split, seed, per_class
        rows = manifest.split(split)
        if seed < 0:
            raise ValueError(f"seed={seed} must not be negative.")
        keep = first_of_each(rows.labels, per_class)
        self.root: Path | None = None
        if manifest.kind in ("files", "cifar100"):
            if root is None:
                where = "where its paths start" if manifest.kind == "files" else "the folder that CIFAR-100 lies in"
                raise ValueError(f"{manifest.name} consists of image files: pass root= (--root), {where}.")
            self.root = Path(root).expanduser().resolve()
            if not self.root.is_dir():
                raise FileNotFoundError(f"root {self.root} is not a folder; the images of {manifest.name} lie there.")
            if manifest.kind == "cifar100":
                has_batches(self.root)
        self._rows = keep  # (N,) of the whole split
        self.ids: np.ndarray = rows.paths[keep]  # (N,) str
        self.labels: np.ndarray = rows.labels[keep]  # (N,) int64
        self.ids.setflags(write=False)
        self.labels.setflags(write=False)
        self._set_preprocessing(preprocessing)

    def _set_preprocessing(self, preprocessing: Preprocessing | None) -> None:
        self.preprocessing = preprocessing
        self._pipeline = None if preprocessing is None else preprocessing.build()
        # shared, so that workers that outlive an epoch see the next one
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    @property
    def classes(self) -> Classes:
        return self.manifest.classes

    @property
    def class_counts(self) -> np.ndarray:
        """(C,) int64 images per class of this data set (`classes.counts` are those of the whole train split)."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def __len__(self) -> int:
        return len(self.labels)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose augmentations are drawn; call it before iterating over a loader."""
        if epoch < 0:
            raise ValueError(f"epoch={epoch} must not be negative.")
        self._epoch[0] = epoch

    def __getitem__(self, index: int | tuple[int, int]) -> tuple[torch.Tensor, int]:
        if self._pipeline is None or self.preprocessing is None:
            raise ValueError("this data set has no preprocessing yet; use .with_preprocessing(preprocessing) first.")
        index, drawn = index if isinstance(index, tuple) else (index, 0)
        image = self.image(index)
        label = int(self.labels[index])
        if not self.preprocessing.random:
            return self._pipeline(image), label
        key = (self.seed, int(self._epoch[0]), int(index) % len(self), drawn)
        state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would reseed the GPUs as well, which this fork does not restore
            torch.default_generator.manual_seed(int(state >> np.uint64(1)))
            return self._pipeline(image), label

    def image(self, index: int, *, background: str | None = None) -> Image.Image:
        """The decoded 8-bit RGB image, without preprocessing; of a toy also before another `background`."""
        if background is not None:
            if self.background(index) is None or not isinstance(self._pictures, Toys):
                raise ValueError(
                    f"image {index} of {self.manifest.name} has no background that could become {background!r}: only "
                    "toys are rendered before one. Use toybox_lt or toybox_lt_backgrounds."
                )
            return self._pictures.before(int(self._rows[index]), background)
        if self._pictures is not None:
            return self._pictures.image(int(self._rows[index]))
        key = str(self.ids[index])
        if self.manifest.kind == "cifar100":
            key = file_of(key)
        assert self.root is not None
        try:
            return read_image(resolve_inside(self.root, key))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{self.root / key} is not there. Is {self.root} the root of {self.manifest.name}? "
                f"`{self._check_command}` lists every file that is missing or broken."
            ) from error
        except PermissionError as error:
            raise PermissionError(f"{self.root / key} may not be read; change its permissions.") from error
        except ImageError as error:
            raise ValueError(
                f"{self.root / key}: {error}. No other image takes its place; "
                f"`{self._check_command}` lists every such file."
            ) from error

    @property
    def _check_command(self) -> str:
        return f"workbench data check {self.manifest.name} --root {self.root}"

    @cached_property
    def _pictures(self) -> Pictures | None:
        rows = self.manifest.split(self.split)
        if self.root is None:
            return PICTURES[self.manifest.kind](rows)
        return Cifar100(rows, self.root) if self.manifest.kind == "cifar100" and has_batches(self.root) else None

    def mask(self, index: int, *, seen: bool = False) -> np.ndarray | None:
        """The true foreground (H, W) bool of an image where it is known (the toybox), else None.

        seen: as this data set's preprocessing shows it to a model, resized and cropped with the image.
        """
        mask = None if self._pictures is None else self._pictures.mask(int(self._rows[index]))
        if mask is None or not seen:
            return mask
        if self.preprocessing is None or self.preprocessing.random or self.preprocessing.views > 1:
            raise ValueError(
                "seen=True needs a preprocessing with one view and without chance; use "
                '.with_preprocessing(method.test_preprocessing("centre")) first.'
            )
        plain = replace(self.preprocessing, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        return plain.build()(Image.fromarray(mask).convert("RGB"))[0].numpy() > 0.5

    def background(self, index: int) -> str | None:
        """What the object of an image stands before, where that is known (the toybox, but for sketches), else None."""
        if not isinstance(self._pictures, Toys):
            return None
        return self._pictures.background(int(self._rows[index]))

    def with_preprocessing(self, preprocessing: Preprocessing, *, seed: int | None = None) -> LongTailDataset:
        """The same images with another preprocessing, at epoch 0; `seed` replaces the seed of its randomness."""
        other = copy.copy(self)
        other.seed = self.seed if seed is None else seed
        other._set_preprocessing(preprocessing)
        return other

    def spec(self) -> dict[str, Any]:
        """A JSON record from which `from_spec` builds an equal data set."""
        path = None if self.manifest.path is None else str(self.manifest.path.resolve())
        return {
            "manifest": self.manifest.name,
            "manifest_path": path,
            "manifest_sha256": self.manifest.sha256,
            "split": self.split,
            "root": None if self.root is None else str(self.root),
            "per_class": self.per_class,
            "seed": self.seed,
            "preprocessing": None if self.preprocessing is None else self.preprocessing.spec(),
        }

    @classmethod
    def from_spec(cls, spec: dict[str, Any], *, root: str | Path | None = None) -> LongTailDataset:
        """The data set of a record; `root` replaces the stored one, on a machine where the images lie elsewhere."""
        path = spec["manifest_path"]
        manifest = Manifest.load(Path(path) if path is not None and Path(path).is_file() else spec["manifest"])
        if manifest.sha256 != spec["manifest_sha256"]:
            raise ValueError(
                f"the manifest {manifest.path} is not the one this was made with: its images, labels or class names "
                f"differ (sha256 {manifest.sha256[:16]}... now, {spec['manifest_sha256'][:16]}... then)."
            )
        preprocessing = None if spec["preprocessing"] is None else Preprocessing.from_spec(spec["preprocessing"])
        root = spec["root"] if root is None else root
        return cls(manifest, spec["split"], root, preprocessing, seed=spec["seed"], per_class=spec["per_class"])


def first_of_each(labels: np.ndarray, per_class: int | None) -> np.ndarray:
    """(K,) rows of labels (N,) int64, in their order: the first `per_class` of each class; None: all."""
    if per_class is None:
        return np.arange(len(labels))
    if per_class < 1:
        raise ValueError(f"per_class={per_class}: keep at least one image of each class, or None for all.")
    order = np.argsort(labels, kind="stable")
    grouped = labels[order]
    rank = np.arange(len(labels)) - np.searchsorted(grouped, grouped)
    return np.sort(order[rank < per_class])
