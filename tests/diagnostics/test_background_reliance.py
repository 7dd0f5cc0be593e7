"""Planted methods whose reliance on the background is known, and a real one that must decide as `extract` does."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import Tensor, nn

import workbench as wb
from workbench import toybox
from workbench.data import Preprocessing, evaluation_preprocessing, training_preprocessing
from workbench.data.manifest import Split
from workbench.diagnostics.background_reliance import background_reliance
from workbench.methods import Method
from workbench.methods.base import Output

BACKGROUNDS = toybox.DOWNSTREAM_BACKGROUNDS[:4]
PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
COUNTS = (300, 200, 50, 30, 10, 5)  # two many-, two medium- and two few-shot classes
CLASSES = wb.Classes(tuple(toy.name for toy in toybox.CLASSES[:6]), np.array(COUNTS), wb.GroupRule())
PER_CLASS = 4
SURE = 4.0  # logit of the planted methods' decision; the others are 0


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path))


def data_set(style: str = "downstream", kind: str = "toybox", per_class: int = PER_CLASS) -> wb.LongTailDataset:
    """Class c before background c modulo 4, as a correlated set has it."""
    labels = np.repeat(np.arange(6), per_class)
    keys = [
        toybox.class_scene(c, index=i, seed=0, style=style, background=BACKGROUNDS[c % 4]).key
        for i, c in enumerate(labels.tolist())
    ]
    parts = {"name": "small", "title": "t", "licence": "l", "source": "s", "kind": kind, "classes": CLASSES}
    return wb.LongTailDataset(wb.Manifest(splits={"test": Split(np.array(keys), labels)}, **parts), "test")


class Planted(Method):
    """Recognises the pictures of a data set by single pixels: its toys by one deep inside, which no background reaches,
    its backgrounds by a corner. `follows[c]` says what it then goes by when the toy is one of class c."""

    name = "planted"
    options = {}  # type: ignore[assignment]  # noqa: RUF012
    _views: Preprocessing = evaluation_preprocessing(56, resize=56, **PLAIN)

    def __init__(self, dataset: wb.LongTailDataset, follows: str) -> None:
        super().__init__(nn.Identity(), CLASSES, None, seed=0)  # type: ignore[arg-type]
        look = self._views.build()
        deep = [np.unravel_index(ndimage.distance_transform_edt(dataset.mask(i)).argmax(), (56, 56)) for i in
                range(len(dataset))]  # fmt: skip
        self.places = torch.tensor(np.array(deep))  # (N, 2)
        self.toys = torch.stack([look(dataset.image(i))[:, r, c] for i, (r, c) in enumerate(deep)])  # (N, 3)
        corners = [
            [look(dataset.image(i, background=name))[:, :3, :3] for name in BACKGROUNDS] for i in range(len(dataset))
        ]
        self.corners = torch.stack([torch.stack(row) for row in corners])  # (N, 4, 3, 3, 3)
        self.labels, self.follows = torch.tensor(dataset.labels), follows

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def test_preprocessing(self, views: str | None = None, expand: int | None = None) -> Preprocessing:
        return self._views

    def forward(self, images: Tensor) -> Output:
        seen = images[:, :, self.places[:, 0], self.places[:, 1]].transpose(1, 2)  # (B, N, 3)
        which = (seen - self.toys).abs().sum(-1).argmin(1)  # (B,)
        toy = self.labels[which]
        behind = (images[:, None, :, :3, :3] - self.corners[which]).abs().flatten(2).sum(-1).argmin(1)  # (B,) 0 .. 3
        trusting = torch.tensor([follow == "b" for follow in self.follows])[toy]
        decision = torch.where(trusting, behind, toy)
        return Output(SURE * nn.functional.one_hot(decision, 6).float(), images.flatten(1))


def test_who_looks_at_the_object_alone_changes_nothing() -> None:
    dataset = data_set()
    found = background_reliance(Planted(dataset, "oooooo"), dataset)
    assert found.predicted.shape == (24, 4) and (found.predicted == found.labels[:, None]).all()
    assert found.reliance == found.ever("all") == 0 and not found.changed.any()
    for group in ("all", "many", "medium", "few"):
        of = {quantity: found.intervals[quantity, group].estimate for quantity in ("own", "swapped", "gap", "changes")}
        assert of == {"own": 1, "swapped": 1, "gap": 0, "changes": 0}
        assert found.intervals["drop", group].estimate == pytest.approx(0)


def test_who_classifies_the_background_always_changes() -> None:
    dataset = data_set()
    found = background_reliance(Planted(dataset, "bbbbbb"), dataset)
    assert (found.predicted == np.vectorize(BACKGROUNDS.index)(found.backgrounds)).all()
    assert found.reliance == found.ever("few") == 1 and found.changed.all()
    # classes 0 to 3 stand before the background that this method calls by their number, 4 and 5 never do before such
    values = {(q, g): i.estimate for (q, g), i in found.intervals.items()}
    assert values["own", "many"] == values["own", "medium"] == 1 and values["swapped", "many"] == 0
    assert values["own", "few"] == values["swapped", "few"] == 0 and values["changes", "few"] == 1
    assert values["gap", "all"] == pytest.approx(4 / 6) and values["gap", "few"] == 0
    sure, other = (math.exp(SURE * k) / (math.exp(SURE) + 5) for k in (1, 0))
    assert values["drop", "many"] == pytest.approx(sure - other, abs=1e-6) and abs(values["drop", "few"]) < 1e-6


def test_shot_groups_tell_who_relies_on_the_background() -> None:
    dataset = data_set()
    found = background_reliance(Planted(dataset, "oobobb"), dataset, others=2)
    values = {(q, g): i.estimate for (q, g), i in found.intervals.items()}
    assert [values["changes", g] for g in ("many", "medium", "few")] == [0, 0.5, 1]
    assert values["changes", "all"] == pytest.approx(found.reliance) == pytest.approx(0.5)
    assert (values["own", "medium"], values["swapped", "medium"], values["gap", "medium"]) == (1, 0.5, 0.5)
    assert values["own", "few"] == 0  # before backgrounds 0 and 1, which it takes for classes 0 and 1
    line = next(line for line in str(found).splitlines() if line.startswith("medium"))
    assert "+50.0" in line and "100.0" in line
    frame = found.to_frame()
    of_images = frame[frame.kind == "image"]
    assert len(of_images) == 24 * 3 and of_images.own.sum() == 24
    assert of_images[~of_images.own].groupby("group").changed.mean().to_dict() == {"many": 0, "medium": 0.5, "few": 1}


def test_intervals_pair_classes_and_images_weigh_the_same_in_all() -> None:
    dataset = data_set()
    method = Planted(dataset, "obobob")
    ragged = [0, 4, 5, 6, 8, 9, 12, 16, 17, 18, 19, 20]  # one to four images of a class
    found = background_reliance(method, dataset, indices=ragged, others=3)
    assert found.ids.tolist() == dataset.ids[ragged].tolist()
    classes = [found.labels == c for c in range(6)]
    drop = found.probability[:, 0] - found.probability[:, 1:].mean(1)
    right = found.predicted == found.labels[:, None]
    gaps = right[:, 0] - right[:, 1:].mean(1)
    for quantity, values in (("gap", gaps), ("drop", drop)):
        interval = found.intervals[quantity, "all"]
        assert interval.estimate == pytest.approx(values.mean())
        # a ratio of sums over classes: each left out in turn; large classes are worth several
        size = np.array([rows.sum() for rows in classes])
        without = np.array([values[~rows].mean() for rows in classes])
        freedom = size.sum() ** 2 / (size**2).sum() - 1
        half = stats.t.ppf(0.975, freedom) * 5 * stats.sem(without)
        assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half))
        few = found.intervals[quantity, "few"]
        of_classes = [values[classes[c]].mean() for c in (4, 5)]
        assert few.estimate == pytest.approx(np.mean(of_classes), abs=1e-6) and few.too_small
    assert "†" in str(found)


def test_the_others_are_drawn_by_image_and_seed_and_never_the_own_one() -> None:
    dataset = data_set()
    method = Planted(dataset, "oooooo")
    whole = background_reliance(method, dataset, others=2, batch_size=7)
    part = background_reliance(method, dataset, others=2, indices=[3, 17, 11])
    assert (part.backgrounds == whole.backgrounds[[3, 17, 11]]).all()
    assert (background_reliance(method, dataset, others=2, seed=1).backgrounds != whole.backgrounds).any()
    for row in whole.backgrounds:
        assert len(set(row.tolist())) == 3 and set(row.tolist()) <= set(BACKGROUNDS)
    assert (whole.backgrounds[:, 0] == [BACKGROUNDS[c % 4] for c in whole.labels]).all()
    one = background_reliance(method, dataset, backgrounds=["lava"], others=1, per_class=2)
    assert set(one.backgrounds[:, 1]) == {"lava"} and np.bincount(one.labels).tolist() == [2] * 6


def test_decisions_on_the_own_background_are_those_of_extract_with_all_views(
    make_probe: Callable[..., Method],
) -> None:
    dataset = data_set(per_class=1)
    method = make_probe("five").train()
    steps: list[dict[str, Any]] = []
    found = background_reliance(
        method, dataset, others=1, batch_size=20, on_step=lambda step, parts: steps.append(parts)
    )
    assert method.training
    features = wb.extract(method, dataset)
    assert (found.predicted[:, 0] == features.predicted).all()
    logits = torch.tensor(features.logits.astype(np.float32))
    expected = logits.softmax(-1).numpy()[np.arange(6), dataset.labels]
    np.testing.assert_allclose(found.probability[:, 0], expected, atol=2e-3)  # those are kept in half precision
    assert [step["done"] for step in steps] == [4, 8, 12] and steps[0]["total"] == 12
    assert found.sources[0]["manifest"] == "small" and found.sources[0]["preprocessing"]["crop"] == "five"


@pytest.fixture
def make_probe() -> Callable[..., Method]:
    def make(views: str) -> Method:
        method = wb.create_method("linear_probe", wb.load_backbone("toybox_vit"), CLASSES)
        method.test_views = views  # type: ignore[misc]
        return method

    return make


def test_what_it_cannot_use_is_refused() -> None:
    dataset = data_set(per_class=1)
    method = Planted(dataset, "oooooo")
    refused: list[tuple[wb.LongTailDataset, dict[str, Any], str]] = [
        (data_set("sketch"), {}, "without a background to exchange"),
        (
            wb.LongTailDataset(wb.Manifest.load("digits_lt"), "test"),
            {},
            "planted knows 6 classes and 'digits_lt' has 10",
        ),
        (dataset, {"others": 4}, r"others=4, but image 0 stands before \w+ and 3 of the backgrounds"),
        (dataset, {"others": 0}, "at least 1"),
        (dataset, {"backgrounds": BACKGROUNDS[:1], "others": 1}, "0 of the backgrounds"),
        (dataset, {"backgrounds": ["moon"], "others": 1}, "background='moon' is not known"),
        (dataset, {"indices": [0, 6]}, "different ones of 0 to 5"),
        (dataset, {"indices": [1, 1]}, "different ones"),
        (dataset, {"indices": [1], "per_class": 1}, "give one of them"),
        (dataset, {"per_class": 0}, "at least one image of each class"),
    ]
    for data, options, message in refused:
        with pytest.raises(ValueError, match=message):
            background_reliance(method, data, **options)
    method._views = training_preprocessing(56, **PLAIN)
    with pytest.raises(ValueError, match="choose fixed views"):
        background_reliance(method, dataset, others=1)


def test_groups_without_images_are_drawn_as_such() -> None:
    dataset = data_set()
    found = background_reliance(Planted(dataset, "obobob"), dataset, indices=[0, 5, 9])
    for view in found.views:
        ax = found.plot(view=view)
        assert "n/a\n(no images)" in [text.get_text() for text in ax.texts]
    assert math.isnan(found.intervals["gap", "few"].estimate) and "n/a" in str(found)
