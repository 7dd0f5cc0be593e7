"""`workbench fit`: train a method, or continue a run."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from functools import partial
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from workbench.progress import Bars

if TYPE_CHECKING:
    from workbench.data import Manifest
    from workbench.methods import Stage
    from workbench.runs import Run

NEEDED = ("method", "backbone", "data", "out")
SAME = "the name of --backbone"
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "null"}

DESCRIPTION = """\
Train a method and keep everything in a new run folder; an existing folder is never touched. The recipe (epochs, batch
size, lr, ...) is that of the method's paper; the options below replace parts of it, and the run records which.

Ctrl-C lets the step finish, saves, and leaves a run that --resume continues with the same final weights. The same holds
after a crash, which costs at most the last minute.
"""

EXAMPLES = """\
examples:
  no downloads: the toybox and its own CLIP, two minutes
    workbench fit --method lift --backbone toybox_clip --text --data toybox_lt --epochs 5 --batch-size 32 --lr 0.03 \\
                  --out runs/first

  your photographs (after `workbench data import ~/photos --name birds`) on CLIP, weights from a local file
    workbench fit --method lift --backbone vit_base_patch16_clip_quickgelu_224.openai --weights clip.safetensors \\
                  --data birds --root ~/photos --out runs/birds

  LIFT's baseline, full fine-tuning with the same head and loss, with an lr of the paper's grid and a second seed
    workbench fit --method lift --set tuner=full --lr 0.001 --seed 1 --backbone ... --data ... --out runs/full-1

  LIFT as in its paper, the head begun from the class names, and the same CLIP without any training
    workbench fit --method lift --backbone vit_base_patch16_clip_quickgelu_224.openai --text --data ... --out runs/lift
    workbench fit --method zero_shot --backbone vit_base_patch16_clip_quickgelu_224.openai --text --data ... --out ...

  the head begun from descriptions in a file, in place of the data set's own
    workbench fit --method lift --set templates=descriptions --texts descriptions.json --text --backbone ... --out ...

  a small GPU or few cores: 32 images at a time (the gradients still add up to the recipe's batch), 4 loaders
    workbench fit ... --micro-batch-size 32 --workers 4

  go on after an interruption
    workbench fit --resume runs/birds
"""


def add_commands(commands: Any) -> None:
    fit = commands.add_parser(
        "fit",
        help="train a method, or continue a run",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    fit.add_argument("--resume", metavar="RUN", help="continue this run; with it go only --root, --device, --workers")
    what = fit.add_argument_group("what to train")
    what.add_argument("--method", help="linear_probe, full_finetune, lift, ... (a wrong name lists them all)")
    what.add_argument(
        "--set",
        action="append",
        type=option,
        default=[],
        metavar="OPTION=VALUE",
        help="an option of the method, may be repeated: --set tuner=partial --set blocks=2",
    )
    what.add_argument("--backbone", help="a timm ViT or CLIP ResNet with its tag: vit_base_patch16_224.augreg_in21k")
    what.add_argument("--weights", help="a local weight file, or 'random'; default: the tag's pretrained weights")
    what.add_argument(
        "--text",
        nargs="?",
        const=SAME,
        metavar="NAME",
        help="load a text tower too, for zero_shot and lift; NAME: default that of --backbone",
    )
    what.add_argument("--text-weights", metavar="FILE", help="its weights; default: --weights, a file of a whole CLIP")
    what.add_argument(
        "--texts",
        metavar="FILE",
        help="sentences about the classes, in place of the data set's own: JSON of CuPL, WaffleCLIP or VCD, VL-LTR's "
        "folder, or a .jsonl.gz; classes are matched by name",
    )
    what.add_argument("--corpus", metavar="FILE", help="sentences to train on beside the images (hlc), as --texts")
    what.add_argument("--input-size", type=int, help="pixels; default: what the backbone was trained with")
    what.add_argument("--data", help="a data set: a name of `workbench data list`, or the path of its .toml")
    what.add_argument("--root", help="the folder that the paths of the data set are relative to")
    what.add_argument("--out", help="the run folder to make")
    what.add_argument("--seed", type=int, help="heads, adapters, order, augmentation (default 0)")
    what.add_argument("--no-val", action="store_true", help="do not score the validation split after each epoch")
    recipe = fit.add_argument_group("parts of the recipe to replace")
    recipe.add_argument("--epochs", type=int, help="shorten or lengthen every stage; warm-up keeps its share")
    for name, kind, text in (
        ("lr", float, "learning rate after warm-up"),
        ("batch-size", int, "images per optimiser step"),
        ("micro-batch-size", int, "images per forward pass; gradients add up to the batch size"),
        ("precision", str, "fp32, or amp: half precision where a GPU has it"),
    ):
        recipe.add_argument(f"--{name}", type=kind, help=f"{text}, in every stage")
    add_machine(fit)
    fit.set_defaults(function=fit_or_resume, usage_error=fit.error)


def add_machine(parser: argparse.ArgumentParser) -> None:
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU where there is one")
    machine.add_argument("--workers", type=int, default=0, help="image-loading processes (default 0: none)")


def fit_or_resume(arguments: argparse.Namespace) -> int:
    import workbench as wb

    if arguments.resume:
        _refuse_more(arguments)
        with Bars() as bars:
            run = wb.resume(
                arguments.resume,
                root=arguments.root,
                device=arguments.device,
                workers=arguments.workers,
                on_step=bars.step,
                on_epoch=bars.epoch,
                on_encode=bars.encode,
            )
        return _say_how_it_ended(run)
    missing = [f"--{name}" for name in NEEDED if getattr(arguments, name) is None]
    if missing:
        arguments.usage_error(f"fit needs {', '.join(missing)}, or --resume RUN.")
    if arguments.text_weights is not None and arguments.text is None:
        arguments.usage_error("--text-weights goes with --text.")
    device, seed = device_of(arguments), arguments.seed or 0
    options = _options(arguments.method, arguments.set)
    manifest = wb.Manifest.load(arguments.data)
    _check_root(manifest, arguments.root)
    open_split = partial(wb.LongTailDataset, manifest, root=arguments.root, seed=seed)
    train = open_split(split="train")
    val = open_split(split="val") if manifest.has_validation and not arguments.no_val else None
    if not manifest.has_validation:
        print(f"{manifest.name} has no validation split: only training images are scored.", file=sys.stderr)
    backbone = wb.load_backbone(arguments.backbone, arguments.weights, input_size=arguments.input_size)
    texts, corpus = (_texts(path, manifest) for path in (arguments.texts, arguments.corpus))
    method = wb.create_method(
        arguments.method,
        backbone,
        manifest.classes,
        text=_text_tower(arguments, device),
        texts=manifest.texts if texts is None else texts,
        corpus=corpus,
        seed=seed,
        **options,
    )
    stages = [_varied(stage, arguments) for stage in method.stages(manifest)]
    with Bars() as bars:
        run = wb.fit(
            method.to(device),
            train,
            val,
            out=arguments.out,
            seed=seed,
            stages=stages,
            workers=arguments.workers,
            on_step=bars.step,
            on_epoch=bars.epoch,
            on_encode=bars.encode,
        )
    return _say_how_it_ended(run)


def _text_tower(arguments: argparse.Namespace, device: str) -> Any:
    import workbench as wb

    if arguments.text is None:
        return None
    name = arguments.backbone if arguments.text == SAME else arguments.text
    return wb.load_text_tower(name, arguments.text_weights or arguments.weights).to(device)


def _texts(path: str | None, manifest: Manifest) -> dict[str, list[str]] | None:
    """Sentences by class name; which classes have none is said on stderr, and it is the method that may refuse."""
    from workbench.data import import_texts

    if path is None:
        return None
    report = import_texts(path, manifest.classes.names)
    print(report, file=sys.stderr)
    return report.texts


def _refuse_more(arguments: argparse.Namespace) -> None:
    """A run keeps its recipe: an option that --resume would ignore is an error."""
    allowed = ("resume", "root", "device", "workers", "traceback", "function", "usage_error")
    given = [name for name, value in vars(arguments).items() if name not in allowed and value not in (None, [], False)]
    if given:
        names = ", ".join("--" + name.replace("_", "-") for name in given)
        arguments.usage_error(f"--resume continues a run with its own recipe; {names} cannot be changed.")


def _check_root(manifest: Manifest, root: str | None) -> None:
    if manifest.kind == "files" and root is None:
        raise ValueError(f"{manifest.name} consists of image files: say with --root FOLDER where its paths start.")


def _say_how_it_ended(run: Run) -> int:
    if run.status["status"] != "finished":
        print(f"{run.path} is {run.status['status']}; `workbench fit --resume {run.path}` continues it.")
        return 130
    scores = [name for name in ("loss", "train_mean_class", "val_mean_class") if name in run.metrics]
    last = ", ".join(f"{name} {run.metrics[name].iloc[-1]:.3f}" for name in scores)
    print(f"{run.path} is finished after {run.status['seconds']:.0f} s{last and f' ({last})'}.")
    print(f"`workbench report {run.path}` tests it.")
    return 0


def option(text: str) -> tuple[str, Any]:
    """ "blocks=2" -> ("blocks", 2): numbers, true, false and null as in JSON, anything else is text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form OPTION=VALUE, for example tuner=full.")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _options(method: str, given: list[tuple[str, Any]]) -> dict[str, Any]:
    """Options with values of the right type; what they may be besides is checked by the method itself."""
    from workbench.methods import method_class

    hints = get_type_hints(method_class(method).Config)
    for name, value in given:
        kinds = get_args(hints.get(name)) or (hints.get(name),)  # int | None -> int, None
        if all(isinstance(kind, type) for kind in kinds) and not any(_is(value, kind) for kind in kinds):
            said = " or ".join(KINDS.get(kind, kind.__name__) for kind in kinds)
            raise ValueError(f"--set {name}={value}: {name} takes {said}.")
    return dict(given)


def _is(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _varied(stage: Stage, arguments: argparse.Namespace) -> Stage:
    """The recipe's stage with what the command line replaces; `source` says what."""
    if arguments.epochs is not None:
        stage = stage.shortened(arguments.epochs)
    given = {name: getattr(arguments, name) for name in ("lr", "batch_size", "micro_batch_size", "precision")}
    changed = {name: value for name, value in given.items() if value is not None}
    said = "".join(f"; {name} {value}" for name, value in changed.items())
    return replace(stage, **changed, source=stage.source + said)


def device_of(arguments: argparse.Namespace) -> str:
    import torch

    name: str | None = arguments.device
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"--device {name} is not known; say cpu, cuda, or cuda:1 for the second GPU.") from error
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"--device {name}: this machine has no GPU that torch can use; leave it out or say cpu.")
    return name
