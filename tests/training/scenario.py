"""One small training that uses every part of the loop; run as a script, it is the process that tests kill.

    python scenario.py OUT [KILL_AT_STEP]

Two stages (mixup and SGD with accumulation, then AdamW with two samplers and the best epoch on val), random
augmentation, a checkpoint about every fourth step. An existing OUT is resumed.
"""

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

import workbench as wb
from workbench.methods import Method

BACKBONE = {"name": "test_vit.r160_in1k", "weights": "random", "input_size": 32}


def data(split: str) -> wb.LongTailDataset:
    return wb.LongTailDataset(wb.Manifest.load("digits_lt"), split, per_class=12, seed=3)


def method() -> Method:
    return wb.create_method("lift", wb.load_backbone(**BACKBONE), data("train").classes, seed=1, bottleneck=2, blocks=2)


def stages(built: Method) -> list[wb.Stage]:
    (recipe,) = built.stages(data("train").manifest)
    small = replace(recipe, batch_size=16, epochs=2)
    return [
        replace(small, name="mixed", mixup=0.4, micro_batch_size=6, lr=0.05),
        replace(small, name="balanced", optimiser="adamw", lr=1e-3, samplers=("shuffle", "class_aware"), select="best"),
    ]


def start(out: str | Path, **options: object) -> wb.Run:
    built = method()
    return wb.fit(built, data("train"), data("val"), out=out, seed=5, stages=stages(built), **options)


def main() -> None:
    torch.set_num_threads(1)
    out, kill_at = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None
    taken = 0

    def on_step(clock: object, parts: object) -> None:
        nonlocal taken
        taken += 1
        time.sleep(0.01)
        if taken == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    if (out / "config.json").exists():
        wb.resume(out, on_step=on_step, checkpoint_seconds=0.04)
    else:
        start(out, on_step=on_step, checkpoint_seconds=0.04)


if __name__ == "__main__":
    main()
