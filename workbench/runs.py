"""A run: one folder that holds everything a training produced and everything needed to continue or rebuild it.

config.json           what was asked for: method, options, seed, backbone, data, stages, versions (never rewritten);
                      "imported" names the file that the weights came from where they were trained elsewhere
classes.json          class names, training counts, shot-group rule
status.json           running | interrupted | failed | finished, and why
metrics.csv           one row per epoch
weights.safetensors   `method.state()`: everything that differs from the pretrained weights
checkpoint.safetensors  where an unfinished training stands: weights, optimiser, position
features/             what `workbench extract` saved
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from workbench.backbones import load_backbone, load_text_tower
from workbench.data import Classes, LongTailDataset, read_image
from workbench.data.dataset import ImageError
from workbench.methods import Method, rebuild_method
from workbench.versions import versions

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

FORMAT = 1


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image. names: k texts; probabilities: k floats in [0, 1], falling."""

    path: str
    names: tuple[str, ...]
    probabilities: tuple[float, ...]


class Run:
    """A run folder. `Run.create` makes one, `Run.load` opens one; nothing is read before it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: str | Path, config: dict[str, Any], classes: Classes) -> Run:
        """Make a new run folder; what is there already is never touched (FileExistsError says what to do instead).

        It is made elsewhere and then gets its name, so a process that is killed meanwhile leaves no half of a run.
        """
        path = Path(path).expanduser()
        part = path.parent / f".{path.name}.{os.getpid()}.part"
        part.mkdir(parents=True, exist_ok=True)
        run = cls(part)
        try:
            _write_json(part / "config.json", {"format": FORMAT, **config, "provenance": provenance()})
            _write_json(part / "classes.json", classes.to_json())
            run.set_status("running")
            part.rename(path)  # an empty folder is replaced
        except OSError:
            if not path.exists():
                raise
            what = "a run" if (path / "config.json").exists() else "a file or folder"
            raise FileExistsError(
                f"{path} already holds {what} and is left as it is. Continue a run with wb.resume({str(path)!r}) "
                f"(workbench fit --resume {path}), or choose another out=."
            ) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return cls(path)

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Open a run folder. FileNotFoundError where there is none, ValueError where its format is another."""
        path = Path(path).expanduser()
        if not (path / "config.json").is_file():
            raise FileNotFoundError(f"{path} is not a run folder: it has no config.json. `workbench fit` makes one.")
        run = cls(path)
        if run.config.get("format") != FORMAT:
            raise ValueError(f"{path} has run format {run.config.get('format')!r}; this version reads {FORMAT}.")
        return run

    def __repr__(self) -> str:
        config = self.config
        return f"Run({str(self.path)!r}: {config['method']} on {config['train']['manifest']}, {self.status['status']})"

    # -- what is in the folder ---------------------------------------------------------------------------------------

    @property
    def config(self) -> dict[str, Any]:
        return _read_json(self.path / "config.json")

    @property
    def classes(self) -> Classes:
        return Classes.from_json(_read_json(self.path / "classes.json"))

    @property
    def status(self) -> dict[str, Any]:
        """{"status": "running" | "interrupted" | "failed" | "finished", ...details}."""
        return _read_json(self.path / "status.json")

    def set_status(self, status: str, **details: Any) -> None:
        _write_json(self.path / "status.json", {"status": status, **details})

    @property
    def metrics(self) -> pd.DataFrame:
        """One row per finished epoch: stage, epoch, lr, loss, seconds and accuracies in [0, 1]."""
        import pandas as pd

        path = self.path / "metrics.csv"
        return pd.read_csv(path) if path.exists() else pd.DataFrame()

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        import pandas as pd

        pd.DataFrame(rows).to_csv(self.path / "metrics.csv.part", index=False)
        (self.path / "metrics.csv.part").replace(self.path / "metrics.csv")

    def dataset(self, split: str, *, root: str | Path | None = None, per_class: int | None = None) -> LongTailDataset:
        """A split of the data set the run was trained on.

        root: where its images are now, if they moved; per_class: only the first so many images of each class.
        """
        return LongTailDataset.from_spec({**self.config["train"], "split": split, "per_class": per_class}, root=root)

    # -- weights -----------------------------------------------------------------------------------------------------

    @property
    def weights_path(self) -> Path:
        """The file that `method` reads: final weights, or the checkpoint of an unfinished run."""
        for name in ("weights.safetensors", "checkpoint.safetensors"):
            if (self.path / name).exists():
                return self.path / name
        raise FileNotFoundError(
            f"{self.path} has no weights yet ({self.status['status']}). wb.resume({str(self.path)!r}) continues it."
        )

    @property
    def weights_sha256(self) -> str:
        """Identifies the trained weights: sha256 of the file that `method` reads."""
        with self.weights_path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def build(self, **options: Any) -> Method:
        """The run's method before its weights are loaded: same backbone weights, options and seed; its text tower
        where the method runs one. `options` replace the run's."""
        config = self.config
        backbone = load_backbone(**config["backbone"])
        method = rebuild_method(
            config["method"], backbone, self.classes, seed=config["seed"], options=config["options"] | options
        )
        if method.owns_text:
            method.text_tower = load_text_tower(**config["text"])
        return method

    def method(self, **options: Any) -> Method:
        """The trained method, in eval mode on the CPU; of an unfinished run, as far as it got.

        `options` replace the run's, for those that only decide how it is tested, such as HLC's number of candidates.
        """
        method = self.build(**options)
        tensors, _ = read_tensors(self.weights_path)
        if self.weights_path.name.startswith("checkpoint"):
            tensors = strip_prefix(tensors, "method.")
        method.load_state(tensors)
        return method.eval().requires_grad_(False)

    def predict(self, images: Sequence[str | Path], *, k: int = 5, device: str = "cpu") -> list[Prediction]:
        """The k most probable classes of image files, with the method's own test-time views.

        Raises:
            FileNotFoundError, ValueError: a file that is missing or is no image, before anything is computed.
        """
        if k < 1:
            raise ValueError(f"k={k}: ask for at least one class.")
        opened = [_opened(Path(path).expanduser()) for path in images]
        method = self.method().to(device)
        transform = method.test_preprocessing().build()
        found = []
        for path, image in zip(images, opened, strict=True):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(0)  # random test views are the same at every call
                pixels = transform(image).to(method.device)
            with torch.inference_mode():
                logits = method.ensemble(method(pixels if pixels.ndim == 4 else pixels[None]).logits[None])[0]  # (C,)
            top = logits.softmax(-1).topk(min(k, len(self.classes)))
            names = tuple(self.classes.names[i] for i in top.indices.tolist())
            found.append(Prediction(str(path), names, tuple(top.values.tolist())))
        return found

    # -- one writer --------------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for writing; RuntimeError when another process trains it now."""
        try:
            with FileLock(self.path / ".lock", timeout=0):
                yield
        except Timeout:
            raise RuntimeError(
                f"Another process is training {self.path} at this moment; wait for it or stop it."
            ) from None


def provenance() -> dict[str, Any]:
    """Versions and machine, as stored with runs and features."""
    return {
        **versions(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def this_process() -> dict[str, Any]:
    """Host and process that `set_status` records of a training, so that another process can stop it with SIGTERM.

    No pid outside the main thread: there the signal would end the process before the training is saved.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    return {"host": platform.node(), "pid": os.getpid() if in_main_thread else None}


def write_tensors(path: Path, tensors: dict[str, Tensor], record: dict[str, Any] | None = None) -> None:
    """Write a safetensors file so that a reader sees the old file or the new one, never a part.

    Raises:
        OSError: the disk is full, naming the run to resume; what was there before is untouched.
    """
    part = path.with_name(path.name + ".part")
    try:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            part,
            metadata={"record": json.dumps(record)},
        )
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            raise OSError(
                errno.ENOSPC,
                f"The disk is full: {path.name} was not written and the one before it is kept. Free some space, "
                f"then wb.resume({str(path.parent)!r})",
            ) from error
        raise


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and the JSON record of a file that `write_tensors` made; ValueError where it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {}).get("record", "null"))
            return {name: file.get_tensor(name) for name in file.keys()}, record
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}).") from error


def strip_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _opened(path: Path) -> Image.Image:
    try:
        return read_image(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is not there; give the path of an image file.") from error
    except ImageError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # text that is not UTF-8, or not JSON
        raise ValueError(f"{path} is damaged ({error}); restore it from a copy of the run.") from error
    return record


def _write_json(path: Path, record: dict[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)
