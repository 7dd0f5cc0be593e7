"""Choosing one image: of a data set by class and number, or one's own file; toys also before another background."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import ipywidgets as widgets

from workbench.data import read_image
from workbench.diagnostics.base import plain
from workbench.toybox import BACKGROUNDS

from .style import bar, guarded, shortcut

if TYPE_CHECKING:
    from PIL import Image

    from workbench.data import LongTailDataset

AS_IS = "as is"


class Picker:
    """`view` has the controls; `changed` is called after a person chose, `tell` gets the HTML of errors."""

    def __init__(
        self, images: LongTailDataset | None, changed: Callable[[], None], tell: Callable[[str], None]
    ) -> None:
        self.images, self._changed = images, changed
        self._upload: tuple[str, Image.Image] | None = None  # name or path, and pixels
        self.uploads = 0  # so far; two files of one name are two images
        self._of_class: dict[int, list[int]] = {}
        for row, label in enumerate([] if images is None else images.labels.tolist()):
            self._of_class.setdefault(label, []).append(row)
        names = [] if images is None else images.classes.names
        kinds = [(plain(names[c], 32), c) for c in sorted(self._of_class)]
        self.kind = widgets.Dropdown(options=kinds, description="class", layout=widgets.Layout(width="250px"))
        self.number = widgets.BoundedIntText(0, min=0, max=0, description="image", layout=widgets.Layout(width="130px"))
        self.upload = widgets.FileUpload(accept="image/*", description="own image")
        self.background = widgets.Dropdown(
            options=[AS_IS, *BACKGROUNDS], description="background", layout=widgets.Layout(width="200px")
        )
        for control in (self.kind, self.number):
            control.disabled, control.style.description_width = not kinds, "45px"
        shortcut(self.kind, "s")
        self.view = bar(self.kind, self.number, self.upload, self.background)
        self._quiet = False
        if kinds:
            self._count()
        self._limit()
        self.kind.observe(lambda _: self._picked(), "value")
        self.number.observe(lambda _: self._picked(new_class=False), "value")
        self.background.observe(lambda _: None if self._quiet else changed(), "value")
        self.upload.observe(lambda _: guarded(tell)(self._uploaded)(), "value")

    @property
    def row(self) -> int | None:
        """Of the data set; None: an upload, or nothing."""
        return (
            None
            if self._upload is not None or not self._of_class
            else self._of_class[self.kind.value][self.number.value]
        )

    @property
    def source(self) -> str | None:
        """Id of the image, name of the upload, or None: there is nothing to look at."""
        if self._upload is not None:
            return self._upload[0]
        return None if self.images is None or self.row is None else str(self.images.ids[self.row])

    @property
    def own_background(self) -> str | None:
        return None if self.images is None or self.row is None else self.images.background(self.row)

    @property
    def other_background(self) -> str | None:
        """What was chosen in place of the image's own."""
        chosen, own = self.background.value, self.own_background
        return None if own is None or chosen in (AS_IS, own) else chosen

    def reader(self) -> Callable[[], Image.Image]:
        """What reads the image that is chosen now: a large file takes longer than a handler may."""
        upload, images, row, background = self._upload, self.images, self.row, self.other_background
        if upload is not None:
            return lambda: upload[1]
        if images is None or row is None:
            raise ValueError("there is no image to look at; upload one.")
        return lambda: images.image(row, background=background)

    def about(self) -> str:
        """The image in words."""
        if self.images is None or self.row is None:
            return f"{self.source}: your image"
        classes, label, own = self.images.classes, int(self.images.labels[self.row]), self.own_background
        text = (
            f"{self.source}: {classes.names[label]} ({classes.groups[label]}, {classes.counts[label]} training images)"
        )
        if self.other_background:
            return f"{text}, before {self.other_background} in place of {own}"
        return text if own is None else f"{text}, before {own}"

    def choose(self, what: str | None, background: str | None = None) -> None:
        """An id of the data set, or else the path of an image; None: the same. Does not call `changed`."""
        before, self._quiet = self._quiet, True
        try:
            if what is not None:
                self._choose(what)
            self.background.value = AS_IS if background is None else background
        finally:
            self._quiet = before
        self._limit()

    def _choose(self, what: str) -> None:
        found = [] if self.images is None else (self.images.ids == what).nonzero()[0].tolist()
        if found and self.images is not None:
            self._upload = None
            self.kind.value = int(self.images.labels[found[0]])
            self._count()
            self.number.value = self._of_class[self.kind.value].index(found[0])
        elif Path(what).is_file():
            self._upload = (what, read_image(what))
            self.uploads += 1
        else:
            held = "no images" if self.images is None else f"ids such as {str(self.images.ids[0])!r}"
            raise ValueError(f"{what!r} is neither an image of this data set ({held}) nor a file.")

    def _count(self) -> None:
        self.number.max = len(self._of_class[self.kind.value]) - 1
        self.number.tooltip = f"0 to {self.number.max}"

    def _picked(self, *, new_class: bool = True) -> None:
        if self._quiet:
            return
        self._upload = None
        if new_class:
            self._quiet = True
            self.number.value = 0
            self._count()
            self._quiet = False
        self._limit()
        self._changed()

    def _uploaded(self) -> None:
        if not self.upload.value:
            return
        file = self.upload.value[0]
        name = str(file["name"])
        with tempfile.NamedTemporaryFile(suffix=".image") as copy:
            Path(copy.name).write_bytes(bytes(file["content"]))
            try:
                self._upload = (name, read_image(copy.name))
            except ValueError as error:
                raise ValueError(f"{name}: {error}. Choose another image.") from error
        self.uploads += 1
        self._limit()
        self._changed()

    def _limit(self) -> None:
        """Only toys have a background that can be exchanged."""
        self.background.disabled = self.own_background is None
        hint = "only toys are rendered before a background that can be exchanged"
        self.background.tooltip = escape(hint) if self.background.disabled else "the same toy before another one"
