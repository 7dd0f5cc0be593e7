"""One arm, trained, tested and kept: folders that say what they hold, so that nothing is computed twice.

    OUT/trainings/<method>-<hash>/training.json, seed0/ (a run), seed0/features/<test>.npz
    OUT/searches/<method>-<hash>/lr.json, lr0.01/ (runs)

The hash is of everything that decides a training, so entries and papers share what they have in common.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from workbench.backbones import load_backbone, load_text_tower
from workbench.backbones.tags import find_tower
from workbench.backbones.text_tags import has_text_tower
from workbench.data import LongTailDataset, match_classes
from workbench.features import Features, extract
from workbench.methods import Method, Stage, create_method, method_class
from workbench.runs import Run
from workbench.training import fit

from .experiment import Arm, Experiment, Recipe
from .grid import climb
from .setting import Setting, is_toybox, manifest_of, not_here, sentences, test_set_of, tower_of

OF_TOWERS = ("input_size", "weights", "text_weights")  # fields of an arm


@dataclass(frozen=True)
class Training:
    """An arm of an entry in a setting, under a folder."""

    experiment: Experiment
    arm: Arm
    setting: Setting
    out: Path

    def of(self, arm: Arm) -> Training:
        return replace(self, arm=arm)

    @property
    def before(self) -> Training | None:
        """What this one continues."""
        return None if self.arm.after is None else self.of(self.experiment.shared[self.arm.after])

    @property
    def first(self) -> list[Training]:
        """What must be trained before: what this one continues, and what the one does whose grid decides its lr."""
        searched = self.searched if self.needs_search else None
        return [each for each in (self.before, searched and searched.before) if each is not None]

    @property
    def depth(self) -> int:
        """How many trainings must be finished before this one, one after the other."""
        return max((1 + each.depth for each in self.first), default=0)

    @property
    def recipe(self) -> Recipe | None:
        """None where the method's own recipe fits: outside the toybox world."""
        return self.experiment.recipes[self.arm.recipe] if is_toybox(self.setting) else None

    @property
    def searched(self) -> Training | None:
        """The training whose grid decides this one's lr; None where there is no grid."""
        recipe = self.recipe
        if recipe is None or recipe.lr is not None or recipe.keep_lr or self.setting.lr is not None:
            return None
        return self if recipe.lr_of is None else self.of(self.experiment.shared[recipe.lr_of]).searched

    @cached_property
    def lr(self) -> float | None:
        """None: the method's own."""
        if self.setting.lr is not None:
            return self.setting.lr
        recipe, searched = self.recipe, self.searched
        if searched is None:
            return self.arm.lr if recipe is None else recipe.lr
        assert searched.recipe is not None
        if not self.setting.search or len(searched.recipe.lrs) == 1:
            return searched.recipe.start or searched.recipe.lrs[0]
        return float(json.loads((searched.search_folder / "lr.json").read_text())["lr"])

    @property
    def needs_search(self) -> bool:
        recipe = None if self.searched is None else self.searched.recipe
        return self.setting.search and recipe is not None and len(recipe.lrs) > 1

    def _what(self) -> dict[str, Any]:
        tower = tower_of(self.experiment, self.arm, self.setting)
        manifest = manifest_of(self.setting)
        own = self.setting
        return {
            "method": self.arm.method,
            "options": self.options,
            "backbone": tower,
            "data": manifest.name,
            "data_sha256": manifest.sha256,
            **{name: getattr(own, name) for name in ("weights", "text_weights", "texts", "corpus", "batch_size")},
            "planted_descriptions": self._reads_sentences and bool(self.experiment.toybox.get("descriptions")),
            # said where they are set, so that trainings without them keep their folders
            **{f"arm_{name}": value for name in OF_TOWERS if (value := getattr(self.arm, name)) is not None},
            "after": None if self.before is None else self.before.hash,
        }

    @property
    def options(self) -> dict[str, Any]:
        """The arm's, over those that the toybox world needs."""
        own: dict[str, Any] = self.experiment.toybox.get("options", {}) if is_toybox(self.setting) else {}
        return {**own.get(self.arm.method, {}), **self.arm.options}

    @property
    def _reads_sentences(self) -> bool:
        """Whether sentences about the classes change this training, in the toybox world."""
        return is_toybox(self.setting) and (self.arm.method == "hlc" or "descriptions" in self.options.values())

    @cached_property
    def what(self) -> dict[str, Any]:
        """Everything that decides the weights, but the seed."""
        recipe = self.recipe
        steps = {} if recipe is None else {name: getattr(recipe, name) for name in ("batch_size", "warmup_epochs")}
        return self._what() | {"epochs": self.epochs, "lr": self.lr, "recipe": steps}

    @property
    def epochs(self) -> int | None:
        own = self.arm.epochs if self.recipe is None else self.recipe.epochs
        return own if self.setting.epochs is None else self.setting.epochs

    @property
    def hash(self) -> str:
        return _hash(self.what)

    @property
    def folder(self) -> Path:
        return self.out / "trainings" / f"{self.arm.method}-{self.hash}"

    @property
    def search_folder(self) -> Path:
        grid = {name: value for name, value in asdict(self.recipe).items() if name != "epochs"} if self.recipe else {}
        return self.out / "searches" / f"{self.arm.method}-{_hash(self._what() | {'grid': grid})}"

    def run_folder(self, seed: int) -> Path:
        return self.folder / f"seed{seed}"

    # -- work ----------------------------------------------------------------------------------------------------------

    def fit(self, seed: int, **progress: Any) -> Run:
        """The finished run of a seed: as it is, gone on with, or from the beginning."""
        self.folder.mkdir(parents=True, exist_ok=True)
        record = json.dumps(self.what, indent=1)
        (self.folder / "training.json").write_text(record)
        return self._fit(self.run_folder(seed), seed, self.lr, self.epochs, **progress)

    def _fit(self, out: Path, seed: int, lr: float | None, epochs: int | None, **progress: Any) -> Run:
        manifest = manifest_of(self.setting)
        train = LongTailDataset(manifest, "train", root=self.setting.root)
        val = LongTailDataset(manifest, "val", root=self.setting.root) if manifest.has_validation else None
        method = self.build(seed)
        stages = [self._stage(stage, lr, epochs) for stage in method.stages(manifest)]
        run = fit(method, train, val, out=out, seed=seed, stages=stages, existing="continue", **progress)
        if run.status["status"] != "finished":
            raise KeyboardInterrupt(f"{out} was interrupted")
        return run

    def build(self, seed: int = 0) -> Method:
        """The untrained method, warm from what it continues."""
        tower = tower_of(self.experiment, self.arm, self.setting)
        if tower is None:
            raise ValueError(f"{not_here(self.arm)}.")
        own, arm, needs = self.weights, self.arm, method_class(self.arm.method).uses_text
        backbone = load_backbone(tower, weights=arm.weights or own, input_size=arm.input_size)
        weights = arm.text_weights or self.setting.text_weights or own
        text = load_text_tower(tower, weights=weights) if needs and _has_text(tower) else None
        warm = None if self.before is None else Run.load(self.before.run_folder(seed)).method().state()
        method = create_method(
            self.arm.method,
            backbone,
            manifest_of(self.setting).classes,
            text=text,
            warm_start=warm,
            seed=seed,
            **(sentences(self.experiment, self.setting) if needs else {}),
            **self.options,
        )
        return method.to(self.setting.device)

    @property
    def weights(self) -> str | None:
        """The file of the setting is that of the arms that name no tower of their own; random weights fit all."""
        own = self.arm.backbone is not None and self.setting.weights != "random"
        return None if own else self.setting.weights

    def _stage(self, stage: Stage, lr: float | None, epochs: int | None) -> Stage:
        recipe, setting = self.recipe, self.setting
        if epochs is not None:
            stage = stage.shortened(epochs)
        batch_size = setting.batch_size or (recipe.batch_size if recipe else stage.batch_size)
        changes: dict[str, Any] = {"batch_size": batch_size}
        if stage.micro_batch_size is not None:
            changes["micro_batch_size"] = min(stage.micro_batch_size, batch_size)
        if lr is not None:
            changes["lr"] = lr
        if recipe is not None and recipe.warmup_epochs is not None:
            changes["warmup_epochs"] = min(recipe.warmup_epochs, stage.epochs - 1)
        return replace(stage, **changes)

    def search(self) -> None:
        """Choose the lr on val with seed 0 and write it down."""
        recipe, file = self.recipe, self.search_folder / "lr.json"
        if file.exists() or recipe is None:
            return

        def score(lr: float) -> float:
            try:
                run = self._fit(self.search_folder / f"lr{lr:g}", 0, lr, recipe.search_epochs)
            except FloatingPointError:  # no longer finite, as rates at the upper end may be: the worst
                return 0.0
            return float(run.metrics["val_mean_class"].iloc[-1]) if len(run.metrics) else 0.0

        lr, scores = climb(score, recipe.lrs, recipe.start or recipe.lrs[len(recipe.lrs) // 2])
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(json.dumps({"lr": lr, "val_mean_class": {f"{k:g}": v for k, v in scores.items()}}, indent=1))
        part.replace(file)

    def features_file(self, seed: int, split: str = "test", data: str | None = None) -> Path:
        """Where the features are kept of what `extract` looks at; one file for arms that are looked at in one way."""
        arm = self.arm
        variant = {"views": arm.views, "expand": arm.expand, "options": dict(arm.test_options)}
        name = f"{self._other(data) or split}-{arm.views}-{_hash(variant | {'limit': self.setting.per_class})}.npz"
        return self.run_folder(seed) / "features" / name

    def images(self, split: str = "test", data: str | None = None) -> LongTailDataset:
        """What `extract` looks at; another set has the trained classes where the paper prints accuracies on it."""
        other, setting = self._other(data), self.setting
        manifest = manifest_of(setting, other)
        if data is not None and data in self.experiment.tests:
            whole = manifest_of(replace(setting, classes=None), other)
            manifest = match_classes(whole, manifest_of(setting).classes).manifest(split)
        return LongTailDataset(manifest, split, root=setting.root, per_class=setting.per_class)

    def _other(self, data: str | None) -> str | None:
        return None if data is None else test_set_of(self.experiment, data, self.setting)

    def extract(self, seed: int, split: str = "test", data: str | None = None) -> Features:
        """Features of a split of the data set, or of the test split of another one, without decisions where that has
        other classes."""
        file = self.features_file(seed, split, data)
        if not file.exists():
            run = Run.load(self.run_folder(seed))
            method = run.method(**self.arm.test_options).to(self.setting.device)
            dataset = self.images(split, data)
            features = extract(
                method,
                dataset,
                views=self.arm.views,
                expand=self.arm.expand,
                decisions=dataset.classes.names == method.classes.names,
                run=str(run.path),
                weights_sha256=run.weights_sha256,
            )
            features.save(file)
        return Features.load(file)


def all_needed(trainings: list[Training]) -> list[Training]:
    """These and what must be trained before them, each training once."""
    found: dict[str, Training] = {}

    def add(training: Training) -> None:
        for each in training.first:
            add(each)
        arm = training.arm  # not by its hash, which is known once the lr of what it continues is
        what = [arm.method, dict(arm.options), arm.backbone, arm.recipe, arm.lr, arm.epochs, arm.after]
        what += [getattr(arm, name) for name in OF_TOWERS]
        found.setdefault(json.dumps(what, sort_keys=True), training)

    for training in trainings:
        add(training)
    return list(found.values())


def _has_text(tower: str) -> bool:
    return tower == "toybox_clip" or has_text_tower(find_tower(tower, tag_needed=False, from_file=False))


def _hash(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, default=list).encode()).hexdigest()[:10]
