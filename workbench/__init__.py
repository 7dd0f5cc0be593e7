"""A workbench for long-tailed image recognition with foundation models.

Everything public is here and loaded on first use, so that `import workbench as wb` takes a moment:

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
    from workbench.diagnostics.accuracy import group_report as group_report
    from workbench.diagnostics.adapter_scales import adapter_scales as adapter_scales
    from workbench.diagnostics.attention_rollout import attention_rollout as attention_rollout
    from workbench.diagnostics.background_reliance import background_reliance as background_reliance
    from workbench.diagnostics.calibration import calibration as calibration
    from workbench.diagnostics.candidate_confusion import candidate_confusion as candidate_confusion
    from workbench.diagnostics.changes import changes as changes
    from workbench.diagnostics.confusable_pairs import confusable_pairs as confusable_pairs
    from workbench.diagnostics.convergence import convergence as convergence
    from workbench.diagnostics.cost import cost as cost
    from workbench.diagnostics.cost_against_accuracy import cost_against_accuracy as cost_against_accuracy
    from workbench.diagnostics.description_matches import description_matches as description_matches
    from workbench.diagnostics.description_weights import description_weights as description_weights
    from workbench.diagnostics.ensemble_curve import expansion_curve as expansion_curve
    from workbench.diagnostics.error_flow import error_flow as error_flow
    from workbench.diagnostics.faithfulness import faithfulness as faithfulness
    from workbench.diagnostics.grad_cam import grad_cam as grad_cam
    from workbench.diagnostics.intra_class import intra_class_distances as intra_class_distances
    from workbench.diagnostics.knn import knn_accuracy as knn_accuracy
    from workbench.diagnostics.localisation import localisation as localisation
    from workbench.diagnostics.modality_gap import modality_gap as modality_gap
    from workbench.diagnostics.projection import project as project
    from workbench.diagnostics.prompt_ablation import ablate_prompts as ablate_prompts
    from workbench.diagnostics.prompt_matching import prompt_matching as prompt_matching
    from workbench.diagnostics.saliency import saliency_maps as saliency_maps
    from workbench.diagnostics.sanity_check import sanity_check as sanity_check
    from workbench.diagnostics.separability import separability as separability
    from workbench.diagnostics.similarity import class_similarity as class_similarity
    from workbench.diagnostics.suspicious import suspicious as suspicious
    from workbench.diagnostics.taxonomy_levels import taxonomy_levels as taxonomy_levels
    from workbench.diagnostics.topk import topk as topk
    from workbench.diagnostics.weight_norms import weight_norms as weight_norms
    from workbench.features import Features as Features
    from workbench.features import extract as extract
    from workbench.methods import METHODS as METHODS
    from workbench.methods import Stage as Stage
    from workbench.methods import create_method as create_method
    from workbench.progress import Bars as Bars
    from workbench.runs import Run as Run
    from workbench.training import fit as fit
    from workbench.training import import_weights as import_weights
    from workbench.training import resume as resume

__version__ = "0.1.0"

_HOMES = {
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
    "workbench.diagnostics.accuracy": ("group_report",),
    "workbench.diagnostics.adapter_scales": ("adapter_scales",),
    "workbench.diagnostics.attention_rollout": ("attention_rollout",),
    "workbench.diagnostics.background_reliance": ("background_reliance",),
    "workbench.diagnostics.calibration": ("calibration",),
    "workbench.diagnostics.candidate_confusion": ("candidate_confusion",),
    "workbench.diagnostics.changes": ("changes",),
    "workbench.diagnostics.confusable_pairs": ("confusable_pairs",),
    "workbench.diagnostics.convergence": ("convergence",),
    "workbench.diagnostics.cost": ("cost",),
    "workbench.diagnostics.cost_against_accuracy": ("cost_against_accuracy",),
    "workbench.diagnostics.description_matches": ("description_matches",),
    "workbench.diagnostics.description_weights": ("description_weights",),
    "workbench.diagnostics.ensemble_curve": ("expansion_curve",),
    "workbench.diagnostics.error_flow": ("error_flow",),
    "workbench.diagnostics.faithfulness": ("faithfulness",),
    "workbench.diagnostics.grad_cam": ("grad_cam",),
    "workbench.diagnostics.intra_class": ("intra_class_distances",),
    "workbench.diagnostics.knn": ("knn_accuracy",),
    "workbench.diagnostics.localisation": ("localisation",),
    "workbench.diagnostics.modality_gap": ("modality_gap",),
    "workbench.diagnostics.projection": ("project",),
    "workbench.diagnostics.prompt_ablation": ("ablate_prompts",),
    "workbench.diagnostics.prompt_matching": ("prompt_matching",),
    "workbench.diagnostics.saliency": ("saliency_maps",),
    "workbench.diagnostics.sanity_check": ("sanity_check",),
    "workbench.diagnostics.separability": ("separability",),
    "workbench.diagnostics.similarity": ("class_similarity",),
    "workbench.diagnostics.suspicious": ("suspicious",),
    "workbench.diagnostics.taxonomy_levels": ("taxonomy_levels",),
    "workbench.diagnostics.topk": ("topk",),
    "workbench.diagnostics.weight_norms": ("weight_norms",),
    "workbench.features": ("Features", "extract"),
    "workbench.methods": ("METHODS", "Stage", "create_method"),
    "workbench.progress": ("Bars",),
    "workbench.runs": ("Run",),
    "workbench.training": ("fit", "import_weights", "resume"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'workbench' has no attribute {name!r}; it offers {', '.join(sorted(_HOME_OF))}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOME_OF, "__version__"])
