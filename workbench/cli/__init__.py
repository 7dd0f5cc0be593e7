"""The `workbench` command: each sub-command is one call of a function that notebooks use too."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from . import data, demo, doctoring, explaining, importing_weights, notebooks, papers, reporting, training

USER_ERRORS = (ValueError, OSError, FloatingPointError, RuntimeError)

EXAMPLES = """\
the tour, minutes, nothing to download; it leaves a report to read and to hand on:
  workbench demo

everything once, without downloads, some minutes: a notebook executed into a report
  workbench demo

a first training without downloads (the toybox and its own CLIP), two minutes:
  workbench fit --method lift --backbone toybox_clip --text --data toybox_lt --epochs 5 --batch-size 32 --lr 0.03 \\
                --out runs/first
  workbench report runs/first

your own photographs:
  workbench data import ~/photos --name birds --val 5
  workbench fit --method lift --backbone vit_base_patch16_clip_quickgelu_224.openai --data birds --root ~/photos \\
                --out runs/birds
  workbench fit --resume runs/birds          (after Ctrl-C, a crash, a reboot)
  workbench report runs/birds
  workbench predict runs/birds photo.jpg

`workbench COMMAND --help` says more about each of them.

exit codes: 0 done; 1 something went wrong, in one line (--traceback shows where); 2 the command line is not
understood; 130 interrupted, and what there is was kept
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command. Exit codes: 0 done, 1 an error a person can act on, 2 wrong usage, 130 interrupted."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    arguments = make_parser().parse_args(argv)
    try:
        status: int = arguments.function(arguments)
        return status
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except USER_ERRORS as error:
        if arguments.traceback:
            raise
        print(f"workbench: {_one_line(error)}", file=sys.stderr)
        return 1


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="workbench",
        description="Train, compare and look into long-tailed image classifiers built on foundation models.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error arose")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    demo.add_commands(commands)
    data.add_commands(commands)
    training.add_commands(commands)
    importing_weights.add_commands(commands)
    reporting.add_commands(commands)
    explaining.add_commands(commands)
    papers.add_commands(commands)
    doctoring.add_commands(commands)
    notebooks.add_commands(commands)
    return parser


def _one_line(error: Exception) -> str:
    """What happened: the first line, since libraries add paragraphs of advice for programmers.

    An error in an image-loading process arrives as its whole traceback, whose last line is "Type: what happened".
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if "DataLoader worker" in lines[0] and len(lines) > 1:
        return lines[-1].partition(": ")[2] or lines[-1]
    return lines[0]
