"""An app whose kernel is gone says so: after a restart, after its death, and in a notebook that was opened again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from browser.views import READY, Dashboard, Notebook

pytestmark = pytest.mark.slow

CELL = """
from workbench.apps.train import train
app = train(out={out!r})
app
"""


@pytest.fixture(scope="module")
def view(module_notebook: Callable[[Sequence[str]], Notebook], tmp_path_factory: pytest.TempPathFactory) -> Notebook:
    return module_notebook([CELL.format(out=str(tmp_path_factory.mktemp("runs") / "lift"))])


def test_a_restarted_kernel_is_told_and_the_cell_that_runs_again_is_alive(view: Notebook) -> None:
    app = view.output(0).locator(".wb-app")
    start, gone = app.get_by_role("button", name="start"), app.get_by_role("alert")
    start.wait_for()
    assert gone.count() == 0 and not start.evaluate("button => Boolean(button.closest('[inert]'))")
    view.restart_kernel()
    gone.filter(has_text="The kernel was restarted").wait_for()
    assert start.evaluate("button => Boolean(button.closest('[inert]'))"), "a control that does nothing is not offered"
    app.get_by_role("button", name="copy").click()
    app.get_by_role("button", name="copied").wait_for()
    assert view.page.evaluate("() => navigator.clipboard.readText()").startswith("workbench fit "), (
        "the code can still be had"
    )
    chains = app.locator(".jupyter-widgets-disconnected").evaluate_all(
        "all => all.filter(part => getComputedStyle(part, '::before').content !== 'none').length"
    )
    assert chains == 0, "no broken chain on every widget"
    view.run()
    start.wait_for()
    assert gone.count() == 0
    app.get_by_label("epochs").fill("7")
    view.wait_in_kernel("app.form.fields['epochs'].value", "7")
    assert view.last_error() is None and view.errors == []


def test_a_notebook_opened_again_after_its_kernel_says_what_to_do(view: Notebook) -> None:
    lost = view.output(0).locator(".wb-lost")
    view.output(0).locator(".wb-app").wait_for()
    lost.wait_for(state="hidden")
    view.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    view.restart_kernel()
    view.page.reload()
    lost.filter(has_text="Run this cell").wait_for()
    view.page.wait_for_function(READY)
    view.run()
    lost.wait_for(state="hidden")


def test_a_kernel_that_died_is_told(view: Notebook) -> None:
    app = view.output(0).locator(".wb-app")
    app.get_by_role("button", name="start").wait_for()
    os.kill(view.evaluate_in_kernel("__import__('os').getpid()"), signal.SIGKILL)  # as for want of memory
    app.get_by_role("alert").filter(has_text="Run the notebook's cells again").wait_for()


def test_a_page_whose_kernel_died_says_to_load_it_again(
    dashboard: Callable[[Sequence[str]], Dashboard], tmp_path: Path
) -> None:
    view = dashboard([CELL.format(out=str(tmp_path / "lift"))])
    app = view.frame.locator(".wb-app")
    app.get_by_role("button", name="start").wait_for()
    os.kill(view.evaluate_in_kernel("__import__('os').getpid()"), signal.SIGKILL)
    app.get_by_role("alert").filter(has_text="Load the page again").wait_for()
