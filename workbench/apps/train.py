"""Start, watch, stop and resume a training that runs in a process of its own and outlives page and kernel."""

from __future__ import annotations

import threading
import time
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from workbench.runs import Run
from workbench.training.process import Log, begin, beginning, last_log, log_path, look_at, stop
from workbench.training.standing import Standing, find_runs, footprint, standing

from .style import App, CodeLine, app, bar, broken, caption, card, guarded, row, state
from .train_curves import Curves
from .train_form import Form, asked
from .train_runs import DAMAGED, STATES, RunList, complaint, is_run, is_trained, progress

if TYPE_CHECKING:
    from workbench.data import LongTailDataset, Manifest
    from workbench.methods import Method

SECONDS = 1.0  # between two looks at a run in training
KILLED = "This run was killed: its process is gone without a word. Resume goes on from its last checkpoint."
LOADING = "The process loads torch, the towers and the data: some seconds."
NOTHING = "No run is open. Start one above, or choose one in the list."


class Train(App):
    """See `train`."""

    _left: threading.Event | None = None  # set: the thread shall look no more

    def __init__(self, fill: dict[str, Any], root: Path) -> None:
        self.out: Path | None = None  # of the open run
        self.standing: Standing | None = None
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._reset()
        self.code = CodeLine()
        self.curves = Curves()
        self.form = Form(guarded(self._refuse)(self.start), self._write_command)
        self.list = RunList(root, guarded(self._say)(self.attach))
        self._controls()
        run = card("Run", self.head, bar(self.progress, self.stopper, self.resumer), self.note, self.message)
        top = row(self.form.view, self.list.view)
        self.list.view.remove_class("wb-half")
        self.list.view.layout.flex, self.list.view.layout.width = "0 0 auto", "340px"
        super().__init__([app("train", top, run, self.curves.view, self.code)])
        self.form.fill(fill)
        self.list.refresh()
        self.form.suggest(root)
        self._write_command()
        self._say(state(NOTHING))

    def _controls(self) -> None:
        self.head, self.note, self.message = widgets.HTML(), caption(), widgets.HTML()
        self.progress = widgets.FloatProgress(min=0, max=1, layout=widgets.Layout(width="420px"))
        narrow = widgets.Layout(width="80px")
        self.stopper = widgets.Button(description="stop", tooltip="ends the step and saves", layout=narrow)
        self.resumer = widgets.Button(description="resume", tooltip="goes on where it stopped", layout=narrow)
        self.stopper.disabled = self.resumer.disabled = True
        tell = guarded(self._say)
        self.stopper.on_click(tell(lambda _: self.stop()))
        self.resumer.on_click(tell(lambda _: self.resume()))

    # -- what a person does --------------------------------------------------------------------------------------------

    def start(self) -> Train:
        """Begin the training that the form asks for; what is wrong with it the process says.

        Raises:
            ValueError: no folder is named. FileExistsError: the folder is taken.
        """
        words, out = self.form.words(), Path(self.form.out.value.strip()).expanduser()
        if not self.form.out.value.strip():
            raise ValueError("Name the run folder to make in the field out, for example runs/first.")
        if out.exists():
            what = "a run (choose it in the list to see it)" if (out / "config.json").exists() else "something else"
            raise FileExistsError(f"{out} already holds {what} and is left as it is. Name another folder in out.")
        if beginning(last_log(out)) is not None:
            raise FileExistsError(f"A training into {out} has just begun. Name another folder in out.")
        self.form.message.value = ""
        begin(words, out)
        return self.attach(out)

    def stop(self) -> Train:
        """Ask the open run to end its step, save and end; `resume` goes on to the same final weights."""
        with self._lock:
            if self._pid is None:
                raise ValueError("This run cannot be stopped from here: stop it where it was begun.")
            stop(self._pid)
            self._stopping, self._mark = True, None
            self._look()
        return self

    def resume(self) -> Train:
        """Go on with the open run where it stopped, with its own recipe."""
        if self.out is None:
            raise ValueError(NOTHING)
        begin(["--resume", str(self.out)], self.out)
        return self.attach(self.out)

    def attach(self, out: str | Path) -> Train:
        """Show a run, and look at it every second while it is trained."""
        with self._lock:
            self._leave()
            self._reset()
            self.out, self.code.code = Path(out).expanduser(), f"train(out={str(out)!r})"
            self.curves.clear()
            self._say("")
            if self._looked():
                self._left = threading.Event()
                self._thread = threading.Thread(target=self._watch, args=(self._left,))
                self._thread.start()
            self.list.refresh(self.out)
        return self

    def wait(self, seconds: float = 600) -> Train:
        """Until nobody trains the open run any more; for scripts and tests."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self

    def close(self) -> None:
        """Look no more; the training goes on."""
        self._leave()
        super().close()

    # -- looking -------------------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        self.standing, self._pid, self._stopping = None, None, False
        self._mark: Any = None  # footprint of what is shown
        self._read = 0.0  # when the standing was read
        self._most = 0  # bytes of memory

    def _leave(self) -> None:
        if self._left is not None:
            self._left.set()
            self._left = None

    def _watch(self, left: threading.Event) -> None:
        while not left.wait(SECONDS) and threading.main_thread().is_alive():  # Python ends after this thread
            with self._lock:
                if left.is_set():
                    return
                new = self.standing is None
                try:
                    goes_on = self._look()
                except Exception as error:  # damage, or a file in the middle of a change: told, and looked at again
                    self._say(broken(error))
                    continue
                if not goes_on or (new and self.standing is not None):
                    self.list.refresh(self.out or "")
                if not goes_on:
                    self._leave()
                    self.form.suggest(self.list.root)
                    if self.code.code.startswith("workbench"):  # a command is being put together
                        self._write_command()

    def _looked(self) -> bool:
        """As `_look`; damage is shown, and no reason to look again."""
        try:
            return self._look()
        except DAMAGED as error:
            self.head.value = f"{_chip('damaged')} {escape(str(self.out))}"
            self.stopper.disabled = self.resumer.disabled = True
            self.note.value, self.progress.value = "", 0
            self._say(broken(error))
            return False

    def _look(self) -> bool:
        """Show how the open run stands; whether there is reason to look again."""
        assert self.out is not None
        mark = footprint(self.out, self._pid)
        known = self.standing is not None and self.standing.state == "running" and self._pid is not None
        if not known or mark != self._mark:
            self._mark = mark
            if not is_run(self.out):
                return self._show_before()
            run = Run.load(self.out)
            self.standing, self._read = standing(run), time.monotonic()
            self._pid = self.standing.pid
            self._stopping = self._stopping and self.standing.alive
            self._show(run, self.standing)
        self._show_note()
        assert self.standing is not None
        return self.standing.alive

    def _show(self, run: Run, found: Standing) -> None:
        config, log = run.config, last_log(run.path)
        word = "stopping" if self._stopping else STATES.get(found.state, found.state)
        what = f"{config['method']} on {config['train']['manifest']} with {config['backbone']['name']}"
        self.head.value = f"{_chip(word)} {escape(str(run.path))} · {escape(what)}"
        self.stopper.disabled = not found.alive or found.pid is None or self._stopping
        self.resumer.disabled = found.state not in ("killed", "interrupted", "failed")
        self.resumer.button_style = "" if self.resumer.disabled else "primary"
        self.progress.value = found.done / found.epochs if found.epochs else float(found.state == "finished")
        self.curves.show(run, found)
        details = _details(run.path, log)
        refused = log is not None and not found.alive and log.since > (run.path / "status.json").stat().st_mtime
        if log is not None and refused and found.state != "finished":  # a resume that ended before it was one
            self._say(state(complaint(log.text) or KILLED, kind="broken", details=details))
        elif found.state == "failed":
            self._say(state(f"This run failed: {found.error}", kind="broken", details=details))
        elif found.state == "killed":
            self._say(state(KILLED, kind="broken", details=details))
        else:
            self._say(state(LOADING, kind="loading") if found.state == "starting" else "")

    def _show_note(self) -> None:
        """What changes every second."""
        found = self.standing
        assert found is not None
        parts = progress(found, time.monotonic() - self._read)
        process = look_at(found.pid) if found.pid is not None else None
        if process is not None:
            self._most = max(self._most, process.resident_bytes)
            parts.append(f"memory {process.resident_bytes / 2**30:.2f} GiB (most seen {self._most / 2**30:.2f})")
            parts.append(f"process {process.pid} on {found.host}")
        elif found.alive and found.pid is None:
            parts.append(f"on {found.host}, by a process that cannot be stopped from here")
        self.note.value = escape(" · ".join(parts))

    def _show_before(self) -> bool:
        """There is no run folder: it is about to be made, or that failed, or nobody began."""
        assert self.out is not None
        log = last_log(self.out)
        process = beginning(log)
        self._pid = None if process is None else process.pid
        self.stopper.disabled, self.resumer.disabled = process is None or self._stopping, True
        self.progress.value, name = 0, escape(str(self.out))
        if process is not None:
            self.head.value = f"{_chip('stopping' if self._stopping else 'starting')} {name}"
            self.note.value = f"process {process.pid}, memory {process.resident_bytes / 2**30:.2f} GiB"
            self._say(state(LOADING, kind="loading"))
            return True
        self.head.value, self.note.value, self._stopping = f"{_chip('not begun')} {name}", "", False
        if log is None:
            self._say(state(f"There is no run in {self.out} yet. Press start, or choose another in the list."))
        else:
            why = complaint(log.text) or "It ended before the run folder was made."
            self._say(state(why, kind="broken", details=_details(self.out, log)))
        return False

    def _say(self, html: str) -> None:
        self.message.value = html

    def _refuse(self, html: str) -> None:
        self.form.message.value = html

    def _write_command(self) -> None:
        try:
            self.code.code = self.form.command()
        except ValueError as error:
            self._refuse(broken(error))


def train(
    method: str | Method | None = None,
    train: str | Manifest | LongTailDataset | None = None,
    val: LongTailDataset | bool | None = None,
    *,
    out: str | Path | None = None,
) -> Train:
    """Start, watch, stop and resume a training; it runs in a process of its own, so the kernel stays free.

    The process is `workbench fit`. It goes on when the page is loaded again, the notebook closed or the kernel
    restarted; the same call then shows it again.

    Args:
        method: a name, or what `create_method` gave: its options and towers. What it learned or was told (`warm_start`,
            `texts`) no command line can say. The form is filled with it; None: LIFT on the toybox.
        train: name or path of a data set, a `Manifest`, or a whole split "train".
        val: False does not score the validation split; neither does None beside a split, as in `wb.fit`.
        out: the run folder. One that holds a run is opened, whatever else is given. None: a free one below ./runs, and
            a run below it that is in training is opened.
    """
    root = Path("runs") if out is None else Path(out).expanduser().parent
    begun = out is not None and (is_run(Path(out).expanduser()) or log_path(out).exists())
    shown = Train(asked(method, train, val, None if begun else out), root)
    if out is None:
        live = next((run.path for run in find_runs(root) if is_trained(run)), None)
        return shown if live is None else shown.attach(live)
    return shown.attach(out) if begun or Path(out).expanduser().exists() else shown


def _chip(word: str) -> str:
    return f'<span class="wb-chip" role="status"><b>{escape(word)}</b></span>'


def _details(out: Path, log: Log | None) -> str:
    return "" if log is None else f"{log_path(out)}\n$ {log.command}\n{log.text}"
