"""The app of a page of its own (`workbench dashboard`), with features and runs from files, or with a small example.

The examples are those of notebooks/apps in their fast mode: some classes of the toybox, few images, a minute at most.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from . import style

if TYPE_CHECKING:
    from workbench.data import LongTailDataset, Manifest
    from workbench.features import Features
    from workbench.methods import Method
    from workbench.runs import Run


@dataclass(frozen=True, kw_only=True)
class Given:
    """Names and paths, read when they are needed. `notes`: HTML of what is missing and can be done without."""

    features: Sequence[str] = ()  # files; of a run those in its folder
    runs: Sequence[str] = ()  # folders
    data: str | None = None  # name or path of a data set
    root: str | None = None  # folder of its images
    texts: str | None = None  # file of sentences
    folder: Path  # where examples are kept
    notes: list[str] = field(default_factory=list)

    @property
    def own(self) -> bool:
        return bool(self.features or self.runs)

    def run(self, number: int = 0) -> Run | None:
        from workbench.runs import Run

        return Run.load(self.runs[number]) if self.runs else None

    def method(self) -> Method | None:
        run = self.run()
        return None if run is None else run.method()

    def loaded(self, number: int = 0) -> Features:
        """The features file of this number."""
        from workbench.features import Features

        return Features.load(Path(self.features[number]).expanduser())

    def images(self, features: Features) -> LongTailDataset | None:
        """The data set that features were extracted from; None, and a note, where its images cannot be had."""
        try:
            return self.dataset(str(features.source.get("split", "test")), features)
        except (ValueError, OSError, KeyError) as error:
            if self.data or self.root:
                raise
            self.notes.append(style.state(f"No pictures: {error} (--data NAME, --root FOLDER.)", kind="missing"))
            return None

    def dataset(self, split: str, features: Features | None = None) -> LongTailDataset:
        import workbench as wb

        source = {} if features is None else features.source
        run, root, few = self.run(), self.root, source.get("per_class")
        if run is not None and self.data is None:
            return run.dataset(split, root=root, per_class=few)
        name = self.data or str(source["manifest"])
        if not self.data and Path(name).name != name:
            raise ValueError(f"the features name no data set but {name!a}.")  # a path that a stranger wrote
        return wb.LongTailDataset(wb.Manifest.load(name), split, root, per_class=few)

    # -- the example -----------------------------------------------------------------------------------------------

    def toybox(self, every: int = 6) -> Manifest:
        """Each so many-th class of the toybox's long-tailed world, from 300 training images to a few."""
        import workbench as wb
        from workbench.data import choose_classes

        chosen = choose_classes(wb.Manifest.load("toybox_lt"), range(0, 60, every))
        return wb.Manifest.load(chosen.save(self.folder / "data", overwrite=True))

    def trained(
        self, name: str, manifest: Manifest, *, tower: str = "toybox_vit", epochs: int, lr: float | None = None,
        per_class: int | None = None, **options: Any,
    ) -> Method:  # fmt: skip
        """A method trained briefly, once for all pages of this dashboard."""
        import workbench as wb

        sets = [wb.LongTailDataset(manifest, split, per_class=per_class) for split in ("train", "val")]
        method = wb.create_method(name, wb.load_backbone(tower), manifest.classes, **options)
        recipe = {"batch_size": 32, "warmup_epochs": 0} | ({} if lr is None else {"lr": lr})
        stages = [replace(stage.shortened(epochs), **recipe) for stage in method.stages(manifest)]
        return wb.fit(method, *sets, out=self.folder / name, stages=stages, existing="continue").method()


def _zero_shot(manifest: Manifest) -> Method:
    import workbench as wb

    text = wb.load_text_tower("toybox_clip")
    return wb.create_method("zero_shot", wb.load_backbone("toybox_clip"), manifest.classes, text=text)


def _explore(given: Given) -> Any:
    import workbench as wb

    from .explore import explore

    if given.own:
        features = given.loaded()
        return explore(features, given.images(features), given.method())
    images = wb.LongTailDataset(wb.Manifest.load("toybox_lt"), "test", per_class=10)
    method = _zero_shot(images.manifest)
    return explore(wb.extract(method, images), images, method)


def _compare(given: Given) -> Any:
    import workbench as wb

    from .compare import compare

    if given.own:
        several: dict[str, Features] = {}
        for file in (Path(each).expanduser().absolute() for each in given.features):
            name = file.parents[1].name if file.parent.name == "features" else file.stem
            number = sum(known == name or known.startswith(f"{name} (") for known in several)
            several[f"{name} ({number + 1})" if number else name] = wb.Features.load(file)
        return compare(several, given.images(next(iter(several.values()))))
    manifest = given.toybox()
    test = wb.LongTailDataset(manifest, "test", per_class=20)
    methods = {
        "lift": given.trained("lift", manifest, epochs=3, lr=0.02),
        "linear probe": given.trained("linear_probe", manifest, epochs=10, lr=0.1),
    }
    return compare({name: wb.extract(method, test, views="centre") for name, method in methods.items()}, test)


def _prompts(given: Given) -> Any:
    import workbench as wb

    from .prompts import prompts

    if (method := given.method()) is not None:
        features = given.loaded() if given.features else None
        return prompts(method, given.dataset("test", features), features)
    manifest = given.toybox()
    return prompts(
        given.trained("lpt", manifest, epochs=1, lr=0.04, per_class=12),
        wb.LongTailDataset(manifest, "test", per_class=12),
    )


def _lens(given: Given) -> Any:
    import workbench as wb

    from .lens import lens

    if given.own:
        runs = [given.run(number) for number in range(len(given.runs))]
        return lens({run.path.name: run for run in runs if run}, given.dataset("test"))
    manifest = given.toybox()
    methods = {name: given.trained(name, manifest, epochs=1, lr=0.01, per_class=12) for name in ("gnm_pt", "lt_dpt")}
    return lens(methods, wb.LongTailDataset(manifest, "test", per_class=12))


def _distances(given: Given) -> Any:
    import workbench as wb

    from .distances import distances

    if given.own:
        train, test = given.loaded(0), given.loaded(1)
        return distances(train, test, given.images(test))
    manifest = wb.Manifest.load("toybox_lt")
    images = {split: wb.LongTailDataset(manifest, split, per_class=10) for split in ("train", "test")}
    method = wb.create_method("linear_probe", wb.load_backbone("toybox_vit"), manifest.classes)
    train, test = (wb.extract(method, images[split], layer="backbone") for split in ("train", "test"))
    return distances(train, test, images)


def _train(given: Given) -> Any:
    from .train import train

    if given.runs:
        return train(out=given.runs[0])
    return train(train=given.data)


def _loss_bench(given: Given) -> Any:
    import workbench as wb

    from .loss_bench import loss_bench

    if given.own:
        return loss_bench(*(given.loaded(number) for number in range(len(given.features))))
    manifest = given.toybox()
    method = _zero_shot(manifest)
    images = [wb.LongTailDataset(manifest, split) for split in ("train", "val")]
    return loss_bench(*(wb.extract(method, each, layer="backbone") for each in images))


def _prior(given: Given) -> Any:
    import workbench as wb

    from .prior import prior

    if given.own:
        return prior(given.loaded(), given.method())
    manifest = given.toybox()
    method = given.trained("linear_probe", manifest, epochs=20, lr=0.1)
    return prior(wb.extract(method, wb.LongTailDataset(manifest, "test", per_class=20)), method)


def _descriptions(given: Given) -> Any:
    import workbench as wb
    from workbench.data import import_texts, toybox_corpus, toybox_descriptions

    from .descriptions import descriptions

    if (method := given.method()) is not None:
        features, file = given.loaded(), given.texts
        texts = None if file is None else import_texts(file, method.classes.names).texts
        return descriptions(method, features, given.images(features), texts=texts)
    manifest, text, texts = given.toybox(3), wb.load_text_tower("toybox_clip"), toybox_descriptions()[0]
    sentences = {"text": text, "texts": texts, "corpus": toybox_corpus(), "corpus_templates": None, "visual": "none"}
    method = given.trained("hlc", manifest, tower="toybox_clip", epochs=5, **sentences)
    test = wb.LongTailDataset(manifest, "test", per_class=15)
    return descriptions(method, wb.extract(method, test, views="centre"), test, texts=texts, text=text)


def _papers(given: Given) -> Any:
    from .papers import papers

    return papers()


OPENERS: dict[str, Callable[[Given], Any]] = {
    "explore": _explore,
    "compare": _compare,
    "prompts": _prompts,
    "lens": _lens,
    "distances": _distances,
    "train": _train,
    "loss_bench": _loss_bench,
    "prior": _prior,
    "descriptions": _descriptions,
    "papers": _papers,
}


def dashboard(app: str, *, here: str, folder: str, **given: Any) -> widgets.Widget:
    """An app by name, on a page without code; what goes wrong is a widget that says so.

    Args:
        app: a key of OPENERS.
        here: the folder that relative paths start from.
        folder: where an example may be stored; pages of one server share it.
        given: other fields of `Given`; nothing gives the example.
    """
    try:
        os.chdir(here)
        asked = Given(folder=Path(folder), **given)
        shown = OPENERS[app](asked)
        notes = [style.app("note", widgets.HTML(note)) for note in asked.notes]
        return widgets.VBox([*notes, shown]) if notes else shown
    except Exception as error:
        return style.app("broken", widgets.HTML(style.broken(error)))
