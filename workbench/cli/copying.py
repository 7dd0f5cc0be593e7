"""Copies of the notebooks that come with the package: what a user changed stays, what is old is brought up to date."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

KINDS = (".ipynb", ".jpg", ".md", ".png")  # what is copied
RECORD = ".workbench-notebooks.json"  # sha256 of each file as it was copied: tells an old original from a changed file
ANSWER = {"code": ["# your answer: here, or in the cell above"], "markdown": ["*Your answer*"]}


@dataclass(frozen=True, kw_only=True)
class Copied:
    """Files by what became of them: names relative to the folder."""

    new: tuple[str, ...]
    renewed: tuple[str, ...]  # an earlier original, unchanged since
    same: tuple[str, ...]
    kept: tuple[str, ...]  # changed by the user

    def __str__(self) -> str:
        parts = {"new": self.new, "brought up to date": self.renewed, "already there": self.same, "yours": self.kept}
        return ", ".join(f"{len(names)} {word}" for word, names in parts.items() if names) or "nothing to copy"


def copy_notebooks(originals: Path, folder: Path, *, students: bool = False) -> Copied:
    """Copy notebooks and their pictures; a file that somebody changed since it was copied is left alone.

    students: cells tagged "solution" become empty ones.
    """
    if folder.resolve() == originals.resolve():
        raise ValueError(f"{folder} is where the originals are; give another folder to copy them into.")
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[str]] = {"new": [], "renewed": [], "same": [], "kept": []}
    record = _recorded(folder)
    for source in sorted(originals.rglob("*")):
        name = source.relative_to(originals).as_posix()
        if source.suffix not in KINDS or not source.is_file() or set(name.split("/")) & {"runs", ".ipynb_checkpoints"}:
            continue
        content, target = source.read_bytes(), folder / name
        if students and source.suffix == ".ipynb":
            content = without_solutions(content)
        there = target.read_bytes() if target.is_file() else None
        if there is None and not target.exists() and not target.is_symlink():
            kind = "new"
        elif there == content:
            kind = "same"
        else:
            kind = "renewed" if there is not None and record.get(name) == _sha256(there) else "kept"
        found[kind].append(name)
        if kind == "kept":
            continue
        if kind != "same":
            target.parent.mkdir(parents=True, exist_ok=True)
            _replace(target, content)
        record[name] = _sha256(content)
    _replace(folder / RECORD, json.dumps(record, indent=1, sort_keys=True).encode())
    return Copied(**{kind: tuple(names) for kind, names in found.items()})


def without_solutions(content: bytes) -> bytes:
    """A notebook file whose cells tagged "solution" hold a place for an answer; one without such cells is the same."""
    notebook = json.loads(content)
    tagged = [cell for cell in notebook["cells"] if "solution" in cell["metadata"].get("tags", ())]
    if not tagged:
        return content
    for cell in tagged:
        cell["source"] = ANSWER.get(cell["cell_type"], [])
        cell["metadata"] = {"tags": ["answer"]}
        cell.pop("attachments", None)
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode()


def _recorded(folder: Path) -> dict[str, str]:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # then every file that differs counts as changed
    return record if isinstance(record, dict) else {}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _replace(target: Path, content: bytes) -> None:
    temporary = target.with_name(f"{target.name}.part")
    temporary.write_bytes(content)
    temporary.replace(target)
