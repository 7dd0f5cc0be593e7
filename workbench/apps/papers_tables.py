"""HTML of a parity card: measured and reported values on one axis per arm, and the claims with their verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from workbench.diagnostics.base import GROUP_COLOURS, METHOD_COLOURS
from workbench.papers import Experiment, ParityCard
from workbench.papers.card import HOLDS, REVERSED, UNDECIDED, Row, Verdict
from workbench.papers.measures import MEASURES
from workbench.papers.rendering import differences, interval, ours

from .chart import axis
from .style import THEME_INK, state

TRACK, HEIGHT, MARGIN = 220, 18, 14  # CSS pixels of a row's picture, and the room left of and right of its axis
SIGNS = {HOLDS: "✓", REVERSED: "✗", UNDECIDED: "?"}
LEFT = ' style="text-align:left"'


def values(entry: Experiment, cards: Sequence[ParityCard], measure: str, test: str = "") -> str:
    """One row per arm, then those that are reported only: what the paper prints, and what each card measured.

    The first card's marks are filled, the second's hollow; the paper's numbers are short ticks, one per data set.
    """
    printed = _printed(entry, measure, test)
    found = [{row.arm: row for row in card.rows if (row.measure, row.test) == (measure, test)} for card in cards]
    names = [*(arm.name for arm in entry.arms), *(name for name in printed if name in entry.reported_only)]
    ends = [value for name in names for value in printed.get(name, {}).values()]
    ends += [
        end for rows in found for row in rows.values() for end in (row.measured, row.low, row.high) if end is not None
    ]
    if not ends:
        return state(f"The paper prints no {measure} here, and no card has measured it. Choose another measure.")
    scale = axis(min(ends), max(ends)) if min(ends) < max(ends) else axis(min(ends) - 1, max(ends) + 1)
    datasets = list(dict.fromkeys(data for each in printed.values() for data in each))
    digits = max((len(f"{v:g}".partition(".")[2]) for each in printed.values() for v in each.values()), default=0)
    heads = [f"<th>{'' if len(cards) == 1 else '●○'[number]} measured</th>" for number in range(len(cards))]
    paper = f"<th>paper: {escape(' / '.join(datasets))}</th>" if datasets else ""
    lines = [f"<tr><th>arm</th><th>{_ruler(scale)}</th>{''.join(heads)}{paper}</tr>"]
    for name in names:
        rows = [each.get(name) for each in found]
        numbers = "".join(
            f"<td>{_number(row, measure, name, card)}</td>" for row, card in zip(rows, cards, strict=True)
        )
        own = printed.get(name, {})
        theirs = " / ".join(f"{own[data]:.{digits}f}" if data in own else "n/a" for data in datasets)
        lines.append(
            f"<tr><td{_what(entry, name)}>{escape(name)}{_mark(entry, name)}</td>"
            f"<td>{_picture(rows, own, measure, scale)}</td>{numbers}"
            + (f"<td>{theirs if own else ''}</td>" if datasets else "")
            + "</tr>"
        )
    return f"<table>{''.join(lines)}</table>"


def claims(card: ParityCard, verdict: str = "") -> str:
    """One row per claim and measure: first minus second in the paper and here, and the verdict; `verdict` chooses."""
    chosen = [claim for claim in card.claims if verdict in ("", claim.verdict)]
    if not chosen:
        return state(
            "The paper claims nothing here that two arms could show." if not card.claims else "No such verdict."
        )
    reach = max(
        (abs(end) for each in chosen for end in (each.difference, each.low, each.high) if end is not None), default=0
    )
    scale = axis(-reach or -1, reach or 1)
    lines = [
        f"<tr><th>first minus second</th><th{LEFT}>on</th><th>paper</th><th>{_ruler(scale)}</th>"
        f"<th>ours [95 %]</th><th>could have shown</th><th{LEFT}>verdict</th></tr>"
    ]
    for each in chosen:
        found, shown = ours(each)
        lines.append(
            f"<tr><td>{escape(each.first)} &minus; {escape(each.second)}</td><td{LEFT}>{_on(each)}</td>"
            f"<td>{escape(differences(each) or each.said)}</td><td>{_difference(each, scale)}</td><td>{found}</td>"
            f"<td>{shown}</td><td{LEFT}>{_verdict(each.verdict)}</td></tr>"
        )
    return f"<table>{''.join(lines)}</table>"


def _printed(entry: Experiment, measure: str, test: str) -> dict[str, dict[str, float]]:
    """Arm, or row that is reported only -> data set -> value."""
    rows = {arm.name: entry.reported(arm.name) for arm in entry.arms}
    rows |= {name: entry.rows[name] for name in entry.reported_only}
    return {
        name: found
        for name, row in rows.items()
        if (found := {d: v[measure] for d, v in row.items() if measure in v and entry.tested_on(d) == test})
    }


def _what(entry: Experiment, name: str) -> str:
    """What an arm trains, on hover."""
    if name in entry.reported_only:
        return ' class="wb-caption"'
    arm = entry.arm(name)
    options = ", ".join(f"{option}={value}" for option, value in arm.options.items())
    return f' title="{escape(f"{arm.method}({options})")}"'


def _mark(entry: Experiment, name: str) -> str:
    if name in entry.reported_only:
        return " (reported only)"
    return "" if entry.arm(name).status == "ours" else ' <span class="wb-caption">baseline</span>'


def _number(row: Row | None, measure: str, name: str, card: ParityCard) -> str:
    if row is None or row.measured is None:
        return (
            f'<span class="wb-caption" title="{escape(card.not_run[name])}">not run</span>'
            if name in card.not_run
            else ""
        )
    form = MEASURES[measure].form
    if row.low is None or row.high is None:
        return f"{row.measured:{form}}"
    return f"{row.measured:{form}}{interval(row.measured, row.low, row.high, form)}"


def _at(value: float, scale: dict[str, object]) -> float:
    low, high = float(scale["min"]), float(scale["max"])  # type: ignore[arg-type]
    return MARGIN + (value - low) / (high - low) * (TRACK - 2 * MARGIN)


def _svg(inside: str, alt: str, height: int = HEIGHT) -> str:
    return (
        f'<svg width="{TRACK}" height="{height}" role="img" aria-label="{escape(alt)}" style="display:block">'
        f"<title>{escape(alt)}</title>{inside}</svg>"
    )


def _ruler(scale: dict[str, object]) -> str:
    """The ticks of the axis that the rows below share."""
    ticks: list[list[float | str]] = scale["ticks"]  # type: ignore[assignment]
    inside = "".join(
        f'<text x="{_at(float(value), scale):.1f}" y="12" text-anchor="middle" font-size="11" fill="{THEME_INK}" '
        f'font-weight="400">{escape(str(text))}</text>'
        for value, text in ticks
    )
    return f'<svg width="{TRACK}" height="16" aria-hidden="true" style="display:block">{inside}</svg>'


def _line(x1: float, x2: float, y1: float, y2: float, colour: str, width: float = 1) -> str:
    return f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1}" y2="{y2}" stroke="{colour}" stroke-width="{width}"/>'


def _spot(
    value: float, low: float | None, high: float | None, y: float, scale: dict[str, object], *, hollow: bool
) -> str:
    """A measured value with its interval, in the colour of the text around it."""
    inside = "" if low is None or high is None else _line(_at(low, scale), _at(high, scale), y, y, "currentColor", 1.5)
    fill = "var(--jp-layout-color1, white)" if hollow else "currentColor"
    return inside + (
        f'<circle cx="{_at(value, scale):.1f}" cy="{y}" r="4" fill="{fill}" stroke="currentColor" stroke-width="1.5"/>'
    )


def _picture(rows: Sequence[Row | None], printed: dict[str, float], measure: str, scale: dict[str, object]) -> str:
    inside, said = _line(MARGIN, TRACK - MARGIN, 9, 9, "var(--jp-border-color2, currentColor)"), []
    for data, value in printed.items():
        inside += _line(_at(value, scale), _at(value, scale), 1, 17, THEME_INK, 2)
        said.append(f"paper, {data}: {value:g}")
    for number, row in enumerate(rows):
        if row is not None and row.measured is not None:
            y = 9.0 if len(rows) == 1 else (5.0, 13.0)[number]
            inside += _spot(row.measured, row.low, row.high, y, scale, hollow=number > 0)
            said.append(f"measured: {row.measured:{MEASURES[measure].form}}")
    colour = GROUP_COLOURS.get(measure, METHOD_COLOURS[0])
    return f'<span style="color:{colour}">{_svg(inside, "; ".join(said) or "no value")}</span>'


def _difference(claim: Verdict, scale: dict[str, object]) -> str:
    if claim.difference is None:
        return ""
    inside = _line(_at(0, scale), _at(0, scale), 0, HEIGHT, THEME_INK)
    inside += _spot(claim.difference, claim.low, claim.high, 9, scale, hollow=claim.verdict not in (HOLDS, REVERSED))
    colour = GROUP_COLOURS.get(claim.measure, METHOD_COLOURS[0])
    alt = f"{claim.first} minus {claim.second}, {claim.measure}: {claim.difference:+{MEASURES[claim.measure].form}}"
    return f'<span style="color:{colour}">{_svg(inside, alt)}</span>'


def _verdict(verdict: str) -> str:
    """With its sign on one line."""
    return f"{SIGNS[verdict]}&nbsp;{verdict}" if verdict in SIGNS else escape(verdict)


def _on(claim: Verdict) -> str:
    colour = GROUP_COLOURS.get(claim.measure, "inherit")
    where = escape(f" on {claim.test}" if claim.test else "")
    return f'<span style="color:{colour}">{escape(claim.measure)}</span>{where}'
