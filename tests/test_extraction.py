"""extract: what is computed for every image, over one view or several, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from workbench.data import Classes, choose_classes
from workbench.features import container
from workbench.features.extraction import _forward
from workbench.methods import Method, Output

Store = Callable[[str], wb.Run]


@pytest.fixture(scope="module")
def lift(store: Store) -> Method:
    return store("lift").method()


@pytest.fixture(scope="module")
def images(store: Store) -> wb.LongTailDataset:
    """Thirty test images: three of each class."""
    return store("lift").dataset("test", per_class=3)


class Playback(nn.Module):
    """A method whose logits are the images themselves, flattened; `extras` are what a test asks for."""

    ensemble, test_mean = Method.ensemble, "logits"

    def __init__(self, extras: Callable[[Tensor], dict[str, Tensor]] = lambda flat: {}) -> None:
        super().__init__()
        self.extras, self.device, self.backbone = extras, torch.device("cpu"), self

    def forward(self, images: Tensor) -> Output:
        flat = images.flatten(1)
        return Output(flat, 10 * flat, None, self.extras(flat))

    def encode(self, images: Tensor) -> Tensor:
        return -images.flatten(1)


# -- views -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("views", "number"), [("five", 5), ("ten", 10)])
def test_several_views_are_the_mean_of_the_logits_of_crops_cut_by_hand(
    lift: Method, images: wb.LongTailDataset, views: Any, number: int
) -> None:
    features = wb.extract(lift, images, views=views, batch_size=16)
    size, wide = 32, lift.test_preprocessing(views).resize
    assert wide is not None and wide > size
    one = replace(lift.preprocessing(train=False), name="by hand", size=wide, resize=wide)
    for i in (0, 7, 29):
        whole = one.build()(images.image(i))  # (3, wide, wide): digits are square
        low, high, middle = 0, wide - size, round((wide - size) / 2)
        corners = [(low, low), (low, high), (high, low), (high, high), (middle, middle)]
        crops = [whole[:, top : top + size, left : left + size] for top, left in corners]
        if number == 10:
            mirrored = whole.flip(2)
            crops += [mirrored[:, top : top + size, left : left + size] for top, left in corners]
        with torch.inference_mode():
            output = lift(torch.stack(crops))  # (V, C)
        logits = output.logits.mean(0)
        assert features.logits is not None
        np.testing.assert_allclose(features.logits[i], logits.numpy(), atol=2e-3, rtol=2e-3)  # kept in half precision
        np.testing.assert_allclose(features.vectors[i], output.features.mean(0).numpy(), atol=1e-5, rtol=1e-4)
        assert features.predicted[i] == logits.argmax()
        assert features.confidence[i] == pytest.approx(float(logits.softmax(0).max()), abs=1e-5)


def test_averaging_over_crops_is_that_of_the_authors_test_loop(golden: Callable[[str], Any]) -> None:
    for number in (1, 5, 10):
        case = golden(f"tte_average_{number}crops")
        batches = [case.tensor(f"in.n{number}.logits{i}", torch.float32) for i in range(2)]  # (B, V, C)
        shaped = [batch[..., None, None] for batch in batches]  # images (B, V, 3, H, W) of C "channels"
        found = [_forward(Playback(), batch, "head") for batch in shaped]  # type: ignore[arg-type]
        labels = np.concatenate([case.arrays[f"in.n{number}.y{i}"] for i in range(2)])
        predicted = np.concatenate([part["predicted"] for part in found])
        expected = case.arrays[f"out.n{number}.avg_logits"]
        np.testing.assert_allclose(np.concatenate([part["logits"] for part in found]), expected, atol=2e-3, rtol=1e-3)
        np.testing.assert_array_equal(predicted, expected.argmax(1))
        share = 100 * np.mean(predicted == labels)
        assert share == pytest.approx(float(case.arrays[f"out.n{number}.accuracy"]), rel=1e-5)


def test_the_methods_own_views_are_the_default(store: Store, lift: Method, images: wb.LongTailDataset) -> None:
    assert wb.extract(lift, images).source["preprocessing"]["crop"] == "five"
    probe = store("linear_probe").method()
    assert wb.extract(probe, images).source["preprocessing"]["crop"] == "centre"
    assert wb.extract(lift, images, views="centre").source["preprocessing"]["crop"] == "centre"
    with pytest.raises(ValueError, match="centre, five, ten"):
        wb.extract(lift, images, views="six")  # type: ignore[arg-type]


def test_batch_size_and_workers_change_nothing(lift: Method, images: wb.LongTailDataset) -> None:
    whole = wb.extract(lift, images)
    for options in ({"batch_size": 1}, {"batch_size": 64, "workers": 1}):
        other = wb.extract(lift, images, **options)  # type: ignore[arg-type]
        np.testing.assert_allclose(other.vectors, whole.vectors, atol=1e-5)
        np.testing.assert_array_equal(other.ids, whole.ids)


# -- layers ------------------------------------------------------------------------------------------------------------


def test_the_backbone_layer_is_the_bare_tower_under_the_heads_decision(
    lift: Method, images: wb.LongTailDataset
) -> None:
    head = wb.extract(lift, images, views="centre")
    bare = wb.extract(lift, images, views="centre", layer="backbone")
    tower = wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=32)
    expected = tower.encode_dataset(images.with_preprocessing(lift.test_preprocessing("centre")))
    np.testing.assert_allclose(bare.vectors, expected, atol=1e-5)
    assert not np.allclose(bare.vectors, head.vectors, atol=1e-3)
    np.testing.assert_array_equal(bare.predicted, head.predicted)
    assert (bare.source["layer"], head.source["layer"]) == ("backbone", "head")
    with pytest.raises(ValueError, match="head or backbone"):
        wb.extract(lift, images, layer="blocks")  # type: ignore[arg-type]


# -- rows --------------------------------------------------------------------------------------------------------------


def test_rows_are_in_the_order_of_the_data_set(lift: Method, images: wb.LongTailDataset) -> None:
    steps: list[tuple[int, dict[str, float]]] = []
    features = wb.extract(
        lift, images, views="centre", batch_size=8, on_step=lambda step, parts: steps.append((step, parts))
    )
    assert features.ids.tolist() == images.ids.tolist()
    assert features.labels.tolist() == images.labels.tolist()
    assert [parts["done"] for _, parts in steps] == [8, 16, 24, 30]
    assert [step for step, _ in steps] == [0, 1, 2, 3]
    pixels = images.with_preprocessing(lift.test_preprocessing("centre"))[13][0]
    with torch.inference_mode():
        np.testing.assert_allclose(features.vectors[13], lift(pixels[None]).features[0].numpy(), atol=1e-5)


def test_a_training_transform_of_the_data_set_is_replaced(lift: Method, images: wb.LongTailDataset) -> None:
    augmented = images.with_preprocessing(lift.preprocessing(train=True))
    first, second = (wb.extract(lift, dataset, views="centre") for dataset in (augmented, images))
    np.testing.assert_array_equal(first.vectors, second.vectors)


def test_a_method_in_training_mode_is_put_into_eval_mode(lift: Method, images: wb.LongTailDataset) -> None:
    lift.train()
    wb.extract(lift, images, views="centre")
    assert not lift.training


# -- extras ------------------------------------------------------------------------------------------------------------


def test_extras_of_one_view_are_kept_as_they_are() -> None:
    method = Playback(lambda flat: {"candidates": flat.argsort(1)[:, :2]})
    images = torch.rand(4, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    found = _forward(method, images, "head")  # type: ignore[arg-type]
    np.testing.assert_array_equal(found["extras.candidates"], images.flatten(1).argsort(1)[:, :2])


def test_extras_of_five_views_are_those_of_the_centre() -> None:
    method = Playback(lambda flat: {"prompt_index": flat.argmax(1), "match": flat})
    crops = torch.rand(4, 5, 3, 1, 1, generator=torch.Generator().manual_seed(0))  # the centre is torchvision's last
    found = _forward(method, crops, "head")  # type: ignore[arg-type]
    centre = crops[:, -1].flatten(1)
    np.testing.assert_array_equal(found["extras.prompt_index"], centre.argmax(1))
    np.testing.assert_array_equal(found["extras.match"], centre)
    np.testing.assert_allclose(found["vectors"], 10 * crops.flatten(2).mean(1), rtol=1e-6)


def test_extras_of_ten_views_are_those_of_the_centre() -> None:
    method = Playback(lambda flat: {"match": flat})
    crops = torch.rand(4, 10, 3, 1, 1, generator=torch.Generator().manual_seed(0))  # five, then the five mirrored
    found = _forward(method, crops, "head")  # type: ignore[arg-type]
    np.testing.assert_array_equal(found["extras.match"], crops[:, 4].flatten(1))


def test_extras_of_a_method_reach_the_features(lift: Method, images: wb.LongTailDataset) -> None:
    class Matching(type(lift)):  # type: ignore[misc]
        def forward(self, pixels: Tensor) -> Output:
            output = super().forward(pixels)
            return replace(output, extras={"rank": output.logits.argsort(1, descending=True)})

    original = lift.__class__
    lift.__class__ = Matching
    try:
        features = wb.extract(lift, images, views="centre", batch_size=7)
    finally:
        lift.__class__ = original
    assert features.extras["rank"].shape == (30, 10)
    np.testing.assert_array_equal(features.extras["rank"][:, 0], features.predicted)


# -- what is refused or left out ---------------------------------------------------------------------------------------


def test_a_data_set_with_other_classes_is_refused(lift: Method, images: wb.LongTailDataset) -> None:
    manifest = images.manifest
    renamed = Classes(("zero", *manifest.classes.names[1:]), manifest.classes.counts, manifest.classes.rule)
    other = wb.LongTailDataset(replace(manifest, classes=renamed), "test", per_class=1)
    with pytest.raises(ValueError, match="named or ordered differently"):
        wb.extract(lift, other)


def test_logits_that_are_too_large_are_left_out_and_decisions_stay(
    lift: Method, images: wb.LongTailDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = wb.extract(lift, images, views="centre")
    monkeypatch.setattr(container, "MAX_LOGITS", 299)  # 30 images of 10 classes are 300
    features = wb.extract(lift, images, views="centre")
    assert whole.logits is not None and features.logits is None
    np.testing.assert_array_equal(features.predicted, whole.predicted)
    np.testing.assert_array_equal(features.confidence, whole.confidence)


# -- where it comes from -----------------------------------------------------------------------------------------------


def test_the_source_says_all_that_made_the_features(store: Store, lift: Method, images: wb.LongTailDataset) -> None:
    run = store("lift")
    features = wb.extract(lift, images, run=str(run.path), weights_sha256=run.weights_sha256)
    source = features.source
    assert (source["method"], source["split"], source["per_class"], source["layer"]) == ("lift", "test", 3, "head")
    assert source["manifest_sha256"] == images.manifest.sha256
    assert (source["run"], source["weights_sha256"]) == (str(run.path), run.weights_sha256)
    assert source["options"]["bottleneck"] == 2 and source["seed"] == 0
    assert source["backbone"]["name"] == "test_vit.r160_in1k"
    assert wb.Preprocessing.from_spec(source["preprocessing"]) == lift.test_preprocessing()
    assert "torch" in source["versions"]
    assert features.classes == images.classes


def test_images_of_other_classes_give_vectors_without_decisions(
    lift: Method, images: wb.LongTailDataset, tmp_path: Path
) -> None:
    upstream = wb.Manifest.load("toybox_upstream")
    few = wb.Manifest.load(choose_classes(upstream, range(3)).save(tmp_path))
    other = wb.LongTailDataset(few, "test", per_class=4)
    with pytest.raises(ValueError, match="decisions=False"):
        wb.extract(lift, other)
    found = wb.extract(lift, other, decisions=False)
    assert found.logits is found.predicted is found.confidence is None and len(found) == 12
    assert wb.Features.load(found.save(tmp_path / "other.npz")).vectors.tobytes() == found.vectors.tobytes()
    with pytest.raises(ValueError, match=r"the model that made them knows other classes than toybox_upstream"):
        wb.group_report(found)
    both = wb.project(wb.extract(lift, images), found, method="pca")
    assert both.correct is None and both.clusters[0] != both.clusters[1]
    with pytest.raises(ValueError, match="hold no decisions"):
        both.plot(view="correct")
