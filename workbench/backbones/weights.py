"""Weight files of image towers: reading them without running code, recognising their layout, refusing the wrong ones.

Layouts: timm's own names; OpenAI's CLIP (`visual.conv1`, `visual.transformer.resblocks`), which open_clip shares;
open_clip around a timm tower (`visual.trunk`). Renaming is timm's `checkpoint_filter_fn`. Text towers in the same file
are left out.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from timm.models import byobnet, vision_transformer
from torch import Tensor, nn

from .tags import Tower, quickgelu_variant

logger = logging.getLogger(__name__)

PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".tar")
STEM_NAMES = {"patch_embed.proj.weight": "visual.conv1.weight", "pos_embed": "visual.positional_embedding"}
OPENAI_MARKS = {"input_resolution", "context_length", "vocab_size"}  # stored in OpenAI's files and in no others


def download(tower: Tower) -> Path:
    """The pretrained weights of a tag: in this package, or in the local hub cache, downloaded if not there yet."""
    if tower.packaged is not None:
        return tower.packaged
    from huggingface_hub import hf_hub_download

    reason: Exception | str = "timm records no download for this tag"
    if tower.hub is not None:
        try:
            return Path(hf_hub_download(*tower.hub))
        except (OSError, ValueError, RuntimeError) as error:  # offline, no such file, a proxy that answers otherwise
            reason = error
    raise FileNotFoundError(
        f"The pretrained weights of {tower.name} are not at hand and could not be downloaded ({reason}). Give a local "
        f"file, load_backbone({tower.name!r}, weights='model.safetensors'), or weights='random' for a tower that knows "
        "nothing."
    )


def file_sha256(path: Path, *, needed: str | None = None) -> str:
    """sha256 of a weight file; ValueError where it is not the one needed.

    A file of the hub cache is named by its hash, so a damaged download is refused here, too.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    expected = path.resolve().name
    if re.fullmatch("[0-9a-f]{64}", expected) and expected != digest:
        raise ValueError(f"{path} is damaged: sha256 {digest}, expected {expected}. Delete it and download it again.")
    if needed is not None and digest != needed:
        raise ValueError(
            f"{path} is not the weight file asked for: its sha256 is {digest}, needed {needed}. Restore the original "
            "file, or leave sha256 out to load this one."
        )
    return digest


def read_weights(path: Path) -> dict[str, Any]:
    """The tensors of a weight file by name (a few layouts store plain numbers beside them).

    Pickled files are read with `weights_only=True` and nothing else: a file that needs more would run code.
    """
    if path.suffix == ".safetensors":
        try:
            return dict(safetensors.torch.load_file(path))
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path} is not readable as safetensors ({error}). Copy or download it again.") from error
    if path.suffix not in PICKLED:
        raise ValueError(f"{path} is no weight file: give .safetensors (best) or one of {', '.join(PICKLED)}.")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise ValueError(
                    f"{path} is a TorchScript program, not a weight file (OpenAI publishes CLIP like this), and is not "
                    "executed. Use the same weights as .safetensors, from the hub repository of the timm or open_clip "
                    "model."
                )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file can make the unpickler fail in any way
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{path} is damaged or holds more than tensors, and is refused because loading it could run code "
            f"({reason}). Where you trust it, save only its tensors with safetensors.torch.save_file and give that "
            "file."
        ) from error
    return _unwrapped(content, path)


def load_weights(model: nn.Module, tower: Tower, path: Path) -> None:
    """Fill a model built on the meta device, float32, strictly. A CLIP ViT gets the `head` that the file has.

    Raises:
        ValueError: names or shapes differ (the first few and how many), values that are not finite, the wrong GELU.
    """
    state = read_weights(path)
    for prefix in ("module.", "model."):  # DataParallel; a saved Backbone
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    if isinstance(model, vision_transformer.VisionTransformer):
        check_activation(tower, state, path)
        converted, mismatched = _vit_names(model, state)
        _take_projection(model, tower, converted)
    else:
        converted, mismatched = _resnet_names(model, state), {}
    _compare(model, converted, mismatched, tower, path)
    broken = [name for name, value in converted.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise ValueError(f"{path} has values that are not finite in {_first(broken)}; find an undamaged file.")
    # clones: safetensors may hand out memory that is still mapped to the file
    ready = {name: (v.float() if v.is_floating_point() else v).contiguous().clone() for name, v in converted.items()}
    model.load_state_dict(ready, strict=True, assign=True)


def _unwrapped(content: Any, path: Path) -> dict[str, Any]:
    """The innermost mapping that holds tensors: training scripts store theirs under "state_dict" or "model"."""
    for _ in range(3):
        if isinstance(content, Mapping) and any(isinstance(value, Tensor) for value in content.values()):
            return {name: value for name, value in content.items() if isinstance(name, str)}
        inner = [key for key in ("state_dict", "model") if isinstance(content, Mapping) and key in content]
        if not inner:
            break
        content = content[inner[0]]
    found = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else type(content).__name__
    raise ValueError(f"{path} holds no tensors by name (found: {found or 'nothing'}). Save model.state_dict() instead.")


def _vit_names(model: Any, state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """timm's names, position embeddings brought to the model's grid, and what of the stem does not fit the model."""
    state = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if "class_embedding" in state and "conv1.weight" in state:  # the image tower alone
        state = {f"visual.{name}": value for name, value in state.items()}
    projection = state.get("visual.head.proj.weight")
    # timm would resample kernels and guess grids: a file of another patch size or width is the wrong file
    mismatched = {}
    for name, own in _stem(model).items():
        key = next((key for key in (name, STEM_NAMES[name], f"visual.trunk.{name}") if key in state), None)
        if key is None:
            continue
        value = state[key] if state[key].ndim == own.ndim else state[key].unsqueeze(0)
        prefix = 1 if "register_tokens" in state else own.shape[1] - math.prod(model.patch_embed.grid_size)
        square = name == "pos_embed" and value.ndim == 3 and _is_square(value.shape[1] - prefix)
        if value.shape != own.shape and not (square and value.shape[2] == own.shape[2]):
            mismatched[name] = f"{name} is {tuple(value.shape)}, needed {tuple(own.shape)}"
            del state[key]
    converted = vision_transformer.checkpoint_filter_fn(state, model)
    if projection is not None:
        converted["head.weight"] = projection
    unused = ("head.", "head_dist.", "pre_logits.", *(("attn_pool.",) if model.attn_pool is None else ()))
    keep = ("head.weight", "head.bias")
    return {k: v for k, v in converted.items() if k in keep or not k.startswith(unused)}, mismatched


def _stem(model: Any) -> dict[str, Tensor]:
    stem = {"patch_embed.proj.weight": model.patch_embed.proj.weight}
    return stem if model.pos_embed is None else {**stem, "pos_embed": model.pos_embed}


def _is_square(number: int) -> bool:
    return number > 0 and math.isqrt(number) ** 2 == number


def _resnet_names(model: Any, state: dict[str, Any]) -> dict[str, Tensor]:
    state = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if "attnpool.positional_embedding" in state:
        state = {f"visual.{name}": value for name, value in state.items()}
    converted: dict[str, Tensor] = byobnet.checkpoint_filter_fn(state, model)
    return converted


def _take_projection(model: Any, tower: Tower, state: dict[str, Tensor]) -> None:
    """Keep a CLIP projection as `model.head`; drop any other head, since every method brings its own classifier.

    timm stores the projection with a bias of zeros. A trained classifier has another bias.
    """
    weight, bias = state.pop("head.weight", None), state.pop("head.bias", None)
    is_projection = weight is not None and weight.ndim == 2 and weight.shape[1] == model.embed_dim
    if tower.joint_width is None or not is_projection or (bias is not None and bias.any()):
        if weight is not None:
            logger.info("dropped a classifier %s of the weight file", tuple(weight.shape))
        if tower.joint_width is not None:
            logger.warning("the weight file has no CLIP projection: %s is loaded without a joint space", tower.name)
        model.head = nn.Identity()
        return
    assert weight is not None
    model.head = nn.Linear(model.embed_dim, weight.shape[0], bias=False, device="meta")
    state["head.weight"] = weight


def check_activation(tower: Tower, state: Mapping[str, Any], path: Path) -> None:
    """OpenAI's CLIP was trained with QuickGELU, which no tensor tells; with exact GELU every feature is off."""
    quick = quickgelu_variant(tower.architecture)
    if not quick:
        return
    if state.keys() >= OPENAI_MARKS:
        raise ValueError(
            f"{path} is a CLIP of OpenAI, trained with QuickGELU, but {tower.architecture} computes exact GELU. Use "
            f"{quick}.openai."
        )
    if not tower.tag_known:
        warnings.warn(
            f"{tower.architecture} computes exact GELU and {path.name} does not say what it was trained with. For "
            "weights of "
            f"OpenAI use {quick}; otherwise name the tag, {tower.architecture}.<tag>, to silence this.",
            stacklevel=4,
        )


def _compare(model: nn.Module, state: dict[str, Tensor], mismatched: dict[str, str], tower: Tower, path: Path) -> None:
    own = model.state_dict()
    missing = [name for name in own if name not in state and name not in mismatched]
    unknown = [name for name in state if name not in own]
    shapes = [*mismatched.values()]
    shapes += [
        f"{name} is {tuple(state[name].shape)}, needed {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    problems = {"missing": missing, "not in the model": unknown, "of another shape": shapes}
    if any(problems.values()):
        told = "; ".join(f"{len(names)} {kind}: {_first(names)}" for kind, names in problems.items() if names)
        raise ValueError(
            f"{path} does not fit {tower.architecture}, which has {len(own)} tensors ({told}). Give the name of the "
            "architecture the file was made for, or the file of this one."
        )


def _first(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
