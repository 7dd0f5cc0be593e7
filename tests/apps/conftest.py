"""Features of twelve classes for apps, with names that would do harm in HTML."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from workbench.data import Classes
from workbench.features import Features

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def make_features() -> Callable[..., Features]:
    """make_features(seed, images=, classes=, decisions=): clusters around class means, 70 % of decisions right."""

    def make(seed: int = 0, *, images: int = 8, classes: int = 12, decisions: bool = True) -> Features:
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(classes), images)
        means = 2 * np.random.default_rng(99).normal(size=(classes, 6))
        logits = rng.normal(size=(len(labels), classes))
        logits[np.arange(len(labels)), labels] += 2
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        counts = np.maximum(1, (400 * 0.01 ** (np.arange(classes) / max(classes - 1, 1))).astype(int))
        names = tuple(HOSTILE if c == 0 else f"class {c}" for c in range(classes))
        return Features(
            vectors=(means[labels] + rng.normal(size=(len(labels), 6))).astype(np.float32),
            logits=logits.astype(np.float16) if decisions else None,
            predicted=logits.argmax(1) if decisions else None,
            confidence=shares.max(1).astype(np.float32) if decisions else None,
            labels=labels,
            ids=np.array([f"test/{c}/{i}.jpg" for i, c in enumerate(labels)]),
            classes=Classes(names, counts),
            source={"manifest": "clusters", "split": "test", "seed": seed},
        )

    return make
