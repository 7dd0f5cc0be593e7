"""Work that takes longer than a person waits: in a thread, with a bar, and without stale answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as widgets

from .style import bar, broken

ONE_MODEL = threading.RLock()  # held by whoever asks a model: diagnostics hook into its tower, which apps may share


class Cancelled(Exception):
    """The answer is no longer wanted."""


class Work:
    """Runs one task at a time; a new one replaces the old one, whose answer is dropped.

    `view` is a bar with a button that cancels, hidden while nothing runs. A task is a function of one argument,
    `step(done, total)`, which it calls as it goes on and which raises `Cancelled` when nobody waits for it any more.
    Python ends after the task does: a thread that is cut off within torch takes the process down with it.
    """

    def __init__(self) -> None:
        self._bar = widgets.FloatProgress(min=0, max=1, layout=widgets.Layout(width="160px"))
        self._text = widgets.HTML()
        self._stop = widgets.Button(description="cancel", layout=widgets.Layout(width="72px"))
        self._stop.on_click(lambda _: self.cancel())
        self.view = bar(self._text, self._bar, self._stop)
        self.view.layout.display = "none"
        self._lock = threading.RLock()
        self._number = 0
        self._thread: threading.Thread | None = None

    def start(
        self, text: str, task: Callable[[Callable[[int, int], None]], Any], done: Callable[[Any], None],
        failed: Callable[[str], None],
    ) -> None:  # fmt: skip
        """Run the task; `done` gets its answer, `failed` the HTML of its error."""
        with self._lock:
            self._number += 1
            number = self._number
            self._text.value, self._bar.value = escape(text), 0
            self.view.layout.display = ""

        def stale() -> bool:
            return number != self._number or not threading.main_thread().is_alive()  # another task, or Python ends

        def step(finished: int, total: int) -> None:
            if stale():
                raise Cancelled
            self._bar.value = finished / max(total, 1)

        def run() -> None:
            answer: Any = None
            error: BaseException | None = None
            try:
                answer = task(step)
            except Cancelled:
                return
            except Exception as caught:
                error = caught
            with self._lock:
                if stale():
                    return
                self.view.layout.display = "none"
                if error is not None:
                    failed(broken(error))
                    return
                try:
                    done(answer)
                except Exception as caught:
                    failed(broken(caught))

        with self._lock:  # a thread is seen once it runs: one that does not yet cannot be waited for
            self._thread = threading.Thread(target=run)
            self._thread.start()

    def cancel(self) -> None:
        with self._lock:
            self._number += 1
            self.view.layout.display = "none"

    def wait(self, seconds: float = 60) -> None:
        """Until the running task is done; for scripts and tests."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(seconds)
