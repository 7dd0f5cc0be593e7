"""How much does training turn up the adapter of each block? The learned scales s of AdaptFormer.

Source: Shi et al., "Long-Tail Learning with Foundation Model: Heavy Fine-Tuning Hurts" (LIFT), ICML 2024, arXiv
2309.10019, figure 9; in the authors' code the raw value of `tuner.adaptformer_list[i].scale`, i = 1..L, which may be
negative. The output of an adapter is s (W ReLU(...) + b), so s alone is not its strength: s can halve while W and b
double and nothing changes. Beside s therefore stands |s| times the norm of W.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .base import INK, METHOD_COLOURS, Result, caption_below, dress, legend_beside, method_source, plain

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.adapters.residual import AdaptFormer
    from workbench.methods import Method
    from workbench.runs import Run

    Trained = Method | Run

_MARKERS = ("o", "s", "^", "D", "v")


@dataclass(frozen=True, kw_only=True, eq=False)
class AdapterScales(Result):
    """Scale of every block with an AdaptFormer, for one arm or several with one or more training seeds each."""

    diagnostic: ClassVar[str] = "adapter_scales"
    views: ClassVar[tuple[str, ...]] = ("scale", "strength")

    arms: tuple[str, ...]
    blocks: dict[str, np.ndarray]  # arm -> (L,) int64, 1: the block next to the image
    scales: dict[str, np.ndarray]  # arm -> (S, L) float64 s, one row per seed
    strengths: dict[str, np.ndarray]  # arm -> (S, L) float64 |s| times the Frobenius norm of the up-projection

    def __str__(self) -> str:
        lines = ["learned scale s of AdaptFormer by block, 1 before training"]
        for arm in self.arms:
            seeds, blocks = self.scales[arm], self.blocks[arm]
            cells = "  ".join(f"{block}: {value:+.2f}" for block, value in zip(blocks, seeds.mean(axis=0), strict=True))
            lines.append(f"{arm} ({_seeds(len(seeds))})  {cells}")
        lines.append("s is not identified alone: s W is what acts; see strength")
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """One row per arm, seed (0, 1, ... as given) and block."""
        import pandas as pd

        return pd.DataFrame(
            [
                {"arm": arm, "seed": seed, "block": block, "scale": scale, "strength": strength}
                for arm in self.arms
                for seed, (scales, strengths) in enumerate(zip(self.scales[arm], self.strengths[arm], strict=True))
                for block, scale, strength in zip(self.blocks[arm], scales, strengths, strict=True)
            ]
        )

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        values = self.scales if view == "scale" else self.strengths
        several = len(self.arms) > 1
        for number, arm in enumerate(self.arms):
            look = {"color": METHOD_COLOURS[number % 10], "marker": _MARKERS[number % 5]}
            seeds = values[arm]
            label = f"{plain(arm, 34)}\n({_seeds(len(seeds))})"
            ax.plot(self.blocks[arm], seeds.mean(axis=0), **({"label": label} | look | artist_kw))
            if len(seeds) > 1:
                place = self.blocks[arm] + (0.12 * (number - (len(self.arms) - 1) / 2) if several else 0)
                ax.vlines(place, seeds.min(axis=0), seeds.max(axis=0), color=look["color"], linewidth=0.9, alpha=0.7)
        if view == "scale":
            ax.axhline(1, color=INK, linewidth=0.8, linestyle=":", label="before training")
            low, high = ax.get_ylim()
            ax.set_ylim(min(low, 0.9), max(high, 1.1))  # a short training moves s by thousandths
            ax.set_ylabel("scale s")
            caption_below(ax, "s acts only as a factor of the up-projection W: for its strength see |s| · ‖W‖")
        else:
            ax.set_ylim(bottom=0)
            ax.set_ylabel("strength |s| · ‖W‖")
            caption_below(ax, "W: up-projection, Frobenius norm; 0 before training")
        ax.set_xlabel("block, 1: next to the image")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=13))
        ranges = any(len(seeds) > 1 for seeds in values.values())
        legend_beside(ax, title="mean; bars: smallest to largest" if ranges else None)
        dress(ax)


def adapter_scales(methods: Trained | Sequence[Trained] | Mapping[str, Trained | Sequence[Trained]]) -> AdapterScales:
    """Learned scales of the AdaptFormer of each block.

    Args:
        methods: a trained method or its run; several, one per training seed; or several arms of these by name.

    Raises:
        ValueError: a method without AdaptFormer, or seeds of one arm with adapters in different blocks.
    """
    from workbench.methods import Method
    from workbench.runs import Run

    given = methods if isinstance(methods, Mapping) else {"": methods}
    blocks, scales, strengths = {}, {}, {}
    sources: list[dict[str, Any]] = []
    for name, several in given.items():
        seeds = [several] if isinstance(several, Method | Run) else list(several)
        if not seeds:
            raise ValueError(f"no method was given for {name!r}; give one per training seed.")
        built = [one.method() if isinstance(one, Run) else one for one in seeds]
        found = [_adapters(method) for method in built]
        sources += [method_source(one) for one in seeds]
        arm = str(name) or built[0].name
        if any(list(one) != list(found[0]) for one in found):
            raise ValueError(f"the seeds of {arm!r} have adapters in different blocks; give them as arms, by name.")
        blocks[arm] = np.array(list(found[0])) + 1
        scales[arm] = np.array([[adapter.scale.item() for adapter in one.values()] for one in found])
        norms = [[adapter.up_proj.weight.norm().item() for adapter in one.values()] for one in found]
        strengths[arm] = np.abs(scales[arm]) * np.array(norms)
    if not given:
        raise ValueError("nothing was given; adapter_scales takes a method or a run.")
    return AdapterScales(
        arguments={"seeds": {arm: len(seeds) for arm, seeds in scales.items()}},
        sources=tuple(sources),
        arms=tuple(scales),
        blocks=blocks,
        scales=scales,
        strengths=strengths,
    )


def _adapters(method: Method) -> dict[int, AdaptFormer]:
    """AdaptFormer of each block, 0: the first, by the last number in the module's name ("adapters.adaptformer.11")."""
    from workbench.adapters.residual import AdaptFormer

    found: dict[int, AdaptFormer] = {}
    for name, module in method.named_modules():
        if isinstance(module, AdaptFormer):
            numbers = re.findall(r"\d+", name)
            found[int(numbers[-1]) if numbers else len(found)] = module
    if not found:
        raise ValueError(
            f"this {method.name} has no AdaptFormer, and so no learned scale; make one with tuner='adaptformer'."
        )
    return {block: found[block] for block in sorted(found)}


def _seeds(number: int) -> str:
    return "1 seed" if number == 1 else f"{number} seeds"
