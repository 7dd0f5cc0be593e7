"""The README's table on real photographs: LIFT, its full fine-tuning and a linear probe on Tiny-ImageNet-LT.

    python -m tests.real_photos [--out runs/real]       (`make real`)

It runs nothing but the `workbench` commands that it prints. Finished runs are kept, unfinished ones are resumed, so it
may be stopped and started again at any time. About an hour and a half on two cores.

The lr of full fine-tuning is chosen on val from LIFT's grid (App. A): every lr for one epoch, then the best two for the
whole length, all with seed 0.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import workbench as wb
from workbench.methods.lift import FULL_LR_GRID

SHARED = Path(os.environ.get("WORKBENCH_SHARED", Path(__file__).parents[2] / "shared"))
PHOTOS = SHARED / "data" / "tiny_imagenet_lt100"
BACKBONE = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
WEIGHTS = SHARED / "data" / "weights" / "vit_tiny_patch16_224.safetensors"
SIZE, EPOCHS, SEEDS, TEST_PER_CLASS = 112, 3, (0, 1, 2), 25


def workbench(*arguments: object) -> None:
    words = [str(argument) for argument in arguments]
    print("workbench", *words, flush=True)
    subprocess.run([sys.executable, "-m", "workbench", *words], check=True)


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
    """The lr of the paper's grid with the best mean class accuracy on val."""

    def score(lr: float, epochs: int) -> float:
        folder = out / f"full-{lr}-0" if epochs == EPOCHS else out / f"grid-{lr}"
        run = train(folder, "lift", "--set", "tuner=full", "--lr", lr, epochs=epochs)
        found = float(run.metrics["val_mean_class"].iloc[-1])
        print(f"full fine-tuning, lr {lr}, {epochs} epochs: mean class accuracy on val {found:.3f}", flush=True)
        return found

    ranked = sorted(FULL_LR_GRID, key=lambda lr: score(lr, 1), reverse=True)
    return max(ranked[:2], key=lambda lr: score(lr, EPOCHS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/real"))
    out = parser.parse_args().out
    if not (out / "data" / "tiny_imagenet_lt100.toml").exists():
        name = ("--name", "tiny_imagenet_lt100", "--split", "val=test", "--val", 5, "--out", out / "data")
        workbench("data", "import", PHOTOS / "manifest.csv", *name)
    for seed in SEEDS:
        train(out / f"linear_probe-{seed}", "linear_probe", seed=seed)
        train(out / f"lift-{seed}", "lift", seed=seed)
    lr = choose_lr(out)
    for seed in SEEDS:
        train(out / f"full-{lr}-{seed}", "lift", "--set", "tuner=full", "--lr", lr, seed=seed)
    arms = {name: [out / f"{name}-{seed}" for seed in SEEDS] for name in ("linear_probe", "lift", f"full-{lr}")}
    limit = ("--per-class", TEST_PER_CLASS)
    for other in ("linear_probe", f"full-{lr}"):
        workbench("report", *arms["lift"], "--against", *arms[other], *limit, "--out", out / f"lift-against-{other}")


if __name__ == "__main__":
    main()
