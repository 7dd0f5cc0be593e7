"""What every method promises; a new one is tested by standing in the registry."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.backbones import TextTower
from workbench.methods import METHODS, Clock, Method, method_class

PLAIN, CLIP = "test_vit.r160_in1k", "vit_xsmall_patch16_clip_224.tinyclip_yfcc15m"
DRAW_NOTHING = ("wise_ft",)  # begin from the weights and the text alone, whatever the seed


@pytest.fixture(scope="module")
def manifest() -> wb.Manifest:
    return wb.Manifest.load("digits_lt")


@cache
def text_tower() -> TextTower:
    return wb.load_text_tower(CLIP, "random")


def build(name: str, manifest: wb.Manifest, *, seed: int = 0) -> Method:
    """A method on a small random tower; one that reads class names gets a CLIP and its text tower."""
    cls = method_class(name)
    backbone = wb.load_backbone(CLIP if cls.uses_text else PLAIN, weights="random", input_size=32)
    text = text_tower() if cls.uses_text else None
    return wb.create_method(name, backbone, manifest.classes, text=text, seed=seed, **cls.small())


@pytest.fixture(params=sorted(METHODS), scope="module")
def method(request: pytest.FixtureRequest, manifest: wb.Manifest) -> Method:
    return build(request.param, manifest)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_the_output_has_the_promised_shapes(method: Method, images: torch.Tensor) -> None:
    output = method(images)
    C = len(method.classes)
    assert output.logits.shape == (4, C)
    assert output.features.shape[0] == 4
    if output.cosine is not None:
        assert output.cosine.shape == (4, C)
        assert output.cosine.abs().max() <= 1 + 1e-5
    assert all(len(value) == 4 for value in output.extras.values())


def test_forward_is_classify_after_encode(method: Method, images: torch.Tensor) -> None:
    method.eval()  # dropout draws anew at every call
    torch.testing.assert_close(method(images).logits, method.classify(method.encode(images)).logits)


def test_images_of_a_batch_do_not_touch_each_other(method: Method, images: torch.Tensor) -> None:
    method.eval()
    torch.testing.assert_close(method(images).logits[:2], method(images[:2]).logits, rtol=1e-4, atol=1e-4)


def test_the_backbone_stays_in_eval_mode(method: Method) -> None:
    method.train()
    assert method.training
    assert not any(module.training for module in method.backbone.modules())


def test_stages_name_existing_parameters_and_their_source(method: Method, manifest: wb.Manifest) -> None:
    names = [name for name, _ in method.named_parameters()]
    for stage in method.stages(manifest):
        assert stage.source
        assert wb.Stage.from_json(stage.to_json()) == stage
        for prefix in stage.trainable:
            assert any(name.startswith(prefix) for name in names), prefix
            assert prefix.startswith(method.tuned), f"{prefix} would be lost: tuned does not cover it"


def test_the_same_seed_builds_the_same_method(method: Method, manifest: wb.Manifest) -> None:
    same, other = build(method.name, manifest), build(method.name, manifest, seed=1)
    assert all(torch.equal(tensor, same.state()[name]) for name, tensor in method.state().items())
    if method.tuned and method.name not in DRAW_NOTHING:
        assert any(not torch.equal(tensor, other.state()[name]) for name, tensor in method.state().items())


def test_state_goes_back_in_and_a_wrong_one_is_refused_by_name(method: Method, manifest: wb.Manifest) -> None:
    state = build(method.name, manifest, seed=1).state()
    twin = build(method.name, manifest)
    twin.load_state(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in twin.state().items())
    name = next(name for name, tensor in state.items() if tensor.ndim > 1)
    with pytest.raises(ValueError, match=f"missing: {name}"):
        twin.load_state({key: value for key, value in state.items() if key != name})
    with pytest.raises(ValueError, match="another shape"):
        twin.load_state(state | {name: state[name][:-1]})


def test_one_training_step_moves_only_tuned_parameters(method: Method, images: torch.Tensor) -> None:
    if not method.tuned:
        assert method.stages(wb.Manifest.load("digits_lt")) == []
        return
    twin = build(method.name, wb.Manifest.load("digits_lt"))
    for name, parameter in twin.named_parameters():
        parameter.requires_grad_(name.startswith(twin.tuned))
    labels = torch.tensor([0, 1, 2, 3])
    loss = twin.loss([twin(images)], [labels], Clock(0, 1, 0, 1))["loss"]
    loss.backward()
    moved = {name for name, parameter in twin.named_parameters() if parameter.grad is not None}
    assert moved
    assert all(name.startswith(twin.tuned) for name in moved)


def test_an_unknown_option_lists_the_known_ones(method: Method, manifest: wb.Manifest) -> None:
    backbone = wb.load_backbone(PLAIN, weights="random", input_size=32)
    with pytest.raises(ValueError, match="its options are"):
        wb.create_method(method.name, backbone, manifest.classes, no_such_option=1)


def test_an_unknown_method_lists_the_known_ones(manifest: wb.Manifest) -> None:
    with pytest.raises(ValueError, match=r"linear_probe.*lift"):
        wb.create_method("lifting", None, manifest.classes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(METHODS))
def test_it_trains_saves_and_comes_back(name: str, manifest: wb.Manifest, tmp_path: Path) -> None:
    method = build(name, manifest)
    train, val = (wb.LongTailDataset(manifest, split, per_class=6) for split in ("train", "val"))
    stages = [replace(stage.shortened(1), batch_size=16) for stage in method.stages(manifest)]
    run = wb.fit(method, train, val, out=tmp_path / "run", stages=stages)
    loaded = wb.Run.load(run.path).method()
    features = wb.extract(loaded, val, batch_size=32)
    again = wb.extract(method, val, batch_size=32)
    np.testing.assert_array_equal(features.vectors, again.vectors)
    np.testing.assert_array_equal(features.predicted, again.predicted)
    assert features.source["method"] == name
    assert run.config["text"] == (text_tower().spec() if method.uses_text else None)
    backbone = wb.extract(loaded, val, layer="backbone", views="centre")
    assert backbone.vectors.shape == (len(val), loaded.backbone.width)
