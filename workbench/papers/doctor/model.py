"""Differences in what is trained and tested: method, towers and their weights, options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .difference import Difference, Differences, compared
from .facts import Facts

_TEMPLATES = ("templates", "describe", "corpus_templates")
_ENSEMBLE = ("views", "expand", "ensemble_resize", "ensemble_mean")  # told as the test ensemble
_TRANSFORM = ("augment", "transforms")  # options that choose the training transform
_STAGE_OF = {"sampler": "samplers", "radius": "gnm_radius"}  # options that set a field of a stage of another name
_NAMED = ("loss", "initialisation", "head", "scale", "tuner")  # options with an aspect of their own


def model_differences(one: Facts, other: Facts) -> Differences:
    yield from compared("method", one, other, lambda facts: facts.config["method"])
    yield from compared("imported", one, other, _imported)
    towers = [facts.config["backbone"] for facts in (one, other)]
    architectures = [tower["name"].partition(".")[0] for tower in towers]
    plain = [name.replace("_quickgelu", "") for name in architectures]
    if plain[0] != plain[1]:
        yield Difference("backbone", *(_tower_text(tower) for tower in towers))
    else:
        if architectures[0] != architectures[1]:
            texts = ("QuickGELU" if "quickgelu" in name else "exact GELU" for name in architectures)
            yield Difference("activation", *texts)
        if _weights(towers[0]) != _weights(towers[1]):
            yield Difference("weights", *(_tower_text(tower) for tower in towers))
    sizes = [tower["input_size"] for tower in towers]
    if sizes[0] != sizes[1]:
        yield Difference("input_size", *(f"{size} px" for size in sizes))
    yield from _text_towers(one, other)


def _text_towers(one: Facts, other: Facts) -> Differences:
    texts = [facts.config["text"] for facts in (one, other)]
    starts = [facts.config["options"].get("initialisation") for facts in (one, other)]
    if None in texts and starts[0] != starts[1]:  # a classifier that starts otherwise asked no text tower
        return
    known = [None if text is None else _weights(text) for text in texts]
    if known[0] != known[1]:
        yield Difference("text_tower", *("none" if text is None else _tower_text(text) for text in texts))


def _imported(facts: Facts) -> str:
    imported = facts.config.get("imported")
    return "trained here" if imported is None else f"a file, sha256 {imported['sha256'][:16]}"


def _weights(tower: dict[str, Any]) -> Any:
    """What tells weights apart, wherever their file lies."""
    if tower.get("weights") == "random":
        return "random", tower.get("seed")
    return tower.get("sha256") or str(tower["name"]).partition(".")[2]


def _tower_text(tower: dict[str, Any]) -> str:
    if tower.get("weights") == "random":
        return f"{tower['name']}, random weights of seed {tower.get('seed')}"
    name, digest = tower.get("name") or Path(tower["file"]).name, tower.get("sha256")  # of class vectors: the file
    return name + (f", sha256 {digest[:16]}" if digest else "")


def option_differences(one: Facts, other: Facts, told: set[str]) -> Differences:
    first, second = one.config["options"], other.config["options"]
    for name in sorted(first.keys() | second.keys()):
        if name in _ENSEMBLE or _STAGE_OF.get(name, name) in told or (name in _TRANSFORM and "train_transform" in told):
            continue
        values = [options.get(name) for options in (first, second)]
        if name == "templates":
            values = ["single" if value is None else value for value in values]
        if values[0] == values[1]:
            continue
        texts = [_value(value) for value in values]
        if name in _TEMPLATES:
            yield Difference("templates", *texts)
        elif name in _NAMED:
            yield Difference(name, *texts)
        else:
            yield Difference("option", texts[0], texts[1], name=name)


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
