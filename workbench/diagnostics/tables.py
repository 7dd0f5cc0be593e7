"""A table of results as Markdown and as LaTeX: cells with intervals, and bold only where a test supports it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "†": r"\textdagger{}", "|": r"\textbar{}", "`": r"\textasciigrave{}",
}  # fmt: skip
_QUOTED = r"\\textasciigrave\{\}(.*?)\\textasciigrave\{\}"  # `all` of the notes


@dataclass(frozen=True, kw_only=True)
class Table:
    """Texts of a table: `heads` and each of `rows` have one text per column, the first column names the row."""

    heads: list[str]
    rows: list[list[str]]
    bold: frozenset[tuple[int, int]]  # (row, column) of cells that the paired test supports
    notes: list[str]  # what the numbers mean, one paragraph each

    def to_markdown(self) -> str:
        lines = [self.heads, ["---"] + ["---:"] * (len(self.heads) - 1)]
        lines += [
            [f"**{_bar(text)}**" if (y, x) in self.bold else _bar(text) for x, text in enumerate(row)]
            for y, row in enumerate(self.rows)
        ]
        return "\n".join(["| " + " | ".join(line) + " |" for line in lines] + ["", *self.notes])

    def to_latex(self) -> str:
        """For a page with the booktabs package; texts are escaped, intervals are set smaller."""
        align = "l" + "r" * (len(self.heads) - 1)
        lines = [r"% \usepackage{booktabs}", rf"\begin{{tabular}}{{{align}}}", r"\toprule"]
        lines += [" & ".join(map(escape_latex, self.heads)) + r" \\", r"\midrule"]
        for y, row in enumerate(self.rows):
            cells = [
                rf"\textbf{{{_interval(text)}}}" if (y, x) in self.bold else _interval(text)
                for x, text in enumerate(row)
            ]
            lines.append(" & ".join(cells) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}", "", r"\smallskip", r"{\footnotesize"]
        notes = (re.sub(_QUOTED, r"\\texttt{\1}", escape_latex(note)) for note in self.notes)
        return "\n".join([*lines, *(rf"{note}\par" for note in notes), "}"]) + "\n"


def escape_latex(text: str) -> str:
    """Text that LaTeX sets as it stands: names of methods and classes come from outside and may hold commands."""
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def _interval(text: str) -> str:
    """ "51.2 [47.8, 54.6]" with the interval in smaller type."""
    value, bracket, rest = text.partition(" [")
    if not bracket:
        return escape_latex(text)
    bounds, _, after = rest.partition("]")
    space = " " if after.startswith(" ") else ""
    return rf"{escape_latex(value)} {{\scriptsize [{escape_latex(bounds)}]}}{space}{escape_latex(after)}"


def _bar(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")
