"""What the diagnostics of methods that re-rank share: the candidate classes of each image, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from workbench.features import Features


def candidates_of(features: Features) -> np.ndarray:
    """(N, K) int64 class indices in falling order of the coarse logits, from `extras["candidates"]`.

    Raises:
        ValueError: features without candidates, or candidates that are no classes or appear twice in an image.
    """
    if "candidates" not in features.extras:
        raise ValueError(
            f"these features hold no candidates (extras: {', '.join(features.extras) or 'none'}); extract them with a "
            "method that re-ranks, such as hlc."
        )
    found, C = features.extras["candidates"], len(features.classes)
    if found.ndim != 2 or not found.shape[1] or found.dtype.kind not in "iu" or found.min() < 0 or found.max() >= C:
        raise ValueError(
            f"extras['candidates'] is {found.dtype} of shape {found.shape}; it must be (N, K) class indices, "
            f"0 to {C - 1}."
        )
    ordered = np.sort(found, 1)
    twice = int((ordered[:, 1:] == ordered[:, :-1]).any(1).sum())
    if twice:
        raise ValueError(f"{twice} images have a candidate twice; the K candidates of an image are different classes.")
    return found.astype(np.int64)
