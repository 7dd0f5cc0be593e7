"""Accuracy of each shot group as HTML: one line, or a table with a line for each split."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from workbench.diagnostics.base import GROUP_COLOURS, ROWS, plain
from workbench.features import Features, splits
from workbench.metrics import Interval, group_interval

from .chart import said
from .style import state


def accuracies(features: Features) -> str:
    """HTML: accuracy of each group with its interval, by split where there are several."""
    if features.predicted is None:
        return state("These features hold no decisions, so nothing here is right or wrong.", kind="missing")
    groups = np.asarray(features.classes.groups)
    names, split_of = splits(features)
    found = []  # intervals of the groups, of each split
    for number in range(max(1, len(names))):
        predicted, labels = features.predicted[split_of == number], features.labels[split_of == number]
        found.append([group_interval(predicted, labels, groups, group) for group in ROWS])
    rule = escape(str(features.classes.rule))
    if len(found) == 1:
        parts = [
            f'<span style="white-space:nowrap">{_name(group)} {said(over)}</span>'
            for group, over in zip(ROWS, found[0], strict=True)
        ]
        return f"{' &ensp; '.join(parts)}<br><span class='wb-caption'>groups: {rule}</span>"
    head = "".join(f"<th>{_name(group)}</th>" for group in ROWS)
    lines = [
        f"<tr><th>{escape(plain(name, 24))}</th>{''.join(map(_cell, overs))}</tr>"
        for name, overs in zip(names, found, strict=True)
    ]
    return (
        f"<table><tr><th></th>{head}</tr>{''.join(lines)}</table>"
        f"<span class='wb-caption'>n: classes; groups: {rule}</span>"
    )


def _name(group: str) -> str:
    return f'<span style="color:{GROUP_COLOURS.get(group, "inherit")}">{group}</span>'


def _cell(over: Interval) -> str:
    """The interval and n below the estimate, side by side where the card is wide."""
    if not over.n:
        return f"<td>{said(over)}</td>"
    parts = [f"[{100 * over.low:.1f}, {100 * over.high:.1f}]"] if math.isfinite(over.low) else []
    parts.append(f"n = {over.n}" if over.unit == "classes" else f"n = {over.n} {over.unit}")
    below = " ".join(f'<span class="wb-caption" style="white-space:nowrap">{part}</span>' for part in parts)
    return f'<td style="white-space:normal">{100 * over.estimate:.1f}&nbsp;%<br>{below}</td>'
