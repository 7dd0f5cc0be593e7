"""Prompts switched off: nothing but the choice changes, the shortcut is exact, a planted prompt carries its class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import workbench as wb
from workbench import metrics
from workbench.diagnostics.prompt_ablation import ablate_prompts

OPTIONS = {
    "lpt": {"prompts": 2, "groups": 6},
    "lt_dpt": {"prompts": 2, "groups": 6, "group_prompts": 2, "background_blocks": 2, "pooling": "cls"},
}


def build(name: str, manifest: wb.Manifest, **options: Any) -> Any:
    """On a random tower of six blocks, its weights and the group prompts so large that they move decisions."""
    tower = wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=32)
    for parameter in tower.model.blocks.parameters():
        parameter.data *= 4
    method = wb.create_method(name, tower, manifest.classes, **(OPTIONS.get(name, {}) | options))
    large = getattr(method, "pool" if name == "lpt" else "groups", None)
    if large is not None:
        large.data *= 100
    return method.eval().requires_grad_(False)


@pytest.fixture
def digits() -> wb.LongTailDataset:
    return wb.LongTailDataset(wb.Manifest.load("digits_lt"), "test", per_class=3)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


# -- the switch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIONS)
def test_a_prompt_that_nobody_picks_is_not_missed_bit_for_bit(
    name: str, digits: wb.LongTailDataset, images: torch.Tensor
) -> None:
    method = build(name, digits.manifest)
    images = images[:1]
    intact = method(images)
    picked = set(intact.extras["prompt_index"].unique().tolist())
    for prompt in range(6):
        with method.without_prompt(prompt):
            found = method(images)
        same = torch.equal(found.logits, intact.logits) and torch.equal(found.features, intact.features)
        assert same == (prompt not in picked)
        assert prompt not in found.extras["prompt_index"]
    assert 2 <= len(picked) < 6, "both kinds of prompts were tried"


@pytest.mark.parametrize("name", OPTIONS)
def test_the_next_nearest_takes_the_place_and_the_similarities_are_still_told(
    name: str, digits: wb.LongTailDataset, images: torch.Tensor
) -> None:
    method = build(name, digits.manifest)
    intact = method(images).extras["prompt_similarity"].reshape(6, -1, 6)[:, 0].numpy()  # in the first layer that picks
    best = int(intact[0].argmax())
    with method.without_prompt(best, layer=0):
        extras = method(images).extras
    others = np.delete(intact, best, axis=1)
    expected = np.delete(np.arange(6), best)[np.argsort(-others, axis=1)[:, :2]]
    np.testing.assert_array_equal(extras["prompt_index"].reshape(6, -1, 2)[:, 0], expected)
    np.testing.assert_array_equal(extras["prompt_similarity"].reshape(6, -1, 6)[:, 0], intact)


def test_a_layer_is_switched_off_alone(digits: wb.LongTailDataset, images: torch.Tensor) -> None:
    method = build("lt_dpt", digits.manifest)
    index = method(images).extras["prompt_index"]  # (B, 2 layers, k)
    prompt = int(index[0, 1, 0])
    with method.without_prompt(prompt, layer=1):
        found = method(images).extras["prompt_index"]
    assert torch.equal(found[:, 0], index[:, 0]) and prompt not in found[:, 1]


def test_the_switch_goes_back_after_an_error_and_is_no_part_of_the_state(
    digits: wb.LongTailDataset, images: torch.Tensor
) -> None:
    method = build("lpt", digits.manifest)
    intact, names = method(images).logits, method.state().keys()
    with pytest.raises(ZeroDivisionError), method.without_prompt(0):
        with method.without_prompt(1, 2):
            assert set(method(images).extras["prompt_index"].unique().tolist()) <= {3, 4, 5}
        assert method.switched_off == {(0, 0)} and method.state().keys() == names
        raise ZeroDivisionError
    assert not method.switched_off and torch.equal(method(images).logits, intact)


def test_too_few_prompts_or_wrong_ones_are_refused(digits: wb.LongTailDataset) -> None:
    method = build("lpt", digits.manifest, groups=3)
    with pytest.raises(ValueError, match=r"1 of 3 prompts would be left and each image picks top_k=2"):
        with method.without_prompt(0, 1):
            pass
    with method.without_prompt(2), pytest.raises(ValueError, match="1 of 3 prompts would be left"):
        with method.without_prompt(0):
            pass
    for prompt, layer in ((3, None), (-1, None), (0, 1)):
        with pytest.raises(ValueError, match="there are prompts 0 to 2 in layers 0 to 0"):
            with method.without_prompt(prompt, layer=layer):
                pass
    with pytest.raises(ValueError, match="1 of 2 prompts would be left"):
        ablate_prompts(build("lpt", digits.manifest, groups=2), digits)


# -- the diagnostic ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "layer"), [("lpt", -1), ("lt_dpt", 0), ("lt_dpt", -1), ("lt_dpt", None)])
def test_the_shortcut_equals_running_everything(
    name: str, layer: int | None, digits: wb.LongTailDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = build(name, digits.manifest)
    seen: list[int] = []
    encode = method.encode
    monkeypatch.setattr(method, "encode", lambda images: seen.append(len(images)) or encode(images))
    found = ablate_prompts(method, digits, layer=layer, batch_size=8)
    assert sum(seen) == len(digits) + found.used.sum(), "an image is computed again for the prompts that it picks"
    assert not (found.changed & ~found.used).any() and found.changed.any() and not found.used.all()
    intact = wb.extract(method, digits)
    np.testing.assert_array_equal(found.predicted, intact.predicted)
    index = intact.extras["prompt_index"].reshape(len(digits), -1, 2)
    index = index if layer is None else index[:, [layer]]
    for row in range(6):
        with method.without_prompt(row, layer=layer):
            np.testing.assert_array_equal(found.without[row], wb.extract(method, digits).predicted)
        np.testing.assert_array_equal(found.used[row], (index == row).any((1, 2)))


def test_the_numbers_are_those_of_the_decisions(digits: wb.LongTailDataset) -> None:
    steps: list[dict[str, float]] = []
    method = build("lpt", digits.manifest)
    found = ablate_prompts(
        method, digits, prompts=[4, 1, 0], per_class=2, batch_size=16, on_step=lambda step, parts: steps.append(parts)
    )
    assert steps == [{"done": 16, "total": 20}, {"done": 20, "total": 20}]
    assert found.prompts.tolist() == [4, 1, 0] and np.bincount(found.labels).tolist() == [2] * 10
    whole = ablate_prompts(method, digits, prompts=[1])
    np.testing.assert_array_equal(found.without[1], whole.without[0][np.isin(whole.ids, found.ids)])
    frame = found.to_frame().set_index(["prompt", "group"])
    for row, prompt in enumerate(found.prompts):
        after = metrics.group_accuracy(found.without[row], found.labels, found.groups)
        for group in ("all", "many", "medium", "few"):
            line, inside = frame.loc[(prompt, group)], np.isin(found.groups[found.labels], [group])
            inside |= group == "all"  # every class has two images, so that a mean over classes is one over images
            assert line.used == pytest.approx(found.used[row][inside].mean())
            assert line.changed == pytest.approx((found.without[row] != found.predicted)[inside].mean())
            assert line.difference == pytest.approx(after[group] - found.intact[group])
            assert line.difference == pytest.approx(line.without - line.intact) and line.images == inside.sum()
            expected = metrics.paired_difference(
                found.without[row], found.predicted, found.labels, found.groups, group=group
            )
            assert (line.low, line.high) == pytest.approx((expected.low, expected.high), nan_ok=True)


def test_a_planted_prompt_carries_its_class_and_no_other(tmp_path: Path) -> None:
    colours = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230)}
    rng = np.random.default_rng(0)
    for split, numbers in (("train", (3, 2, 1)), ("test", (4, 4, 4))):
        for (name, colour), number in zip(colours.items(), numbers, strict=True):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                noise = rng.integers(-15, 16, (32, 32, 3))
                Image.fromarray((np.array(colour) + noise).astype(np.uint8)).save(folder / f"{i}.png")
    rule = wb.GroupRule(many_from=3, few_to=1)
    manifest = wb.import_dataset(tmp_path, "colours", rule=rule, out=tmp_path / "made", workers=1).manifest
    test = wb.LongTailDataset(manifest, "test", tmp_path)
    names = list(manifest.classes.names)
    method = build("lpt", manifest, groups=4, top_k=1, shared_blocks=1)

    def of_classes(vectors: np.ndarray) -> torch.Tensor:
        return torch.tensor(np.stack([vectors[test.labels == c].mean(0) for c in range(3)]))

    queries = of_classes(wb.extract(method, test).extras["query"])
    method.keys.data[:3] = queries - queries.mean(0)  # an image picks the prompt of its colour, and never the last
    method.keys.data[3] = -queries.mean(0)
    own = of_classes(wb.extract(method, test).vectors)
    another = []
    for c in range(3):  # the features that a colour has with the prompt of another one
        key, method.keys.data[c] = method.keys.data[c].clone(), method.keys.data[3]
        another.append(of_classes(wb.extract(method, test).vectors)[c])
        method.keys.data[c] = key
    # the head knows a colour by its own prompt, and takes it for the next colour with another
    target = torch.cat([torch.eye(3), torch.eye(3).roll(1, 1)])  # (6, 3)
    method.head.weight.data.copy_((torch.linalg.pinv(torch.cat([own, torch.stack(another)])) @ target).T)

    found = ablate_prompts(method, test)
    picked = wb.extract(method, test).extras["prompt_index"][:, 0]
    np.testing.assert_array_equal(picked, test.labels)
    assert found.intact["all"] == 1.0
    for c, name in enumerate(names):
        group = {"red": "many", "green": "medium", "blue": "few"}[name]
        losses = {other: found.differences[c, other].estimate for other in ("many", "medium", "few")}
        assert losses == {other: -1.0 if other == group else 0.0 for other in losses}
        assert found.differences[c, "all"].estimate == pytest.approx(-1 / 3)
        assert found.shares(found.used[c])[group] == found.shares(found.changed[c])[group] == 1.0
    assert not found.used[3].any() and "1 of 4 prompts are never picked" in found.caption()
    assert "never picked: 3" in str(found)
    assert "decided otherwise in 100.0 % of 12 cases" in found.caption("changes")
    for view in found.views:
        assert found.plot(view=view).has_data(), "one class per group has no interval and is drawn all the same"


def test_methods_without_a_pool_and_wrong_arguments_say_what_is_needed(digits: wb.LongTailDataset) -> None:
    for name, options in (("vpt", {"prompts": 2}), ("lpt", {"phases": "shared"}), ("lt_dpt", {"background": False})):
        with pytest.raises(ValueError, match=f"{name} picks no prompts.*use one that does: lpt"):
            ablate_prompts(build(name, digits.manifest, **options), digits)
    method = build("lpt", digits.manifest)
    for wrong in ([], [1, 1]):
        with pytest.raises(ValueError, match="give different ones of 0 to 5"):
            ablate_prompts(method, digits, prompts=wrong)
    with pytest.raises(ValueError, match="there are prompts 0 to 5"):
        ablate_prompts(method, digits, prompts=[6])
    with pytest.raises(ValueError, match="per_class=0"):
        ablate_prompts(method, digits, per_class=0)
    with pytest.raises(ValueError, match="lpt knows 10 classes and 'toybox_lt' has 60"):
        ablate_prompts(method, wb.LongTailDataset(wb.Manifest.load("toybox_lt"), "test"))
