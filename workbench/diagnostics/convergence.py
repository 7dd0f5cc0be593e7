"""How fast do frequent and rare classes learn? Loss and accuracy by shot group after each epoch, from metrics.csv.

Source: Shi et al., "Long-Tail Learning with Foundation Model: Heavy Fine-Tuning Hurts" (LIFT), ICML 2024, arXiv
2309.10019, figures 5, 12, 14 and 15. The authors' training accuracies are running means (0.9 old + 0.1 new, per image)
over augmented batches while the weights move; ours are measured after each epoch, with the weights at rest and the test
transform, on a fixed subset of the training images. The loss is the mean over the steps of the epoch, as trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .base import (
    GROUP_COLOURS,
    GROUP_MARKERS,
    GROUP_ORDER,
    INK,
    METHOD_COLOURS,
    MUTED,
    SPLIT_LINES,
    Result,
    caption_below,
    dress,
    legend_beside,
    method_source,
    plain,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.runs import Run

    Trained = Run | str | Path

SPLITS = ("train", "val")
_ACCURACIES = ("mean_class", *GROUP_ORDER, "all")
_MARKED = 30  # epochs; more points than that are a line without markers
_LINES = {"train": SPLIT_LINES["train"], "val": SPLIT_LINES["test"]}


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Epochs of one run, those of all stages one after the other: T values each."""

    stages: tuple[str, ...]  # (T,) name of the stage
    epochs: np.ndarray  # (T,) int64 epoch within the stage, from 0
    loss: np.ndarray  # (T,) float64 mean over the steps of the epoch
    accuracy: dict[tuple[str, str], np.ndarray]  # (split, group) -> (T,) in [0, 1], nan where there is none
    classes: dict[str, int]  # group -> number of classes
    status: str  # of the run
    rule: str  # of the shot groups

    @property
    def boundaries(self) -> list[int]:
        """Places in 1..T-1 where a new stage begins."""
        pairs = zip(self.stages, self.stages[1:], self.epochs, self.epochs[1:], strict=False)
        return [i + 1 for i, (one, other, e, f) in enumerate(pairs) if one != other or f <= e]


@dataclass(frozen=True, kw_only=True, eq=False)
class Convergence(Result):
    """Curves of one run or several."""

    diagnostic: ClassVar[str] = "convergence"
    # the groups of the first run; one group, or the loss, of all runs
    views: ClassVar[tuple[str, ...]] = ("groups", "mean_class", *GROUP_ORDER, "loss")

    curves: dict[str, Curve]  # name of the run -> its curve

    def __str__(self) -> str:
        lines = ["after the last epoch, in %: mean of classes (train: a fixed subset of the training images)"]
        for name, curve in self.curves.items():
            lines.append(
                f"{name}: {len(curve.epochs)} epochs, {curve.status}, loss {curve.loss[0]:.3f} to {curve.loss[-1]:.3f}"
            )
            for split in SPLITS:
                if (split, "mean_class") not in curve.accuracy:
                    continue
                values = {group: curve.accuracy[split, group][-1] for group in ("mean_class", *GROUP_ORDER)}
                cells = [
                    f"{g.replace('_', ' ')} {'n/a' if np.isnan(v) else f'{100 * v:.1f}'}" for g, v in values.items()
                ]
                lines.append(f"  {split:<6} {'  '.join(cells)}")
        lines += [f"groups: {rule}" for rule in dict.fromkeys(curve.rule for curve in self.curves.values())]
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """One row per run, epoch and value: "loss" (split train, group empty) or "accuracy" in [0, 1]."""
        import pandas as pd

        rows = []
        for name, curve in self.curves.items():
            for i, (stage, epoch) in enumerate(zip(curve.stages, curve.epochs, strict=True)):
                where = {"run": name, "stage": stage, "epoch": epoch, "finished_epochs": i + 1}
                rows.append(where | {"split": "train", "group": "", "value": curve.loss[i], "quantity": "loss"})
                rows += [
                    where | {"split": split, "group": group, "value": values[i], "quantity": "accuracy"}
                    for (split, group), values in curve.accuracy.items()
                ]
        return pd.DataFrame(rows)

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        if view == "groups":
            self._draw_groups(ax, **artist_kw)
        else:
            self._draw_runs(ax, view, **artist_kw)
        drawn = list(self.curves.values())[: 1 if view == "groups" else None]
        for place in {place for curve in drawn for place in curve.boundaries}:
            ax.axvline(place + 0.5, color=MUTED, linewidth=0.8, linestyle=":")
        notes = ["dotted: a new stage"] if any(curve.boundaries for curve in drawn) else []
        if view != "loss":
            notes.insert(0, "train: a fixed subset of the training images,\nafter the epoch, with the test transform")
            low, high = ax.get_ylim()
            ax.set_ylim(max(low, 0), min(high, 100))
        ax.set_xlabel("epoch")
        ax.set_xlim(0.5, max(len(curve.epochs) for curve in drawn) + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if notes:
            caption_below(ax, "\n".join(notes))
        dress(ax)

    def _draw_groups(self, ax: Axes, **artist_kw: Any) -> None:
        name, curve = next(iter(self.curves.items()))
        for group in ("mean_class", *GROUP_ORDER):
            look = {"color": GROUP_COLOURS.get(group, INK), "marker": GROUP_MARKERS.get(group, "D")}
            self._lines(ax, curve, group, look, **artist_kw)
            number = curve.classes[group] if group in curve.classes else sum(curve.classes.values())
            what = f"{group.replace('_', ' of ')} ({number} classes)" if number else f"{group}, n/a (0 classes)"
            ax.plot([], [], label=what.replace("mean of class", "mean of all"), **look)
        self._key(ax, [curve])
        ax.set_ylabel("mean class accuracy (%)")
        legend_beside(ax, title=plain(name, 30) if len(self.curves) > 1 else None)

    def _draw_runs(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        for number, (name, curve) in enumerate(self.curves.items()):
            look: dict[str, Any] = {
                "color": METHOD_COLOURS[number % 10],
                "marker": ("o", "s", "^", "D", "v")[number % 5],
            }
            if view == "loss":
                style = {"markersize": 3.5 if len(curve.epochs) <= _MARKED else 0}
                ax.plot(np.arange(1, len(curve.loss) + 1), curve.loss, **(look | style | artist_kw))
            else:
                self._lines(ax, curve, view, look, **artist_kw)
            ax.plot([], [], label=plain(name, 34), **look)
        if view == "loss":
            ax.set_ylabel("training loss, mean over the epoch")
        else:
            self._key(ax, list(self.curves.values()))
            sizes = {curve.classes.get(view, sum(curve.classes.values())) for curve in self.curves.values()}
            how_many = " / ".join(str(n) for n in sorted(sizes))
            what = f"all {how_many} classes" if view == "mean_class" else f"{how_many} {view}-shot classes"
            ax.set_ylabel(f"accuracy (%),\nmean of {what}")
            if sizes == {0}:
                ax.text(0.5, 0.5, "n/a (0 classes)", transform=ax.transAxes, ha="center", color=MUTED)
        legend_beside(ax)

    def _lines(self, ax: Axes, curve: Curve, group: str, look: dict[str, Any], **artist_kw: Any) -> None:
        """Training and validation accuracy of one group, open markers for validation."""
        for split in SPLITS:
            values = curve.accuracy.get((split, group))
            if values is None or not np.isfinite(values).any():
                continue
            style = look | {"linestyle": _LINES[split], "markersize": 3.5 if len(values) <= _MARKED else 0}
            style |= {"markerfacecolor": "white"} if split == "val" else {}
            ax.plot(np.arange(1, len(values) + 1), 100 * values, **(style | artist_kw))

    def _key(self, ax: Axes, curves: list[Curve]) -> None:
        for split in SPLITS:
            if any((split, "all") in curve.accuracy for curve in curves):
                ax.plot([], [], color=INK, linestyle=_LINES[split], label="train" if split == "train" else "validation")


def convergence(runs: Trained | Sequence[Trained] | Mapping[str, Trained]) -> Convergence:
    """Training loss and group accuracies after each epoch of a run, or of several set side by side.

    Args:
        runs: a run or its folder, also one in training or interrupted; several; or several by name.

    Raises:
        ValueError: a run without a finished epoch, or nothing given. FileNotFoundError: a folder that holds no run.
    """
    if isinstance(runs, Mapping):
        given = {str(name): _run(run) for name, run in runs.items()}
    else:
        opened = [_run(run) for run in (runs if isinstance(runs, Sequence) and not isinstance(runs, str) else [runs])]
        names = [run.path.name for run in opened]
        names = names if len(set(names)) == len(names) else [str(run.path) for run in opened]
        given = dict(zip(names, opened, strict=True))
    if not given:
        raise ValueError("nothing was given; convergence takes a run or several.")
    return Convergence(
        arguments={"runs": {name: str(run.path) for name, run in given.items()}},
        sources=tuple(method_source(run) for run in given.values()),
        curves={name: _curve(run) for name, run in given.items()},
    )


def _run(run: Trained) -> Run:
    from workbench.runs import Run

    return run if isinstance(run, Run) else Run.load(run)


def _curve(run: Run) -> Curve:
    table = run.metrics
    if table.empty:
        raise ValueError(f"{run.path} has no finished epoch yet ({run.status['status']}).")
    groups = np.asarray(run.classes.groups)
    columns = {(split, group): f"{split}_{group}" for split in SPLITS for group in _ACCURACIES}
    return Curve(
        stages=tuple(str(stage) for stage in table["stage"]),
        epochs=table["epoch"].to_numpy(np.int64),
        loss=table["loss"].to_numpy(np.float64),
        accuracy={key: table[c].to_numpy(np.float64) for key, c in columns.items() if c in table},
        classes={group: int((groups == group).sum()) for group in GROUP_ORDER},
        status=str(run.status["status"]),
        rule=str(run.classes.rule),
    )
