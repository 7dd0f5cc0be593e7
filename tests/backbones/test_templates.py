"""From class names to class embeddings: cleaning, template sets, means of unit vectors, files of vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional as F

import workbench as wb
from workbench.backbones import TEMPLATES, ClassVectors, TextTower, clean_class_name, joint_embeddings
from workbench.backbones.templates import class_embeddings, class_sentences


class Spelling(nn.Module):
    """A text tower in closed form: a sentence is the sums of its letters' rows in a random table."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(128, width, generator=torch.Generator().manual_seed(0)))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table[ids].sum(1)


def letters(sentences: list[str]) -> torch.Tensor:
    longest = max(len(sentence) for sentence in sentences)
    return torch.tensor([[min(ord(c), 127) for c in sentence.ljust(longest, "\0")] for sentence in sentences])


@pytest.fixture
def tower() -> TextTower:
    return TextTower(Spelling(8), letters, name="spelling", width=8)


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("airplane_cabin", "airplane cabin"),
        ("church/outdoor", "church outdoor"),
        ("apartment_building-outdoor", "apartment building-outdoor"),
        ("  striped  red star ", "striped red star"),
        ("Aalge's Guillemot {}", "Aalge's Guillemot {}"),
    ],
)
def test_a_class_name_is_cleaned_as_in_lift(name: str, clean: str) -> None:
    assert clean_class_name(name) == clean


def test_template_sets_are_those_of_the_papers() -> None:
    sets = {name: make() for name, make in TEMPLATES.items()}
    assert sets["class_name"] == ("{}",) and sets["single"] == ("a photo of a {}.",)
    assert (len(set(sets["imagenet_80"])), len(set(sets["imagenet_7"]))) == (80, 7)
    assert set(sets["imagenet_7"]) < set(sets["imagenet_80"]) and "a photo of a {}." in sets["imagenet_80"]
    assert "a photo of a {}." in sets["toybox"]
    assert all(template.count("{}") == 1 for templates in sets.values() for template in templates)


def test_a_set_a_template_of_ones_own_and_descriptions_make_sentences() -> None:
    assert class_sentences(["great_white_shark"], "single") == [["a photo of a great white shark."]]
    assert class_sentences(["cat", "{0}{}"], "a toy {} {x}") == [["a toy cat {x}"], ["a toy {0}{} {x}"]]
    assert class_sentences(["a_cat"], ["{}", "one {}."]) == [["a cat", "one a cat."]]
    texts = {"a_b": ["It is long.", "It has fins."], "c": ["It is round."]}
    assert class_sentences(["c", "a_b"], "descriptions", texts) == [["It is round."], ["It is long.", "It has fins."]]


def test_unknown_templates_and_missing_descriptions_say_what_is_needed() -> None:
    with pytest.raises(ValueError, match=r"'ensemble' is not known; choose one of class_name, single.*descriptions"):
        class_sentences(["cat"], "ensemble")
    with pytest.raises(ValueError, match=r"1 of 2 have none, first 'dog'"):
        class_sentences(["cat", "dog"], "descriptions", {"cat": ["furry"], "dog": []})
    with pytest.raises(ValueError, match=r"2 of 2 have none"):
        class_sentences(["cat", "dog"], "descriptions")


def test_a_class_is_the_mean_of_its_unit_vectors_of_unit_length(tower: TextTower) -> None:
    texts = {"cat": ["short", "a much longer sentence"], "dog": ["one"]}
    found = class_embeddings(tower, ["dog", "cat"], templates="descriptions", texts=texts)
    raw = {sentence: tower.encode([sentence])[0].numpy() for group in texts.values() for sentence in group}
    unit = {sentence: vector / np.linalg.norm(vector) for sentence, vector in raw.items()}
    mean = (unit["short"] + unit["a much longer sentence"]) / 2
    np.testing.assert_allclose(found[0], unit["one"], rtol=1e-5)
    np.testing.assert_allclose(found[1], mean / np.linalg.norm(mean), rtol=1e-5)
    single = class_embeddings(tower, ["cat", "dog", "cat"])
    assert single.shape == (3, 8) and torch.equal(single[0], single[2])
    np.testing.assert_allclose(single[0], F.normalize(tower.encode(["a photo of a cat."]))[0], rtol=1e-5)


def test_towers_that_do_not_belong_together_are_refused(tower: TextTower) -> None:
    clip = wb.load_backbone("vit_xsmall_patch16_clip_224.tinyclip_yfcc15m", "random", input_size=32)
    with pytest.raises(ValueError, match=r"8 wide and the joint space of vit_xsmall.* is 512 wide"):
        joint_embeddings(clip, tower, ["cat"])
    plain = wb.load_backbone("test_vit.r160_in1k", "random", input_size=32)
    with pytest.raises(ValueError, match="no joint image-text space"):
        joint_embeddings(plain, tower, ["cat"])


# -- files of class vectors --------------------------------------------------------------------------------------------


@pytest.fixture
def vectors(tmp_path: Path) -> Any:
    """Rows of three classes under two keys, in a file."""
    rows = torch.arange(12.0).reshape(3, 4) + 1
    path = tmp_path / "vectors.safetensors"
    safetensors.torch.save_file({"photo": rows, "gpt": 2 * rows.flip(0).contiguous()}, path)
    return path, rows


def test_class_vectors_stand_for_their_names(vectors: Any) -> None:
    path, rows = vectors
    found = wb.load_class_vectors(path, ["great_white_shark", "tench", "cat"], key="photo", logit_scale=50)
    assert torch.equal(found.encode(["cat", "great white shark"]), rows[[2, 0]])
    assert (found.width, found.logit_scale) == (4, 50.0)
    embeddings = class_embeddings(found, ["tench", "great_white_shark"])
    np.testing.assert_allclose(embeddings, F.normalize(rows[[1, 0]]), rtol=1e-6)
    assert found.spec()["key"] == "photo" and len(found.spec()["sha256"]) == 64


def test_names_may_lie_in_a_file_and_vectors_in_columns(vectors: Any, tmp_path: Path) -> None:
    _, rows = vectors
    np.save(tmp_path / "columns.npy", rows.T.numpy())
    (tmp_path / "names.txt").write_text("ant\nbée\ncat\n", encoding="utf-8")
    found = wb.load_class_vectors(tmp_path / "columns.npy", tmp_path / "names.txt")
    assert torch.equal(found.encode(["bée"]), rows[[1]])


def test_what_a_file_of_vectors_cannot_do_is_said(vectors: Any) -> None:
    path, rows = vectors
    with pytest.raises(ValueError, match=r"key=None; choose one of gpt, photo"):
        wb.load_class_vectors(path, ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"holds \(3, 4\), but 2 names"):
        wb.load_class_vectors(path, ["a", "b"], key="gpt")
    found = wb.load_class_vectors(path, ["a", "b", "c"], key="gpt")
    with pytest.raises(ValueError, match=r"1 names have no vector here, first 'a photo of a b'"):
        found.encode(["a", "a photo of a b"])
    with pytest.raises(ValueError, match="class vectors come with the sentences"):
        class_embeddings(found, ["a"], templates="single")
    twice = ClassVectors(rows, ["a", "a", "b"], logit_scale=100)
    assert torch.equal(twice.encode(["b"]), rows[[2]])
    with pytest.raises(ValueError, match="'a' names 2 rows with different vectors"):
        twice.encode(["a"])
    with pytest.raises(FileNotFoundError, match="no file of class vectors"):
        wb.load_class_vectors(path.with_name("absent.npy"), ["a"])


def test_real_vectors_of_imagenet_put_related_names_close(shared: Path) -> None:
    lines = (shared / "data" / "names" / "imagenet.txt").read_text().splitlines()
    path = shared / "data" / "clip_text" / "clip512_imagenet_text_features.safetensors"
    found = wb.load_class_vectors(path, [line.partition(" ")[2] for line in lines], key="a_photo_of_a")
    names = ["great white shark", "hammerhead shark", "tiger shark", "school bus", "minibus"]
    similarity = (rows := class_embeddings(found, names)) @ rows.T
    assert similarity[0, 1:3].min() > similarity[0, 3:].max() + 0.05
    assert similarity[3, 4] > similarity[3, :3].max() + 0.05
