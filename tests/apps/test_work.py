"""Python ends while apps still work: no thread is cut off within compiled code, and nothing is said of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import workbench as wb

CUT_OFF = """
import threading, torch
from workbench.apps.work import Work

begun, ended = threading.Event(), []

def task(step):
    begun.set()
    for _ in range(2000):
        torch.rand(64, 64) @ torch.rand(64, 64)

work = Work()
work.start("products", task, ended.append, ended.append)
begun.wait()
"""
ENDLESS = """
import threading, time
from workbench.apps.work import Work

begun, answers = threading.Event(), []

def task(step):
    begun.set()
    while True:
        step(1, 2)
        time.sleep(0.001)

work = Work()
work.start("for ever", task, answers.append, answers.append)
begun.wait()
"""
EVERY = """
import workbench as wb
from workbench.apps.papers import papers

manifest = wb.Manifest.load("toybox_lt")
images = {split: wb.LongTailDataset(manifest, split, per_class=1) for split in ("train", "test")}
text, tower = wb.load_text_tower("toybox_clip"), wb.load_backbone("toybox_clip")
method = wb.create_method("hlc", tower, manifest.classes, text=text, texts=manifest.texts, visual="none").eval()
train, test = (wb.extract(method, part) for part in images.values())
lpt = wb.create_method("lpt", wb.load_backbone("toybox_vit"), manifest.classes)
apps = [
    wb.explore(test, images["test"], method), wb.compare({"a": test, "b": test}, images["test"]),
    wb.prompts(lpt, images["test"]), wb.lens(lpt, images["test"]), wb.distances(train, test, images), wb.train(),
    wb.loss_bench(), wb.prior(test), wb.descriptions(method, test, images["test"]),
    papers("lift:T6"),
]
print(len(apps))
"""


def ended(code: str, folder: object) -> str:
    """What a Python says that runs the code and ends; it must end well and without a complaint."""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=str(folder), timeout=120)
    assert (found.returncode, found.stderr) == (0, "")
    return found.stdout


@pytest.mark.parametrize("code", [CUT_OFF, ENDLESS], ids=["within torch", "a task without an end"])
def test_python_ends_well_while_a_task_runs(code: str, tmp_path: object) -> None:
    assert ended(code, tmp_path) == ""


@pytest.mark.slow
def test_a_script_that_opens_all_apps_ends_well(tmp_path: object) -> None:
    assert ended(EVERY, tmp_path).strip() == str(len(wb.APPS))
