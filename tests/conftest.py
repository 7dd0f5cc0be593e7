"""Fixtures shared by all tests: where the reference material lies, recorded golden cases, randomness, closed figures."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

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


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    import sys

    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
