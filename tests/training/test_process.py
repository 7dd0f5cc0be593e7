"""A training in a process of its own: what the log tells, which processes are looked at, and how one is stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workbench.training import process
from workbench.training.process import Log, begin, beginning, last_log, log_path, look_at, stop


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + 60
    while look_at(pid) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_the_command_says_is_in_a_log_beside_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "my run"
    assert last_log(out) is None and beginning(None) is None
    for option in ("first", "second one"):  # a mistake that ends before torch is loaded
        before = time.time()
        pid = begin(["--set", option, "--out", str(out)], out)
        wait_for_end(pid)
        log = last_log(out)
        assert log is not None and log.pid == pid and before - 0.01 <= log.since <= time.time()
        assert f"{option!r} is not of the form OPTION=VALUE" in log.text
    assert log.command == f"workbench fit --set 'second one' --out '{out}'" and "first" not in log.text
    assert log_path(out) == tmp_path / "new folder" / "my run.log" and not out.exists()
    assert beginning(log) is None


def test_a_long_log_still_tells_who_wrote_it(tmp_path: Path) -> None:
    line = "epoch 1: loss 2.0\n"
    log_path(tmp_path / "run").write_text(f"$ workbench fit --out run  # process 77, 5.250\n{line * 5000}")
    log = last_log(tmp_path / "run")
    assert log is not None and (log.pid, log.since) == (77, 5.25) and 0 < len(log.text) <= process.LOG_END
    log_path(tmp_path / "other").write_text("by hand\n")
    other = last_log(tmp_path / "other")
    assert other is not None and other.pid is None and other.text == "by hand\n"


@pytest.mark.parametrize("has_psutil", [True, False])
def test_a_process_is_seen_while_it_runs_and_not_as_a_zombie(has_psutil: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_psutil:
        monkeypatch.setitem(sys.modules, "psutil", None)
        if not Path("/proc/self/stat").exists():
            pytest.skip("without psutil a process is seen on Linux only")
    own = look_at(os.getpid())
    assert own is not None and 2**20 < own.resident_bytes < 2**40 and "python" in own.command[0]
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert look_at(child.pid) is not None
    stop(child.pid)
    wait_for_end(child.pid)  # nobody has waited for it yet
    assert child.wait() != 0
    stop(child.pid)  # it is gone: no error


def test_another_program_with_the_same_process_id_is_no_training() -> None:
    assert beginning(Log(command="workbench fit", pid=os.getpid(), since=0.0, text="")) is None


@pytest.mark.parametrize("command", [(), ("",)])
def test_a_process_that_has_no_command_line_yet_is_the_training(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    new = process.Process(pid=os.getpid(), command=command, resident_bytes=0)
    monkeypatch.setattr(process, "look_at", lambda pid: new)
    assert beginning(Log(command="workbench fit", pid=os.getpid(), since=0.0, text="")) is new
