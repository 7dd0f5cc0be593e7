"""How does a figure become one of a paper? Widths of the venues' pages, and a draft of its caption.

A figure that is scaled to a column has letters of another size than the text around it, so it is laid out at the width
at which it is printed (`fitting.refit`). Widths are those of the venues' own LaTeX files, named beside each number; a
venue whose file was not read is not here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .fitting import refit as refit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .base import Result

WIDTHS = ("column", "text")


@dataclass(frozen=True, kw_only=True)
class Venue:
    """Inches of one column and of the full text; a page of one column has both alike."""

    column: float
    text: float


VENUES = {
    # cvpr-org/author-kit cvpr.sty (2025): \textwidth 6.875in, \columnsep 0.3125in; its README names CVPR, ICCV and 3DV
    "3dv": Venue(column=(6.875 - 0.3125) / 2, text=6.875),
    # aaai25.sty (2025/05/08): \textwidth 7.0in, \columnsep 0.375in
    "aaai": Venue(column=(7.0 - 0.375) / 2, text=7.0),
    "cvpr": Venue(column=(6.875 - 0.3125) / 2, text=6.875),
    # eccv.sty (2024) is for \documentclass{llncs}; Springer's llncs.cls (2.22): \textwidth 12.2cm
    "eccv": Venue(column=12.2 / 2.54, text=12.2 / 2.54),
    "iccv": Venue(column=(6.875 - 0.3125) / 2, text=6.875),
    # ICLR/Master-Template iclr2026_conference.sty: \textwidth 5.5 true in
    "iclr": Venue(column=5.5, text=5.5),
    # icml2025.sty: \textwidth 6.75in, \columnsep 0.25in
    "icml": Venue(column=(6.75 - 0.25) / 2, text=6.75),
    # neurips_2025.sty: textwidth=5.5in
    "neurips": Venue(column=5.5, text=5.5),
}


def page_width(venue: str, width: str) -> float:
    """Inches of a venue's "column" or "text"; ValueError for others."""
    if venue not in VENUES:
        raise ValueError(
            f"venue={venue!r} is not known; choose one of {', '.join(VENUES)}. For another, add the widths of its "
            "LaTeX file to workbench.diagnostics.publication.VENUES."
        )
    if width not in WIDTHS:
        raise ValueError(f"width={width!r}; choose 'column' or 'text'.")
    return float(getattr(VENUES[venue], width))


def caption_draft(result: Result, view: str, axes: Axes) -> str:
    """What a caption has to say, from the result's own fields: a draft to shorten, not a text to print.

    Names what is shown, the axes, the numbers with their n and intervals, data, method, seeds and what made it.
    """
    from .base import load_diagnostic

    said = (load_diagnostic(result.diagnostic).__doc__ or result.diagnostic).strip().split("\n\n")[0]
    lines = [" ".join(said.split()), f"View: {view}." if len(result.views) > 1 else ""]
    labels = {"across": axes.get_xlabel(), "up": axes.get_ylabel()}
    shown = ", ".join(f"{way} {' '.join(label.split())}" for way, label in labels.items() if label)
    lines += [f"Axes: {shown}." if shown else "", "", "Numbers:", str(result), ""]
    if "level" in result.arguments:
        lines.append(f"Intervals: {100 * float(result.arguments['level']):g} %.")
    lines += _sources(result.sources)
    made = result.provenance
    simple = json.dumps(made["arguments"], sort_keys=True, ensure_ascii=False)
    lines.append(f"Made by workbench {made['versions']['workbench']}, {result.diagnostic}, arguments {simple}.")
    kept = [line.rstrip() for line in "\n".join(lines).split("\n")]
    return "\n".join(line for i, line in enumerate(kept) if line or (i and kept[i - 1])) + "\n"


def _sources(sources: tuple[dict[str, Any], ...]) -> list[str]:
    """Data, methods, seeds, runs and hashes of the features, each once; what is not known is not said."""

    def each(*path: str) -> list[str]:
        found = []
        for value in sources:
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None  # type: ignore[assignment]
            if value is not None:
                found.append(str(value))
        return list(dict.fromkeys(found))

    if not sources:
        return ["Data, method and seeds: not recorded, since this diagnostic was given no features; add them."]
    parts = {
        "Data set": each("manifest"),
        "split": each("split"),
        "manifest sha256": [digest[:12] for digest in each("manifest_sha256")],
        "Method": each("method"),
        "tower": each("backbone", "name"),
        "seeds": each("seed"),
        "Runs": each("run"),
        "weights sha256": [digest[:12] for digest in each("weights_sha256")],
        "state sha256": [digest[:12] for digest in each("state_sha256")],
    }
    starts = ("Data set", "Method", "Runs")
    lines: list[str] = []
    for name, values in parts.items():
        if not values:
            continue
        words = f"{name} {', '.join(values)}"
        if name in starts or not lines:
            lines.append(words[0].upper() + words[1:])
        else:
            lines[-1] += f"; {words}"
    if not parts["Data set"]:
        lines.append("Data: not recorded, since this diagnostic was given no data set; add them")
    return [f"{line}." for line in lines]
