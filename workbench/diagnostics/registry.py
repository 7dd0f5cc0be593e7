"""The registry of diagnostics: where the function of each name is. A new diagnostic is one line here."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Result

# Module of each diagnostic, whose function has the diagnostic's name; `wb.NAME` is that function.
DIAGNOSTICS = {
    "ablate_prompts": "prompt_ablation",
    "adapter_scales": "adapter_scales",
    "attention_rollout": "attention_rollout",
    "background_reliance": "background_reliance",
    "calibration": "calibration",
    "candidate_confusion": "candidate_confusion",
    "changes": "changes",
    "class_similarity": "similarity",
    "confusable_pairs": "confusable_pairs",
    "convergence": "convergence",
    "cost": "cost",
    "cost_against_accuracy": "cost_against_accuracy",
    "description_matches": "description_matches",
    "description_weights": "description_weights",
    "domain_shift": "domain_shift",
    "drift": "drift",
    "error_flow": "error_flow",
    "expansion_curve": "ensemble_curve",
    "faithfulness": "faithfulness",
    "grad_cam": "grad_cam",
    "group_report": "accuracy",
    "intra_class_distances": "intra_class",
    "knn_accuracy": "knn",
    "localisation": "localisation",
    "modality_gap": "modality_gap",
    "project": "projection",
    "prompt_matching": "prompt_matching",
    "saliency_maps": "saliency",
    "sanity_check": "sanity_check",
    "separability": "separability",
    "suspicious": "suspicious",
    "sweep": "sweep",
    "taxonomy_levels": "taxonomy_levels",
    "topk": "topk",
    "weight_norms": "weight_norms",
}


def load_diagnostic(name: str) -> Callable[..., Result]:
    """The function that computes the diagnostic of this name."""
    if name not in DIAGNOSTICS:
        raise ValueError(
            f"diagnostic {name!r} is not known; choose one of {', '.join(DIAGNOSTICS)}. (A new one needs a line in "
            "workbench/diagnostics/registry.py.)"
        )
    return getattr(import_module(f"workbench.diagnostics.{DIAGNOSTICS[name]}"), name)
