"""A notebook in JupyterLab or in Voila, as a test holds it: the page, the kernel behind it, what went wrong."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import nbformat

from browser.lab import SECONDS, SOON, Lab

if TYPE_CHECKING:  # a test module must import where Playwright is missing; its tests skip then
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Route

WIDTH, HEIGHT = 1400, 1000  # CSS pixels
READY = """() => {
    const panel = window.jupyterapp?.shell?.currentWidget;
    return Boolean(panel?.context?.isReady) && panel.sessionContext?.session?.kernel?.status === 'idle';
}"""
RUN = """() => {
    window.cellsDone = false;
    window.jupyterapp.commands.execute('notebook:run-all-cells').finally(() => { window.cellsDone = true; });
}"""
CELLS = """() => [...window.jupyterapp.shell.currentWidget.content.model.cells].map((cell) => ({
    source: cell.sharedModel.source,
    running: cell.type === 'code' && cell.executionState === 'running',
    errors: (cell.sharedModel.outputs ?? []).filter((output) => output.output_type === 'error'),
}))"""
RESTART = """async () => {
    const session = window.jupyterapp.shell.currentWidget.sessionContext;
    await session.session.kernel.restart();
}"""
# IPython keeps what it shows a traceback of in sys.last_value
LAST_ERROR = """(lambda error: error and "".join(__import__("traceback").format_exception(error)))(
    getattr(__import__("sys"), "last_value", None)
)"""
TERMINAL_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class CellError(AssertionError):
    """A cell raised, or did not end in time; the message has its source and its traceback."""


class View:
    """A page that shows a notebook's outputs.

    `page` is Playwright's page, `frame` the part of it that the notebook fills, `errors` what the page's console
    reported as errors since it opened. What the page wants from other hosts it does not get, so that no test depends
    on the network; `outside` has those addresses, and `errors` leaves them out, as what JupyterLab says of its debugger
    when a kernel restarts.
    """

    def __init__(self, lab: Lab, browser: Browser, name: str, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
        self.lab, self.name = lab, name
        self.errors: list[str] = []
        self.outside: list[str] = []
        self._kernels: list[str] = []
        self._context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        self._context.set_default_timeout(SOON * 1000)
        self._context.set_default_navigation_timeout(SECONDS * 1000)
        self._context.route(self._is_outside, self._keep_out)
        self.page: Page = self._context.new_page()
        self.resize(*size)
        self.page.on("console", self._note_error)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("websocket", lambda channel: self._note_kernel(channel.url))

    def _is_outside(self, url: str) -> bool:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and parts.netloc != self.lab.address

    def _keep_out(self, route: Route) -> None:
        self.outside.append(route.request.url)
        route.abort()

    def _note_error(self, line: ConsoleMessage) -> None:
        own = "restore the debugger state" in line.text  # JupyterLab's, when a kernel restarts while it asks for that
        if line.type == "error" and not own and not self._is_outside(line.location["url"]):
            self.errors.append(line.text)

    def _note_kernel(self, url: str) -> None:
        found = re.search(r"/api/kernels/([0-9a-f-]{36})/channels", url)
        if found and found[1] not in self._kernels:
            self._kernels.append(found[1])

    def open(self) -> None:
        """Loads the page and runs the cells.

        Raises:
            CellError: a cell raised or did not end in time; its source and traceback.
        """
        raise NotImplementedError

    @property
    def frame(self) -> Locator:
        raise NotImplementedError

    @property
    def kernel(self) -> str:
        """The id of the kernel that the page talks to."""
        if not self._kernels:
            raise RuntimeError(f"the page of {self.name} has not spoken to a kernel yet; wait for a widget first")
        return self._kernels[-1]

    def evaluate_in_kernel(self, expression: str) -> Any:
        """The value of a Python expression in the notebook's kernel, through JSON; arrays become lists."""
        return self.lab.execute(self.kernel, "", expression)

    def run_in_kernel(self, code: str) -> None:
        """Runs statements in the notebook's kernel, beside its cells."""
        self.lab.execute(self.kernel, code)

    def last_error(self) -> str | None:
        """The traceback of the last error of a cell or of a widget's callback; None while there was none.

        A callback that raises leaves no trace in the page, so a test ends with `assert view.last_error() is None`.
        """
        return self.evaluate_in_kernel(LAST_ERROR)

    def wait_in_kernel(self, expression: str, value: Any = True) -> None:
        """Returns once the Python expression equals `value` in the kernel, asked again and again.

        Raises:
            AssertionError: it never did; the message has its last value.
        """
        deadline = time.monotonic() + SOON
        while (found := self.evaluate_in_kernel(expression)) != value:
            if time.monotonic() > deadline:
                raise AssertionError(f"in the kernel {expression} stayed {found!r}, expected {value!r}")
            self.page.wait_for_timeout(10)  # the page's events are handled meanwhile

    def resize(self, width: int, height: int = HEIGHT) -> None:
        """Gives the page another size, in CSS pixels."""
        self.page.set_viewport_size({"width": width, "height": height})

    def screenshot(self, path: Path) -> None:
        """Saves what the page shows as PNG."""
        self.page.screenshot(path=path)

    def close(self) -> None:
        """Closes the page, then ends its kernels: the other way round the page would report a lost kernel."""
        self._context.close()
        for kernel in self._kernels:
            self.lab.end_kernel(kernel)


class Notebook(View):
    """A notebook in JupyterLab's single-document mode."""

    def open(self) -> None:
        self.page.goto(self.lab.url(f"/doc/tree/{self.name}"))
        self._wait_for_kernel()
        self.run()

    @property
    def frame(self) -> Locator:
        return self.page.locator(".jp-Notebook")

    def output(self, cell: int) -> Locator:
        """What the cell with this number shows, counted from 0."""
        return self.page.locator(".jp-Notebook-cell").nth(cell).locator(".jp-Cell-outputArea")

    def run(self) -> None:
        """Runs all cells and returns when the last is done.

        Raises:
            CellError: a cell raised or did not end in time; its source and traceback.
        """
        from playwright.sync_api import TimeoutError as NotInTime

        self.page.evaluate(RUN)
        try:
            self.page.wait_for_function("() => window.cellsDone", timeout=SECONDS * 1000)
        except NotInTime:
            waits = [cell["source"] for cell in self.page.evaluate(CELLS) if cell["running"]]
            raise CellError(f"not done within {SECONDS:g} s; still running: {waits}") from None
        for cell in self.page.evaluate(CELLS):
            for error in cell["errors"]:
                traceback = TERMINAL_COLOUR.sub("", "\n".join(error["traceback"]))
                raise CellError(f"a cell raised {error['ename']}: {error['evalue']}\n{cell['source']}\n{traceback}")

    def restart_kernel(self) -> None:
        """Restarts the kernel, and returns when it is ready; its variables are gone, the outputs stay."""
        self.page.evaluate(RESTART)
        self._wait_for_kernel()

    def _wait_for_kernel(self) -> None:
        from playwright.sync_api import TimeoutError as NotInTime

        try:
            self.page.wait_for_function(READY, timeout=SECONDS * 1000)
        except NotInTime:
            raise RuntimeError(f"no idle kernel within {SECONDS:g} s; {self.lab.log_end()}") from None


class Dashboard(View):
    """A notebook in Voila: its outputs without its code. Voila runs the cells before it serves the page."""

    def open(self) -> None:
        self.page.goto(self.lab.url(f"/voila/render/{self.name}"))
        deadline = time.monotonic() + SOON
        while not self._kernels:  # the page speaks to it once its widgets begin
            if time.monotonic() > deadline:
                raise RuntimeError(f"Voila's page has no kernel; it shows: {self.page.inner_text('body')[:1000]!r}")
            self.page.wait_for_timeout(10)
        if error := self.last_error():
            raise CellError(error)

    @property
    def frame(self) -> Locator:
        return self.page.locator("body")


AView = TypeVar("AView", bound=View)


@contextmanager
def opener(
    kind: type[AView], lab: Lab, browser: Browser, *, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> Iterator[Callable[[Sequence[str]], AView]]:
    """A function that opens notebooks of code cells; what it opened is closed at the end, also what failed."""
    with ExitStack() as ends:

        def opened(cells: Sequence[str]) -> AView:
            name = f"{uuid.uuid4().hex}.ipynb"
            _write(lab.root / name, cells)
            view = kind(lab, browser, name, size)
            ends.callback(view.close)
            view.open()
            return view

        yield opened


def _write(path: Path, cells: Sequence[str]) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
