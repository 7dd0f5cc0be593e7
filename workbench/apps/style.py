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
from IPython.display import HTML, display
from PIL import Image

from workbench.diagnostics.base import GRID, GROUP_COLOURS, GROUP_ORDER, INK, METHOD_COLOURS, MUTED

SCRIPTS = Path(__file__).parent / "scripts"
MARKS = {True: "✓", False: "✗"}
GROUP_SIGNS = {"many": "●", "medium": "■", "few": "▲"}
THEME_INK = f"var(--jp-ui-font-color1, {INK})"  # of what is drawn in HTML
LOST = "This app needs a kernel that has run it: it appears here, or it is gone. Run this cell, after those above it."
LIFT = "28%"  # of white in the colours of marks and words, in a dark theme: the darkest are then told from the page

_CSS = """\
.wb-app { font-size: 13px; color: var(--jp-ui-font-color1, INK); gap: 8px; max-width: 1400px; padding-top: 4px; }
.wb-app, .wb-app .widget-html-content { font-variant-numeric: tabular-nums; line-height: 1.4; }
.wb-bar { flex-flow: row wrap; gap: 4px 12px; align-items: center; }
.wb-card { border: 1px solid var(--jp-border-color1, LINE); padding: 8px; gap: 4px; min-width: 0; overflow: hidden; }
.wb-card > .wb-title { font-weight: 600; }
.wb-row { flex-flow: row nowrap; gap: 8px; align-items: stretch; }
.wb-half { flex: 1 1 0; min-width: 0; }
.wb-app > .widget-vbox:not(.wb-card), .wb-half.widget-vbox:not(.wb-card) { gap: 8px; }
.wb-caption { font-size: 11px; color: var(--jp-ui-font-color2, MUTED); }
.wb-chip { background: var(--jp-layout-color2, GRID); border-radius: 12px; padding: 2px 10px; }
.wb-state { border: 1px dashed var(--jp-border-color1, LINE); padding: 16px; text-align: center;
  color: var(--jp-ui-font-color2, MUTED); }
.wb-state.wb-broken { border-style: solid; text-align: left; color: var(--jp-ui-font-color1, INK); }
.wb-state details { margin-top: 8px; } .wb-state pre { white-space: pre-wrap; font-size: 11px; }
.wb-tiles { max-height: 300px; overflow-y: auto; }
.wb-app img { max-width: 100%; image-rendering: auto; }
.wb-pixels img { image-rendering: pixelated; }
.wb-scale { white-space: nowrap; } .wb-scale img { display: inline; vertical-align: middle; }
.wb-app table { border-collapse: collapse; } .wb-app td, .wb-app th { padding: 2px 8px; text-align: right; }
.wb-app td:not(:first-child, :last-child) { white-space: nowrap; }
.wb-app td:first-child, .wb-app th:first-child { text-align: left; }
/* what other widgets bring along: room for nothing, shadows, marks off the line, letters below 11 pixels */
.wb-app .widget-html:has(> .widget-html-content:empty) { display: none; }
.wb-app .wb-bar:not(:has(> :not([style*="display: none"]))) { display: none; }
.wb-app .jupyter-button, .wb-app .jupyter-button.mod-active { box-shadow: none; }
.wb-app .widget-checkbox { align-items: center; }
.wb-app .widget-checkbox .widget-label-basic { display: flex; align-items: center; }
.wb-app .widget-readout.overflow { box-shadow: none; }
.wb-app .widget-checkbox input { flex: none; margin-top: 0 !important; }
.wb-app [class^="legend-"], .wb-app .title { font-size: 11px !important; }
/* a dark theme: lighter colours, and the arrow of a list */
[data-jp-theme-light="false"] .wb-app { --wb-lift: LIFT; --jp-widgets-dropdown-arrow: ARROW; }
/* the kernel is gone (scripts/kernel.js): words in place of the broken chain on every widget */
.wb-app.jupyter-widgets-disconnected::before, .wb-app .jupyter-widgets-disconnected::before,
.jupyter-widgets-disconnected:has(> .wb-app)::before { content: none; }
.wb-app .wb-kernel { order: -1; }
:is(.jp-OutputArea, .jp-Cell):has(.wb-app) .wb-lost { display: none; }
.wb-gone [inert] { opacity: 0.5; }
"""
_ARROW = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 18 18"><path fill="none" stroke="white" stroke-width="1.5" '
    'd="M5 7l4 4 4-4"/></svg>'
)
_CSS += "".join(
    f'[data-jp-theme-light="false"] .wb-app [style*="color:{colour}"] '
    f"{{ color: color-mix(in srgb, {colour}, white {LIFT}) !important; }}\n"
    for colour in (*GROUP_COLOURS.values(), *METHOD_COLOURS)
)
for _token, _value in {
    "INK": INK, "MUTED": MUTED, "LINE": MUTED, "GRID": GRID, "LIFT": LIFT,
    "ARROW": f"url(data:image/svg+xml;base64,{base64.b64encode(_ARROW.encode()).decode()})",
}.items():  # fmt: skip
    _CSS = _CSS.replace(_token, _value)


class App(widgets.VBox):
    """An app as a cell shows it; words stand there where it is gone, in a notebook opened without its kernel."""

    def _repr_mimebundle_(self, **given: Any) -> Any:
        display(HTML(f'<div class="wb-lost">{LOST}</div>'))
        return super()._repr_mimebundle_(**given)


def app(name: str, *children: widgets.Widget) -> widgets.VBox:
    """The outermost box of an app with the house style; keys go to the controls that `shortcut` marked.

    When the kernel is restarted or ends, a message says so above what is still seen.
    """
    sheet = widgets.HTML(f"<style>{_CSS}</style>", layout=widgets.Layout(display="none"))
    box = widgets.VBox([sheet, *children, Keys(), Kernel()])
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
        f'<span style="white-space:nowrap"><span style="color:{GROUP_COLOURS[group]}">{GROUP_SIGNS[group]}</span> '
        f'{group} <span class="wb-caption">n = {counts.get(group, 0)}</span></span>'
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


class Kernel(anywidget.AnyWidget):
    """Nothing to see while the kernel lives; then a message, for the app's controls do nothing any more."""

    _esm = SCRIPTS / "kernel.js"


class CodeLine(anywidget.AnyWidget):
    """One line of code that gives what is seen, with a button that copies it (key c)."""

    _esm = SCRIPTS / "code_line.js"
    code = traitlets.Unicode().tag(sync=True)


class Tiles(anywidget.AnyWidget):
    """Small pictures in a grid; click or arrow keys choose one.

    `cells` are {"title": shown on hover and read aloud, "caption": text below, "colour": of the mark}; one
    with words under "missing" has these in place of a picture.
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
