"""The training loop: stages, epochs, checkpoints, interruptions. It knows no method by name."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from workbench import metrics
from workbench.data import LongTailDataset
from workbench.methods import Clock, Method, Stage
from workbench.optim import learning_rate, neighbourhood
from workbench.runs import Run, read_tensors, strip_prefix, this_process, write_tensors
from workbench.training.batches import Encodings, OnEncode, draw_batches, encode_all, epoch_draws, predict
from workbench.training.step import (
    autocast_dtype,
    freeze_all_but,
    gradients,
    load_optimiser,
    make_optimiser,
    optimiser_tensors,
    radius_of,
    seed_step,
)

if TYPE_CHECKING:
    from torch.optim import Optimizer

log = logging.getLogger(__name__)

TRAIN_SUBSET_PER_CLASS = 10  # images per class of the fixed training subset that is scored with the test transform


class OnStep(Protocol):
    """Progress. clock: where the stage stands; parts: detached scalars, "loss" among them."""

    def __call__(self, clock: Clock, parts: dict[str, Tensor]) -> None: ...


OnEpoch = Callable[[dict[str, Any]], None]  # a row of metrics.csv


@dataclass(frozen=True)
class Position:
    """The next step to take: counters are 0-based, `step` counts within the epoch."""

    stage: int = 0
    epoch: int = 0
    step: int = 0


@dataclass
class Progress:
    """What a checkpoint remembers besides tensors."""

    position: Position
    rows: list[dict[str, Any]]  # finished epochs, as in metrics.csv
    losses: list[float]  # of the steps taken in this epoch
    seconds: float  # training time up to here
    best: float | None = None  # best mean class accuracy on val in this stage, where the stage selects by it


class Interrupted(Exception):
    """The user asked to stop; everything up to the last whole step is saved."""


class Loop:
    """One training, from its checkpoint (or the beginning) to the end."""

    def __init__(
        self,
        run: Run,
        method: Method,
        train: LongTailDataset,
        val: LongTailDataset | None,
        stages: Sequence[Stage],
        seed: int,
        workers: int,
        on_step: OnStep | None,
        on_epoch: OnEpoch | None,
        on_encode: OnEncode | None,
        checkpoint_seconds: float,
    ) -> None:
        self.run, self.method, self.stages, self.seed = run, method, stages, seed
        self.train = train
        scored = {"train": _subset(train)} | ({} if val is None else {"val": val})
        test_transform = method.preprocessing(train=False)
        self.scored = {name: dataset.with_preprocessing(test_transform) for name, dataset in scored.items()}
        self.workers, self.on_step, self.on_epoch, self.on_encode = workers, on_step, on_epoch, on_encode
        self.checkpoint_seconds = checkpoint_seconds
        self.progress = Progress(Position(), [], [], 0.0)
        self.stop_signal: int | None = None

    # -- the whole run -----------------------------------------------------------------------------------------------

    def run_to_end(self) -> Run:
        devices = [self.method.device] if self.method.device.type == "cuda" else []
        with self.run.locked(), torch.random.fork_rng(devices), self._signals():
            self.run.set_status("running", **this_process())
            self.started = self.saved = time.perf_counter()
            try:
                self._restore()
                for index in range(self.progress.position.stage, len(self.stages)):
                    self._run_stage(index)
            except (KeyboardInterrupt, Interrupted):
                self.run.set_status("interrupted", **asdict(self.progress.position))
                log.warning("Interrupted: %s keeps what there is; wb.resume continues it.", self.run.path)
                return self.run
            except Exception as error:
                self.run.set_status("failed", error=f"{type(error).__name__}: {error}")
                raise
            best = self.run.path / "best.safetensors"
            final = read_tensors(best)[0] if best.exists() else self.method.state()
            write_tensors(self.run.path / "weights.safetensors", final)
            peak = torch.cuda.max_memory_allocated() if self.method.device.type == "cuda" else None
            self.run.set_status("finished", seconds=round(self._seconds(), 1), peak_gpu_bytes=peak)
            for name in ("checkpoint.safetensors", "best.safetensors"):
                (self.run.path / name).unlink(missing_ok=True)
        self.method.eval()
        return self.run

    def _seconds(self) -> float:
        return self.progress.seconds + time.perf_counter() - self.started

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM lets the step finish and saves; a second SIGINT stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def note(number: int, frame: Any) -> None:
            if self.stop_signal is not None:
                raise KeyboardInterrupt
            self.stop_signal = number

        for number in previous:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _on_encode(self, step: int, parts: dict[str, float]) -> None:
        if self.on_encode is not None:
            self.on_encode(step, parts)
        if self.stop_signal is not None:
            raise Interrupted

    # -- checkpoints -------------------------------------------------------------------------------------------------

    def _restore(self) -> None:
        """Load the checkpoint, or prepare the method when there is none yet."""
        path = self.run.path / "checkpoint.safetensors"
        self.restored: dict[str, Tensor] = {}
        if not path.exists():
            self.method.prepare(self.train, workers=self.workers, on_step=self._on_encode)
            self._save({})
            return
        tensors, record = read_tensors(path)
        self.method.load_state(strip_prefix(tensors, "method."))
        self.restored = strip_prefix(tensors, "optimiser.")
        self.progress = Progress(**{**record, "position": Position(**record["position"])})

    def _save(self, optimiser: dict[str, Tensor]) -> None:
        now = time.perf_counter()
        self.progress.seconds += now - self.started
        self.started = self.saved = now
        tensors = {f"method.{name}": tensor for name, tensor in self.method.state().items()}
        tensors |= {f"optimiser.{name}": tensor for name, tensor in optimiser.items()}
        write_tensors(self.run.path / "checkpoint.safetensors", tensors, asdict(self.progress))

    # -- one stage ---------------------------------------------------------------------------------------------------

    def _run_stage(self, index: int) -> None:
        stage, method = self.stages[index], self.method
        trainable = freeze_all_but(method, stage.trainable)
        optimiser = make_optimiser(stage, trainable)
        scaler = torch.amp.GradScaler(method.device.type, enabled=autocast_dtype(stage, method) == torch.float16)
        if self.restored:
            load_optimiser(optimiser, scaler, trainable, self.restored)
            self.restored = {}
        train = self.train.with_preprocessing(method.preprocessing(train=not stage.cached), seed=self.seed)
        cached, scored = None, {}
        if stage.cached:
            encode = partial(encode_all, method, workers=self.workers, on_step=self._on_encode)
            cached, scored = encode(train), {name: encode(dataset) for name, dataset in self.scored.items()}
        steps = -(-len(train) // stage.batch_size)  # per epoch
        while self.progress.position.epoch < stage.epochs:
            epoch, first = self.progress.position.epoch, self.progress.position.step
            lr = learning_rate(
                stage.schedule,
                lr=stage.lr,
                epoch=epoch,
                epochs=stage.epochs,
                warmup_epochs=stage.warmup_epochs,
                warmup_lr=stage.warmup_lr,
            )
            for group in optimiser.param_groups:
                group["lr"] = lr * group["factor"]
            draws = epoch_draws(stage, train.labels, seed=self.seed, stage_index=index, epoch=epoch)
            remaining = [sampler[first:] for sampler in draws]
            train.set_epoch(epoch)
            method.train()
            feed = draw_batches(train, cached, remaining, device=method.device, workers=self.workers)
            for step, batches in enumerate(feed, start=first):
                late = epoch >= stage.reweighted_from
                clock = Clock(epoch, stage.epochs, epoch * steps + step, stage.epochs * steps, stage.name, late)
                method.clock = clock
                seed_step(method.device, self.seed, index, epoch, step)
                with neighbourhood(trainable.values(), radius_of(stage, epoch)):
                    parts = gradients(method, stage, batches, clock, scaler)
                self._require_finite(parts["loss"], stage, clock, optimiser, scaler, trainable)
                scaler.step(optimiser)
                scaler.update()
                optimiser.zero_grad(set_to_none=True)
                self.progress.position = Position(index, epoch, step + 1)
                self.progress.losses.append(float(parts["loss"]))
                if self.on_step is not None:
                    try:
                        self.on_step(clock, parts)
                    except KeyboardInterrupt:
                        self.stop_signal = signal.SIGINT
                overdue = time.perf_counter() - self.saved > self.checkpoint_seconds
                if self.stop_signal is not None or (overdue and step + 1 < steps):
                    self._save(optimiser_tensors(optimiser, scaler, trainable))
                if self.stop_signal is not None:
                    raise Interrupted
            self._end_epoch(index, stage, lr, scored)
            last = epoch + 1 == stage.epochs
            self.progress.position = Position(index + 1, 0, 0) if last else Position(index, epoch + 1, 0)
            if last:
                self.progress.best = None
            self._save({} if last else optimiser_tensors(optimiser, scaler, trainable))
            if self.on_epoch is not None:
                self.on_epoch(self.progress.rows[-1])
            if last:
                return

    def _end_epoch(self, index: int, stage: Stage, lr: float, scored: dict[str, Encodings]) -> None:
        """Score the training subset and val, write the epoch's row, keep the best weights where the stage selects."""
        losses, self.progress.losses = self.progress.losses, []
        row: dict[str, Any] = {
            "stage": stage.name,
            "epoch": self.progress.position.epoch,
            "lr": lr,
            "loss": float(np.mean(losses)),
        }
        accuracy: dict[str, float] = {}
        for name, dataset in self.scored.items():
            predicted = predict(self.method, dataset, scored.get(name), workers=self.workers)
            accuracy = metrics.group_accuracy(predicted, dataset.labels, dataset.classes.groups)
            row |= {f"{name}_{group}": value for group, value in accuracy.items()}
        row["seconds"] = round(self._seconds(), 2)
        self.progress.rows.append(row)
        self.run.write_metrics(self.progress.rows)
        if stage.select == "best" and "val" in self.scored and index + 1 == len(self.stages):
            value = accuracy["mean_class"]  # val is scored last
            if self.progress.best is None or value > self.progress.best:
                self.progress.best = value
                write_tensors(self.run.path / "best.safetensors", self.method.state())

    def _require_finite(
        self,
        loss: Tensor,
        stage: Stage,
        clock: Clock,
        optimiser: Optimizer,
        scaler: torch.amp.GradScaler,
        trainable: dict[str, Tensor],
    ) -> None:
        if torch.isfinite(loss):
            return
        self._save(optimiser_tensors(optimiser, scaler, trainable))
        raise FloatingPointError(
            f"The loss became {float(loss)} in epoch {clock.epoch}, step {clock.step} of {clock.steps} (stage "
            f"{stage.name!r}, lr {stage.lr}, precision {stage.precision}). {self.run.path} keeps the weights before "
            "it. Start a new run with a lower lr, or with precision='fp32' if it was 'amp'."
        )


def _subset(train: LongTailDataset) -> LongTailDataset:
    """At most TRAIN_SUBSET_PER_CLASS images of each class, always the same ones."""
    per_class = min(TRAIN_SUBSET_PER_CLASS, train.per_class or TRAIN_SUBSET_PER_CLASS)
    return LongTailDataset(train.manifest, train.split, train.root, per_class=per_class)
