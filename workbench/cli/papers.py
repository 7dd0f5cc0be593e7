"""`workbench papers` and `workbench reproduce`: what of the five papers can be run, and running it."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.papers import Setting
    from workbench.papers.availability import Standing

LIST = """\
List every table and figure of the five papers: how many of its arms run here in the toybox world, which data sets and
weights of the paper are missing and how to get them, and the verdicts of the parity card that comes with the package.

With the name of an entry, its arms, the rows that are reported only, its claims, and its card.
"""

RUN = """\
Train and test every arm of a table or figure and lay what was measured beside what the paper reports, with intervals
and a verdict per claim: a parity card. In the toybox world (the default) trainings are short and the lr of an arm is
chosen on val; elsewhere they are the paper's own. Started again it goes on: finished trainings are kept, also those of
other entries, and an arm that fails does not lose the others.
"""

EXAMPLES = """\
examples:
  workbench papers
  workbench papers lift:T6
  workbench reproduce lift:T5                              (toybox_lt, three seeds; the card goes to runs/papers/cards)
  workbench reproduce lift:T6 --data places_lt --root ~/places --weights clip.safetensors --device cuda --seeds 1
  workbench reproduce all --smoke                          (everything, one epoch and six classes: does it run?)
"""


def add_commands(commands: Any) -> None:
    papers = commands.add_parser(
        "papers", help="list what can be reproduced, and what is missing", description=LIST, **_shape()
    )
    papers.add_argument("what", nargs="?", metavar="PAPER|ENTRY", help="lpt, lt-dpt, lift, hlc, ballad, or lift:T6")
    papers.set_defaults(function=show)
    run = commands.add_parser("reproduce", help="run a table or figure of a paper", description=RUN, **_shape())
    run.add_argument("id", nargs="+", metavar="ENTRY", help="lift:T6, ...; a paper's name or `all` for all of it")
    run.add_argument("--data", default="toybox_lt", help="a data set (default toybox_lt)")
    run.add_argument("--seeds", type=int, default=3, help="trainings of each arm (default 3)")
    run.add_argument("--backbone", help="the tower of arms that name none of their own; default: the paper's")
    run.add_argument("--root", help="the folder that the paths of the data set are relative to")
    for name, text in (
        ("weights", "a local file of the weights of that tower, or 'random'"),
        ("text-weights", "a local file of the text tower's; default: --weights, a file of a whole CLIP"),
        ("texts", "a file of sentences about the classes"),
        ("corpus", "a file of sentences to train on (hlc)"),
    ):
        run.add_argument(f"--{name}", metavar="FILE", help=text)
    run.add_argument("--epochs", type=int, help="shorten or lengthen every stage")
    run.add_argument("--batch-size", type=int, help="images per optimiser step")
    run.add_argument("--lr", type=float, help="one learning rate for all arms")
    run.add_argument("--no-search", dest="search", action="store_false", help="take the start of an lr grid as it is")
    run.add_argument("--classes", type=int, help="train on so many classes only, spread over the frequencies")
    run.add_argument("--per-class", type=int, help="test on so many images of each class at most")
    run.add_argument("--smoke", action="store_true", help="one seed and epoch, six classes: whether it runs")
    run.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 (default cpu)")
    run.add_argument("--jobs", type=int, help="processes, one thread each (default: one per core; 1 on a GPU)")
    run.add_argument("--out", default="runs/papers", metavar="FOLDER", help="all trainings (default runs/papers)")
    run.add_argument("--card", metavar="FILE", help="where to write the card, .json and .md (one entry only)")
    run.set_defaults(function=reproduce, usage_error=run.error)


def _shape() -> dict[str, Any]:
    return {"epilog": EXAMPLES, "formatter_class": argparse.RawDescriptionHelpFormatter}


def show(arguments: argparse.Namespace) -> int:
    from workbench.papers import experiments
    from workbench.papers.availability import standing
    from workbench.papers.rendering import counted

    what = arguments.what
    if what is not None and ":" in what:
        from workbench.papers import experiment

        _print_entry(standing(experiment(what)))
        return 0
    missing: dict[str, str] = {}
    for entry in experiments(what).values():
        found = standing(entry)
        missing |= {f"data set {name}": why for name, why in found.data_missing.items()}
        known = missing.values()
        missing |= {f"data set {name}": why for name, why in found.tests_missing.items() if why not in known}
        missing |= {f"weights {tag}": why for tag, why in found.weights_missing.items()}
        where = f"toybox {len(found.toybox)}/{len(entry.arms)} arms"
        where += ", paper's own data" if found.real else ""
        card = f"; card: {counted(found.card.verdicts())}" if found.card else ""
        rest = len(entry.reported_only)
        where += f", {rest} row{'s' if rest > 1 else ''} reported only" if rest else ""
        print(f"{entry.id:11} {shorten(entry.title, 64, placeholder=' ...'):64} {where}{card}")
    if missing:
        print("\nmissing here:")
        for name, why in missing.items():
            print(f"  {name}: {why}")
    print("\nworkbench papers lift:T6 says more of one entry, workbench reproduce lift:T6 runs it")
    return 0


def _print_entry(found: Standing) -> None:
    entry, missing = found.experiment, found.data_missing | found.tests_missing | found.weights_missing
    print(f"{entry.id}: {entry.title}\n{entry.kind}; groups {entry.groups}; drawn as {', '.join(entry.draw)}")
    print(f"the paper's: {', '.join(entry.datasets) or 'no printed numbers'}; {entry.backbone}\n\narms:")
    for arm in entry.arms:
        options = ", ".join(f"{name}={value}" for name, value in arm.options.items())
        why = found.toybox_missing.get(arm.name)
        status = "ours" if arm.status == "ours" else "baseline we can run"
        print(f"  {arm.name}: {arm.method}({options}), {status}" + (f"; {why}" if why else ""))
    for row in entry.reported_only:
        print(f"  {row}: reported only")
    if entry.claims:
        print("\nclaims:")
    for claim in entry.claims:
        sign = {1: "above", -1: "below", None: "as printed against"}[claim.expected]
        print(f"  {claim.first} {sign} {claim.second}: {', '.join(claim.on)} {claim.said}".rstrip())
    for title, lines in (
        ("known deviations", entry.deviations),
        ("missing here", [f"{name}: {why}" for name, why in missing.items()]),
    ):
        if lines:
            print(f"\n{title}:\n" + "\n".join(f"  {line}" for line in lines))
    if found.card:
        print(f"\n{found.card.to_markdown()}")


def reproduce(arguments: argparse.Namespace) -> int:
    from workbench.papers import Setting
    from workbench.papers import reproduce as run
    from workbench.papers.rendering import counted
    from workbench.papers.reproducing import figure_name
    from workbench.papers.setting import shortened

    setting = Setting(**{each.name: getattr(arguments, each.name) for each in fields(Setting)})
    if arguments.smoke:
        setting = shortened(setting)
    ids = _ids(arguments.id, setting)
    if arguments.card and len(ids) > 1:
        arguments.usage_error("--card goes with one entry.")
    given = {each.name: getattr(setting, each.name) for each in fields(setting)}
    failed: dict[str, str] = {}
    for id in ids:
        print(f"== {id}", flush=True)
        try:
            made = run(id, out=arguments.out, jobs=arguments.jobs, card=arguments.card, **given)
            if made.not_drawn:
                failed[id] = f"its figure cannot be drawn: {made.not_drawn}"
                print(f"{id}: {failed[id]}", flush=True)
            for name, result, view in made.figures:
                file = f"{figure_name(id, name)}.png"
                result.save(Path(arguments.out) / "figures" / file, view=view, overwrite=True)
        except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
            if len(ids) == 1:
                raise
            failed[id] = str(error).splitlines()[0]
            print(f"{id}: {failed[id]}", flush=True)
            continue
        if len(ids) == 1:
            print(f"\n{made.card.to_markdown()}")
        else:
            left = f", not run: {', '.join(made.card.not_run)}" if made.card.not_run else ""
            print(f"{id}: {len(made.arms)} arms{left}; {counted(made.card.verdicts()) or 'no claims'}", flush=True)
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(ids)} entries failed: {', '.join(failed)}.")
    return 0


def _ids(given: list[str], setting: Setting) -> list[str]:
    """The entries that are meant; of all or a paper's, those of which an arm has a tower in the setting."""
    from workbench.papers import experiment, experiments
    from workbench.papers.experiment import PAPERS
    from workbench.papers.setting import tower_of

    found = []
    for word in given:
        if word not in ("all", *PAPERS):
            found.append(experiment(word).id)  # a wrong one is told before anything is trained
            continue
        for id, entry in experiments(None if word == "all" else word).items():
            if any(tower_of(entry, arm, setting) for arm in entry.arms):
                found.append(id)
            else:
                print(f"{id}: left out, the toybox world has no tower like that of its arms", flush=True)
    return list(dict.fromkeys(found))
