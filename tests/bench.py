"""Measured ratios on this machine: `make bench`.

Times depend on the machine, ratios much less. So all variants run one after another in each round, a ratio is taken
within its round, and the median over rounds is printed with the range. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import workbench as wb
from tests.hlc_speed import rerank_ratio
from workbench import toybox
from workbench.backbones import Backbone
from workbench.methods import Clock, Method
from workbench.optim import neighbourhood
from workbench.training import step as steps

ROUNDS, BATCH, CLASSES = 7, 8, 365
TOWER, CLIP = "vit_base_patch16_224", "vit_base_patch16_clip_quickgelu_224.openai"
CLASS_LIST = wb.Classes(tuple(map(str, range(CLASSES))), np.full(CLASSES, 20), wb.GroupRule())
AT_MOST = {  # beside the bare forward, and what the public code takes, timed in the same way
    "LPT inference": "1.65 (public code 2.17)",
    "LPT phase 2 step": "2.35 (public code 2.75)",
}


def machine() -> str:
    """Processor, cores, threads, versions: one line that belongs beside every figure."""
    names = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    load = f", load {os.getloadavg()[0]:.1f} before the start" if hasattr(os, "getloadavg") else ""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{device}, torch {torch.__version__}, timm {timm.__version__}{load}"
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def measure(variants: dict[str, Callable[[], object]], *, rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of each variant in each round, interleaved, after one untimed warm-up each."""
    for run in variants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: dict[str, list[float]], name: str, reference: str, *, digits: int = 2) -> str:
    """Median and range of the ratio within each round."""
    ratios = [a / b for a, b in zip(seconds[name], seconds[reference], strict=True)]
    return f"{statistics.median(ratios):.{digits}f} ({min(ratios):.{digits}f}-{max(ratios):.{digits}f})"


class Images:
    """A data set of random images that are already tensors, so that only the tower is timed."""

    def __init__(self) -> None:
        self.classes, self.manifest = CLASS_LIST, None
        self.images = torch.rand(BATCH, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        self.labels, self.ids = np.arange(BATCH), np.array([str(i) for i in range(BATCH)])

    def with_preprocessing(self, preprocessing: object) -> Images:
        return self

    def __len__(self) -> int:
        return BATCH

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])

    def spec(self) -> dict[str, Any]:
        return dict.fromkeys(("manifest", "manifest_sha256", "split", "per_class", "preprocessing"))


class OneScale(nn.Module):
    """The cheapest possible full-depth tuning: one trainable factor on the tokens that enter block 0."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = timm.create_model(TOWER, num_classes=0).eval().requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(1))
        self.weight = nn.Parameter(torch.randn(CLASSES, self.tower.embed_dim))

    def forward(self, images: Tensor) -> Tensor:
        tower = self.tower
        x = tower.norm_pre(tower._pos_embed(tower.patch_embed(images))) * self.scale
        for block in tower.blocks:
            x = block(x)
        return 25 * F.normalize(tower.norm(x)[:, 0]) @ F.normalize(self.weight).T


def create(name: str, backbone: Backbone | None = None) -> Method:
    """A method on random weights; methods that leave the tower as it is may share one."""
    return wb.create_method(name, backbone or wb.load_backbone(TOWER, weights="random"), CLASS_LIST)


def training_step(method: Method, images: Tensor, labels: Tensor, **changes: Any) -> Callable[[], None]:
    """One step of the method's last stage, as `fit` takes it, on one batch: one branch, where there are two.

    With `cached=True`, `images` are features.
    """
    stage = replace(method.stages(wb.Manifest.load("digits_lt"))[-1], **changes)
    trainable = steps.freeze_all_but(method, stage.trainable)
    optimiser = steps.make_optimiser(stage, trainable)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    clock = Clock(0, stage.epochs, 0, stage.epochs, stage.name)

    def step() -> None:
        method.train()
        method.clock = clock
        with neighbourhood(trainable.values(), steps.radius_of(stage, clock.epoch)):
            steps.gradients(method, stage, [(images, labels)], clock, scaler)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def variants(images: Images) -> dict[str, Callable[[], object]]:
    """What is timed, by the name of its row. The frozen tower of the first row is timm's own."""
    labels = torch.from_numpy(images.labels)
    bound, lift = OneScale(), create("lift")
    shared = wb.load_backbone(TOWER, weights="random")
    vpt, lpt, lt_dpt = (create(name, shared) for name in ("vpt", "lpt", "lt_dpt"))
    text = wb.load_text_tower(CLIP, "random")
    ballad = wb.create_method("ballad", wb.load_backbone(CLIP, weights="random"), CLASS_LIST, text=text)
    features = torch.randn(len(images.images), 512, generator=torch.Generator().manual_seed(0))
    optimiser = torch.optim.SGD([bound.scale, bound.weight], lr=0.01, momentum=0.9, weight_decay=5e-4)

    def bare() -> None:
        with torch.inference_mode():
            bound.tower.forward_features(images.images)

    def bound_step() -> None:
        F.cross_entropy(bound(images.images), labels).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    def extract() -> None:
        wb.extract(lift, images, views="centre", batch_size=BATCH)  # type: ignore[arg-type]  # stands in for a data set

    def lpt_inference() -> None:
        lpt.eval()
        lpt.clock = None  # outside of training: phase 2
        with torch.inference_mode():
            lpt(images.images)

    return {
        "bare forward": bare,
        "extract": extract,
        "one scale": bound_step,
        "LIFT step": training_step(lift, images.images, labels),
        "VPT step": training_step(vpt, images.images, labels),
        "LPT inference": lpt_inference,
        "LPT phase 2 step": training_step(lpt, images.images, labels),
        "LT-DPT step": training_step(lt_dpt, images.images, labels),
        "BALLAD phase B step": training_step(ballad, images.images, labels),
        "BALLAD phase B step, cached": training_step(ballad, features, labels, cached=True),
        "LT-DPT saliency": lambda: lt_dpt.patch_saliency(images.images),  # type: ignore[operator]  # a method's own
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"interleaved rounds, default {ROUNDS}")
    rounds = parser.parse_args().rounds
    print(machine())
    seconds = measure(variants(Images()), rounds=rounds)
    print(f"ViT-B/16, random weights, batch {BATCH}, {CLASSES} classes, fp32, {rounds} interleaved rounds\n")
    print(f"| variant | median s / {BATCH} images | beside bare forward | at most | beside one scale at block 0 |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, values in seconds.items():
        bare, one_scale = (ratio(seconds, name, reference) for reference in ("bare forward", "one scale"))
        print(f"| {name} | {statistics.median(values):.3f} | {bare} | {AT_MOST.get(name, '')} | {one_scale} |")
    share = ratio(seconds, "LT-DPT saliency", "LT-DPT step", digits=3)
    print(f"\nsaliency, share of an LT-DPT step: {share}, at most 0.05")
    faster = ratio(seconds, "BALLAD phase B step", "BALLAD phase B step, cached", digits=0)
    print(f"\nBALLAD phase B, an epoch on cached features: {faster} times as fast as through the tower, at least 50;")
    print("once, the features of the training images: about one such epoch through the tower")
    hlc = rerank_ratio(rounds=rounds)
    ours = hlc["coarse ms"] + hlc["ranking ms"]
    print(f"\nHLC, 1,000 images and classes, K 5, M 10: {hlc['literal']:.0f} times as fast as Algorithm 1 with eq. 1")
    print(
        f"({ours:.0f} against {hlc['literal ms']:.0f} ms), at least 20; {hlc['prepared']:.0f} times where it normalises"
    )
    print(
        f"the classifier once ({hlc['prepared ms']:.0f} ms), of which the product both need allows {hlc['ceiling']:.0f}"
    )
    scenes = [toybox.class_scene(label, index=0, seed=0) for label in range(60)]
    rendering = measure({"toybox": lambda: [toybox.render(scene) for scene in scenes]})["toybox"]
    print(f"\ntoybox: {len(scenes) / statistics.median(rendering):.0f} images of toybox_lt rendered a second")


if __name__ == "__main__":
    main()
