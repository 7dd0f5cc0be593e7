"""Tiny towers with recorded weights, for tests against golden values, and images for them."""

from functools import partial
from typing import Any

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

import workbench as wb
from workbench.backbones import TextTower, ViT
from workbench.methods import Method, method_class


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


READ_TEXT = ("ballad", "coop", "hlc", "zero_shot")  # methods that are nothing without a text tower

# parameters of the methods that some cases record beside their tower's
NOT_OF_THE_TOWER = ("peft.", "head", "foreground", "background", "keys")


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
    state = {name: tensor for name, tensor in _parameters(case, "").items() if not name.startswith(NOT_OF_THE_TOWER)}
    if "visual_proj" in state:
        model.head = nn.Linear(*state["visual_proj"].shape, bias=False)
        state["head.weight"] = state.pop("visual_proj").T
    model.double().load_state_dict(state, strict=True)
    return ViT(model, name=s["style"])


def small_clip_vit(width: int, heads: int, joint_width: int, activation: type[nn.Module]) -> VisionTransformer:
    """A CLIP image tower of timm with two blocks, for images of 32 pixels, its projection in `head`."""
    model = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=width, depth=2, num_heads=heads, num_classes=0, pre_norm=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-5), act_layer=activation,
    )  # fmt: skip
    model.head = nn.Linear(width, joint_width, bias=False)
    return model.eval()


def small_clip_method(name: str, classes: wb.Classes) -> Method:
    """A method that reads class names, with its `small` options, on a CLIP with two blocks and random text."""
    from open_clip.tokenizer import SimpleTokenizer
    from open_clip.transformer import TextTransformer

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        image = ViT(small_clip_vit(24, 2, 8, nn.GELU), name="clip")
        model = TextTransformer(context_length=32, width=16, heads=2, layers=1, output_dim=8)
    text = TextTower(model, SimpleTokenizer(context_length=32), name="small", width=8)
    return wb.create_method(name, image, classes, text=text, **method_class(name).small())


def recorded_clip_image_tower(case: Any) -> ViT:
    """The image tower of the case `clip_zeroshot`, float64, through timm's conversion of OpenAI's names."""
    s = case.settings
    model = small_clip_vit(s["width"], s["vision_heads"], s["embed"], QuickGELU).double()
    converted = checkpoint_filter_fn(_parameters(case, "visual."), model)
    converted.pop("head.bias", None)  # timm's zeros
    model.load_state_dict(converted, strict=True)
    return ViT(model, name="recorded")


def recorded_clip_text_tower(case: Any) -> TextTower:
    """The text tower of the case `clip_zeroshot`, float64; the sentence "2" has the recorded token row 2."""
    from open_clip.transformer import QuickGELU, TextTransformer

    s = case.settings
    model = TextTransformer(
        context_length=s["ctx"], vocab_size=s["vocab"], width=s["tw"], heads=s["text_heads"], layers=s["tl"],
        output_dim=s["embed"], act_layer=QuickGELU,
    ).double()  # fmt: skip
    parameters = _parameters(case, "")
    model.load_state_dict({name: parameters[name] for name in model.state_dict()}, strict=True)
    rows, scale = case.tensor("in.tokens"), float(parameters["logit_scale"].exp())
    return TextTower(
        model, lambda names: rows[[int(name) for name in names]], name="recorded", width=s["embed"], logit_scale=scale
    )


def _parameters(case: Any, prefix: str) -> dict[str, Tensor]:
    start = f"param.{prefix}"
    return {key.removeprefix("param."): case.tensor(key) for key in case.arrays if key.startswith(start)}


class Photos(torch.utils.data.Dataset):
    """Noise of the classes 0, 0, ..., 1, 1, ...: what `prepare` needs of a data set."""

    def __init__(self, num_classes: int, per_class: int) -> None:
        self.labels = np.repeat(np.arange(num_classes), per_class)

    def with_preprocessing(self, preprocessing: Any) -> "Photos":
        return self

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(i)), int(self.labels[i])
