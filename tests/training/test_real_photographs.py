"""The main job on real photographs with a real pretrained ViT, from a list of files to a figure."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import workbench as wb
from workbench.cli import main

pytestmark = pytest.mark.slow

BACKBONE = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"


@pytest.fixture(scope="module")
def place(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the imported manifest; the photographs stay where they are."""
    folder = tmp_path_factory.mktemp("photographs")
    photos = shared / "data" / "tiny_imagenet_lt100"
    source = photos / "manifest.csv"
    report = wb.import_dataset(source, "photographs", splits={"val": "test"}, val=2, out=folder)
    assert {split: len(rows) for split, rows in report.manifest.splits.items()}["test"] == 5000
    (folder / "root").write_text(str(photos))
    return folder


def test_lift_learns_real_photographs_and_everything_after_it_works(
    place: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, root = wb.Manifest.load(place / "photographs.toml"), (place / "root").read_text()
    weights = shared / "data" / "weights" / "vit_tiny_patch16_224.safetensors"
    backbone = wb.load_backbone(BACKBONE, weights, input_size=112)
    method = wb.create_method("lift", backbone, manifest.classes, seed=0)
    train = wb.LongTailDataset(manifest, "train", root=root, per_class=5)
    (stage,) = [stage.shortened(1) for stage in method.stages(manifest)]
    run = wb.fit(method, train, out=place / "run", stages=[stage])

    # everything that differs from the pretrained weights: twelve adapters of width 4 and the classifier
    saved = load_file(run.path / "weights.safetensors")
    assert sum(tensor.numel() for tensor in saved.values()) == 12 * ((2 * 4 + 3) * 192 + 4 + 1) + 100 * 192
    pretrained = load_file(weights)
    tower = run.method().backbone.model.state_dict()
    assert all(torch.equal(tower[name], pretrained[name]) for name in tower if name != "pos_embed")

    assert main(["report", str(run.path), "--per-class", "2", "--out", str(place / "report")]) == 0
    assert "many >= 101, few <= 19" in capsys.readouterr().out
    assert (place / "report" / "groups.pdf").stat().st_size > 5000
    features = wb.Features.load(run.path / "features" / "test-five-head-2-per-class.npz")
    assert features.correct.mean() > 0.35  # 100 classes: chance is 0.01; this tower has met these classes before
    photo = Path(root) / str(features.ids[0])
    assert main(["predict", str(run.path), str(photo), "-k", "3"]) == 0
    assert "%" in capsys.readouterr().out
