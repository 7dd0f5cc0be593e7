"""Samplers: properties of the orders.

The recorded streams were drawn by Python's and torch's global generators, which no sampler here uses, so they are not
compared index by index; instead the same properties are demanded of the recorded streams and of ours.
"""

from __future__ import annotations

import numpy as np
import pytest

from workbench.data.sampling import SAMPLERS, class_aware, class_weights, epoch_order

LABELS = np.repeat(np.arange(5), [9, 7, 5, 3, 1])


def assert_class_aware(stream, labels, k, start=0):
    """Blocks of k share a class, every class once per round, and every image once per cycle of its class."""
    classes, counts = np.unique(labels, return_counts=True)
    assert len(stream) == counts.max() * len(classes)
    blocks = [labels[stream[at : at + k]] for at in range(0, len(stream), k)]
    assert all(len(set(block)) == 1 for block in blocks)
    turns = [int(block[0]) for block in blocks]
    for at in range(0, len(turns) - len(classes) + 1, len(classes)):
        assert sorted(turns[at : at + len(classes)]) == classes.tolist()
    for label, count in zip(classes, counts, strict=True):
        own = stream[labels[stream] == label]
        for at in range(0, len(own) - count + 1, count):
            assert len(set(own[at : at + count].tolist())) == count


@pytest.mark.parametrize("seed", [0, 42])
@pytest.mark.parametrize("k", [1, 4])
def test_class_aware_has_the_properties_of_the_recorded_stream(golden, seed, k):
    case = golden(f"classaware_seed{seed}_k{k}")
    labels = case.arrays["in.labels"]
    recorded = case.arrays[f"out.ca_s{seed}_k{k}.epoch0"]
    assert_class_aware(recorded, labels, k)
    ours = class_aware(labels, k=k, generator=np.random.default_rng(seed))
    assert len(ours) == int(case.arrays[f"out.ca_s{seed}_k{k}.len"])
    assert_class_aware(ours, labels, k)


@pytest.mark.parametrize("rule, key", [("balanced", "balanced"), ("effective_number", "effectnum")])
def test_class_weights_equal_the_recorded_ones(golden, rule, key):
    case = golden(f"{key}_seed0")
    weights = class_weights(np.bincount(case.arrays["in.labels"]), rule)
    recorded = case.arrays[f"out.{key}_s0.class_weights"]
    np.testing.assert_allclose(weights / weights.sum(), recorded / recorded.sum(), rtol=1e-6)


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_order_is_a_function_of_its_generator(name):
    first, second = (epoch_order(name, LABELS, generator=np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, second) and first.dtype == np.int64
    assert first.min() >= 0 and first.max() < len(LABELS)
    assert not np.array_equal(first, epoch_order(name, LABELS, generator=np.random.default_rng(4)))


@pytest.mark.parametrize(
    "name, expected",
    [
        ("shuffle", np.array([9, 7, 5, 3, 1]) / 25),
        ("balanced", np.full(5, 0.2)),
        ("square_root", np.sqrt([9, 7, 5, 3, 1]) / np.sqrt([9, 7, 5, 3, 1]).sum()),
        ("class_aware", np.full(5, 0.2)),
        ("class_aware_1", np.full(5, 0.2)),
        ("effective_number", np.full(5, 0.2)),  # with so few images beta ** n is nearly linear in n
    ],
)
def test_classes_are_drawn_as_often_as_the_sampler_says(name, expected, rng):
    orders = [SAMPLERS[name](LABELS, generator=rng) for _ in range(400)]
    shares = np.bincount(LABELS[np.concatenate(orders)], minlength=5)
    np.testing.assert_allclose(shares / shares.sum(), expected, atol=0.02)


@pytest.mark.parametrize("progress", [0.0, 0.5, 0.9])
def test_mix_balanced_goes_from_the_shares_of_images_to_equal_ones(progress, rng):
    orders = [SAMPLERS["mix_balanced"](LABELS, generator=rng, progress=progress) for _ in range(400)]
    shares = np.bincount(LABELS[np.concatenate(orders)], minlength=5)
    expected = (1 - progress) * np.array([9, 7, 5, 3, 1]) / 25 + progress / 5
    np.testing.assert_allclose(shares / shares.sum(), expected, atol=0.02)


def test_shuffle_visits_every_image_once(rng):
    assert sorted(SAMPLERS["shuffle"](LABELS, generator=rng)) == list(range(25))


@pytest.mark.parametrize("name", SAMPLERS)
def test_labels_with_gaps_in_any_order_are_fine(name, rng):
    labels = np.array([7, 2, 7, 2, 2, 9])
    order = epoch_order(name, labels, generator=rng)
    assert set(order) <= set(range(6))
    if name == "class_aware":
        assert_class_aware(order, labels, 4)


def test_unknown_samplers_and_empty_sets_are_refused(rng):
    with pytest.raises(ValueError, match="class_aware"):
        epoch_order("reversed", LABELS, generator=rng)
    with pytest.raises(ValueError, match="no images"):
        epoch_order("shuffle", np.empty(0, np.int64), generator=rng)
    with pytest.raises(ValueError, match="square_root"):
        class_weights(np.ones(3), "cubic")
