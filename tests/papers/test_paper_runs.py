"""Running an entry: one of each paper really trained, continued, interrupted, with arms and searches that fail."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import workbench as wb
from workbench.cli import main
from workbench.papers import ParityCard, Reproduction, reproducing, trainings
from workbench.papers.card import NOT_RUN
from workbench.papers.experiment import Arm, experiment
from workbench.papers.grid import climb
from workbench.papers.setting import Setting, shortened
from workbench.papers.trainings import Training, all_needed

# One epoch on four classes; lrs are the starts of their grids.
TINY: dict[str, Any] = {"seeds": 1, "epochs": 1, "classes": 4, "per_class": 4, "search": False}
PHASES = "lpt:F5"  # the frozen tower, phase 1, and phase 2, which continues it
ENTRY = {"lpt": PHASES, "lt-dpt": "lt-dpt:F1", "lift": "lift:T13", "hlc": "hlc:T6", "ballad": "ballad:Alg1"}

Reproduced = Callable[[str], Reproduction]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("papers")


@pytest.fixture(scope="module")
def reproduced(out: Path) -> Reproduced:
    """reproduced("lift:T13") -> the entry, trained once per session."""
    return cache(lambda id: wb.reproduce(id, out=out, jobs=1, log=None, **TINY))


def files(folder: Path, pattern: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob(pattern)}


def steps(run: wb.Run) -> int:
    """Optimiser steps of a whole training."""
    images = int(run.classes.counts.sum())
    return sum(stage["epochs"] * math.ceil(images / stage["batch_size"]) for stage in run.config["stages"])


# -- one entry of each paper -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("paper", ENTRY)
def test_every_arm_of_an_entry_is_trained_and_laid_beside_the_paper(
    paper: str, reproduced: Reproduced, out: Path, tmp_path: Path
) -> None:
    found = reproduced(ENTRY[paper])
    entry, card = found.experiment, found.card
    assert list(found.arms) == [arm.name for arm in entry.arms] and not card.not_run
    ours = [row for row in card.rows if row.status != "reported only"]
    assert len(ours) == len(entry.arms) * len(entry.measures)
    assert all(row.measured is not None for row in ours)
    assert len(card.claims) == sum(len(claim.on) for claim in entry.claims)
    assert NOT_RUN not in card.verdicts() and sum(card.verdicts().values()) == len(card.claims)
    path = out / "cards" / f"{entry.id.replace(':', '-')}.toybox_lt_4_classes.json"
    loaded = ParityCard.load(path)
    assert ParityCard.load(loaded.save(tmp_path / "again.json")) == loaded
    assert loaded.verdicts() == card.verdicts()
    shown = path.with_suffix(".md").read_text()
    for row in card.rows:
        assert all(f"{value:g}" in shown for value in row.reported.values())
        assert row.measured is None or f"**{row.measured:.1f}**" in shown
    for panel in found.results.values():
        panel.plot()


@pytest.mark.slow
def test_arms_that_are_looked_at_in_several_ways_are_trained_once(reproduced: Reproduced, out: Path) -> None:
    found = reproduced(ENTRY["hlc"])
    assert len(found.arms) == 7
    assert len({arm.training.folder for arm in found.arms.values()}) == 1
    assert len(list((out / "trainings").glob("hlc-*"))) == 1


@pytest.mark.slow
def test_the_same_command_again_trains_and_extracts_nothing(reproduced: Reproduced, out: Path) -> None:
    first = reproduced(PHASES)
    before = files(out, "weights.safetensors") | files(out, "*.npz") | files(out, "metrics.csv")
    again = wb.reproduce(PHASES, out=out, jobs=1, log=None, **TINY)
    assert files(out, "weights.safetensors") | files(out, "*.npz") | files(out, "metrics.csv") == before
    assert again.card == first.card


@pytest.mark.slow
def test_two_processes_find_what_one_has_trained(reproduced: Reproduced, out: Path) -> None:
    first, lines = reproduced(PHASES), list[str]()
    before = files(out, "weights.safetensors")
    assert wb.reproduce(PHASES, out=out, jobs=2, log=lines.append, **TINY).card == first.card
    assert files(out, "weights.safetensors") == before
    place = {name: next(k for k, line in enumerate(lines) if f"{name}, seed 0: trained" in line) for name in first.arms}
    assert place["LPT phase 2"] > place["LPT phase 1"]  # it waits for what it continues


@pytest.mark.slow
def test_an_interrupted_reproduction_goes_on_and_repeats_no_step(
    reproduced: Reproduced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = reproduced(PHASES)
    taken: Counter[Path] = Counter()
    fit, stop_after = trainings.fit, math.inf

    def counted(method: wb.methods.Method, *sets: Any, out: Path, **options: Any) -> wb.Run:
        def step(clock: Any, parts: Any) -> None:
            taken[out] += 1
            if taken.total() == stop_after:
                raise KeyboardInterrupt

        return fit(method, *sets, out=out, on_step=step, **options)

    monkeypatch.setattr(trainings, "fit", counted)
    frozen = whole.arms["frozen"].runs[0]
    stop_after = steps(frozen) + 3  # in the third step of phase 1
    with pytest.raises(KeyboardInterrupt):
        wb.reproduce(PHASES, out=tmp_path, jobs=1, log=None, **TINY)
    finished = files(tmp_path, "weights.safetensors")
    assert len(finished) == 1
    stop_after = math.inf
    again = wb.reproduce(PHASES, out=tmp_path, jobs=1, log=None, **TINY)
    assert files(tmp_path, "weights.safetensors").items() >= finished.items()
    assert taken == {arm.runs[0].path: steps(arm.runs[0]) for arm in again.arms.values()}
    assert again.card.rows == whole.card.rows and again.card.claims == whole.card.claims


# -- arms that fail ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_arm_that_fails_does_not_lose_the_others(
    reproduced: Reproduced, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = reproduced(PHASES).experiment
    broken = Arm("broken", "vpt", options={"no_such_option": 1})
    monkeypatch.setattr(reproducing, "experiment", lambda id: replace(entry, arms=(broken, *entry.arms)))
    found = wb.reproduce(PHASES, out=out, jobs=1, log=None, card=tmp_path / "card.json", **TINY)
    assert list(found.arms) == [arm.name for arm in entry.arms]
    assert list(found.card.not_run) == ["broken"] and "no_such_option" in found.card.not_run["broken"]
    assert "- broken: " in found.card.to_markdown()
    assert {row.measured for row in found.card.rows if row.arm == "broken"} == {None}


@pytest.mark.slow
def test_what_continues_a_failed_arm_is_not_run_and_says_why(
    reproduced: Reproduced, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reproduced(PHASES)
    fit = trainings.fit

    def failing(method: wb.methods.Method, *sets: Any, **options: Any) -> wb.Run:
        if method.options.get("phases") == "shared":
            raise ValueError("a prompt too long")
        return fit(method, *sets, **options)

    monkeypatch.setattr(trainings, "fit", failing)
    found = wb.reproduce(PHASES, out=out, jobs=1, log=None, card=tmp_path / "card.json", **TINY)
    assert list(found.arms) == ["frozen"]
    assert "a prompt too long" in found.card.not_run["LPT phase 1"]
    assert found.card.not_run["LPT phase 2"].startswith("what it continues failed: ")


@pytest.mark.slow
def test_a_search_that_fails_loses_its_arm_and_what_continues_it(
    reproduced: Reproduced, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reproduced(PHASES)

    def search(training: Training) -> None:
        if training.arm.method == "lpt":
            raise RuntimeError("the disk is full")
        training.search_folder.mkdir(parents=True, exist_ok=True)
        (training.search_folder / "lr.json").write_text(f'{{"lr": {training.recipe.start}}}')  # type: ignore[union-attr]

    monkeypatch.setattr(Training, "search", search)
    setting = TINY | {"search": True}
    found = wb.reproduce(PHASES, out=out, jobs=1, log=None, card=tmp_path / "card.json", **setting)
    assert list(found.arms) == ["frozen"]
    assert found.card.not_run["LPT phase 1"].startswith("choosing its lr failed: ")
    assert found.card.not_run["LPT phase 2"].startswith("what it continues failed: choosing its lr failed: ")


def test_an_entry_of_which_no_arm_runs_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no arm of lift:T20 could be run.* no tower like vit_large.*336"):
        wb.reproduce("lift:T20", out=tmp_path, jobs=1, log=None, **TINY)


# -- searches and order ------------------------------------------------------------------------------------------------


def test_an_lr_is_chosen_once_and_one_that_diverges_is_the_worst(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(experiment("lpt:T1"), experiment("lpt:T1").arm("vpt"), Setting(classes=4), tmp_path)
    assert training.recipe is not None and training.recipe.start == 0.04
    tried = []

    def fit(self: Training, out: Path, seed: int, lr: float, epochs: int) -> Any:
        tried.append((lr, seed, epochs))
        if lr > 0.04:
            raise FloatingPointError("The loss became nan")
        score = {0.04: 0.3, 0.01: 0.5, 0.0025: 0.4}[lr]
        return SimpleNamespace(metrics=pd.DataFrame({"val_mean_class": [0.0, score]}))

    monkeypatch.setattr(Training, "_fit", fit)
    with pytest.raises(FileNotFoundError):
        training.lr  # noqa: B018
    training.search()
    training.search()
    assert [lr for lr, _, _ in tried] == [0.04, 0.01, 0.16, 0.0025]
    assert {(seed, epochs) for _, seed, epochs in tried} == {(0, training.recipe.search_epochs)}
    assert training.lr == 0.01
    assert replace(training, setting=Setting(classes=4, lr=0.5)).lr == 0.5


@pytest.fixture
def climbed() -> Callable[..., tuple[float, list[float]]]:
    def run(scores: dict[float, float], start: float) -> tuple[float, list[float]]:
        lr, tried = climb(scores.__getitem__, tuple(scores), start)
        assert tried == {each: scores[each] for each in tried}
        return lr, sorted(tried)

    return run


def test_a_grid_is_climbed_from_its_start_without_trying_what_lies_beyond(climbed: Any) -> None:
    scores = {0.001: 0.1, 0.01: 0.2, 0.1: 0.6, 1.0: 0.5, 10.0: 0.9}
    assert climbed(scores, 0.01) == (0.1, [0.001, 0.01, 0.1, 1.0])
    assert climbed(scores, 10.0) == (10.0, [1.0, 10.0])
    assert climbed({0.1: 0.5, 1.0: 0.5}, 1.0) == (1.0, [0.1, 1.0])  # equal ones: it stays
    assert climbed({0.1: 0.5}, 0.1) == (0.1, [0.1])


def test_what_is_continued_comes_first_also_where_only_an_lr_is_taken_from_it(tmp_path: Path) -> None:
    entry = experiment("lpt:T20")

    def order(setting: Setting, *names: str) -> list[tuple[int, Any]]:
        needed = all_needed([Training(entry, entry.arm(name), setting, tmp_path) for name in names])
        return [(each.depth, each.arm.options["phases"]) for each in needed]

    assert order(Setting(), "A-GCL", "GCL") == [(0, "shared"), (1, "group"), (1, "group")]
    freed = replace(entry.arm("GCL"), after=None)  # lr_of = "phase2", which continues phase 1
    (first, last) = all_needed([Training(entry, freed, Setting(), tmp_path)])
    assert (first.arm.options["phases"], first.depth, last.depth) == ("shared", 0, 1)
    (alone,) = all_needed([Training(entry, freed, Setting(search=False), tmp_path)])
    assert alone.depth == 0


def test_trainings_have_one_folder_where_they_are_one_training(tmp_path: Path) -> None:
    lift, hlc, ballad = experiment("lift:T6"), experiment("hlc:T4"), experiment("ballad:F4")
    zero = [
        Training(each, each.arm(name), Setting(), tmp_path).folder
        for each, name in ((lift, "zero-shot"), (hlc, "a: zero-shot CLIP"), (ballad, "Z-CLIP"))
    ]
    assert len(set(zero)) == 1, "across papers"
    arm = Training(lift, lift.arm("AdaptFormer"), Setting(lr=0.1), tmp_path)
    assert arm.of(replace(arm.arm, views="ten", name="other", row=None)).folder == arm.folder
    for other in (
        replace(arm, setting=Setting(lr=0.2)),
        replace(arm, setting=Setting(lr=0.1, classes=4)),
        replace(arm, setting=Setting(lr=0.1, epochs=1)),
        replace(arm, setting=Setting(lr=0.1, data="toybox_lt_backgrounds")),
        arm.of(lift.arm("LoRA")),
    ):
        assert other.folder != arm.folder


def test_a_setting_is_written_as_the_command_that_has_it() -> None:
    assert Setting().command("lift:T6") == "workbench reproduce lift:T6 --seeds 3"
    setting = Setting(data="my birds", seeds=1, lr=0.1, search=False, per_class=5)
    written = "workbench reproduce lpt:F4 --data 'my birds' --seeds 1 --lr 0.1 --per-class 5 --no-search"
    assert setting.command("lpt:F4") == written
    assert shortened(Setting(seeds=3, epochs=9)) == Setting(seeds=1, epochs=1, classes=6, per_class=5, search=False)


@pytest.mark.slow
def test_reproduce_prints_the_card_and_draws_its_panels(
    reproduced: Reproduced, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = reproduced(PHASES).card
    words = card.command.removeprefix("workbench ").split()
    where = ["--out", str(out), "--jobs", "1"]
    assert main([*words, *where]) == 0
    assert card.to_markdown() in capsys.readouterr().out
    assert [path.name for path in (out / "figures").glob("*.png")] == ["lpt-F5-projection.png"]
    assert main(["reproduce", PHASES, ENTRY["lt-dpt"], *words[2:], *where]) == 0
    told = capsys.readouterr().out
    assert "lpt:F5: 3 arms; no claims" in told and "lt-dpt:F1: 2 arms" in told
