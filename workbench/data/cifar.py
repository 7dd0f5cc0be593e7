"""CIFAR-100-LT: which of CIFAR-100's images the public codes train on, and where their pixels come from.

The images are CIFAR-100's (Krizhevsky, 2009). The long tail is that of LDAM-DRW (Cao et al., NeurIPS 2019, arXiv
1906.07413; imbalance_cifar.py @ 2536330), which LIFT, GNM-PT, GCL and SADE use unchanged with NumPy's seed 0. LPT
(imbalanced_cifar.py @ e84cd56) sets no seed of its own there; its main program sets 42.

A row is the key `class/rank`: rank 0 to 499 is the place of the image among its class's in the train file, in the
file's order and before any shuffling; 500 to 599 counts on through the test file.
"""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from .cache import cached_array
from .manifest import Classes, GroupRule, Manifest, Split, exponential_counts
from .preprocessing import Preprocessing

TRAIN, TEST = 500, 100  # images of each class
RATIOS = (10, 50, 100, 200)
BATCHES = "cifar-100-python"  # the folder that torchvision's download unpacks
DOWNLOAD = "python -c \"import torchvision; torchvision.datasets.CIFAR100('{root}', download=True)\""
NAMES = tuple(
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle "
    "caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant "
    "flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man "
    "maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree "
    "plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train "
    "trout tulip turtle wardrobe whale willow_tree wolf woman worm".split()
)
NORMALISATION = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))  # mean and std that the CIFAR codes subtract


def is_cifar100(classes: Classes) -> bool:
    """Whether these are the classes of CIFAR-100, in its order: all that a method knows of its data set."""
    return tuple(classes.names) == NAMES


def gnm_pt_training(size: int) -> Preprocessing:
    """What GNM-PT's code (datasets/cifar100.py @ beabf46) does to a training image, for a tower of `size` pixels.

    A crop of 32 pixels padded by 4, flip, AutoAugment, Cutout of 16 pixels, and only then enlarged. Its AutoAugment is
    a file of its own, read here as torchvision's policy: fills and steps of a magnitude may differ.
    """
    mean, std = NORMALISATION
    return Preprocessing(
        name=f"cifar-{size}",
        size=size,
        resize=32,
        resize_mode="squash",
        crop="padded",
        mean=mean,
        std=std,
        augmentations=("flip", "auto_augment", "cutout"),
    )


def cifar100_lt(ratio: int, *, seed: int = 0) -> Manifest:
    """The manifest `cifar100_lt_ir<ratio>`, with `_seed<seed>` after it for a seed other than 0.

    Ratios 10 and 50 are grouped by the training images of ratio 100, as LIFT does (35 / 35 / 30); seed 42, LPT's, by
    LPT's bounds (few <= 20). There is no validation split: the papers have none.
    """
    if ratio < 1 or seed < 0:
        raise ValueError(f"cifar100_lt({ratio}, seed={seed}): the ratio is at least 1 and the seed not negative.")
    counts = exponential_counts(TRAIN, len(NAMES), ratio)
    # the codes call np.random.seed(seed) and np.random.shuffle, whose stream RandomState keeps for ever
    state = np.random.RandomState(seed)
    keys: dict[str, list[str]] = {"train": [], "test": []}
    for name, count in zip(NAMES, counts.tolist(), strict=True):
        ranks = np.arange(TRAIN)
        state.shuffle(ranks)  # depends on the number of ranks only, so the order of their indices is the same
        keys["train"] += [f"{name}/{rank}" for rank in ranks[:count].tolist()]
        keys["test"] += [f"{name}/{rank}" for rank in range(TRAIN, TRAIN + TEST)]
    labels = {"train": np.repeat(np.arange(len(NAMES)), counts), "test": np.repeat(np.arange(len(NAMES)), TEST)}
    rule = GroupRule(few_to=20) if seed == 42 else GroupRule()
    if seed == 0 and ratio in (10, 50):
        rule = GroupRule(reference_counts=tuple(exponential_counts(TRAIN, len(NAMES), 100).tolist()))
    return Manifest(
        name=f"cifar100_lt_ir{ratio}" + (f"_seed{seed}" if seed else ""),
        title=f"CIFAR-100-LT, ratio {ratio}" + (f", seed {seed} as in LPT's code" if seed == 42 else ""),
        licence="CIFAR-100 states none; its authors ask to cite Krizhevsky, 2009",
        source=f"https://www.cs.toronto.edu/~kriz/cifar.html; long tail of LDAM-DRW (arXiv 1906.07413), seed {seed}",
        kind="cifar100",
        splits={split: Split(np.array(keys[split], np.str_), labels[split]) for split in keys},
        classes=Classes(NAMES, counts, rule),
    )


def file_of(key: str) -> str:
    """Path of a key's image in a folder of single images: "apple/517" -> "test/apple/17.png"."""
    label, rank = _place(key)
    return f"train/{NAMES[label]}/{rank}.png" if rank < TRAIN else f"test/{NAMES[label]}/{rank - TRAIN}.png"


def _place(key: str) -> tuple[int, int]:
    """ "apple/517" -> (0, 517)."""
    found = re.fullmatch(r"([a-z_]+)/([0-9]{1,3})", key)
    if found is None or found[1] not in NAMES or int(found[2]) >= TRAIN + TEST:
        raise ValueError(f"{key!r} is no image of CIFAR-100: keys are class/rank, with ranks 0 to {TRAIN + TEST - 1}.")
    return NAMES.index(found[1]), int(found[2])


def has_batches(root: Path) -> bool:
    """Whether root holds torchvision's files rather than single images; FileNotFoundError where it holds neither."""
    if (root / BATCHES).is_dir():
        return True
    if (root / "train" / NAMES[0]).is_dir() or (root / "test" / NAMES[0]).is_dir():
        return False
    inside = f" {root} is that folder itself: give {root.parent}." if root.name == BATCHES else ""
    raise FileNotFoundError(
        f"no CIFAR-100 in {root}: neither {BATCHES} (torchvision's) nor train/{NAMES[0]}/0.png and so on.{inside} "
        f"This downloads it, 169 MB: {DOWNLOAD.format(root=root)}"
    )


class Cifar100:
    """Pictures of one split out of torchvision's files, (N, 32, 32, 3) uint8 in the cache.

    The files are pickles. torchvision unpickles none before the md5 of all three is that of the published ones.
    """

    def __init__(self, split: Split, root: Path) -> None:
        from torchvision.datasets import CIFAR100

        self.keys, self.root = split.paths, root
        sums = [f"{name} {md5}" for name, md5 in CIFAR100.train_list + CIFAR100.test_list]
        digest = hashlib.sha256("\n".join([*sums, *self.keys.tolist()]).encode()).hexdigest()
        self.name = f"cifar100-{digest[:24]}"

    @cached_property
    def pixels(self) -> np.ndarray:
        return cached_array(self.name, self.read)

    def read(self) -> np.ndarray:
        """The pixels from torchvision's files; ValueError where these are not the published ones."""
        labels, ranks = np.array([_place(key) for key in self.keys.tolist()]).T
        pixels = np.empty((len(self.keys), 32, 32, 3), np.uint8)  # (N, 32, 32, 3)
        for train, first in ((True, 0), (False, TRAIN)):
            rows = np.flatnonzero((ranks < TRAIN) == train)
            if len(rows):
                images, order = _published(self.root, train=train)
                pixels[rows] = images[order[labels[rows], ranks[rows] - first]]
        return pixels

    def image(self, row: int) -> Image.Image:
        return Image.fromarray(np.asarray(self.pixels[row]))

    def mask(self, row: int) -> None:
        return None


def _published(root: Path, *, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 32, 32, 3) uint8 of one file and, per class and rank, their indices (100, N / 100)."""
    from torchvision.datasets import CIFAR100

    try:
        found = CIFAR100(root, train=train, download=False)
    except RuntimeError as error:  # torchvision says so for files that are absent and for a wrong md5 alike
        raise ValueError(
            f"{root / BATCHES} is incomplete or changed: the md5 of train, test and meta must be the published ones "
            f"before they are read. Move the folder away and type: {DOWNLOAD.format(root=root)}"
        ) from error
    order = np.argsort(np.asarray(found.targets), kind="stable")
    return np.asarray(found.data), order.reshape(len(NAMES), -1)
