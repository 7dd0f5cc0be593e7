"""Running an entry: one of each paper really trained, continued, interrupted, with arms and searches that fail."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest

import workbench as wb
from workbench.cli import main
from workbench.papers import ParityCard, Reproduction, reproducing, trainings
from workbench.papers.card import NOT_RUN
from workbench.papers.experiment import Arm
from workbench.papers.measures import MEASURES, Trained
from workbench.papers.trainings import Training

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


@pytest.mark.slow
def test_a_killed_reproduction_leaves_no_process_and_repeats_no_finished_training(tmp_path: Path) -> None:
    words = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items() if name != "search"]
    command = [sys.executable, "-m", "workbench", "reproduce", PHASES, *words, "--no-search", "--jobs=2"]
    with subprocess.Popen([*command, f"--out={tmp_path}"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("phase 1, seed 0: trained" in line for line in process.stdout)  # phase 2 has not begun
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    assert len(workers) >= 2
    assert not psutil.wait_procs(workers, timeout=20)[1]
    finished = files(tmp_path, "weights.safetensors")
    assert finished
    again = wb.reproduce(PHASES, out=tmp_path, jobs=1, log=None, **TINY)
    assert not again.card.not_run and len(again.arms) == 3
    assert files(tmp_path, "weights.safetensors").items() >= finished.items()


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


@pytest.mark.slow
def test_a_quantity_that_cannot_be_measured_loses_its_arm_only(
    reproduced: Reproduced, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reproduced(PHASES)

    def tuned(trained: Trained) -> float:
        if trained.name == "frozen":
            raise RuntimeError("no room for it")
        return 1e6

    monkeypatch.setitem(MEASURES, "tuned_m", replace(MEASURES["tuned_m"], of=tuned))
    entry = replace(reproduced(PHASES).experiment, measures=("all", "tuned_m"))
    monkeypatch.setattr(reproducing, "experiment", lambda id: entry)
    found = wb.reproduce(PHASES, out=out, jobs=1, log=None, card=tmp_path / "card.json", **TINY)
    assert found.card.not_run == {"frozen": "tuned_m cannot be measured: RuntimeError: no room for it"}
    assert [row.measured for row in found.card.rows if row.arm == "LPT phase 2"][1:] == [1.0]


@pytest.mark.slow
def test_a_figure_that_cannot_be_drawn_loses_neither_card_nor_silence(
    reproduced: Reproduced,
    out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = reproduced(PHASES).card
    assert list(whole.panels) == ["projection"] and f"```\n{whole.panels['projection']}\n```" in whole.to_markdown()

    def failing(*_: Any) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(reproducing, "panels", failing)
    found = wb.reproduce(PHASES, out=out, jobs=1, log=None, card=tmp_path / "card.json", **TINY)
    assert not found.results and found.card.deviations[-1] == "Not drawn: RuntimeError: no ink"
    assert found.card.rows == whole.rows and ParityCard.load(tmp_path / "card.json").rows
    words = found.card.command.removeprefix("workbench ").split()
    assert main([*words, "--out", str(out), "--jobs", "1", "--card", str(tmp_path / "again.json")]) == 1
    told = capsys.readouterr()
    assert "its figure cannot be drawn: RuntimeError: no ink" in told.out and whole.title in told.out


@pytest.mark.slow
def test_time_of_training_counts_what_an_arm_continues_once(reproduced: Reproduced, out: Path) -> None:
    made = reproduced(PHASES)
    runs = {arm.training.folder: arm.seconds for arm in made.arms.values()}
    assert made.card.training_seconds == pytest.approx(sum(runs.values())), "phase 1 is an arm itself"
    last = {"LPT phase 2": made.arms["LPT phase 2"]}
    alone = reproducing._card(made.experiment, last["LPT phase 2"].training.setting, last, (0,), {})
    both = made.arms["LPT phase 1"].seconds + last["LPT phase 2"].seconds
    assert alone.training_seconds == pytest.approx(both) and both > last["LPT phase 2"].seconds


def test_an_entry_of_which_no_arm_runs_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no arm of lift:T20 could be run.* no tower like vit_large.*336"):
        wb.reproduce("lift:T20", out=tmp_path, jobs=1, log=None, **TINY)


# -- the command ------------------------------------------------------------------------------------------------------


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
