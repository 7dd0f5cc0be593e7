"""What can still be changed when a model is trained: decisions and confidences from cached logits, many times a second.

Logit adjustment to another prior (Menon et al., ICLR 2021, arXiv 2007.07314; Hong et al., CVPR 2021, arXiv 2012.00321),
tau-normalisation of a linear head (Kang et al., ICLR 2020, arXiv 1910.09217) and a temperature (Guo et al., ICML 2017,
arXiv 1706.04599), which changes confidences alone. The arithmetic of the first two is that of `workbench.heads`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.heads import LinearHead, adjust_logits, tau_normalise

from .container import Features

if TYPE_CHECKING:
    from workbench.heads import Head

TOLERANCE = 0.02  # of the largest logit: what half precision and another order of summation leave
CHUNK = 50_000  # logits decided at once: they and what is made of them stay in a processor's cache


class PostHoc:
    """Logits of features, in single precision and ready to be adjusted.

    Args:
        features: with logits.
        head: the classifier that made them, for tau-normalisation; None does without.

    Attributes:
        logits: (N, C) float32, as the model gave them (rounded to half precision in the features).
        decisions: (N,) int64, their largest. Ties of the rounding apart it is `features.predicted`.
        no_normalisation: why tau-normalisation is not possible, empty where it is.

    Raises:
        ValueError: features without logits.
    """

    def __init__(self, features: Features, head: Head | None = None) -> None:
        if features.logits is None:
            raise ValueError(
                "these features hold no logits: there were too many to keep, or the model knows other classes than the "
                "data set. Extract fewer images (per_class=), or with a run on these classes."
            )
        self.features = features
        self.logits = features.logits.astype(np.float32)
        self.decisions = self.logits.argmax(1)
        self._weight = np.empty(0)
        self._products = np.empty(0)  # (N, C) vectors times weight, without the bias
        self.no_normalisation = self._prepare(head)

    def _prepare(self, head: Head | None) -> str:
        if head is None:
            return "tau-normalisation needs the weight of the head: pass the trained method."
        if not isinstance(head, LinearHead):
            return f"the rows of a {type(head).__name__} count with unit length, so tau-normalisation changes nothing."
        weight, bias = (part.detach().cpu().float().numpy() for part in (head.weight, head.bias))
        if weight.shape != (self.logits.shape[1], self.features.vectors.shape[1]):
            return f"the head is {weight.shape} and the features are {self.features.vectors.shape}: it is another head."
        products = self.features.vectors @ weight.T
        if np.abs(products + bias - self.logits).max() > TOLERANCE * np.abs(self.logits).max():
            return (
                "the head does not give these logits from these vectors: other weights, another layer, or many views."
            )
        self._weight, self._products = weight, products
        return ""

    def adjusted(
        self,
        *,
        tau: float = 0.0,
        prior: np.ndarray | Sequence[float] | None = None,
        target_prior: np.ndarray | Sequence[float] | None = None,
        normalise: float = 0.0,
    ) -> np.ndarray:
        """Logits (N, C) float32 for other test classes: w_k / |w_k|^normalise, then + tau (ln target - ln prior).

        Args:
            tau: strength of the change of prior; 0 leaves it.
            prior: (C,) that the logits reflect, as counts from 1 on; None: the training counts.
            target_prior: (C,) of the classes to come; None is uniform.
            normalise: exponent of tau-normalisation, which leaves the bias out; 0 keeps the logits, bias and all.

        Raises:
            ValueError: priors that `adjust_logits` refuses; normalise without a head that can be normalised.
        """
        scale, shift = self._changes(tau, prior, target_prior, normalise)
        logits = self.logits if scale is None else self._products * scale
        return logits if shift is None else logits + shift

    def decided(
        self,
        *,
        tau: float = 0.0,
        prior: np.ndarray | Sequence[float] | None = None,
        target_prior: np.ndarray | Sequence[float] | None = None,
        normalise: float = 0.0,
        temperature: float = 1.0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Decisions (N,) int64 by the logits of `adjusted`, and their `confidence` (N,) float32.

        The same numbers as of all logits at once, and sooner: what is made of a part stays in the cache.
        """
        _check(temperature)
        scale, shift = self._changes(tau, prior, target_prior, normalise)
        source = self.logits if scale is None else self._products
        decisions, sure = np.empty(len(source), dtype=np.int64), np.empty(len(source), dtype=np.float32)
        step = max(1, CHUNK // source.shape[1])
        for start in range(0, len(source), step):
            rows = slice(start, start + step)
            logits = source[rows] if scale is None else source[rows] * scale
            logits = logits if shift is None else logits + shift
            logits.argmax(1, out=decisions[rows])
            top = np.take_along_axis(logits, decisions[rows, None], axis=1)
            sure[rows] = _confidence(logits, top, temperature)
        return decisions, sure

    def _changes(
        self,
        tau: float,
        prior: np.ndarray | Sequence[float] | None,
        target_prior: np.ndarray | Sequence[float] | None,
        normalise: float,
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Factors (C,) of the products and what is added (C,), float32; None where nothing changes."""
        scale = shift = None
        if normalise:
            if self.no_normalisation:
                raise ValueError(self.no_normalisation)
            # rows only change their length, so products need not be formed again
            lengths, scaled = (
                np.linalg.norm(w, axis=1) for w in (self._weight, tau_normalise(self._weight, normalise))
            )
            scale = (scaled / np.where(lengths > 0, lengths, 1)).astype(np.float32)
        if tau:
            counts = self.features.classes.counts if prior is None else np.asarray(prior)
            nothing = np.zeros(self.logits.shape[1], dtype=np.float32)
            shift = adjust_logits(nothing, counts, tau=tau, target_prior=target_prior)
        return scale, shift


def confidence(logits: np.ndarray, *, temperature: float = 1.0) -> np.ndarray:
    """Probability of the decision: the largest of softmax(logits / temperature), (N, C) float32 -> (N,) float32."""
    _check(temperature)
    return _confidence(logits, logits.max(1, keepdims=True), temperature)


def _check(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} must be positive; below 1 sharpens, above 1 softens.")


def _confidence(logits: np.ndarray, top: np.ndarray, temperature: float) -> np.ndarray:
    """top: (N, 1), the largest logits."""
    shares = logits - top
    if temperature != 1:
        shares *= np.float32(1 / temperature)
    np.exp(shares, out=shares)
    return 1 / shares.sum(1)
