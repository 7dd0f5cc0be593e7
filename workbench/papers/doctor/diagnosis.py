"""What two runs do differently, ordered by what it is likely to do to their numbers."""

from __future__ import annotations

import html
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.runs import Run

from .data import data_differences
from .difference import Difference, Differences
from .effects import SIZES, effect_of
from .facts import Facts, read_facts
from .model import model_differences, option_differences
from .recipe import other_differences, recipe_differences
from .transforms import test_differences, transform_differences

if TYPE_CHECKING:
    import pandas as pd

_WIDTH = 110  # columns of the printed text
_HEAD = "| | one | other | likely effect | what is known of it |\n| --- | --- | --- | --- | --- |"


@dataclass(frozen=True)
class Finding:
    """One difference and its likely effect."""

    what: str  # "loss", "test resize", "option bottleneck"
    one: str  # what the first run has
    other: str
    effect: str  # what is known of it, with the source
    size: str  # "large" | "medium" | "small" | "noise"
    points: float  # of accuracy: the largest reported difference, or what the size stands for


@dataclass(frozen=True)
class Diagnosis:
    """All differences between two runs, the likeliest cause first; also a table in notebooks and by `to_frame`."""

    one: str  # the run folders
    other: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]  # what could not be compared, and whether the trained weights are the same

    def to_frame(self) -> pd.DataFrame:
        """One row per finding: what, one, other, size, points, effect."""
        import pandas as pd

        columns = ["what", "one", "other", "size", "points", "effect"]
        return pd.DataFrame([{name: getattr(f, name) for name in columns} for f in self.findings], columns=columns)

    def __str__(self) -> str:
        parts = [f"{self._headline(_plain(self.one), _plain(self.other))}"]
        for number, finding in enumerate(self.findings, start=1):
            head = f"{number}. {_plain(finding.what)} ({SIZES[finding.size][0]})"
            lines = [f"one: {_plain(finding.one)}", f"other: {_plain(finding.other)}", _plain(finding.effect)]
            parts.append("\n".join([head, *(_wrapped(line) for line in lines)]))
        parts += [textwrap.fill(f"Note: {_plain(note)}", _WIDTH) for note in self.notes]
        return "\n\n".join(parts)

    def _repr_markdown_(self) -> str:
        parts = [self._headline(_markdown(self.one), _markdown(self.other))]
        if self.findings:
            rows = [
                f"| **{_markdown(f.what)}** | {_markdown(f.one)} | {_markdown(f.other)} | {SIZES[f.size][0]} | "
                f"{_markdown(f.effect)} |"
                for f in self.findings
            ]
            parts.append("\n".join([_HEAD, *rows]))
        return "\n\n".join([*parts, *(f"Note: {_markdown(note)}" for note in self.notes)])

    def _headline(self, one: str, other: str) -> str:
        if not self.findings:
            return f"No difference found between {one} and {other}."
        number = len(self.findings)
        many = f"{number} differences, the likeliest cause first" if number > 1 else "1 difference"
        return f"{many}, between one = {one} and other = {other}:"


def doctor(run: str | Path | Run, other: str | Path | Run) -> Diagnosis:
    """Why do the numbers of two runs differ? Everything in which their folders differ, with its likely effect.

    Compared are: data (classes and their order, images per class, the hash of each split), towers (weights,
    activation), transforms (input size, resize, crop, interpolation, mean and std), prompt templates and all other
    options, the recipe (epochs, lr and batch size, optimiser, schedule, samplers, precision, choice of the epoch), the
    test (views, layer, images) and group rule, seeds, versions and machine. Nothing is trained, tested or downloaded.
    The content of description files is not recorded in a run and so not compared.

    Args:
        run, other: run folders of `fit` or `import_weights`, or opened ones; features that lie in their `features`
            folders are looked at too.

    Raises:
        FileNotFoundError: no run folder. ValueError: one that is damaged.
    """
    one, two = read_facts(run), read_facts(other)
    findings = [_finding(difference, one) for difference in _differences(one, two)]
    ordered = sorted(findings, key=lambda finding: -finding.points)  # stable: equals in the order of the comparison
    return Diagnosis(one.path, two.path, tuple(ordered), tuple(_notes(one, two, findings)))


def _differences(one: Facts, other: Facts) -> Differences:
    """Each once, under the name of its cause: what follows from another is left out."""
    if one.status != other.status:
        yield Difference("status", one.status, other.status)
    yield from data_differences(one, other)
    yield from model_differences(one, other)
    transforms, recipe = list(transform_differences(one, other)), list(recipe_differences(one, other))
    told = {difference.aspect for difference in (*transforms, *recipe)}
    yield from (*transforms, *recipe)
    if one.config["method"] == other.config["method"]:
        yield from option_differences(one, other, told)
    yield from test_differences(one, other)
    yield from other_differences(one, other, told)


def _finding(difference: Difference, one: Facts) -> Finding:
    effect = effect_of(difference.aspect, difference.one, difference.other, str(one.config["method"]))
    what = f"{effect.title} {difference.name}".strip()
    said = f"{difference.note} {effect.said}".strip()
    size, points = ("noise", 0.0) if difference.harmless else (effect.size, effect.points)
    return Finding(what, difference.one, difference.other, said, size, points)


def _notes(one: Facts, other: Facts, findings: list[Finding]) -> list[str]:
    notes = [f"{facts.path}: {note}." for facts in (one, other) for note in facts.notes]
    if one.weights_sha256 is None or other.weights_sha256 is None:
        return notes
    if one.weights_sha256 == other.weights_sha256:
        return [*notes, "The trained weights are the same, byte for byte."]
    if all(finding.size == "noise" for finding in findings):
        notes.append(
            "The trained weights differ nevertheless. On a GPU sums are not repeatable to the last bit; on a CPU look "
            "for what no run records: the text of description files, code that was changed."
        )
    return notes


def _plain(text: str) -> str:
    """Text from files as a terminal may show it: one line of ASCII, anything else as an escape."""
    return "".join(letter if " " <= letter <= "~" else letter.encode("unicode_escape").decode() for letter in text)


def _wrapped(line: str) -> str:
    return textwrap.fill(line, _WIDTH, initial_indent="   ", subsequent_indent="      ")


def _markdown(text: str) -> str:
    """Text from files as a notebook may show it: nothing in it is markup, HTML or mathematics."""
    return re.sub(r"([\\`*_{}\[\]|~$])", r"\\\1", html.escape(_plain(text), quote=False))
