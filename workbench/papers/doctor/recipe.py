"""Differences in the stages of two trainings, and in what is no cause: seeds, versions, the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .difference import Difference, Differences, compared
from .facts import Facts


def recipe_differences(one: Facts, other: Facts) -> Differences:
    stages = [facts.config["stages"] for facts in (one, other)]
    if not stages[0] or not stages[1]:
        if one.config["method"] == other.config["method"] and stages[0] != stages[1]:
            yield Difference("stages", *(_stages_text(each) for each in stages))
        return
    if len(stages[0]) != len(stages[1]):
        yield Difference("stages", *(_stages_text(each) for each in stages))
        return
    pairs = list(zip(*stages, strict=True))
    for aspect, text in _STAGE_FIELDS.items():
        found = [(a["name"], text(a), text(b)) for a, b in pairs if text(a) != text(b) and not _follows(aspect, a, b)]
        if found:
            yield Difference(_scaled(aspect, pairs), *_joined(found, several=len(pairs) > 1))
    precision = [", ".join(dict.fromkeys(_precision(f, stage) for stage in f.config["stages"])) for f in (one, other)]
    if precision[0] != precision[1]:
        yield Difference("precision", *precision)
    yield from compared("selection", one, other, _selection)


def _stages_text(stages: list[dict[str, Any]]) -> str:
    return ", ".join(f"{stage['name']} ({stage['epochs']} epochs)" for stage in stages) or "none"


def _optimiser(stage: dict[str, Any]) -> str:
    momentum = f", momentum {stage['momentum']:g}" if stage["optimiser"] == "sgd" else ""
    factors = "".join(f", lr of {prefix} x {factor:g}" for prefix, factor in stage["lr_factors"])
    return f"{stage['optimiser']}{momentum}{factors}"


def _schedule(stage: dict[str, Any]) -> str:
    warmup = f", {stage['warmup_epochs']} epochs of warm-up from {stage['warmup_lr']:g}"
    return stage["schedule"] + (warmup if stage["warmup_epochs"] else "")


def _step(stage: dict[str, Any]) -> str:
    batch = stage["batch_size"]
    return f"lr {stage['lr']:g}, batches of {batch} (lr / batch {stage['lr'] / batch:.3g})"


def _micro(stage: dict[str, Any]) -> str:
    micro = stage["micro_batch_size"]
    return "the whole batch" if micro in (None, stage["batch_size"]) else str(micro)


_STAGE_FIELDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "epochs": lambda stage: str(stage["epochs"]),
    "batch_lr": _step,
    "optimiser": _optimiser,
    "weight_decay": lambda stage: f"{stage['weight_decay']:g}",
    "schedule": _schedule,
    "samplers": lambda stage: " + ".join(stage["samplers"]),
    "trainable": lambda stage: ", ".join(stage["trainable"]),
    "drw": lambda stage: f"{stage['drw']:.0%} of the epochs" if stage["drw"] else "off",
    "gnm_radius": lambda stage: f"{stage['gnm_radius']:g}",
    "mixup": lambda stage: f"Beta({stage['mixup']:g}, {stage['mixup']:g})" if stage["mixup"] else "off",
    "accumulation": _micro,
}


def _follows(aspect: str, one: dict[str, Any], other: dict[str, Any]) -> bool:
    """A warm-up that kept its share of other epochs, as `Stage.shortened` does."""
    if aspect != "schedule" or (one["schedule"], one["warmup_lr"]) != (other["schedule"], other["warmup_lr"]):
        return False
    shorter, longer = sorted((one, other), key=lambda stage: stage["epochs"])
    share = round(longer["warmup_epochs"] * shorter["epochs"] / longer["epochs"])
    return bool(shorter["warmup_epochs"] == min(share, shorter["epochs"] - 1) and shorter["epochs"] < longer["epochs"])


def _scaled(aspect: str, pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    if aspect != "batch_lr":
        return aspect
    ratios = [(a["lr"] / a["batch_size"]) / (b["lr"] / b["batch_size"]) for a, b in pairs]
    return "batch_scaled" if np.allclose(ratios, 1, rtol=0.01) else aspect


def _joined(found: list[tuple[str, str, str]], several: bool) -> Iterator[str]:
    for place in (1, 2):
        yield "; ".join(f"{each[0]}: {each[place]}" if several else each[place] for each in found)


def _precision(facts: Facts, stage: dict[str, Any]) -> str:
    """amp is fp32 on a CPU."""
    return "mixed (amp)" if stage["precision"] == "amp" and facts.config["device"].startswith("cuda") else "fp32"


def _chosen_on(facts: Facts) -> str | None:
    """The split whose accuracy chose an epoch; None where the last was kept."""
    best = any(stage["select"] == "best" for stage in facts.config["stages"])
    return facts.config["val"]["split"] if best and facts.config["val"] is not None else None


def _selection(facts: Facts) -> str:
    split = _chosen_on(facts)
    return "the last" if split is None else f"the best on {split}"


# -- what is no cause --------------------------------------------------------------------------------------------------


def other_differences(one: Facts, other: Facts, told: set[str]) -> Differences:
    if "selection" not in told:
        yield from compared("validation", one, other, _validation)
    yield from compared("seeds", one, other, _seeds)
    records = [facts.config.get("provenance", {}) for facts in (one, other)]
    hardware = ("machine", "threads", "gpu")
    names = [name for name in records[0].keys() | records[1].keys() if records[0].get(name) != records[1].get(name)]
    for aspect, chosen in (
        ("versions", sorted(name for name in names if name not in hardware)),
        ("machine", [name for name in hardware if name in names]),
    ):
        if chosen:
            yield Difference(aspect, *(", ".join(f"{n} {record.get(n)}" for n in chosen) for record in records))


def _validation(facts: Facts) -> str:
    val = facts.config["val"]
    if val is None:
        return "none"
    return val["split"] + ("" if val["per_class"] is None else f", {val['per_class']} images per class")


def _seeds(facts: Facts) -> str:
    config = facts.config
    return f"method {config['seed']}, training {config['fit_seed']}, augmentation {config['train']['seed']}"
