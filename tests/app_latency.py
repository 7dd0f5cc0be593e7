"""How long a handler of an app keeps the kernel: `python -m tests.app_latency` prints a table, minutes on two cores.

A handler is what runs in the kernel when a person clicks, types or lets go of a slider, from the trait that the page
sets to the last message that is packed for the page. Medians of 7 after one that warms up; between two, whatever the
handler has begun in a thread is waited for, so that none is timed beside another's work. A row marked * begins such
work: what counts is that the kernel is free again, not when the answer is seen. LATENCY_CLOCK=cpu gives the processor
time of the handler's own thread instead, which a busy machine does not lengthen.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as the tests do

import argparse
import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import comm
import numpy as np

import workbench as wb
from workbench.apps.papers import papers
from workbench.apps.train_curves import Curves
from workbench.runs import Run
from workbench.training.standing import standing

from .latency import CLASSES, Packed, Row, chosen, files, picked, synthetic, timed

LIMIT = 50.0  # ms
MANY, MATRIX = 50_000, 10_000  # images
EPOCHS = 500
ANSWER = "\N{DAGGER}"  # marks an answer that comes from a thread, and no handler


def prior_rows(images: int) -> Iterator[Row]:
    features, method = synthetic(images)
    app, size = wb.prior(features, method), f"{images:,} x {CLASSES}"
    for handler, act in (
        ("tau", chosen(app.tau, (0.5, 1.5))),
        ("temperature", chosen(app.temperature, (0.5, 1.5))),
        ("tau-norm", chosen(app.tau_norm, (0.5, 1.0))),
        ("classes to come", chosen(app.target, ("reversed", "test", "training", "balanced"))),
        ("logits reflect", chosen(app.source, ("balanced", "training"))),
        ("reset", lambda n: app.set(tau=2.0, target="test") if n % 2 else app.reset.click()),
    ):
        yield "prior", handler, size, timed(act)


def compare_rows(images: int, root: Path) -> Iterator[Row]:
    one, rng = synthetic(images)[0], np.random.default_rng(1)
    assert one.predicted is not None
    moved = np.where(rng.random(images) < 0.2, rng.integers(CLASSES, size=images), one.predicted)
    app, size = wb.compare({"one": one, "two": replace(one, predicted=moved)}, files(one, root)), f"{images:,} images"

    def settle() -> None:
        for work in (app.work, app.map.work, app.changed.pictured.work):
            work.wait(600)

    settle()
    if images == MATRIX:  # of more the neighbours take minutes, in a thread
        app.map.start.click()
        settle()
        yield "compare", "map *", size, timed(chosen(app.map.method, ("lda", "pca")), settle)
    for handler, act in (
        ("click a group", picked(app.bars, ("few", "many", "medium", "all"))),
        ("click a class", picked(app.dots, range(8))),
        ("search a class", chosen(app.search, one.classes.names[8:16])),
        ("clear", lambda _: app.changed.clear.click()),
        ("fixed or broken", chosen(app.changed.kind, ("broken", "fixed"))),
        ("click an image", lambda n: setattr(app.changed.tiles, "active", n)),
        ("mean of classes or share of images *", chosen(app.weighing, (True, False))),
        ("first run *", chosen(app.first, ("two", "one"))),
        ("runs shown *", chosen(app.shown, (["two"], ["one", "two"]))),
    ):
        yield "compare", handler, size, timed(act, settle)


def distances_rows(root: Path) -> Iterator[Row]:
    test = synthetic(MANY, seed=0)[0]
    train = synthetic(int(test.classes.counts.sum()), seed=1, split="train")[0]
    train = replace(train, ids=np.array([f"train/{i}" for i in range(len(train))]))
    app, size = wb.distances(train, test, files(test, root)), f"{MANY:,} images"

    def settle() -> None:
        for work in (app.work, app.map.work, *(tiles.work for tiles in app.pair.pictured)):
            work.wait(600)

    settle()
    for handler, act in (
        ("draws or published", chosen(app.variant, ("published", "matched"))),
        ("click a class", picked(app.dots, range(8))),
        ("click the map", lambda n: setattr(app.map.heat, "picked", {"row": n, "column": n + 20, "n": n + 1})),
        ("search a class", chosen(app.pair.pickers[1], test.classes.names[40:48])),
        ("nearest", lambda _: app.pair.nearest.click()),
        ("colours *", chosen(app.map.range, ("seen", "fixed"))),
        ("order *", chosen(app.map.order, ("kind", "frequency"))),
        ("means of *", chosen(app.map.split, ("train", "test"))),
    ):
        yield "distances", handler, size, timed(act, settle)


def loss_bench_rows() -> Iterator[Row]:
    train, test = synthetic(MANY, seed=1, split="train")[0], synthetic(MANY, seed=0)[0]
    for size, app in (("248 points", wb.loss_bench()), (f"{MANY:,} images", wb.loss_bench(train, test))):
        if app.features is not None:
            app.set(data="features")
        app.work.wait(600)
        for handler, act in (
            ("loss, trained before", chosen(app.loss, ("cross_entropy", "logit_adjusted"))),
            ("knob *", lambda n, app=app: app.set("logit_adjusted", tau=0.5 + 0.05 * n)),
            ("seed *", chosen(app.draw, range(1, 9))),
        ):
            if "before" in handler:
                for name in ("cross_entropy", "logit_adjusted"):
                    app.loss.value = name
                    app.work.wait(600)
            yield "loss_bench", handler, size, timed(act, lambda app=app: app.work.wait(600))


def descriptions_rows(root: Path) -> Iterator[Row]:
    manifest = wb.Manifest.load("toybox_lt")
    text, tower = wb.load_text_tower("toybox_clip"), wb.load_backbone("toybox_clip")
    method = wb.create_method("hlc", tower, manifest.classes, text=text, texts=manifest.texts, visual="none").eval()
    few = wb.extract(method, wb.LongTailDataset(manifest, "test", per_class=20))
    rng = np.random.default_rng(0)
    rows = rng.integers(len(few), size=MANY)
    vectors = few.vectors[rows] + 0.3 * few.vectors.std() * rng.normal(size=(MANY, few.vectors.shape[1]))
    features = replace(
        few[rows[:1]], vectors=vectors.astype(np.float32), logits=few.logits[rows], predicted=few.predicted[rows],
        confidence=few.confidence[rows], labels=few.labels[rows], extras={}, source={"split": "test"},
        ids=np.array([f"test/{i:05d}.jpg" for i in range(MANY)]),
    )  # fmt: skip
    app = wb.descriptions(method, features, files(features, root), texts=manifest.texts, text=text)
    size = f"{MANY:,} images"

    def settle() -> None:
        for work in (app.work, app.images.pictured.work):
            work.wait(600)

    settle()
    name, names = app.features.classes.names[app.candidate], features.classes.names
    for handler, act in (
        ("images", chosen(app.images.set, ("all images", "wrong, truth among candidates", "truth is no candidate"))),
        ("search a class", chosen(app.images.search, names[8:16])),
        ("clear", lambda _: app.images.clear.click()),
        ("click an image", lambda n: setattr(app.images.tiles, "active", n)),
        ("click a candidate", lambda n: picked(app.bars, app.edit_log.edits.candidates[app.row].tolist())(n)),
        ("silence", lambda n: setattr(app.rows.lines[0].used, "value", n % 2 == 1)),
        ("weight", chosen(app.rows.lines[1].factor, (2.0, 4.0))),
        ("sentence *", lambda n: setattr(app.rows.lines[1].text, "value", f"It is a star of {n} rays.")),
        ("undo all edits", lambda n: app.weigh(name, 0, 2.0)._undo()),
    ):
        yield "descriptions", handler, size, timed(act, settle)


def prompts_rows(root: Path) -> Iterator[Row]:
    features, _ = synthetic(MANY)
    tower = wb.load_backbone("toybox_vit")
    method = wb.create_method("lpt", tower, features.classes).eval()
    rng = np.random.default_rng(0)
    m = method.pool_size[1]
    near = rng.normal(size=(MANY, m)) + 2 * (features.labels[:, None] % m == np.arange(m))
    index = np.argsort(-near, axis=1)[:, :2].copy()
    features = replace(features, extras={"prompt_index": index, "prompt_similarity": near.astype(np.float32)})
    app = wb.prompts(method, files(features, root), features)

    def settle() -> None:
        app.work.wait(600)  # without features the rest comes after it
        for work in (app.pictures, app.worth.work, app.looks.work):
            work.wait(600)

    settle()
    for handler, act in (
        ("click a bar *", picked(app.chart, [f"{p}.0.few" for p in range(8)])),
        ("class *", chosen(app.of, (3, "few", 7, "all"))),
        ("click an image, seen before", lambda n: setattr(app.tiles, "active", n % 2)),
        ("clear *", lambda _: app.clear.click()),
    ):
        if "seen before" in handler:
            app.show(prompt=int(index[0, 0]))
            settle()
            for n in range(2):
                act(n)
                settle()
        yield "prompts", handler, f"{MANY:,} images", timed(act, settle)
    images = wb.LongTailDataset(wb.Manifest.load("digits_lt"), "test", per_class=6)
    method = wb.create_method("lpt", wb.load_backbone("toybox_vit"), images.classes).eval()
    app = wb.prompts(method, images).show(prompt=0)
    settle()
    app.show(prompt=int(app.features.extras["prompt_index"][0, 0]))
    settle()
    app.worth.off.value = True
    settle()
    yield "prompts", "switch a prompt, cached", "toybox", timed(chosen(app.worth.off, (False, True)), settle)


def lens_rows() -> Iterator[Row]:
    images = wb.LongTailDataset(wb.Manifest.load("toybox_lt"), "test", per_class=2)
    tower = wb.load_backbone("toybox_vit")
    methods = {name: wb.create_method(name, tower, images.classes) for name in ("gnm_pt", "lt_dpt", "lpt")}
    app = wb.lens(methods, images)
    app.work.wait(600)
    size, last, settle = "toybox, 3 methods", app.block.max, lambda: app.work.wait(600)
    for handler, act in (
        ("block, seen before", chosen(app.block, (last - 1, last))),
        ("alpha *", chosen(app.alpha, [2.0 + n for n in range(8)])),
        ("head *", chosen(app.head, [head for _, head in app.head.options[::-1]])),
        ("image *", chosen(app.picker.kind, range(1, 9))),
        ("background *", chosen(app.picker.background, app.picker.background.options[:4])),
    ):
        if "before" in handler:
            for n in range(2):
                act(n)
                settle()
        yield "lens", handler, size, timed(act, settle)

    def seen(number: int) -> None:
        app.picker.kind.value = 10 + number
        app.work.wait(600)

    yield "lens", f"image, until all maps are there {ANSWER}", size, timed(seen)


def train_rows(root: Path) -> Iterator[Row]:
    manifest = wb.Manifest.load("digits_lt")
    train, val = (wb.LongTailDataset(manifest, split, per_class=6) for split in ("train", "val"))
    method = wb.create_method("linear_probe", wb.load_backbone("toybox_vit"), manifest.classes)
    stages = [replace(stage.shortened(2), batch_size=32) for stage in method.stages(manifest)]
    run = wb.fit(method, train, val, out=root / "runs" / "long", stages=stages)
    last, rng = run.metrics.iloc[-1].to_dict(), np.random.default_rng(0)
    noisy = [name for name in last if name not in ("stage", "epoch", "lr", "seconds")]
    table = [last | {"epoch": n} | {name: last[name] * rng.uniform(0.9, 1) for name in noisy} for n in range(EPOCHS)]
    run.write_metrics(table)
    shutil.copytree(run.path, root / "runs" / "other")
    app, size = wb.train(out=run.path), f"{EPOCHS} epochs"
    folders = (root / "runs" / "other", run.path)
    yield "train", "choose a run", size, timed(lambda n: setattr(app.list.runs, "value", str(folders[n % 2])))
    yield "train", "refresh", size, timed(lambda _: app.list.again.click())
    yield "train", "method of the form", size, timed(chosen(app.form.method, ("vpt", "lift", "lpt", "ballad")))
    yield "train", "learning rate of the form", size, timed(chosen(app.form.fields["lr"], ("0.1", "0.2")))
    curves, opened = Curves(), Run.load(run.path)

    def redraw(number: int) -> None:
        os.utime(run.path / "metrics.csv", (number, number))
        curves.show(opened, standing(opened))

    yield "train", "curves after an epoch", size, timed(redraw)
    yield "train", "curves between epochs, each second", size, timed(lambda _: curves.show(opened, standing(opened)))


def papers_rows(root: Path) -> Iterator[Row]:
    app = papers("ballad:T7", out=root / "papers")
    size = f"{len(app.entries.options)} entries"
    yield "papers", "choose an entry", size, timed(chosen(app.entries, ("hlc:T4", "lift:T21", "lpt:T16", "ballad:T7")))
    yield "papers", "paper", size, timed(chosen(app.paper, ("lift", "all")))
    yield "papers", "search", size, timed(chosen(app.search, ("vpt", "")))
    app.show("ballad:T7")
    yield "papers", "measure", size, timed(chosen(app.measure, ("few", "all")))
    yield "papers", "verdict", size, timed(chosen(app.verdict, ("holds", "all")))


APPS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "compare, 10,000": lambda root: compare_rows(MATRIX, root),
    "compare": lambda root: compare_rows(MANY, root),
    "prompts": prompts_rows,
    "lens": lambda _: lens_rows(),
    "distances": distances_rows,
    "train": train_rows,
    "loss_bench": lambda _: loss_bench_rows(),
    "prior, 10,000": lambda _: prior_rows(MATRIX),
    "prior": lambda _: prior_rows(MANY),
    "descriptions": descriptions_rows,
    "papers": papers_rows,
}


def explore_rows() -> Iterator[Row]:
    """Those of `tests/latency_explore.py`, where it is."""
    if importlib.util.find_spec("tests.latency_explore") is not None:
        yield from importlib.import_module("tests.latency_explore").rows()


def main() -> None:
    several: dict[str, Callable[[Path], Iterator[Row]]] = {"explore": lambda _: explore_rows(), **APPS}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("apps", nargs="*", help=f"of {'; '.join(several)}; all of them unless told")
    asked = parser.parse_args()
    comm.create_comm = Packed
    what = "ms of processor time" if os.environ.get("LATENCY_CLOCK") == "cpu" else "ms"
    print(f"| app | handler | size | {what} |\n| --- | --- | --- | ---: |", flush=True)
    above = 0
    for name in asked.apps or several:
        with tempfile.TemporaryDirectory() as folder:
            for app, handler, size, milliseconds in several[name](Path(folder)):
                above += milliseconds > LIMIT and ANSWER not in handler
                print(f"| {app} | {handler} | {size} | {milliseconds:.1f} |", flush=True)
    note = f"\\* begins work in a thread and returns. {ANSWER} until that answer is there, while the kernel is free."
    print(f"\n{note} {above} handlers above {LIMIT:.0f} ms.")


if __name__ == "__main__":
    main()
