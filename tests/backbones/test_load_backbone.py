"""Names, tags and pins: which weights a name means, and what is refused with which words."""

import pytest

from workbench.backbones import load_backbone
from workbench.backbones.tags import PINS, find_tower


def test_every_pin_is_a_tag_that_timm_knows() -> None:
    for architecture, tag in PINS.items():
        tower = find_tower(architecture, tag_needed=True, from_file=False)
        assert (tower.name, tower.tag_known) == (f"{architecture}.{tag}", True)
        assert tower.hub is not None


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_the_in21k_names_of_older_timm_mean_the_augreg_weights(size: str) -> None:
    tower = find_tower(f"vit_{size}_patch16_224_in21k", tag_needed=True, from_file=False)
    assert tower.name == f"vit_{size}_patch16_224.augreg_in21k"
    assert tower.normalisation == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_a_clip_tag_brings_clips_normalisation_and_joint_width_and_a_fine_tuned_one_no_joint_space() -> None:
    tower = find_tower("vit_large_patch14_clip_quickgelu_336", tag_needed=True, from_file=False)
    assert (tower.joint_width, tower.input_size, tower.interpolation) == (768, 336, "bicubic")
    assert tower.normalisation[0] == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    tuned = find_tower("vit_base_patch16_clip_224.openai_ft_in1k", tag_needed=True, from_file=False)
    assert tuned.joint_width is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_base_patch16_clip_224", r"always pin the tag.*vit_base_patch16_clip_224\.laion2b"),
        ("vit_base_patch16_224.nothing", r"no tag 'nothing'.*vit_base_patch16_224\.augreg_in21k"),
        ("vit_base_patch16_clip_224.openai", r"QuickGELU.*Use vit_base_patch16_clip_quickgelu_224\.openai"),
        ("vit_bas_patch16_224", r"did you mean vit_base_patch16_224"),
        ("resnet50.a1_in1k", r"resnet50\.a1_in1k is not supported.*resnet50_clip\.openai"),
        ("resnet50_clip_gap.openai", "not supported"),
        ("swin_tiny_patch4_window7_224.ms_in1k", "not supported"),
        ("flexivit_small.1200ep_in1k", "not supported"),
    ],
)
def test_a_name_without_weights_or_support_is_refused_with_what_to_use(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_backbone(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test_vit3.r160_in1k", "pools with 'map'"),
        ("vit_base_patch16_rpn_224.sw_in1k", "ResPostBlock"),
        ("deit_tiny_distilled_patch16_224.fb_in1k", "VisionTransformerDistilled"),
    ],
)
def test_transformers_made_of_other_parts_are_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        load_backbone(name, "meta")


def test_an_architecture_without_published_weights_can_be_counted_but_not_downloaded() -> None:
    tower = load_backbone("vit_base_patch32_plus_256", "meta")
    assert (tower.width, tower.name) == (896, "vit_base_patch32_plus_256")
    with pytest.raises(ValueError, match="no pretrained weights"):
        load_backbone("vit_base_patch32_plus_256")


def test_tags_that_would_be_refused_are_not_offered() -> None:
    with pytest.raises(ValueError, match="always pin") as error:
        load_backbone("vit_base_patch16_clip_224")
    assert "clip_224.laion2b" in str(error.value) and "clip_224.openai." not in str(error.value)


def test_without_a_network_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded.*local file"):
        load_backbone("vit_tiny_patch16_224")


def test_a_missing_file_is_not_taken_for_a_name(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="'random', 'meta'"):
        load_backbone("vit_tiny_patch16_224", tmp_path / "absent.safetensors")
