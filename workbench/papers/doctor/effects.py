"""What is known of the effect of a difference between two runs, with the source that states it (effects.toml)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from workbench.papers.experiment import reported_rows

SIZES = {  # key -> (what is printed, points that it stands for in the order of findings)
    "large": ("several points or more", 5.0),
    "medium": ("about a point or two", 1.5),
    "small": ("below a point", 0.4),
    "noise": ("no cause", 0.0),
}


@dataclass(frozen=True)
class Effect:
    """Of one kind of difference, between two given values."""

    title: str
    size: str  # key of SIZES
    points: float  # the largest reported difference over all classes, or what the size stands for
    said: str


def effect_of(aspect: str, one: str, other: str, method: str = "") -> Effect:
    """The effect of having `other` instead of `one`, with the numbers of the papers that print both.

    aspect: a key of effects.toml; one of its tables speaks for `method`, or for all where it names none.
    """
    record = _records()[aspect]
    size, said, reported = record["size"], [], []
    for table in record.get("tables", ()):
        rows = table["rows"]
        if one in rows and other in rows and method in table.get("methods", (method,)):
            differences = _differences(table["entry"], rows[one], rows[other])
            reported += [abs(values["all"]) for values in differences.values()]
            said.append(f"{other} instead of {one}: {_told(differences)} ({_printed(table['entry'])}).")
    for example in record.get("examples", ()) if not reported else ():
        differences = _differences(example["entry"], *example["rows"], datasets=example.get("datasets"))
        label = example["label"]
        said.append(f"{label[0].upper()}{label[1:]}: {_told(differences)} ({_printed(example['entry'])}).")
    said += [record["said"]] if record["said"] else []
    points = SIZES[size][1]
    if reported:
        points = max(reported)
        size = "large" if points >= 3 else "medium" if points >= 1 else "small"
    return Effect(record["title"], size, points, " ".join(said) or "No reported size is known for these two values.")


def aspects() -> tuple[str, ...]:
    """Every kind of difference that is told apart."""
    return tuple(_records())


def _differences(entry: str, one: str, other: str, *, datasets: Any = None) -> dict[str, dict[str, float]]:
    """Data set -> measure -> other minus one, in points. datasets: (of one, of the other) where they are not the same
    set: then the second names the difference."""
    first, second = reported_rows()[entry][one], reported_rows()[entry][other]
    pairs = {datasets[1]: (first[datasets[0]], second[datasets[1]])} if datasets else dict(_pairs(first, second))
    return {
        data: {name: there[name] - here[name] for name in ("all", "few") if name in here and name in there}
        for data, (here, there) in pairs.items()
    }


def _pairs(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for data in first:
        if "all" in first[data] and "all" in second.get(data, {}):
            yield data, (first[data], second[data])


def _told(differences: Mapping[str, Mapping[str, float]]) -> str:
    """ "ImageNet-LT +6.5 (few +31.3), Places-LT +10.1 (few +26.4) points" """
    words = []
    for data, values in differences.items():
        few = f" (few {values['few']:+.1f})" if "few" in values else ""
        words.append(f"{_named(data)} {values['all']:+.1f}{few}")
    return ", ".join(words) + " points"


def _named(data: str) -> str:
    names = {"imagenet-lt": "ImageNet-LT", "places-lt": "Places-LT", "inaturalist-2018": "iNaturalist 2018"}
    return names.get(data, data.upper().replace("CIFAR100", "CIFAR-100").replace("-IR", ", ratio "))


def _printed(entry: str) -> str:
    """ "lift:T16" -> "LIFT Table 16" """
    paper, _, place = entry.partition(":")
    return f"{paper.upper()} {'Table' if place[0] == 'T' else 'Figure'} {place[1:]}"


@cache
def _records() -> dict[str, Any]:
    return tomllib.loads(files(__package__).joinpath("effects.toml").read_text(encoding="utf-8"))
