"""The house rule of design: a room imports strictly lower floors, and every room stands on one."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "workbench"
FLOORS = {
    "__main__": 7,
    **dict.fromkeys(("apps", "cli"), 6),
    "papers": 5,
    **dict.fromkeys(("training", "diagnostics"), 4),
    **dict.fromkeys(("runs", "features"), 3),
    "methods": 2,
    **dict.fromkeys(("data", "backbones", "adapters"), 1),
    **dict.fromkeys(("toybox", "metrics", "losses", "heads", "optim", "progress", "versions"), 0),
}
FRONT_DOOR = 6  # `import workbench as wb` gives everything up to here


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms that a file imports, also inside functions and under TYPE_CHECKING; "" is the front door itself."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = inner if node.module == "workbench" else [node.module]
        rooms |= {[*name.split("."), ""][1] for name in names if name.split(".")[0] == "workbench"}
        if isinstance(node, ast.ImportFrom) and node.level > 1:
            raise AssertionError(f"{path} leaves its room by a relative import")
    return rooms


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_lower_floors(path: Path) -> None:
    room = room_of(path)
    assert room in FLOORS, f"{room} is on no floor; give it one in design and in this test"
    for other in imported_rooms(path) - {room}:
        floor = FRONT_DOOR - 1 if other == "" else FLOORS.get(other)
        assert floor is not None, f"{path} imports {other}, which is on no floor"
        assert floor < FLOORS[room], f"{path} (floor {FLOORS[room]}) imports {other} (floor {floor})"


def test_the_front_door_lists_what_it_offers() -> None:
    import workbench
    from workbench.diagnostics import DIAGNOSTICS

    assert set(DIAGNOSTICS) <= set(dir(workbench))
    for name in dir(workbench):
        assert getattr(workbench, name) is not None
    with pytest.raises(AttributeError, match="it offers"):
        workbench.no_such_thing  # noqa: B018


def test_import_loads_neither_torch_nor_matplotlib() -> None:
    import subprocess
    import sys

    code = "import sys, workbench; print([m for m in ('torch', 'matplotlib', 'timm', 'numpy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
