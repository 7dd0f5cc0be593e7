"""One small example of every diagnostic, for the tests that hold for all of them; a new diagnostic adds a line here."""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from workbench.adapters.residual import AdaptFormer
from workbench.backbones import ClassVectors, ViT
from workbench.data import Classes, LongTailDataset, Manifest
from workbench.diagnostics import (
    accuracy,
    adapter_scales,
    attention_rollout,
    background_reliance,
    calibration,
    candidate_confusion,
    changes,
    confusable_pairs,
    convergence,
    cost,
    cost_against_accuracy,
    description_matches,
    description_weights,
    domain_shift,
    drift,
    ensemble_curve,
    error_flow,
    faithfulness,
    grad_cam,
    intra_class,
    knn,
    localisation,
    modality_gap,
    projection,
    prompt_ablation,
    prompt_matching,
    saliency,
    sanity_check,
    separability,
    similarity,
    suspicious,
    sweep,
    taxonomy_levels,
    topk,
    weight_norms,
)
from workbench.diagnostics.base import Result
from workbench.features import Features
from workbench.heads import CosineHead
from workbench.methods import Method, create_method
from workbench.runs import Run

Make = Callable[..., Features]
FOLDER = tempfile.TemporaryDirectory()
atexit.register(FOLDER.cleanup)


class Probe(nn.Module):
    """The least that cost() asks of a method."""

    tuned = ("head.",)

    def __init__(self) -> None:
        super().__init__()
        self.tower, self.head = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 5)
        self.backbone = SimpleNamespace(input_size=16, name="tiny")
        self.device = torch.device("cpu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.tower(images).mean(dim=(2, 3)))


class Adapted(Method):
    """A method of twelve AdaptFormers and a classifier, in place of a trained one."""

    name = "adapted"
    options = {}  # type: ignore[assignment]  # noqa: RUF012

    def __init__(self, seed: int = 0, *, blocks: tuple[int, ...] = tuple(range(12))) -> None:
        super().__init__(nn.Identity(), CLASSES, None, seed=seed)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(seed)
        self.adapters = nn.ModuleDict({str(i): AdaptFormer(8, 2, generator=generator) for i in blocks})
        self.head = CosineHead(8, len(CLASSES), generator=generator)
        with torch.no_grad():
            for i, adapter in zip(blocks, self.adapters.values(), strict=True):
                adapter.scale.fill_(1 + 0.1 * i + 0.05 * seed)
                adapter.up_proj.weight.fill_(0.25)
            self.head.weight *= torch.linspace(2, 1, len(CLASSES))[:, None]


CLASSES = Classes(tuple(f"class {c}" for c in range(12)), np.array([500, 300, 150, 101, 100, 60, 40, 20, 19, 10, 5, 2]))


def trained_run(name: str, *, epochs: tuple[int, ...] = (3,), val: bool = True, classes: Classes = CLASSES) -> Run:
    """A run folder with a metrics.csv and no weights: stages of so many epochs, losses 1, 1/2, 1/3, ..."""
    config = {"method": "lift", "options": {}, "seed": 0, "train": {"manifest": "clusters"}}
    run = Run.create(Path(tempfile.mkdtemp(dir=FOLDER.name)) / name, config, classes)
    rows = []
    for stage, number in enumerate(epochs):
        for epoch in range(number):
            step = len(rows) + 1
            row = {"stage": f"stage {stage}", "epoch": epoch, "lr": 0.1, "loss": 1 / step}
            for split, share in (("train", 1.0), ("val", 0.9))[: 1 + val]:
                values = {"all": 0.5, "many": 0.9, "medium": 0.6, "few": 0.1 * step, "mean_class": 0.5}
                row |= {f"{split}_{group}": share * value for group, value in values.items()}
            rows.append(row)
    run.write_metrics(rows)
    run.set_status("finished")
    return run


def clusters(number: int, make: Make) -> list[Features]:
    """The same images of data set a under two methods, and others of data set b."""
    found = []
    for manifest, method in (("a", "lift"), ("a", "vpt"), ("b", "lift"))[:number]:
        features = make(int(manifest == "b"))
        object.__setattr__(features, "source", features.source | {"manifest": manifest, "method": method})
        found.append(features)
    return found


def matched(features: Features) -> Features:
    """The same images with two matched prompts each, of twenty, which depend on the class."""
    rng = np.random.default_rng(0)
    index = (features.labels[:, None] + rng.integers(0, 3, (len(features), 1)) + np.array([[0, 5]])) % 18
    object.__setattr__(
        features, "extras", {"prompt_index": index, "prompt_similarity": rng.random((len(features), 20))}
    )
    return features


def explained() -> Result:
    """Maps of nine random images by a tower of one block."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = VisionTransformer(img_size=32, patch_size=8, embed_dim=8, depth=1, num_heads=1, num_classes=0)
    method = create_method("linear_probe", ViT(model.eval(), name="tiny"), CLASSES)
    return grad_cam.grad_cam(method, torch.randn(9, 3, 32, 32, generator=torch.Generator().manual_seed(0)))


def small_probe() -> tuple[Method, torch.Tensor]:
    """A linear probe on a tower of one block, and nine images of noise."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = VisionTransformer(img_size=32, patch_size=8, embed_dim=8, depth=1, num_heads=1, num_classes=0)
    method = create_method("linear_probe", ViT(model.eval(), name="tiny"), CLASSES)
    return method, torch.randn(9, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def deleted() -> Result:
    """Grad-CAM's maps, one of them constant, in four steps."""
    method, images = small_probe()
    maps = grad_cam.grad_cam(method, images).maps.copy()
    maps[0] = 0
    return faithfulness.faithfulness(method, images, maps, steps=4)


def forgotten() -> Result:
    method, images = small_probe()
    return sanity_check.sanity_check(method, images, explain=grad_cam.grad_cam)


def rolled_out() -> Result:
    """Nine random images by a tower of two blocks with two prompts in each."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = VisionTransformer(img_size=32, patch_size=8, embed_dim=8, depth=2, num_heads=2, num_classes=0)
    method = create_method("vpt", ViT(model.eval(), name="tiny"), CLASSES, prompts=2)
    images = torch.randn(9, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return attention_rollout.attention_rollout(method, images)


def ablated() -> Result:
    """Each of four prompts switched off, for two digits per class and a tower of two blocks."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        sizes = {"img_size": 32, "patch_size": 16, "embed_dim": 16, "depth": 2, "num_heads": 1, "num_classes": 0}
        tower = ViT(VisionTransformer(**sizes).eval(), name="tiny")
    manifest = Manifest.load("digits_lt")
    method = create_method("lpt", tower, manifest.classes, prompts=2, groups=4)
    with torch.no_grad():  # untrained weights and prompts are too small to move a decision
        for parameter in (*tower.model.blocks.parameters(), method.pool):
            parameter *= 20
    return prompt_ablation.ablate_prompts(method, LongTailDataset(manifest, "test"), per_class=2)


def swapped() -> Result:
    """Decisions about 20 images of each of twelve classes, the rarer the more led by three other backgrounds."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), 20)
    led = rng.random((240, 4)) < np.linspace(0.1, 0.8, 12)[labels, None] * np.array([0.3, 1, 1, 1])
    predicted = np.where(led, rng.integers(0, 12, (240, 4)), labels[:, None])
    probability = np.where(predicted == labels[:, None], 0.8, 0.1) + 0.1 * rng.random((240, 4))
    groups = np.asarray(CLASSES.groups)
    return background_reliance.BackgroundReliance(
        arguments={"others": 3}, sources=(), method="lift", ids=np.array([f"toy {i}" for i in range(240)]),
        intervals=background_reliance.intervals_of(predicted, probability, labels, groups, seed=0),
        labels=labels, backgrounds=np.tile(["sand", "lava", "snow", "wood"], (240, 1)), predicted=predicted,
        probability=probability, names=tuple(CLASSES.names), groups=groups, rule=str(CLASSES.rule),
    )  # fmt: skip


def located() -> Result:
    """Three kinds of maps of 30 images with a disc: blurred discs, noise with some maps of zeros, the upper half."""
    rng = np.random.default_rng(0)
    y, x = np.indices((30, 32, 32))[1:]
    centres = rng.uniform(8, 24, (2, 30, 1, 1))
    distance = np.hypot(y - centres[0], x - centres[1])
    maps = {"Grad-CAM $x$": np.exp(-distance / 8) + 0.3 * rng.random((30, 32, 32)), "noise": rng.random((30, 32, 32))}
    maps["noise"][:3] = 0
    maps["a map with a name that is too long for its row"] = 1.0 * (y < 16)
    return localisation.localisation(maps, distance < 7)


def reranked(features: Features, candidates: int = 4, descriptions: int = 6) -> Features:
    """The same images with candidates, similarities to descriptions, and decisions that follow from them."""
    rng = np.random.default_rng(0)
    close = rng.normal(size=(len(features), len(CLASSES)))
    close[np.arange(len(features)), features.labels] += 2
    chosen = np.argsort(-close, 1)[:, :candidates]
    cosines = (0.25 + 0.05 * rng.normal(size=(*chosen.shape, descriptions))).astype(np.float32)
    cosines[chosen == 3, descriptions // 2 :] = np.nan  # a class with fewer
    best = np.nanmean(cosines, 2).argmax(1)
    changed = {"predicted": chosen[np.arange(len(chosen)), best], "logits": close.astype(np.float16)}
    return replace(features, **changed, extras={"candidates": chosen, "description_match": cosines})


def described(number: int = 6) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Weights (C, number) and sentences of each class, of which class 3 has half as many."""
    texts = {
        name: [f"Sentence {m} says $what$ can be seen of {name}." for m in range(number)] for name in CLASSES.names
    }
    texts["class 3"] = texts["class 3"][: number // 2]
    logits = np.random.default_rng(1).normal(size=(len(CLASSES), number))
    logits[3, number // 2 :] = -np.inf
    weights = np.exp(logits)
    return weights / weights.sum(1, keepdims=True), texts


def levelled(features: Features) -> Result:
    """Twelve classes in two kingdoms and five orders, whose names lie at the means of their images."""
    levels = {"order $x$": np.arange(12) // 3 + (np.arange(12) == 11), "kingdom": np.arange(12) // 6}
    classes = replace(features.classes, taxonomy=levels)
    kinds = {level: [f"{level} {node}" for node in range(5)] for level in levels}
    names, rows = list(classes.names), [features.vectors[features.labels == c].mean(0) for c in range(12)]
    for level, nodes in levels.items():
        names += kinds[level][: nodes.max() + 1]
        rows += [features.vectors[nodes[features.labels] == node].mean(0) for node in np.unique(nodes)]
    text = ClassVectors(torch.from_numpy(np.array(rows)), names, logit_scale=100.0)
    return taxonomy_levels.taxonomy_levels(replace(features, classes=classes), text=text, names=kinds)


def digits(split: str, per_class: int = 12) -> tuple[Features, LongTailDataset]:
    """Pixels of a few digits as features; a quarter is decided as the next digit but one, and four labels are wrong."""
    dataset = LongTailDataset(Manifest.load("digits_lt"), split, per_class=per_class)
    rng, labels = np.random.default_rng(0), dataset.labels.copy()
    pixels = np.stack([np.asarray(dataset.image(i).convert("L"), np.float32).ravel() for i in range(len(dataset))])
    predicted = np.where(rng.random(len(labels)) < 0.25, (labels + 2) % 10, labels)
    labels[:4] = (labels[:4] + 3) % 10
    pixels[7], pixels[30] = pixels[6], pixels[5]
    decided = {"predicted": predicted, "confidence": rng.random(len(labels)).astype(np.float32)}
    source = {"split": split, "method": "lift"}
    return (
        Features(
            vectors=pixels + 1, logits=None, labels=labels, ids=dataset.ids, classes=dataset.classes, source=source,
            **decided,
        ),
        dataset,
    )  # fmt: skip


def doubted() -> Result:
    """Labels in doubt and copies among digits, two of which are in both splits."""
    (train, images), (test, test_images) = digits("train"), digits("test")
    vectors = test.vectors.copy()
    vectors[[20, 40]] = train.vectors[[50, 8]]
    return suspicious.suspicious(train, replace(test, vectors=vectors), k=5, images=images, test_images=test_images)


def shifted(make: Make) -> Result:
    """Five methods, each on images as it learnt them and on others; the second set has no images of one class."""

    def seen(number: int, manifest: str, skill: float, last: int) -> Features:
        features = make(number, split=manifest, images=(20,) * 11 + (last,), skill=np.linspace(skill, skill / 2, 12))
        return replace(features, source={"manifest": manifest, "method": f"method {number}", "seed": number})

    arms = {
        f"method {i} $x$": (seen(i, "photos $x$", 0.95 - 0.05 * i, 20), seen(i, "sketches", 0.6 - 0.05 * i, 0))
        for i in range(5)
    }
    return domain_shift.domain_shift(arms)


EXAMPLES: dict[str, Callable[[Make], Result]] = {
    "ablate_prompts": lambda make: ablated(),
    "adapter_scales": lambda make: adapter_scales.adapter_scales(
        {"LIFT $x$": [Adapted(0), Adapted(1)], "last blocks": Adapted(2, blocks=(10, 11))}
    ),
    "attention_rollout": lambda make: rolled_out(),
    "background_reliance": lambda make: swapped(),
    "calibration": lambda make: calibration.calibration({"LIFT $x$": make(0), "LPT": make(0)}),
    "candidate_confusion": lambda make: candidate_confusion.candidate_confusion(reranked(make(0))),
    "changes": lambda make: changes.changes(make(0), make(1), names=("linear probe", "LIFT")),
    "class_similarity": lambda make: similarity.class_similarity(make(0)),
    "confusable_pairs": lambda make: confusable_pairs.confusable_pairs(digits("test")[0], images=digits("test")[1]),
    "convergence": lambda make: convergence.convergence(
        {"LIFT $x$": trained_run("a"), "LPT": trained_run("b", epochs=(2, 3))}
    ),
    "cost": lambda make: cost.cost(Probe()),
    "cost_against_accuracy": lambda make: cost_against_accuracy.cost_against_accuracy(
        {
            f"method {i} $x$": (SimpleNamespace(tuned=n, head=9000, total=86_000_000 * (1 + i)), [make(i), make(i + 9)])
            for i, n in enumerate((0, 8000, 180_000, 86_000_000))
        }
    ),
    "description_matches": lambda make: description_matches.description_matches(reranked(make(0)), *described()),
    "description_weights": lambda make: description_weights.description_weights(
        described()[0],
        {
            name: ["good", "wrong", "good", "non_visual", "$odd$", "good"][: len(t)]
            for name, t in described()[1].items()
        },
        classes=CLASSES,
    ),
    "domain_shift": lambda make: shifted(make),
    "drift": lambda make: drift.drift(make(0), make(1), names=("frozen $x$", "LIFT")),
    "error_flow": lambda make: error_flow.error_flow(make(0)),
    "expansion_curve": lambda make: ensemble_curve.expansion_curve(
        {e: [make(e), make(e + 100)] for e in range(0, 49, 4)}, patch_size=16
    ),
    "faithfulness": lambda make: deleted(),
    "grad_cam": lambda make: explained(),
    "group_report": lambda make: accuracy.group_report(
        [make(0), make(1)], compare=[make(2), make(3)], names=("LIFT", "full fine-tuning")
    ),
    "intra_class_distances": lambda make: intra_class.intra_class_distances(
        make(0, split="train", images=(60,) * 6 + (20, 10, 5, 4, 2, 1)), make(1)
    ),
    "knn_accuracy": lambda make: knn.knn_accuracy(
        make(0, split="train", images=(40,) * 6 + (5,) * 6), make(1), k=(1, 5, 20)
    ),
    "localisation": lambda make: located(),
    "modality_gap": lambda make: modality_gap.modality_gap(
        make(0), np.random.default_rng(0).normal(1, 2, (len(CLASSES), 16))
    ),
    "project": lambda make: projection.project(*clusters(3, make)),
    "prompt_matching": lambda make: prompt_matching.prompt_matching(matched(make(0))),
    "saliency_maps": lambda make: saliency.saliency_maps(
        torch.rand(9, 3, 32, 48, generator=torch.Generator().manual_seed(0)), grid=(4, 6)
    ),
    "sanity_check": lambda make: forgotten(),
    "separability": lambda make: separability.separability(make(0)),
    "suspicious": lambda make: doubted(),
    "sweep": lambda make: sweep.sweep(
        {
            f"lr {lr} $x$": {k: [make(k, skill=np.full(12, 0.3 + 0.05 * k)), make(k + 20)] for k in (0, 1, 2, 6, 12)}
            for lr in (0.01, 0.02)
        },
        option="last blocks $k$",
        chosen=2,
    ),
    "taxonomy_levels": lambda make: levelled(make(0)),
    "topk": lambda make: topk.topk({"HLC": reranked(make(0)), "LIFT $x$": make(0)}),
    "weight_norms": lambda make: weight_norms.weight_norms(Adapted()),
}
