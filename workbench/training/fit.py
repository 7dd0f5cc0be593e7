"""Start a training, or continue one."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from workbench.data import SAMPLERS, LongTailDataset
from workbench.methods import Method, Stage
from workbench.methods.base import check_choice
from workbench.runs import Run
from workbench.training.batches import OnEncode
from workbench.training.loop import Loop, OnEpoch, OnStep

log = logging.getLogger(__name__)


def fit(
    method: Method,
    train: LongTailDataset,
    val: LongTailDataset | None = None,
    *,
    out: str | Path,
    seed: int = 0,
    stages: Sequence[Stage] | None = None,
    workers: int = 0,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
    on_encode: OnEncode | None = None,
    checkpoint_seconds: float = 60.0,
    existing: Literal["refuse", "continue"] = "refuse",
    allow_test: bool = False,
) -> Run:
    """Train a method and keep everything in a run folder.

    Args:
        method: from `create_method`, on the device where it shall train.
        train: the split "train"; its images get the method's training transform.
        val: scored after every epoch; chooses the epoch where a stage says select="best". None keeps the last.
        out: the run folder to make.
        seed: order, augmentation and noise, whatever the seed of `train`. Heads and adapters have `create_method`'s.
        stages: None takes the method's recipe; vary that with `dataclasses.replace` or `Stage.shortened`. The recipe of
            a method that trains nothing (zero_shot) is empty: it is prepared and the run is written.
        workers: image-loading processes. The result does not depend on it.
        on_step: called after every step with a `Clock` and the detached parts of the loss.
        on_epoch: called after every epoch with its row of metrics.csv (scores of val and of a fixed training subset).
        on_encode: progress of passes over a whole data set: the batch number and {"done": images so far, "total": N}.
        checkpoint_seconds: how much work a crash may cost.
        existing: what to do when `out` is there: "refuse" it, or "continue": a run of the same data, method, options,
            stages and seeds is returned when finished and gone on with when not (for notebooks and scripts that are run
            again); any other is refused with what differs.
        allow_test: let `train` or `val` be a test split. Recorded in the run and warned about.

    Returns:
        The run, finished; or interrupted (Ctrl-C, SIGTERM), to be continued with `resume`.

    Raises:
        ValueError: splits, classes or stages that do not fit, or another run in `out`. FileExistsError: `out` exists.
        FloatingPointError: the loss is no longer finite.
    """
    check_choice("existing", existing, ("refuse", "continue"))
    _check_splits(method, train, val, allow_test)
    stages = list(stages) if stages is not None else method.stages(train.manifest)
    _check_stages(method, stages)
    config = run_config(method, train, val, stages, seed=seed, allow_test=allow_test)
    if existing == "continue" and (Path(out).expanduser() / "config.json").is_file():
        run = Run.load(out)
        _check_same(run, config, method)
        if run.status["status"] == "finished":
            return run
    else:
        run = Run.create(out, config, method.classes)
    loop = Loop(run, method, train, val, stages, seed, workers, on_step, on_epoch, on_encode, checkpoint_seconds)
    return loop.run_to_end()


def resume(
    path: str | Path,
    *,
    root: str | Path | None = None,
    device: str | None = None,
    workers: int = 0,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
    on_encode: OnEncode | None = None,
    checkpoint_seconds: float = 60.0,
) -> Run:
    """Continue an unfinished run from its checkpoint; on a CPU the final weights equal an uninterrupted run's exactly.

    Args:
        path: the run folder. A finished run is returned as it is.
        root: where the images are now, if they moved since the run began.
        device: where to train; None takes the device type of the run (an error where this machine has none).
    """
    run = Run.load(path)
    if run.status["status"] == "finished":
        return run
    config = run.config
    if config.get("text") and not (run.path / "checkpoint.safetensors").exists():
        raise ValueError(
            f"{path} stopped before its first checkpoint, so what {config['method']} took from its text tower is not "
            "in it. Nothing was trained yet: start it again with another out=."
        )
    device = device or config["device"]
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(
            f"{path} was trained on a GPU and this machine has none; resume(..., device='cpu') continues it here."
        )
    method = run.build().to(device)
    train = LongTailDataset.from_spec(config["train"], root=root)
    val = None if config["val"] is None else LongTailDataset.from_spec(config["val"], root=root)
    stages = [Stage.from_json(record) for record in config["stages"]]
    seed = config["fit_seed"]
    loop = Loop(run, method, train, val, stages, seed, workers, on_step, on_epoch, on_encode, checkpoint_seconds)
    return loop.run_to_end()


def run_config(
    method: Method,
    train: LongTailDataset,
    val: LongTailDataset | None = None,
    stages: Sequence[Stage] = (),
    *,
    seed: int = 0,
    allow_test: bool = False,
) -> dict[str, Any]:
    """What config.json of a run says, JSON-ready: enough to build its method and to open its data again."""
    return {
        "method": method.name,
        "options": method.options,
        "seed": method.seed,
        "fit_seed": seed,
        "backbone": method.backbone.spec(),
        "text": method.text,
        "train": train.spec(),
        "val": None if val is None else val.spec(),
        "stages": [stage.to_json() for stage in stages],
        "device": method.device.type,
        "allow_test": allow_test,
    }


def _check_same(run: Run, config: dict[str, Any], method: Method) -> None:
    """Raise ValueError unless the run in a folder is the one now asked for, wherever its files lie."""
    wanted, found = (_leaves({name: record.get(name) for name in config}) for record in (_as_json(config), run.config))
    differing = [name for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name)]
    if run.classes != method.classes:
        differing.append("classes")
    if differing:
        told = ", ".join(f"{name} (there {found.get(name)!r}, now {wanted.get(name)!r})" for name in differing[:3])
        raise ValueError(
            f"{run.path} holds another run: {len(differing)} settings differ: {told}. Choose another out=, or open "
            f"that run with wb.Run.load({str(run.path)!r})."
        )


def _as_json(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(config))
    return found


def _leaves(record: Any, name: str = "") -> dict[str, Any]:
    """Nested JSON -> {"stages.0.lr": 0.01, ...}, without device and places of files, whose hashes say what they are."""
    if isinstance(record, list):
        record = dict(enumerate(record))
    if not isinstance(record, dict):
        return {name: record}
    kept = {key: value for key, value in record.items() if key not in ("root", "manifest_path", "device")}
    return {k: v for key, value in kept.items() for k, v in _leaves(value, f"{name}.{key}".lstrip(".")).items()}


def _check_splits(method: Method, train: LongTailDataset, val: LongTailDataset | None, allow_test: bool) -> None:
    for role, dataset in (("train", train), ("val", val)):
        if dataset is None:
            continue
        if dataset.split == "test":
            if not allow_test:
                raise ValueError(
                    f"{role}= is the split 'test'. Training and choosing an epoch must not see test images: pass the "
                    "split 'val' (or val=None to keep the last epoch). allow_test=True overrides this and is recorded."
                )
            log.warning("%s= is the split 'test': this run's test accuracy is no longer an estimate.", role)
        if dataset.classes.names != method.classes.names:
            raise ValueError(
                f"The method was built for {len(method.classes)} classes and {role}= has {len(dataset.classes)} "
                f"({dataset.manifest.name!r}); build it with create_method(..., manifest.classes) of the same data set."
            )
    if len(train) == 0:
        raise ValueError(f"The split {train.split!r} of {train.manifest.name!r} has no images.")


def _check_stages(method: Method, stages: Sequence[Stage]) -> None:
    names = [name for name, _ in method.named_parameters()]
    if bool(stages) != bool(method.tuned):
        said = "stages=[] trains nothing" if method.tuned else f"{method.name} trains nothing, so it has no stages"
        raise ValueError(f"{said}; leave stages out for the method's recipe.")
    for stage in stages:
        for prefix in stage.trainable:
            if not any(name.startswith(prefix) for name in names):
                raise ValueError(f"Stage {stage.name!r}: no parameter starts with {prefix!r}.")
        for sampler in stage.samplers:
            if sampler not in SAMPLERS:
                raise ValueError(f"sampler={sampler!r} is not known; choose one of {', '.join(SAMPLERS)}.")
