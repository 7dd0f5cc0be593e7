"""How far a training is, from the files of its run alone, and whether it is still alive."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench.runs import this_process, write_tensors
from workbench.training import process
from workbench.training.standing import find_runs, footprint, standing

Store = Callable[[str], wb.Run]


def checkpoint(run: wb.Run, *, epoch: int, step: int, seconds: float, times: list[float], losses: list[float]) -> None:
    rows = [{"stage": "train", "epoch": number, "seconds": second} for number, second in enumerate(times)]
    position = {"stage": 0, "epoch": epoch, "step": step}
    record = {"position": position, "rows": rows, "losses": losses, "seconds": seconds, "best": None}
    write_tensors(run.path / "checkpoint.safetensors", {}, record)


@pytest.fixture
def dead() -> int:
    """The id of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_finished_run(store: Store) -> None:
    found = standing(store("linear_probe"))
    assert (found.state, found.done, found.epochs, found.left, found.alive) == ("finished", 2.0, 2, 0.0, False)
    assert found.seconds == store("linear_probe").status["seconds"]


def test_epochs_and_time_left_are_those_of_the_checkpoint(copied: Store) -> None:
    run = copied("linear_probe")  # 2 epochs of 60 images in batches of 32
    run.set_status("interrupted")
    checkpoint(run, epoch=0, step=1, seconds=3.0, times=[], losses=[2.0, 4.0])
    found = standing(run)
    assert (found.state, found.done, found.loss, found.seconds) == ("interrupted", 0.5, 3.0, 3.0)
    assert found.left == pytest.approx(3.0 / 0.5 * 1.5)
    checkpoint(run, epoch=1, step=0, seconds=8.0, times=[8.0], losses=[])
    found = standing(run)
    assert (found.done, found.loss) == (1.0, None) and found.left == pytest.approx(8.0)
    (run.path / "checkpoint.safetensors").unlink()
    found = standing(run)
    assert (found.done, found.left, found.seconds) == (0.0, None, 0.0)


def test_a_running_training_is_the_process_that_holds_its_lock(copied: Store) -> None:
    run = copied("linear_probe")
    checkpoint(run, epoch=1, step=0, seconds=8.0, times=[8.0], losses=[])
    with run.locked():
        run.set_status("running", **this_process())
        os.utime(run.path / "checkpoint.safetensors", (time.time() - 3,) * 2)
        os.utime(run.path / "status.json", (time.time() - 50,) * 2)
        found = standing(run)
        assert (found.state, found.pid, found.host) == ("running", os.getpid(), platform.node())
        assert found.left == pytest.approx(5.0, abs=1.0)  # 3 s ago it was 8
    assert standing(run).state == "killed"  # the process lives and does something else


def test_a_killed_training_is_called_so(copied: Store, dead: int) -> None:
    run = copied("linear_probe")
    run.set_status("running", host=platform.node(), pid=dead)
    found = standing(run)
    assert (found.state, found.pid, found.alive) == ("killed", None, False)
    run.set_status("running", host="elsewhere", pid=dead)
    found = standing(run)
    assert (found.state, found.pid, found.host) == ("running", None, "elsewhere")
    run.set_status("running")  # a folder that was just made, before the training claims it
    assert standing(run).state == "starting"
    os.utime(run.path / "status.json", (0, 0))
    assert standing(run).state == "killed"


def test_a_training_that_ends_while_it_is_looked_at_was_not_killed(
    copied: Store, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied("linear_probe")
    run.set_status("running", host=platform.node(), pid=dead)

    def ends(pid: int) -> None:
        run.set_status("failed", error="the disk is full")

    monkeypatch.setattr("workbench.training.standing.look_at", ends)
    assert (standing(run).state, standing(run).error) == ("failed", "the disk is full")


def test_a_run_that_is_resumed_is_starting_until_its_process_says_more(
    copied: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied("linear_probe")
    run.set_status("interrupted")
    process.log_path(run.path).write_text(f"$ workbench fit --resume run  # process 7, {time.time() + 1:.3f}\n")
    seen = process.Process(pid=7, command=("python", "-m", "workbench", "fit"), resident_bytes=1)
    with monkeypatch.context() as patch:
        patch.setattr(process, "look_at", lambda pid: seen)
        assert (standing(run).state, standing(run).pid) == ("starting", 7)
        os.utime(run.path / "status.json", (time.time() + 5,) * 2)  # the process has spoken since
        assert standing(run).state == "interrupted"
    assert standing(run).state == "interrupted"


def test_failures_and_damage_are_told(copied: Store) -> None:
    run = copied("linear_probe")
    run.set_status("failed", error="OSError: the disk is full")
    assert (standing(run).state, standing(run).error) == ("failed", "OSError: the disk is full")
    (run.path / "checkpoint.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged"):
        standing(run)


def test_only_a_process_that_a_signal_reaches_is_named() -> None:
    found: list[dict[str, object]] = []
    thread = threading.Thread(target=lambda: found.append(this_process()))
    thread.start()
    thread.join()
    assert found == [{"host": platform.node(), "pid": None}] and this_process()["pid"] == os.getpid()


def test_a_footprint_changes_with_files_and_process(copied: Store) -> None:
    run = copied("linear_probe")
    before = footprint(run.path, os.getpid())
    assert footprint(run.path, os.getpid()) == before != footprint(run.path, None)
    run.set_status("failed", error="something")
    assert footprint(run.path, os.getpid()) != before


def test_runs_are_found_newest_first(tmp_path: Path) -> None:
    for number, name in enumerate(("b", "deep/er/a", "c", ".hidden/d", "b/inside")):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for file in ("config.json", "status.json"):
            (folder / file).write_text("{}")
        os.utime(folder / "status.json", (1000 + number, 1000 + number))
    (tmp_path / "empty").mkdir()
    names = [str(run.path.relative_to(tmp_path)) for run in find_runs(tmp_path)]
    assert names == ["c", "deep/er/a", "b"]
    assert [run.path.name for run in find_runs(tmp_path, most=1)] == ["c"]
    assert find_runs(tmp_path / "nowhere") == [] and np.size(find_runs(tmp_path, depth=1)) == 2
