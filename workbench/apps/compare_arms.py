"""What the app `compare` is given: runs by name, as features of each seed on the same images; and papers' numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.diagnostics.arms import rows_of_images
from workbench.diagnostics.base import ROWS, same_classes
from workbench.features import Features
from workbench.runs import Run

Given = Features | Run | Sequence[Features | Run]


def arms_of(runs: Mapping[str, Given]) -> dict[str, list[Features]]:
    """Name -> features of each seed, all with the images in the order of the first.

    Raises:
        ValueError: nothing given, runs without saved test features, features of other images or classes.
    """
    if not runs:
        raise ValueError("Nothing to compare: give runs as name -> features, compare({'lift': features, ...}).")
    found: dict[str, list[Features]] = {}
    for name, given in runs.items():
        several = [given] if isinstance(given, Features | Run) else list(given)
        if not several:
            raise ValueError(f"{name!r} is an empty list; give one Features or Run per training seed.")
        found[str(name)] = [one if isinstance(one, Features) else _saved(str(name), one) for one in several]
    every = [one for several in found.values() for one in several]
    same_classes(every)
    for one in every:
        one.decisions  # noqa: B018 - raises where there are none
    ids = every[0].ids
    return {
        name: [one if np.array_equal(one.ids, ids) else one[rows_of_images(one, every[0])] for one in several]
        for name, several in found.items()
    }


def _saved(name: str, run: Run) -> Features:
    """The test features in a run's folder."""
    files = sorted((run.path / "features").glob("test*.npz"))
    if len(files) != 1:
        have = "no saved test features" if not files else f"several ({', '.join(file.name for file in files)})"
        raise ValueError(
            f"The run of {name!r} has {have}. Give the features themselves: wb.extract(run.method(), images), or "
            "wb.Features.load(path)."
        )
    return Features.load(files[0])


def published_ticks(published: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Marks of `chart.group_bars`: the papers' accuracies, short black ticks over the bars of their run."""
    marks, width = [], 0.8 / len(names)
    for number, name in enumerate(names):
        for place, group in enumerate(ROWS):
            if (value := published.get(name, {}).get(group)) is not None:
                at = place + (number - (len(names) - 1) / 2) * width
                title = f"published for {name}, {group}: {100 * value:.1f} %"
                marks.append({"kind": "tick", "x": at, "w": 0.9 * width, "y": 100 * value, "title": title})
    return marks
