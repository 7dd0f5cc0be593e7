"""LPT against recorded values of the authors' code: both phases, their losses, gradients and a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from towers import recorded_tower

import workbench as wb
from workbench import losses
from workbench.methods import Clock
from workbench.methods.lpt import LPT, LPTConfig
from workbench.training import step as steps

Golden = Callable[[str], Any]


def classes(counts: list[int]) -> wb.Classes:
    return wb.Classes(tuple(f"class {i}" for i in range(len(counts))), np.array(counts), wb.GroupRule())


def recorded(case: Any, **options: Any) -> LPT:
    """A float64 LPT on the recorded tower with the recorded prompts, keys and head."""
    s = case.settings
    names = {"shared": "peft.shared", "pool": "peft.pool", "keys": "peft.keys", "head.weight": "head.weight"}
    tower = recorded_tower(case, ln_eps=s["eps"])
    config = LPTConfig(
        prompts=s["p"], groups=s["pool"], top_k=s["topk"], shared_blocks=s["share"], dropout=0.0, **options
    )
    method = LPT(tower, classes(s["counts"]), config, seed=0).double()
    method.load_state({name: case.tensor(f"param.{names[name]}") for name in method.state()})
    return method


class Noise:
    """Stands for the generator of `asymmetric_gcl`, which then uses the recorded noise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, noises: list[Tensor]) -> None:
        waiting = iter(noises)
        monkeypatch.setattr(losses, "draw_gcl_noise", lambda shape, generator: next(waiting))


@pytest.mark.parametrize("eps", ["1e-05", "1e-06"])
def test_phase_1_equals_the_recorded_one(golden: Golden, monkeypatch: pytest.MonkeyPatch, eps: str) -> None:
    case = golden(f"lpt_phase1_eps{eps}")
    method = recorded(case, phases="shared")
    output = method(case.tensor("in.image_bal"))
    case.check(output.features, f"out.p1_eps{eps}.feature")
    case.check(output.cosine, f"out.p1_eps{eps}.cosine")
    Noise(monkeypatch, [case.tensor("in.noise_bal")])
    labels = case.tensor("in.target_bal", torch.int64)
    loss = method.loss([output], [labels], Clock(0, 40, 0, 1, "shared"))["loss"]
    case.check(loss, f"out.p1_eps{eps}.agcl")
    loss.backward()
    case.check(method.shared.grad, f"grad.p1_eps{eps}.shared")
    case.check(method.head.weight.grad, f"grad.p1_eps{eps}.head")
    plain = recorded(case, phases="shared", phase1_loss="cross_entropy")
    case.check(plain.loss([output], [labels], Clock(0, 40, 0, 1, "shared"))["loss"], f"out.p1_eps{eps}.ce_scaled")
    keep = case.tensor("in.dropout_keep") / 0.9
    case.check(method.head(output.features * keep)[1], f"out.p1_eps{eps}.cosine_with_dropout")


@pytest.mark.parametrize("eps", ["1e-05", "1e-06"])
def test_phase_2_equals_the_recorded_one_up_to_an_optimiser_step(
    golden: Golden, monkeypatch: pytest.MonkeyPatch, eps: str
) -> None:
    case = golden(f"lpt_phase2_eps{eps}")
    s, at = case.settings, f"p2_eps{eps}"
    method = recorded(case)
    stage = method.stages(wb.Manifest.load("digits_lt"))[1]
    trainable = steps.freeze_all_but(method, stage.trainable)
    assert set(trainable) == {"head.weight", "pool", "keys"}
    method.clock = clock = Clock(s["epoch"], s["E"], 0, 1, "group")
    balanced, instance = (method(case.tensor(f"in.image_{branch}")) for branch in ("bal", "ins"))
    case.check(balanced.extras["query"], f"out.{at}.query")
    case.check(balanced.extras["prompt_similarity"], f"out.{at}.similarities")
    case.check(balanced.extras["prompt_index"], f"out.{at}.topk")
    case.check(instance.extras["prompt_index"], f"out.{at}.ins_topk")
    case.check(balanced.features, f"out.{at}.feature")
    case.check(balanced.cosine, f"out.{at}.cosine")
    Noise(monkeypatch, [case.tensor("in.noise_bal"), case.tensor("in.noise_ins")])
    labels = [case.tensor(f"in.target_{branch}", torch.int64) for branch in ("bal", "ins")]
    parts = method.loss([balanced, instance], labels, clock)
    case.check(2 * parts["balanced_similarity"], f"out.{at}.reduced_sim")  # theirs is a sum over k = 2
    case.check(2 * parts["instance_similarity"], f"out.{at}.ins_reduced_sim")
    case.check(parts["balanced"] + parts["balanced_similarity"], f"out.{at}.agcl_bal")
    case.check(parts["instance"] + parts["instance_similarity"], f"out.{at}.agcl_ins")
    case.check(parts["loss"], f"out.{at}.total_loss")
    parts["loss"].backward()
    for name, ours in {"keys": method.keys, "pool": method.pool, "head": method.head.weight}.items():
        assert ours is not None
        if f"grad.{at}.{name}" in case.arrays:
            case.check(ours.grad, f"grad.{at}.{name}")
        case.check(ours.grad.norm(), f"gradnorm.{at}.{name}")
    before = method.shared.clone()
    group = torch.optim.SGD(trainable.values(), lr=s["lr"], momentum=0.9, weight_decay=s["wd"])
    group.step()
    case.check(method.keys, f"out.{at}.keys_after_step")
    case.check(method.head.weight, f"out.{at}.head_after_step")
    assert torch.equal(before, method.shared)


@pytest.mark.parametrize(
    ("groups", "shared_blocks", "count"),
    [(20, 6, 1_013_760), (20, 8, 92_160 + 614_400), (20, 4, 92_160 + 1_228_800)]  # Tables 3 and 17
    + [(m, 6, 92_160 + m * 46_080) for m in (5, 10, 40)],  # Table 12: 0.23, 0.46, 1.84 M of group prompts
)
def test_the_parameter_counts_are_the_papers_keys_excluded(groups: int, shared_blocks: int, count: int) -> None:
    with torch.device("meta"):
        tower = wb.load_backbone("vit_base_patch16_224.augreg_in21k", weights="meta")
        method = LPT(tower, classes([10] * 365), LPTConfig(groups=groups, shared_blocks=shared_blocks), seed=0)
    assert method.pool is not None
    assert method.shared.numel() + method.pool.numel() == count


def small(*, warm_start: Any = None, **options: Any) -> LPT:
    tower = wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=32)
    options = {"prompts": 2, "groups": 4, **options}
    method = wb.create_method("lpt", tower, classes([50, 20, 5]), warm_start=warm_start, **options)
    assert isinstance(method, LPT)
    return method.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_phase_2_starts_from_the_prompts_and_the_head_of_a_phase_1_run(images: Tensor) -> None:
    first = small(phases="shared", prompts=2)
    with torch.no_grad():
        first.shared += 0.3
        first.head.weight.mul_(-1)
    second = small(phases="group", warm_start=first.state())
    assert torch.equal(second.shared, first.shared) and torch.equal(second.head.weight, first.head.weight)
    torch.testing.assert_close(second(images).extras["query"], first(images).features)
    for state, found in ((first.state() | {"shared": torch.zeros(1)}, r"has \(1,\)"), ({}, "has nothing")):
        with pytest.raises(ValueError, match=f"warm_start needs shared of shape .* and {found}"):
            small(phases="group", warm_start=state)
    with pytest.raises(ValueError, match="vpt does not continue another run"):
        wb.create_method("vpt", first.backbone, first.classes, warm_start=first.state())


def test_the_stage_decides_which_pass_runs_and_the_last_one_is_tested(images: Tensor) -> None:
    method = small()
    assert "prompt_index" in method(images).extras
    method.clock = Clock(0, 40, 0, 1, "shared")
    alone = method(images)
    assert not alone.extras
    method.clock = None
    torch.testing.assert_close(method(images).extras["query"], alone.features)
    bare = small(query="pretrained")
    torch.testing.assert_close(bare(images).extras["query"], bare.backbone.encode(images))


def test_the_phases_train_what_they_should_with_their_samplers() -> None:
    manifest = wb.Manifest.load("digits_lt")
    dual = ("class_aware", "shuffle")

    def told(**options: Any) -> list[tuple[Any, ...]]:
        stages = small(**options).stages(manifest)
        return [(stage.name, stage.epochs, stage.samplers, stage.trainable) for stage in stages]

    one, two = ("shared", 40, dual, ("head.", "shared")), ("group", 40, dual, ("head.", "pool", "keys"))
    assert told() == [one, two] and told(phases="shared") == [one] and told(phases="group") == [two]
    assert told(phases="joint") == [("joint", 80, dual, ("head.", "shared", "pool", "keys"))]
    assert told(phases="shared", phase1_sampling="class_aware")[0][2] == ("class_aware",)
    assert [stage[2] for stage in told(phase2_sampling="class_aware")] == [dual, ("class_aware",)]


def test_the_printed_loss_is_that_of_the_losses(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    method, labels, noise = small(a_gcl="printed"), torch.tensor([0, 1, 2]), torch.zeros(3, 3)
    output = method(images)
    Noise(monkeypatch, [noise, noise])
    parts = method.loss([output, output], [labels, labels], Clock(20, 40, 0, 1, "group"))
    shared = {"margin": 0.0, "printed": True, "noise": noise}
    for branch, gammas in {"balanced": (0.0, 4.0), "instance": (0.5, 8.0)}.items():
        positive, negative = gammas
        expected = losses.asymmetric_gcl(
            output.cosine, labels, [50, 20, 5], gamma_positive=positive, gamma_negative=negative, **shared
        )
        torch.testing.assert_close(parts[branch] + parts[f"{branch}_similarity"], expected)
    torch.testing.assert_close(parts["loss"], parts["balanced"] + 0.25 * parts["instance"])


def test_phase_2_may_be_trained_with_gcl(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    method, labels = small(phase2_loss="gcl"), torch.tensor([0, 1, 2])
    output = method(images)
    noise = torch.tensor([[0.3, -0.2, 0.1], [2.0, 0.4, -0.6], [0.0, 0.5, -3.0]])
    Noise(monkeypatch, [noise] * 3)
    parts = method.loss([output, output], [labels, labels], Clock(0, 40, 0, 1, "group"))
    gap = np.log(50 / np.array([50, 20, 5])) / np.log(50 / 5)
    assert output.cosine is not None
    clouded = output.cosine - 0.5 * torch.from_numpy(gap).float() * noise.clamp(-1, 1).abs() - 0.1 * torch.eye(3)
    expected = torch.nn.functional.cross_entropy(20 * clouded, labels)
    for branch in ("balanced", "instance"):
        torch.testing.assert_close(parts[branch] + parts[f"{branch}_similarity"], expected)
    first = method.loss([output], [labels], Clock(0, 40, 0, 1, "shared"))["balanced"]
    assert not torch.isclose(first + parts["balanced_similarity"], expected)  # phase 1 keeps A-GCL


EXTRAS = [("layer_norm", 4 * 64), ("adapter", (2 * 1 + 3) * 64 + 1)]  # parameters per block: two LayerNorms; r = 1


@pytest.mark.parametrize(("extra", "per_block"), EXTRAS)
def test_extra_parts_are_tuned_with_the_shared_prompts_and_stay_in_phase_2(
    images: Tensor, extra: str, per_block: int
) -> None:
    method, bare = small(extra=extra), small()
    torch.testing.assert_close(method(images).logits, bare(images).logits)  # nothing is changed before training
    one, two = method.stages(wb.Manifest.load("digits_lt"))
    trainable = steps.freeze_all_but(method, one.trainable)
    added = {name: parameter for name, parameter in trainable.items() if name not in ("head.weight", "shared")}
    assert sum(parameter.numel() for parameter in added.values()) == 6 * per_block
    sign = {"layer_norm": ".norm", "adapter": "adapters.adapter."}[extra]
    assert all(sign in name for name in added)
    method.clock = Clock(0, 40, 0, 1, "shared")
    labels = torch.tensor([0, 1, 2])
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    for _ in range(2):  # an adapter's first matrix, where its ReLU lets anything through, moves in the second
        loss = method.loss([method(images)], [labels], method.clock)["loss"]
        gradients = torch.autograd.grad(loss, list(trainable.values()))
        with torch.no_grad():
            for parameter, gradient in zip(trainable.values(), gradients, strict=True):
                parameter -= 100 * gradient
    moved = {name for name, tensor in method.state_dict().items() if not torch.equal(tensor, before[name])}
    still = trainable.keys() - moved
    assert moved <= trainable.keys() and all("down_proj" in name or ".ln." in name for name in still)
    # phase 2 trains neither, and its query is the phase-1 pass with them
    assert set(steps.freeze_all_but(method, two.trainable)) == {"head.weight", "pool", "keys"}
    features = method(images).features
    method.clock = None
    assert not torch.allclose(features, bare(images).extras["query"], atol=1e-3)
    torch.testing.assert_close(method(images).extras["query"], features)
    # and so does a phase 2 that continues a run of phase 1
    state = {name: method.state()[name] for name in small(extra=extra, phases="shared").state()}
    second = small(extra=extra, phases="group", warm_start=state)
    torch.testing.assert_close(second(images).extras["query"], features)
    with pytest.raises(ValueError, match=r"warm_start needs (backbone|adapters).* has nothing"):
        small(extra=extra, phases="group", warm_start=bare.state())
    (joint,) = small(extra=extra, phases="joint").stages(wb.Manifest.load("digits_lt"))
    assert set(steps.freeze_all_but(method, joint.trainable)) == {*trainable, "pool", "keys"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extra": "lora"}, "none, layer_norm, adapter"),
        ({"extra": "layer_norm", "query": "pretrained"}, "choose one"),
        ({"phase2_loss": "ldam"}, "a_gcl, gcl"),
        ({"phases": "third"}, "both, shared, group, joint"),
        ({"top_k": 5}, "cannot be picked of groups=4"),
        ({"shared_blocks": 6}, "leaves none of the 6 blocks"),
        ({"query": "bare"}, "phase1, pretrained"),
        ({"eta": -1.0}, "eta=-1.0 must not be negative"),
    ],
)
def test_a_wrong_option_says_what_is_allowed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)
