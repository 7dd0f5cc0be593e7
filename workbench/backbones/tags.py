"""Which weights a name means: pinned tags, aliases, and the facts that timm records about a tag.

timm's default tag of an architecture changes between versions (`vit_base_patch16_224` moved from augreg to augreg2), so
a default is never used: a name has its tag, or its pin stands in the table below, or the error lists the tags.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from timm.models import get_arch_pretrained_cfgs, model_entrypoint

SUPPORTED = (
    "Supported are timm's VisionTransformer with class token or average pooling, for example "
    "vit_base_patch16_224.augreg_in21k, vit_base_patch16_clip_quickgelu_224.openai or "
    "vit_small_patch14_dinov2.lvd142m, and the CLIP ResNets with attention pooling, for example resnet50_clip.openai. "
    "toybox_vit and toybox_clip come with this package."
)

# Architecture -> tag that the name alone means here.
PINS = {
    # timm 0.6.12, which LIFT's IN21K results use: pretrained on ImageNet-21k, then fine-tuned on ImageNet-1k
    "vit_tiny_patch16_224": "augreg_in21k_ft_in1k",
    "vit_small_patch16_224": "augreg_in21k_ft_in1k",
    "vit_base_patch16_224": "augreg_in21k_ft_in1k",
    "vit_large_patch16_224": "augreg_in21k_ft_in1k",
    # OpenAI trained with QuickGELU: only these variants compute what OpenAI's code computes
    "vit_base_patch32_clip_quickgelu_224": "openai",
    "vit_base_patch16_clip_quickgelu_224": "openai",
    "vit_large_patch14_clip_quickgelu_224": "openai",
    "vit_large_patch14_clip_quickgelu_336": "openai",
    "resnet50_clip": "openai",
    "resnet101_clip": "openai",
    "resnet50x4_clip": "openai",
    "resnet50x16_clip": "openai",
    "resnet50x64_clip": "openai",
}

# Towers of our own -> E; they lie in this package and timm does not know them.
TOYBOX: dict[str, int | None] = {"toybox_vit": None, "toybox_clip": 64}

CLIP_RESNET = re.compile(r"resnet\d+(x\d+)?_clip")

Channels = tuple[float, float, float]
Normalisation = tuple[Channels, Channels]  # mean and std per channel, for pixels in [0, 1]


@dataclass(frozen=True)
class Tower:
    """One architecture with the facts of one tag."""

    architecture: str
    tag: str  # empty where timm knows the architecture but no weights
    tag_known: bool  # False: a local file under a name without tag; `tag` only supplied the facts below
    kind: str  # "vit" | "resnet"
    input_size: int
    normalisation: Normalisation
    interpolation: str
    joint_width: int | None  # E of a CLIP tower, None for the others and for CLIP towers fine-tuned on labels
    hub: tuple[str, str] | None  # repository and file that hold the pretrained weights
    packaged: Path | None = None  # the file of pretrained weights that comes with this package

    @property
    def name(self) -> str:
        return f"{self.architecture}.{self.tag}" if self.tag else self.architecture


def find_tower(name: str, *, tag_needed: bool, from_file: bool) -> Tower:
    """The tower a name means.

    Args:
        name: architecture, or architecture.tag, or "..._in21k" of older timm versions.
        tag_needed: pretrained weights are wanted, so the tag must be known.
        from_file: weights come from a file, so without a tag all tags must at least agree on the preprocessing.
    """
    if name in TOYBOX:
        return _toybox(name, from_file=from_file)
    architecture, _, tag = name.partition(".")
    if not tag and architecture.endswith("_in21k"):  # names of timm before 0.8, as used by LPT and GNM-PT
        architecture, tag = architecture.removesuffix("_in21k"), "augreg_in21k"
    _refuse_unknown(name, architecture)
    configs = {key.partition(".")[2]: config for key, config in get_arch_pretrained_cfgs(architecture).items()}
    known = True
    if not tag:
        tag = PINS.get(architecture, "")
        known = bool(tag) and not from_file
        if not tag and tag_needed and not any(config.hf_hub_id for config in configs.values()):
            raise ValueError(f"timm has no pretrained weights of {name}; give a local file, or weights='random'.")
        if not tag and tag_needed:
            raise ValueError(
                f"{name!r} names no weights: always pin the tag, since timm's default changes between versions. "
                f"Choose one of {_listing(architecture, configs)}."
            )
        tag = tag or _representative(name, configs, from_file)
    if tag not in configs:
        raise ValueError(f"{name!r} has no tag {tag!r}. Choose one of {_listing(architecture, configs)}.")
    quick = quickgelu_variant(architecture)
    if f"{quick}.{tag}" in _names(quick):
        raise ValueError(
            f"The weights {tag!r} were trained with QuickGELU, but {architecture} computes exact GELU, which silently "
            f"changes every feature. Use {quick}.{tag}."
        )
    config = configs[tag]
    clip = "_clip" in architecture and "_ft_" not in tag
    return Tower(
        architecture=architecture,
        tag=tag,
        tag_known=known,
        kind="resnet" if CLIP_RESNET.fullmatch(architecture) else "vit",
        input_size=config.input_size[-1],
        normalisation=(_channels(config.mean), _channels(config.std)),
        interpolation=config.interpolation,
        joint_width=(config.num_classes or None) if clip else None,
        hub=(config.hf_hub_id, config.hf_hub_filename or "model.safetensors") if config.hf_hub_id else None,
    )


def _toybox(name: str, *, from_file: bool) -> Tower:
    return Tower(
        architecture=name,
        tag="",
        tag_known=not from_file,
        kind="vit",
        input_size=56,
        normalisation=((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        interpolation="bicubic",
        joint_width=TOYBOX[name],
        hub=None,
        packaged=Path(__file__).parent / "toybox" / f"{name}.safetensors",
    )


def _channels(values: tuple[float, ...]) -> Channels:
    red, green, blue = values
    return red, green, blue


def _refuse_unknown(name: str, architecture: str) -> None:
    if not timm.is_model(architecture):
        known = {*timm.list_models("vit_*"), *PINS, *TOYBOX}
        close = ", ".join(difflib.get_close_matches(architecture, sorted(known), n=3))
        raise ValueError(f"timm has no model {name!r}{close and '; did you mean ' + close}. {SUPPORTED}")
    is_vit = model_entrypoint(architecture).__module__ in ("timm.models.vision_transformer", "timm.models.deit")
    # FlexiViT and RADIO resize their position embeddings in ways of their own
    if not (is_vit or CLIP_RESNET.fullmatch(architecture)) or "flexi" in architecture or "radio" in architecture:
        raise ValueError(f"{name} is not supported. {SUPPORTED}")


def _representative(name: str, configs: dict[str, Any], from_file: bool) -> str:
    """A tag that stands for all pretraining tags of the architecture; for a file they must agree on preprocessing."""
    candidates = [tag for tag in configs if "_ft_" not in tag] or list(configs)
    facts = {tag: (configs[tag].mean, configs[tag].std, configs[tag].interpolation) for tag in candidates}
    if from_file and len(set(facts.values())) > 1:
        listing = "; ".join(f"{tag}: mean {mean[0]:.3g}, {mode}" for tag, (mean, _, mode) in facts.items())
        raise ValueError(
            f"{name!r} does not say how its images are normalised, and the weights of this architecture differ "
            f"({listing}). Add the tag the file belongs to."
        )
    return candidates[0]


def quickgelu_variant(architecture: str) -> str:
    """The same CLIP ViT with OpenAI's QuickGELU; empty where the architecture has it already, or is no CLIP ViT."""
    if "_clip_" not in architecture or "quickgelu" in architecture:
        return ""
    return architecture.replace("_clip_", "_clip_quickgelu_")


def _names(architecture: str) -> set[str]:
    return set(get_arch_pretrained_cfgs(architecture)) if timm.is_model(architecture) else set()


def _listing(architecture: str, configs: dict[str, Any]) -> str:
    quick = quickgelu_variant(architecture)
    refused = {name.partition(".")[2] for name in _names(quick)}
    offered = [tag for tag, config in configs.items() if config.hf_hub_id and tag not in refused]
    return ", ".join(f"{architecture}.{tag}" for tag in offered)
