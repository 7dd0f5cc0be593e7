"""Fixtures of the browser tests: one JupyterLab server and one Chromium for the folder, notebooks and dashboards.

They have the scope of the folder: Playwright keeps an event loop running, which other folders' tests must not meet.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from browser.lab import Lab
    from browser.views import Dashboard, Notebook

FLAGS = (
    "--no-sandbox",  # the tests may run as root
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-quic",
    "--disable-background-networking",  # no look-ups of outside hosts
    "--disable-component-update",
    "--disable-sync",
    "--enable-unsafe-swiftshader",  # WebGL without a GPU
    "--use-gl=angle",
    "--use-angle=swiftshader",
)
COMMANDS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One headless Chromium; skips where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install -e '.[dev]'")
    command = next(filter(None, map(shutil.which, COMMANDS)), None)
    if command is None:
        pytest.skip(f"no browser, looked for {', '.join(COMMANDS)}; on Debian: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=command, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One JupyterLab server with Voila in it."""
    from browser.lab import Lab

    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page of its own context."""
    context = browser.new_context()
    yield context.new_page()
    context.close()


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """A folder to train in, with HTML in its name; nobody trains there any more when the test has ended."""
    from workbench.training.process import beginning, last_log, stop

    folder = tmp_path / "<b>run"
    yield folder
    process = beginning(last_log(folder))
    if process is not None:
        stop(process.pid)


@pytest.fixture
def notebook(lab: Lab, browser: Browser) -> Iterator[Callable[[Sequence[str]], Notebook]]:
    """notebook(cells) -> a notebook of these code cells in JupyterLab, run. It closes after the test."""
    from browser.views import Notebook, opener

    with opener(Notebook, lab, browser) as opened:
        yield opened


@pytest.fixture(scope="module")
def module_notebook(lab: Lab, browser: Browser) -> Iterator[Callable[[Sequence[str]], Notebook]]:
    """As `notebook`, closed after the module: a kernel that imports torch costs seconds, so tests share it."""
    from browser.views import Notebook, opener

    with opener(Notebook, lab, browser) as opened:
        yield opened


@pytest.fixture
def dashboard(lab: Lab, browser: Browser) -> Iterator[Callable[[Sequence[str]], Dashboard]]:
    """dashboard(cells) -> a notebook of these code cells in Voila. It closes after the test."""
    pytest.importorskip("voila", reason="voila is missing: pip install -e '.[dashboard]'")
    from browser.views import Dashboard, opener

    with opener(Dashboard, lab, browser) as opened:
        yield opened
