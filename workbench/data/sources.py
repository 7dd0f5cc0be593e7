"""Sources of an import: class folders, `relative/path label` lists and CSV tables become rows and class names."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .manifest import resolve_inside

EXTENSIONS = frozenset(".jpg .jpeg .jpe .jfif .png .gif .bmp .webp .tif .tiff .ppm .pgm .pbm .pnm .avif .mpo".split())
SPLIT_FOLDERS = ("train", "val", "test")
MAX_CLASSES = 1_000_000  # a larger label is a slip, and every label up to the largest becomes a class


@dataclass
class Rows:
    """What a source lists, before any file is opened."""

    root: Path
    splits: dict[str, list[tuple[str, int]]]  # split -> (relative path, label)
    names: list[str] | None = None  # of class 0, 1, ...; None where the source has none
    outside: list[tuple[str, str]] = field(default_factory=list)  # (split, link to a folder outside the root)
    notes: list[str] = field(default_factory=list)


def read_source(
    source: Path | Mapping[str, Path], *, root: Path | None, rename: Mapping[str, str], class_names: Path | None
) -> Rows:
    """Rows of a folder, a list, a CSV, or of one list per split; `rename` maps the source's split names to ours."""
    if isinstance(source, Mapping):
        base = root or next(iter(source.values())).parent
        rows = Rows(base, {split: read_list(path) for split, path in source.items()})
    elif source.is_dir():
        rows = _read_folders(source, root or source, rename)
    elif not source.is_file():
        raise FileNotFoundError(f"nothing at {source}; give a folder of class folders, a list, or a CSV.")
    elif source.name.endswith(".csv"):
        rows = Rows(root or source.parent, _read_csv(source))
        if class_names is None and (source.parent / "classes.csv").is_file():
            class_names = source.parent / "classes.csv"
    else:
        rows = Rows(root or source.parent, {"train": read_list(source)})
    if not rows.root.is_dir():
        raise FileNotFoundError(f"root {rows.root} is not a folder; it is where the listed paths start.")
    unknown = [name for name in rename if name not in rows.splits]
    if unknown:
        raise ValueError(f"splits names {unknown}, but {source} has {', '.join(rows.splits) or 'none'}.")
    renamed = [rename.get(name, name) for name in rows.splits]
    if len(set(renamed)) != len(renamed):
        raise ValueError(f"splits={dict(rename)} gives the same name to two of {', '.join(rows.splits)}.")
    rows.splits = dict(zip(renamed, rows.splits.values(), strict=True))
    rows.outside = [(rename.get(split, split), path) for split, path in rows.outside]
    if class_names is not None:
        rows.names = read_names(class_names, rows.names)
    _check_labels(rows)
    return rows


def _check_labels(rows: Rows) -> None:
    """Labels are >= 0, have a name where there are names, and no file is listed under two of them."""
    seen: dict[str, int] = {}
    limit = MAX_CLASSES if rows.names is None else len(rows.names)
    for split, listed in rows.splits.items():
        for path, label in listed:
            if not 0 <= label < limit:
                raise ValueError(f"split {split}: label {label} for {path!r}; labels are 0 to {limit - 1}.")
            if seen.setdefault(path, label) != label:
                raise ValueError(f"{path!r} is listed with the labels {seen[path]} and {label}; correct the source.")


def read_list(path: Path) -> list[tuple[str, int]]:
    rows = []
    text = path.read_text("utf-8", errors="surrogateescape").removeprefix("\ufeff")
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        parts = line.rstrip().rsplit(None, 1)  # paths may contain spaces
        if len(parts) != 2:
            raise ValueError(f"{path}, line {number}: {line!r:.100}; lines are `relative/path label`.")
        rows.append((parts[0], _label(parts[1], f"{path}, line {number}")))
    return rows


def _read_csv(path: Path) -> dict[str, list[tuple[str, int]]]:
    splits: dict[str, list[tuple[str, int]]] = {}
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file)
        missing = {"split", "path", "label"} - set(reader.fieldnames or [])
        if missing:
            raise ValueError(f"{path}: no column {', '.join(sorted(missing))}; a table has split, path and label.")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if not row["split"] or not row["path"]:
                raise ValueError(f"{where}: split or path is empty.")
            splits.setdefault(row["split"], []).append((row["path"], _label(row["label"], where)))
    return splits


def _label(text: str | None, where: str) -> int:
    try:
        return int(text or "")
    except ValueError:
        raise ValueError(f"{where}: label {text!r} is not an integer; names of classes go into another file.") from None


def read_names(path: Path, folders: list[str] | None) -> list[str]:
    """Class names: a CSV with label and name, or one name per line in label order, or `folder name` lines."""
    text = path.read_text("utf-8-sig")
    if path.name.endswith(".csv"):
        table = list(csv.DictReader(text.splitlines(keepends=True)))
        if not table or not {"label", "name"} <= set(table[0]):
            raise ValueError(f"{path}: a table of class names has the columns label and name.")
        by_label = {_label(row["label"], str(path)): row["name"] for row in table}
        if len(by_label) != len(table) or set(by_label) != set(range(len(by_label))):
            raise ValueError(f"{path}: the labels must be 0, 1, 2, ... without gaps, each once.")
        names = [by_label[label] for label in range(len(by_label))]
    else:
        names = [line for line in text.split("\n") if line.strip()]
        by_folder = dict(line.partition(" ")[::2] for line in names)
        if folders is not None and set(folders) <= set(by_folder):
            return [by_folder[folder].strip() or folder for folder in folders]
    if folders is not None and len(names) != len(folders):
        raise ValueError(f"{path} has {len(names)} names for {len(folders)} class folders.")
    return names


def _read_folders(source: Path, root: Path, rename: Mapping[str, str]) -> Rows:
    """root/<split>/<class>/**/image or root/<class>/**/image; the class order is that of the sorted folder names."""
    source, root = source.resolve(), root.resolve()
    if not source.is_relative_to(root):
        raise ValueError(f"source {source} must lie in root {root}, for paths are recorded relative to the root.")
    tops = sorted(entry.name for entry in os.scandir(source) if entry.is_dir() and not entry.name.startswith("."))
    splits = [name for name in (*SPLIT_FOLDERS, *rename) if name in tops]
    rows = Rows(root, {})
    if splits:
        others = [name for name in tops if name not in splits]
        if others:
            rows.notes.append(f"folders beside the splits were not read: {', '.join(others[:5])} (rename with splits=)")
    layers = {split: source / split for split in dict.fromkeys(splits)} or {"train": source}
    found: dict[str, list[tuple[str, str]]] = {}
    skipped: list[str] = []
    for split, folder in layers.items():
        found[split] = []
        for path in _walk(root, folder, split, rows, skipped):
            inside = path.relative_to(folder).parts
            if len(inside) < 2:
                skipped.append(path.name)
                continue
            found[split].append((path.relative_to(root).as_posix(), inside[0]))
    if skipped:
        rows.notes.append(f"{len(skipped):,} files passed over (no image's extension, no class folder): {skipped[0]!a}")
    folders = sorted({name for listed in found.values() for _, name in listed} | _class_folders(layers))
    labels = {name: label for label, name in enumerate(folders)}
    rows.splits = {split: [(path, labels[name]) for path, name in listed] for split, listed in found.items()}
    rows.names = [name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name in folders]
    return rows


def _class_folders(layers: Mapping[str, Path]) -> set[str]:
    """Folders that stand for a class even when they hold no image: an empty class keeps its label."""
    entries = [entry for folder in layers.values() for entry in os.scandir(folder)]
    return {e.name for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")}


def _walk(root: Path, folder: Path, split: str, rows: Rows, skipped: list[str]) -> list[Path]:
    """Files with an image's extension below folder, sorted; linked folders are not followed."""
    files: list[Path] = []
    for where, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in below:
            link = Path(where) / name
            if link.is_symlink():
                try:
                    resolve_inside(root, link.relative_to(root).as_posix())
                    rows.notes.append(f"the linked folder {link} was not followed")
                except ValueError:
                    rows.outside.append((split, link.relative_to(root).as_posix()))
        for name in sorted(names):
            if Path(name).suffix.lower() in EXTENSIONS and not name.startswith("."):
                files.append(Path(where) / name)
            elif not name.startswith("."):
                skipped.append(name)
    return files
