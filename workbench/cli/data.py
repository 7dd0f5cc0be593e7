"""`workbench data`: make, list, show and check data sets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.progress import Bars

if TYPE_CHECKING:
    from workbench.data import GroupRule

DESCRIPTION = """\
A data set is a manifest: a list of paths and labels with splits, class names and the rule for many-, medium- and
few-shot classes, looked for in ./data_manifests and among the packaged ones. The images stay where they are.
"""

EXAMPLES = """\
examples:
  workbench data list
  workbench data show digits_lt
  workbench data import ~/photos --name birds --val 5        (~/photos/train/CLASS/x.jpg, ~/photos/test/CLASS/y.jpg)
  workbench data check birds --root ~/photos
"""

IMPORT = """\
Make a data set of your images. PATH is a folder (SPLIT/CLASS/image or CLASS/image), a list of `path label` lines, or a
CSV with the columns split, path, label. No image is copied; each is decoded once, and every broken, doubled,
unreadable or leaking file is reported. An interrupted import continues when it is repeated.

With --as, PATH is the folder of a published benchmark's lists. Each must be the published one, by git's hash of the
whole file; what differs is said, and nothing is written then. No image is needed for it.
"""

IMPORT_EXAMPLES = """\
examples:
  folders train/CLASS/... and test/CLASS/..., with 5 validation images per class taken from train
    workbench data import ~/photos --name birds --val 5

  a balanced set made long-tailed: 100 times more images of the first class than of the last
    workbench data import ~/cifar --name cifar_tail --imbalance-ratio 100 --seed 0

  somebody's list, whose split "val" is used as test, with thresholds of its own
    workbench data import lists/all.csv --root ~/images --name plants --split val=test --many-from 50 --few-to 10

  Places-LT from its three lists, with LPT's group rule, and then its images
    workbench data import ~/lists/Places_LT --as places_lt --few-to 20
    workbench data check places_lt --root ~/places365
"""


def add_commands(commands: Any) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    data = commands.add_parser(
        "data", help="make, list and check data sets", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=raw
    )
    verbs = data.add_subparsers(required=True, metavar="VERB", title="verbs")

    make = verbs.add_parser(
        "import",
        help="make a data set of your images",
        description=IMPORT,
        epilog=IMPORT_EXAMPLES,
        formatter_class=raw,
    )
    make.add_argument("source", metavar="PATH")
    make.add_argument("--name", help="what the data set will be called (default with --as: the benchmark's name)")
    make.add_argument(
        "--as", dest="benchmark", metavar="BENCHMARK", help="places_lt, imagenet_lt, ... (`workbench data list`)"
    )
    make.add_argument("--root", help="where listed paths start (default: PATH, or the folder it lies in)")
    make.add_argument(
        "--split", action="append", type=renamed, default=[], metavar="THEIRS=OURS", help="rename a split: val=test"
    )
    make.add_argument("--val", type=int, default=0, help="images per class to take from train (at most a fifth)")
    make.add_argument("--imbalance-ratio", type=float, help="keep a long-tailed part of train with this ratio")
    make.add_argument("--seed", type=int, default=0, help="chooses images for the two options above (default 0)")
    make.add_argument("--class-names", help="CSV with the columns label and name, or one name per line")
    make.add_argument("--many-from", type=int, help="many-shot: at least so many training images (default 101)")
    make.add_argument("--few-to", type=int, help="few-shot: at most so many training images (default 19)")
    make.add_argument("--out", default="data_manifests", help="folder of the manifest (default data_manifests)")
    make.add_argument("--workers", type=int, default=4, help="decoding threads (default 4)")
    make.set_defaults(function=import_images, usage_error=make.error)

    listing = verbs.add_parser(
        "list",
        help="the data sets at hand",
        description="Names, classes and sizes of the data sets at hand.",
        epilog="example:\n  workbench data list",
        formatter_class=raw,
    )
    listing.set_defaults(function=list_data_sets)

    show = verbs.add_parser(
        "show",
        help="splits, class counts and shot groups of a data set",
        description="Source, licence, splits, class counts and shot groups of one data set.",
        epilog="examples:\n  workbench data show digits_lt\n  workbench data show somewhere/birds.toml",
        formatter_class=raw,
    )
    show.add_argument("name", help="a name of `workbench data list`, or the path of a .toml")
    show.set_defaults(function=show_data_set)

    check = verbs.add_parser(
        "check",
        help="decode every image of a data set and list what cannot be used",
        description="Decode every image of a data set and list what is missing or broken; exit code 1 if anything is.",
        epilog="example:\n  workbench data check birds --root ~/photos",
        formatter_class=raw,
    )
    check.add_argument("name", help="a name of `workbench data list`, or the path of a .toml")
    check.add_argument("--root", required=True, help="where the paths of the data set start")
    check.set_defaults(function=check_data_set)


def renamed(text: str) -> tuple[str, str]:
    """ "val=test" -> ("val", "test")."""
    theirs, equals, ours = text.partition("=")
    if not (theirs and equals and ours):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form THEIRS=OURS, for example val=test.")
    return theirs, ours


def import_images(arguments: argparse.Namespace) -> int:
    import workbench as wb

    rule = None
    if arguments.many_from is not None or arguments.few_to is not None:
        bounds = {"many_from": arguments.many_from, "few_to": arguments.few_to}
        rule = wb.GroupRule(**{name: value for name, value in bounds.items() if value is not None})
    if arguments.benchmark is not None:
        return _import_benchmark(arguments, rule)
    if arguments.name is None:
        arguments.usage_error("import needs --name, or --as BENCHMARK.")
    with Bars() as bars:
        report = wb.import_dataset(
            arguments.source,
            arguments.name,
            root=arguments.root,
            splits=dict(arguments.split),
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


def _import_benchmark(arguments: argparse.Namespace, rule: GroupRule | None) -> int:
    from workbench.data import check_benchmark, import_benchmark_folders, read_benchmark

    given = [name for name in ("root", "split", "val", "imbalance_ratio", "seed") if getattr(arguments, name)]
    if given:
        options = ", ".join("--" + name.replace("_", "-") for name in given)
        arguments.usage_error(f"--as imports a benchmark as it was published; {options} would change it.")
    facts = read_benchmark(arguments.benchmark)
    name = arguments.name or facts.name
    if facts.folders is not None:
        if rule is not None:
            arguments.usage_error(f"{facts.name} has no train split, so --many-from and --few-to have no meaning.")
        with Bars() as bars:
            report = import_benchmark_folders(
                facts.name,
                arguments.source,
                name,
                class_names=arguments.class_names,
                out=arguments.out,
                workers=arguments.workers,
                on_step=bars.file,
            )
        print(report)
        return 0
    check = check_benchmark(facts.name, arguments.source)
    print(check)
    if check.differences:
        return 1
    toml = Path(arguments.out) / f"{name}.toml"
    if toml.exists():
        raise FileExistsError(f"{toml} exists and stays; choose another name with --name, or move its files away.")
    manifest = check.to_manifest(name, rule=rule, class_names=arguments.class_names)
    total = sum(len(split) for split in manifest.splits.values())
    print(f"{name}: {total:,} images of {len(manifest.classes):,} classes -> {manifest.save(arguments.out)}")
    print(f"`workbench data check {name} --root FOLDER` looks for the images.")
    return 0


def list_data_sets(arguments: argparse.Namespace) -> int:
    import workbench as wb
    from workbench.data import benchmark_names, read_benchmark

    names = wb.Manifest.names()
    for name in names:
        manifest = wb.Manifest.load(name)
        sizes = ", ".join(f"{split} {len(rows):,}" for split, rows in manifest.splits.items())
        print(f"{name:<26}{len(manifest.classes):>6,} classes  {sizes}")
    for name in benchmark_names():
        if name not in names:
            facts = read_benchmark(name)
            what = "images" if facts.folders is not None else "lists"
            print(f"{name:<26}{facts.num_classes:>6,} classes  needs {what}: `workbench data show {name}` says which")
    return 0


def show_data_set(arguments: argparse.Namespace) -> int:
    import workbench as wb
    from workbench.data import benchmark_names, read_benchmark

    if arguments.name in benchmark_names() and arguments.name not in wb.Manifest.names():
        print(read_benchmark(arguments.name))
        return 0
    manifest = wb.Manifest.load(arguments.name)
    classes = manifest.classes
    print(f"{manifest.name}: {manifest.title}\nsource: {manifest.source or 'not stated'}\nlicence: {manifest.licence}")
    for split, rows in manifest.splits.items():
        print(f"{split:<6}{len(rows):>9,} images")
    if not manifest.has_validation:
        print("no validation split")
    if "train" not in manifest.splits and classes.rule == wb.GroupRule():
        print(f"{len(classes)} classes; no train split, so no shot groups")
        print(f"sha256 {manifest.sha256}")
        return 0
    sizes = f"{classes.counts.max()} to {classes.counts.min()} training images"
    print(f"{len(classes)} classes with {sizes} ({classes.rule})")
    for group in ("many", "medium", "few"):
        print(f"{group:<7}{(classes.groups == group).sum():>6} classes")
    print(f"sha256 {manifest.sha256}")
    return 0


def check_data_set(arguments: argparse.Namespace) -> int:
    import workbench as wb
    from workbench.data.importing import check_dataset

    with Bars() as bars:
        report = check_dataset(wb.Manifest.load(arguments.name), arguments.root, on_step=bars.file)
    print(report)
    return 1 if report.problems else 0
