"""`workbench import-weights`: a run made of weights that a method's authors released."""

from __future__ import annotations

import argparse
from typing import Any

DESCRIPTION = """\
Make a run folder of the weights that a method's authors released, for report, extract, predict and every diagnostic.
Nothing is trained, and only tensors are read: a file that would run code is refused. The run records the file's sha256.

METHOD is lpt: a phase-2 file of DongSky/LPT, on the tower vit_base_patch16_224.augreg_in21k. Class k of the file is
class k of the data set, in the order of the lists that the authors trained with, which the file does not tell. Their
LayerNorms add 1e-5, the tower's own 1e-6, so that features differ a little from those of their code.
"""

EXAMPLES = """\
examples:
  workbench import-weights lpt LPT_places.pth --backbone vit_base_patch16_224.augreg_in21k --data places_lt \\
                           --root ~/places365 --out runs/lpt_released
  workbench report runs/lpt_released
"""


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "import-weights",
        help="make a run of weights that a method's authors released",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("method", metavar="METHOD", help="lpt")
    parser.add_argument("file", metavar="FILE", help=".pth, .pt, .bin or .safetensors")
    parser.add_argument("--backbone", required=True, help="the tower that the authors used, with its tag")
    parser.add_argument("--weights", help="a local weight file of the tower; default: the tag's pretrained weights")
    parser.add_argument("--input-size", type=int, help="pixels; default: what the backbone was trained with")
    parser.add_argument("--data", required=True, help="a data set: a name of `workbench data list`, or its .toml")
    parser.add_argument("--root", help="the folder that the paths of the data set are relative to")
    parser.add_argument("--out", required=True, help="the run folder to make")
    parser.set_defaults(function=import_weights)


def import_weights(arguments: argparse.Namespace) -> int:
    import workbench as wb

    manifest = wb.Manifest.load(arguments.data)
    backbone = wb.load_backbone(arguments.backbone, arguments.weights, input_size=arguments.input_size)
    run = wb.import_weights(
        arguments.method, arguments.file, backbone, manifest, out=arguments.out, root=arguments.root
    )
    made = run.config["imported"]
    print(f"{run.path} holds {arguments.method} as released in {made['file']}, sha256 {made['sha256']}.")
    if not made["tower_in_file"]:
        print(f"The file holds no tower, so nothing tells whether {backbone.name} is the one it was trained in.")
    print(f"`workbench report {run.path}` tests it.")
    return 0
