"""Versions of what a result depends on, as stored with runs, features and figures."""

from __future__ import annotations

import platform
from importlib import metadata

PACKAGES = ("workbench", "torch", "torchvision", "timm", "numpy", "pillow", "matplotlib")


def versions() -> dict[str, str]:
    """Python's and our packages' versions by name; no package is imported for it."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}
