"""Run an entry: every arm through the ordinary path, in waves, each training once, and a card at the end."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.versions import versions

from .card import ParityCard, rows_of, verdicts_of
from .drawing import COMPARED, IN_TABLE, OF_TRAIN, panels
from .experiment import Experiment, experiment
from .measures import MEASURES, Trained, fits, needs_train
from .pool import pool
from .setting import Setting, manifest_of, not_here, test_set_of, tower_of
from .trainings import Training, all_needed

if TYPE_CHECKING:
    from workbench.diagnostics.base import Result


@dataclass(frozen=True)
class Reproduction:
    """A finished reproduction: its card, and the arms to draw or look into."""

    experiment: Experiment
    card: ParityCard
    arms: dict[str, Trained]
    results: dict[str, Result]  # the panels of the figure or table
    not_drawn: str = ""  # why there are no panels

    @property
    def figures(self) -> list[tuple[str, Result, str | None]]:
        """What is drawn: name, result and view of each figure."""
        return [
            (name if view is None else f"{name}, {view}", result, view)
            for name, result in self.results.items()
            for view in (COMPARED.get(name, (None,)) if len(self.arms) > 1 else (None,))
        ]

    def plot(self) -> list[Any]:
        """Draw every panel, each in a figure of its own; the axes."""
        return [result.plot(view=view) for _, result, view in self.figures]

    def _repr_markdown_(self) -> str:
        return self.card.to_markdown()

    def __str__(self) -> str:
        return self.card.to_markdown()


def reproduce(
    id: str,
    *,
    out: str | Path = "runs/papers",
    jobs: int | None = None,
    log: Callable[[str], None] | None = print,
    card: str | Path | None = None,
    **setting: Any,
) -> Reproduction:
    """Train and test every arm of a table or figure, and lay what was measured beside what the paper reports.

    Finished trainings under `out` are used again, also those of other entries, and interrupted ones are gone on with.
    An arm that fails is named on the card with its reason; the others are measured.

    Args:
        id: "lift:T6", "lpt:F4"; `workbench papers` lists them.
        out: the folder of all trainings.
        jobs: processes, each with one thread; None: one per core, and one on a GPU.
        log: told what is going on, a line at a time.
        card: where to write the parity card; None: under `out`.
        setting: data, backbone, seeds, root, weights, epochs, ...; see `Setting`.

    Raises:
        ValueError: an unknown entry or setting, or no arm could be run.
    """
    allowed = [each.name for each in fields(Setting)]
    if unknown := sorted(set(setting) - set(allowed)):
        raise ValueError(f"reproduce has no {', '.join(unknown)}; a setting has {', '.join(allowed)}.")
    entry, place, out = experiment(id), Setting(**setting), Path(out).expanduser()
    if place.seeds < 1:
        raise ValueError(f"seeds={place.seeds}: at least one training is needed.")
    seeds = tuple(range(place.seeds))
    not_run = _impossible(entry, place)
    trainings = {arm.name: Training(entry, arm, place, out) for arm in entry.arms if arm.name not in not_run}
    with pool(jobs or (1 if place.device != "cpu" else os.cpu_count() or 1)) as run:
        not_run |= _train(entry, trainings, seeds, run, log or (lambda _: None))
    arms = {name: Trained(each, seeds) for name, each in trainings.items() if name not in not_run}
    for name, why in _unmeasurable(entry, arms).items():
        not_run[name] = why
        del arms[name]
    if not arms:
        reasons = "; ".join(f"{name}: {why}" for name, why in not_run.items())
        raise ValueError(f"no arm of {id} could be run. {reasons}")
    made = _card(entry, place, arms, seeds, not_run)
    results, why = _drawn(entry, arms)
    said = {name: str(each) for name, each in results.items() if name.split(", ")[0] not in IN_TABLE}
    made = replace(made, panels=said, deviations=(*made.deviations, *([f"Not drawn: {why}"] if why else [])))
    made.save(card or out / "cards" / f"{id.replace(':', '-')}.{made.data}.json")
    return Reproduction(entry, made, arms, results, why)


def figure_name(id: str, panel: str) -> str:
    """The name without an ending of the file that a panel is saved in; those of an entry begin with that of ""."""
    return re.sub(r"[^\w.]+", "-", f"{id}-{panel}")


def _drawn(entry: Experiment, arms: dict[str, Trained]) -> tuple[dict[str, Result], str]:
    """The panels, or why they cannot be had: a card is worth having without them."""
    try:
        return panels(entry.draw, arms, entry.draw_options), ""
    except Exception as error:
        return {}, f"{type(error).__name__}: {error}"


def _impossible(entry: Experiment, setting: Setting) -> dict[str, str]:
    return {
        arm.name: f"{not_here(arm)}; run it with --data and its weights"
        for arm in entry.arms
        if tower_of(entry, arm, setting) is None
    }


def _unmeasurable(entry: Experiment, arms: dict[str, Trained]) -> dict[str, str]:
    """Arms of which a printed quantity cannot be had, with the reason; they do not lose the others."""
    found = {}
    for name, arm in arms.items():
        for measure in entry.measures:
            try:
                MEASURES[measure].of(arm)
            except Exception as error:
                found[name] = f"{measure} cannot be measured: {type(error).__name__}: {error}"
                break
    return found


def _train(
    entry: Experiment, trainings: dict[str, Training], seeds: tuple[int, ...], run: Any, log: Callable[[str], None]
) -> dict[str, str]:
    """Search, train and test, wave by wave; arms that failed with their reasons."""
    if not trainings:
        return {}
    setting = next(iter(trainings.values())).setting
    failed: dict[str, str] = {}  # folder of a training -> why
    needed = all_needed(list(trainings.values()))
    for depth in range(max((each.depth for each in needed), default=0) + 1):
        wave = [each for each in needed if each.depth == depth and not _failed_before(each, failed)]
        searched = [each.searched for each in wave if each.needs_search and each.searched is not None]
        searches = list({str(each.search_folder): each for each in searched}.values())
        for key, why in run(_search, [(each,) for each in searches], log).items():
            failed[str(searches[key].search_folder)] = why
        wave = [each for each in wave if not _failed_before(each, failed)]
        distinct = list({str(each.folder): each for each in wave}.values())
        tasks = [(each, seed) for each in distinct for seed in seeds]
        for key, why in run(_fit, tasks, log).items():
            failed[str(tasks[key][0].folder)] = why
    splits = [("test", None)]
    if needs_train(entry.measures) or any(kind in OF_TRAIN for kind in entry.draw):
        splits.append(("train", None))
    reasons = {name: why for name, each in trainings.items() if (why := _failed_before(each, failed))}
    left = {name: each for name, each in trainings.items() if name not in reasons}
    sets = [*splits, *(("test", name) for name in entry.test_sets if test_set_of(entry, name, setting))]
    looks = [(seed, split, data) for seed in seeds for split, data in sets]
    views = {each.features_file(*look): (each, *look) for each in left.values() for look in looks}  # arms may share one
    broken = {list(views)[key]: why for key, why in run(_extract, list(views.values()), log).items()}
    for name, each in left.items():
        for why in filter(None, (broken.get(each.features_file(*look)) for look in looks)):
            reasons[name] = why
    return reasons


def _failed_before(training: Training, failed: dict[str, str]) -> str | None:
    """Why this training cannot be had: its own failure, its search's, or that of what it continues.

    In this order, since the folder of a search or a training is known once what it continues is trained.
    """
    if training.before is not None and (why := _failed_before(training.before, failed)):
        return f"what it continues failed: {why}"
    searched = training.searched
    if training.needs_search and searched is not None:
        if searched.before is not None and (why := _failed_before(searched.before, failed)):
            return f"choosing its lr failed: {why}"
        if why := failed.get(str(searched.search_folder)):
            return f"choosing its lr failed: {why}"
        if not (searched.search_folder / "lr.json").exists():
            return None  # its folder is not known yet
    return failed.get(str(training.folder))


def _search(training: Training) -> str:
    training.search()
    return f"lr of {training.arm.name}: {training.lr:g}"


def _fit(training: Training, seed: int) -> str:
    run = training.fit(seed)
    score = f", val {100 * run.metrics['val_all'].iloc[-1]:.1f} %" if "val_all" in run.metrics else ""
    return f"{training.arm.name}, seed {seed}: trained in {run.status.get('seconds', 0):.0f} s{score}"


def _extract(training: Training, seed: int, split: str, data: str | None) -> str:
    features = training.extract(seed, split, data)
    score = "" if features.predicted is None else f" {100 * features.correct.mean():.1f} %"
    return f"{training.arm.name}, seed {seed}: {data or split}{score}"


def _card(
    entry: Experiment, setting: Setting, arms: dict[str, Trained], seeds: tuple[int, ...], not_run: dict[str, str]
) -> ParityCard:
    first = next(iter(arms.values())).test[0]
    towers = dict.fromkeys(tower_of(entry, each.training.arm, setting) for each in arms.values())
    distinct: dict[Path, Training] = {}
    for each in arms.values():
        training: Training | None = each.training
        while training is not None:  # and what it continues
            distinct[training.folder] = training
            training = training.before
    deviations = list(entry.deviations)
    if not fits(entry.groups, first):
        deviations.append(f"The paper's shot groups ({entry.groups}) mean CIFAR-100's order; here the manifest's rule.")
    if missing := [name for name in entry.test_sets if test_set_of(entry, name, setting) is None]:
        deviations.append(f"Not tested on {', '.join(missing)}: not at hand, nor is there a set like it here.")
    return ParityCard(
        id=entry.id,
        title=entry.title,
        command=setting.command(entry.id),
        data=manifest_of(setting).name,
        backbones=tuple(str(tower) for tower in towers),
        seeds=seeds,
        rule=str(first.classes.rule),
        rows=rows_of(entry, arms),
        claims=verdicts_of(entry, arms),
        lrs={name: each.training.lr for name, each in arms.items()},
        epochs={name: each.training.epochs for name, each in arms.items()},
        not_run=not_run,
        deviations=tuple(deviations),
        hardware=f"{os.cpu_count()} CPU cores, {platform.machine()}" if setting.device == "cpu" else setting.device,
        training_seconds=sum(Trained(each, seeds).seconds for each in distinct.values()),
        versions=versions(),
    )
