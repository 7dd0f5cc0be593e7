"""Top-k accuracy: scikit-learn as oracle, the first place, ties, candidate sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from workbench import metrics
from workbench.diagnostics.topk import topk
from workbench.features import Features

Make = Callable[..., Features]


def with_logits(features: Features, logits: np.ndarray, **changed: np.ndarray) -> Features:
    return replace(features, logits=logits.astype(np.float16), **({"predicted": logits.argmax(1)} | changed))


def untied(features: Features, seed: int = 0) -> Features:
    """Logits of which no two of an image are equal in half precision, higher at the true class."""
    rng = np.random.default_rng(seed)
    logits = rng.permuted(np.tile(np.arange(len(features.classes)), (len(features), 1)), axis=1).astype(float)
    logits[np.arange(len(features)), features.labels] += rng.choice([0.0, 3.5, 7.5], len(features))
    return with_logits(features, logits)


def test_every_k_is_what_scikit_learn_says_of_all_and_of_each_class(make_features: Make) -> None:
    features = untied(make_features(images=(15, 3, 9, 12, 20, 5, 4, 8, 7, 6, 11, 2)))
    found = topk(features, k=12)
    scores, classes = features.logits.astype(float), np.arange(12)
    for k in range(1, 12):
        oracle = top_k_accuracy_score(features.labels, scores, k=k, labels=classes)
        assert found.accuracy("method")[k - 1] == pytest.approx(oracle)
        for group in ("many", "medium", "few"):
            members = np.flatnonzero(features.classes.groups == group)
            rows = [features.labels == c for c in members]
            each = [top_k_accuracy_score(features.labels[r], scores[r], k=k, labels=classes) for r in rows]
            assert found.accuracy("method", group)[k - 1] == pytest.approx(np.mean(each))
    assert found.accuracy("method")[11] == 1 and (np.diff(found.accuracy("method", "few")) >= 0).all()


def test_the_first_place_is_the_decision_and_not_the_rounded_logits(make_features: Make) -> None:
    features = make_features()
    features = replace(features, logits=np.zeros_like(features.logits))  # all that half precision left of them
    found = topk(features)
    accuracy = metrics.group_accuracy(features.predicted, features.labels, features.classes.groups)
    for group in ("all", "many", "medium", "few"):
        interval = found.curves["method", group][0]
        expected = metrics.group_interval(features.predicted, features.labels, features.classes.groups, group)
        assert interval.estimate == accuracy[group] and interval == expected


def test_a_tie_counts_against_the_true_class_and_is_reported(make_features: Make) -> None:
    features = make_features(counts=(200, 50, 5), images=1)
    logits = np.array([[3.0, 2, 2], [2, 2, 3], [1, 2, 3]])  # second best of image 0 and 1 is a tie; 2 is right
    labels = np.array([1, 1, 2])
    found = topk(with_logits(replace(features, labels=labels), logits), k=3)
    assert found.ranks["method"].tolist() == [3, 3, 1] and found.tied["method"] == 2
    assert "2 images have equal logits" in str(found)
    decided = with_logits(replace(features, labels=labels), logits, predicted=np.array([2, 0, 2]))
    assert topk(decided, k=3).ranks["method"].tolist() == [3, 3, 1]  # the decision stands before what is above it


def test_the_share_inside_the_candidates_is_counted_and_drawn_where_they_end(make_features: Make) -> None:
    features = untied(make_features(images=4))
    candidates = np.stack([features.labels, (features.labels + 1) % 12, (features.labels + 2) % 12], 1)
    candidates[::4] = (features.labels[::4, None] + np.array([1, 2, 3])) % 12  # one image of each class is lost
    with_candidates = replace(features, extras={"candidates": candidates})
    found = topk({"hlc": with_candidates, "other": features})
    assert {found.candidates["hlc", group].estimate for group in ("all", "many", "few")} == {0.75}
    assert ("other", "all") not in found.candidates
    ring = [line for line in found.plot(view="all").lines if line.get_xdata().size == 1]
    assert [(round(line.get_xdata()[0]), line.get_ydata()[0]) for line in ring] == [(3, 75.0)]
    frame = found.to_frame()
    assert frame.query("kind == 'candidates' and group == 'few'")[["k", "accuracy"]].values.tolist() == [[3, 0.75]]
    assert len(frame.query("kind == 'topk'")) == 2 * 4 * 10


def test_the_default_reaches_the_candidates_but_not_beyond_the_classes(make_features: Make) -> None:
    assert topk(make_features()).k == 10
    few = make_features(counts=(200, 50, 5))
    assert topk(few).k == 3 and topk(few).views == ("groups",)
    several = {"a": few, "b": few}
    assert topk(several).views == ("all", "many", "medium", "few", "groups")
    many = make_features()
    eleven = replace(many, extras={"candidates": (many.labels[:, None] + np.arange(11)) % 12})
    assert topk(eleven).k == 11


def test_what_cannot_be_counted_is_refused(make_features: Make) -> None:
    features = make_features()
    with pytest.raises(ValueError, match="'lift' hold no logits"):
        topk({"lift": replace(features, logits=None)})
    for k in (0, 13):
        with pytest.raises(ValueError, match="from 1 to 12"):
            topk(features, k=k)
    with pytest.raises(ValueError, match="no features"):
        topk({})
    with pytest.raises(ValueError, match="test sets differ"):
        topk({"a": features, "b": make_features(split="val")})
    with pytest.raises(ValueError, match="class indices"):
        topk(replace(features, extras={"candidates": np.full((len(features), 2), 12)}))
