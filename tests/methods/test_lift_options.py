"""LIFT's options together: every pair of tuner, head, initialisation and loss takes a step that moves only what it
should, and what does not go together is refused with what to do instead."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from towers import Photos, small_clip_vit

import workbench as wb
from workbench.adapters.tuners import ALONE, TOGETHER
from workbench.backbones import TextTower, ViT
from workbench.heads import HEADS
from workbench.losses import COSINE_LOSSES, LOSSES, cross_entropy, effective_number_weights
from workbench.methods import Clock
from workbench.methods.lift import INITIALISATIONS, LIFT
from workbench.training import step as steps

TUNERS = (*ALONE, *TOGETHER, "vpt_deep+adaptformer+lora", "ssf+bitfit+layer_norm+lora")
FACTORS = (TUNERS, tuple(HEADS), INITIALISATIONS, (*LOSSES, *COSINE_LOSSES))
COUNTS = (60, 20, 6, 3, 1)
Case = tuple[str, ...]  # tuner, head, initialisation, loss


def possible(case: Case) -> bool:
    return case[3] not in COSINE_LOSSES or HEADS[case[1]].has_cosine


def pairs(case: Case) -> set[tuple[tuple[int, str], ...]]:
    return set(combinations(enumerate(case), 2))


def pairwise() -> list[Case]:
    """Cases in which every possible pair of values of two options occurs, found greedily."""
    cases = [case for case in product(*FACTORS) if possible(case)]
    missing = set().union(*map(pairs, cases))
    order = np.random.default_rng(0).permutation(len(cases))
    chosen: list[Case] = []
    while missing:
        best = max(order, key=lambda i: len(pairs(cases[i]) & missing))
        chosen.append(cases[best])
        missing -= pairs(cases[best])
    return chosen


CASES = pairwise()


class Rows(nn.Module):
    """A text tower with one vector per class; the token id is the row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(len(COUNTS), 12, generator=torch.Generator().manual_seed(5)))

    def forward(self, ids: Tensor) -> Tensor:
        return self.rows[ids]


def small_lift(**options: Any) -> LIFT:
    """LIFT on a CLIP-like tower of two blocks, 32 px, with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        tower = ViT(small_clip_vit(16, 2, 12, nn.GELU), name="small")
    classes = wb.Classes(tuple(f"class {i}" for i in range(len(COUNTS))), np.array(COUNTS), wb.GroupRule())
    text = TextTower(Rows(), lambda names: torch.tensor([int(n.split()[-1][:-1]) for n in names]), name="t", width=12)
    options = {"bottleneck": 2, "prompts": 2, "proportion": 0.1, **options}
    method = wb.create_method("lift", tower, classes, text=text, **options)
    assert isinstance(method, LIFT)
    return method


def test_pairs_of_options_are_all_covered() -> None:
    covered = set().union(*map(pairs, CASES))
    assert covered == set().union(*(pairs(case) for case in product(*FACTORS) if possible(case)))
    assert len(CASES) < 200


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_one_step_moves_only_what_is_tuned(case: Case) -> None:
    tuner, head, initialisation, loss = case
    blocks = {"blocks": 1} if tuner == "partial" else {}
    method = small_lift(tuner=tuner, head=head, initialisation=initialisation, loss=loss, **blocks)
    start = method.head.weight.detach().clone()
    method.prepare(Photos(5, 3))  # type: ignore[arg-type]
    learned = initialisation in ("class_mean", "linear_probe", "linear_probe_la")
    assert torch.equal(start, method.head.weight) != learned
    (stage,) = method.stages(wb.Manifest.load("digits_lt"))
    trainable = steps.freeze_all_but(method, stage.trainable)
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    optimiser = steps.make_optimiser(stage, trainable)
    method.train()
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    batch = [(images, torch.tensor([0, 1, 2, 3, 4, 0]))]
    parts = steps.gradients(method, stage, batch, Clock(0, 1, 0, 1), torch.amp.GradScaler("cpu", enabled=False))
    optimiser.step()
    assert torch.isfinite(parts["loss"])
    moved = {name for name, tensor in method.state_dict().items() if not torch.equal(tensor, before[name])}
    assert all(name.startswith(method.tuned) for name in moved)
    assert "head.weight" in moved and (tuner == "none") == all(name.startswith("head.") for name in moved)
    for kind, sign in {
        "vpt": "adapters.prompts.", "adaptformer": "adapters.adaptformer.", "adapter+": "adapters.adapter.",
        "lora": "qkv.B_v", "ssf": ".1.shift", "arbitrary": "_entries",
    }.items():  # fmt: skip
        assert any(sign in name for name in moved) == (kind in f"{tuner}+")
    if tuner in ("bitfit", "layer_norm", "full", "partial"):
        inside = {name.removeprefix("backbone.model.") for name in moved if name.startswith("backbone.")}
        assert all(name.startswith("blocks.1." if tuner == "partial" else "blocks.") for name in inside)
        assert tuner != "bitfit" or all(name.endswith(".bias") for name in inside)
        assert tuner != "layer_norm" or all(".norm" in name for name in inside)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tuner": "adapter_former"}, "'adapter_former' is not known; choose one of none, full, partial, arbitrary"),
        ({"tuner": "full+lora"}, "'full' already says which weights train"),
        ({"tuner": "none+bitfit"}, "'none' already says"),
        ({"tuner": "arbitrary+lora"}, "'arbitrary' already says"),
        ({"tuner": "vpt_shallow+vpt_deep"}, "vpt_shallow or vpt_deep but not both"),
        ({"tuner": "adaptformer+adaptformer_original"}, "adaptformer or adaptformer_original but not both"),
        ({"tuner": "lora+lora"}, "each part once"),
        ({"tuner": "partial"}, "blocks=2"),
        ({"tuner": "partial", "blocks": 99}, "give 1 to 2"),
        ({"tuner": "none", "blocks": 1}, "has no effect with tuner='none'"),
        ({"blocks": 3}, "has 2; give 1 to 2"),
        ({"blocks": (1, 1)}, "or a pair"),
        ({"bottleneck": 0}, "bottleneck=0 must be at least 1"),
        ({"prompts": 0, "tuner": "vpt_deep"}, "prompts=0 must be at least 1"),
        ({"tuner": "arbitrary", "proportion": 0.0}, "proportion=0.0 of the weights must lie in"),
        ({"bottleneck_rounding": "round"}, "choose one of floor, ceil"),
        ({"head": "cos"}, "choose one of linear, l2_normalised, layer_normalised, cosine"),
        ({"loss": "la"}, "logit_adjusted"),
        *(({"loss": loss, "head": head}, f"head='{head}' has none; choose head='cosine'")
          for loss in COSINE_LOSSES for head in HEADS if head != "cosine"),
        ({"drw": 0.2}, "which loss='logit_adjusted' does not take; choose one of cross_entropy, focal, ldam, gcl"),
        ({"drw": 1.0, "loss": "ldam"}, r"drw=1.0 must lie in \[0, 1\)"),
        *(({"post_hoc": 1.0, "loss": loss}, "already freed of it") for loss in
          ("logit_adjusted", "balanced_softmax", "lade")),
        ({"post_hoc": -1.0}, "must not be negative"),
        ({"initialisation": "sai"}, "choose one of text, class_mean, linear_probe, linear_probe_la, random"),
        ({"templates": "ensemble"}, "imagenet_80"),
        *(({"templates": "single", "initialisation": start}, "has no effect") for start in INITIALISATIONS[1:]),
        ({"views": "six"}, "choose one of centre, five, ten, or random followed by a number"),
        ({"views": "random0"}, "random20"),
        ({"ensemble_resize": "squash"}, "choose one of shorter, square"),
        ({"ensemble_mean": "probabilities"}, "choose one of logits, log_probabilities"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_with_what_to_do(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_lift(**options)


@pytest.mark.parametrize("tuner", ["adaptformer", "lora", "vpt_deep", "arbitrary", "partial", "layer_norm"])
def test_a_resnet_takes_no_tuner_of_transformer_blocks(tuner: str) -> None:
    tower = wb.load_backbone("resnet50_clip.openai", weights="meta")
    blocks = {"blocks": 1} if tuner == "partial" else {}
    with pytest.raises(ValueError, match="need a ViT"):
        wb.create_method("lift", tower, small_lift().classes, tuner=tuner, **blocks)


def test_a_resnet_tunes_its_biases_and_the_scale_of_its_features() -> None:
    tower = wb.load_backbone("resnet50_clip.openai", weights="random", input_size=64)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    plain = tower.encode(images)
    method = wb.create_method("lift", tower, small_lift().classes, tuner="ssf+bitfit", initialisation="random")
    assert isinstance(method, LIFT) and method.adapters.after is not None
    torch.testing.assert_close(method.encode(images).features, method.adapters.after(plain))
    named = {name for name, _ in method.named_parameters() if name.startswith(method.tuned)}
    assert {name for name in named if name.startswith("backbone.")} == {
        name for name, _ in method.named_parameters() if name.startswith("backbone.") and name.endswith(".bias")
    }
    with pytest.raises(ValueError, match="no transformer blocks"):
        wb.create_method("lift", tower, small_lift().classes, tuner="ssf", blocks=2)


def test_deferred_weights_act_in_the_last_epochs_only() -> None:
    plain, deferred = (small_lift(loss="cross_entropy", drw=drw) for drw in (0.0, 0.2))
    with torch.inference_mode():
        output = plain(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    labels = torch.tensor([0, 1, 3, 4])
    (stage,) = deferred.stages(wb.Manifest.load("digits_lt"))
    assert stage.epochs == 10 and stage.reweighted_from == 8 and stage.shortened(4).reweighted_from == 3
    (stage,) = plain.stages(wb.Manifest.load("digits_lt"))
    assert stage.reweighted_from == stage.epochs
    clocks = (Clock(0, 10, 0, 1, "train", reweighted) for reweighted in (False, True))
    early, late = (float(plain.loss([output], [labels], clock)["loss"]) for clock in clocks)
    weights = effective_number_weights(COUNTS, beta=0.9999)
    assert early == pytest.approx(float(cross_entropy(output.logits, labels)))
    assert late == pytest.approx(float(cross_entropy(output.logits, labels, weight=weights))) != early


def test_post_hoc_adjustment_acts_on_a_test_but_not_in_training() -> None:
    plain, adjusted = (small_lift(loss="cross_entropy", post_hoc=tau) for tau in (0.0, 2.0))
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain.train()(images).logits, adjusted.train()(images).logits)
    prior = torch.tensor(COUNTS, dtype=torch.float32) / sum(COUNTS)
    torch.testing.assert_close(adjusted.eval()(images).logits, plain.eval()(images).logits - 2 * prior.log())


def test_a_run_with_parts_inside_and_beside_the_blocks_comes_back_from_its_state() -> None:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for tuner in ("vpt_deep+adaptformer+lora", "ssf+bitfit", "arbitrary"):
        method = small_lift(tuner=tuner)
        with torch.no_grad():
            for name, parameter in method.named_parameters():
                if name.startswith(method.tuned):
                    parameter += 0.1
        other = small_lift(tuner=tuner, initialisation="random")
        other.load_state(method.state())
        assert torch.equal(other(images).logits, method(images).logits)
        assert not torch.equal(small_lift(tuner=tuner)(images).logits, method(images).logits)


def test_the_ensemble_can_be_wider_square_random_or_a_mean_of_log_probabilities() -> None:
    assert small_lift().test_preprocessing().resize == 32 + 3  # 24 / 224 of 32 px
    wide = small_lift(expand=8).test_preprocessing()
    square = small_lift(ensemble_resize="square").test_preprocessing()
    assert (wide.resize, wide.resize_mode, square.resize_mode) == (40, "shorter", "squash")
    assert small_lift(expand=8).test_preprocessing(expand=4).resize == 36
    drawn = small_lift(views="random7").test_preprocessing()
    assert (drawn.views, drawn.crop, drawn.augmentations) == (7, "random_resized", ("flip",))
    logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    mean, geometric = small_lift().ensemble(logits), small_lift(ensemble_mean="log_probabilities").ensemble(logits)
    torch.testing.assert_close(mean, logits.mean(1))
    torch.testing.assert_close(geometric, logits.log_softmax(-1).mean(1))
    assert torch.equal(mean.argmax(1), geometric.argmax(1))  # they differ by one number per crop
