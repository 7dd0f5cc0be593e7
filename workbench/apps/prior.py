"""Which classes will come, and how sure to be: what can be changed after training, tried on cached logits."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
import numpy as np

from workbench.diagnostics.base import ROWS, percent
from workbench.diagnostics.reliability import calibration_errors
from workbench.features import Features
from workbench.features.posthoc import PostHoc, confidence
from workbench.metrics import Interval, group_interval, paired_difference, paired_values
from workbench.metrics import class_accuracies as accuracies_of_classes

from .chart import Chart, axis, group_bars, shares, told
from .style import App, CodeLine, app, bar, caption, card, guarded, row, shortcut, state

if TYPE_CHECKING:
    from workbench.methods import Method

TARGETS = {"balanced": "all classes alike", "training": "as in training", "test": "as in this test set",
           "reversed": "training reversed: rare classes most"}  # fmt: skip
EXPECTED = {
    "balanced": "If all classes came equally often",
    "training": "If classes came as often as in training",
    "test": "With classes as often as in this test set",
    "reversed": "If rare classes came as often as the frequent ones in training, and the other way round",
}
ADJUSTED = ("logit_adjusted", "balanced_softmax", "lade")  # losses whose logits no longer follow the training counts
SOURCES = {"training": "training counts (cross-entropy)", "balanced": "all classes alike (LA, balanced sampling)"}
HEIGHT = 280
BINS = 15  # of confidence
LIVE = 5_000_000  # logits up to which the sliders act while they move: 50 ms
DEFAULTS = {"tau": 1.0, "target": "balanced", "source": "training", "tau_norm": 0.0, "temperature": 1.0}


class Prior(App):
    """See `prior`."""

    def __init__(self, features: Features, method: Method | None) -> None:
        self.features, self.method = features, method
        self.message, self.verdicts = widgets.HTML(), widgets.HTML()
        self.accuracy, self.calibration = Chart(), Chart()
        self.expected, self.sure = caption(), caption()
        self.code = CodeLine()
        self._quiet = False
        self._target = ""  # of the accuracies that are shown
        self._controls()
        cards = row(
            card("Accuracy by group", self.accuracy, self.verdicts, self.expected),
            card("Calibration: does confidence keep its word?", self.calibration, self.sure),
        )
        knobs = bar(self.tau, self.temperature, self.tau_norm, self.reset)
        head = bar(self.target, self.source)
        try:
            self.posthoc: PostHoc | None = PostHoc(features, getattr(method, "head", None))
        except ValueError as error:
            self.posthoc = None
            self.message.value = state(str(error), kind="missing")
        else:
            self._prepare()
        shown = (head, knobs, self.note, self.message, cards) if self.posthoc is not None else (self.message,)
        super().__init__([app("prior", *shown, self.code)])
        self._changed()

    def set(self, **settings: Any) -> Prior:
        """Put the controls somewhere: what the code line writes.

        Args:
            settings: tau (0 to 3), target ("balanced", "training", "test" or "reversed"), source (which prior the
                logits reflect, "training" or "balanced"), tau_norm (0 to 2), temperature (0.25 to 4).

        Raises:
            ValueError: an unknown setting or a value that the controls do not have.
        """
        controls = self._named()
        unknown = sorted(set(settings) - set(controls))
        if unknown:
            raise ValueError(f"{', '.join(unknown)} cannot be set; choose from {', '.join(controls)}.")
        if settings.get("tau_norm") and self.posthoc is not None and self.posthoc.no_normalisation:
            raise ValueError(self.posthoc.no_normalisation)
        for name, value in settings.items():
            if name in ("target", "source"):
                known = TARGETS if name == "target" else SOURCES
                if value not in known:
                    raise ValueError(f"{name}={value!r} is not known; choose one of {', '.join(known)}.")
            elif not isinstance(value, int | float) or not controls[name].min <= value <= controls[name].max:
                raise ValueError(f"{name}={value!r} must be from {controls[name].min:g} to {controls[name].max:g}.")
        self._quiet = True
        try:
            for name, value in settings.items():
                controls[name].value = value
        finally:
            self._quiet = False
        self._changed()
        return self

    def _named(self) -> dict[str, Any]:
        return {"tau": self.tau, "target": self.target, "source": self.source, "tau_norm": self.tau_norm,
                "temperature": self.temperature}  # fmt: skip

    def _controls(self) -> None:
        wide = {"description_width": "90px"}
        self.tau = widgets.FloatSlider(
            value=DEFAULTS["tau"], min=0, max=3, step=0.05, description="\N{GREEK SMALL LETTER TAU} of the prior"
        )
        self.tau_norm = widgets.FloatSlider(
            value=0, min=0, max=2, step=0.05, description="\N{GREEK SMALL LETTER TAU}-norm"
        )
        self.temperature = widgets.FloatSlider(value=1, min=0.25, max=4, step=0.05, description="temperature")
        for slider in (self.tau, self.tau_norm, self.temperature):
            slider.style, slider.layout.width = wide, "300px"
        self.target = widgets.Dropdown(
            options=[(text, key) for key, text in TARGETS.items()], description="classes to come"
        )
        self.source = widgets.Dropdown(
            options=[(text, key) for key, text in SOURCES.items()], description="logits reflect"
        )
        for choice, width in ((self.target, "360px"), (self.source, "400px")):
            choice.style, choice.layout.width = {"description_width": "115px"}, width
        self.note = caption()
        self.reset = widgets.Button(description="reset", tooltip="as at first (Escape)", layout={"width": "64px"})
        shortcut(self.reset, "esc")
        shortcut(self.target, "f")
        self.reset.on_click(lambda _: self.set(**DEFAULTS))
        for control in self._named().values():
            control.observe(lambda _: self._changed(), "value")

    def _prepare(self) -> None:
        """What does not move with the sliders, once."""
        assert self.posthoc is not None
        self.labels, self.groups = self.features.labels, np.asarray(self.features.classes.groups)
        self.tau_norm.disabled = bool(self.posthoc.no_normalisation)
        notes = [self.posthoc.no_normalisation]
        for slider in (self.tau, self.tau_norm, self.temperature):
            slider.continuous_update = self.posthoc.logits.size <= LIVE
        if not self.tau.continuous_update:
            notes.append("So many logits take a moment: sliders act when released.")
        differ = (
            0 if self.features.predicted is None else int((self.features.predicted != self.posthoc.decisions).sum())
        )
        if differ:
            notes.append(f"{differ} of {len(self.labels)} decisions differ from the model's: logits are kept rounded.")
        self.note.value = "<br>".join(escape(note) for note in notes if note)
        self.note.layout.display = "" if self.note.value else "none"
        counts, classes = self.features.classes.counts, len(self.groups)
        order = np.argsort(-counts, kind="stable")
        backwards = np.empty(classes, dtype=np.int64)
        backwards[order] = counts[order[::-1]]  # the rarest class gets the count of the most frequent one
        self._priors: dict[str, np.ndarray] = {
            "balanced": np.ones(classes),
            "training": counts,
            "test": np.bincount(self.labels, minlength=classes),
            "reversed": backwards,
        }
        self.sizes = {g: classes if g == "all" else int((self.groups == g).sum()) for g in ROWS}
        of_image = self.features.group_of
        self.images = {g: len(of_image) if g == "all" else int((of_image == g).sum()) for g in ROWS}
        self._as_is = self._intervals(self.posthoc.decisions)
        self._sure_as_is = confidence(self.posthoc.logits)
        self._errors_as_is = self._errors(self._sure_as_is, self.posthoc.decisions)
        self._class_accuracy = accuracies_of_classes(self.posthoc.decisions, self.labels, classes)

    def _intervals(self, decisions: np.ndarray) -> dict[str, Interval]:
        return {g: group_interval(decisions, self.labels, self.groups, g) for g in ROWS}

    def _errors(self, sure: np.ndarray, decisions: np.ndarray) -> dict[str, float]:
        return calibration_errors(sure, decisions == self.labels, self.labels, self.groups, bins=BINS)

    def _refuse(self, message: str) -> None:
        """A message in place of numbers that would no longer be those of the controls."""
        self.message.value, self._target = message, ""
        self.accuracy.spec = self.calibration.spec = {}
        self.verdicts.value = self.expected.value = self.sure.value = ""

    def _changed(self) -> None:
        """Everything follows the controls, or says why it cannot."""
        if not self._quiet:
            guarded(self._refuse)(self._follow)()

    def _follow(self) -> None:
        values: dict[str, Any] = {
            name: round(c.value, 6) if isinstance(c.value, float) else c.value for name, c in self._named().items()
        }
        written = ", ".join(f"{k}={v!r}" for k, v in values.items() if k in ("tau", "target") or v != DEFAULTS[k])
        self.code.code = f"prior(features{'' if self.method is None else ', method'}).set({written})"
        if self.posthoc is None:
            return
        self.message.value = ""
        decisions, sure = self.posthoc.decided(
            tau=values["tau"],
            prior=self._priors[values["source"]],
            target_prior=self._priors[values["target"]],
            normalise=values["tau_norm"],
            temperature=values["temperature"],
        )
        if values["target"] != self._target or not np.array_equal(decisions, self.decisions):
            self.decisions, self._target = decisions, values["target"]  # a temperature moves none
            self._show_accuracy(decisions, self._target)
        self._show_calibration(sure)

    def _show_accuracy(self, decisions: np.ndarray, target: str) -> None:
        assert self.posthoc is not None
        arms = {"adjusted": self._intervals(decisions), "as it is": self._as_is}
        self.accuracy.show(**group_bars(arms, self.sizes, ROWS), height=HEIGHT)
        lines = []
        for group in ROWS:
            d = paired_difference(decisions, self.posthoc.decisions, self.labels, self.groups, group=group)
            lines.append(f"<tr><td>{group}</td><td>{told(d)}</td></tr>")
        heads = "<tr><th></th><th>adjusted minus as it is (points)</th></tr>"
        self.verdicts.value = f"<table>{heads}{''.join(lines)}</table>"
        weights = self._priors[target] / self._priors[target].sum()
        now = accuracies_of_classes(decisions, self.labels, len(self.groups))
        d = paired_values(now, self._class_accuracy, sizes=weights)
        known = np.isfinite(now)
        expected = float((weights * now)[known].sum() / weights[known].sum()) if weights[known].sum() > 0 else math.nan
        self.expected.value = f"{EXPECTED[target]}: {percent(expected)} % right, difference {told(d)}."

    def _show_calibration(self, sure: np.ndarray) -> None:
        assert self.posthoc is not None
        errors = {"adjusted": self._errors(sure, self.decisions), "as it is": self._errors_as_is}
        sizes = self.images
        arms = {name: {g: _bare(value[g], sizes[g]) for g in ROWS} for name, value in errors.items()}
        spec = group_bars(arms, sizes, ROWS)
        spec["x"] = axis(-0.5, 3.5, ticks=[(k, f"{g}\n{sizes[g]} images") for k, g in enumerate(ROWS)])
        top = max([100 * v for arm in errors.values() for v in arm.values() if math.isfinite(v)], default=10.0)
        self.calibration.show(**(spec | {"y": shares("ECE (%)", high=max(10.0, 1.15 * top))}), height=HEIGHT)
        right, right_before = (float((d == self.labels).mean()) for d in (self.decisions, self.posthoc.decisions))
        self.sure.value = (
            f"mean confidence {percent(float(sure.mean()))} %, right {percent(right)} %; "
            f"as it is {percent(float(self._sure_as_is.mean()))} % and {percent(right_before)} %. "
            f"ECE: {BINS} bins of equal width; wb.calibration has its intervals. Temperature moves no decision."
        )


def prior(features: Features, method: Method | None = None) -> Prior:
    """Adjust cached logits to the classes that will come: by prior, by tau-normalisation, and their temperature.

    Choose settings on features of the val split, and report those of the test split.

    Args:
        features: with logits.
        method: the trained method, for tau-normalisation of a linear head.
    """
    return Prior(features, method)


def _bare(value: float, n: int) -> Interval:
    """A value without bounds, as bars are drawn from."""
    return Interval(
        estimate=value, low=math.nan, high=math.nan, level=0.95, n=n, unit="images", method="none: an estimate",
        estimand="expected calibration error", too_small=False,
    )  # fmt: skip
