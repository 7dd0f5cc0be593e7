"""Manifests: one data set as a frozen record of paths, labels, splits, classes and its shot-group rule.

The format on disk is documented in `data_manifests/README.md`. A manifest knows nothing of pixels. What it reads is not
trusted: a path that could leave the data set's folder is refused, labels are checked, and each split carries a sha256.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from .benchmarks import benchmark_names, read_benchmark
from .classes import Classes as Classes
from .classes import GroupRule as GroupRule
from .classes import read_only

FORMAT = 1  # raised when a reader of the previous format would misread the files
KINDS = ("files", "digits", "toybox", "cifar100")


def exponential_counts(largest: int, num_classes: int, imbalance_ratio: float) -> np.ndarray:
    """Training images per class of an exponential long tail, (C,) int64, largest first.

    n_i = int(largest * (1 / ratio) ** (i / (C - 1))): the rule of CIFAR-LT (LDAM-DRW, NeurIPS 2019, arXiv 1906.07413),
    which truncates. Rounding instead gives other totals (10,899 and not 10,847 images for 500, 100, 100).
    """
    if largest < 1 or num_classes < 1 or imbalance_ratio < 1:
        raise ValueError(
            f"exponential_counts({largest}, {num_classes}, {imbalance_ratio}): the largest class and the number of "
            "classes must be at least 1, and so must the ratio (largest / smallest class)."
        )
    factor = 1 / imbalance_ratio
    steps = max(num_classes - 1, 1)
    return np.array([int(largest * factor ** (i / steps)) for i in range(num_classes)], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of one split, in their fixed order."""

    paths: np.ndarray  # (N,) str, relative to the data set's root with "/", or keys for a kind that has no files
    labels: np.ndarray  # (N,) int64

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", read_only(self.paths, np.str_))
        object.__setattr__(self, "labels", read_only(self.labels, np.int64))
        if self.paths.shape != self.labels.shape or self.paths.ndim != 1:
            raise ValueError(f"a split needs a label per path, got shapes {self.paths.shape} and {self.labels.shape}.")

    def __len__(self) -> int:
        return len(self.labels)


def check_relative(path: str) -> None:
    """Raise ValueError for a path that is empty, absolute, has a `..` part or a NUL character."""
    if not path or path.startswith("/") or "\0" in path or ".." in PurePosixPath(path).parts:
        raise ValueError(
            f"path {path!r} is refused: paths are relative to the data set's root, use '/', and have no '..' part."
        )


def resolve_inside(root: Path, relative: str) -> Path:
    """root / relative with links followed; ValueError when that is not inside root (root may itself be a link)."""
    check_relative(relative)
    base = Path(root).resolve()
    full = (base / relative).resolve()
    if not full.is_relative_to(base):
        raise ValueError(f"{relative!r} leads to {full}, outside {base}; links out of the data set's root are refused.")
    return full


@dataclass(frozen=True, kw_only=True, eq=False)
class Manifest:
    """Frozen record of one data set. `path` is the TOML file it was read from or written to, None before that."""

    name: str
    title: str
    licence: str
    source: str
    kind: str  # "files": rows are paths under a root; "cifar100": keys of its images; "digits", "toybox": need no files
    splits: dict[str, Split]
    classes: Classes
    texts: dict[str, list[str]] | None = None  # class name -> sentences about the class
    path: Path | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", self.name):
            raise ValueError(f"name {self.name!r}: use letters, digits, '_', '-' and '.', for it becomes file names.")
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is not known; choose one of {', '.join(KINDS)}.")
        for name, split in self.splits.items():
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise ValueError(f"split name {name!r}: use letters, digits, '_' and '-'.")
            outside = np.flatnonzero((split.labels < 0) | (split.labels >= len(self.classes)))
            if len(outside):
                row = int(outside[0])
                raise ValueError(
                    f"{self.name}, split {name}, row {row}: label {split.labels[row]} for {split.paths[row]!r}, "
                    f"but labels go from 0 to {len(self.classes) - 1}."
                )
            for path in split.paths.tolist():
                check_relative(path)
        if "train" in self.splits:
            counts = np.bincount(self.splits["train"].labels, minlength=len(self.classes))
            if not np.array_equal(counts, self.classes.counts):
                raise ValueError(f"{self.name}: the class counts are not those of the train split.")

    @property
    def has_validation(self) -> bool:
        """Whether there is a split "val"; without one nothing may be chosen on test instead."""
        return "val" in self.splits

    def split(self, name: str) -> Split:
        if name not in self.splits:
            raise ValueError(f"{self.name} has no split {name!r}; it has {', '.join(self.splits)}.")
        return self.splits[name]

    def split_sha256(self, name: str) -> str:
        """sha256 of the ordered rows of one split: each row is `path NUL label LF` in UTF-8."""
        split = self.split(name)
        rows = (f"{path}\0{label}\n" for path, label in zip(split.paths.tolist(), split.labels.tolist(), strict=True))
        return hashlib.sha256(_encode("".join(rows))).hexdigest()

    @property
    def sha256(self) -> str:
        """sha256 of what a run depends on: rows and class names.

        The hashed text is `split SPACE split_sha256 LF` for each split by name, then each class name and LF in order.
        """
        lines = [f"{name} {self.split_sha256(name)}\n" for name in sorted(self.splits)]
        lines += [f"{_escape(name)}\n" for name in self.classes.names]
        return hashlib.sha256(_encode("".join(lines))).hexdigest()

    @staticmethod
    def names() -> list[str]:
        """Names that `load` knows without a path, sorted."""
        return sorted({file.stem for folder in _folders() for file in folder.glob("*.toml")})

    @classmethod
    def load(cls, name_or_path: str | Path) -> Manifest:
        """Read and check a manifest; a bare name is looked up in ./data_manifests, then among the packaged ones."""
        return _read(_find(name_or_path))

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write the manifest's files into folder and return the TOML's path; equal content gives equal bytes.

        Files with other content are only replaced with overwrite=True.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        toml = folder / f"{self.name}.toml"
        files = _files(self)
        present = [name for name in files if (folder / name).exists()]
        other = [name for name in present if (folder / name).read_bytes() != files[name]]
        if other and not overwrite:
            raise FileExistsError(f"{folder} already holds {', '.join(other)} with other content; pass overwrite=True.")
        for name, data in files.items():  # the TOML comes last: it vouches for the others by their sha256
            temporary = folder / f"{name}.tmp"
            temporary.write_bytes(data)
            temporary.replace(folder / name)
        return toml


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # file names that are not UTF-8 keep their bytes


def _escape(name: str) -> str:
    return name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def _unescape(line: str) -> str:
    return re.sub(r"\\(.)", lambda match: {"n": "\n", "r": "\r"}.get(match[1], match[1]), line)


def _texts_lines(texts: dict[str, list[str]]) -> str:
    return "".join(json.dumps({"class": name, "texts": lines}) + "\n" for name, lines in texts.items())


def _gzip(text: str) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", mtime=0) as file:  # no name, no time: equal bytes
        file.write(_encode(text))
    return buffer.getvalue()


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml_value(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml_key(key)} = {_toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, str):  # JSON strings are TOML strings, but for DEL and halves of surrogate pairs
        whole = value.encode("utf-8", "replace").decode()
        return json.dumps(whole, ensure_ascii=False).replace("\x7f", "\\u007F")
    return json.dumps(value)


def _files(manifest: Manifest) -> dict[str, bytes]:
    """File name -> bytes, in the order in which they are written."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["split", "path", "label"])
    for name, split in manifest.splits.items():
        writer.writerows(zip([name] * len(split), split.paths.tolist(), split.labels.tolist(), strict=True))
    names = "".join(f"{_escape(name)}\n" for name in manifest.classes.names)
    files = {
        f"{manifest.name}.csv.gz": _gzip(table.getvalue()),
        f"{manifest.name}.classes.txt": _encode(names),
    }
    head: dict[str, Any] = {"format": FORMAT, "name": manifest.name, "title": manifest.title}
    head |= {"licence": manifest.licence, "source": manifest.source, "kind": manifest.kind}
    tables: dict[str, dict[str, Any]] = {
        "classes": {"count": len(manifest.classes), "sha256": hashlib.sha256(_encode(names)).hexdigest()},
        "groups": manifest.classes.rule.to_json(),
    }
    for name, split in manifest.splits.items():
        tables[f"splits.{name}"] = {"count": len(split), "sha256": manifest.split_sha256(name)}
    if manifest.classes.taxonomy is not None:
        tables["taxonomy"] = {level: nodes.tolist() for level, nodes in manifest.classes.taxonomy.items()}
    if manifest.texts is not None:
        lines = _texts_lines(manifest.texts)
        files[f"{manifest.name}.texts.jsonl.gz"] = _gzip(lines)
        tables["texts"] = {"sha256": hashlib.sha256(_encode(lines)).hexdigest()}
    text = "".join(f"{key} = {_toml_value(value)}\n" for key, value in head.items())
    for title, rows in tables.items():
        text += f"\n[{title}]\n"
        text += "".join(f"{_toml_key(key)} = {_toml_value(value)}\n" for key, value in rows.items())
    files[f"{manifest.name}.toml"] = text.encode("utf-8")
    return files


def _folders() -> list[Path]:
    package = Path(__file__).parents[1]
    return [Path("data_manifests"), package / "data_manifests", package.parent / "data_manifests"]


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path).expanduser()
    if isinstance(name_or_path, Path) or path.suffix == ".toml" or len(path.parts) > 1:
        if path.is_file():
            return path
        raise FileNotFoundError(f"no manifest at {path}; give the path of a .toml file, or a name without folder.")
    for folder in _folders():
        if (folder / f"{name_or_path}.toml").is_file():
            return folder / f"{name_or_path}.toml"
    if name_or_path in benchmark_names():
        facts = read_benchmark(str(name_or_path))
        raise FileNotFoundError(
            f"{facts.name} ({facts.title}) is known but not at hand: it needs {facts.needs}. With these in a folder, "
            f"type: {facts.command}"
        )
    known = Manifest.names()
    more = [name for name in benchmark_names() if name not in known]
    raise FileNotFoundError(
        f"no manifest named {name_or_path!r}; known are {', '.join(known)}, and with lists or images of your own "
        f"{', '.join(more) or 'no other'}. Looked in {', '.join(map(str, _folders()))}. "
        "`workbench data import` makes one of your own images."
    )


def _checked(path: Path, what: str, found: str, stated: str) -> None:
    if found != stated:
        raise ValueError(
            f"{path}: the sha256 of {what} is {found[:16]}..., the manifest states {stated[:16]}...: "
            "a file was changed or belongs to another version. Get all files from one place again, or import anew."
        )


def _rows(path: Path, declared: dict[str, int]) -> dict[str, tuple[list[str], list[int]]]:
    """Read split,path,label rows; stops at the declared numbers, so that a small file cannot unpack without end."""
    rows: dict[str, tuple[list[str], list[int]]] = {name: ([], []) for name in declared}
    with gzip.open(path, "rt", encoding="utf-8", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        if next(reader, None) != ["split", "path", "label"]:
            raise ValueError(f"{path}: the first line must be split,path,label.")
        for number, row in enumerate(reader, start=2):
            if len(row) != 3 or row[0] not in rows or not re.fullmatch(r"-?[0-9]{1,9}", row[2]):
                raise ValueError(f"{path}, row {number}: {row!r:.200}; rows are split,path,label of {', '.join(rows)}.")
            paths, labels = rows[row[0]]
            if len(paths) == declared[row[0]]:
                raise ValueError(f"{path}, row {number}: more than the {declared[row[0]]} rows stated for {row[0]}.")
            paths.append(row[1])
            labels.append(int(row[2]))
    return rows


def _read(path: Path) -> Manifest:
    try:
        record = tomllib.loads(path.read_text("utf-8"))
        if record["format"] != FORMAT:
            raise ValueError(f"{path}: format {record['format']} is not known; this version reads format {FORMAT}.")
        lines = path.with_suffix(".classes.txt").read_bytes()
        _checked(path, "the class names", hashlib.sha256(lines).hexdigest(), record["classes"]["sha256"])
        names = [_unescape(line) for line in lines.decode("utf-8", "surrogateescape").split("\n")[:-1]]
        stated = record.get("splits", {})
        rows = _rows(path.with_suffix(".csv.gz"), {name: int(split["count"]) for name, split in stated.items()})
        splits = {name: Split(np.array(paths, np.str_), np.array(labels)) for name, (paths, labels) in rows.items()}
        train = splits["train"].labels if "train" in splits else np.empty(0, np.int64)
        counts = np.bincount(train[(train >= 0) & (train < len(names))], minlength=len(names))
        rule = GroupRule.from_json(record.get("groups", {}))
        texts = _read_texts(path, record["texts"]["sha256"]) if "texts" in record else None
        manifest = Manifest(
            **{key: str(record[key]) for key in ("name", "title", "licence", "source", "kind")},
            splits=splits,
            classes=Classes(tuple(names), counts, rule, record.get("taxonomy")),
            texts=texts,
            path=path,
        )
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, gzip.BadGzipFile, EOFError, csv.Error) as error:
        raise ValueError(f"{path}: not a readable manifest ({error}); see data_manifests/README.md.") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: entry {error} is missing or wrong; see data_manifests/README.md.") from error
    for name in splits:
        _checked(path, f"split {name}", manifest.split_sha256(name), str(stated[name]["sha256"]))
    return manifest


def _read_texts(path: Path, stated: str) -> dict[str, list[str]]:
    data = gzip.decompress(path.with_suffix(".texts.jsonl.gz").read_bytes())
    _checked(path, "the texts", hashlib.sha256(data).hexdigest(), stated)
    records = [json.loads(line) for line in data.decode("utf-8").splitlines()]
    return {str(record["class"]): [str(text) for text in record["texts"]] for record in records}
