"""Every app with one class, whose name is HTML, and with image files that are gone: words, no blank, no markup."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import pytest
from PIL import Image

import workbench as wb
from workbench.apps.papers import papers
from workbench.apps.style import CodeLine, Kernel
from workbench.apps.work import Work
from workbench.data import import_dataset

NAME = "<b onmouseover=alert(1)>star"  # what a folder may be called


class World:
    """A data set of photographs, and what was made of it before its files went away."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        rng = np.random.default_rng(0)
        for split in ("train", "val", "test"):
            for name in names:
                for number in range(4):
                    path = folder / "photos" / split / name / f"{number}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)
        self.photos = folder / "photos"
        import_dataset(self.photos, name="photos", out=folder)
        manifest = wb.Manifest.load(folder / "photos.toml")
        self.images = {split: wb.LongTailDataset(manifest, split, self.photos) for split in ("train", "test")}
        self.classes = manifest.classes
        tower = wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=32)
        self.lpt = wb.create_method("lpt", tower, self.classes, prompts=2, groups=4).eval()
        self.features = {split: wb.extract(self.lpt, part) for split, part in self.images.items()}
        described = {name: [f"{name} in view", f"{name} from afar"] for name in self.classes.names}
        clip, text = wb.load_backbone("toybox_clip"), wb.load_text_tower("toybox_clip")
        self.hlc = wb.create_method("hlc", clip, self.classes, text=text, texts=described, visual="none").eval()
        self.texts, self.told = described, wb.extract(self.hlc, self.images["test"])


APPS: dict[str, Callable[[World], Any]] = {
    "explore": lambda w: wb.explore(w.features["test"], w.images["test"], w.lpt),
    "compare": lambda w: wb.compare({NAME: w.features["test"], "b": w.told}, w.images["test"]),
    "prompts": lambda w: wb.prompts(w.lpt, w.images["test"], w.features["test"]),
    "lens": lambda w: wb.lens({NAME: w.lpt}, w.images["test"]),
    "distances": lambda w: wb.distances(w.features["train"], w.features["test"], w.images),
    "train": lambda w: wb.train("linear_probe", w.images["train"], out=w.photos.parent / "runs" / "one"),
    "loss_bench": lambda w: wb.loss_bench(w.features["train"], w.features["test"]).set(data="features"),
    "papers": lambda w: papers("lift:T6", out=w.photos.parent / "papers"),
    "prior": lambda w: wb.prior(w.features["test"], w.lpt),
    "descriptions": lambda w: wb.descriptions(w.hlc, w.told, w.images["test"], texts=w.texts),
}


def parts(widget: widgets.Widget) -> Iterator[widgets.Widget]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from parts(child)


def works(owner: Any, depth: int = 4) -> Iterator[Work]:
    """Whatever works in threads for an app, its parts, and theirs."""
    if isinstance(owner, Work):
        yield owner
    elif depth and isinstance(owner, list | tuple):
        for each in owner:
            yield from works(each, depth)
    elif depth and type(owner).__module__.startswith("workbench.apps"):
        for each in vars(owner).values():
            yield from works(each, depth - 1)


def settled(app: Any) -> None:
    """Until nothing of the app works any more; an answer may begin other work."""
    for _ in range(3):
        for work in list(works(app)):
            work.wait()


def words(app: Any) -> str:
    texts = [part.value for part in parts(app) if isinstance(part, widgets.HTML)]
    return unescape(" ".join(text for text in texts if not text.startswith("<style>")))


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("single"), (NAME,))


@pytest.fixture(scope="module")
def gone(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("gone"), (NAME, "moon", "sun"))
    shutil.rmtree(world.photos)
    return world


@pytest.mark.parametrize("name", wb.APPS)
@pytest.mark.parametrize("world", ["single", "gone"])
def test_an_app_opens_and_names_stay_text(world: str, name: str, request: pytest.FixtureRequest) -> None:
    app = APPS[name](request.getfixturevalue(world))
    settled(app)
    seen = list(parts(app))
    assert sum(isinstance(part, CodeLine) for part in seen) == sum(isinstance(part, Kernel) for part in seen) == 1
    for part in seen:
        if isinstance(part, widgets.HTML):
            assert "<b onmouseover" not in part.value, part.value
    assert "Traceback" not in re.sub("<details>.*?</details>", "", words(app), flags=re.DOTALL), "behind a word"
    app.close()


@pytest.mark.parametrize("name", ["compare", "explore", "prompts", "distances", "descriptions", "lens"])
def test_files_that_are_gone_are_named(name: str, gone: World) -> None:
    app = APPS[name](gone)
    settled(app)
    if name == "explore":
        app.select("label >= 0")
    elif name == "prompts":
        app.show(prompt=int(gone.features["test"].extras["prompt_index"][0, 0]))
    elif name == "descriptions":
        app.images.set.value = "all images"
    settled(app)
    assert re.search(r"photos\S* is not there|No such file|cannot be read", words(app)), words(app)
