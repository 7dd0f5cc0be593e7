"""Diagnostics: functions of features that return numbers which draw and save themselves. One file per question."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .registry import DIAGNOSTICS as DIAGNOSTICS
from .registry import load_diagnostic as load_diagnostic
from .visual import GROUP_COLOURS as GROUP_COLOURS
from .visual import GROUP_MARKERS as GROUP_MARKERS
from .visual import GROUP_ORDER as GROUP_ORDER
from .visual import figure_style as figure_style

if TYPE_CHECKING:
    from .base import Result as Result
    from .provenance import read_provenance as read_provenance

_HOMES = {"Result": "base", "read_provenance": "provenance"}


def __getattr__(name: str) -> Any:
    """A module of the registry (`diagnostics.knn`), or a function whose module has another name (`knn_accuracy`)."""
    if name in DIAGNOSTICS.values():
        return import_module(f"{__name__}.{name}")
    if name in DIAGNOSTICS:
        return load_diagnostic(name)
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
