"""Handlers of the app `explore` at 50,000 images; `python -m tests.app_latency explore` prints them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from workbench.apps.explore import Explore, explore
from workbench.apps.explore_grid import SHOWN

from .latency import Row, chosen, files, synthetic, timed

IMAGES = 50_000
LASSOED = 20_000


def _texts(app: Explore) -> Iterator[tuple[str, Callable[[int], Any]]]:
    """Handlers that take no pictures."""
    rng = np.random.default_rng(0)
    lassos = [np.sort(rng.choice(IMAGES, LASSOED, replace=False)) for _ in range(8)]
    conditions = [f"group == 'few' and not correct and confidence > {0.1 + 0.01 * turn:.2f}" for turn in range(8)]
    yield "filter", chosen(app.filters.text, conditions)
    app.chip.clear.click()
    yield "class searched", chosen(app.filters.search, app.features.classes.names[:8])
    yield "part of a name searched", chosen(app.filters.search, [f"{turn} of a long" for turn in range(8)])
    app.chip.clear.click()
    yield "group ticked", chosen(app.filters.groups["few"], (True, False))
    yield "confidence", chosen(app.filters.confidence, [(0.0, 0.9 - 0.01 * turn) for turn in range(8)])
    yield "purity *", chosen(app.filters.purity, [(0.0, 0.9 - 0.01 * turn) for turn in range(8)])
    app._know(np.random.default_rng(1).random(IMAGES).astype(np.float32))  # as if it had been computed
    yield "purity, once it is known", chosen(app.filters.purity, [(0.0, 0.8 - 0.01 * turn) for turn in range(8)])
    yield f"lasso of {LASSOED:,}", lambda turn: setattr(app.map.scatter.widget, "selection", lassos[turn])
    yield "invert", lambda _: app.chip.invert.click()
    yield "sort", chosen(app.grid.sort, ("most confident", "as they come", "least confident"))
    yield f"next {SHOWN} images", lambda _: app.grid.on.click()
    yield "a tile", lambda turn: setattr(app.grid.tiles, "active", turn + 1)
    for colour in ("confidence", "purity", "class", "predicted", "correct", "group"):
        others = ("correct", colour) if colour == "group" else ("group", colour)
        yield f"colour: {colour} and {others[0]}", chosen(app.map.colour, others[::-1])
    yield "size: confidence and equal", chosen(app.map.size, ("confidence", "equal"))
    app.map.colour.value = "class"
    yield "class searched, coloured by class", chosen(app.filters.search, app.features.classes.names[8:16])
    app.map.colour.value = "group"
    app.map.scatter.widget.selection = lassos[0]
    yield "keep only, show all", lambda turn: (app.chip.all if turn % 2 else app.chip.keep).click()
    yield "copy code", lambda _: app.chip.copies._asked(None, {"what": "code", "number": 0}, [])
    yield f"copy {LASSOED:,} ids", lambda _: app.chip.copies._asked(None, {"what": "ids", "number": 0}, [])
    tick, clear = app.filters.groups["many"], app.chip.clear
    yield "group ticked and cleared", lambda turn: clear.click() if turn % 2 else setattr(tick, "value", True)


def rows() -> list[Row]:
    """Milliseconds of each; * begins work in a thread."""
    features, _ = synthetic(IMAGES)
    found: list[Row] = []
    size = f"{IMAGES:,} images"
    app = explore(features)
    app.work.wait(600)

    def settle() -> None:
        app.measuring.cancel()
        app.measuring.wait(60)

    for handler, act in _texts(app):
        found.append(("explore", handler, size, timed(act, settle)))
    few = features[: IMAGES // 10]
    with tempfile.TemporaryDirectory() as folder:
        pictured = explore(few, files(few, Path(folder)))
        pictured.work.wait(600)
        point = np.random.default_rng(0).integers(len(pictured.map.rows), size=8).tolist()
        about = f"{len(few):,} images of 256 x 192 pixels"
        hover = timed(lambda turn: setattr(pictured.map.scatter.widget, "hovering", point[turn]))
        found.append(("explore", "a point hovered: its picture", about, hover))
        shown = timed(
            chosen(pictured.filters.search, features.classes.names[:8]), lambda: pictured.grid.reading.wait(60)
        )
        found.append(("explore", f"class searched, {SHOWN} pictures *", about, shown))
    return found


def purity_seconds() -> float:
    """Of the purity of all 50,000, once, in a thread; stated beside the table, for nobody waits for it."""
    from workbench.diagnostics.neighbours import neighbour_purity

    features, _ = synthetic(IMAGES)
    start = time.perf_counter()
    neighbour_purity(features.vectors, features.labels, 10)
    return time.perf_counter() - start


if __name__ == "__main__":
    print(f"purity of {IMAGES:,} images: {purity_seconds():.0f} s")
