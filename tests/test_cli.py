"""The `workbench` command: what it prints, what it writes, and what it says when something is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

import workbench as wb
from workbench.cli import main, make_parser

Store = Callable[[str], wb.Run]
Say = Callable[..., tuple[int, str, str]]

TOWER = ("--backbone", "test_vit.r160_in1k", "--weights", "random", "--input-size", "32")
VERBS = ["data import", "data list", "data show", "data check"]
PAPERS = ["papers", "reproduce", "doctor"]
COMMANDS = ["", "demo", "fit", "report", "extract", "predict", "explain", *PAPERS, "lab", "dashboard", "data", *VERBS]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of noise in train and test, without a val split."""
    rng = np.random.default_rng(0)
    for split, number in (("train", 6), ("test", 3)):
        for name in ("ants", "bees"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "photos"


def fails(result: tuple[int, str, str], *parts: str) -> None:
    """Exit code 1, nothing on stdout, and one line on stderr that holds all parts."""
    code, out, err = result
    assert code == 1
    assert out == ""
    assert err.startswith("workbench: ") and err.count("\n") == 1
    for part in parts:
        assert part in err


# -- help and usage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_shows_an_example(say: Say, command: str) -> None:
    code, out, _ = say(*command.split(), "--help")
    assert code == 0
    assert f"  workbench {command}" in out
    assert all(len(line) <= 120 for line in out.splitlines())


def test_the_examples_in_the_help_parse(say: Say) -> None:
    texts = [say(*command.split(), "--help")[1] for command in COMMANDS]
    whole = "\n".join(texts).replace("\\\n", " ")
    lines = [line.split("  (")[0] for text in whole.splitlines() if (line := text.strip()).startswith("workbench ")]
    tried = 0
    for words in {tuple(line.split()[1:]) for line in lines}:
        if "..." not in words and "usage:" not in words:
            assert make_parser().parse_args(words).function
            tried += 1
    assert tried >= 15


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ((), "COMMAND"),
        (("fly",), "invalid choice: 'fly'"),
        (("fit", "--method", "lift"), "fit needs --backbone, --data, --out, or --resume RUN"),
        (("fit", "--resume", "run", "--lr", "0.1", "--set", "tuner=full"), "--set, --lr cannot be changed"),
        (("fit", "--set", "tuner"), "OPTION=VALUE"),
        (
            ("fit", "--method", "lift", "--backbone", "b", "--data", "digits_lt", "--out", "o", "--text-weights", "f"),
            "--text-weights goes with --text",
        ),
        (("data", "import", "x", "--name", "y", "--split", "val"), "THEIRS=OURS"),
        (("report", "run", "--no-such-option"), "--no-such-option"),
    ],
)
def test_a_command_line_that_is_not_understood_ends_with_2(say: Say, words: tuple[str, ...], part: str) -> None:
    code, out, err = say(*words)
    assert (code, out) == (2, "")
    assert part in err


def test_the_installed_command_answers() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workbench", "data", "show", "no_such_set"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "digits_lt" in done.stderr


# -- the whole way on photographs --------------------------------------------------------------------------------------


def test_from_a_folder_of_photographs_to_a_prediction(say: Say, photos: Path) -> None:
    code, out, _ = say("data", "import", photos, "--name", "insects")
    assert code == 0 and "18 images of 2 classes" in out
    assert "insects" in say("data", "list")[1]
    assert "no validation split" in say("data", "show", "insects")[1]
    assert say("data", "check", "insects", "--root", photos)[0] == 0

    fit = ("fit", "--method", "linear_probe", *TOWER, "--data", "insects", "--root", photos)
    code, out, err = say(*fit, "--epochs", 2, "--lr", 0.1, "--seed", 3, "--out", "run")
    assert code == 0 and "run is finished after" in out
    assert "insects has no validation split" in err
    run = wb.Run.load("run")
    (stage,) = run.config["stages"]
    assert (stage["epochs"], stage["lr"], run.config["seed"]) == (2, 0.1, 3)
    assert stage["source"].endswith("2 epochs instead of 20; lr 0.1")

    code, out, _ = say("predict", "run", photos / "test" / "ants" / "0.png")
    lines = out.splitlines()
    assert code == 0 and lines[0].endswith("0.png")
    assert sum(float(line.split()[0]) for line in lines[1:]) == pytest.approx(100, abs=0.2)

    (photos / "test" / "bees" / "1.png").write_text("no image")
    (photos / "test" / "bees" / "2.png").unlink()
    assert say("data", "check", "insects", "--root", photos)[0] == 1
    fails(say("extract", "run"), "1.png", "data check insects")
    fails(say("extract", "run", "--workers", 1), "1.png", "data check insects")
    fails(say("predict", "run", photos / "test" / "bees" / "1.png"), "1.png: not an image")
    fails(say("predict", "run", photos / "test" / "bees" / "2.png"), "2.png is not there")
    fails(say("report", "run", "--split", "val"), "insects has no split 'val'; it has train, test")
    photos.rename(photos.with_name("moved"))
    fails(say("extract", "run", "--split", "train"), "photos is not a folder")
    assert say("extract", "run", "--split", "train", "--root", photos.with_name("moved"))[0] == 0


def test_a_text_tower_of_the_same_name_and_weights_comes_with_one_word(say: Say) -> None:
    clip = ("--backbone", "vit_xsmall_patch16_clip_224.tinyclip_yfcc15m", "--weights", "random", "--input-size", "32")
    fit = ("fit", *clip, "--data", "digits_lt", "--no-val", "--method")
    fails(say(*fit, "zero_shot", "--out", "run"), "zero_shot needs the text tower", "--text")
    code, out, _ = say(*fit, "zero_shot", "--text", "--set", "templates=imagenet_7", "--out", "run")
    assert code == 0 and "run is finished after 0 s." in out
    run = wb.Run.load("run")
    assert run.config["text"] == {"name": clip[1], "weights": "random", "seed": 0, "sha256": None}
    assert run.config["options"]["templates"] == "imagenet_7"
    code, out, _ = say("report", "run", "--per-class", 2, "--cost")
    assert code == 0 and "| all | 10 | 20 |" in out


# -- report and extract ------------------------------------------------------------------------------------------------


def test_report_prints_accuracy_and_separability_and_saves_them(say: Say, copied: Store, tmp_path: Path) -> None:
    run = copied("linear_probe")
    code, out, _ = say("report", run.path, "--per-class", 4, "--out", "figures")
    assert code == 0
    assert "| all | 10 | 40 |" in out and "gamma" in out
    assert "nearest neighbours" not in out and "FLOPs" not in out
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        *("groups.pdf", "groups.csv", "groups.tex", "separability.pdf", "separability.csv")
    }


def test_the_group_rule_is_chosen_and_printed(say: Say, copied: Store) -> None:
    run = copied("linear_probe")
    code, out, _ = say("report", run.path, "--per-class", 4, "--groups", "index:2,5")
    assert code == 0 and "many = classes [0, 2), medium = classes [2, 5), few = classes [5, 10)" in out
    assert "| many | 2 | 8 |" in out and r"few = classes [5, 10)" in (run.path / "report" / "groups.tex").read_text()
    code, _, err = say("report", run.path, "--groups", "oltr")
    assert code == 1 and "choose one of gt100_lt20, gt100_le20, ge100_le20, or index:M,N" in err
    assert say("explain", run.path / "report" / "groups.pdf", "--rerun")[1].endswith("byte for byte.\n")


def test_bank_and_cost_are_added_on_request(say: Say, copied: Store) -> None:
    run = copied("lift")
    code, out, _ = say("report", run.path, "--per-class", 3, "--bank", "--cost")
    assert code == 0
    assert "n = 30 queries; bank of 335 images" in out  # the whole train split, whatever --per-class says of test
    assert "GFLOPs" in out
    assert {path.name for path in (run.path / "report").glob("*.pdf")} == {
        *("groups.pdf", "separability.pdf", "knn.pdf", "cost.pdf")
    }
    names = {path.name for path in (run.path / "features").iterdir()}
    assert {"train-centre-head.npz", "test-centre-head-3-per-class.npz", "test-five-head-3-per-class.npz"} == names


def test_two_methods_are_compared_under_their_names(say: Say, copied: Store) -> None:
    code, out, _ = say("report", copied("lift").path, "--against", copied("linear_probe").path, "--per-class", 4)
    assert code == 0
    assert "lift: %" in out and "linear_probe: %" in out and "difference, points" in out


def test_saved_features_are_read_again_until_the_weights_or_the_file_change(
    say: Say, copied: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = copied("linear_probe")
    request = ("extract", run.path, "--per-class", 2, "--layer", "backbone")
    file = run.path / "features" / "test-centre-backbone-2-per-class.npz"
    code, out, _ = say(*request)
    assert code == 0 and out.startswith(f"{file}: Features(20 images")

    calls: list[object] = []
    extract = wb.extract
    monkeypatch.setattr(wb, "extract", lambda *given, **options: calls.append(given) or extract(*given, **options))
    assert say(*request)[0] == 0 and not calls
    file.write_bytes(b"half a file")
    assert say(*request)[0] == 0 and len(calls) == 1
    assert "is broken and is made again" in caplog.text
    assert say(*request)[0] == 0 and len(calls) == 1
    weights = run.path / "weights.safetensors"
    save_file({name: 2 * tensor for name, tensor in load_file(weights).items()}, weights)
    assert say(*request)[0] == 0 and len(calls) == 2


# -- typical mistakes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"--data": "birds"}, ("no manifest named 'birds'", "digits_lt", "workbench data import")),
        ({"--data": "birds.toml"}, ("no manifest at birds.toml",)),
        ({"--method": "lifting"}, ("'lifting'", "linear_probe, full_finetune")),
        ({"--backbone": "test_vot"}, ("'test_vot'", "Supported are")),
        ({"--backbone": "vit_base_patch16_siglip_224", "--weights": "random"}, ("not supported",)),
        ({"--input-size": "33"}, ("input_size=33", "32")),
        ({"--weights": "nowhere.safetensors"}, ("no weight file at", "nowhere.safetensors")),
        ({"--set": "tunr=full"}, ("no option tunr", "tuner")),
        ({"--set": "tuner=fulll"}, ("'fulll'", "choose one of none, full, partial")),
        ({"--set": "blocks=two"}, ("blocks='two'", "a number of last blocks, or a pair")),
        ({"--set": "bottleneck=two"}, ("--set bottleneck=two", "a whole number or null")),
        ({"--set": "scale=true"}, ("scale takes a number",)),
        ({"--method": "linear_probe", "--set": "augment=no"}, ("augment takes true or false",)),
        ({"--lr": "0"}, ("lr=0.0 must be positive",)),
        ({"--epochs": "0"}, ("epochs=0",)),
        ({"--device": "tpu"}, ("--device tpu",)),
        ({"--out": "."}, ("already holds a file or folder", "choose another")),
    ],
)
def test_a_mistake_in_fit_is_one_line_that_says_what_is_allowed(
    say: Say, tmp_path: Path, changes: dict[str, str], parts: tuple[str, ...]
) -> None:
    words = {"--method": "lift", **dict(zip(TOWER[::2], TOWER[1::2], strict=True)), "--data": "digits_lt"}
    words |= {"--out": "run", **changes}
    fails(say("fit", *(word for pair in words.items() for word in pair)), *parts)
    assert not (tmp_path / "run").exists()


def test_image_files_need_a_root(say: Say, photos: Path) -> None:
    say("data", "import", photos, "--name", "insects")
    fit = ("fit", "--method", "linear_probe", *TOWER, "--data", "insects", "--out", "run")
    fails(say(*fit), "say with --root FOLDER")
    fails(say(*fit, "--root", "nowhere"), "nowhere is not a folder")


def test_a_weight_file_of_another_tower_names_what_differs(say: Say, tmp_path: Path) -> None:
    other = wb.load_backbone("test_vit2.r160_in1k", weights="random")
    save_file({name: tensor.clone() for name, tensor in other.model.state_dict().items()}, tmp_path / "w.safetensors")
    tower = ("--backbone", "test_vit.r160_in1k", "--weights", "w.safetensors")
    words = ("fit", "--method", "lift", *tower, "--data", "digits_lt", "--out", "run")
    fails(say(*words), "w.safetensors does not fit test_vit", "not in the model: blocks.")


def test_an_existing_run_stays_and_is_continued_with_resume(say: Say, copied: Store) -> None:
    run = copied("lift")
    before = (run.path / "config.json").read_bytes()
    words = ("fit", "--method", "lift", *TOWER, "--data", "digits_lt", "--out", run.path)
    fails(say(*words), "already holds a run", f"workbench fit --resume {run.path}")
    assert (run.path / "config.json").read_bytes() == before
    assert say("fit", "--resume", run.path)[0] == 0


@pytest.mark.parametrize(("status", "said"), [("running", "not finished"), ("interrupted", "interrupted")])
def test_a_run_that_is_not_finished_is_not_reported_on(say: Say, copied: Store, status: str, said: str) -> None:
    run = copied("lift")
    run.set_status(status)
    for words in (("report", run.path), ("extract", run.path), ("predict", run.path, "photo.jpg")):
        fails(say(*words), said, f"workbench fit --resume {run.path}")


def test_a_folder_that_is_no_run_is_named(say: Say, tmp_path: Path) -> None:
    for words in (("report", "x"), ("extract", tmp_path), ("predict", tmp_path, "x.jpg"), ("fit", "--resume", "x")):
        fails(say(*words), "is not a run folder")


def test_ctrl_c_ends_with_130_and_traceback_shows_where(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(name: str) -> wb.Manifest:
        raise KeyboardInterrupt

    monkeypatch.setattr(wb.Manifest, "load", stop)
    assert say("data", "show", "digits_lt") == (130, "", "Interrupted.\n")
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError, match="no manifest named"):
        main(["--traceback", "data", "show", "no_such_set"])


def test_an_interrupted_training_ends_with_130_and_says_how_to_go_on(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.progress import Bars

    def stop(self: Bars, clock: object, parts: object) -> None:
        raise KeyboardInterrupt

    words = ("fit", "--method", "linear_probe", *TOWER, "--data", "digits_lt", "--epochs", 2, "--out", "run")
    with monkeypatch.context() as patch:
        patch.setattr(Bars, "step", stop)
        code, out, _ = say(*words)
    assert code == 130 and "`workbench fit --resume run` continues it" in out
    code, out, _ = say("fit", "--resume", "run")
    assert code == 0 and "run is finished" in out
