"""How apps look: the tokens of the house as CSS, cards, states, the chip and the line of code. Names every colour once.

Colours are those of `workbench.diagnostics.base`; ink and paper follow the notebook's theme. Text from outside (class
names, file names, messages) goes through `escape`.
"""

from __future__ import annotations

import base64
import io
import traceback
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import numpy as np
import traitlets
from PIL import Image

from workbench.diagnostics.base import GRID, GROUP_COLOURS, GROUP_ORDER, INK, MUTED

SCRIPTS = Path(__file__).parent / "scripts"
MARKS = {True: "✓", False: "✗"}
GROUP_SIGNS = {"many": "●", "medium": "■", "few": "▲"}

_CSS = """\
.wb-app { font-size: 13px; color: var(--jp-ui-font-color1, INK); gap: 8px; max-width: 1400px; }
.wb-app, .wb-app .widget-html-content { font-variant-numeric: tabular-nums; line-height: 1.4; }
.wb-bar { flex-flow: row wrap; gap: 4px 12px; align-items: center; }
.wb-card { border: 1px solid var(--jp-border-color1, LINE); padding: 8px; gap: 4px; min-width: 0; overflow: hidden; }
.wb-card > .wb-title { font-weight: 600; }
.wb-row { flex-flow: row nowrap; gap: 8px; align-items: stretch; }
.wb-half { flex: 1 1 0; min-width: 0; }
.wb-caption { font-size: 11px; color: var(--jp-ui-font-color2, MUTED); }
.wb-chip { background: var(--jp-layout-color2, GRID); border-radius: 12px; padding: 2px 10px; }
.wb-state { border: 1px dashed var(--jp-border-color1, LINE); padding: 16px; text-align: center;
  color: var(--jp-ui-font-color2, MUTED); }
.wb-state.wb-broken { border-style: solid; text-align: left; color: var(--jp-ui-font-color1, INK); }
.wb-state details { margin-top: 8px; } .wb-state pre { white-space: pre-wrap; font-size: 11px; }
.wb-tiles { max-height: 300px; overflow-y: auto; }
.wb-app img { max-width: 100%; image-rendering: auto; }
.wb-pixels img { image-rendering: pixelated; }
.wb-app table { border-collapse: collapse; } .wb-app td, .wb-app th { padding: 2px 8px; text-align: right; }
.wb-app td:first-child, .wb-app th:first-child { text-align: left; }
"""
for _token, _colour in {"INK": INK, "MUTED": MUTED, "LINE": MUTED, "GRID": GRID}.items():
    _CSS = _CSS.replace(_token, _colour)


def app(name: str, *children: widgets.Widget) -> widgets.VBox:
    """The outermost box of an app with the house style; keys go to the controls that `shortcut` marked."""
    box = widgets.VBox([widgets.HTML(f"<style>{_CSS}</style>"), *children, Keys()])
    box.add_class("wb-app").add_class(f"wb-{name}")
    return box


def bar(*children: widgets.Widget) -> widgets.HBox:
    """Controls side by side, on more lines where the width asks for it."""
    box = widgets.HBox(list(children))
    box.add_class("wb-bar")
    return box


def row(*children: widgets.Widget) -> widgets.HBox:
    """Cards side by side, equally wide."""
    for child in children:
        child.add_class("wb-half")
    box = widgets.HBox(list(children))
    box.add_class("wb-row")
    return box


def card(title: str, *children: widgets.Widget) -> widgets.VBox:
    head = widgets.HTML(f"<b>{escape(title)}</b>")
    head.add_class("wb-title")
    box = widgets.VBox([head, *children])
    box.add_class("wb-card")
    return box


def caption(text: str = "") -> widgets.HTML:
    """Small grey text; `say` changes it."""
    line = widgets.HTML(escape(text))
    line.add_class("wb-caption")
    return line


def state(text: str, *, kind: str = "empty", details: str = "") -> str:
    """HTML of a state that is not a picture: "empty", "missing", "loading" or "broken"; never a blank box."""
    more = f"<details><summary>details</summary><pre>{escape(details)}</pre></details>" if details else ""
    role = "alert" if kind == "broken" else "status"
    return f'<div class="wb-state wb-{kind}" role="{role}">{escape(text)}{more}</div>'


def broken(error: BaseException) -> str:
    """HTML of an error: the message that a person can act on, the traceback behind "details"."""
    lines = "".join(traceback.format_exception(error))
    return state(str(error) or type(error).__name__, kind="broken", details=lines)


def png(pixels: np.ndarray) -> bytes:
    """(H, W, 3) or (H, W) uint8 as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def picture(pixels: np.ndarray, alt: str, *, width: int) -> str:
    """HTML of an image (H, W, 3) uint8 so many CSS pixels wide, with what it shows in words."""
    data = base64.b64encode(png(pixels)).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}" title="{escape(alt)}" width="{width}">'


def group_legend(counts: dict[str, int]) -> str:
    """HTML: many, medium, few with their sign, colour and number, always in this order."""
    return " ".join(
        f'<span style="color:{GROUP_COLOURS[group]}">{GROUP_SIGNS[group]}</span> {group} '
        f'<span class="wb-caption">n = {counts.get(group, 0)}</span>'
        for group in GROUP_ORDER
    )


def shortcut(control: widgets.Widget, key: str) -> Any:
    """The key (f, s, c, esc) reaches this control while the app has the focus: buttons are pressed, others focused."""
    control.add_class(f"wb-key-{key}")
    return control


def guarded(show: Callable[[str], None]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator of a handler: an error becomes a message where people look, given to `show` as HTML."""

    def wrap(handler: Callable[..., Any]) -> Callable[..., Any]:
        def safe(*arguments: Any) -> Any:
            try:
                return handler(*arguments)
            except Exception as error:
                return show(broken(error))

        return safe

    return wrap


class Keys(anywidget.AnyWidget):
    """Nothing to see: sends keys of the app it stands in to the controls that `shortcut` marked."""

    _esm = SCRIPTS / "keys.js"


class CodeLine(anywidget.AnyWidget):
    """One line of code that gives what is seen, with a button that copies it (key c)."""

    _esm = SCRIPTS / "code_line.js"
    code = traitlets.Unicode().tag(sync=True)


class Tiles(anywidget.AnyWidget):
    """Small pictures in a grid; click or arrow keys choose one.

    `cells` are {"title": shown on hover and read aloud, "caption": text below, "colour": of the mark}.
    """

    _esm = SCRIPTS / "tiles.js"
    sheet = traitlets.Bytes().tag(sync=True)  # JPEG: the pictures one below the other
    side = traitlets.Int(96).tag(sync=True)  # pixels of a picture in the sheet
    shown = traitlets.Int(72).tag(sync=True)  # CSS pixels on the screen
    cells = traitlets.List(traitlets.Dict()).tag(sync=True)
    active = traitlets.Int(-1).tag(sync=True)
    empty = traitlets.Unicode("Nothing is selected.").tag(sync=True)

    def show(self, pictures: np.ndarray | None, cells: Sequence[dict[str, str]]) -> None:
        """pictures: (n, side, side, 3) uint8, or None for captions alone."""
        with self.hold_sync():
            self.active = -1
            self.sheet = b"" if pictures is None or not len(pictures) else _jpeg(pictures)
            self.side = 96 if pictures is None or not len(pictures) else pictures.shape[1]
            self.cells = list(cells)


def _jpeg(pictures: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pictures.reshape(-1, *pictures.shape[2:])).save(buffer, "jpeg", quality=88)
    return buffer.getvalue()
