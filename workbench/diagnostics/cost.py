"""What a method costs: parameters that training touches, all parameters, floating-point operations and time per image.

Counting rule of LPT (ICLR 2023) and LIFT (ICML 2024): tuned parameters are counted without the classifier, which is
given beside them. Operations are those of matrix products, convolutions and attention in the forward pass of one image,
a multiply-add counting as two; papers that count a multiply-add once print half of this ("MACs", often called FLOPs).
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .base import INK, MUTED, Result, dress, method_source

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from matplotlib.axes import Axes

HEAD = "head."  # parameters of the classifier start with this in every method


@dataclass(frozen=True, kw_only=True, eq=False)
class Cost(Result):
    """Cost of one method on one device."""

    diagnostic: ClassVar[str] = "cost"
    size: ClassVar[tuple[float, float]] = (5.5, 1.9)

    method: str  # class of the method
    tuned: int  # parameters that training ever changes, without the classifier
    head: int  # parameters of the classifier
    total: int  # all parameters: backbone, adapters, classifier
    flops: int  # of one image's forward pass; a multiply-add counts as two
    milliseconds: float  # median of one image's forward pass; nan on the meta device, which computes nothing
    repeats: int
    input_size: int  # pixels, height = width
    device: str

    def __str__(self) -> str:
        pace = "not timed" if math.isnan(self.milliseconds) else f"{self.milliseconds:.1f} ms"
        return (
            f"{self.method}: {self.tuned:,} tuned parameters without the classifier ({self.head:,}), {self.total:,} in "
            f"all; {self.flops / 1e9:.3g} GFLOPs (multiply-add = 2) and {pace} for one image of "
            f"{self.input_size} x {self.input_size} on {self.device}"
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per quantity with its unit."""
        import pandas as pd

        rows = [
            ("tuned", self.tuned, "parameters"),
            ("head", self.head, "parameters"),
            ("total", self.total, "parameters"),
            ("flops", self.flops, "floating-point operations per image"),
            ("milliseconds", self.milliseconds, "ms per image"),
        ]
        frame = pd.DataFrame(rows, columns=["quantity", "value", "unit"])
        return frame.assign(method=self.method, input_size=self.input_size, device=self.device)

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        from matplotlib.ticker import EngFormatter

        counts = {"all": self.total, "classifier": self.head, "tuned": self.tuned}
        style = {"height": 0.6, "color": [MUTED, MUTED, INK]}
        left = 1.0  # a logarithmic axis has no 0: bars start at one parameter
        bars = ax.barh(list(counts), [max(n - left, 0) for n in counts.values()], left=left, **(style | artist_kw))
        ax.set_xscale("log")
        ax.set_xlim(left, max(self.total, 10) * 30)
        for bar, n in zip(bars, counts.values(), strict=True):
            middle = bar.get_y() + bar.get_height() / 2
            ax.annotate(f"{n:,}", (max(n, left), middle), (4, 0), textcoords="offset points", va="center", color=INK)
        pace = "not timed" if math.isnan(self.milliseconds) else f"{self.milliseconds:.1f} ms on {self.device}"
        ax.xaxis.set_major_formatter(EngFormatter(sep=" "))
        ax.minorticks_off()
        ax.set_xlabel("parameters")
        flops = f"{self.flops / 1e9:.3g} GFLOPs (multiply-add = 2)"
        caption = f"{self.method}, one {self.input_size}-px image: {flops}, {pace}"
        ax.text(1.0, 1.02, caption, transform=ax.transAxes, ha="right", va="bottom", color=MUTED, fontsize="small")
        dress(ax, grid="x")


def cost(method: torch.nn.Module, *, repeats: int = 5) -> Cost:
    """Parameters, operations and time of one image's forward pass of `method`, on the device where it is.

    On the meta device parameters and operations are counted without weights, and nothing is timed.

    Args:
        method: has `backbone.input_size` (pixels), `device`, and `tuned`: prefixes of the names of the parameters that
            training ever changes, e.g. ("adapters.", "head.").
        repeats: timed forward passes, after one that is not timed.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    if repeats < 1:
        raise ValueError(f"repeats={repeats}; give 1 or more.")
    device, size = torch.device(method.device), int(method.backbone.input_size)
    parameters = {name: parameter.numel() for name, parameter in method.named_parameters()}
    head = {name: n for name, n in parameters.items() if name.startswith(HEAD)}
    images = torch.zeros(1, 3, size, size, device=device)
    modes = {module: module.training for module in method.modules()}
    learns = {parameter: parameter.requires_grad for parameter in method.parameters()}
    method.eval()
    method.requires_grad_(False)  # the counter hooks a trainable tensor that a module is given, as VPT's prompts are
    try:
        with torch.inference_mode():
            if device.type != "meta":
                method(images)  # what is computed once and kept, as class vectors, is no cost of an image
            counter = FlopCounterMode(display=False)
            # Fused attention kernels differ by device and some are unknown to the counter; as products they all count.
            with counter, sdpa_kernel(SDPBackend.MATH):
                method(images)
            times = [] if device.type == "meta" else [_seconds(method, images) for _ in range(repeats + 1)][1:]
    finally:
        for module, training in modes.items():
            module.training = training
        for parameter, trainable in learns.items():
            parameter.requires_grad_(trainable)
    return Cost(
        arguments={"repeats": repeats, "backbone": str(getattr(method.backbone, "name", ""))},
        sources=(method_source(method),),
        method=type(method).__name__,
        tuned=sum(n for name, n in parameters.items() if name.startswith(tuple(method.tuned)) and name not in head),
        head=sum(head.values()),
        total=sum(parameters.values()),
        flops=int(counter.get_total_flops()),
        milliseconds=1000 * statistics.median(times) if times else math.nan,
        repeats=repeats,
        input_size=size,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
    )


def _seconds(method: torch.nn.Module, images: torch.Tensor) -> float:
    """Wall-clock time of one forward pass, waiting for the device to finish."""
    import torch

    def wait() -> None:
        if images.device.type == "cuda":
            torch.cuda.synchronize(images.device)

    wait()
    start = time.perf_counter()
    method(images)
    wait()
    return time.perf_counter() - start
