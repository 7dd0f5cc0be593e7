"""A JupyterLab server for tests (Voila runs in it too), and a way to ask its kernels.

Everything the server reads or writes lies in one temporary folder: a user's settings never decide a test.
"""

from __future__ import annotations

import ast
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import websocket

REPOSITORY = Path(__file__).parents[2]
SECONDS = 120.0  # for what takes seconds on an idle machine: a server starts, a kernel imports torch
SOON = 30.0  # for what takes less than a second there: a widget answers
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell in the page, also those out of sight
    "docmanager-extension/plugin": {"autosave": False},
}
OPTIONS = (
    "--ip=127.0.0.1",
    "--no-browser",
    "--allow-root",
    "--expose-app-in-browser",  # window.jupyterapp: tests ask it which cells still run
    "--ServerApp.port_retries=0",
    "--ServerApp.terminals_enabled=False",
    "--ServerApp.shutdown_no_activity_timeout=900",  # s; these two end what killed tests leave behind
    "--MappingKernelManager.cull_idle_timeout=900",  # only kernels that no page is connected to
    "--LanguageServerManager.autodetect=False",
    "--LabApp.extension_manager=readonly",
)


class Lab:
    """A running server; `close()` ends it and its kernels.

    Args:
        folder: an empty folder; notebooks lie in its `root`, the server's log is `server.log`.

    Raises:
        RuntimeError: the server ended or did not answer in time; the message ends with its log.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.log = folder / "server.log"
        self.token = secrets.token_hex(16)
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        for name, values in SETTINGS.items():
            file = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values), encoding="utf-8")
        self.root.mkdir()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *OPTIONS, f"--port={self.address.split(':')[1]}"],
                cwd=self.root,
                env=self._environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C on the tests reaches the server through close() only
            )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def _environment(self, folder: Path) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "PYTEST"))}
        return inherited | {
            "JUPYTER_TOKEN": self.token,  # not on the command line, where every process can read it
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_DATA_DIR": str(folder / "data"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
            "JUPYTER_PLATFORM_DIRS": "1",
            "IPYTHONDIR": str(folder / "ipython"),
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]),  # cells may import towers
            "OMP_NUM_THREADS": "1",
        }

    def _wait(self) -> None:
        deadline = time.monotonic() + SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                self.request("GET", "/api/status")
            except urllib.error.URLError:
                time.sleep(0.05)  # between two looks at a port that refuses at once
            else:
                return
        raise RuntimeError(f"JupyterLab did not answer at {self.address}; {self.log_end()}")

    def log_end(self) -> str:
        """The end of the server's log, for messages."""
        return f"the end of the server's log:\n{self.log.read_text(encoding='utf-8', errors='replace')[-3000:]}"

    def request(self, method: str, path: str) -> Any:
        """The server's answer to a REST call, from JSON; None where it has no body."""
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(f"http://{self.address}{path}", method=method, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=SECONDS) as answer:
            return json.loads(answer.read() or "null")

    def url(self, path: str) -> str:
        """The address of a page, with the token that opens it."""
        return f"http://{self.address}{path}?token={self.token}"

    def end_kernel(self, kernel: str) -> None:
        """Ends the kernel with this id; one that ended by itself is fine."""
        try:
            self.request("DELETE", f"/api/kernels/{kernel}")
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 404:
                    raise

    def close(self) -> None:
        """Ends kernels and server; safe to call twice."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)  # the server ends its kernels, then itself
            try:
                self._process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def execute(self, kernel: str, code: str, expression: str = "None") -> Any:
        """Runs `code` in a kernel beside its notebook; the value of `expression` afterwards, through JSON.

        Waits for what the kernel is doing. Arrays and traits with `tolist` become lists.

        Raises:
            RuntimeError: code or expression raised in the kernel, with its error.
            TimeoutError: the kernel did not answer within `SECONDS`.
        """
        value = f"__import__('json').dumps(({expression}), default=lambda a: a.tolist())"
        content = {"code": code, "silent": True, "store_history": False, "allow_stdin": False}
        reply = self._ask(kernel, content | {"user_expressions": {"value": value}})
        for part in (reply, reply.get("user_expressions", {}).get("value", {})):
            if part.get("status") != "ok":
                raise RuntimeError(
                    f"{code or expression!r} in the kernel: {part.get('ename')}: {part.get('evalue')}; "
                    "an expression must have a JSON value"
                )
        return json.loads(ast.literal_eval(reply["user_expressions"]["value"]["data"]["text/plain"]))

    def _ask(self, kernel: str, content: dict[str, Any]) -> dict[str, Any]:
        session, number = uuid.uuid4().hex, uuid.uuid4().hex
        header = {"msg_id": number, "msg_type": "execute_request", "session": session, "username": "", "version": "5.3"}
        message = {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}
        url = f"ws://{self.address}/api/kernels/{kernel}/channels?session_id={session}&token={self.token}"
        deadline = time.monotonic() + SECONDS
        try:
            with closing(websocket.create_connection(url, timeout=SECONDS)) as channel:
                channel.send(json.dumps(message))
                while time.monotonic() < deadline:
                    frame = channel.recv()
                    answer = json.loads(frame) if isinstance(frame, str) else {}  # bytes: some widget's buffers
                    if answer.get("channel") == "shell" and answer["parent_header"].get("msg_id") == number:
                        return answer["content"]
        except websocket.WebSocketTimeoutException:
            pass
        raise TimeoutError(f"the kernel did not answer within {SECONDS:g} s; it may be busy with a cell")
