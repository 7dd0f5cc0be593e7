"""Turn the knobs of a loss and see what it does: to borders in the plane, to the pull of each group, to accuracy."""

from __future__ import annotations

import time
from typing import Any

import ipywidgets as widgets
import numpy as np

from workbench.diagnostics.base import GROUP_ORDER, plain
from workbench.features import Features
from workbench.training.plane import best_borders, borders, three_clouds

from .chart import Chart, class_dots, group_bars, shares
from .plane_chart import first_numbers, groups_axis, plane_chart, with_ticks
from .retraining import CHOICES, COSINE, Answer, Settings, refusal, retrain, share_intervals, was_text
from .style import App, CodeLine, app, bar, caption, card, group_legend, guarded, row, shortcut, state
from .work import Work

PLANE, CACHED = "2-D toy", "cached features"
HEIGHT = 280


class LossBench(App):
    """See `loss_bench`."""

    def __init__(self, features: Features | None, test: Features | None) -> None:
        self.features, self.test = features, test
        self.work = Work()
        self._known: dict[Settings, Answer] = {}
        self._shown: Settings | None = None
        self._was: Settings | None = None  # what is set beside it
        self._quiet = False
        self.message = widgets.HTML()
        self._controls()
        self.plane, self.classes, self.pull, self.accuracy = Chart(), Chart(), Chart(), Chart()
        self.plane_note, self.pull_note, self.accuracy_note = caption(), caption(), caption()
        self.classes_state, self.accuracy_state = widgets.HTML(), widgets.HTML()
        note = "length of the gradient with respect to the logits, summed; tick: share of the training images"
        self._left = (
            card("Decision regions", self.plane, self.plane_note),
            card("Accuracy of each class", self.classes_state, self.classes),
        )
        self.cards = row(
            *self._left,
            card("Gradient share by group", self.pull, self.pull_note, caption(note)),
            card("Accuracy by group", self.accuracy_state, self.accuracy, self.accuracy_note),
        )
        self.code = CodeLine()
        head = bar(self.loss, self.data, self.draw, self.reset, self.work.view)
        super().__init__([app("loss-bench", head, self.knobs, self.message, self.cards, self.code)])
        self._changed()

    def set(self, loss: str | None = None, **settings: Any) -> LossBench:
        """Choose a loss by its name in `losses`, and anything else that the controls show: what the code line writes.

        Args:
            settings: `data` ("plane" or "features"), `head`, `scale`, `seed` (which points are drawn, and how the head
                starts), and options of the loss, such as tau=1.0.

        Raises:
            ValueError: a name or value that the controls do not have.
        """
        loss = self.loss.value if loss is None else loss
        if loss not in CHOICES:
            raise ValueError(f"loss={loss!r} is not on the bench; choose one of {', '.join(CHOICES)}.")
        places = {"head": self.head, "scale": self.scale, "seed": self.draw, **self.sliders[loss]}
        unknown = sorted(set(settings) - {*places, "data"})
        if unknown:
            raise ValueError(f"{loss} has no setting {', '.join(unknown)}; it has data, {', '.join(places)}.")
        data = settings.pop("data", None)
        if data not in (None, "plane", "features"):
            raise ValueError(f"data={data!r} is not known; choose 'plane' or 'features'.")
        if loss in COSINE and settings.get("head", "cosine") != "cosine":
            raise ValueError(
                f"{loss} needs head='cosine', given {settings['head']!r}: its margins are between cosines."
            )
        for name, value in settings.items():
            _refuse_outside(name, value, places[name])
        self._quiet = True
        try:
            self.loss.value = loss
            if data is not None:
                self.data.value = CACHED if data == "features" else PLANE
            for name, value in settings.items():
                places[name].value = value
        finally:
            self._quiet = False
        self._changed()
        return self

    @property
    def settings(self) -> Settings:
        """What the controls say."""
        loss = self.loss.value
        cosine = self.head.value == "cosine" or loss in COSINE
        return Settings(
            loss=loss,
            options=tuple((name, slider.value) for name, slider in self.sliders[loss].items()),
            head="cosine" if cosine else self.head.value,
            scale=float(self.scale.value) if cosine else Settings.scale,
            data="features" if self.data.value == CACHED else "plane",
            seed=self.draw.value,
        )

    def _controls(self) -> None:
        names = [(choice.label, name) for name, choice in CHOICES.items()]
        self.loss = widgets.Dropdown(options=names, value="logit_adjusted", description="loss")
        self.loss.layout.width, self.loss.style.description_width = "250px", "40px"
        self.sliders: dict[str, dict[str, Any]] = {
            name: {knob.option: knob.slider() for knob in choice.knobs} for name, choice in CHOICES.items()
        }
        self.head = widgets.Dropdown(options=["cosine", "linear"], description="head")
        self.head.layout.width, self.head.style.description_width = "140px", "40px"
        self.scale = widgets.IntSlider(value=25, min=2, max=64, description="scale s", continuous_update=False)
        self.scale.layout.width, self.scale.style.description_width = "250px", "60px"
        self.data = widgets.ToggleButtons(options=[PLANE, CACHED], tooltips=["three classes in the plane", "images"])
        self.data.style.button_width = "140px"
        self.draw = widgets.BoundedIntText(value=0, min=0, max=999, description="seed", layout={"width": "110px"})
        self.draw.style.description_width = "36px"
        self.draw.tooltip = "which points are drawn, and how the head starts"
        self.reset = widgets.Button(description="reset", tooltip="as at first (Escape)", layout={"width": "64px"})
        shortcut(self.reset, "esc")
        shortcut(self.loss, "f")
        self.reset.on_click(guarded(self._refuse)(lambda _: self._restart()))
        self.knobs = bar()
        each = [slider for sliders in self.sliders.values() for slider in sliders.values()]
        for control in (self.loss, self.head, self.scale, self.data, self.draw, *each):
            control.observe(guarded(self._refuse)(lambda _: self._changed()), "value")

    def _restart(self) -> None:
        self._quiet = True
        try:
            self.loss.value, self.head.value, self.scale.value, self.draw.value = "logit_adjusted", "cosine", 25, 0
            for name, choice in CHOICES.items():
                for knob in choice.knobs:
                    self.sliders[name][knob.option].value = knob.value
        finally:
            self._quiet = False
        self._shown = self._was = None
        self._changed()

    # -- retraining ----------------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        """Retrain for what the controls say; an answer that is no longer asked for is dropped."""
        if self._quiet:
            return
        now = self.settings
        own = list(self.sliders[now.loss].values())
        self.head.disabled = now.loss in COSINE
        self.head.tooltip = "its margins are between cosines" if self.head.disabled else "what is trained"
        self.knobs.children = (*own, *([self.scale] if now.head == "cosine" else []), self.head)
        self.code.code = f"loss_bench({self._arguments()}).set({now.code()})"
        self.message.value = ""
        for place, chart in enumerate(self._left):
            chart.layout.display = "" if place == (now.data == "features") else "none"
        missing = refusal(self.features, self.test) if now.data == "features" else ""
        if missing:
            self.work.cancel()
            self._clear(missing)
            return
        was = self._previous(now)
        if now in self._known and (was is None or was in self._known):
            self.work.cancel()
            self._show(now, was, "cached")
            return
        self.work.start(
            f"{now.label()} is trained",
            lambda step: self._train(now, was, step),
            lambda answer: self._show(*answer),
            self._refuse,
        )

    def _arguments(self) -> str:
        return "" if self.features is None else "features" if self.test is None else "features, test"

    def _previous(self, now: Settings) -> Settings | None:
        """What is set beside it: what was seen before on the same points, at first plain cross-entropy."""
        before = self._shown
        if before is not None and (before.data, before.seed) == (now.data, now.seed):
            return before if before != now else self._was
        plain_loss = Settings(loss="cross_entropy", head=now.head, scale=now.scale, data=now.data, seed=now.seed)
        return plain_loss if plain_loss != now else None

    def _train(self, now: Settings, was: Settings | None, step: Any) -> tuple[Settings, Settings | None, str]:
        start = time.perf_counter()
        for settings in (was, now):
            if settings is not None and settings not in self._known:
                start = time.perf_counter()
                self._known[settings] = retrain(settings, self.features, self.test, step)
        return now, was, f"retrained in {time.perf_counter() - start:.1f} s"

    def _refuse(self, message: str) -> None:
        """A message in place of numbers that would no longer be those of the controls."""
        self.message.value = message
        self._clear("")

    # -- showing -------------------------------------------------------------------------------------------------------

    def _clear(self, message: str) -> None:
        self.classes_state.value = message
        for chart in (self.plane, self.classes, self.pull, self.accuracy):
            chart.spec = {}
        self.plane_note.value = self.pull_note.value = self.accuracy_note.value = ""
        self.accuracy_state.value = state("Nothing was trained.")

    def _show(self, now: Settings, was: Settings | None, how: str) -> None:
        self._shown, self._was = now, was
        self.classes_state.value = self.accuracy_state.value = ""
        arms = {now.label(): self._known[now]}
        if was is not None:
            arms[f"was {was.label()}"] = self._known[was]
        first = next(iter(arms.values()))
        self._show_pull(arms)
        self.accuracy_note.value = how
        if now.data == "plane":
            self._show_plane(now, first)
        else:
            self._show_classes(first)
        if not first.accuracy:
            self.accuracy.spec = {}
            self.accuracy_state.value = state(
                "There is nothing to test on. Pass loss_bench(features, test=features of the test split).",
                kind="missing",
            )
            return
        spec = group_bars({name: arm.accuracy for name, arm in arms.items()}, first.sizes, list(first.accuracy))
        spec |= {"marks": first_numbers(spec["marks"]), "x": groups_axis(first.sizes, "n: classes")}
        if now.data == "plane":
            best = three_clouds(seed=now.seed).accuracy(best_borders())
            spec["marks"] = with_ticks(spec["marks"], {g: over.estimate for g, over in best.items()}, "best borders")
            spec["x"] = groups_axis({group: over.n for group, over in first.accuracy.items()}, "n: test points")
            self.accuracy_note.value += "; tick: the best borders"
            paler = list(arms.values())[-1].accuracy
            self.accuracy_note.value += was_text(was, {group: over.estimate for group, over in paler.items()})
        elif was is not None:
            self.accuracy_note.value += "<br>" + first.against(self._known[was])
        self.accuracy.show(**spec, height=HEIGHT)

    def _show_pull(self, arms: dict[str, Answer]) -> None:
        first = next(iter(arms.values()))
        intervals = {name: share_intervals(arm) for name, arm in arms.items()}
        total = max(sum(first.images.values()), 1)
        spec = group_bars(intervals, first.images, GROUP_ORDER)
        spec["marks"] = with_ticks(
            first_numbers(spec["marks"]), {g: n / total for g, n in first.images.items()}, "share of the images"
        )
        spec |= {"x": groups_axis(first.images, "n: training images"), "y": shares("share of the gradient (%)")}
        self.pull.show(**spec, height=HEIGHT)
        self.pull_note.value = f"loss {first.loss:.3f} at the end" + was_text(self._was, list(arms.values())[-1].pull)

    def _show_plane(self, now: Settings, answer: Answer) -> None:
        plane = three_clouds(seed=now.seed)
        self.plane.show(**plane_chart(plane, borders(answer.head)), height=HEIGHT)
        sizes = dict(zip(GROUP_ORDER, plane.counts.tolist(), strict=True))
        told = "hollow: decided wrongly; dashed: best borders where classes are equally frequent"
        self.plane_note.value = f"{group_legend(sizes)}<br>{told}"

    def _show_classes(self, answer: Answer) -> None:
        if self.test is None or answer.class_accuracy is None:
            self.classes.spec = {}
            self.classes_state.value = state(
                "Accuracy of a class needs test=features of the test split.", kind="missing"
            )
            return
        classes = self.test.classes
        names = [plain(name, 40) for name in classes.names]
        spec = class_dots(
            100 * answer.class_accuracy,
            classes.counts,
            np.asarray(classes.groups),
            names,
            label="accuracy (%)",
            unit=" %",
        )
        self.classes.show(**(spec | {"y": shares()}), height=HEIGHT)


def loss_bench(features: Features | None = None, test: Features | None = None) -> LossBench:
    """Losses for long-tailed data at work: on three classes in the plane, and on a head retrained on cached features.

    Args:
        features: of the training split, to retrain a head on; None leaves the plane.
        test: by the same model, for the accuracy of that head: of the val split to choose a loss, of the test split
            to report it.
    """
    return LossBench(features, test)


def _refuse_outside(name: str, value: Any, control: Any) -> None:
    """ValueError for what the control cannot show; it would otherwise be cut to its ends without a word."""
    if hasattr(control, "options"):
        values = [option[1] if isinstance(option, tuple) else option for option in control.options]
        if value not in values:
            raise ValueError(f"{name}={value!r} is not one of {', '.join(map(str, values))}.")
    elif not isinstance(value, int | float) or not control.min <= value <= control.max:
        raise ValueError(f"{name}={value!r} must be a number from {control.min} to {control.max}.")
