"""What of a paper can be reproduced with the data and weights at hand, what is missing and how to get it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from workbench.backbones.tags import find_tower
from workbench.data import Manifest
from workbench.data.benchmarks import benchmark_names

from .card import ParityCard
from .experiment import Experiment
from .setting import DATA, Setting, not_here, tower_of


@dataclass(frozen=True)
class Standing:
    """Of one entry. What is missing says how to get it."""

    experiment: Experiment
    toybox: tuple[str, ...]  # arms that the toybox world can run
    toybox_missing: dict[str, str]  # arm -> why not
    data_missing: dict[str, str]  # data set of the paper -> what to type
    tests_missing: dict[str, str]  # another set that it is tested on too -> what to type
    weights_missing: dict[str, str]  # tag -> what to do
    card: ParityCard | None  # made at the full toybox recipe, shipped with the package

    @property
    def real(self) -> bool:
        """Whether a data set of the paper and the weights of its tower are here."""
        return len(self.data_missing) < len(self.experiment.datasets) and not self.weights_missing


def standing(experiment: Experiment) -> Standing:
    towers = {arm.name: tower_of(experiment, arm, Setting()) for arm in experiment.arms}
    tags = dict.fromkeys(arm.backbone or experiment.backbone for arm in experiment.arms)
    return Standing(
        experiment=experiment,
        toybox=tuple(name for name, tower in towers.items() if tower is not None),
        toybox_missing={arm.name: not_here(arm) for arm in experiment.arms if towers[arm.name] is None},
        data_missing={name: why for name in experiment.datasets if (why := _data_missing(name))},
        tests_missing={name: why for name in experiment.test_sets if (why := _manifest_missing(name))},
        weights_missing={tag: why for tag in tags if (why := _weights_missing(tag))},
        card=shipped_card(experiment.id),
    )


def card_path(id: str) -> Path:
    """Where the shipped card of an entry is, or would be."""
    return Path(str(files(__package__).joinpath("cards", f"{id.replace(':', '-')}.json")))


def shipped_card(id: str) -> ParityCard | None:
    path = card_path(id)
    return ParityCard.load(path) if path.is_file() else None


def _data_missing(name: str) -> str | None:
    manifest = DATA.get(name)
    if manifest is None:
        return "its list is not published as a data set; import your own copy: workbench data import FOLDER"
    return _manifest_missing(manifest)


def _manifest_missing(name: str) -> str | None:
    if name in Manifest.names():
        return None
    return f"workbench data import FOLDER --{'as' if name in benchmark_names() else 'name'} {name}"


@cache
def _weights_missing(tag: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    try:
        tower = find_tower(tag, tag_needed=False, from_file=False)
    except ValueError as error:
        return str(error)
    if tower.packaged is not None:
        return None
    if tower.hub is not None and isinstance(try_to_load_from_cache(*tower.hub), str):
        return None
    return "downloaded on first use, or --weights FILE"
