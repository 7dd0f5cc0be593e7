"""The README's table of prompt methods on real photographs, beside a linear probe and LIFT.

    python -m tests.real_prompts [--out runs/real_prompts]       (`make real-prompts`)

The short recipe of `tests.real_tuners` on half of its classes: every fourth class of Tiny-ImageNet-LT by frequency (25,
with 500 to 5 images), one epoch (LPT: one for each phase) in batches of 32 at the photographs' own 64 px, three seeds,
centre crops. Each arm's lr is the one of a grid with the best mean class accuracy on val with seed 0, climbing from the
middle. Finished runs are kept, unfinished ones are gone on with.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import workbench as wb
from tests.real_tuners import SEEDS, import_photos, print_table, short_run
from tests.toybox_prompts import GRID
from tests.toybox_tables import climb

START = 0.0025
NAME = "tiny_imagenet_lt100_25_classes"
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "LPT": ("lpt", {}),
    "LT-DPT": ("lt_dpt", {}),
    "GNM-PT": ("gnm_pt", {}),
    "VPT": ("vpt", {}),
    "LIFT": ("lift", {}),
    "linear probe": ("linear_probe", {"augment": True}),
}


def measure(job: tuple[str, float, int], *, out: Path) -> tuple[float, wb.Features]:
    name, lr, seed = job
    path = out / f"{name}-lr{lr}-seed{seed}"
    return short_run(*ARMS[name], lr, seed, data=out / "data" / f"{NAME}.toml", out=path)


def choose_lr(name: str, *, out: Path) -> tuple[float, dict[float, float]]:
    return climb(lambda lr: measure((name, lr, SEEDS[0]), out=out)[0], GRID, START)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/real_prompts"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    given = parser.parse_args()
    out = given.out
    if not (out / "data" / f"{NAME}.toml").exists():
        import_photos(out, 4)
    with ProcessPoolExecutor(given.jobs) as pool:
        chosen = dict(zip(ARMS, pool.map(partial(choose_lr, out=out), ARMS), strict=True))
        jobs = [(name, chosen[name][0], seed) for name in ARMS for seed in SEEDS]
        found = dict(zip(jobs, pool.map(partial(measure, out=out), jobs), strict=True))
    lrs = {name: lr for name, (lr, _) in chosen.items()}
    for name, (lr, scores) in chosen.items():
        tried = ", ".join(f"{each}: {100 * scores[each]:.1f}" for each in sorted(scores))
        print(f"{name}: lr {lr} (val, %: {tried})")
    print_table({name: [found[name, lrs[name], seed][1] for seed in SEEDS] for name in ARMS}, lrs, "LPT", "method")


if __name__ == "__main__":
    main()
