"""Every notebook runs in fast mode from a fresh kernel in an empty folder, and keeps the house rules."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
FOUND = sorted(NOTEBOOKS.rglob("*.ipynb"))
MOST_CELLS = 15
MODE = re.compile(r'MODE = "(fast|full)"  # or "(fast|full)": \S.*')  # the first line of the parameters
SECONDS = 1200  # per cell; a busy machine is slow, a hanging cell is stopped

every_notebook = pytest.mark.parametrize("path", FOUND, ids=lambda path: str(path.relative_to(NOTEBOOKS)))


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_are_notebooks() -> None:
    assert FOUND


@every_notebook
def test_it_keeps_the_house_rules(path: Path) -> None:
    cells = code_cells(path)
    assert 0 < len(cells) <= MOST_CELLS
    for cell in cells:
        assert cell.outputs == [] and cell.execution_count is None, f"strip the outputs of {cell.source[:60]!r}"
        if cell.source.startswith("%%writefile"):
            continue  # a file of the user's own, which the notebook shows being written
        lines = [line for line in cell.source.splitlines() if not line.startswith(("%", "!"))]
        named = [
            node.name
            for node in ast.walk(ast.parse("\n".join(lines)))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        ]
        assert not named or path.parent.name == "labs", f"{named}: functions and classes belong into the package"


@every_notebook
def test_it_opens_with_title_goal_time_and_memory(path: Path) -> None:
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    for word in ("Goal", "Time", "Memory"):
        assert f"**{word}:**" in first.source


@every_notebook
def test_its_second_cell_is_the_mode(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == [notebook.cells[1]]
    line, *rest = tagged[0].source.splitlines()
    found = MODE.fullmatch(line)
    assert found and found[1] != found[2], f'{line!r} must be like \'MODE = "fast"  # or "full": what it costs\''
    body = ast.parse("\n".join(rest)).body
    assert all(isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) for node in body)
    assert any("MODE" in cell.source for cell in code_cells(path)[1:]), "nothing depends on the mode"


@every_notebook
@pytest.mark.slow
def test_it_runs_in_an_empty_folder(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    folder = tmp_path / "work"
    folder.mkdir()
    notebook = nbformat.read(path, as_version=4)
    _, *rest = notebook.cells[1].source.splitlines()
    notebook.cells[1].source = "\n".join(['MODE = "fast"', *rest])
    client = NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert "Warning" not in str(output.get("text", "")), f"{cell.source[:60]!r} warns: {output.text}"
