"""LPT's Tables 1, 2 and 8 and LT-DPT's Table 4 on `toybox_lt` with `toybox_vit`, measured, whatever they show.

    python -m tests.toybox_prompts [--out runs/toybox_prompts]       (`make reproduce`)

Trainings of 5 epochs in batches of 32 (LPT's phase 2: 5 more after phase 1), without warm-up, whose first epoch would
be one of five at a rate near 0; centre crops; three seeds. The lr of an arm is the one of a grid with the best mean
class accuracy on val after one epoch with seed 0, climbing from the middle: prompts learn slowly and VPT's own grid is
wide. Linear probes see the same augmented images as the prompts. Finished runs are kept, unfinished ones are gone on
with. Writes claims.csv and prints the tables of README.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process per core, each with one thread: twice as fast as the reverse

import numpy as np

import workbench as wb
from tests.toybox_lift import (
    BATCH_SIZE,
    DATA,
    EPOCHS,
    GROUPS,
    SEEDS,
    Values,
    accuracy_cells,
    compared,
    print_claims,
    verdict,
)
from tests.toybox_tables import climb
from workbench import metrics

TOWER = "toybox_vit"
# From below GNM-PT's 0.005 * 32 / 128 over LPT's 0.02 * 32 / 256 to above VPT's 5 * 32 / 256, whose grid goes on to 50.
GRID = (0.00004, 0.00016, 0.000625, 0.0025, 0.01, 0.04, 0.16, 0.64, 2.56)
START = 0.04


@dataclass(frozen=True)
class Arm:
    method: str
    options: dict[str, Any]
    paper: Values
    after: str | None = None  # the arm whose run of the same seed it continues


def values(*percent: float) -> Values:
    return {group: (value,) for group, value in zip(GROUPS, percent, strict=True)}


BALANCED = {"sampler": "class_aware"}
PHASE_1 = {"phases": "shared"}
ARMS = {  # Places-LT, ViT-B/16 of ImageNet-21k; the last three CIFAR-100-LT (200), many / medium / few as printed
    "linear probe": Arm("linear_probe", {"augment": True}, values(33.29, 46.48, 29.45, 18.77)),
    "VPT": Arm("vpt", {}, values(37.52, 50.42, 33.78, 23.29)),  # medium: Table 8; Table 1 has 32.78, out of line
    "linear probe, balanced": Arm("linear_probe", {"augment": True} | BALANCED, values(41.33, 49.47, 41.31, 27.51)),
    "VPT, balanced": Arm("vpt", BALANCED, values(44.17, 45.79, 46.73, 36.18)),
    "LPT phase 1, CE": Arm("lpt", PHASE_1 | {"phase1_loss": "cross_entropy"}, values(49.10, 49.62, 51.53, 43.25)),
    "LPT phase 1": Arm("lpt", PHASE_1, values(49.41, 46.89, 52.54, 47.32)),
    "LPT phase 2": Arm("lpt", {"phases": "group"}, values(50.07, 49.27, 52.31, 46.88), after="LPT phase 1"),
    "GNM-PT": Arm("gnm_pt", {}, values(88.3, 89.7, 89.6, 84.5)),
    "LT-DPT, foreground": Arm("lt_dpt", {"background": False}, values(88.4, 90.4, 89.5, 84.5)),
    "LT-DPT": Arm("lt_dpt", {}, values(89.0, 91.0, 90.1, 85.2)),
}
TABLES = {
    "LPT Table 1": ("linear probe", "VPT", "linear probe, balanced", "VPT, balanced"),
    "LPT Table 8": ("linear probe", "VPT", "linear probe, balanced", "LPT phase 1, CE", "LPT phase 1", "LPT phase 2"),
    "LT-DPT Table 4": ("GNM-PT", "LT-DPT, foreground", "LT-DPT"),
}
CLAIMS = [  # table, first, second
    ("LPT Table 1", "VPT", "linear probe"),
    ("LPT Table 1", "VPT, balanced", "linear probe, balanced"),
    ("LPT Table 1", "VPT, balanced", "VPT"),
    ("LPT Table 8", "LPT phase 1, CE", "linear probe, balanced"),
    ("LPT Table 8", "LPT phase 1", "LPT phase 1, CE"),
    ("LPT Table 8", "LPT phase 2", "LPT phase 1"),
    ("LT-DPT Table 4", "LT-DPT, foreground", "GNM-PT"),
    ("LT-DPT Table 4", "LT-DPT", "LT-DPT, foreground"),
    ("LT-DPT Table 4", "LT-DPT", "GNM-PT"),
]


def fit(name: str, lr: float, seed: int, epochs: int, out: Path, before: Path | None = None) -> wb.Run:
    arm = ARMS[name]
    manifest = wb.Manifest.load(DATA)
    train, val = (wb.LongTailDataset(manifest, split) for split in ("train", "val"))
    warm_start = wb.Run.load(before).method().state() if before else None
    backbone = wb.load_backbone(TOWER)
    method = wb.create_method(arm.method, backbone, manifest.classes, warm_start=warm_start, seed=seed, **arm.options)
    stages = [
        replace(stage.shortened(epochs), batch_size=BATCH_SIZE, lr=lr, warmup_epochs=0)
        for stage in method.stages(manifest)
    ]
    return wb.fit(method, train, val, out=out, seed=seed, stages=stages, existing="continue")


def choose_lr(name: str, *, out: Path) -> dict[str, tuple[float, dict[float, float]]]:
    """Arm, and the arms that continue it -> lr, and the val accuracies of those that were tried."""

    def search(arm: str, lr: float) -> Path:
        return out / "search" / f"{arm}-lr{lr}"

    def score(lr: float, arm: str, before: Path | None) -> float:
        return float(fit(arm, lr, SEEDS[0], 1, search(arm, lr), before).metrics["val_mean_class"].iloc[-1])

    found = {name: climb(partial(score, arm=name, before=None), GRID, START)}
    for following, arm in ARMS.items():
        if arm.after == name:
            before = search(name, found[name][0])
            found[following] = climb(partial(score, arm=following, before=before), GRID, START)
    for each, (lr, scores) in found.items():
        tried = ", ".join(f"{rate}: {100 * scores[rate]:.1f}" for rate in sorted(scores))
        print(f"{each}: lr {lr} (val after one epoch, %: {tried})", flush=True)
    return found


def measure(job: tuple[str, int], *, lrs: dict[str, float], out: Path) -> Path:
    """The run of an arm, and of the one that it continues, with features of train and test."""
    name, seed = job
    before = measure((after, seed), lrs=lrs, out=out) if (after := ARMS[name].after) else None
    path = out / f"{name}-lr{lrs[name]}-seed{seed}"
    if not (path / "features" / "test.npz").exists():
        run = fit(name, lrs[name], seed, EPOCHS, path, before)
        for split in ("train", "test"):
            features = wb.extract(run.method(), wb.LongTailDataset(wb.Manifest.load(DATA), split), views="centre")
            features.save(path / "features" / f"{split}.npz")
        print(f"{path.name}: test {100 * features.correct.mean():.1f}", flush=True)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/toybox_prompts"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    given = parser.parse_args()
    out = given.out
    out.mkdir(parents=True, exist_ok=True)
    file = out / "lrs.json"
    continued = {arm.after for arm in ARMS.values()}
    slowest_first = sorted(ARMS, key=lambda name: ARMS[name].method != "lpt")
    with ProcessPoolExecutor(given.jobs) as pool:
        if file.exists():
            lrs = json.loads(file.read_text())
        else:
            searched = [name for name in slowest_first if not ARMS[name].after]
            chosen = pool.map(partial(choose_lr, out=out), searched)
            lrs = {name: lr for found in chosen for name, (lr, _) in found.items()}
            file.write_text(json.dumps(lrs, indent=1))
        jobs = [(name, seed) for name in slowest_first if name not in continued for seed in SEEDS]
        list(pool.map(partial(measure, lrs=lrs, out=out), jobs))
    paths = {name: [measure((name, seed), lrs=lrs, out=out) for seed in SEEDS] for name in ARMS}
    features = {
        split: {name: [wb.Features.load(path / "features" / f"{split}.npz") for path in paths[name]] for name in ARMS}
        for split in ("train", "test")
    }
    print_tables(features["test"], lrs)
    rows = [
        {"where": where, **row, "form": "+.1f"}
        for where, first, second in CLAIMS
        for row in compared(features["test"], first, second, ARMS[first].paper, ARMS[second].paper, GROUPS)
    ]
    rows += list(distances(features["train"], features["test"]))
    print_claims(rows, out)


def print_tables(measured: dict[str, list[wb.Features]], lrs: dict[str, float]) -> None:
    for title, names in TABLES.items():
        print(f"\n{title}: mean of {len(SEEDS)} seeds, % (paper)")
        print("| arm | lr | all | many | medium | few |\n| --- | ---: | ---: | ---: | ---: | ---: |")
        for name in names:
            print(f"| {name} | {lrs[name]} | {accuracy_cells(measured[name], ARMS[name].paper)} |")


def distances(train: dict[str, list[wb.Features]], test: dict[str, list[wb.Features]]) -> Iterator[dict[str, Any]]:
    """LPT's Table 2, VPT minus frozen, on test images; prints the table, gives the claims.

    Inner-class distances are compared class by class between L2-normalised features, and after division by the mean
    distance of class means (a class's gamma), because raw units differ between features. K-NN: k = 20, cosine, train as
    the bank (the paper leaves all open).
    """
    frozen = "linear probe"  # its features are the frozen tower's
    printed = {"R": (2.36, 1.82), "gamma": (0.171, 0.128), "K-NN": (30.80, 31.90)}
    print("\nLPT Table 2: test images, mean of seeds (paper, Places-LT)")
    print("| | R, raw | R, L2-normalised | gamma, raw | gamma, L2-normalised | K-NN, % |\n| --- " + "| ---: " * 5 + "|")
    gammas, inner, neighbours = {}, {}, {}
    for name in (frozen, "VPT", "VPT, balanced"):
        seeds = test[name][:1] if name == frozen else test[name]
        banks = train[name][:1] if name == frozen else train[name]
        raw, unit = ([wb.separability(each, normalize=normalize) for each in seeds] for normalize in (False, True))
        knn = [wb.knn_accuracy(bank, each, k=20) for bank, each in zip(banks, seeds, strict=True)]
        gammas[name] = np.mean([each.intra / each.inter for each in raw], axis=0)  # (C,)
        inner[name] = np.mean([each.intra for each in unit], axis=0)  # (C,)
        neighbours[name] = np.stack([each.predicted["long-tailed", 20] for each in knn])
        place = {frozen: 0, "VPT": 1}.get(name)
        said = {key: "" if place is None else f" ({pair[place]})" for key, pair in printed.items()}
        print(
            f"| {'frozen' if name == frozen else name} "
            f"| {np.mean([each.intra_mean for each in raw]):.3f}{said['R']} "
            f"| {np.mean([each.intra_mean for each in unit]):.3f} "
            f"| {np.mean([each.gamma for each in raw]):.3f}{said['gamma']} "
            f"| {np.mean([each.gamma for each in unit]):.3f} "
            f"| {100 * np.mean([each.accuracy for each in knn]):.1f}{said['K-NN']} |"
        )
    labels, groups = test[frozen][0].labels, np.asarray(test[frozen][0].classes.groups)
    for name in ("VPT", "VPT, balanced"):
        change = metrics.paired_values(gammas[name], gammas[frozen])
        accuracy = metrics.paired_difference(neighbours[name], neighbours[frozen], labels, groups)
        closer = metrics.paired_values(inner[name], inner[frozen])
        rows = (("R", closer, 1, "+.3f"), ("gamma", change, 1, "+.3f"), ("K-NN", accuracy, 100, "+.1f"))
        for what, difference, scale, form in rows:
            paper = printed[what][1] - printed[what][0]
            yield {
                "where": "LPT Table 2",
                "first": f"{name}, {what}",
                "second": "frozen",
                "group": "all",
                "paper": f"{paper:{form}}",
                "difference": scale * difference.estimate,
                "low": scale * difference.low,
                "high": scale * difference.high,
                "could_have_shown": scale * difference.smallest_detectable,
                "form": form,
                "verdict": verdict(difference, [paper]),
            }


if __name__ == "__main__":
    main()
