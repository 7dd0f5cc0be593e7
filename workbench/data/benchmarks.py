"""Benchmarks: what is known of published long-tailed data sets whose lists may not be shipped.

The facts lie in `data_manifests/benchmarks/<name>.toml`: per list its file name, lines, git blob SHA-1 and layout;
classes, largest and smallest class, and how many classes are many-, medium- and few-shot under each rule of the
literature. `workbench data import FOLDER --as NAME` checks a user's own lists against them (`listing.py`).
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .classes import GroupRule

RULES = {
    "gt100_lt20": GroupRule(),  # many > 100, few < 20: Kang et al., LIFT, BALLAD, LADE, SADE
    "gt100_le20": GroupRule(few_to=20),  # many > 100, few <= 20: LPT
    "ge100_le20": GroupRule(many_from=100, few_to=20),  # many >= 100, few <= 20: OLTR
    "index": GroupRule(ranges={"many": (0, 36), "medium": (36, 71), "few": (71, 100)}),  # CIFAR-100-LT: GNM-PT, LT-DPT
}


def git_blob(content: bytes) -> str:
    """The SHA-1 under which git stores a file of this content, 40 hexadecimal digits."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True, kw_only=True)
class ListFacts:
    """One published list of `relative/path label` lines."""

    file: str
    count: int  # lines
    git_blob: str
    layout: str  # regular expression of the paths; its group "folder", where there is one, names the class
    per_class: int | None = None  # lines of every class, where all have the same


@dataclass(frozen=True, kw_only=True)
class CategoryFacts:
    """The published JSON of a data set's categories."""

    file: str
    git_blob: str
    levels: dict[str, int]  # taxonomic level -> its different names


@dataclass(frozen=True, kw_only=True)
class FolderFacts:
    """A data set of class folders without lists, for evaluation only."""

    images: int
    layout: str  # regular expression of the folders' names


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The facts of one published data set."""

    name: str
    title: str
    licence: str
    source: str
    num_classes: int
    files_from: str  # address
    largest: int | None = None  # training images of the largest class
    smallest: int | None = None
    shots: dict[str, tuple[int, int, int]]  # name in RULES -> classes that are many, medium, few
    lists: dict[str, ListFacts]  # split -> list; empty where there are only folders
    categories: CategoryFacts | None = None
    folders: FolderFacts | None = None

    @property
    def command(self) -> str:
        """What a user types who has the files."""
        return f"workbench data import FOLDER --as {self.name}"

    @property
    def needs(self) -> str:
        """What a user must have, in a few words."""
        if self.folders is not None:
            return f"the folder of its {self.folders.images:,} images, CLASS/image ({self.files_from})"
        extra = [] if self.categories is None else [self.categories.file]
        return f"{', '.join([*(facts.file for facts in self.lists.values()), *extra])} ({self.files_from})"

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.title}", f"source: {self.source}", f"licence: {self.licence}"]
        lines += [f"{split:<6}{facts.count:>9,} images in {facts.file}" for split, facts in self.lists.items()]
        if self.folders is not None:
            lines.append(f"test  {self.folders.images:>9,} images, for evaluation only")
        sizes = "" if self.largest is None else f" with {self.largest} to {self.smallest} training images"
        lines.append(f"{self.num_classes} classes{sizes}")
        for rule, counts in self.shots.items():
            many, medium, few = counts
            lines.append(f"many {many}, medium {medium}, few {few} ({RULES[rule]})")
        return "\n".join([*lines, f"not at hand: it needs {self.needs}", f"then: {self.command}"])


def benchmark_names() -> list[str]:
    """Names that `read_benchmark` knows, sorted."""
    return sorted(file.stem for file in _folder().glob("*.toml"))


def read_benchmark(name: str) -> Benchmark:
    """The facts of a benchmark; ValueError for an unknown name."""
    if name not in benchmark_names():
        raise ValueError(f"no benchmark {name!r}; known are {', '.join(benchmark_names())}.")
    record: dict[str, Any] = tomllib.loads((_folder() / f"{name}.toml").read_text("utf-8"))
    classes = record.pop("classes")
    return Benchmark(
        num_classes=classes.pop("count"),
        **classes,
        shots={rule: tuple(counts) for rule, counts in record.pop("shots", {}).items()},
        lists={split: ListFacts(**facts) for split, facts in record.pop("lists", {}).items()},
        categories=CategoryFacts(**record.pop("categories")) if "categories" in record else None,
        folders=FolderFacts(**record.pop("folders")) if "folders" in record else None,
        **record,
    )


def _folder() -> Path:
    package = Path(__file__).parents[1]
    installed = package / "data_manifests" / "benchmarks"
    return installed if installed.is_dir() else package.parent / "data_manifests" / "benchmarks"
