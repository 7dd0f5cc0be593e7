"""What made a figure: the record of a method or a run that goes into it, and the record read back from its file."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.methods import Method
    from workbench.runs import Run

_OF_DATA = ("manifest", "manifest_sha256", "split", "per_class", "preprocessing")


def method_source(given: Method | Run, *, data: dict[str, Any] | None = None) -> dict[str, Any]:
    """What is known of a method, as features extracted from it would say in their `source`. JSON; only what is known.

    A run knows its folder, its data set and the sha256 of its weight file. A method in memory does not know where it
    comes from: `state_sha256` is of the names, types, shapes and values of its `state`, so it tells whether two figures
    show the same trained weights, also those of `run.method()`.

    Args:
        data: `spec()` of the data set that the method looked at, where there was one.
    """
    from workbench.runs import Run

    if isinstance(given, Run):
        config, train = given.config, given.config.get("train") or {}
        known = {key: config.get(key) for key in ("method", "options", "seed", "backbone")}
        known |= {key: train.get(key) for key in ("manifest", "manifest_sha256")} | {"run": str(given.path)}
        try:
            known["weights_sha256"] = given.weights_sha256
        except FileNotFoundError:  # in its first epoch
            pass
    else:
        known = {"method": getattr(given, "name", type(given).__name__)}
        known |= {key: getattr(given, key, None) for key in ("options", "seed")}
        known |= {"backbone": _tower(getattr(given, "backbone", None)), "state_sha256": _state_sha256(given)}
    known |= {key: (data or {}).get(key, known.get(key)) for key in _OF_DATA}
    return {key: value for key, value in known.items() if value is not None}


def _tower(backbone: Any) -> dict[str, Any] | None:
    try:
        return dict(backbone.spec())
    except (AttributeError, ValueError):  # built by hand, not by load_backbone
        name = getattr(backbone, "name", None)
        return None if name is None else {"name": str(name)}


def _state_sha256(method: Any) -> str | None:
    """None of a method without values, on the device "meta"."""
    import torch

    if not hasattr(method, "state"):
        return None
    digest = hashlib.sha256()
    for name, tensor in sorted(method.state().items()):
        if tensor.device.type == "meta":
            return None
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def read_provenance(path: str | Path) -> dict[str, Any]:
    """What made a figure saved by `Result.save`, read from the file itself."""
    path = Path(path)
    content = path.read_bytes()
    if path.suffix == ".png":
        from PIL import Image

        with Image.open(io.BytesIO(content)) as image:
            note = image.info.get("Description")
    elif path.suffix == ".svg":
        from xml.etree import ElementTree

        note = ElementTree.fromstring(content).findtext(".//{http://purl.org/dc/elements/1.1/}description")
    elif path.suffix == ".pdf":
        note = _pdf_keywords(content)
    else:
        raise ValueError(f"{path} ends in {path.suffix!r}; provenance is kept in .pdf, .png and .svg files.")
    if not note:
        raise ValueError(f"{path} carries no provenance; it was not saved by a workbench result.")
    return json.loads(note)


def _pdf_keywords(content: bytes) -> str | None:
    """The /Keywords string of a PDF's information dictionary; parentheses and backslashes in it have a backslash."""
    start = content.find(b"/Keywords (")
    if start < 0:
        return None
    out = bytearray()
    position = start + len(b"/Keywords (")
    while content[position : position + 1] not in (b")", b""):
        position += content[position] == ord("\\")
        out.append(content[position])
        position += 1
    return out.decode("ascii")
