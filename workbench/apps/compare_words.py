"""A paired comparison in words: of each group the difference, its interval, and what may be said of it."""

from __future__ import annotations

from html import escape

import numpy as np

from workbench import metrics
from workbench.diagnostics.accuracy import GroupReport
from workbench.diagnostics.base import GROUP_COLOURS, ROWS, plain

ONE = ' style="white-space:nowrap"'


def verdicts(report: GroupReport) -> str:
    """HTML: of each group the paired difference with its interval, and what it means in words."""
    first, second = (escape(plain(arm.name, 40)) for arm in report.arms)
    lines = [
        f"<tr><th{ONE}>{first} &minus; {second}</th><th>points [{report.level:.0%}]</th><th>p</th><th>n</th>"
        "<th></th></tr>"
    ]
    for group in ROWS:
        found, colour = report.differences[group], GROUP_COLOURS.get(group, "inherit")
        said = in_words(found, report.arms[0].name, report.arms[1].name)
        p = "" if np.isnan(found.p) else f"{found.p:.3f}" if found.p >= 0.001 else "&lt; 0.001"
        lines.append(
            f'<tr><td style="color:{colour}">{group}</td><td{ONE}>{_points(found)}</td><td{ONE}>{p}</td>'
            f'<td>{found.n} {found.unit}</td><td style="text-align:left">{escape(said)}</td></tr>'
        )
    unit = "over classes like these, paired class by class"
    images = ""
    if report.mcnemar:
        tests = [tests["all"] for tests in report.mcnemar]
        parts = [f"only {first} right {t.first_only}, only {second} {t.second_only}, p = {t.p:.2g}" for t in tests]
        by_seed = "" if len(tests) == 1 else ", seed by seed"
        images = f".<br>Of these very images (McNemar{by_seed}): {'; '.join(parts)}"
    return f"<table>{''.join(lines)}</table><div class='wb-caption'>{unit}{images}</div>"


def _points(found: metrics.Difference) -> str:
    if not found.n:
        return "n/a (0 classes)"
    bounds = "" if np.isnan(found.low) else f" [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return f"{100 * found.estimate:+.1f}{bounds}"


def in_words(found: metrics.Difference, first: str, second: str) -> str:
    """The verdict of the paired test; where it is open, the smallest difference that such a test would have shown."""
    if not found.n:
        return "nothing to compare"
    few = " Few classes: do not lean on it." if found.too_small else ""
    if found.verdict == "not testable":
        return "not testable: one class has no spread"
    if found.verdict != "no difference shown":
        return f"{plain(first if found.verdict == 'first better' else second, 40)} is better.{few}"
    smallest = found.smallest_detectable
    open_ = (
        "" if np.isnan(smallest) else f" A true difference of {100 * smallest:.1f} points would show in 8 of 10 tests."
    )
    return f"undecided.{open_}{few}"
