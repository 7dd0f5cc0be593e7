"""Bars: one at a time, none where nobody watches, and no trouble in a notebook."""

from __future__ import annotations

import sys

import pytest
import tqdm.auto
import tqdm.notebook

import workbench as wb
from workbench.methods import Clock


def clock(step: int, steps: int = 4) -> Clock:
    return Clock(epoch=step // 2, epochs=2, step=step, steps=steps)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)


@pytest.mark.usefixtures("watched")
def test_a_training_has_one_bar_with_its_label_epoch_and_loss() -> None:
    with wb.Bars("LIFT") as bars:
        for step in range(4):
            bars.step(clock(step), {"loss": 0.5})
        assert bars.bar is not None and bars.bar.n == bars.bar.total == 4
        shown = str(bars.bar)
        assert shown.startswith("LIFT training: 100%") and "epoch 2/2, loss 0.500" in shown
        first = bars.bar
        bars.step(clock(0), {"loss": 0.5})
        assert bars.bar is not first and bars.bar.n == 1, "a second stage of the same length has a bar of its own"
        bars.encode(0, {"done": 64, "total": 100})
        assert bars.bar.desc == "LIFT images" and bars.bar.n == 64
    assert bars.bar is None


def test_a_log_has_lines_for_epochs_and_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with wb.Bars() as bars:
        bars.step(clock(0), {"loss": 0.5})
        bars.epoch({"stage": "only", "epoch": 0, "loss": 0.5, "val_mean_class": 0.25})
        bars.file(3, {"total": 9})
    assert capsys.readouterr() == ("", "only, epoch 1: loss 0.500, val_mean_class 0.250\n")


def test_in_a_notebook_the_bar_is_a_widget_and_epochs_are_ordinary_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tqdm.auto, "tqdm", tqdm.notebook.tqdm)
    monkeypatch.setattr(tqdm.notebook, "display", lambda widget: print("a widget"), raising=False)
    with wb.Bars("LIFT") as bars:
        bars.step(clock(0), {"loss": 0.5})
        bars.epoch({"stage": "only", "epoch": 0, "loss": 0.5})
        assert bars.bar is not None
        left, bar, _ = bars.bar.container.children
        assert left.value.startswith("LIFT") and (bar.value, bar.max) == (1, 4)
    assert capsys.readouterr() == ("a widget\nonly, epoch 1: loss 0.500\n", "")
