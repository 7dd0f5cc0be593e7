"""`workbench demo`: execute the tour, with progress on the terminal, and make a report of it that can be handed on."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGES = ("nbclient", "nbconvert", "ipykernel")

DESCRIPTION = """\
Execute the tour, a notebook of some minutes that downloads nothing, and write two files into the folder of --out:
report.html, one page to read or to hand on that needs neither scripts nor a network, and tour.ipynb, the executed
notebook. Runs and figures of the tour go into the same folder. Repeated, it replaces both files.

Ctrl-C stops the notebook as the stop button would and keeps what it did so far; pressed twice, it does so at once.
"""

EXAMPLES = """\
examples:
  workbench demo
  workbench demo --out runs/monday
  workbench demo --notebook lesson.ipynb --out runs/lesson        (a notebook of your own)
"""


def add_commands(commands: Any) -> None:
    demo = commands.add_parser(
        "demo",
        help="execute the tour and make a report of it",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    demo.add_argument("--out", default="runs/demo", metavar="FOLDER", help="default: runs/demo")
    demo.add_argument("--notebook", metavar="FILE", help="default: the tour that comes with the package")
    demo.set_defaults(function=execute_tour)


def execute_tour(arguments: argparse.Namespace) -> int:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise RuntimeError(f"workbench demo needs {', '.join(missing)}: pip install {' '.join(missing)}")
    import nbformat

    from .execution import Execution
    from .page import render

    source = _tour() if arguments.notebook is None else Path(arguments.notebook).expanduser()
    if not source.is_file():
        raise FileNotFoundError(f"no notebook at {source}; give the path of an .ipynb file.")
    notebook = nbformat.read(source, as_version=4)
    out = Path(arguments.out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    executed, report = out / "tour.ipynb", out / "report.html"

    began = time.monotonic()
    try:
        Execution(notebook).run(WORKBENCH_DEMO_OUT=str(out.resolve()))
    except KeyboardInterrupt:
        print(f"Interrupted. What ran is in {executed}.", file=sys.stderr)
        return 130
    except RuntimeError as error:
        raise RuntimeError(f"{error} What ran is in {executed}.") from error
    finally:
        _write(executed, nbformat.writes(notebook))
    seconds = time.monotonic() - began
    words = ["workbench", "demo", "--out", arguments.out]
    words += [] if arguments.notebook is None else ["--notebook", arguments.notebook]
    _write(report, render(notebook, source, command=shlex.join(words), seconds=seconds))
    print(f"report:   {report}  (open it in a browser)")
    print(f"notebook: {executed}  (`jupyter lab {shlex.quote(str(executed))}`)")
    print(f"finished after {seconds:.0f} s.")
    return 0


def _tour() -> Path:
    """Looked up as manifests are: in ./notebooks, then in the package, then beside it."""
    package = Path(__file__).parents[1]
    folders = [Path("notebooks"), package / "notebooks", package.parent / "notebooks"]
    for folder in folders:
        if (folder / "00_tour.ipynb").is_file():
            return folder / "00_tour.ipynb"
    raise FileNotFoundError(
        f"00_tour.ipynb is in none of {', '.join(map(str, folders))}; --notebook FILE executes another one."
    )


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
