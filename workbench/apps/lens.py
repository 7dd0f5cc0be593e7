"""One image through several methods: what stands out, what speaks for the class, where attention goes, what if."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from workbench.diagnostics.attention import HEADS
from workbench.diagnostics.base import plain
from workbench.runs import Run

from .lens_rows import CHECKS, COLUMNS, GRID, Look, at_block, biased, checks_of, for_method, header, row_of
from .picker import Picker
from .style import App, CodeLine, app, bar, caption, card, guarded, state
from .work import ONE_MODEL, Work

if TYPE_CHECKING:
    from workbench.data import LongTailDataset
    from workbench.methods import Method

KEPT = 500  # rows in the cache
STRONGEST = 10.0  # times the learned bias


class Lens(App):
    """See `lens`."""

    def __init__(self, methods: Mapping[str, Method], images: LongTailDataset | None) -> None:
        self.methods, self.images = dict(methods), images
        self.work = Work()
        self._cache: dict[tuple[str, bool, Look], str] = {}
        self._quiet = False
        self.message, self.about, self.bias_note = widgets.HTML(), caption(), caption()
        self.picker = Picker(images, self._follow, self._tell)
        self._controls()
        self.header = widgets.HTML()
        self.rows = {name: widgets.HTML(state("Looking.", kind="loading")) for name in self.methods}
        for row in self.rows.values():
            row.add_class("wb-pixels")
        self.code = CodeLine()
        table = card("Maps", self.about, self.header, *self.rows.values())
        first = bar(self.picker.view, self.work.view)
        second = bar(self.block, self.head, self.alpha, self.beta, self.target, self.checks)
        super().__init__([app("lens", first, second, self.bias_note, self.message, table, self.code)])
        self._note_bias()
        self._follow()

    def show(
        self,
        what: str | Path | None = None,
        *,
        block: int | None = None,
        head: int | str = "mean",
        alpha: float = 1.0,
        beta: float = 1.0,
        background: str | None = None,
        target: str = "predicted",
        checks: bool = False,
    ) -> Lens:
        """Look at an image of the data set by its id, or at an image file; what the code line writes.

        Args:
            what: id or path; None: the image that is shown.
            block: up to which attention is rolled out and where Grad-CAM looks; None: the last.
            head: "mean", "max", "min", or for the attention of the block the number of a head.
            alpha, beta: strength of the saliency biases, in multiples of what was learned.
            background: of a toy, another than its own.
            target: the class that Grad-CAM explains, "predicted" or "true".
            checks: whether the maps are checked: random weights, deletion.
        """
        self._quiet = True
        try:
            self.picker.choose(None if what is None else str(what), background)
            self.block.value = self.block.max if block is None else block
            self.head.value, self.alpha.value, self.beta.value = head, alpha, beta
            self.target.value, self.checks.value = target, checks
        finally:
            self._quiet = False
        self._follow()
        return self

    def _controls(self) -> None:
        def wide(pixels: int) -> widgets.Layout:
            return widgets.Layout(width=f"{pixels}px")

        depth = 1 + max(at_block(method, -1) for method in self.methods.values())
        slider: dict[str, Any] = {"continuous_update": False, "layout": wide(240)}
        self.block = widgets.IntSlider(depth - 1, min=0, max=depth - 1, description="block", **slider)
        towers = [method.backbone for method in self.methods.values() if method.backbone.is_vit]
        heads = max((tower.blocks[0].inner.attn.num_heads for tower in towers), default=0)
        self.head = widgets.Dropdown(
            options=[(h, h) for h in HEADS] + [(f"head {h}", h) for h in range(heads)],
            description="head", layout=wide(140), disabled=not heads,
        )  # fmt: skip
        strength: dict[str, Any] = {"min": 0.0, "max": STRONGEST, "step": 0.25, "readout_format": ".2f", **slider}
        self.alpha = widgets.FloatSlider(1.0, description="alpha x", **strength)
        self.beta = widgets.FloatSlider(1.0, description="beta x", **strength)
        self.target = widgets.Dropdown(options=("predicted", "true"), description="explain", layout=wide(160))
        self.target.disabled = self.images is None
        self.checks = widgets.ToggleButton(description="check the maps", layout=wide(130))
        self.checks.tooltip = "Grad-CAM of random weights, and deletion in the order of the map"
        for control in (self.head, self.target, self.block, self.alpha, self.beta):
            control.style.description_width = "48px"
        for control in (self.block, self.head, self.alpha, self.beta, self.target, self.checks):
            control.observe(lambda _: self._follow(), "value")

    def _note_bias(self) -> None:
        """Sliders for methods that have something to move, and why not where they have not."""
        has = {name: method for name, method in self.methods.items() if biased(method)}
        self.alpha.disabled = not any(method.config.foreground for method in has.values())
        self.beta.disabled = not any(method.config.background for method in has.values())
        if not has:
            self.bias_note.value = "alpha, beta: none of these methods has a saliency bias to strengthen; lt_dpt has."
            return
        still = [
            plain(name, 30)
            for name, method in has.items()
            if method.config.bias_rows == "prompt_query" and method.config.pooling == "cls"
        ]
        note = "alpha, beta: times the learned strength of the saliency bias, of " + ", ".join(
            plain(n, 30) for n in has
        )
        if still:
            note += f"; of {', '.join(still)} the printed bias cannot reach the class token"
        self.bias_note.value = escape(note)

    # -- looking -------------------------------------------------------------------------------------------------------

    def _tell(self, html: str) -> None:
        self.message.value = html

    def _follow(self) -> None:
        if not self._quiet and hasattr(self, "code"):
            guarded(self._tell)(self._look)()

    def _look(self) -> None:
        """Show what the controls say."""
        self.message.value = ""
        picker, images = self.picker, self.images
        columns = COLUMNS + (CHECKS if self.checks.value else ())
        if picker.source is None:
            self.work.cancel()
            hint = "There are no images. Upload one above, or pass images=LongTailDataset(manifest, split)."
            self._failed(state(hint, kind="missing"))
            self.code.code = "lens(methods, images)"
            return
        look = Look(
            source=picker.source, row=picker.row, upload=0 if picker.row is not None else picker.uploads,
            background=picker.other_background, block=self.block.value,
            head=self.head.value, target=self.target.value, alpha=self.alpha.value, beta=self.beta.value,
        )  # fmt: skip
        self.code.code = f"lens(methods, images).show({self._arguments(look)})"
        read = picker.reader()
        self.header.value = header(columns)
        about = picker.about()
        wanted = self._wanted(look)
        if all(key in self._cache for key in wanted):
            self.work.cancel()
            self._put(look)
            self.about.value = escape(f"{about} · cached")
            return
        self.about.value = escape(about)

        def task(step: Callable[[int, int], None]) -> None:
            image = read()
            for done, key in enumerate(wanted):
                name, check, of_method = key
                with ONE_MODEL:
                    step(done, len(wanted))
                    if key not in self._cache:
                        compute = checks_of if check else row_of
                        self._keep(key, compute(name, self.methods[name], image, images, of_method))
                    step(done + 1, len(wanted))  # a stale answer stays in the cache and is not shown
                    self._put(look)

        what = "maps of one image" if not self.checks.value else "maps of one image, and their checks"
        self.work.start(what, task, lambda _: None, self._failed)

    def _failed(self, html: str) -> None:
        """No maps of another image stay below a message."""
        self.message.value = html
        for row in self.rows.values():
            row.value = ""

    def _wanted(self, look: Look) -> list[tuple[str, bool, Look]]:
        kinds = (False, True) if self.checks.value else (False,)
        return [(name, check, for_method(look, method)) for check in kinds for name, method in self.methods.items()]

    def _keep(self, key: tuple[str, bool, Look], html: str) -> None:
        while len(self._cache) >= KEPT:
            del self._cache[next(iter(self._cache))]
        self._cache[key] = html

    def _put(self, look: Look) -> None:
        """Rows as far as they are computed."""
        checks = self.checks.value
        columns = len(COLUMNS) + (len(CHECKS) if checks else 0)
        for name, method in self.methods.items():
            of_method = for_method(look, method)
            cells = self._cache.get((name, False, of_method))
            if cells is not None:
                more = self._cache.get((name, True, of_method), "") if checks else ""
                self.rows[name].value = f'<div style="{GRID.format(columns)}">{cells}{more}</div>'

    def _arguments(self, look: Look) -> str:
        usual: dict[str, Any] = {"block": self.block.max, "head": "mean", "alpha": 1.0, "beta": 1.0}
        usual |= {"background": None, "target": "predicted"}
        given = [f"{key}={getattr(look, key)!r}" for key, value in usual.items() if getattr(look, key) != value]
        return ", ".join([repr(look.source), *given, *(["checks=True"] if self.checks.value else [])])


def lens(methods: Mapping[str, Method | Run] | Method | Run, images: LongTailDataset | None = None) -> Lens:
    """One image, or one of your own, through several methods, with the maps that explain them side by side.

    Args:
        methods: name -> trained method or run; one alone is fine.
        images: a data set to choose from, with the classes of the methods; None: uploads only.

    Raises:
        ValueError: no methods, or methods of other classes than the data set's.
    """
    if not isinstance(methods, Mapping):
        found = methods.method() if isinstance(methods, Run) else methods
        return lens({found.name: found}, images)
    built = {str(name): each.method() if isinstance(each, Run) else each for name, each in methods.items()}
    if not built:
        raise ValueError("methods is empty; give a mapping such as {'LT-DPT': run.method()}.")
    for name, method in built.items():
        if images is not None and tuple(method.classes.names) != tuple(images.classes.names):
            raise ValueError(
                f"{name} knows {len(method.classes)} classes and {images.manifest.name!r} has {len(images.classes)}, "
                "or they are named or ordered differently; use the data set of the run."
            )
    return Lens(built, images)
