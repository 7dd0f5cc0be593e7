"""Browse the tables and figures of the five papers, lay what was measured beside what is reported, and run them."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

import ipywidgets as widgets

from workbench.papers import Experiment, ParityCard, experiment, experiments
from workbench.papers.availability import Standing, shipped_card, standing
from workbench.papers.experiment import PAPERS
from workbench.papers.rendering import counted
from workbench.papers.reproducing import figure_name

from .papers_launch import Launch
from .papers_tables import claims, values
from .papers_words import about, made_how, searched, summary
from .style import App, CodeLine, app, bar, broken, caption, card, guarded, row, shortcut, state

SHIPPED = "that of the package"
ALL = "all"


class Papers(App):
    """See `papers`."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.entry: Experiment | None = None
        self._standing: Standing | None = None
        self._cards: dict[str, ParityCard] = {}  # name in the lists -> card
        self._busy = False  # controls are being set together
        self.code = CodeLine()
        self._controls()
        self.launch = Launch(out, self._write_command, self._finished)
        left = card("Tables and figures", bar(self.paper, self.search), self.entries, self.total)
        self.about_card = card("Entry", self.about)
        top = row(left, self.about_card)
        measured = card("Measured and reported", bar(self.first, self.second, self.measure), self.message, self.values)
        judged = card("Claims", bar(self.verdict, self.verdicts), self.claims)
        below = row(card("Figure", bar(self.figure), self.picture), self.launch.view)
        super().__init__([app("papers", top, measured, judged, below, self.code)])
        self._list()
        self.launch.attach()

    def _controls(self) -> None:
        wide = widgets.Layout(width="180px")
        self.paper = widgets.Dropdown(options=[ALL, *PAPERS], description="paper", layout=widgets.Layout(width="150px"))
        self.search = widgets.Text(placeholder="search titles, arms, methods", continuous_update=False, layout=wide)
        shortcut(self.search, "s")
        self.entries = widgets.Select(rows=8, layout=widgets.Layout(width="100%"))
        self.total, self.verdicts = caption(), caption()
        self.about, self.values, self.claims, self.picture, self.message = (widgets.HTML() for _ in range(5))
        self.first = widgets.Dropdown(description="card", layout=widgets.Layout(width="330px"))
        self.second = widgets.Dropdown(description="beside", layout=widgets.Layout(width="340px"))
        self.measure = widgets.Dropdown(description="measure", layout=wide)
        self.verdict = widgets.Dropdown(description="verdict", layout=widgets.Layout(width="260px"))
        self.figure = widgets.Dropdown(description="figure", layout=widgets.Layout(width="360px"))
        for control in (self.paper, self.first, self.second, self.measure, self.verdict, self.figure):
            control.style.description_width = "initial"
        tell = guarded(self._say)
        for control in (self.paper, self.search):
            control.observe(tell(lambda _: self._list()), "value")
        self.entries.observe(tell(lambda change: self._open(change["new"])), "value")
        for control in (self.first, self.second, self.measure, self.verdict):
            control.observe(tell(lambda _: self._draw()), "value")
        self.figure.observe(tell(lambda _: self._draw_figure()), "value")

    # -- what a person does --------------------------------------------------------------------------------------------

    def show(
        self,
        id: str | None = None,
        *,
        card: str | None = None,
        beside: str | None = None,
        measure: str | None = None,
        verdict: str | None = None,
    ) -> Papers:
        """Set what is seen; what the code line writes.

        Args:
            id: "lift:T6".
            card, beside: names in the lists of cards: files below `out`, or "that of the package".
            measure: "all", "few", "gamma", ...; "few on NAME" where another set is tested on too.
            verdict: only claims with this one.
        """
        if id is not None:
            self._busy, self.paper.value, self.search.value = True, ALL, ""
            self._busy = False
            self._list(experiment(id).id)
        given = {"card": (self.first, card), "beside": (self.second, beside), "measure": (self.measure, measure),
                 "verdict": (self.verdict, verdict)}  # fmt: skip
        self._busy = True
        try:
            for name, (control, value) in given.items():
                if value is None:
                    continue
                if value not in control.options:
                    raise ValueError(f"{name}={value!r} is not there; choose one of {', '.join(control.options)}.")
                control.value = value
        finally:
            self._busy = False
        self._draw()
        return self

    def wait(self, seconds: float = 600) -> Papers:
        """Until the reproduction that runs has ended; for scripts and tests."""
        self.launch.wait(seconds)
        return self

    def close(self) -> None:
        """Look no more; what runs goes on."""
        self.launch.leave()
        super().close()

    # -- entries -------------------------------------------------------------------------------------------------------

    def _list(self, id: str | None = None) -> None:
        if self._busy:
            return
        found = experiments(None if self.paper.value == ALL else self.paper.value)
        words = self.search.value.lower().split()
        chosen = [each for each in found.values() if all(word in searched(each) for word in words)]
        cards = {each.id: shipped_card(each.id) for each in found.values()}
        options = [(f"{'●' if cards[each.id] else '○'} {each.id}  {each.title}", each.id) for each in chosen]
        known = [made for made in cards.values() if made is not None]
        self.total.value = escape(f"{len(chosen)} of {len(found)}; ● {summary(known)}")
        kept = id or (self.entry.id if self.entry is not None else None)
        ids = [value for _, value in options]
        first = next((each for each in ids if cards[each]), ids[0] if ids else None)
        self._busy = True
        self.entries.options, self.entries.value = options, kept if kept in ids else first
        self._busy = False
        self._open(self.entries.value)

    def _open(self, id: str | None) -> None:
        if self._busy:
            return
        if id is None:
            self.about.value = state("No entry has these words. Clear the search.")
            return
        if self.entry is not None and self.entry.id == id:
            return
        self.entry = experiment(id)
        self._standing = standing(self.entry)
        made = self._standing.card
        self.launch.show(self.entry, None if made is None else made.training_seconds)
        self.about.value = about(self._standing)
        self._read_cards()
        self._draw()
        self._list_figures()

    def _read_cards(self) -> None:
        """The cards of the open entry: the package's, and those below `out`."""
        assert self.entry is not None and self._standing is not None
        kept = self.first.value, self.second.value
        self._cards = {SHIPPED: self._standing.card} if self._standing.card is not None else {}
        self._say("")
        for path in sorted((self.out / "cards").glob(f"{self.entry.id.replace(':', '-')}.*.json")):
            try:
                self._cards[path.name] = ParityCard.load(path)
            except (ValueError, OSError, KeyError, TypeError) as error:
                self._say(broken(ValueError(f"{path} cannot be read as a card: {error}")))
        names = list(self._cards)
        measures = dict.fromkeys(
            f"{measure} on {test}" if test else measure for test in self.entry.tests for measure in self.entry.measures
        )
        self._busy = True
        self.first.options, self.second.options = names or ["none"], ["none", *names]
        self.first.value = kept[0] if kept[0] in names else self.first.options[0]
        self.second.value = kept[1] if kept[1] in names else "none"
        measure = self.measure.value
        self.measure.options = list(measures)
        self.measure.value = measure if measure in measures else self.measure.options[0]
        self._busy = False

    # -- one entry -----------------------------------------------------------------------------------------------------

    @property
    def card(self) -> ParityCard | None:
        """The card that is shown; None where there is none yet."""
        return self._cards.get(self.first.value)

    def _draw(self) -> None:
        if self._busy or self.entry is None:
            return
        names = dict.fromkeys(name for name in (self.first.value, self.second.value) if name in self._cards)
        cards = [self._cards[name] for name in names]
        measure, _, test = (self.measure.value or "").partition(" on ")
        lines = "".join(f"<div class='wb-caption'>{'●○'[n]} {made_how(each)}</div>" for n, each in enumerate(cards))
        self.values.value = values(self.entry, cards, measure, test) + lines
        made = self.card
        self._busy = True
        kept, verdicts = self.verdict.value, [] if made is None else list(made.verdicts())
        self.verdict.options = [ALL, *verdicts]
        self.verdict.value = kept if kept in verdicts else ALL
        self._busy = False
        if made is None:
            self.verdicts.value = ""
            self.claims.value = state(
                f"No card of {self.entry.id} yet. Press start: when it has run, its claims are judged."
            )
        else:
            self.verdicts.value = escape(counted(made.verdicts()) or "no claims")
            self.claims.value = claims(made, "" if self.verdict.value == ALL else self.verdict.value)
        self._write_code()

    def _list_figures(self) -> None:
        assert self.entry is not None
        start = figure_name(self.entry.id, "")
        files = sorted((self.out / "figures").glob(f"{start}*.png"))
        self._busy = True
        self.figure.options = [(file.stem.removeprefix(start), str(file)) for file in files]
        self.figure.value = str(files[0]) if files else None
        self._busy = False
        self._draw_figure()

    def _draw_figure(self) -> None:
        if self._busy or self.entry is None:
            return
        self.figure.layout.display = "" if len(self.figure.options) > 1 else "none"
        if self.figure.value is None and self.card is not None and self.card.panels:
            told = "".join(
                f"<div>{escape(name)}</div><pre>{escape(text)}</pre>" for name, text in self.card.panels.items()
            )
            self.picture.value = told
        elif self.figure.value is None:
            self.picture.value = state(
                f"No figure of {self.entry.id} below {self.out} yet. Start it, or draw it in a notebook: "
                f'wb.reproduce("{self.entry.id}").plot().',
                kind="missing",
            )
        else:
            data = base64.b64encode(Path(self.figure.value).read_bytes()).decode()
            alt = escape(f"{self.entry.id}: {self.figure.label}")
            self.picture.value = f'<img src="data:image/png;base64,{data}" alt="{alt}" style="background:white">'

    def _finished(self, id: str) -> None:
        """A reproduction has ended: its card and its figures are there now."""
        if self.entry is not None and self.entry.id == id:
            self._read_cards()
            latest = max(
                (self.out / "cards" / name for name in self._cards if name != SHIPPED),
                key=lambda path: path.stat().st_mtime, default=None,
            )  # fmt: skip
            if latest is not None:
                self._busy, self.first.value = True, latest.name
                self._busy = False
            self._draw()
            self._list_figures()

    def _say(self, html: str) -> None:
        self.message.value = html

    def _write_code(self) -> None:
        assert self.entry is not None
        place = [] if self.out == Path("runs/papers") else [f"out={str(self.out)!r}"]
        words = []
        if self._cards and self.first.value != next(iter(self._cards)):
            words.append(f"card={self.first.value!r}")
        if self.second.value != "none":
            words.append(f"beside={self.second.value!r}")
        if self.measure.value != self.measure.options[0]:
            words.append(f"measure={self.measure.value!r}")
        if self.verdict.value != ALL:
            words.append(f"verdict={self.verdict.value!r}")
        show = f".show({', '.join(words)})" if words else ""
        self.code.code = f"papers({', '.join([repr(self.entry.id), *place])}){show}"

    def _write_command(self) -> None:
        self.code.code = self.launch.command()


def papers(id: str | None = None, *, out: str | Path = "runs/papers") -> Papers:
    """Browse the papers' tables and figures, compare what was measured with what is reported, and run them.

    A reproduction runs as `workbench reproduce` in a process of its own: it goes on when the page is loaded again, the
    notebook closed or the kernel restarted, and the same call then shows it again. It is not `wb.papers`, which is the
    package of the entries: `from workbench.apps.papers import papers`.

    Args:
        id: the table or figure to open, "lift:T6"; None: the first that has a card.
        out: where trainings, cards and figures are, and are made.

    Raises:
        ValueError: no such entry.
    """
    shown = Papers(Path(out).expanduser())
    return shown if id is None else shown.show(id)
