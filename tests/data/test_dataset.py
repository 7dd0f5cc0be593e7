"""LongTailDataset: pixels of odd files, randomness per item, errors that name the file."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from pictures import noise, write
from PIL import Image

from workbench.data import LongTailDataset, Manifest, evaluation_preprocessing, read_image, training_preprocessing
from workbench.data.dataset import ImageError
from workbench.data.manifest import Classes, Split

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
RANDOM = training_preprocessing(16, **PLAIN)


def manifest_of(paths, labels, **changes):
    classes = Classes(tuple("abc"), np.bincount(labels, minlength=3))
    fields = {"name": "few", "title": "", "licence": "", "source": "", "kind": "files", "classes": classes}
    return Manifest(**{**fields, "splits": {"train": Split(np.array(paths), np.array(labels))}, **changes})


@pytest.fixture
def digits():
    return LongTailDataset(Manifest.load("digits_lt"), "train", preprocessing=RANDOM)


def test_items_are_image_and_label(digits):
    image, label = digits[0]
    assert image.shape == (3, 16, 16) and image.dtype == torch.float32 and label == digits.labels[0]
    assert len(digits) == 335 and digits.class_counts.tolist() == digits.classes.counts.tolist()
    assert digits.image(0).size == (32, 32) and digits.image(0).mode == "RGB" and digits.mask(0) is None
    assert digits.ids[0].split("/")[0] == str(label)
    test = LongTailDataset(digits.manifest, "test")
    with pytest.raises(ValueError, match="with_preprocessing"):
        test[0]


def test_digit_keys_mean_the_images_that_scikit_learn_gives(digits):
    from sklearn.datasets import load_digits

    bundle = load_digits()
    digit, rank = (int(part) for part in digits.ids[200].split("/"))
    expected = bundle.images[bundle.target == digit][rank]
    np.testing.assert_allclose(np.asarray(digits.image(200))[2::4, 1::4, 0], expected * 255 / 16, atol=0.5)


def test_randomness_depends_on_seed_epoch_and_index_alone(digits):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = [digits[i][0] for i in range(6)]
    assert torch.equal(torch.get_rng_state(), state), "the global generator advanced"
    torch.manual_seed(1)
    for i in (4, 2, 5):
        assert torch.equal(digits[i][0], first[i])
    assert torch.equal(digits[4 - len(digits)][0], first[4])
    digits.set_epoch(1)
    second = [digits[i][0] for i in range(6)]
    assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
    digits.set_epoch(0)
    assert torch.equal(digits[3][0], first[3])
    other = LongTailDataset(digits.manifest, "train", preprocessing=RANDOM, seed=1)
    assert not torch.equal(other[3][0], first[3])


@pytest.mark.slow
def test_worker_processes_draw_the_same_and_follow_the_epoch(digits):
    subset = torch.utils.data.Subset(digits, range(8))
    loader = torch.utils.data.DataLoader(  # spawned, so that everything has to be sent there, on every platform
        subset, batch_size=4, num_workers=2, persistent_workers=True, multiprocessing_context="spawn"
    )
    for epoch in (0, 3):
        digits.set_epoch(epoch)
        here = torch.stack([digits[i][0] for i in range(8)])
        assert torch.equal(torch.cat([images for images, _ in loader]), here)


def test_with_preprocessing_keeps_images_and_has_its_own_epoch(digits):
    digits.set_epoch(5)
    other = digits.with_preprocessing(evaluation_preprocessing(32, resize=32, **PLAIN))
    assert other[7][0].shape == (3, 32, 32) and other.ids is digits.ids
    digits.set_epoch(6)
    again = digits.with_preprocessing(RANDOM)
    digits.set_epoch(0)
    assert torch.equal(again[7][0], digits[7][0])


def test_per_class_keeps_the_first_images_of_each_class():
    manifest = Manifest.load("digits_lt")
    whole, few = (LongTailDataset(manifest, "train", per_class=count) for count in (None, 6))
    assert few.class_counts.tolist() == np.minimum(whole.class_counts, 6).tolist()
    for label in range(10):
        assert few.ids[few.labels == label].tolist() == whole.ids[whole.labels == label][:6].tolist()


def test_a_record_builds_an_equal_data_set(tmp_path, digits):
    manifest = manifest_of(["a/1.png", "b/2.png"], [0, 1])
    for number, path in enumerate(manifest.split("train").paths):
        write(tmp_path / "images" / path, number)
    stored = Manifest.load(manifest.save(tmp_path / "manifests"))
    dataset = LongTailDataset(stored, "train", tmp_path / "images", RANDOM, seed=4, per_class=1)
    spec = json.loads(json.dumps(dataset.spec()))
    again = LongTailDataset.from_spec(spec)
    assert again.spec() == dataset.spec() and torch.equal(again[1][0], dataset[1][0])
    (tmp_path / "images").rename(tmp_path / "moved")
    assert torch.equal(LongTailDataset.from_spec(spec, root=tmp_path / "moved")[1][0], again_item(dataset, tmp_path))
    manifest_of(["b/2.png", "a/1.png"], [0, 1]).save(tmp_path / "manifests", overwrite=True)
    with pytest.raises(ValueError, match="not the one this was made with"):
        LongTailDataset.from_spec(spec, root=tmp_path / "moved")
    assert LongTailDataset.from_spec(digits.spec()).spec() == digits.spec()


def again_item(dataset, tmp_path):
    return LongTailDataset(dataset.manifest, "train", tmp_path / "moved", RANDOM, seed=4, per_class=1)[1][0]


@pytest.mark.parametrize(
    "name, size",
    [
        ("cmyk.jpg", (24, 20)), ("grey16.png", (24, 20)), ("alpha.png", (24, 20)), ("palette.png", (24, 20)),
        ("animated.gif", (24, 20)), ("rotated.jpg", (20, 24)), ("1x1.png", (1, 1)), ("png_inside.jpg", (24, 20)),
        ('SPACES and ünïcode, "quotes".JPG', (24, 20)),
    ],
)  # fmt: skip
def test_odd_files_decode_to_rgb(corpus, name, size):
    image = read_image(corpus / "odd" / name)
    assert image.mode == "RGB" and image.size == size


def test_odd_pixels_are_those_that_the_policy_says(corpus):
    grey = np.asarray(read_image(corpus / "odd" / "grey16.png"))[..., 0]
    assert grey.reshape(-1).tolist() == [value * 130 >> 8 for value in range(480)]
    alpha = np.asarray(read_image(corpus / "odd" / "alpha.png"))
    assert (alpha[0, 0] == 255).all(), "a transparent pixel shows the white below"
    turned = np.asarray(read_image(corpus / "odd" / "rotated.jpg")).astype(int)
    upright = np.asarray(Image.open(corpus / "odd" / "rotated.jpg")).astype(int)
    np.testing.assert_array_equal(turned, np.rot90(upright, -1))
    np.testing.assert_array_equal(np.asarray(read_image(corpus / "odd" / "png_inside.jpg")), np.asarray(noise(9)))


@pytest.mark.parametrize(
    "name, outcome",
    [("truncated.jpg", "broken"), ("empty.jpg", "empty"), ("page.jpg", "broken"), ("bomb.png", "too_large")],
)
def test_files_that_are_no_usable_image_raise_a_typed_error(corpus, name, outcome):
    with pytest.raises(ImageError) as caught:
        read_image(corpus / "bad" / name)
    assert caught.value.outcome == outcome and str(caught.value) == caught.value.message


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "pipe.jpg")


def test_a_bad_image_raises_naming_itself_and_no_other_takes_its_place(corpus):
    paths = ["bad/truncated.jpg", "bad/gone.jpg", "bad/escape.jpg", "odd/1x1.png"]
    dataset = LongTailDataset(manifest_of(paths, [0, 0, 1, 2]), "train", corpus, RANDOM)
    with pytest.raises(ValueError, match=r"truncated\.jpg.*workbench data check few"):
        dataset[0]
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg.*root of few"):
        dataset[1]
    with pytest.raises(ValueError, match="links out of the data set's root are refused"):
        dataset[2]
    assert dataset[3][1] == 2
    with pytest.raises(IndexError):
        dataset[4]


def test_arguments_that_cannot_work_are_refused_at_once(tmp_path):
    manifest = manifest_of(["a.jpg"], [0])
    with pytest.raises(ValueError, match="root="):
        LongTailDataset(manifest, "train")
    with pytest.raises(FileNotFoundError, match="not a folder"):
        LongTailDataset(manifest, "train", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="it has train"):
        LongTailDataset(manifest, "val", tmp_path)
    with pytest.raises(ValueError, match="per_class"):
        LongTailDataset(manifest, "train", tmp_path, per_class=0)
