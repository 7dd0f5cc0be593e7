"""A training that is started on a page goes on without it: a new kernel finds it, stops it and resumes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from browser.views import READY

pytestmark = pytest.mark.slow

CELL = """
from workbench.apps.train import train
app = train("linear_probe", "digits_lt", False, out={out!r})
if app.out is None:
    app.form.fill({{"backbone": "test_vit.r160_in1k", "weights": "random", "text": False, "more": "--input-size 32",
                   "epochs": "1000", "lr": "0.01"}})
app
"""


def test_a_run_outlives_the_page_and_the_kernel(notebook: Callable[..., Any], out: Path) -> None:
    view = notebook([CELL.format(out=str(out))])
    shown = view.output(0)
    shown.get_by_role("button", name="start").click()
    shown.get_by_text("starting", exact=True).wait_for()
    shown.get_by_text("running", exact=True).wait_for()
    shown.get_by_role("img", name="accuracy after").wait_for()
    shown.get_by_role("img", name="mean training loss of").wait_for()
    process = view.evaluate_in_kernel("app.standing.pid")

    view.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    view.page.reload()
    shown.get_by_text("running", exact=True).wait_for()
    view.page.wait_for_function(READY)
    done = view.evaluate_in_kernel("app.standing.done")
    view.wait_in_kernel(f"app.standing.done > {done}")  # still watched

    view.restart_kernel()
    view.run()
    shown.get_by_text("running", exact=True).wait_for()
    assert view.evaluate_in_kernel("app.standing.pid") == process
    assert view.evaluate_in_kernel("app.code.code") == f"train(out={str(out)!r})"

    shown.get_by_role("button", name="stop").click()
    shown.get_by_text("stopped; resume", exact=True).wait_for()
    assert shown.get_by_role("button", name="stop").is_disabled()
    assert shown.get_by_role("button", name="resume").is_enabled()
    assert "<b>run" in shown.inner_text()  # as text
    assert view.errors == []
