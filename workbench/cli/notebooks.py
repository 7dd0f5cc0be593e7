"""`workbench lab` and `workbench dashboard`: the notebooks in JupyterLab, and one app as a page of its own.

Both start a server of this Python on 127.0.0.1 and end it, with its kernels, when they are ended.
"""

from __future__ import annotations

import argparse
import json
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .asking import APPS, Asked
from .copying import copy_notebooks

LAB = """\
Copy the notebooks that come with the package (the tour, one per app, one per paper, how-tos, labs) into FOLDER and
open JupyterLab there. A notebook that you changed is never overwritten: it stays, and its name is printed. To have the
original back, rename or delete yours and say `workbench lab` again. Ctrl-C ends JupyterLab and its kernels.
"""

LAB_EXAMPLES = """\
examples:
  workbench lab
  workbench lab ~/course --students          (the labs without their solutions)
  workbench lab ~/course --students --copy   (copies only, to hand on)
"""

DASHBOARD = """\
Serve one app as a page, without notebook and code, on this computer only. APP is one of

  {apps}

Without more it shows a small example from the toybox; with --features or --run your own. What is missing is said
before the server starts. Each open page is a process with a memory of its own. Ctrl-C ends the server and its pages.
"""

DASHBOARD_EXAMPLES = """\
examples:
  workbench dashboard explore
  workbench dashboard explore --run runs/first                    (after `workbench extract runs/first`)
  workbench dashboard compare --run runs/first runs/second
  workbench dashboard distances --features runs/first/features/train-centre-head.npz \\
                                           runs/first/features/test-centre-head.npz
  workbench dashboard explore --features test.npz --data birds --root ~/photos
"""

PORT = 8866  # Voila's own
IDLE = 900  # seconds after which a kernel ends that no page is connected to
PATIENCE = 120  # seconds for a server to answer, on a busy machine


def add_commands(commands: Any) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    lab = commands.add_parser(
        "lab", help="copy the notebooks and open JupyterLab", description=LAB, epilog=LAB_EXAMPLES, formatter_class=raw
    )
    lab.add_argument("folder", nargs="?", default="workbench-notebooks", metavar="FOLDER", help="default: %(default)s")
    lab.add_argument("--students", action="store_true", help='without cells that have the tag "solution"')
    lab.add_argument("--copy", action="store_true", help="copy only, start nothing")
    lab.add_argument("--no-open", action="store_true", help="start JupyterLab without opening a browser")
    lab.add_argument("--allow-root", action="store_true", help="handed to JupyterLab, which else refuses root")
    lab.set_defaults(function=open_lab)

    dashboard = commands.add_parser(
        "dashboard",
        help="serve one app as a page on this computer",
        description=DASHBOARD.format(apps=", ".join(APPS)),
        epilog=DASHBOARD_EXAMPLES,
        formatter_class=raw,
    )
    dashboard.add_argument("app", choices=tuple(APPS), metavar="APP")
    dashboard.add_argument("--features", nargs="+", default=[], metavar="FILE", help="what `workbench extract` saved")
    dashboard.add_argument(
        "--run", nargs="+", default=[], metavar="RUN", help="a run folder; compare and lens: several"
    )
    dashboard.add_argument("--data", metavar="NAME", help="the data set, where it is not the one they were made from")
    dashboard.add_argument("--root", metavar="FOLDER", help="where the images of the data set are now")
    dashboard.add_argument("--texts", metavar="FILE", help="descriptions: the sentences that the run was given")
    dashboard.add_argument("--port", type=int, metavar="N", help=f"default: {PORT}, or a free one")
    dashboard.add_argument("--no-open", action="store_true", help="print the address without opening a browser")
    dashboard.set_defaults(function=open_dashboard, usage_error=dashboard.error)


# -- lab ---------------------------------------------------------------------------------------------------------------


def open_lab(arguments: argparse.Namespace) -> int:
    folder = Path(arguments.folder).expanduser()
    copied = copy_notebooks(_originals(), folder, students=arguments.students)
    print(f"{folder}: {copied}")
    for name in copied.kept:
        print(f"  yours, left as it is: {name!a}")
    if arguments.copy:
        return 0
    if find_spec("jupyterlab") is None:
        raise RuntimeError("workbench lab needs jupyterlab: pip install jupyterlab")
    command = [sys.executable, "-m", "jupyterlab", "--ServerApp.ip=127.0.0.1"]
    command += ["--no-browser"] * arguments.no_open + ["--allow-root"] * arguments.allow_root
    print("JupyterLab starts; Ctrl-C ends it.", flush=True)
    status = 0
    with _server(command, cwd=folder) as process:
        status = process.wait()
    return 1 if status else 0


def _originals() -> Path:
    """In the package, or, in a checkout, beside it."""
    package = Path(__file__).parents[1]
    for folder in (package / "notebooks", package.parent / "notebooks"):
        if (folder / "00_tour.ipynb").is_file():
            return folder
    raise FileNotFoundError(f"no notebooks in {package} or beside it; install the package again.")


# -- dashboard ---------------------------------------------------------------------------------------------------------


def open_dashboard(arguments: argparse.Namespace) -> int:
    asked = Asked(
        app=arguments.app,
        features=tuple(arguments.features),
        runs=tuple(arguments.run),
        data=arguments.data,
        root=arguments.root,
        texts=arguments.texts,
    )
    if problem := asked.problem():
        arguments.usage_error(problem)
    if find_spec("voila") is None:
        raise RuntimeError("workbench dashboard needs voila: pip install 'workbench[dashboard]'")
    given = asked.given()
    port, token = _free_port(arguments.port), secrets.token_urlsafe(16)
    with tempfile.TemporaryDirectory(prefix="workbench-") as name:
        folder = Path(name)  # readable by this user only: it holds the token
        (folder / "voila.json").write_text(json.dumps(settings(port, token)), encoding="utf-8")
        notebook = page(**given, here=str(Path.cwd()), folder=name)
        (folder / f"{asked.app}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
        command = [sys.executable, "-m", "voila", f"{asked.app}.ipynb"]
        log = folder / "voila.log"
        with log.open("wb") as out, _server(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT) as process:
            if _answers(process, port):
                address = f"http://127.0.0.1:{port}/?token={token}"
                print(f"{asked.app}: {address}\nCtrl-C ends it.", flush=True)
                if not arguments.no_open:
                    webbrowser.open(address)
                process.wait()
            words = log.read_text(encoding="utf-8", errors="replace").split("\n")
            last = next((line.strip() for line in reversed(words) if line.strip()), "")
            raise RuntimeError(f"Voila did not stay up on port {port}; its last words: {last!a}")
    return 0


def settings(port: int, token: str) -> dict[str, Any]:
    """Voila's configuration. It is a file, because others can read a command line, and the token opens the page."""
    return {
        "Voila": {"ip": "127.0.0.1", "port": port, "port_retries": 0, "open_browser": False, "token": token},
        "VoilaConfiguration": {"kernel_spec_manager_class": "workbench.cli.execution.ThisPython"},
        "MappingKernelManager": {"cull_idle_timeout": IDLE, "cull_interval": 60},
    }


def page(**given: Any) -> dict[str, Any]:
    """The notebook that Voila shows: `apps.dashboard.dashboard(**given)`.

    given: names and paths that may come from anywhere; each is in the code as the literal of a string, never as code.
    """
    arguments = ", ".join(f"{name}={value!r}" for name, value in given.items())
    source = f"from workbench.apps.dashboard import dashboard\n\ndashboard({arguments})"
    cell = {"cell_type": "code", "id": "app", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def _free_port(asked: int | None) -> int:
    for port in (PORT, 0) if asked is None else (asked,):
        with closing(socket.socket()) as free:
            try:
                free.bind(("127.0.0.1", port))
            except (OSError, OverflowError) as error:
                if asked is not None:
                    raise ValueError(f"--port {asked} cannot be used ({error}); leave it out for a free one.") from None
            else:
                return int(free.getsockname()[1])
    raise OSError("no free port on 127.0.0.1.")


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with closing(socket.socket()) as door:
            if door.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.1)
    return False


# -- both --------------------------------------------------------------------------------------------------------------


@contextmanager
def _server(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A server process, ended with its kernels when the block is left, by Ctrl-C and by a signal to end, too.

    It is in a session of its own: JupyterLab answers the terminal's Ctrl-C with a question, and SIGTERM at once.
    """

    def leave(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), leave) for name in names}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)
    try:
        yield process
    except KeyboardInterrupt:
        print("\nending the server", file=sys.stderr)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
