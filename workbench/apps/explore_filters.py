"""Filters of the linked lab: controls that together are one condition over the table of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from workbench.diagnostics.base import plain
from workbench.features import Features, splits

from .style import GROUP_SIGNS, MARKS, shortcut

EXAMPLE = "group == 'few' and not correct"
DECISIONS = {"any decision": "", f"{MARKS[True]} right": "correct", f"{MARKS[False]} wrong": "not correct"}


class Filters:
    """`controls` stand in a bar; `asked` is called after a person changed one of them, "" where none asks for anything.

    purity_of: k of the neighbours that the control for purity speaks of.
    """

    def __init__(self, features: Features, asked: Callable[[str], None], *, purity_of: int) -> None:
        self._names = set(features.classes.names)
        self._asked, self._quiet = asked, False
        several = splits(features)[0]
        self.split = widgets.Dropdown(
            options=[("any split", ""), *((plain(name, 24), name) for name in several)],
            layout=widgets.Layout(width="100px"),
        )  # fmt: skip
        self.search = widgets.Combobox(
            options=sorted(self._names), placeholder="search class", ensure_option=False,
            layout=widgets.Layout(width="150px"),
        )  # fmt: skip
        self.groups = {
            group: widgets.Checkbox(description=f"{sign} {group}", indent=False, layout=widgets.Layout(width="auto"))
            for group, sign in GROUP_SIGNS.items()
        }
        self.decision = widgets.Dropdown(options=DECISIONS, layout=widgets.Layout(width="115px"))
        self.confidence, self.purity = _share("confidence"), _share("purity")
        self.purity.tooltip = f"share of the {purity_of} nearest images that are of an image's own class"
        self.text = widgets.Text(placeholder=f"filter: {EXAMPLE}", continuous_update=False)
        self.text.layout.width = "265px"
        self.decision.disabled = self.confidence.disabled = features.predicted is None
        shortcut(self.text, "f")
        shortcut(self.search, "s")
        self.controls = (self.search, *self.groups.values(), self.decision, self.confidence, self.purity, self.text)
        if len(several) > 1:
            self.controls = (self.split, *self.controls)
        for control in self.controls:
            control.observe(self._changed, "value")

    @property
    def expression(self) -> str:
        """All that the controls ask for."""
        parts = []
        if split := self.split.value:
            parts.append(f"split == {split!r}")
        if name := self.search.value:
            parts.append(f"name == {name!r}" if name in self._names else f"name.str.contains({name!r}, regex=False)")
        groups = [group for group, box in self.groups.items() if box.value]
        if groups:
            parts.append(f"group in {groups!r}" if len(groups) > 1 else f"group == {groups[0]!r}")
        if self.decision.value:
            parts.append(self.decision.value)
        for column, control in (("confidence", self.confidence), ("purity", self.purity)):
            low, high = (round(value, 2) for value in control.value)
            if (low, high) != (0, 1):
                parts.append(f"{low:g} <= {column} <= {high:g}")
        if text := self.text.value.strip():
            parts.append(f"({text})" if parts else text)
        return " and ".join(parts)

    def reset(self) -> None:
        """Nothing is asked for; does not call `asked`."""
        self._quiet = True
        try:
            for box in self.groups.values():
                box.value = False
            self.split.value = self.search.value = self.decision.value = self.text.value = ""
            self.confidence.value = self.purity.value = (0.0, 1.0)
        finally:
            self._quiet = False

    def _changed(self, _: Any) -> None:
        if not self._quiet:
            self._asked(self.expression)


def _share(description: str) -> widgets.FloatRangeSlider:
    """From 0 to 1, on release."""
    slider = widgets.FloatRangeSlider(
        value=(0.0, 1.0), min=0, max=1, step=0.01, description=description, continuous_update=False,
        readout_format=".2f", layout=widgets.Layout(width="265px" if description == "confidence" else "235px"),
    )  # fmt: skip
    slider.style.description_width = "75px" if description == "confidence" else "45px"
    return slider
