"""An executed notebook as one HTML page: no scripts, nothing loaded from anywhere, outputs never trusted.

Markdown and code are the notebook's author's. Outputs may hold what strangers chose, names of classes and files: text
is escaped, HTML is reduced to the elements below, and an image can only be an <img> with its data inside.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import bleach
from bs4 import BeautifulSoup, Tag
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from nbconvert.filters import strip_ansi
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from workbench.versions import versions

ELEMENTS = frozenset(
    "a abbr b blockquote br caption cite code col colgroup dd del details div dl dt em figcaption figure h1 h2 h3 h4 "
    "h5 h6 hr i img ins kbd li mark ol p pre q s samp small span strong sub summary sup table tbody td tfoot th thead "
    "tr u ul var".split()
)
DROPPED = "script style svg math template noscript iframe object embed head title textarea select form audio video"
ATTRIBUTES = {"td": ("colspan", "rowspan"), "th": ("colspan", "rowspan", "scope"), "ol": ("start",)}
IMAGES = ("image/svg+xml", "image/png", "image/jpeg")  # best first
WIDGET = "application/vnd.jupyter.widget-view+json"
NUMBER = re.compile(r"[\W\d_e]*|nan|NaN|None|<NA>")  # no letters but the e of 1e-05: also "62.3 [57.6, 67.0]" and gaps


@dataclass(frozen=True)
class Part:
    """One piece of the page; the template knows how each kind is drawn."""

    kind: str  # prose, code, html, text, image or widget
    body: str  # Markup where it is HTML
    alt: str = ""
    width: int | None = None  # of an image, in CSS pixels


def render(notebook: NotebookNode, source: Path, *, command: str, seconds: float) -> str:
    """The page of an executed notebook.

    Args:
        source: where the notebook came from; images beside it that its text shows are embedded.
        command: what made this page, for the footer.
        seconds: how long the execution took.
    """
    title, heading = source.stem, ""
    sections: list[tuple[str, str]] = []  # id and text of every second-level heading
    parts: list[Part] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            soup = _clean(_markdown(cell.source, escape=False, folder=source.parent))
            found = soup.find_all(["h1", "h2", "h3"])
            heading = found[-1].get_text() if found else heading
            if not parts and found and found[0].name == "h1":
                title = found[0].extract().get_text()
            for h2 in soup.find_all("h2"):
                sections.append((f"section-{len(sections) + 1}", h2.get_text()))
                h2["id"] = sections[-1][0]
            parts.append(Part("prose", _markup(soup)))
        elif cell.cell_type == "code" and cell.source.strip():
            parts.append(Part("code", Markup(highlight(cell.source, PythonLexer(), HtmlFormatter(nowrap=True)))))
            parts += _outputs(cell, heading or title, notebook)
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    text = Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8")
    ours = versions()
    return template.from_string(text).render(
        title=title,
        sections=sections,
        parts=parts,
        versions=[(name, ours[name]) for name in ("workbench", "python", "torch", "timm")],
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        command=command,
        seconds=round(seconds),
    )


def _outputs(cell: NotebookNode, heading: str, notebook: NotebookNode) -> Iterator[Part]:
    said = heading
    figures = 0
    for output in cell.outputs:
        if output.output_type == "stream":
            if output.name == "stdout" and output.text.strip():
                said = f"{heading}: {strip_ansi(output.text).strip().splitlines()[0]}"
                yield Part("text", strip_ansi(output.text).strip("\n"))
            continue
        if output.output_type == "error":
            yield Part("text", strip_ansi("\n".join(output.traceback)))
            continue
        data = output.data
        image = next((kind for kind in IMAGES if kind in data), None)
        if WIDGET in data:
            if not _is_bar(data[WIDGET], notebook):
                yield Part("widget", "")
        elif "text/html" in data:
            yield Part("html", _markup(_clean(data["text/html"])))
        elif "text/markdown" in data:
            yield Part("html", _markup(_clean(_markdown(data["text/markdown"], escape=True))))
        elif image is not None:
            figures += 1
            facts = output.metadata.get(image, {})
            alt = facts.get("alt") or (f"{said}, figure {figures}" if figures > 1 else said)
            width = facts.get("width")
            yield Part("image", _data_uri(image, data[image]), str(alt), width if isinstance(width, int) else None)
        elif str(data.get("text/plain", "")).strip():
            yield Part("text", strip_ansi(data["text/plain"]).strip("\n"))


def _is_bar(view: NotebookNode, notebook: NotebookNode) -> bool:
    """Whether a widget is one of tqdm's: a row with a progress bar in it. Anything else is worth mentioning."""
    saved = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    names = [str(name).removeprefix("IPY_MODEL_") for name in [view["model_id"], *_children(saved, view["model_id"])]]
    return any(saved.get(name, {}).get("model_name") == "FloatProgressModel" for name in names)


def _children(saved: NotebookNode, name: str) -> list[str]:
    return saved.get(name, {}).get("state", {}).get("children") or []


def _data_uri(kind: str, data: str) -> str:
    if kind == "image/svg+xml":
        data = base64.b64encode(data.encode()).decode()
    return f"data:{kind};base64,{re.sub(r'[^A-Za-z0-9+/=]', '', data)}"


def _markdown(source: str, *, escape: bool, folder: Path | None = None) -> str:
    """HTML of markdown. escape: show HTML in it as text; folder: embed the images it refers to."""
    renderer = IPythonRenderer(
        escape=escape, embed_images=folder is not None, path=str(folder or ""), exclude_anchor_links=True
    )
    return MarkdownWithMath(renderer=renderer).render(source)


def _clean(html: str) -> BeautifulSoup:
    """What is harmless in some HTML, with tables in boxes of their own and their numbers marked."""
    parse = partial(BeautifulSoup, features="html.parser")
    whole = parse(html + "\n")  # a single line without elements could be a file name, which bs4 warns of
    for element in whole.find_all(DROPPED.split()):  # with all that is in them, which is no text for readers
        element.decompose()
    schemes = {"http", "https", "mailto", "data"}
    soup = parse(bleach.clean(str(whole), tags=ELEMENTS, attributes=_is_allowed, protocols=schemes, strip=True) + "\n")
    for image in soup.find_all("img"):
        image["alt"] = image.get("alt") or "image"
    for table in soup.find_all("table"):
        _mark_numbers(table)
        table.wrap(soup.new_tag("div", attrs={"class": "scroll", "tabindex": "0"}))
    return soup


def _is_allowed(element: str, name: str, value: str) -> bool:
    if element == "a":
        return name == "href" and re.match(r"(https?://|mailto:|#)", value) is not None
    if element == "img":
        return name == "alt" or (name == "src" and re.match(r"data:image/(png|jpeg|gif|svg\+xml);", value) is not None)
    return name in ATTRIBUTES.get(element, ())


def _mark_numbers(table: Tag) -> None:
    """Class "number" for the cells of columns that hold nothing but numbers, and for their column names."""
    rows = [row.find_all("td") for row in table.find_all("tr")]
    width = max(map(len, rows), default=0)
    body = [cells for cells in rows if len(cells) == width]
    numeric = {column for column in range(width) if all(NUMBER.fullmatch(cells[column].get_text()) for cells in body)}
    for row in table.find_all("tr"):
        cells = row.find_all("td") or row.find_all("th")
        offset = width - len(cells)  # names of index columns stand before those of the others
        for place, cell in enumerate(cells):
            if place + offset in numeric:
                cell["class"] = "number"


def _markup(soup: BeautifulSoup) -> Markup:
    return Markup(str(soup))
