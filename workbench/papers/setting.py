"""Where an experiment is run: data, tower, seeds and what of the recipe is replaced."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from workbench.data import Manifest, import_texts, toybox_corpus, toybox_descriptions
from workbench.data.subsets import choose_classes

from .experiment import Arm, Experiment

DATA = {  # names of results.csv -> manifests
    "imagenet-lt": "imagenet_lt",
    "places-lt": "places_lt",
    "inaturalist-2018": "inaturalist2018",
    **{f"cifar100-lt-ir{ratio}": f"cifar100_lt_ir{ratio}" for ratio in (10, 50, 100, 200)},
}


@dataclass(frozen=True)
class Setting:
    """Everything besides the entry that decides what is trained. None: what the entry says."""

    data: str = "toybox_lt"  # a manifest's name or path
    backbone: str | None = None  # of arms that name none; None: the paper's, or its counterpart in the toybox world
    seeds: int = 3
    root: str | None = None  # of the images
    weights: str | None = None  # a local file of the tower of arms that name none, or "random"
    text_weights: str | None = None
    texts: str | None = None  # a file of sentences about the classes
    corpus: str | None = None  # a file of sentences to train on
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    classes: int | None = None  # that many, spread over the frequencies; for trying out
    per_class: int | None = None  # test images of each class at most; for trying out
    search: bool = True  # False: a recipe's lr is its grid's start
    device: str = "cpu"

    def command(self, id: str) -> str:
        """The command line that runs an entry in this setting."""
        words = [f"workbench reproduce {id}"]
        for each in fields(self):
            value = getattr(self, each.name)
            if value != each.default or each.name == "seeds":
                flag = each.name.replace("_", "-")
                words.append("--no-search" if each.name == "search" else f"--{flag} {shlex.quote(str(value))}")
        return " ".join(words)


def manifest_of(setting: Setting, name: str | None = None) -> Manifest:
    """The data set, or another with the same classes, with as many classes as the setting says."""
    return _manifest(name or setting.data, setting.classes)


@cache  # every arm asks several times, and reading a data set takes a tenth of a second
def _manifest(name: str, classes: int | None) -> Manifest:
    manifest = Manifest.load(name)
    if classes is None or classes >= len(manifest.classes):
        return manifest
    if classes < 2:
        raise ValueError(f"classes={classes}: choose at least two.")
    last = len(manifest.classes) - 1
    by_frequency = manifest.classes.counts.argsort(kind="stable")[::-1]
    return choose_classes(manifest, [int(by_frequency[round(i * last / (classes - 1))]) for i in range(classes)])


def is_toybox(setting: Setting) -> bool:
    return _manifest(setting.data, None).kind == "toybox"


def tower_of(experiment: Experiment, arm: Arm, setting: Setting) -> str | None:
    """The tag of an arm's tower; None where the toybox world has none like it."""
    if arm.input_size is not None and is_toybox(setting):
        return None
    if arm.backbone is None:
        own = experiment.toybox["backbone"] if is_toybox(setting) else experiment.backbone
        return setting.backbone or str(own)
    if not is_toybox(setting):
        return arm.backbone
    found: Mapping[str, str] = experiment.toybox.get("backbones", {})
    return found.get(arm.backbone)


def not_here(arm: Arm) -> str:
    """Why `tower_of` is None."""
    tower = arm.backbone or f"one of {arm.input_size} pixels"
    return f"the toybox world has no tower like {tower}"


def test_set_of(experiment: Experiment, name: str, setting: Setting) -> str | None:
    """The manifest of another set that an entry is tested on; None where it is not here, or the toybox world has none
    like it."""
    if not is_toybox(setting):
        return name if name in Manifest.names() else None
    sets: Mapping[str, str] = experiment.toybox.get("test_sets", {})
    return sets.get(name)


def sentences(experiment: Experiment, setting: Setting) -> dict[str, Any]:
    """texts= and corpus= of create_method: of files, or of the toybox world with its planted-bad descriptions."""
    manifest = manifest_of(setting)
    found: dict[str, Any] = {"texts": manifest.texts, "corpus": None}
    if is_toybox(setting) and experiment.toybox.get("descriptions"):
        found = {"texts": toybox_descriptions()[0], "corpus": toybox_corpus()}
    for name in ("texts", "corpus"):
        if (path := getattr(setting, name)) is not None:
            found[name] = import_texts(Path(path), manifest.classes.names).texts
    if setting.classes is not None:
        known = set(manifest.classes.names)
        found = {key: texts and {n: s for n, s in texts.items() if n in known} for key, texts in found.items()}
    return found


def shortened(setting: Setting) -> Setting:
    """One epoch with a few classes: whether everything runs, not how well."""
    return replace(setting, seeds=1, epochs=1, classes=6, per_class=5, search=False)
