"""The table of a group report: accuracies with intervals, differences, and in words what each of them speaks of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench import metrics

from .base import percent
from .tables import Table

if TYPE_CHECKING:
    from .accuracy import GroupReport


def group_table(report: GroupReport) -> Table:
    """The table in percent, what its intervals mean, and bold only what the paired test supports."""
    heads, places = ["group", "classes", "test images"], {}
    for arm in report.arms:
        places[arm.name] = len(heads)
        heads.append(f"{arm.name}: % [{report.level:.0%} over classes]")
        if arm.over_seeds:
            heads.append(f"{arm.name}: [{report.level:.0%} over {arm.num_seeds} seeds]")
    if report.differences:
        heads += ["difference, points", "p", "could have shown"]
    bold = {(y, places[report.best[group]]) for y, group in enumerate(metrics.ACCURACIES) if group in report.best}
    rows = [_row(report, group) for group in metrics.ACCURACIES]
    return Table(heads=heads, rows=rows, bold=frozenset(bold), notes=_notes(report))


def _row(report: GroupReport, group: str) -> list[str]:
    classes, tested, images = report.sizes(group)
    row = [group.replace("_", " "), str(classes), str(images)]
    for arm in report.arms:
        over = arm.over_classes[group]
        row.append(percent(over.estimate, over.low, over.high) + ("†" if over.too_small else ""))
        if not tested:
            row[-1] = "n/a (0 classes)" if not classes else "n/a (no test images)"
        if arm.over_seeds:
            seeds = arm.over_seeds.get(group)
            row.append(f"[{100 * seeds.low:.1f}, {100 * seeds.high:.1f}]" if seeds else "n/a")
    if report.differences:
        row += _difference_cells(report, report.differences[group])
    return row


def _notes(report: GroupReport) -> list[str]:
    what = "shares of test images (pooled)" if report.pooled else "means of class accuracies"
    notes = [f"Groups: {report.rule}. Rows of groups are {what}; `all` is the share of test images."]
    said: dict[str, list[str]] = {}  # what several arms have in common is said once
    for arm in report.arms:
        over = {group: interval for group, interval in arm.over_classes.items() if interval.n}
        said.setdefault(f"intervals over classes speak of {_about(over)}.", []).append(arm.name)
        seeds = next(iter(arm.over_seeds.values()), None)
        if seeds:
            text = f"intervals over seeds speak of the {seeds.estimand} ({seeds.method})."
            said.setdefault(text, []).append(arm.name)
    notes += [f"{', '.join(names)}: {text}" for text, names in said.items()]
    if report.differences:
        over = {group: difference for group, difference in report.differences.items() if difference.n}
        notes.append(
            f"Difference: {report.arms[0].name} (first) minus {report.arms[1].name} (second), paired class by class, "
            f"speaks of {_about(over)}. `could have shown` is the true difference that this test finds in 80 of "
            "100 repetitions; a smaller one it may well miss."
        )
    notes += [_mcnemar_note(report), _means_note(report)]
    if len(report.arms) > 1:
        notes.append(
            "Bold: better than every other method of the row by the paired test over classes; nothing is bold "
            "where one of these tests leaves it open, or the row has too few classes."
        )
    if any(interval.too_small and interval.n for arm in report.arms for interval in arm.over_classes.values()):
        notes.append(f"† fewer than {metrics.TRUSTED_FROM} classes: do not lean on this interval.")
    untested = int((report.images == 0).sum())
    if untested:
        notes.append(f"{untested} of {len(report.images)} classes have no test images and do not count.")
    return [note for note in notes if note]


def _mcnemar_note(report: GroupReport) -> str:
    """One test for each pair of seeds, since it compares one trained model with one."""
    if not report.mcnemar:
        return ""
    first, second = report.arms[0].name, report.arms[1].name
    tests = [f"{each.first_only} : {each.second_only}, p = {each.p:.2g}" for each in (t["all"] for t in report.mcnemar)]
    total = report.mcnemar[0]["all"]
    could = max(each["all"].smallest_detectable for each in report.mcnemar)
    return (
        f"McNemar's test, which takes the {total.n} images for independent and speaks of these models on these "
        f"classes only: images that only {first} has right to those only {second} has right"
        f"{', seed by seed' if len(tests) > 1 else ''}: {'; '.join(tests)}; could have shown "
        f"{100 * could:.1f} points."
    )


def _means_note(report: GroupReport) -> str:
    """Means that a neglected class pulls down."""
    parts = []
    for arm in report.arms:
        means = arm.means
        zeros = f" ({means.zeros} of {means.n} classes with nothing right)" if means.zeros else ""
        parts.append(
            f"{arm.name} geometric {percent(means.geometric)}, harmonic {percent(means.harmonic)}, worst class "
            f"{percent(means.worst)}{zeros}"
        )
    return f"Other means of the class accuracies, %: {'; '.join(parts)}."


def _difference_cells(report: GroupReport, difference: metrics.Difference) -> list[str]:
    if np.isnan(difference.estimate):
        return ["n/a", "", ""]
    cell = percent(difference.estimate, difference.low, difference.high, sign=True)
    verdict = difference.verdict.replace("first", report.arms[0].name).replace("second", report.arms[1].name)
    p = "" if np.isnan(difference.p) else "< 0.001" if difference.p < 0.001 else f"{difference.p:.3f}"
    smallest = difference.smallest_detectable
    return [
        f"{cell} {verdict}{'†' if difference.too_small else ''}",
        p,
        "" if np.isnan(smallest) else f"{100 * smallest:.1f}",
    ]


def _about(intervals: dict[str, metrics.Interval]) -> str:
    """What the intervals are about and how each was computed: "classes like these, ... (Student t: many, few)"."""
    methods: dict[str, list[str]] = {}
    for group, interval in intervals.items():
        methods.setdefault(interval.method, []).append(group.replace("_", " "))
    parts = [f"{method}: {', '.join(groups)}" for method, groups in methods.items()]
    estimands = dict.fromkeys(interval.estimand.partition(" over ")[2] for interval in intervals.values())
    return f"{', '.join(estimands)} ({'; '.join(parts)})"
