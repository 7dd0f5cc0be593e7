"""What would HLC decide if a description were silenced, weighed otherwise or reworded?

"Hierarchical Long-tailed Classification with Visual Language Models", anonymous submission, figure 1c: its decisions
can be explained by their descriptions. Here they are changed, and the candidates ranked again by the method's own
arithmetic (`reranking`), at the price of the images that have the class among their candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.heads import adjust_logits

from . import reranking
from .base import Encoded, Method
from .hlc import HLC

CHUNK = 1024  # images classified at once


@dataclass
class _Edit:
    """What differs in one class; M descriptions."""

    factors: Tensor  # (M,) > 0, of the weights
    used: Tensor  # (M,) bool
    vectors: dict[int, Tensor] = field(default_factory=dict)  # number of a reworded description -> (E,) unit


class EditedDescriptions:
    """Decisions for N images under edits of descriptions; the method itself stays as it is.

    A silenced description is as if it had never been written: the others of its class share the weight. A factor
    multiplies a weight before the weights of a class are made to sum to 1 (weighting="raw": they are not made to).

    Attributes:
        candidates: (N, K) int64, best coarse class first. No edit changes them.
        scores: (N, K) float32 of the candidates, scaled; the largest decides.
        first: (N,) int64, decisions without edits.

    Args:
        method: a trained HLC.
        vectors: (N, E) float32, what its head saw: `features.vectors`.
        step: called with images done and all of them as the first pass goes on.

    Raises:
        ValueError: a method without weighted descriptions, or vectors that its head does not take.
    """

    def __init__(self, method: Method, vectors: Tensor, step: Callable[[int, int], None] | None = None) -> None:
        if not isinstance(method, HLC):
            raise ValueError(
                f"{method.name} has no weighted descriptions to look into; give a method that re-ranks by them: hlc."
            )
        if vectors.ndim != 2 or vectors.shape[1] != method.joint_width:
            raise ValueError(
                f"vectors have shape {tuple(vectors.shape)}; this hlc takes (N, {method.joint_width}), the joint "
                "space. Extract features with this method and the default layer, 'head'."
            )
        self.method = method.eval()
        self._unit = F.normalize(vectors, dim=-1)  # (N, E)
        self._vectors = vectors
        found, matches = [], []
        with torch.no_grad():
            for start in range(0, len(vectors), CHUNK):
                extras = method.classify(self._encoded(slice(start, start + CHUNK))).extras
                found.append(extras["candidates"].cpu())
                matches.append(extras["description_match"].nan_to_num(0.0).float().cpu())
                if step is not None:
                    step(min(start + CHUNK, len(vectors)), len(vectors))
            self.candidates = torch.cat(found)
            self._matches = torch.cat(matches)  # (N, K, M) cosines, reworded ones included
            weights = method.description_weights.float().cpu()
            places = self.candidates.unbind(1)
            self.scores = self._scale * torch.stack(
                [(self._matches[:, k] * weights[place]).sum(1) for k, place in enumerate(places)], 1
            )
        self._edits: dict[int, _Edit] = {}
        self.first = self.decisions

    @property
    def _scale(self) -> float:
        return float(self.method.head.scale)

    def _encoded(self, rows: slice) -> Encoded:
        return Encoded(self._vectors[rows].to(self.method.device))

    # -- edits -------------------------------------------------------------------------------------------------------

    def silence(self, c: int, number: int, silent: bool = True) -> None:
        """Leave a description out, or take it back in; ValueError for the last one of its class."""
        edit = self._edit(c, number)
        if silent and not (edit.used & (torch.arange(len(edit.used)) != number)).any():
            raise ValueError(f"{self.method.classes.names[c]!r} keeps at least one description; silence another one.")
        edit.used[number] = not silent
        self._rescore(c)

    def weigh(self, c: int, number: int, factor: float) -> None:
        """Multiply the trained weight of a description; 1 takes that back."""
        if not 0 < factor < float("inf"):
            raise ValueError(f"factor={factor} must be positive; to leave a description out, silence it.")
        self._edit(c, number).factors[number] = factor
        self._rescore(c)

    def reword(self, c: int, number: int, vector: Tensor | None) -> None:
        """Another sentence in the place of a description: its (E,) vector; None takes that back."""
        edit = self._edit(c, number)
        if vector is None:
            edit.vectors.pop(number, None)
        else:
            edit.vectors[number] = F.normalize(vector.detach().float().cpu(), dim=-1)
        self._rematch(c, number)
        self._rescore(c)

    def undo(self) -> None:
        """Take all edits back."""
        edits, self._edits = self._edits, {}
        for c, edit in edits.items():
            for number in edit.vectors:
                self._rematch(c, number)
            self._rescore(c)

    @property
    def edited(self) -> list[int]:
        """Classes whose weights or sentences differ from the trained ones."""
        described = self.method.described.cpu()
        return [
            c
            for c, edit in self._edits.items()
            if edit.vectors or (edit.factors != 1).any() or not torch.equal(edit.used, described[c])
        ]

    def _edit(self, c: int, number: int) -> _Edit:
        described = self.method.described[c].cpu()
        if not 0 <= number < len(described) or not described[number]:
            raise ValueError(
                f"{self.method.classes.names[c]!r} has descriptions 0 to {int(described.sum()) - 1}, not {number}."
            )
        if c not in self._edits:
            self._edits[c] = _Edit(torch.ones(len(described)), described.clone())
        return self._edits[c]

    # -- what follows ------------------------------------------------------------------------------------------------

    def weights(self, c: int) -> Tensor:
        """(M,) float32, as they are used: 0 for a description that is silenced or not there."""
        importance = self.method.importance[c].detach().float().cpu()
        edit = self._edits.get(c) or _Edit(torch.ones(len(importance)), self.method.described[c].cpu())
        how = self.method.config.weighting
        if how == "raw":
            return reranking.description_weights(importance * edit.factors, edit.used, how)
        logits = edit.factors.log() + (importance if how == "softmax" else 0.0)
        return reranking.description_weights(logits[None], edit.used[None], "softmax")[0]

    def matches(self, row: int) -> Tensor:
        """(K, M) cosines of an image with the descriptions of its candidates; nan where there is none."""
        return self._matches[row].masked_fill(~self.method.described.cpu()[self.candidates[row]], torch.nan)

    @property
    def decisions(self) -> Tensor:
        """(N,) int64 classes."""
        return self.candidates.gather(1, self.scores.argmax(1, keepdim=True))[:, 0]

    @torch.no_grad()
    def probabilities(self, row: int) -> tuple[Tensor, Tensor]:
        """Of one image, (C,) each: of the coarse classifier, and after re-ranking with the edits."""
        coarse = self.method.head(self._encoded(slice(row, row + 1)).features)[0].cpu()
        coarse = adjust_logits(coarse, self.method.classes.counts, tau=self.method.config.tau)
        ranked = reranking.reranked(coarse, self.candidates[row : row + 1], self.scores[row : row + 1])
        return coarse[0].softmax(0), ranked[0].exp()

    def _places(self, c: int) -> tuple[Tensor, Tensor]:
        rows, places = (self.candidates == c).nonzero(as_tuple=True)
        return rows, places

    def _rescore(self, c: int) -> None:
        rows, places = self._places(c)
        self.scores[rows, places] = self._scale * (self._matches[rows, places] @ self.weights(c))

    def _rematch(self, c: int, number: int) -> None:
        vector = self._edits[c].vectors.get(number) if c in self._edits else None
        vector = self.method.descriptions[c, number].float().cpu() if vector is None else vector
        rows, places = self._places(c)
        same = torch.zeros(len(rows), 1, dtype=torch.int64)
        found = reranking.description_matches(self._unit[rows], vector[None, None], same)  # (R, 1, 1)
        self._matches[rows, places, number] = found[:, 0, 0]
