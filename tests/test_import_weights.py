"""Released weights become a run: the same logits as the authors' code, the same folder as a training's, no code run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from towers import recorded_tower

import workbench as wb
from workbench.backbones import Backbone
from workbench.cli import main, make_parser
from workbench.methods.lpt import LPT, LPTConfig
from workbench.methods.lpt_release import from_released

TOWER = {"name": "test_vit.r160_in1k", "weights": "random", "input_size": 32}  # depth 6, width 64
OURS = {"shared": "Prompt_Tokens", "pool": "Prompt_Tokens_pool", "keys": "Prompt_Keys", "head.weight": "head.weight"}


def released(
    *,
    depth: int = 6,
    width: int = 64,
    classes: int = 10,
    groups: int = 4,
    length: int = 3,
    last: int = 2,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Tensors of the released names and axes."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {
        "Prompt_Tokens": (depth, length, width),
        "Prompt_Tokens_pool": (groups, last, length, width),
        "Prompt_Keys": (groups, width),
        "head.weight": (width, classes),
    }
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def saved(path: Path, tensors: dict[str, Tensor], tower: Backbone | None = None) -> Path:
    """As the authors' training saves: of the whole model under DataParallel, beside its settings."""
    whole = {} if tower is None else dict(tower.model.state_dict())
    whole |= {f"prompt_learner.{name}": tensor for name, tensor in tensors.items()}
    state = {f"module.{name}": tensor for name, tensor in whole.items()}
    torch.save({"config": {"lr": 0.02, "name": "vpt_deep"}, "state_dict": state, "val_acc": 0.5}, path)
    return path


@pytest.fixture
def manifest() -> wb.Manifest:
    return wb.Manifest.load("digits_lt")


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


# -- the tensors -------------------------------------------------------------------------------------------------------


def test_recorded_outputs_of_the_authors_code_come_back_from_their_layout(golden: Callable[[str], Any]) -> None:
    case = golden("lpt_phase2_eps1e-06")
    theirs = {
        "Prompt_Tokens": case.tensor("param.peft.shared"),
        "Prompt_Tokens_pool": case.tensor("param.peft.pool"),
        "Prompt_Keys": case.tensor("param.peft.keys"),
        "head.weight": case.tensor("param.head.weight").T,
    }
    tower = recorded_tower(case, ln_eps=1e-6)
    counts = np.array(case.settings["counts"])
    classes = wb.Classes(tuple(map(str, counts)), counts)
    options, state, rest = from_released(theirs, depth=4, width=32, num_classes=7)
    assert options["shared_blocks"] == case.settings["share"] == 2 and not rest
    method = LPT(tower, classes, LPTConfig(**options), seed=0).double().eval()
    method.load_state(state)
    output = method(case.tensor("in.image_bal"))
    case.check(output.cosine, "out.p2_eps1e-06.cosine")
    case.check(output.extras["prompt_index"], "out.p2_eps1e-06.topk")


def test_the_true_shapes_are_those_of_the_papers_options() -> None:
    tensors = released(depth=12, width=768, classes=365, groups=20, length=10, last=6)
    tower = {"cls_token": torch.zeros(1, 1, 768), "blocks.0.norm1.weight": torch.ones(768)}
    named = {f"module.prompt_learner.{name}": tensor.half() for name, tensor in tensors.items()}
    named |= {f"module.{name}": tensor for name, tensor in tower.items()}
    options, state, rest = from_released(named, depth=12, width=768, num_classes=365)
    assert LPTConfig(**options) == LPTConfig(shared_blocks=6)  # which None means on twelve blocks
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        "shared": (12, 10, 768),
        "pool": (20, 6, 10, 768),
        "keys": (20, 768),
        "head.weight": (365, 768),
    }
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in state.values())
    assert torch.equal(state["head.weight"][7], tensors["head.weight"][:, 7].half().float())
    assert rest.keys() == tower.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Prompt_Keys": None}, r"hold Prompt_Tokens \(blocks, length, width\).*Prompt_Keys is missing.*3 tensors are"),
        ({"Prompt_Tokens": torch.zeros(3, 64)}, r"Prompt_Tokens is missing or has other axes.*Prompt_Tokens \(3, 64\)"),
        ({"Prompt_Tokens_pool": torch.zeros(4, 2, 5, 64)}, "3 prompts per block, but 5 per group and block"),
        ({"Prompt_Tokens_pool": torch.zeros(4, 7, 3, 64)}, "group prompts for the last 7 of 6 blocks"),
        ({"Prompt_Keys": torch.zeros(5, 64)}, "4 groups, but 5 keys"),
        ({"Prompt_Keys": torch.zeros(4, 32)}, r"\(64, 64, 32, 64\) wide, but the tower 64"),
        ({"head.weight": torch.zeros(10, 64)}, r"\(64, 64, 64, 10\) wide.*64 classes, but the data set has 10"),
        ({"Prompt_Keys": torch.full((4, 64), torch.nan)}, "values that are not finite"),
        (released(depth=12), "prompts for 12 blocks, but the tower has 6"),
        (released(width=768), "768, 768, 768, 768.* wide, but the tower 64"),
        (released(classes=365), "365 classes, but the data set has 10"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_with_what_differs(change: dict[str, Any], message: str) -> None:
    tensors = {name: tensor for name, tensor in (released() | change).items() if tensor is not None}
    with pytest.raises(ValueError, match=message):
        from_released(tensors, depth=6, width=64, num_classes=10)


# -- the run -----------------------------------------------------------------------------------------------------------


def test_an_imported_run_computes_what_a_hand_built_method_does(
    tmp_path: Path, manifest: wb.Manifest, images: Tensor
) -> None:
    tensors, tower = released(), wb.load_backbone(**TOWER)
    file = saved(tmp_path / "LPT.pth", tensors, tower)
    run = wb.import_weights("lpt", file, wb.load_backbone(**TOWER), manifest, out=tmp_path / "run")
    by_hand = wb.create_method("lpt", tower, manifest.classes, prompts=3, groups=4, shared_blocks=4, seed=5).eval()
    by_hand.load_state(
        {ours: tensors[name] if ours != "head.weight" else tensors[name].T for ours, name in OURS.items()}
    )
    opened = wb.Run.load(run.path)
    assert torch.equal(opened.method()(images).logits, by_hand(images).logits)
    assert opened.status["status"] == "finished" and opened.metrics.empty and opened.classes == manifest.classes
    assert opened.config["stages"] == [] and opened.config["val"] is None
    assert opened.config["imported"]["file"] == str(file) and len(opened.config["imported"]["sha256"]) == 64
    clip, text = wb.load_backbone("toybox_clip"), wb.load_text_tower("toybox_clip")
    trained = wb.create_method("zero_shot", clip, manifest.classes, text=text)
    usual = wb.fit(trained, wb.LongTailDataset(manifest, "train", per_class=1), out=tmp_path / "usual")
    assert opened.config.keys() == usual.config.keys() | {"imported"}
    assert wb.resume(run.path).path == run.path, "there is nothing to go on with"


def test_a_tower_in_the_file_must_be_the_given_one(tmp_path: Path, manifest: wb.Manifest) -> None:
    tower = wb.load_backbone(**TOWER)
    other = wb.load_backbone(**TOWER | {"seed": 1})
    with pytest.raises(ValueError, match=r"holds the tower.* tensors differ.*augreg_in21k"):
        wb.import_weights("lpt", saved(tmp_path / "a.pth", released(), other), tower, manifest, out=tmp_path / "a")
    more = released() | {"Prompt_Scale": torch.ones(1)}
    with pytest.raises(ValueError, match=r"1 tensors that the tower does not have.*prompt_learner\.Prompt_Scale"):
        wb.import_weights("lpt", saved(tmp_path / "b.pth", more, tower), tower, manifest, out=tmp_path / "b")
    half = saved(tmp_path / "c.pth", released(), tower)
    content = torch.load(half, weights_only=True)
    torch.save({name: tensor.half() for name, tensor in content["state_dict"].items()}, half)
    assert wb.import_weights("lpt", half, tower, manifest, out=tmp_path / "c").config["imported"]["tower_in_file"]
    assert not any((tmp_path / name).exists() for name in "ab")


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, manifest: wb.Manifest) -> None:
    marker = tmp_path / "executed"

    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(marker),)

    torch.save({"state_dict": released(), "config": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(ValueError, match="could run code"):
        wb.import_weights("lpt", tmp_path / "bomb.pth", wb.load_backbone(**TOWER), manifest, out=tmp_path / "run")
    assert not marker.exists() and not (tmp_path / "run").exists()
    torch.load(tmp_path / "bomb.pth", weights_only=False)
    assert marker.exists()  # the bomb works where it is unpickled carelessly


def test_what_is_not_there_or_in_the_way_is_named(tmp_path: Path, manifest: wb.Manifest) -> None:
    tower, file = wb.load_backbone(**TOWER), saved(tmp_path / "w.pth", released())
    with pytest.raises(ValueError, match="'vpt' has no released layout that is known here; choose one of lpt"):
        wb.import_weights("vpt", file, tower, manifest, out=tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="no weight file at"):
        wb.import_weights("lpt", tmp_path / "x.pth", tower, manifest, out=tmp_path / "run")
    wb.import_weights("lpt", file, tower, manifest, out=tmp_path / "run")
    with pytest.raises(FileExistsError, match="left as it is"):
        wb.import_weights("lpt", file, tower, manifest, out=tmp_path / "run")


# -- the command -------------------------------------------------------------------------------------------------------


def test_from_a_released_file_to_a_report_and_a_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], manifest: wb.Manifest
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "w.pth", released())
    words = ["import-weights", "lpt", "w.pth", "--backbone", TOWER["name"], "--weights", "random", "--input-size", "32"]
    words += ["--data", "digits_lt", "--out", "run"]
    assert main(list(map(str, words))) == 0
    out = capsys.readouterr().out
    assert "run holds lpt as released in" in out and "holds no tower" in out and "workbench report run" in out
    assert main(["extract", "run", "--per-class", "2"]) == 0
    features = wb.Features.load("run/features/test-centre-head-2-per-class.npz")
    assert features.extras["prompt_similarity"].shape == (20, 4)
    assert main(["report", "run", "--per-class", "2"]) == 0
    wb.LongTailDataset(manifest, "test").image(0).save("digit.png")
    assert main(["predict", "run", "digit.png", "-k", "2"]) == 0
    capsys.readouterr()
    assert main(list(map(str, words))) == 1
    assert capsys.readouterr().err.count("\n") == 1
    words[words.index("digits_lt")] = "toybox_lt"
    assert main([*map(str, words[:-1]), "other"]) == 1
    assert "10 classes, but the data set has 60" in capsys.readouterr().err


def test_the_help_has_an_example_that_parses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["import-weights", "--help"])
    text = capsys.readouterr().out.replace("\\\n", " ")
    assert all(len(line) <= 120 for line in text.splitlines() if not line.startswith("  workbench"))
    example = next(line for line in text.splitlines() if line.startswith("  workbench import-weights lpt"))
    assert make_parser().parse_args(example.split()[1:]).method == "lpt"
