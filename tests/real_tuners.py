"""The README's table of tuners and prompts on real photographs: LIFT with other weights trained, and prompt methods.

    python -m tests.real_tuners [--out runs/real_tuners]       (`make real-tuners`)

A short recipe, meant to be made again on two cores: every second class of Tiny-ImageNet-LT by frequency (50, with 500
to 5 images), one epoch (LPT: one for each phase) in batches of 32 at the photographs' own 64 px, three seeds, centre
crops. Each arm's lr is the one of a grid with the best mean class accuracy on val with seed 0, climbing from LIFT's
0.01 or, for prompt methods and the linear probe, from the middle of their wider grid. Head, loss and initialisation of
the tuners are those of LIFT for a tower without text. Finished runs are kept, unfinished ones are gone on with.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import workbench as wb
from tests.real_photos import BACKBONE, PHOTOS, WEIGHTS, workbench
from tests.toybox_prompts import GRID as WIDE
from tests.toybox_prompts import START
from tests.toybox_tables import climb
from workbench.data import choose_classes

SIZE, EPOCHS, BATCH_SIZE, SEEDS, TEST_PER_CLASS = 64, 1, 32, (0, 1, 2), 25
NAME = "tiny_imagenet_lt100_50_classes"
TUNERS: dict[str, dict[str, Any]] = {
    "AdaptFormer": {},
    "VPT-deep": {"tuner": "vpt_deep"},
    "BitFit": {"tuner": "bitfit"},
    "partial(2)": {"tuner": "partial", "blocks": 2},
    "full": {"tuner": "full"},
}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear probe": ("linear_probe", {"augment": True}),
    "VPT": ("vpt", {}),
    "LPT": ("lpt", {}),
    "GNM-PT": ("gnm_pt", {}),
    "LT-DPT": ("lt_dpt", {}),
}
ARMS = {name: ("lift", options) for name, options in TUNERS.items()} | METHODS
GROUPS = ("all", "many", "medium", "few")


def measure(job: tuple[str, float, int], *, out: Path) -> tuple[float, wb.Features]:
    """One run: its mean class accuracy on val, in [0, 1], and its test features."""
    name, lr, seed = job
    manifest = wb.Manifest.load(out / "data" / f"{NAME}.toml")
    data = {split: wb.LongTailDataset(manifest, split, root=PHOTOS) for split in ("train", "val")}
    backbone = wb.load_backbone(BACKBONE, weights=WEIGHTS, input_size=SIZE)
    kind, options = ARMS[name]
    method = wb.create_method(kind, backbone, manifest.classes, seed=seed, **options)
    stages = [replace(s.shortened(EPOCHS), batch_size=BATCH_SIZE, lr=lr) for s in method.stages(manifest)]
    path = out / f"{name}-lr{lr}-seed{seed}"
    run = wb.fit(method, data["train"], data["val"], out=path, seed=seed, stages=stages, existing="continue")
    file = path / "features" / f"test-centre-head-per_class{TEST_PER_CLASS}.npz"
    if not file.exists():
        test = wb.LongTailDataset(manifest, "test", root=PHOTOS, per_class=TEST_PER_CLASS)
        wb.extract(run.method(), test, views="centre").save(file)
    score = float(run.metrics["val_mean_class"].iloc[-1])
    print(f"{path.name}: val {100 * score:.1f}", flush=True)
    return score, wb.Features.load(file)


def choose_lr(name: str, *, out: Path) -> tuple[float, dict[float, float]]:
    def score(lr: float) -> float:
        return measure((name, lr, SEEDS[0]), out=out)[0]

    return climb(score, WIDE, START) if name in METHODS else climb(score)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/real_tuners"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    given = parser.parse_args()
    out = given.out
    if not (out / "data" / f"{NAME}.toml").exists():
        name = ("--name", "tiny_imagenet_lt100", "--split", "val=test", "--val", 5, "--out", out / "data")
        workbench("data", "import", PHOTOS / "manifest.csv", *name)
        whole = wb.Manifest.load(out / "data" / "tiny_imagenet_lt100.toml")
        choose_classes(whole, np.argsort(-whole.classes.counts, kind="stable")[::2]).save(out / "data")
    with ProcessPoolExecutor(given.jobs) as pool:
        chosen = dict(zip(ARMS, pool.map(partial(choose_lr, out=out), ARMS), strict=True))
        jobs = [(name, chosen[name][0], seed) for name in ARMS for seed in SEEDS]
        found = dict(zip(jobs, pool.map(partial(measure, out=out), jobs), strict=True))
    lrs = {name: lr for name, (lr, _) in chosen.items()}
    for name, (lr, scores) in chosen.items():
        tried = ", ".join(f"{each}: {100 * scores[each]:.1f}" for each in sorted(scores))
        print(f"{name}: lr {lr} (val, %: {tried})")
    features = {name: [found[name, lrs[name], seed][1] for seed in SEEDS] for name in ARMS}
    print("\n| tuner or method | lr | all | many | medium | few |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in ARMS:
        report = wb.group_report(features[name])
        print(f"| {name} | {lrs[name]} | " + " | ".join(f"{100 * report.accuracy[g]:.1f}" for g in GROUPS) + " |")
    print("\n| AdaptFormer minus | all [95 %, classes paired] | few | could have shown (few) |")
    print("| --- | ---: | ---: | ---: |")
    for name in list(ARMS)[1:]:
        differences = wb.group_report(features["AdaptFormer"], compare=features[name]).differences
        cells = [
            f"{100 * d.estimate:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
            for d in (differences["all"], differences["few"])
        ]
        print(f"| {name} | {' | '.join(cells)} | {100 * differences['few'].smallest_detectable:.1f} |")


if __name__ == "__main__":
    main()
