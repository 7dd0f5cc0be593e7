"""What timing the handlers of apps takes: messages packed as a kernel packs them, features and files of any size."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from comm.base_comm import BaseComm
from jupyter_client.session import Session
from PIL import Image

import workbench as wb
from workbench.data import Classes
from workbench.data.manifest import Manifest, Split
from workbench.heads import LinearHead

Row = tuple[str, str, str, float]  # app, handler, size, milliseconds
REPEATS = 7
WIDTH, CLASSES = 512, 100
CLOCK = time.thread_time if os.environ.get("LATENCY_CLOCK") == "cpu" else time.perf_counter


class Packed(BaseComm):
    """A comm whose messages are packed and signed as a kernel does, and go nowhere."""

    session = Session(key=b"latency")

    def publish_msg(
        self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **keys: Any
    ) -> None:
        content = {"data": data or {}, "comm_id": self.comm_id, **keys}
        self.session.serialize(self.session.msg(msg_type, content, metadata=metadata))


def timed(
    act: Callable[[int], Any], settle: Callable[[], Any] = lambda: None, *, clock: Callable[[], float] = CLOCK
) -> float:
    """Milliseconds of act(0), act(1), ...: the median of `REPEATS` after a first one; settle() after each."""
    found = []
    for number in range(REPEATS + 1):
        start = clock()
        act(number)
        found.append(1000 * (clock() - start))
        settle()
    return statistics.median(found[1:])


def chosen(widget: Any, values: Iterable[Any]) -> Callable[[int], None]:
    """Sets a widget to one of the values after the other, none of which it has at first."""
    several = list(values)
    return lambda number: setattr(widget, "value", several[number % len(several)])


def picked(chart: Any, keys: Iterable[Any]) -> Callable[[int], None]:
    """Clicks on marks with these keys."""
    several = list(keys)
    return lambda n: setattr(chart, "picked", {"key": str(several[n % len(several)]), "n": n + 1})


def synthetic(images: int, *, seed: int = 0, split: str = "test", classes: int = CLASSES) -> tuple[wb.Features, Any]:
    """Features of a long tail (500 to 5 training images) and the linear head that gave their logits.

    Clusters in `WIDTH` dimensions, a head that leans to frequent classes: about three of four decisions are right.
    """
    fixed, rng = np.random.default_rng(99), np.random.default_rng(seed)
    counts = (500 * 0.01 ** (np.arange(classes) / (classes - 1))).astype(int)
    means = fixed.normal(size=(classes, WIDTH))
    labels = rng.permutation(np.arange(images) % classes)
    vectors = (means[labels] + 5.0 * rng.normal(size=(images, WIDTH))).astype(np.float32)
    head = LinearHead(WIDTH, classes, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(means / 25))
        head.bias.copy_(torch.from_numpy(np.log(counts) - (means**2).sum(1) / 50))
        logits = torch.cat([head(part)[0] for part in torch.from_numpy(vectors).split(4096)])
    sure, predicted = logits.softmax(1).max(1)
    names = tuple(f"class {c:03d} of a long tail" for c in range(classes))
    about = Classes(names, counts, taxonomy={"kind": np.arange(classes) % 10})
    features = wb.Features(
        vectors=vectors, logits=logits.numpy(), predicted=predicted.numpy(), confidence=sure.numpy(), labels=labels,
        ids=np.array([f"{split}/{c:03d}/{i:05d}.jpg" for i, c in enumerate(labels)]), classes=about,
        source={"manifest": "synthetic", "split": split, "seed": seed},
    )  # fmt: skip
    return features, SimpleNamespace(head=head)


def files(features: wb.Features, root: Path) -> wb.LongTailDataset:
    """A data set of these images: one photograph of 256 x 192 pixels, linked under every id."""
    split = features.source["split"]
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((256, 192), Image.Resampling.BICUBIC).save(root / "one.jpg", quality=90)
    for folder in {Path(name).parent for name in features.ids.tolist()}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in features.ids.tolist():
        os.link(root / "one.jpg", root / name)
    manifest = Manifest(
        name="linked", title="linked", licence="none", source="generated", kind="files",
        splits={split: Split(features.ids, features.labels)}, classes=features.classes,
    )  # fmt: skip
    return wb.LongTailDataset(manifest, split, root)
