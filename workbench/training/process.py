"""A training in a process of its own, which outlives the notebook that began it: begin, find again, stop.

The process is `workbench fit`; it writes its run folder as always, and what it says goes to a log beside the folder.
Who trains a run is recorded in the run's status, and its lock says whether that still holds; before there is a folder,
the log says it. Stopping is SIGTERM: `fit` ends the step and saves, and `--resume` goes on to the same final weights.
`workbench reproduce`, which trains the arms of a paper's table, is begun, found and stopped in the same way.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LOG_END = 20_000  # bytes of a log that are read
_BEGAN = re.compile(
    r"^\$ (?P<command>workbench (?:fit|reproduce) .*)  # process (?P<pid>\d+), (?P<since>\d+\.\d+)$", re.MULTILINE
)


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process of this machine that runs now."""

    pid: int
    command: tuple[str, ...]
    resident_bytes: int  # memory in use, without that of image-loading processes


@dataclass(frozen=True, kw_only=True)
class Log:
    """The last command that a log tells of."""

    command: str  # as on a shell; "" where the log does not begin with one
    pid: int | None
    since: float  # seconds since 1970
    text: str  # what it said, the end of it


def log_path(out: str | Path) -> Path:
    """Where `begin` keeps what the training in this run folder says: runs/lift -> runs/lift.log."""
    out = Path(out).expanduser()
    return out.with_name(f"{out.name}.log")


def begin(words: Sequence[str], out: str | Path, command: Literal["fit", "reproduce"] = "fit") -> int:
    """Start `workbench fit` with these words and return its process id; its errors are in the log of `out`.

    Args:
        words: as on a command line, without "workbench fit".
        out: the run folder that they name, for the place of the log.
        command: another command of workbench.
    """
    path = log_path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-m", "workbench", command, *words]
    with path.open("ab") as log:
        process = subprocess.Popen(
            line,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # what ends a kernel ends its session, and not this
        )
        said = shlex.join(["workbench", command, *(word.replace("\n", " ") for word in words)])
        log.write(f"$ {said}  # process {process.pid}, {time.time():.3f}\n".encode())
    threading.Thread(target=process.wait, daemon=True).start()  # else it would stay as a zombie when it has ended
    return process.pid


def last_log(out: str | Path) -> Log | None:
    """What the last training in this folder said, None where no log is."""
    path = log_path(out)
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_END))
            text = file.read().decode("utf-8", errors="replace")
            file.seek(0)
            head = file.readline(LOG_END).decode("utf-8", errors="replace")
    except OSError:
        return None
    found = list(_BEGAN.finditer(text))
    if not found:  # it said much: the first line of the log stands for it
        first = _BEGAN.match(head.rstrip("\n"))
        return _log(first, text) if first else Log(command="", pid=None, since=path.stat().st_mtime, text=text)
    return _log(found[-1], text[found[-1].end() :])


def _log(began: re.Match[str], text: str) -> Log:
    return Log(command=began["command"], pid=int(began["pid"]), since=float(began["since"]), text=text.strip("\n"))


def look_at(pid: int) -> Process | None:
    """A process by its id, None when it has ended; also one that ended and that nobody waited for."""
    try:
        import psutil
    except ImportError:
        return _look_in_proc(pid)
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            return Process(pid=pid, command=tuple(process.cmdline()), resident_bytes=process.memory_info().rss)
    except psutil.Error:
        return None


def _look_in_proc(pid: int) -> Process | None:
    """The same from Linux's /proc, where psutil is missing."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        command = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").rstrip("\0").split("\0")
    except OSError:
        return None
    if fields[0] in "ZX":
        return None
    return Process(pid=pid, command=tuple(command), resident_bytes=int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))


def beginning(log: Log | None) -> Process | None:
    """The training that a log tells of, while its process runs; the process id may be another program's by now.

    In the moment when a new process becomes its program, and in that when it ends, it has no command line; on a busy
    machine that lasts. It is taken for the training then.
    """
    if log is None or log.pid is None:
        return None
    process = look_at(log.pid)
    if process is None or (any(process.command) and not set(log.command.split()[:2]) <= set(process.command)):
        return None
    return process


def stop(pid: int) -> None:
    """Ask a training to end its step, save, and end. One that has not begun to train ends at once."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it was faster
