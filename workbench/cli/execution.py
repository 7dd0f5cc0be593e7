"""A notebook executed by this very Python, with the progress bars of its kernel mirrored on the terminal."""

from __future__ import annotations

import asyncio
import html
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm


class Execution(NotebookClient):
    """Executes a notebook in place. Its outputs are there after an error or an interruption, too."""

    def __init__(self, notebook: NotebookNode) -> None:
        silent = logging.Logger("kernel", level=logging.CRITICAL)  # what matters is raised; more would tear bars
        super().__init__(
            notebook,
            startup_timeout=300,  # seconds; a busy machine is slow
            iopub_timeout=60,
            coalesce_streams=True,
            extra_arguments=["--log-level=ERROR"],  # a kernel's notices to whoever runs servers
            log=silent,
        )
        self.on_cell_start = self._begin_cell
        self.on_cell_executed = self._finish_cell
        self.interrupted = False
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for cell in code:  # else an unfinished notebook would mix this execution with an earlier one
            cell.outputs, cell.execution_count = [], None
        self.screen = Screen(sum(bool(cell.source.strip()) for cell in code))

    def run(self, **environment: str) -> None:
        """Execute all cells in the current folder.

        Raises:
            RuntimeError: a cell failed, or the kernel died; one line with the heading above the cell.
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        inherited = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}  # figures go inline
        try:
            self.execute(cwd=str(Path.cwd()), env=inherited | environment)
        except CellExecutionError as error:
            if not self.interrupted:
                lines = str(error.evalue).strip().splitlines()
                raise RuntimeError(f"{self._where()} failed: {plain(': '.join([error.ename, *lines[:1]]))}.") from error
        except DeadKernelError as error:
            if not self.interrupted:
                raise RuntimeError(f"{self._where()} ended the kernel (perhaps memory ran out).") from error
        except (_Stopped, RuntimeError):  # RuntimeError: the kernel was interrupted while it started
            if not self.interrupted:
                raise
        finally:
            self.set_widgets_metadata()
            self.screen.close()
        if self.interrupted:
            raise KeyboardInterrupt

    def _where(self) -> str:
        return f"the cell under {self.screen.heading!r}" if self.screen.heading else "a cell"

    def create_kernel_manager(self) -> AsyncKernelManager:
        self.km = AsyncKernelManager(kernel_spec_manager=ThisPython())
        return self.km

    async def async_start_new_kernel(self, **kwargs: Any) -> None:
        try:  # in place of nbclient's own handler, which ends the kernel before `fit` could save its run
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupt)
        except RuntimeError:
            pass  # on Windows and outside the main thread no handler can be set: Ctrl-C ends the kernel
        await super().async_start_new_kernel(**kwargs)

    def _interrupt(self) -> None:
        """The first Ctrl-C is the stop button; the second ends the kernel."""
        assert self.km is not None
        stop = self.km.shutdown_kernel(now=True) if self.interrupted else self.km.interrupt_kernel()
        self.interrupted = True
        self.stopping = asyncio.ensure_future(stop)  # kept: a task without a reference may be collected

    def _begin_cell(self, cell: NotebookNode, cell_index: int) -> None:
        if self.interrupted:
            raise _Stopped
        if cell.cell_type == "markdown":
            for heading in headings(cell.source):
                self.screen.enter(heading)

    def _finish_cell(self, cell: NotebookNode, cell_index: int, execute_reply: dict[str, Any]) -> None:
        self.screen.advance(execute_reply["content"]["status"] == "ok")

    def handle_comm_msg(self, outs: list[NotebookNode], msg: dict[str, Any], cell_index: int) -> None:
        super().handle_comm_msg(outs, msg, cell_index)
        self.screen.watch(self.widget_state, msg["content"]["comm_id"], closed=msg["msg_type"] == "comm_close")


class _Stopped(Exception):
    """Ctrl-C was pressed, and the cell that it met came to its end."""


class ThisPython(KernelSpecManager):
    """Knows one kernel, that of the running interpreter, whatever is or is not registered on this machine."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(resource_dir="", **get_kernel_dict())


class Row(NamedTuple):
    """Widget ids of one tqdm bar in a notebook: the row, and the text, bar and text in it."""

    row: str
    left: str
    bar: str
    right: str


class Screen:
    """One line for the cells and, below it, the bar that runs in the kernel; in a log, a line per finished section.

    Args:
        total: how many cells will be executed.
    """

    def __init__(self, total: int) -> None:
        line = "{desc} |{bar:20}| {n}/{total} cells [{elapsed}]"
        self.cells = self._bar(total=total, bar_format=line, unit="cell")
        self.watched = not self.cells.disable
        self.mirror: tqdm[Any] | None = None
        self.rows: dict[str, Row] = {}  # by the id of each part
        self.open: list[Row] = []  # the newest last; only that one is drawn
        self.heading = ""
        self.began = time.monotonic()  # the section
        self.succeeded = False  # the last cell of the section

    def enter(self, heading: str) -> None:
        self._leave()
        self.heading, self.began, self.succeeded = heading, time.monotonic(), False
        self.cells.set_description_str(plain(heading)[:40])

    def advance(self, succeeded: bool) -> None:
        self.succeeded = succeeded
        self.open.clear()
        self._wipe()
        self.cells.update()

    def close(self) -> None:
        self._wipe()
        self.cells.close()
        self._leave()

    def _leave(self) -> None:
        if self.heading and self.succeeded and not self.watched:
            print(f"{plain(self.heading)} ({time.monotonic() - self.began:.0f} s)", file=sys.stderr)

    def watch(self, widgets: Mapping[str, Mapping[str, Any]], changed: str, *, closed: bool = False) -> None:
        """Draw the tqdm bar that the widget `changed` belongs to, if it does. widgets: their states by id."""
        parts = [str(child).removeprefix("IPY_MODEL_") for child in widgets.get(changed, {}).get("children") or ()]
        if changed not in self.rows and len(parts) == 3:
            if widgets.get(parts[1], {}).get("_model_name") != "FloatProgressModel":
                return
            row = Row(changed, *parts)
            self.rows |= dict.fromkeys(row, row)
            self.open.append(row)
        row = self.rows.get(changed)
        if row is None or row not in self.open:
            return
        if closed or widgets[row.bar].get("bar_style") in ("success", "danger"):
            self.open.remove(row)
            self._wipe()
        elif row == self.open[-1]:
            self._draw(*(widgets[part] for part in row[1:]))

    def _draw(self, left: Mapping[str, Any], bar: Mapping[str, Any], right: Mapping[str, Any]) -> None:
        if self.mirror is None:
            self.mirror = self._bar(position=1, bar_format=" ")
        # the texts around the bar, with rate, time left and loss, are the kernel's own
        before, after = (plain(html.unescape(str(text.get("value", "")))) for text in (left, right))
        self.mirror.bar_format = f"  {_literal(before)} |{{bar:20}}| {_literal(after)}"
        self.mirror.total, self.mirror.n = bar.get("max") or 1, bar.get("value") or 0
        self.mirror.refresh()
        self.cells.refresh()  # its clock

    def _wipe(self) -> None:
        if self.mirror is not None:
            self.mirror.close()
            self.mirror = None

    @staticmethod
    def _bar(**options: Any) -> tqdm[Any]:
        return tqdm(**options, file=sys.stderr, disable=None, leave=False, dynamic_ncols=True)


def headings(source: str) -> list[str]:
    """Texts of the headings in a markdown cell."""
    outside = re.sub(r"^(```|~~~).*?^\1", "", source, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", outside, flags=re.MULTILINE)
    return [re.sub(r"[*`]", "", text) for text in found]


def plain(text: str) -> str:
    """Text that cannot steer a terminal; tqdm's figure spaces become spaces."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
