"""ImageNet-ReaL: several correct labels, images without any, and the file's order."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from workbench import metrics

SETS = [[0], [1, 2], [], [2], [0, 1], []]  # of images 1 to 6
IDS = [f"val/n0000000{i % 3}/ILSVRC2012_val_{i + 1:08d}.JPEG" for i in range(6)]


@pytest.fixture
def real(tmp_path: Path) -> Path:
    path = tmp_path / "real.json"
    path.write_text(json.dumps(SETS), encoding="utf-8")
    return path


def test_labels_are_found_by_file_name_in_any_order(real: Path) -> None:
    assert metrics.read_real_labels(real, IDS) == [frozenset(labels) for labels in SETS]
    found = metrics.read_real_labels(real, np.array(["ILSVRC2012_val_00000005.png", *IDS[:2]]))
    assert found == [{0, 1}, {0}, {1, 2}]


def test_any_correct_label_counts_and_images_without_one_do_not(real: Path) -> None:
    sets = metrics.read_real_labels(real, IDS)
    predicted = np.array([0, 2, 0, 1, 1, 2])  # right, right, out, wrong, right, out
    assert metrics.real_accuracy(predicted, sets) == pytest.approx(3 / 4)
    both = np.stack([predicted, np.array([1, 0, 0, 2, 2, 2])])  # the other seed: one of four
    assert metrics.real_accuracy(both, sets) == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert math.isnan(metrics.real_accuracy(predicted[[2, 5]], [sets[2], sets[5]]))
    # the authors' own lines, on images sorted by name
    assert metrics.real_accuracy(predicted, sets) == np.mean([p in SETS[i] for i, p in enumerate(predicted) if SETS[i]])


def test_verdicts_become_decisions_that_groups_and_intervals_take(real: Path) -> None:
    sets = metrics.read_real_labels(real, IDS)
    labels = np.array([0, 1, 2, 2, 2, 0])  # image 5's original label is none of its correct ones
    predicted = np.array([0, 2, 0, 1, 1, 2])
    decisions, kept = metrics.real_decisions(predicted, labels, sets)
    assert kept.tolist() == [0, 1, 2, 2] and decisions.tolist() == [0, 1, -1, 2]
    accuracy = metrics.group_accuracy(decisions, kept, np.array(["many", "medium", "few"]))
    assert accuracy == pytest.approx({"all": 3 / 4, "many": 1.0, "medium": 1.0, "few": 0.5, "mean_class": 2.5 / 3})
    assert accuracy["all"] == metrics.real_accuracy(predicted, sets)
    two, _ = metrics.real_decisions(np.stack([predicted, predicted]), labels, sets)
    assert two.shape == (2, 4) and (two == decisions).all()
    interval = metrics.group_interval(decisions, kept, np.array(["many", "medium", "few"]), "all")
    assert interval.estimate == pytest.approx(3 / 4) and interval.low < 3 / 4


def test_what_does_not_fit_is_told(real: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"1 of 2 ids are none of the 6 images .*00000007"):
        metrics.read_real_labels(real, [IDS[0], "ILSVRC2012_val_00000007.JPEG"])
    with pytest.raises(ValueError, match=r"the first: 'cat.jpg'"):
        metrics.read_real_labels(real, ["cat.jpg"])
    with pytest.raises(FileNotFoundError, match="no file of ReaL labels"):
        metrics.read_real_labels(tmp_path / "none.json", IDS)
    for content, message in (("{", "is not JSON"), ('{"a": [1]}', "not a list"), ("[[1], [true]]", "not a list")):
        real.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            metrics.read_real_labels(real, IDS)
    sets = [frozenset({0})]
    with pytest.raises(ValueError, match="does not fit label sets of 1 images"):
        metrics.real_accuracy(np.array([0, 1]), sets)
    with pytest.raises(ValueError, match="expected \\(1,\\), one per image"):
        metrics.real_decisions(np.array([0]), np.array([0, 1]), sets)
