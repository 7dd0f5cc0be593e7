"""`workbench report RUN --data OTHER`: the same question asked of the run's own images and of another data set's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench.cli import main
from workbench.data import match_classes
from workbench.data.manifest import Classes, GroupRule, Manifest, Split

Store = Callable[[str], wb.Run]
TOWER = ("--backbone", "test_vit.r160_in1k", "--weights", "random", "--input-size", "32")


def manifest_of(names: tuple[str, ...], rows: list[tuple[str, int]], name: str = "other") -> Manifest:
    """A test split of pictures of digits, by key, under other class names."""
    split = Split(np.array([key for key, _ in rows], np.str_), np.array([label for _, label in rows], np.int64))
    classes = Classes(names, np.zeros(len(names), np.int64))
    return Manifest(name=name, title="", licence="", source="", kind="digits", splits={"test": split}, classes=classes)


def digits(*labels: int, number: int = 6) -> list[str]:
    """Keys of the first test images of some digits."""
    test = Manifest.load("digits_lt").split("test")
    return [key for label in labels for key in test.paths[test.labels == label][:number].tolist()]


def write_table(path: Path, pairs: list[tuple[str, str]]) -> Path:
    path.write_text("class,run_class\n" + "".join(f"{one},{two}\n" for one, two in pairs))
    return path


# -- matching ----------------------------------------------------------------------------------------------------------

KNOWN = Classes(("ape", "bat", "cow", "dog"), [200, 50, 40, 5], GroupRule())


def test_classes_are_matched_by_name_whatever_their_order_and_others_are_counted() -> None:
    other = manifest_of(("dog", "eel", "bat"), [("0/1", 0), ("0/2", 1), ("0/3", 1), ("0/4", 2)])
    matching = match_classes(other, KNOWN)
    assert matching.of_other.tolist() == [3, -1, 1] and matching.of_known.tolist() == [-1, 1, -1, 3]
    assert matching.left_out("test") == (1, 2) and matching.shared == 2
    seen = matching.manifest("test")
    assert seen.classes == KNOWN
    assert (seen.split("test").paths.tolist(), seen.split("test").labels.tolist()) == (["0/1", "0/4"], [3, 1])


def test_equal_lists_of_names_match_by_place_even_with_a_name_twice() -> None:
    names = ("missile", "sunglasses", "missile")
    matching = match_classes(manifest_of(names, [("0/1", 2)]), Classes(names, [1, 1, 1]))
    assert matching.manifest("test").split("test").labels.tolist() == [2]
    other = match_classes(manifest_of(("sunglasses", "missile"), [("0/1", 1)]), Classes(names, [1, 1, 1]))
    assert other.of_other.tolist() == [1, -1]  # which missile is not known


def test_a_table_merges_classes_and_the_decision_is_between_them_only(tmp_path: Path) -> None:
    other = manifest_of(("fish", "beast", "bird"), [("0/1", 2), ("0/2", 1), ("0/3", 0)])
    table = write_table(tmp_path / "map.csv", [("beast", "bat"), ("bird", "ape"), ("beast", "cow")])
    matching = match_classes(other, KNOWN, table)
    assert matching.merged.names == ("beast", "bird") and matching.merged.counts.tolist() == [90, 200]
    assert matching.merged.groups.tolist() == ["medium", "many"]
    assert matching.left_out("test") == (1, 1) and matching.shared == 2
    assert matching.manifest("test").split("test").labels.tolist() == [0, 1]
    logits = np.log(np.array([[0.30, 0.25, 0.25, 0.20], [0.05, 0.0125, 0.0125, 0.925]], np.float32)).astype(np.float16)
    predicted, confidence = matching.decide(logits)
    assert predicted.tolist() == [0, 1]  # .25 + .25 against .30; .025 against .05, for dog is no answer
    np.testing.assert_allclose(confidence, [0.5 / 0.8, 0.05 / 0.075], atol=2e-3)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("class,name\n", "columns class and run_class"),
        ("class,run_class\n", "no lines"),
        ("class,run_class\nbird,ape\n", "line 2: no class 'bird'; there are fish, beast"),
        ("class,run_class\nfish,eel\n", "line 2: no run_class 'eel'; there are ape, bat, cow, dog"),
        ("class,run_class\nfish,ape\nbeast,ape\n", "line 3: 'ape' has a class already"),
    ],
)
def test_a_wrong_table_says_what_is_wrong(tmp_path: Path, lines: str, said: str) -> None:
    (tmp_path / "map.csv").write_text(lines)
    with pytest.raises(ValueError, match=said):
        match_classes(manifest_of(("fish", "beast"), [("0/1", 0)]), KNOWN, tmp_path / "map.csv")


def test_without_a_common_class_the_error_shows_both_and_names_the_table() -> None:
    with pytest.raises(ValueError, match=r"its classes are x, the run's ape, bat, cow, dog.*--classes MAP\.csv"):
        match_classes(manifest_of(("x",), [("0/1", 0)]), KNOWN)


# -- the report --------------------------------------------------------------------------------------------------------


def test_some_of_the_classes_in_another_order(
    copied: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied("linear_probe")
    rows = [(key, 0) for key in digits(7)] + [(key, 1) for key in digits(0)] + [(key, 2) for key in digits(3)]
    path = manifest_of(("7", "zero", "3"), rows, "some").save(tmp_path / "manifests")
    assert main(["report", str(run.path), "--data", str(path)]) == 0
    out = capsys.readouterr().out
    assert "digits_lt, test:" in out and "some, test (domain shift): 2 of the 3 classes of some matched by name" in out
    assert "left out: 6 images of 1 classes without a match" in out
    assert out.count("| all | 10 | 100 |") == 1 and out.count("| all | 10 | 12 |") == 1  # 50 a class at home
    assert {"groups.pdf", "groups-some.pdf", "groups-some.csv"} <= {p.name for p in (run.path / "report").iterdir()}
    there = wb.Features.load(run.path / "features" / "some-test-centre-head.npz")
    home = wb.Features.load(run.path / "features" / "test-centre-head.npz")
    place = [home.ids.tolist().index(key) for key in there.ids]
    assert np.array_equal(there.predicted, home.predicted[place])  # the same pictures: the same decisions
    assert there.labels.tolist() == [7] * 6 + [3] * 6


def test_merged_classes_are_asked_of_both_data_sets(
    copied: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied("linear_probe")
    rows = [(key, int(key[0]) % 2) for key in digits(*range(10), number=50)]
    path = manifest_of(("even", "odd"), rows, "parity").save(tmp_path / "manifests")
    table = write_table(tmp_path / "map.csv", [(("even", "odd")[i % 2], str(i)) for i in range(10)])
    words = ["report", str(run.path), "--data", str(path), "--classes", str(table)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "2 of the 2 classes of parity matched by the table" in out
    assert "both tables decide between these 2 classes only" in out
    lines = [line for line in out.splitlines() if line.startswith("| all | 2 | 500 |")]
    assert len(lines) == 2 and lines[0] == lines[1]  # the same pictures

    calls: list[object] = []
    extract = wb.extract
    monkeypatch.setattr(wb, "extract", lambda *given, **options: calls.append(given) or extract(*given, **options))
    assert main(words) == 0 and not calls
    capsys.readouterr()
    write_table(table, [("even", "2"), ("odd", "3"), ("odd", "1")])
    assert main(words) == 0 and len(calls) == 1  # the other set has other labels now, and the run's own has not
    out = capsys.readouterr().out
    assert out.count("| all | 2 | 150 |") == 1 and out.count("| all | 2 | 500 |") == 1


def test_two_methods_are_compared_on_the_other_data_set_too(
    copied: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = manifest_of(tuple("01"), [(key, int(key[0])) for key in digits(0, 1)], "two").save(tmp_path / "manifests")
    words = ["report", str(copied("lift").path), "--against", str(copied("linear_probe").path), "--data", str(path)]
    assert main([*words, "--per-class", "4"]) == 0
    out = capsys.readouterr().out
    assert out.count("difference, points") == 2 and out.count("| all | 10 | 8 |") == 2
    assert "both tables are of images of these classes; the method decides between all of its own" in out


def test_mistakes_are_said(copied: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(copied("linear_probe").path)
    with pytest.raises(SystemExit, match="2"):
        main(["report", run, "--classes", "map.csv"])
    assert "--data-root and --classes go with --data" in capsys.readouterr().err
    assert main(["report", run, "--data", "toybox_sketch"]) == 1
    assert "toybox_sketch has no class of the run" in capsys.readouterr().err
    assert main(["report", run, "--data", "imagenet_sketch"]) == 1
    assert "workbench data import FOLDER --as imagenet_sketch" in capsys.readouterr().err
    files = replace(manifest_of(tuple("01"), [("a.jpg", 0)], "files"), kind="files").save(tmp_path / "manifests")
    assert main(["report", run, "--data", str(files)]) == 1
    assert "say with --data-root FOLDER where they are" in capsys.readouterr().err
    assert main(["report", run, "--data", str(files), "--data-root", str(tmp_path / "nowhere")]) == 1
    assert "nowhere is not a folder" in capsys.readouterr().err
    path = manifest_of(tuple("01"), [(digits(0)[0], 0)], "two").save(tmp_path / "manifests")
    assert main(["report", run, "--data", str(path), "--split", "val"]) == 1
    assert "two has no split 'val'; it has test" in capsys.readouterr().err


@pytest.mark.slow
def test_toybox_sketch_beside_toybox_lt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    manifest = wb.Manifest.load("toybox_lt")
    backbone = wb.load_backbone("toybox_vit")
    method = wb.create_method("linear_probe", backbone, manifest.classes)
    train = wb.LongTailDataset(manifest, "train", per_class=4)
    wb.fit(method, train, None, out=run, stages=[stage.shortened(2) for stage in method.stages(manifest)])
    assert main(["report", run, "--data", "toybox_sketch", "--per-class", "3"]) == 0
    out = capsys.readouterr().out
    assert "toybox_sketch, test (domain shift): 60 of the 60 classes of toybox_sketch matched by name" in out
    assert out.count("| all | 60 | 180 |") == 2 and "left out" not in out


@pytest.mark.slow
def test_cue_conflict_beside_silhouettes(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, weights = (
        shared / "data" / "cue_conflict",
        shared / "data" / "weights" / "vit_tiny_patch16_224.safetensors",
    )
    for needed in (pictures, weights):
        if not needed.exists():
            pytest.skip(f"{needed} is not at hand")
    monkeypatch.chdir(tmp_path)
    shapes = ["--split", "edges=train", "--split", "filled-silhouettes=test"]
    assert main(["data", "import", str(pictures), "--name", "shapes", *shapes]) == 0
    conflict = ["--split", "style-transfer-preprocessed-512=test"]
    assert main(["data", "import", str(pictures), "--name", "conflict", *conflict]) == 0
    tower = [
        "--backbone",
        "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        "--weights",
        str(weights),
        "--input-size",
        "112",
    ]
    words = ["--data", "shapes", "--root", str(pictures), "--epochs", "3", "--lr", "0.1", "--out", "run"]
    assert main(["fit", "--method", "linear_probe", *tower, *words]) == 0
    capsys.readouterr()
    assert main(["report", "run", "--data", "conflict", "--data-root", str(pictures)]) == 0
    out = capsys.readouterr().out
    assert "16 of the 16 classes of conflict matched by name" in out
    assert out.count("| all | 16 | 160 |") == 1 and out.count("| all | 16 | 80 |") == 1
    home, away = (wb.Features.load(f"run/features/{name}test-centre-head.npz") for name in ("", "conflict-"))
    assert home.correct.mean() > away.correct.mean()  # the texture of another class misleads
