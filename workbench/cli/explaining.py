"""`workbench explain`: what made a figure, read from the figure, and the same figure again.

A figure may come from anyone, so what it says is data: its diagnostic is looked up by name among the registered ones,
its arguments are JSON values of that function's own keywords, and features are read without unpickling.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.diagnostics.base import Result
    from workbench.features import Features

DESCRIPTION = """\
Print what made a figure: the diagnostic, its arguments, the runs, data set and hashes of its features, versions.

--rerun computes it again and says whether the same figure comes out. The features are looked for in the features folder
of the run that the figure names; where that run is elsewhere, give the files with --features, in the figure's order. A
diagnostic of something else than features (a method, images, a text tower) cannot be rerun from a figure alone.
"""

EXAMPLES = """\
examples:
  workbench explain runs/first/report/groups.pdf
  workbench explain separability.pdf --rerun
  workbench explain separability.pdf --rerun --features runs/first/features/test-centre-head.npz --out again.pdf
"""

SIMPLE = {"int", "float", "str", "bool", "None", "Sequence", "list", "tuple", "Mapping", "dict", "Literal"}


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "explain",
        help="print what made a figure; --rerun makes it again",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("figure", metavar="FIGURE", help=".pdf, .png or .svg that a workbench result saved")
    parser.add_argument("--rerun", action="store_true", help="compute the diagnostic again and compare the figures")
    parser.add_argument(
        "--features", nargs="+", metavar="FILE", default=[], help="the figure's features, one file per source, in order"
    )
    parser.add_argument("--out", metavar="FILE", help="figure to write (default: FIGURE with -rerun in its name)")
    parser.set_defaults(function=explain, usage_error=parser.error)


def explain(arguments: argparse.Namespace) -> int:
    if not arguments.rerun and (arguments.features or arguments.out):
        arguments.usage_error("--features and --out go with --rerun.")
    figure = Path(arguments.figure)
    note = _note(figure)
    # ASCII, so that what a stranger wrote into a figure cannot steer the terminal
    print(json.dumps(note, indent=2, sort_keys=True))
    if not arguments.rerun:
        return 0
    out = Path(arguments.out) if arguments.out else figure.with_stem(f"{figure.stem}-rerun")
    if out.resolve() == figure.resolve():
        raise ValueError(f"--out {out} is the figure itself; give another name.")
    result = _rerun(note, arguments.features)
    page = {key: note[key] for key in ("venue", "width") if key in note}
    result.save(out, view=note["view"], overwrite=True, **page)
    same = out.suffix == figure.suffix and out.read_bytes() == figure.read_bytes()
    print(f"{out} is {'the same figure, byte for byte.' if same else 'not the same file as ' + str(figure) + '.'}")
    table = figure.with_suffix(".csv")
    if not same and table.exists():
        equal = table.read_bytes() == out.with_suffix(".csv").read_bytes()
        print(f"The table beside it holds {'the same' if equal else 'other'} numbers.")
    return 0


def _note(figure: Path) -> dict[str, Any]:
    """What the figure says of itself, refused unless it is what `Result.save` writes."""
    from workbench.diagnostics.base import DIAGNOSTICS, read_provenance

    try:
        note = read_provenance(figure)
    except json.JSONDecodeError as error:
        raise ValueError(f"the provenance in {figure} is no JSON ({error}); the file was changed.") from error
    kinds = {"diagnostic": str, "arguments": dict, "sources": list, "versions": dict, "view": str}
    if not isinstance(note, dict) or not all(isinstance(note.get(key), kind) for key, kind in kinds.items()):
        raise ValueError(f"the provenance in {figure} is not what a workbench result writes; the file was changed.")
    if note["diagnostic"] not in DIAGNOSTICS:
        raise ValueError(
            f"{figure} says it was made by {note['diagnostic']!a}, which is no registered diagnostic; the file was "
            "changed, comes from another version, or the diagnostic needs a line in workbench/diagnostics/registry.py. "
            f"Known are {', '.join(DIAGNOSTICS)}."
        )
    if not all(isinstance(note.get(key, ""), str) for key in ("venue", "width")):
        raise ValueError(f"the venue in {figure} is no text; the file was changed.")
    for source in note["sources"]:
        if not isinstance(source, dict):
            raise ValueError(f"the provenance in {figure} names a source that is no JSON object; the file was changed.")
    return note


def _rerun(note: dict[str, Any], files: list[str]) -> Result:
    from workbench.diagnostics.base import load_diagnostic

    name, given, sources = note["diagnostic"], note["arguments"], note["sources"]
    if not sources:
        raise ValueError(f"{name} was not computed from features, which alone a figure can name; it cannot be rerun.")
    if files and len(files) != len(sources):
        raise ValueError(f"{len(files)} files were given with --features; the figure has {len(sources)} sources.")
    function = load_diagnostic(name)
    bind = {"group_report": _group_report, "topk": _topk}.get(name, _bound)
    # checked before any file is read
    bind(name, function, given, list(range(len(sources))))
    loaded: dict[Path, Features] = {}
    features = []
    for number, source in enumerate(sources):
        path = Path(files[number]) if files else _find(source, number)
        if path not in loaded:  # the same file twice is the same object: leave-one-out
            loaded[path] = _load(path, source, number)
        features.append(loaded[path])
    positional, keywords = bind(name, function, given, features)
    try:
        return function(*positional, **keywords)
    except TypeError as error:
        raise ValueError(f"{name} cannot be called as the figure says ({error}); the file was changed.") from error


def _bound(
    name: str, function: Callable[..., Any], given: dict[str, Any], features: list[Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments of a function of one or more Features and of JSON values."""
    parameters = inspect.signature(function).parameters.values()
    wanted = [p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    several = any(p.kind is p.VAR_POSITIONAL for p in wanted)
    if any(p.annotation != "Features" for p in wanted) or (len(wanted) != len(features) and not several):
        asked = ", ".join(f"{p.name}: {p.annotation}" for p in wanted)
        raise ValueError(
            f"{name} takes ({asked}), and a figure can name features only ({len(features)} here); it cannot be rerun "
            "from its figure. Call it in Python."
        )
    rest = {p.name: p for p in parameters if p not in wanted}
    return features, _keywords(name, given, rest)


def _keywords(name: str, given: dict[str, Any], known: dict[str, inspect.Parameter]) -> dict[str, Any]:
    """The given values as keywords; ValueError for a keyword that the function lacks or that takes no plain JSON."""
    keywords = {}
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"{name} has no argument {key!a}; the figure was changed or comes from another version.")
        annotation = str(known[key].annotation)
        words = set(re.findall(r"\w+", re.sub(r"'[^']*'|\"[^\"]*\"", "", annotation)))
        if value is not None and not words <= SIMPLE:
            raise ValueError(
                f"{name} was given {key}= ({annotation}), of which a figure keeps a description only; it cannot be "
                "rerun from its figure. Call it in Python."
            )
        keywords[key] = tuple(value) if isinstance(value, list) and "tuple" in words else value
    return keywords


def _group_report(
    name: str, function: Callable[..., Any], given: dict[str, Any], features: list[Any]
) -> tuple[list[Any], dict[str, Any]]:
    """`names` and `seeds` say how the features are divided into arms."""
    given = dict(given)
    names, seeds = given.pop("names", None), given.pop("seeds", None)
    whole = isinstance(seeds, list) and all(isinstance(n, int) and n > 0 for n in seeds)
    if not whole or not isinstance(names, list) or len(names) != len(seeds) or sum(seeds) != len(features):
        raise ValueError("the figure's names, seeds and sources do not fit together; the file was changed.")
    arms = [features[sum(seeds[:i]) : sum(seeds[: i + 1])] for i in range(len(seeds))]
    keywords = _keywords(name, given, dict(inspect.signature(function).parameters))
    if len(arms) > 2:
        return [dict(zip(names, arms, strict=True))], keywords
    return [arms[0]], keywords | {"compare": arms[1] if len(arms) == 2 else None, "names": tuple(names)}


def _topk(
    name: str, function: Callable[..., Any], given: dict[str, Any], features: list[Any]
) -> tuple[list[Any], dict[str, Any]]:
    """`methods` names the features."""
    given = dict(given)
    methods = given.pop("methods", None)
    if not isinstance(methods, list) or len({str(each) for each in methods}) != len(features):
        raise ValueError("the figure's methods and sources do not fit together; the file was changed.")
    keywords = _keywords(name, given, dict(inspect.signature(function).parameters))
    return [dict(zip(map(str, methods), features, strict=True))], keywords


def _find(source: dict[str, Any], number: int) -> Path:
    """The file in the run's features folder that has this source."""
    run = source.get("run")
    about = f"source {number + 1} of the figure"
    if not isinstance(run, str) or not run:
        raise ValueError(f"{about} names no run; give its file with --features.")
    folder = Path(run) / "features"
    found = [path for path in sorted(folder.glob("*.npz")) if _source_of(path) == _ungrouped(source)]
    if not found:
        raise ValueError(
            f"no file in {str(folder)!a} is {about} (looked at from {Path.cwd()}); give the files with "
            "--features, or make them again with `workbench extract`."
        )
    return found[0]


def _ungrouped(source: dict[str, Any]) -> dict[str, Any]:
    """The source of the file: a figure may have grouped its classes by another rule (`Features.with_rule`)."""
    return {key: value for key, value in source.items() if key != "groups"}


def _source_of(path: Path) -> Any:
    """What a features file says it comes from; None of a file that is none."""
    import numpy as np

    try:
        with path.open("rb") as file:  # opened here, because np.load leaves a broken archive open
            return json.loads(str(np.load(file, allow_pickle=False)["source"]))
    except (ValueError, KeyError, IndexError, OSError, EOFError, zipfile.BadZipFile):
        return None


def _load(path: Path, source: dict[str, Any], number: int) -> Features:
    from workbench.data import GroupRule
    from workbench.features import Features

    features = Features.load(path)
    own = json.loads(json.dumps(features.source))
    asked = source if "groups" in own else _ungrouped(source)
    if own != asked:
        differing = sorted(key for key in own.keys() | asked.keys() if own.get(key) != asked.get(key))
        raise ValueError(
            f"{path} is not source {number + 1} of the figure: they differ in {', '.join(differing)!a}. Give the "
            "files in the order of the figure's sources."
        )
    if "groups" not in source or "groups" in own:
        return features
    try:
        return features.with_rule(GroupRule.from_json(source["groups"]))
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"source {number + 1} of the figure has groups that cannot be: {error}") from error
