"""Which text tower belongs to an image tower: its sizes, and the record under which open_clip finds its weights.

Image towers carry timm's names here. timm and open_clip agree on the hub repository of most weights, so their records
find each other by it; where open_clip reads another repository, ALIASES says which of its tags is the timm tag (timm
0.9 still named those repositories).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .tags import Tower

# timm architecture -> open_clip model with the same text tower; "-quickgelu" as the weights were trained
MODELS = {
    "resnet50_clip": "RN50-quickgelu",
    "resnet101_clip": "RN101-quickgelu",
    "resnet50x4_clip": "RN50x4-quickgelu",
    "resnet50x16_clip": "RN50x16-quickgelu",
    "resnet50x64_clip": "RN50x64-quickgelu",
    "vit_base_patch32_clip_224": "ViT-B-32",
    "vit_base_patch32_clip_quickgelu_224": "ViT-B-32-quickgelu",
    "vit_base_patch32_clip_256": "ViT-B-32-256",
    "vit_base_patch16_clip_224": "ViT-B-16",
    "vit_base_patch16_clip_quickgelu_224": "ViT-B-16-quickgelu",
    "vit_base_patch16_plus_clip_240": "ViT-B-16-plus-240",
    "vit_large_patch14_clip_224": "ViT-L-14",
    "vit_large_patch14_clip_quickgelu_224": "ViT-L-14-quickgelu",
    "vit_large_patch14_clip_quickgelu_336": "ViT-L-14-336-quickgelu",
    "vit_huge_patch14_clip_224": "ViT-H-14",
    "vit_huge_patch14_clip_quickgelu_224": "ViT-H-14-quickgelu",
    "vit_huge_patch14_clip_quickgelu_378": "ViT-H-14-378-quickgelu",
    "vit_giant_patch14_clip_224": "ViT-g-14",
    "vit_gigantic_patch14_clip_224": "ViT-bigG-14",
    "vit_gigantic_patch14_clip_quickgelu_224": "ViT-bigG-14-quickgelu",
}

# TinyCLIP (Wu et al., ICCV 2023, arXiv 2309.12314), which open_clip does not list: width and layers of the text tower
TINYCLIP = {
    "vit_xsmall_patch16_clip_224": (256, 3),
    "vit_medium_patch16_clip_224": (512, 6),
    "vit_medium_patch32_clip_224": (512, 6),
    "vit_betwixt_patch32_clip_224": (512, 9),
}

# timm tag -> open_clip tags, of which the first that the model has is meant
ALIASES = {
    "laion2b": (
        "laion2b_s34b_b79k", "laion2b_s32b_b82k", "laion2b_s32b_b79k", "laion2b_s12b_b42k", "laion2b_s39b_b160k",
        "laion2b_s34b_b88k",
    ),
    "datacompxl": ("datacomp_xl_s13b_b90k", "datacomp_s34b_b86k"),
    "dfn2b": ("dfn2b",),
    "dfn2b_s39b": ("dfn2b_s39b",),
    "dfn5b": ("dfn5b",),
}  # fmt: skip

OTHER_TEXT = ("metaclip2_worldwide", "apple_mclip2_dfndr2b")  # tags trained with another tokenizer or text architecture


@dataclass(frozen=True)
class TextSizes:
    """Sizes of a CLIP text transformer."""

    width: int
    heads: int
    layers: int
    joint_width: int  # E
    context_length: int = 77  # tokens, start and end included
    vocab_size: int = 49408
    quick_gelu: bool = False


def has_text_tower(tower: Tower) -> bool:
    known = tower.architecture in MODELS or tower.architecture in TINYCLIP
    return known and tower.joint_width is not None and tower.tag not in OTHER_TEXT


def text_sizes(tower: Tower) -> TextSizes:
    """The sizes of the text tower trained together with this image tower."""
    if tower.architecture in TINYCLIP:
        width, layers = TINYCLIP[tower.architecture]
        return TextSizes(width=width, heads=width // 64, layers=layers, joint_width=512)
    import open_clip

    config = open_clip.get_model_config(MODELS[tower.architecture])
    return TextSizes(**config["text_cfg"], joint_width=config["embed_dim"], quick_gelu=config.get("quick_gelu", False))


def open_clip_record(tower: Tower) -> dict[str, Any] | None:
    """What open_clip's downloader needs for the weights of this tag; None where open_clip has none of them."""
    import open_clip

    model = MODELS.get(tower.architecture)
    if model is None:
        return None
    records = {tag: open_clip.get_pretrained_cfg(model, tag) for tag in open_clip.list_pretrained_tags_by_model(model)}
    same = [r for r in records.values() if tower.hub is not None and r.get("hf_hub", "").rstrip("/") == tower.hub[0]]
    found: list[dict[str, Any]] = [*same, *(records[tag] for tag in ALIASES.get(tower.tag, ()) if tag in records)]
    # an alias whose weights were trained with the other GELU would be wrong in every feature
    return next((r for r in found if bool(r.get("quick_gelu")) == model.endswith("-quickgelu")), None)
