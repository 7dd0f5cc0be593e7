"""How a paper's tables and figures are drawn: each panel is one of the house's diagnostics on the trained arms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from workbench.diagnostics.base import Result, load_diagnostic
from workbench.features import Features

from .measures import Trained
from .setting import sentences, test_set_of

Arms = Mapping[str, Trained]
IMAGES = 4  # of a grid of heat maps: the first of as many classes


def _groups(arms: Arms, **options: Any) -> Result:
    return load_diagnostic("group_report")({name: arm.test for name, arm in arms.items()}, **options)


def _sweep(arms: Arms, *, option: str, **options: Any) -> Result:
    curves: dict[str, dict[Any, Any]] = {}
    for arm in arms.values():
        if arm.training.arm.value is not None:
            curves.setdefault(arm.training.arm.curve or "", {})[arm.training.arm.value] = arm.test
    return load_diagnostic("sweep")(
        curves if len(curves) > 1 else next(iter(curves.values())), option=option, **options
    )


def _cost(arms: Arms, **options: Any) -> Result:
    cost = load_diagnostic("cost")
    return load_diagnostic("cost_against_accuracy")(
        {name: (cost(arm.method()), arm.test) for name, arm in arms.items()}, **options
    )


def _projection(arms: Arms, *, method: str = "lda", **options: Any) -> Result:
    """Of the test images, one set per arm; of a few classes where the paper shows a few."""
    sets = {name: arm.test[0] for name, arm in arms.items()}
    for arm in arms.values():
        for data in arm.training.experiment.test_sets:
            if test_set_of(arm.training.experiment, data, arm.training.setting) is not None:
                sets[f"{arm.name}, {data}"] = arm.on(data)[0]
    return load_diagnostic("project")(*sets.values(), method=method, names=list(sets), **options)


def _drift(arms: Arms, *, method: str = "tsne", **options: Any) -> Result:
    before, after = list(arms.values())[:2]
    return load_diagnostic("drift")(
        before.test[0], after.test[0], method=method, names=(before.name, after.name), **options
    )


def _domain_shift(arms: Arms, **options: Any) -> Result:
    def sets(arm: Trained) -> tuple[list[Features], ...]:
        experiment, setting = arm.training.experiment, arm.training.setting
        known = [data for data in experiment.test_sets if test_set_of(experiment, data, setting) is not None]
        return (arm.test, *(arm.on(data) for data in known))

    return load_diagnostic("domain_shift")({name: sets(arm) for name, arm in arms.items()}, **options)


def _train_test_gap(arms: Arms, **options: Any) -> Result:
    pairs = {name: (arm.train, arm.test) for name, arm in arms.items()}
    return load_diagnostic("domain_shift")(pairs, names=["train", "test"], **options)


def _grad_cam(arms: Arms, **options: Any) -> Result:
    return load_diagnostic("grad_cam")(_method_of(arms), _images(arms), **options)


def _images(arms: Arms) -> torch.Tensor:
    """(B, 3, H, W) test images of the first classes."""
    method = _method_of(arms)
    test = _first(arms).training.images().with_preprocessing(method.test_preprocessing("centre"))
    firsts = {int(label): place for place, label in reversed(list(enumerate(test.labels)))}
    return torch.stack([test[place][0] for _, place in sorted(firsts.items())[:IMAGES]])


def _method_of(arms: Arms) -> Any:
    return list(arms.values())[-1].method()


def _first(arms: Arms) -> Trained:
    return next(iter(arms.values()))


def _last(arms: Arms) -> Trained:
    return list(arms.values())[-1]


def _description_weights(arms: Arms, **options: Any) -> Result:
    from workbench.data import toybox_descriptions

    method = _last(arms).method()
    kinds = {name: kind for name, kind in toybox_descriptions()[1].items() if name in method.classes.names}
    return load_diagnostic("description_weights")(
        method.description_weights.numpy(), kinds, classes=method.classes, **options
    )


def _description_matches(arms: Arms, **options: Any) -> Result:
    arm = _last(arms)
    method, training = arm.method(), arm.training
    texts = sentences(training.experiment, training.setting)["texts"]
    weights = method.description_weights.numpy()
    return load_diagnostic("description_matches")(arm.test[0], weights, texts, images=training.images(), **options)


def _splits(arms: Arms) -> tuple[Features, Features]:
    """(train, test) of the last arm."""
    return _last(arms).train[0], _last(arms).test[0]


def _expansion(arms: Arms, **options: Any) -> Result:
    measured = {int(arm.training.arm.value or 0): arm.test for arm in arms.values()}
    return load_diagnostic("expansion_curve")(measured, **options)


def _of_last(name: str) -> Callable[..., Result]:
    """A diagnostic of the test images of the last arm, in most entries the paper's own."""
    return lambda arms, **options: load_diagnostic(name)(_last(arms).test[0], **options)


def _of_runs(name: str) -> Callable[..., Result]:
    return lambda arms, **options: load_diagnostic(name)({n: arm.runs[0] for n, arm in arms.items()}, **options)


DRAWINGS: dict[str, Callable[..., Result]] = {
    "groups": _groups,
    "sweep": _sweep,
    "cost": _cost,
    "cost_table": lambda arms, **options: load_diagnostic("cost")(_method_of(arms), **options),
    "projection": _projection,
    "prompt_matching": _of_last("prompt_matching"),
    "separability": _of_last("separability"),
    "knn": lambda arms, **options: load_diagnostic("knn_accuracy")(*_splits(arms), **options),
    "class_similarity": _of_last("class_similarity"),
    "intra_class": lambda arms, **options: load_diagnostic("intra_class_distances")(*_splits(arms), **options),
    "convergence": _of_runs("convergence"),
    "adapter_scales": _of_runs("adapter_scales"),
    "weight_norms": lambda arms, **options: load_diagnostic("weight_norms")(_last(arms).runs[0], **options),
    "expansion": _expansion,
    "taxonomy": lambda arms, **options: load_diagnostic("taxonomy_levels")(_first(arms).test[0], **options),
    "topk": lambda arms, **options: load_diagnostic("topk")({n: arm.test[0] for n, arm in arms.items()}, **options),
    "domain_shift": _domain_shift,
    "train_test_gap": _train_test_gap,
    "grad_cam": _grad_cam,
    "description_matches": _description_matches,
    "description_weights": _description_weights,
    "candidate_confusion": _of_last("candidate_confusion"),
    "drift": _drift,
}


EACH = (
    "class_similarity", "intra_class", "knn", "prompt_matching", "separability", "weight_norms", "cost_table",
    "grad_cam",
)  # fmt: skip
IN_TABLE = ("groups", "sweep", "cost", "cost_table")  # draw the numbers of the table
OF_TRAIN = ("knn", "intra_class", "train_test_gap")  # what looks at training images too
COMPARED = {"convergence": ("mean_class", "few", "loss")}  # views of several arms, where the first view shows one arm


def panels(kinds: tuple[str, ...], arms: Arms, options: Mapping[str, Any]) -> dict[str, Result]:
    """What is drawn, by kind; of the kinds in EACH, which show one arm, a panel per arm, "kind, arm".

    `options` may hold those of several kinds, under their names.
    """
    nested = any(isinstance(value, Mapping) for value in options.values())
    found: dict[str, Result] = {}
    for kind in kinds:
        own = dict(options.get(kind, {}) if nested else options)
        chosen = {name: arms[name] for name in own.pop("arms", arms) if name in arms}
        several = kind in EACH and len(chosen) > 1
        for name, group in ((n, {n: arm}) for n, arm in chosen.items()) if several else [("", chosen)]:
            found[f"{kind}, {name}" if name else kind] = DRAWINGS[kind](group, **own)
    return found
