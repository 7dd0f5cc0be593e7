"""Layouts of timm, OpenAI's CLIP and open_clip give the same tower; wrong and hostile files are refused."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from workbench.backbones import load_backbone
from workbench.backbones.weights import file_sha256, read_weights

PLAIN = "test_vit.r160_in1k"
CLIP = "vit_xsmall_patch16_clip_224.tinyclip_yfcc15m"


def save(path: Path, state: dict[str, Tensor]) -> Path:
    content = {name: value.contiguous().clone() for name, value in state.items()}
    safetensors.torch.save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    return path


def images(size: int) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def plain() -> dict[str, Tensor]:
    return timm.create_model(PLAIN, pretrained=False, num_classes=0).state_dict()


@pytest.fixture(scope="module")
def open_clip_tower() -> Any:
    """An open_clip image tower of CLIP's small shape at 32 pixels, all its parameters random."""
    transformer = pytest.importorskip("open_clip.transformer")
    timm_model = timm.create_model(CLIP, pretrained=False, img_size=32)
    generator = torch.Generator().manual_seed(0)
    tower = transformer.VisionTransformer(
        image_size=32,
        patch_size=16,
        width=timm_model.embed_dim,
        layers=len(timm_model.blocks),
        heads=timm_model.blocks[0].attn.num_heads,
        mlp_ratio=4,
        output_dim=512,
    ).eval()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return tower


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_a_timm_file_loads_and_its_classifier_is_dropped(plain, tmp_path: Path, suffix: str, prefix: str) -> None:
    state = plain | {"head.weight": torch.zeros(10, 64), "head.bias": torch.zeros(10)}
    path = save(tmp_path / f"w{suffix}", {prefix + name: value for name, value in state.items()})
    vit = load_backbone(PLAIN, path)
    assert all(torch.equal(plain[name], value) for name, value in vit.model.state_dict().items())
    assert vit.joint_width is None and vit.weights.sha256 == file_sha256(path) and vit.weights.path == str(path)
    assert vit.weights.tag == PLAIN and not any(p.requires_grad for p in vit.parameters())


def test_a_training_checkpoint_gives_its_state_dict(plain, tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": plain, "best": 0.5}, tmp_path / "checkpoint.pth")
    vit = load_backbone(PLAIN, tmp_path / "checkpoint.pth")
    assert torch.equal(vit.model.pos_embed, plain["pos_embed"])


def test_half_precision_files_become_float32(plain, tmp_path: Path) -> None:
    path = save(tmp_path / "half.safetensors", {name: value.half() for name, value in plain.items()})
    assert {p.dtype for p in load_backbone(PLAIN, path).parameters()} == {torch.float32}


def test_a_file_of_another_resolution_is_interpolated(plain, tmp_path: Path) -> None:
    path = save(tmp_path / "w.safetensors", plain)
    vit = load_backbone(PLAIN, path, input_size=96)
    assert vit.grid == (6, 6) and vit.model.pos_embed.shape == (1, 37, 64)
    assert torch.equal(vit.model.pos_embed[:, 0], plain["pos_embed"][:, 0])


@pytest.mark.parametrize("layout", ["visual.", "", "module.visual."])
def test_the_layout_of_openai_and_open_clip_gives_the_same_tower(
    open_clip_tower, tmp_path: Path, layout: str
) -> None:
    state = {f"{layout}{name}": value for name, value in open_clip_tower.state_dict().items()}
    if layout:  # a whole CLIP: the text tower and the temperature lie beside
        stem = layout.removesuffix("visual.")
        state |= {f"{stem}logit_scale": torch.tensor(4.6), f"{stem}token_embedding.weight": torch.zeros(4, 8)}
    vit = load_backbone(CLIP, save(tmp_path / "clip.safetensors", state), input_size=32)
    with torch.inference_mode():
        expected = open_clip_tower(images(32))
        torch.testing.assert_close(vit.project(vit.encode(images(32))), expected, atol=1e-4, rtol=1e-4)
    assert vit.joint_width == 512 and vit.width == 256
    assert expected.std() > 0.1  # the towers have something to say


def test_the_layout_of_open_clip_around_a_timm_tower_gives_the_same_tower(tmp_path: Path) -> None:
    model = timm.create_model(CLIP, pretrained=False, img_size=32, num_classes=0).eval()
    state = {f"visual.trunk.{name}": value for name, value in model.state_dict().items()}
    projection = torch.randn(512, 256, generator=torch.Generator().manual_seed(0))
    state |= {"visual.head.proj.weight": projection, "logit_scale": torch.tensor(4.6)}
    vit = load_backbone(CLIP, save(tmp_path / "clip.safetensors", state), input_size=32)
    features = vit.encode(images(32))
    torch.testing.assert_close(features, model(images(32)), atol=1e-5, rtol=1e-5)
    assert torch.equal(vit.project(features), features @ projection.T)


def test_timms_layout_keeps_the_projection_and_takes_a_trained_classifier_for_none(tmp_path: Path, caplog) -> None:
    model = timm.create_model(CLIP, pretrained=False, num_classes=512)
    nn.init.zeros_(model.head.bias)
    vit = load_backbone(CLIP, save(tmp_path / "a.safetensors", model.state_dict()))
    assert vit.joint_width == 512 and torch.equal(vit.model.head.weight, model.head.weight)
    nn.init.ones_(model.head.bias)
    vit = load_backbone(CLIP, save(tmp_path / "b.safetensors", model.state_dict()))
    assert vit.joint_width is None and "no CLIP projection" in caplog.text


@pytest.mark.parametrize("prefix", ["visual.", ""])
def test_a_clip_resnet_of_openai_gives_the_same_tower(tmp_path: Path, prefix: str) -> None:
    modified_resnet = pytest.importorskip("open_clip.modified_resnet")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tower = modified_resnet.ModifiedResNet((3, 4, 6, 3), output_dim=1024, heads=32, image_size=224, width=64)
    tower = tower.half().float().eval()
    path = save(tmp_path / "rn.safetensors", {f"{prefix}{k}": v.half() for k, v in tower.state_dict().items()})
    resnet = load_backbone("resnet50_clip", path)
    path.unlink()  # 75 MB
    with torch.inference_mode():
        torch.testing.assert_close(resnet.encode(images(224)), tower(images(224)), atol=1e-4, rtol=1e-4)


def test_a_clip_of_openai_is_refused_by_a_tower_with_exact_gelu(open_clip_tower, tmp_path: Path) -> None:
    state = {f"visual.{name}": value for name, value in open_clip_tower.state_dict().items()}
    marks = {name: torch.tensor(77) for name in ("input_resolution", "context_length", "vocab_size")}
    path = save(tmp_path / "openai.safetensors", state | marks)
    with pytest.raises(ValueError, match=r"trained with QuickGELU.*quickgelu"):
        load_backbone(CLIP, path, input_size=32)


def test_a_clip_file_under_a_name_without_tag_warns_about_the_activation(open_clip_tower, tmp_path: Path) -> None:
    path = save(tmp_path / "c.safetensors", {f"visual.{k}": v for k, v in open_clip_tower.state_dict().items()})
    with pytest.warns(UserWarning, match="exact GELU"):
        vit = load_backbone(CLIP.partition(".")[0], path, input_size=32)
    assert vit.weights.tag is None and vit.name == CLIP.partition(".")[0]


def test_a_file_whose_normalisation_no_name_tells_needs_a_tag(tmp_path: Path) -> None:
    path = save(tmp_path / "w.safetensors", {"pos_embed": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"does not say how its images are normalised.*Add the tag"):
        load_backbone("vit_large_patch14_clip_224", path)


def test_a_wrong_file_is_told_by_the_names_and_shapes_that_differ(plain, tmp_path: Path) -> None:
    deep = plain | {f"blocks.{i}.norm1.weight": torch.zeros(64) for i in range(6, 10)}
    with pytest.raises(ValueError, match=r"4 not in the model: blocks\.6\.norm1\.weight.* and 1 more"):
        load_backbone(PLAIN, save(tmp_path / "deep.safetensors", deep))
    shallow = {name: value for name, value in plain.items() if not name.startswith("blocks.5.")}
    with pytest.raises(ValueError, match=r"12 missing: blocks\.5\.norm1\.weight"):
        load_backbone(PLAIN, save(tmp_path / "shallow.safetensors", shallow))
    others = {"patch_embed.proj.weight": (64, 3, 14, 14), "pos_embed": (1, 100, 64), "norm.bias": (32,)}
    for name, shape in others.items():
        with pytest.raises(ValueError, match=rf"1 of another shape: {name} is \({shape[0]}, ?.*needed"):
            load_backbone(PLAIN, save(tmp_path / "shape.safetensors", plain | {name: torch.zeros(shape)}))
    wide = {name: torch.zeros([2 * size for size in value.shape]) for name, value in plain.items()}
    with pytest.raises(ValueError, match=rf"{len(plain)} of another shape"):
        load_backbone(PLAIN, save(tmp_path / "wide.safetensors", wide))
    with pytest.raises(ValueError, match="does not fit resnet50_clip"):
        load_backbone("resnet50_clip", save(tmp_path / "vit.safetensors", plain))


def test_values_that_are_not_finite_are_refused(plain, tmp_path: Path) -> None:
    for bad in (np.nan, np.inf):
        state = plain | {"norm.bias": torch.full((64,), float(bad))}
        with pytest.raises(ValueError, match=r"not finite in norm\.bias"):
            load_backbone(PLAIN, save(tmp_path / "bad.safetensors", state))


def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(marker),)

    zipped, legacy, bare = tmp_path / "zip.pth", tmp_path / "legacy.bin", tmp_path / "bare.pt"
    torch.save({"w": torch.zeros(1), "x": Bomb()}, zipped)
    torch.save({"w": torch.zeros(1), "x": Bomb()}, legacy, _use_new_zipfile_serialization=False)
    bare.write_bytes(pickle.dumps(Bomb()))
    for path in (zipped, legacy, bare):
        with pytest.raises(ValueError, match="could run code"):
            load_backbone(PLAIN, path)
        assert not marker.exists()
    pickle.loads(bare.read_bytes())
    assert marker.exists()  # the bomb works where it is unpickled carelessly


def test_a_torchscript_archive_is_refused_and_not_executed(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "ViT-B-16.pt", "w") as archive:
        archive.writestr("ViT-B-16/constants.pkl", b"")
        archive.writestr("ViT-B-16/data.pkl", b"")
    with pytest.raises(ValueError, match="TorchScript program"):
        load_backbone(PLAIN, tmp_path / "ViT-B-16.pt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.safetensors", b"not a safetensors file", "not readable as safetensors"),
        ("w.pth", b"junk", "damaged"),
        ("w.npz", b"", "no weight file"),
    ],
)
def test_unreadable_files_say_so(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_weights(tmp_path / name)


def test_a_file_without_tensors_says_what_it_holds(tmp_path: Path) -> None:
    torch.save({"epoch": 1, "lr": 0.1}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="found: epoch, lr"):
        read_weights(tmp_path / "w.pth")


def test_a_damaged_download_is_found_by_its_name(tmp_path: Path) -> None:
    blob = tmp_path / ("0" * 64)
    blob.write_bytes(b"half a file")
    (tmp_path / "model.safetensors").symlink_to(blob)
    with pytest.raises(ValueError, match="is damaged"):
        file_sha256(tmp_path / "model.safetensors")
