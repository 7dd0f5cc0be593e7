"""One optimiser step: its gradients, and an optimiser whose state goes into a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from workbench.methods import Clock, Encoded, Method, Output, Stage
from workbench.optim import gnm_factor

if TYPE_CHECKING:
    from torch.optim import Optimizer


def gradients(
    method: Method,
    stage: Stage,
    batches: list[tuple[Tensor, Tensor]],
    clock: Clock,
    scaler: torch.amp.GradScaler,
) -> dict[str, Tensor]:
    """Accumulate the gradient of one optimiser step; returns the mean parts of the loss, detached.

    batches: one (inputs, labels) per sampler; inputs are images (B, 3, H, W), or features (B, D) in a cached stage.
    Micro-batches are weighted by their share of the images, so the sum is the gradient of the whole batch.
    """
    size = stage.micro_batch_size or stage.batch_size
    total = len(batches[0][1])
    dtype = autocast_dtype(stage, method)
    sums: dict[str, Tensor] = {}
    for start in range(0, total, size):
        inputs = [x[start : start + size] for x, _ in batches]
        labels = [y[start : start + size] for _, y in batches]
        with torch.autocast(method.device.type, dtype=dtype, enabled=dtype is not None):
            parts = _mixed_loss(method, stage, inputs, labels, clock)
        share = len(labels[0]) / total
        scaler.scale(parts["loss"] * share).backward()
        for name, value in parts.items():
            sums[name] = sums.get(name, 0) + value.detach() * share
    return sums


def _mixed_loss(
    method: Method, stage: Stage, inputs: list[Tensor], labels: list[Tensor], clock: Clock
) -> dict[str, Tensor]:
    def forward(x: Tensor) -> Output:
        return _float32(method.classify(Encoded(x)) if stage.cached else method(x))

    if not stage.mixup:
        return method.loss([forward(x) for x in inputs], labels, clock)
    kept = float(torch.distributions.Beta(stage.mixup, stage.mixup).sample())  # lambda of mixup
    orders = [torch.randperm(len(x), device=x.device) for x in inputs]
    outputs = [forward(kept * x + (1 - kept) * x[order]) for x, order in zip(inputs, orders, strict=True)]
    own = method.loss(outputs, labels, clock)
    other = method.loss(outputs, [y[order] for y, order in zip(labels, orders, strict=True)], clock)
    return {name: kept * own[name] + (1 - kept) * other[name] for name in own}


def _float32(output: Output) -> Output:
    """Losses are computed in float32 whatever autocast did upstream."""
    cosine = None if output.cosine is None else output.cosine.float()
    return replace(output, logits=output.logits.float(), cosine=cosine)


def autocast_dtype(stage: Stage, method: Method) -> torch.dtype | None:
    if stage.precision == "fp32" or method.device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def freeze_all_but(method: Method, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """Set requires_grad by prefix; returns the trainable parameters by name, in a fixed order."""
    for name, parameter in method.named_parameters():
        parameter.requires_grad_(name.startswith(prefixes))
    return {name: parameter for name, parameter in method.named_parameters() if parameter.requires_grad}


def make_optimiser(stage: Stage, trainable: dict[str, Tensor]) -> Optimizer:
    """The stage's optimiser, one group of parameters for each factor on the lr (`group["factor"]`)."""
    factors: dict[float, list[Tensor]] = {}
    for name, parameter in trainable.items():
        own = [factor for prefix, factor in stage.lr_factors if name.startswith(prefix)]
        factors.setdefault(own[0] if own else 1.0, []).append(parameter)
    groups = [{"params": params, "factor": factor, "lr": stage.lr * factor} for factor, params in factors.items()]
    if stage.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=stage.lr, weight_decay=stage.weight_decay)
    return torch.optim.SGD(groups, lr=stage.lr, momentum=stage.momentum, weight_decay=stage.weight_decay)


def optimiser_tensors(
    optimiser: Optimizer, scaler: torch.amp.GradScaler, trainable: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Optimiser and loss-scaler state as tensors named `<parameter>/<key>`."""
    names = {parameter: name for name, parameter in trainable.items()}
    found = {
        f"{names[parameter]}/{key}": torch.as_tensor(value)
        for parameter, state in optimiser.state.items()
        for key, value in state.items()
        if value is not None
    }
    if scaler.is_enabled():
        found |= {f"scaler/{key}": torch.tensor(value) for key, value in scaler.state_dict().items()}
    return found


def load_optimiser(
    optimiser: Optimizer, scaler: torch.amp.GradScaler, trainable: dict[str, Tensor], tensors: dict[str, Tensor]
) -> None:
    for name, tensor in tensors.items():
        owner, _, key = name.rpartition("/")
        if owner == "scaler":
            continue
        parameter = trainable[owner]
        # AdamW keeps its step count on the CPU whatever the parameter's device
        optimiser.state[parameter][key] = tensor if key == "step" else tensor.to(parameter.device)
    if scaler.is_enabled():
        scaler.load_state_dict({key: tensors[f"scaler/{key}"].item() for key in scaler.state_dict()})


def radius_of(stage: Stage, epoch: int) -> float:
    """GNM's radius in an epoch: the stage's, by `gnm_factor` where class weights come in later, else unchanged."""
    last = stage.reweighted_from - 1  # the last epoch without
    return stage.gnm_radius * (gnm_factor(epoch, last) if stage.drw and last >= 1 else 1.0)


def seed_step(device: torch.device, seed: int, stage: int, epoch: int, step: int) -> None:
    """Start torch's generators, inside the loop's fork, from a function of where training stands."""
    state = int(np.random.SeedSequence([seed, stage, epoch, step]).generate_state(1, np.uint64)[0])
    # not torch.manual_seed: without a GPU it records a stack trace per call, milliseconds in a notebook
    torch.default_generator.manual_seed(state)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(state)
