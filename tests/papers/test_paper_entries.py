"""Every table and figure of the five papers: what it names is there, its arms can be made, and it is drawn."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.backbones.tags import TOYBOX, find_tower
from workbench.backbones.text_tags import has_text_tower
from workbench.data.benchmarks import benchmark_names
from workbench.data.preprocessing import views_of
from workbench.methods import Method, method_class
from workbench.papers import Reproduction, trainings
from workbench.papers.drawing import DRAWINGS, panels
from workbench.papers.experiment import PAPERS, Arm, Experiment, experiments, reported_difference, reported_rows
from workbench.papers.measures import MEASURES, Trained
from workbench.papers.setting import DATA, Setting, manifest_of, tower_of
from workbench.papers.setting import test_set_of as other_set  # pytest takes names in test_ for tests
from workbench.papers.trainings import Training

# Of each paper's tables, figures and algorithms; figures that show no data are left out (LPT's 3, LT-DPT's 2, HLC's 2
# and 3, BALLAD's 2).
CATALOGUE = {
    "lpt": [*(f"T{n}" for n in range(1, 22)), "F1", "F2", "F4", "F5", "F6"],
    "lt-dpt": [*(f"T{n}" for n in range(1, 8)), "F1"],
    "lift": [
        *(f"T{n}" for n in range(1, 8)), "T8a", "T8b", "T8c", *(f"T{n}" for n in range(9, 26)),
        *(f"F{n}" for n in range(1, 16)), "Alg1",
    ],
    "hlc": [*(f"T{n}" for n in range(1, 9)), "F1", "F4", "F5", "F6", "Alg1"],
    "ballad": [*(f"T{n}" for n in range(1, 11)), "F1", "F3", "F4", "F5", "F6", "Alg1"],
}  # fmt: skip
ENTRIES = experiments()
UNPUBLISHED = {"imagenet-16shot"}  # no list of its images is published
ELSEWHERE = {"imagenet_real", "imagenet_v2", "imagenet_a", "imagenet_r", "objectnet"}  # test sets that are not packaged

each_entry = pytest.mark.parametrize("id", ENTRIES)
each_paper = pytest.mark.parametrize("paper", PAPERS)


# -- what an entry says ------------------------------------------------------------------------------------------------


def test_every_table_and_figure_of_the_papers_is_an_entry() -> None:
    assert set(ENTRIES) == {f"{paper}:{name}" for paper, names in CATALOGUE.items() for name in names}
    assert {"lpt:text", *ENTRIES} >= set(reported_rows())  # numbers of the prose stand under lpt:text


@each_entry
def test_an_entry_is_measured_grouped_and_drawn_by_what_there_is(id: str) -> None:
    entry = ENTRIES[id]
    assert entry.arms and entry.title and entry.draw and entry.measures
    assert {*entry.measures, *(measure for claim in entry.claims for measure in claim.on)} <= MEASURES.keys()
    assert set(entry.draw) <= DRAWINGS.keys()
    classes = wb.Classes(tuple(f"class {k}" for k in range(100)), np.full(100, 50), wb.GroupRule())
    assert len(classes.with_rule(entry.groups).groups) == 100
    for arm in entry.arms:
        assert views_of(arm.views) >= 1
        assert arm.expand is None or views_of(arm.views) > 1
    if "sweep" in entry.draw or "expansion" in entry.draw:
        assert sum(arm.value is not None for arm in entry.arms) >= 2


@each_entry
def test_the_data_sets_of_an_entry_are_known(id: str) -> None:
    entry = ENTRIES[id]
    here = {*wb.Manifest.names(), *benchmark_names()}
    assert entry.datasets
    for name in set(entry.datasets) - UNPUBLISHED - {data for data in entry.datasets if entry.tested_on(data)}:
        assert DATA[name] in here
    assert set(entry.test_sets) <= here | ELSEWHERE
    assert {*entry.toybox.get("test_sets", {}).values(), entry.toybox["data"]} <= set(wb.Manifest.names())


@each_entry
def test_an_arm_reports_the_row_it_names_and_no_two_arms_report_one(id: str) -> None:
    entry = ENTRIES[id]
    rows = [arm.row for arm in entry.arms if arm.row is not None]
    assert len(set(rows)) == len(rows)
    for arm in entry.arms:
        assert (arm.row is None) == (not entry.reported(arm.name))
    assert set(rows) | set(entry.reported_only) == entry.rows.keys()


@each_entry
def test_a_claim_has_a_direction(id: str) -> None:
    entry = ENTRIES[id]
    for claim in entry.claims:
        assert claim.first != claim.second
        if claim.expected is not None:
            assert claim.expected in (1, -1) and claim.said
            continue
        for measure in claim.on:
            assert reported_difference(entry, claim.first, claim.second, measure)


@each_entry
def test_an_entry_says_how_the_recipe_of_the_toybox_differs(id: str) -> None:
    assert any(line.startswith("Toybox: ") for line in experiments()[id].deviations)


@each_paper
def test_a_recipe_has_one_way_to_its_lr(paper: str) -> None:
    entries = experiments(paper).values()
    shared = next(iter(entries)).shared
    recipes = next(iter(entries)).recipes
    for name, recipe in recipes.items():
        ways = [recipe.lr is not None, bool(recipe.lrs), recipe.lr_of is not None, recipe.keep_lr]
        assert sum(ways) == 1, name
        assert recipe.start is None or recipe.start in recipe.lrs
        assert list(recipe.lrs) == sorted(recipe.lrs)
        if recipe.lr_of is not None:
            assert recipes[shared[recipe.lr_of].recipe].lrs, name
    arms = [*shared.values(), *(arm for entry in entries for arm in entry.arms)]
    assert {arm.recipe for arm in arms} <= recipes.keys()
    assert {"default", *(arm.recipe for arm in arms)} >= recipes.keys(), "a recipe that no arm has"


@each_paper
def test_towers_have_pinned_weights_and_words_where_a_method_reads_them(paper: str) -> None:
    for entry in experiments(paper).values():
        assert set(entry.toybox.get("backbones", {}).values()) | {entry.toybox["backbone"]} <= TOYBOX.keys()
        for arm in (*entry.arms, *entry.shared.values()):
            tag = arm.backbone or entry.backbone
            tower = find_tower(tag, tag_needed=True, from_file=False)
            assert tower.name == tag and tower.hub is not None
            if arm.method in ("zero_shot", "coop", "ballad", "hlc"):
                assert has_text_tower(tower), (entry.id, arm.name)


# -- arms --------------------------------------------------------------------------------------------------------------


def _distinct() -> dict[str, tuple[Experiment, Arm]]:
    """Every arm that is another method, has other options or another tower than those before it."""
    found: dict[str, tuple[str, Experiment, Arm]] = {}
    for entry in ENTRIES.values():
        for arm in entry.arms:
            if tower_of(entry, arm, FEW) is not None:
                what = [Training(entry, arm, FEW, Path()).options, arm.method, tower_of(entry, arm, FEW), arm.recipe]
                key = json.dumps([*what, bool(entry.toybox.get("descriptions")), dict(arm.test_options), arm.after])
                found.setdefault(key, (f"{entry.id} {arm.name}", entry, arm))
    return {name: (entry, arm) for name, entry, arm in found.values()}


FEW = Setting(classes=6, per_class=4, search=False)
ARMS = _distinct()


@pytest.fixture(scope="module", autouse=True)
def read_once() -> Iterator[None]:
    """Towers are read once and copied, so that hundreds of arms are made in a minute."""
    backbone, text = cache(trainings.load_backbone), cache(trainings.load_text_tower)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainings, "load_backbone", lambda name, **given: copy.deepcopy(backbone(name, **given)))
        patch.setattr(trainings, "load_text_tower", lambda name, **given: text(name, **given))
        yield


def made(entry: Experiment, arm: Arm) -> Method:
    """The untrained method of an arm, warm from the untrained one that it continues."""
    method = Training(entry, replace(arm, after=None), FEW, Path()).build()
    if arm.after is not None:
        method.warm_start(made(entry, entry.shared[arm.after]).state())
    return method


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_can_be_made_trained_and_tested_as_it_says(name: str) -> None:
    entry, arm = ARMS[name]
    method, training = made(entry, arm), Training(entry, arm, FEW, Path())
    stages = [training._stage(stage, training.lr, training.epochs) for stage in method.stages(manifest_of(FEW))]
    recipe = training.recipe
    assert recipe is not None
    assert bool(stages) == bool(method.tuned)
    assert stages or recipe.keep_lr, "a method that trains nothing needs no lr"
    names = [parameter for parameter, _ in method.named_parameters()]
    for stage in stages:
        assert (stage.epochs, stage.batch_size) == (recipe.epochs, recipe.batch_size)
        assert recipe.keep_lr or stage.lr == training.lr
        assert 0 <= stage.warmup_epochs < stage.epochs
        assert all(any(each.startswith(prefix) for each in names) for prefix in stage.trainable)
    assert arm.test_options.keys() <= {each.name for each in fields(method_class(arm.method).Config)}
    assert method.Config(**{**method.options, **arm.test_options})


@each_entry
def test_only_arms_with_another_tower_are_left_out_and_phases_share_one(
    id: str,
) -> None:
    entry = ENTRIES[id]
    for arm in entry.arms:
        if tower_of(entry, arm, FEW) is None:
            assert arm.input_size or (arm.backbone and arm.backbone not in entry.toybox.get("backbones", {}))
        before = arm.after and tower_of(entry, entry.shared[arm.after], FEW)
        assert arm.after is None or before == tower_of(entry, arm, FEW)


# -- drawing -----------------------------------------------------------------------------------------------------------


SEEN: dict[Any, wb.Features] = {}


@dataclass(frozen=True)
class Recorded(Trained):
    """An arm as drawing sees it: a small training of a method like its own, and the features of a few images."""

    run: wb.Run = None  # type: ignore[assignment]

    @property
    def runs(self) -> list[wb.Run]:
        return [self.run]

    def method(self) -> Method:
        return _method(self.run)

    def _features(self, seed: int, split: str, data: str | None = None) -> wb.Features:
        arm, other = self.training.arm, data and other_set(self.training.experiment, data, FEW)
        key = (self.run.path, split, other, arm.expand)
        if key not in SEEN:
            images, method = self.training.images(split, data), self.method()
            views = "centre" if arm.expand is None else arm.views
            known = images.classes.names == method.classes.names
            SEEN[key] = wb.extract(method, images, views=views, expand=arm.expand, decisions=known)
        return SEEN[key]


@cache
def _method(run: wb.Run) -> Method:
    return run.method()


@pytest.fixture(scope="module")
def small_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, wb.Run]:
    """Three methods trained on four images per class: one with adapters and a linear head, one with prompts, HLC."""
    folder = tmp_path_factory.mktemp("small_runs")
    train, val = (wb.LongTailDataset(manifest_of(FEW), split, per_class=4) for split in ("train", "val"))
    linear: dict[str, Any] = {"head": "linear", "initialisation": "class_mean"}
    arms = {
        "lift": (
            ENTRIES["lift:T25"],
            Arm("LIFT", "lift", options=linear, backbone="vit_base_patch16_224.augreg_in21k"),
        ),
        "lpt": (ENTRIES["lpt:T8"], Arm("LPT", "lpt")),
        "hlc": (ENTRIES["hlc:T4"], Arm("HLC", "hlc")),
    }
    found = {}
    for name, (entry, arm) in arms.items():
        method = made(entry, arm)
        stages = [replace(stage.shortened(1), batch_size=8) for stage in method.stages(manifest_of(FEW))]
        found[name] = wb.fit(method, train, val, out=folder / name, stages=stages)
    return found


def _drawn_differently() -> list[str]:
    """Entries whose panels are other ones, or of other arms, than those of the entries before them."""
    found: dict[str, str] = {}
    for id, entry in ENTRIES.items():
        arms = [(arm.name, arm.method, arm.value, arm.curve, arm.expand) for arm in entry.arms]
        found.setdefault(json.dumps([entry.draw, dict(entry.draw_options), arms, entry.test_sets]), id)
    return list(found.values())


@pytest.mark.parametrize("id", _drawn_differently())
def test_an_entry_is_drawn_from_its_arms(id: str, small_runs: dict[str, wb.Run]) -> None:
    entry = ENTRIES[id]
    arms = {
        arm.name: Recorded(Training(entry, arm, FEW, Path()), (0,), run=small_runs.get(arm.method, small_runs["lift"]))
        for arm in entry.arms
        if tower_of(entry, arm, FEW) is not None
    }
    if not arms:
        pytest.skip("no arm has a tower in the toybox world")
    results = panels(entry.draw, arms, entry.draw_options)
    found = Reproduction(entry, None, arms, results)  # type: ignore[arg-type]
    assert {name.partition(",")[0] for name in found.results} == set(entry.draw)
    assert all(len(result.to_frame()) and str(result) for result in found.results.values())
    assert len(found.plot()) == len(found.figures)
    if "convergence" in entry.draw:
        assert "convergence, mean_class" in [name for name, _, _ in found.figures]
