"""The README's table on real photographs: LIFT, its full fine-tuning and a linear probe on Tiny-ImageNet-LT.

    python -m tests.real_photos [--out runs/real]       (`make real`)

It runs nothing but the `workbench` commands that it prints, two at a time with half of the cores each. Finished runs
are kept, unfinished ones are resumed: it may be stopped and started again at any time. More than an hour on two cores.

The lr of full fine-tuning is chosen on val from LIFT's grid (App. A): every lr for one epoch with seed 0.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import workbench as wb
from workbench.methods.lift import FULL_LR_GRID

SHARED = Path(os.environ.get("WORKBENCH_SHARED", Path(__file__).parents[2] / "shared"))
PHOTOS = SHARED / "data" / "tiny_imagenet_lt100"
BACKBONE = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
WEIGHTS = SHARED / "data" / "weights" / "vit_tiny_patch16_224.safetensors"
SIZE, EPOCHS, SEEDS, TEST_PER_CLASS = 112, 3, (0, 1, 2), 25
JOBS = 2

T = TypeVar("T")


def workbench(*arguments: object) -> None:
    words = [str(argument) for argument in arguments]
    print("workbench", *words, flush=True)
    threads = str(max((os.cpu_count() or 1) // JOBS, 1))
    shared_out = {**os.environ, "OMP_NUM_THREADS": threads}
    subprocess.run([sys.executable, "-m", "workbench", *words], check=True, env=shared_out)


def together(jobs: list[Callable[[], T]]) -> list[T]:
    with ThreadPoolExecutor(JOBS) as pool:
        return list(pool.map(lambda job: job(), jobs))


def train(out: Path, method: str, *options: object, epochs: int = EPOCHS, seed: int = 0) -> wb.Run:
    if not (out / "config.json").exists():
        data = out.parent / "data" / "tiny_imagenet_lt100.toml"
        tower = ("--backbone", BACKBONE, "--weights", WEIGHTS, "--input-size", SIZE)
        place = ("--data", data, "--root", PHOTOS, "--out", out)
        workbench("fit", "--method", method, *options, *tower, *place, "--epochs", epochs, "--seed", seed)
    elif wb.Run.load(out).status["status"] != "finished":
        workbench("fit", "--resume", out)
    return wb.Run.load(out)


def choose_lr(out: Path) -> float:
    """The lr of the paper's grid with the best mean class accuracy on val after one epoch."""

    def score(lr: float) -> float:
        run = train(out / f"grid-{lr}", "lift", "--set", "tuner=full", "--lr", lr, epochs=1)
        return float(run.metrics["val_mean_class"].iloc[-1])

    scores = together([partial(score, lr) for lr in FULL_LR_GRID])
    print({lr: round(value, 4) for lr, value in zip(FULL_LR_GRID, scores, strict=True)}, flush=True)
    return max(zip(scores, FULL_LR_GRID, strict=True))[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/real"))
    out = parser.parse_args().out
    if not (out / "data" / "tiny_imagenet_lt100.toml").exists():
        name = ("--name", "tiny_imagenet_lt100", "--split", "val=test", "--val", 5, "--out", out / "data")
        workbench("data", "import", PHOTOS / "manifest.csv", *name)
    lr = choose_lr(out)
    full = ("--set", "tuner=full", "--lr", lr)
    options: dict[str, tuple[object, ...]] = {"linear_probe": (), "lift": (), f"full-{lr}": full}
    arms = {name: [out / f"{name}-{seed}" for seed in SEEDS] for name in options}
    limit = ("--per-class", TEST_PER_CLASS)

    def arm(name: str, seed: int) -> None:
        folder = arms[name][seed]
        train(folder, "linear_probe" if name == "linear_probe" else "lift", *options[name], seed=seed)
        workbench("extract", folder, *limit)

    together([partial(arm, name, seed) for name in reversed(options) for seed in SEEDS])
    for other in ("linear_probe", f"full-{lr}"):
        workbench("report", *arms["lift"], "--against", *arms[other], *limit, "--out", out / f"lift-against-{other}")


if __name__ == "__main__":
    main()
