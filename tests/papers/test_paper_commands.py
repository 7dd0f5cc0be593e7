"""`workbench papers` and `workbench reproduce`: what they list, and what they say when something is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from workbench import papers

Say = Callable[..., tuple[int, str, str]]


def test_papers_lists_every_entry_and_what_is_missing(say: Say) -> None:
    code, told, _ = say("papers")
    assert code == 0
    for id in ("lpt:T1", "lt-dpt:F1", "lift:T8c", "hlc:Alg1", "ballad:T10"):
        assert f"\n{id} " in f"\n{told}"
    assert "data set places-lt: workbench data import FOLDER --as places_lt" in told
    assert "data set imagenet_v2: workbench data import FOLDER --name imagenet_v2" in told
    assert "imagenet_sketch: workbench data import FOLDER --as imagenet_sketch" in say("papers", "lpt:T16")[1]
    assert "lift:T6 " in say("papers", "lift")[1] and "lpt:T1 " not in say("papers", "lift")[1]


def test_papers_says_of_an_entry_what_is_trained_claimed_and_reported_only(say: Say) -> None:
    code, told, _ = say("papers", "lpt:T3")
    assert code == 0
    for part in (
        "lpt:T3: Comparison with published methods", "LPT: lpt(phases=group), ours", "VPT: vpt(), baseline we can run",
        ": reported only", "LPT as printed against VPT: all, many, medium, few, tuned_m", "known deviations:",
    ):  # fmt: skip
        assert part in told
    assert "no tower like vit_large_patch14_clip_quickgelu_336.openai" in say("papers", "lift:T20")[1]


@pytest.mark.parametrize(("words", "parts"), [
    (("papers", "vit"), ("paper 'vit' is not known", "lpt, lt-dpt, lift, hlc, ballad")),
    (("papers", "lift:T99"), ("entry of lift 'T99' is not known", "T8a")),
    (("papers", "vit:T1"), ("paper 'vit' is not known",)),
    (("reproduce", "lift:T99"), ("entry of lift 'T99' is not known",)),
    (("reproduce", "T6"), ("paper 'T6' is not known",)),
    (("reproduce", "lpt:T1", "lift:T99"), ("entry of lift 'T99' is not known",)),
    (("reproduce", "lpt:T1", "--seeds", "0"), ("seeds=0",)),
    (("reproduce", "lpt:T1", "--classes", "1"), ("classes=1: choose at least two",)),
    (("reproduce", "lpt:T1", "--data", "no_such_set"), ("no manifest named 'no_such_set'", "toybox_lt")),
])  # fmt: skip
def test_wrong_ids_and_settings_are_told_before_anything_is_trained(
    say: Say, tmp_path: Path, words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    out = () if words[0] == "papers" else ("--out", tmp_path / "out", "--jobs", 1)
    code, told, error = say(*words, *out)
    assert (code, told) == (1, "") or (code, told) == (1, f"== {words[1]}\n")
    assert error.startswith("workbench: ") and error.count("\n") == 1
    assert all(part in error for part in parts)
    assert not list(tmp_path.rglob("seed0"))


@pytest.mark.parametrize(("words", "part"), [
    ((), "ENTRY"), (("lpt:T1", "--seeds", "many"), "--seeds"), (("lpt:T1", "lpt:T2", "--card", "x.json"), "--card"),
])  # fmt: skip
def test_wrong_usage_of_reproduce_is_refused(say: Say, words: tuple[str, ...], part: str) -> None:
    code, told, error = say("reproduce", *words)
    assert (code, told) == (2, "") and part in error


def test_entries_without_any_tower_in_the_toybox_world_are_left_out_of_all(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def reproduce(id: str, **options: Any) -> Any:
        asked.append(id)
        raise ValueError("not now")

    monkeypatch.setattr(papers, "reproduce", reproduce)
    code, told, error = say("reproduce", "all", "--smoke", "--out", tmp_path)
    left_out = {"lift:T17", "lift:T18", "lift:T19", "lift:T20", "lift:T21", "lift:T22"}
    assert set(asked) == set(papers.experiments()) - left_out
    assert "lift:T20: left out, the toybox world has no tower like that of its arms\n" in told
    assert code == 1 and f"{len(asked)} of {len(asked)} entries failed" in error
