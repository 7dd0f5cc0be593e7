"""The launch card of `papers`: a form for `workbench reproduce`, and how the reproduction that runs is getting on."""

from __future__ import annotations

import re
import shlex
import threading
from collections.abc import Callable
from html import escape
from pathlib import Path

import ipywidgets as widgets

from workbench.data import Manifest
from workbench.papers import Experiment
from workbench.training.process import Log, begin, beginning, last_log, log_path, stop

from .style import bar, caption, card, guarded, shortcut, state
from .train_runs import complaint, spelled

SECONDS = 1.0  # between two looks at the log
SHOWN = 8  # lines of it
_STEP = re.compile(r"^(\d+)/(\d+) (.*)$", re.MULTILINE)


class Launch:
    """`view` is the card. One reproduction at a time below `out`; it runs in a process of its own.

    `changed` is called when the form changes, `finished` with the entry's id when its process has ended.
    """

    def __init__(self, out: Path, changed: Callable[[], None], finished: Callable[[str], None]) -> None:
        self.out, self.entry = out, ""
        self._changed, self._finished = changed, finished
        self._left: threading.Event | None = None  # set: the thread shall look no more
        self._thread: threading.Thread | None = None
        self._stopped = False  # by a person
        self.data = widgets.Combobox(value="toybox_lt", options=Manifest.names(), description="data")
        self.seeds = widgets.BoundedIntText(value=3, min=1, max=99, description="seeds")
        self.smoke = widgets.Checkbox(description="smoke: one epoch, six classes", indent=False)
        self.more = widgets.Text(description="more", placeholder="--root ~/places --weights clip.safetensors")
        self.more.tooltip = "further words of `workbench reproduce`"
        self.start = widgets.Button(description="start", button_style="primary")
        self.stopper = widgets.Button(description="stop", tooltip="finished trainings are kept", disabled=True)
        widths = {
            self.data: "210px", self.seeds: "110px", self.smoke: "240px", self.more: "360px", self.start: "80px",
            self.stopper: "80px",
        }  # fmt: skip
        for control, width in widths.items():
            control.layout.width = width
        for field in (self.data, self.seeds, self.more):
            field.style.description_width = "40px"
        self.cost, self.message = caption(), widgets.HTML()
        self.progress = widgets.FloatProgress(min=0, max=1, layout=widgets.Layout(width="160px"))
        self.step = caption()
        self.running = bar(self.progress, self.step)
        self.view = card(
            "Run it",
            bar(self.data, self.seeds, self.smoke),
            bar(self.more),
            self.cost,
            bar(self.start, self.stopper),
            self.running,
            self.message,
        )
        tell = guarded(self._say)
        shortcut(self.start, "f")
        self.start.on_click(tell(lambda _: self.begin()))
        self.stopper.on_click(tell(lambda _: self.stop()))
        for control in (self.data, self.seeds, self.smoke, self.more):
            control.observe(lambda _: tell(changed)(), "value")

    def show(self, entry: Experiment, seconds: float | None) -> None:
        """The entry that `start` runs; seconds: of all its trainings on the package's card."""
        self.entry = entry.id
        known = "" if seconds is None else f"Its card took {spelled(seconds)} of training, one after the other. "
        self.cost.value = escape(f"{known}Trainings that are finished below {self.out} are not repeated.")

    def words(self) -> list[str]:
        """The words after `workbench reproduce`; ValueError where a quotation does not end."""
        words = [self.entry, "--data", self.data.value.strip(), "--seeds", str(self.seeds.value)]
        words += ["--smoke"] if self.smoke.value else []
        try:
            words += shlex.split(self.more.value)
        except ValueError as error:
            raise ValueError(f"more: {self.more.value!r} cannot be read as words ({error}).") from error
        return [*words, "--out", str(self.out)]

    def command(self) -> str:
        return shlex.join(["workbench", "reproduce", *self.words()])

    def begin(self) -> None:
        """Start the process, and watch it.

        Raises:
            RuntimeError: one runs below `out` already; two would train the same arms.
        """
        log = last_log(self.out)
        if log is not None and beginning(log) is not None:
            raise RuntimeError(f"This is running below {self.out}: {log.command}. Stop it, or wait for its end.")
        begin(self.words(), self.out, "reproduce")
        self._stopped = False
        self.attach()

    def stop(self) -> None:
        """End the process; finished trainings are kept, and the next start goes on from there."""
        log = last_log(self.out)
        process = beginning(log)
        if process is not None:
            self._stopped = True
            stop(process.pid)

    def attach(self) -> None:
        """Show what runs below `out`, if something does, until it ends."""
        self.leave()
        log = last_log(self.out)
        alive = beginning(log) is not None
        self._show(log, alive)
        if alive:
            self._left = threading.Event()
            self._thread = threading.Thread(target=self._watch, args=(self._left,))
            self._thread.start()

    def leave(self) -> None:
        """Look no more; the process goes on."""
        if self._left is not None:
            self._left.set()
            self._left = None

    def wait(self, seconds: float = 600) -> None:
        """Until the process has ended; for scripts and tests."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _watch(self, left: threading.Event) -> None:
        while not left.wait(SECONDS) and threading.main_thread().is_alive():  # Python ends after this thread
            log = last_log(self.out)
            alive = beginning(log) is not None
            self._show(log, alive)
            if not alive:
                guarded(self._say)(lambda log=log: self._finished(entry_of(log)))()
                return

    def _show(self, log: Log | None, alive: bool) -> None:
        self.stopper.disabled, self.start.disabled = not alive, alive
        self.running.layout.display = "" if alive else "none"
        if log is None:
            return
        steps = _STEP.findall(log.text)
        self.progress.value = int(steps[-1][0]) / max(int(steps[-1][1]), 1) if steps and alive else 0
        said = (
            f"{steps[-1][0]} of {steps[-1][1]} of this round: {steps[-1][2]}" if steps else "loads torch and the data"
        )
        self.step.value = escape(f"{entry_of(log)}: {said}")
        if alive:
            lines = "\n".join(log.text.splitlines()[-SHOWN:])
            self._say(state(log.command, kind="loading", details=lines))
        elif self._stopped:
            self._say(state(f"{entry_of(log)} was stopped. Start goes on: finished trainings are kept."))
        elif error := _error(log):
            self._say(state(error, kind="broken", details=f"{log_path(self.out)}\n$ {log.command}\n{log.text}"))
        else:
            self._say("")

    def _say(self, html: str) -> None:
        self.message.value = html


def entry_of(log: Log | None) -> str:
    """The id that a log's command names."""
    words = [] if log is None else log.command.split()
    return words[2] if len(words) > 2 else ""


def _error(log: Log) -> str:
    """What went wrong, "" where nothing did; a process that something killed says no last word."""
    if re.search(r"^(workbench: |workbench reproduce: error: )", log.text, re.MULTILINE):
        return complaint(log.text).removeprefix("workbench reproduce: error: ")
    if "\n# " in f"\n{log.text}":  # the card is the last thing that it prints
        return ""
    return f"{entry_of(log)} ended without a card: it was stopped, or something killed it. Start goes on from there."
