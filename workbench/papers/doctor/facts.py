"""What a run folder says of itself, for comparing two: its records, and what is worked out from them again.

A config names no transform: the method chooses it. It is asked for it on a tower without weights, so nothing is
downloaded or computed; where features were saved with one crop, what they record counts instead.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from workbench.backbones import load_backbone
from workbench.data import Classes, GroupRule, Manifest, Preprocessing
from workbench.methods import rebuild_method
from workbench.runs import Run


@dataclass(frozen=True)
class Saved:
    """A file of features in a run's folder, without its arrays."""

    split: str
    layer: str
    per_class: int | None
    preprocessing: Preprocessing
    rule: GroupRule


@dataclass(frozen=True)
class Facts:
    """Everything that is compared. None: not known, and then `notes` say why, or there is none of it."""

    path: str
    config: dict[str, Any]
    classes: Classes
    status: str
    train: Preprocessing | None  # of the first stage; None also where nothing is trained
    train_text: str | None  # its geometry and augmentation in words
    test: Preprocessing | None  # with one crop
    ensemble: str | None  # the method's own way to test
    manifest: Manifest | None
    saved: tuple[Saved, ...]
    weights_sha256: str | None
    notes: tuple[str, ...]


def read_facts(given: str | Path | Run) -> Facts:
    """Read a run folder. FileNotFoundError where there is none, ValueError where its records are no run's."""
    run = given if isinstance(given, Run) else Run.load(given)
    try:
        return _read(run)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{run.path}: config.json, classes.json or status.json is not that of a run "
            f"({type(error).__name__}: {error}); restore it from a copy."
        ) from error


def _read(run: Run) -> Facts:
    config, classes, notes = run.config, run.classes, []
    train = test = ensemble = None
    try:
        asked = {key: config[key] for key in ("method", "options", "seed", "backbone")}
        cached = tuple(bool(stage["cached"]) for stage in config["stages"])
        train, test, ensemble = _transforms(json.dumps(asked, sort_keys=True), classes, cached)
    except (ValueError, OSError, RuntimeError, NotImplementedError) as error:
        notes.append(f"transforms are known as far as features record them, for the method cannot be built ({error})")
    saved = _saved(run.path / "features", config)
    recorded = [each.preprocessing for each in saved if each.split == "test" and each.preprocessing.views == 1]
    manifest = _manifest(config["train"])
    if manifest is None:
        notes.append("its manifest is not at hand, so splits are compared by one hash of them all")
    try:
        weights = run.weights_sha256
    except FileNotFoundError:  # in its first epoch
        weights = None
    return Facts(
        path=str(run.path),
        config=config,
        classes=classes,
        status=_status(run),
        train=train,
        train_text=None if train is None or test is None else train_text(train, test),
        test=next((each for each in recorded if not each.random), test),
        ensemble=ensemble,
        manifest=manifest,
        saved=saved,
        weights_sha256=weights,
        notes=tuple(notes),
    )


def _status(run: Run) -> str:
    status = str(run.status["status"])
    return status if status == "finished" else f"{status} after {len(run.metrics)} epochs"


@lru_cache(maxsize=32)  # two runs mostly have the same, and building a tower without weights takes a fifth of a second
def _transforms(
    asked: str, classes: Classes, cached: tuple[bool, ...]
) -> tuple[Preprocessing | None, Preprocessing, str]:
    """For training and for testing with one crop, and the method's own test views in words.

    asked: JSON of what a method is built of; cached: whether each stage trains on features computed once.
    """
    config = json.loads(asked)
    tower = config["backbone"]
    backbone = load_backbone(tower["name"], "meta", input_size=tower["input_size"])
    options = {"seed": config["seed"], "options": config["options"]}
    method = rebuild_method(config["method"], backbone, classes, **options)
    train = method.preprocessing(train=not all(cached)) if cached else None
    ensemble = views_text(method.test_preprocessing())
    if method.test_preprocessing().views > 1:
        ensemble += f", mean of {method.test_mean.replace('_', '-')}"
    return train, method.preprocessing(train=False), ensemble


def _manifest(spec: dict[str, Any]) -> Manifest | None:
    """The data set that a run was made with; None where it is not here, or another bears its name."""
    path = spec["manifest_path"]
    try:
        manifest = Manifest.load(Path(path) if path is not None and Path(path).is_file() else spec["manifest"])
    except (ValueError, OSError):
        return None
    return manifest if manifest.sha256 == spec["manifest_sha256"] else None


def _saved(folder: Path, config: dict[str, Any]) -> tuple[Saved, ...]:
    """The features of the run's own data set; files that are none are passed over."""
    found = []
    for path in sorted(folder.glob("*.npz")):
        try:
            with path.open("rb") as file:  # opened here, because np.load leaves a broken archive open
                archive = np.load(file, allow_pickle=False)
                source, classes = (json.loads(str(archive[name])) for name in ("source", "classes"))
            if source["manifest_sha256"] != config["train"]["manifest_sha256"]:
                continue
            preprocessing = Preprocessing.from_spec(source["preprocessing"])
            rule = Classes.from_json(classes).rule
            found.append(Saved(source["split"], source["layer"], source["per_class"], preprocessing, rule))
        except (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, zipfile.BadZipFile):
            continue
    return tuple(found)


# -- transforms in words -----------------------------------------------------------------------------------------------


def views_text(transform: Preprocessing) -> str:
    """ "one crop", "five crops of an image 24 px wider", "20 random crops" """
    if transform.views == 1:
        return "one crop"
    if transform.crop == "random_resized":
        return f"{transform.views} random crops"
    wider = (transform.resize or transform.size) - transform.size
    shape = ", squashed to a square" if transform.resize_mode == "squash" else ""
    return f"{transform.crop} crops of an image {wider} px wider{shape}"


def resize_text(transform: Preprocessing) -> str:
    """ "shorter side to 256", "both sides to 256", "none" """
    if transform.resize is None:
        return "none"
    return f"{'both sides' if transform.resize_mode == 'squash' else 'shorter side'} to {transform.resize} px"


def train_text(train: Preprocessing, test: Preprocessing) -> str:
    """Geometry and augmentation of a training transform; sizes, interpolation and normalisation are told apart."""
    if replace(train, name=test.name) == test:
        return "as in testing"
    parts = [train.crop.replace("_", "-") + " crop"]
    if train.crop == "random_resized":
        parts.append(f"{train.scale[0]:.0%} to {train.scale[1]:.0%} of the area")
    if train.resize is not None:
        parts.append(f"resize: {resize_text(train)}")
    return ", ".join([*parts, *(name.replace("_", " ") for name in train.augmentations)])
