"""A run folder: what it refuses, what it records, and what it gives back on this machine or another."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import workbench as wb
from workbench.data import read_image
from workbench.runs import read_tensors, write_tensors

Store = Callable[[str], wb.Run]


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A few digits of each split as PNG files, one folder per class."""
    manifest = wb.Manifest.load("digits_lt")
    for split in ("train", "val", "test"):
        dataset = wb.LongTailDataset(manifest, split, per_class=4)
        for i in range(len(dataset)):
            folder = tmp_path / "digits" / split / str(dataset.labels[i])
            folder.mkdir(parents=True, exist_ok=True)
            dataset.image(i).save(folder / f"{i}.png")
    return tmp_path / "digits"


# -- making and opening ------------------------------------------------------------------------------------------------


def test_a_new_run_has_its_settings_and_is_running(tmp_path: Path) -> None:
    classes = wb.Manifest.load("digits_lt").classes
    run = wb.Run.create(tmp_path / "a" / "run", {"method": "lift"}, classes)
    assert wb.Run.load(run.path).config["method"] == "lift"
    assert run.classes == classes
    assert run.status == {"status": "running"}
    assert run.metrics.empty


@pytest.mark.parametrize("kind", ["run", "folder", "file"])
def test_create_leaves_what_is_there_as_it_is(tmp_path: Path, kind: str) -> None:
    classes, path = wb.Manifest.load("digits_lt").classes, tmp_path / "run"
    if kind == "run":
        wb.Run.create(path, {"seed": 1}, classes)
    elif kind == "folder":
        path.mkdir()
        (path / "photo.jpg").touch()
    else:
        path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"left as it is.*workbench fit --resume"):
        wb.Run.create(path, {"seed": 2}, classes)
    if kind == "run":
        assert wb.Run.load(path).config["seed"] == 1
    elif kind == "file":
        assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path], "nothing is left beside it"


def test_a_run_folder_is_whole_or_it_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes, path = wb.Manifest.load("digits_lt").classes, tmp_path / "run"

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(wb.Run, "set_status", stopped)
        wb.Run.create(path, {}, classes)
    assert list(tmp_path.iterdir()) == []
    path.mkdir()  # as an older version left one whose process was killed
    assert wb.Run.create(path, {"seed": 2}, classes).config["seed"] == 2


def test_what_is_no_run_is_refused_by_name(tmp_path: Path, copied: Store) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match="is not a run folder"):
            wb.Run.load(path)
    run = copied("linear_probe")
    config = run.path / "config.json"
    text = config.read_text()
    config.write_text(json.dumps(json.loads(text) | {"format": 99}))
    with pytest.raises(ValueError, match="run format 99; this version reads 1"):
        wb.Run.load(run.path)
    config.write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        wb.Run.load(run.path)


def test_its_text_says_method_data_and_status(store: Store) -> None:
    assert "lift on digits_lt, finished" in repr(store("lift"))


# -- weights -----------------------------------------------------------------------------------------------------------


def test_the_method_comes_back_frozen_with_the_trained_weights(store: Store) -> None:
    run = store("lift")
    method = run.method()
    saved = load_file(run.weights_path)
    assert saved.keys() == method.state().keys()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in method.state().items())
    assert not method.training
    assert not any(parameter.requires_grad for parameter in method.parameters())
    assert not torch.equal(run.build().head.weight, method.head.weight)


def test_a_damaged_weights_file_is_named(copied: Store) -> None:
    run = copied("linear_probe")
    content = run.weights_path.read_bytes()
    for broken in (content[: len(content) // 2], b"", b"no weights"):
        run.weights_path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"weights\.safetensors is damaged"):
            run.method()


def test_weights_of_other_classes_are_refused(copied: Store) -> None:
    run = copied("linear_probe")
    tensors = load_file(run.weights_path)
    save_file({name: tensor[:7].clone() for name, tensor in tensors.items()}, run.weights_path)
    with pytest.raises(ValueError, match=r"10 classes.*head\.weight is \(7, 64\), needed \(10, 64\)"):
        run.method()


def test_a_run_without_weights_says_how_to_get_them(copied: Store) -> None:
    run = copied("linear_probe")
    run.weights_path.unlink()
    run.set_status("interrupted")
    with pytest.raises(FileNotFoundError, match=r"no weights yet \(interrupted\).*resume"):
        run.method()


def test_the_hash_of_the_weights_changes_with_them(copied: Store) -> None:
    run = copied("linear_probe")
    before = run.weights_sha256
    assert len(before) == 64
    save_file({name: tensor + 1 for name, tensor in load_file(run.weights_path).items()}, run.weights_path)
    assert run.weights_sha256 != before


def test_tensors_and_their_record_survive_a_file(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(3)}
    write_tensors(tmp_path / "x.safetensors", tensors, {"epoch": 2})
    found, record = read_tensors(tmp_path / "x.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert record == {"epoch": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


# -- predictions on files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lift", "linear_probe"])
def test_predictions_of_files_are_those_of_extract(store: Store, tmp_path: Path, name: str) -> None:
    run = store(name)
    dataset = run.dataset("test", per_class=1)
    paths = [tmp_path / f"{i}.png" for i in range(len(dataset))]
    for i, path in enumerate(paths):
        dataset.image(i).save(path)
    features = wb.extract(run.method(), dataset)
    for i, found in enumerate(run.predict(paths, k=3)):
        assert found.path == str(paths[i])
        assert found.names[0] == run.classes.names[features.predicted[i]]
        assert found.probabilities[0] == pytest.approx(features.confidence[i], abs=1e-5)
        assert len(found.names) == 3 and list(found.probabilities) == sorted(found.probabilities, reverse=True)


def test_photographs_of_any_shape_and_mode_are_predicted(store: Store, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 90, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.jpg")
    for found in store("lift").predict([tmp_path / "wide.png", tmp_path / "grey.jpg"], k=99):
        assert len(found.names) == 10
        assert sum(found.probabilities) == pytest.approx(1, abs=1e-5)


def test_a_file_that_is_no_image_is_named_before_anything_is_computed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "good.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    monkeypatch.setattr(wb.Run, "method", lambda self: pytest.fail("the model was built"))
    run = store("lift")
    for name in ("half.png", "empty.jpg", "text.jpg"):
        with pytest.raises(ValueError, match=f"{name}: "):
            run.predict([tmp_path / "good.png", tmp_path / name])
    with pytest.raises(FileNotFoundError, match=r"missing\.jpg is not there"):
        run.predict([tmp_path / "missing.jpg"])
    with pytest.raises(ValueError, match="k=0"):
        run.predict([tmp_path / "good.png"], k=0)


# -- the data set of a run ---------------------------------------------------------------------------------------------


def test_a_split_comes_back_with_the_images_of_the_training(store: Store) -> None:
    dataset = store("lift").dataset("val")
    other = wb.LongTailDataset(wb.Manifest.load("digits_lt"), "val")
    assert dataset.ids.tolist() == other.ids.tolist()
    assert len(store("lift").dataset("val", per_class=2)) == 20
    with pytest.raises(ValueError, match="no split 'dev'"):
        store("lift").dataset("dev")


def test_images_that_moved_are_found_under_a_new_root(digits: Path, tmp_path: Path) -> None:
    report = wb.import_dataset(digits, "digit_files", out=tmp_path / "manifests")
    train = wb.LongTailDataset(report.manifest, "train", root=digits)
    backbone = wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=32)
    method = wb.create_method("linear_probe", backbone, report.manifest.classes)
    stages = [replace(stage.shortened(1), batch_size=32) for stage in method.stages(report.manifest)]
    run = wb.fit(method, train, out=tmp_path / "run", stages=stages)
    before = read_image(digits / str(train.ids[0])).tobytes()

    moved = digits.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="digits is not a folder"):
        run.dataset("test")
    found = run.dataset("train", root=moved)
    assert found.image(0).tobytes() == before
    assert len(wb.extract(run.method(), run.dataset("test", root=moved))) == 40

    wb.import_dataset(moved, "digit_files", splits={"val": "spare"}, out=tmp_path / "manifests", overwrite=True)
    with pytest.raises(ValueError, match="is not the one this was made with"):
        run.dataset("test", root=moved)


# -- one writer --------------------------------------------------------------------------------------------------------

HOLD = """
import sys
from workbench.runs import Run
with Run.load(sys.argv[1]).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_that_another_process_trains_is_left_alone(copied: Store) -> None:
    run = copied("linear_probe")
    run.set_status("running")
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, run.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(RuntimeError, match="Another process is training"):
            wb.resume(run.path)
        assert run.status == {"status": "running"}
    finally:
        other.kill()
        other.communicate()
    with run.locked():  # a killed process holds nothing
        pass


# -- provenance --------------------------------------------------------------------------------------------------------


def test_a_run_records_all_that_it_came_from(store: Store) -> None:
    run = store("lift")
    config, manifest = run.config, wb.Manifest.load("digits_lt")
    assert {"torch", "timm", "numpy", "workbench", "python"} <= config["provenance"].keys()
    assert {"machine", "threads", "gpu"} <= config["provenance"].keys()
    assert torch.__version__.startswith(config["provenance"]["torch"])
    assert (config["seed"], config["fit_seed"], config["allow_test"]) == (0, 0, False)
    assert config["train"]["manifest_sha256"] == config["val"]["manifest_sha256"] == manifest.sha256
    assert config["backbone"]["name"] == "test_vit.r160_in1k" and config["backbone"]["sha256"] is None
    assert config["options"]["bottleneck"] == 2
    assert [stage["epochs"] for stage in config["stages"]] == [2]
    assert "2 epochs instead of 10" in config["stages"][0]["source"]
    assert run.status["status"] == "finished" and run.status["seconds"] > 0
    assert len(run.metrics) == 2


def test_a_weight_file_is_recorded_with_its_hash_and_must_stay_the_same(tmp_path: Path) -> None:
    tower = wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=32)
    file = tmp_path / "tower.safetensors"
    save_file({name: tensor.clone() for name, tensor in tower.model.state_dict().items()}, file)
    backbone = wb.load_backbone("test_vit.r160_in1k", weights=file, input_size=32)
    manifest = wb.Manifest.load("digits_lt")
    method = wb.create_method("linear_probe", backbone, manifest.classes)
    stages = [stage.shortened(1) for stage in method.stages(manifest)]
    run = wb.fit(method, wb.LongTailDataset(manifest, "train", per_class=2), out=tmp_path / "run", stages=stages)
    assert len(run.config["backbone"]["sha256"]) == 64
    save_file({name: 2 * tensor for name, tensor in load_file(file).items()}, file)
    with pytest.raises(ValueError, match="is not the weight file asked for"):
        run.method()
