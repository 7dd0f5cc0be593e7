"""What the inspector of descriptions shows: sets of images, bars of candidates, and what edits change in all."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import metrics
from workbench.diagnostics.base import GROUP_COLOURS, ROWS, plain
from workbench.features import Features

from .chart import Mark, axis
from .style import MARKS, state

if TYPE_CHECKING:
    from workbench.data import Classes
    from workbench.methods.description_edits import EditedDescriptions

SETS = (
    "set right by descriptions", "broken by descriptions", "wrong, truth among candidates", "truth is no candidate",
    "changed by the edits", "all images",
)  # fmt: skip
BARS = 8  # candidates drawn
ALIKE = 0.98  # share of equal decisions from which features are taken for the method's; rounding moves a few


def check_inputs(method: Any, features: Any) -> None:
    """ValueError for what the inspector cannot show."""
    if not isinstance(features, Features):
        raise ValueError(
            f"features is a {type(features).__name__}; give Features: descriptions(method, wb.extract(method, images))."
        )
    if not hasattr(method, "description_weights"):
        name = getattr(method, "name", type(method).__name__)
        raise ValueError(f"{name} has no weighted descriptions to look into; give a method that re-ranks by them: hlc.")
    if tuple(method.classes.names) != tuple(features.classes.names):
        raise ValueError(
            f"The method knows {len(method.classes)} classes and the features have {len(features.classes)}, or their "
            "names or order differ; extract the features with this method."
        )


def unlike(edits: EditedDescriptions, features: Features) -> str:
    """HTML that warns where the features hold other decisions than the method makes; empty where they do not."""
    same = 1.0 if features.predicted is None else float((edits.first.numpy() == features.predicted).mean())
    if same >= ALIKE:
        return ""
    return state(
        f"The method decides as these features say for {100 * same:.0f} % of the images only: they come from another "
        "run, or from several views of each image."
    )


def in_set(which: str, edits: EditedDescriptions, labels: np.ndarray) -> np.ndarray:
    """(N,) bool: images of one of SETS; decisions are those with the edits."""
    coarse, now = edits.candidates[:, 0].numpy(), edits.decisions.numpy()
    if which == SETS[0]:
        return (coarse != labels) & (now == labels)
    if which == SETS[1]:
        return (coarse == labels) & (now != labels)
    known = (edits.candidates.numpy() == labels[:, None]).any(axis=1)
    if which == SETS[2]:
        return (now != labels) & known
    if which == SETS[3]:
        return ~known
    return now != edits.first.numpy() if which == SETS[4] else np.ones(len(labels), dtype=bool)


def sentences_of(method: Any, texts: Mapping[str, Sequence[str]]) -> tuple[list[list[str]], str]:
    """Sentences of each class as the method has them, and HTML that says so where they are not known."""
    numbers = method.described.sum(1).tolist()
    given = [list(texts.get(name, ()))[: method.described.shape[1]] for name in method.classes.names]
    if [len(lines) for lines in given] == numbers:
        return given, ""
    what = "No sentences were given" if not texts else "The sentences are others than those that the method was made of"
    made = [[f"description {number}" for number in range(many)] for many in numbers]
    return made, state(
        f"{what}, so descriptions are numbered. Pass texts=, class name to sentences, as given to create_method.",
        kind="missing",
    )


def candidate_bars(edits: EditedDescriptions, row: int, label: int, classes: Classes) -> dict[str, Any]:
    """Keywords of `Chart.show`: of each candidate its probability before (pale) and after the descriptions."""
    coarse, ranked = (100 * p for p in edits.probabilities(row))
    candidates, decided = edits.candidates[row].tolist(), int(edits.decisions[row])
    shown = candidates[:BARS]
    if decided not in shown:
        shown[-1] = decided
    if label in candidates and label not in shown:
        shown[-2] = label
    marks: list[Mark] = []
    ticks, said = [], []
    for place, c in enumerate(shown):
        name, colour = classes.names[c], GROUP_COLOURS[classes.groups[c]]
        before, after = float(coarse[c]), float(ranked[c])
        sign = ", ".join(filter(None, ["decision" * (c == decided), f"true {MARKS[True]}" * (c == label)]))
        short = "\n".join(textwrap.wrap(plain(name, 24), 13)[:2] or [" "])
        title = f"{name}: {before:.1f} % of the coarse classifier, {after:.1f} % with descriptions {sign}".strip()
        style = {"w": 0.36, "colour": colour, "title": title, "key": str(c)}
        marks.append({"kind": "bar", "x": place - 0.2, "y": before, "opacity": 0.25, **style})
        marks.append({"kind": "bar", "x": place + 0.2, "y": after, **style})
        ticks.append((place, f"{short}\n{sign}"))
        said.append(title)
    more = f" ({len(candidates) - len(shown)} more candidates)" if len(candidates) > len(shown) else ""
    top = max(5.0, *(mark["y"] for mark in marks)) * 1.05
    return {
        "marks": marks, "x": axis(-0.5, len(shown) - 0.5, "\N{NO-BREAK SPACE}", ticks=ticks),
        "y": axis(0, top, "probability (%)"), "alt": "; ".join(said) + more, "height": 210,
    }  # fmt: skip


def effect(edits: EditedDescriptions, features: Features) -> str:
    """HTML: decisions, accuracies and McNemar's test, with the edits against without."""
    if not edits.edited:
        return state("No edits: silence a description, change its weight, or rewrite it.")
    first, now = edits.first.numpy(), edits.decisions.numpy()
    groups = np.asarray(features.classes.groups)
    test = metrics.mcnemar(now, first, features.labels, groups)
    was, got = (metrics.group_accuracy(decided, features.labels, groups) for decided in (first, now))
    changed = int((first != now).sum())
    said = (
        f"{changed} of {len(now)} decisions are others: {test.first_only} set right, {test.second_only} broken, "
        f"{changed - test.first_only - test.second_only} wrong as before. McNemar p = {test.p:.2g} (these images; you "
        "chose the edits by looking at them, so check with others)"
    )
    cells = []
    for name, values in (("trained", was), ("with the edits", got)):
        numbers = "".join(f"<td>{'n/a' if np.isnan(values[g]) else f'{100 * values[g]:.1f}'}</td>" for g in ROWS)
        cells.append(f"<tr><td>{name}</td>{numbers}</tr>")
    head = "".join(f'<th style="color:{GROUP_COLOURS.get(g, "inherit")}">{g}</th>' for g in ROWS)
    return f"{said}<table><tr><th>accuracy (%)</th>{head}</tr>{''.join(cells)}</table>"
