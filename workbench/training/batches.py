"""What a step sees: which images an epoch draws, loading them, and features computed once for a cached stage."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from workbench.data import SAMPLERS, LongTailDataset
from workbench.methods import Encoded, Method, Stage

EVALUATION_BATCH = 64

Draw = tuple[int, int]  # image index, and how often the epoch drew it before
OnEncode = Callable[[int, dict[str, float]], None]  # batch number, {"done": images so far, "total": N}
Batch = tuple[Tensor, Tensor]  # inputs: images (B, 3, H, W) or features (B, D); labels (B,) int64


@dataclass(frozen=True)
class Encodings:
    """Features of a whole data set. features: (N, D) on the method's device; labels: (N,) int64."""

    features: Tensor
    labels: Tensor


def epoch_draws(stage: Stage, labels: np.ndarray, *, seed: int, stage_index: int, epoch: int) -> list[list[list[Draw]]]:
    """What one epoch draws: per sampler, batches of (image index, how often it was drawn before in this epoch).

    Every sampler draws as many images as the training set has; the second number gives repeated images of a balanced
    sampler different augmentations.
    """
    found = []
    for number, name in enumerate(stage.samplers):
        generator = np.random.default_rng([seed, stage_index, number, epoch])
        order = np.empty(0, dtype=np.int64)
        progress = epoch / stage.epochs
        while len(order) < len(labels):
            order = np.concatenate([order, SAMPLERS[name](labels, generator=generator, progress=progress)])
        order = order[: len(labels)]
        draws = list(zip(order.tolist(), _occurrences(order).tolist(), strict=True))
        found.append([draws[i : i + stage.batch_size] for i in range(0, len(draws), stage.batch_size)])
    return found


def _occurrences(order: np.ndarray) -> np.ndarray:
    """(N,) how often each entry stood earlier in `order`."""
    rank = np.argsort(order, kind="stable")
    ordered = order[rank]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    within = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    found = np.empty(len(order), dtype=np.int64)
    found[rank] = within
    return found


def draw_batches(
    train: LongTailDataset,
    cached: Encodings | None,
    draws: list[list[list[Draw]]],
    *,
    device: torch.device,
    workers: int,
) -> Iterator[list[Batch]]:
    """For each step one batch per sampler, on `device`: images of `train`, or rows of `cached`."""
    if cached is not None:
        for batches in zip(*draws, strict=True):
            rows = [torch.tensor([index for index, _ in batch], device=device) for batch in batches]
            yield [(cached.features[row], cached.labels[row]) for row in rows]
        return
    loaders = [
        DataLoader(
            train,
            batch_sampler=sampler,
            num_workers=workers,
            worker_init_fn=_ignore_interrupts,
            pin_memory=device.type == "cuda",
            generator=torch.Generator().manual_seed(0),
        )
        for sampler in draws
    ]
    for batches in zip(*loaders, strict=True):
        yield [(x.to(device, non_blocking=True), y.to(device, non_blocking=True)) for x, y in batches]


def _images(dataset: LongTailDataset, workers: int) -> Iterator[Tensor]:
    loader = DataLoader(
        dataset,
        batch_size=EVALUATION_BATCH,
        num_workers=workers,
        worker_init_fn=_ignore_interrupts,
        generator=torch.Generator().manual_seed(0),
    )
    for images, _ in loader:
        yield images


def encode_all(method: Method, dataset: LongTailDataset, *, workers: int, on_step: OnEncode) -> Encodings:
    """Encode a data set for a stage in which nothing before the head moves."""
    parts, done = [], 0
    method.eval()
    for step, images in enumerate(_images(dataset, workers)):
        with torch.inference_mode():
            encoded = method.encode(images.to(method.device))
        if encoded.extras:
            raise ValueError(f"A cached stage holds features only, but {method.name} also encodes extras.")
        parts.append(encoded.features)
        done += len(images)
        on_step(step, {"done": done, "total": len(dataset)})
    # cloned outside inference mode, so that autograd may save them
    return Encodings(torch.cat(parts).clone(), torch.tensor(dataset.labels, device=method.device))


def predict(method: Method, dataset: LongTailDataset, cached: Encodings | None, *, workers: int) -> np.ndarray:
    """(N,) int64, the method's decisions on one view of each image."""
    method.eval()
    with torch.inference_mode():
        if cached is not None:
            decided = method.classify(Encoded(cached.features)).logits.argmax(1)
        else:
            logits = [method(images.to(method.device)).logits for images in _images(dataset, workers)]
            decided = torch.cat(logits).argmax(1)
    return decided.cpu().numpy()


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal; only the trainer answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
