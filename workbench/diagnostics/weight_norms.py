"""Does the classifier favour frequent classes by the length of their weights? Norms of its rows by class frequency.

Source: Shi et al., "Long-Tail Learning with Foundation Model: Heavy Fine-Tuning Hurts" (LIFT), ICML 2024, arXiv
2309.10019, figure 13: norms of the rows of the linear classifier after training, classes by falling training count, the
bias left out. First seen by Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR
2020, arXiv 1910.09217. A cosine or L2-normalised classifier divides its rows by their norms, so there they say nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy import stats

from .base import GROUP_ORDER, Result, caption_below, legend_beside, method_source, scatter_by_frequency

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.methods import Method
    from workbench.runs import Run


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightNorms(Result):
    """Euclidean norm of the classifier row of each class."""

    diagnostic: ClassVar[str] = "weight_norms"

    method: str
    head: str  # class of the classifier
    acts: bool  # whether the logits depend on the norms
    norms: np.ndarray  # (C,) float64 ||w_k||
    means: dict[str, tuple[float, int]]  # group -> mean norm (nan without classes), classes
    correlation: float  # Spearman's, of norm and training images; nan where either is the same for all classes
    names: tuple[str, ...]
    counts: np.ndarray  # (C,) training images
    groups: np.ndarray  # (C,) "many" | "medium" | "few"
    rule: str

    def caption(self) -> str:
        found = "n/a" if math.isnan(self.correlation) else f"{self.correlation:+.2f}"
        text = f"{self.head}, Spearman correlation with training images {found}"
        return (
            text
            if self.acts
            else f"{text}\nthis classifier divides rows by their norms: the logits do not depend on them"
        )

    def __str__(self) -> str:
        cells = "  ".join(
            f"{g} {m:.3f} ({n} classes)" if n else f"{g} n/a (0 classes)" for g, (m, n) in self.means.items()
        )
        return f"norms of the classifier rows of {self.method}: {cells}; groups: {self.rule}\n{self.caption()}"

    def to_frame(self) -> pd.DataFrame:
        """Rows of kind "group" (mean over classes) and "class"."""
        import pandas as pd

        rows: list[dict[str, Any]] = [
            {"kind": "group", "group": group, "classes": n, "norm": mean} for group, (mean, n) in self.means.items()
        ]
        rows += [
            {
                "kind": "class",
                "group": self.groups[c],
                "class": c,
                "name": self.names[c],
                "train_images": self.counts[c],
                "norm": self.norms[c],
            }
            for c in range(len(self.names))
        ]
        return pd.DataFrame(rows).astype(dict.fromkeys(("classes", "class", "train_images"), "Int64"))

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        labels = {g: f"{g} {mean:.2f} (n = {n})" for g, (mean, n) in self.means.items()}
        bands = {group: (mean,) for group, (mean, _) in self.means.items()}
        scatter_by_frequency(ax, self.norms, self.counts, self.groups, labels=labels, bands=bands, **artist_kw)
        ax.set_ylim(0, 1.08 * self.norms.max() or 1)
        ax.set_ylabel("norm of the classifier row, ‖w‖")
        legend_beside(ax, title="mean (n classes)")
        caption_below(ax, self.caption())


def weight_norms(method: Method | Run) -> WeightNorms:
    """Norms of the classifier rows of a trained method, or of the method of a run.

    Raises:
        ValueError: a method whose head has no row of weights per class.
    """
    from workbench.heads import CosineHead, NormalisedLinear
    from workbench.runs import Run

    built = method.method() if isinstance(method, Run) else method
    head = getattr(built, "head", None)
    weight = getattr(head, "weight", None)
    classes = built.classes
    if weight is None or weight.ndim != 2 or len(weight) != len(classes):
        raise ValueError(
            f"{built.name} has no classifier with a row of weights for each class (its head: {type(head).__name__})."
        )
    norms = weight.detach().double().norm(dim=1).cpu().numpy()
    norms.setflags(write=False)
    counts, groups = np.asarray(classes.counts), np.asarray(classes.groups)
    flat = len(norms) < 2 or np.ptp(counts) == 0 or np.ptp(norms) <= 1e-6 * norms.max()
    inside = {group: norms[groups == group] for group in GROUP_ORDER}
    return WeightNorms(
        arguments={"method": built.name, "options": built.options},
        sources=(method_source(method),),
        method=built.name,
        head=type(built.head).__name__,
        acts=not isinstance(built.head, CosineHead | NormalisedLinear),
        norms=norms,
        means={group: (float(part.mean()) if len(part) else math.nan, len(part)) for group, part in inside.items()},
        correlation=math.nan if flat else float(stats.spearmanr(norms, counts).statistic),
        names=tuple(classes.names),
        counts=counts,
        groups=groups,
        rule=str(classes.rule),
    )
