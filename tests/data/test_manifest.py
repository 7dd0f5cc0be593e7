"""Manifests: exact round trips, checks of what is not trusted, group rules, counts of CIFAR-LT."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from workbench.data.manifest import Classes, GroupRule, Manifest, Split, exponential_counts, resolve_inside
from workbench.data.subsets import digits_lt


def make_manifest(**changes):
    fields = {
        "name": "tiny", "title": 'A "tiny" set', "licence": "none", "source": "made\nup", "kind": "files",
        "splits": {
            "train": Split(np.array(["a/1.jpg", "a/2.jpg", "c/3 \udcff.jpg"]), np.array([0, 0, 2])),
            "test": Split(np.array(["b/,\"x\".jpg"]), np.array([1])),
        },
        "classes": Classes(("cat", "two\nlines \\n", " spaced "), [2, 0, 1], GroupRule(many_from=2, few_to=0)),
        "texts": {"cat": ["a cat", "ein Kätzchen"]},
    }  # fmt: skip
    return Manifest(**{**fields, **changes})


@pytest.mark.parametrize("ratio, total", [(200, 9502), (100, 10847), (50, 12608), (10, 19573)])
def test_exponential_counts_give_the_published_totals_of_cifar100_lt(ratio, total):
    counts = exponential_counts(500, 100, ratio)
    assert counts.dtype == np.int64 and counts.sum() == total
    assert counts[0] == 500 and (np.diff(counts) <= 0).all()


@pytest.mark.parametrize("ratio", [200, 100, 50, 10])
def test_exponential_counts_equal_the_recorded_ones_of_the_public_code(golden, ratio):
    case = golden(f"cifar100lt_ir{ratio}_seed0")
    case.check(exponential_counts(500, 100, ratio), f"out.ir{ratio}_s0.counts")


def test_exponential_counts_of_one_class_and_of_ratio_one():
    assert exponential_counts(7, 1, 100).tolist() == [7]
    assert exponential_counts(7, 3, 1).tolist() == [7, 7, 7]
    with pytest.raises(ValueError, match="ratio"):
        exponential_counts(7, 3, 0.5)


def test_groups_by_bounds_are_inclusive_and_say_so():
    rule = GroupRule()
    assert rule.groups(np.array([101, 100, 20, 19, 0])).tolist() == ["many", "medium", "medium", "few", "few"]
    assert str(rule) == "many >= 101, few <= 19 training images"


def test_groups_by_index_ranges_and_by_reference_counts():
    ranges = GroupRule(ranges={"many": (0, 2), "medium": (2, 3), "few": (3, 4)})
    assert ranges.groups(np.zeros(4)).tolist() == ["many", "many", "medium", "few"]
    assert "[0, 2)" in str(ranges)
    with pytest.raises(ValueError, match="class 4"):
        ranges.groups(np.zeros(5))
    reference = GroupRule(reference_counts=(500, 50, 5))
    assert reference.groups(np.array([1, 1, 1])).tolist() == ["many", "medium", "few"]
    assert "reference counts" in str(reference)
    with pytest.raises(ValueError, match="inclusive"):
        GroupRule(many_from=10, few_to=10)


def test_classes_survive_json_and_cannot_be_written_to():
    classes = Classes(("a", "b"), [3, 0], GroupRule(ranges={"many": (0, 1), "few": (1, 2)}), {"kind": [1, 1]})
    assert Classes.from_json(json.loads(json.dumps(classes.to_json()))) == classes
    with pytest.raises(ValueError, match="read-only"):
        classes.counts[0] = 1
    with pytest.raises(ValueError, match="taxonomy"):
        Classes(("a", "b"), [3, 0], GroupRule(), {"kind": [1]})


def test_a_saved_manifest_loads_equal_and_saves_to_the_same_bytes(tmp_path):
    manifest = make_manifest()
    path = manifest.save(tmp_path / "one")
    loaded = Manifest.load(path)
    for split in manifest.splits:
        assert loaded.splits[split].paths.tolist() == manifest.splits[split].paths.tolist()
        assert loaded.splits[split].labels.tolist() == manifest.splits[split].labels.tolist()
    assert loaded.classes == manifest.classes and loaded.texts == manifest.texts and loaded.title == manifest.title
    assert loaded.sha256 == manifest.sha256 and loaded.path == path and not loaded.has_validation
    loaded.save(tmp_path / "two")
    files = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert files == ["tiny.classes.txt", "tiny.csv.gz", "tiny.texts.jsonl.gz", "tiny.toml"]
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


def test_the_taxonomy_and_every_kind_of_rule_survive_saving(tmp_path):
    rule = GroupRule(ranges={"many": (0, 2), "few": (2, 3)}, reference_counts=(3, 2, 1))
    levels = {"super class": [0, 0, 1], "kingdom": [0, 0, 0]}
    classes = Classes(("x", "y", "z"), [2, 0, 1], rule, levels)
    assert Manifest.load(make_manifest(classes=classes).save(tmp_path)).classes == classes


def test_saving_never_replaces_other_content_silently(tmp_path):
    make_manifest().save(tmp_path)
    make_manifest().save(tmp_path)
    other = make_manifest(title="other")
    with pytest.raises(FileExistsError, match="overwrite"):
        other.save(tmp_path)
    assert Manifest.load(other.save(tmp_path, overwrite=True)).title == "other"


def test_a_changed_row_is_noticed_by_its_sha256(tmp_path):
    path = make_manifest().save(tmp_path)
    rows = gzip.decompress((tmp_path / "tiny.csv.gz").read_bytes())
    (tmp_path / "tiny.csv.gz").write_bytes(gzip.compress(rows.replace(b"a/1.jpg", b"a/9.jpg")))
    with pytest.raises(ValueError, match="sha256 of split train"):
        Manifest.load(path)


@pytest.mark.parametrize(
    "old, new, message",
    [
        (b"a/1.jpg,0", b"a/1.jpg,3", "labels go from 0 to 2"),
        (b"a/1.jpg,0", b"a/1.jpg,-1", "labels go from 0 to 2"),
        (b"a/1.jpg,0", b"a/1.jpg,zero", "row 2"),
        (b"a/1.jpg,0", b"/etc/passwd,0", "refused"),
        (b"a/1.jpg,0", b"../1.jpg,0", "refused"),
        (b"train,a/1.jpg,0", b"train,a/1.jpg,0\ntrain,a/1.jpg,0", "more than the 2|more than the 3"),
        (b"split,path,label", b"path,label", "first line"),
    ],
)
def test_rows_that_are_not_to_be_trusted_are_refused(tmp_path, old, new, message):
    path = make_manifest().save(tmp_path)
    rows = gzip.decompress((tmp_path / "tiny.csv.gz").read_bytes())
    assert old in rows
    (tmp_path / "tiny.csv.gz").write_bytes(gzip.compress(rows.replace(old, new)))
    with pytest.raises(ValueError, match=message):
        Manifest.load(path)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("format = 1", "format = 2", "format 2"),
        ('kind = "files"', "", "kind"),
        ('kind = "files"', 'kind = "pickle"', "choose one of"),
        ("few_to", "little_to", "little_to"),
        ("[groups]", "[groups", "not a readable manifest"),
    ],
)
def test_a_wrong_toml_says_what_is_wrong(tmp_path, old, new, message):
    path = make_manifest().save(tmp_path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        Manifest.load(path)


def test_a_cut_table_is_an_error_that_names_the_file(tmp_path):
    path = make_manifest().save(tmp_path)
    table = tmp_path / "tiny.csv.gz"
    table.write_bytes(table.read_bytes()[:-12])
    with pytest.raises(ValueError, match=r"tiny\.toml: not a readable"):
        Manifest.load(path)


def test_names_are_searched_and_an_unknown_one_lists_the_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_manifest().save("data_manifests")
    assert Manifest.load("tiny").path == Path("data_manifests/tiny.toml")
    assert Manifest.load("digits_lt").kind == "digits" and {"digits_lt", "tiny"} <= set(Manifest.names())
    with pytest.raises(FileNotFoundError, match=r"digits_lt.*tiny"):
        Manifest.load("tinny")
    with pytest.raises(FileNotFoundError, match="no manifest at"):
        Manifest.load("elsewhere/tiny.toml")


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden"])
def test_a_name_that_is_no_file_name_is_refused(name):
    with pytest.raises(ValueError, match="name"):
        make_manifest(name=name)


def test_counts_that_are_not_those_of_train_are_refused():
    with pytest.raises(ValueError, match="counts"):
        make_manifest(classes=Classes(("a", "b", "c"), [1, 1, 1]))


def test_links_out_of_the_root_are_refused_and_a_linked_root_is_not(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    (real / "a.jpg").write_bytes(b"x")
    (tmp_path / "secret").write_bytes(b"x")
    (real / "link.jpg").symlink_to(tmp_path / "secret")
    (tmp_path / "root").symlink_to(real)
    assert resolve_inside(tmp_path / "root", "a.jpg") == (real / "a.jpg").resolve()
    for path in ("link.jpg", "../secret", "/etc/passwd", "a/../../secret", "", "a\0.jpg"):
        with pytest.raises(ValueError, match="refused"):
            resolve_inside(tmp_path / "root", path)


def test_the_packaged_digits_are_what_their_function_makes(tmp_path):
    made = digits_lt()
    packaged = Path(__file__).parents[2] / "data_manifests"
    for path in [made.save(tmp_path), *tmp_path.glob("digits_lt.*")]:
        if path.suffix != ".gz":  # compressed bytes depend on the zlib at hand; the sha256 inside the TOML does not
            assert path.read_bytes() == (packaged / path.name).read_bytes()
    manifest = Manifest.load(packaged / "digits_lt.toml")
    assert manifest.sha256 == made.sha256
    assert manifest.classes.counts.tolist() == exponential_counts(100, 10, 20).tolist()
    assert sorted(set(manifest.classes.groups)) == ["few", "many", "medium"]
    assert np.bincount(manifest.split("test").labels).tolist() == [50] * 10 and manifest.has_validation
    keys = np.concatenate([split.paths for split in manifest.splits.values()])
    assert len(set(keys)) == len(keys)


def test_every_packaged_manifest_loads():
    for path in (Path(__file__).parents[2] / "data_manifests").glob("*.toml"):
        assert len(Manifest.load(path).classes) > 0


def test_reading_a_manifest_needs_no_torch():
    code = "import sys, workbench.data; workbench.data.Manifest; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_classes_are_grouped_by_another_rule_and_keep_the_counts_that_decide() -> None:
    classes = Classes(("a", "b", "c", "d"), np.array([101, 100, 20, 19]))
    for rule, groups in {
        "gt100_lt20": "many medium medium few", "gt100_le20": "many medium few few", "ge100_le20": "many many few few",
        "index:1,1": "many few few few", "index:0,4": "medium medium medium medium",
    }.items():  # fmt: skip
        assert classes.with_rule(rule).groups.tolist() == groups.split(), rule
    reference = Classes(classes.names, classes.counts, GroupRule(reference_counts=(500, 100, 20, 20)))
    assert reference.with_rule("ge100_le20").groups.tolist() == ["many", "many", "few", "few"]
    assert reference.with_rule(GroupRule()).groups.tolist() == ["many", "medium", "medium", "few"]
    for rule, said in {
        "100,20": "'100,20' is not known; choose one of gt100_lt20", "index:3": "is not known",
        "index:2,9": "the 4 classes", "index:3,2": "must rise",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=said):
            classes.with_rule(rule)
