"""Import: make a manifest of images without copying one, and report each file that is not as it should be."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .cifar import Cifar100, file_of, has_batches
from .manifest import Classes, GroupRule, Manifest, Split
from .scanning import OnStep, Outcome, scan
from .sources import read_source
from .subsets import long_tail, take_validation

EXAMPLES = 5  # files named per outcome in the printed report; the table beside the manifest names all
KEPT = (Outcome.OK, Outcome.DUPLICATE, Outcome.LEAK)


@dataclass(frozen=True)
class Problem:
    """One file of the source that is not as it should be."""

    split: str
    path: str
    label: int  # -1 for a folder
    outcome: Outcome
    detail: str


@dataclass(frozen=True)
class ImportReport:
    """What an import found and wrote; `str(report)` is the whole report."""

    manifest: Manifest
    path: Path  # the manifest's TOML
    problems: tuple[Problem, ...]  # every one, in the order of the source
    problems_path: Path | None  # the table of them beside the manifest, None where there are none
    listed: int  # rows of the source
    files: int  # different files among them
    decoded: int  # files decoded now; the others were known from an earlier, perhaps interrupted import
    notes: tuple[str, ...]  # choices that the import made

    @property
    def counts(self) -> dict[Outcome, int]:
        """Rows of the source per outcome; ok are those with no remark."""
        counts = Counter(problem.outcome for problem in self.problems)
        folders = sum(problem.label < 0 for problem in self.problems)
        counts[Outcome.OK] = self.listed - (len(self.problems) - folders)
        return {outcome: counts[outcome] for outcome in Outcome}

    def __str__(self) -> str:
        classes = self.manifest.classes
        total = sum(len(split) for split in self.manifest.splits.values())
        lines = [f"{self.manifest.name}: {total:,} images of {len(classes)} classes -> {self.path}"]
        for name, split in self.manifest.splits.items():
            counts = np.bincount(split.labels, minlength=len(classes))
            lines.append(f"  {name:<6}{len(split):>9,} images, {counts.min()} to {counts.max()} per class")
        if not self.manifest.has_validation:
            lines.append("  val      none: nothing may be chosen on test in its place; val=N takes images from train")
        groups = Counter(classes.groups.tolist())
        shares = ", ".join(f"{group} {groups[group]}" for group in ("many", "medium", "few"))
        lines.append(f"  classes per group: {shares} ({classes.rule})")
        lines.append(f"{self.listed:,} rows, {self.files:,} files, {self.decoded:,} of them decoded in this run")
        lines.append(f"  ok: {self.counts[Outcome.OK]:,}")
        lines += _listing(self.problems, {outcome: "kept" if outcome in KEPT else "left out" for outcome in Outcome})
        if self.problems_path is not None:
            lines.append(f"all of them: {self.problems_path}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@dataclass(frozen=True)
class CheckReport:
    """What a check of the files of a manifest found; `str(report)` is the whole report."""

    name: str
    root: Path
    files: int
    problems: tuple[Problem, ...]  # files that cannot be used; empty where all can

    def __str__(self) -> str:
        found = len(self.problems)
        head = f"{self.name} in {self.root}: {self.files - found:,} of {self.files:,} files decode"
        return "\n".join([head, *_listing(self.problems, {})])


def check_dataset(
    manifest: Manifest, root: str | Path, *, workers: int = 4, on_step: OnStep | None = None
) -> CheckReport:
    """Decode every image file of a manifest under root and list those that cannot be used.

    Of CIFAR-100 as torchvision downloads it the md5 of the whole files decides; ValueError where it is wrong.
    """
    root = Path(root).expanduser()
    if manifest.kind not in ("files", "cifar100"):
        raise ValueError(f"{manifest.name} is of kind {manifest.kind!r}: it has no files that could be missing.")
    if not root.is_dir():
        raise FileNotFoundError(f"root {root} is not a folder; it is where the paths of {manifest.name} start.")
    file: Callable[[str], str] = str
    if manifest.kind == "cifar100":
        if has_batches(root):
            for split in manifest.splits.values():
                Cifar100(split, root).read()
            return CheckReport(manifest.name, root, sum(map(len, manifest.splits.values())), ())
        file = file_of
    rows = {
        file(path): (name, label)
        for name, split in manifest.splits.items()
        for path, label in zip(split.paths.tolist(), split.labels.tolist(), strict=True)
    }
    findings = scan(root, rows, workers=workers, on_step=on_step).findings
    problems = [
        Problem(rows[path][0], path, rows[path][1], finding.outcome, finding.detail)
        for path, finding in findings.items()
        if finding.outcome != Outcome.OK
    ]
    return CheckReport(manifest.name, root, len(findings), tuple(problems))


def _listing(problems: Sequence[Problem], remarks: Mapping[Outcome, str]) -> list[str]:
    """Lines of a report: per outcome its count, its remark and up to EXAMPLES files; odd bytes print as escapes."""
    lines = []
    for outcome in Outcome:
        found = [problem for problem in problems if problem.outcome == outcome]
        if found:
            lines.append(f"  {outcome}: {len(found):,}" + (f", {remarks[outcome]}" if outcome in remarks else ""))
            texts = [f"    {problem.path!a} ({problem.split}): {problem.detail}" for problem in found[:EXAMPLES]]
            lines += [text.encode("utf-8", "backslashreplace").decode() for text in texts]
        if len(found) > EXAMPLES:
            lines.append(f"    ... and {len(found) - EXAMPLES:,} more")
    return lines


def import_dataset(
    source: str | Path | Mapping[str, str | Path],
    name: str,
    *,
    root: str | Path | None = None,
    splits: Mapping[str, str] | None = None,
    class_names: str | Path | None = None,
    imbalance_ratio: float | None = None,
    seed: int = 0,
    val: int = 0,
    rule: GroupRule | None = None,
    title: str | None = None,
    licence: str = "not stated",
    origin: str = "",
    out: str | Path = "data_manifests",
    overwrite: bool = False,
    workers: int = 4,
    on_step: OnStep | None = None,
) -> ImportReport:
    """Make the manifest `name` of the images in `source`; nothing is copied, and each file is decoded completely once.

    Args:
        source: a folder (<split>/<class>/image or <class>/image), a list of `relative/path label` lines (all train), a
            mapping split -> list, or a CSV with the columns split, path, label.
        root: folder where listed paths start; by default the source itself or the folder it lies in.
        splits: source's split name -> ours, as in {"val": "test"}.
        class_names: CSV with label and name, or one name per line; a `classes.csv` beside a CSV is found by itself.
        imbalance_ratio: keep a long-tailed part of train whose counts follow `exponential_counts`, classes ordered by
            available images (equal ones by label), with the largest first class for which every class has enough.
        seed: chooses the images of `val` and `imbalance_ratio`.
        val: images per class taken from train, but at most a fifth of a class's images (classes with fewer than five
            give none), and none of which there is a copy. They are taken before `imbalance_ratio` acts. The groups stay
            those of the whole train split unless `rule` or `imbalance_ratio` is given.
        origin: where the images come from, for the record. `licence`, `title` and `rule` are recorded as well.
        out: folder of the manifest, of the journal `.<name>.import.jsonl` that makes an import resumable, and of the
            table `<name>.problems.csv`.
        on_step: called as on_step(done, {"total": files, "path": file}).

    Raises:
        ValueError: contradicting labels, no image left, or a ratio that would leave a class empty.
    """
    if seed < 0 or val < 0 or workers < 1:
        raise ValueError(f"seed={seed} and val={val} must be >= 0, workers={workers} >= 1.")
    out = Path(out)
    if (out / f"{name}.toml").exists() and not overwrite:
        raise FileExistsError(f"{out / name}.toml exists; choose another name or pass overwrite=True.")
    where = {key: Path(path) for key, path in source.items()} if isinstance(source, Mapping) else Path(source)
    rows = read_source(
        where,
        root=None if root is None else Path(root).expanduser(),
        rename=splits or {},
        class_names=None if class_names is None else Path(class_names),
    )
    if val and "val" in rows.splits:
        raise ValueError(f'val={val}, but the source has a split "val"; rename it with splits={{"val": "test"}} or so.')
    if (val or imbalance_ratio is not None) and "train" not in rows.splits:
        raise ValueError(f"val and imbalance_ratio act on train, but there are only {', '.join(rows.splits)}.")
    out.mkdir(parents=True, exist_ok=True)
    listed = [path for split in rows.splits.values() for path, _ in split]
    scanned = scan(rows.root, listed, out / f".{name}.import.jsonl", workers=workers, on_step=on_step)
    away = "a linked folder that leaves the root"
    problems = [Problem(split, path, -1, Outcome.OUTSIDE_ROOT, away) for split, path in rows.outside]
    content = {path: finding.content for path, finding in scanned.findings.items()}
    kept: dict[str, list[tuple[str, int]]] = {}
    for split, pairs in rows.splits.items():
        kept[split] = [(path, label) for path, label in pairs if content[path]]
        left_out = [(path, label, scanned.findings[path]) for path, label in pairs if not content[path]]
        problems += [Problem(split, path, label, found.outcome, found.detail) for path, label, found in left_out]
    if not any(kept.values()):
        raise ValueError(f"no image is left of the {len(listed)} listed. {_first_problems(problems)}")
    problems += _copies(kept, content)
    largest = max(label for pairs in rows.splits.values() for _, label in pairs)
    names = rows.names or [f"class {label}" for label in range(largest + 1)]
    notes = list(rows.notes)
    chosen = {split: _split(pairs) for split, pairs in kept.items()}
    generator = np.random.default_rng(seed)
    if val:
        copies = Counter(content[path] for pairs in kept.values() for path, _ in pairs)
        unique = np.array([copies[content[path]] == 1 for path, _ in kept["train"]], dtype=bool)
        if rule is None and imbalance_ratio is None:
            before_val = np.bincount(chosen["train"].labels, minlength=len(names))
            rule = GroupRule(reference_counts=tuple(before_val.tolist()))
            notes.append("many / medium / few go by the images of train before val was taken (reference counts)")
        train, taken = take_validation(chosen.pop("train"), unique, val, len(names), generator=generator)
        short = int((np.bincount(taken.labels, minlength=len(names)) < val).sum())
        chosen = {"train": train, "val": taken, **chosen}
        notes.append(f"val: up to {val} images per class from train (seed {seed}); {short} classes gave fewer")
    if imbalance_ratio is not None:
        before = len(chosen["train"])
        chosen["train"] = long_tail(chosen["train"], imbalance_ratio, len(names), generator=generator)
        notes.append(f"train: {len(chosen['train']):,} of {before:,} images, ratio {imbalance_ratio:g} (seed {seed})")
    labels = chosen["train"].labels if "train" in chosen else np.empty(0, np.int64)
    classes = Classes(tuple(names), np.bincount(labels, minlength=len(names)), rule or GroupRule())
    empty = int((classes.counts == 0).sum())
    if empty:
        notes.append(f"{empty} classes have no training image; they keep their labels")
    manifest = Manifest(
        name=name, title=title or name, licence=licence, source=origin, kind="files", splits=chosen, classes=classes
    )
    path = manifest.save(out, overwrite=overwrite)
    table = _write_problems(problems, out / f"{name}.problems.csv")
    return ImportReport(
        manifest=Manifest.load(path),
        path=path,
        problems=tuple(problems),
        problems_path=table,
        listed=len(listed),
        files=len(scanned.findings),
        decoded=scanned.decoded,
        notes=tuple(notes),
    )


def _first_problems(problems: list[Problem]) -> str:
    return "; ".join(f"{p.path!a}: {p.outcome}, {p.detail}" for p in problems[:EXAMPLES]) or "The source lists no file."


def _split(pairs: list[tuple[str, int]]) -> Split:
    return Split(np.array([path for path, _ in pairs], np.str_), np.array([label for _, label in pairs], np.int64))


def _copies(kept: Mapping[str, list[tuple[str, int]]], content: Mapping[str, str]) -> list[Problem]:
    """Images with the pixels of an earlier one: in the same split a duplicate, in another split a leak."""
    first: dict[str, tuple[str, str, int]] = {}  # content -> the first (split, path, label)
    within: dict[tuple[str, str], tuple[str, int]] = {}  # (split, content) -> the first (path, label) of that split
    problems = []
    ordered = sorted(kept, key=lambda split: {"train": 0, "val": 1, "test": 2}.get(split, 3))
    for split in ordered:
        for path, label in kept[split]:
            key = content[path]
            elsewhere = first.setdefault(key, (split, path, label))
            if elsewhere[0] != split:
                detail = f"same pixels as {elsewhere[1]!a} in {elsewhere[0]}{_other_label(label, elsewhere[2])}"
                problems.append(Problem(split, path, label, Outcome.LEAK, detail))
            elif (split, key) in within:
                detail = f"same pixels as {within[split, key][0]!a}{_other_label(label, within[split, key][1])}"
                problems.append(Problem(split, path, label, Outcome.DUPLICATE, detail))
            within.setdefault((split, key), (path, label))
    return problems


def _write_problems(problems: list[Problem], path: Path) -> Path | None:
    if not problems:
        return None
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["split", "path", "label", "outcome", "detail"])
    writer.writerows((p.split, p.path, p.label, p.outcome, p.detail) for p in problems)
    path.write_text(table.getvalue(), "utf-8", errors="surrogateescape")
    return path


def _other_label(label: int, other: int) -> str:
    return "" if label == other else f", but label {label} and not {other}"
