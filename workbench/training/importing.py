"""A run made of weights that were trained elsewhere: the file that a method's authors released.

LPT: Dong et al., ICLR 2023, arXiv 2210.01033, DongSky/LPT (phase 2); what of its file becomes what is said in
`workbench.methods.lpt_release.from_released`. Nothing is trained: the run has no stages, no epochs and no val.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor

from workbench.backbones import Backbone
from workbench.backbones.weights import file_sha256, read_weights
from workbench.data import LongTailDataset, Manifest
from workbench.methods.base import rebuild_method
from workbench.runs import Run, write_tensors
from workbench.training.fit import run_config

# Method -> what turns its authors' tensors into (options, state, other tensors), and the tower they trained with.
RELEASED = {"lpt": ("workbench.methods.lpt_release:from_released", "vit_base_patch16_224.augreg_in21k")}
SAME_TOWER = 1e-3  # relative distance of two copies of a tensor: half precision costs 2e-4, fine-tuning moves it more


def import_weights(
    name: str,
    file: str | Path,
    backbone: Backbone,
    manifest: Manifest,
    *,
    out: str | Path,
    root: str | Path | None = None,
) -> Run:
    """A finished run of weights that the method's authors released; it opens like one that was trained here.

    Args:
        name: of the method; "lpt" is the only one with a released layout.
        file: .pth, .pt, .bin or .safetensors. Only tensors are read: a file that would run code is refused.
        backbone: from `load_backbone`, the tower that the authors used. Where the file holds a copy of it, the two are
            compared.
        manifest: of the data set that they trained on. Class k of the file is its class k: the order is that of the
            lists that the authors used, which no tensor tells.
        out: the run folder to make. `config["imported"]` names the file and its sha256.
        root: where the images of the data set are.

    Raises:
        ValueError: another method, a file of another layout, tower or number of classes, or one that holds more than
            tensors. FileNotFoundError: no such file. FileExistsError: `out` exists.
    """
    if name not in RELEASED:
        raise ValueError(f"{name!r} has no released layout that is known here; choose one of {', '.join(RELEASED)}.")
    path = Path(file).expanduser().absolute()
    if not path.is_file():
        raise FileNotFoundError(f"There is no weight file at {path}.")
    train = LongTailDataset(manifest, "train", root)
    source, tower = RELEASED[name]
    module, function = source.split(":")
    convert: Callable[..., tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]]
    convert = getattr(import_module(module), function)
    tensors = {key: value for key, value in read_weights(path).items() if isinstance(value, Tensor)}
    sizes = {"depth": len(backbone.blocks), "width": backbone.width, "num_classes": len(manifest.classes)}
    try:
        options, state, others = convert(tensors, **sizes)
        _check_tower(others, backbone)
    except ValueError as error:
        raise ValueError(
            f"{path} does not fit {backbone.name} and {manifest.name}: {error} (The authors' tower is {tower}.)"
        ) from error
    method = rebuild_method(name, backbone, manifest.classes, seed=0, options=options)
    method.load_state(state)
    imported = {"file": str(path), "sha256": file_sha256(path), "tower_in_file": bool(others)}
    run = Run.create(out, run_config(method, train) | {"imported": imported}, manifest.classes)
    with run.locked():
        write_tensors(run.path / "weights.safetensors", method.state())
        run.set_status("finished", seconds=0.0, peak_gpu_bytes=None)
    return run


def _check_tower(tensors: Mapping[str, Tensor], backbone: Backbone) -> None:
    """ValueError unless the tensors, of a copy of the tower, are the tower's own; without any there is no telling."""
    own = backbone.model.state_dict()
    unknown = [name for name in tensors if name not in own]
    if unknown:
        raise ValueError(f"it also holds {len(unknown)} tensors that the tower does not have, the first {unknown[0]}.")
    differing = [name for name, tensor in tensors.items() if not _same(tensor, own[name])]
    if differing:
        raise ValueError(
            f"it holds the tower that its prompts were trained in, and {len(differing)} of {len(tensors)} tensors "
            f"differ from the given one's, the first {differing[0]}. Prompts work in their own tower only."
        )


def _same(theirs: Tensor, ours: Tensor) -> bool:
    if theirs.shape != ours.shape:
        return False
    ours = ours.detach().cpu().float()
    distance: Tensor = (theirs.float() - ours).norm()
    return bool(distance <= SAME_TOWER * ours.norm() + 1e-6)
