"""Data sets: manifests, import, images, preprocessing and the order in which an epoch visits them.

Names are loaded on first use, so that reading a manifest needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .benchmarks import RULES as RULES
    from .benchmarks import benchmark_names as benchmark_names
    from .benchmarks import read_benchmark as read_benchmark
    from .cifar import cifar100_lt as cifar100_lt
    from .dataset import LongTailDataset as LongTailDataset
    from .dataset import first_of_each as first_of_each
    from .dataset import read_image as read_image
    from .importing import CheckReport as CheckReport
    from .importing import ImportReport as ImportReport
    from .importing import check_dataset as check_dataset
    from .importing import import_dataset as import_dataset
    from .listing import check_benchmark as check_benchmark
    from .listing import import_benchmark_folders as import_benchmark_folders
    from .manifest import Classes as Classes
    from .manifest import GroupRule as GroupRule
    from .manifest import Manifest as Manifest
    from .manifest import Split as Split
    from .manifest import exponential_counts as exponential_counts
    from .matching import match_classes as match_classes
    from .preprocessing import Preprocessing as Preprocessing
    from .preprocessing import default_expand as default_expand
    from .preprocessing import evaluation_preprocessing as evaluation_preprocessing
    from .preprocessing import training_preprocessing as training_preprocessing
    from .preprocessing import views_of as views_of
    from .sampling import SAMPLERS as SAMPLERS
    from .sampling import epoch_order as epoch_order
    from .scanning import Outcome as Outcome
    from .subsets import choose_classes as choose_classes
    from .subsets import digits_lt as digits_lt
    from .texts import TextsReport as TextsReport
    from .texts import import_texts as import_texts
    from .toybox_sets import toybox_corpus as toybox_corpus
    from .toybox_sets import toybox_descriptions as toybox_descriptions
    from .toybox_sets import toybox_lt as toybox_lt
    from .toybox_sets import toybox_sketch as toybox_sketch
    from .toybox_sets import toybox_upstream as toybox_upstream

_HOMES = {
    "RULES": "benchmarks",
    "benchmark_names": "benchmarks",
    "read_benchmark": "benchmarks",
    "cifar100_lt": "cifar",
    "LongTailDataset": "dataset",
    "first_of_each": "dataset",
    "read_image": "dataset",
    "CheckReport": "importing",
    "ImportReport": "importing",
    "check_dataset": "importing",
    "import_dataset": "importing",
    "check_benchmark": "listing",
    "import_benchmark_folders": "listing",
    "Classes": "manifest",
    "GroupRule": "manifest",
    "Manifest": "manifest",
    "Split": "manifest",
    "exponential_counts": "manifest",
    "match_classes": "matching",
    "Preprocessing": "preprocessing",
    "default_expand": "preprocessing",
    "evaluation_preprocessing": "preprocessing",
    "training_preprocessing": "preprocessing",
    "views_of": "preprocessing",
    "SAMPLERS": "sampling",
    "epoch_order": "sampling",
    "Outcome": "scanning",
    "digits_lt": "subsets",
    "choose_classes": "subsets",
    "TextsReport": "texts",
    "import_texts": "texts",
    "toybox_corpus": "toybox_sets",
    "toybox_descriptions": "toybox_sets",
    "toybox_lt": "toybox_sets",
    "toybox_sketch": "toybox_sets",
    "toybox_upstream": "toybox_sets",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(_HOMES)}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
