"""`workbench demo`: what is executed, what the report shows and does not contain, and how it ends."""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from workbench.cli import main
from workbench.cli.execution import Screen, headings

HOSTILE = "<script>alert(1)</script>"
TOUR = """\
# A small tour
Some words.
## Figures
--- code
import os, sys
import matplotlib.pyplot as plt
print("three points")
plt.plot([1, 3, 2]);
--- code
from tqdm.auto import tqdm
for i in tqdm(range(3), desc="counting"):
    pass
print(sys.executable, os.environ["WORKBENCH_DEMO_OUT"], os.getcwd(), sep="\\n")
print("noise", file=sys.stderr)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory; Jupyter and IPython are new to this user, who has no kernel installed."""
    for name in ("IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        (tmp_path / "home" / name).mkdir(parents=True)
        monkeypatch.setenv(name, str(tmp_path / "home" / name))
    monkeypatch.setenv("MPLBACKEND", "agg")  # as a shell may have it; the figures shall be seen all the same
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def write(text: str) -> str:
    """A notebook from text: markdown first, then cells that each begin with a line "--- KIND"."""
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "nowhere", "display_name": "", "language": ""}}
    )
    for cell in ("--- markdown\n" + text).split("--- ")[1:]:
        kind, _, source = cell.partition("\n")
        make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
        notebook.cells.append(make(source.strip("\n")))
    nbformat.write(notebook, "notebook.ipynb")
    return "notebook.ipynb"


def demo(text: str) -> int:
    return main(["demo", "--notebook", write(text), "--out", "out"])


def page() -> BeautifulSoup:
    return BeautifulSoup(Path("out/report.html").read_text(encoding="utf-8"), "html.parser")


def harmless(soup: BeautifulSoup) -> bool:
    """No script, no handler, and nothing that a browser would load."""
    names = {name for element in soup.find_all(True) for name in element.attrs}
    loaded = [element["src"] for element in soup.find_all(src=True)]
    loaded += [element["href"] for element in soup.find_all("link", href=True)]
    return (
        not soup.find_all(["script", "iframe", "object", "embed", "svg", "base"])
        and not [name for name in names if name.startswith("on") or name == "style"]
        and all(address.startswith("data:image/") for address in loaded)
        and not re.search(r"@import|url\(", str(soup.style))
        and all(re.match(r"https?://|mailto:|#", a["href"]) for a in soup.find_all("a", href=True))
    )


def test_it_executes_the_notebook_here_and_makes_a_report(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert demo(TOUR) == 0
    out, err = capfd.readouterr()
    assert "out/report.html" in out and "out/tour.ipynb" in out
    assert re.fullmatch(r"Figures \(\d+ s\)\n", err), "one line per section where nobody watches, and no bar"
    assert not list(Path("out").glob("*.tmp"))

    text = Path("out/report.html").read_text(encoding="utf-8")
    soup = page()
    assert "<script" not in text and harmless(soup)
    assert soup.title.text == soup.h1.text == "A small tour"
    assert [link["href"] for link in soup.nav.find_all("a")] == ["#section-1"] and soup.find(id="section-1")
    (image,) = soup.find_all("img")
    assert image["src"].startswith("data:image/png;base64,")
    assert image["alt"] == "Figures: three points"
    assert len(soup.find_all("details")) == 2 and not soup.find_all("details", open=True)
    assert "workbench demo --out out --notebook notebook.ipynb" in soup.footer.text

    shown = [pre.text for pre in soup.main.find_all("pre") if pre.parent.name != "details"]
    assert shown == ["three points", f"{sys.executable}\n{folder / 'out'}\n{folder}"], "no widget, no stderr"
    assert not soup.find(class_="note"), "a finished bar is nothing to miss"
    executed = nbformat.read("out/tour.ipynb", as_version=4)
    assert executed.cells[1].outputs and executed.cells[2].execution_count == 2


def test_what_strangers_named_does_no_harm() -> None:
    assert (
        demo(f"""\
# Hostile
--- code
import pandas as pd
from IPython.display import HTML, SVG, Markdown, display
name = {HOSTILE!r}
print(name, "\\033[31mred\\033[0m")
display(pd.DataFrame({{"class": [name], "images": [12]}}))
display(Markdown("| class | % |\\n|---|---|\\n| " + name + " | 62.3 [57.6, 67.0] |\\n\\n[x](javascript:alert(1))"))
display(HTML(name + "<style>@import url(http://x.y)</style><img src=x onerror=alert(1)><img src=http://x.y/z.png>"))
display(HTML("<a href='data:text/html,x'>a</a><p style='background: url(http://x.y)'>b</p><iframe src=//x></iframe>"))
display(HTML("<svg><script>alert(1)</script></svg><math><mi xlink:href='data:x'></mi></math>"))
display(SVG("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"))
facts = {{"alt": '"><script>', "width": 9}}
display({{"image/png": 'x" onerror="alert(1)'}}, raw=True, metadata={{"image/png": facts}})
name
""")
        == 0
    )
    soup = page()
    assert "<script" not in Path("out/report.html").read_text(encoding="utf-8")
    assert harmless(soup)
    seen = soup.main.get_text()
    assert f"{HOSTILE} red" in seen
    assert [cell.text.strip() for cell in soup.find_all("td")] == [HOSTILE, "12", HOSTILE, "62.3 [57.6, 67.0]"]
    assert [cell.text for cell in soup.find_all("td", class_="number")] == ["12", "62.3 [57.6, 67.0]"]
    assert [cell.text for cell in soup.find_all("th", class_="number")] == ["images", "%"]
    assert all(image.get("alt") for image in soup.find_all("img"))
    assert all(table.parent["class"] == ["scroll"] for table in soup.find_all("table"))


def test_pictures_of_the_text_are_embedded_and_widgets_are_mentioned() -> None:
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
    Path("pixel.png").write_bytes(base64.b64decode(pixel))
    cells = "# Title\n![a dot](pixel.png) ![](http://x.y/z.png)\n--- code\nimport ipywidgets\nipywidgets.IntSlider()\n"
    assert demo(cells) == 0
    soup = page()
    assert harmless(soup)
    assert [(image.get("src"), image["alt"]) for image in soup.find_all("img")] == [
        (f"data:image/png;base64,{pixel}", "a dot"),
        (None, "image"),
    ]
    assert "open tour.ipynb" in soup.find(class_="note").text


def test_a_failing_cell_is_named_and_the_rest_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    cells = "# Title\n## First\n--- code\n1 + 1\n--- markdown\n## Second `part`\n--- code\nraise KeyError('gone')\n"
    assert demo(cells) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == (
        "workbench: the cell under 'Second part' failed: KeyError: 'gone'. What ran is in out/tour.ipynb."
    )
    kept = nbformat.read("out/tour.ipynb", as_version=4)
    assert kept.cells[1].outputs[0].data["text/plain"] == "2"
    assert kept.cells[3].outputs[0].ename == "KeyError"
    assert not Path("out/report.html").exists()


def test_a_dead_kernel_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert demo("# Title\n--- code\n1 + 1\n--- code\nimport os; os._exit(1)\n") == 1
    assert "under 'Title' ended the kernel" in capfd.readouterr().err
    assert nbformat.read("out/tour.ipynb", as_version=4).cells[1].outputs


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_is_the_stop_button_and_what_ran_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    cells = """\
# Title
--- code
import os, signal, time
try:
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(60)
except KeyboardInterrupt:
    print("saved")
--- code
print("never")
"""
    assert demo(cells) == 130
    assert "Interrupted. What ran is in out/tour.ipynb." in capfd.readouterr().err
    kept = nbformat.read("out/tour.ipynb", as_version=4)
    assert kept.cells[1].outputs[0].text == "saved\n"
    assert kept.cells[2].outputs == []


def test_a_missing_notebook_or_package_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["demo", "--notebook", "nowhere.ipynb"]) == 1
    assert "no notebook at nowhere.ipynb" in capsys.readouterr().err
    monkeypatch.setattr("workbench.cli.demo.find_spec", lambda name: None if name == "nbconvert" else name)
    assert main(["demo"]) == 1
    assert capsys.readouterr().err == "workbench: workbench demo needs nbconvert: pip install nbconvert\n"


def test_a_bar_of_the_kernel_is_mirrored_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    screen = Screen(total=2)
    widgets: dict[str, dict[str, object]] = {
        "left": {"value": "LIFT\u2007training:\u2007\u200733%"},
        "bar": {"_model_name": "FloatProgressModel", "max": 3, "value": 1},
        "right": {"value": "\u20071/3\u2007[00:01&lt;00:02,\u2007{loss}\x1b[2J]"},
        "row": {"children": ["IPY_MODEL_left", "IPY_MODEL_bar", "IPY_MODEL_right"]},
    }
    screen.watch(widgets, "bar")
    assert screen.mirror is None, "not before its row is there"
    screen.watch(widgets, "row")
    shown = str(screen.mirror)
    assert "LIFT training: 33% |" in shown and "| 1/3 [00:01<00:02, {loss} [2J]" in shown
    inner = {name: dict(state) for name, state in widgets.items()}
    nested = {f"inner-{name}": state for name, state in inner.items()}
    nested["inner-row"] = {"children": [f"IPY_MODEL_inner-{name}" for name in ("left", "bar", "right")]}
    nested["inner-left"] = {"value": "images"}
    widgets |= nested
    screen.watch(widgets, "inner-row")
    assert "images" in str(screen.mirror)
    screen.watch(widgets, "bar")
    assert "images" in str(screen.mirror), "the inner of two bars is drawn"
    widgets["inner-bar"]["bar_style"] = "success"
    screen.watch(widgets, "inner-bar")
    assert screen.mirror is None
    screen.watch(widgets, "bar")
    assert "LIFT" in str(screen.mirror)
    screen.watch(widgets, "row", closed=True)
    assert screen.mirror is None
    screen.close()


def test_headings_are_found_outside_code() -> None:
    assert headings("# One **two**\ntext\n```\n# no\n```\n## `three` ##\n#four") == ["One two", "three"]
