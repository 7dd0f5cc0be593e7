"""The three numbers that the toybox world was fixed by: `python -m tests.toybox_calibration`.

They name no method of the papers: zero-shot accuracy, and linear probes (scikit-learn's logistic regression on features
of the frozen towers, test transform) on balanced data and on `toybox_lt`. Prints the table of the model card.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import workbench as wb
from workbench.backbones import joint_embeddings
from workbench.data import evaluation_preprocessing, toybox_lt
from workbench.metrics import group_accuracy

TOWERS = ("toybox_vit", "toybox_clip")
PROBE = {"C": 0.1, "max_iter": 2000}  # on standardised features
BOUNDS = {"zero-shot": (25, 50), "balanced linear probe": (60, 95), "many minus few": (15, 100)}  # percent


@cache
def encoded(tower: str, dataset: wb.LongTailDataset) -> np.ndarray:
    backbone = wb.load_backbone(tower)
    mean, std = backbone.normalisation
    size = backbone.input_size
    return backbone.encode_dataset(
        dataset.with_preprocessing(evaluation_preprocessing(size, resize=size, mean=mean, std=std))
    )


def probe(tower: str, train: wb.LongTailDataset, test: wb.LongTailDataset, groups: np.ndarray) -> dict[str, float]:
    """Accuracies in [0, 1] of a linear probe with cross entropy."""
    scaler = StandardScaler().fit(known := encoded(tower, train))
    model = LogisticRegression(**PROBE).fit(scaler.transform(known), train.labels)
    predicted = model.predict(scaler.transform(encoded(tower, test)))
    return group_accuracy(predicted, test.labels, groups)


def zero_shot(test: wb.LongTailDataset, groups: np.ndarray, templates: str) -> dict[str, float]:
    backbone, text = wb.load_backbone("toybox_clip"), wb.load_text_tower("toybox_clip")
    rows = joint_embeddings(backbone, text, test.classes.names, templates=templates)
    features = torch.from_numpy(encoded("toybox_clip", test))
    with torch.no_grad():
        predicted = (backbone.project(features) @ rows.T).argmax(1).numpy()
    return group_accuracy(predicted, test.labels, groups)


def main() -> None:
    manifest = wb.Manifest.load("toybox_lt")
    groups = manifest.classes.groups
    train, test = (wb.LongTailDataset(manifest, split) for split in ("train", "test"))
    balanced = wb.LongTailDataset(toybox_lt(largest=100, ratio=1), "train")
    rows = {f"zero-shot, templates={name}": zero_shot(test, groups, name) for name in ("single", "toybox")}
    for tower in TOWERS:
        rows[f"linear probe, balanced (100 a class), {tower}"] = probe(tower, balanced, test, groups)
        rows[f"linear probe, toybox_lt, {tower}"] = probe(tower, train, test, groups)
    print("| test accuracy, % | all | many | medium | few |\n| --- | ---: | ---: | ---: | ---: |")
    for name, found in rows.items():
        print(f"| {name} | " + " | ".join(f"{100 * found[g]:.1f}" for g in ("all", "many", "medium", "few")) + " |")
    last = rows["linear probe, toybox_lt, toybox_clip"]
    measured = {
        "zero-shot": rows["zero-shot, templates=single"]["all"],
        "balanced linear probe": rows["linear probe, balanced (100 a class), toybox_clip"]["all"],
        "many minus few": last["many"] - last["few"],
    }
    for name, (low, high) in BOUNDS.items():
        inside = low <= 100 * measured[name] <= high
        print(f"{name}: {100 * measured[name]:.1f}, wanted {low} to {high}: {'yes' if inside else 'NO'}")
    for tower in TOWERS:
        print(tower, wb.load_backbone(tower).weights.sha256)
    print("manifest", manifest.sha256)


if __name__ == "__main__":
    main()
