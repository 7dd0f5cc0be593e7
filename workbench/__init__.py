"""A workbench for long-tailed image recognition with foundation models.

Everything public is here and loaded on first use, so that `import workbench as wb` takes a moment. Diagnostics
(`wb.separability`, ...) are found by the registry `workbench.diagnostics.DIAGNOSTICS`:

    manifest = wb.Manifest.load("toybox_lt")
    train = wb.LongTailDataset(manifest, "train")
    backbone, text = wb.load_backbone("toybox_clip"), wb.load_text_tower("toybox_clip")
    method = wb.create_method("lift", backbone, manifest.classes, text=text)
    run = wb.fit(method, train, out="runs/lift")
    features = wb.extract(run.method(), wb.LongTailDataset(manifest, "test"))
    print(wb.group_report(features))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.apps.compare import compare as compare
    from workbench.apps.descriptions import descriptions as descriptions
    from workbench.apps.distances import distances as distances
    from workbench.apps.explore import explore as explore
    from workbench.apps.lens import lens as lens
    from workbench.apps.loss_bench import loss_bench as loss_bench
    from workbench.apps.prior import prior as prior
    from workbench.apps.prompts import prompts as prompts
    from workbench.apps.train import train as train
    from workbench.backbones import load_backbone as load_backbone
    from workbench.backbones import load_class_vectors as load_class_vectors
    from workbench.backbones import load_text_tower as load_text_tower
    from workbench.data import Classes as Classes
    from workbench.data import GroupRule as GroupRule
    from workbench.data import LongTailDataset as LongTailDataset
    from workbench.data import Manifest as Manifest
    from workbench.data import Preprocessing as Preprocessing
    from workbench.data import import_dataset as import_dataset
    from workbench.data import import_texts as import_texts
    from workbench.features import Features as Features
    from workbench.features import extract as extract
    from workbench.methods import METHODS as METHODS
    from workbench.methods import Stage as Stage
    from workbench.methods import create_method as create_method
    from workbench.papers import reproduce as reproduce
    from workbench.papers.doctor import doctor as doctor
    from workbench.progress import Bars as Bars
    from workbench.runs import Run as Run
    from workbench.training import fit as fit
    from workbench.training import import_weights as import_weights
    from workbench.training import resume as resume

__version__ = "0.1.0"

APPS = ("compare", "descriptions", "distances", "explore", "lens", "loss_bench", "papers", "prior", "prompts", "train")
_HOMES = {
    **{f"workbench.apps.{name}": (name,) for name in APPS if name != "papers"},  # wb.papers is the package of entries
    "workbench.backbones": ("load_backbone", "load_class_vectors", "load_text_tower"),
    "workbench.data": (
        "Classes",
        "GroupRule",
        "LongTailDataset",
        "Manifest",
        "Preprocessing",
        "import_dataset",
        "import_texts",
    ),
    "workbench.features": ("Features", "extract"),
    "workbench.methods": ("METHODS", "Stage", "create_method"),
    "workbench.papers": ("reproduce",),
    "workbench.papers.doctor": ("doctor",),
    "workbench.progress": ("Bars",),
    "workbench.runs": ("Run",),
    "workbench.training": ("fit", "import_weights", "resume"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def _home_of(name: str) -> str | None:
    """The module that a public name is in."""
    if name in _HOME_OF:
        return _HOME_OF[name]
    from workbench.diagnostics.registry import DIAGNOSTICS

    return f"workbench.diagnostics.{DIAGNOSTICS[name]}" if name in DIAGNOSTICS else None


def __getattr__(name: str) -> Any:
    home = None if name.startswith("_") else _home_of(name)
    if home is None:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}; it offers {', '.join(__dir__())}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    from workbench.diagnostics.registry import DIAGNOSTICS

    return sorted([*_HOME_OF, *DIAGNOSTICS, "__version__"])
