"""The README's table of tuners on real photographs: LIFT with other weights trained, on Tiny-ImageNet-LT.

    python -m tests.real_tuners [--out runs/real_tuners]       (`make real-tuners`)

A short recipe, meant to be made again on two cores: every second class by frequency (50, with 500 to 5 images), one
epoch in batches of 32 at the photographs' own 64 px, three seeds, centre crops. Each arm's lr is the one of a grid with
the best mean class accuracy on val with seed 0, climbing from the paper's 0.01. Head, loss and initialisation are those
of LIFT for a tower without text. Finished runs are kept, unfinished ones are gone on with.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import workbench as wb
from tests.real_photos import BACKBONE, PHOTOS, WEIGHTS, workbench
from workbench.data import choose_classes
from workbench.papers.grid import climb

SIZE, EPOCHS, BATCH_SIZE, SEEDS, TEST_PER_CLASS = 64, 1, 32, (0, 1, 2), 25
GROUPS = ("all", "many", "medium", "few")
GRID = (0.0005, 0.002, 0.01, 0.05, 0.2)  # the paper's range (App. A, Fig. 10: 0.0005 to 0.02) and above: few steps here


@dataclass(frozen=True)
class Comparison:
    """A table of README: its arms, each with method and options, their classes and learning rates."""

    what: str  # the arms are
    arms: dict[str, tuple[str, dict[str, Any]]]
    first: str  # the arm that the others are compared with
    every: int  # second (third, ...) class by frequency
    classes: int  # which leaves so many
    grid: tuple[float, ...]
    start: float  # climbing from here

    @property
    def manifest(self) -> str:
        return f"tiny_imagenet_lt100_{self.classes}_classes.toml"


TUNERS = Comparison(
    what="tuner",
    arms={
        "AdaptFormer": ("lift", {}),
        "VPT-deep": ("lift", {"tuner": "vpt_deep"}),
        "BitFit": ("lift", {"tuner": "bitfit"}),
        "partial(2)": ("lift", {"tuner": "partial", "blocks": 2}),
        "full": ("lift", {"tuner": "full"}),
    },
    first="AdaptFormer",
    every=2,
    classes=50,
    grid=GRID,
    start=0.01,
)


def measure(job: tuple[str, float, int], *, table: Comparison, out: Path) -> tuple[float, wb.Features]:
    """One run: its mean class accuracy on val, in [0, 1], and its test features."""
    name, lr, seed = job
    kind, options = table.arms[name]
    manifest = wb.Manifest.load(out / "data" / table.manifest)
    train, val = (wb.LongTailDataset(manifest, split, root=PHOTOS) for split in ("train", "val"))
    backbone = wb.load_backbone(BACKBONE, weights=WEIGHTS, input_size=SIZE)
    method = wb.create_method(kind, backbone, manifest.classes, seed=seed, **options)
    stages = [replace(s.shortened(EPOCHS), batch_size=BATCH_SIZE, lr=lr) for s in method.stages(manifest)]
    path = out / f"{name}-lr{lr}-seed{seed}"
    run = wb.fit(method, train, val, out=path, seed=seed, stages=stages, existing="continue")
    file = path / "features" / f"test-centre-head-per_class{TEST_PER_CLASS}.npz"
    if not file.exists():
        test = wb.LongTailDataset(manifest, "test", root=PHOTOS, per_class=TEST_PER_CLASS)
        wb.extract(run.method(), test, views="centre").save(file)
    score = float(run.metrics["val_mean_class"].iloc[-1])
    print(f"{path.name}: val {100 * score:.1f}", flush=True)
    return score, wb.Features.load(file)


def import_photos(out: Path, every: int) -> None:
    """The manifest of every second (third, ...) class by frequency, written into out / "data"."""
    name = ("--name", "tiny_imagenet_lt100", "--split", "val=test", "--val", 5, "--out", out / "data")
    workbench("data", "import", PHOTOS / "manifest.csv", *name)
    whole = wb.Manifest.load(out / "data" / "tiny_imagenet_lt100.toml")
    choose_classes(whole, np.argsort(-whole.classes.counts, kind="stable")[::every]).save(out / "data")


def choose_lr(name: str, *, table: Comparison, out: Path) -> tuple[float, dict[float, float]]:
    def score(lr: float) -> float:
        return measure((name, lr, SEEDS[0]), table=table, out=out)[0]

    return climb(score, table.grid, table.start)


def compare(table: Comparison, description: str, out: Path) -> None:
    """Search, train, test and print, from the command line of a script."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    given = parser.parse_args()
    out = given.out
    if not (out / "data" / table.manifest).exists():
        import_photos(out, table.every)
    with ProcessPoolExecutor(given.jobs) as pool:
        search, run = (partial(function, table=table, out=out) for function in (choose_lr, measure))
        chosen = dict(zip(table.arms, pool.map(search, table.arms), strict=True))
        jobs = [(name, chosen[name][0], seed) for name in table.arms for seed in SEEDS]
        found = dict(zip(jobs, pool.map(run, jobs), strict=True))
    lrs = {name: lr for name, (lr, _) in chosen.items()}
    for name, (lr, scores) in chosen.items():
        tried = ", ".join(f"{each}: {100 * scores[each]:.1f}" for each in sorted(scores))
        print(f"{name}: lr {lr} (val, %: {tried})")
    features = {name: [found[name, lrs[name], seed][1] for seed in SEEDS] for name in table.arms}
    print_table(features, lrs, table.first, table.what)


def print_table(features: dict[str, list[wb.Features]], lrs: dict[str, float], first: str, what: str) -> None:
    """The tables of README: accuracies of the arms, and `first` minus each of the others."""
    print(f"\n| {what} | lr | all | many | medium | few |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, found in features.items():
        report = wb.group_report(found)
        print(f"| {name} | {lrs[name]} | " + " | ".join(f"{100 * report.accuracy[g]:.1f}" for g in GROUPS) + " |")
    print(f"\n| {first} minus | all [95 %, classes paired] | few | could have shown (few) |")
    print("| --- | ---: | ---: | ---: |")
    for name in features:
        if name == first:
            continue
        differences = wb.group_report(features[first], compare=features[name]).differences
        cells = [
            f"{100 * d.estimate:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
            for d in (differences["all"], differences["few"])
        ]
        print(f"| {name} | {' | '.join(cells)} | {100 * differences['few'].smallest_detectable:.1f} |")


if __name__ == "__main__":
    compare(TUNERS, str(__doc__), Path("runs/real_tuners"))
