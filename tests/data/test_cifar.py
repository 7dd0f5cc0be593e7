"""CIFAR-100-LT: the images of the public codes, and their pixels from torchvision's files or single images."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from pictures import noise
from PIL import Image
from torchvision.datasets import CIFAR100

from workbench.data import LongTailDataset, check_dataset, cifar100_lt
from workbench.data.cifar import NAMES, RATIOS, file_of
from workbench.data.manifest import Classes, Manifest, Split

PACKAGED = Path(__file__).parents[2] / "data_manifests"
VARIANTS = [*((ratio, 0) for ratio in RATIOS), (10, 42), (50, 42), (100, 42)]
KEPT = 5  # images of each class in the small train file of these tests, and 2 in its test file


def ranks_of(manifest: Manifest, label: int) -> list[int]:
    train = manifest.split("train")
    return [int(key.split("/")[1]) for key in train.paths[train.labels == label].tolist()]


@pytest.mark.parametrize(("ratio", "seed"), VARIANTS)
def test_the_packaged_manifests_are_what_their_function_makes(tmp_path: Path, ratio: int, seed: int) -> None:
    made = cifar100_lt(ratio, seed=seed)
    packaged = Manifest.load(PACKAGED / f"{made.name}.toml")
    assert packaged.sha256 == made.sha256 and packaged.classes == made.classes and not packaged.has_validation
    assert made.save(tmp_path).read_bytes() == (PACKAGED / f"{made.name}.toml").read_bytes()
    keys = np.concatenate([split.paths for split in packaged.splits.values()])
    assert len(set(keys.tolist())) == len(keys)
    assert np.bincount(packaged.split("test").labels).tolist() == [100] * 100


@pytest.mark.parametrize(("ratio", "seed"), VARIANTS)
def test_rows_are_the_recorded_images_of_the_public_codes_in_their_order(golden, ratio: int, seed: int) -> None:
    case = golden(f"cifar100lt_ir{ratio}_seed{seed}")
    train = cifar100_lt(ratio, seed=seed).split("train")
    labels = (37 * np.arange(50_000) + 11) % 100  # of the recorded file
    places = np.argsort(labels, kind="stable").reshape(100, 500)
    ranks = np.array([int(key.split("/")[1]) for key in train.paths.tolist()])
    case.check(places[train.labels, ranks], f"out.ir{ratio}_s{seed}.indices")


@pytest.mark.parametrize(
    ("seed", "first", "second", "last"),
    [
        (0, [90, 254, 283, 445, 461, 15], [277, 307, 436, 88, 261, 57], [348, 153, 363, 361, 299]),
        (42, [361, 73, 374, 155, 104, 394], [306, 449, 123, 194, 66, 394], [63, 461, 331, 32, 233]),
    ],
)
def test_ranks_of_the_classes_0_1_and_99(seed: int, first: list[int], second: list[int], last: list[int]) -> None:
    manifest = Manifest.load("cifar100_lt_ir100" + ("_seed42" if seed else ""))
    assert (ranks_of(manifest, 0)[:6], ranks_of(manifest, 1)[:6], ranks_of(manifest, 99)) == (first, second, last)


@pytest.mark.parametrize(
    ("name", "total", "ends", "groups"),
    [
        ("cifar100_lt_ir10", 19_573, (500, 50), (35, 35, 30)),  # groups of ratio 100, as LIFT
        ("cifar100_lt_ir50", 12_608, (500, 10), (35, 35, 30)),
        ("cifar100_lt_ir100", 10_847, (500, 5), (35, 35, 30)),
        ("cifar100_lt_ir200", 9_502, (500, 2), (30, 31, 39)),
        ("cifar100_lt_ir100_seed42", 10_847, (500, 5), (35, 34, 31)),  # LPT's few <= 20
    ],
)
def test_totals_ends_and_groups(name: str, total: int, ends: tuple[int, int], groups: tuple[int, int, int]) -> None:
    classes = Manifest.load(name).classes
    assert classes.counts.sum() == total and (classes.counts[0], classes.counts[-1]) == ends
    assert tuple(int((classes.groups == group).sum()) for group in ("many", "medium", "few")) == groups


def test_the_state_of_numpys_global_generator_is_left_alone() -> None:
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    cifar100_lt(200)
    assert np.array_equal(np.random.random(3), expected)  # noqa: NPY002


# -- pixels ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def few() -> Manifest:
    """A manifest of this kind with five train and three test images."""
    splits = {
        "train": Split(np.array(["apple/4", "worm/0", "bear/3", "bear/0", "worm/2"]), np.array([0, 99, 3, 3, 99])),
        "test": Split(np.array(["worm/501", "apple/500", "bear/501"]), np.array([99, 0, 3])),
    }
    counts = np.bincount(splits["train"].labels, minlength=100)
    return Manifest(
        name="few", title="", licence="", source="", kind="cifar100", splits=splits, classes=Classes(NAMES, counts)
    )


@pytest.fixture
def batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small cifar-100-python, whose md5 torchvision is told to expect; a pixel says label and rank."""
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "data" / CIFAR100.base_folder
    folder.mkdir(parents=True)
    sums = {}
    contents: dict[str, dict] = {"meta": {"fine_label_names": list(NAMES)}}
    for name, number, part in (("train", KEPT, 0), ("test", 2, 100)):
        labels = np.random.default_rng(1).permutation(np.repeat(np.arange(100), number))
        ranks = np.array([(labels[:i] == label).sum() for i, label in enumerate(labels)])
        images = np.zeros((len(labels), 3, 32, 32), np.uint8)
        images[:, 0], images[:, 1] = labels[:, None, None], (ranks + part)[:, None, None]
        contents[name] = {"data": images.reshape(len(labels), -1), "fine_labels": labels.tolist()}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR100, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(CIFAR100, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": sums["meta"]})
    return folder.parent


def test_torchvisions_files_give_the_images_by_class_and_rank(few: Manifest, batches: Path) -> None:
    for split, part in (("train", 0), ("test", -400)):
        dataset = LongTailDataset(few, split, batches)
        for i, key in enumerate(few.split(split).paths.tolist()):
            image = dataset.image(i)
            rank = int(key.split("/")[1]) + part
            assert image.size == (32, 32) and image.getpixel((5, 9)) == (few.split(split).labels[i], rank, 0)
        assert dataset.mask(0) is None
    spec = LongTailDataset(Manifest.load(few.save(batches)), "test", batches).spec()
    again = LongTailDataset.from_spec(spec)
    assert np.array_equal(again.image(2), dataset.image(2)) and again.root == batches.resolve()
    report = check_dataset(few, batches)
    assert (report.files, report.problems) == (8, ())


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("file", ["train", "test", "meta"])
def test_changed_files_are_refused_before_anything_is_unpickled(few: Manifest, batches: Path, file: str) -> None:
    (batches / CIFAR100.base_folder / file).write_bytes(pickle.dumps(Payload(batches / "ran")))
    for split in ("train", "test"):
        with pytest.raises(ValueError, match=r"incomplete or changed.*md5.*download=True"):
            LongTailDataset(few, split, batches).image(0)
    with pytest.raises(ValueError, match="incomplete or changed"):
        check_dataset(few, batches)
    assert not (batches / "ran").exists()


def test_single_images_in_folders_give_the_same_rows(few: Manifest, tmp_path: Path) -> None:
    root = tmp_path / "single"
    assert (file_of("apple/4"), file_of("worm/501")) == ("train/apple/4.png", "test/worm/1.png")
    keys = [key for split in few.splits.values() for key in split.paths.tolist()]
    for seed, key in enumerate(["apple/0", *keys]):
        path = root / file_of(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(seed, (32, 32)).save(path)
    assert np.array_equal(LongTailDataset(few, "test", root).image(0), noise(6, (32, 32)))
    assert not check_dataset(few, root).problems
    (root / "test/worm/1.png").unlink()
    (root / "train/bear/3.png").write_text("no image")
    found = {problem.path: str(problem.outcome) for problem in check_dataset(few, root).problems}
    assert found == {"test/worm/1.png": "missing", "train/bear/3.png": "broken"}
    with pytest.raises(FileNotFoundError, match=r"test/worm/1\.png is not there"):
        LongTailDataset(few, "test", root).image(0)
    (root / "train/apple/4.png").unlink()
    Image.new("RGB", (32, 32)).save(tmp_path / "outside.png")
    (root / "train/apple/4.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(ValueError, match="refused"):
        LongTailDataset(few, "train", root).image(0)


def test_without_images_the_error_says_what_was_looked_for_and_what_to_type(tmp_path: Path) -> None:
    manifest = Manifest.load("cifar100_lt_ir100")
    with pytest.raises(ValueError, match=r"pass root= \(--root\), the folder that CIFAR-100 lies in"):
        LongTailDataset(manifest, "train")
    with pytest.raises(FileNotFoundError, match=r"cifar-100-python.*train/apple/0\.png.*download=True"):
        LongTailDataset(manifest, "train", tmp_path)
    (tmp_path / "cifar-100-python").mkdir()
    with pytest.raises(FileNotFoundError, match="is that folder itself: give"):
        LongTailDataset(manifest, "train", tmp_path / "cifar-100-python")


@pytest.mark.parametrize("key", ["apple", "pear/600", "pear/-1", "car/1", "pear/1/2", "pear/1.5"])
def test_a_key_that_is_no_image_of_cifar_100_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="is no image of CIFAR-100"):
        file_of(key)
