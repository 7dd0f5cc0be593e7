"""Curves of a training while it goes on: accuracy by group and loss after each epoch, as `convergence` reads them."""

from __future__ import annotations

import math
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas  # noqa: F401  `Run.metrics` loads it at its first call: not while somebody waits for a click

from workbench.diagnostics.base import GROUP_COLOURS, GROUP_MARKERS, GROUP_ORDER, METHOD_COLOURS
from workbench.diagnostics.convergence import Curve, convergence
from workbench.runs import Run
from workbench.training.standing import Standing

from .chart import Chart, Mark, axis, lines, shares
from .style import caption, card, row, state

ROWS = {**{group: group for group in GROUP_ORDER}, "mean_class": "all classes"}  # column -> what it is called
TRAINING, VALIDATION = "solid: a fixed part of the training images", "dashed and hollow: validation images"
MARKED = 30  # epochs; of more only the lines are drawn


class Curves:
    """`show(run, standing)`; `view` are the cards. The curves are read again only when their file is another."""

    def __init__(self) -> None:
        self.accuracy, self.loss = Chart(), Chart()
        self.numbers = widgets.HTML()
        self.empty = (widgets.HTML(), widgets.HTML())
        self.key = caption()
        self.view = row(
            card("Accuracy by group", self.empty[0], self.accuracy, self.key, self.numbers),
            card("Training loss", self.empty[1], self.loss),
        )
        self._read: Any = None
        self.curve: Curve | None = None
        self.clear()

    def clear(self, text: str = "Curves come with the first finished epoch.") -> None:
        self._read = self.curve = None
        self.accuracy.spec, self.loss.spec, self.numbers.value = {}, {}, ""
        self._toggle(False)
        for message in self.empty:
            message.value = state(text)

    def show(self, run: Run, found: Standing) -> None:
        try:
            file = (run.path / "metrics.csv").stat()
        except FileNotFoundError:
            trains = bool(found.epochs)
            self.clear() if trains else self.clear("This method trains nothing, so there are no curves.")
            return
        if self._read != (run.path, file.st_mtime_ns, file.st_size):
            self.curve = next(iter(convergence(run).curves.values()))
            self._read = (run.path, file.st_mtime_ns, file.st_size)
            self.accuracy.show(**accuracies(self.curve, found.epochs))
            scored = any(split == "val" for split, _ in self.curve.accuracy)
            self.key.value = TRAINING + (f"; {VALIDATION}" if scored else "; no validation images are scored")
            self.numbers.value = _last(self.curve)
            self._toggle(True)
        assert self.curve is not None
        self.loss.show(**losses(self.curve, found))

    def _toggle(self, known: bool) -> None:
        for widget, there in ((self.accuracy, known), (self.loss, known), (self.key, known), (self.numbers, known)):
            widget.layout.display = "" if there else "none"
        for message in self.empty:
            message.layout.display = "none" if known else ""


def accuracies(curve: Curve, epochs: int) -> dict[str, Any]:
    """Keywords of `Chart.show`: accuracy of each group after each epoch, in percent; epochs: of the whole training."""
    x = np.arange(1, len(curve.epochs) + 1)
    marks: list[Mark] = _boundaries(curve, 0, 100)
    said = []
    for group, called in ROWS.items():
        for split in ("train", "val"):
            values = curve.accuracy.get((split, group))
            if values is None or not np.isfinite(values).any():
                continue
            name = f"{called}, {'training' if split == 'train' else 'validation'}"
            colours = {name: GROUP_COLOURS[group]} if group in GROUP_COLOURS else {}
            drawn, _ = lines({name: (x, 100 * values)}, colours=colours, dashed=[name] if split == "val" else [])
            drawn = [mark if colours else {**mark, "colour": None, "width": 1} for mark in drawn]
            if len(x) <= MARKED:
                drawn += [
                    {
                        "kind": "dot", "x": float(epoch), "y": 100 * float(value), "r": 3, "hollow": split == "val",
                        "colour": colours.get(name), "marker": GROUP_MARKERS.get(group, "D"),
                        "title": f"{name}: {100 * value:.1f} % after epoch {epoch}",
                    }
                    for epoch, value in zip(x.tolist(), values.tolist(), strict=True)
                ]  # fmt: skip
            marks += drawn
            said.append(f"{name} {100 * values[-1]:.1f} %")
    legend: list[dict[str, Any]] = [
        {"label": f"{group} ({curve.classes[group]})", "colour": GROUP_COLOURS[group], "marker": GROUP_MARKERS[group]}
        for group in GROUP_ORDER
    ]
    legend.append({"label": f"all classes ({sum(curve.classes.values())})", "marker": "D"})
    alt = f"accuracy after {len(x)} of {epochs} epochs: {', '.join(said)}"
    return {
        "marks": marks,
        "x": _epochs(epochs),
        "y": shares("mean class accuracy (%)"),
        "alt": alt,
        "legend": legend,
        "height": 260,
    }


def losses(curve: Curve, found: Standing) -> dict[str, Any]:
    """Keywords of `Chart.show`: mean loss of each epoch, and that of the present one so far as a hollow mark."""
    x, colour = np.arange(1, len(curve.epochs) + 1), METHOD_COLOURS[0]
    known = curve.loss[np.isfinite(curve.loss)]
    now = found.loss if found.loss is not None and math.isfinite(found.loss) else None
    high = max([1e-3, *known.tolist(), *([] if now is None else [now])])
    low = min([0.0, *known.tolist()])
    drawn, _ = lines({"loss": (x, curve.loss)}, colours={"loss": colour})
    marks = _boundaries(curve, low, 1.08 * high) + drawn
    if len(x) <= MARKED:
        marks += [
            {"kind": "dot", "x": float(e), "y": float(v), "r": 3, "colour": colour, "title": f"{v:.3f} in epoch {e}"}
            for e, v in zip(x.tolist(), curve.loss.tolist(), strict=True)
        ]
    alt = f"mean training loss of {len(x)} epochs, from {curve.loss[0]:.3f} to {curve.loss[-1]:.3f}"
    if now is not None and found.done > len(x):
        title = f"{now:.3f} so far in epoch {len(x) + 1}"
        marks.append({"kind": "dot", "x": found.done, "y": now, "hollow": True, "colour": colour, "title": title})
        alt += f", {title}"
    y = axis(low, 1.08 * high, "loss, mean over the epoch")
    return {"marks": marks, "x": _epochs(found.epochs), "y": y, "alt": alt, "height": 260}


def _epochs(epochs: int) -> dict[str, Any]:
    step = max(1, -(-epochs // 8))
    ticks = [(float(epoch), str(epoch)) for epoch in range(step, epochs + 1, step)]
    return axis(0.5, epochs + max(0.5, 0.03 * epochs), "epoch", ticks=ticks)


def _boundaries(curve: Curve, low: float, high: float) -> list[Mark]:
    return [
        {
            "kind": "line", "points": [[place + 0.5, low], [place + 0.5, high]], "dash": True, "width": 1,
            "title": f"stage {curve.stages[place]} begins",
        }
        for place in curve.boundaries
    ]  # fmt: skip


def _last(curve: Curve) -> str:
    """HTML: accuracies after the last epoch, in a table."""
    head = "".join(f"<th>{called}</th>" for called in ROWS.values())
    body = []
    for split, name in (("train", "training"), ("val", "validation")):
        values = [curve.accuracy[split, group][-1] for group in ROWS if (split, group) in curve.accuracy]
        if values:
            cells = "".join(f"<td>{'n/a' if math.isnan(value) else f'{100 * value:.1f}'}</td>" for value in values)
            body.append(f"<tr><td>{name}</td>{cells}</tr>")
    return f"<table><tr><th>after epoch {len(curve.epochs)}, %</th>{head}</tr>{''.join(body)}</table>"
