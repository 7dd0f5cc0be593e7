"""One difference between two runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass

from .facts import Facts


@dataclass(frozen=True)
class Difference:
    """One cause: a key of effects.toml with what either run has."""

    aspect: str
    one: str
    other: str
    _: KW_ONLY
    name: str = ""  # of the option, with the aspect "option"
    note: str = ""  # what these two runs themselves tell of the effect
    harmless: bool = False  # they tell that it has none


Differences = Iterator[Difference]


def compared(aspect: str, one: Facts, other: Facts, text: Callable[[Facts], str]) -> Differences:
    """The difference in one text about a run, where there is one."""
    if text(one) != text(other):
        yield Difference(aspect, text(one), text(other))
