"""Arrays that take seconds to make, kept in the user's cache folder and read from there as memory maps."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """$WORKBENCH_CACHE, else the folder of this platform's caches on Linux and macOS, `~/.cache/workbench`."""
    if own := os.environ.get("WORKBENCH_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "workbench"


def cached_array(name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array of this name, read-only; made by `make` when the cache does not have it, by one process at a time.

    Where the cache cannot be written (full disk, no permission) the array is made in memory and a warning is logged.
    What the cache holds can always be made again, so the folder may be deleted at any time.
    """
    file = cache_folder() / f"{name}.npy"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):
            if (known := _read(file)) is not None:
                return known
            array = make()
            temporary = file.with_suffix(".part")
            with temporary.open("wb") as handle:
                np.save(handle, array, allow_pickle=False)
            temporary.replace(file)
            return np.load(file, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        log.warning("%s could not be kept (%s) and is made each time; WORKBENCH_CACHE names a folder.", file, error)
        array = make()
        array.setflags(write=False)
        return array


def _read(file: Path) -> np.ndarray | None:
    """None for a file that is not there or was cut off."""
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):
        return None
