"""LPT's released files: the prompts, keys and classifier that the authors' code saved of phase 2, as `lpt` holds them.

Dong et al., "LPT: Long-tailed Prompt Tuning for Image Classification", ICLR 2023, arXiv 2210.01033; code DongSky/LPT.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

RELEASED = {  # tensors of the authors' phase-2 files, and their axes
    "Prompt_Tokens": ("blocks", "length", "width"),
    "Prompt_Tokens_pool": ("groups", "last blocks", "length", "width"),
    "Prompt_Keys": ("groups", "width"),
    "head.weight": ("width", "classes"),  # transposed against ours
}


def from_released(
    tensors: Mapping[str, Tensor], *, depth: int, width: int, num_classes: int
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """What the authors' code saved of phase 2 -> options of `lpt`, its `state` (float32), and the other tensors.

    No tensor tells k and the scale: they are the code's, 2 and 20. Nor does one tell the order of the classes, which is
    that of the lists that the authors trained with.

    Args:
        tensors: "state_dict" of the file, its names with or without "module." (of DataParallel) and "prompt_learner.".
            The others are those of the tower, in timm's names.
        depth, width: blocks and D of the tower, and
        num_classes: of the data set that they shall be used with.

    Raises:
        ValueError: tensors that are missing, that contradict each other, the tower or the data set, or not finite.
    """
    rest = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    inside = "prompt_learner." if any(name.startswith("prompt_learner.") for name in rest) else ""
    found = {name: rest.pop(inside + name) for name in RELEASED if inside + name in rest}
    wrong = [name for name, axes in RELEASED.items() if name not in found or found[name].ndim != len(axes)]
    if wrong:
        held = sorted(tensors, key=lambda name: "rompt" not in name)
        there = [f"{name} {tuple(tensors[name].shape)}" for name in held[:6]] + ["..."] * (len(held) > 6)
        needed = ", ".join(f"{name} ({', '.join(axes)})" for name, axes in RELEASED.items())
        raise ValueError(
            f"LPT's released files hold {needed}; {', '.join(wrong)} is missing or has other axes here. These "
            f"{len(held)} tensors are there: {', '.join(there) or 'none'}."
        )
    shared, pool, keys, head = found.values()
    (L, length, _), (m, last, group_length, _) = shared.shape, pool.shape
    widths = shared.shape[2], pool.shape[3], keys.shape[1], head.shape[0]
    problems = {
        f"prompts for {L} blocks, but the tower has {depth}": L != depth,
        f"prompts, group prompts, keys and head {widths} wide, but the tower {width}": set(widths) != {width},
        f"{length} prompts per block, but {group_length} per group and block": length != group_length,
        f"{m} groups, but {len(keys)} keys": m != len(keys),
        f"group prompts for the last {last} of {L} blocks": not 1 <= last <= L,
        f"{head.shape[1]} classes, but the data set has {num_classes}": head.shape[1] != num_classes,
        "values that are not finite": not all(bool(tensor.isfinite().all()) for tensor in found.values()),
    }
    if any(problems.values()):
        told = [text for text, holds in problems.items() if holds]
        raise ValueError(
            f"it has {'; '.join(told)}. Give the tower and the data set that these tensors were trained with."
        )
    options = {"phases": "both", "prompts": length, "groups": m, "shared_blocks": L - last}
    state = {"shared": shared, "pool": pool, "keys": keys, "head.weight": head.T}
    return options, {name: tensor.float().contiguous() for name, tensor in state.items()}, rest
