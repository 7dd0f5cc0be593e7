"""BALLAD's Tables 7 and 8 on `toybox_lt` with `toybox_clip`, measured, whatever they show: where and how to balance.

    python -m tests.toybox_ballad [--out runs/toybox_ballad]       (`make reproduce`)

Phase A: both towers, 5 epochs in batches of 32, from instance-balanced or class-balanced draws. Phase B: the linear
adapter on the features of that run, 10 epochs in batches of 32, centre crops. Three seeds. lr of phase A: the one of a
grid with the best mean class accuracy on val after two epochs with seed 0 (the authors' schedule has lr 0 in the last),
climbing from 0.001; of phase B: likewise after its 10 epochs, climbing from the paper's 0.2. Finished runs are kept,
unfinished ones are gone on with. Writes claims.csv and prints the tables of README.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process per core, each with one thread: twice as fast as the reverse

import workbench as wb
from tests.toybox_lift import (
    BATCH_SIZE,
    DATA,
    EPOCHS,
    GROUPS,
    SEEDS,
    TOWER,
    Values,
    accuracy_cells,
    compared,
    print_claims,
)
from tests.toybox_tables import climb

GRID_A, START_A = (0.00001, 0.0001, 0.001, 0.01), 0.001
GRID_B, START_B = (0.002, 0.02, 0.2, 2.0, 20.0), 0.2
EPOCHS_B = 10


@dataclass(frozen=True)
class Arm:
    """How each phase draws its images; what the paper reports on ImageNet-LT, and on Places-LT where it does."""

    a: str
    b: str
    paper: Values


def values(*columns: tuple[float, ...]) -> Values:
    return dict(zip(GROUPS, columns, strict=True))


INSTANCE, BALANCED = "shuffle", "class_aware"
ARMS = {  # all, many, medium, few: (ImageNet-LT, Places-LT); Table 8 is of ImageNet-LT alone
    "A -, B -": Arm(INSTANCE, INSTANCE, values((62.6, 38.2), (77.3, 52.7), (57.4, 32.9), (39.0, 23.4))),
    "A balanced, B -": Arm(BALANCED, INSTANCE, values((63.3, 38.2), (76.6, 51.3), (58.4, 33.2), (42.7, 25.5))),
    "A balanced, B balanced": Arm(BALANCED, BALANCED, values((66.9, 45.5), (70.7, 44.6), (66.2, 46.7), (58.5, 44.1))),
    "A -, B balanced (BALLAD)": Arm(INSTANCE, BALANCED, values((67.2, 46.5), (71.0, 46.7), (66.3, 48.0), (59.5, 42.7))),
    "B square-root": Arm(INSTANCE, "square_root", values((66.0,), (75.2,), (62.8,), (50.9,))),
    "B mix-balanced": Arm(INSTANCE, "mix_balanced", values((67.1,), (72.6,), (64.9,), (59.1,))),
}
BALLAD = "A -, B balanced (BALLAD)"
ZERO_SHOT, PHASE_A = "zero-shot", "phase A alone"
CLAIMS = [  # table, first, second
    ("Table 7", BALLAD, "A -, B -"),
    ("Table 7", BALLAD, "A balanced, B balanced"),
    ("Table 7", BALLAD, "A balanced, B -"),
    ("Table 7", "A balanced, B -", "A -, B -"),
    ("Table 8", BALLAD, "B square-root"),
    ("Table 8", BALLAD, "B mix-balanced"),
]


def fit(out: Path, lr: float, seed: int, epochs: int, before: Path | None = None, **options: Any) -> wb.Run:
    manifest = wb.Manifest.load(DATA)
    train, val = (wb.LongTailDataset(manifest, split) for split in ("train", "val"))
    warm_start = wb.Run.load(before).method().state() if before else None
    backbone, text = wb.load_backbone(TOWER), wb.load_text_tower(TOWER)
    method = wb.create_method(
        "ballad", backbone, manifest.classes, text=text, warm_start=warm_start, seed=seed, **options
    )
    stages = [replace(stage.shortened(epochs), batch_size=BATCH_SIZE, lr=lr) for stage in method.stages(manifest)]
    return wb.fit(method, train, val, out=out, seed=seed, stages=stages, existing="continue")


def val_accuracy(run: wb.Run) -> float:
    return float(run.metrics["val_mean_class"].iloc[-1])


def fit_a(sampler: str, lr: float, seed: int, out: Path, epochs: int = EPOCHS) -> wb.Run:
    where = out if epochs == EPOCHS else out / "search"
    return fit(where / f"A-{sampler}-lr{lr}-seed{seed}", lr, seed, epochs, phases="A", sampler_a=sampler)


def fit_b(arm: Arm, lr: float, seed: int, out: Path, lrs_a: dict[str, float]) -> wb.Run:
    before = out / f"A-{arm.a}-lr{lrs_a[arm.a]}-seed{seed}"
    path = out / f"B-{arm.a}-{arm.b}-lr{lr}-seed{seed}"
    return fit(path, lr, seed, EPOCHS_B, before, phases="B", sampler_b=arm.b, cached=True)


def choose_a(sampler: str, *, out: Path) -> float:
    lr, scores = climb(lambda lr: val_accuracy(fit_a(sampler, lr, SEEDS[0], out, 2)), GRID_A, START_A)
    return told(f"phase A, {sampler}", lr, scores)


def choose_b(name: str, *, out: Path, lrs_a: dict[str, float]) -> float:
    lr, scores = climb(lambda lr: val_accuracy(fit_b(ARMS[name], lr, SEEDS[0], out, lrs_a)), GRID_B, START_B)
    return told(name, lr, scores)


def told(name: str, lr: float, scores: dict[float, float]) -> float:
    tried = ", ".join(f"{each}: {100 * scores[each]:.1f}" for each in sorted(scores))
    print(f"{name}: lr {lr} (val, %: {tried})", flush=True)
    return lr


def tested(run: wb.Run) -> wb.Features:
    file = run.path / "features" / "test.npz"
    if not file.exists():
        features = wb.extract(run.method(), wb.LongTailDataset(wb.Manifest.load(DATA), "test"), views="centre")
        features.save(file)
        print(f"{run.path.name}: test {100 * features.correct.mean():.1f}", flush=True)
    return wb.Features.load(file)


def measure_a(job: tuple[str, int], *, out: Path, lrs_a: dict[str, float]) -> wb.Features:
    sampler, seed = job
    return tested(fit_a(sampler, lrs_a[sampler], seed, out))


def measure_b(job: tuple[str, int], *, out: Path, lrs_a: dict[str, float], lrs_b: dict[str, float]) -> wb.Features:
    name, seed = job
    return tested(fit_b(ARMS[name], lrs_b[name], seed, out, lrs_a))


def zero_shot(out: Path) -> wb.Features:
    manifest = wb.Manifest.load(DATA)
    method = wb.create_method("zero_shot", wb.load_backbone(TOWER), manifest.classes, text=wb.load_text_tower(TOWER))
    run = wb.fit(method, wb.LongTailDataset(manifest, "train"), out=out / "zero_shot", existing="continue")
    return tested(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/toybox_ballad"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    given = parser.parse_args()
    out = given.out
    out.mkdir(parents=True, exist_ok=True)
    file = out / "lrs.json"
    lrs: dict[str, dict[str, float]] = json.loads(file.read_text()) if file.exists() else {}
    samplers = (INSTANCE, BALANCED)
    with ProcessPoolExecutor(given.jobs) as pool:
        if "A" not in lrs:
            lrs["A"] = dict(zip(samplers, pool.map(partial(choose_a, out=out), samplers), strict=True))
            file.write_text(json.dumps(lrs, indent=1))
        first = [(sampler, seed) for seed in SEEDS for sampler in samplers]
        after_a = dict(zip(first, pool.map(partial(measure_a, out=out, lrs_a=lrs["A"]), first), strict=True))
        if "B" not in lrs:
            lrs["B"] = dict(zip(ARMS, pool.map(partial(choose_b, out=out, lrs_a=lrs["A"]), ARMS), strict=True))
            file.write_text(json.dumps(lrs, indent=1))
        jobs = [(name, seed) for seed in SEEDS for name in ARMS]
        run = partial(measure_b, out=out, lrs_a=lrs["A"], lrs_b=lrs["B"])
        found = dict(zip(jobs, pool.map(run, jobs), strict=True))
    measured = {name: [found[name, seed] for seed in SEEDS] for name in ARMS}
    others = {ZERO_SHOT: [zero_shot(out)], PHASE_A: [after_a[INSTANCE, seed] for seed in SEEDS]}
    print(f"\nlr of phase A: {lrs['A']}")
    print(f"\n| mean of {len(SEEDS)} seeds, % (paper: ImageNet-LT / Places-LT) | lr of B | all | many | medium | few |")
    print("| --- " + "| ---: " * 5 + "|")
    for name, features in {**others, **measured}.items():
        paper = ARMS[name].paper if name in ARMS else None
        print(f"| {name} | {lrs['B'].get(name, '')} | {accuracy_cells(features, paper)} |")
    rows = []
    for table, one, other in CLAIMS:
        paper, against = (
            {g: v[: 1 if table == "Table 8" else 2] for g, v in ARMS[name].paper.items()} for name in (one, other)
        )
        rows += [{"where": table, **row} for row in compared(measured, one, other, paper, against, GROUPS)]
    print_claims(rows, out)


if __name__ == "__main__":
    main()
