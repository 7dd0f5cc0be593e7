"""Listing: a user's copy of a benchmark's lists is checked against the published facts and becomes a manifest.

No image is needed for it: the rows are those of the lists, whole and in their order. `workbench data check` looks for
the images afterwards.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .benchmarks import RULES, Benchmark, CategoryFacts, ListFacts, benchmark_names, git_blob, read_benchmark
from .classes import GROUPS, Classes, GroupRule
from .importing import ImportReport, import_dataset
from .manifest import Manifest, Split
from .scanning import OnStep
from .sources import read_list, read_names, read_source


@dataclass(frozen=True)
class BenchmarkCheck:
    """What was found in a folder of a benchmark's lists; `str(check)` is the whole report."""

    benchmark: Benchmark
    folder: Path
    splits: dict[str, Split]  # of the lists that are there
    folders: dict[int, str]  # label -> name of the class's folder, as far as the paths tell
    categories: list[dict[str, Any]] | None  # of the classes in order, where the benchmark has them and they are there
    agreements: tuple[str, ...]
    notes: tuple[str, ...]  # harmless: they are recorded in the manifest
    differences: tuple[str, ...]  # with any of them this is not the benchmark

    def __str__(self) -> str:
        lines = [f"{self.benchmark.title}: lists in {self.folder}"]
        lines += [f"  as published: {text}" for text in self.agreements]
        lines += [f"  note: {text}" for text in self.notes]
        lines += [f"  DIFFERS: {text}" for text in self.differences]
        if self.differences:
            lines.append(
                f"no manifest is written under the name of a benchmark that this is not. Get {self.benchmark.needs}; "
                "or import your own list without --as, under a name of your own."
            )
        return "\n".join(lines)

    def to_manifest(
        self, name: str | None = None, *, rule: GroupRule | None = None, class_names: str | Path | None = None
    ) -> Manifest:
        """The manifest of the lists, by default under the benchmark's name and with Kang et al.'s groups.

        Args:
            rule: another group rule, for example one of `RULES`.
            class_names: a file as `import_dataset` takes it; by default the names are those of the classes' folders
                (ImageNet's are like n01440764), or the species of iNaturalist's categories.

        Raises:
            ValueError: the lists are not those of the benchmark.
        """
        facts = self.benchmark
        if self.differences:
            raise ValueError(f"{self.folder} does not hold the lists of {facts.name}: {'; '.join(self.differences)}.")
        folders = [self.folders.get(label, f"class {label}") for label in range(facts.num_classes)]
        names, taxonomy = folders, None
        if self.categories is not None and facts.categories is not None:
            names = [str(category["name"]) for category in self.categories]
            taxonomy = {level: _nodes(self.categories, level) for level in facts.categories.levels}
        if class_names is not None:
            names = read_names(Path(class_names).expanduser(), folders)
        train = self.splits["train"].labels if "train" in self.splits else np.empty(0, np.int64)
        counts = np.bincount(train, minlength=facts.num_classes)
        return Manifest(
            name=name or facts.name,
            title=facts.title,
            licence=facts.licence,
            source="; ".join([facts.source, "lists as published", *self.notes]),
            kind="files",
            splits=self.splits,
            classes=Classes(tuple(names), counts, rule or GroupRule(), taxonomy),
        )


def check_benchmark(name: str, folder: str | Path) -> BenchmarkCheck:
    """Compare the lists in a folder with what is known of the benchmark; nothing is written.

    Raises:
        FileNotFoundError: none of the benchmark's lists is in the folder.
    """
    facts, folder = read_benchmark(name), Path(folder).expanduser()
    if not facts.lists:
        raise ValueError(f"{name} has no lists: it is imported from the folder of its images.")
    present = {split: one for split, one in facts.lists.items() if (folder / one.file).is_file()}
    if not present:
        raise FileNotFoundError(f"none of the lists of {name} in {folder}; it needs {facts.needs}.")
    found = _Findings()
    splits: dict[str, Split] = {}
    folders: dict[int, str] = {}
    for split, one in facts.lists.items():
        if split not in present:
            more = " and without training counts: every class counts as few-shot" if split == "train" else ""
            found.notes.append(f"without {one.file}, so without {split}{more}")
            continue
        path = folder / one.file
        published = found.compare_blob(path, one.git_blob, f"{one.count:,} lines")
        if not published and found.of_another:
            continue
        rows = read_list(path)
        if not published:
            found.differences += _list_differences(path, one, rows, facts)
            continue
        splits[split] = Split(np.array([p for p, _ in rows], np.str_), np.array([label for _, label in rows], np.int64))
        for image, label in rows:
            match = re.fullmatch(one.layout, image)
            if match is not None and "folder" in match.groupdict():
                folders.setdefault(label, match["folder"].replace("/", "-"))
    if "train" in splits:
        _compare_counts(np.bincount(splits["train"].labels, minlength=facts.num_classes), facts, found)
    categories = None
    if facts.categories is not None:
        categories = _read_categories(folder, facts.categories, facts.num_classes, found)
    return BenchmarkCheck(
        benchmark=facts, folder=folder, splits=splits, folders=folders, categories=categories,
        agreements=tuple(found.agreements), notes=tuple(found.notes), differences=tuple(found.differences),
    )  # fmt: skip


class _Findings:
    """What a check has found so far."""

    def __init__(self) -> None:
        self.agreements: list[str] = []
        self.notes: list[str] = []
        self.differences: list[str] = []
        self.of_another = False  # whether the last file is a list of another benchmark

    def compare_blob(self, path: Path, expected: str, described: str) -> bool:
        """Whether a file is the published one, if need be with other line ends; a difference is noted."""
        content = path.read_bytes()
        found = git_blob(content)
        if found == expected:
            self.agreements.append(f"{path.name}, {described}, git blob {found}")
        elif git_blob(_plain(content)) == expected:
            self.notes.append(f"{path.name} is the published file with other line ends")
        else:
            known = [
                f"{other}'s {split}"
                for other in benchmark_names()
                for split, one in read_benchmark(other).lists.items()
                if one.git_blob == found
            ]
            self.of_another = bool(known)
            what = f": it is {known[0]} list" if known else ""
            self.differences.append(f"{path.name} has the git blob {found}, expected {expected}{what}")
            return False
        return True


def _plain(content: bytes) -> bytes:
    """The same text without a byte order mark, with LF line ends and one at the end of the last line."""
    return content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").rstrip(b"\n") + b"\n"


def _list_differences(path: Path, facts: ListFacts, rows: list[tuple[str, int]], whole: Benchmark) -> list[str]:
    """In what a list differs from the published one, the first place of each kind."""
    out = []
    if len(rows) != facts.count:
        out.append(f"{path.name} has {len(rows):,} lines, expected {facts.count:,}")
    wrong = next((i for i, (image, _) in enumerate(rows) if re.fullmatch(facts.layout, image) is None), None)
    if wrong is not None:
        out.append(
            f"{path.name}, line {wrong + 1}: {rows[wrong][0]!r:.100} is not of the form {_readable(facts.layout)}"
        )
    outside = next((i for i, (_, label) in enumerate(rows) if not 0 <= label < whole.num_classes), None)
    if outside is not None:
        label = rows[outside][1]
        return [*out, f"{path.name}, line {outside + 1}: label {label}, expected 0 to {whole.num_classes - 1}"]
    counts = np.bincount(np.array([label for _, label in rows], np.int64), minlength=whole.num_classes)
    if (counts == 0).any():
        label = int(np.flatnonzero(counts == 0)[0])
        found = (counts > 0).sum()
        out.append(f"{path.name} has images of {found} classes, expected {whole.num_classes}: none of {label}")
    elif facts.per_class is not None and (counts != facts.per_class).any():
        label = int(np.flatnonzero(counts != facts.per_class)[0])
        out.append(f"{path.name} has {counts[label]} images of class {label}, expected {facts.per_class} of each")
    elif facts.per_class is None and (counts.max(), counts.min()) != (whole.largest, whole.smallest):
        ends = f"{counts.max()} to {counts.min()}"
        out.append(f"{path.name} has {ends} images per class, expected {whole.largest} to {whole.smallest}")
    return out or [f"{path.name} agrees in lines, layout and class sizes: other images, or the same in another order"]


def _readable(layout: str) -> str:
    """ "train/(?P<folder>[^/]+)/[^/]+" -> "train/CLASS/*"."""
    return re.sub(r"\(\?P<folder>.*?\)", "CLASS", layout).replace("[^/]+", "*")


def _compare_counts(counts: np.ndarray, facts: Benchmark, found: _Findings) -> None:
    """counts: (C,) training images of lists that are the published ones; the facts of papers are checked by them."""
    ends = (int(counts.max()), int(counts.min()))
    lines: list[tuple[str, tuple[int, ...], tuple[int | None, ...]]] = []
    lines.append((f"{ends[0]} to {ends[1]} training images per class", ends, (facts.largest, facts.smallest)))
    for rule, shots in facts.shots.items():
        groups = RULES[rule].groups(counts)
        seen = tuple(int((groups == group).sum()) for group in GROUPS)
        lines.append((f"{' / '.join(map(str, seen))} many / medium / few ({RULES[rule]})", seen, shots))
    for text, seen, expected in lines:
        if seen == expected:
            found.agreements.append(text)
        else:
            found.notes.append(f"{text}, where the papers say {' / '.join(map(str, expected))}")


def import_benchmark_folders(
    benchmark: str,
    folder: str | Path,
    name: str | None = None,
    *,
    class_names: str | Path | None = None,
    out: str | Path = "data_manifests",
    workers: int = 4,
    on_step: OnStep | None = None,
) -> ImportReport:
    """Import a benchmark of class folders (ImageNet-Sketch), all of it as test; arguments as of `import_dataset`.

    Raises:
        ValueError: the folder has another number of classes or images than the benchmark.
    """
    facts, folder = read_benchmark(benchmark), Path(folder).expanduser()
    if facts.folders is None:
        raise ValueError(f"{benchmark} is imported from its lists, by `check_benchmark(...).to_manifest()`.")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; {benchmark} needs {facts.needs}.")
    rows = read_source(folder, root=None, rename={}, class_names=None)
    found = rows.names or []
    differences = [f"{len(found):,} class folders, expected {facts.num_classes:,}"] * (len(found) != facts.num_classes)
    images = sum(map(len, rows.splits.values()))
    differences += [f"{images:,} images, expected {facts.folders.images:,}"] * (images != facts.folders.images)
    odd = next((one for one in found if re.fullmatch(facts.folders.layout, one) is None), None)
    differences += [f"the folder {odd!a} is not of the form {facts.folders.layout}"] * (odd is not None)
    if differences:
        raise ValueError(f"{folder} is not {facts.title}: {'; '.join(differences)}. It needs {facts.needs}.")
    return import_dataset(
        folder, name or benchmark, splits={"train": "test"}, class_names=class_names, title=facts.title,
        licence=facts.licence, origin=facts.source, out=out, workers=workers, on_step=on_step,
    )  # fmt: skip


def _read_categories(
    folder: Path, facts: CategoryFacts, num_classes: int, found: _Findings
) -> list[dict[str, Any]] | None:
    path = folder / facts.file
    if not path.is_file():
        found.notes.append(f"without {facts.file}, so without class names and taxonomy")
        return None
    if not found.compare_blob(path, facts.git_blob, f"{num_classes:,} classes"):
        return None
    by_id = {int(category["id"]): category for category in json.loads(path.read_bytes())}
    return [by_id[label] for label in range(num_classes)]


def _nodes(categories: list[dict[str, Any]], level: str) -> np.ndarray:
    """(C,) int64: the place of each class's node among the level's names in alphabetical order."""
    return np.unique([str(category[level]) for category in categories], return_inverse=True)[1].astype(np.int64)
