"""What to train, as a form: its fields are the words of `workbench fit`, and it writes that command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from workbench.backbones.tags import PINS
from workbench.data import LongTailDataset, Manifest
from workbench.methods import METHODS, Method, method_class
from workbench.training.process import log_path

from .style import bar, broken, caption, card, shortcut

BACKBONES = ("toybox_clip", "toybox_vit", *sorted(PINS))
# the first example of `workbench fit --help`: nothing to download, two minutes on two cores
FIRST = {
    "method": "lift", "data": "toybox_lt", "backbone": "toybox_clip", "text": True, "epochs": "5",
    "batch-size": "32", "lr": "0.03", "seed": "0",
}  # fmt: skip
TEXTS = ("weights", "root", "epochs", "lr", "batch-size", "micro-batch-size", "seed", "workers")  # options as they are
WIDE = {"weights": "270px", "root": "250px", "micro-batch-size": "225px"}
HINTS = {
    "weights": "file; empty: the tag's own",
    "root": "folder of the images",
    "epochs": "recipe's",
    "lr": "recipe's",
    "batch-size": "recipe's",
    "micro-batch-size": "whole batch",
    "seed": "0",
    "workers": "0",
}


class Form:
    """`view` are the fields, `words()` the command line they stand for; `changed` is called after every change."""

    def __init__(self, start: Callable[[], None], changed: Callable[[], None]) -> None:
        self.method = widgets.Dropdown(options=list(METHODS), description="method", layout=_wide("250px"))
        self.data = widgets.Combobox(options=Manifest.names(), description="data", layout=_wide("250px"))
        self.backbone = widgets.Combobox(options=BACKBONES, description="backbone", layout=_wide("360px"))
        self.text = widgets.Checkbox(description="text tower", indent=False, layout=_wide("100px"))
        self.val = widgets.Checkbox(value=True, description="score validation", indent=False, layout=_wide("130px"))
        self.fields = {
            name: widgets.Text(
                description=name.replace("-", " "), placeholder=HINTS[name], layout=_wide(WIDE.get(name, "150px"))
            )
            for name in TEXTS
        }
        self.options = widgets.Text(description="options", placeholder="tuner=full blocks=2", layout=_wide("430px"))
        self.more = widgets.Text(description="more", placeholder="--precision amp", layout=_wide("300px"))
        self.more.tooltip = "further words of `workbench fit`"
        self.out = widgets.Text(description="out", layout=_wide("300px"))
        self.start = widgets.Button(description="start", button_style="primary", layout=_wide("80px"))
        self.known = caption()
        self.message = widgets.HTML()
        for field in (self.method, self.data, self.backbone, self.options, self.more, self.out, *self.fields.values()):
            field.style.description_width = "70px"
        for name in ("batch-size", "micro-batch-size"):
            self.fields[name].style.description_width = "initial"
        shortcut(self.method, "f")
        small = [self.fields[name] for name in ("epochs", "lr", "batch-size", "micro-batch-size", "seed", "workers")]
        self.view = card(
            "New run",
            bar(self.method, self.data, self.fields["root"]),
            bar(self.backbone, self.fields["weights"], self.text),
            bar(*small, self.val),
            bar(self.options, self.more),
            self.known,
            bar(self.out, self.start),
            self.message,
        )
        self._changed, self._filling, self._suggested, self._root = changed, False, "", Path("runs")
        self.start.on_click(lambda _: start())
        self.method.observe(lambda _: self._describe(), "value")
        self._controls = {
            "method": self.method, "data": self.data, "backbone": self.backbone, "text": self.text, "val": self.val,
            "options": self.options, "more": self.more, "out": self.out, **self.fields,
        }  # fmt: skip
        for control in self._controls.values():
            control.observe(lambda _: self._follow(), "value")
        self._describe()

    def fill(self, values: Mapping[str, Any]) -> None:
        """Put values into fields by name; `changed` is called once."""
        self._filling = True
        try:
            for name, value in values.items():
                self._controls[name].value = value
        finally:
            self._filling = False
        self._follow()

    def words(self) -> list[str]:
        """The words after `workbench fit`; ValueError where a quotation does not end."""
        words = ["--method", self.method.value, "--backbone", self.backbone.value.strip()]
        words += ["--text"] if self.text.value else []
        words += ["--data", self.data.value.strip()]
        for option in _split(self.options.value, "options"):
            words += ["--set", option]
        for name, field in self.fields.items():
            if field.value.strip():
                words += [f"--{name}", field.value.strip()]
        words += [] if self.val.value else ["--no-val"]
        words += _split(self.more.value, "more")
        return [*words, "--out", self.out.value.strip()]

    def command(self) -> str:
        return shlex.join(["workbench", "fit", *self.words()])

    def suggest(self, root: Path | None = None) -> None:
        """A folder below root that is free for the next run, unless one was typed; calls nobody."""
        self._root = root or self._root
        if self.out.value not in ("", self._suggested):
            return
        name, number = self.method.value, 1
        while (path := self._root / (name if number == 1 else f"{name}-{number}")).exists() or log_path(path).exists():
            number += 1
        self._suggested, filling, self._filling = str(path), self._filling, True
        self.out.value, self._filling = self._suggested, filling

    def _describe(self) -> None:
        """The options of the method with their defaults, and a folder of its name."""
        self.suggest()
        try:
            options = fields(method_class(self.method.value).Config)
        except (ImportError, ValueError) as error:
            self.message.value = broken(error)
            return
        said = ", ".join(f"{f.name}={json.dumps(f.default, default=str)}" for f in options if f.default is not MISSING)
        whole = ", ".join(f.name for f in options if f.default is MISSING and f.default_factory is MISSING)
        known = ", ".join(filter(None, (whole, said))) or "none"
        self.known.value = f"options of {self.method.value}: {escape(known)}"

    def _follow(self) -> None:
        if not self._filling:
            self.message.value = ""
            self._changed()


def asked(method: str | Method | None, train: Any, val: Any, out: str | Path | None) -> dict[str, Any]:
    """Fields of the form for what `train` was given.

    Raises:
        ValueError: what no command line can say, with what to do.
    """
    found: dict[str, Any] = dict(FIRST)
    if isinstance(method, str):
        method_class(method)  # an unknown name lists the known ones
        found["method"] = method
    elif method is not None:
        found |= _of_method(method)
    if isinstance(train, LongTailDataset):
        if train.per_class is not None or train.split != "train":
            raise ValueError("train= is a part of a data set, which no command line can name; train it with wb.fit.")
        found |= {"root": "" if train.root is None else str(train.root), "seed": str(train.seed)}
    if train is not None:
        manifest = train.manifest if isinstance(train, LongTailDataset) else train
        found["data"] = _name_of(manifest) if isinstance(manifest, Manifest) else str(manifest)
    if method is not None and not isinstance(method, str):
        found["seed"] = str(method.seed)
    if val is False or (val is None and isinstance(train, LongTailDataset)):
        found["val"] = False
    return found | ({} if out is None else {"out": str(out)})


def _of_method(method: Method) -> dict[str, Any]:
    """A method of `create_method` as fields: options that are not the default, its towers, no recipe replaced."""
    spec, text = method.backbone.spec(), method.text
    if spec["seed"]:
        raise ValueError(f"the tower has random weights of seed {spec['seed']}; a command line draws those of seed 0.")
    defaults = {f.name: f.default for f in fields(method.Config)}
    options = {name: value for name, value in method.options.items() if value != defaults[name]}
    more = ["--input-size", str(method.backbone.input_size)]
    if text is not None and text["name"] != spec["name"]:
        more += ["--text", text["name"]]
    return {
        "method": method.name,
        "options": shlex.join(f"{n}={v if isinstance(v, str) else json.dumps(v)}" for n, v in options.items()),
        "backbone": spec["name"],
        "weights": str(spec["weights"] or ""),
        "text": text is not None and text["name"] == spec["name"],
        "more": shlex.join(more),
        **dict.fromkeys(("epochs", "lr", "batch-size"), ""),
    }


def _name_of(manifest: Manifest) -> str:
    """A name or path that the command line reads as this very data set."""
    if manifest.name in Manifest.names() and Manifest.load(manifest.name).sha256 == manifest.sha256:
        return manifest.name
    if manifest.path is None:
        raise ValueError(f"{manifest.name} is in no file: manifest.save(folder), and give its path.")
    return str(manifest.path)


def _split(text: str, field: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{field}: {text!r} cannot be read as words ({error}).") from error


def _wide(width: str) -> widgets.Layout:
    return widgets.Layout(width=width)
