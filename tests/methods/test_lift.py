"""LIFT against recorded values of the authors' code, and its parameter counts against the printed tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from towers import recorded_tower

import workbench as wb
from workbench.backbones import Backbone, TextTower, ViT
from workbench.methods import Clock, Method, Output
from workbench.methods.lift import LIFT, LIFTConfig
from workbench.optim import learning_rate
from workbench.training import step as steps

Golden = Callable[[str], Any]

HEADS = {"cosine": "cosine", "linear": "linear", "l2normed": "l2_normalised"}
TUNERS = {
    "frozen": {"tuner": "none"},
    "adaptformer": {"tuner": "adaptformer", "bottleneck": 4},
    "adaptformer_partial_int": {"tuner": "adaptformer", "bottleneck": 4, "blocks": 2},
    "adaptformer_partial_list": {"tuner": "adaptformer", "bottleneck": 4, "blocks": (0, 2)},
    "adapter": {"tuner": "adapter", "bottleneck": 4},
    "lora": {"tuner": "lora", "bottleneck": 4},
    "vpt_deep": {"tuner": "vpt_deep", "prompts": 3},
    "vpt_deep_partial_list": {"tuner": "vpt_deep", "prompts": 3, "blocks": (0, 2)},
    "vpt_shallow": {"tuner": "vpt_shallow", "prompts": 3},
    "vptdeep_adaptformer_lora": {"tuner": "vpt_deep+adaptformer+lora", "prompts": 3, "bottleneck": 4},
    "mask": {"tuner": "arbitrary", "proportion": 0.05},
    "bitfit": {"tuner": "bitfit"},
    "ln_tuning": {"tuner": "layer_norm"},
    "ssf": {"tuner": "ssf"},
    "full_partial": {"tuner": "partial", "blocks": 2},
}
CASES = [(kind, "cosine") for kind in TUNERS]
CASES += [(kind, head) for kind in ("frozen", "adaptformer") for head in ("linear", "l2normed")]


def classes(counts: list[int]) -> wb.Classes:
    return wb.Classes(tuple(f"class {i}" for i in range(len(counts))), np.array(counts), wb.GroupRule())


def recorded_lift(golden: Golden, case: Any, style: str, **options: Any) -> LIFT:
    """A float64 LIFT on the recorded tower with the recorded masks, adapters and head."""
    tower = recorded_tower(golden(f"backbone_{style}"))
    config = LIFTConfig(initialisation="random", **options)
    method = LIFT(tower, classes(case.settings["class_counts"]), config, seed=0).double()
    for name in [name for name in method.state() if name.endswith("_index")]:  # the authors' mask, not our draw
        place = recorded_name(name).removeprefix("peft.").removesuffix("_index").replace(".optimized_", ".")
        index = case.tensor(f"in.mask.{place}").flatten().nonzero().flatten()
        owner, _, kind = name.rpartition(".")
        module = method.get_submodule(owner)
        setattr(module, kind, index.int())
        setattr(module, kind.replace("index", "entries"), nn.Parameter(torch.zeros(len(index), dtype=torch.float64)))
    state = method.state()
    for name in state:
        recorded = recorded_name(name)  # the tower's own biases and norms keep the recorded tower's values
        part = recorded.startswith("peft.") and not name.endswith("_index")
        if part or (name.startswith("head.") and f"param.{recorded}" in case.arrays):
            state[name] = case.tensor(f"param.{recorded}")
    method.load_state(state)
    for name, parameter in method.named_parameters():
        parameter.requires_grad_(name.startswith(method.tuned))
    return method


def recorded_name(name: str) -> str:
    """Our parameter name -> the one in the recorded arrays."""
    parts = name.split(".")
    if name.startswith("adapters.prompts."):
        return f"peft.blocks.{parts[2]}.vpt.prompt"
    if name.startswith("adapters."):
        return f"peft.blocks.{parts[2]}.{parts[1]}.{'.'.join(parts[3:])}"
    name = name.removeprefix("backbone.model.")
    places = {"attn.qkv": "attn_in", "attn.proj": "attn_out", "mlp.fc1": "mlp_in", "mlp.fc2": "mlp_out"}
    if parts[-1] in ("scale", "shift"):  # SSF
        for ours, theirs in {**places, "norm1": "ln_1", "norm2": "ln_2"}.items():
            name = name.replace(f".{ours}.1.", f".ssf.{theirs}.")
        return f"peft.{name}"
    if parts[-1][:2] in ("A_", "B_"):
        return f"peft.{name.replace('attn.qkv.' + parts[-1], f'lora.{parts[-1][2]}.lora_{parts[-1][0]}')}"
    if parts[-1].endswith(("_entries", "_index")):
        for ours, theirs in places.items():
            name = name.replace(f".{ours}.", f".masked_linear.{theirs}.optimized_")
        return f"peft.{name.removesuffix('_entries')}"
    return name


@pytest.mark.parametrize("style", ["timm", "clip"])
@pytest.mark.parametrize(("kind", "head"), CASES)
def test_features_logits_loss_and_gradients_equal_the_recorded_ones(
    golden: Golden, style: str, kind: str, head: str
) -> None:
    case = golden(f"lift_{style}_{kind}_{head}")
    method = recorded_lift(golden, case, style, head=HEADS[head], scale=case.settings["scale"], **TUNERS[kind])
    output = method(case.tensor("in.image"))
    case.check(output.features, "out.feature")
    case.check(output.logits, f"out.{head}.logits")
    loss = method.loss([output], [case.tensor("in.target", torch.int64)], Clock(0, 1, 0, 1))["loss"]
    case.check(loss, f"out.{head}.la_loss")
    loss.backward()
    trained = {}
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            trained[recorded_name(name)] = parameter.grad
    recorded = {re.sub(r"ssf\.norm(\d)", r"ssf.ln_\1", name) for name in case.settings["trainable_names"]}
    assert recorded | {"head.bias"} == set(trained) | {"head.bias"}
    compared = 0
    for name, gradient in trained.items():
        if f"grad.{head}.{name}" in case.arrays:
            case.check(gradient, f"grad.{head}.{name}")
            compared += 1
        if f"gradnorm.{head}.{name}" in case.arrays:
            case.check(gradient.norm(), f"gradnorm.{head}.{name}")
            compared += 1
    assert compared > 0


def test_the_training_loop_equals_the_authors_over_three_epochs(golden: Golden) -> None:
    case = golden("lift_train_loop")
    s = case.settings
    method = recorded_lift(golden, golden("lift_clip_adaptformer_cosine"), "clip", tuner="adaptformer", bottleneck=4)
    batches = [(case.tensor(f"in.image{i}"), case.tensor(f"in.target{i}", torch.int64)) for i in range(3)]
    # two micro-batches of four make a step; the authors divide the last, incomplete group by two as well
    groups = [(tuple(torch.cat(part) for part in zip(*batches[:2], strict=True)), 1.0), (batches[2], 0.5)]
    stage = replace(
        method.stages(wb.Manifest.load("digits_lt"))[0],
        epochs=s["epochs"], batch_size=8, micro_batch_size=4, lr=s["lr"], weight_decay=s["wd"], momentum=s["mom"],
    )  # fmt: skip
    trainable = steps.freeze_all_but(method, stage.trainable)
    optimiser = steps.make_optimiser(stage, trainable)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    rates, losses = [], []
    for epoch in range(s["epochs"]):
        rate = learning_rate(stage.schedule, lr=stage.lr, epoch=epoch, epochs=stage.epochs)
        for group in optimiser.param_groups:
            group["lr"] = rate
        for (images, labels), share in groups:
            clock = Clock(epoch, stage.epochs, 0, 1)
            parts = steps.gradients(_Scaled(method, share), stage, [(images, labels)], clock, scaler)
            rates.append(rate)
            losses.append(float(parts["loss"]) / share)
            optimiser.step()
            optimiser.zero_grad()
    recorded = case.arrays["out.log.train_loss.val"].reshape(3, 3)  # per micro-batch
    expected = np.stack([recorded[:, :2].mean(1), recorded[:, 2]], 1).ravel()
    np.testing.assert_allclose(losses, expected, rtol=case.rtol, atol=case.atol)
    np.testing.assert_allclose(rates, case.arrays["out.log.train_lr"].reshape(3, 3)[:, 1:].ravel(), rtol=1e-6)
    for name, parameter in trainable.items():
        case.check(parameter, f"out.param.{recorded_name(name)}")


class _Scaled:
    """A method whose loss is multiplied by a constant."""

    def __init__(self, method: Method, share: float) -> None:
        self.method, self.share, self.device = method, share, method.device

    def __call__(self, images: Tensor) -> Output:
        return self.method(images)

    def loss(self, outputs: list[Output], labels: list[Tensor], clock: Clock) -> dict[str, Tensor]:
        return {"loss": self.share * self.method.loss(outputs, labels, clock)["loss"]}


def test_it_starts_as_the_frozen_tower_bit_for_bit() -> None:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tower = wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=32)
    method = wb.create_method("lift", tower, classes([50, 20, 5]), bottleneck=4)
    assert torch.equal(method.encode(images).features, tower.encode(images))


def test_the_head_starts_from_normalised_class_means() -> None:
    manifest = wb.Manifest.load("digits_lt")
    train = wb.LongTailDataset(manifest, "train", per_class=5)
    tower = wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=32)
    method = wb.create_method("lift", tower, manifest.classes, bottleneck=2)
    method.prepare(train)
    assert isinstance(method, LIFT)
    whole = replace(method.preprocessing(train=False), resize=tower.input_size)  # whole images, no crop
    vectors = tower.encode_dataset(train.with_preprocessing(whole))
    means = np.stack([vectors[train.labels == k].mean(0) for k in range(len(manifest.classes))])
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(method.head.weight.detach(), expected, rtol=1e-4, atol=1e-6)


# -- semantic-aware initialisation -------------------------------------------------------------------------------------

CLIP = "vit_xsmall_patch16_clip_224.tinyclip_yfcc15m"


class Rows(nn.Module):
    """A text tower that gives recorded vectors: the token id is the row."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows)

    def forward(self, ids: Tensor) -> Tensor:
        return self.rows[ids]


class JointFeatures(Backbone):
    """As a CLIP ResNet: the features already lie in the joint space."""

    joint_width = property(lambda self: self.width)  # type: ignore[assignment]

    def project(self, features: Tensor) -> Tensor:
        return features


def recorded_text(case: Any, mode: str) -> tuple[TextTower, dict[str, list[str]]]:
    """A text tower that knows the recorded vectors of a mode, and the sentences of each class that stand for them."""
    text, descriptors, counts = case.tensor("in.text"), case.tensor("in.desc"), case.arrays["in.desc_count"]
    if mode == "descriptor":
        rows = [[descriptors[c, i] for i in range(counts[c])] for c in range(7)]
    else:
        rows = [[text[i, c] for i in range(3 if mode == "ensemble" else 1)] for c in range(7)]
    texts = {f"class {c}": [f"{c} {i}" for i in range(len(group))] for c, group in enumerate(rows)}
    place = {sentence: k for k, sentence in enumerate(s for group in texts.values() for s in group)}
    flat = torch.stack([row for group in rows for row in group])
    return TextTower(Rows(flat), lambda names: torch.tensor([place[n] for n in names]), name="rows", width=8), texts


@pytest.mark.parametrize("mode", ["default", "classname", "ensemble", "descriptor"])
@pytest.mark.parametrize("kind", ["Vi", "RN"])
def test_the_head_starts_from_the_recorded_text_rows(golden: Golden, mode: str, kind: str) -> None:
    case = golden(f"init_text_{mode}_{kind}")
    backbone: Backbone
    if kind == "Vi":
        model = VisionTransformer(img_size=8, patch_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=0)
        model.head = nn.Linear(16, 8, bias=False)
        with torch.no_grad():
            model.head.weight.copy_(case.tensor("in.proj").T)
        backbone = ViT(model, name="recorded")
    else:
        backbone = JointFeatures(nn.Linear(1, 1), name="recorded", width=8, input_size=8)
    tower, texts = recorded_text(case, mode)
    options = {"tuner": "none", "templates": "descriptions"}  # every mode is a mean over the sentences of a class
    method = wb.create_method("lift", backbone, classes([9] * 7), text=tower, texts=texts, **options)
    expected = case.tensor(f"out.text_{mode}_{kind}.weight")
    if kind == "RN":  # the authors leave the means shorter than 1 there
        expected = torch.nn.functional.normalize(expected)
    np.testing.assert_allclose(method.head.weight.detach(), expected, rtol=1e-5, atol=1e-6)


def clip_lift(**options: Any) -> LIFT:
    tower = wb.load_backbone(CLIP, weights="random", input_size=32)
    method = wb.create_method("lift", tower, classes([50, 20, 5]), bottleneck=2, **options)
    assert isinstance(method, LIFT)
    return method


def test_text_is_the_default_where_there_is_a_text_tower_and_its_cosines_are_zero_shots_in_joint_space() -> None:
    text = wb.load_text_tower(CLIP, "random")
    method = clip_lift(text=text)
    assert method.options["initialisation"] == "text" and method.text == text.spec()
    features = torch.randn(4, 256, generator=torch.Generator().manual_seed(0))
    embeddings = torch.nn.functional.normalize(text.encode([f"a photo of a class {i}." for i in range(3)]))
    joint = method.backbone.project(features) @ embeddings.T  # <P f, t>
    projection = method.backbone.model.head.weight  # (E, D)
    lengths = (embeddings @ projection).norm(dim=1)
    torch.testing.assert_close(features @ method.head.weight.T * lengths, joint, rtol=1e-4, atol=1e-4)
    assert clip_lift().options["initialisation"] == "class_mean" and clip_lift().text is None
    chosen = clip_lift(text=text, initialisation="random")
    assert chosen.text is None and torch.equal(chosen.head.weight, clip_lift(initialisation="random").head.weight)


def test_templates_change_the_head_and_reach_the_options() -> None:
    text = wb.load_text_tower(CLIP, "random")
    texts = {f"class {i}": [f"It has {i} corners.", "It is red."] for i in range(3)}
    heads = [
        clip_lift(text=text, texts=texts, templates=templates).head.weight
        for templates in (None, "class_name", "imagenet_7", "descriptions", "a drawing of a {}")
    ]
    assert all(not torch.allclose(a, b) for i, a in enumerate(heads) for b in heads[:i])
    assert torch.equal(heads[0], clip_lift(text=text, templates="single").head.weight)
    assert clip_lift(text=text, templates="imagenet_7").options["templates"] == "imagenet_7"


def test_text_initialisation_without_what_it_needs_says_so() -> None:
    for options in ({"initialisation": "text"}, {"templates": "imagenet_80"}):
        with pytest.raises(ValueError, match="need the text tower"):
            clip_lift(**options)
    with pytest.raises(ValueError, match="no joint image-text space"):
        plain = wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=32)
        wb.create_method("lift", plain, classes([5, 5]), text=wb.load_text_tower(CLIP, "random"))


def test_it_starts_from_vectors_of_a_file_when_given_those(tmp_path: Any) -> None:
    rows = np.random.default_rng(0).standard_normal((3, 512)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    vectors = wb.load_class_vectors(tmp_path / "rows.npy", [f"class_{i}" for i in range(3)])
    method = clip_lift(text=vectors)
    projection = method.backbone.model.head.weight.numpy()  # (E, D)
    expected = rows @ projection
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(method.head.weight.detach(), expected, rtol=1e-4, atol=1e-5)
    assert method.text is not None and method.text["vectors"].endswith("rows.npy")
