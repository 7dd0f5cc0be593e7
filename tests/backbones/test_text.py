"""Text towers: which names have one, that files of every layout give open_clip's vectors, what encode promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from open_clip import CLIP as OpenCLIP
from towers import recorded_clip_text_tower

import workbench as wb
from workbench.backbones import TextTower, load_text_tower
from workbench.backbones.tags import PINS, find_tower
from workbench.backbones.text_tags import MODELS, TINYCLIP, has_text_tower, open_clip_record, text_sizes

SMALL = "vit_xsmall_patch16_clip_224.tinyclip_yfcc15m"
SENTENCES = ["a photo of a cat.", "An old, rusty gear on the grass!", "dog", "a photo of a cat."]


@pytest.fixture(scope="module")
def clip() -> Any:
    """open_clip's whole CLIP in the sizes of SMALL (image tower at 32 pixels), all its parameters random."""
    vision = {"image_size": 32, "layers": 10, "width": 256, "head_width": 64, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 256, "heads": 4, "layers": 3}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = OpenCLIP(embed_dim=512, vision_cfg=vision, text_cfg=text).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn(parameter.shape))
            model.logit_scale.fill_(3.0)
    return model


def save(path: Path, state: dict[str, torch.Tensor]) -> Path:
    content = {name: value.contiguous().clone() for name, value in state.items()}
    safetensors.torch.save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    return path


def layouts(clip: Any) -> dict[str, dict[str, torch.Tensor]]:
    whole = clip.state_dict()
    text = {name: value for name, value in whole.items() if not name.startswith("visual.")}
    apart = {name if name == "logit_scale" else f"text.{name}": value for name, value in text.items()}
    return {
        "whole": whole,
        "text": text,
        "apart": apart,
        "parallel": {f"module.{name}": value for name, value in whole.items()},
    }


@pytest.mark.parametrize("layout", ["whole", "text", "apart", "parallel"])
def test_a_file_of_each_layout_gives_open_clips_vectors(clip: Any, tmp_path: Path, layout: str) -> None:
    suffix = ".pth" if layout == "text" else ".safetensors"
    tower = load_text_tower(SMALL, save(tmp_path / f"clip{suffix}", layouts(clip)[layout]))
    with torch.inference_mode():
        expected = clip.encode_text(tower.tokens(SENTENCES))
    torch.testing.assert_close(tower.encode(SENTENCES), expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.1  # the tower has something to say
    assert tower.logit_scale == pytest.approx(float(torch.tensor(3.0).exp()))
    assert tower.width == 512 and not tower.training and not any(p.requires_grad for p in tower.parameters())


def test_one_file_of_a_whole_clip_gives_both_towers(clip: Any, tmp_path: Path) -> None:
    path = save(tmp_path / "clip.safetensors", clip.state_dict())
    image, text = wb.load_backbone(SMALL, path, input_size=32), load_text_tower(SMALL, path)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, _ = clip.get_logits(images, text.tokens(SENTENCES))
        projected = torch.nn.functional.normalize(image.project(image.encode(images)))
        logits = text.logit_scale * projected @ torch.nn.functional.normalize(text.encode(SENTENCES)).T
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert image.joint_width == text.width and text.weights == image.weights


def test_a_file_without_temperature_gets_that_of_clip(clip: Any, tmp_path: Path) -> None:
    state = layouts(clip)["text"]
    del state["logit_scale"]
    assert load_text_tower(SMALL, save(tmp_path / "text.safetensors", state)).logit_scale == 100.0


def test_half_precision_files_become_float32(clip: Any, tmp_path: Path) -> None:
    state = {name: value.half() for name, value in layouts(clip)["text"].items()}
    tower = load_text_tower(SMALL, save(tmp_path / "half.safetensors", state))
    assert {parameter.dtype for parameter in tower.parameters()} == {torch.float32}
    assert tower.encode(["cat"]).dtype == torch.float32


def test_a_wrong_file_is_told_by_the_names_and_shapes_that_differ(clip: Any, tmp_path: Path) -> None:
    state = layouts(clip)["text"]
    image_only = {name: value for name, value in clip.state_dict().items() if name.startswith("visual.")}
    with pytest.raises(ValueError, match=r"41 missing: positional_embedding, text_projection.*timm's own files"):
        load_text_tower(SMALL, save(tmp_path / "image.safetensors", image_only))
    with pytest.raises(ValueError, match=r"1 not in the tower: extra"):
        load_text_tower(SMALL, save(tmp_path / "extra.safetensors", state | {"extra": torch.zeros(2)}))
    with pytest.raises(ValueError, match=r"1 of another shape: ln_final\.bias is \(3,\), needed \(256,\)"):
        load_text_tower(SMALL, save(tmp_path / "shape.safetensors", state | {"ln_final.bias": torch.zeros(3)}))
    with pytest.raises(ValueError, match=r"not finite in ln_final\.bias"):
        bad = state | {"ln_final.bias": torch.full((256,), torch.nan)}
        load_text_tower(SMALL, save(tmp_path / "nan.safetensors", bad))
    with pytest.raises(FileNotFoundError, match="'random'"):
        load_text_tower(SMALL, tmp_path / "absent.safetensors")


def test_a_clip_of_openai_is_refused_by_a_tower_with_exact_gelu(clip: Any, tmp_path: Path) -> None:
    marks = {name: torch.tensor(77) for name in ("input_resolution", "context_length", "vocab_size")}
    path = save(tmp_path / "openai.safetensors", clip.state_dict() | marks)
    with pytest.raises(ValueError, match=r"trained with QuickGELU.*quickgelu"):
        load_text_tower(SMALL, path)


def test_its_spec_rebuilds_it_and_another_file_is_refused(clip: Any, tmp_path: Path) -> None:
    path = save(tmp_path / "clip.safetensors", clip.state_dict())
    spec = load_text_tower(SMALL, path).spec()
    assert load_text_tower(**spec).spec() == spec
    save(path, clip.state_dict() | {"logit_scale": torch.tensor(1.0)})
    with pytest.raises(ValueError, match="sha256"):
        load_text_tower(**spec)
    random = load_text_tower(SMALL, "random", seed=3)
    assert torch.equal(load_text_tower(**random.spec()).encode(["cat"]), random.encode(["cat"]))


# -- encode ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tower() -> TextTower:
    return load_text_tower(SMALL, "random", seed=0)


def test_random_weights_follow_the_seed_and_leave_the_global_state_alone(tower: TextTower) -> None:
    state = torch.random.get_rng_state()
    other = load_text_tower(SMALL, "random", seed=1)
    assert torch.equal(state, torch.random.get_rng_state())
    assert not torch.equal(other.encode(["cat"]), tower.encode(["cat"]))


def test_leaving_out_the_padding_changes_nothing(tower: TextTower) -> None:
    long = "a striped red star " * 30  # beyond the context, so cut
    sentences = [*SENTENCES, long, ""]
    with torch.no_grad():
        expected = tower.model(tower.tokens(sentences))  # open_clip's own forward, all 77 tokens
    torch.testing.assert_close(tower.encode(sentences), expected, atol=1e-5, rtol=1e-5)
    assert tower.tokens(sentences).shape == (6, 77)


def test_a_sentence_has_its_vector_whatever_stands_beside_it(tower: TextTower) -> None:
    fresh = load_text_tower(SMALL, "random", seed=0)
    together = fresh.encode(SENTENCES)
    torch.testing.assert_close(together[1], tower.encode(SENTENCES[1:2])[0], atol=1e-5, rtol=1e-4)
    assert torch.equal(together[0], together[3])
    assert fresh.encode([]).shape == (0, 512)
    with pytest.raises(ValueError, match="list of sentences"):
        fresh.encode("cat")


def test_a_frozen_tower_encodes_a_sentence_once_and_forgets_when_its_weights_change() -> None:
    tower = load_text_tower(SMALL, "random", seed=0)
    calls = []
    tower.model.register_forward_pre_hook(lambda *_: calls.append(1))
    tower.model.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    first = tower.encode(["cat", "dog"])
    assert torch.equal(tower.encode(["dog", "cat"]), first.flip(0)) and len(calls) == 1
    with torch.no_grad():
        tower.model.ln_final.bias.add_(1.0)
    assert not torch.allclose(tower.encode(["cat", "dog"]), first) and len(calls) == 2


def test_a_thawed_tower_carries_gradients() -> None:
    tower = load_text_tower(SMALL, "random", seed=0)
    assert not tower.encode(["cat"]).requires_grad
    tower.requires_grad_(True)
    tower.encode(["cat"]).sum().backward()
    gradient = tower.model.token_embedding.weight.grad
    assert gradient is not None and gradient.abs().sum() > 0


def test_text_features_equal_the_recorded_ones(golden: Callable[[str], Any]) -> None:
    case = golden("clip_zeroshot")
    tower = recorded_clip_text_tower(case)
    features = tower.encode([str(i) for i in range(6)])
    case.check(features, "out.text_features")


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["vit_base_patch16_224.augreg_in21k", "vit_base_patch16_clip_224.openai_ft_in1k", "test_vit.r160_in1k"]
)
def test_a_name_without_text_tower_is_refused_with_those_that_have_one(name: str) -> None:
    with pytest.raises(ValueError, match=r"no text tower.*vit_base_patch16_clip_quickgelu_224.*toybox_clip"):
        load_text_tower(name)


def test_weights_trained_with_another_tokenizer_are_refused() -> None:
    with pytest.raises(ValueError, match="of another kind"):
        load_text_tower("vit_huge_patch14_clip_quickgelu_224.metaclip2_worldwide", "random")


def test_text_and_image_towers_of_every_name_share_their_joint_space() -> None:
    for architecture in (*MODELS, *TINYCLIP):
        tower = find_tower(architecture, tag_needed=False, from_file=False)
        assert has_text_tower(tower) and text_sizes(tower).joint_width == tower.joint_width, architecture


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("vit_base_patch16_clip_quickgelu_224", "timm/vit_base_patch16_clip_224.openai/"),
        ("vit_base_patch16_clip_224.laion2b", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K/"),
        ("vit_large_patch14_clip_224.laion2b", "laion/CLIP-ViT-L-14-laion2B-s32B-b82K/"),
        ("vit_giant_patch14_clip_224.laion2b", "laion/CLIP-ViT-g-14-laion2B-s12B-b42K/"),
        ("vit_base_patch32_clip_256.datacompxl", "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K/"),
        ("vit_large_patch14_clip_quickgelu_224.dfn2b", "apple/DFN2B-CLIP-ViT-L-14/"),
        ("vit_base_patch16_clip_224.dfn2b", None),  # timm: exact GELU; open_clip: QuickGELU
        (SMALL, None),
    ],
)
def test_a_tag_of_timm_finds_its_record_in_open_clip(name: str, repository: str | None) -> None:
    record = open_clip_record(find_tower(name, tag_needed=True, from_file=False))
    assert (record and record["hf_hub"]) == repository


def test_every_pinned_clip_has_a_download() -> None:
    for architecture in PINS:
        tower = find_tower(architecture, tag_needed=True, from_file=False)
        if tower.joint_width is not None:
            assert tower.hub is not None
            assert (open_clip_record(tower) or {})["hf_hub"].rstrip("/") == tower.hub[0]


def test_without_a_network_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("vit_base_patch16_clip_quickgelu_224", SMALL):
        with pytest.raises(FileNotFoundError, match=r"could not be downloaded.*local file"):
            load_text_tower(name)


def test_the_toybox_has_a_text_tower_of_its_own() -> None:
    random = load_text_tower("toybox_clip", "random")
    assert random.encode(["a red star"]).shape == (1, random.width)
    tower = load_text_tower("toybox_clip")
    vectors = torch.nn.functional.normalize(tower.encode(["a red star", "a red star.", "a blue house"]))
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    assert load_text_tower(**tower.spec()).spec() == tower.spec()
