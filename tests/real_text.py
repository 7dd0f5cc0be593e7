"""Real text on real photographs: LIFT on Tiny-ImageNet-LT begun from CLIP's vectors of the class names.

    python -m tests.real_text [--out runs/real_text] [--untrained]

No complete CLIP is at hand, so CLIP's text vectors of the ImageNet names and a ViT-Tiny are joined by a ridge map,
fitted on one photograph of each class that is not tested. This is a text-aligned ViT and not zero-shot CLIP: the ViT
itself was trained on the labels of all these classes.

The map takes the place of CLIP's projection P (E, D): a text vector t becomes the row P^T t of a cosine head, and there
is no room for constants. So both sides lose their mean direction before the fit, where centring would subtract a mean:
the means are then zero, and the map ignores both directions by itself. It is fitted in both directions, from text to
features as Shigeto et al. advise (Ridge Regression, Hubness, and Zero-Shot Learning, ECML 2015, arXiv 1507.00825).

Tiny ImageNet has 64 x 64 pixels, shown to the tower at 112. Which photographs to fit on, sharp or as blurred as these,
is chosen together with the direction: by accuracy on blurred photographs of classes that are neither fitted nor tested.

Features are kept and so are finished runs, unfinished ones are resumed: it may be stopped and started at any time.
`--untrained` ends before LIFT is trained, after three minutes on one core; the training takes half an hour.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import Dataset

import workbench as wb
from workbench.backbones import Backbone, ClassVectors
from workbench.data import Preprocessing, evaluation_preprocessing, read_image
from workbench.methods import Method

SHARED = Path(os.environ.get("WORKBENCH_SHARED", Path(__file__).parents[2] / "shared"))
DATA = SHARED / "data"
PHOTOS = DATA / "tiny_imagenet_lt100"
TEXT = DATA / "clip_text" / "clip512_imagenet_text_features.safetensors"
PROMPTS = ("a_photo_of_a", "gpt3")  # tensors of TEXT; the first is LIFT's template, the choices and the training use it
BACKBONE = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
SIZE, SEEDS, TEST_PER_CLASS = 112, 3, 25  # as tests/real_photos.py
EPOCHS = 1  # where the head starts matters most
TRAIN_PER_CLASS: int | None = None  # None: all images
LAMBDA = 0.5
DIRECTIONS = ("text to features", "features to text")
HALF = (0.5, 0.5, 0.5)  # mean and std of this tower
SMALL = evaluation_preprocessing(SIZE, mean=HALF, std=HALF)  # LIFT's test transform
VIEWS: dict[str, tuple[int | None, Preprocessing]] = {  # pixels to which a photograph is shrunk before, and the rest
    "224 px": (None, evaluation_preprocessing(224, resize=249, interpolation="bicubic", mean=HALF, std=HALF)),
    "112 px": (None, SMALL),
    "64 px at 112": (64, SMALL),  # as Tiny ImageNet
}
SHARP, _, BLURRED = VIEWS
SPLITS, HELD_OUT = 50, 200  # classes

Share = tuple[float, float, float]  # of right answers: mean, smallest and largest over the splits


# -- photographs and names of the 1,000 classes ------------------------------------------------------------------------


class Photographs(Dataset[Tensor]):
    """One photograph of each ImageNet class, in class order, by a key of VIEWS."""

    def __init__(self, view: str) -> None:
        self.paths = sorted((DATA / "imagenet_samples_256").glob("*.jpg"))
        self.shrunk, preprocessing = VIEWS[view]
        self.transform = preprocessing.build()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        image = read_image(self.paths[index])
        if self.shrunk is not None:
            image = ImageOps.fit(image, (self.shrunk, self.shrunk), Image.Resampling.BICUBIC)
        return self.transform(image)


def load_tower(size: int = SIZE) -> Backbone:
    return wb.load_backbone(BACKBONE, DATA / "weights" / "vit_tiny_patch16_224.safetensors", input_size=size)


def encode_photographs(view: str) -> np.ndarray:
    """(1000, D) float32 features."""
    return load_tower(VIEWS[view][1].size).encode_dataset(Photographs(view))


def kept_photographs(out: Path, view: str) -> np.ndarray:
    """`encode_photographs`, kept in a file."""
    path = out / "features" / f"photographs-{view}.npy".replace(" ", "_")
    if not path.exists():
        found = encode_photographs(view)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path.with_suffix(".part.npy"), found)
        path.with_suffix(".part.npy").replace(path)
    return np.load(path)


def tested_classes() -> np.ndarray:
    """(100,) int64: the class of ImageNet, 0 to 999, that each class of Tiny-ImageNet-LT is."""
    wnids = [line.split()[0] for line in (DATA / "names" / "imagenet.txt").read_text().splitlines()]
    with (PHOTOS / "classes.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["label"]))
    return np.array([wnids.index(row["wnid"]) for row in rows])


def load_vectors(prompt: str, names: Sequence[str]) -> ClassVectors:
    """CLIP's vectors of the 1,000 classes; those of Tiny-ImageNet-LT under the names that its manifest has for them."""
    every = [line.partition(" ")[2] for line in (DATA / "names" / "imagenet.txt").read_text().splitlines()]
    for name, index in zip(names, tested_classes(), strict=True):
        every[index] = name
    return wb.load_class_vectors(TEXT, every, key=prompt)


# -- the map -----------------------------------------------------------------------------------------------------------


def without_mean_direction(vectors: Tensor) -> Tensor:
    """Rows of unit length less their part along their mean: (N, K) -> (N, K) float64 with mean 0."""
    unit = F.normalize(vectors.double(), dim=1)
    direction = F.normalize(unit.mean(0), dim=0)
    return unit - (unit @ direction)[:, None] * direction


def ridge(inputs: Tensor, targets: Tensor) -> Tensor:
    """(N, I), (N, O) -> (I, O), the coefficients without intercept."""
    gram = inputs.T @ inputs + LAMBDA * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    return torch.linalg.solve(gram, inputs.T @ targets)


def fit_projection(features: Tensor, text: Tensor, direction: str) -> Tensor:
    """features (N, D) and text (N, E) of N classes -> P (E, D) float32, shaped as the weight of CLIP's projection."""
    x, t = without_mean_direction(features), without_mean_direction(text)
    return (ridge(t, x) if direction == "text to features" else ridge(x, t).T).float()


def answer(projection: Tensor, features: Tensor, text: Tensor) -> Tensor:
    """(N,) the class of each image by a cosine head with rows P^T t: features (N, D), text (C, E)."""
    rows = F.normalize(F.normalize(text, dim=1) @ projection, dim=1)  # (C, D)
    return (features @ rows.T).argmax(1)


def align(tower: Backbone, projection: Tensor) -> Backbone:
    """The tower with a joint image-text space; the projection lies where timm puts CLIP's.

    A run does not need it again: it is read once, for the first rows of the head, which are in the run's own weights.
    """
    tower.model.head = nn.Linear(tower.width, len(projection), bias=False, device="meta")
    tower.model.head.weight = nn.Parameter(projection, requires_grad=False)
    return tower


# -- accuracy on classes that were not fitted --------------------------------------------------------------------------


def answer_fitted(fitted: Tensor, shown: Tensor, text: Tensor, direction: str, *, fit: Tensor, test: Tensor) -> Tensor:
    """Fit on the features `fitted` of the classes `fit`, answer for the features `shown` of the classes `test`.

    fitted, shown: (1000, D); text: (1000, E); fit, test: class indices -> (len(test),) places in `test`.
    """
    return answer(fit_projection(fitted[fit], text[fit], direction), shown[test], text[test])


def answer_centred(features: Tensor, text: Tensor, intercept: bool, *, fit: Tensor, test: Tensor) -> Tensor:
    """The same by cosines in the joint space after an affine map, which no cosine head can hold: for comparison.

    With an intercept the projected feature is compared with t, without it with t less the mean text vector.
    """
    x, t = (F.normalize(vectors.double(), dim=1) for vectors in (features, text))
    x, mean = x - x[fit].mean(0), t[fit].mean(0)
    projected = x[test] @ ridge(x[fit], t[fit] - mean) + (mean if intercept else 0)
    names = t[test] if intercept else F.normalize(t[test] - mean, dim=1)
    return (F.normalize(projected, dim=1) @ names.T).argmax(1)


def over_splits(classes: np.ndarray, answered: Callable[..., Tensor]) -> Share:
    """Hold out 200 of the classes SPLITS times; `answered` takes fit= and test=."""
    shares = []
    for seed in range(SPLITS):
        order = torch.from_numpy(np.random.default_rng(seed).permutation(classes))
        places = answered(fit=order[HELD_OUT:], test=order[:HELD_OUT])
        shares.append(float((places == torch.arange(HELD_OUT)).double().mean()))
    return float(np.mean(shares)), min(shares), max(shares)


def show_variants(features: Tensor, text: dict[str, Tensor]) -> None:
    """The data README's measurement: 800 classes fitted, the other 200 tested."""

    def variants(vectors: Tensor) -> dict[str, Callable[..., Tensor]]:
        linear = partial(answer_fitted, features, features, vectors)
        return {
            "features to text, centred, with intercept": partial(answer_centred, features, vectors, True),
            "features to text, centred": partial(answer_centred, features, vectors, False),
            "features to text, mean directions removed": partial(linear, "features to text"),
            "text to features, mean directions removed": partial(linear, "text to features"),
        }

    by_prompt = [variants(vectors) for vectors in text.values()]
    print(f"\n200-way top-1 on photographs at {SHARP}, % [range of {SPLITS} splits of the 1,000 classes]\n")
    print("| ridge map | " + " | ".join(text) + " |\n| --- |" + " ---: |" * len(text))
    for name in by_prompt[0]:
        cells = [percent(over_splits(np.arange(1000), each[name])) for each in by_prompt]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def choose(photographs: dict[str, Tensor], text: Tensor) -> tuple[str, str]:
    """View and direction with the best mean accuracy on blurred photographs, within the classes that are not tested."""
    rest = np.setdiff1d(np.arange(1000), tested_classes())
    shares = {}
    for view, direction in product(VIEWS, DIRECTIONS):
        answered = partial(answer_fitted, photographs[view], photographs[BLURRED], text, direction)
        shares[view, direction] = over_splits(rest, answered)
    print(f"\n200-way top-1 on photographs shrunk to 64 px, % [range of {SPLITS} splits of the 900 classes]\n")
    print("| fitted on photographs at | " + " | ".join(DIRECTIONS) + " |\n| --- |" + " ---: |" * len(DIRECTIONS))
    for view in VIEWS:
        print(f"| {view} | " + " | ".join(percent(shares[view, direction]) for direction in DIRECTIONS) + " |")
    view, direction = max(shares, key=lambda key: shares[key][0])
    print(f"\nchosen: {direction}, fitted on photographs at {view}", flush=True)
    return view, direction


def percent(share: Share) -> str:
    mean, low, high = (100 * value for value in share)
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


# -- LIFT --------------------------------------------------------------------------------------------------------------


def begin(arm: str, classes: wb.Classes, projection: Tensor, *, seed: int, prompt: str = PROMPTS[0]) -> Method:
    """LIFT before training, the head begun from text or, in `fit`, from class means."""
    if arm == "class means":
        return wb.create_method("lift", load_tower(), classes, seed=seed)
    text = load_vectors(prompt, classes.names)
    return wb.create_method("lift", align(load_tower(), projection), classes, text=text, seed=seed)


def train_or_resume(out: Path, arm: str, manifest: wb.Manifest, projection: Tensor, *, seed: int) -> wb.Run:
    print(f"LIFT from {arm}, seed {seed}", flush=True)
    method = begin(arm, manifest.classes, projection, seed=seed)
    images = wb.LongTailDataset(manifest, "train", root=PHOTOS, seed=seed, per_class=TRAIN_PER_CLASS)
    val = wb.LongTailDataset(manifest, "val", root=PHOTOS, seed=seed)
    stages = [stage.shortened(EPOCHS) for stage in method.stages(manifest)]
    return wb.fit(method, images, val, out=out, seed=seed, stages=stages, on_epoch=show_epoch, existing="continue")


def show_epoch(row: dict[str, Any]) -> None:
    print(", ".join(f"{name} {row[name]:.3f}" for name in ("epoch", "loss", "val_mean_class", "seconds")), flush=True)


def kept_features(path: Path, make: Callable[[], wb.Features]) -> wb.Features:
    if not path.exists():
        make().save(path)
    return wb.Features.load(path)


def features_of(run: wb.Run) -> wb.Features:
    path = run.path / "features" / f"test-five-head-{TEST_PER_CLASS}-per-class.npz"
    known = {"run": str(run.path), "weights_sha256": run.weights_sha256}
    return kept_features(path, lambda: wb.extract(run.method(), run.dataset("test", per_class=TEST_PER_CLASS), **known))


# -- all of it ---------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/real_text"))
    parser.add_argument("--untrained", action="store_true", help="end before LIFT is trained")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"so many trainings of each arm (default {SEEDS})")
    arguments = parser.parse_args()
    out = arguments.out
    where = out / "data" / "tiny_imagenet_lt100.toml"
    if not where.exists():
        wb.import_dataset(PHOTOS / "manifest.csv", where.stem, splits={"val": "test"}, val=5, out=where.parent)
    manifest = wb.Manifest.load(where)
    photographs = {view: torch.from_numpy(kept_photographs(out, view)) for view in VIEWS}
    text = {prompt: load_vectors(prompt, manifest.classes.names).vectors for prompt in PROMPTS}

    show_variants(photographs[SHARP], text)
    view, direction = choose(photographs, text[PROMPTS[0]])
    rest = np.setdiff1d(np.arange(1000), tested_classes())
    projections = {p: fit_projection(photographs[view][rest], text[p][rest], direction) for p in PROMPTS}
    test = wb.LongTailDataset(manifest, "test", root=PHOTOS)
    untrained = []
    for prompt, projection in projections.items():
        method = begin("text", manifest.classes, projection, seed=0, prompt=prompt)
        path = out / "features" / f"test-centre-{prompt}-{view}-{direction}.npz".replace(" ", "_")
        untrained.append(kept_features(path, lambda method=method: wb.extract(method, test, views="centre")))
    print("\n100-way accuracy on Tiny-ImageNet-LT, nothing trained\n")
    print(wb.group_report(untrained[0], compare=untrained[1], names=PROMPTS), flush=True)
    if arguments.untrained:
        return

    arms = ("text", "class means")
    tested: dict[str, list[wb.Features]] = {arm: [] for arm in arms}
    for seed in range(arguments.seeds):
        for arm in arms:
            run = train_or_resume(
                out / f"{arm}-{seed}".replace(" ", "_"), arm, manifest, projections[PROMPTS[0]], seed=seed
            )
            if run.status["status"] != "finished":
                return  # stopped by the user; the next start resumes it
            tested[arm].append(features_of(run))
    report = wb.group_report(tested["text"], compare=tested["class means"], names=arms)
    print("\nLIFT begun from text and from class means\n")
    print(report)
    print(report.save(out / "text-against-class_means.pdf", overwrite=True))


if __name__ == "__main__":
    main()
