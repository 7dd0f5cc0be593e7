"""How far is a training, and is it still alive? Read from the files of its run, whoever trains it.

A checkpoint is at most a minute old and says where the training stood, so time left is known before an epoch ends. A
run whose process was killed is "killed", although its status.json, which nobody could write any more, says "running".
"""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from workbench.runs import Run
from workbench.training.process import beginning, last_log, look_at

STATES = ("starting", "running", "killed", "interrupted", "failed", "finished")
SETTLING = 10.0  # seconds in which a run folder may be without its lock when a training begins
_WATCHED = ("status.json", "metrics.csv", "checkpoint.safetensors")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a run stands. Epochs are those of all stages, one after the other."""

    state: str  # of STATES
    done: float  # finished epochs, the part of the present one at the last checkpoint included
    epochs: int
    stage: str  # the present one, of several
    seconds: float  # training time up to the last checkpoint
    left: float | None  # seconds of training from now on; None before anything is known
    loss: float | None  # mean over the steps of the present epoch up to the last checkpoint
    pid: int | None  # process that trains it and can be stopped from here
    host: str  # machine that trains it
    error: str  # of a failed run
    peak_gpu_bytes: int | None  # of a finished run on a GPU

    @property
    def alive(self) -> bool:
        return self.state in ("starting", "running")


def standing(run: Run) -> Standing:
    """Where a run stands now.

    Raises:
        ValueError: files of the run are damaged. OSError: they cannot be read.
    """
    status, config = run.status, run.config
    stages = config["stages"]
    state, pid = _state(run, status)
    if state == "killed" and (later := run.status) != status:  # it ended in between, and said how
        status = later
        state, pid = _state(run, status)
    record = _record(run.path / "checkpoint.safetensors") or {}
    epochs = [stage["epochs"] for stage in stages]
    rows, position = record.get("rows", []), record.get("position", {"stage": 0, "epoch": 0, "step": 0})
    seconds, part, loss = float(record.get("seconds", 0.0)), 0.0, None
    at = min(position["stage"], max(len(stages) - 1, 0))
    if position["step"]:
        part = min(1.0, position["step"] / -(-_images(run, config) // stages[at]["batch_size"]))
        loss = float(np.mean(record["losses"])) if record.get("losses") else None
    done = sum(epochs[: position["stage"]]) + position["epoch"] + part
    left = _pace(rows, seconds, part) * (sum(epochs) - done)
    if state == "finished":
        done, left, seconds, loss = float(sum(epochs)), 0.0, float(status.get("seconds", seconds)), None
    elif state == "running" and record:
        left -= time.time() - max(_modified(run.path / name) for name in ("checkpoint.safetensors", "status.json"))
    return Standing(
        state=state,
        done=done,
        epochs=sum(epochs),
        stage=stages[at]["name"] if len(stages) > 1 else "",
        seconds=seconds,
        left=max(left, 0.0) if np.isfinite(left) else None,
        loss=loss,
        pid=pid,
        host=str(status.get("host") or platform.node()),
        error=str(status.get("error", "")),
        peak_gpu_bytes=status.get("peak_gpu_bytes"),
    )


def footprint(path: Path, pid: int | None) -> tuple[Any, ...]:
    """What tells cheaply that a run in this folder stands elsewhere now: sizes and times of files, and its process."""
    marks: list[Any] = [pid is not None and look_at(pid) is not None]
    for name in _WATCHED:
        try:
            found = (path / name).stat()
            marks.append((found.st_mtime_ns, found.st_size))
        except OSError:
            marks.append(None)
    return tuple(marks)


def find_runs(root: str | Path, *, depth: int = 3, most: int = 200) -> list[Run]:
    """Runs below a folder, those that changed last first. depth: folders to look into, one in the other."""
    found: list[tuple[float, Path]] = []
    folders = [(Path(root).expanduser(), 0)]
    while folders:
        folder, level = folders.pop()
        if (folder / "config.json").is_file() and (folder / "status.json").is_file():
            found.append((_modified(folder / "status.json"), folder))
        elif level < depth:
            try:
                with os.scandir(folder) as entries:
                    folders += [(Path(e.path), level + 1) for e in entries if e.is_dir() and not e.name.startswith(".")]
            except OSError:
                continue
    return [Run(path) for _, path in sorted(found, key=lambda pair: (-pair[0], str(pair[1])))[:most]]


def _state(run: Run, status: dict[str, Any]) -> tuple[str, int | None]:
    """State, and the id of the process that can be stopped; the files of a killed training say that it runs."""
    said, told = str(status["status"]), _modified(run.path / "status.json")
    claimed = "host" in status  # by a training; a new folder is not yet, nor are those of older versions
    log = None if said == "finished" else last_log(run.path)
    process = beginning(log)
    if log is not None and process is not None and (log.since > told or (said == "running" and not claimed)):
        return "starting", process.pid
    if said != "running":
        return said, None
    if status.get("host", platform.node()) != platform.node():
        return "running", None  # nothing is known of another machine's processes
    pid = status.get("pid")
    if pid is not None and look_at(pid) is None:
        return "killed", None
    if _is_held(run):
        return "running", pid
    fresh = not claimed and time.time() - told < SETTLING
    return ("starting" if fresh else "killed"), None


def _is_held(run: Run) -> bool:
    try:
        with run.locked():
            return False
    except RuntimeError:
        return True


def _record(path: Path) -> dict[str, Any] | None:
    """The record of a checkpoint, without its tensors; None where there is no checkpoint."""
    try:
        with safe_open(path, framework="np") as file:
            record: dict[str, Any] | None = json.loads((file.metadata() or {}).get("record", "null"))
            return record
    except FileNotFoundError:
        return None
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}).") from error


def _images(run: Run, config: dict[str, Any]) -> int:
    counts, most = np.asarray(run.classes.counts), config["train"]["per_class"]
    return int((counts if most is None else np.minimum(counts, most)).sum())


def _pace(rows: list[dict[str, Any]], seconds: float, part: float) -> float:
    """Seconds per epoch: those of the last whole one, before there is one those of the part; nan before that."""
    if not rows:
        return seconds / part if part else float("nan")
    return float(rows[-1]["seconds"] - (rows[-2]["seconds"] if len(rows) > 1 else 0.0))


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
