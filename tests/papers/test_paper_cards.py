"""A parity card: the paper's numbers beside ours, verdicts on arrays whose answer is known, JSON and Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import workbench as wb
from workbench.papers import card
from workbench.papers.availability import card_path, shipped_card
from workbench.papers.card import ParityCard, Row, Verdict, rows_of, verdicts_of
from workbench.papers.experiment import Arm, Claim, Experiment, experiment, experiments, reported_difference, sign
from workbench.papers.measures import Trained, difference_of, value_of
from workbench.papers.rendering import differences
from workbench.papers.setting import Setting
from workbench.papers.trainings import Training

C, IMAGES = 12, 10  # classes, four of each shot group, and images of each
COUNTS = np.repeat([200, 50, 5], 4)
NO_NUMBERS: dict[str, Any] = {"a": {}, "b": {}}
RIGHT = np.array([9, 8, 9, 8, 7, 8, 9, 8, 6, 7, 6, 5])  # images that the first arm has right, of each class


def seen(
    right: np.ndarray, *, logits: np.ndarray | None = None, vectors: np.ndarray | None = None, counts: Any = COUNTS
) -> wb.Features:
    """Features of C x IMAGES images of which the first `right[k]` of class k are decided right."""
    labels = np.repeat(np.arange(C), IMAGES)
    place = np.tile(np.arange(IMAGES), C)
    predicted = np.where(place < np.asarray(right)[labels], labels, (labels + 1) % C)
    return wb.Features(
        vectors=np.ones((len(labels), 3), np.float32) if vectors is None else vectors,
        logits=logits,
        predicted=predicted,
        confidence=np.full(len(labels), 0.5, np.float32),
        labels=labels,
        ids=np.array([f"image {k}" for k in range(len(labels))]),
        classes=wb.Classes(tuple(f"class {k}" for k in range(C)), counts, wb.GroupRule()),
    )


@dataclass(frozen=True)
class Recorded(Trained):
    """A trained arm whose features are given, by split, a list of one per seed."""

    given: Mapping[str, list[wb.Features]] = None  # type: ignore[assignment]

    def _features(self, seed: int, split: str, data: str | None = None) -> wb.Features:
        return self.given[split][seed]


def entry(arms: tuple[Arm, ...], claims: tuple[Claim, ...] = (), rows: Any = None, **others: Any) -> Experiment:
    return replace(
        experiment("lift:T13"), arms=arms, claims=claims, rows=rows or NO_NUMBERS, measures=("all", "few"), **others
    )


def recorded(experiment: Experiment, **tests: list[wb.Features]) -> dict[str, Trained]:
    """Arms by name, with the features of their test images."""
    return {
        name: Recorded(
            Training(experiment, experiment.arm(name), Setting(lr=0.1), Path()),
            tuple(range(len(features))),
            given={"test": features, "train": features},
        )
        for name, features in tests.items()
    }


A, B = Arm("A", "lift", row="a"), Arm("B", "lift", row="b", options={"tuner": "none"})


def judged(first: np.ndarray, second: np.ndarray, rows: Any = None, expected: int | None = None) -> Verdict:
    """The verdict of "A above B on all" when they have so many images of each class right."""
    e = entry((A, B), (Claim("A", "B", ("all",), expected),), rows)
    (verdict,) = verdicts_of(e, recorded(e, A=[seen(first)], B=[seen(second)]))
    return verdict


# -- verdicts ----------------------------------------------------------------------------------------------------------

LOWER = RIGHT - np.tile([3, 4, 2], 4)  # three of ten fewer on average


def test_a_claim_holds_where_the_interval_lies_on_its_side_and_is_reversed_on_the_other() -> None:
    found = judged(RIGHT, LOWER, expected=1)
    assert (found.verdict, judged(RIGHT, LOWER, expected=-1).verdict) == (card.HOLDS, card.REVERSED)
    assert judged(LOWER, RIGHT, expected=1).verdict == card.REVERSED
    differences = 100 * (RIGHT - LOWER) / IMAGES
    half = stats.t.ppf(0.975, C - 1) * differences.std(ddof=1) / math.sqrt(C)
    assert found.difference is not None and found.low is not None and found.high is not None
    np.testing.assert_allclose((found.difference, found.low, found.high), (30, 30 - half, 30 + half))


def test_a_claim_is_undecided_where_the_interval_holds_zero() -> None:
    found = judged(RIGHT, RIGHT + np.tile([1, -1], 6), expected=1)
    assert found.verdict == card.UNDECIDED
    assert found.difference == pytest.approx(0)
    assert found.could_have_shown is not None and found.could_have_shown > 0


def test_the_sign_of_a_claim_is_that_of_the_printed_numbers() -> None:
    def printed(a: float, b: float, other: float | None = None) -> dict[str, dict[str, dict[str, float]]]:
        sets = {"places-lt": b} if other is None else {"places-lt": b, "imagenet-lt": other}
        return {"a": {data: {"all": a} for data in sets}, "b": {data: {"all": value} for data, value in sets.items()}}

    assert judged(RIGHT, LOWER, printed(50.0, 40.0)).verdict == card.HOLDS
    assert judged(RIGHT, LOWER, printed(40.0, 50.0)).verdict == card.REVERSED
    assert judged(RIGHT, LOWER, printed(50.0, 50.0)).verdict == card.NO_DIFFERENCE
    found = judged(RIGHT, LOWER, printed(50.0, 40.0, 60.0))
    assert found.verdict == card.SETS_DIFFER
    assert found.reported == pytest.approx({"places-lt": 10.0, "imagenet-lt": -10.0})


def test_arms_that_are_one_training_here_and_arms_that_were_not_run_have_no_verdict() -> None:
    twin = replace(A, name="twin")
    e = entry((A, B, twin), (Claim("A", "twin", expected=1), Claim("A", "B", expected=1)))
    same, missing = verdicts_of(e, recorded(e, A=[seen(RIGHT)], twin=[seen(RIGHT)]))
    assert (same.verdict, missing.verdict) == (card.SAME_TRAINING, card.NOT_RUN)
    assert same.difference is None and missing.difference is None
    looked_at_otherwise = entry((A, replace(twin, views="five")), (Claim("A", "twin", expected=1),))
    (other,) = verdicts_of(looked_at_otherwise, recorded(looked_at_otherwise, A=[seen(RIGHT)], twin=[seen(LOWER)]))
    assert other.verdict == card.HOLDS


def test_numbers_of_another_test_set_are_laid_beside_what_is_measured_on_it() -> None:
    printed = {"imagenet-sketch": {"all": 36.0}, "objectnet": {"all": 8.0}}
    rows = {"a": printed, "b": {data: {"all": values["all"] - 1} for data, values in printed.items()}}
    sets = {"test_sets": ("imagenet_sketch", "objectnet")}
    toybox = experiment("lift:T13").toybox | {"test_sets": {"imagenet_sketch": "toybox_sketch"}}
    e = entry((A, B), (Claim("A", "B"),), rows, toybox=toybox, **sets)
    arms = recorded(e, A=[seen(RIGHT)], B=[seen(LOWER)])
    found = {(row.test, row.measure): row for row in rows_of(e, arms) if row.arm == "A"}
    assert found["imagenet_sketch", "all"].reported == {"imagenet-sketch": 36.0}
    assert found["imagenet_sketch", "all"].measured == pytest.approx(10 * RIGHT.mean())
    assert found["objectnet", "all"].reported == {"objectnet": 8.0} and found["objectnet", "all"].measured is None
    verdicts = {verdict.test: verdict.verdict for verdict in verdicts_of(e, arms)}
    assert verdicts == {"imagenet_sketch": card.HOLDS, "objectnet": card.NOT_TESTED}
    shown = made(rows=rows_of(e, arms), claims=verdicts_of(e, arms)).to_markdown()
    assert "all on imagenet_sketch" in shown and "its test set is not here" in shown


def test_a_small_difference_of_the_paper_is_not_rounded_away() -> None:
    claim = Verdict("a", "b", "few", {"one": 0.03, "another": 1.3, "a third": 0.0}, "", "holds")
    assert differences(claim) == "+0.03 / +1.3 / +0.0"


@pytest.mark.parametrize(("values", "expected"), [
    ({"a": 1.0, "b": 2.0}, 1), ({"a": -1.0}, -1), ({"a": 0.0, "b": 0.0}, 0), ({"a": 1.0, "b": -1.0}, None),
    ({"a": 1.0, "b": 0.0}, None), ({}, None),
])  # fmt: skip
def test_differences_have_the_sign_they_share(values: dict[str, float], expected: int | None) -> None:
    assert sign(values) == expected


def test_a_reported_difference_is_taken_where_both_rows_are_printed() -> None:
    rows = {"a": {"x": {"all": 3.0, "few": 1.0}, "y": {"all": 5.0}}, "b": {"x": {"all": 1.0}, "z": {"all": 9.0}}}
    e = entry((A, B), rows=rows)
    assert reported_difference(e, "A", "B", "all") == {"x": 2.0}
    assert reported_difference(e, "A", "B", "few") == {}


# -- measures ----------------------------------------------------------------------------------------------------------


def arm(e: Experiment, **tests: list[wb.Features]) -> Trained:
    ((_, trained),) = recorded(e, **tests).items()
    return trained


def test_accuracies_are_means_over_seeds_with_each_seeds_own_beside() -> None:
    e = entry((A,))
    value = value_of("few", arm(e, A=[seen(RIGHT), seen(RIGHT - 1)]))
    few = 10 * RIGHT[8:].mean()
    assert value.seeds == pytest.approx((few, few - 10))
    assert value.estimate == pytest.approx(few - 5)
    assert value.low < value.estimate < value.high


def test_images_in_another_order_are_compared_with_themselves() -> None:
    e = entry((A, B))
    shuffled = seen(LOWER)[np.random.default_rng(0).permutation(C * IMAGES)]
    first = arm(e, A=[seen(RIGHT)])
    straight, other = (difference_of("all", first, arm(e, B=[features])) for features in (seen(LOWER), shuffled))
    assert straight == other


def test_top5_is_compared_with_top5() -> None:
    labels = np.repeat(np.arange(C), IMAGES)
    first = np.zeros((len(labels), C))
    first[np.arange(len(labels)), labels] = 1.0  # the true class is the best
    third = first.copy()
    for step, height in ((1, 3.0), (2, 2.0)):  # ... and the third best
        third[np.arange(len(labels)), (labels + step) % C] = height
    never, all_right = np.zeros(C), np.full(C, IMAGES)
    e = entry((A, B))
    one, other = arm(e, A=[seen(all_right, logits=first)]), arm(e, B=[seen(never, logits=third)])
    assert value_of("top5", other).estimate == pytest.approx(100)
    top1, top5 = difference_of("all", one, other), difference_of("top5", one, other)
    assert not isinstance(top1, float) and not isinstance(top5, float)
    assert (top1.estimate, top5.estimate) == (1.0, 0.0)


def test_distances_are_of_classes_and_numbers_have_no_interval() -> None:
    rng = np.random.default_rng(0)
    vectors = (np.repeat(rng.normal(size=(C, 3)) * 5, IMAGES, 0) + rng.normal(size=(C * IMAGES, 3))).astype(np.float32)
    e = entry((A, B), (Claim("A", "B", ("intra", "inter"), 1),))
    arms = recorded(e, A=[seen(RIGHT, vectors=2 * vectors)], B=[seen(RIGHT, vectors=vectors)])
    for measure in ("intra", "inter"):
        assert value_of(measure, arms["A"]).estimate == pytest.approx(2 * value_of(measure, arms["B"]).estimate)
    assert value_of("gamma", arms["A"]).estimate == pytest.approx(value_of("gamma", arms["B"]).estimate, rel=1e-5)
    intra, inter = verdicts_of(e, arms)
    assert (intra.verdict, inter.verdict) == (card.HOLDS, card.HOLDS)
    assert intra.low is not None and inter.low is None and inter.difference is not None


def test_the_gap_is_that_of_the_classes_of_a_group_between_train_and_test() -> None:
    e = entry((A,))
    trained = arm(e, A=[seen(RIGHT)])
    both = {"train": [seen(np.full(C, IMAGES))], "test": [seen(RIGHT)]}
    trained = replace(trained, given=both)  # type: ignore[call-arg]
    assert value_of("gap_few", trained).estimate == pytest.approx(100 - 10 * RIGHT[8:].mean())
    assert value_of("train_many", trained).estimate == pytest.approx(100)


# -- cards -------------------------------------------------------------------------------------------------------------


def made(**fields: Any) -> ParityCard:
    known: dict[str, Any] = {
        "id": "lift:T13", "title": "Sentences", "command": "workbench reproduce lift:T13 --seeds 2",
        "data": "toybox_lt", "backbones": ("toybox_clip",), "seeds": (0, 1), "rule": "many > 100, few < 20",
        "rows": (), "claims": (), "lrs": {"A": 0.01, "B": None}, "epochs": {"A": 5, "B": None}, "not_run": {},
        "deviations": (), "hardware": "2 CPU cores", "training_seconds": 75.25, "versions": {"python": "3.11"},
    }  # fmt: skip
    return ParityCard(**known | fields)


def test_rows_hold_the_papers_numbers_ours_and_those_that_are_reported_only() -> None:
    rows = {"a": {"places-lt": {"all": 51.5, "few": 47.4}}, "theirs": {"places-lt": {"all": 40.0, "epochs": 90.0}}}
    e = entry((A, replace(B, row=None)), rows=rows)
    found = rows_of(e, recorded(e, A=[seen(RIGHT)]))
    assert [(row.arm, row.measure, row.status, row.reported.get("places-lt")) for row in found] == [
        ("A", "all", "baseline", 51.5), ("A", "few", "baseline", 47.4), ("B", "all", "baseline", None),
        ("B", "few", "baseline", None), ("theirs", "all", "reported only", 40.0),
        ("theirs", "epochs", "reported only", 90.0),
    ]  # fmt: skip
    assert found[0].measured == pytest.approx(10 * RIGHT.mean())
    assert all(row.measured is None for row in found[2:])


def test_a_group_without_classes_is_not_measured_and_the_card_is_saved(tmp_path: Path) -> None:
    e = entry((A,))
    rows = rows_of(e, recorded(e, A=[seen(RIGHT, counts=np.full(C, 200))]))
    assert (rows[1].measure, rows[1].measured, rows[1].seeds) == ("few", None, ())
    assert "n/a" in ParityCard.load(made(rows=rows).save(tmp_path / "card.json")).to_markdown()


def test_a_card_comes_back_from_its_file_and_only_from_one(tmp_path: Path) -> None:
    row = Row("A", "ours", "all", {"places-lt": 51.5}, 49.25, 45.5, 53.0, (48.0, 50.5))
    claim = Verdict("A", "B", "all", {"places-lt": 3.25}, "Table 13", card.HOLDS, 2.5, 0.5, 4.5, 3.0)
    kept = made(
        rows=(row, Row("B", "baseline", "all", {})), claims=(claim,), not_run={"B": "no tower"}, deviations=("x",)
    )
    path = kept.save(tmp_path / "cards" / "card.json")
    assert ParityCard.load(path) == kept
    assert path.with_suffix(".md").read_text() == kept.to_markdown() + "\n"
    assert len(kept.to_frame()) == 2 and kept.to_frame()["paper places-lt"].tolist()[0] == 51.5
    row = Row("A", "ours", "all", {}, 44.16999999999, 40.0, 50.0)
    path = made(claims=(Verdict("A", "B", "all", {"x": 44.17 - 37.52}, "", card.HOLDS),), rows=(row,)).save(path)
    assert path.with_suffix(".md").read_text() == ParityCard.load(path).to_markdown() + "\n", "6.6499999 is 6.65"
    path.write_text(json.dumps({"format": 0}))
    with pytest.raises(ValueError, match="not a parity card of this version"):
        ParityCard.load(path)


SHIPPED = sorted(card_path("lift:T5").parent.glob("*.json"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_cards_of_the_package_are_of_its_entries_as_they_are_now(path: Path) -> None:
    """What a paper reports is in the card too: a number or a claim that was corrected asks for the card again."""
    kept = ParityCard.load(path)
    entry = experiment(kept.id)
    assert path == card_path(kept.id) and shipped_card(kept.id) == kept
    assert path.with_suffix(".md").read_text(encoding="utf-8") == kept.to_markdown() + "\n"
    assert kept.data == "toybox_lt" and "--epochs" not in kept.command and not kept.not_run
    rows, claims = rows_of(entry, {}), verdicts_of(entry, {})
    assert [(row.arm, row.status, row.measure) for row in rows] == [(r.arm, r.status, r.measure) for r in kept.rows]
    for now, then in zip(rows, kept.rows, strict=True):
        assert now.reported == pytest.approx(then.reported) and (then.measured is not None) == (
            now.status != "reported only"
        )
    assert [(each.first, each.second, each.measure) for each in claims] == [
        (each.first, each.second, each.measure) for each in kept.claims
    ]
    assert set(entry.deviations) <= set(kept.deviations) and entry.title == kept.title


def test_readme_has_the_verdicts_of_every_card() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| [") and "/cards/" in line]
    kept = [card for id in experiments() if (card := shipped_card(id)) is not None]
    assert len(lines) == len(kept) == len(SHIPPED)
    for line, card in zip(lines, kept, strict=True):
        counts = ", ".join(f"{number} {verdict}" for verdict, number in card.verdicts().items()) or "none"
        file = f"workbench/papers/cards/{card_path(card.id).stem}.md"
        assert line == f"| [{card.id}]({file}) | {card.title} | {len(card.seeds)} | {counts} |"


def test_markdown_has_every_number_and_names_are_no_markup() -> None:
    row = Row("<b>A|", "ours", "all", {"places-lt": 51.5, "imagenet-lt": 77.0}, 49.25, 45.5, 53.0)
    claim = Verdict("<b>A|", "B", "all", {"places-lt": 3.25}, "Table 13", card.REVERSED, -2.5, -4.5, -0.5, 3.0)
    theirs = Row("theirs", "reported only", "few", {"places-lt": 12.5})
    shown = made(
        rows=(row, theirs), claims=(claim,), not_run={"B": "no tower"}, deviations=("Crops are five.",)
    ).to_markdown()
    for part in (
        "# lift:T13: Sentences", "`workbench reproduce lift:T13 --seeds 2`", "2 seeds", "75 s",
        "| &lt;b>A\\| * |", "**49.2** ± 3.8 (51.5 / 77.0)", "Claims: 1 reversed.", "-2.5 [-4.5, -0.5]", "+3.2 Table 13",
        "- theirs: few 12.5", "- B: no tower", "- Crops are five.", "python 3.11",
    ):  # fmt: skip
        assert part in shown
    assert "<b>" not in shown


def test_an_interval_that_is_not_symmetric_keeps_its_ends() -> None:
    rows = (
        Row("A", "ours", "all", {}, 50.0, 40.0, 60.0),
        Row("A", "ours", "few", {}, 100.0, 96.5, 100.0),
        Row("A", "ours", "many", {}, 50.0, 40.5, 60.0),
    )
    assert "**50.0** ± 10.0 | **100.0** [96.5, 100.0] | **50.0** ± 9.8 |" in made(rows=rows).to_markdown()
