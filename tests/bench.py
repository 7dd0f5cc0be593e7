"""Measured ratios on this machine: `make bench`.

Times depend on the machine, ratios much less. So all variants run one after another in each round, a ratio is taken
within its round, and the median over rounds is printed with the range. Nothing here is a test.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import workbench as wb
from workbench import toybox
from workbench.methods import Clock, Method
from workbench.training import step as steps

ROUNDS, BATCH, CLASSES = 7, 8, 365
TOWER = "vit_base_patch16_224"


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


def ratio(seconds: dict[str, list[float]], name: str, reference: str) -> str:
    """Median and range of the ratio within each round."""
    ratios = [a / b for a, b in zip(seconds[name], seconds[reference], strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


class Images:
    """A data set of random images that are already tensors, so that only the tower is timed."""

    def __init__(self, classes: wb.Classes) -> None:
        self.classes, self.manifest = classes, None
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


def lift() -> Method:
    classes = wb.Classes(tuple(map(str, range(CLASSES))), np.full(CLASSES, 20), wb.GroupRule())
    method = wb.create_method("lift", wb.load_backbone(TOWER, weights="random"), classes)
    return method.train()


def main() -> None:
    print(machine())
    method, bound = lift(), OneScale()
    images = Images(method.classes)
    labels = torch.from_numpy(images.labels)
    (stage,) = method.stages(wb.Manifest.load("digits_lt"))
    ours = steps.make_optimiser(stage, steps.freeze_all_but(method, stage.trainable))
    theirs = torch.optim.SGD([bound.scale, bound.weight], lr=0.01, momentum=0.9, weight_decay=5e-4)
    scaler = torch.amp.GradScaler("cpu", enabled=False)

    def bare() -> None:
        with torch.inference_mode():
            bound.tower.forward_features(images.images)

    def bound_step() -> None:
        F.cross_entropy(bound(images.images), labels).backward()
        theirs.step()
        theirs.zero_grad(set_to_none=True)

    def lift_step() -> None:
        method.train()
        steps.gradients(method, stage, [(images.images, labels)], Clock(0, 1, 0, 1), scaler)
        ours.step()
        ours.zero_grad(set_to_none=True)

    def extract() -> None:
        wb.extract(method, images, views="centre", batch_size=BATCH)  # type: ignore[arg-type]  # stands in for a data set

    seconds = measure({"bare forward": bare, "extract": extract, "one scale": bound_step, "LIFT step": lift_step})
    print(f"ViT-B/16, random weights, batch {BATCH}, {CLASSES} classes, fp32, {ROUNDS} interleaved rounds\n")
    print(f"| variant | median s / {BATCH} images | beside bare forward | beside one scale at block 0 |")
    print("| --- | ---: | ---: | ---: |")
    for name, values in seconds.items():
        beside = [ratio(seconds, name, reference) for reference in ("bare forward", "one scale")]
        print(f"| {name} | {statistics.median(values):.3f} | {' | '.join(beside)} |")
    scenes = [toybox.class_scene(label, index=0, seed=0) for label in range(60)]
    rendering = measure({"toybox": lambda: [toybox.render(scene) for scene in scenes]})["toybox"]
    print(f"\ntoybox: {len(scenes) / statistics.median(rendering):.0f} images of toybox_lt rendered a second")


if __name__ == "__main__":
    main()
