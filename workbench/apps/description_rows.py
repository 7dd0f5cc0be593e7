"""The descriptions of one candidate of one image: what each contributes, and controls that change it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ipywidgets as widgets
import numpy as np

from .style import THEME_INK, caption

Told = Callable[[int, str, float | bool | str], None]
LENGTH = 120  # CSS pixels of the longest bar


class Line:
    """One description: in use or silenced, its sentence, a factor of its weight, and what follows."""

    def __init__(self, told: Callable[[str, float | bool | str], None], writes: bool) -> None:
        self.busy = False
        self.used = widgets.Checkbox(indent=False, layout=widgets.Layout(width="24px"))
        self.used.tooltip = "in use; without the mark it is silenced"
        self.text = widgets.Text(continuous_update=False, disabled=not writes, layout=widgets.Layout(flex="1 1 200px"))
        self.factor = widgets.FloatLogSlider(
            value=1, base=10, min=-1, max=1, step=0.1, continuous_update=False, readout_format=".2f",
            layout=widgets.Layout(width="170px"),
        )  # fmt: skip
        self.factor.tooltip = "times the trained weight, before the weights of the class are made to sum to 1"
        self.numbers = widgets.HTML(layout=widgets.Layout(width="310px"))
        self.view = widgets.HBox([self.used, self.text, self.factor, self.numbers])
        self.view.layout.align_items = "center"
        for control, what in ((self.used, "used"), (self.text, "text"), (self.factor, "factor")):
            control.observe(lambda change, what=what: None if self.busy else told(what, change["new"]), "value")

    def set(self, text: str, used: bool, factor: float) -> None:
        self.busy = True
        self.text.value, self.used.value, self.factor.value = text, used, factor
        self.text.tooltip = text
        self.busy = False

    def say(self, weight: float, cosine: float, longest: float, used: bool) -> None:
        product = weight * cosine
        wide = LENGTH * abs(product) / max(longest, 1e-12)
        fill = f"background:{THEME_INK if product >= 0 else 'transparent'};border:1px solid {THEME_INK}"
        bar = "" if not used else f'<span style="display:inline-block;height:9px;width:{wide:.0f}px;{fill}"></span>'
        said = f"{weight:.2f} &times; {cosine:.3f} = {product:.4f}" if used else f"silenced ({cosine:.3f})"
        self.numbers.value = f'<span style="display:inline-block;width:165px">{said}</span>{bar}'


class Rows:
    """`place` sets another candidate, ranked by contribution; `refresh` new numbers where the lines stand.

    told: called with the number of a description, "used", "text" or "factor", and the new value.
    """

    def __init__(self, most: int, told: Told, *, writes: bool) -> None:
        self.numbers: list[int] = []  # of the descriptions, as they stand
        self.lines = [
            Line(lambda what, value, at=at: told(self.numbers[at], what, value), writes) for at in range(most)
        ]
        head = caption(
            "in use; sentence; times the trained weight; weight times cosine is the contribution, most first"
        )
        self.view = widgets.VBox([head])
        self._head = head

    def place(
        self, texts: Sequence[str], used: np.ndarray, factors: np.ndarray, weights: np.ndarray, cosines: np.ndarray
    ) -> None:
        """Of n descriptions, each (n,)."""
        self.numbers = np.argsort(-(weights * cosines), kind="stable").tolist()
        shown = tuple(line.view for line in self.lines[: len(texts)])
        if self.view.children[1:] != shown:
            self.view.children = (self._head, *shown)
        self.refresh(texts, used, factors, weights, cosines)

    def refresh(
        self, texts: Sequence[str], used: np.ndarray, factors: np.ndarray, weights: np.ndarray, cosines: np.ndarray
    ) -> None:
        """Other numbers; the lines stay where they are."""
        longest = float(np.abs(weights * cosines).max(initial=0.0))
        for line, number in zip(self.lines, self.numbers, strict=False):
            line.set(texts[number], bool(used[number]), float(factors[number]))
            line.say(float(weights[number]), float(cosines[number]), longest, bool(used[number]))
