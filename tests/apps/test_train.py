"""Training from a notebook: what is asked for, what is shown of a run, and what is said when something is wrong."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench.apps import train as app
from workbench.apps.train import Train, train
from workbench.apps.train_form import asked
from workbench.apps.train_runs import spelled
from workbench.cli import make_parser
from workbench.data import choose_classes
from workbench.methods import METHODS
from workbench.runs import this_process
from workbench.training import process

from .conftest import HOSTILE

Store = Callable[[str], wb.Run]
TOWER = {"backbone": "test_vit.r160_in1k", "weights": "random", "more": "--input-size 32", "text": False}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app, "SECONDS", 0.02)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The words of the trainings that would have begun; none does."""
    found: list[list[str]] = []
    monkeypatch.setattr(app, "begin", lambda words, out: found.append(list(words)))
    return found


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def parsed(shown: Train) -> object:
    command, *words = shlex.split(shown.code.code)
    assert command == "workbench"
    return make_parser().parse_args(words)


# -- what is asked for -------------------------------------------------------------------------------------------------


def test_the_form_is_a_command_line(begun: list[list[str]]) -> None:
    shown = train("linear_probe", "digits_lt", False, out="here/run")
    shown.form.fill(
        TOWER | {"options": "loss=ce 'scale = 2'", "lr": " 0.1 ", "epochs": "", "workers": "2", "seed": "4"}
    )
    given = parsed(shown)
    assert (given.method, given.data, given.backbone, given.weights) == (
        "linear_probe",
        "digits_lt",
        TOWER["backbone"],
        "random",
    )
    assert given.set == [("loss", "ce"), ("scale ", 2)] and (given.lr, given.epochs, given.workers) == (0.1, None, 2)
    assert (given.seed, given.input_size, given.no_val, given.text, given.out) == (4, 32, True, None, "here/run")
    shown.form.start.click()
    assert ["workbench", "fit", *begun[0]] == shlex.split(shown.form.command()) and len(begun) == 1


def test_a_method_and_a_split_fill_the_form(tmp_path: Path) -> None:
    manifest = wb.Manifest.load("digits_lt")
    backbone = wb.load_backbone("test_vit.r160_in1k", "random", input_size=32)
    method = wb.create_method("lift", backbone, manifest.classes, seed=3, tuner="partial", blocks=2)
    shown = train(method, wb.LongTailDataset(manifest, "train"))
    given = parsed(shown)
    options = {"tuner": "partial", "blocks": 2}  # beside what the method itself decided
    assert options.items() <= dict(given.set).items() <= method.options.items()
    assert (given.seed, given.input_size) == (3, 32)
    assert (given.no_val, given.lr, given.epochs, given.text, given.out) == (True, None, None, None, "runs/lift")
    with pytest.raises(ValueError, match=r"wb\.fit"):
        train(method, wb.LongTailDataset(manifest, "train", per_class=2))
    part = choose_classes(manifest, range(4))
    with pytest.raises(ValueError, match="save"):
        train(method, part)
    path = part.save(tmp_path / "part")
    assert parsed(train(method, wb.Manifest.load(path))).data == str(path) != parsed(train(method, manifest)).data
    with pytest.raises(ValueError, match="choose one of zero_shot"):
        train("no_such_method")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_shows_its_options_and_a_free_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "runs" / name).mkdir(parents=True)
    shown = train(name)
    assert parsed(shown).method == name and shown.form.out.value == f"runs/{name}-2"
    assert asked(name, None, None, None)["method"] == name and f"options of {name}: " in shown.form.known.value


def test_a_folder_that_was_typed_stays(begun: list[list[str]]) -> None:
    shown = train()
    assert shown.form.out.value == "runs/lift"
    shown.form.method.value = "vpt"
    assert shown.form.out.value == "runs/vpt" and parsed(shown).out == "runs/vpt"
    shown.form.out.value = "mine"
    shown.form.method.value = "lpt"
    assert parsed(shown).out == "mine"


# -- what is shown of a run --------------------------------------------------------------------------------------------


def test_a_finished_run_shows_the_numbers_of_convergence(store: Store) -> None:
    run = store("linear_probe")
    shown = train(out=run.path)
    assert "finished" in shown.head.value and shown.progress.value == 1 and shown.stopper.disabled
    assert shown.resumer.disabled and shown._left is None
    curve = wb.convergence(run).curves[run.path.name]
    dots = [mark for mark in shown.curves.accuracy.spec["marks"] if mark["kind"] == "dot"]
    values = [curve.accuracy[split, g] for g in ("many", "medium", "few", "mean_class") for split in ("train", "val")]
    expected = 100 * np.concatenate([v[np.isfinite(v)] for v in values])
    np.testing.assert_allclose([dot["y"] for dot in dots], expected)
    assert [dot["y"] for dot in shown.curves.loss.spec["marks"] if dot["kind"] == "dot"] == curve.loss.tolist()
    assert f"{100 * curve.accuracy['val', 'few'][-1]:.1f}" in shown.curves.numbers.value
    again = eval(shown.code.code, {"train": train})
    assert again.out == shown.out and again.curves.accuracy.spec == shown.curves.accuracy.spec


def test_a_run_without_stages_has_no_curves_and_says_so(copied: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = copied("linear_probe")
    config = run.config | {"stages": []}
    monkeypatch.setattr(wb.Run, "config", property(lambda self: config))
    (run.path / "metrics.csv").unlink()
    shown = train(out=run.path)
    assert "finished" in shown.head.value and shown.progress.value == 1
    assert "trains nothing" in shown.curves.empty[0].value and shown.curves.accuracy.layout.display == "none"


def test_a_run_in_training_is_watched_until_it_ends(copied: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run, signals = copied("linear_probe"), []
    monkeypatch.setattr(app, "stop", signals.append)
    read: list[Path] = []
    real = app.standing
    monkeypatch.setattr(app, "standing", lambda run: (read.append(run.path), real(run))[1])
    with run.locked():
        run.set_status("running", **this_process())
        shown = train(out=run.path)
        assert "running" in shown.head.value and f"process {os.getpid()}" in shown.note.value
        assert "GiB" in shown.note.value and not shown.stopper.disabled and shown.resumer.disabled
        time.sleep(0.2)
        assert len(read) <= 2, "nothing changed: only file times are read"
        table = run.metrics
        run.write_metrics([*table.to_dict("records"), {**table.iloc[-1].to_dict(), "epoch": 2, "loss": 0.125}])
        until(lambda: "0.125" in shown.curves.loss.spec["alt"])
        shown.stopper.click()
        assert signals == [os.getpid()] and "stopping" in shown.head.value and shown.stopper.disabled
        run.set_status("interrupted", stage=0, epoch=1, step=0)
        shown.wait(30)
    assert "stopped; resume" in shown.head.value and not shown.resumer.disabled
    assert shown._left is None and shown.code.code == f"train(out={str(run.path)!r})"
    assert any("stopped; resume" in name for name, _ in shown.list.runs.options)
    assert shown.list.runs.value == str(run.path)


def test_closing_the_app_ends_its_thread_and_not_the_training(copied: Store) -> None:
    run = copied("linear_probe")
    with run.locked():
        run.set_status("running", **this_process())
        shown = train(out=run.path)
        thread = shown._thread
        assert thread is not None and thread.is_alive()
        shown.close()
        thread.join(10)
        assert not thread.is_alive() and run.status["status"] == "running"


def test_a_run_in_training_below_runs_is_found_again(copied: Store, tmp_path: Path) -> None:
    shutil.copytree(copied("linear_probe").path, tmp_path / "runs" / "other")
    run = wb.Run.load(shutil.copytree(copied("lift").path, tmp_path / "runs" / "now"))
    assert train().out is None
    with run.locked():
        run.set_status("running", **this_process())
        shown = train()
        assert shown.out == Path("runs/now") and shown.code.code == "train(out='runs/now')"
        shown.list.runs.value = "runs/other"
        assert shown.out == Path("runs/other") and "finished" in shown.head.value
        shown.close()


def test_a_killed_run_is_called_so_and_resumed(copied: Store, begun: list[list[str]]) -> None:
    run = copied("linear_probe")
    run.set_status("running", **this_process())  # and nobody holds the lock
    shown = train(out=run.path)
    assert "was killed; resume" in shown.head.value and "killed" in shown.message.value
    shown.resumer.click()
    assert begun == [["--resume", str(run.path)]]


# -- what is said when something is wrong ------------------------------------------------------------------------------


def test_what_the_command_line_refuses_is_shown_in_its_words(tmp_path: Path) -> None:
    shown = train("linear_probe", "digits_lt", out="new/run")
    shown.form.fill(TOWER | {"options": "loss"})  # a mistake that is found before torch is loaded
    shown.form.start.click()
    shown.wait(30)
    assert "not begun" in shown.head.value and "not of the form OPTION=VALUE" in shown.message.value
    assert "<details>" in shown.message.value and "usage: workbench fit" in shown.message.value
    assert "not of the form" in train(out="new/run").message.value  # and after a restart of the kernel
    shown.form.fill({"options": "'loss"})
    assert "options" in shown.form.message.value and "quotation" in shown.form.message.value


def test_a_folder_that_is_taken_is_left_alone(copied: Store, tmp_path: Path, begun: list[list[str]]) -> None:
    run = copied("linear_probe")
    (tmp_path / "file").write_text("")
    shown = train()
    for out, said in (
        (run.path, "already holds a run"),
        ("file", "already holds something else"),
        ("", "Name the run"),
    ):
        shown.form.fill({"out": str(out)})
        shown.form.start.click()
        assert said in shown.form.message.value
    assert begun == []


def test_a_failed_run_shows_its_error_and_its_log_escaped(copied: Store) -> None:
    run = copied("linear_probe")
    run.set_status("failed", error=f"OSError: {HOSTILE} the disk is full")
    process.log_path(run.path).write_text(f"$ workbench fit --out x  # process 1, 2.0\nworkbench: {HOSTILE}\n")
    shown = train(out=run.path)
    assert "the disk is full" in shown.message.value and "<details>" in shown.message.value
    assert HOSTILE not in shown.message.value and not shown.resumer.disabled


def test_damage_and_folders_without_a_run_are_told(copied: Store, tmp_path: Path) -> None:
    assert "No run is open" in train().message.value
    (tmp_path / "empty").mkdir()
    assert "There is no run in empty yet" in train(out="empty").message.value
    run = wb.Run.load(shutil.copytree(copied("linear_probe").path, tmp_path / "runs" / HOSTILE.replace("/", "")))
    (run.path / "checkpoint.safetensors").write_bytes(b"nothing")
    shown = train()
    assert shown.list.runs.options[1][0].endswith("damaged")
    shown.list.runs.value = str(run.path.relative_to(tmp_path))
    again = train(out=run.path)
    for each in (shown, again):
        assert "damaged" in each.message.value and "<img" not in each.message.value + each.head.value
        assert each._left is None and each.resumer.disabled


def test_a_run_of_another_machine_cannot_be_stopped_from_here(copied: Store) -> None:
    run = copied("linear_probe")
    run.set_status("running", host="elsewhere", pid=os.getpid())
    shown = train(out=run.path)
    assert "on elsewhere" in shown.note.value and shown.stopper.disabled and platform.node() != "elsewhere"
    with pytest.raises(ValueError, match="where it was begun"):
        shown.stop()
    shown.close()


def test_times_are_spelled_for_people() -> None:
    assert [spelled(s) for s in (-3, 42.4, 130, 7300)] == ["0 s", "42 s", "2 min 10 s", "2 h 1 min"]


@pytest.mark.slow
def test_a_run_is_started_stopped_and_resumed_in_a_process_of_its_own(tmp_path: Path) -> None:
    shown = train("linear_probe", "digits_lt", out="here/run")
    shown.form.fill(TOWER | {"epochs": "300", "lr": "0.01"})
    shown.form.start.click()
    until(lambda: shown.standing is not None and shown.standing.done >= 2)
    again = train(out="here/run")  # the kernel was restarted
    assert again.standing is not None and again.standing.pid == shown.standing.pid
    again.stopper.click()
    for each in (shown, again):
        each.wait(60)
        assert "stopped; resume" in each.head.value
    stopped = again.standing.done
    assert 2 <= stopped < 300
    again.resumer.click()
    again.wait(120)
    assert "finished" in again.head.value and again.progress.value == 1
    assert len(wb.Run.load("here/run").metrics) == 300
