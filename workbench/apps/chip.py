"""The chip: what is selected, in words, and what can be done with it. All apps with a selection show it."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import anywidget
import ipywidgets as widgets
import traitlets

from workbench.diagnostics.base import plain

from .selection import Selection
from .style import SCRIPTS, bar, shortcut

LETTERS = 60  # of the reason


class Copies(anywidget.AnyWidget):
    """Buttons that copy a text each, written by the kernel when it is wanted.

    `texts`: name of the button -> function that writes; `kinds` are [name, label, what is copied].
    """

    _esm = SCRIPTS / "copies.js"
    kinds = traitlets.List().tag(sync=True)
    enabled = traitlets.Bool(True).tag(sync=True)

    def __init__(self, kinds: list[list[str]], texts: dict[str, Callable[[], str]]) -> None:
        super().__init__(kinds=kinds)
        self._texts = texts
        self.on_msg(self._asked)

    def _asked(self, _: Any, content: dict[str, Any], buffers: Any) -> None:
        write = self._texts.get(str(content.get("what")))
        self.send({"number": content.get("number"), "text": "" if write is None else write()})


class Chip:
    """`view` follows the selection: the chip, clear, invert, keep only, and copies of ids and code.

    Args:
        selection: shared by the views of the app.
        code: the app's line of code.
        frame: the line that gives the selected images as a DataFrame; None: that is not offered.
        clear: what the button does; None: that is for the app to say.
        nothing: words where nothing is selected.
        narrow: whether all other images are what "invert" selects, and the selected ones alone can be kept.
    """

    def __init__(
        self, selection: Selection, code: Callable[[], str], *, frame: Callable[[], str] | None = None,
        clear: Callable[[], None] | None = None, narrow: bool = False, nothing: str = "",
    ) -> None:  # fmt: skip
        self._nothing = nothing
        self.text = widgets.HTML()
        self.text.add_class("wb-chip")
        self.clear, self.invert, self.keep, self.all = (
            widgets.Button(description=label, tooltip=tip, layout=widgets.Layout(width="auto"))
            for label, tip in (
                ("clear", "nothing is selected (Escape)"),
                ("invert", "select all others"),
                ("keep only", "show these images only"),
                ("show all", "show the images again that were left out"),
            )
        )
        shortcut(self.clear, "esc")
        if clear is not None:
            self.clear.on_click(lambda _: clear())
        self.invert.on_click(lambda _: selection.invert())
        self.keep.on_click(lambda _: selection.keep())
        self.all.on_click(lambda _: selection.release())
        kinds = [["ids", "copy ids", "ids of the selected images, one a line"], ["code", "copy code", "the app's line"]]
        texts: dict[str, Callable[[], str]] = {"ids": lambda: "\n".join(selection.ids), "code": code}
        if frame is not None:
            kinds.append(["frame", "copy DataFrame", "the line that gives the selected images as a DataFrame"])
            texts["frame"] = frame
        self.copies = Copies(kinds, texts)
        self.view = bar(self.text, self.clear, *((self.invert, self.keep, self.all) if narrow else ()), self.copies)
        selection.observe(self._follow)

    def _follow(self, selection: Selection) -> None:
        number = len(selection)
        words = f"{number:,} image{'' if number == 1 else 's'}"
        if not selection.why and self._nothing:
            words = self._nothing
        if selection.why:
            words += f" · {plain(selection.why, LETTERS)}"
        if selection.kept is not None:
            words += f" · {len(selection.kept):,} kept"
        self.text.value = f'<span title="{escape(selection.why)}">{escape(words)}</span>'
        self.keep.disabled = not number
        self.copies.enabled = bool(number)
        self.all.layout.display = "none" if selection.kept is None else ""
