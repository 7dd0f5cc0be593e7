"""Figures for papers: exact widths, letters of at least 7 points, Type 42 fonts, a caption draft, the same bytes."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import pytest
from diagnostic_examples import EXAMPLES
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from workbench.diagnostics import knn, separability
from workbench.diagnostics.base import DIAGNOSTICS, caption_below, figure_style, read_provenance
from workbench.diagnostics.publication import VENUES, page_width, refit
from workbench.features import Features

Make = Callable[..., Features]
COLUMN = VENUES["cvpr"].column
# (diagnostic, view) of which the content cannot be read at the width of a column
TOO_WIDE: set[tuple[str, str]] = set()


def media_box(path: Path) -> tuple[float, float]:
    """Width and height of a PDF's page in points."""
    found = re.search(rb"/MediaBox \[ ?([\d.]+) ([\d.]+) ([\d.]+) ([\d.]+) ?\]", path.read_bytes())
    assert found
    left, bottom, right, top = (float(side) for side in found.groups())
    return right - left, top - bottom


@pytest.mark.parametrize("venue", VENUES)
def test_a_page_is_exactly_as_wide_as_the_venues(make_features: Make, tmp_path: Path, venue: str) -> None:
    result = separability.separability(make_features())
    width = "text" if venue in ("cvpr", "icml", "aaai") else "column"
    path = result.save(tmp_path / "figure.pdf", venue=venue, width=width)
    assert media_box(path)[0] == pytest.approx(72 * page_width(venue, width), abs=0.01)
    assert read_provenance(path) == result.provenance | {"view": "default", "venue": venue, "width": width}


def test_widths_are_those_of_the_templates() -> None:
    columns = {"cvpr": 3.28125, "icml": 3.25, "neurips": 5.5, "iclr": 5.5, "eccv": 4.80315, "aaai": 3.3125}
    assert {name: VENUES[name].column for name in columns} == pytest.approx(columns, abs=1e-5)
    # two columns and the gap between them, as in cvpr.sty, icml2025.sty and aaai25.sty, are the text
    for name, gap in {"cvpr": 0.3125, "iccv": 0.3125, "3dv": 0.3125, "icml": 0.25, "aaai": 0.375}.items():
        assert 2 * VENUES[name].column + gap == pytest.approx(VENUES[name].text)
    with pytest.raises(ValueError, match="venue='nature' is not known; choose one of 3dv, aaai, cvpr"):
        page_width("nature", "column")
    with pytest.raises(ValueError, match="width='half'; choose 'column' or 'text'"):
        page_width("cvpr", "half")


@pytest.mark.parametrize("name", sorted(set(EXAMPLES) & set(DIAGNOSTICS)))
def test_every_view_fits_a_column_in_letters_of_at_least_seven_points(name: str, make_features: Make) -> None:
    result = EXAMPLES[name](make_features)
    refused = set()
    for view in result.views:
        with figure_style():
            figure = Figure(figsize=(COLUMN, result.size[1]))
            result._draw(figure.add_subplot(), view)
            try:
                refit(figure)
            except ValueError as error:
                assert "need more than 3.28 inches; save it with width='text'" in str(error)
                refused.add((name, view))
                continue
        assert figure.get_size_inches()[0] == pytest.approx(COLUMN), "higher, never wider"
        texts = [text for text in figure.findobj(mpl.text.Text) if text.get_visible() and text.get_text().strip()]
        assert texts and min(text.get_fontsize() for text in texts) >= 7
        assert figure.axes[0].get_window_extent().width > 0.2 * figure.bbox.width, "the data have room"
        for labels in (figure.axes[0].get_xticklabels(), figure.axes[0].get_yticklabels()):
            boxes = [label.get_window_extent() for label in labels if label.get_text() and not label.get_rotation()]
            assert not any(a.overlaps(b) for a, b in pairwise(boxes)), f"tick labels of {view} overlap"
    assert refused == {pair for pair in TOO_WIDE if pair[0] == name}


def test_a_legend_beside_goes_above_and_long_labels_wrap() -> None:
    with figure_style():
        figure = Figure(figsize=(3.25, 2.5))
        ax = figure.add_subplot()
        for name in ("full fine-tuning", "LIFT", "LPT"):
            ax.plot([0, 1], [0, 1], label=name)
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        ax.set_xlabel("a label of many words that needs more than one line at the width of a column, two perhaps")
        refit(figure)
    figure.draw_without_rendering()
    inside, legend = ax.get_window_extent(), ax.get_legend().get_window_extent()
    assert legend.y0 >= inside.y1 - 1 and legend.x1 <= figure.bbox.x1
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["full fine-tuning", "LIFT", "LPT"]
    label = ax.xaxis.label.get_window_extent()
    assert "\n" in ax.get_xlabel() and figure.bbox.x0 <= label.x0 and label.x1 <= figure.bbox.x1
    assert inside.width > 0.6 * figure.bbox.width, "the room of the legend goes to the plot"


def test_a_figure_that_cannot_be_so_narrow_is_refused() -> None:
    with figure_style():
        figure = Figure(figsize=(1.0, 1.0))
        ax = figure.add_subplot()
        ax.set_yticks([0, 1], ["one_label_without_any_place_to_break_it", "two"])
        with pytest.raises(ValueError, match=r"need more than 1\.00 inches; save it with width='text'"):
            refit(figure)


def test_all_legends_move_and_a_long_caption_leaves_the_axes_their_room() -> None:
    with figure_style():
        figure = Figure(figsize=(3.25, 2.5))
        ax = figure.add_subplot()
        (line,) = ax.plot([0, 1], [0, 1], label="one")
        ax.add_artist(ax.legend(handles=[line], loc="upper left", bbox_to_anchor=(1.0, 1.0)))
        ax.legend(handles=[line], title="second", loc="lower left", bbox_to_anchor=(1.0, 0.0))
        ax.set_xlabel("label")
        caption_below(ax, "a caption that is much longer than the axes;\ngoes on (n = 4 of 5) here\nand ends")
        refit(figure)
    figure.draw_without_rendering()
    inside = ax.get_window_extent()
    legends = sorted((part.get_window_extent() for part in ax.findobj(Legend)), key=lambda box: box.y0)
    assert len(legends) == 2 and legends[0].y0 >= inside.y1 - 1 and legends[1].y0 >= legends[0].y1 - 1
    lines = ax.texts[0].get_text().split("\n")
    assert lines[-1] == "and ends" and " ".join(lines[:-1]).endswith("the axes; goes on (n = 4 of 5) here")
    assert any("(n = 4 of 5)" in line for line in lines), "brackets stay on a line"
    assert inside.width > 0.75 * figure.bbox.width and ax.texts[0].get_window_extent().x1 <= figure.bbox.x1


def test_tick_labels_are_turned_upright_where_many_overlap() -> None:
    with figure_style():
        figure = Figure(figsize=(3.0, 2.0))
        ax = figure.add_subplot()
        ax.set_xticks(range(20), [f"{n + 10}" for n in range(20)])
        refit(figure)
        few = Figure(figsize=(3.0, 2.0))
        few.add_subplot().set_xticks(range(5), [f"a long name {n}" for n in range(5)])
        refit(few)
    assert {label.get_rotation() for label in ax.get_xticklabels()} == {90}
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert not any(a.overlaps(b) for a, b in pairwise(boxes))
    assert {label.get_rotation() for label in few.axes[0].get_xticklabels()} == {45}


def test_saving_twice_gives_the_same_bytes_and_fonts_are_type_42(make_features: Make, tmp_path: Path) -> None:
    result = knn.knn_accuracy(make_features(0, split="train"), make_features(1), k=(1, 5))
    first = result.save(tmp_path / "a" / "figure.pdf", venue="icml")
    again = result.save(tmp_path / "b" / "figure.pdf", venue="icml")
    for suffix in (".pdf", ".csv", ".txt"):
        assert first.with_suffix(suffix).read_bytes() == again.with_suffix(suffix).read_bytes()
    pdf = first.read_bytes()
    assert b"/Type3" not in pdf and b"/FontFile2" in pdf and b"/CIDFontType2" in pdf
    if shutil.which("pdffonts"):
        rows = subprocess.run(["pdffonts", first], capture_output=True, text=True, check=True).stdout.splitlines()[2:]
        assert rows and all("TrueType" in row and " yes " in row for row in rows)


def test_the_caption_draft_says_what_the_result_says(make_features: Make, tmp_path: Path) -> None:
    features = make_features()
    source = {
        "manifest": "clusters", "manifest_sha256": "ab" * 32, "split": "test", "method": "lift", "seed": 7,
        "backbone": {"name": "toybox_vit"}, "run": "runs/first", "weights_sha256": "cd" * 32,
    }  # fmt: skip
    object.__setattr__(features, "source", source)
    result = separability.separability(features)
    path = result.save(tmp_path / "figure.svg", venue="neurips")
    draft = path.with_suffix(".txt").read_text(encoding="utf-8")
    for part in (
        str(result), "n = 240", "Data set clusters; split test; manifest sha256 abababababab.",
        "Method lift; tower toybox_vit; seeds 7.", "Runs runs/first; weights sha256 cdcdcdcdcdcd.",
        'separability, arguments {"normalize": false}',
    ):  # fmt: skip
        assert part in draft
    object.__setattr__(result, "sources", ())
    assert "seeds: not recorded" in (result.save(tmp_path / "b.svg", venue="iclr")).with_suffix(".txt").read_text()
    assert not result.save(tmp_path / "plain.svg").with_suffix(".txt").exists(), "only a venue asks for a draft"
    path.with_suffix(".txt").write_text("my caption")
    with pytest.raises(FileExistsError, match=r"figure\.(svg|csv|txt) exists with other content"):
        result.save(path, venue="neurips")
    assert path.with_suffix(".txt").read_text() == "my caption"
