"""HLC's inspector: an image's candidates and the descriptions that decide among them, to be silenced or reworded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np
import torch

from workbench.backbones import load_text_tower
from workbench.diagnostics.base import GROUP_COLOURS
from workbench.features import Features
from workbench.methods.description_edits import EditedDescriptions

from .chart import Chart
from .description_images import Images
from .description_log import EditLog
from .description_rows import Rows
from .description_views import SETS, candidate_bars, check_inputs, effect, sentences_of, unlike
from .style import MARKS, App, CodeLine, app, bar, broken, card, guarded, picture, row, state
from .work import Work

if TYPE_CHECKING:
    from workbench.backbones import TextTower
    from workbench.data import LongTailDataset
    from workbench.methods import Method


class Descriptions(App):
    """See `descriptions`."""

    def __init__(
        self,
        method: Method,
        features: Features,
        dataset: LongTailDataset | None,
        texts: Mapping[str, Sequence[str]] | None,
        text: TextTower | None,
    ) -> None:
        self.method, self.features, self.dataset, self._tower = method, features, dataset, text
        self._given = "".join([", texts=texts" * (texts is not None), ", text=text" * (text is not None)])
        self.message, self.note = widgets.HTML(), widgets.HTML()
        self.message.layout.display = "none"
        self.edit_log: EditLog | None = None
        self.row, self.candidate = -1, -1
        self._pending: list[Callable[[], Any]] = []
        self._order = threading.RLock()  # the first pass ends in a thread; what is asked meanwhile stays in its order
        try:
            check_inputs(method, features)
        except ValueError as error:
            self._tell(broken(error))
            super().__init__([app("descriptions", self.message)])
            return
        self.texts, self.note.value = sentences_of(method, texts or (dataset and dataset.manifest.texts) or {})
        self.work = Work()
        self.images = Images(features, dataset, lambda r: self._look(r), lambda: self.code.code)
        self.about, self.bars, self.head = widgets.HTML(), Chart(), widgets.HTML()
        self.about.value = state("The descriptions are being compared with the images.", kind="loading")
        self._named = method.text if method.text and method.text.get("sha256") else None  # not one built by hand
        writes = text is not None or self._named is not None
        self.rows = Rows(max(map(len, self.texts)), guarded(self._tell)(self._edit), writes=writes)
        self.undo = widgets.Button(description="undo all edits", layout=widgets.Layout(width="110px"))
        self.undo.on_click(lambda _: self._undo())
        self.effect = widgets.HTML(state("No edits: silence a description, change its weight, or rewrite it."))
        self.code = CodeLine()
        self.bars.observe(lambda change: self._look(self.row, int(change["new"]["key"])), "picked")
        self._seen(False)
        one = card("One decision: coarse classifier (pale), then descriptions (full)", self.about, self.bars)
        described = card("Descriptions of a candidate", self.head, self.message, self.rows.view)
        result = card("What the edits change", self.effect, bar(self.undo))
        parts = (
            bar(self.images.set, self.images.search, self.work.view),
            self.note,
            row(self.images.view, one),
            described,
            result,
            self.code,
        )
        super().__init__([app("descriptions", *parts)])
        self._write_code()
        self.work.start(f"first pass over {len(features)} images", self._first_pass, self._ready, self._tell)

    def _tell(self, html: str) -> None:
        self.message.value, self.message.layout.display = html, "" if html else "none"

    def _seen(self, there: bool) -> None:
        for widget in (self.bars, self.rows.view):
            widget.layout.display = "" if there else "none"

    # -- the first pass ------------------------------------------------------------------------------------------------

    def _first_pass(self, step: Callable[[int, int], None]) -> EditLog:
        tower = load_text_tower(**self._named) if self._tower is None and self._named else self._tower
        edits = EditedDescriptions(self.method, torch.tensor(self.features.vectors), step)
        return EditLog(edits, self.texts, tower)

    def _ready(self, log: EditLog) -> None:
        with self._order:
            self._begin(log)

    def _begin(self, log: EditLog) -> None:
        self.edit_log, self.images.edits = log, log.edits
        self.note.value += unlike(log.edits, self.features)
        self.images.select()
        pending, self._pending = self._pending, []
        for action in pending:
            action()

    def _when_ready(self, action: Callable[[], Any]) -> Descriptions:
        with self._order:
            if self.edit_log is None:
                self._pending.append(action)
            else:
                action()
        return self

    # -- code ----------------------------------------------------------------------------------------------------------

    def select(self, which: str = SETS[0], name: str = "") -> Descriptions:
        """Images of one of SETS, and of a true class; before `look`."""
        return self._when_ready(lambda: self.images.ask(which, name))

    def look(self, image: str, candidate: str) -> Descriptions:
        """Look at the image of this id, and at the descriptions of one of its candidate classes."""
        if image not in self.features.ids:
            raise ValueError(f"No image of these features is called {image!r}.")
        found = int(np.flatnonzero(self.features.ids == image)[0])
        return self._when_ready(lambda: self._show(found, self._class(candidate)))

    def silence(self, name: str, number: int) -> Descriptions:
        """Leave out a description, counted from 0, of a class."""
        return self._when_ready(lambda: self._apply(self._class(name), number, "used", False))

    def weigh(self, name: str, number: int, factor: float) -> Descriptions:
        """Multiply its trained weight."""
        return self._when_ready(lambda: self._apply(self._class(name), number, "factor", factor))

    def reword(self, name: str, number: int, sentence: str) -> Descriptions:
        """Put another sentence in its place; needs the text tower."""

        def action() -> None:
            assert self.edit_log is not None
            c = self._class(name)
            self.edit_log.reword(c, number, sentence, self.edit_log.encoded(c, number, sentence))
            self._follow()

        return self._when_ready(action)

    def _class(self, name: str) -> int:
        if name not in self.features.classes.names:
            raise ValueError(f"No class is called {name!r}.")
        return self.features.classes.names.index(name)

    def _write_code(self) -> None:
        calls, asked = [], [self.images.set.value, self.images.search.value]
        if asked != [SETS[0], ""]:
            calls.append(f"select({', '.join(map(repr, asked if asked[1] else asked[:1]))})")
        if self.row >= 0:
            image, candidate = str(self.features.ids[self.row]), self.features.classes.names[self.candidate]
            calls.append(f"look({image!r}, {candidate!r})")
        calls += self.edit_log.calls(self.features.classes.names) if self.edit_log else []
        self.code.code = ".".join([f"descriptions(method, features, dataset{self._given})", *calls])

    # -- one image, one candidate --------------------------------------------------------------------------------------

    def _look(self, r: int, candidate: int | None = None) -> None:
        """Look at an image, and at the descriptions of a candidate; None: of the decision."""
        guarded(self._tell)(self._show)(r, candidate)

    def _show(self, r: int, candidate: int | None) -> None:
        assert self.edit_log is not None
        self._tell("")
        if r < 0:
            self.row = -1
            self._seen(False)
            self.about.value, self.head.value = state("No image is chosen."), ""
            return self._write_code()
        edits, classes = self.edit_log.edits, self.features.classes
        candidate = int(edits.decisions[r]) if candidate is None else candidate
        if candidate not in edits.candidates[r].tolist():
            raise ValueError(
                f"{classes.names[candidate]!r} is no candidate of {self.features.ids[r]}; choose one of the bars."
            )
        self.row, self.candidate = r, candidate
        self._decision()
        writes = "sentences may be rewritten (Enter)"
        if self.edit_log.tower is None:
            writes = f"to rewrite sentences pass text=wb.load_text_tower({self.method.backbone.name!r})"
        self.head.value = (
            f'<b style="color:{GROUP_COLOURS[classes.groups[candidate]]}">{escape(classes.names[candidate])}</b> '
            f"<span class='wb-caption'>{classes.groups[candidate]}, {classes.counts[candidate]} training images; "
            f"{escape(writes)}</span>"
        )
        self.rows.place(*self.edit_log.controls(candidate), *self.edit_log.numbers(r, candidate))
        self._seen(True)
        self._write_code()

    def _decision(self) -> None:
        """Picture, candidates and decision of the image."""
        assert self.edit_log is not None
        edits, r, names, label = (
            self.edit_log.edits,
            self.row,
            self.features.classes.names,
            self.features.labels[self.row],
        )
        self.bars.marked = str(self.candidate)
        self.bars.show(**candidate_bars(edits, r, int(label), self.features.classes))
        steps = {"coarse classifier": int(edits.candidates[r, 0]), "descriptions": int(edits.first[r])}
        if edits.decisions[r] != edits.first[r]:
            steps["with your edits"] = int(edits.decisions[r])
        lines = [f"<b>{escape(str(self.features.ids[r]))}</b>", f"true class: {escape(names[label])}"]
        lines += [f"{step}: {MARKS[bool(c == label)]} {escape(names[c])}" for step, c in steps.items()]
        if label not in edits.candidates[r].tolist():
            lines.append("the true class is no candidate: no description can set this right")
        html = f"<div>{'<br>'.join(lines)}</div>"
        if self.dataset is not None:
            try:
                pixels = self.images.pictures.one(r)
                html = picture(pixels, f"photograph of {names[label]}", width=96) + html
            except (ValueError, OSError) as error:
                html += broken(error)
        self.about.value = f'<div style="display:flex;gap:8px">{html}</div>'

    # -- edits ---------------------------------------------------------------------------------------------------------

    def _edit(self, number: int, what: str, value: Any) -> None:
        """A control of the rows was set."""
        assert self.edit_log is not None
        log, c = self.edit_log, self.candidate
        if what != "text":
            self._apply(c, number, what, value)
            return

        def put(vector: torch.Tensor | None) -> None:
            log.reword(c, number, str(value), vector)
            self._follow()

        self.work.start("encoding the sentence", lambda _: log.encoded(c, number, str(value)), put, self._refuse)

    def _apply(self, c: int, number: int, what: str, value: Any) -> None:
        assert self.edit_log is not None
        try:
            if what == "used":
                self.edit_log.silence(c, number, not value)
            else:
                self.edit_log.weigh(c, number, float(value))
        finally:  # what was refused is seen not to hold
            self._follow()

    def _refuse(self, html: str) -> None:
        self._follow()
        self._tell(html)

    def _undo(self) -> None:
        if self.edit_log is not None:
            self.edit_log.undo()
            self._follow()

    def _follow(self) -> None:
        """Every view follows an edit."""
        assert self.edit_log is not None
        self._tell("")
        self.effect.value = effect(self.edit_log.edits, self.features)
        self.images.refresh()
        if self.row >= 0:
            self._decision()
            self.rows.refresh(*self.edit_log.controls(self.candidate), *self.edit_log.numbers(self.row, self.candidate))
        self._write_code()


def descriptions(
    method: Method,
    features: Features,
    dataset: LongTailDataset | None = None,
    *,
    texts: Mapping[str, Sequence[str]] | None = None,
    text: TextTower | None = None,
) -> Descriptions:
    """What HLC's decisions rest on, and what would be decided with other descriptions.

    Args:
        method: a trained HLC: `run.method()`.
        features: of its head, for the images to look at.
        dataset: the data set that the features were extracted from, for pictures.
        texts: class name -> the sentences that the method was created with; None: those of the data set's manifest.
        text: the text tower of the method's backbone, to rewrite sentences; None: the one it was created with, if any.
    """
    return Descriptions(method, features, dataset, texts, text)
