"""Three classes in the plane, many-, medium- and few-shot: small enough to see what a loss does to decision regions.

Each class is a round cloud of the same width, so that the best regions are known: on test data with as many images of
each class, every point belongs to the nearest centre. A long-tailed training set moves the borders towards the rare
classes (Menon et al., ICLR 2021, arXiv 2007.07314, sec. 3). A head sees (x, y, 1): with the third entry a cosine
head, too, can put its borders anywhere, and borders of all heads here are straight lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F

from workbench.heads import CosineHead, Head, LinearHead, NormalisedLinear
from workbench.metrics import GROUPS, Interval, class_intervals

CENTRES = ((-1.3, -0.6), (1.3, -0.6), (0.0, 1.4))  # of the many-, medium- and few-shot class
EXTENT = (-4.0, 4.0, -3.5, 4.0)  # x from, x to, y from, y to: what is looked at


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """Training and test points of three classes, 0 many-, 1 medium- and 2 few-shot."""

    points: np.ndarray  # (N, 2) float32
    labels: np.ndarray  # (N,) int64
    test_points: np.ndarray  # (M, 2) float32, equally many of each class
    test_labels: np.ndarray  # (M,) int64

    @property
    def counts(self) -> np.ndarray:
        """(3,) training points of each class."""
        return np.bincount(self.labels, minlength=len(GROUPS))

    @property
    def vectors(self) -> np.ndarray:
        """(N, 3) float32: what a head is trained on."""
        return lifted(self.points)

    @property
    def group_of(self) -> np.ndarray:
        """(N,) str: group of each training point."""
        return np.array(GROUPS)[self.labels]

    def accuracy(self, rows: np.ndarray) -> dict[str, Interval]:
        """Accuracy of borders (3, 3) on the test points of each group, which is one class: an interval over points."""
        predicted = decided(self.test_points, rows)
        low, high = class_intervals(predicted, self.test_labels, len(GROUPS))
        return {
            group: Interval(
                estimate=float((predicted[self.test_labels == k] == k).mean()),
                low=float(low[k]),
                high=float(high[k]),
                level=0.95,
                n=int((self.test_labels == k).sum()),
                unit="points",
                method="Wilson over points: a group is one class",
                estimand="share of new points of this class that are right, for these borders",
                too_small=False,
            )
            for k, group in enumerate(GROUPS)
        }


def three_clouds(
    counts: Sequence[int] = (200, 40, 8), *, spread: float = 0.9, test_per_class: int = 1000, seed: int = 0
) -> Plane:
    """Points drawn around `CENTRES`; counts: training points of each class; spread: standard deviation of a cloud.

    The test points do not depend on `counts`.
    """
    if len(counts) != len(CENTRES) or min(counts) < 1 or test_per_class < 1 or spread <= 0:
        raise ValueError(
            f"counts={tuple(counts)}, test_per_class={test_per_class}, spread={spread}: give three counts from 1 on, "
            "at least one test point per class and a positive spread."
        )
    test, train = np.random.default_rng(seed).spawn(2)
    drawn = {}
    for name, generator, sizes in (("test", test, [test_per_class] * 3), ("train", train, counts)):
        labels = np.repeat(np.arange(len(CENTRES)), sizes)
        points = np.array(CENTRES)[labels] + spread * generator.normal(size=(len(labels), 2))
        drawn[name] = points.astype(np.float32), labels
    return Plane(
        points=drawn["train"][0], labels=drawn["train"][1], test_points=drawn["test"][0], test_labels=drawn["test"][1]
    )


def lifted(points: np.ndarray) -> np.ndarray:
    """(n, 2) points as features (n, 3) float32: x, y and 1."""
    return np.column_stack([points, np.ones(len(points))]).astype(np.float32)


def borders(head: Head) -> np.ndarray:
    """(C, 3) float64 rows r of a head of width 3: a point belongs to the class with the largest r · (x, y, 1).

    For a cosine head this is the order of its logits, not the logits: the length of (x, y, 1) is left out.
    """
    weight = head.weight.detach()
    if head.width != 3 or not isinstance(head, LinearHead | NormalisedLinear | CosineHead):
        raise ValueError(
            f"{type(head).__name__} of width {head.width} has no straight borders in the plane; train a linear, "
            "l2_normalised or cosine head on the plane's vectors."
        )
    if isinstance(head, LinearHead):
        rows = weight.double().numpy().copy()
        rows[:, 2] += head.bias.detach().double().numpy()
        return rows
    return F.normalize(weight.double(), dim=1).numpy()


def best_borders() -> np.ndarray:
    """(3, 3) float64 rows as `borders` has: the nearest of `CENTRES`, best for equally many test points per class."""
    centres = np.array(CENTRES)
    return np.column_stack([centres, -(centres**2).sum(1) / 2])


def decided(points: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Class of each point: (n, 2), (C, 3) -> (n,) int64."""
    return np.asarray((lifted(points).astype(np.float64) @ rows.T).argmax(1))


def regions(rows: np.ndarray, extent: tuple[float, float, float, float] = EXTENT) -> list[np.ndarray]:
    """The region of each class in the extent, a convex polygon: (C, 3) -> C arrays (v, 2), v = 0 where it has none.

    Each is the rectangle, cut by the border with every other class in turn (Sutherland and Hodgman, CACM 1974).
    """
    x0, x1, y0, y1 = extent
    found = []
    for k in range(len(rows)):
        polygon = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
        for other in np.delete(rows, k, axis=0):
            polygon = _cut(polygon, rows[k] - other)
        found.append(polygon)
    return found


def border_lines(rows: np.ndarray, extent: tuple[float, float, float, float] = EXTENT) -> list[np.ndarray]:
    """The lines between regions, each once: arrays (2, 2), from point to point."""
    lines = []
    for k, polygon in enumerate(regions(rows, extent)):
        for i, point in enumerate(polygon):
            edge = np.array([polygon[i - 1], point])
            scores = rows @ np.append(edge.mean(axis=0), 1.0)
            other = int(np.argmax(np.where(np.arange(len(rows)) == k, -np.inf, scores)))
            if k < other and np.isclose(scores[k], scores[other], rtol=0, atol=1e-9 * np.abs(rows).max()):
                lines.append(edge)
    return lines


def _cut(polygon: np.ndarray, row: np.ndarray) -> np.ndarray:
    """The part of a convex polygon (v, 2) where row · (x, y, 1) is not negative."""
    side = polygon @ row[:2] + row[2]
    kept: list[np.ndarray] = []
    for i, point in enumerate(polygon):
        before, here = side[i - 1], side[i]
        if (before < 0) != (here < 0):  # the edge from the corner before crosses the border
            kept.append(polygon[i - 1] + before / (before - here) * (point - polygon[i - 1]))
        if here >= 0:
            kept.append(point)
    return np.array(kept).reshape(-1, 2)
