"""`workbench report`, `extract` and `predict`: what a finished run is worth and what it sees."""

from __future__ import annotations

import argparse
import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.progress import Bars

from .shift import Shift
from .training import add_machine, device_of

if TYPE_CHECKING:
    from workbench.data import Manifest
    from workbench.diagnostics.base import Result
    from workbench.features import Features
    from workbench.methods import Method
    from workbench.runs import Run

log = logging.getLogger(__name__)

NEIGHBOURS = (1, 5, 20)

REPORT = """\
Accuracy for many-, medium- and few-shot classes with 95 % intervals, and how well the classes separate, on the test
split. Prints the tables and saves figures and tables (.pdf, .csv, .tex). Several runs are seeds of one method;
--against sets a second method beside it, class by class on the same images. Features are kept in RUN/features, so a
second report takes seconds.

--data shows the same split of another data set beside it (domain shift). Its classes are those of the run by name; the
images of others are left out and counted. --classes gives a table where one of its classes holds several of the run's:
their probabilities are summed, and only classes of the table are decided between, on both data sets.
"""

REPORT_EXAMPLES = """\
examples:
  workbench report runs/first
  workbench report runs/first --bank --cost              (also nearest neighbours, parameters, FLOPs, time)
  workbench report runs/first --groups gt100_le20                    (LPT's reading of "few"; printed with every table)
  workbench report runs/lift-0 runs/lift-1 runs/lift-2 --against runs/full-0 runs/full-1 runs/full-2 --out lift-full
  workbench report runs/birds --split val --root /mnt/photos        (the images were moved since)
  workbench report runs/first --data toybox_sketch                          (domain shift)
  workbench report runs/imagenet --data shapes --data-root ~/shapes --classes sixteen.csv
"""

EXTRACT = """\
Run a trained method over one split and save what it saw: feature vectors, decisions, confidences and logits of every
image, as RUN/features/SPLIT-VIEWS-LAYER.npz (`wb.Features.load` reads it; it needs neither the model nor the images).
"""

EXTRACT_EXAMPLES = """\
examples:
  workbench extract runs/first
  workbench extract runs/first --split train --views centre            (a bank for nearest neighbours)
  workbench extract runs/first runs/second --layer backbone            (the tower alone, without adapters and head)
"""

PREDICT_EXAMPLES = """\
examples:
  workbench predict runs/birds photo.jpg
  workbench predict runs/birds holiday/*.jpg -k 3
"""


def add_commands(commands: Any) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    report = commands.add_parser(
        "report",
        help="accuracy by shot group and separability of finished runs",
        description=REPORT,
        epilog=REPORT_EXAMPLES,
        formatter_class=raw,
    )
    report.add_argument("runs", nargs="+", metavar="RUN", help="one run, or several seeds of the same method")
    report.add_argument("--against", nargs="+", default=[], metavar="RUN", help="compare with these (seeds in order)")
    report.add_argument(
        "--groups",
        metavar="RULE",
        help="gt100_lt20, gt100_le20, ge100_le20 or index:36,71; default: the data set's own",
    )
    report.add_argument("--data", metavar="OTHER", help="also accuracy on this data set, on the same split")
    report.add_argument("--data-root", help="where the images of --data are")
    report.add_argument("--classes", metavar="MAP", help="CSV with the columns class (of --data) and run_class")
    report.add_argument("--out", help="folder for figures and tables (default: RUN/report of the first run)")
    report.add_argument(
        "--bank",
        action="store_true",
        help="also K-NN accuracy of the first run: the whole train split is the bank, which costs a pass over it",
    )
    report.add_argument("--cost", action="store_true", help="also parameters, FLOPs and milliseconds of the first run")
    _add_extraction(report)
    report.set_defaults(function=report_runs, usage_error=report.error)

    extract = commands.add_parser(
        "extract",
        help="save features, decisions and logits of one split as .npz",
        description=EXTRACT,
        epilog=EXTRACT_EXAMPLES,
        formatter_class=raw,
    )
    extract.add_argument("runs", nargs="+", metavar="RUN")
    extract.add_argument(
        "--layer", default="head", choices=("head", "backbone"), help="what the head saw (default), or the bare tower"
    )
    _add_extraction(extract)
    extract.set_defaults(function=extract_runs)

    predict = commands.add_parser(
        "predict",
        help="the most probable classes of image files",
        description="The most probable classes of image files with their probabilities, by the run's own test views.",
        epilog=PREDICT_EXAMPLES,
        formatter_class=raw,
    )
    predict.add_argument("run", metavar="RUN")
    predict.add_argument("images", nargs="+", metavar="IMAGE")
    predict.add_argument("-k", type=int, default=5, help="how many classes (default 5)")
    predict.set_defaults(function=predict_images)


def _add_extraction(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", default="test", help="default: test")
    parser.add_argument(
        "--views",
        metavar="VIEWS",
        help="centre, five, ten, or random20 and the like; default: the method's own ensemble",
    )
    parser.add_argument("--per-class", type=int, help="only the first so many images of each class of the split")
    parser.add_argument("--root", help="where the images are now, if they moved since training")
    add_machine(parser)


class _Trained:
    """A finished run, its method built when it is first needed, and features that are computed once."""

    def __init__(self, path: str, arguments: argparse.Namespace) -> None:
        import workbench as wb

        self.run, self.arguments = wb.Run.load(path), arguments
        _check_finished(self.run)

    @cached_property
    def method(self) -> Method:
        return self.run.method().to(device_of(self.arguments))

    def features(
        self,
        split: str,
        *,
        views: Any,  # as `wb.extract` takes them; None is the method's own
        layer: Any = "head",
        per_class: int | None = None,
        other: Manifest | None = None,
    ) -> tuple[Features, Path]:
        """Features and their file: as they were saved before for the same request and weights, else computed.

        other: a data set with the run's classes in place of the run's own.
        """
        import workbench as wb

        views = views or self.method.test_views
        self.method.test_preprocessing(views)  # refuses what is no name of views before it becomes one of a file
        limit = f"-{per_class}-per-class" if per_class else ""
        if other is None:
            dataset, prefix = self.run.dataset(split, root=self.arguments.root, per_class=per_class), ""
        else:
            dataset = wb.LongTailDataset(other, split, self.arguments.data_root, per_class=per_class)
            prefix = f"{other.name}-"
        file = self.run.path / "features" / f"{prefix}{split}-{views}-{layer}{limit}.npz"
        weights = self.run.weights_sha256
        if file.exists():
            try:
                saved = wb.Features.load(file)
                made_of = (saved.source["weights_sha256"], saved.source["manifest_sha256"])
                if made_of == (weights, dataset.manifest.sha256):
                    return saved, file
            except ValueError:
                log.warning("%s is broken and is made again.", file)
        with Bars() as bars:
            found = wb.extract(
                self.method,
                dataset,
                views=views,
                layer=layer,
                workers=self.arguments.workers,
                on_step=bars.encode,
                run=str(self.run.path),
                weights_sha256=weights,
            )
        return found, found.save(file, overwrite=True)


def _check_finished(run: Run) -> None:
    status = run.status["status"]
    if status != "finished":
        found = "not finished: it is being trained or was killed" if status == "running" else status
        raise ValueError(f"{run.path} is {found}. `workbench fit --resume {run.path}` continues it.")


def report_runs(arguments: argparse.Namespace) -> int:
    import workbench as wb
    from workbench.diagnostics.accuracy import GroupReport

    if arguments.data is None and (arguments.data_root or arguments.classes):
        arguments.usage_error("--data-root and --classes go with --data.")
    arm = [_Trained(path, arguments) for path in arguments.runs]
    other = [_Trained(path, arguments) for path in arguments.against]
    if arguments.groups:
        arm[0].run.classes.with_rule(arguments.groups)  # refused before anything is computed
    shift = None if arguments.data is None else Shift(arm[0].run, arguments)

    def seen(manifest: Manifest | None = None) -> list[list[Features]]:
        request = {"views": arguments.views, "per_class": arguments.per_class, "other": manifest}
        return [[each.features(arguments.split, **request)[0] for each in several] for several in (arm, other)]

    def groups(arms: list[list[Features]]) -> Result:
        asked = arms if shift is None else [[shift.asked(one) for one in several] for several in arms]
        found, against = [[_grouped(one, arguments) for one in several] for several in asked]
        return wb.group_report(found, compare=against or None, names=_names(arm, other))

    own = seen()
    results: dict[str, Result] = {"groups": groups(own)}
    titles: dict[str, str] = {}
    if shift is not None:
        away = f"groups-{shift.manifest.name}"
        results[away] = groups(seen(shift.manifest))
        titles = {"groups": f"{arm[0].run.config['train']['manifest']}, {arguments.split}:", away: str(shift)}
    results["separability"] = wb.separability(_grouped(own[0][0], arguments))
    if arguments.bank:
        results["knn"] = _neighbours(arm[0], arguments)
    if arguments.cost:
        results["cost"] = wb.cost(arm[0].method)
    for name, result in results.items():
        if name in titles:
            print(titles[name], end="\n\n")
        print(result, end="\n\n")
    out = Path(arguments.out) if arguments.out else arm[0].run.path / "report"
    for name, result in results.items():
        print(f"figure and table: {result.save(out / f'{name}.pdf', overwrite=True)}")
        if isinstance(result, GroupReport):
            (out / f"{name}.tex").write_text(result.to_latex(), encoding="utf-8", errors="surrogateescape")
    return 0


def _grouped(features: Features, arguments: argparse.Namespace) -> Features:
    return features.with_rule(arguments.groups) if arguments.groups else features


def _names(arm: list[_Trained], other: list[_Trained]) -> tuple[str, str]:
    """What the two arms are called: their methods, and of one method the options in which they differ."""
    configs = [trained[0].run.config for trained in (arm, other) if trained]
    methods = [str(config["method"]) for config in configs]
    if len(methods) == 1 or methods[0] != methods[1]:
        return methods[0], methods[-1]
    options = [config["options"] for config in configs]
    differing = [name for name in options[0] if options[0][name] != options[1].get(name)]
    names = [" ".join([methods[0], *(f"{name}={each[name]}" for name in differing)]) for each in options]
    return (names[0], names[1]) if names[0] != names[1] else (f"{names[0]} (first)", f"{names[1]} (second)")


def _neighbours(trained: _Trained, arguments: argparse.Namespace) -> Result:
    """K-NN accuracy with the train split as bank; one view on both sides, so that distances compare like with like."""
    import workbench as wb

    bank, _ = trained.features("train", views="centre")
    bank = queries = _grouped(bank, arguments)  # the same object: measured leave-one-out
    if arguments.split != "train":
        queries, _ = trained.features(arguments.split, views="centre", per_class=arguments.per_class)
        queries = _grouped(queries, arguments)
    return wb.knn_accuracy(bank, queries, k=[k for k in NEIGHBOURS if k < len(bank)])


def extract_runs(arguments: argparse.Namespace) -> int:
    request = {"views": arguments.views, "layer": arguments.layer, "per_class": arguments.per_class}
    for path in arguments.runs:
        features, file = _Trained(path, arguments).features(arguments.split, **request)
        print(f"{file}: {features}")
    return 0


def predict_images(arguments: argparse.Namespace) -> int:
    import workbench as wb

    run = wb.Run.load(arguments.run)
    _check_finished(run)
    for found in run.predict(arguments.images, k=arguments.k):
        print(found.path)
        for name, probability in zip(found.names, found.probabilities, strict=True):
            print(f"  {100 * probability:5.1f} %  {name}")
    return 0
