"""The tables and figures of the five papers as data: what is trained, on what, how it is tested and what was reported.

One TOML per paper holds its entries; `results.csv` holds every reported number, by entry, data set and row. An arm of
an entry names the row it reproduces. Rows without an arm are "reported only": they are shown and never run.

    [paper]                      key, title, arxiv, groups (a rule of workbench.data.RULES), backbone (a tag)
    [toybox]                     data, backbone, backbones (tag -> tower of the toybox world), test_sets, descriptions
    [toybox.recipes.NAME]        a training in the toybox world, see Recipe; "default" must be there
    [arms.NAME]                  an arm that several entries share, see Arm
    [T6]                         an entry, see Experiment
    [[T6.arms]]                  name, and what it adds to the shared arm it is `like`
    claims = [{first = "A", second = "B", on = ["all"]}]       or second = "*": every other arm
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from typing import Any, Literal

PAPERS = ("lpt", "lt-dpt", "lift", "hlc", "ballad")
GROUPS = ("all", "many", "medium", "few")
STATUSES = ("ours", "baseline")
Reported = dict[str, dict[str, float]]  # data set -> measure -> value, in the units of results.csv


@dataclass(frozen=True)
class Recipe:
    """A training in the toybox world, where a paper's own number of steps cannot fit.

    lr is given, or chosen from `lrs`: the one with the best mean class accuracy on val after `search_epochs` with seed
    0, climbing from `start`; or that of another arm (`lr_of`), as in ablations that keep the method's lr.
    """

    epochs: int = 5
    batch_size: int = 32
    lr: float | None = None
    lrs: tuple[float, ...] = ()
    start: float | None = None
    search_epochs: int = 1
    lr_of: str | None = None  # a shared arm
    warmup_epochs: int | None = None  # None: the method's share of the epochs
    keep_lr: bool = False  # the method's own lr in each stage


@dataclass(frozen=True)
class Arm:
    """A trained method and how it is tested. Arms that are the same training are trained once."""

    name: str
    method: str = ""
    status: Literal["ours", "baseline"] = "baseline"  # the method that the paper is about, or what it is compared with
    options: Mapping[str, Any] = field(default_factory=dict)
    row: str | None = None  # in results.csv; None: the paper does not print this arm's numbers
    backbone: str | None = None  # a tag, where the entry compares towers
    input_size: int | None = None  # pixels, where they are not the tower's own; the toybox world has one size only
    weights: Literal["random"] | None = None  # of the image tower; None: pretrained
    text_weights: Literal["random"] | None = None  # of the text tower, likewise
    recipe: str = "default"  # in the toybox world
    lr: float | None = None  # elsewhere; None: the method's own
    epochs: int | None = None  # elsewhere, likewise
    after: str | None = None  # a shared arm whose run of the same seed this one continues
    views: str = "centre"  # of wb.extract
    expand: int | None = None
    test_options: Mapping[str, Any] = field(default_factory=dict)  # of the method, changed after training
    value: float | str | None = None  # on the axis of a sweep
    curve: str | None = None  # of a sweep with several


@dataclass(frozen=True)
class Claim:
    """The first arm is above the second by `on`. The sign is that of the reported numbers, or `expected` (+1, -1)."""

    first: str
    second: str
    on: tuple[str, ...] = ("all",)
    expected: int | None = None  # where the paper says it without numbers
    said: str = ""  # where in the paper


@dataclass(frozen=True)
class Experiment:
    """One table or figure."""

    id: str  # "lift:T6"
    title: str
    groups: str  # the shot-group rule of the paper
    backbone: str  # the tag of the paper
    datasets: tuple[str, ...]  # of the paper, as in results.csv
    draw: tuple[str, ...]  # keys of drawing.DRAWINGS, one per panel
    draw_options: Mapping[str, Any]
    measures: tuple[str, ...]  # keys of measures.MEASURES, in the order of the table
    arms: tuple[Arm, ...]
    shared: Mapping[str, Arm]  # arms of [arms], for `after` and `lr_of`
    claims: tuple[Claim, ...]
    deviations: tuple[str, ...]  # known differences between this and the paper's experiment, wherever it is run
    test_sets: tuple[str, ...]  # other sets that are tested on too, as manifests
    toybox: Mapping[str, Any]
    recipes: Mapping[str, Recipe]
    rows: Mapping[str, Reported]  # every reported row

    @property
    def kind(self) -> str:
        return {"T": "table", "F": "figure", "A": "algorithm"}[self.id.partition(":")[2][0]]

    @property
    def tests(self) -> tuple[str, ...]:
        """What is tested on where the paper prints numbers of other sets: "" is the trained set's own test split."""
        printed = dict.fromkeys(data for row in self.rows.values() for data in row)
        return tuple(dict.fromkeys(self.tested_on(data) for data in printed)) or ("",)

    def tested_on(self, data: str) -> str:
        """The manifest that a data set of results.csv is tested on, "" for those that are trained on."""
        name = data.replace("-", "_")
        return name if name in self.test_sets else ""

    @property
    def reported_only(self) -> tuple[str, ...]:
        """Rows that no arm reproduces."""
        run = {arm.row for arm in self.arms}
        return tuple(row for row in self.rows if row not in run)

    def arm(self, name: str) -> Arm:
        for arm in (*self.arms, *self.shared.values()):
            if arm.name == name:
                return arm
        raise ValueError(f"{self.id} has no arm {name!r}; its arms: {', '.join(arm.name for arm in self.arms)}.")

    def reported(self, name: str) -> Reported:
        """What the paper prints for an arm; empty where it prints nothing."""
        row = self.arm(name).row
        return self.rows[row] if row is not None else {}


def experiments(paper: str | None = None) -> dict[str, Experiment]:
    """Every entry by id, of one paper or of all."""
    chosen = PAPERS if paper is None else (_known(paper, PAPERS, "paper"),)
    return {experiment.id: experiment for name in chosen for experiment in _read(name)}


def experiment(id: str) -> Experiment:
    """The entry "paper:T6" or "paper:F4"."""
    paper, _, entry = id.partition(":")
    of_paper = experiments(_known(paper, PAPERS, "paper"))
    return of_paper[f"{paper}:{_known(entry, [each.partition(':')[2] for each in of_paper], f'entry of {paper}')}"]


def sign(values: Mapping[str, float]) -> int | None:
    """The sign that the paper's differences share; 0 where it has none, None where its data sets disagree."""
    signs = {(value > 1e-9) - (value < -1e-9) for value in values.values()}
    return signs.pop() if len(signs) == 1 else None


def reported_difference(
    experiment: Experiment, first: str, second: str, measure: str, test: str | None = None
) -> dict[str, float]:
    """Data set -> first minus second, where the paper prints both; of those with one of `Experiment.tests`, or all."""
    one, other = experiment.reported(first), experiment.reported(second)
    return {
        data: one[data][measure] - other[data][measure]
        for data in one
        if measure in one[data] and measure in other.get(data, {}) and test in (None, experiment.tested_on(data))
    }


@cache
def _read(paper: str) -> tuple[Experiment, ...]:
    text = files(__package__).joinpath(f"{paper.replace('-', '_')}.toml").read_text(encoding="utf-8")
    record = tomllib.loads(text)
    about, toybox = record.pop("paper"), record.pop("toybox")
    recipes = {name: _make(Recipe, each, f"recipe {name}") for name, each in toybox.pop("recipes").items()}
    given = record.pop("arms", {})
    shared = {name: _make(Arm, {"name": name} | _merged(each, given), name) for name, each in given.items()}
    house = {"about": about, "toybox": toybox, "recipes": recipes, "shared": shared, "given": given}
    return tuple(_experiment(f"{paper}:{entry}", fields, **house) for entry, fields in record.items())


def _experiment(
    id: str, record: dict[str, Any], about: Any, toybox: Any, recipes: Any, shared: Any, given: Any
) -> Experiment:
    rows = reported_rows().get(id, {})
    arms = tuple(_make(Arm, _merged(each, given), id) for each in record.pop("arms", ()))
    printed = {dataset: None for row in rows.values() for dataset in row}
    experiment = Experiment(
        id=id,
        title=record.pop("title"),
        groups=record.pop("groups", about["groups"]),
        backbone=record.pop("backbone", about["backbone"]),
        datasets=tuple(record.pop("datasets", printed)),
        draw=_listed(record.pop("draw", "groups")),
        draw_options=record.pop("draw_options", {}),
        measures=tuple(record.pop("measures", GROUPS)),
        arms=arms,
        shared=shared,
        claims=tuple(_claims(record.pop("claims", ()), arms)),
        deviations=(*about.get("deviations", ()), *record.pop("deviations", ())),
        test_sets=tuple(record.pop("test_sets", ())),
        toybox=toybox,
        recipes=recipes,
        rows=rows,
    )
    if record:
        raise ValueError(f"{id}: unknown keys {', '.join(record)}.")
    _check(experiment)
    return experiment


def _check(experiment: Experiment) -> None:
    names = [arm.name for arm in experiment.arms]
    if len(set(names)) < len(names):
        raise ValueError(f"{experiment.id}: two arms have one name: {', '.join(names)}.")
    for arm in experiment.arms:
        _known(arm.status, STATUSES, f"status of {experiment.id} {arm.name}")
        _known(arm.recipe, experiment.recipes, f"recipe of {experiment.id} {arm.name}")
        if arm.row is not None:
            _known(arm.row, experiment.rows, f"row of {experiment.id} in results.csv")
        if arm.after is not None:
            _known(arm.after, experiment.shared, f"arm that {experiment.id} {arm.name} continues")
    for claim in experiment.claims:
        for name in (claim.first, claim.second):
            _known(name, names, f"arm of a claim of {experiment.id}")
        for measure in claim.on:
            if claim.expected is None and not reported_difference(experiment, claim.first, claim.second, measure):
                raise ValueError(
                    f"{experiment.id}: the paper prints no {measure} of both {claim.first} and {claim.second}; say "
                    "what it claims with expected = 1 or -1."
                )


def _claims(records: Any, arms: tuple[Arm, ...]) -> Iterator[Claim]:
    for record in records:
        others = [arm.name for arm in arms if arm.name != record["first"]]
        for second in others if record["second"] == "*" else [record["second"]]:
            yield _make(Claim, record | {"second": second}, "claim")


def _listed(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


def _merged(record: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """An arm with what it is `like`; its options add to the shared one's."""
    record = dict(record)
    like = record.pop("like", None)
    if like is None:
        return record
    base = _merged(given[_known(like, given, "shared arm")], given)
    both = {name: {**base.get(name, {}), **record.get(name, {})} for name in ("options", "test_options")}
    return {**base, **record, **{name: values for name, values in both.items() if values}}


def _make(kind: Any, record: Mapping[str, Any], where: str) -> Any:
    known = {each.name for each in fields(kind)}
    if unknown := sorted(record.keys() - known):
        allowed = ", ".join(sorted(known))
        raise ValueError(f"{where}: {kind.__name__} has no {', '.join(unknown)}; it has {allowed}.")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in record.items()})


@cache
def reported_rows() -> dict[str, dict[str, Reported]]:
    """Entry -> row -> data set -> measure -> value."""
    found: dict[str, dict[str, Reported]] = {}
    for line in _lines():
        measures = found.setdefault(line["entry"], {}).setdefault(line["row"], {}).setdefault(line["dataset"], {})
        try:
            measures[line["measure"]] = float(line["value"])
        except ValueError:  # "13x5", "40+40": epochs of several phases
            continue
    return found


def notes(id: str) -> dict[str, list[str]]:
    """Row -> what is odd about its printed numbers."""
    found: dict[str, list[str]] = {}
    for line in _lines():
        if line["entry"] == id and line["note"] and line["note"] not in found.get(line["row"], []):
            found.setdefault(line["row"], []).append(line["note"])
    return found


@cache
def _lines() -> tuple[dict[str, str], ...]:
    text = files(__package__).joinpath("results.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))


def _known(name: str, allowed: Any, what: str) -> str:
    if name not in allowed:
        raise ValueError(f"{what} {name!r} is not known; choose one of {', '.join(allowed)}.")
    return name
