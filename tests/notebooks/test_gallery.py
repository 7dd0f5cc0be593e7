"""The gallery shows every registered diagnostic and says how to read it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat

from workbench.diagnostics import DIAGNOSTICS

GALLERY = Path(__file__).parents[2] / "notebooks" / "howto" / "gallery.ipynb"


def plotted(source: str) -> set[str]:
    """Names N of which the source has wb.N(...).plot(...), in place or by way of a variable."""
    made: dict[str, str] = {}
    found = set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and (name := diagnostic(node.value)):
            made[node.targets[0].id] = name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "plot":
            of_variable = made.get(node.value.id) if isinstance(node.value, ast.Name) else None
            found.add(diagnostic(node.value) or of_variable)
    return {name for name in found if name}


def diagnostic(node: ast.AST) -> str | None:
    """N where the node is wb.N(...)."""
    called = node.func if isinstance(node, ast.Call) else None
    of_package = isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "wb"
    return called.attr if of_package else None


def test_plotted_reads_calls_in_place_and_by_a_variable() -> None:
    source = 'wb.topk(f).plot(view="all")\nr = wb.cost(m)\nr.plot();\nwb.drift(a, b)\nax.plot(x)'
    assert plotted(source) == {"topk", "cost"}


def test_every_diagnostic_is_plotted_and_explained() -> None:
    cells = nbformat.read(GALLERY, as_version=4).cells
    shown = plotted("\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    explained = set(re.findall(r"`(\w+)`", "\n".join(c.source for c in cells if c.cell_type == "markdown")))
    missing = {"not plotted": sorted(set(DIAGNOSTICS) - shown), "not explained": sorted(set(DIAGNOSTICS) - explained)}
    assert not any(missing.values()), f"{missing}: add a line to notebooks/howto/gallery.ipynb"
