"""Run a trained method over a data set and keep what it saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader

from workbench.features.container import Features, keeps_logits
from workbench.versions import versions

if TYPE_CHECKING:
    from workbench.data import LongTailDataset
    from workbench.methods import Method

CENTRE = 4  # the central crop among torchvision's five, and among its ten, which are the five and their mirror images


def extract(
    method: Method,
    dataset: LongTailDataset,
    *,
    views: str | None = None,
    expand: int | None = None,
    layer: Literal["head", "backbone"] = "head",
    decisions: bool = True,
    batch_size: int = 64,
    workers: int = 0,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    run: str | None = None,
    weights_sha256: str | None = None,
) -> Features:
    """Features, decisions and logits of every image of a data set under the method's test transform.

    Args:
        method: a trained method, on the device where it shall run.
        dataset: any split; its own preprocessing is replaced by the method's.
        views: test-time ensemble: "centre", "five", "ten" or "random20" and the like; None takes the method's own
            (`test_views`). With several views the logits (log-probabilities where the method averages those) and the
            vectors are means over the views.
        expand: pixels by which "five" and "ten" widen the image before cropping; None is the method's own.
        layer: "head": what the head saw; "backbone": what the tower gives without adapters and prompts beside its
            blocks. What a method changes inside the tower (fine-tuned weights, LoRA, SSF, masks) acts in both.
        decisions: False keeps vectors and extras alone, of any data set: images of other classes than the method knows,
            such as those of its pretraining.
        batch_size: images per forward pass; several views count as several images.
        workers: image-loading processes.
        on_step: progress, called with the batch number and {"done": images so far, "total": N}.
        run, weights_sha256: where the trained method came from, kept in `source`.
    """
    if layer not in ("head", "backbone"):
        raise ValueError(f"layer={layer!r} is not known; choose head or backbone.")
    if decisions and dataset.classes.names != method.classes.names:
        raise ValueError(
            f"The method knows {len(method.classes)} classes and {dataset.manifest.name!r} has {len(dataset.classes)}, "
            "or they are named or ordered differently; extract needs a data set with the classes of the run, or "
            "decisions=False for vectors alone."
        )
    preprocessing = method.test_preprocessing(views, expand)
    dataset = dataset.with_preprocessing(preprocessing)
    loader = DataLoader(
        dataset,
        batch_size=max(1, batch_size // preprocessing.views),
        num_workers=workers,
        pin_memory=method.device.type == "cuda",
        generator=torch.Generator().manual_seed(0),
    )
    method.eval()
    parts: dict[str, list[np.ndarray]] = {}
    done = 0
    left_out = [] if keeps_logits(len(dataset), len(method.classes)) else ["logits"]
    if not decisions:
        left_out = ["logits", "predicted", "confidence"]
    for step, (images, _) in enumerate(loader):
        with torch.inference_mode():
            batch = _forward(method, images, layer)
        for name in left_out:
            del batch[name]
        for name, array in batch.items():
            parts.setdefault(name, []).append(array)
        done += len(images)
        if on_step is not None:
            on_step(step, {"done": done, "total": len(dataset)})
    whole = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return Features(
        vectors=whole.pop("vectors"),
        **{name: whole.pop(name, None) for name in ("logits", "predicted", "confidence")},
        labels=dataset.labels,
        ids=dataset.ids,
        classes=dataset.classes,
        extras={name.removeprefix("extras."): array for name, array in whole.items()},
        source=_source(method, dataset, layer) | {"run": run, "weights_sha256": weights_sha256},
    )


def _forward(method: Method, images: torch.Tensor, layer: str) -> dict[str, np.ndarray]:
    """images: (B, 3, H, W) or (B, V, 3, H, W) -> arrays of B rows."""
    B = len(images)
    flat = images.flatten(0, 1) if images.ndim == 5 else images  # (B*V, 3, H, W)
    flat = flat.to(method.device, non_blocking=True)
    output = method(flat)
    vectors = output.features if layer == "head" else method.backbone.encode(flat)
    if output.extras and images.ndim == 5:
        # matched prompts or candidates of different crops have no mean
        centre = CENTRE if images.shape[1] > CENTRE else 0
        extras = {name: value.unflatten(0, (B, -1))[:, centre] for name, value in output.extras.items()}
    else:
        extras = output.extras
    logits = method.ensemble(output.logits.unflatten(0, (B, -1)))  # (B, C)
    confidence, predicted = logits.softmax(-1).max(-1)
    found = {
        "vectors": vectors.float().unflatten(0, (B, -1)).mean(1),  # (B, D)
        "logits": logits.half(),
        "confidence": confidence,
        "predicted": predicted,
        **{f"extras.{name}": value for name, value in extras.items()},
    }
    return {name: tensor.cpu().numpy() for name, tensor in found.items()}


def _source(method: Method, dataset: LongTailDataset, layer: str) -> dict[str, Any]:
    spec = dataset.spec()
    return {
        "method": method.name,
        "options": method.options,
        "seed": method.seed,
        "backbone": method.backbone.spec(),
        "layer": layer,
        "manifest": spec["manifest"],
        "manifest_sha256": spec["manifest_sha256"],
        "split": spec["split"],
        "per_class": spec["per_class"],
        "preprocessing": spec["preprocessing"],
        "versions": versions(),
    }
