"""Tiny towers with recorded weights, for tests against golden values."""

from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from workbench.backbones import ViT


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


def recorded_tower(case: Any, **other: Any) -> ViT:
    """The tower of a `backbone_*` case, or of any case whose arrays hold its parameters, with its settings given."""
    s = {"style": "timm", "ln_eps": 1e-6, "has_norm_pre": False, **case.settings, **other}
    model = VisionTransformer(
        img_size=s["img"],
        patch_size=s["patch"],
        embed_dim=s["dim"],
        depth=s["depth"],
        num_heads=s["heads"],
        num_classes=0,
        pre_norm=s["has_norm_pre"],
        norm_layer=partial(nn.LayerNorm, eps=s["ln_eps"]),
        act_layer=QuickGELU if s["style"] == "clip" else nn.GELU,
    )
    state = {key.removeprefix("param."): case.tensor(key) for key in case.arrays if key.startswith("param.")}
    if "visual_proj" in state:
        model.head = nn.Linear(*state["visual_proj"].shape, bias=False)
        state["head.weight"] = state.pop("visual_proj").T
    model.double().load_state_dict(state, strict=True)
    return ViT(model, name=s["style"])
