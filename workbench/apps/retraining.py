"""What the loss bench can set, and a head retrained with it; the numbers are those of lower rooms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ipywidgets as widgets
import numpy as np

from workbench.diagnostics.base import GROUP_ORDER, ROWS, percent, same_classes
from workbench.features import Features
from workbench.heads import Head
from workbench.losses import COSINE_LOSSES
from workbench.metrics import Interval, class_accuracies, group_interval, paired_difference
from workbench.training import fit_head, gradient_shares, logit_gradients
from workbench.training.plane import borders, three_clouds

from .chart import told
from .style import broken, state

STEPS = 300  # of a retrained head: under a second on one core
COSINE = tuple(COSINE_LOSSES)  # losses that need the cosine head


@dataclass(frozen=True, kw_only=True)
class Knob:
    """One option of a loss."""

    option: str  # its keyword in `workbench.losses`
    label: str
    value: float  # at first: the default of the loss, or of the method that uses it
    top: float
    step: float = 0.05
    choices: tuple[float, ...] = ()  # in place of a range

    def slider(self) -> Any:
        """Acts on release: an answer takes longer than a drag waits."""
        if self.choices:
            control: Any = widgets.SelectionSlider(options=[(f"{c:g}", c) for c in self.choices], value=self.value)
        else:
            control = widgets.FloatSlider(value=self.value, min=0.0, max=self.top, step=self.step)
        control.description, control.continuous_update = self.label, False
        control.layout.width, control.style.description_width = "290px", "110px"
        return control


@dataclass(frozen=True)
class Choice:
    label: str
    knobs: tuple[Knob, ...] = ()


_GAMMA = "\N{GREEK SMALL LETTER GAMMA}"
_NOISE = Knob(option="noise_scale", label="noise", value=1.0, top=1.0)  # GNM-PT's
_CLOUD = Knob(option="margin", label="margin", value=0.1, top=0.5, step=0.01)
CHOICES = {
    "cross_entropy": Choice("CE"),
    "logit_adjusted": Choice("LA", (Knob(option="tau", label="\N{GREEK SMALL LETTER TAU}", value=1.0, top=3.0),)),
    "focal": Choice("focal", (Knob(option="gamma", label=_GAMMA, value=2.0, top=5.0, step=0.1),)),
    "class_balanced": Choice(
        "CB",
        (
            Knob(
                option="beta", label="\N{GREEK SMALL LETTER BETA}", value=0.9999, top=0.9999,
                choices=(0.0, 0.9, 0.95, 0.99, 0.999, 0.9999),
            ),
        ),
    ),
    "generalized_reweight": Choice("GRW", (Knob(option="exponent", label="exponent", value=1.0, top=2.0),)),
    "lade": Choice("LADE", (Knob(option="weight", label="weight of bound", value=0.1, top=1.0, step=0.01),)),
    "ldam": Choice("LDAM", (Knob(option="max_margin", label="largest margin", value=0.5, top=1.0, step=0.01),)),
    "gcl": Choice("GCL", (_CLOUD, _NOISE)),
    "asymmetric_gcl": Choice(
        "A-GCL",
        (
            Knob(option="gamma_negative", label="focus others", value=4.0, top=8.0, step=0.5),
            Knob(option="gamma_positive", label="focus own class", value=0.0, top=4.0, step=0.1),
            _CLOUD,
            Knob(option="noise_scale", label="noise", value=0.5, top=1.0),
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is trained on what."""

    loss: str
    options: tuple[tuple[str, float], ...] = ()
    head: str = "cosine"
    scale: float = 25.0
    data: str = "plane"
    seed: int = 0

    def label(self) -> str:
        """A short name: "LA τ 1", "LDAM largest margin 0.5, s 30"."""
        knobs = {knob.option: knob.label for knob in CHOICES[self.loss].knobs}
        words = [CHOICES[self.loss].label + "".join(f" {knobs[name]} {value:g}" for name, value in self.options)]
        words += [self.head] if self.head != Settings.head else []
        words += [f"s {self.scale:g}"] if self.scale != Settings.scale else []
        return ", ".join(words)

    def code(self) -> str:
        """Arguments of `LossBench.set` that give it again."""
        parts = [repr(self.loss), *(f"{name}={round(value, 6)!r}" for name, value in self.options)]
        parts += [
            f"{name}={getattr(self, name)!r}"
            for name in ("head", "scale", "data", "seed")
            if getattr(self, name) != getattr(Settings, name)
        ]
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """A retrained head and what is shown of it."""

    head: Head
    loss: float  # of the last step's batch
    pull: dict[str, float]  # share of the gradient of each group
    images: dict[str, int]  # training images of each group
    accuracy: dict[str, Interval] = field(default_factory=dict)  # on test images; empty without
    sizes: dict[str, int] = field(default_factory=dict)  # classes of each row of `accuracy`
    predicted: np.ndarray | None = None  # (M,) of the test features
    labels: np.ndarray | None = None
    groups: np.ndarray | None = None  # (C,)
    class_accuracy: np.ndarray | None = None  # (C,)

    def against(self, other: Answer) -> str:
        """The paired difference of each group and its verdict: "few +3.1 [-1.2, 7.4] no difference shown"."""
        if self.predicted is None or other.predicted is None or self.labels is None or self.groups is None:
            return ""
        parts = []
        for group in GROUP_ORDER:
            d = paired_difference(self.predicted, other.predicted, self.labels, self.groups, group=group)
            if d.n:
                parts.append(f"{group} {told(d)}")
        return "against what was, in points: " + "; ".join(parts)


def refusal(features: Features | None, test: Features | None) -> str:
    """HTML of why no head can be trained on these features, empty where one can."""
    if features is None:
        return state(
            "There are no features to retrain a head on. Pass loss_bench(features=wb.extract(method, train), "
            "test=wb.extract(method, test)).",
            kind="missing",
        )
    if features.source.get("split") == "test":
        return state(
            "These are features of the test split, and a head is trained on those of the training split. "
            "Pass loss_bench(train_features, test=test_features).",
            kind="missing",
        )
    if len(np.unique(features.labels)) < 2:
        return state("The features hold images of one class only; a head needs two or more to decide.", kind="missing")
    try:
        if test is not None:
            same_classes([features, test])
            if test.vectors.shape[1] != features.vectors.shape[1]:
                raise ValueError(
                    f"the test features are {test.vectors.shape[1]} wide, the training features "
                    f"{features.vectors.shape[1]}; extract both with the same model and layer."
                )
    except ValueError as error:
        return broken(error)
    return ""


def retrain(
    settings: Settings, features: Features | None, test: Features | None, step: Callable[[int, int], None] | None = None
) -> Answer:
    """Train the head of these settings, on the plane or on the features, and look at it."""
    options = dict(settings.options)
    if settings.data == "plane":
        plane = three_clouds(seed=settings.seed)
        vectors, labels, of = plane.vectors, plane.labels, plane.group_of
        groups = np.array(GROUP_ORDER)
    else:
        assert features is not None
        vectors, labels, of = features.vectors, features.labels, features.group_of
        groups = np.asarray(features.classes.groups)
    fitted = fit_head(
        vectors, labels, len(groups), loss=settings.loss, options=options, head=settings.head, scale=settings.scale,
        steps=STEPS, seed=settings.seed, on_step=step,
    )  # fmt: skip
    pulls = logit_gradients(fitted.head, vectors, labels, loss=settings.loss, options=options, seed=settings.seed)
    found: dict[str, Any] = {
        "head": fitted.head,
        "loss": float(fitted.losses[-1]),
        "pull": gradient_shares(pulls, of),
        "images": {group: int((of == group).sum()) for group in GROUP_ORDER},
    }
    if settings.data == "plane":
        return Answer(accuracy=plane.accuracy(borders(fitted.head)), sizes=dict.fromkeys(GROUP_ORDER, 1), **found)
    if test is None:
        return Answer(**found)
    predicted = fitted.predict(test.vectors)
    return Answer(
        accuracy={row: group_interval(predicted, test.labels, groups, row) for row in ROWS},
        sizes={row: len(groups) if row == "all" else int((groups == row).sum()) for row in ROWS},
        predicted=predicted,
        labels=test.labels,
        groups=groups,
        class_accuracy=class_accuracies(predicted, test.labels, len(groups)),
        **found,
    )


def share_intervals(answer: Answer) -> dict[str, Interval]:
    """Shares of the gradient as intervals without bounds, which is what bars are drawn from."""
    return {
        group: Interval(
            estimate=answer.pull[group], low=math.nan, high=math.nan, level=0.95, n=answer.images[group], unit="images",
            method="none: a share", estimand="share of the gradient", too_small=False,
        )
        for group in GROUP_ORDER
    }  # fmt: skip


def was_text(settings: Settings | None, values: dict[str, float]) -> str:
    """HTML: shares in [0, 1] of what is set beside, on a line of their own; empty where nothing is."""
    if settings is None:
        return ""
    return f"<br>was {settings.label()}: " + ", ".join(f"{group} {percent(value)}" for group, value in values.items())
