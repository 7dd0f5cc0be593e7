"""What does a file of sentences about classes hold? Readers of the public formats, which trust nothing they read.

`json`, {name: [sentence, ...]}: the descriptors of VCD (Menon and Vondrick, Visual Classification via Description from
Large Language Models, ICLR 2023, arXiv 2210.07183) and WaffleCLIP (Roth et al., ICCV 2023, arXiv 2306.07282), the
sentences of CuPL (Pratt et al., What does a platypus look like?, ICCV 2023, arXiv 2209.03320).
`vl-ltr`, a folder `wiki/desc_<index>.txt`: the Wikipedia texts of VL-LTR (Tian et al., ECCV 2022, arXiv 2111.13579).
`jsonl`, {"class": name, "texts": [...]} per line: the texts of our manifests (`data_manifests/README.md`).
"""

from __future__ import annotations

import gzip
import io
import json
import re
import unicodedata
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .manifest import resolve_inside

FORMATS = ("json", "jsonl", "vl-ltr")
MAX_BYTES = 64 * 2**20  # of a file, unpacked; CuPL's largest has 3 MB
MAX_FOLDER_BYTES = 512 * 2**20  # of all files of a VL-LTR folder together
MAX_LETTERS = 1000  # of a sentence; CLIP reads 77 tokens, about 300 letters
_WIKI = re.compile(r"desc_([0-9]{1,7})\.txt")
_NOT_CONTENT = ("External links", "References", "Further reading", "Bibliography")  # sections that VL-LTR leaves out
# A sentence ends where a space and a capital, digit or quote follow, but not after an initial or a usual abbreviation.
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|[Ee]\.g|[Ii]\.e|cf|ca|etc|vs|approx|sp|spp|subsp|ssp|var|Mr|Mrs|Ms|Dr|St|Mt|No|Fig|al)\.$"
)


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """What a file says: lists of cleaned sentences in its order, by name or by class index."""

    format: str
    entries: tuple[tuple[str, tuple[str, ...]], ...]  # key, sentences; a key may occur twice; by_index: "0", "1", ...
    by_index: bool
    dropped: dict[str, int]  # "empty", "duplicate" (within a class): left out; "cut": shortened to MAX_LETTERS
    notes: tuple[str, ...] = ()


def read_texts(path: Path, format: str | None = None) -> TextFile:
    """Read a file or folder; None finds its format out. Raises FileNotFoundError, or ValueError naming the bad part."""
    if format is not None and format not in FORMATS:
        raise ValueError(f"format={format!r} is not known; choose one of {', '.join(FORMATS)}, or leave it out.")
    if path.is_dir():
        if format not in (None, "vl-ltr"):
            raise ValueError(f"{path} is a folder, which holds VL-LTR's texts; format={format!r} is a file.")
        return _vl_ltr(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file of texts at {path}; give a .json or .jsonl(.gz) file, or VL-LTR's folder.")
    if format == "vl-ltr":
        raise ValueError(f"{path} is a file; VL-LTR's texts are a folder with wiki/desc_0.txt, wiki/desc_1.txt, ...")
    text = _decode(_bytes_of(path), path)
    found = format or ("jsonl" if _is_record(text) else "json")
    pairs = _json_lines(text, path) if found == "jsonl" else _json(text, path)
    return _cleaned(found, pairs, by_index=False)


def _bytes_of(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
                data = packed.read(MAX_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is a damaged gzip file ({error}); get it again.") from error
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path} has more than {MAX_BYTES // 2**20} MiB, which no file of texts needs; split it.")
    return data


def _decode(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8.") from error


def _is_record(text: str) -> bool:
    """Whether the first line is one of our records; VCD's lists begin with a list, so no class name is mistaken."""
    try:
        record = json.loads(next(iter(text.lstrip().splitlines()), ""))
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and isinstance(record.get("class"), str)


def _json(text: str, path: Path) -> list[tuple[str, list[str]]]:
    try:
        found = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}); expected one object, {{name: [sentence, ...]}}.") from error
    if not isinstance(found, _Pairs):
        raise ValueError(f"{path} holds a {type(found).__name__}; expected one object, {{name: [sentence, ...]}}.")
    return [(key, _sentences(value, f"{path}, key {key!r:.80}")) for key, value in found]


class _Pairs(list[tuple[str, Any]]):
    """A JSON object that keeps both of two equal keys."""


_KINDS: dict[type, str] = {_Pairs: "object", str: "text", type(None): "null"}  # as JSON calls them


def _json_lines(text: str, path: Path) -> list[tuple[str, list[str]]]:
    pairs = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where} is no JSON ({error}).") from error
        if not isinstance(record, dict) or not isinstance(record.get("class"), str):
            raise ValueError(f'{where}: expected {{"class": name, "texts": [sentence, ...]}}.')
        pairs.append((record["class"], _sentences(record.get("texts"), f"{where}, class {record['class']!r:.80}")))
    return pairs


def _sentences(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or isinstance(value, _Pairs):
        raise ValueError(
            f"{where} has a {_KINDS.get(type(value), type(value).__name__)}; expected a list of sentences."
        )
    for place, sentence in enumerate(value):
        if not isinstance(sentence, str):
            raise ValueError(f"{where}: entry {place} is a {type(sentence).__name__}; expected a text.")
    return value


def _vl_ltr(root: Path) -> TextFile:
    """VL-LTR's folder: lines of Wikipedia, "== Heading ==" before each section, one file per class.

    As in its code, sections such as References are left out, and a file that is not UTF-8 is read as GBK. Lines are cut
    into sentences by a rule of our own.
    """
    inner = "wiki/" if (root / "wiki").is_dir() else ""
    folder = resolve_inside(root, "wiki") if inner else root
    files: dict[int, str] = {}
    for entry in sorted(folder.iterdir()):
        if match := _WIKI.fullmatch(entry.name):
            if int(match[1]) in files:
                raise ValueError(f"{root}: {files[int(match[1])]} and {entry.name} are of one class; remove one.")
            files[int(match[1])] = entry.name
    if not files:
        raise ValueError(f"{root} has neither wiki/desc_<index>.txt nor desc_<index>.txt, the files of VL-LTR.")
    pairs, other, total = [], [], 0
    for index in sorted(files):
        path = resolve_inside(root, inner + files[index])
        if not path.is_file():
            raise ValueError(f"{root / inner / files[index]} is no file.")
        data = _bytes_of(path)
        total += len(data)
        if total > MAX_FOLDER_BYTES:
            raise ValueError(f"the texts in {root} have more than {MAX_FOLDER_BYTES // 2**20} MiB; remove some.")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = _gbk(data, path)
            other.append(files[index])
        pairs.append((str(index), _cut(text)))
    notes = [f"{len(other)} files are not UTF-8 and were read as GBK, first {other[0]}"] if other else []
    return _cleaned("vl-ltr", pairs, by_index=True, notes=tuple(notes))


def _gbk(data: bytes, path: Path) -> str:
    try:
        return data.decode("gbk")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is neither UTF-8 nor GBK (byte {error.start}); save it as UTF-8.") from error


def _cut(text: str) -> list[str]:
    sentences: list[str] = []
    kept = True
    for line in filter(None, (line.strip() for line in text.splitlines())):
        if line.startswith("=="):
            kept = line.strip("= ") not in _NOT_CONTENT
        elif kept:
            begun = ""
            for part in _END.split(line):
                begun = f"{begun} {part}" if begun else part
                if not _ABBREVIATION.search(begun):
                    sentences.append(begun)
                    begun = ""
            sentences += [begun] if begun else []
    return sentences


def _cleaned(
    format: str, pairs: list[tuple[str, list[str]]], *, by_index: bool, notes: tuple[str, ...] = ()
) -> TextFile:
    dropped = dict.fromkeys(("empty", "duplicate", "cut"), 0)
    entries = []
    for key, raw in pairs:
        kept: dict[str, None] = {}
        for text in map(printable, raw):
            if len(text) > MAX_LETTERS:
                text = text[:MAX_LETTERS].rsplit(" ", 1)[0]
                dropped["cut"] += 1
            if not any(letter.isalnum() for letter in text):
                dropped["empty"] += 1
            elif text in kept:
                dropped["duplicate"] += 1
            else:
                kept[text] = None
        entries.append((printable(key), tuple(kept)))
    return TextFile(format=format, entries=tuple(entries), by_index=by_index, dropped=dropped, notes=notes)


def printable(text: str) -> str:
    """On one line, without control, direction and other invisible characters and halves of surrogate pairs."""
    instead = {"Cc": " ", "Zl": " ", "Zp": " ", "Cf": "", "Cs": ""}
    return " ".join("".join(instead.get(unicodedata.category(letter), letter) for letter in text).split())
