"""What is one training, what comes before it, and how its lr is chosen, without training anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from workbench.papers.availability import standing
from workbench.papers.experiment import experiment
from workbench.papers.grid import climb
from workbench.papers.setting import Setting, shortened, tower_of
from workbench.papers.trainings import Training, all_needed


def test_an_lr_is_chosen_once_and_one_that_diverges_is_the_worst(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(experiment("lpt:T1"), experiment("lpt:T1").arm("vpt"), Setting(classes=4), tmp_path)
    assert training.recipe is not None and training.recipe.start == 0.04
    tried = []

    def fit(self: Training, out: Path, seed: int, lr: float, epochs: int) -> Any:
        tried.append((lr, seed, epochs))
        if lr > 0.04:
            raise FloatingPointError("The loss became nan")
        score = {0.04: 0.3, 0.01: 0.5, 0.0025: 0.4}[lr]
        return SimpleNamespace(metrics=pd.DataFrame({"val_mean_class": [0.0, score]}))

    monkeypatch.setattr(Training, "_fit", fit)
    with pytest.raises(FileNotFoundError):
        training.lr  # noqa: B018
    training.search()
    training.search()
    assert [lr for lr, _, _ in tried] == [0.04, 0.01, 0.16, 0.0025]
    assert {(seed, epochs) for _, seed, epochs in tried} == {(0, training.recipe.search_epochs)}
    assert training.lr == 0.01
    assert replace(training, setting=Setting(classes=4, lr=0.5)).lr == 0.5


@pytest.fixture
def climbed() -> Callable[..., tuple[float, list[float]]]:
    def run(scores: dict[float, float], start: float) -> tuple[float, list[float]]:
        lr, tried = climb(scores.__getitem__, tuple(scores), start)
        assert tried == {each: scores[each] for each in tried}
        return lr, sorted(tried)

    return run


def test_a_grid_is_climbed_from_its_start_without_trying_what_lies_beyond(climbed: Any) -> None:
    scores = {0.001: 0.1, 0.01: 0.2, 0.1: 0.6, 1.0: 0.5, 10.0: 0.9}
    assert climbed(scores, 0.01) == (0.1, [0.001, 0.01, 0.1, 1.0])
    assert climbed(scores, 10.0) == (10.0, [1.0, 10.0])
    assert climbed({0.1: 0.5, 1.0: 0.5}, 1.0) == (1.0, [0.1, 1.0])  # equal ones: it stays
    assert climbed({0.1: 0.5}, 0.1) == (0.1, [0.1])


def test_what_is_continued_comes_first_also_where_only_an_lr_is_taken_from_it(tmp_path: Path) -> None:
    entry = experiment("lpt:T20")

    def order(setting: Setting, *names: str) -> list[tuple[int, Any]]:
        needed = all_needed([Training(entry, entry.arm(name), setting, tmp_path) for name in names])
        return [(each.depth, each.arm.options["phases"]) for each in needed]

    assert order(Setting(), "A-GCL", "GCL") == [(0, "shared"), (1, "group"), (1, "group")]
    freed = replace(entry.arm("GCL"), after=None)  # lr_of = "phase2", which continues phase 1
    (first, last) = all_needed([Training(entry, freed, Setting(), tmp_path)])
    assert (first.arm.options["phases"], first.depth, last.depth) == ("shared", 0, 1)
    (alone,) = all_needed([Training(entry, freed, Setting(search=False), tmp_path)])
    assert alone.depth == 0


def test_trainings_have_one_folder_where_they_are_one_training(tmp_path: Path) -> None:
    lift, hlc, ballad = experiment("lift:T6"), experiment("hlc:T4"), experiment("ballad:F4")
    zero = [
        Training(each, each.arm(name), Setting(), tmp_path).folder
        for each, name in ((lift, "zero-shot"), (hlc, "a: zero-shot CLIP"), (ballad, "Z-CLIP"))
    ]
    assert len(set(zero)) == 1, "across papers"
    arm = Training(lift, lift.arm("AdaptFormer"), Setting(lr=0.1), tmp_path)
    assert arm.of(replace(arm.arm, views="ten", name="other", row=None)).folder == arm.folder
    for other in (
        replace(arm, setting=Setting(lr=0.2)),
        replace(arm, setting=Setting(lr=0.1, classes=4)),
        replace(arm, setting=Setting(lr=0.1, epochs=1)),
        replace(arm, setting=Setting(lr=0.1, data="toybox_lt_backgrounds")),
        arm.of(lift.arm("LoRA")),
    ):
        assert other.folder != arm.folder


def test_a_file_of_weights_is_for_arms_without_a_tower_of_their_own(tmp_path: Path) -> None:
    entry = experiment("lpt:T7")
    towers = [arm for arm in entry.arms if arm.backbone is not None]
    assert towers
    for given, own in (("clip.safetensors", None), ("random", "random"), (None, None)):
        training = Training(entry, towers[0], Setting(weights=given), tmp_path)
        assert training.weights == own and training.of(replace(towers[0], backbone=None)).weights == given


def test_an_arm_may_have_random_towers_and_another_input_size(tmp_path: Path) -> None:
    entry = experiment("ballad:T4")
    made = {arm.name: Training(entry, arm, Setting(lr=0.1), tmp_path) for arm in entry.arms}
    assert len({training.folder for training in made.values()}) == 4
    assert made["CLIP"].folder == made["CLIP"].of(experiment("ballad:T5").arm("both")).folder, "one folder still"
    method = made["image tower random"].build()
    assert method.backbone.spec()["weights"] == "random" and method.text is not None
    assert method.text["weights"] is None
    method = made["text tower random"].build()
    assert method.backbone.spec()["weights"] is None and method.text is not None and method.text["weights"] == "random"
    large = experiment("hlc:T3").arm("HLC@336")
    assert tower_of(experiment("hlc:T3"), large, Setting()) is None
    assert "336 pixels" in standing(experiment("hlc:T3")).toybox_missing["HLC@336"]
    assert tower_of(experiment("hlc:T3"), large, Setting(data="digits_lt")) == experiment("hlc:T3").backbone


def test_a_setting_is_written_as_the_command_that_has_it() -> None:
    assert Setting().command("lift:T6") == "workbench reproduce lift:T6 --seeds 3"
    setting = Setting(data="my birds", seeds=1, lr=0.1, search=False, per_class=5)
    written = "workbench reproduce lpt:F4 --data 'my birds' --seeds 1 --lr 0.1 --per-class 5 --no-search"
    assert setting.command("lpt:F4") == written
    assert shortened(Setting(seeds=3, epochs=9)) == Setting(seeds=1, epochs=1, classes=6, per_class=5, search=False)
