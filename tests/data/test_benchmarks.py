"""Benchmarks without rows: their facts, the check of a user's lists, and the published lists themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures import write

from workbench.cli import main
from workbench.data import (
    RULES,
    LongTailDataset,
    benchmark_names,
    check_benchmark,
    check_dataset,
    import_benchmark_folders,
    read_benchmark,
)
from workbench.data import benchmarks as benchmarks_module
from workbench.data.benchmarks import git_blob
from workbench.data.manifest import GroupRule, Manifest, exponential_counts

PUBLISHED = {
    "places_lt": "places_lt", "places_lt_v2": "places_lt_v2", "imagenet_lt": "imagenet_lt",
    "inaturalist2018": "inaturalist18",
}  # fmt: skip
TRAIN = [(f"train/{name}/{i}.jpg", label) for label, name in enumerate(("ape", "bat", "cow")) for i in range(4 - label)]
TEST = [(f"val/{name}/x{i}.jpg", label) for label, name in enumerate(("ape", "bat", "cow")) for i in range(2)]
SPECIES = [
    {"id": 2, "name": "Bos taurus", "genus": "Bos"}, {"id": 0, "name": "Pan paniscus", "genus": "Pan"},
    {"id": 1, "name": "Myotis myotis", "genus": "Myotis"},
]  # fmt: skip


def text(rows: list[tuple[str, int]]) -> bytes:
    return "".join(f"{path} {label}\n" for path, label in rows).encode()


@pytest.fixture
def farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the right lists of a benchmark `farm` with three classes, which is known in this test."""
    facts = tmp_path / "facts"
    facts.mkdir()
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "farm_train.txt").write_bytes(text(TRAIN))
    (lists / "farm_test.txt").write_bytes(text(TEST))
    (lists / "species.json").write_text(json.dumps(SPECIES))
    blobs = {path.name: git_blob(path.read_bytes()) for path in lists.iterdir()}
    (facts / "farm.toml").write_text(f"""
name = "farm"
title = "Farm"
licence = "none"
source = "made here"
files_from = "nowhere"
classes = {{ count = 3, largest = 4, smallest = 2 }}
shots = {{ gt100_lt20 = [0, 0, 3] }}
categories = {{ file = "species.json", git_blob = "{blobs["species.json"]}", levels = {{ genus = 3 }} }}
[lists.train]
file = "farm_train.txt"
count = 9
git_blob = "{blobs["farm_train.txt"]}"
layout = "train/(?P<folder>[^/]+)/[^/]+"
[lists.test]
file = "farm_test.txt"
count = 6
git_blob = "{blobs["farm_test.txt"]}"
layout = "val/(?P<folder>[^/]+)/[^/]+"
per_class = 2
""")
    (facts / "herd.toml").write_text("""
name = "herd"
title = "Herd"
licence = "none"
source = "made here"
files_from = "nowhere"
classes = { count = 2 }
folders = { images = 4, layout = "n[0-9]{8}" }
""")
    monkeypatch.setattr(benchmarks_module, "_folder", lambda: facts)
    monkeypatch.chdir(tmp_path)
    return lists


def test_a_git_blob_is_what_git_says() -> None:
    assert git_blob(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert git_blob(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_the_facts_of_every_benchmark_are_consistent() -> None:
    assert benchmark_names() == ["imagenet_lt", "imagenet_sketch", "inaturalist2018", "places_lt", "places_lt_v2"]
    for name in benchmark_names():
        facts = read_benchmark(name)
        assert facts.name == name and bool(facts.lists) != (facts.folders is not None)
        for one in facts.lists.values():
            assert len(one.git_blob) == 40 and one.count > 0
            assert one.per_class is None or one.per_class * facts.num_classes == one.count
        for rule, shots in facts.shots.items():
            assert rule in RULES and sum(shots) == facts.num_classes
    with pytest.raises(ValueError, match="places_lt, places_lt_v2"):
        read_benchmark("places")


def test_the_four_rules_of_the_literature_on_cifar_100_lt() -> None:
    counts = exponential_counts(500, 100, 100)
    found = {
        rule: tuple(int((RULES[rule].groups(counts) == group).sum()) for group in ("many", "medium", "few"))
        for rule in RULES
    }
    assert found == {
        "gt100_lt20": (35, 35, 30), "gt100_le20": (35, 34, 31), "ge100_le20": (35, 34, 31), "index": (36, 35, 29),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["imagenet_lt", "inaturalist2018", "places_lt", "imagenet_sketch"])
def test_a_benchmark_that_is_not_at_hand_says_what_it_needs_and_what_to_type(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    facts = read_benchmark(name)
    with pytest.raises(FileNotFoundError) as caught:
        Manifest.load(name)
    for part in (*(one.file for one in facts.lists.values()), f"workbench data import FOLDER --as {name}"):
        assert part in str(caught.value)


# -- a small benchmark -------------------------------------------------------------------------------------------------


def test_the_right_lists_become_a_manifest_without_any_image(farm: Path) -> None:
    check = check_benchmark("farm", farm)
    assert not check.differences and not check.notes
    manifest = check.to_manifest()
    assert manifest.split("train").paths.tolist() == [path for path, _ in TRAIN]
    assert manifest.split("test").labels.tolist() == [label for _, label in TEST]
    assert manifest.classes.names == ("Pan paniscus", "Myotis myotis", "Bos taurus")
    assert manifest.classes.taxonomy is not None
    assert manifest.classes.taxonomy["genus"].tolist() == [2, 1, 0]  # Bos, Myotis, Pan
    assert manifest.classes.counts.tolist() == [4, 3, 2] and not manifest.has_validation
    assert Manifest.load(manifest.save("data_manifests")).sha256 == manifest.sha256
    assert Manifest.load("farm").classes == manifest.classes  # the imported one is found before the facts
    other = check.to_manifest("mine", rule=GroupRule(many_from=4, few_to=2))
    assert (other.name, other.classes.groups.tolist()) == ("mine", ["many", "medium", "few"])


def test_names_come_from_a_file_by_folder_or_else_from_the_folders(farm: Path) -> None:
    (farm / "species.json").unlink()
    check = check_benchmark("farm", farm)
    assert check.notes == ("without species.json, so without class names and taxonomy",)
    assert check.to_manifest().classes.names == ("ape", "bat", "cow")
    (farm / "names.txt").write_text("cow cattle\nape great ape\nbat bat\n")
    manifest = check.to_manifest(class_names=farm / "names.txt")
    assert manifest.classes.names == ("great ape", "bat", "cattle") and manifest.classes.taxonomy is None
    assert "without species.json" in manifest.source


@pytest.mark.parametrize(
    "change", [lambda b: b.replace(b"\n", b"\r\n"), lambda b: b"\xef\xbb\xbf" + b, lambda b: b.rstrip(b"\n")]
)
def test_other_line_ends_are_harmless_and_recorded(farm: Path, change: Callable[[bytes], bytes]) -> None:
    expected = check_benchmark("farm", farm).to_manifest()
    path = farm / "farm_train.txt"
    path.write_bytes(change(path.read_bytes()))
    check = check_benchmark("farm", farm)
    assert check.notes == ("farm_train.txt is the published file with other line ends",)
    assert check.to_manifest().sha256 == expected.sha256
    assert "other line ends" in check.to_manifest().source


@pytest.mark.parametrize(
    ("file", "rows", "said"),
    [
        ("farm_train.txt", TRAIN[:-1], "has 8 lines, expected 9"),
        ("farm_train.txt", TRAIN[:-1], "has 4 to 1 images per class, expected 4 to 2"),
        ("farm_train.txt", TRAIN[:7], "has images of 2 classes, expected 3: none of 2"),
        (
            "farm_train.txt",
            [("images/1.jpg", 0), *TRAIN[1:]],
            "line 1: 'images/1.jpg' is not of the form train/CLASS/*",
        ),
        ("farm_train.txt", [*TRAIN[:-1], (TRAIN[-1][0], 3)], "line 9: label 3, expected 0 to 2"),
        ("farm_train.txt", [*TRAIN[:-1], (TRAIN[-1][0], 10**30)], "line 9: label 1" + 30 * "0"),
        ("farm_train.txt", TRAIN[::-1], "other images, or the same in another order"),
        ("farm_test.txt", [*TEST[:-1], (TEST[-1][0], 1)], "has 3 images of class 1, expected 2 of each"),
        ("farm_test.txt", TRAIN, "it is farm's train list"),
    ],
)
def test_a_wrong_list_is_refused_and_what_differs_is_said(
    farm: Path, capsys: pytest.CaptureFixture[str], file: str, rows: list[tuple[str, int]], said: str
) -> None:
    (farm / file).write_bytes(text(rows))
    check = check_benchmark("farm", farm)
    assert any(said in difference and difference.startswith(file) for difference in check.differences)
    assert f"{file} has the git blob {git_blob(text(rows))}, expected" in check.differences[0]
    with pytest.raises(ValueError, match="does not hold the lists of farm"):
        check.to_manifest()
    assert main(["data", "import", str(farm), "--as", "farm"]) == 1
    out = capsys.readouterr().out
    assert f"DIFFERS: {file}" in out and "no manifest is written" in out
    assert not Path("data_manifests").exists()


def test_changed_categories_are_refused(farm: Path) -> None:
    (farm / "species.json").write_text(json.dumps(SPECIES[:2]))
    assert check_benchmark("farm", farm).differences[0].startswith("species.json has the git blob")


def test_lists_that_are_absent_are_said(farm: Path) -> None:
    (farm / "farm_train.txt").unlink()
    check = check_benchmark("farm", farm)
    assert "without farm_train.txt, so without train" in check.notes[0]
    assert list(check.to_manifest().splits) == ["test"]
    (farm / "farm_test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"none of the lists of farm.*farm_train.txt, farm_test.txt"):
        check_benchmark("farm", farm)


def test_paths_of_a_list_never_leave_the_root(farm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where somebody's facts vouch for such a list."""
    evil = text([("train/../../etc/passwd", 0), *TRAIN[1:]])
    (farm / "farm_train.txt").write_bytes(evil)
    facts = farm.parent / "facts" / "farm.toml"
    facts.write_text(facts.read_text().replace(git_blob(text(TRAIN)), git_blob(evil)))
    with pytest.raises(ValueError, match="refused"):
        check_benchmark("farm", farm).to_manifest()


def test_the_command_imports_lists_and_then_checks_images(farm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    assert "3 classes  needs lists: `workbench data show farm`" in capsys.readouterr().out
    assert main(["data", "show", "farm"]) == 0
    assert "then: workbench data import FOLDER --as farm" in capsys.readouterr().out
    assert main(["data", "import", str(farm), "--as", "farm", "--many-from", "4", "--few-to", "2"]) == 0
    assert "farm: 15 images of 3 classes -> data_manifests/farm.toml" in capsys.readouterr().out
    assert Manifest.load("farm").classes.groups.tolist() == ["many", "medium", "few"]
    assert main(["data", "import", str(farm), "--as", "farm"]) == 1
    assert "farm.toml exists and stays; choose another name with --name" in capsys.readouterr().err
    assert main(["data", "list"]) == 0
    assert "needs lists" not in capsys.readouterr().out
    for seed, (path, _) in enumerate(TRAIN[1:]):
        write(farm.parent / "photos" / path, seed)
    found = check_dataset(Manifest.load("farm"), "photos").problems
    assert [problem.path for problem in found] == [TRAIN[0][0], *(path for path, _ in TEST)]
    assert LongTailDataset(Manifest.load("farm"), "train", "photos").image(1).size == (24, 20)


@pytest.mark.parametrize("option", [("--val", "3"), ("--imbalance-ratio", "10"), ("--root", "."), ("--split", "a=b")])
def test_options_that_would_change_a_benchmark_are_usage_errors(
    farm: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["data", "import", str(farm), "--as", "farm", *option])
    assert f"{option[0]} would change it" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["data", "import", str(farm)])
    assert "--name, or --as BENCHMARK" in capsys.readouterr().err


def test_a_benchmark_of_class_folders_is_imported_as_test_if_it_is_whole(
    farm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, path in enumerate(("n00000001/a.png", "n00000001/b.png", "n00000002/a.png")):
        write(farm / "sketches" / path, seed)
    with pytest.raises(ValueError, match=r"3 images, expected 4"):
        import_benchmark_folders("herd", farm / "sketches")
    write(farm / "sketches" / "n00000002" / "b.png", 9)
    assert main(["data", "import", str(farm / "sketches"), "--as", "herd"]) == 0
    manifest = Manifest.load("herd")
    assert manifest.classes.names == ("n00000001", "n00000002")
    assert {name: split.labels.tolist() for name, split in manifest.splits.items()} == {"test": [0, 0, 1, 1]}
    capsys.readouterr()
    assert main(["data", "show", "herd"]) == 0
    assert "2 classes; no train split, so no shot groups" in capsys.readouterr().out
    write(farm / "sketches" / "odd" / "b.png", 9)
    with pytest.raises(ValueError, match=r"3 class folders, expected 2; 5 images.*'odd' is not of the form"):
        import_benchmark_folders("herd", farm / "sketches")


# -- the published lists -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(shared: Path) -> Callable[[str], Manifest]:
    """published("places_lt") -> manifest of the lists at hand, which are those that their facts say."""
    known: dict[str, Manifest] = {}

    def load(name: str) -> Manifest:
        folder = shared / "data" / "lists" / PUBLISHED[name]
        if not folder.is_dir():
            pytest.skip(f"the published lists are not at hand in {folder}")
        if name not in known:
            check = check_benchmark(name, folder)
            assert check.differences == ()
            missing = {one.file for one in read_benchmark(name).lists.values() if not (folder / one.file).is_file()}
            assert len(check.notes) == len(missing) and all("papers say" not in text for text in check.agreements)
            known[name] = check.to_manifest()
        return known[name]

    return load


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("places_lt", {"train": 62_500, "val": 7_300, "test": 36_500}),
        ("places_lt_v2", {"train": 62_500, "val": 7_300, "test": 36_500}),
        ("imagenet_lt", {"val": 20_000, "test": 50_000}),
        ("inaturalist2018", {"test": 24_426}),
    ],
)
def test_the_published_lists_import_and_survive_saving(
    published: Callable[[str], Manifest], tmp_path: Path, name: str, sizes: dict[str, int]
) -> None:
    manifest = published(name)
    assert {split: len(rows) for split, rows in manifest.splits.items()} == sizes
    loaded = Manifest.load(manifest.save(tmp_path))
    assert loaded.sha256 == manifest.sha256 and loaded.classes == manifest.classes


def test_both_layouts_of_places_lt_hold_the_same_images_and_classes(published: Callable[[str], Manifest]) -> None:
    first, second = published("places_lt"), published("places_lt_v2")
    assert first.classes == second.classes
    assert (first.classes.counts.max(), first.classes.counts.min()) == (4980, 5)
    for split in first.splits:
        a, b = first.split(split), second.split(split)
        assert np.array_equal(a.labels, b.labels)
        files = [[path.rsplit("/", 1)[1] for path in one.paths.tolist()] for one in (a, b)]
        assert files[0] == files[1]
    for rule, expected in read_benchmark("places_lt").shots.items():
        groups = RULES[rule].groups(first.classes.counts)
        assert tuple(int((groups == group).sum()) for group in ("many", "medium", "few")) == expected


def test_names_of_classes_by_their_folders(published: Callable[[str], Manifest], shared: Path) -> None:
    folders = published("imagenet_lt").classes.names
    assert folders[0] == "n01440764" and list(folders) == sorted(folders)
    check = check_benchmark("imagenet_lt", shared / "data" / "lists" / "imagenet_lt")
    names = check.to_manifest(class_names=shared / "data" / "names" / "imagenet.txt").classes.names
    assert names[:2] == ("tench", "goldfish") and len(set(names)) == 998
    places = check_benchmark("places_lt_v2", shared / "data" / "lists" / "places_lt_v2")
    named = places.to_manifest(class_names=shared / "data" / "names" / "places_lt.txt").classes.names
    assert named[8] == "apartment_building-outdoor"


def test_inaturalist_has_its_species_and_their_taxonomy(published: Callable[[str], Manifest]) -> None:
    classes = published("inaturalist2018").classes
    assert classes.names[0] == "Hermodice carunculata" and len(set(classes.names)) == 8142
    assert classes.taxonomy is not None
    sizes = {level: len(set(nodes.tolist())) for level, nodes in classes.taxonomy.items()}
    assert sizes == {"kingdom": 6, "phylum": 25, "class": 57, "order": 272, "family": 1118, "genus": 4401}
    test = published("inaturalist2018").split("test")
    assert [int(path.split("/")[2]) for path in test.paths.tolist()] == test.labels.tolist()
