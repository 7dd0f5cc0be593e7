"""What holds for the result of every diagnostic: a tidy frame, plots anywhere, figures that say what made them.

Figures are slow to draw and to write, so an example is computed once in a session, drawn once for the tests that only
look, and written once in each format; a test that writes compares with those files.
"""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from diagnostic_examples import EXAMPLES
from matplotlib.axes import Axes

from workbench.diagnostics.base import DIAGNOSTICS, Result, load_diagnostic, read_provenance
from workbench.features import Features

SUFFIXES = (".pdf", ".png", ".svg")


class Example:
    """The result of one example and, each made when it is first asked for, its table, its figures and their files."""

    def __init__(self, name: str, result: Result, folder: Path) -> None:
        self.name, self.result, self.folder = name, result, folder
        self._axes: dict[str, Axes] = {}

    @cached_property
    def frame(self) -> pd.DataFrame:
        return self.result.to_frame()

    def axes(self, view: str) -> Axes:
        """Axes of a figure of its own, laid out and drawn."""
        if view not in self._axes:
            self._axes[view] = self.result.plot(view=view)
            self._axes[view].figure.canvas.draw()
        return self._axes[view]

    def saved(self, view: str, suffix: str) -> Path:
        """The figure, which nobody changes, with the table beside it."""
        path = self.folder / f"{view}{suffix}"
        return path if path.exists() else self.result.save(path, view=view)


@pytest.fixture(scope="session")
def made() -> dict[str, Example]:
    """The examples made so far, by the name of the diagnostic."""
    return {}


@pytest.fixture(params=sorted(DIAGNOSTICS))
def example(
    request: pytest.FixtureRequest,
    made: dict[str, Example],
    make_features: Callable[..., Features],
    tmp_path_factory: pytest.TempPathFactory,
) -> Example:
    name = request.param
    assert name in EXAMPLES, f"add an example of {name} to tests/diagnostics/diagnostic_examples.py"
    if name not in made:
        made[name] = Example(name, EXAMPLES[name](make_features), tmp_path_factory.mktemp(name))
    return made[name]


@pytest.fixture
def result(example: Example) -> Result:
    return example.result


def test_what_speaks_of_shot_groups_says_by_which_rule(example: Example) -> None:
    text = str(example.result)
    if any(re.search(rf"\b{group}\b", text) for group in ("many", "medium", "few")):
        assert re.search(r"many (>=|=) ", text), "papers read '100 and 20' in three ways"


def test_every_name_leads_to_a_function() -> None:
    assert list(DIAGNOSTICS) == sorted(DIAGNOSTICS)
    assert all(callable(load_diagnostic(name)) for name in DIAGNOSTICS)
    names = ", ".join(DIAGNOSTICS)
    with pytest.raises(ValueError, match=re.escape(f"'gama' is not known; choose one of {names}. (A new")):
        load_diagnostic("gama")


def test_the_frame_is_tidy(example: Example) -> None:
    frame = example.frame
    assert isinstance(frame, pd.DataFrame) and len(frame)
    assert all(name == name.lower() and " " not in name for name in frame.columns)
    assert frame.columns.is_unique and isinstance(frame.index, pd.RangeIndex)
    scalars = frame.map(lambda value: pd.api.types.is_scalar(value))
    assert scalars.to_numpy().all(), "one observation per row: no lists or arrays in cells"
    assert not frame.duplicated().any()


def test_result_knows_its_name_and_what_it_was_made_of(example: Example) -> None:
    name, result = example.name, example.result
    assert result.diagnostic == name, "--rerun would compute another diagnostic"
    parameters = inspect.signature(load_diagnostic(name)).parameters.values()
    if any("Features" in str(parameter.annotation) for parameter in parameters):
        assert result.sources, "pass the source of each features as sources=, so that a figure says what it shows"


def test_result_prints(result: Result) -> None:
    assert str(result) and "object at" not in str(result)
    with pytest.raises(AttributeError):
        result.arguments = {}


def test_draws_into_given_axes_and_into_new_ones(result: Result) -> None:
    before = dict(mpl.rcParams)
    figure, (left, right) = plt.subplots(1, 2, layout="constrained", figsize=(14, 4))
    for view in result.views:
        assert result.plot(right, view=view) is right
        new = result.plot(view=view)
        assert new.figure not in (figure, None) and new.has_data()
    assert not left.has_data()
    figure.canvas.draw()
    assert dict(mpl.rcParams) == before
    with pytest.raises(ValueError, match=f"is not one of {type(result).__name__}'s: {result.views[0]}"):
        result.plot(view="sideways")


def test_the_first_figure_of_a_notebook_leaves_it_showing_figures(
    make_features: Callable[..., Features], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plt.figure

    def first(*arguments: object, **options: object) -> mpl.figure.Figure:
        mpl.rcParams["interactive"] = True  # what Jupyter's backend does when it is first used
        return made(*arguments, **options)

    monkeypatch.setitem(mpl.rcParams, "interactive", False)
    monkeypatch.setattr(plt, "figure", first)
    load_diagnostic("separability")(make_features()).plot()
    assert mpl.rcParams["interactive"]


def test_figures_are_legible(example: Example) -> None:
    for view in example.result.views:
        ax = example.axes(view)
        figure = ax.figure
        texts = [text for text in figure.findobj(mpl.text.Text) if text.get_visible() and text.get_text().strip()]
        assert min(text.get_fontsize() for text in texts) >= 7
        assert not ax.get_title(), "captions interpret, titles do not"
        assert ax.get_xlabel() or ax.get_ylabel()
        canvas = figure.bbox
        for text in texts:
            box = text.get_window_extent()
            inside = canvas.x0 <= box.x0 and canvas.y0 <= box.y0 and box.x1 <= canvas.x1 and box.y1 <= canvas.y1
            on_axis = text in ax.get_xticklabels() + ax.get_yticklabels()  # ticks beyond the limits are not drawn
            assert inside or on_axis, f"{text.get_text()!r} leaves the figure"
        for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
            boxes = [label.get_window_extent() for label in labels if label.get_text()]
            assert not any(a.overlaps(b) for a, b in pairwise(boxes)), "tick labels overlap"


@pytest.mark.parametrize(
    "suffix", [pytest.param(each, marks=[pytest.mark.slow] * (each != ".png")) for each in SUFFIXES]
)
def test_saving_twice_gives_the_same_bytes_and_the_table_beside(example: Example, tmp_path: Path, suffix: str) -> None:
    for view in example.result.views:
        first = example.saved(view, suffix)
        again = Path(shutil.copy(first, tmp_path))
        assert example.result.save(again, view=view) == again, "the same figure may be saved again"
        assert again.read_bytes() == first.read_bytes()
        table = pd.read_csv(again.with_suffix(".csv"), keep_default_na=True)
        assert list(table.columns) == list(example.frame.columns) and len(table) == len(example.frame)
    assert not plt.get_fignums(), "saving leaves no figure open"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_saved_figure_says_what_made_it(example: Example, suffix: str) -> None:
    result = example.result
    for view in result.views:
        note = read_provenance(example.saved(view, suffix))
        assert note == json.loads(json.dumps(result.provenance | {"view": view}))
        assert note["diagnostic"] == result.diagnostic and "numpy" in note["versions"]


def test_fonts_are_type_42_and_svg_text_stays_text(example: Example) -> None:
    for view in example.result.views:
        pdf = example.saved(view, ".pdf").read_bytes()
        assert b"/Type3" not in pdf and b"/FontFile2" in pdf
        if shutil.which("pdffonts"):
            command = ["pdffonts", str(example.saved(view, ".pdf"))]
            rows = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[2:]
            assert rows and all("CID TrueType" in row and " yes yes " in row for row in rows), "embedded subsets"
        svg = example.saved(view, ".svg").read_text(encoding="utf-8")
        assert "<text" in svg and example.axes(view).get_xlabel() in svg


def test_other_content_is_not_overwritten(example: Example, tmp_path: Path) -> None:
    path = tmp_path / "figure.svg"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        example.result.save(path)
    assert path.read_text() == "mine" and not path.with_suffix(".csv").exists()
    assert example.result.save(path, overwrite=True) == path
    assert path.read_bytes() == example.saved(read_provenance(path)["view"], ".svg").read_bytes() != b"mine"
    with pytest.raises(ValueError, match=r"figures are saved as \.pdf, \.png, \.svg"):
        example.result.save(tmp_path / "figure.jpg")


def test_odd_text_survives_in_every_format(make_features: Callable[..., Features], tmp_path: Path) -> None:
    source = {"manifest": r"C:\data (old)\ü", "note": '<&">\n' * 50}
    features = make_features()
    object.__setattr__(features, "source", source)
    result = load_diagnostic("separability")(features)
    for suffix in SUFFIXES:
        assert read_provenance(result.save(tmp_path / f"odd{suffix}"))["sources"] == [source]


def test_figures_without_a_note_and_other_files_are_told_apart(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        path = tmp_path / f"plain{suffix}"
        plt.figure().savefig(path)
        with pytest.raises(ValueError, match="carries no provenance"):
            read_provenance(path)
    with pytest.raises(ValueError, match=r"kept in \.pdf, \.png and \.svg"):
        other = tmp_path / "x.txt"
        other.touch()
        read_provenance(other)
