"""The `workbench` command: each sub-command is one call of a function that notebooks use too."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

    from workbench.features import Features
    from workbench.methods import Clock, Stage
    from workbench.runs import Run

USER_ERRORS = (ValueError, OSError, FloatingPointError, RuntimeError)

EXAMPLES = """\
a first training without downloads (random weights, scikit-learn's digits):
  workbench fit --method lift --backbone test_vit.r160_in1k --weights random --input-size 32 \\
                --data digits_lt --epochs 5 --out runs/first
  workbench report runs/first

your own photographs:
  workbench data import ~/photos --name birds --val 5
  workbench fit --method lift --backbone vit_base_patch16_clip_quickgelu_224.openai --data birds --root ~/photos \\
                --out runs/birds
  workbench fit --resume runs/birds          (after Ctrl-C, a crash, a reboot)
  workbench report runs/birds
  workbench predict runs/birds photo.jpg
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command. Exit codes: 0 done, 1 an error a person can act on, 2 wrong usage, 130 interrupted."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        status: int = arguments.function(arguments)
        return status
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except USER_ERRORS as error:
        if arguments.traceback:
            raise
        print(f"workbench: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="workbench",
        description="Train, compare and look into long-tailed image classifiers built on foundation models.",
        epilog=EXAMPLES,
        formatter_class=raw,
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error arose")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_data(commands)

    fit = commands.add_parser("fit", help="train a method, or continue a run", epilog=EXAMPLES, formatter_class=raw)
    fit.add_argument("--resume", metavar="RUN", help="continue this run; nothing else but --device and --workers applies")
    fit.add_argument("--method", help="linear_probe, full_finetune, lift, ...")
    fit.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="an option of the method")
    fit.add_argument("--backbone", help="a timm ViT or CLIP ResNet with its tag")
    fit.add_argument("--weights", help="a local weight file, or 'random'; default: the tag's pretrained weights")
    fit.add_argument("--input-size", type=int, help="pixels; default: what the backbone was trained with")
    fit.add_argument("--data", help="a data set: a name of data_manifests, or the path of its .toml")
    fit.add_argument("--root", help="the folder that the paths of the data set are relative to")
    fit.add_argument("--out", help="the run folder to make")
    fit.add_argument("--seed", type=int, default=0, help="heads, adapters, order, augmentation (default 0)")
    fit.add_argument("--no-val", action="store_true", help="do not score the validation split")
    fit.add_argument("--epochs", type=int, help="shorten or lengthen the recipe's stages")
    for name, kind in (("lr", float), ("batch-size", int), ("micro-batch-size", int), ("precision", str)):
        fit.add_argument(f"--{name}", type=kind, help="replace the recipe's value in every stage")
    _add_machine(fit)
    fit.set_defaults(function=_fit)

    report = commands.add_parser("report", help="accuracy by shot group and separability of finished runs")
    report.add_argument("runs", nargs="+", metavar="RUN", help="one run, or several seeds of the same method")
    report.add_argument("--against", nargs="+", default=[], metavar="RUN", help="compare with these (seeds in order)")
    report.add_argument("--out", help="folder for figures and tables (default: RUN/report of the first run)")
    _add_extraction(report)
    report.set_defaults(function=_report)

    extract = commands.add_parser("extract", help="save features, decisions and logits of one split as .npz")
    extract.add_argument("runs", nargs="+", metavar="RUN")
    extract.add_argument("--layer", default="head", choices=("head", "backbone"), help="what the head saw, or the bare tower")
    _add_extraction(extract)
    extract.set_defaults(function=_extract)

    predict = commands.add_parser("predict", help="the most probable classes of image files")
    predict.add_argument("run", metavar="RUN")
    predict.add_argument("images", nargs="+", metavar="IMAGE")
    predict.add_argument("-k", type=int, default=5, help="how many classes (default 5)")
    predict.set_defaults(function=_predict)
    return parser


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU where there is one")
    parser.add_argument("--workers", type=int, default=0, help="image-loading processes (default 0: none)")


def _add_extraction(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", default="test", help="default: test")
    parser.add_argument("--views", choices=("centre", "five", "ten"), help="test-time ensemble; default: the method's own")
    parser.add_argument("--per-class", type=int, help="only the first so many images of each class")
    parser.add_argument("--root", help="where the images are now, if they moved since training")
    _add_machine(parser)


# -- fit ---------------------------------------------------------------------------------------------------------------


def _fit(arguments: argparse.Namespace) -> int:
    import workbench as wb

    with _Bars() as bars:
        if arguments.resume:
            run = wb.resume(
                arguments.resume,
                device=arguments.device,
                workers=arguments.workers,
                on_step=bars.step,
                on_encode=bars.encode,
            )
        else:
            missing = [name for name in ("method", "backbone", "data", "out") if getattr(arguments, name) is None]
            if missing:
                raise ValueError(f"fit needs {', '.join('--' + name for name in missing)}, or --resume RUN.")
            manifest = wb.Manifest.load(arguments.data)
            open_split = partial(wb.LongTailDataset, manifest, root=arguments.root, seed=arguments.seed)
            train = open_split(split="train")
            val = open_split(split="val") if manifest.has_validation and not arguments.no_val else None
            backbone = wb.load_backbone(arguments.backbone, arguments.weights, input_size=arguments.input_size)
            options = dict(_option(text) for text in arguments.set)
            method = wb.create_method(arguments.method, backbone, manifest.classes, seed=arguments.seed, **options)
            run = wb.fit(
                method.to(_device(arguments.device)),
                train,
                val,
                out=arguments.out,
                seed=arguments.seed,
                stages=[_varied(stage, arguments) for stage in method.stages(manifest)],
                workers=arguments.workers,
                on_step=bars.step,
                on_encode=bars.encode,
            )
    return _say_how_it_ended(run)


def _say_how_it_ended(run: Run) -> int:
    if run.status["status"] != "finished":
        print(f"{run.path} is {run.status['status']}; `workbench fit --resume {run.path}` continues it.")
        return 130
    scores = [name for name in ("loss", "train_mean_class", "val_mean_class") if name in run.metrics]
    last = ", ".join(f"{name} {run.metrics[name].iloc[-1]:.3f}" for name in scores)
    print(f"{run.path} is finished after {run.status['seconds']:.0f} s ({last}). `workbench report {run.path}` tests it.")
    return 0


def _option(text: str) -> tuple[str, Any]:
    """ "blocks=2" -> ("blocks", 2): numbers, true, false and null as in JSON, anything else is text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set {text!r} is not of the form OPTION=VALUE, for example --set tuner=full.")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _varied(stage: Stage, arguments: argparse.Namespace) -> Stage:
    """The recipe's stage with what the command line replaces; `source` says what."""
    if arguments.epochs is not None:
        stage = stage.shortened(arguments.epochs)
    given = {name: getattr(arguments, name) for name in ("lr", "batch_size", "micro_batch_size", "precision")}
    changed = {name: value for name, value in given.items() if value is not None}
    said = "".join(f"; {name} {value}" for name, value in changed.items())
    return replace(stage, **changed, source=stage.source + said)


def _device(name: str | None) -> str:
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"--device {name}: this machine has no GPU that torch can use; leave it out or say cpu.")
    return name


# -- report, extract, predict ------------------------------------------------------------------------------------------


def _features(path: str, arguments: argparse.Namespace, layer: str = "head") -> Features:
    """Features of a run: read where they were saved before with the same request, else computed and saved."""
    import workbench as wb

    run = wb.Run.load(path)
    method = run.method().to(_device(arguments.device))
    dataset = run.dataset(arguments.split, root=arguments.root, per_class=arguments.per_class)
    views = arguments.views or method.test_views
    limit = f"-{arguments.per_class}-per-class" if arguments.per_class else ""
    file = run.path / "features" / f"{arguments.split}-{views}-{layer}{limit}.npz"
    weights = run.weights_sha256
    if file.exists():
        saved = wb.Features.load(file)
        if saved.source["weights_sha256"] == weights:
            return saved
    with _Bars() as bars:
        found = wb.extract(
            method,
            dataset,
            views=views,
            layer=layer,
            workers=arguments.workers,
            on_step=bars.encode,
            run=str(run.path),
            weights_sha256=weights,
        )
    found.save(file, overwrite=True)
    return found


def _extract(arguments: argparse.Namespace) -> int:
    for path in arguments.runs:
        features = _features(path, arguments, arguments.layer)
        print(features)
    return 0


def _report(arguments: argparse.Namespace) -> int:
    import workbench as wb

    arm = [_features(path, arguments) for path in arguments.runs]
    other = [_features(path, arguments) for path in arguments.against]
    accuracy = wb.group_report(arm, compare=other or None)
    separability = wb.separability(arm[0])
    print(accuracy)
    print()
    print(separability)
    out = Path(arguments.out or Path(arguments.runs[0]) / "report")
    for name, result in (("groups", accuracy), ("separability", separability)):
        print(f"figure and table: {result.save(out / f'{name}.pdf', overwrite=True)}")
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    import workbench as wb

    for found in wb.Run.load(arguments.run).predict(arguments.images, k=arguments.k):
        print(found.path)
        for name, probability in zip(found.names, found.probabilities, strict=True):
            print(f"  {100 * probability:5.1f} %  {name}")
    return 0


class _Bars:
    """Progress bars on the terminal for training steps and for passes over a data set."""

    def __init__(self) -> None:
        self.bar: tqdm[Any] | None = None
        self.key: tuple[Any, ...] = ()

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def _at(self, key: tuple[Any, ...], done: int, total: int, unit: str) -> tqdm[Any]:
        from tqdm import tqdm

        if self.bar is None or self.key != key:
            self.__exit__()
            self.bar, self.key = tqdm(total=total, unit=unit, desc=str(key[0]), disable=None), key
        self.bar.update(done - self.bar.n)
        return self.bar

    def step(self, clock: Clock, parts: dict[str, Any]) -> None:
        bar = self._at(("training", clock.steps), clock.step + 1, clock.steps, "step")
        bar.set_postfix_str(f"epoch {clock.epoch + 1}/{clock.epochs}, loss {float(parts['loss']):.3f}", refresh=False)

    def file(self, done: int, parts: dict[str, Any]) -> None:
        self._at(("files", parts["total"]), done, parts["total"], "file")

    def encode(self, step: int, parts: dict[str, float]) -> None:
        done, total = int(parts["done"]), int(parts["total"])
        if self.bar is not None and done < self.bar.n:
            self.key = ()  # another pass of the same length
        self._at(("images", total), done, total, "image")


# -- data --------------------------------------------------------------------------------------------------------------


def _add_data(commands: Any) -> None:
    data = commands.add_parser("data", help="make, list and check data sets").add_subparsers(required=True, metavar="VERB")

    make = data.add_parser(
        "import",
        help="make a data set of your images",
        description="Read class folders (SPLIT/CLASS/image or CLASS/image), a list of `path label` lines, or a CSV with "
        "the columns split, path, label. No image is copied; each is decoded once, and every broken, doubled, "
        "unreadable or leaking file is reported. An interrupted import continues when it is repeated.",
    )
    make.add_argument("source", metavar="PATH")
    make.add_argument("--name", required=True, help="what the data set will be called")
    make.add_argument("--root", help="where listed paths start (default: PATH, or the folder it lies in)")
    make.add_argument("--split", action="append", default=[], metavar="THEIRS=OURS", help="rename a split: val=test")
    make.add_argument("--val", type=int, default=0, help="images per class to take from train (at most a fifth)")
    make.add_argument("--imbalance-ratio", type=float, help="keep a long-tailed part of train with this ratio")
    make.add_argument("--seed", type=int, default=0, help="chooses images for the two options above (default 0)")
    make.add_argument("--class-names", help="CSV with the columns label and name, or one name per line")
    make.add_argument("--many-from", type=int, help="many-shot: at least so many training images (default 101)")
    make.add_argument("--few-to", type=int, help="few-shot: at most so many training images (default 19)")
    make.add_argument("--out", default="data_manifests", help="folder of the manifest (default data_manifests)")
    make.add_argument("--workers", type=int, default=4, help="decoding threads (default 4)")
    make.set_defaults(function=_data_import)

    listing = data.add_parser("list", help="the data sets at hand")
    listing.set_defaults(function=_data_list)

    show = data.add_parser("show", help="splits, class counts and shot groups of a data set")
    show.add_argument("name")
    show.set_defaults(function=_data_show)

    check = data.add_parser("check", help="decode every image of a data set and list what cannot be used")
    check.add_argument("name")
    check.add_argument("--root", required=True, help="where the paths of the data set start")
    check.set_defaults(function=_data_check)


def _data_import(arguments: argparse.Namespace) -> int:
    import workbench as wb

    rule = None
    if arguments.many_from is not None or arguments.few_to is not None:
        bounds = {"many_from": arguments.many_from, "few_to": arguments.few_to}
        rule = wb.GroupRule(**{name: value for name, value in bounds.items() if value is not None})
    renamed = [text.split("=", 1) for text in arguments.split]
    if any(len(pair) != 2 for pair in renamed):
        raise ValueError(f"--split {' '.join(arguments.split)}: write THEIRS=OURS, for example --split val=test.")
    with _Bars() as bars:
        report = wb.import_dataset(
            arguments.source,
            arguments.name,
            root=arguments.root,
            splits={theirs: ours for theirs, ours in renamed},
            class_names=arguments.class_names,
            imbalance_ratio=arguments.imbalance_ratio,
            seed=arguments.seed,
            val=arguments.val,
            rule=rule,
            out=arguments.out,
            workers=arguments.workers,
            on_step=bars.file,
        )
    print(report)
    return 0


def _data_list(arguments: argparse.Namespace) -> int:
    import workbench as wb

    for name in wb.Manifest.names():
        manifest = wb.Manifest.load(name)
        sizes = ", ".join(f"{split} {len(rows):,}" for split, rows in manifest.splits.items())
        print(f"{name:<24}{len(manifest.classes):>6} classes  {sizes}")
    return 0


def _data_show(arguments: argparse.Namespace) -> int:
    import workbench as wb

    manifest = wb.Manifest.load(arguments.name)
    classes = manifest.classes
    print(f"{manifest.name}: {manifest.title}\nsource: {manifest.source or 'not stated'}\nlicence: {manifest.licence}")
    for split, rows in manifest.splits.items():
        print(f"{split:<6}{len(rows):>9,} images")
    if not manifest.has_validation:
        print("no validation split")
    print(f"{len(classes)} classes with {classes.counts.max()} to {classes.counts.min()} training images ({classes.rule})")
    for group in ("many", "medium", "few"):
        print(f"{group:<7}{(classes.groups == group).sum():>6} classes")
    print(f"sha256 {manifest.sha256}")
    return 0


def _data_check(arguments: argparse.Namespace) -> int:
    import workbench as wb
    from workbench.data.importing import check_dataset

    with _Bars() as bars:
        report = check_dataset(wb.Manifest.load(arguments.name), arguments.root, on_step=bars.file)
    print(report)
    return 1 if report.problems else 0
