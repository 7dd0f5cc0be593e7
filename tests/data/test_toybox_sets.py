"""The data sets of the toybox world: counts, groups, pictures from the cache, masks, texts, shortcuts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import workbench as wb
from workbench import toybox
from workbench.backbones.toybox.upstream import HELD_OUT_SEED, POOL_SEED
from workbench.data import evaluation_preprocessing, toybox_lt, toybox_sketch, toybox_upstream
from workbench.data.cache import cached_array


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def small(manifest: wb.Manifest, per_class: int = 1) -> wb.Manifest:
    """The first test images of each class only, so that little is rendered."""
    split = manifest.split("test")
    keep = np.concatenate([np.flatnonzero(split.labels == label)[:per_class] for label in range(60)])
    splits = {"test": type(split)(split.paths[keep], split.labels[keep])}
    classes = type(manifest.classes)(manifest.classes.names, np.zeros(60), manifest.classes.rule)
    parts = {"title": "t", "licence": "l", "source": "s", "kind": "toybox"}
    return wb.Manifest(name="small", splits=splits, classes=classes, **parts)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("toybox_lt", lambda: toybox_lt()),
        ("toybox_lt_backgrounds", lambda: toybox_lt(correlation=0.9)),
        ("toybox_sketch", lambda: toybox_sketch()),
        ("toybox_upstream", lambda: toybox_upstream()),
    ],
)
def test_the_packaged_manifests_are_what_the_functions_make(name: str, made: object) -> None:
    packaged = wb.Manifest.load(name)
    assert packaged.sha256 == made().sha256 and packaged.texts == made().texts  # type: ignore[operator]
    assert packaged.classes == made().classes  # type: ignore[operator]


def test_toybox_lt_has_the_tail_and_the_groups_of_the_design() -> None:
    manifest = wb.Manifest.load("toybox_lt")
    classes = manifest.classes
    assert (len(classes), classes.counts.max(), classes.counts.min()) == (60, 300, 3)
    assert [int((classes.groups == group).sum()) for group in ("many", "medium", "few")] == [14, 21, 25]
    assert all((np.bincount(manifest.split(s).labels) == n).all() for s, n in (("val", 10), ("test", 50)))
    keys = np.concatenate([rows.paths for rows in manifest.splits.values()])
    assert len(set(keys.tolist())) == len(keys)
    assert set(classes.taxonomy or {}) == {"shape", "colour", "pattern"}
    sketch = wb.Manifest.load("toybox_sketch")
    assert not sketch.has_validation and (sketch.classes.groups == classes.groups).all()


def test_upstream_pictures_show_no_class_downstream_and_were_not_met_in_pretraining() -> None:
    split = wb.Manifest.load("toybox_upstream").split("test")
    scenes = [toybox.scene_of(key) for key in split.paths.tolist()]
    assert {scene.style for scene in scenes} == {"upstream"}
    assert {scene.seed for scene in scenes}.isdisjoint({POOL_SEED, HELD_OUT_SEED})
    assert not {scene.toy for scene in scenes} & set(toybox.CLASSES)
    assert [list(toybox.SHAPES)[label] for label in split.labels] == [scene.toy.shape for scene in scenes]


def test_a_picture_is_that_of_its_key_and_comes_with_its_mask(own_cache: Path) -> None:
    manifest = small(wb.Manifest.load("toybox_lt"))
    dataset = wb.LongTailDataset(manifest, "test")
    image, mask = toybox.render(toybox.scene_of(str(dataset.ids[7])))
    assert np.array_equal(np.asarray(dataset.image(7)), image)
    found = dataset.mask(7)
    assert found is not None and np.array_equal(found, mask) and 0.02 < mask.mean() < 0.5
    assert dataset.classes.names[dataset.labels[7]] == toybox.scene_of(str(dataset.ids[7])).toy.name
    (file,) = own_cache.glob("*.npy")
    assert toybox.VERSION in file.name and np.load(file).shape == (60, 56, 56, 3)


def test_a_toy_can_stand_before_another_background_and_photographs_cannot(own_cache: Path) -> None:
    dataset = wb.LongTailDataset(small(wb.Manifest.load("toybox_lt")), "test")
    scene = toybox.scene_of(str(dataset.ids[7]))
    assert dataset.background(7) == scene.background != "lava"
    other = toybox.render(replace(scene, background="lava"))[0]
    assert np.array_equal(np.asarray(dataset.image(7, background="lava")), other)
    assert np.array_equal(np.asarray(dataset.image(7, background=scene.background)), np.asarray(dataset.image(7)))
    with pytest.raises(ValueError, match="background='moon' is not known"):
        dataset.image(7, background="moon")
    for without in (small(wb.Manifest.load("toybox_sketch")), wb.Manifest.load("digits_lt")):
        plain = wb.LongTailDataset(without, "test")
        assert plain.background(3) is None
        with pytest.raises(ValueError, match=f"image 3 of {without.name} has no background that could become 'lava'"):
            plain.image(3, background="lava")


def test_the_cache_is_read_and_a_file_cut_off_is_made_again(own_cache: Path) -> None:
    calls: list[int] = []

    def make() -> np.ndarray:
        calls.append(1)
        return np.arange(1000)

    for _ in range(2):
        assert cached_array("numbers", make)[-1] == 999
    assert len(calls) == 1
    file = own_cache / "numbers.npy"
    file.write_bytes(file.read_bytes()[:100])
    assert cached_array("numbers", make)[-1] == 999
    assert len(calls) == 2
    with pytest.raises(ValueError, match="read-only"):
        cached_array("numbers", make)[0] = 1


def test_without_a_place_to_keep_it_the_array_is_made_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "file" / "cache"))
    assert cached_array("numbers", lambda: np.arange(3)).tolist() == [0, 1, 2]
    assert "could not be kept" in caplog.text and "WORKBENCH_CACHE" in caplog.text


def test_backgrounds_give_every_third_class_away_in_train_but_not_in_test() -> None:
    manifest = wb.Manifest.load("toybox_lt_backgrounds")
    shares = {}
    for split in ("train", "test"):
        rows = manifest.split(split)
        backgrounds = np.array([toybox.scene_of(key).background for key in rows.paths.tolist()])
        for kind, labels in (("tied", range(0, 60, 3)), ("free", range(1, 60, 3))):
            most = [np.unique(backgrounds[rows.labels == c], return_counts=True)[1].max() for c in labels]
            sizes = [(rows.labels == c).sum() for c in labels]
            shares[split, kind] = sum(most) / sum(sizes)
    assert shares["train", "tied"] > 0.85  # 0.9 of them, and an eighth of the others by chance
    assert max(shares["train", "free"], shares["test", "tied"], shares["test", "free"]) < 0.35
    with pytest.raises(ValueError, match="share, from 0"):
        toybox_lt(correlation=90)


@pytest.mark.parametrize(
    "key", ["downstream-0/red star/sand/1", "../etc/passwd", "downstream-0/striped red star/moon/1"]
)
def test_a_key_that_names_no_scene_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r"no picture of the toybox|is not known"):
        toybox.scene_of(key)


def test_a_mask_is_resized_and_cropped_with_its_image(own_cache: Path) -> None:
    dataset = wb.LongTailDataset(small(wb.Manifest.load("toybox_lt")), "test")
    with pytest.raises(ValueError, match="seen=True needs a preprocessing"):
        dataset.mask(7, seen=True)
    shown = dataset.with_preprocessing(evaluation_preprocessing(56, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    mask, seen = shown.mask(7), shown.mask(7, seen=True)
    assert mask is not None and seen is not None
    wide = np.asarray(Image.fromarray(mask).convert("L").resize((64, 64), Image.Resampling.NEAREST)) > 127
    assert seen.shape == (56, 56) and (seen == wide[4:60, 4:60]).mean() > 0.97
    cropped = np.asarray(dataset.image(7).resize((64, 64), Image.Resampling.BILINEAR))[4:60, 4:60]
    assert np.abs(shown[7][0].permute(1, 2, 0).numpy() - (cropped / 127.5 - 1)).max() < 0.02  # the image's own crop
