"""Features: what is refused, what cannot be changed afterwards, what survives a round trip through a file."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench.data import Classes, GroupRule
from workbench.features import Features, joined, splits
from workbench.features.container import MAX_LOGITS, keeps_logits


def arguments(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "vectors": rng.normal(size=(6, 4)).astype(np.float32),
        "logits": rng.normal(size=(6, 3)).astype(np.float16),
        "predicted": np.array([0, 1, 2, 0, 1, 2]),
        "confidence": rng.random(6).astype(np.float32),
        "labels": np.array([0, 0, 1, 1, 2, 2]),
        "ids": np.array([f"test/ü {i}.jpg" for i in range(6)]),
        "classes": Classes(("striped red star", "b", "c"), np.array([200, 50, 3]), GroupRule(many_from=150)),
        "extras": {"prompt_index": np.arange(12).reshape(6, 2), "note": np.array(["x", "yy"] * 3)},
        "source": {"manifest": {"name": "toy", "sha256": "ab"}, "split": "test", "run": None},
    }


@pytest.fixture
def features(rng: np.random.Generator) -> Features:
    return Features(**arguments(rng))


def test_arrays_are_cast_read_only_and_apart_from_the_callers(rng: np.random.Generator) -> None:
    given = arguments(rng) | {"labels": np.array([0, 0, 1, 1, 2, 2], dtype=np.int32)}
    given["vectors"] = given["vectors"].astype(np.float64)
    features = Features(**given)
    assert (features.vectors.dtype, features.labels.dtype, features.logits.dtype) == (np.float32, np.int64, np.float16)
    given["confidence"][:] = 0
    assert features.confidence.any()
    for array in (features.vectors, features.logits, features.ids, *features.extras.values()):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        features.labels = features.predicted


def test_read_only_arrays_are_taken_without_a_copy(rng: np.random.Generator) -> None:
    given = arguments(rng)
    given["vectors"].flags.writeable = False
    assert Features(**given).vectors is given["vectors"]


def test_some_of_the_images_are_features_again(features: Features) -> None:
    few = features[features.group_of == "few"]
    np.testing.assert_array_equal(few.labels, [2, 2])
    np.testing.assert_array_equal(few.extras["prompt_index"], features.extras["prompt_index"][4:])
    assert few.classes == features.classes and few.source == features.source
    np.testing.assert_array_equal(features[[3, 1]].ids, features.ids[[3, 1]])
    np.testing.assert_array_equal(features[::2].vectors, features.vectors[::2])
    with pytest.raises(ValueError, match="one for each"):
        features[np.array([True, False])]
    with pytest.raises(ValueError, match="not unique"):
        features[[0, 0]]


def test_group_and_correctness_of_each_image(features: Features) -> None:
    assert features.group_of.tolist() == ["many"] * 2 + ["medium"] * 2 + ["few"] * 2
    assert features.correct.tolist() == [True, False, False, False, False, True]
    assert len(features) == 6 and "6 images" in repr(features)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vectors": np.zeros((6, 4), dtype=np.int64)}, "vectors is int64"),
        ({"vectors": np.zeros(6, dtype=np.float32)}, "2 axes"),
        ({"vectors": np.full((6, 4), np.nan, dtype=np.float32)}, "vectors is not finite in 6 of 6 rows"),
        ({"vectors": np.zeros((5, 4), dtype=np.float32)}, "6 rows, but vectors has 5"),
        ({"vectors": np.zeros((0, 4), dtype=np.float32)}, "at least one image"),
        ({"logits": np.zeros((6, 4), dtype=np.float32)}, "4 columns, but there are 3 classes"),
        ({"logits": np.full((6, 3), 1e5, dtype=np.float32)}, "logits is not finite .* float16"),
        ({"labels": np.array([0, 0, 1, 1, 2, 3])}, "labels runs from 0 to 3, but there are 3 classes: 0 to 2"),
        ({"predicted": np.array([-1, 0, 1, 1, 2, 2])}, "predicted runs from -1"),
        ({"predicted": np.zeros(6, dtype=np.float32)}, "predicted is float32"),
        ({"confidence": np.full(6, 7.0, dtype=np.float32)}, r"probability in \[0, 1\]"),
        ({"ids": np.array(["a"] * 6)}, "'a' names more than one image"),
        ({"ids": np.arange(6)}, "must be \\(N,\\) strings"),
        ({"extras": {"x": np.zeros(5)}}, "x has 5 rows"),
        ({"extras": {"x": np.array([None] * 6)}}, r"extras\['x'\] is object"),
        ({"source": {"path": Path("x")}}, "source must be plain JSON"),
        ({"source": []}, "source is a list"),
    ],
)
def test_what_does_not_fit_is_refused(rng: np.random.Generator, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Features(**arguments(rng) | change)


def test_logits_above_the_limit_are_left_out() -> None:
    assert keeps_logits(50_000, 1000) and not keeps_logits(MAX_LOGITS, 2)


@pytest.mark.parametrize("with_logits", [True, False])
def test_a_file_gives_back_what_was_saved(features: Features, tmp_path: Path, with_logits: bool) -> None:
    if not with_logits:
        features = dataclasses.replace(features, logits=None)
    path = features.save(tmp_path / "new" / "test.npz")
    assert [file.name for file in path.parent.iterdir()] == ["test.npz"]
    loaded = Features.load(path)
    for name in ("vectors", "logits", "predicted", "confidence", "labels", "ids"):
        before, after = getattr(features, name), getattr(loaded, name)
        assert (before is None) == (after is None)
        if before is not None:
            np.testing.assert_array_equal(after, before)
            assert after.dtype == before.dtype and not after.flags.writeable
    assert loaded.extras.keys() == features.extras.keys()
    assert all(np.array_equal(loaded.extras[name], features.extras[name]) for name in features.extras)
    assert (loaded.source, loaded.classes) == (features.source, features.classes)


def test_an_existing_file_stays_unless_told_otherwise(features: Features, tmp_path: Path) -> None:
    path = features.save(tmp_path / "test.npz")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        features.save(path)
    assert dataclasses.replace(features, logits=None).save(path, overwrite=True) == path
    assert Features.load(path).logits is None
    with pytest.raises(ValueError, match=r"does not end in \.npz"):
        features.save(tmp_path / "test.pkl")


def test_a_failed_save_leaves_nothing(features: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        features.save(tmp_path / "test.npz")
    assert not list(tmp_path.iterdir())


def _truncated(features: Features, path: Path) -> None:
    content = features.save(path).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _changed_byte(features: Features, path: Path) -> None:
    content = bytearray(features.save(path).read_bytes())
    content[content.find(b"NUMPY") + 130] ^= 255  # in the data of the first array; the archive's checksum notices
    path.write_bytes(content)


def _pickled(features: Features, path: Path) -> None:
    np.savez(path, ids=np.array([{}], dtype=object), allow_pickle=True)


FOREIGN = {
    "an empty file": lambda features, path: path.write_bytes(b""),
    "text": lambda features, path: path.write_text("hello"),
    "a pickle": lambda features, path: path.write_bytes(pickle.dumps({"a": 1})),
    "a pickle inside": _pickled,
    "half a file": _truncated,
    "a changed byte": _changed_byte,
    "another archive": lambda features, path: np.savez(path, x=np.zeros(3)),
    "a format entry only": lambda features, path: np.savez(path, format=np.array("workbench-features-1")),
    "a later format": lambda features, path: np.savez(path, format=np.array("workbench-features-9")),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_broken_and_foreign_files_are_refused_by_name(features: Features, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd.npz"
    FOREIGN[kind](features, path)
    with pytest.raises(ValueError, match=r"odd\.npz is broken or was not written by Features\.save"):
        Features.load(path)
    with pytest.raises(FileNotFoundError, match="workbench extract"):
        Features.load(tmp_path / "missing.npz")


@pytest.fixture
def other(features: Features) -> Features:
    """Of another split by the same model, four images."""
    ids = np.array([f"train/{i}.jpg" for i in range(4)])
    return dataclasses.replace(features[:4], ids=ids, source=features.source | {"split": "train"})


def test_splits_are_joined_in_their_order(features: Features, other: Features, tmp_path: Path) -> None:
    both = joined({"test": features, "train": other})
    for name in ("vectors", "logits", "predicted", "confidence", "labels", "ids"):
        np.testing.assert_array_equal(
            getattr(both, name), np.concatenate([getattr(part, name) for part in (features, other)])
        )
    assert both.classes == features.classes and both.extras.keys() == {"prompt_index", "note", "split"}
    assert both.extras["split"].tolist() == ["test"] * 6 + ["train"] * 4
    assert both.source["manifest"] == features.source["manifest"] and "split" not in both.source
    assert both.source["parts"] == {"test": features.source, "train": other.source}
    names, of_image = splits(Features.load(both.save(tmp_path / "both.npz"))[::-1])
    assert names == ("train", "test") and of_image.tolist() == [0] * 4 + [1] * 6
    assert splits(features)[0] == () and splits(features)[1].tolist() == [0] * 6


def test_only_what_all_parts_have_is_joined(features: Features, other: Features) -> None:
    less = dataclasses.replace(
        other, logits=None, predicted=None, confidence=None,
        extras={"prompt_index": np.zeros((4, 3), int), "note": np.array(list("abcd")), "mine": np.zeros(4)},
    )  # fmt: skip
    both = joined({"test": features, "train": less})
    assert both.logits is both.predicted is both.confidence is None
    assert both.extras.keys() == {"note", "split"} and both.extras["note"].tolist()[-2:] == ["c", "d"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": np.array(["train/0.jpg", "test/ü 1.jpg", "b", "c"])}, "ü 1.jpg' stands in 'test' and in 'train'"),
        ({"vectors": np.zeros((4, 5), np.float32)}, "'train' has vectors of width 5, 'test' of 4"),
        ({"classes": Classes(("x", "b", "c"), np.array([200, 50, 3]), GroupRule(many_from=150))}, "their names differ"),
        (
            {"classes": Classes(("striped red star", "b", "c"), np.array([200, 51, 3]))},
            "'train' has 3 classes, 'test' 3, and their counts and rule differ",
        ),
        ({"source": {"layer": "backbone"}}, "'train' comes from layer 'backbone', 'test' from 'head'"),
        ({"source": {"method": "lift"}}, "'train' comes from method 'lift', 'test' from 'lpt'"),
    ],
)
def test_what_is_not_of_one_model_is_not_joined(
    features: Features, other: Features, change: dict[str, Any], message: str
) -> None:
    test = dataclasses.replace(features, source={"layer": "head", "method": "lpt"})
    with pytest.raises(ValueError, match=message):
        joined({"test": test, "train": dataclasses.replace(other, **change)})


@pytest.mark.parametrize(
    ("parts", "message"), [({}, "no features were given"), ({"": 1}, "'' is no name"), ({"test": 1}, "'test' is a int")]
)
def test_joining_asks_for_features_by_name(parts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        joined(parts)
