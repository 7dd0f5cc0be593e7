"""Accuracy by expansion: accuracies and paired gains, numbers instead of features, features of other expansions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import workbench as wb
from workbench import metrics
from workbench.diagnostics.ensemble_curve import expansion_curve
from workbench.features import Features

Make = Callable[..., Features]


def test_accuracies_and_gains_are_those_of_the_metrics(make_features: Make) -> None:
    few, many = make_features(0, skill=np.full(12, 0.4)), make_features(1, skill=np.full(12, 0.8))
    result = expansion_curve({24: many, 0: few}, patch_size=16)
    assert result.expansions.tolist() == [0, 24]
    for place, part in enumerate((few, many)):
        expected = metrics.group_accuracy(part.predicted, part.labels, part.classes.groups)
        for group in ("all", "many", "medium", "few"):
            assert result.accuracy[group][place] == pytest.approx(expected[group])
    difference = metrics.paired_difference(many.predicted, few.predicted, few.labels, few.classes.groups, group="all")
    assert result.gains["all"][24] == difference and difference.low > 0
    frame = result.to_frame()
    row = frame[(frame["expansion"] == 24) & (frame["group"] == "all")].iloc[0]
    assert row["gain"] == pytest.approx(difference.estimate) and row["images"] == 240


def test_multiples_of_the_patch_are_marked(make_features: Make) -> None:
    result = expansion_curve({e: make_features(e) for e in (0, 8, 16, 24, 32)}, patch_size=16)
    assert result.whole_patches.tolist() == [False, False, True, False, True]
    labels = [text.get_text() for text in result.plot().get_legend().get_texts()]
    assert "multiple of the patch, 16" in labels
    assert not expansion_curve({0: make_features(0), 16: make_features(1)}).whole_patches.any()


def test_seeds_are_averaged(make_features: Make) -> None:
    seeds = [make_features(0), make_features(1)]
    result = expansion_curve({0: seeds, 8: seeds[0]})
    assert result.accuracy["all"][0] == pytest.approx(np.mean([one.correct.mean() for one in seeds]))


def test_numbers_alone_are_a_curve_without_groups_or_gains() -> None:
    result = expansion_curve({0: 0.70, 8: 0.72, 16: 0.71}, patch_size=16)
    assert result.accuracy["all"].tolist() == [0.70, 0.72, 0.71] and np.isnan(result.accuracy["few"]).all()
    for view in result.views:
        result.plot(view=view).figure.canvas.draw()
    assert "72.0" in str(result) and len(result.to_frame()) == 12
    with pytest.raises(ValueError, match="they lie in"):
        expansion_curve({0: 70.0})


def test_what_extract_made_is_read_back(store: Callable[[str], wb.Run]) -> None:
    run = store("lift")
    method, val = run.method(), run.dataset("val", per_class=2)
    features = {e: wb.extract(method, val, views="five" if e else "centre", expand=e) for e in (0, 4)}
    result = expansion_curve(features, patch_size=16)
    assert result.accuracy["all"][1] == pytest.approx(features[4].correct.mean())
    with pytest.raises(ValueError, match=r"given for expansion 8 were extracted with 4 \(crop 'five'\)"):
        expansion_curve({0: features[0], 8: features[4]})


def test_other_images_and_mixtures_are_refused(make_features: Make) -> None:
    with pytest.raises(ValueError, match="the test sets differ"):
        expansion_curve({0: make_features(0), 8: make_features(0, split="val")})
    with pytest.raises(ValueError, match="one kind for all"):
        expansion_curve({0: make_features(0), 8: 0.5})
    with pytest.raises(ValueError, match="none negative"):
        expansion_curve({-8: 0.5})
    with pytest.raises(ValueError, match="none negative"):
        expansion_curve({})
