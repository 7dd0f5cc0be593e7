"""Classes of a data set: names, training counts, the rule that makes many / medium / few of them, a taxonomy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from workbench.metrics import shot_groups

GROUPS = ("many", "medium", "few")
RULES = {  # the readings of "100 and 20" in published code: many from, few to, both inclusive
    "gt100_lt20": (101, 19),  # Kang et al. (ICLR 2020), LADE, SADE, LIFT, BALLAD
    "gt100_le20": (101, 20),  # LPT
    "ge100_le20": (100, 20),  # OLTR, VL-LTR
}


def read_only(values: Any, dtype: Any) -> np.ndarray:
    """A copy that cannot be written to."""
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, kw_only=True)
class GroupRule:
    """Which classes are many-, medium- and few-shot; stated per data set because papers differ."""

    many_from: int = 101  # many: at least this many training images (inclusive)
    few_to: int = 19  # few: at most this many training images (inclusive)
    ranges: dict[str, tuple[int, int]] | None = None  # half-open class-index ranges in place of the bounds (GNM-PT)
    reference_counts: tuple[int, ...] | None = None  # (C,) counts that decide in place of the training counts (LIFT)

    def __post_init__(self) -> None:
        if self.few_to >= self.many_from:
            raise ValueError(f"few_to={self.few_to} must be below many_from={self.many_from}: both are inclusive.")
        if self.ranges is not None and not set(self.ranges) <= set(GROUPS):
            raise ValueError(f"ranges names {sorted(self.ranges)}; allowed are {', '.join(GROUPS)}.")

    def groups(self, counts: np.ndarray) -> np.ndarray:
        """Group of each class, (C,) of "many" | "medium" | "few"; counts: (C,) training images per class."""
        counts = np.asarray(counts)
        if self.ranges is not None:
            groups = np.full(len(counts), "", dtype="<U6")
            covered = np.zeros(len(counts), dtype=np.int64)
            for group, (start, stop) in self.ranges.items():
                groups[start:stop] = group
                covered[start:stop] += 1
            if (covered != 1).any():
                index = int(np.flatnonzero(covered != 1)[0])
                raise ValueError(f"class {index} is in {covered[index]} of the ranges {self.ranges}, not in one.")
            return groups
        if self.reference_counts is not None:
            if len(self.reference_counts) != len(counts):
                raise ValueError(f"{len(self.reference_counts)} reference counts for {len(counts)} classes.")
            counts = np.asarray(self.reference_counts)
        return shot_groups(counts, many_from=self.many_from, few_to=self.few_to)

    def __str__(self) -> str:
        if self.ranges is not None:
            ordered = {group: self.ranges[group] for group in GROUPS if group in self.ranges}
            return ", ".join(f"{group} = classes [{start}, {stop})" for group, (start, stop) in ordered.items())
        basis = "training images" if self.reference_counts is None else "images in the manifest's reference counts"
        return f"many >= {self.many_from}, few <= {self.few_to} {basis}"

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"many_from": self.many_from, "few_to": self.few_to}
        if self.ranges is not None:
            out["ranges"] = {group: list(bounds) for group, bounds in self.ranges.items()}
        if self.reference_counts is not None:
            out["reference_counts"] = list(self.reference_counts)
        return out

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> GroupRule:
        allowed = {"many_from", "few_to", "ranges", "reference_counts"}
        if set(record) - allowed:
            raise ValueError(f"unknown group rule keys {sorted(set(record) - allowed)}; allowed: {sorted(allowed)}.")
        values = dict(record)
        if values.get("ranges") is not None:
            values["ranges"] = {group: (int(start), int(stop)) for group, (start, stop) in values["ranges"].items()}
        if values.get("reference_counts") is not None:
            values["reference_counts"] = tuple(int(count) for count in values["reference_counts"])
        return cls(**values)


@dataclass(frozen=True, eq=False)
class Classes:
    """The classes of a data set: their names, training counts, shot-group rule and, optionally, a taxonomy."""

    names: tuple[str, ...]  # (C,) just text, not necessarily unique
    counts: np.ndarray  # (C,) int64 training images per class; zero is allowed
    rule: GroupRule = field(default_factory=GroupRule)
    taxonomy: dict[str, np.ndarray] | None = None  # level -> (C,) int64, the node of each class on that level

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "counts", read_only(self.counts, np.int64))
        if self.counts.shape != (len(self.names),) or (self.counts < 0).any():
            raise ValueError(f"{len(self.names)} class names need as many counts >= 0, got shape {self.counts.shape}.")
        if self.taxonomy is not None:
            levels = {level: read_only(nodes, np.int64) for level, nodes in self.taxonomy.items()}
            for level, nodes in levels.items():
                if nodes.shape != (len(self.names),):
                    raise ValueError(f"taxonomy level {level!r} has {len(nodes)} entries, not {len(self.names)}.")
            object.__setattr__(self, "taxonomy", levels)

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Classes) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.names)

    @property
    def groups(self) -> np.ndarray:
        """(C,) of "many" | "medium" | "few"."""
        return self.rule.groups(self.counts)

    def with_rule(self, rule: GroupRule | str) -> Classes:
        """The same classes, grouped by another rule: one of RULES, "index:36,71" (GNM-PT), or a GroupRule.

        "index:36,71" makes the first 36 classes many-shot, those up to the 71st medium-shot and the rest few-shot. The
        counts that decide stay: reference counts of the manifest's rule, where it has some, else the training images.
        """
        if isinstance(rule, str):
            rule = self._named(rule)
        rule.groups(self.counts)  # refuses ranges and reference counts of other classes
        return replace(self, rule=rule)

    def _named(self, name: str) -> GroupRule:
        if name in RULES:
            many_from, few_to = RULES[name]
            return replace(self.rule, many_from=many_from, few_to=few_to, ranges=None)
        bounds = name.removeprefix("index:").split(",") if name.startswith("index:") else []
        if len(bounds) != 2 or not all(bound.strip().isdecimal() for bound in bounds):
            raise ValueError(
                f"group rule {name!r} is not known; choose one of {', '.join(RULES)}, or index:M,N: the first M of "
                "the classes are many-shot, those up to N medium-shot."
            )
        first, second = (int(bound) for bound in bounds)
        if not 0 <= first <= second <= len(self):
            raise ValueError(f"group rule {name!r}: its bounds must rise and not exceed the {len(self)} classes.")
        return GroupRule(ranges={"many": (0, first), "medium": (first, second), "few": (second, len(self))})

    def to_json(self) -> dict[str, Any]:
        """A JSON record; `from_json` gives equal classes."""
        levels = None if self.taxonomy is None else {level: nodes.tolist() for level, nodes in self.taxonomy.items()}
        record = {"names": list(self.names), "counts": self.counts.tolist(), "rule": self.rule.to_json()}
        return record | {"taxonomy": levels}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Classes:
        return cls(tuple(record["names"]), record["counts"], GroupRule.from_json(record["rule"]), record["taxonomy"])
