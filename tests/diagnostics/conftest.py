"""Features with a long tail, made from random clusters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from workbench.data import Classes
from workbench.features import Features

COUNTS = (500, 300, 150, 101, 100, 60, 40, 20, 19, 10, 5, 2)


@pytest.fixture
def make_features() -> Callable[..., Features]:
    """make_features(seed, ...): clusters around class means; `skill` (C,) is the chance that a prediction is right."""

    def make(
        seed: int = 0,
        *,
        counts: tuple[int, ...] = COUNTS,
        images: int | tuple[int, ...] = 20,
        skill: np.ndarray | None = None,
        split: str = "test",
        width: int = 16,
    ) -> Features:
        rng = np.random.default_rng(seed)
        num_classes = len(counts)
        sizes = (images,) * num_classes if isinstance(images, int) else images
        labels = np.repeat(np.arange(num_classes), sizes)
        means = 2 * np.random.default_rng(99).normal(size=(num_classes, width))
        skill = np.linspace(0.9, 0.4, num_classes) if skill is None else skill
        right = rng.random(len(labels)) < skill[labels]
        predicted = np.where(right, labels, (labels + rng.integers(1, num_classes, len(labels))) % num_classes)
        return Features(
            vectors=(means[labels] + 1.5 * rng.normal(size=(len(labels), width))).astype(np.float32),
            logits=rng.normal(size=(len(labels), num_classes)).astype(np.float16),
            predicted=predicted,
            confidence=rng.random(len(labels)).astype(np.float32),
            labels=labels,
            ids=np.array([f"{split}/{i}.jpg" for i in range(len(labels))]),
            classes=Classes(tuple(f"class {c}" for c in range(num_classes)), np.array(counts)),
            source={"manifest": "clusters", "split": split, "seed": seed},
        )

    return make
