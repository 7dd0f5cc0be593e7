"""HLC's re-ranking on real photographs: Tiny-ImageNet-LT with the text-aligned ViT of `tests/real_text.py`.

    python -m tests.real_hlc [--out runs/real_hlc]

No text tower is at hand, so sentences cannot be encoded; what is at hand are CLIP's vectors of the class names in two
styles, the template and the mean of GPT-3 sentences. They serve as the two descriptions of a class (M = 2) and as the
corpus, each without its mean direction. The tower is frozen and its ridge map (features to text, fitted on one
photograph of each of the 900 classes that are not tested, shrunk to 64 pixels) is the projection: prompts would move
features away from it. So this measures the coarse classifier, the mixup, the descriptions' weights and the re-ranking,
on features computed once, with the recipe of `hlc`; not prompts, and not ten descriptions. The ViT was trained on these
classes.

A few minutes on two cores; finished runs are kept. Writes claims.csv.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import workbench as wb
from tests.real_text import (
    BLURRED,
    PHOTOS,
    PROMPTS,
    SEEDS,
    TEST_PER_CLASS,
    TEXT,
    align,
    kept_features,
    kept_photographs,
    load_tower,
    load_vectors,
    ridge,
    tested_classes,
    without_mean_direction,
)
from workbench.backbones.weights import file_sha256
from workbench.methods import Encoded, Method
from workbench.runs import read_tensors

VARIANTS: dict[str, dict[str, Any]] = {
    "K = 1, no prior (linear probe with sentences)": {"candidates": 1, "tau": 0.0},
    "K = 1 (coarse)": {"candidates": 1},
    "K = 5, uniform weights": {"candidates": 5, "weighting": "uniform"},
    "K = 5": {"candidates": 5},
    "K = 10": {"candidates": 10},
    "K = all": {"candidates": None},
}


class StoredSentences:
    """The two vectors of each class under made-up sentences, in place of a text tower."""

    names_only = False
    logit_scale = 100.0

    def __init__(self, names: Sequence[str]) -> None:
        styles = {prompt: without_mean_direction(load_vectors(prompt, names).vectors).float() for prompt in PROMPTS}
        self.styles = styles  # prompt -> (1000, 512)
        self.width = styles[PROMPTS[0]].shape[1]
        classes = tested_classes()
        self.texts = {name: [f"{name}, {prompt}" for prompt in PROMPTS] for name in names}
        self.vectors = {
            f"{name}, {prompt}": styles[prompt][place]
            for name, place in zip(names, classes, strict=True)
            for prompt in PROMPTS
        }

    def encode(self, sentences: Sequence[str]) -> Tensor:
        return torch.stack([self.vectors[sentence] for sentence in sentences])

    def spec(self) -> dict[str, Any]:
        return {"vectors": str(TEXT), "sha256": file_sha256(TEXT)}


def build(classes: wb.Classes, text: StoredSentences, projection: Tensor, seed: int) -> Method:
    return wb.create_method(
        "hlc", align(load_tower(), projection), classes, text=text, texts=text.texts, corpus=text.texts, seed=seed,
        visual="none", descriptions=len(PROMPTS), corpus_templates=None, templates="descriptions",
    )  # fmt: skip


def reclassified(method: Method, features: wb.Features, options: dict[str, Any]) -> wb.Features:
    """The same features, classified with other options of testing."""
    kept, method.config = method.config, replace(method.config, **options)
    with torch.inference_mode():
        output = method.eval().classify(Encoded(torch.from_numpy(np.array(features.vectors))))
    method.config = kept
    return replace(
        features,
        logits=output.logits.numpy().astype(np.float16),
        predicted=output.logits.argmax(1).numpy(),
        confidence=output.logits.softmax(1).amax(1).numpy(),
        extras={},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/real_hlc"))
    out = parser.parse_args().out
    where = out / "data" / "tiny_imagenet_lt100.toml"
    if not where.exists():
        wb.import_dataset(PHOTOS / "manifest.csv", where.stem, splits={"val": "test"}, val=5, out=where.parent)
    manifest = wb.Manifest.load(where)
    train, val = (wb.LongTailDataset(manifest, split, root=PHOTOS) for split in ("train", "val"))
    test = wb.LongTailDataset(manifest, "test", root=PHOTOS, per_class=TEST_PER_CLASS)
    text = StoredSentences(manifest.classes.names)
    rest = [i for i in range(1000) if i not in set(tested_classes().tolist())]
    x = without_mean_direction(torch.from_numpy(kept_photographs(out, BLURRED))[rest])
    targets = torch.cat([text.styles[prompt][rest].double() for prompt in PROMPTS])
    projection = ridge(torch.cat([x] * len(PROMPTS)), targets).T.float()  # (512, D)

    measured: dict[str, list[wb.Features]] = {name: [] for name in ("nothing trained", *VARIANTS)}
    untrained = build(manifest.classes, text, projection, 0)
    seen = kept_features(out / "features" / "test.npz", lambda: wb.extract(untrained.eval(), test, views="centre"))
    measured["nothing trained"].append(reclassified(untrained, seen, {"candidates": None}))
    for seed in range(SEEDS):
        method = build(manifest.classes, text, projection, seed)
        stages = [replace(stage, cached=True) for stage in method.stages(manifest)]
        run = wb.fit(method, train, val, out=out / f"seed{seed}", seed=seed, stages=stages, existing="continue")
        method.load_state(read_tensors(run.weights_path)[0])
        for name, options in VARIANTS.items():
            measured[name].append(reclassified(method, seen, options))
        weights = method.description_weights.mean(0).tolist()
        print(
            f"seed {seed}: mean weights {dict(zip(PROMPTS, (round(w, 3) for w in weights), strict=True))}", flush=True
        )
    print(f"\n| mean of {SEEDS} seeds, % | all | many | medium | few |\n| --- " + "| ---: " * 4 + "|")
    for name, features in measured.items():
        accuracy = wb.group_report(features).accuracy
        print(f"| {name} | " + " | ".join(f"{100 * accuracy[g]:.1f}" for g in ("all", "many", "medium", "few")) + " |")
    for first, second in (("K = 5", "K = 1 (coarse)"), ("K = 5", "K = 5, uniform weights"), ("K = 5", "K = all")):
        print(f"\n{first} minus {second}")
        print(wb.group_report(measured[first], compare=measured[second], names=(first, second)))


if __name__ == "__main__":
    main()
