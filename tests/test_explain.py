"""`workbench explain`: what made a figure, in another process; --rerun by registered names only, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench.cli import main
from workbench.data import Classes
from workbench.diagnostics import accuracy, knn, separability
from workbench.diagnostics.base import Result, read_provenance
from workbench.features import Features

CLASSES = Classes(("a", "b", "c"), np.array([200, 50, 5]))


def features(run: Path, name: str, seed: int = 0) -> Features:
    """Saved as the features of a run, whose source says so."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), 8)
    made = Features(
        vectors=rng.normal(size=(24, 4)).astype(np.float32) + labels[:, None],
        logits=rng.normal(size=(24, 3)).astype(np.float16),
        predicted=rng.integers(0, 3, 24),
        confidence=rng.random(24).astype(np.float32),
        labels=labels,
        ids=np.array([f"{i}.jpg" for i in range(24)]),
        classes=CLASSES,
        source={"manifest": "three", "split": "test", "seed": seed, "run": str(run), "layer": name},
    )
    made.save(run / "features" / f"{name}.npz")
    return made


def edited(figure: Path, **changes: Any) -> Path:
    """The figure with other provenance, as a stranger could write it."""
    note = read_provenance(figure)
    old, new = json.dumps(note, sort_keys=True), json.dumps(note | changes, sort_keys=True)
    text = figure.read_text(encoding="utf-8")
    quoted = [each.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") for each in (old, new)]
    assert quoted[0] in text
    path = figure.with_name("edited.svg")
    path.write_text(text.replace(*quoted), encoding="utf-8")
    return path


@pytest.fixture
def figure(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return separability.separability(features(tmp_path / "run", "head")).save(tmp_path / "figure.svg")


def test_explains_a_figure_in_another_process(figure: Path) -> None:
    command = [sys.executable, "-m", "workbench", "explain", str(figure)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    note = json.loads(said)
    assert note == read_provenance(figure) and note["diagnostic"] == "separability"


def results(run: Path) -> dict[str, Result]:
    one, two, bank = features(run, "one"), features(run, "two", 1), features(run, "bank", 2)
    return {
        "leave-one-out": knn.knn_accuracy(bank, bank, k=(1, 3)),
        "two arms of two and one": accuracy.group_report([one, two], compare=bank, names=("LIFT", "LPT")),
    }


@pytest.mark.parametrize("name", ["leave-one-out", "two arms of two and one"])
def test_rerun_gives_the_same_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    made = results(tmp_path / "run")[name].save(tmp_path / "figure.pdf", venue="cvpr")
    assert main(["explain", str(made), "--rerun"]) == 0
    assert "figure-rerun.pdf is the same figure, byte for byte." in capsys.readouterr().out
    assert (tmp_path / "figure-rerun.pdf").read_bytes() == made.read_bytes()


def test_features_elsewhere_are_asked_for_and_checked(
    figure: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = (tmp_path / "run" / "features" / "head.npz").rename(tmp_path / "moved.npz")
    assert main(["explain", str(figure), "--rerun"]) == 1
    assert "is source 1 of the figure" in (said := capsys.readouterr().err) and "--features" in said
    features(tmp_path / "run", "other", 1)
    (tmp_path / "run" / "features" / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    assert main(["explain", str(figure), "--rerun"]) == 1, "other features of the same run are not taken"
    wrong = str(tmp_path / "run" / "features" / "other.npz")
    capsys.readouterr()
    assert main(["explain", str(figure), "--rerun", "--features", wrong]) == 1
    assert "they differ in 'layer, seed'" in capsys.readouterr().err
    assert main(["explain", str(figure), "--rerun", "--features", str(right), wrong]) == 1
    assert "2 files were given with --features; the figure has 1 sources" in capsys.readouterr().err
    assert main(["explain", str(figure), "--rerun", "--features", str(right)]) == 0
    assert "the same figure, byte for byte" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"diagnostic": "os:system"}, "made by 'os:system', which is no registered diagnostic"),
        ({"diagnostic": "workbench.diagnostics.separability:separability"}, "no registered diagnostic"),
        ({"diagnostic": "../../evil.py"}, "no registered diagnostic"),
        ({"diagnostic": "strange_module"}, "no registered diagnostic"),
        ({"diagnostic": "strange_module.work"}, "no registered diagnostic"),
        ({"diagnostic": "strange_module:work"}, "no registered diagnostic"),
        ({"diagnostic": "separability:separability"}, "no registered diagnostic"),
        ({"diagnostic": "separability\n"}, "no registered diagnostic"),
        ({"diagnostic": "Separability"}, "no registered diagnostic"),
        ({"diagnostic": ""}, "no registered diagnostic"),
        ({"diagnostic": "\x1b[2J"}, r"made by '\x1b[2J'"),
        ({"diagnostic": ["separability"]}, "is not what a workbench result writes"),
        ({"sources": "run"}, "is not what a workbench result writes"),
        ({"sources": ["run"]}, "names a source that is no JSON object"),
        ({"venue": ["cvpr"]}, "the venue in"),
    ],
)
def test_edited_metadata_is_refused(
    figure: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    said: str,
) -> None:
    (tmp_path / "strange_module.py").write_text("raise SystemExit('a figure ran code')")
    monkeypatch.syspath_prepend(tmp_path)
    path = str(edited(figure, **changes))
    for command in (["explain", path], ["explain", path, "--rerun"]):
        assert main(command) == 1
        captured = capsys.readouterr()
        assert said in captured.err and "\x1b" not in captured.err and not captured.out
    assert "strange_module" not in sys.modules


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"diagnostic": "knn_accuracy"}, "knn_accuracy takes (bank: Features, queries: Features)"),
        ({"diagnostic": "grad_cam"}, "grad_cam takes (method: Method, images: Tensor)"),
        ({"diagnostic": "class_similarity"}, "class_similarity has no argument 'normalize'"),
        ({"arguments": {"features": "x.npz"}}, "separability has no argument 'features'"),
        ({"diagnostic": "taxonomy_levels", "arguments": {"text": {"name": "clip"}}}, "keeps a description only"),
        ({"diagnostic": "group_report"}, "names, seeds and sources do not fit"),
        ({"diagnostic": "topk"}, "methods and sources do not fit"),
        ({"sources": []}, "was not computed from features"),
        ({"sources": [{"manifest": "three"}]}, "source 1 of the figure names no run"),
        ({"view": "sideways"}, "view='sideways' is not one of"),
    ],
)
def test_what_cannot_be_rerun_is_said(
    figure: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    assert main(["explain", str(edited(figure, **changes)), "--rerun"]) == 1
    assert said in capsys.readouterr().err


def test_a_figure_is_not_overwritten_and_options_go_together(figure: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = figure.read_bytes()
    assert main(["explain", str(figure), "--rerun", "--out", str(figure)]) == 1
    assert "is the figure itself" in capsys.readouterr().err and figure.read_bytes() == before
    with pytest.raises(SystemExit):
        main(["explain", str(figure), "--out", "x.svg"])
    assert "--features and --out go with --rerun" in capsys.readouterr().err
