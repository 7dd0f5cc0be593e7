"""What a figure says of the method or the run it shows, where no features were given."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diagnostic_examples import CLASSES, EXAMPLES, small_probe

from workbench.backbones import load_backbone
from workbench.cli import main
from workbench.diagnostics import convergence, faithfulness, grad_cam, localisation, weight_norms
from workbench.diagnostics.base import method_source, read_provenance
from workbench.features import Features
from workbench.methods import create_method
from workbench.runs import Run, write_tensors

SPEC = {"manifest": "toy", "manifest_sha256": "ab" * 32, "split": "test", "per_class": 2, "root": "/home/somebody"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run folder with the weights of an untrained probe."""
    method = create_method("linear_probe", load_backbone("toybox_vit", None), CLASSES, seed=3)
    config = {"method": "linear_probe", "options": method.options, "seed": 3, "backbone": method.backbone.spec()}
    made = Run.create(tmp_path_factory.mktemp("runs") / "first", config | {"train": SPEC}, CLASSES)
    write_tensors(made.path / "weights.safetensors", method.state())
    return made


def test_a_run_names_its_folder_data_and_weight_file(run: Run) -> None:
    found = method_source(run)
    weights = (run.path / "weights.safetensors").read_bytes()
    assert found["run"] == str(run.path) and found["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert (found["method"], found["seed"], found["manifest_sha256"]) == ("linear_probe", 3, "ab" * 32)
    assert found["backbone"]["name"] == "toybox_vit" and "root" not in found
    assert json.loads(json.dumps(found)) == found


def test_a_run_in_its_first_epoch_has_no_weights_to_name(tmp_path: Path) -> None:
    young = Run.create(tmp_path / "young", {"method": "vpt", "seed": 0, "train": SPEC}, CLASSES)
    assert method_source(young)["run"] == str(tmp_path / "young") and "weights_sha256" not in method_source(young)


def test_the_state_tells_methods_apart_and_the_same_weights_alike(run: Run) -> None:
    method = run.method()
    found = method_source(method, data=SPEC)
    assert found == method_source(copy.deepcopy(method), data=SPEC)
    assert found["backbone"] == method_source(run)["backbone"]
    assert (found["split"], found["per_class"], "root" in found) == ("test", 2, False)
    other = copy.deepcopy(method)
    with torch.no_grad():
        next(iter(other.head.parameters())).view(-1)[0] += 1e-6
    assert method_source(other)["state_sha256"] != found["state_sha256"]
    # by hand: names in order, type, shape, bytes
    digest = hashlib.sha256()
    for name, tensor in sorted(method.state().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode() + tensor.numpy().tobytes())
    assert found["state_sha256"] == digest.hexdigest()


def test_towers_by_hand_and_methods_without_values_say_what_they_can() -> None:
    method, _ = small_probe()
    assert method_source(method)["backbone"] == {"name": "tiny"}
    assert "state_sha256" not in method_source(copy.deepcopy(method).to("meta"))


GIVEN_METHODS = ("ablate_prompts", "adapter_scales", "attention_rollout", "faithfulness", "grad_cam", "sanity_check")


@pytest.mark.parametrize("name", [*GIVEN_METHODS, "weight_norms"])
def test_a_diagnostic_of_a_method_names_it(name: str, make_features: Callable[..., Features]) -> None:
    for source in (sources := EXAMPLES[name](make_features).sources):
        assert len(source["state_sha256"]) == 64 and source["method"] and "seed" in source and "options" in source
    assert len(sources) == (3 if name == "adapter_scales" else 1), "one per method, none twice"


def test_a_saved_figure_of_a_run_says_so(run: Run, tmp_path: Path) -> None:
    path = weight_norms.weight_norms(run).save(tmp_path / "norms.pdf", venue="cvpr")
    assert read_provenance(path)["sources"] == [method_source(run)]
    draft = path.with_suffix(".txt").read_text(encoding="utf-8")
    weights = method_source(run)["weights_sha256"][:12]
    assert f"Data set toy; manifest sha256 {'ab' * 6}." in draft
    assert f"Runs {run.path}; weights sha256 {weights}." in draft


def test_maps_hand_their_method_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    method, images = small_probe()
    maps = grad_cam.grad_cam(method, images)
    own = method_source(method)
    assert localisation.localisation({"Grad-CAM": maps}, maps.maps > 0.5).sources == (own,)
    assert faithfulness.faithfulness(method, images, maps, steps=2).sources == (own,)
    other = create_method("linear_probe", method.backbone, CLASSES, seed=1)
    both = faithfulness.faithfulness(other, images, maps, steps=2).sources
    assert both == (method_source(other), own), "the method that was measured, then that which gave the maps"
    path = maps.save(tmp_path / "maps.svg", venue="iclr")
    draft = path.with_suffix(".txt").read_text(encoding="utf-8")
    assert f"state sha256 {own['state_sha256'][:12]}" in draft and "Data: not recorded" in draft
    assert main(["explain", str(path)]) == 0 and own["state_sha256"] in capsys.readouterr().out
    assert main(["explain", str(path), "--rerun"]) == 1
    assert "grad_cam takes (method: Method, images: Tensor)" in capsys.readouterr().err


def test_curves_name_their_runs(tmp_path: Path, make_features: Callable[..., Features]) -> None:
    found = EXAMPLES["convergence"](make_features)
    assert isinstance(found, convergence.Convergence)
    assert [source["run"] for source in found.sources] == list(found.arguments["runs"].values())
