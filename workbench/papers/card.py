"""A parity card: what a paper reports beside what was measured here, with a verdict per claim.

A paper's conclusion is a measurement, not a gate: the verdict is written down whatever it is.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import metrics

from .experiment import Claim, Experiment, reported_difference, sign
from .measures import MEASURES, Trained, difference_of, value_of

if TYPE_CHECKING:
    import pandas as pd

HOLDS, REVERSED, UNDECIDED = "holds", "reversed", "undecided"
NO_DIFFERENCE = "the paper has no difference"
SETS_DIFFER = "the paper's data sets differ"
SAME_TRAINING = "the same training here"
NOT_RUN = "an arm was not run"
NOT_TESTED = "its test set is not here"
FORMAT = 1


@dataclass(frozen=True)
class Row:
    """One quantity of one arm, in the paper's unit. None: not printed, or not measured."""

    arm: str
    status: str  # "ours" | "baseline" | "reported only"
    measure: str
    reported: dict[str, float]  # data set -> value
    measured: float | None = None
    low: float | None = None  # 95 % over classes
    high: float | None = None
    seeds: tuple[float, ...] = ()
    test: str = ""  # another data set that was tested on


@dataclass(frozen=True)
class Verdict:
    """One claim on one measure: first minus second, in the paper's unit."""

    first: str
    second: str
    measure: str
    reported: dict[str, float]
    said: str
    verdict: str
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    could_have_shown: float | None = None
    test: str = ""  # another data set that was tested on


@dataclass(frozen=True)
class ParityCard:
    """What came of one reproduction. JSON, and Markdown for people."""

    id: str
    title: str
    command: str
    data: str
    backbones: tuple[str, ...]
    seeds: tuple[int, ...]
    rule: str  # shot groups
    rows: tuple[Row, ...]
    claims: tuple[Verdict, ...]
    lrs: dict[str, float | None]  # arm -> learning rate, None: the method's own
    epochs: dict[str, int | None]
    not_run: dict[str, str]  # arm -> why
    deviations: tuple[str, ...]
    hardware: str
    training_seconds: (
        float  # of all arms and what they continue, all seeds, one after the other; lr searches are not in
    )
    versions: dict[str, str]
    panels: dict[str, str] = field(default_factory=dict)  # of a figure: what is drawn -> its numbers in words

    def verdicts(self) -> dict[str, int]:
        """Verdict -> number of claims; those that were decided come first."""
        found = Counter(claim.verdict for claim in self.claims)
        decided = [verdict for verdict in (HOLDS, REVERSED, UNDECIDED) if verdict in found]
        return {verdict: found[verdict] for verdict in dict.fromkeys([*decided, *found])}

    def to_frame(self) -> pd.DataFrame:
        """One row per arm and measure; what the paper reports has a column per data set."""
        import pandas as pd

        return pd.DataFrame(
            {
                "arm": row.arm,
                "status": row.status,
                "measure": row.measure,
                "test": row.test,
                **{f"paper {dataset}": value for dataset, value in row.reported.items()},
                "measured": row.measured,
                "low": row.low,
                "high": row.high,
                "seeds": len(row.seeds),
            }
            for row in self.rows
        )

    def to_markdown(self) -> str:
        from .rendering import card_markdown

        return card_markdown(self)

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def __str__(self) -> str:
        return self.to_markdown()

    def save(self, path: str | Path) -> Path:
        """Write the card as JSON and, beside it, as Markdown."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"format": FORMAT, **asdict(self)}
        path.write_text(json.dumps(_plain(record), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        kept = self.load(path)  # with the digits that the JSON has: both must round to the same
        path.with_suffix(".md").write_text(kept.to_markdown() + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str | Path) -> ParityCard:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        if record.pop("format", None) != FORMAT:
            raise ValueError(f"{path} is not a parity card of this version; make it again: workbench reproduce ...")
        rows = tuple(Row(**{**row, "seeds": tuple(row["seeds"])}) for row in record.pop("rows"))
        claims = tuple(Verdict(**claim) for claim in record.pop("claims"))
        record |= {name: tuple(record[name]) for name in ("backbones", "seeds", "deviations")}
        return cls(rows=rows, claims=claims, **record)


def rows_of(experiment: Experiment, trained: dict[str, Trained]) -> tuple[Row, ...]:
    """Arms in the order of the entry, then the rows that are reported only."""
    rows = []
    for arm in experiment.arms:
        reported = experiment.reported(arm.name)
        for test in experiment.tests:
            here = {data: values for data, values in reported.items() if experiment.tested_on(data) == test}
            looked_at = trained[arm.name].tested_on(test) if arm.name in trained else None
            for measure in experiment.measures:
                printed = {data: values[measure] for data, values in here.items() if measure in values}
                found = _measured(measure, looked_at)
                rows.append(Row(arm.name, arm.status, measure, printed, test=test, **found))
    for name in experiment.reported_only:
        for measure in dict.fromkeys(m for values in experiment.rows[name].values() for m in values):
            printed = {data: values[measure] for data, values in experiment.rows[name].items() if measure in values}
            rows.append(Row(name, "reported only", measure, printed))
    return tuple(rows)


def _measured(measure: str, trained: Trained | None) -> dict[str, Any]:
    """The fields of a row that are measured; none of an arm that was not run."""
    if trained is None:
        return {}
    value = value_of(measure, trained)
    seeds = tuple(each for each in value.seeds if math.isfinite(each))  # none of a group without classes
    numbers = {"measured": value.estimate, "low": value.low, "high": value.high}
    return {name: _number(each) for name, each in numbers.items()} | {"seeds": seeds}


def verdicts_of(experiment: Experiment, trained: dict[str, Trained]) -> tuple[Verdict, ...]:
    return tuple(
        _verdict(experiment, claim, measure, test, trained)
        for claim in experiment.claims
        for measure in claim.on
        for test in experiment.tests
    )


def _verdict(experiment: Experiment, claim: Claim, measure: str, test: str, trained: dict[str, Trained]) -> Verdict:
    reported = reported_difference(experiment, claim.first, claim.second, measure, test)
    expected = claim.expected if claim.expected is not None else sign(reported)
    both = [trained[name].tested_on(test) if name in trained else None for name in (claim.first, claim.second)]
    known: dict[str, Any] = {"measure": measure, "reported": reported, "said": claim.said, "test": test}
    judged: dict[str, Any] = {"verdict": NOT_TESTED if {claim.first, claim.second} <= trained.keys() else NOT_RUN}
    if both[0] is not None and both[1] is not None:
        judged = _judged(measure, both[0], both[1], expected)
    return Verdict(first=claim.first, second=claim.second, **known, **judged)


def _judged(measure: str, first: Trained, second: Trained, expected: int | None) -> dict[str, Any]:
    """The verdict, and the difference, its interval and what could have shown in the paper's unit."""
    if _same(first, second):
        return {"verdict": SAME_TRAINING}
    found, scale = difference_of(measure, first, second), MEASURES[measure].scale
    if isinstance(found, metrics.Difference):
        numbers = (found.estimate, found.low, found.high, found.smallest_detectable)
        is_open = math.isnan(found.low) or found.low <= 0 <= found.high
    else:
        numbers, is_open = (found, math.nan, math.nan, math.nan), False
    if expected is None:
        verdict = SETS_DIFFER
    elif expected == 0:
        verdict = NO_DIFFERENCE
    elif is_open:
        verdict = UNDECIDED
    else:
        verdict = HOLDS if numbers[0] * expected > 0 else REVERSED
    names = ("difference", "low", "high", "could_have_shown")
    return {"verdict": verdict} | {n: _number(scale * each) for n, each in zip(names, numbers, strict=True)}


def _same(first: Trained, second: Trained) -> bool:
    """One training, looked at in one way: arms that only differ in what this world has one of."""
    one, other = first.training, second.training
    variants = [(each.arm.views, each.arm.expand, dict(each.arm.test_options)) for each in (one, other)]
    return one.hash == other.hash and variants[0] == variants[1]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    """JSON without the digits that no reader uses."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
