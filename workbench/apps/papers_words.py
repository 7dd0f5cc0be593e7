"""What `papers` says in words: of an entry what it is and needs, of cards how they were made and what came out."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import Any

from workbench.papers import Experiment, ParityCard
from workbench.papers.availability import Standing
from workbench.papers.rendering import counted


def searched(entry: Experiment) -> str:
    """What the search looks through."""
    words: list[Any] = [entry.id, entry.title, *(f"{arm.name} {arm.method}" for arm in entry.arms)]
    return " ".join(words).lower()


def summary(cards: list[ParityCard]) -> str:
    """How many cards there are, and their verdicts."""
    found: Counter[str] = Counter()
    for each in cards:
        found.update(each.verdicts())
    said = counted(found)
    return f"{len(cards)} with a card in the package" + (f" ({said})" if said else "")


def made_how(made: ParityCard) -> str:
    """HTML: data, tower, seeds, machine and command of a card."""
    seeds = f"{len(made.seeds)} seed{'s' if len(made.seeds) > 1 else ''}"
    return escape(
        f"{made.data}, {', '.join(made.backbones)}, {seeds}, groups {made.rule}, {made.hardware}: {made.command}"
    )


def about(found: Standing) -> str:
    """HTML: what an entry is, what it needs, and what is known to differ."""
    entry = found.experiment
    arms = f"{len(entry.arms)} arm{'s' * (len(entry.arms) > 1)}, {len(found.toybox)} of them in the toybox world"
    only = f"; {len(entry.reported_only)} rows are reported only" if entry.reported_only else ""
    parts = [
        f"<b>{escape(entry.id)}</b> {escape(entry.title)}",
        escape(f"{arms}{only}. The paper: {', '.join(entry.datasets) or 'no numbers'}; {entry.backbone}."),
    ]
    missing = {**found.toybox_missing, **found.data_missing, **found.tests_missing, **found.weights_missing}
    for title, lines in (
        ("Missing here", [f"{name}: {why}" for name, why in missing.items()]),
        ("Known deviations", list(entry.deviations)),
    ):
        if lines:
            items = "".join(f"<li>{escape(line)}</li>" for line in lines)
            parts.append(f"<details><summary>{title} ({len(lines)})</summary><ul>{items}</ul></details>")
    return "".join(f"<div>{part}</div>" for part in parts)
