"""What every diagnostic shares: the result that draws and saves itself, the visual language, the registry.

A diagnostic is a function of features (or of a method) that returns a frozen `Result`. The function computes, the
result draws. Colours, markers and type of figures are decided here and nowhere else; the colours of shot groups are
from Okabe and Ito's "Color Universal Design" set, those of methods from Paul Tol's "muted" scheme (SRON/EPS/TN/09-002).
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.versions import versions

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.data import LongTailDataset
    from workbench.data.manifest import Classes
    from workbench.features import Features
    from workbench.methods import Method

# Function that computes each diagnostic, by name.
DIAGNOSTICS = {
    "ablate_prompts": "workbench.diagnostics.prompt_ablation:ablate_prompts",
    "adapter_scales": "workbench.diagnostics.adapter_scales:adapter_scales",
    "attention_rollout": "workbench.diagnostics.attention_rollout:attention_rollout",
    "background_reliance": "workbench.diagnostics.background_reliance:background_reliance",
    "calibration": "workbench.diagnostics.calibration:calibration",
    "candidate_confusion": "workbench.diagnostics.candidate_confusion:candidate_confusion",
    "changes": "workbench.diagnostics.changes:changes",
    "class_similarity": "workbench.diagnostics.similarity:class_similarity",
    "confusable_pairs": "workbench.diagnostics.confusable_pairs:confusable_pairs",
    "convergence": "workbench.diagnostics.convergence:convergence",
    "cost": "workbench.diagnostics.cost:cost",
    "cost_against_accuracy": "workbench.diagnostics.cost_against_accuracy:cost_against_accuracy",
    "description_matches": "workbench.diagnostics.description_matches:description_matches",
    "description_weights": "workbench.diagnostics.description_weights:description_weights",
    "error_flow": "workbench.diagnostics.error_flow:error_flow",
    "expansion_curve": "workbench.diagnostics.ensemble_curve:expansion_curve",
    "faithfulness": "workbench.diagnostics.faithfulness:faithfulness",
    "grad_cam": "workbench.diagnostics.grad_cam:grad_cam",
    "group_report": "workbench.diagnostics.accuracy:group_report",
    "intra_class_distances": "workbench.diagnostics.intra_class:intra_class_distances",
    "knn_accuracy": "workbench.diagnostics.knn:knn_accuracy",
    "localisation": "workbench.diagnostics.localisation:localisation",
    "modality_gap": "workbench.diagnostics.modality_gap:modality_gap",
    "project": "workbench.diagnostics.projection:project",
    "prompt_matching": "workbench.diagnostics.prompt_matching:prompt_matching",
    "saliency_maps": "workbench.diagnostics.saliency:saliency_maps",
    "sanity_check": "workbench.diagnostics.sanity_check:sanity_check",
    "separability": "workbench.diagnostics.separability:separability",
    "suspicious": "workbench.diagnostics.suspicious:suspicious",
    "taxonomy_levels": "workbench.diagnostics.taxonomy_levels:taxonomy_levels",
    "topk": "workbench.diagnostics.topk:topk",
    "weight_norms": "workbench.diagnostics.weight_norms:weight_norms",
}

GROUP_ORDER = ("many", "medium", "few")
ROWS = ("all", *GROUP_ORDER)  # of a table or figure by group
GROUP_COLOURS = {"many": "#0072B2", "medium": "#009E73", "few": "#D55E00"}
GROUP_MARKERS = {"many": "o", "medium": "s", "few": "^"}
METHOD_COLOURS = (  # in registry order; the paper's number is a short tick in INK on the same axis
    *("#332288", "#CC6677", "#117733", "#DDCC77", "#88CCEE"),
    *("#882255", "#44AA99", "#999933", "#AA4499", "#661100"),
)
METHOD_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
SPLIT_LINES = {"train": "-", "test": "--"}
SEQUENTIAL, DIVERGING, HEAT = "viridis", "RdBu_r", "inferno"
INK, MUTED, GRID, PAPER = "#1a1a1a", "#6b6b6b", "#e6e6e6", "#ffffff"
COLUMN_WIDTH, TEXT_WIDTH = 3.25, 5.5  # inches: one column of a two-column page, the full text width
FONT_SIZE, CAPTION_SIZE = 9, 8  # points at final size; nothing in a figure is below 7
RASTER_FROM = 5000  # scatters of more points are drawn as pixels inside a vector figure
RESOLUTION = 300  # dots per inch of PNG files and of rasterised parts

_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so a figure has the same bytes on every machine
    "font.size": FONT_SIZE,
    "text.usetex": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": FONT_SIZE,
    "axes.edgecolor": INK,
    "axes.facecolor": PAPER,
    "axes.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": CAPTION_SIZE,
    "ytick.labelsize": CAPTION_SIZE,
    "legend.fontsize": CAPTION_SIZE,
    "legend.frameon": False,
    "legend.title_fontsize": CAPTION_SIZE,
    "legend.handlelength": 1.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 5,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "savefig.bbox": None,
    "savefig.facecolor": PAPER,
    "pdf.fonttype": 42,  # TrueType outlines: publishers refuse Type 3
    "pdf.use14corefonts": False,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "workbench",  # the same element names each time
}


def load_diagnostic(name: str) -> Callable[..., Result]:
    """The function that computes the diagnostic of this name."""
    if name not in DIAGNOSTICS:
        raise ValueError(f"diagnostic {name!r} is not known; choose one of {', '.join(DIAGNOSTICS)}.")
    module, function = DIAGNOSTICS[name].split(":")
    return getattr(import_module(module), function)


@contextmanager
def figure_style() -> Iterator[None]:
    """The house style of figures for the time of a `with` block; matplotlib's own settings are as before after it."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        yield


def dress(ax: Axes, *, grid: str | None = "y") -> None:
    """Quiet frame: no upper and right spine, and light grid lines of one axis ("x", "y" or None) behind the data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    if grid:
        ax.grid(axis=grid, color=GRID, linewidth=0.8)


def scatter_by_frequency(
    ax: Axes,
    values: np.ndarray,
    counts: np.ndarray,
    groups: np.ndarray,
    *,
    labels: dict[str, str],
    bands: dict[str, tuple[float, ...]],
    **artist_kw: Any,
) -> None:
    """One point per class, most training images first, each group in its colour and with its marker; nan is left out.

    values, counts, groups: (C,); bands: group -> (level,) or (level, low, high), a line with a band across its classes.
    """
    from matplotlib.ticker import MaxNLocator

    rank = np.empty(len(counts), dtype=int)
    # by group first: a rule of reference counts can order classes slightly otherwise than the training images do
    order = np.lexsort((-counts, [GROUP_ORDER.index(group) for group in groups]))
    rank[order] = np.arange(1, len(counts) + 1)
    size = 22 if len(counts) <= 150 else 10
    for group in GROUP_ORDER:
        inside = (groups == group) & np.isfinite(values)
        if not inside.any():
            continue
        colour = GROUP_COLOURS[group]
        style = {"s": size, "alpha": 0.7, "linewidths": 0, "color": colour, "marker": GROUP_MARKERS[group]}
        style |= {"rasterized": len(counts) >= RASTER_FROM, "label": labels[group]}
        ax.scatter(rank[inside], values[inside], **(style | artist_kw))
        ends = rank[inside].min() - 0.5, rank[inside].max() + 0.5
        ax.hlines(bands[group][0], *ends, color=colour, linewidth=1.6)
        if len(bands[group]) == 3 and np.isfinite(bands[group]).all():
            ax.fill_between(ends, *bands[group][1:], color=colour, alpha=0.18, linewidth=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("class, most training images first")
    dress(ax)


def legend_beside(ax: Axes, **legend_kw: Any) -> None:
    """The legend of the axes, to the right of them; dollar signs in labels stay text."""
    place = {"alignment": "left", "loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    legend = ax.legend(**(place | legend_kw))
    for text in (legend.get_title(), *legend.get_texts()):
        text.set_parse_math(False)


def caption_below(ax: Axes, text: str) -> None:
    """A caveat under the label of the x axis, in small grey type; dollar signs in it stay text."""
    ax.annotate(
        text, (0, 0), (0, -3), xycoords=("axes fraction", ax.xaxis.label), textcoords="offset points", va="top",
        fontsize="small", color=MUTED, annotation_clip=False, parse_math=False,
    )  # fmt: skip


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


def percent(value: float, low: float = math.nan, high: float = math.nan, *, sign: bool = False) -> str:
    """A share (sign: a difference of shares) in percent, with its interval where there is one: "51.2 [47.8, 54.6]"."""
    if math.isnan(value):
        return "n/a"
    form = "+.1f" if sign else ".1f"
    interval = "" if math.isnan(low) else f" [{100 * low:{form}}, {100 * high:{form}}]"
    return f"{100 * value:{form}}{interval}"


def plain(text: str, letters: int) -> str:
    """On one line and not longer than so many letters, cut in the middle: "striped r…een star"."""
    text = " ".join(text.split())
    if len(text) <= letters:
        return text
    left = letters // 2
    return f"{text[:left]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - (letters - left - 1) :]}"
