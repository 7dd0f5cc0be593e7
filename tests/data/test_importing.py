"""Importing: typed outcomes, nothing substituted, splits and long tails, resuming; a real set where it is at hand."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from pictures import noise, write

from workbench.data import (
    GroupRule,
    Manifest,
    check_dataset,
    exponential_counts,
    import_dataset,
    read_image,
    scanning,
)
from workbench.data.scanning import Outcome
from workbench.data.subsets import long_tail, take_validation


@pytest.fixture
def folders(tmp_path):
    """train: 12, 6, 3 images of three classes; test: two of each."""
    seed = 0
    for split, counts in {"train": (12, 6, 3), "test": (2, 2, 2)}.items():
        for name, count in zip(("ant", "bee", "cat"), counts, strict=True):
            for number in range(count):
                seed += 1
                write(tmp_path / "set" / split / name / f"{number}.png", seed, size=(5, 4))
    return tmp_path / "set"


def outcomes(report):
    return {outcome: count for outcome, count in report.counts.items() if count}


def test_every_bad_file_has_its_outcome_and_stays_out(corpus, tmp_path):
    report = import_dataset(corpus, "odd", out=tmp_path / "out")
    found = {Path(problem.path).name: problem.outcome for problem in report.problems}
    assert found == {
        "truncated.jpg": Outcome.BROKEN, "empty.jpg": Outcome.EMPTY, "page.jpg": Outcome.BROKEN,
        "bomb.png": Outcome.TOO_LARGE, "escape.jpg": Outcome.OUTSIDE_ROOT,
    }  # fmt: skip
    assert outcomes(report)[Outcome.OK] == 9
    train = report.manifest.split("train")
    assert len(train) == 9 and all(path.startswith("odd/") for path in train.paths)
    assert report.manifest.classes.names == ("bad", "odd") and report.manifest.classes.counts.tolist() == [0, 9]
    assert set(train.labels) == {1}, "a class without images keeps its label"
    text = str(report)
    for part in ("truncated.jpg", "broken: 2, left out", "too_large: 1", "no training image"):
        assert part in text, part
    table = list(csv.DictReader(report.problems_path.read_text().splitlines()))
    assert [row["path"] for row in table] == [problem.path for problem in report.problems]


def test_class_folders_with_splits_become_a_manifest(folders, tmp_path):
    report = import_dataset(folders, "insects", out=tmp_path / "out", title="Insects", licence="mine")
    manifest = Manifest.load(report.path)
    assert manifest.classes.names == ("ant", "bee", "cat") and manifest.classes.counts.tolist() == [12, 6, 3]
    assert len(manifest.split("test")) == 6 and not manifest.has_validation and "val      none" in str(report)
    assert manifest.split("train").paths[0] == "train/ant/0.png" and manifest.licence == "mine"
    assert outcomes(report) == {Outcome.OK: 27} and report.problems_path is None and report.decoded == 27
    with pytest.raises(FileExistsError, match="overwrite"):
        import_dataset(folders, "insects", out=tmp_path / "out")


def test_nothing_is_written_beside_the_images(folders, tmp_path):
    before = sorted(path for path in folders.rglob("*"))
    import_dataset(folders, "insects", out=tmp_path / "out")
    assert sorted(path for path in folders.rglob("*")) == before


def test_plain_class_folders_are_all_training_images_and_other_files_are_mentioned(folders, tmp_path):
    (folders / "train" / "ant" / "notes.txt").write_text("hello")
    (folders / "train" / "ant" / ".hidden.png").write_text("hello")
    write(folders / "train" / "bee" / "images" / "deep.png", 99)
    (folders / "train" / "dog").mkdir()
    report = import_dataset(folders / "train", "plain", out=tmp_path / "out")
    assert report.manifest.classes.counts.tolist() == [12, 7, 3, 0]
    assert "bee/images/deep.png" in report.manifest.split("train").paths
    assert any("notes.txt" in note for note in report.notes) and ".hidden" not in str(report)


def test_lists_give_one_split_each(folders, tmp_path):
    (tmp_path / "train.txt").write_text("train/ant/0.png 0\ntrain/cat/1.png 4\n\ntrain/gone file.png 1\n")
    (tmp_path / "test.txt").write_text("test/ant/0.png 0\n../escape.png 1\n/etc/passwd 2\n")
    report = import_dataset(
        {"train": tmp_path / "train.txt", "test": tmp_path / "test.txt"}, "lists", root=folders, out=tmp_path / "out"
    )
    assert report.manifest.classes.counts.tolist() == [1, 0, 0, 0, 1] and report.manifest.classes.names[4] == "class 4"
    assert outcomes(report) == {Outcome.OK: 3, Outcome.MISSING: 1, Outcome.OUTSIDE_ROOT: 2}
    single = import_dataset(tmp_path / "train.txt", "single", root=folders, out=tmp_path / "out")
    assert list(single.manifest.splits) == ["train"]


def test_a_table_may_rename_splits_and_brings_class_names(folders, tmp_path):
    (folders / "rows.csv").write_text("label,split,path\n1,train,train/ant/0.png\n0,val,test/bee/0.png\n")
    (folders / "classes.csv").write_text('label,name\n1,"ant, black"\n0,bee\n2,never seen\n')
    report = import_dataset(folders / "rows.csv", "table", splits={"val": "test"}, out=tmp_path / "out")
    assert report.manifest.classes.names == ("bee", "ant, black", "never seen")
    assert list(report.manifest.splits) == ["train", "test"]
    with pytest.raises(ValueError, match="has train, val"):
        import_dataset(folders / "rows.csv", "other", splits={"validation": "test"}, out=tmp_path / "out")
    with pytest.raises(ValueError, match="same name"):
        import_dataset(folders / "rows.csv", "other", splits={"val": "train"}, out=tmp_path / "out")


def test_names_of_class_folders_come_from_a_file(folders, tmp_path):
    (tmp_path / "names.txt").write_text("cat house cat\nant black ant\nbee\nzebra striped\n")
    report = import_dataset(folders, "named", class_names=tmp_path / "names.txt", out=tmp_path / "out")
    assert report.manifest.classes.names == ("black ant", "bee", "house cat")


@pytest.mark.parametrize(
    "lines, message",
    [
        ("a.png 0\na.png 1\n", "labels 0 and 1"),
        ("a.png -1\n", "label -1"),
        ("a.png 12345678901\n", "label 12345678901"),
        ("a.png ant\n", "not an integer"),
        ("a.png\n", "relative/path label"),
        ("gone.png 0\n", "no image is left.*missing"),
        ("", "no image is left"),
    ],
)
def test_contradicting_labels_and_empty_results_are_errors(tmp_path, lines, message):
    write(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text(lines)
    with pytest.raises(ValueError, match=message):
        import_dataset(tmp_path / "list.txt", "bad", out=tmp_path / "out")
    assert not (tmp_path / "out" / "bad.toml").exists()


def test_duplicates_and_leaks_are_found_by_their_pixels_and_kept(folders, tmp_path):
    noise(1, (5, 4)).save(folders / "train" / "bee" / "copy.bmp")  # the pixels of train/ant/0.png in another format
    shutil.copy(folders / "train" / "cat" / "0.png", folders / "train" / "cat" / "again.png")
    shutil.copy(folders / "train" / "ant" / "3.png", folders / "test" / "ant" / "leak.png")
    report = import_dataset(folders, "copies", out=tmp_path / "out", val=2)
    assert outcomes(report) == {Outcome.OK: 27, Outcome.DUPLICATE: 2, Outcome.LEAK: 1}
    assert "but label 1 and not 0" in str(report) and "'test/ant/leak.png' (test)" in str(report)
    assert sum(len(split) for split in report.manifest.splits.values()) == 30
    copied = {"train/ant/0.png", "train/bee/copy.bmp", "train/ant/3.png"}
    assert not copied & set(report.manifest.split("val").paths), "images with a copy stay in train"


def test_a_row_that_is_listed_twice_is_a_duplicate(tmp_path):
    write(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png 0\na.png 0\n")
    report = import_dataset(tmp_path / "list.txt", "twice", out=tmp_path / "out")
    assert outcomes(report) == {Outcome.OK: 1, Outcome.DUPLICATE: 1} and report.files == 1


def test_validation_takes_at_most_a_fifth_of_a_class(folders, tmp_path):
    report = import_dataset(folders, "withval", val=2, out=tmp_path / "out")
    manifest = report.manifest
    assert np.bincount(manifest.split("val").labels, minlength=3).tolist() == [2, 1, 0]
    assert manifest.classes.counts.tolist() == [10, 5, 3] and list(manifest.splits) == ["train", "val", "test"]
    assert not set(manifest.split("val").paths) & set(manifest.split("train").paths)
    assert manifest.classes.rule.reference_counts == (12, 6, 3), "the groups are those of the whole train split"
    same, other = (
        import_dataset(folders, f"seed{seed}", val=2, seed=seed, out=tmp_path / "out").manifest for seed in (0, 5)
    )
    assert same.split_sha256("val") == manifest.split_sha256("val") != other.split_sha256("val")
    rule = GroupRule(many_from=10, few_to=3)
    assert import_dataset(folders, "ruled", val=2, rule=rule, out=tmp_path / "out").manifest.classes.rule == rule
    with pytest.raises(ValueError, match="rename"):
        import_dataset(folders, "twovals", val=1, splits={"test": "val"}, out=tmp_path / "out")


def test_a_ratio_makes_a_long_tail_of_train(folders, tmp_path):
    report = import_dataset(folders, "tail", imbalance_ratio=6, out=tmp_path / "out")
    assert report.manifest.classes.counts.tolist() == exponential_counts(12, 3, 6).tolist() == [12, 4, 2]
    assert len(report.manifest.split("test")) == 6
    with pytest.raises(ValueError, match="without images"):
        import_dataset(folders, "steep", imbalance_ratio=100, out=tmp_path / "out")


def test_long_tails_fit_what_each_class_has(rng):
    from workbench.data.manifest import Split

    labels = rng.permutation(np.repeat(np.arange(4), [20, 50, 9, 30]))
    train = Split(np.array([f"{i}.png" for i in range(len(labels))]), labels)
    tail = long_tail(train, 5, 4, generator=rng)
    counts = np.bincount(tail.labels)
    largest = counts.max()
    assert counts[[1, 3, 0, 2]].tolist() == exponential_counts(largest, 4, 5).tolist()
    assert (exponential_counts(largest + 1, 4, 5) > [50, 30, 20, 9]).any() and (counts <= [20, 50, 9, 30]).all()
    kept, val = take_validation(train, np.ones(len(labels), bool), 7, 4, generator=rng)
    assert np.bincount(val.labels).tolist() == [4, 7, 1, 6] and len(kept) + len(val) == len(labels)


def test_an_interrupted_import_continues_where_it_stopped(folders, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def stop(done, parts):
        assert parts["total"] == 27
        if done == 10:
            raise Stop

    with pytest.raises(Stop):
        import_dataset(folders, "again", out=tmp_path / "out", on_step=stop, workers=2)
    journal = tmp_path / "out" / ".again.import.jsonl"
    journal.write_bytes(journal.read_bytes()[:-9])  # as if the machine had stopped in the middle of a line
    assert not (tmp_path / "out" / "again.toml").exists()
    seen = []
    report = import_dataset(folders, "again", out=tmp_path / "out", on_step=lambda done, parts: seen.append(done))
    assert report.decoded == 18 and seen[0] == 9 and seen[-1] == 27
    whole = import_dataset(folders, "whole", out=tmp_path / "out")
    assert whole.decoded == 27 and whole.manifest.split_sha256("train") == report.manifest.split_sha256("train")
    write(folders / "train" / "ant" / "0.png", 500, size=(6, 6))
    changed = import_dataset(folders, "again", out=tmp_path / "out", overwrite=True)
    assert changed.decoded == 1


def test_names_that_are_not_utf8_survive(folders, tmp_path):
    strange = os.fsdecode(b"caf\xe9 \n.png")
    try:
        noise(77).save(folders / "train" / "bee" / "plain.png")
        (folders / "train" / "bee" / "plain.png").rename(folders / "train" / "bee" / strange)
        (folders / "train" / "ant").rename(folders / "train" / os.fsdecode(b"ant\xff"))
    except OSError:
        pytest.skip("this file system only takes UTF-8 names")
    (folders / "train" / "bee" / os.fsdecode(b"bad\xff.png")).write_bytes(b"")
    report = import_dataset(folders, "bytes", out=tmp_path / "out")
    assert f"train/bee/{strange}" in Manifest.load(report.path).split("train").paths
    assert "ant\ufffd" in report.manifest.classes.names
    assert "bad\\udcff.png" in str(report).encode().decode()
    assert check_dataset(report.manifest, folders).problems == ()


def test_files_without_permission_are_unreadable(folders, tmp_path, monkeypatch):
    def refuse(path):  # the tests may run as a user who may read everything, so the system's answer is acted
        if path.name == "0.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read_image(path)

    monkeypatch.setattr(scanning, "read_image", refuse)
    report = import_dataset(folders, "locked", out=tmp_path / "out")
    assert outcomes(report) == {Outcome.OK: 21, Outcome.UNREADABLE: 6}
    assert "Permission denied" in str(report)


def test_linked_folders_are_not_followed(folders, tmp_path):
    write(tmp_path / "elsewhere" / "dog" / "0.png")
    (folders / "train" / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    (folders / "train" / "bug").symlink_to(folders / "train" / "bee")
    report = import_dataset(folders, "linked", out=tmp_path / "out")
    assert [(p.path, p.outcome) for p in report.problems] == [("train/dog", Outcome.OUTSIDE_ROOT)]
    assert report.manifest.classes.names == ("ant", "bee", "cat") and any("bug" in note for note in report.notes)
    assert outcomes(report)[Outcome.OK] == 27


def test_a_check_lists_what_became_unusable(folders, tmp_path):
    manifest = import_dataset(folders, "checked", out=tmp_path / "out").manifest
    (folders / "train" / "ant" / "0.png").unlink()
    (folders / "test" / "bee" / "1.png").write_bytes(b"")
    report = check_dataset(manifest, folders)
    assert [(p.path, p.outcome) for p in report.problems] == [
        ("train/ant/0.png", Outcome.MISSING), ("test/bee/1.png", Outcome.EMPTY)
    ]  # fmt: skip
    assert "25 of 27 files decode" in str(report) and "(test)" in str(report)
    with pytest.raises(ValueError, match="digits"):
        check_dataset(Manifest.load("digits_lt"), folders)


@pytest.mark.slow
def test_the_real_tiny_imagenet_lt_imports_whole(shared, tmp_path):
    source = shared / "data" / "tiny_imagenet_lt100" / "manifest.csv"
    report = import_dataset(source, "tiny_imagenet_lt100", splits={"val": "test"}, out=tmp_path)
    manifest = report.manifest
    assert len(manifest.split("train")) == 10_899 and len(manifest.split("test")) == 5_000
    assert manifest.classes.counts.max() == 500 and manifest.classes.counts.min() == 5
    groups, sizes = np.unique(manifest.classes.groups, return_counts=True)
    assert dict(zip(groups.tolist(), sizes.tolist(), strict=True)) == {"many": 35, "medium": 35, "few": 30}
    assert manifest.classes.names[0] == "goldfish, Carassius auratus"
    assert outcomes(report) == {Outcome.OK: 15_897, Outcome.LEAK: 2}, "two test photos are also in train"
