"""HLC: the recorded cases, the identities of K = 1, K = C and equal weights, what it draws, counts and errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import workbench as wb
from workbench.backbones import ClassVectors, TextTower
from workbench.heads import CosineHead
from workbench.methods import reranking
from workbench.methods.base import Clock, Encoded, rebuild_method
from workbench.methods.hlc import HLC, HLCConfig

CLIP = "vit_xsmall_patch16_clip_224.tinyclip_yfcc15m"
TOYBOX = "toybox_clip"
NAMES = ("red gear", "blue fish", "green house", "plain key")
SENTENCES = ("It is a {}.", "A {} seen from above.", "It has one colour, as a {} has.")
TEXTS = {name: [text.replace("{}", name) for text in SENTENCES[: 1 + i % 3]] for i, name in enumerate(NAMES)}
CLASSES = wb.Classes(NAMES, np.array([60, 30, 10, 4]), wb.GroupRule())


@cache
def text_tower() -> TextTower:
    return wb.load_text_tower(TOYBOX)  # trained: a random one gives all sentences nearly the same vector


def build(*, texts: Any = TEXTS, corpus: Any = None, seed: int = 0, **options: Any) -> HLC:
    tower = wb.load_backbone(TOYBOX, "random")
    small = {"prompts": 2, "descriptions": 3, "corpus_templates": "toybox", "scale": 100.0, **options}
    method = wb.create_method("hlc", tower, CLASSES, text=text_tower(), texts=texts, corpus=corpus, seed=seed, **small)
    assert isinstance(method, HLC)
    return method


def planted(case: Any, **options: Any) -> HLC:
    """A method whose head, descriptions and weights are those of the recorded case; `classify` takes features."""
    head, descriptions = case.tensor("in.head"), case.tensor("in.descriptors")
    C, M, E = descriptions.shape
    counts = case.arrays["in.class_counts"]
    with torch.device("meta"):
        tower = wb.load_backbone(CLIP, "meta")
    tower.model.head = torch.nn.Linear(tower.width, E, bias=False)
    classes = wb.Classes(tuple(map(str, range(C))), counts, wb.GroupRule())
    method = HLC(tower, classes, HLCConfig(visual="none", cross_modal=False, descriptions=M, **options), seed=0)
    method.head.weight = torch.nn.Parameter(head)
    method.importance = torch.nn.Parameter(case.tensor("in.W_llm"))
    method.descriptions = F.normalize(descriptions, dim=-1)
    return method.eval()


# -- the recorded cases ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "weighting", "masked"),
    [("", "softmax", False), ("_masked", "softmax", True), ("_rawW", "raw", False), ("_uniform", "uniform", False)],
)
def test_candidates_scores_and_decisions_are_the_recorded_ones_for_every_k(
    golden: Callable[[str], Any], ending: str, weighting: Any, masked: bool
) -> None:
    case = golden("hlc_inference")
    features = case.tensor("in.v")
    C = len(case.arrays["in.class_counts"])
    method = planted(case, weighting=weighting)
    if masked:
        method.described = torch.arange(10) < case.tensor("in.desc_count")[:, None]
    for k in (*range(1, C + 1), None):
        method.config = replace(method.config, candidates=k)
        output = method.classify(Encoded(features))
        K = k or C
        assert output.logits.argmax(1).tolist() == case.arrays[f"out.pred_by_K{ending}"][K - 1].tolist()
        assert output.extras["candidates"].tolist() == case.arrays["out.candidate_order"][:, :K].tolist()
    weights = method.description_weights
    scores = reranking.description_scores(F.normalize(features, dim=-1), method.descriptions, weights)
    case.check(scores, f"out.fine_scores{ending}")
    # K = C: the softmax of the descriptions' scores alone; what the extras hold adds up to those scores
    torch.testing.assert_close(output.logits, (100 * scores).log_softmax(1))
    match = output.extras["description_match"].double().nan_to_num(7.0)
    sums = (weights[output.extras["candidates"]] * match).sum(-1)
    torch.testing.assert_close(sums, scores.gather(1, output.extras["candidates"]), rtol=1e-5, atol=1e-6)
    assert bool(output.extras["description_match"].isnan().any()) is masked


def test_one_candidate_is_the_adjusted_coarse_classifier(golden: Callable[[str], Any]) -> None:
    case = golden("hlc_inference")
    output = planted(case, candidates=1).classify(Encoded(case.tensor("in.v")))
    counts = case.tensor("in.class_counts").double()
    cosine = F.normalize(case.tensor("in.v"), dim=1) @ F.normalize(case.tensor("in.head"), dim=1).T
    by_hand = 100 * cosine - (counts / counts.sum()).log()
    torch.testing.assert_close(by_hand, case.tensor("out.coarse_logits"), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(output.logits, by_hand.log_softmax(1))
    assert output.cosine is not None
    torch.testing.assert_close(output.cosine, cosine)
    plain = planted(case, candidates=1, tau=0.0).classify(Encoded(case.tensor("in.v")))
    torch.testing.assert_close(plain.logits, (100 * cosine).log_softmax(1))


@pytest.mark.parametrize("kind", ["unit", "raw"])
def test_mixup_in_the_shared_space_is_the_recorded_one(golden: Callable[[str], Any], kind: str) -> None:
    case = golden("hlc_sfm")
    stack = torch.cat([case.tensor("in.image_feats"), case.tensor("in.text_feats")]).requires_grad_()
    labels = torch.cat([case.tensor("in.y_image"), case.tensor("in.y_text")]).long()
    order, kept = case.tensor("in.perm").long(), float(case.arrays["in.lam"])
    head = CosineHead(16, 12, scale=100.0, generator=torch.Generator().manual_seed(0)).double()
    head.weight = torch.nn.Parameter(case.tensor("in.head"))
    mixed = reranking.mix(F.normalize(stack, dim=-1) if kind == "unit" else stack, order, kept)
    logits = head(mixed)[0]
    loss = reranking.mixed_cross_entropy(logits, labels, order, kept)
    loss.backward()
    outputs = {"mixed": mixed, "logits": logits, "loss": loss}
    for name, value in outputs.items():
        case.check(value, f"out.sfm_{kind}.{name}")
    case.check(head.weight.grad, f"grad.sfm_{kind}.head")
    case.check(stack.grad, f"grad.sfm_{kind}.features")


def test_the_loss_of_the_descriptions_is_the_recorded_one(golden: Callable[[str], Any]) -> None:
    case = golden("hlc_descriptor_loss")
    features, importance = case.tensor("in.v").requires_grad_(), case.tensor("in.W_llm").requires_grad_()
    descriptions = F.normalize(case.tensor("in.descriptors"), dim=-1)
    weights = reranking.description_weights(importance, torch.ones(12, 10, dtype=torch.bool), "softmax")
    logits = 100 * reranking.description_scores(F.normalize(features, dim=-1), descriptions, weights)
    loss = F.cross_entropy(logits, case.tensor("in.label").long())
    loss.backward()
    case.check(logits, "out.logits")
    case.check(loss, "out.loss")
    case.check(features.grad, "grad.v")
    case.check(importance.grad, "grad.W_llm")


# -- re-ranking --------------------------------------------------------------------------------------------------------


def unit(*shape: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("K", [1, 2, 5, 40])
@pytest.mark.parametrize("one_class", [False, True])
def test_matches_are_the_cosines_whichever_way_they_are_computed(K: int, one_class: bool) -> None:
    features, descriptions = unit(50, 8, seed=0), unit(200, 3, 8, seed=1)
    draw = torch.rand(50, 200, generator=torch.Generator().manual_seed(2))
    candidates = draw.topk(K).indices
    if one_class:  # all images share their candidates: the tiles of a few classes take all of them
        candidates = candidates[:1].expand(50, K)
    expected = torch.einsum("bkme,be->bkm", descriptions[candidates], features)
    torch.testing.assert_close(reranking.description_matches(features, descriptions, candidates), expected)


def test_the_decision_is_the_best_candidate_and_the_logits_are_log_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    for K, spread in ((1, 5.0), (2, 0.01), (5, 0.01), (5, 5.0), (30, 1.0)):  # flat coarse logits: the hardest case
        logits = spread * torch.randn(400, 30, generator=generator)
        candidates = logits.topk(K, dim=1).indices
        scores = 0.1 * torch.randn(400, K, generator=generator)
        ranked = reranking.reranked(logits, candidates, scores)
        best = candidates.gather(1, scores.argmax(1, keepdim=True))[:, 0]
        assert torch.equal(ranked.argmax(1), best)
        torch.testing.assert_close(ranked.exp().sum(1), torch.ones(400))
        coarse = logits.softmax(1)
        others = torch.ones(400, 30).scatter(1, candidates, 0.0)
        torch.testing.assert_close(ranked.exp() * others, coarse * others)  # outsiders keep what they had


@pytest.mark.parametrize("weighting", ["softmax", "raw", "uniform"])
def test_before_training_all_candidates_are_ranked_by_mean_cosine_as_in_vcd(weighting: str) -> None:
    method = build(visual="none", candidates=None, tau=0.0, weighting=weighting).eval()
    text = text_tower()
    images = torch.randn(5, 3, *[method.backbone.input_size] * 2, generator=torch.Generator().manual_seed(0))
    features = F.normalize(method.backbone.project(method.backbone.encode(images)), dim=-1)
    means = [(features @ F.normalize(text.encode(TEXTS[name]), dim=-1).T).mean(1) for name in NAMES]
    logits = method(images).logits
    torch.testing.assert_close(logits, (100 * torch.stack(means, 1)).log_softmax(1), rtol=1e-4, atol=1e-4)
    assert method.described.sum(1).tolist() == [1, 2, 3, 1]
    torch.testing.assert_close(method.description_weights.sum(1), torch.ones(4))


# -- training ----------------------------------------------------------------------------------------------------------


def test_sentences_are_drawn_by_class_and_uniform_within() -> None:
    labels = torch.tensor([0] + [2] * 3 + [3] * 12)  # class 1 has none
    torch.manual_seed(0)
    drawn = torch.bincount(reranking.draw_balanced(labels, 36_000), minlength=16).double()
    expected = 12_000 / torch.bincount(labels)[labels].double()
    assert float(((drawn - expected) ** 2 / expected).sum()) < 37.7  # chi-square, 15 degrees of freedom: p = 0.001
    again = [torch.manual_seed(1) and reranking.draw_balanced(labels, 20) for _ in range(2)]
    assert torch.equal(*again)


def test_the_loss_is_that_of_images_and_sentences_mixed_together() -> None:
    method, labels = build(), torch.tensor([0, 1, 2, 3, 3, 0])
    assert method.corpus is not None and method.corpus_labels is not None
    features = torch.randn(6, method.head.width, generator=torch.Generator().manual_seed(3), requires_grad=True)
    output = method.train().classify(Encoded(features))
    assert not output.extras
    torch.manual_seed(5)
    parts = method.loss([output], [labels], Clock(0, 1, 0, 1))
    torch.manual_seed(5)
    rows = reranking.draw_balanced(method.corpus_labels, 6)
    kept, order = float(torch.distributions.Beta(1.0, 1.0).sample()), torch.randperm(12)
    stack = F.normalize(torch.cat([features, method.corpus[rows]]), dim=-1)
    targets = F.one_hot(torch.cat([labels, method.corpus_labels[rows]]), 4).float()
    mixed, soft = kept * stack + (1 - kept) * stack[order], kept * targets + (1 - kept) * targets[order]
    logits = 100 * F.normalize(mixed, dim=1) @ F.normalize(method.head.weight, dim=1).T
    torch.testing.assert_close(parts["classifier"], -(soft * logits.log_softmax(1)).sum(1).mean())
    torch.testing.assert_close(parts["loss"], parts["classifier"] + parts["descriptions"])
    parts["loss"].backward()
    assert method.importance.grad is not None
    assert method.importance.grad[~method.described].abs().sum() == 0 < method.importance.grad.abs().sum()
    half = build(descriptor_weight=0.5).loss([output], [labels], Clock(0, 1, 0, 1))
    torch.testing.assert_close(half["loss"], half["classifier"] + 0.5 * half["descriptions"])


def test_without_corpus_and_mixup_it_is_plain_cross_entropy_of_the_images() -> None:
    method, labels = build(cross_modal=False, sfm=False, descriptor_weight=0.0), torch.tensor([0, 1, 2])
    features = torch.randn(3, method.head.width, generator=torch.Generator().manual_seed(3))
    output = method.train().classify(Encoded(features))
    parts = method.loss([output], [labels], Clock(0, 1, 0, 1))
    assert list(parts) == ["loss"]
    torch.testing.assert_close(parts["loss"], F.cross_entropy(output.logits, labels))
    assert method.tuned == ("head.", "prompts") and "corpus" not in method.state()


def test_mixed_raw_features_keep_their_length() -> None:
    labels, losses = torch.tensor([0, 1, 2]), {}
    features = 50 * torch.randn(3, 64, generator=torch.Generator().manual_seed(3))
    for raw in (False, True):
        method = build(mix_raw=raw)
        assert method.head.width == features.shape[1]
        for stretch in (1.0, 0.001):
            torch.manual_seed(0)
            losses[raw, stretch] = method.classifier_loss(stretch * features, labels).item()
    assert losses[False, 1.0] == pytest.approx(losses[False, 0.001], rel=1e-4)
    assert losses[True, 1.0] != pytest.approx(losses[True, 0.001], rel=1e-2)


def test_training_moves_weight_from_a_description_that_fits_another_class() -> None:
    """Each class has a description that is its own direction, and one that is the next class's."""
    method = build(descriptions=2, visual="none", cross_modal=False)
    E = method.head.width
    own = F.one_hot(torch.arange(4), E).float()
    method.descriptions, method.described = torch.stack([own, own.roll(-1, 0)], 1), torch.ones(4, 2, dtype=torch.bool)
    optimiser = torch.optim.AdamW([method.importance], lr=0.05)
    for _ in range(20):
        parts = method.loss([method.train().classify(Encoded(own + 0.05))], [torch.arange(4)], Clock(0, 1, 0, 1))
        optimiser.zero_grad()
        parts["loss"].backward()
        optimiser.step()
    weights = method.description_weights
    assert (weights[:, 0] > weights[:, 1] + 0.05).all()


# -- what it is built from ---------------------------------------------------------------------------------------------


def test_the_papers_parameter_count_fits_25_prompts_and_not_20() -> None:
    classes = wb.Classes(tuple(map(str, range(365))), np.full(365, 20), wb.GroupRule())
    counts = {}
    with torch.device("meta"):
        tower = wb.load_backbone("vit_base_patch16_clip_quickgelu_224.openai", weights="meta")
        for prompts in (20, 25):
            method = HLC(tower, classes, HLCConfig(prompts=prompts), seed=0)
            named = method.named_parameters()
            counts[prompts] = sum(parameter.numel() for name, parameter in named if name.startswith(method.tuned))
    assert counts == {20: 184_320 + 186_880 + 3_650, 25: 230_400 + 186_880 + 3_650}
    assert round(counts[25] / 1e6, 2) == 0.42 and round(counts[20] / 1e6, 2) == 0.37  # Table 1: 0.42M


@pytest.mark.parametrize(("depth", "with_prompts"), [(1, 1), (2, 2), (12, None)])
def test_blocks_behind_the_prompt_depth_see_the_images_tokens_alone(depth: int, with_prompts: int | None) -> None:
    method = build(depth=depth, prompts=5)
    blocks, seen = method.backbone.blocks, []
    handles = [block.inner.norm1.register_forward_hook(lambda _, x, y: seen.append(x[0].shape[1])) for block in blocks]
    size = method.backbone.input_size
    method(torch.zeros(1, 3, size, size))
    for handle in handles:
        handle.remove()
    rows, columns = method.backbone.grid
    image_tokens = method.backbone.num_prefix + rows * columns
    prompted = len(blocks) if with_prompts is None else with_prompts
    assert seen == [image_tokens + 5] * prompted + [image_tokens] * (len(blocks) - prompted)


def test_prompts_start_as_asked() -> None:
    normal, uniform = (build(prompts=40, prompt_initialisation=kind).prompts for kind in ("normal", "uniform"))
    assert normal is not None and uniform is not None and normal.shape == uniform.shape
    assert normal.std().item() == pytest.approx(0.02, rel=0.1)
    tower = build().backbone
    bound = (6 / (3 * tower.patch_size**2 + tower.width)) ** 0.5
    assert 0.9 * bound < uniform.abs().max() <= bound


def test_the_corpus_is_what_was_given_and_class_names_in_templates() -> None:
    given = {"red gear": ["It turns.", "It turns.", "It has teeth."], "no class of ours": ["A sentence."]}
    method, text = build(corpus=given, corpus_templates="single"), text_tower()
    sentences = ["It turns.", "It has teeth.", *(f"a photo of a {name}." for name in NAMES)]
    assert method.corpus is not None and method.corpus_labels is not None
    torch.testing.assert_close(method.corpus, text.encode(sentences))
    assert method.corpus_labels.tolist() == [0, 0, 0, 1, 2, 3]
    assert method.options["sentences"] == 6
    alone = build(corpus=given, corpus_templates=None)
    assert alone.corpus_labels is not None and alone.corpus_labels.tolist() == [0, 0]


def test_it_comes_back_without_a_text_tower_and_decides_the_same() -> None:
    method = build(corpus={"red gear": ["It turns."]}, weighting="raw").eval()
    tower = wb.load_backbone(TOYBOX, "random")
    twin = rebuild_method("hlc", tower, CLASSES, seed=9, options=method.options).eval()
    twin.load_state(method.state())
    size = tower.input_size
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    one, other = method(images), twin(images)
    assert torch.equal(one.logits, other.logits)
    assert torch.equal(one.extras["candidates"], other.extras["candidates"])


def test_the_head_starts_from_class_names_or_at_random() -> None:
    text = text_tower()
    names = F.normalize(text.encode([f"a photo of a {name}." for name in NAMES]), dim=-1)
    torch.testing.assert_close(build().head.weight.detach(), names)
    random = build(initialisation="random")
    assert (F.cosine_similarity(random.head.weight, names) < 0.9).all()
    assert not torch.equal(random.head.weight, build(initialisation="random", seed=1).head.weight)


def test_full_fine_tuning_trains_the_tower_at_its_own_lr() -> None:
    (stage,) = build(visual="full", weights_lr_factor=10.0).stages(wb.Manifest.load("digits_lt"))
    assert stage.trainable == ("head.", "backbone.", "importance")
    assert dict(stage.lr_factors) == {"importance": 10.0, "backbone.": 0.02}
    assert (stage.epochs, stage.lr, stage.optimiser, stage.schedule) == (30, 5e-4, "adamw", "cosine")
    (frozen,) = build(visual="none", reweight=False).stages(wb.Manifest.load("digits_lt"))
    assert frozen.trainable == ("head.",) and frozen.lr_factors == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"texts": None}, r"4 of 4 have none: 'red gear', 'blue fish'.*texts=manifest.texts"),
        ({"texts": {name: TEXTS[name] for name in NAMES[1:]}}, r"1 of 4 have none: 'red gear'\."),
        ({"texts": {**TEXTS, "blue fish": []}}, r"1 of 4 have none: 'blue fish'\."),
        ({"corpus": {"yellow fish": ["It swims."]}}, "none is a class"),
        ({"corpus_templates": None}, "cross_modal=False"),
        ({"sentences": 3}, "leave the option out"),
        ({"candidates": 0}, "candidates=0 must be at least 1, or None for all classes"),
        ({"prompts": 0}, "prompts=0 must be at least 1"),
        ({"depth": 0}, "depth=0"),
        ({"beta": 0.0}, "beta=0.0 must be positive"),
        ({"tau": -1.0}, "must not be negative"),
        ({"visual": "lora"}, "prompts, full, none"),
        ({"weighting": "mean"}, "softmax, raw, uniform"),
        ({"describe": "no braces"}, "write templates"),
        ({"initialisation": "random", "templates": "single"}, "has no effect"),
    ],
)
def test_a_wrong_option_or_missing_sentences_say_what_is_needed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_towers_that_do_not_serve_are_refused() -> None:
    clip = wb.load_backbone(TOYBOX, "random")
    with pytest.raises(ValueError, match=r"needs the text tower.*load_text_tower"):
        wb.create_method("hlc", clip, CLASSES, texts=TEXTS)
    vectors = ClassVectors(torch.ones(4, int(clip.joint_width or 0)), NAMES, logit_scale=100.0)
    with pytest.raises(ValueError, match="class vectors know class names only"):
        wb.create_method("hlc", clip, CLASSES, texts=TEXTS, text=vectors)
    with pytest.raises(ValueError, match="no joint image-text space"):
        HLC(wb.load_backbone("test_vit.r160_in1k", "random", input_size=32), CLASSES, HLCConfig(), seed=0)
    with torch.device("meta"):
        resnet = wb.load_backbone("resnet50_clip.openai", weights="meta")
        with pytest.raises(ValueError, match="prompts, adapters and partial fine-tuning need a ViT"):
            HLC(resnet, CLASSES, HLCConfig(), seed=0)
        assert HLC(resnet, CLASSES, HLCConfig(visual="full"), seed=0).tuned[1] == "backbone."


@pytest.mark.parametrize("K", [1, 3, 7])  # of 60 classes: few candidates take another way than many
def test_scores_of_candidates_are_those_of_all_classes(K: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(9, 8, generator=generator), dim=-1)
    descriptions = F.normalize(torch.randn(60, 4, 8, generator=generator), dim=-1)
    weights = torch.rand(60, 4, generator=generator)
    candidates = torch.stack([torch.randperm(60, generator=generator)[:K] for _ in range(9)])
    found = reranking.candidate_scores(features, descriptions, weights, candidates)
    cosine = torch.einsum("be,cme->bcm", features, descriptions)
    torch.testing.assert_close(found, (weights * cosine).sum(-1).gather(1, candidates))
    matches = reranking.description_matches(features, descriptions, candidates)
    torch.testing.assert_close((weights[candidates] * matches).sum(-1), found)
