"""CoOp: with the embeddings of words as its vectors it is zero-shot; beyond that only the vectors learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from towers import recorded_clip_image_tower, recorded_clip_text_tower

import workbench as wb
from workbench.backbones import TextTower, reading
from workbench.methods import Clock, Method
from workbench.optim import learning_rate

NAMES = ("striped red star", "dotted blue_ring", "plain green square", "star")
WORDS = "a photo of a"
# the sentence that CoOp makes of WORDS, by the place of the name
SENTENCES = {"end": "a photo of a {}.", "middle": "a photo {} of a.", "front": "{} a photo of a."}


@cache
def text_tower() -> TextTower:
    return wb.load_text_tower("toybox_clip")


def build(name: str = "coop", *, names: tuple[str, ...] = NAMES, **options: Any) -> Method:
    classes = wb.Classes(names, np.full(len(names), 10))
    return wb.create_method(name, wb.load_backbone("toybox_clip"), classes, text=text_tower(), **options)


def pictures(number: int = 3) -> torch.Tensor:
    return torch.randn(number, 3, 56, 56, generator=torch.Generator().manual_seed(0))


def spelled(tower: TextTower, vocabulary: int) -> TextTower:
    """The recorded tower with a tokenizer of its own: each word and full stop is a token, the end is the largest."""

    def tokenize(sentences: list[str]) -> torch.Tensor:
        rows = torch.zeros(len(sentences), tower.model.context_length, dtype=torch.int64)
        for row, sentence in zip(rows, sentences, strict=True):
            words = sentence.replace(".", " .").split()
            ids = [1 + sum(map(ord, word)) % (vocabulary - 3) for word in words]
            row[: len(ids) + 2] = torch.tensor([vocabulary - 2, *ids, vocabulary - 1])
        return rows

    return TextTower(tower.model, tokenize, name="spelled", width=tower.width, logit_scale=tower.logit_scale)


@pytest.mark.parametrize("position", SENTENCES)
def test_with_the_embeddings_of_words_it_is_zero_shot_with_that_template(position: str) -> None:
    coop = build(words=WORDS, position=position)
    zero_shot = build("zero_shot", templates=SENTENCES[position])
    images = pictures()
    output, expected = coop(images), zero_shot(images)
    torch.testing.assert_close(output.logits, expected.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.cosine, expected.cosine, rtol=1e-4, atol=1e-5)
    others = build("zero_shot", templates=SENTENCES["front" if position == "end" else "end"])
    assert not torch.allclose(output.logits, others(images).logits, atol=0.01)
    assert coop.options["tokens"] == 4 and coop.options["scale"] == zero_shot.options["scale"]


@pytest.mark.parametrize("position", SENTENCES)
def test_so_it_is_in_the_recorded_clip(golden: Callable[[str], Any], position: str) -> None:
    case = golden("clip_zeroshot")
    classes = wb.Classes(("red", "big blue"), np.array([5, 5]))
    found = []
    words = {"words": "some", "position": position} if position != "middle" else {"words": "a b", "position": position}
    template = {"end": "some {}.", "middle": "a {} b.", "front": "{} some."}[position]
    for name, options in (("coop", words), ("zero_shot", {"templates": template})):
        image = recorded_clip_image_tower(case)
        text = spelled(recorded_clip_text_tower(case), case.settings["vocab"])
        method = wb.create_method(name, image, classes, text=text, **options).double()
        found.append(method(case.tensor("in.image")).logits.detach())
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)
    assert (found[0][:, 0] - found[0][:, 1]).abs().max() > 1e-3


@pytest.mark.parametrize("class_specific", [False, True])
def test_only_the_vectors_learn_and_specific_ones_learn_of_their_class(class_specific: bool) -> None:
    method = build(class_specific=class_specific)
    assert method.state().keys() == {"context"} and method.tuned == ("context",)
    context = method.get_parameter("context")
    assert context.shape == ((4, 16, 96) if class_specific else (16, 96))
    cost = wb.cost(method)
    assert (cost.tuned, cost.head) == (context.numel(), 0)
    assert context.std().item() == pytest.approx(0.02, rel=0.1)
    method.train()
    for name, parameter in method.named_parameters():
        parameter.requires_grad_(name.startswith(method.tuned))
    output = method(pictures(2))
    output.logits[:, 0].sum().backward()  # the logit of class 0 alone
    assert [name for name, parameter in method.named_parameters() if parameter.grad is not None] == ["context"]
    assert context.grad is not None
    size = context.grad.abs().sum((-1, -2))
    assert (size[0] > 0 and not size[1:].any()) if class_specific else size > 0


def test_the_gradient_is_that_of_finite_differences_whatever_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    method, images, labels = build(tokens=2), pictures(), torch.tensor([0, 3, 1])
    context = method.get_parameter("context")

    def loss() -> torch.Tensor:
        return method.loss([method(images)], [labels], Clock(0, 1, 0, 1))["loss"]

    (whole,) = torch.autograd.grad(loss(), context)
    monkeypatch.setattr(reading, "THAWED_CHUNK", 3)
    (cut,) = torch.autograd.grad(loss(), context)
    torch.testing.assert_close(cut, whole, rtol=1e-4, atol=1e-5)
    step = 1e-3 * whole / whole.norm()
    with torch.no_grad():
        context.add_(step)
        above = loss()
        context.sub_(2 * step)
        below = loss()
    assert float(above - below) / 2e-3 == pytest.approx(float(whole.norm()), rel=0.02)


def test_class_vectors_are_kept_until_a_weight_changes_and_may_be_used_with_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = build(tokens=2)
    assert method.text_tower is not None
    calls: list[int] = []
    method.text_tower.model.transformer.ln_final.register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():  # as the trainer scores, before and between steps
        first = method(pictures()).logits
        assert torch.equal(method(pictures()).logits, first) and len(calls) == 1
    method.requires_grad_(False)
    images = pictures().requires_grad_()
    (gradient,) = torch.autograd.grad(method(images).logits.sum(), images)
    assert gradient.any() and len(calls) == 1
    context = method.get_parameter("context").requires_grad_()
    method(pictures()).logits.sum().backward()
    torch.optim.SGD([context], lr=0.1).step()
    with torch.inference_mode():
        changed = method(pictures()).logits
    assert not torch.allclose(changed, first)
    method.load_state(build(tokens=2).state())
    with torch.no_grad():
        torch.testing.assert_close(method(pictures()).logits, first)


def test_what_does_not_fit_is_said_with_what_does() -> None:
    assert build(tokens=25).options["tokens"] == 25  # 25 + 4 tokens of the longest + full stop + 2 marks = 32
    with pytest.raises(ValueError, match=r"'dotted blue_ring' make 3[34].*reads 32. Choose tokens=2\d or fewer"):
        build(tokens=28, names=("star", "dotted blue_ring"))
    with pytest.raises(ValueError, match="Give the class a shorter name"):
        build(names=("star " * 40, "ring"))
    for options, message in (
        ({"tokens": 0}, "it is zero_shot"),
        ({"words": " "}, "words is empty"),
        ({"words": WORDS, "tokens": 5}, "has 4; leave tokens out"),
        ({"words": "star " * 40}, "1 to 29 fit"),
        ({"position": "left"}, "choose one of end, middle, front"),
        ({"scale": 0.0}, "must be positive"),
        ({"width": 8}, "tokens 96 wide"),
    ):
        with pytest.raises(ValueError, match=message):
            build(**options)
    assert build(words=WORDS, class_specific=True).get_parameter("context").shape == (4, 4, 96)


def test_towers_it_cannot_run_are_refused(tmp_path: Path) -> None:
    classes = wb.Classes(NAMES, np.full(4, 10))
    with pytest.raises(ValueError, match="coop needs the text tower"):
        wb.create_method("coop", wb.load_backbone("toybox_clip"), classes)
    vectors = wb.backbones.ClassVectors(torch.randn(4, 64), NAMES, logit_scale=100.0)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="not class vectors"):
        wb.create_method("coop", wb.load_backbone("toybox_clip"), classes, text=vectors)
    text = text_tower()
    with pytest.raises(ValueError, match="no joint image-text space"):
        wb.create_method("coop", wb.load_backbone("toybox_vit"), classes, text=text)
    other = TextTower(torch.nn.Linear(2, 64), text.tokenizer, name="other", width=64)
    with pytest.raises(ValueError, match="does not read token embeddings"):
        wb.create_method("coop", wb.load_backbone("toybox_clip"), classes, text=other)


def test_the_recipe_is_the_papers() -> None:
    manifest = wb.Manifest.load("digits_lt")
    (stage,) = build().stages(manifest)
    rate = [
        learning_rate(
            stage.schedule, lr=stage.lr, epoch=e, epochs=50, warmup_epochs=stage.warmup_epochs, warmup_lr=1e-5
        )
        for e in range(50)
    ]
    assert (rate[0], rate[1]) == (1e-5, 0.002)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=0.002)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 50)
    for e in range(1, 50):  # the authors' second scheduler starts anew after the warm-up
        assert rate[e] == pytest.approx(cosine.get_last_lr()[0])
        optimiser.step()
        cosine.step()
    assert (stage.epochs, stage.batch_size, stage.optimiser, stage.cached) == (50, 32, "sgd", False)
    train, test = (build().preprocessing(train=flag) for flag in (True, False))
    assert (train.interpolation, train.crop, train.augmentations) == ("bicubic", "random_resized", ("flip",))
    assert (test.interpolation, test.resize, test.crop) == ("bicubic", 56, "centre")
    (cached,) = build(cached=True, sampler="class_aware").stages(manifest)
    assert cached.cached and cached.samplers == ("class_aware",) and "cached features" in cached.source


def test_a_cached_run_lowers_the_loss_and_comes_back(tmp_path: Path) -> None:
    manifest = wb.Manifest.load("toybox_lt")
    train = wb.LongTailDataset(manifest, "train", per_class=1)
    backbone, text = wb.load_backbone("toybox_clip"), text_tower()
    method = wb.create_method("coop", backbone, manifest.classes, text=text, tokens=4, cached=True)
    stages = [replace(stage.shortened(3), lr=0.05) for stage in method.stages(manifest)]
    run = wb.fit(method, train, out=tmp_path / "run", stages=stages)
    losses = run.metrics["loss"].to_numpy()
    assert losses[-1] < losses[0] - 0.1
    again = wb.Run.load(run.path).method()
    assert {path.name for path in run.path.iterdir()} >= {"weights.safetensors"}
    assert (run.path / "weights.safetensors").stat().st_size < 10_000  # the vectors, and no tower
    np.testing.assert_array_equal(wb.extract(again, train).logits, wb.extract(method, train).logits)
