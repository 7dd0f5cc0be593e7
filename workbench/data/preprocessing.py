"""Preprocessing: from a PIL image to the tensor a tower reads, as data that can be named, hashed and stored.

The steps are torchvision's on PIL images, so bilinear and bicubic resizing antialias, and crops are placed by its
rounding (half to even). Test-time views follow LIFT (Parameter-Efficient Long-Tailed Recognition, ICML 2024,
arXiv 2309.10019, authors' code shijxcs/LIFT @ 661ead9): resize the shorter side to size + expand, five crops.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

RESIZE_MODES = ("shorter", "squash")
CROPS = ("centre", "random_resized", "random", "padded", "five", "ten", "none")
INTERPOLATIONS = ("bilinear", "bicubic", "nearest")
AUGMENTATIONS = ("flip", "colour_jitter", "auto_augment", "cutout")  # in the order in which they are applied
VIEWS = {"centre": 1, "five": 5, "ten": 10}


def views_of(views: str) -> int:
    """Number of crops that a name of test views stands for: centre 1, five 5, ten 10, random20 20."""
    if views in VIEWS:
        return VIEWS[views]
    found = re.fullmatch(r"random([1-9]\d{0,2})", views)
    if found is None:
        raise ValueError(
            f"views={views!r} is not known; choose one of {', '.join(VIEWS)}, or random followed by a number of random "
            "crops, for example random20."
        )
    return int(found[1])


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """One way from a PIL RGB image to float32 (3, size, size), or (V, 3, size, size) for several views."""

    name: str  # for people; part of the hash
    size: int  # pixels, height and width of the result
    resize: int | None  # pixels of the first resize, None for none
    resize_mode: str  # "shorter": the shorter side, aspect kept; "squash": both sides (LPT)
    crop: str  # "centre", "random_resized", "random", "five", "ten" (five and their mirror images), "none"; "padded":
    # a random square of `resize` pixels, where a black border of an eighth of them is put around the image; augmented,
    # then enlarged to `size` as a tensor, without antialiasing (small images: CIFAR)
    scale: tuple[float, float] = (0.08, 1.0)  # share of the area that random_resized takes
    interpolation: str = "bilinear"  # "bilinear", "bicubic", "nearest"
    mean: tuple[float, float, float]  # per channel of RGB in [0, 1], subtracted
    std: tuple[float, float, float]  # per channel, divided by
    augmentations: tuple[str, ...] = ()  # of "flip" (p = 0.5), "colour_jitter" (0.4, 0.4, 0.4, 0: BALLAD),
    # "auto_augment" (torchvision's policy for CIFAR-10: Cubuk et al., CVPR 2019, arXiv 1805.09501), "cutout" (a black
    # square half as high as the crop around a random pixel, cut at the edges: DeVries and Taylor, arXiv 1708.04552)
    draws: int = 1  # random_resized only: crops of one image, each drawn anew

    def __post_init__(self) -> None:
        for key in ("scale", "mean", "std"):
            object.__setattr__(self, key, tuple(float(value) for value in getattr(self, key)))
        object.__setattr__(self, "augmentations", tuple(self.augmentations))
        for key, allowed in (("resize_mode", RESIZE_MODES), ("crop", CROPS), ("interpolation", INTERPOLATIONS)):
            if getattr(self, key) not in allowed:
                raise ValueError(f"{key}={getattr(self, key)!r} is not known; choose one of {', '.join(allowed)}.")
        unknown = [name for name in self.augmentations if name not in AUGMENTATIONS]
        if unknown:
            raise ValueError(f"augmentations {unknown} are not known; choose from {', '.join(AUGMENTATIONS)}.")
        if self.size < 1 or len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError("size must be at least 1, mean and std have three values, and std is positive.")
        if self.crop == "none" and (self.resize_mode != "squash" or self.resize != self.size):
            raise ValueError('crop="none" needs resize_mode="squash" and resize=size, or images would differ in shape.')
        if self.crop in ("centre", "five", "ten", "random") and self.resize is not None and self.resize < self.size:
            raise ValueError(f"a {self.crop} crop of {self.size} px does not fit an image resized to {self.resize} px.")
        if self.crop == "padded" and self.resize is None:
            raise ValueError('crop="padded" needs resize, the pixels of the square that is taken.')
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale={self.scale}: shares of the area, 0 < smallest <= largest <= 1.")
        if self.draws < 1 or (self.draws > 1 and self.crop != "random_resized"):
            raise ValueError(f'draws={self.draws} must be at least 1, and 1 unless crop="random_resized".')
        if self.augmentations and self.crop in ("five", "ten"):
            raise ValueError(f'augmentations do not go with the test views of crop="{self.crop}".')

    @property
    def random(self) -> bool:
        """Whether two calls on the same image can differ."""
        return self.crop in ("random_resized", "random", "padded") or bool(self.augmentations)

    @property
    def views(self) -> int:
        """Number of crops V of one image; the result has a leading axis of this length where it is above one."""
        return VIEWS.get(self.crop, self.draws)

    def build(self) -> Callable[[Image], Tensor]:
        """The function image -> float32 (3, size, size) or (V, 3, size, size); it can be pickled."""
        return _Pipeline(self)

    def spec(self) -> dict[str, Any]:
        """A JSON record; `from_spec` gives an equal preprocessing."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Preprocessing:
        return cls(**spec)

    @property
    def sha256(self) -> str:
        """First 16 hexadecimal digits of the sha256 of the record with sorted keys."""
        return hashlib.sha256(json.dumps(self.spec(), sort_keys=True).encode()).hexdigest()[:16]

    def with_views(self, views: str, expand: int, *, resize_mode: str = "shorter") -> Preprocessing:
        """The same evaluation with views "centre" | "five" | "ten" | "random<number>".

        five and ten resize the shorter side (resize_mode "squash": both sides) to size + expand pixels; "centre"
        returns this preprocessing. Order of five: top left, top right, bottom left, bottom right, centre. random20 is
        20 random crops of 8 to 100 % of the image, mirrored half of the time: LIFT's training transform (Table 12).
        """
        count = views_of(views)
        if self.random or self.views > 1:
            raise ValueError(f"views are made of an evaluation with one crop, not of {self.name!r} ({self.crop}).")
        if views == "centre":
            return self
        if views not in VIEWS:
            name, flip = f"{views}-{self.size}", ("flip",)
            return replace(self, name=name, resize=None, crop="random_resized", augmentations=flip, draws=count)
        if expand < 0:
            raise ValueError(f"expand={expand} pixels must not be negative.")
        name = f"{views}-{self.size}+{expand}"
        return replace(self, name=name, resize=self.size + expand, resize_mode=resize_mode, crop=views)


class _Pipeline:
    """The torchvision steps of a preprocessing, callable on a PIL RGB image."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        from torchvision import transforms

        self.preprocessing = p = preprocessing
        mode = transforms.InterpolationMode(p.interpolation)
        steps: list[Any] = []
        if p.resize is not None:
            size = p.resize if p.resize_mode == "shorter" else (p.resize, p.resize)
            steps.append(transforms.Resize(size, mode, antialias=True))
        if p.crop == "random_resized":
            steps.append(transforms.RandomResizedCrop(p.size, p.scale, interpolation=mode, antialias=True))
        elif p.crop == "padded":
            assert p.resize is not None
            steps.append(transforms.RandomCrop(p.resize, padding=p.resize // 8))
        elif p.crop != "none":
            crop = {
                "centre": transforms.CenterCrop,
                "random": transforms.RandomCrop,
                "five": transforms.FiveCrop,
                "ten": transforms.TenCrop,
            }[p.crop]
            steps.append(crop(p.size))
        if "flip" in p.augmentations:
            steps.append(transforms.RandomHorizontalFlip())
        if "colour_jitter" in p.augmentations:
            steps.append(transforms.ColorJitter(0.4, 0.4, 0.4, 0))
        if "auto_augment" in p.augmentations:
            steps.append(transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10))
        self.geometry = transforms.Compose(steps)
        numbers: list[Any] = [transforms.ToTensor()]
        if "cutout" in p.augmentations:
            numbers.append(_cut_out)
        if p.crop == "padded":
            numbers.append(transforms.Resize((p.size, p.size), mode, antialias=False))
        self.numbers = transforms.Compose([*numbers, transforms.Normalize(p.mean, p.std)])

    def __call__(self, image: Image) -> Tensor:
        import torch

        if self.preprocessing.draws > 1:
            return torch.stack([self.numbers(self.geometry(image)) for _ in range(self.preprocessing.draws)])
        result = self.geometry(image)
        if isinstance(result, tuple):
            return torch.stack([self.numbers(view) for view in result])  # (V, 3, size, size)
        return self.numbers(result)

    def __repr__(self) -> str:
        return f"{self.preprocessing.name}: {self.geometry}"


def _cut_out(image: Tensor) -> Tensor:
    """(3, H, W) with a black square of H // 2 pixels around a random one."""
    import torch

    height, width = image.shape[1:]
    row, column = int(torch.randint(height, ())), int(torch.randint(width, ()))
    above = height // 4
    rows, columns = (slice(max(at - above, 0), at - above + height // 2) for at in (row, column))
    image = image.clone()
    image[:, rows, columns] = 0
    return image


def evaluation_preprocessing(
    size: int,
    *,
    resize: int | None = None,
    interpolation: str = "bilinear",
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Preprocessing:
    """Resize the shorter side (default round(size * 256 / 224)) and take the central size x size pixels."""
    return Preprocessing(
        name=f"evaluation-{size}",
        size=size,
        resize=round(size * 256 / 224) if resize is None else resize,
        resize_mode="shorter",
        crop="centre",
        interpolation=interpolation,
        mean=mean,
        std=std,
    )


def training_preprocessing(
    size: int,
    *,
    interpolation: str = "bilinear",
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    scale: tuple[float, float] = (0.08, 1.0),
) -> Preprocessing:
    """A random part of the image, resized to size x size, mirrored half of the time."""
    return Preprocessing(
        name=f"training-{size}",
        size=size,
        resize=None,
        resize_mode="shorter",
        crop="random_resized",
        scale=scale,
        interpolation=interpolation,
        mean=mean,
        std=std,
        augmentations=("flip",),
    )


def default_expand(size: int, patch: int) -> int:
    """Pixels by which the test views widen the image: round(size * 24 / 224), but at most one and a half patches.

    A multiple of the patch would shift the corner crops by whole patches, so that they share patches with each other;
    such a value moves up by a quarter of a patch. 24 for 224 / 16 and 21 for patches of 14 as in LIFT.
    """
    expand = min(round(size * 24 / 224), patch + patch // 2)
    return expand + max(patch // 4, 1) if expand % patch == 0 else expand
