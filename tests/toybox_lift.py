"""LIFT's ablations on `toybox_lt` (Table 5 of its paper, and each component left out), measured, whatever they show.

    python -m tests.toybox_lift [--out runs/toybox_lift]       (`make reproduce`)

Six trainings of 5 epochs in batches of 32, each with the lr of one grid that does best on val with seed 0, then three
seeds of each; the test ensemble is a way to look at a trained run. Finished runs are kept, unfinished ones are gone on
with: it may be stopped and started again. Writes claims.csv and prints the tables of README.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process per core, each with one thread: twice as fast as the reverse

import pandas as pd

import workbench as wb
from workbench.methods import Stage

TOWER, DATA = "toybox_clip", "toybox_lt"
EPOCHS, BATCH_SIZE, LRS, SEEDS = 5, 32, (0.01, 0.03, 0.1), (0, 1, 2)
GROUPS = ("all", "many", "medium", "few")
Values = dict[str, tuple[float, ...]]  # group -> what the paper reports, on each of its data sets


@dataclass(frozen=True)
class Arm:
    """A trained run and how it is tested."""

    options: tuple[tuple[str, Any], ...]  # of `lift`
    views: str  # "centre", or "five": with LIFT's test-time ensemble


def arm(tuner: str, loss: str, initialisation: str, views: str) -> Arm:
    return Arm((("tuner", tuner), ("loss", loss), ("initialisation", initialisation)), views)


CE, LA = "cross_entropy", "logit_adjusted"
ARMS = {
    "baseline": arm("none", CE, "random", "centre"),  # cosine classifier, cross entropy
    "+ SLF": arm("adaptformer", CE, "random", "centre"),
    "+ LA": arm("adaptformer", LA, "random", "centre"),
    "+ SAI": arm("adaptformer", LA, "text", "centre"),
    "+ TTE (LIFT)": arm("adaptformer", LA, "text", "five"),
    "LIFT without SLF": arm("none", LA, "text", "five"),
    "LIFT without LA": arm("adaptformer", CE, "text", "five"),
    "LIFT without SAI": arm("adaptformer", LA, "random", "five"),
}
LIFT = "+ TTE (LIFT)"
# What the paper found for the few-shot ("tail") and all classes: ImageNet-LT, Places-LT. Tables 5, 6, 7 and 16.
PAPER = {
    "baseline": {"all": (60.9, 34.3), "many": (82.6, 53.6), "medium": (56.7, 30.5), "few": (13.8, 7.5)},
    "+ SLF": {"all": (68.9, 38.9), "many": (84.7, 55.6), "medium": (66.3, 35.3), "few": (33.7, 16.4)},
    "+ LA": {"all": (74.9, 48.7), "many": (79.7, 50.6), "medium": (74.7, 50.8), "few": (61.7, 40.5)},
    "+ SAI": {"all": (77.0, 51.5), "many": (80.2, 51.3), "medium": (76.1, 52.2), "few": (71.5, 50.5)},
    "+ TTE (LIFT)": {"all": (78.3, 52.2), "many": (81.3, 51.7), "medium": (77.4, 53.1), "few": (73.4, 50.9)},
    "LIFT without SLF": {"all": (74.4, 49.4), "many": (77.6, 49.1), "medium": (73.7, 50.3), "few": (68.0, 48.2)},
    "LIFT without LA": {"all": (71.8, 42.1), "many": (86.1, 56.7), "medium": (68.7, 38.0), "few": (42.1, 24.5)},
    "LIFT without SAI": {"all": (76.1, 49.6), "many": (80.8, 51.2), "medium": (75.9, 52.1), "few": (63.2, 41.0)},
}
CLAIMS = [  # first arm, second arm: the paper's first is better where its numbers say so
    ("+ SLF", "baseline"),
    ("+ LA", "+ SLF"),
    ("+ SAI", "+ LA"),
    ("+ TTE (LIFT)", "+ SAI"),
    (LIFT, "LIFT without SLF"),
    (LIFT, "LIFT without LA"),
    (LIFT, "LIFT without SAI"),
]


def folder(out: Path, options: tuple[tuple[str, Any], ...], lr: float, seed: int) -> Path:
    return out / "-".join([*(str(value) for _, value in options), f"lr{lr}", f"seed{seed}"])


def train(job: tuple[tuple[tuple[str, Any], ...], float, int], *, out: Path) -> float:
    """One run; its last mean class accuracy on val, in [0, 1]."""
    options, lr, seed = job
    manifest = wb.Manifest.load(DATA)
    data = {split: wb.LongTailDataset(manifest, split) for split in ("train", "val")}
    backbone, text = wb.load_backbone(TOWER), wb.load_text_tower(TOWER)
    method = wb.create_method("lift", backbone, manifest.classes, text=text, seed=seed, **dict(options))
    stages = [recipe(stage, lr) for stage in method.stages(manifest)]
    path = folder(out, options, lr, seed)
    run = wb.fit(method, data["train"], data["val"], out=path, seed=seed, stages=stages, existing="continue")
    score = float(run.metrics["val_mean_class"].iloc[-1])
    print(f"{path.name}: val {100 * score:.1f}", flush=True)
    return score


def recipe(stage: Stage, lr: float) -> Stage:
    return replace(stage.shortened(EPOCHS), batch_size=BATCH_SIZE, lr=lr)


def test(job: tuple[tuple[tuple[str, Any], ...], float, int, str], *, out: Path) -> wb.Features:
    options, lr, seed, views = job
    path = folder(out, options, lr, seed)
    file = path / "features" / f"test-{views}-head.npz"
    if not file.exists():
        dataset = wb.LongTailDataset(wb.Manifest.load(DATA), "test")
        wb.extract(wb.Run.load(path).method(), dataset, views=views).save(file)
    return wb.Features.load(file)


def verdict(difference: Any, paper: Iterable[float]) -> str:
    """Whether the paper's sign is what we measured."""
    paper = list(paper)
    if all(abs(value) < 1e-9 for value in paper):
        return "the paper has no difference"
    signs = {value > 0 for value in paper}
    if len(signs) > 1:
        return "the paper's two sets differ"
    if difference.low <= 0 <= difference.high:
        return "undecided"
    return "holds" if (difference.estimate > 0) in signs else "reversed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/toybox_lift"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(given.jobs) as pool:
        measured = measure(given.out, lambda function, jobs: list(pool.map(function, jobs)))
    print_tables(measured, given.out)


def measure(out: Path, together: Callable[[Any, list[Any]], list[Any]]) -> dict[str, list[wb.Features]]:
    """Arm -> test features of each seed."""
    distinct = list(dict.fromkeys(arm.options for arm in ARMS.values()))
    grid = [(options, lr, SEEDS[0]) for options in distinct for lr in LRS]
    scores = dict(zip(grid, together(partial(train, out=out), grid), strict=True))
    best = {options: max(LRS, key=lambda lr: scores[options, lr, SEEDS[0]]) for options in distinct}
    for options, lr in best.items():
        tried = ", ".join(f"{each}: {100 * scores[options, each, SEEDS[0]]:.1f}" for each in LRS)
        print(f"{dict(options)}: lr {lr} (val with seed {SEEDS[0]}, %: {tried})")
    together(partial(train, out=out), [(options, best[options], seed) for options in distinct for seed in SEEDS[1:]])
    jobs = {(name, seed): (a.options, best[a.options], seed, a.views) for name, a in ARMS.items() for seed in SEEDS}
    found = dict(zip(jobs, together(partial(test, out=out), list(jobs.values())), strict=True))
    return {name: [found[name, seed] for seed in SEEDS] for name in ARMS}


def print_tables(measured: dict[str, list[wb.Features]], out: Path) -> None:
    print(f"\n| mean of {len(SEEDS)} seeds, % (paper: ImageNet-LT / Places-LT) | all | many | medium | few |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, features in measured.items():
        print(f"| {name} | {accuracy_cells(features, PAPER[name])} |")
    rows = [row for pair in CLAIMS for row in compared(measured, *pair, *(PAPER[name] for name in pair), GROUPS)]
    claims = pd.DataFrame(rows)
    claims.round(3).to_csv(out / "claims.csv", index=False)
    print("\n| first minus second, points | group | paper | ours [95 %, classes paired] | could have shown | verdict |")
    print("| --- | --- | ---: | ---: | ---: | --- |")
    for row in claims.itertuples():
        print(f"| {claim_cells(row)} |")


def accuracy_cells(features: wb.Features | list[wb.Features], paper: Values | None = None) -> str:
    """The cells of a table of README: all, many, medium, few, in %, with the paper's on each of its data sets."""
    accuracy = wb.group_report(features).accuracy
    printed = {group: f" ({' / '.join(f'{value:.1f}' for value in values)})" for group, values in (paper or {}).items()}
    return " | ".join(f"**{100 * accuracy[group]:.1f}**{printed.get(group, '')}" for group in GROUPS)


def compared(
    measured: dict[str, list[wb.Features]], first: str, second: str, paper: Values, other: Values, groups: Iterable[str]
) -> Iterator[dict[str, Any]]:
    """Differences of the paper, on each of its data sets, beside ours, in points; one per group."""
    differences = wb.group_report(measured[first], compare=measured[second]).differences
    for group in groups:
        printed = [a - b for a, b in zip(paper[group], other[group], strict=True)]
        difference = differences[group]
        yield {
            "first": first,
            "second": second,
            "group": group,
            "paper": " / ".join(f"{each:+.1f}" for each in printed),
            "difference": 100 * difference.estimate,
            "low": 100 * difference.low,
            "high": 100 * difference.high,
            "could_have_shown": 100 * difference.smallest_detectable,
            "verdict": verdict(difference, printed),
        }


def claim_cells(row: Any) -> str:
    """The cells of a claim in a table of README."""
    form = getattr(row, "form", "+.1f")
    return (
        f"{row.first} minus {row.second} | {row.group} | {row.paper} "
        f"| {row.difference:{form}} [{row.low:{form}}, {row.high:{form}}] "
        f"| {row.could_have_shown:{form.replace('+', '')}} | {row.verdict}"
    )


def print_claims(rows: list[dict[str, Any]], out: Path) -> None:
    """Write claims.csv, and print the table of README of claims of several tables (`where`)."""
    claims = pd.DataFrame(rows)
    claims.round(3).to_csv(out / "claims.csv", index=False)
    titles = ("where", "first minus second", "group", "paper", "ours [95 %, classes paired]", "could have shown")
    print(f"\n| {' | '.join(titles)} | verdict |")
    print("| --- | --- | --- | ---: | ---: | ---: | --- |")
    for row in claims.itertuples():
        print(f"| {row.where} | {claim_cells(row)} |")


if __name__ == "__main__":
    main()
