"""The towers of the toybox world: what pretraining writes is what load_backbone and text_tower read."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn import functional as F

from workbench import toybox
from workbench.backbones import load_backbone
from workbench.backbones.toybox import pretrain, tasks, upstream
from workbench.backbones.toybox.pretrain import RECIPES, Pretraining
from workbench.backbones.toybox.towers import CONTEXT, MARKS, UNKNOWN, text_tower, tokenizer
from workbench.backbones.toybox.upstream import ATTRIBUTES, Pool
from workbench.toybox.words import COLOUR_SENTENCES, PATTERN_SENTENCES, SHAPE_SENTENCES

CPU = torch.device("cpu")
Train = Callable[[str, Path], Pretraining]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return Pool(tmp_path_factory.mktemp("pool"), 200)


@pytest.fixture(scope="module")
def train(pool: Pool) -> Train:
    """train("vit", folder) -> a pretraining of six steps, not started, or where it was when the folder has one."""

    def make(tower: str, out: Path, seed: int = 0) -> Pretraining:
        recipe = replace(RECIPES[tower], samples=6 * 16, batch_size=16, pool=200, seed=seed)
        return Pretraining(recipe, out, pool, device=CPU)

    return make


@pytest.fixture(autouse=True)
def few_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for counts in (pretrain.GLIMPSE, pretrain.HELD_OUT_COUNTS):
        monkeypatch.setitem(counts, "count", 8)
        monkeypatch.setitem(counts, "per_toy", 1)


@pytest.fixture(scope="module")
def clip_file(train: Train, tmp_path_factory: pytest.TempPathFactory) -> tuple[tasks.Contrastive, Path]:
    pretraining = train("clip", tmp_path_factory.mktemp("clip"))
    for _ in range(3):
        pretraining.advance()
    path = pretraining.out / "toybox_clip.safetensors"
    pretraining.task.save(path)
    assert isinstance(pretraining.task, tasks.Contrastive)
    return pretraining.task, path


def images() -> np.ndarray:
    return upstream.render(upstream.held_out_scenes(4))


@pytest.mark.slow
@pytest.mark.parametrize("tower", ["vit", "clip"])
def test_a_resumed_pretraining_ends_in_bitwise_the_same_weights(train: Train, tower: str, tmp_path: Path) -> None:
    whole = train(tower, tmp_path / "whole")
    whole.run(log_every=2, evaluations=2)
    for until in (2, 4, None):
        train(tower, tmp_path / "parts").run(until=until, log_every=2, evaluations=2)
    files = [tmp_path / part / f"toybox_{tower}.safetensors" for part in ("whole", "parts")]
    first, second = (safetensors.torch.load_file(file) for file in files)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert files[0].read_bytes() == files[1].read_bytes()
    lines = [(tmp_path / part / "log.jsonl").read_text().count("\n") for part in ("whole", "parts")]
    assert lines[0] == lines[1]
    assert 2e6 < files[0].stat().st_size < 4e6


def test_pretraining_changes_with_the_seed_and_leaves_the_global_state_alone(train: Train, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    weights = [train("vit", tmp_path / str(seed), seed=seed).task.tower.cls_token for seed in (0, 1)]
    assert not torch.equal(*weights)
    assert torch.equal(state, torch.get_rng_state())


def test_a_folder_of_another_recipe_is_refused(train: Train, tmp_path: Path) -> None:
    train("vit", tmp_path).run(until=1)
    with pytest.raises(ValueError, match=r"another recipe.*another --out"):
        train("vit", tmp_path, seed=1)


@pytest.mark.parametrize("tower", ["vit", "clip"])
def test_load_backbone_reads_the_file_and_computes_what_was_trained(train: Train, tower: str, tmp_path: Path) -> None:
    pretraining = train(tower, tmp_path)
    pretraining.advance()
    path = tmp_path / "tower.safetensors"
    pretraining.task.save(path)
    backbone = load_backbone(f"toybox_{tower}", path)
    pixels = tasks.to_pixels(images(), CPU)
    trained = pretraining.task.eval().tower
    with torch.no_grad():
        features = backbone.encode(pixels)
        torch.testing.assert_close(features, tasks.encode(trained, pixels), atol=0.02, rtol=0)
        if tower == "clip":
            projected = backbone.project(features)
            torch.testing.assert_close(projected, F.linear(features, trained.head.weight), atol=0.02, rtol=0)
    again = load_backbone(**backbone.spec())
    assert again.weights.sha256 == backbone.weights.sha256 and backbone.weights.tag is None
    assert (backbone.width, len(backbone.blocks), backbone.grid, backbone.input_size) == (96, 12, (7, 7), 56)
    assert backbone.joint_width == {"vit": None, "clip": 64}[tower]


def test_the_text_tower_in_the_file_is_the_one_trained_and_computes_what_open_clip_does(
    clip_file: tuple[tasks.Contrastive, Path],
) -> None:
    task, path = clip_file
    text, tokenize, scale = text_tower(path)
    tokens = tokenize(["a photo of a striped red star.", "It has four equal sides and four right angles.", ""])
    assert tokens.shape == (3, CONTEXT) and tokens.dtype == torch.int64
    with torch.no_grad():
        torch.testing.assert_close(text(tokens), task.text(tokens), atol=0.01, rtol=0)
        torch.testing.assert_close(text(tokens), text.transformer(text.rows[tokens]))  # open_clip's own forward
        torch.testing.assert_close(text(tokens[:, :16]), text(tokens))  # what stands behind the end is not read
    assert scale == pytest.approx(task.logit_scale.exp().item(), rel=1e-3)


def test_tokens_not_met_upstream_share_one_trained_row(clip_file: tuple[tasks.Contrastive, Path]) -> None:
    path = clip_file[1]
    text, tokenize, _ = text_tower(path)
    tokens = tokenize(["a zeppelin", "a saxophone", "a star"])
    assert (text.rows[tokens[:, 2]] == UNKNOWN).tolist() == [True, True, False]
    with torch.no_grad():
        vectors = text(tokens)
    assert tokens[0, 3] == tokens[1, 3] == MARKS[1]
    assert torch.equal(vectors[0], vectors[1]) and not torch.equal(vectors[0], vectors[2])


def test_the_shared_row_is_trained(train: Train, tmp_path: Path) -> None:
    pretraining = train("clip", tmp_path)
    pretraining.advance()
    rows = pretraining.task.text.transformer.token_embedding.weight.grad
    assert rows[UNKNOWN].abs().sum() > 0


def test_no_caption_is_cut() -> None:
    longest = [max(options, key=len) for options in SHAPE_SENTENCES.values()]
    patterns = [max(options, key=len) for options in PATTERN_SENTENCES.values()]
    colour = max(COLOUR_SENTENCES, key=len).format("orange")
    tokens = tokenizer()([f"{shape} {pattern} {colour}" for shape in longest for pattern in patterns])
    assert (tokens == MARKS[1]).any(1).all() and tokens[:, -1].max() == 0


def test_the_pool_shows_no_class_and_no_held_out_toy_and_is_rendered_once(pool: Pool) -> None:
    shown = {scene.toy for scene in pool.scenes}
    assert len(upstream.held_out_toys()) == 60
    assert not shown & set(toybox.CLASSES) and not shown & set(upstream.held_out_toys())
    assert {scene.background for scene in pool.scenes} <= set(toybox.UPSTREAM_BACKGROUNDS)
    chunks: list[int] = []
    again = Pool(pool.folder.parent, 200, on_chunk=lambda done, total: chunks.append(done))
    assert chunks == [] and again.scenes == pool.scenes
    scene = pool.scenes[7]
    shape, colour, pattern, background = pool.attributes[7]
    assert ATTRIBUTES["shape"][shape] == scene.toy.shape and ATTRIBUTES["colour"][colour] == scene.toy.colour
    assert ATTRIBUTES["pattern"][pattern] == scene.toy.pattern
    assert ATTRIBUTES["background"][background] == scene.background


def test_hard_batches_agree_in_colour_and_pattern_and_not_in_shape(pool: Pool) -> None:
    batch = pool.draw(40, generator=np.random.default_rng(0), hard=1.0)
    shapes, pairs = batch.attributes[:, 0], [tuple(row) for row in batch.attributes[:, 1:3]]
    starts = [0, *(i for i in range(1, 40) if pairs[i] != pairs[i - 1])]
    for start, end in zip(starts, [*starts[1:], 40], strict=True):
        assert len(set(shapes[start:end])) == end - start
    assert len(starts) < 20
    again = pool.draw(40, generator=np.random.default_rng(0), hard=1.0)
    assert np.array_equal(batch.images, again.images)


def test_held_out_numbers_are_accuracies(clip_file: tuple[tasks.Contrastive, Path]) -> None:
    report = clip_file[0].eval().held_out(count=20, per_toy=1)
    assert set(report) == {*ATTRIBUTES, "new_toys_name_of_60"}
    assert all(0 <= value <= 1 for value in report.values())


def test_the_command_trains_into_a_folder(tmp_path: Path) -> None:
    options = ["--samples", "16", "--batch-size", "8", "--pool-size", "16", "--device", "cpu"]
    threads = torch.get_num_threads()
    pretrain.main(["vit", "--out", str(tmp_path / "vit"), *options])
    torch.set_num_threads(threads)
    assert (tmp_path / "vit" / "held_out.json").is_file() and (tmp_path / "pool").is_dir()


@pytest.mark.parametrize("name", ["toybox_vit", "toybox_clip"])
def test_the_shipped_towers_load_by_name_and_are_small(name: str) -> None:
    path = Path(tasks.__file__).parent / f"{name}.safetensors"
    backbone = load_backbone(name)
    assert backbone.weights.tag == name and 2e6 < path.stat().st_size < 4e6
