"""BALLAD against the recorded phases of the authors' code, in identities, and as a run of two phases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from towers import recorded_clip_image_tower, recorded_clip_text_tower

import workbench as wb
from workbench.adapters.residual import ResidualLinear
from workbench.backbones import TextTower, class_sentences
from workbench.methods import Clock, Encoded, Method
from workbench.training.step import freeze_all_but, gradients, make_optimiser

CLIP = "vit_xsmall_patch16_clip_224.tinyclip_yfcc15m"
CLASSES = wb.Classes(tuple("012345"), np.full(6, 10))


def recorded(golden: Callable[[str], Any], **options: Any) -> Method:
    case = golden("clip_zeroshot")
    image, text = recorded_clip_image_tower(case).float(), recorded_clip_text_tower(case).float()
    return wb.create_method("ballad", image, CLASSES, text=text, templates="class_name", **{"scale": 100.0, **options})


def step(method: Method, stage: wb.Stage, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """One optimiser step through the training code; returns the gradients it took."""
    trainable = freeze_all_but(method, stage.trainable)
    optimiser = make_optimiser(stage, trainable)
    method.clock = Clock(0, stage.epochs, 0, stage.epochs, stage.name)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    gradients(method.train(), replace(stage, batch_size=len(labels)), [(images, labels)], method.clock, scaler)
    found = {name: parameter.grad.clone() for name, parameter in trainable.items() if parameter.grad is not None}
    optimiser.step()
    return found


def close(actual: torch.Tensor, case: Any, key: str) -> None:
    tolerance = case.record["tolerance_float32"]
    expected = torch.as_tensor(case.arrays[key], dtype=torch.float32)
    torch.testing.assert_close(actual.float(), expected, rtol=max(tolerance["rtol"], 1e-3), atol=tolerance["atol"])


VISION_NAMES = {
    "class_embedding": "cls_token",
    "positional_embedding": "pos_embed",
    "conv1.weight": "patch_embed.proj.weight",
    "ln_pre": "norm_pre",
    "ln_post": "norm",
    "transformer.resblocks": "blocks",
    "attn.in_proj_": "attn.qkv.",
    "attn.out_proj": "attn.proj",
    "ln_1": "norm1",
    "ln_2": "norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "proj": "head.weight",
}


def ours(recorded_name: str, own: dict[str, torch.Tensor]) -> str:
    if not recorded_name.startswith("visual."):
        return next(name for name in own if name.startswith("text_tower.") and name.endswith("." + recorded_name))
    name = recorded_name.removeprefix("visual.")
    name = "head.weight" if name == "proj" else name
    for theirs, mine in VISION_NAMES.items():
        if theirs != "proj":
            name = name.replace(theirs, mine)
    return next(one for one in own if one.startswith("backbone.") and one.endswith("." + name))


def test_a_step_of_phase_a_equals_the_recorded_one(golden: Callable[[str], Any]) -> None:
    case = golden("ballad_phaseA")
    method = recorded(golden)
    stage = method.stages(wb.Manifest.load("digits_lt"))[0]
    before = {name: tensor.clone() for name, tensor in method.state().items()}
    images, labels = case.tensor("in.image", torch.float32), case.tensor("in.target")
    output = method.train()(images)
    method.clock = Clock(0, 1, 0, 1, "A")
    output = method(images)
    close(output.logits, case, "out.A.logits")
    close(method.loss([output], [labels], method.clock)["loss"], case, "out.A.loss")
    taken = step(method, stage, images, labels)
    checked = [key for key in case.arrays if key.startswith("gradnorm.A.")]
    for key in checked:
        close(taken[ours(key.removeprefix("gradnorm.A."), taken)].norm(), case, key)
    assert len(checked) == len(taken)  # every trained parameter was compared, and the adapter is not among them
    now = method.state()
    text = ours("text_projection", taken)
    close(now[text] - before[text], {**vars(case)} and _moved(case, "param.text_projection", "A.text_projection"), "x")
    image = ours("visual.proj", taken)
    close((now[image] - before[image]).T, _moved(case, "param.visual.proj", "A.visual_proj"), "x")
    assert all(torch.equal(now[name], before[name]) for name in now if name.startswith("adapter."))


def _moved(case: Any, start: str, end: str) -> Any:
    """What the recorded step added, as a case of its own: the weights are large beside it."""
    moved = case.arrays[f"out.{end}_after_step"].astype(np.float64) - case.arrays[start]
    small = {"tolerance_float32": {"rtol": 2e-3, "atol": 1e-6}}
    return replace(case, arrays={"x": moved}, record=small)


def test_a_step_of_phase_b_equals_the_recorded_one(golden: Callable[[str], Any]) -> None:
    case = golden("ballad_phaseB")
    method = recorded(golden)
    stage = method.stages(wb.Manifest.load("digits_lt"))[1]
    weight = method.get_parameter("adapter.visual.linear.weight")
    weight.data.copy_(case.tensor("param.adapter.weight"))
    images, labels = case.tensor("in.image", torch.float32), case.tensor("in.target")
    taken = step(method, replace(stage, lr=0.2), images, labels)
    assert list(taken) == ["adapter.visual.linear.weight"]
    close(taken["adapter.visual.linear.weight"], case, "out.B.grad_adapter")
    close(weight.detach(), case, "out.B.adapter_after_step")
    weight.data.copy_(case.tensor("param.adapter.weight"))
    output = method.eval()(images)
    close(output.logits, case, "out.B.logits")
    close(method.loss([output], [labels], Clock(0, 1, 0, 1, "B"))["loss"], case, "out.B.loss")


def test_the_identity_as_adapter_is_zero_shot(golden: Callable[[str], Any]) -> None:
    case = golden("clip_zeroshot")
    images = case.tensor("in.image", torch.float32)
    expected = case.tensor("out.zeroshot_logits", torch.float32)
    for side in ("visual", "language", "both"):
        method = recorded(golden, phases="B", adapter=side, scale=None)
        for adapter in method.adapter.values():
            adapter.linear.weight.data.copy_(torch.eye(16))
        torch.testing.assert_close(method(images).logits, expected, rtol=1e-3, atol=1e-3)
    no_residual = recorded(golden, phases="B", residual=0.0, scale=None)  # any W: nothing of it remains
    torch.testing.assert_close(no_residual(images).logits, expected, rtol=1e-3, atol=1e-3)


def test_the_printed_adapter_has_a_bias_and_a_relu() -> None:
    generator = torch.Generator().manual_seed(0)
    printed = ResidualLinear(4, 0.3, printed=True, generator=generator)
    x = torch.randn(5, 4, generator=generator)
    W, b = printed.linear.weight, printed.linear.bias
    torch.testing.assert_close(printed(x), 0.3 * (x @ W.T + b).clamp(min=0) + 0.7 * x)
    assert sum(p.numel() for p in printed.parameters()) == 20
    code = ResidualLinear(4, 1.0, generator=generator)
    torch.testing.assert_close(code(x), x @ code.linear.weight.T)  # lambda = 1: the adapted feature alone
    assert [name for name, _ in code.named_parameters()] == ["linear.weight"]
    assert code.linear.weight.abs().max() <= 0.5  # 1 / sqrt(4)


def build(**options: Any) -> Method:
    backbone = wb.load_backbone(CLIP, weights="random", input_size=32)
    manifest = wb.Manifest.load("digits_lt")
    return wb.create_method("ballad", backbone, manifest.classes, text=wb.load_text_tower(CLIP, "random"), **options)


@pytest.fixture(scope="module")
def manifest() -> wb.Manifest:
    return wb.Manifest.load("digits_lt")


def test_in_batch_contrast_is_eq_2() -> None:
    method = build(contrast="batch", scale=50.0)
    labels = torch.tensor([1, 1, 7])
    output = method(torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert method.text_tower is not None
    v = F.normalize(output.features, dim=-1)
    u = F.normalize(method.class_vectors()[labels], dim=-1)
    rows = 50 * v @ u.T
    expected = torch.stack([torch.logsumexp(rows[i], 0) - rows[i, i] for i in range(3)]).mean()
    found = method.loss([output], [labels], Clock(0, 1, 0, 1, "A"))["loss"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_prompts_all_are_a_mean_and_random_ones_are_drawn_per_class() -> None:
    names = wb.Manifest.load("digits_lt").classes.names
    method = build(templates="imagenet_7", prompts="random").eval()
    assert method.text_tower is not None
    sentences = class_sentences(names, "imagenet_7")
    unit = F.normalize(method.text_tower.encode([s for group in sentences for s in group]), dim=-1).view(10, 7, -1)
    torch.testing.assert_close(method.class_vectors(), unit.mean(1))  # not training: all
    method.train()
    torch.manual_seed(0)
    drawn = torch.stack([F.normalize(method.class_vectors(), dim=-1) for _ in range(30)])  # (30, C, E)
    match = (drawn[:, :, None] - unit[None]).norm(dim=-1)  # (30, C, 7)
    assert match.amin(-1).max() < 1e-4, "each is one of the seven"
    assert all(len(set(match[:, c].argmin(-1).tolist())) >= 5 for c in range(10))
    assert len(set(match[0].argmin(-1).tolist())) > 1, "classes draw apart"


def test_class_vectors_are_kept_until_a_weight_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    method = build().eval().requires_grad_(False)
    calls = []
    encode = TextTower.encode
    monkeypatch.setattr(TextTower, "encode", lambda self, s: calls.append(len(s)) or encode(self, s))
    first = method.class_vectors()
    assert method.class_vectors() is first
    assert calls == [10]
    assert method.text_tower is not None
    next(method.text_tower.parameters()).mul_(1.5)
    assert not torch.equal(method.class_vectors(), first)
    with torch.inference_mode():
        kept = method.class_vectors()
    assert kept.is_inference()
    assert not method.class_vectors().is_inference(), "a training step may save it for its gradient"


def test_chunks_computed_again_give_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    import workbench.backbones.reading as reading

    tower = wb.load_text_tower(CLIP, "random").requires_grad_(True)
    sentences = [f"a photo of a {name}." for name in ("cat", "a very long name of a dog", "x", "y", "z")]
    found = []
    for size in (128, 2, 1):
        monkeypatch.setattr(reading, "THAWED_CHUNK", size)
        tower.zero_grad()
        tower.encode(sentences).square().sum().backward()
        found.append([p.grad.clone() for p in tower.parameters() if p.grad is not None])
    for other in found[1:]:
        assert len(other) == len(found[0]) > 10
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 * float(a.abs().max()) + 1e-6)


def test_both_towers_stay_in_eval_mode() -> None:
    method = build().train()
    assert method.training
    assert method.text_tower is not None
    assert not any(part.training for tower in (method.backbone, method.text_tower) for part in tower.modules())


def test_stages_by_phase_and_tower(manifest: wb.Manifest) -> None:
    def trains(**options: Any) -> list[tuple[str, tuple[str, ...], float, int]]:
        return [(s.name, s.trainable, s.lr, s.epochs) for s in build(**options).stages(manifest)]

    a, b = ("A", ("backbone.", "text_tower."), 1e-5, 50), ("B", ("adapter.",), 0.2, 10)
    assert trains() == [a, b]
    assert trains(phases="A") == [a]
    assert trains(phases="B") == [b]
    assert trains(adapter="none") == [a]
    assert trains(towers="none") == [b]
    assert trains(towers="language") == [("A", ("text_tower.",), 1e-5, 50), b]
    (joint,) = build(phases="joint").stages(manifest)
    assert joint.trainable == ("backbone.", "text_tower.", "adapter.")
    method = build(phases="joint")
    groups = make_optimiser(joint, freeze_all_but(method, joint.trainable)).param_groups
    assert sorted(group["factor"] for group in groups) == pytest.approx([1.0, 20000.0])
    assert max(group["lr"] for group in groups) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"residual": 1.5}, "from 0"),
        ({"towers": "none", "adapter": "none"}, "zero_shot"),
        ({"phases": "A", "towers": "none"}, "phases='B'"),
        ({"phases": "B", "adapter": "none"}, "phases='A'"),
        ({"sampler_b": "sorted"}, "mix_balanced"),
        ({"templates": "descriptions"}, "class names"),
        ({"phases": "A", "cached": True}, "leave it out"),
    ],
)
def test_options_that_do_not_fit_say_what_to_choose(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        build(**options)


def test_it_needs_a_text_tower_and_a_joint_space(manifest: wb.Manifest) -> None:
    backbone = wb.load_backbone(CLIP, weights="random", input_size=32)
    with pytest.raises(ValueError, match=r"needs the text tower.*load_text_tower"):
        wb.create_method("ballad", backbone, manifest.classes)
    plain = wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=32)
    with pytest.raises(ValueError, match="no joint image-text space"):
        wb.create_method("ballad", plain, manifest.classes, text=wb.load_text_tower(CLIP, "random"))


def test_a_clip_resnet_trains_both_phases(manifest: wb.Manifest, tmp_path: Path) -> None:
    tag = "resnet50_clip.openai"
    backbone = wb.load_backbone(tag, weights="random", input_size=32)
    method = wb.create_method("ballad", backbone, manifest.classes, text=wb.load_text_tower(tag, "random"))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    statistics = {name: tensor.clone() for name, tensor in backbone.named_buffers()}
    for stage in method.stages(manifest):
        taken = step(method, stage, images, torch.tensor([0, 1]))
        assert all(name.startswith(stage.trainable) for name in taken)
    assert any("bn" in name for name, _ in backbone.named_parameters())
    assert all(torch.equal(tensor, statistics[name]) for name, tensor in backbone.named_buffers()), (
        "batch norm is frozen"
    )


def test_two_phases_and_one_after_the_other(manifest: wb.Manifest, tmp_path: Path) -> None:
    """Phase B leaves the towers as phase A left them, in one run or continued from another."""
    train = wb.LongTailDataset(manifest, "train", per_class=4)

    def fit(name: str, **options: Any) -> wb.Run:
        method = build(**options)
        stages = [replace(stage.shortened(2), batch_size=16, lr=stage.lr * 10) for stage in method.stages(manifest)]
        if options.get("warm_start") is not None:
            stages = [replace(stages[0], name="B")]
        return wb.fit(method, train, out=tmp_path / name, stages=stages)

    first = fit("a", phases="A")
    assert "adapter.visual.linear.weight" not in first.method().state()
    assert not first.method().adapter_acts
    second = fit("b", phases="B", cached=True, warm_start=first.method().state())
    assert second.method().adapter_acts
    before, after = first.method().state(), second.method().state()
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith(("backbone", "text_tower")))
    both = fit("both", cached=True).method()
    assert both.adapter_acts
    # same towers in the end: phase A is the same training
    for name, tensor in both.state().items():
        if name.startswith(("backbone", "text_tower")):
            assert torch.equal(tensor, before[name])
    with pytest.raises(ValueError, match="phases='B'"):
        build(warm_start=before)
    with pytest.raises(ValueError, match="missing or of another shape"):
        build(phases="B", warm_start={})


def test_a_run_stopped_in_phase_a_has_no_adapter_yet(manifest: wb.Manifest, tmp_path: Path) -> None:
    train = wb.LongTailDataset(manifest, "train", per_class=4)
    method = build(towers="vision")
    stages = [replace(stage.shortened(1), batch_size=8) for stage in method.stages(manifest)]

    def stop(clock: Clock, parts: dict[str, torch.Tensor]) -> None:
        if clock.step == 1:
            raise KeyboardInterrupt

    run = wb.fit(method, train, out=tmp_path / "run", stages=stages, on_step=stop)
    assert run.status["status"] == "interrupted"
    loaded = run.method()
    assert not loaded.adapter_acts
    v = torch.randn(2, loaded.backbone.joint_width or 0)
    assert torch.equal(loaded.classify(Encoded(v)).features, v)
    assert wb.resume(run.path).method().adapter_acts
