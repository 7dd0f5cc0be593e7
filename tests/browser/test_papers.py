"""The papers app on a page: an entry is found and read, and a reproduction goes on without page and kernel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from browser.views import READY

pytestmark = pytest.mark.slow

CELL = """
from workbench.apps.papers import papers
app = papers(out={out!r})
app
"""


def test_an_entry_is_found_read_and_run(notebook: Callable[..., Any], out: Path) -> None:
    view = notebook([CELL.format(out=str(out))])
    shown = view.output(0)
    shown.get_by_label("paper", exact=True).select_option("ballad")
    entries = shown.locator("select[size]")
    entries.locator("option", has_text="ballad:T7").wait_for(state="attached")
    search = shown.get_by_placeholder("search titles, arms, methods")
    search.fill("where to balance")
    search.press("Enter")
    shown.get_by_text("imagenet-lt, places-lt").wait_for()
    shown.get_by_label("measure", exact=True).select_option("few")
    view.wait_in_kernel("app.code.code", f"papers('ballad:T7', out={str(out)!r}).show(measure='few')")
    shown.get_by_role("img", name="paper, imagenet-lt: 59.5").wait_for()
    card = shown.get_by_label("card", exact=True).input_value()
    assert card == "that of the package"
    shown.get_by_label("verdict", exact=True).select_option("reversed")
    verdicts = shown.get_by_role("cell", name="reversed")
    shown.get_by_role("cell", name="undecided").first.wait_for(state="detached")
    assert verdicts.count() > 0

    view.run_in_kernel("app.show('lift:F2')")
    shown.get_by_label("more", exact=True).fill("--jobs 1 --no-search")
    view.wait_in_kernel("app.code.code.startswith('workbench reproduce lift:F2') and '--no-search' in app.code.code")
    shown.get_by_role("button", name="start").click()
    running = shown.get_by_role("status").filter(has_text="workbench reproduce lift:F2")
    running.wait_for()
    view.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    view.page.reload()
    running.wait_for()
    view.page.wait_for_function(READY)
    view.restart_kernel()
    view.run()
    running.wait_for()
    shown.get_by_role("button", name="stop").click()
    shown.get_by_text("lift:F2 was stopped").wait_for()

    view.run_in_kernel("app.show('lift:F2')")
    shown.get_by_label("smoke").check()
    shown.get_by_label("more", exact=True).fill("--jobs 1")
    view.wait_in_kernel("'--smoke' in app.code.code and '--jobs 1' in app.code.code")
    shown.get_by_role("button", name="start").click()
    shown.get_by_role("img", name="lift:F2: groups").wait_for(timeout=120_000)
    assert view.evaluate_in_kernel("app.card.data in app.values.value") and not running.is_visible()
    assert view.last_error() is None and view.errors == []
