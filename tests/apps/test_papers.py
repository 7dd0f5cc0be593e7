"""The papers app: entries are found, cards are laid beside the paper's numbers, and a reproduction is run and found."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import asdict
from html import unescape
from pathlib import Path

import pytest

from workbench.apps import papers_launch
from workbench.apps.papers import Papers, papers
from workbench.cli import make_parser
from workbench.papers import ParityCard, experiments
from workbench.papers.card import HOLDS, NOT_RUN, REVERSED, Row, Verdict
from workbench.training import process

from .conftest import HOSTILE

Words = list[str]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(papers_launch, "SECONDS", 0.02)


def saved(name: str = "lift-T6.somewhere.json", **changes: object) -> ParityCard:
    """A card of lift:T6 below runs/papers: LIFT above full, full not run on few."""
    rows = (
        Row("AdaptFormer", "ours", "all", {"imagenet-lt": 78.3}, 60.25, 55.5, 65.0, (60.25,)),
        Row("full", "baseline", "all", {"imagenet-lt": 74.4}, 99.0, 95.0, 100.0, (99.0,)),
        Row("AdaptFormer", "ours", "few", {"imagenet-lt": 73.4}, 41.0),
    )
    claims = (
        Verdict("AdaptFormer", "full", "all", {"imagenet-lt": 3.9}, "", REVERSED, -38.75, -45.0, -30.0, 9.5),
        Verdict("AdaptFormer", "zero-shot", "few", {}, "Section 4", HOLDS, 12.5, 2.5, 22.5, 9.75),
        Verdict("full", HOSTILE, "few", {}, "", NOT_RUN),
    )
    card = ParityCard(
        id="lift:T6", title="Which weights train", command="workbench reproduce lift:T6", data=HOSTILE,
        backbones=("toybox_clip",), seeds=(0,), rule="many >= 101", rows=rows, claims=claims, lrs={}, epochs={},
        not_run={"BitFit": HOSTILE}, deviations=(), hardware="2 cores", training_seconds=75, versions={},
    )  # fmt: skip
    card = ParityCard(**{**{name: getattr(card, name) for name in asdict(card)}, **changes})  # type: ignore[arg-type]
    card.save(Path("runs/papers/cards") / name)
    return card


def text(html: str) -> str:
    return " ".join(unescape(re.sub("<[^>]*>", " ", html)).replace("\N{MINUS SIGN}", "minus").split())


def line(html: str, start: str) -> str:
    """The words of the row of a table that begins so."""
    (found,) = [row for row in map(text, html.partition("</table>")[0].split("<tr>")) if row.startswith(start)]
    return found


# -- browsing ----------------------------------------------------------------------------------------------------------


def test_entries_are_found_by_paper_and_by_words() -> None:
    app = papers()
    assert len(app.entries.options) == len(experiments())
    app.paper.value = "hlc"
    assert {value.partition(":")[0] for _, value in app.entries.options} == {"hlc"}
    app.search.value = "VPT corpus"
    assert [value for _, value in app.entries.options] == ["hlc:T4"] and app.entry is not None
    assert app.entry.id == "hlc:T4" and app.code.code == "papers('hlc:T4')"
    app.search.value = "nothing like it"
    assert "Clear the search" in text(app.about.value)
    app.paper.value, app.search.value = "all", ""
    assert len(app.entries.options) == len(experiments())


def test_an_entry_says_what_it_is_what_is_missing_and_what_differs() -> None:
    app = papers("ballad:T7")
    said = text(app.about.value)
    assert "4 arms, 4 of them in the toybox world" in said and "imagenet-lt, places-lt" in said
    assert "workbench data import FOLDER --as imagenet_lt" in said and "Known deviations (" in said
    with pytest.raises(ValueError, match="ballad"):
        papers("ballad:T99")


def test_the_papers_numbers_are_there_before_anything_was_run() -> None:
    app = papers("lift:T6")
    row = line(app.values.value, "AdaptFormer")
    assert row.endswith("78.3 / 52.2") and "paper, imagenet-lt: 78.3" in app.values.value


# -- measured and reported ---------------------------------------------------------------------------------------------


def test_a_card_is_laid_beside_the_paper() -> None:
    saved()
    app = papers("lift:T6").show(card="lift-T6.somewhere.json")
    assert "60.2 ± 4.8" in line(app.values.value, "AdaptFormer") and "99.0 [95.0, 100.0]" in line(
        app.values.value, "full"
    )
    assert "not run" in line(app.values.value, "BitFit")
    app.measure.value = "few"
    assert line(app.values.value, "AdaptFormer").endswith("41.0 73.4 / 50.9")
    assert "measure='few'" in app.code.code
    again = eval(app.code.code, {"papers": papers})
    assert (again.values.value, again.claims.value) == (app.values.value, app.claims.value)


def test_claims_have_their_verdicts_and_are_filtered_by_them() -> None:
    saved()
    app = papers("lift:T6").show(card="lift-T6.somewhere.json")
    assert app.verdicts.value == "1 holds, 1 reversed, 1 an arm was not run"
    row = line(app.claims.value, "AdaptFormer minus full all")
    assert "+3.9" in row and "-38.8 [-45.0, -30.0] 9.5" in row and row.endswith("✗ reversed")
    assert line(app.claims.value, "AdaptFormer minus zero-shot few").endswith("✓ holds")
    app.verdict.value = HOLDS
    assert "✗" not in app.claims.value and app.code.code.endswith(f"verdict='{HOLDS}')")


def test_two_cards_stand_side_by_side_and_names_are_no_markup() -> None:
    saved()
    saved("lift-T6.z.json", data="other", rows=(Row("AdaptFormer", "ours", "all", {}, 10.5, 8.5, 12.5),))
    app = papers("lift:T6").show(card="lift-T6.somewhere.json", beside="lift-T6.z.json")
    assert "60.2 ± 4.8 10.5 ± 2.0" in line(app.values.value, "AdaptFormer")
    assert "<img src=x" not in "".join((app.values.value, app.claims.value, app.about.value))
    with pytest.raises(ValueError, match=r"card='x' is not there; choose one of .*lift-T6.z.json"):
        app.show(card="x")


def test_a_card_that_cannot_be_read_is_named_and_the_others_are_shown() -> None:
    saved()
    Path("runs/papers/cards/lift-T6.a.json").write_text(json.dumps({"format": 1, "rows": [{"b": 2}]}))
    app = papers("lift:T6")
    assert "lift-T6.a.json cannot be read as a card" in text(app.message.value)
    assert "lift-T6.somewhere.json" in app.first.options and "lift-T6.a.json" not in app.first.options


def test_figures_below_the_folder_are_shown(tmp_path: Path) -> None:
    assert 'wb.reproduce("lift:T6").plot()' in text(papers("lift:T6").picture.value)
    figures = tmp_path / "runs" / "papers" / "figures"
    figures.mkdir(parents=True)
    for name in ("lift-T6-groups.png", "lift-T61-groups.png", "lift-T6-sweep.png"):
        (figures / name).write_bytes(name.encode())
    app = papers("lift:T6")
    assert [name for name, _ in app.figure.options] == ["groups", "sweep"] and app.figure.layout.display == ""
    assert 'alt="lift:T6: groups"' in app.picture.value


# -- running -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Words]:
    """The words of the reproductions that would have begun; none does."""
    found: list[Words] = []
    monkeypatch.setattr(papers_launch, "begin", lambda words, out, command: found.append([command, *words]))
    return found


def test_the_form_is_a_command_line(begun: list[Words]) -> None:
    app = papers("lpt:T8", out="my folder")
    app.launch.data.value, app.launch.seeds.value, app.launch.smoke.value = "digits_lt", 2, True
    app.launch.more.value = "--root '~/my images' --device cuda"
    command, *words = shlex.split(app.code.code)
    given = make_parser().parse_args(words)
    assert command == "workbench" and (given.id, given.data, given.seeds, given.smoke) == (
        ["lpt:T8"],
        "digits_lt",
        2,
        True,
    )
    assert (given.root, given.device, given.out) == ("~/my images", "cuda", "my folder")
    app.launch.start.click()
    assert begun == [words]
    app.launch.more.value = "--root 'half"
    assert "cannot be read as words" in text(app.message.value) + text(app.launch.message.value)


def log(body: str, pid: int = 1) -> None:
    path = process.log_path("runs/papers")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"$ workbench reproduce lift:T6 --seeds 1  # process {pid}, 1000.000\n{body}")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "== lift:T6\nworkbench: no arm of lift:T6 could be run. full: ValueError: <b>\n",
            "no arm of lift:T6 could be run",
        ),
        ("workbench reproduce: error: argument --seeds: invalid int value\n", "argument --seeds: invalid int value"),
        ("== lift:T6\n1/2 lr of full: 0.1\n", "ended without a card"),
    ],
)
def test_what_went_wrong_is_said(body: str, said: str) -> None:
    log(body)
    app = papers("lift:T6")
    assert text(app.launch.message.value).startswith(said if "card" not in said else "lift:T6 ended")
    assert "<b>" not in app.launch.message.value and not app.launch.start.disabled and app.launch.stopper.disabled


def test_a_finished_one_is_quiet_and_one_that_runs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    log("== lift:T6\n1/2 lr of full: 0.1\n\n# lift:T6: Which weights train\n")
    assert papers("lift:T6").launch.message.value == ""
    runs = process.Process(pid=7, command=("python", "workbench", "reproduce"), resident_bytes=1)
    alive: list[process.Process | None] = [runs]
    monkeypatch.setattr(process, "look_at", lambda pid: alive[0])
    log("== lift:T6\n1/2 lr of full: 0.1\n1/10 LIFT, seed 0: trained in 20 s; about 4 min left\n", pid=7)
    app = papers()
    assert app.launch.start.disabled and not app.launch.stopper.disabled and app.launch.progress.value == 0.1
    assert "1 of 10 of this round: LIFT, seed 0: trained in 20 s; about 4 min left" in text(app.launch.step.value)
    with pytest.raises(RuntimeError, match="This is running below runs/papers: workbench reproduce lift:T6"):
        app.launch.begin()
    app.show("lift:T6")
    saved()  # it ends with a card
    log("\n# lift:T6: Which weights train\n", pid=7)
    alive[0] = None
    app.wait(20)
    assert app.first.value == "lift-T6.somewhere.json" and "60.2 ± 4.8" in text(app.values.value)
    assert not app.launch.start.disabled
    app.close()


def until(app: Papers, condition: Callable[[], object]) -> None:
    import time

    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, text(app.launch.message.value)
        time.sleep(0.05)


@pytest.mark.slow
def test_a_reproduction_is_stopped_and_gone_on_with_in_a_process_of_its_own() -> None:
    app = papers("lift:F2")
    app.launch.smoke.value, app.launch.more.value = True, "--jobs 1"
    app.launch.begin()
    until(app, lambda: list(Path("runs/papers/trainings").glob("*/seed0/status.json")))
    app.launch.stop()
    app.wait(60)
    assert "was stopped. Start goes on" in text(app.launch.message.value)
    app.launch.begin()
    app.wait(240)
    assert app.launch.message.value == "", text(app.launch.message.value)
    assert app.card is not None and app.card.id == "lift:F2" and app.card.data in app.values.value
    assert app.figure.value is not None and app.picture.value.startswith("<img")
    app.close()
