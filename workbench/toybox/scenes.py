"""Scenes of the toybox: which toy stands where, before what, and how the picture of it was spoilt; and their pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from .shapes import SHAPES
from .textures import BACKGROUNDS, COLOURS, PATTERNS, noise

VERSION = "toybox-1"
SIZE = 56  # pixels, the size that the towers of this world see
STYLES = ("upstream", "downstream", "sketch")
UPSTREAM_BACKGROUNDS = tuple(BACKGROUNDS)[:8]
DOWNSTREAM_BACKGROUNDS = tuple(BACKGROUNDS)[4:]  # four that were met upstream, four that were not
_OVERSAMPLING = 3
_OBJECT, _BEHIND, _LIGHT, _CHOICE = range(4)  # separate random streams: another background leaves the object as it was


@dataclass(frozen=True)
class Toy:
    """A class of this world: a combination of attributes, named by them."""

    pattern: str
    colour: str
    shape: str

    def __post_init__(self) -> None:
        for value, known in ((self.pattern, PATTERNS), (self.colour, COLOURS), (self.shape, SHAPES)):
            if value not in known:
                raise ValueError(f"{value!r} is not in the toybox; choose one of {', '.join(known)}.")

    @property
    def name(self) -> str:
        return f"{self.pattern} {self.colour} {self.shape}"

    @property
    def code(self) -> int:
        """A number for each combination, 0 .. 999."""
        places = tuple(SHAPES).index(self.shape), tuple(COLOURS).index(self.colour), tuple(PATTERNS).index(self.pattern)
        return (places[0] * len(COLOURS) + places[1]) * len(PATTERNS) + places[2]


@lru_cache(maxsize=1)
def every_toy() -> tuple[Toy, ...]:
    """All 1,000 combinations, by code."""
    return tuple(Toy(p, c, s) for s in SHAPES for c in COLOURS for p in PATTERNS)


def _downstream_toys() -> tuple[Toy, ...]:
    """Twelve shapes with five toys each, in an order drawn once: two colours, three patterns, so that no two attributes
    name the class and every class has neighbours that differ in one."""
    colours, patterns = tuple(COLOURS), tuple(PATTERNS)
    toys = []
    for place, shape in enumerate(tuple(SHAPES)[3:15]):
        first, second = colours[place % 10], colours[(place + 3) % 10]
        a, b, c = (patterns[(place + step) % 5] for step in (0, 1, 3))
        toys += [Toy(pattern, first, shape) for pattern in (a, b, c)]
        toys += [Toy(pattern, second, shape) for pattern in (a, b)]
    order = np.random.default_rng(1).permutation(len(toys))
    return tuple(toys[i] for i in order)


CLASSES = _downstream_toys()  # of toybox_lt, the most frequent one first


@dataclass(frozen=True)
class Scene:
    """One picture to render; everything that is not named here is a function of these fields."""

    toy: Toy
    background: str
    style: str
    seed: int
    index: int

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ValueError(f"style={self.style!r} is not known; choose one of {', '.join(STYLES)}.")
        if self.background not in BACKGROUNDS:
            raise ValueError(f"background={self.background!r} is not known; choose one of {', '.join(BACKGROUNDS)}.")

    @property
    def key(self) -> str:
        """The scene as a text that `scene_of` reads: "downstream-0/striped red star/sand/12"."""
        return f"{self.style}-{self.seed}/{self.toy.name}/{self.background}/{self.index}"

    def stream(self, part: int) -> np.random.Generator:
        return _generator(self.toy, self.style, self.seed, self.index, part)


def _generator(toy: Toy, style: str, seed: int, index: int, part: int) -> np.random.Generator:
    return np.random.default_rng((seed, index, toy.code, STYLES.index(style), part))


def scene_of(key: str) -> Scene:
    """The scene that a `Scene.key` names; ValueError for anything else."""
    parts = re.fullmatch(r"([a-z]+)-([0-9]{1,9})/([a-z]+) ([a-z]+) ([a-z]+)/([a-z]+)/([0-9]{1,9})", key)
    if parts is None:
        raise ValueError(f"{key!r:.80} is no picture of the toybox; one is 'downstream-0/striped red star/sand/12'.")
    style, seed, pattern, colour, shape, background, index = parts.groups()
    return Scene(Toy(pattern, colour, shape), background, style, int(seed), int(index))


def class_scene(
    label: int, *, index: int, seed: int, style: str = "downstream", background: str | None = None
) -> Scene:
    """Image `index` of class `label` (0 .. 59); background None: drawn from those of the downstream world."""
    toy = CLASSES[label]
    if background is None:
        background = str(_generator(toy, style, seed, index, _CHOICE).choice(DOWNSTREAM_BACKGROUNDS))
    return Scene(toy, background, style, seed, index)


@lru_cache(maxsize=1)
def upstream_toys() -> tuple[Toy, ...]:
    """The 940 combinations that are not classes downstream."""
    return tuple(toy for toy in every_toy() if toy not in CLASSES)


def upstream_scene(index: int, *, seed: int) -> Scene:
    """Image `index` of the pretraining stream: any toy that is no class downstream, on a background met upstream."""
    rng = np.random.default_rng((seed, index))
    toys = upstream_toys()
    return Scene(toys[rng.integers(len(toys))], str(rng.choice(UPSTREAM_BACKGROUNDS)), "upstream", seed, index)


def render(scene: Scene, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """The picture of a scene and where its toy is visible.

    Returns:
        image (size, size, 3) uint8 RGB and mask (size, size) bool. The same on every call; on another processor single
        pixels may differ by one level, since the last digit of sin and exp does.
    """
    if size < 8:
        raise ValueError(f"size={size} pixels is too small for a scene; give at least 8.")
    y, x = (np.indices((size, size), dtype=np.float32) + 0.5) / size
    placed = _place(scene, size, x, y)
    if scene.style == "sketch":
        image, visible = _sketch(scene, size, placed), placed.alpha
    else:
        image = BACKGROUNDS[scene.background](scene.stream(_BEHIND), x, y)
        image, visible = _compose(scene, image, placed, size)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), visible > 0.5


@dataclass(frozen=True)
class _Placed:
    """A toy on its place: (S, S) coverage alpha of it, second of its second colour, and its coordinates u, v."""

    alpha: np.ndarray
    second: np.ndarray
    u: np.ndarray
    v: np.ndarray
    first_colour: np.ndarray
    second_colour: np.ndarray
    radius: float


def _place(scene: Scene, size: int, x: np.ndarray, y: np.ndarray) -> _Placed:
    rng = scene.stream(_OBJECT)
    angle = np.deg2rad(rng.uniform(-25, 25))
    radius = rng.uniform(0.27, 0.42)
    centre = 0.5 + rng.uniform(-1, 1, 2) * (0.5 - radius) * 0.9
    flip = -1.0 if rng.random() < 0.5 else 1.0
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    filled, holes = SHAPES[scene.toy.shape]()
    fine = size * _OVERSAMPLING
    canvas = np.zeros((fine, fine), dtype=np.uint8)
    for polygons, value in ((filled, 255), (holes, 0)):
        for polygon in polygons:
            px, py = polygon[:, 0] * flip, polygon[:, 1]
            turned = np.stack([cos * px - sin * py, sin * px + cos * py], axis=1)
            points = centre + radius * turned
            cv2.fillPoly(canvas, [np.rint((points * fine - 0.5) * 256).astype(np.int32)], value, shift=8)
    alpha = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    dx, dy = (x - np.float32(centre[0])) / radius, (y - np.float32(centre[1])) / radius
    u, v = (cos * dx + sin * dy) * flip, -sin * dx + cos * dy
    first = np.clip(np.array(COLOURS[scene.toy.colour]) + rng.normal(0, 10, 3), 0, 255)
    luminance = first @ (0.299, 0.587, 0.114)
    second = first * 0.3 if luminance > 130 else first * 0.3 + 0.7 * 255  # the pattern is dark on light, light on dark
    return _Placed(
        alpha, PATTERNS[scene.toy.pattern](u, v), u, v, first.astype(np.float32), second.astype(np.float32), radius
    )


def _compose(scene: Scene, behind: np.ndarray, placed: _Placed, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = scene.stream(_LIGHT)
    toward = rng.uniform(0, 2 * np.pi)
    strength, shadow = rng.uniform(0.05, 0.3), rng.uniform(0.1, 0.45)
    shift = 0.18 * placed.radius * size * np.array([np.cos(toward), np.sin(toward)])
    moved = cv2.warpAffine(placed.alpha, np.array([[1, 0, -shift[0]], [0, 1, -shift[1]]]), (size, size))
    image = behind * (1 - shadow * cv2.GaussianBlur(moved, (0, 0), 0.04 * size))[..., None]
    surface = placed.first_colour + (placed.second_colour - placed.first_colour) * placed.second[..., None]
    surface = surface * (1 + strength * (placed.u * np.cos(toward) + placed.v * np.sin(toward)))[..., None]
    image = image + (surface - image) * placed.alpha[..., None]
    if scene.style == "upstream":
        return image + rng.normal(0, 4, image.shape).astype(np.float32), placed.alpha
    return _spoil(image, placed, rng, size)


def _spoil(
    image: np.ndarray, placed: _Placed, rng: np.random.Generator, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The gap between the worlds: an occluder, blur, gamma, a colour cast and noise."""
    visible = placed.alpha
    if rng.random() < 0.6:
        cover = _occluder(rng, placed, size)
        tone = rng.uniform(20, 235, 3).astype(np.float32) * (1 + 0.1 * noise(rng, size, (12, 12)))[..., None]
        image = image + (tone - image) * cover[..., None]
        visible = visible * (1 - cover)
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.2, 1.0) * size / SIZE)
    image = 255 * (np.clip(image, 0, 255) / 255) ** np.float32(2 ** rng.uniform(-0.7, 0.7))
    image = image * (1 + rng.uniform(-0.2, 0.2, 3)).astype(np.float32)
    grain = rng.standard_normal((SIZE, SIZE, 3), dtype=np.float32) * np.float32(rng.uniform(2, 12))
    if size != SIZE:
        grain = cv2.resize(grain, (size, size), interpolation=cv2.INTER_NEAREST)
    return image + grain, visible


def _occluder(rng: np.random.Generator, placed: _Placed, size: int) -> np.ndarray:
    """(S, S) coverage of a bar across the toy, or of a disc at its rim: about a quarter of the toy at most."""
    angle = rng.uniform(0, 2 * np.pi)
    along = placed.u * np.cos(angle) + placed.v * np.sin(angle)
    soft = placed.radius * size  # one pixel of edge
    if rng.random() < 0.5:
        edge = rng.uniform(0.08, 0.18) - np.abs(along - rng.uniform(-0.5, 0.5))
    else:
        across = placed.v * np.cos(angle) - placed.u * np.sin(angle)
        edge = rng.uniform(0.35, 0.5) - np.hypot(along - rng.uniform(0.6, 0.9), across)
    return np.clip(edge * soft + 0.5, 0, 1).astype(np.float32)


def _sketch(scene: Scene, size: int, placed: _Placed) -> np.ndarray:
    """Coloured pencil on paper: the outline of the toy and the edges of its pattern."""
    rng = scene.stream(_LIGHT)
    width = max(1, round(size / SIZE))
    kernel = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    outline = cv2.dilate(placed.alpha, kernel) - cv2.erode(placed.alpha, kernel)
    hatching = (cv2.dilate(placed.second, kernel) - cv2.erode(placed.second, kernel)) * placed.alpha * 0.7
    ink = np.clip(np.maximum(outline, hatching) * (0.9 + 0.15 * noise(rng, size, (20, 20))), 0, 1)
    paper = rng.uniform(225, 255) + 4 * noise(rng, size, (28, 28))
    return paper[..., None] + (placed.first_colour * 0.9 - paper[..., None]) * ink[..., None]
