"""Fixtures shared by all tests: reference material, recorded golden cases, small trained runs, closed figures."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two threads of a tower this small wait for each other

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.methods import method_class

SHARED = Path(os.environ.get("WORKBENCH_SHARED", Path(__file__).parents[2] / "shared"))


@dataclass(frozen=True)
class Case:
    """One recorded golden case: arrays of its own file and of the files it uses, keys as in index.json."""

    arrays: dict[str, np.ndarray]
    settings: dict[str, Any]
    rtol: float
    atol: float
    record: dict[str, Any]

    def tensor(self, key: str, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        value = torch.from_numpy(np.array(self.arrays[key]))
        return value.to(dtype) if value.is_floating_point() else value

    def check(self, actual: Any, key: str) -> None:
        """The array `actual` equals the recorded output `key` within the case's tolerance."""
        if isinstance(actual, torch.Tensor):
            actual = actual.detach().cpu().numpy()
        np.testing.assert_allclose(actual, self.arrays[key], rtol=self.rtol, atol=self.atol, err_msg=key)


@cache
def _index() -> dict[str, Any]:
    return {case["id"]: case for case in json.loads((SHARED / "golden" / "index.json").read_text())["cases"]}


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data; tests that need it skip where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"reference data not found at {SHARED}; set WORKBENCH_SHARED to its folder")
    return SHARED


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Case]:
    """golden(id) -> Case. Skips where the recorded values are absent."""
    if not (SHARED / "golden" / "index.json").is_file():
        pytest.skip(f"golden values not found at {SHARED / 'golden'}; set WORKBENCH_SHARED to the folder above")

    def load(case_id: str) -> Case:
        record = _index()[case_id]
        arrays: dict[str, np.ndarray] = {}
        for name in [*record.get("uses", []), record["file"]]:
            with np.load(SHARED / "golden" / name, allow_pickle=False) as file:
                arrays.update({key: file[key] for key in file.files})
        tolerance = record["tolerance"]
        return Case(arrays, record["settings"], tolerance["rtol"], tolerance["atol"], record)

    return load


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], wb.Run]:
    """store("lift") -> a finished run of that method, trained once per session. Copy it before changing its folder."""
    folder = tmp_path_factory.mktemp("store")

    @cache
    def trained(name: str) -> wb.Run:
        manifest = wb.Manifest.load("digits_lt")
        train, val = (wb.LongTailDataset(manifest, split, per_class=6) for split in ("train", "val"))
        backbone = wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=32)
        method = wb.create_method(name, backbone, manifest.classes, **method_class(name).small())
        stages = [replace(stage.shortened(2), batch_size=32) for stage in method.stages(manifest)]
        return wb.fit(method, train, val, out=folder / name, stages=stages)

    return trained


@pytest.fixture
def copied(store: Callable[[str], wb.Run], tmp_path: Path) -> Callable[[str], wb.Run]:
    """copied("lift") -> a copy of the store's run that the test may change."""

    def copy(name: str) -> wb.Run:
        return wb.Run.load(shutil.copytree(store(name).path, tmp_path / f"{name}-copy"))

    return copy


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    import sys

    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def say(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """say("data", "list") -> (exit code, stdout, stderr), with a fresh folder as the working directory."""
    from workbench.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run
