"""Scanning: decode every image file of a data set once and say, typed, what came of each.

Outcomes are appended to a journal (JSON lines) keyed by path, size and modification time, so that an interrupted scan
continues where it stopped and a repeated one decodes only what changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from .dataset import ImageError, read_image
from .manifest import resolve_inside

OnStep = Callable[[int, dict[str, Any]], object]


class Outcome(StrEnum):
    """What came of one file. DUPLICATE and LEAK are decoded images that stay in; all others but OK are left out."""

    OK = "ok"
    MISSING = "missing"  # listed, but not there
    BROKEN = "broken"  # cannot be decoded whole
    UNREADABLE = "unreadable"  # permission denied, or the disk does not give the bytes
    EMPTY = "empty"  # zero bytes
    TOO_LARGE = "too_large"  # its header claims more pixels than the limit: a decompression bomb
    OUTSIDE_ROOT = "outside_root"  # absolute, with "..", or a link that leaves the root
    DUPLICATE = "duplicate"  # same pixels as an earlier image of the split, with the same or another label
    LEAK = "leak"  # same pixels as an image of another split


@dataclass(frozen=True)
class Finding:
    """The outcome of one file; `content` identifies the decoded pixels of an image that is OK."""

    outcome: Outcome
    detail: str = ""
    content: str = ""


def examine(root: Path, relative: str) -> Finding:
    """Decode one file completely and say what came of it; never raises for a bad file."""
    try:
        image = read_image(resolve_inside(root, relative))
    except ImageError as error:
        return Finding(Outcome(error.outcome), error.message)
    except (FileNotFoundError, NotADirectoryError):
        return Finding(Outcome.MISSING, "no such file")
    except OSError as error:
        return Finding(Outcome.UNREADABLE, error.strerror or type(error).__name__)
    except ValueError as error:  # of resolve_inside
        return Finding(Outcome.OUTSIDE_ROOT, str(error))
    digest = hashlib.sha256(f"{image.width} {image.height} ".encode())
    digest.update(image.tobytes())
    return Finding(Outcome.OK, "", digest.hexdigest()[:32])


@dataclass(frozen=True)
class Scan:
    """Findings by relative path, and how many of them were decoded now rather than taken from the journal."""

    findings: dict[str, Finding]
    decoded: int


def scan(
    root: Path, paths: Iterable[str], journal: Path | None = None, *, workers: int = 4, on_step: OnStep | None = None
) -> Scan:
    """Examine every path under root, each once; on_step(done, {"total": n, "path": path}) follows each of them.

    With a journal, files that it knows unchanged are not decoded again, and new findings are appended to it.
    """
    wanted = list(dict.fromkeys(paths))
    known = {} if journal is None else _read_journal(journal)
    findings: dict[str, Finding] = {}
    pending: list[tuple[str, str]] = []
    for relative in wanted:
        key = _key(root, relative)
        if key in known:
            findings[relative] = known[key]
        else:
            pending.append((relative, key))
    done = len(findings)
    if on_step is not None and done:
        on_step(done, {"total": len(wanted), "path": ""})
    with _open_journal(journal) as log, warnings.catch_warnings():
        # Pillow warns of odd metadata in files that decode well; the filter is set here, before any thread starts
        warnings.simplefilter("ignore")
        for relative, key, finding in _examined(root, pending, workers):
            findings[relative] = finding
            if key and log is not None and finding.outcome != Outcome.UNREADABLE:  # that may pass: try again next time
                log.write(json.dumps([key, finding.outcome, finding.detail, finding.content]) + "\n")
                log.flush()
            done += 1
            if on_step is not None:
                on_step(done, {"total": len(wanted), "path": relative})
    return Scan({relative: findings[relative] for relative in wanted}, len(pending))


def _examined(root: Path, pending: list[tuple[str, str]], workers: int) -> Iterator[tuple[str, str, Finding]]:
    """Findings in the order of `pending`, with a bounded number of files ahead in threads (decoding frees the GIL)."""
    left = iter(pending)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        running: list[tuple[str, str, Future[Finding]]] = []
        try:
            while True:
                for relative, key in islice(left, 4 * workers - len(running)):
                    running.append((relative, key, pool.submit(examine, root, relative)))
                if not running:
                    return
                relative, key, future = running.pop(0)
                yield relative, key, future.result()
        finally:
            for *_, future in running:
                future.cancel()


def _key(root: Path, relative: str) -> str:
    """Identity of a file's bytes as far as the file system tells; empty where there is nothing to remember."""
    try:
        full = resolve_inside(root, relative)
        state = full.stat()
        os.close(os.open(full, os.O_RDONLY | os.O_NONBLOCK))  # whether it may be read can change without a new time
    except (OSError, ValueError):
        return ""
    return f"{full}|{state.st_size}|{state.st_mtime_ns}"


def _open_journal(journal: Path | None) -> AbstractContextManager[TextIO | None]:
    if journal is None:
        return nullcontext()
    log = journal.open("a", encoding="utf-8")
    log.write("\n")  # ends a line that an interruption may have cut
    return log


def _read_journal(journal: Path) -> dict[str, Finding]:
    known: dict[str, Finding] = {}
    if journal.exists():
        for line in journal.read_text("utf-8").split("\n"):
            try:
                key, outcome, detail, content = json.loads(line)
                known[key] = Finding(Outcome(outcome), detail, content)
            except (ValueError, TypeError):  # the last line of an interrupted scan may be cut
                continue
    return known
