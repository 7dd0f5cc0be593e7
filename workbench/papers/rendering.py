"""A parity card as Markdown: the table, the claims with their verdicts, and what one must know to read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .measures import MEASURES

if TYPE_CHECKING:
    from .card import ParityCard, Row, Verdict


def card_markdown(card: ParityCard) -> str:
    datasets = list(dict.fromkeys(data for row in card.rows for data in row.reported))
    seeds = f"{len(card.seeds)} seed{'s' if len(card.seeds) > 1 else ''}"
    where = f" ({' / '.join(datasets)})" if datasets else ""
    parts = [
        f"# {card.id}: {card.title}",
        f"`{card.command}`",
        f"{card.data} with {', '.join(card.backbones)}; {seeds}; groups: {card.rule}; {card.hardware}; trainings "
        f"{_duration(card.training_seconds)} one after the other. Measured values with the 95 % interval over classes; "
        f"in brackets what the paper reports{where}.",
        _table(card, datasets),
    ]
    if card.claims:
        parts.append(_claims(card))
    parts += [f"{_cell(name)}:\n\n```\n{text.replace('```', '')}\n```" for name, text in card.panels.items()]
    if reported := _reported_only(card, datasets):
        parts.append(f"Reported only:\n\n{reported}")
    if card.not_run:
        parts.append("Not run:\n\n" + "\n".join(f"- {_cell(arm)}: {_cell(why)}" for arm, why in card.not_run.items()))
    if card.deviations:
        parts.append("Known deviations:\n\n" + "\n".join(f"- {each}" for each in card.deviations))
    parts.append("Versions: " + ", ".join(f"{name} {version}" for name, version in card.versions.items()))
    return "\n\n".join(part for part in parts if part)


def _table(card: ParityCard, datasets: list[str]) -> str:
    ours = [row for row in card.rows if row.status != "reported only"]
    measures = list(dict.fromkeys((row.measure, row.test) for row in ours))
    lines = [_line("arm", "lr", *(_on(*each) for each in measures)), _line("---", "---:", *["---:"] * len(measures))]
    by_arm: dict[str, list[Row]] = {}
    for row in ours:
        by_arm.setdefault(row.arm, []).append(row)
    for arm, rows in by_arm.items():
        cells = {(row.measure, row.test): _value(row, datasets) for row in rows}
        lr, mark = card.lrs.get(arm), " *" if rows[0].status == "ours" else ""
        lines.append(_line(_cell(arm) + mark, "" if lr is None else f"{lr:g}", *(cells.get(m, "") for m in measures)))
    return "\n".join([*lines, "", "\\* the paper's own method and its variants; the others are baselines."])


def _value(row: Row, datasets: list[str]) -> str:
    form = MEASURES[row.measure].form
    paper = f" ({printed(row.reported, datasets)})" if row.reported else ""
    if row.measured is None:
        return f"n/a{paper}"
    if row.low is None or row.high is None:
        return f"**{row.measured:{form}}**{paper}"
    return f"**{row.measured:{form}}**{interval(row.measured, row.low, row.high, form)}{paper}"


def printed(reported: dict[str, float], datasets: list[str]) -> str:
    """Values of one row, those of all data sets with as many digits, one at least: "78.0 / 52.2"."""
    digits = max(1, *(len(f"{value:g}".partition(".")[2]) for value in reported.values()))
    return " / ".join(f"{reported[data]:.{digits}f}" for data in datasets if data in reported)


def interval(estimate: float, low: float, high: float, form: str) -> str:
    """ " ± 3.4", or " [47.1, 53.9]" where the estimate is more than a tenth off the middle, as that of a Wilson one."""
    half, middle = (high - low) / 2, (high + low) / 2
    return f" ± {half:{form}}" if abs(estimate - middle) <= 0.1 * half else f" [{low:{form}}, {high:{form}}]"


def _claims(card: ParityCard) -> str:
    head = ("first minus second", "on", "paper", "ours [95 %, classes paired]", "could have shown", "verdict")
    lines = [
        f"Claims: {counted(card.verdicts())}.",
        "",
        _line(*head),
        _line("---", "---", "---:", "---:", "---:", "---"),
    ]
    for claim in card.claims:
        pair = f"{_cell(claim.first)} minus {_cell(claim.second)}"
        lines.append(
            _line(
                pair,
                _on(claim.measure, claim.test),
                _paper(claim),
                *ours(claim),
                f"**{claim.verdict}**" if claim.difference is not None else claim.verdict,
            )
        )
    return "\n".join(lines)


def counted(verdicts: dict[str, int]) -> str:
    """ "3 holds, 9 undecided": of how many claims which verdict."""
    return ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())


def _on(measure: str, test: str) -> str:
    return f"{measure} on {test}" if test else measure


def _paper(claim: Verdict) -> str:
    return " ".join(part for part in (differences(claim), claim.said) if part)


def differences(claim: Verdict) -> str:
    """What the paper has, of each data set: "+8.0 / +4.6"; a difference that would be rounded away as "+0.03"."""
    form = MEASURES[claim.measure].form
    found = [(value, f"{value:+{form}}") for value in claim.reported.values()]
    return " / ".join(f"{value:+.1g}" if abs(value) > 1e-6 and float(text) == 0 else text for value, text in found)


def ours(claim: Verdict) -> tuple[str, str]:
    """The measured difference with its interval, and what could have shown; "" where an arm was not run."""
    form = MEASURES[claim.measure].form
    if claim.difference is None:
        return "", ""
    found = f"{claim.difference:+{form}}"
    if claim.low is not None and claim.high is not None:
        found += f" [{claim.low:+{form}}, {claim.high:+{form}}]"
    shown = "" if claim.could_have_shown is None else f"{claim.could_have_shown:{form}}"
    return found, shown


def _reported_only(card: ParityCard, datasets: list[str]) -> str:
    by_row: dict[str, list[str]] = {}
    for row in card.rows:
        if row.status == "reported only":
            by_row.setdefault(row.arm, []).append(f"{row.measure} {printed(row.reported, datasets)}")
    return "\n".join(f"- {_cell(name)}: {', '.join(values)}" for name, values in by_row.items())


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{seconds / 3600:.1f} h"
