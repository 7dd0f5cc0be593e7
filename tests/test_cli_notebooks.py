"""`workbench lab` and `workbench dashboard`: what is copied, what is refused, what a page is made of, how it ends."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.apps.dashboard import OPENERS, dashboard
from workbench.cli import main, make_parser, notebooks
from workbench.cli.asking import APPS, Asked, saved
from workbench.cli.copying import RECORD, copy_notebooks, without_solutions

HOSTILE = "x'); __import__('os').system('touch owned') #\n\"\"\"\\<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, which `dashboard` changes."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cell(source: str, *, kind: str = "code", tags: tuple[str, ...] = ()) -> dict[str, Any]:
    made = {"cell_type": kind, "id": source[:3], "metadata": {"tags": list(tags)} if tags else {}, "source": [source]}
    return made | ({"outputs": [{"text": "42"}], "execution_count": 7} if kind == "code" else {})


def notebook(*cells: dict[str, Any]) -> bytes:
    return json.dumps({"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


@pytest.fixture
def originals(here: Path) -> Path:
    """A notebook, a lab with a solution, a picture, and what somebody's own work left between them."""
    folder = here / "originals"
    files = {
        "00_tour.ipynb": notebook(cell("1 + 1")),
        "labs/1.ipynb": notebook(cell("def f(): ..."), cell("def f(): return 42", tags=("solution",))),
        "picture.png": b"\x89PNG",
        "runs/first/figure.png": b"a result",
        ".ipynb_checkpoints/00_tour.ipynb": b"{}",
        "labs/answers.json": b"{}",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


COPIES = ("00_tour.ipynb", "labs/1.ipynb", "picture.png")


# -- copies ------------------------------------------------------------------------------------------------------------


def test_notebooks_and_pictures_are_copied_and_nothing_else(originals: Path, here: Path) -> None:
    copied = copy_notebooks(originals, here / "mine")
    found = {path.relative_to(here / "mine").as_posix() for path in (here / "mine").rglob("*") if path.is_file()}
    assert copied.new == COPIES and found == {*COPIES, RECORD}
    assert all((here / "mine" / name).read_bytes() == (originals / name).read_bytes() for name in COPIES)
    assert copy_notebooks(originals, here / "mine").same == COPIES


def test_a_changed_file_stays_and_an_old_original_is_brought_up_to_date(originals: Path, here: Path) -> None:
    copy_notebooks(originals, here / "mine")
    (here / "mine" / "00_tour.ipynb").write_bytes(b"my own work")
    (originals / "00_tour.ipynb").write_bytes(notebook(cell("1 + 2")))
    (originals / "labs/1.ipynb").write_bytes(notebook(cell("a new edition")))
    for _ in range(2):  # the second time, too
        copied = copy_notebooks(originals, here / "mine")
        assert copied.kept == ("00_tour.ipynb",)
        assert (here / "mine" / "00_tour.ipynb").read_bytes() == b"my own work"
    assert (here / "mine" / "labs/1.ipynb").read_bytes() == notebook(cell("a new edition"))
    (here / "mine" / "00_tour.ipynb").unlink()
    assert copy_notebooks(originals, here / "mine").new == ("00_tour.ipynb",)


@pytest.mark.parametrize("record", [b"", b"no json", b"[1]"])
def test_without_a_record_every_other_file_counts_as_changed(originals: Path, here: Path, record: bytes) -> None:
    copy_notebooks(originals, here / "mine")
    (here / "mine" / RECORD).write_bytes(record)
    (originals / "picture.png").write_bytes(b"another")
    assert copy_notebooks(originals, here / "mine").kept == ("picture.png",)
    assert (here / "mine" / "picture.png").read_bytes() == b"\x89PNG"


def test_a_link_is_left_alone_and_not_followed(originals: Path, here: Path) -> None:
    (here / "mine").mkdir()
    (here / "elsewhere").write_bytes(b"somebody's file")
    (here / "mine" / "00_tour.ipynb").symlink_to(here / "elsewhere")
    (here / "mine" / "picture.png").symlink_to(here / "nowhere")
    assert copy_notebooks(originals, here / "mine").kept == ("00_tour.ipynb", "picture.png")
    assert (here / "elsewhere").read_bytes() == b"somebody's file" and not (here / "nowhere").exists()


def test_students_get_a_place_for_the_answer(originals: Path, here: Path) -> None:
    copy_notebooks(originals, here / "course", students=True)
    cells = json.loads((here / "course" / "labs/1.ipynb").read_bytes())["cells"]
    assert [c["source"] for c in cells] == [["def f(): ..."], ["# your answer: here, or in the cell above"]]
    assert "solution" not in (here / "course" / "labs/1.ipynb").read_text() and "42" not in str(cells[1])
    assert (here / "course" / "00_tour.ipynb").read_bytes() == (originals / "00_tour.ipynb").read_bytes()
    assert copy_notebooks(originals, here / "course").renewed == ("labs/1.ipynb",)  # a teacher has it whole again


def test_a_solution_in_words_is_stripped_with_its_pictures() -> None:
    words = cell("Because 42.", kind="markdown", tags=("solution",)) | {"attachments": {"a.png": {"image/png": "42"}}}
    stripped = without_solutions(notebook(words, cell("é")))
    first, second = json.loads(stripped)["cells"]
    assert "42" not in str(first) and first["source"] == ["*Your answer*"]
    assert second == cell("é") and "é".encode() in stripped


def test_the_command_copies_the_packages_notebooks(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    assert main(["lab", "mine", "--copy"]) == 0
    assert (here / "mine" / "00_tour.ipynb").is_file() and (here / "mine" / "apps" / "train.ipynb").is_file()
    (here / "mine" / "00_tour.ipynb").write_text("mine")
    capsys.readouterr()
    assert main(["lab", "mine", "--copy"]) == 0
    assert "yours, left as it is: '00_tour.ipynb'" in capsys.readouterr().out
    assert main(["lab", str(Path(__file__).parents[1] / "notebooks"), "--copy"]) == 1
    assert "where the originals are" in capsys.readouterr().err


# -- servers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["interrupt", "SIGTERM", "SIGHUP"])
def test_a_server_ends_with_the_command(how: str) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with notebooks._server([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        assert process.poll() is None
        if how == "interrupt":
            raise KeyboardInterrupt
        os.kill(os.getpid(), getattr(signal, how))
    assert process.poll() is not None
    assert signal.getsignal(signal.SIGTERM) is before


def test_jupyterlab_starts_in_the_folder_on_this_computer_only(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    @contextmanager
    def record(command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
        started.append((command, options))
        with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process:
            yield process

    monkeypatch.setattr(notebooks, "_server", record)
    assert main(["lab", "mine", "--no-open"]) == 1  # it ended by itself, with an error
    ((command, options),) = started
    assert command[:3] == [sys.executable, "-m", "jupyterlab"] and "--ServerApp.ip=127.0.0.1" in command
    assert "--no-browser" in command and "--allow-root" not in command and options == {"cwd": Path("mine")}


def test_only_a_free_port_is_taken() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"--port {port} cannot be used"):
            notebooks._free_port(port)
    assert notebooks._free_port(port) == port
    assert notebooks._free_port(None) > 1023
    with pytest.raises(ValueError, match="--port 70000"):
        notebooks._free_port(70000)


# -- what a dashboard is asked -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["lab", "dashboard"])
def test_the_help_fits_the_screen_and_its_examples_parse(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0 and all(len(line) <= 120 for line in out.splitlines())
    lines = [line.split("  (")[0].split() for line in re.sub(r"\\\n", " ", out).splitlines() if "  workbench " in line]
    parsed = [make_parser().parse_args(words[1:]) for words in lines]
    assert len(parsed) >= 3
    for arguments in parsed:
        if command == "dashboard":
            asked = Asked(app=arguments.app, features=tuple(arguments.features), runs=tuple(arguments.run))
            assert asked.problem() is None


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("fly", "choose from 'explore', 'compare'"),
        ("explore --features a b", "explore takes at most 1 --features; 2 were given"),
        ("lens --features a", "lens takes no --features"),
        ("distances --features a", "of training images and of test images"),
        ("loss_bench --features a --run b", "not both"),
        ("prompts --features a", "give its --run"),
        ("train --run a --data b", "leave --data out"),
        ("train --root .", "leave --root out"),
        ("explore --data toybox_lt", "give one of these"),
        ("prior --run a --data toybox_lt", "shows no images"),
        ("explore --run a --texts b", "--texts are the sentences"),
    ],
)
def test_a_dashboard_that_makes_no_sense_is_refused(words: str, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["dashboard", *words.split()])
    assert stop.value.code == 2 and part in capsys.readouterr().err


def a_run(folder: Path, *features: str) -> Path:
    (folder / "features").mkdir(parents=True)
    for name in ("config.json", *(f"features/{name}" for name in features)):
        (folder / name).write_bytes(b"{}")
    return folder


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("explore --features none.npz", ("none.npz", "workbench extract")),
        ("explore --run nowhere", ("nowhere", "workbench fit")),
        ("explore --run begun", ("workbench extract begun --split test --views centre",)),
        ("distances --run tested", ("workbench extract tested --split train",)),
        ("loss_bench --run trained", ("val or test images", "--split val")),
        ("lens --run begun --root nowhere", ("--root nowhere",)),
        ("descriptions --run tested --texts none.json", ("--texts none.json",)),
        ("lens --run begun --data no_such_set", ("no_such_set", "toybox_lt")),
    ],
)
def test_what_is_missing_is_said_before_a_server_starts(
    words: str, parts: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    a_run(here / "begun")
    a_run(here / "tested", "test-centre-head.npz")
    a_run(here / "trained", "train-centre-head.npz")
    monkeypatch.setattr(notebooks, "find_spec", lambda name: name)  # Voila may be missing where tests run
    assert main(["dashboard", *words.split()]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and all(part in err for part in parts)


def test_without_voila_the_line_that_installs_it_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notebooks, "find_spec", lambda name: None)
    assert main(["dashboard", "explore"]) == 1
    assert "pip install 'workbench[dashboard]'" in capsys.readouterr().err
    assert main(["lab", "mine"]) == 1
    assert "pip install jupyterlab" in capsys.readouterr().err


def test_of_several_features_in_a_run_those_of_one_view_and_the_head_are_taken(here: Path) -> None:
    run = a_run(
        here / "run",
        "test-centre-backbone.npz",
        "test-ten-head.npz",
        "test-centre-head.npz",
        "birds-test-centre-head.npz",
    )
    assert saved(run, "test").name == "test-centre-head.npz"
    assert saved(run, "val|test").name == "test-centre-head.npz"
    (run / "features" / "test-centre-head.npz").unlink()
    assert saved(run, "test").name == "test-ten-head.npz"


# -- the page ----------------------------------------------------------------------------------------------------------


def test_what_comes_from_outside_is_only_ever_the_literal_of_a_string() -> None:
    hostile = {"app": "explore", "features": [HOSTILE], "runs": ["\udcff"], "data": HOSTILE, "root": None}
    made = json.loads(json.dumps(notebooks.page(**hostile, here=HOSTILE)))
    (only,) = made["cells"]
    brought, call = ast.parse(only["source"]).body
    assert isinstance(brought, ast.ImportFrom) and isinstance(call, ast.Expr) and isinstance(call.value, ast.Call)
    assert call.value.args == [] and isinstance(call.value.func, ast.Name)
    given = {word.arg: ast.literal_eval(word.value) for word in call.value.keywords}  # refuses all but literals
    assert given == {**hostile, "here": HOSTILE}
    only["source"].encode()  # a name that is no UTF-8 can be written all the same


def test_the_server_is_for_this_user_on_this_computer() -> None:
    settings = notebooks.settings(1234, "secret")
    assert settings["Voila"]["ip"] == "127.0.0.1" and settings["Voila"]["token"] == "secret"
    assert settings["MappingKernelManager"]["cull_idle_timeout"] > 0


def toybox_features(folder: Path, name: str, **source: Any) -> Path:
    """Features of one image of each class, as `extract` would save them."""
    images = wb.LongTailDataset(wb.Manifest.load("toybox_lt"), "test", per_class=1)
    logits = np.random.default_rng(0).normal(size=(len(images), len(images.classes))).astype(np.float32)
    features = wb.Features(
        vectors=logits[:, :8],
        logits=logits,
        predicted=logits.argmax(1),
        confidence=np.full(len(images), 0.5, dtype=np.float32),
        labels=images.labels,
        ids=images.ids,
        classes=images.classes,
        extras={},
        source={"manifest": "toybox_lt", "split": "test", "per_class": 1} | source,
    )
    return features.save(folder / name)


def opened(here: Path, app: str, **given: Any) -> Any:
    return dashboard(**Asked(app=app, **given).given(), here=str(here), folder=str(here / "scratch"))


def test_an_app_opens_with_features_from_a_file_and_their_images(here: Path) -> None:
    toybox_features(here, "mine.npz")
    shown = opened(here, "explore", features=("mine.npz",))
    assert type(shown).__name__ == "Explore" and len(shown.features) == 60
    assert np.array_equal(shown.grid.pictures.images.ids, shown.features.ids)
    shown.work.wait()


@pytest.mark.parametrize("name", ["no_such_set", "../../etc/passwd"])
def test_without_images_the_app_opens_and_says_how_to_get_them(here: Path, name: str) -> None:
    toybox_features(here, "mine.npz", manifest=name)
    note, shown = opened(here, "explore", features=("mine.npz",)).children
    assert shown.grid.pictures.images is None and "--data NAME" in note.children[1].value
    shown.work.wait()


def test_runs_side_by_side_are_named_by_their_folders(here: Path) -> None:
    for folder in ("a/lift", "b/lift", "c/probe"):
        a_run(here / folder)
        toybox_features(here / folder / "features", "test-centre-head.npz")
    _, shown = opened(here, "compare", runs=("a/lift", "b/lift", "c/probe")).children  # after a note: no images
    assert list(shown.arms) == ["lift", "lift (2)", "probe"]


def test_what_goes_wrong_in_the_page_is_a_message_and_no_markup(here: Path) -> None:
    shown = dashboard("explore", features=[HOSTILE], here=str(here), folder=str(here))
    message = shown.children[1].value
    assert 'role="alert"' in message and "&lt;script&gt;" in message and "<script>" not in message


def test_every_app_has_an_opener_and_every_opener_a_line_in_the_help() -> None:
    assert list(OPENERS) == list(APPS)


@pytest.mark.slow
def test_a_dashboard_serves_its_page_to_its_own_user_and_ends_cleanly(here: Path) -> None:
    pytest.importorskip("voila", reason="voila is missing: pip install -e '.[dashboard]'")
    toybox_features(here, "mine.npz")
    (here / "tmp").mkdir()
    environment = os.environ | {"TMPDIR": str(here / "tmp"), "IPYTHONDIR": str(here / "ipython")}
    words = [sys.executable, "-m", "workbench", "dashboard", "explore", "--features", "mine.npz", "--no-open"]
    fetch = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment}
    # a shell that runs the tests in the background has Ctrl-C ignored, and what it starts inherits that
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(words, **pipes, preexec_fn=heard) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline().decode()
            assert line.startswith("explore: http://127.0.0.1:"), process.stderr.read()
            address = line.split(": ", 1)[1].strip()
            with fetch(address.partition("?")[0], timeout=100) as answer:
                assert "/login" in answer.geturl()  # without the token
            with fetch(address, timeout=300) as answer:
                text = answer.read().decode()
            assert "application/vnd.jupyter.widget-view+json" in text and "Explore(children=" in text
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(100)
            finally:
                process.kill()  # else leaving the block would wait for ever
    assert process.returncode == 0
    with pytest.raises(urllib.error.URLError):
        fetch(address, timeout=10)
    assert not list((here / "tmp").glob("workbench-*"))
