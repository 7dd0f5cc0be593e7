"""Zero-shot against the recorded CLIP and in closed form; as a run that trains nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn import functional as F
from towers import recorded_clip_image_tower, recorded_clip_text_tower

import workbench as wb
from workbench.backbones import TextTower
from workbench.methods import Method

CLIP = "vit_xsmall_patch16_clip_224.tinyclip_yfcc15m"


@cache
def text_tower() -> TextTower:
    return wb.load_text_tower(CLIP, "random")


def build(**options: Any) -> Method:
    backbone = wb.load_backbone(CLIP, weights="random", input_size=32)
    manifest = wb.Manifest.load("digits_lt")
    return wb.create_method("zero_shot", backbone, manifest.classes, text=text_tower(), **options)


def test_logits_equal_the_recorded_ones(golden: Callable[[str], Any]) -> None:
    case = golden("clip_zeroshot")
    image, text = recorded_clip_image_tower(case), recorded_clip_text_tower(case)
    classes = wb.Classes(tuple("012345"), np.full(6, 10))
    method = wb.create_method("zero_shot", image, classes, text=text, templates="class_name").double()
    output = method(case.tensor("in.image"))
    case.check(output.logits, "out.zeroshot_logits")
    case.check(output.features, "out.image_features")


def test_logits_are_the_scaled_cosines_of_projected_features_and_class_embeddings() -> None:
    method = build()
    text = text_tower()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    output = method(images)
    joint = method.backbone.project(method.backbone.encode(images))
    names = [f"a photo of a {name}." for name in method.classes.names]
    cosine = F.normalize(joint) @ F.normalize(text.encode(names)).T
    assert output.cosine is not None
    torch.testing.assert_close(output.cosine, cosine, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.logits, text.logit_scale * cosine, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.features, joint)
    assert build(scale=30.0)(images).logits.abs().max() <= 30


def test_templates_and_descriptions_change_the_classes() -> None:
    names = wb.Manifest.load("digits_lt").classes.names
    texts = {name: [f"{name} is a digit.", "It is written by hand."] for name in names}
    heads = [
        build(templates=templates, texts=texts).state()["head.weight"]
        for templates in (None, "class_name", "imagenet_7", "descriptions")
    ]
    assert all(not torch.allclose(a, b) for i, a in enumerate(heads) for b in heads[:i])


def test_scores_average_the_cosines_and_vectors_the_unit_vectors_of_the_descriptions() -> None:
    names = wb.Manifest.load("digits_lt").classes.names
    kinds = ("round", "thin", "written by hand", "made of two strokes")
    texts = {name: [f"{name}, which is {kind}." for kind in kinds[: 1 + i % 4]] for i, name in enumerate(names)}
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    scores, vectors = (
        build(templates="descriptions", texts=texts, ensemble=ensemble) for ensemble in ("scores", "vectors")
    )
    text = text_tower()
    joint = scores.backbone.project(scores.backbone.encode(images))
    expected = torch.empty(3, len(names))
    for i, image in enumerate(joint):
        for c, name in enumerate(names):
            found = [F.cosine_similarity(image, text.encode([sentence])[0], dim=0) for sentence in texts[name]]
            expected[i, c] = sum(found) / len(found)
    output = scores(images)
    assert output.cosine is not None and output.cosine.abs().max() <= 1
    torch.testing.assert_close(output.cosine, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.logits, text.logit_scale * expected, rtol=1e-4, atol=1e-4)
    # a class of one sentence has the same score both ways; a mean of several unit vectors is shorter than 1
    ratio = (vectors(images).cosine / output.cosine).detach()  # type: ignore[operator]
    torch.testing.assert_close(ratio[:, ::4], torch.ones_like(ratio[:, ::4]), rtol=1e-4, atol=1e-4)
    assert all((ratio[:, rest::4] > 1 + 1e-4).all() for rest in (1, 2, 3))


def test_templates_may_be_a_list_as_the_command_line_gives_it(tmp_path: Path) -> None:
    from workbench.cli.training import _options, option

    options = _options("zero_shot", [option('templates=["a {}.", "one {}."]'), option("ensemble=scores")])
    method = build(**options)
    text = text_tower()
    units = [
        F.normalize(text.encode([template.format(name) for name in method.classes.names]), dim=-1)
        for template in ("a {}.", "one {}.")
    ]
    torch.testing.assert_close(method.state()["head.weight"], (units[0] + units[1]) / 2)
    manifest = wb.Manifest.load("digits_lt")
    train = wb.LongTailDataset(manifest, "train", per_class=1)
    run = wb.fit(method, train, out=tmp_path / "run")
    again = wb.Run.load(run.path).method()
    assert again.options == method.options and again.options["templates"] == ("a {}.", "one {}.")
    assert wb.fit(method, train, out=tmp_path / "run", existing="continue").path == run.path
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(images).logits, method(images).logits)


def test_lists_that_are_no_templates_and_vectors_without_sentences_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"where 'one' has no \{\}"):
        build(templates=["a {}.", "one"])
    for wrong in ([], 3, [3]):
        with pytest.raises(ValueError, match="a list of them"):
            build(templates=wrong)
    with pytest.raises(ValueError, match="choose one of vectors, scores"):
        build(ensemble="mean")
    names = wb.Manifest.load("digits_lt").classes.names
    path = tmp_path / "vectors.safetensors"
    safetensors.torch.save_file({"rows": torch.randn(len(names), 512)}, path)
    backbone = wb.load_backbone(CLIP, weights="random", input_size=32)
    given = {"text": wb.load_class_vectors(path, names), "ensemble": "scores"}
    with pytest.raises(ValueError, match="ensemble='scores' needs sentences"):
        wb.create_method("zero_shot", backbone, wb.Manifest.load("digits_lt").classes, **given)


def test_without_text_or_joint_space_it_says_what_is_needed() -> None:
    classes = wb.Manifest.load("digits_lt").classes
    with pytest.raises(ValueError, match=r"needs the text tower.*load_text_tower"):
        wb.create_method("zero_shot", wb.load_backbone(CLIP, "random", input_size=32), classes)
    with pytest.raises(ValueError, match="no joint image-text space"):
        plain = wb.load_backbone("test_vit.r160_in1k", "random", input_size=32)
        wb.create_method("zero_shot", plain, classes, text=text_tower())
    with pytest.raises(ValueError, match="must be positive"):
        build(scale=-1.0)
    with pytest.raises(ValueError, match="class_name"):
        build(templates="no set")


def test_a_method_without_use_for_text_leaves_it_aside() -> None:
    backbone = wb.load_backbone(CLIP, weights="random", input_size=32)
    classes, text = wb.Manifest.load("digits_lt").classes, text_tower()
    method = wb.create_method("linear_probe", backbone, classes, text=text, texts={"0": ["round"]})
    assert method.text is None


def test_its_run_comes_back_without_a_text_tower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = wb.Manifest.load("digits_lt")
    train, val = (wb.LongTailDataset(manifest, split, per_class=3) for split in ("train", "val"))
    method = build(templates="imagenet_7")
    run = wb.fit(method, train, val, out=tmp_path / "run")
    assert run.status["status"] == "finished" and run.metrics.empty
    assert run.config["text"]["name"] == CLIP and run.config["options"]["templates"] == "imagenet_7"
    assert run.config["options"]["scale"] == method.head.scale

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a run must not need the text tower again")

    monkeypatch.setattr("workbench.backbones.text._build", refuse)
    again = wb.Run.load(run.path).method()
    np.testing.assert_array_equal(wb.extract(again, val).logits, wb.extract(method, val).logits)
    assert wb.resume(run.path).status["status"] == "finished"
    assert wb.cost(again).tuned == 0
    wb.group_report(wb.extract(again, val))


def test_stages_are_refused_and_a_run_that_stopped_too_early_says_so(tmp_path: Path) -> None:
    manifest = wb.Manifest.load("digits_lt")
    train = wb.LongTailDataset(manifest, "train", per_class=3)
    method = build()
    probe = wb.create_method("linear_probe", method.backbone, manifest.classes)
    with pytest.raises(ValueError, match="zero_shot trains nothing"):
        wb.fit(method, train, out=tmp_path / "stages", stages=probe.stages(manifest))
    run = wb.fit(method, train, out=tmp_path / "run")
    run.set_status("failed", error="killed")
    (run.path / "weights.safetensors").unlink()
    with pytest.raises(ValueError, match="stopped before its first checkpoint"):
        wb.resume(run.path)


def test_lift_from_text_comes_back_without_a_text_tower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = wb.Manifest.load("digits_lt")
    train, val = (wb.LongTailDataset(manifest, split, per_class=3) for split in ("train", "val"))
    backbone = wb.load_backbone(CLIP, weights="random", input_size=32)
    text = text_tower()
    method = wb.create_method("lift", backbone, manifest.classes, text=text, bottleneck=2, views="centre")
    stages = [replace(stage.shortened(1), batch_size=16) for stage in method.stages(manifest)]
    run = wb.fit(method, train, val, out=tmp_path / "run", stages=stages)
    monkeypatch.setattr("workbench.backbones.text._build", None)
    again = wb.Run.load(run.path).method()
    assert again.options["initialisation"] == "text"
    np.testing.assert_array_equal(wb.extract(again, val).logits, wb.extract(method, val).logits)
