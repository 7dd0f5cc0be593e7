"""The picture of the toybox world in README: `python -m tests.toybox_sheet [--out notebooks/toybox.jpg]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure, SubFigure

import workbench as wb
from workbench import toybox
from workbench.diagnostics.base import GROUP_COLOURS, GROUP_ORDER, INK, figure_style

PIXELS = 112  # a picture rendered at twice its size
WIDTH = 10  # pictures of a row


def scene(style: str, shape: str, colour: str, pattern: str, background: str, index: int = 3) -> toybox.Scene:
    return toybox.Scene(toybox.Toy(pattern, colour, shape), background, style, 0, index)


def strip(
    figure: SubFigure, title: str, scenes: Sequence[toybox.Scene], names: Sequence[str], colour: str = INK
) -> None:
    """Rows of pictures under a title, each with its name above it."""
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, fontweight="bold", color=colour)
    rows = -(-len(scenes) // WIDTH)
    for place, (one, name) in enumerate(zip(scenes, names, strict=True)):
        ax = figure.add_subplot(rows, WIDTH, place + 1)
        ax.imshow(toybox.render(one, PIXELS)[0], interpolation="none")
        ax.set_title(name, fontsize=7, pad=2)
        ax.set_axis_off()


def sheet() -> Figure:
    shapes, colours, patterns = list(toybox.SHAPES), list(toybox.COLOURS), list(toybox.PATTERNS)
    classes = wb.Manifest.load("toybox_lt").classes
    strips: list[tuple[str, list[toybox.Scene], list[str], str]] = []
    pictures = [scene("upstream", s, colours[i % 10], "plain", "snow", i) for i, s in enumerate(shapes)]
    strips.append(("20 shapes", pictures, shapes, INK))
    fills = [scene("upstream", "square", colours[i], p, "night", 2) for i, p in enumerate(patterns)]
    tints = [scene("upstream", "circle", c, "plain", "sky", 2) for c in colours[5:]]
    names = [f"{p}, {colours[i]}" for i, p in enumerate(patterns)]
    strips.append(("5 patterns and 10 colours", fills + tints, names + [f"plain, {c}" for c in colours[5:]], INK))
    both = set(toybox.UPSTREAM_BACKGROUNDS) & set(toybox.DOWNSTREAM_BACKGROUNDS)
    up = set(toybox.UPSTREAM_BACKGROUNDS)
    marks = {b: "both" if b in both else "up" if b in up else "down" for b in toybox.BACKGROUNDS}
    swapped = [scene("upstream", "fish", "orange", "striped", b, 11) for b in toybox.BACKGROUNDS]
    title = "12 backgrounds, one toy before all of them (up, down: in that world only)"
    strips.append((title, swapped, [f"{b} ({marks[b]})" for b in toybox.BACKGROUNDS], INK))
    pairs = [
        scene(style, toy.shape, toy.colour, toy.pattern, "brick" if style == "upstream" else "marble", 40 + i)
        for i, toy in enumerate(toybox.CLASSES[::12])
        for style in ("upstream", "downstream")
    ]
    title = "the same toys as the pretraining world would show them, and as the downstream world does"
    strips.append((title, pairs, ["upstream", "downstream"] * 5, INK))
    for group in GROUP_ORDER:
        members = np.flatnonzero(classes.groups == group)
        labels = members[np.linspace(0, len(members) - 1, WIDTH).astype(int)]
        found = [toybox.class_scene(int(label), index=1, seed=0) for label in labels]
        names = [f"{classes.names[c].replace(' ', chr(10), 1)}\n{classes.counts[c]} images" for c in labels]
        strips.append((f"toybox_lt, {group}-shot: {len(members)} classes", found, names, GROUP_COLOURS[group]))
    found = [toybox.class_scene(label, index=1, seed=0, style="sketch") for label in range(0, 60, 6)]
    strips.append(("toybox_sketch", found, [classes.names[c].replace(" ", "\n", 1) for c in range(0, 60, 6)], INK))
    heights = [0.35 + (0.95 + 0.13 * names[0].count("\n")) * -(-len(scenes) // WIDTH) for _, scenes, names, _ in strips]
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    for part, (title, scenes, names, colour) in zip(
        figure.subfigures(len(strips), 1, height_ratios=heights), strips, strict=True
    ):
        strip(part, title, scenes, names, colour)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("notebooks/toybox.jpg"))
    out = parser.parse_args().out
    tight = {f"figure.constrained_layout.{pad}": 0.02 for pad in ("h_pad", "w_pad")}
    with figure_style(), mpl.rc_context(tight):
        sheet().savefig(out, dpi=120, pil_kwargs={"quality": 88} if out.suffix == ".jpg" else None)
    print(out)


if __name__ == "__main__":
    main()
