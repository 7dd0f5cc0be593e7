"""Differences in how images are resized, cropped and normalised, and in how a run is tested."""

from __future__ import annotations

from collections.abc import Callable

from workbench.data import Preprocessing

from .difference import Difference, Differences
from .facts import Facts, Saved, resize_text, views_text


def transform_differences(one: Facts, other: Facts) -> Differences:
    if one.test is None or other.test is None:
        return
    tests, trains = (one.test, other.test), (one.train, other.train)
    for aspect, text in (("interpolation", _interpolation), ("normalisation", _normalisation)):
        said = [_both(text, train, test) for train, test in zip(trains, tests, strict=True)]
        if said[0] != said[1]:
            yield Difference(aspect, *said)
    shares = [(test.resize or test.size) / test.size for test in tests]
    if tests[0].resize_mode != tests[1].resize_mode or abs(shares[0] - shares[1]) > 0.01:
        yield Difference("resize", *(resize_text(test) for test in tests))
    if tests[0].crop != tests[1].crop:
        yield Difference("crop", *(test.crop for test in tests))
    if None not in (one.train_text, other.train_text) and one.train_text != other.train_text:
        yield Difference("train_transform", str(one.train_text), str(other.train_text))


def _both(text: Callable[[Preprocessing], str], train: Preprocessing | None, test: Preprocessing) -> str:
    if train is None or text(train) == text(test):
        return text(test)
    return f"{text(train)} in training, {text(test)} in testing"


def _interpolation(transform: Preprocessing) -> str:
    return transform.interpolation


def _normalisation(transform: Preprocessing) -> str:
    return " / ".join(" ".join(f"{value:.4g}" for value in values) for values in (transform.mean, transform.std))


def test_differences(one: Facts, other: Facts) -> Differences:
    """How the runs are tested: the method's own way, and what the features of a split that both have were made with."""
    own = one.ensemble is not None and other.ensemble is not None and one.ensemble != other.ensemble
    if own:
        yield Difference("test_ensemble", str(one.ensemble), str(other.ensemble))
    told = (("test_ensemble", own), ("group_rule", one.classes.rule != other.classes.rule))
    fields: dict[str, Callable[[Saved], str]] = {
        "test_ensemble": lambda saved: views_text(saved.preprocessing),
        "layer": lambda saved: saved.layer,
        "test_part": lambda saved: "all images" if saved.per_class is None else f"{saved.per_class} images per class",
        "group_rule": lambda saved: str(saved.rule),
    }
    for split in ("test", "val", "train"):
        here, there = ([saved for saved in facts.saved if saved.split == split] for facts in (one, other))
        if not here or not there:
            continue
        for aspect, text in fields.items():
            if (aspect, True) in told:
                continue
            values = [sorted({text(saved) for saved in each}) for each in (here, there)]
            if not set(values[0]) & set(values[1]):  # a file of the same kind on both sides can be compared
                yield Difference(aspect, *(f"{', '.join(each)} (saved features of {split})" for each in values))
        return
