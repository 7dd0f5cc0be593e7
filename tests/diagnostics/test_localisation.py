"""Pointing game and energy inside against closed forms, scipy's intervals, and masks and maps of rendered toys."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

import workbench as wb
from workbench.data import evaluation_preprocessing
from workbench.data.manifest import Split
from workbench.diagnostics.grad_cam import GradCAM
from workbench.diagnostics.localisation import MEASURES, localisation


def picture(height: int = 6, width: int = 6, **values: float) -> np.ndarray:
    """(1, H, W) float64, zero but for the pixels given as r<row>c<column>=value."""
    found = np.zeros((1, height, width))
    for place, value in values.items():
        row, column = (int(part) for part in place[1:].split("c"))
        found[0, row, column] = value
    return found


def object_of(height: int = 6, width: int = 6) -> np.ndarray:
    """(1, H, W) bool: the two left columns."""
    return np.broadcast_to(np.arange(width) < 2, (1, height, width))


def test_the_highest_pixel_and_the_share_of_the_sum_decide() -> None:
    cases = {
        "on": (picture(r0c1=1.0, r3c4=0.5, r5c5=0.5), 1.0, 0.5),
        "off": (picture(r0c1=0.9, r2c0=0.8, r3c4=1.0), 0.0, 1.7 / 2.7),
        "tied": (picture(r0c0=0.6, r1c1=0.6, r2c2=0.6, r3c5=0.2), 2 / 3, 0.6),
    }
    found = localisation({name: case[0] for name, case in cases.items()}, object_of())
    for name, (_, pointing, energy) in cases.items():
        assert found.intervals["pointing", name].estimate == pytest.approx(pointing)
        assert found.intervals["energy", name].estimate == pytest.approx(energy)
        assert found.baseline(name, "pointing") == (pytest.approx(1 / 3), 0.0)
    assert found.tied.ravel().tolist() == [1, 1, 3]
    assert found.names == tuple(cases)


def test_a_uniform_map_is_chance_and_the_scale_of_a_map_does_not_matter(rng: np.random.Generator) -> None:
    masks = rng.random((20, 7, 9)) < 0.3
    random = rng.random(masks.shape)
    found = localisation({"uniform": np.full(masks.shape, 0.25), "a": random, "b": 17 * random}, masks)
    for measure in MEASURES:
        np.testing.assert_allclose(found.values[measure][0], masks.mean((1, 2)))
        np.testing.assert_allclose(found.values[measure][1], found.values[measure][2])
        assert found.over_chance[measure, "uniform"].estimate == pytest.approx(0)
        assert found.intervals[measure, "uniform"].estimate == pytest.approx(found.baseline("uniform", measure)[0])


@pytest.mark.parametrize(("height", "width", "pixels"), [(7, 5, 1), (6, 5, 2), (6, 8, 4)])
def test_a_map_that_is_nothing_but_the_centre_is_the_trivial_baseline(
    height: int, width: int, pixels: int, rng: np.random.Generator
) -> None:
    y, x = np.indices((height, width))
    distance = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2)
    nearest = np.isclose(distance, distance.min())
    masks = rng.random((12, height, width)) < 0.5
    found = localisation(np.broadcast_to(nearest, masks.shape).astype(float), masks)
    assert (found.tied == pixels).all()
    for measure in MEASURES:
        np.testing.assert_allclose(found.values[measure][0], found.centre[measure])


def test_tolerance_is_a_euclidean_distance_and_raises_chance_with_it(rng: np.random.Generator) -> None:
    masks = rng.random((5, 9, 8)) < 0.04
    masks[0] = False
    masks[1, 2, 3] = True
    maps = rng.random(masks.shape)
    tolerance = 2.3
    found = localisation({"map": maps}, masks, tolerance=tolerance)
    places = np.argwhere(np.ones((9, 8)))
    for i in range(5):
        on = np.argwhere(masks[i])
        if not len(on):
            assert found.chance["pointing"][i] == 0 and np.isnan(found.values["pointing"][0, i])
            continue
        near = np.linalg.norm(places[:, None] - on, axis=2).min(1) <= tolerance
        assert found.chance["pointing"][i] == pytest.approx(near.mean())
        assert found.values["pointing"][0, i] == near[maps[i].argmax()]
        assert found.chance["energy"][i] == pytest.approx(masks[i].mean())  # nothing is forgiven there
    peak = picture(r2c4=1.0)  # three columns right of the object
    hit = [localisation(peak, object_of(), tolerance=t).values["pointing"][0, 0] for t in (0, 2.9, 3)]
    assert hit == [0, 0, 1]


def test_intervals_are_those_of_scipy(rng: np.random.Generator) -> None:
    masks = rng.random((30, 8, 8)) < 0.35
    found = localisation({"map": rng.random(masks.shape)}, masks, level=0.9)
    hits, energy = (found.values[measure][0] for measure in MEASURES)
    wilson = stats.binomtest(int(hits.sum()), 30).proportion_ci(0.9, method="wilson")
    pointing = found.intervals["pointing", "map"]
    assert (pointing.low, pointing.high) == (pytest.approx(wilson.low), pytest.approx(wilson.high))
    t = stats.t.interval(0.9, 29, energy.mean(), stats.sem(energy))
    of_energy = found.intervals["energy", "map"]
    assert (of_energy.low, of_energy.high) == (pytest.approx(t[0]), pytest.approx(t[1]))
    over, paired = found.over_chance["energy", "map"], stats.ttest_rel(energy, found.chance["energy"])
    assert (over.low, over.high) == pytest.approx(tuple(paired.confidence_interval(0.9)))
    over, chance = found.over_chance["pointing", "map"], found.chance["pointing"].mean()
    assert (over.low + chance, over.high + chance) == pytest.approx((wilson.low, wilson.high))
    assert over.unit == of_energy.unit == "images" and over.n == 30


def test_what_cannot_be_measured_is_left_out_and_said() -> None:
    masks = np.repeat(object_of(), 5, axis=0)
    masks[4] = False
    masks[0] = True  # chance 1 on that image only
    full = np.repeat(picture(r1c1=1.0), 5, axis=0)
    holes = full.copy()
    holes[[0, 4]] = 0
    found = localisation({"full": full, "Grad-CAM": holes, "nothing": 0 * full}, masks)
    assert found.intervals["pointing", "full"].n == 4 and found.intervals["energy", "Grad-CAM"].n == 3
    assert found.baseline("full", "energy")[0] == pytest.approx(1 / 2)  # (1 + 3 / 3) / 4
    assert found.baseline("Grad-CAM", "energy")[0] == pytest.approx(1 / 3)  # of the three that count for it
    empty = found.intervals["energy", "nothing"]
    assert empty.n == 0 and np.isnan([empty.estimate, empty.low, *found.baseline("nothing", "energy")]).all()
    assert (
        found.left_out() == "images left out: 1 (empty mask); 1 of Grad-CAM (map of zeros); 4 of nothing (map of zeros)"
    )
    assert found.left_out() in str(found) and "n/a" in str(found)
    frame = found.to_frame()
    assert len(frame) == 15 and frame.left_out.value_counts().to_dict() == {"map of zeros": 5, "empty mask": 3}
    assert (frame.pointing.isna() == frame.left_out.notna()).all()
    for view in found.views:
        assert found.plot(view=view).get_ylim()[1] > 2


def test_maps_come_as_arrays_tensors_or_results_with_names() -> None:
    given = SimpleNamespace(maps=torch.tensor(picture(r1c1=1.0), requires_grad=True), diagnostic="rollout")
    assert localisation(given, object_of()).names == ("rollout",)
    two = localisation([given, picture(r0c5=1.0)], torch.tensor(object_of()), names=("mine", "other"))
    assert two.names == ("mine", "other") and two.values["pointing"].ravel().tolist() == [1, 0]
    zero = np.zeros(1, dtype=np.int64)
    cam = GradCAM(
        arguments={"target": None, "block": 3}, sources=({"run": "a"},), maps=picture(r0c0=1.0), pictures=zero,
        targets=zero, predicted=zero, names=("x",), method="lift", block=3,
    )  # fmt: skip
    found = localisation({"Grad-CAM": cam}, object_of())
    assert found.values["energy"].tolist() == [[1]] and found.sources == ({"run": "a"},)
    assert found.arguments["made_by"] == {"Grad-CAM": {"diagnostic": "grad_cam", "target": None, "block": 3}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maps": np.ones((1, 5, 6))}, r"masks \(1, 6, 6\).*dataset\.mask\(i, seen=True\)"),
        ({"maps": -picture(r1c1=1.0)}, "negative or undefined"),
        ({"maps": picture(r1c1=np.nan)}, "negative or undefined"),
        ({"masks": np.ones((1, 6, 6), dtype=np.uint8)}, r"uint8 with 36 pixels.*masks > 0"),
        ({"masks": np.zeros((1, 6, 6), dtype=bool)}, "at least one of them not empty"),
        ({"tolerance": -1}, "0 or more"),
        ({"level": 95}, "between 0 and 1"),
        ({"names": ("a", "b")}, "a name of its own"),
        ({"maps": {"a": picture(r1c1=1.0)}, "names": ("b",)}, "leave names out"),
        ({"maps": {}}, "a name of its own"),
    ],
)
def test_what_it_cannot_use_is_refused(change: dict[str, object], message: str) -> None:
    arguments = {"maps": picture(r1c1=1.0), "masks": object_of()} | change
    with pytest.raises(ValueError, match=message):
        localisation(**arguments)


def test_what_another_background_changes_lies_off_the_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))
    manifest = wb.Manifest.load("toybox_lt")
    rows = manifest.split("test")
    few = Split(rows.paths[::150], rows.labels[::150])  # 20 images
    small = {"title": "t", "licence": "l", "source": "s", "kind": "toybox", "classes": manifest.classes}
    dataset = wb.LongTailDataset(
        wb.Manifest(name="small", splits={"test": few}, **small),
        "test",
        preprocessing=evaluation_preprocessing(56, mean=(0.0,) * 3, std=(1.0,) * 3),
    )
    look = dataset.preprocessing.build()
    indices = [i for i in range(len(dataset)) if dataset.background(i) != "snow"]
    changed = [(dataset[i][0] - look(dataset.image(i, background="snow"))).abs().sum(0).numpy() for i in indices]
    kept = [(one < 0.02).astype(float) for one in changed]
    masks = np.stack([dataset.mask(i, seen=True) for i in indices])
    found = localisation({"changed": np.stack(changed), "kept": np.stack(kept)}, masks)
    assert found.over_chance["energy", "changed"].high < -0.1 and found.over_chance["energy", "kept"].low > 0.3
    assert found.intervals["pointing", "changed"].estimate < 0.01
    shifted = localisation({"changed": np.stack(changed)}, np.roll(masks, 12, axis=2))
    assert shifted.intervals["energy", "changed"].low > found.intervals["energy", "changed"].high
