"""What every diagnostic shares: the result that draws and saves itself, and the registry.

A diagnostic is a function of features (or of a method) that returns a frozen `Result`. The function computes, the
result draws, with the colours, markers and type of `visual`, whose names are offered here too.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.versions import versions

from .provenance import method_source as method_source
from .provenance import read_provenance as read_provenance
from .registry import DIAGNOSTICS as DIAGNOSTICS
from .registry import load_diagnostic as load_diagnostic
from .visual import CAPTION_SIZE as CAPTION_SIZE
from .visual import COLUMN_WIDTH as COLUMN_WIDTH
from .visual import DIVERGING as DIVERGING
from .visual import FONT_SIZE as FONT_SIZE
from .visual import GRID as GRID
from .visual import GROUP_COLOURS as GROUP_COLOURS
from .visual import GROUP_MARKERS as GROUP_MARKERS
from .visual import GROUP_ORDER as GROUP_ORDER
from .visual import HEAT as HEAT
from .visual import INK as INK
from .visual import METHOD_COLOURS as METHOD_COLOURS
from .visual import METHOD_MARKERS as METHOD_MARKERS
from .visual import MUTED as MUTED
from .visual import NARROW as NARROW
from .visual import PAPER as PAPER
from .visual import RASTER_FROM as RASTER_FROM
from .visual import RESOLUTION as RESOLUTION
from .visual import ROWS as ROWS
from .visual import SEQUENTIAL as SEQUENTIAL
from .visual import SPLIT_LINES as SPLIT_LINES
from .visual import TEXT_WIDTH as TEXT_WIDTH
from .visual import caption_below as caption_below
from .visual import dress as dress
from .visual import figure_style as figure_style
from .visual import is_narrow as is_narrow
from .visual import legend_beside as legend_beside
from .visual import percent as percent
from .visual import plain as plain
from .visual import scatter_by_frequency as scatter_by_frequency

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.data import LongTailDataset
    from workbench.data.manifest import Classes
    from workbench.features import Features
    from workbench.methods import Method


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """Numbers of one diagnostic and how to draw them.

    A subclass is a frozen dataclass that names its `diagnostic` and implements `to_frame` and `_draw`. The function
    that makes it passes its own arguments as `arguments` and the `source` of each Features it was given as `sources`,
    so that a saved figure says what made it.
    """

    diagnostic: ClassVar[str]  # name in DIAGNOSTICS
    views: ClassVar[tuple[str, ...]] = ("default",)  # what plot(view=) takes; the first is the default
    size: ClassVar[tuple[float, float]] = (TEXT_WIDTH, 3.2)  # inches of a figure made by plot() or save()

    arguments: dict[str, Any]  # JSON
    sources: tuple[dict[str, Any], ...]  # JSON objects

    def to_frame(self) -> pd.DataFrame:
        """The numbers as a tidy table: one observation per row, lower-case columns, accuracies in [0, 1]."""
        raise NotImplementedError(f"{type(self).__name__} must implement to_frame")

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        raise NotImplementedError(f"{type(self).__name__} must implement _draw")

    def plot(self, ax: Axes | None = None, *, view: str | None = None, **artist_kw: Any) -> Axes:
        """Draw into `ax`, or into a new figure, and return the axes. Further keywords go to the main artists."""
        view, figure = self._view(view), None
        if ax is None:
            import matplotlib.pyplot as plt

            # outside of the style, which gives back all settings: a notebook's first figure turns their showing on
            figure = plt.figure(figsize=self.size, layout="constrained", facecolor=PAPER)
        with figure_style():
            drawn = ax if figure is None else figure.add_subplot()
            self._draw(drawn, view, **artist_kw)
        return drawn

    @property
    def provenance(self) -> dict[str, Any]:
        """What made these numbers: diagnostic, its arguments, sources of the features, versions. JSON."""
        return {
            "diagnostic": self.diagnostic,
            "arguments": self.arguments,
            "sources": list(self.sources),
            "versions": versions(),
        }

    def save(
        self,
        path: str | Path,
        *,
        view: str | None = None,
        venue: str | None = None,
        width: str = "column",
        overwrite: bool = False,
    ) -> Path:
        """Write the figure (.pdf, .png or .svg) and, beside it, the table as .csv; return the figure's path.

        The same numbers give the same bytes. A file that would change is left alone unless `overwrite` is given.
        `read_provenance` reads back what made the figure. With a `venue` ("cvpr", "neurips", ...; `publication.VENUES`)
        it is exactly as wide as its "column" or "text", and a draft of its caption lies beside it as .txt.
        """
        path, view = Path(path), self._view(view)
        size, page = self.size, {}
        if venue is not None:
            from .publication import caption_draft, page_width, refit

            size = page_width(venue, width), self.size[1]
            page = {"venue": venue, "width": width}
        note = json.dumps(self.provenance | {"view": view} | page, sort_keys=True)
        marks = {
            ".pdf": {"CreationDate": None, "Keywords": note},
            ".png": {"Description": note},
            ".svg": {"Date": None, "Description": note},
        }
        if path.suffix not in marks:
            raise ValueError(f"{path} ends in {path.suffix!r}; figures are saved as {', '.join(marks)}.")
        from matplotlib.figure import Figure

        buffer = io.BytesIO()
        with figure_style():
            figure = Figure(figsize=size)
            axes = figure.add_subplot()
            self._draw(axes, view)
            if size[0] < self.size[0]:
                refit(figure)
            figure.savefig(buffer, format=path.suffix[1:], dpi=RESOLUTION, metadata=marks[path.suffix])
        table = self.to_frame().to_csv(index=False, lineterminator="\n").encode("utf-8", "surrogateescape")
        contents = {path: buffer.getvalue(), path.with_suffix(".csv"): table}
        if venue is not None:
            draft = caption_draft(self, view, axes)
            contents[path.with_suffix(".txt")] = draft.encode("utf-8", "surrogateescape")
        for target, content in contents.items():
            if not overwrite and target.exists() and target.read_bytes() != content:
                raise FileExistsError(f"{target} exists with other content; give another name or overwrite=True.")
        path.parent.mkdir(parents=True, exist_ok=True)
        for target, content in contents.items():
            target.write_bytes(content)
        return path

    def _view(self, view: str | None) -> str:
        if view is not None and view not in self.views:
            raise ValueError(f"view={view!r} is not one of {type(self).__name__}'s: {', '.join(self.views)}.")
        return view or self.views[0]


def same_classes(several: Sequence[Features]) -> Classes:
    """The class list that all of these features share; ValueError where they differ."""
    first = several[0].classes
    for number, other in enumerate((features.classes for features in several[1:]), start=2):
        if tuple(other.names) != tuple(first.names):
            raise ValueError(
                f"features number {number} have {len(other)} classes, the first have {len(first)}, and their names or "
                "order differ; only features of one data set can be set side by side."
            )
        if not np.array_equal(other.groups, first.groups):
            raise ValueError(
                f"features number {number} have other shot groups ({other.rule}) than the first ({first.rule}); "
                "extract both with the same manifest."
            )
    return first


def require_classes(method: Method, dataset: LongTailDataset) -> None:
    """ValueError unless the data set has the classes that the method knows, in their order."""
    if dataset.classes.names != method.classes.names:
        raise ValueError(
            f"{method.name} knows {len(method.classes)} classes and {dataset.manifest.name!r} has "
            f"{len(dataset.classes)}, or they are named or ordered differently; use the data set of the run."
        )
