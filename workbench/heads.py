"""Classifier heads (linear, L2-normalised, cosine), what they are initialised from, and post-hoc changes of logits.

Shapes throughout: features (B, D) float, what the backbone hands over, not normalised; weight (C, D), one row per
class; logits (B, C), what softmax is applied to; cosine (B, C) in [-1, 1], not scaled. A head returns (logits, cosine),
cosine None where it has none; losses with margins on cosines (LDAM, GCL) need `has_cosine`.

Checked against the executed heads of LIFT (shijxcs/LIFT @ 661ead9, models/classifiers.py), LPT and GNM-PT.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from typing import ClassVar, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

logger = logging.getLogger(__name__)

Array = TypeVar("Array", np.ndarray, Tensor)


class Head(nn.Module):
    """What the heads share: `weight` (C, D) with random unit rows, sizes that are checked, initialisation by rows.

    The rows are drawn uniformly from [-1, 1]^D and divided by their norm, as in LIFT and LPT.
    """

    has_cosine: ClassVar[bool] = False

    def __init__(self, width: int, num_classes: int, *, generator: torch.Generator) -> None:
        super().__init__()
        if width < 1 or num_classes < 1:
            raise ValueError(f"A head needs width and num_classes of at least 1, given {width} and {num_classes}.")
        rows = torch.empty(num_classes, width).uniform_(-1.0, 1.0, generator=generator)
        self.weight = nn.Parameter(F.normalize(rows, dim=1))  # (C, D)

    @property
    def width(self) -> int:
        return self.weight.shape[1]

    @property
    def num_classes(self) -> int:
        return self.weight.shape[0]

    @torch.no_grad()
    def initialise(self, weight: np.ndarray | Tensor, *, normalise: bool = True) -> None:
        """Copy class vectors (text features, class means, a linear probe) into the rows; a bias becomes 0.

        Args:
            weight: (C, D) float.
            normalise: divide each row by its norm, as LIFT does for every head. Without it the cosine and
                L2-normalised heads compute the same, only weight decay acts differently.
        """
        rows = torch.as_tensor(weight)
        if tuple(rows.shape) != tuple(self.weight.shape):
            raise ValueError(
                f"Weights of shape {tuple(rows.shape)} do not fit this head of (classes, width) "
                f"{tuple(self.weight.shape)}; make both for the same data set and backbone."
            )
        rows = rows.to(self.weight)
        self.weight.copy_(F.normalize(rows, dim=1) if normalise else rows)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, D) -> logits (B, C), cosine (B, C) or None."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"width={self.width}, num_classes={self.num_classes}"

    def _check(self, features: Tensor) -> None:
        if features.shape[-1] != self.width:
            raise ValueError(
                f"Features of width {features.shape[-1]} do not fit this head of width {self.width}; "
                "make the head with the width of the backbone."
            )


class LinearHead(Head):
    """x W^T + b. The bias starts at 0."""

    def __init__(self, width: int, num_classes: int, *, generator: torch.Generator) -> None:
        super().__init__(width, num_classes, generator=generator)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    @torch.no_grad()
    def draw_uniform(self, *, generator: torch.Generator) -> None:
        """Rows uniform in +-1/sqrt(D), as torch's own linear layer: a plain classifier without LIFT's unit rows."""
        bound = self.width**-0.5
        self.weight.uniform_(-bound, bound, generator=generator)

    @torch.no_grad()
    def initialise(self, weight: np.ndarray | Tensor, *, normalise: bool = True) -> None:
        super().initialise(weight, normalise=normalise)
        self.bias.zero_()

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        self._check(features)
        return F.linear(features, self.weight, self.bias), None


class NormalisedLinear(Head):
    """x · w/|w|: rows of unit length, features as they are, no bias ("L2-normalised" in LIFT). Not a cosine."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        self._check(features)
        return F.linear(features, F.normalize(self.weight, dim=1)), None


class LayerNormalised(Head):
    """LN(x) · w/|w|: as "l2_normalised", on features with mean 0 and variance 1 each, no affine part (LIFT's code)."""

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        self._check(features)
        return F.linear(F.layer_norm(features, (self.width,), eps=1e-12), F.normalize(self.weight, dim=1)), None


class CosineHead(Head):
    """s · cos(x, w). LIFT: s 25. LPT and GNM-PT write s into the loss (20, 25), here it is always the head's.

    A feature of length 0 has cosine 0 with every class, and a gradient that is huge but finite.
    """

    has_cosine: ClassVar[bool] = True

    def __init__(self, width: int, num_classes: int, *, scale: float = 25.0, generator: torch.Generator) -> None:
        super().__init__(width, num_classes, generator=generator)
        if not 0.0 < scale < math.inf:
            raise ValueError(f"scale={scale} must be positive and finite; LIFT uses 25, LPT 20, CLIP 100.")
        self.scale = float(scale)  # s, not trained

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        self._check(features)
        cosine = F.linear(F.normalize(features, dim=-1), F.normalize(self.weight, dim=1))
        return self.scale * cosine, cosine

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale:g}"


HEADS: dict[str, type[Head]] = {
    "linear": LinearHead,
    "l2_normalised": NormalisedLinear,
    "layer_normalised": LayerNormalised,
    "cosine": CosineHead,
}


def create_head(name: str, width: int, num_classes: int, *, scale: float = 25.0, generator: torch.Generator) -> Head:
    """The head called `name` in HEADS. `scale` is that of the cosine head; the others have none and ignore it."""
    if name not in HEADS:
        raise ValueError(f"head={name!r} is not known; choose one of {', '.join(HEADS)}.")
    if name == "cosine":
        return CosineHead(width, num_classes, scale=scale, generator=generator)
    return HEADS[name](width, num_classes, generator=generator)


def class_means(features: np.ndarray | Tensor, labels: np.ndarray | Tensor, num_classes: int) -> Tensor:
    """Mean feature of each class: (N, D), (N,) int64 -> (C, D), not normalised. LIFT's "class_mean" initialisation."""
    vectors, targets = _labelled(features, labels, num_classes)
    sums = torch.zeros(num_classes, vectors.shape[1], dtype=torch.float64, device=vectors.device)
    sums.index_add_(0, targets, vectors.double())  # float64: a class may have thousands of images
    means = sums / torch.bincount(targets, minlength=num_classes)[:, None]
    return means.to(vectors.dtype)


def linear_probe(
    features: np.ndarray | Tensor, labels: np.ndarray | Tensor, num_classes: int, *, logit_adjusted: bool = False
) -> Tensor:
    """Coefficients of a logistic regression: (N, D), (N,) int64 -> (C, D) float32, intercepts dropped.

    LIFT's "linear_probe" initialisation: scikit-learn's LogisticRegression (L2, C = 1), lbfgs, at most 100 iterations;
    stopping there before convergence is part of the recipe and only logged. Two classes give the rows -w/2 and w/2.

    Args:
        logit_adjusted: False: classes weighted by 1 / n_k, as in LIFT's code ("re-weighted" in its Table 7). True: no
            weights and no intercept, but ln pi added to the logits, with the same penalty, solver and iterations. That
            is our reading of Table 7's "w/ LA loss", which the code lacks; a free intercept would absorb ln pi.
    """
    vectors, targets = _labelled(features, labels, num_classes)
    if num_classes < 2:
        raise ValueError("A linear probe needs at least 2 classes, given 1; use class_means.")
    if logit_adjusted:
        return _adjusted_probe(vectors, targets, num_classes)
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    probe = LogisticRegression(solver="lbfgs", max_iter=100, class_weight="balanced")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(vectors.cpu().numpy(), targets.cpu().numpy())
    if probe.n_iter_.max() >= 100:
        logger.info("The linear probe stopped at 100 iterations, before convergence.")
    weight = probe.coef_ if num_classes > 2 else np.concatenate([-probe.coef_, probe.coef_]) / 2
    return torch.from_numpy(weight.astype(np.float32))


def _adjusted_probe(vectors: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """min sum_b CE(x W^T + ln pi) + |W|^2 / 2: scikit-learn has no offsets, so its objective is written out."""
    from scipy.optimize import minimize

    x, y = vectors.cpu().double(), targets.cpu()
    offset = torch.log(torch.bincount(y, minlength=num_classes) / len(y)).double()
    shape = (num_classes, x.shape[1])

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight = torch.from_numpy(flat).reshape(shape)
        logits = x @ weight.T + offset
        excess = logits.softmax(1) - F.one_hot(y, num_classes)
        loss = F.cross_entropy(logits, y, reduction="sum") + weight.square().sum() / 2
        return loss.item() / len(y), (excess.T @ x + weight).flatten().numpy() / len(y)  # scaled as scikit-learn's

    limits = {"maxiter": 100, "gtol": 1e-4, "ftol": 64 * np.finfo(float).eps}  # scikit-learn's
    found = minimize(objective, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options=limits)
    if not found.success:
        logger.info("The logit-adjusted linear probe stopped before convergence: %s.", found.message)
    return torch.from_numpy(found.x.reshape(shape).astype(np.float32))


def adjust_logits(
    logits: Array,
    counts: np.ndarray | Tensor | Sequence[int],
    *,
    tau: float = 1.0,
    target_prior: np.ndarray | Tensor | Sequence[float] | None = None,
) -> Array:
    """Post-hoc logit adjustment: z_k - tau ln pi_k, with pi_k = n_k / sum n; the same kind of array as given.

    Menon et al., ICLR 2021, arXiv 2007.07314. With a target prior: z_k + tau (ln target_k - ln pi_k), at tau = 1 the
    post-compensation of Hong et al., CVPR 2021, arXiv 2012.00321, Bayes' rule for calibrated logits. tau = 0 changes
    nothing, and so does a target equal to the training prior.
    The logits must be scaled: on bare cosines in [-1, 1] the prior would drown them.

    Args:
        logits: (..., C) float array or tensor; half precision comes back as float32.
        counts: (C,) training images per class, each at least 1.
        tau: strength, 0 or more.
        target_prior: (C,) shares or counts of the classes where the model will be used, scaled to sum 1. None is
            uniform. A class with target 0 gets logit -inf whatever tau is.
    """
    number = _vector(counts)
    classes = logits.shape[-1]
    if number.shape != (classes,):
        raise ValueError(f"counts has shape {number.shape}, expected ({classes},), one per class of the logits.")
    if (number < 1).any():
        empty = np.flatnonzero(number < 1)
        raise ValueError(
            f"counts is below 1 for {len(empty)} of {classes} classes (the first: {empty[:5].tolist()}); "
            "their log-prior is not defined. Adjust the logits of the other classes only."
        )
    target = np.ones(classes) if target_prior is None else _vector(target_prior)
    if target.shape != (classes,) or (target < 0).any() or not 0 < target.sum() < math.inf:
        raise ValueError(f"target_prior must be ({classes},) non-negative numbers with a positive sum; got {target}.")
    if tau < 0:
        raise ValueError(f"tau={tau} is negative; 0 leaves the logits as they are, 1 is the full adjustment.")
    # A uniform target is a constant that softmax removes; leaving it out gives the familiar z - tau ln pi.
    target = target / (1.0 if target_prior is None else target.sum())
    ratio = target / (number / number.sum())
    shift = np.full(classes, -math.inf)
    shift[ratio > 0] = tau * np.log(ratio[ratio > 0])
    if isinstance(logits, Tensor):
        full = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        return full + torch.from_numpy(shift).to(full)
    precision = np.float64 if logits.dtype == np.float64 else np.float32
    return logits.astype(precision) + shift.astype(precision)


def tau_normalise(weight: Array, tau: float) -> Array:
    """w_k / |w_k|^tau: (C, D) -> (C, D). Kang et al., ICLR 2020, arXiv 1910.09217. A row of length 0 stays 0.

    tau = 0 changes nothing, tau = 1 gives unit rows. Meant for linear heads trained without re-balancing, whose
    norms grow with the class; apply it to the weight and leave the bias out.
    """
    if isinstance(weight, Tensor):
        norms = weight.norm(dim=1, keepdim=True)  # (C, 1)
        return weight / torch.where(norms > 0, norms, 1.0).pow(tau)
    lengths = np.linalg.norm(weight, axis=1, keepdims=True)
    return weight / np.where(lengths > 0, lengths, 1.0) ** tau


def _vector(values: np.ndarray | Tensor | Sequence[float]) -> np.ndarray:
    return np.asarray(values.cpu() if isinstance(values, Tensor) else values, dtype=np.float64)


def _labelled(features: np.ndarray | Tensor, labels: np.ndarray | Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Features (N, D) and labels (N,) as tensors, with at least one image of every class."""
    vectors, given = (x if isinstance(x, Tensor) else torch.from_numpy(np.array(x)) for x in (features, labels))
    targets = given.to(vectors.device)
    if vectors.ndim != 2 or targets.shape != vectors.shape[:1]:
        raise ValueError(
            f"features {tuple(vectors.shape)} and labels {tuple(targets.shape)} do not fit; expected (N, D) and (N,)."
        )
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < num_classes:
        raise ValueError(f"labels run from {targets.min()} to {targets.max()}, outside 0..{num_classes - 1}.")
    missing = torch.nonzero(torch.bincount(targets, minlength=num_classes) == 0).flatten().tolist()
    if missing:
        raise ValueError(
            f"{len(missing)} of {num_classes} classes have no image (the first: {missing[:5]}), so there is nothing to "
            "initialise their rows from; give features of the whole training split."
        )
    return vectors, targets
