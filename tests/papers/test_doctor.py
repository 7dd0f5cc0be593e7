"""`wb.doctor`: planted differences between two runs are found, named and sized, and nothing else is."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.cli import main
from workbench.data import Split
from workbench.data.subsets import choose_classes
from workbench.papers.doctor import Diagnosis
from workbench.papers.doctor.effects import SIZES, aspects, effect_of
from workbench.papers.experiment import reported_rows

LABELS = (0, 5, 20, 30, 45, 55)  # of toybox_lt, from many to few
Make = Callable[..., wb.Run]
Copy = Callable[..., wb.Run]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("doctor")


@pytest.fixture(scope="module")
def data(folder: Path) -> Callable[..., wb.Manifest]:
    """data("plain", labels=..., change=...) -> a part of toybox_lt, saved where a run finds it again."""

    whole = wb.Manifest.load("toybox_lt")

    @cache
    def saved(name: str, labels: tuple[int, ...] = LABELS, change: Any = lambda manifest: manifest) -> wb.Manifest:
        manifest = change(choose_classes(whole, labels))
        return wb.Manifest.load(manifest.save(folder / "data" / name, overwrite=True))

    return saved


@pytest.fixture(scope="module")
def make(folder: Path, data: Callable[..., wb.Manifest]) -> Make:
    """make("a", method="zero_shot", stage={"lr": 0.1}, ...) -> a run on a dozen images, trained for one epoch."""
    load_text, load = cache(wb.load_text_tower), cache(wb.load_backbone)

    def made(
        name: str,
        method: str = "linear_probe",
        *,
        tower: str = "toybox_vit",
        weights: str | None = None,
        manifest: wb.Manifest | None = None,
        per_class: int = 2,
        stage: dict[str, Any] | None = None,
        val: str | None = "val",
        seed: int = 0,
        **options: Any,
    ) -> wb.Run:
        manifest = manifest or data("plain")
        train = wb.LongTailDataset(manifest, "train", per_class=per_class)
        scored = None if val is None else wb.LongTailDataset(manifest, val, per_class=1)
        text = load_text(tower) if tower == "toybox_clip" else None
        backbone = copy.deepcopy(load(tower, weights))
        built = wb.create_method(method, backbone, manifest.classes, text=text, **options)
        stages = [replace(each.shortened(1), batch_size=8) for each in built.stages(manifest)]
        stages = [replace(each, **(stage or {})) for each in stages]
        out = folder / name
        return wb.fit(built, train, scored, out=out, stages=stages, seed=seed, allow_test=val == "test")

    return made


@pytest.fixture(scope="module")
def base(make: Make) -> wb.Run:
    return make("base")


@pytest.fixture
def edited(tmp_path: Path) -> Copy:
    """edited(run, "name", {"device": "cuda", "stages.0.lr": 1}) -> a copy with other values in its config."""

    def changed(run: wb.Run, name: str, values: dict[str, Any]) -> wb.Run:
        path = shutil.copytree(run.path, tmp_path / name)
        config = json.loads((path / "config.json").read_text())
        for key, value in values.items():
            place = config
            *above, last = key.split(".")
            for part in above:
                place = place[int(part) if part.isdecimal() else part]
            place[last] = value
        (path / "config.json").write_text(json.dumps(config))
        return wb.Run.load(path)

    return changed


def named(diagnosis: Diagnosis) -> list[str]:
    return [finding.what for finding in diagnosis.findings]


# -- no difference -----------------------------------------------------------------------------------------------------


def test_equal_runs_have_no_difference(make: Make, base: wb.Run, tmp_path: Path) -> None:
    for other in (make("again"), wb.Run.load(shutil.copytree(base.path, tmp_path / "moved"))):
        found = wb.doctor(base, other.path)
        assert not found.findings and found.to_frame().empty
        assert str(found).startswith("No difference found between ")
        assert "the same, byte for byte" in str(found)


def test_weights_that_differ_without_a_cause_are_mentioned(base: wb.Run, edited: Copy) -> None:
    other = edited(base, "other", {})
    (other.path / "weights.safetensors").write_bytes(b"other")
    found = wb.doctor(base, other)
    assert not found.findings and "weights differ nevertheless" in str(found)


def test_what_is_no_run_is_refused(base: wb.Run, edited: Copy, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        wb.doctor(base, tmp_path)
    broken = edited(base, "broken", {"train": {}})
    with pytest.raises(ValueError, match=r"config\.json, classes\.json or status\.json is not that of a run"):
        wb.doctor(broken, base)


# -- planted by training -----------------------------------------------------------------------------------------------

TRAINED = {  # what another run is made with -> what is found, and what either has
    "lr": ({"stage": {"lr": 0.05}}, "batch size and lr", "lr 0.02", "lr 0.05"),
    "batch": ({"stage": {"batch_size": 4}}, "batch size and lr", "batches of 8", "batches of 4"),
    "scaled": ({"stage": {"batch_size": 4, "lr": 0.01}}, "batch size and lr, scaled together", "of 8", "of 4"),
    "epochs": ({"stage": {"epochs": 2}}, "epochs", "1", "2"),
    "decay": ({"stage": {"weight_decay": 0.01}}, "weight decay", "0.0001", "0.01"),
    "adamw": ({"stage": {"optimiser": "adamw"}}, "optimiser", "sgd, momentum 0.9", "adamw"),
    "schedule": ({"stage": {"schedule": "constant"}}, "schedule and warm-up", "timm_cosine", "constant"),
    "sampler": ({"sampler": "class_aware"}, "sampler", "shuffle", "class_aware"),
    "best": ({"stage": {"select": "best"}}, "choice of the epoch", "the last", "the best on val"),
    "no val": ({"val": None}, "validation", "val, 1 images per class", "none"),
    "augment": ({"augment": True}, "training transform", "as in testing", "random-resized crop, 8% to 100%"),
    "seed": ({"seed": 1}, "seeds", "training 0", "training 1"),
    "weights": ({"weights": "random"}, "backbone weights", "sha256", "random weights of seed 0"),
    "counts": ({"per_class": 3}, "training images per class", "12 images, 2 to 2", "18 images, 3 to 3"),
}


@pytest.mark.parametrize("plant", TRAINED)
def test_a_difference_in_training_is_the_only_finding(make: Make, base: wb.Run, plant: str) -> None:
    changed, what, one, other = TRAINED[plant]
    found = wb.doctor(base, make(plant, **changed))
    assert named(found) == [what]
    assert one in found.findings[0].one and other in found.findings[0].other
    back = wb.doctor(found.other, base)
    assert named(back) == [what] and one in back.findings[0].other


def test_choosing_on_test_is_named(make: Make) -> None:
    honest, dishonest = make("on val", stage={"select": "best"}), make("on test", stage={"select": "best"}, val="test")
    finding, *rest = wb.doctor(honest, dishonest).findings
    assert not rest and (finding.one, finding.other) == ("the best on val", "the best on test")
    assert finding.what == "choice of the epoch" and "no estimate of new images" in finding.effect


def test_prompt_templates_and_what_the_papers_print(make: Make) -> None:
    clip = {"method": "zero_shot", "tower": "toybox_clip"}
    single = make("single", **clip)
    assert not wb.doctor(single, make("single too", **clip, templates="single")).findings
    finding, *rest = wb.doctor(single, make("name", **clip, templates="class_name")).findings
    assert not rest and (finding.what, finding.one, finding.other) == ("prompt template", "single", "class_name")


def test_a_loss_is_sized_by_the_table_that_has_both(make: Make) -> None:
    lift = {"method": "lift", "tower": "toybox_clip", "views": "centre", "stage": {"precision": "fp32"}}
    adjusted, plain = make("adjusted", **lift), make("plain", **lift, loss="cross_entropy")
    finding, *rest = wb.doctor(plain, adjusted).findings
    assert not rest and (finding.what, finding.one, finding.other) == ("loss", "cross_entropy", "logit_adjusted")
    rows = reported_rows()["lift:T16"]
    both = [rows[f"lift-tte loss={loss};tte=on"]["places-lt"]["all"] for loss in ("ce", "la")]
    assert f"Places-LT {both[1] - both[0]:+.1f}" in finding.effect and "(LIFT Table 16)" in finding.effect
    assert finding.size == "large" and finding.points == pytest.approx(both[1] - both[0])
    five = make("five", **lift | {"views": "five"})
    ensemble, *rest = wb.doctor(adjusted, five).findings
    assert not rest and ensemble.what == "test ensemble" and ensemble.one == "one crop"
    assert ensemble.other == "five crops of an image 6 px wider, mean of logits" and "LIFT Table 5" in ensemble.effect
    seeded = make("seeded", **lift, loss="cross_entropy", seed=1)
    several = wb.doctor(five, seeded)
    assert named(several) == ["loss", "test ensemble", "seeds"]  # by likely effect
    assert several.to_frame()["points"].is_monotonic_decreasing


# -- planted in the data -----------------------------------------------------------------------------------------------


def other_test(manifest: wb.Manifest) -> wb.Manifest:
    test = manifest.split("test")
    return replace(manifest, splits={**manifest.splits, "test": Split(test.paths[1:], test.labels[1:])})


def some_of_train(which: slice) -> Callable[[wb.Manifest], wb.Manifest]:
    """Two images of each class, so that their counts are those of another choice."""

    def change(manifest: wb.Manifest) -> wb.Manifest:
        train = manifest.split("train")
        rows = np.concatenate([np.flatnonzero(train.labels == label)[which] for label in range(len(manifest.classes))])
        counts = np.bincount(train.labels[rows], minlength=len(manifest.classes))
        classes = replace(manifest.classes, counts=counts)
        splits = {**manifest.splits, "train": Split(train.paths[rows], train.labels[rows])}
        return replace(manifest, splits=splits, classes=classes)

    return change


def test_data_that_differ_are_told_apart(make: Make, base: wb.Run, data: Callable[..., wb.Manifest]) -> None:
    runs = {
        "test": make("other test", manifest=data("test", change=other_test)),
        "order": make("order", manifest=data("order", LABELS[::-1])),
        "classes": make("classes", manifest=data("classes", (*LABELS[:-1], 56))),
        "first": make("first", manifest=data("first", change=some_of_train(slice(0, 2)))),
        "last": make("last", manifest=data("last", change=some_of_train(slice(-2, None)))),
    }
    assert named(wb.doctor(base, runs["test"])) == ["test images (split hash)"]
    assert named(wb.doctor(base, runs["order"])) == ["class order"]
    found = wb.doctor(base, runs["classes"])
    assert named(found) == ["classes"]
    assert repr(base.classes.names[-1]) in found.findings[0].one
    finding, *rest = wb.doctor(runs["first"], runs["last"]).findings
    assert not rest and finding.what == "training images (split hash)" and "12 images, sha256" in finding.one
    shutil.rmtree(Path(runs["test"].config["train"]["manifest_path"]).parent)
    unknown = wb.doctor(base, runs["test"])
    assert named(unknown) == ["data set (hash)"] and "manifest is not at hand" in str(unknown)


def test_a_group_rule_says_which_classes_move(make: Make, base: wb.Run, data: Callable[..., wb.Manifest]) -> None:
    rule = replace(base.classes.rule, few_to=base.classes.rule.many_from - 1)  # no class is medium-shot
    other = make("rule", manifest=data("rule", change=lambda m: replace(m, classes=m.classes.with_rule(rule))))
    finding, *rest = wb.doctor(base, other).findings
    moved = int((base.classes.groups == "medium").sum())
    assert not rest and finding.what == "group rule" and moved > 0
    assert f"Here {moved} of 6 classes are in another group." in finding.effect and finding.size == "medium"
    few = max(count for count in base.classes.counts if count <= base.classes.rule.few_to)
    equal = replace(base.classes.rule, few_to=int(few))  # other words for the same groups
    other = make("words", manifest=data("words", change=lambda m: replace(m, classes=m.classes.with_rule(equal))))
    finding, *rest = wb.doctor(base, other).findings
    assert not rest and finding.size == "noise" and "0 of 6 classes are in another group" in finding.effect


# -- planted in how a run was tested -----------------------------------------------------------------------------------


def transform_with(run: wb.Run, **changed: Any) -> Any:
    """The run's method with another test transform, as another version or a change of the code would have it."""
    method = run.method()
    usual = method.preprocessing(train=False)
    method.preprocessing = lambda train: replace(usual, **changed)
    return method


TESTED = {
    "interpolation": ({"interpolation": "bicubic"}, "interpolation", "bilinear", "bicubic"),
    "squash": ({"resize_mode": "squash"}, "test resize", "shorter side to 64 px", "both sides to 64 px"),
    "resize": ({"resize": 56}, "test resize", "shorter side to 64 px", "shorter side to 56 px"),
    "mean": ({"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}, "mean and std", "0.5 0.5", "0.485 0.456"),
}


def saved_features(run: wb.Run, method: Any, **asked: Any) -> None:
    rule = asked.pop("rule", None)
    features = wb.extract(method, run.dataset("test", per_class=asked.pop("per_class", 1)), **asked)
    features = features if rule is None else features.with_rule(rule)
    features.save(run.path / "features" / "test.npz")


@pytest.mark.parametrize("plant", TESTED)
def test_the_transform_of_saved_features_counts(base: wb.Run, edited: Copy, plant: str) -> None:
    changed, what, one, other = TESTED[plant]
    usual, odd = edited(base, "usual", {}), edited(base, "odd", {})
    saved_features(usual, usual.method())
    saved_features(odd, transform_with(odd, **changed))
    finding, *rest = wb.doctor(usual, odd).findings
    assert not rest and finding.what == what and one in finding.one and other in finding.other


VIEWED = {
    "views": ({"views": "five"}, "test ensemble", "one crop", "five crops of an image 6 px wider"),
    "layer": ({"layer": "backbone"}, "layer of the saved features", "head", "backbone"),
    "part": ({"per_class": 2}, "tested images", "1 images per class", "2 images per class"),
    "rule": ({"rule": "ge100_le20"}, "group rule", "many >= ", "many >= 100, few <= 20"),
}


@pytest.mark.parametrize("plant", VIEWED)
def test_how_features_were_made_is_the_only_finding(base: wb.Run, edited: Copy, plant: str) -> None:
    asked, what, one, other = VIEWED[plant]
    usual, odd = edited(base, "usual", {}), edited(base, "odd", {})
    saved_features(usual, usual.method())
    saved_features(odd, odd.method(), **asked)
    (odd.path / "features" / "broken.npz").write_bytes(b"PK\3\4 no archive")
    found = wb.doctor(usual, odd)
    assert named(found) == [what] and one in found.findings[0].one and other in found.findings[0].other
    assert not wb.doctor(base, odd).findings  # nothing was saved there that could be compared


# -- planted in the record: what no small machine can run --------------------------------------------------------------

CLIP = {"weights": "openai.pt", "sha256": "ab" * 32, "seed": 0, "input_size": 224}
VIT = {"weights": "random", "seed": 0, "sha256": None, "input_size": 224}
RECORDED = {
    "activation": (
        {"backbone": {"name": "vit_base_patch16_clip_quickgelu_224.openai", **CLIP}},
        {"backbone": {"name": "vit_base_patch16_clip_224.laion2b", **CLIP}},
        ["activation (QuickGELU)"],
    ),
    "weight file": (
        {"backbone": {"name": "vit_base_patch16_clip_quickgelu_224.openai", **CLIP}},
        {"backbone": {"name": "vit_base_patch16_clip_quickgelu_224.openai", **CLIP, "sha256": "cd" * 32}},
        ["backbone weights"],
    ),
    "mean and std": (
        {"backbone": {"name": "vit_small_patch16_224.augreg_in21k", **VIT}},
        {"backbone": {"name": "vit_small_patch16_224.dino", **VIT}},
        ["mean and std"],
    ),
    "input size": (
        {"backbone": {"name": "vit_small_patch16_224.dino", **VIT}},
        {"backbone": {"name": "vit_small_patch16_224.dino", **VIT, "input_size": 448}},
        ["input size"],
    ),
    "precision": ({"device": "cuda", "stages.0.precision": "fp32"}, {"device": "cuda"}, ["precision"]),
    "accumulation": ({}, {"stages.0.micro_batch_size": 2}, ["images per forward pass"]),
    "versions": ({}, {"provenance.timm": "0.6.12", "provenance.gpu": "one"}, ["versions", "machine"]),
    "place": ({}, {"train.root": "/elsewhere", "val.root": "/elsewhere"}, []),
}


@pytest.mark.parametrize("plant", RECORDED)
def test_a_difference_in_the_record_is_the_only_finding(base: wb.Run, edited: Copy, plant: str) -> None:
    one, other, expected = RECORDED[plant]
    assert named(wb.doctor(edited(base, "one", one), edited(base, "two", other))) == expected


def test_an_unfinished_run_is_named(base: wb.Run, edited: Copy) -> None:
    other = edited(base, "other", {})
    other.set_status("interrupted")
    finding, *rest = wb.doctor(base, other).findings
    assert not rest and (finding.one, finding.other) == ("finished", "interrupted after 1 epochs")


# -- how it is told ----------------------------------------------------------------------------------------------------


def test_names_from_files_reach_neither_terminal_nor_page(base: wb.Run, edited: Copy) -> None:
    other = edited(base, "<b>x</b>", {"provenance.timm": "\x1b[31m<script>alert(1)</script> | $x$ \u202e"})
    (other.path / "classes.json").write_text(
        json.dumps(base.classes.to_json() | {"names": [f"\x1b]0;t\x07<img src=x>{i}" for i in range(6)]})
    )
    found = wb.doctor(base, other)
    assert named(found) == ["classes", "versions"]
    printed, page = str(found), found._repr_markdown_()
    assert printed.isascii() and all(letter.isprintable() or letter == "\n" for letter in printed)
    assert "\\x1b[31m" in printed and "\\u202e" in printed
    assert "<" not in page and "\x1b" not in page and "\\| \\$x\\$" in page


def test_the_command_prints_what_the_function_finds(
    make: Make, base: wb.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make("for the command", stage={"lr": 0.05, "epochs": 2})
    table = tmp_path / "differences.csv"
    assert main(["doctor", str(base.path), str(other.path), "--csv", str(table)]) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == str(wb.doctor(base, other)) and printed.startswith("2 differences, the likeliest cause")
    assert len(table.read_text().splitlines()) == 3
    assert main(["doctor", str(base.path), str(other.path), "--csv", str(table)]) == 1
    assert main(["doctor", str(base.path), str(base.path)]) == 0
    assert "No difference found" in capsys.readouterr().out
    assert main(["doctor", str(base.path), str(tmp_path)]) == 1
    assert "is not a run folder" in capsys.readouterr().err


def test_every_table_of_the_effects_is_printed_in_a_paper() -> None:
    from workbench.papers.doctor.effects import _records

    for aspect in aspects():
        record = _records()[aspect]
        assert record["size"] in SIZES
        effect = effect_of(aspect, "no such value", "nor this")
        assert effect.title and effect.said.endswith(".") and effect.points == SIZES[record["size"]][1]
        for table in record.get("tables", ()):
            first, *others = table["rows"]
            for value in others:
                told = effect_of(aspect, first, value, table.get("methods", [""])[0])
                assert f"{value} instead of {first}: " in told.said and " points (" in told.said
