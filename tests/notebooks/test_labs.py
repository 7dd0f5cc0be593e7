"""The labs of the course: what is predicted is revealed later, and an unsolved exercise stops nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest

LABS = Path(__file__).parents[2] / "notebooks" / "labs"
every_lab = pytest.mark.parametrize("path", sorted(LABS.glob("*.ipynb")), ids=lambda path: path.stem)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def is_solution(cell: nbformat.NotebookNode) -> bool:
    return "solution" in cell.metadata.get("tags", [])


def keys(source: str, function: str) -> list[str]:
    """First arguments of the calls of a function; "{...}" stands for what a loop fills in."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function and node.args:
            found.append(ast.unparse(node.args[0]).lstrip("f").strip("'\""))
    return found


def defined(source: str) -> dict[str, str]:
    """Functions of a cell and their arguments."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return {node.name: ast.unparse(node.args) for node in functions}


def needed_names(source: str) -> set[str]:
    """Names that a cell cannot do without: not those in a lambda, which `check` calls, nor those only printed."""

    def walk(node: ast.AST) -> set[str]:
        if isinstance(node, ast.Lambda) or (isinstance(node, ast.Call) and ast.unparse(node.func) == "print"):
            return set()
        own = {node.id} if isinstance(node, ast.Name) else set()
        return own.union(*(walk(child) for child in ast.iter_child_nodes(node)))

    return walk(ast.parse(source))


def test_what_a_cell_needs_and_asks_is_read() -> None:
    assert needed_names("check('a', lambda: adjust(x), y)\nprint(adjust(z))") == {"check", "y"}
    assert sorted(keys("display(predict('1.a', 'b'))\npredict(f'1.{g}')", "predict")) == ["1.a", "1.{g}"]


@every_lab
def test_predictions_are_revealed_in_a_later_cell(path: Path) -> None:
    asked: dict[str, int] = {}
    revealed: dict[str, int] = {}
    for number, cell in enumerate(code_cells(path)):
        asked |= dict.fromkeys(keys(cell.source, "predict"), number)
        revealed |= dict.fromkeys(keys(cell.source, "reveal"), number)
    patterns = {key.partition("{")[0]: number for key, number in revealed.items() if "{" in key}
    assert 3 <= len(asked) <= 6 and all(key.startswith(path.stem[0] + ".") for key in asked)
    for key, number in asked.items():
        shown = revealed.get(key, next((n for start, n in patterns.items() if key.startswith(start)), -1))
        assert shown > number, f"{key} must be revealed in a cell after its question"
    unasked = {key for key in revealed if "{" not in key} - set(asked)
    assert not unasked, f"{unasked} is revealed but never asked"


@every_lab
def test_every_exercise_has_a_stub_a_solution_and_a_check(path: Path) -> None:
    cells = code_cells(path)
    solved = [number for number, cell in enumerate(cells) if is_solution(cell)]
    checks = [key for cell in cells for key in keys(cell.source, "check")]
    assert solved and 2 <= len(checks) <= 4 and len(set(checks)) == len(checks)
    for number in solved:
        stub, solution = defined(cells[number - 1].source), defined(cells[number].source)
        assert stub and stub.items() <= solution.items(), "the cell before a solution has its functions to fill in"
        tried = "\n".join(cell.source for cell in cells[number + 1 :])
        assert all(name in tried for name in stub), f"{sorted(stub)} is never tried"


@every_lab
def test_an_unsolved_exercise_stops_nothing(path: Path) -> None:
    cells = code_cells(path)
    theirs = {name for cell in cells if is_solution(cell) for name in defined(cell.source)}
    for cell in cells:
        if not is_solution(cell):
            used = needed_names(cell.source) & theirs
            assert not used, (
                f"{used} may be unsolved; call it in check(key, lambda: ...), and go on with a known answer"
            )


@every_lab
def test_cells_that_know_the_answers_are_folded(path: Path) -> None:
    for cell in code_cells(path):
        knows = any(keys(cell.source, function) for function in ("check", "reveal"))
        folded = bool(cell.metadata.get("jupyter", {}).get("source_hidden"))
        assert folded == knows, f"{cell.source[:60]!r}: what is checked or revealed must not be read in passing"
        assert not folded or cell.source.startswith(("# checks ", "# reveals ")), "its first line is seen all the same"


@every_lab
def test_it_says_what_it_cannot_show_and_where_to_read_on(path: Path) -> None:
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    assert "cannot show" in text.lower() and text.count("arXiv") >= 3
