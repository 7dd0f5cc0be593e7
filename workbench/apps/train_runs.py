"""The list of runs below a folder, and how a run's standing is said in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ipywidgets as widgets

from workbench.runs import Run
from workbench.training.standing import Standing, find_runs, standing

from .style import bar, broken, card

LISTED = 40  # runs in the list, those that changed last
STATES = {"killed": "was killed; resume", "interrupted": "stopped; resume"}  # others are said by their name
DAMAGED = (ValueError, OSError, KeyError)  # what a folder raises that is no whole run


class RunList:
    """`view` is the card; `opened` is called with the folder of the run that is chosen."""

    def __init__(self, root: Path, opened: Callable[[str], object]) -> None:
        narrow = widgets.Layout(width="80px")
        self.folder = widgets.Text(value=str(root), description="below", continuous_update=False)
        self.folder.layout.width, self.folder.style.description_width = "215px", "45px"
        self.again = widgets.Button(description="refresh", layout=narrow)
        self.runs = widgets.Select(rows=11, layout=widgets.Layout(width="100%"))
        self.runs.tooltip = "runs, those that changed last first"
        self.message = widgets.HTML()
        self.view = card("Runs", bar(self.folder, self.again), self.runs, self.message)
        self._opened, self._chosen, self._reading = opened, "", False
        self.again.on_click(lambda _: self.refresh(self._chosen) or (self._chosen and opened(self._chosen)))
        self.folder.observe(lambda _: self.refresh(self._chosen), "value")
        self.runs.observe(lambda change: self._choose(change["new"]), "value")

    @property
    def root(self) -> Path:
        return Path(self.folder.value.strip() or ".").expanduser()

    def refresh(self, chosen: str | Path = "") -> None:
        """Read the folder again; `chosen` is the run that is open."""
        self._chosen, options = str(chosen), []
        try:
            for run in find_runs(self.root, most=LISTED):
                options.append((_entry(run, self.root), str(run.path)))
        except OSError as error:
            self.message.value = broken(error)
            return
        self.message.value = ""
        if self._chosen and self._chosen not in [path for _, path in options] and is_run(Path(self._chosen)):
            options.insert(0, (_entry(Run(Path(self._chosen)), self.root), self._chosen))  # older, or elsewhere
        options.insert(0, ("choose a run" if options else "no runs here yet", ""))
        value = self._chosen if self._chosen in [path for _, path in options] else ""
        self._reading = True  # new options choose the first one for a moment
        try:
            if list(self.runs.options) != options:
                self.runs.options = options
            self.runs.value = value
        finally:
            self._reading = False

    def _choose(self, path: str | None) -> None:
        if path and path != self._chosen and not self._reading:
            self._chosen = path
            self._opened(path)


def is_run(folder: Path) -> bool:
    """Whether a run was begun in this folder, so far that its files can be read."""
    return (folder / "config.json").is_file() and (folder / "status.json").is_file()


def is_trained(run: Run) -> bool:
    """Whether somebody trains it now; a damaged folder is not trained."""
    try:
        return standing(run).alive
    except DAMAGED:
        return False


def spelled(seconds: float) -> str:
    """42.3 -> "42 s", 130 -> "2 min 10 s", 7300 -> "2 h 1 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def progress(found: Standing, elapsed: float) -> list[str]:
    """How far, how long, how much memory; elapsed: seconds since the standing was read."""
    parts = []
    if found.epochs:
        parts.append(f"epoch {min(int(found.done) + 1, found.epochs)} of {found.epochs}")
        parts.append(f"{100 * found.done / found.epochs:.0f} %")
    if found.stage and found.alive:
        parts.append(f"stage {found.stage}")
    if found.alive and found.left is not None:
        parts.append(f"about {spelled(found.left - elapsed)} left")
    if round(found.seconds) or not found.alive:
        parts.append(f"{spelled(found.seconds)} of training{' saved' if found.alive else ''}")
    if found.peak_gpu_bytes:
        parts.append(f"most GPU memory {found.peak_gpu_bytes / 2**30:.2f} GiB")
    return parts


def complaint(text: str) -> str:
    """The command's own words for what went wrong in its log: the last line that is an error, else the last line."""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("workbench: ", "workbench fit: error: "))]
    last = (errors or lines or [""])[-1]
    return last.removeprefix("workbench fit: error: ").removeprefix("workbench: ")


def _entry(run: Run, root: Path) -> str:
    inside = run.path != root and run.path.is_relative_to(root)
    name = run.path.relative_to(root) if inside else run.path
    try:
        found = standing(run)
        how_far = (
            "" if found.alive or found.state == "finished" else f" {100 * found.done / max(found.epochs, 1):.0f} %"
        )
        return f"{name} · {run.config['method']} · {STATES.get(found.state, found.state)}{how_far}"
    except DAMAGED:
        return f"{name} · damaged"
