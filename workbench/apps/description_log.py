"""Edits of descriptions as a person made them: applied, taken back, and written as code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from workbench.methods.description_edits import EditedDescriptions

USUAL = {"used": True, "factor": 1.0}
CALLS = {"used": "silence", "factor": "weigh", "text": "reword"}


class EditLog:
    """What differs from the trained descriptions; the decisions are those of `edits`.

    Args:
        edits: of the method.
        texts: sentences of each class, as the method has them.
        tower: encodes new sentences; None: there are none.
    """

    def __init__(self, edits: EditedDescriptions, texts: Sequence[Sequence[str]], tower: Any) -> None:
        self.edits, self.texts, self.tower = edits, texts, tower
        self.changes: dict[tuple[int, int], dict[str, Any]] = {}  # (class, number) -> "used", "factor", "text"

    def silence(self, c: int, number: int, silent: bool) -> None:
        self.edits.silence(c, number, silent)
        self._note(c, number, "used", not silent, True)

    def weigh(self, c: int, number: int, factor: float) -> None:
        self.edits.weigh(c, number, factor)
        self._note(c, number, "factor", factor, 1.0)

    def encoded(self, c: int, number: int, sentence: str) -> torch.Tensor | None:
        """(E,) of a new sentence, which takes a while; None where it is the method's own one."""
        if sentence == self.texts[c][number]:
            return None
        if self.tower is None:
            raise ValueError("A new sentence must be encoded: pass text=wb.load_text_tower(name of the backbone).")
        if not sentence.strip():
            raise ValueError("An empty sentence says nothing; to leave a description out, take its mark away.")
        with torch.no_grad():
            return self.tower.encode([sentence])[0]

    def reword(self, c: int, number: int, sentence: str, vector: torch.Tensor | None) -> None:
        self.edits.reword(c, number, vector)
        self._note(c, number, "text", sentence, self.texts[c][number])

    def undo(self) -> None:
        self.edits.undo()
        self.changes.clear()

    def _note(self, c: int, number: int, what: str, value: Any, usual: Any) -> None:
        change = self.changes.setdefault((c, number), {})
        change[what] = value
        if value == usual:
            change.pop(what)
        if not change:
            self.changes.pop((c, number))

    def controls(self, c: int) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Of the n descriptions of a class: sentences, in use (n,) bool, factors (n,)."""
        own = [self.changes.get((c, number), {}) for number in range(len(self.texts[c]))]
        sentences = [change.get("text", text) for change, text in zip(own, self.texts[c], strict=True)]
        used, factors = (np.array([change.get(what, usual) for change in own]) for what, usual in USUAL.items())
        return sentences, used.astype(bool), factors.astype(float)

    def numbers(self, row: int, c: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the n descriptions of a candidate of an image: weights and cosines, (n,) each."""
        place, n = self.edits.candidates[row].tolist().index(c), len(self.texts[c])
        return self.edits.weights(c).numpy()[:n], self.edits.matches(row)[place].numpy()[:n]

    def calls(self, names: Sequence[str]) -> list[str]:
        """The edits as method calls of the app."""
        written = []
        for (c, number), change in self.changes.items():
            for what, value in change.items():
                more = "" if what == "used" else f", {value!r}"
                written.append(f"{CALLS[what]}({names[c]!r}, {number}{more})")
        return written
