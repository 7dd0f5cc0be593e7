"""`workbench doctor`: why the numbers of two runs differ."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

TEXT = """\
Lay two runs side by side and list everything in which they differ, the likeliest cause of other numbers first: data,
class counts and split hashes, resize, crop, interpolation, mean and std, prompt template, activation, weights, test
ensemble, epochs, batch size and lr, sampler, precision, choice of the epoch, group rule, seeds, versions. The size
of an effect is given with its source where a paper or the authors of published code state it. Nothing is trained.
"""

EXAMPLES = """\
examples:
  workbench doctor runs/lift runs/lift-again
  workbench doctor runs/lift ~/mailed/lift --csv differences.csv
"""


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor",
        help="say why the numbers of two runs differ",
        description=TEXT,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument("other", metavar="OTHER_RUN", help="the run folder it is compared with")
    parser.add_argument("--csv", metavar="FILE", help="write the table here too")
    parser.set_defaults(function=doctor)


def doctor(arguments: argparse.Namespace) -> int:
    from workbench.papers.doctor import doctor as compare

    if arguments.csv and Path(arguments.csv).exists():
        raise ValueError(f"{arguments.csv} exists and is left as it is; give another --csv FILE.")
    diagnosis = compare(arguments.run, arguments.other)
    print(diagnosis)
    if arguments.csv:
        diagnosis.to_frame().to_csv(arguments.csv, index=False)
    return 0
