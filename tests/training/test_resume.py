"""A run continues after any interruption with the same final weights, bit for bit."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import scenario
import torch
from safetensors.torch import load_file

import workbench as wb

SCRIPT = Path(scenario.__file__)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> wb.Run:
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    subprocess.run([sys.executable, SCRIPT, out], check=True)
    return wb.Run.load(out)


def assert_same(run: wb.Run, other: wb.Run) -> None:
    ours, theirs = (load_file(r.path / "weights.safetensors") for r in (run, other))
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    columns = [name for name in run.metrics if name != "seconds"]
    pd.testing.assert_frame_equal(run.metrics[columns], other.metrics[columns])


def kill_until_finished(out: Path, steps: list[int]) -> int:
    """Kill at each of these steps, counted from where the process took over; then let it finish. Returns the kills."""
    kills = 0
    for step in steps:
        found = subprocess.run([sys.executable, SCRIPT, out, str(step)])
        assert found.returncode in (0, -signal.SIGKILL)
        kills += found.returncode != 0
    subprocess.run([sys.executable, SCRIPT, out], check=True)
    return kills


@pytest.mark.slow
def test_a_run_killed_five_times_ends_as_an_uninterrupted_one(uninterrupted: wb.Run, tmp_path: Path) -> None:
    draw = random.Random(0)
    steps = [draw.randint(1, 6) for _ in range(5)]
    assert kill_until_finished(tmp_path / "run", steps) == 5
    assert_same(wb.Run.load(tmp_path / "run"), uninterrupted)


@pytest.mark.stress
def test_a_run_killed_twenty_times_at_random_moments_ends_as_an_uninterrupted_one(
    uninterrupted: wb.Run, tmp_path: Path
) -> None:
    draw, kills = random.Random(1), 0
    rounds = 0
    while kills < 20:
        rounds += 1
        out = tmp_path / f"run{rounds}"
        while kills < 20:
            process = subprocess.Popen([sys.executable, SCRIPT, out])
            deadline = time.monotonic() + draw.uniform(3.0, 9.0)
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            if process.poll() is not None:
                assert process.returncode == 0
                break
            process.kill()
            process.wait()
            kills += 1
        subprocess.run([sys.executable, SCRIPT, out], check=True)
        assert_same(wb.Run.load(out), uninterrupted)


def test_ctrl_c_finishes_the_step_and_keeps_what_there_is(uninterrupted: wb.Run, tmp_path: Path) -> None:
    seen = []

    def stop(clock: object, parts: object) -> None:
        seen.append(clock)
        if len(seen) == 5:
            signal.raise_signal(signal.SIGINT)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the process it is compared with
    try:
        run = scenario.start(tmp_path / "run", on_step=stop)
        assert run.status["status"] == "interrupted"
        assert run.method().head.weight.isfinite().all()
        assert len(seen) == 5
        finished = wb.resume(run.path)
    finally:
        torch.set_num_threads(threads)
    assert finished.status["status"] == "finished"
    assert_same(finished, uninterrupted)


def test_a_finished_run_is_returned_as_it_is(uninterrupted: wb.Run) -> None:
    before = (uninterrupted.path / "weights.safetensors").stat().st_mtime_ns
    assert wb.resume(uninterrupted.path).status["status"] == "finished"
    assert (uninterrupted.path / "weights.safetensors").stat().st_mtime_ns == before


def test_workers_do_not_change_the_result(tmp_path: Path) -> None:
    runs = [scenario.start(tmp_path / str(workers), workers=workers) for workers in (0, 2)]
    assert_same(*runs)
