"""Which descriptions speak for which candidate class of an image, and which of them decided?

Source: "Hierarchical Long-tailed Classification with Visual Language Models" (HLC, anonymous submission), figure 1c and
equation 5: a candidate's score is the sum over its descriptions of weight times similarity, so that "examining the
similarity ranking of M descriptor matching" shows what a decision, right or wrong, rests on. The paper's equation also
divides by M, which changes no ranking; here it is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .base import INK, MUTED, TEXT_WIDTH, Result, is_narrow, plain
from .candidates import candidates_of
from .thumbnails import rows_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from workbench.data import LongTailDataset
    from workbench.features import Features

_CANDIDATES = 3  # drawn of each image
_LINE, _GAP = 0.145, 0.09  # inches: a line of text, and what separates candidates
_NAME = 30  # letters
_SMALL = 7  # points
_DECISION, _TRUE = "\N{BLACK RIGHT-POINTING TRIANGLE}", "\N{CHECK MARK}"


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """What stands where in the figure (inches), and how many letters have room there."""

    width: float
    picture: float  # width of an image's column
    numbers: float  # their right end; bars begin there
    bars: bool
    sentence: int
    name: int
    id: int
    rest: int  # of the line that says what is not drawn


_TEXT = _Columns(
    width=TEXT_WIDTH - 0.1, picture=1.0, numbers=4.55, bars=True, sentence=51, name=_NAME, id=18, rest=90
)  # fmt: skip
_COLUMN = _Columns(width=3.15, picture=0.55, numbers=3.13, bars=False, sentence=32, name=15, id=9, rest=46)


@dataclass(frozen=True, kw_only=True, eq=False)
class DescriptionMatches(Result):
    """Of B images: K candidates in falling order of the coarse logits, with M descriptions each; nan where fewer."""

    diagnostic: ClassVar[str] = "description_matches"

    ids: np.ndarray  # (B,) str
    candidates: np.ndarray  # (B, K) int64 classes
    weights: np.ndarray  # (B, K, M) float64
    similarities: np.ndarray  # (B, K, M) float64 cosines
    texts: tuple[tuple[tuple[str, ...], ...], ...]  # B x K x at most M sentences
    labels: np.ndarray  # (B,) int64 true class
    predicted: np.ndarray  # (B,) int64 decision
    pictures: tuple[np.ndarray, ...]  # B of (H, W, 3) uint8, or none at all
    top: int  # descriptions drawn of each candidate
    names: tuple[str, ...]

    @property
    def contributions(self) -> np.ndarray:
        """(B, K, M) float64: weight times similarity; nan where there is no description."""
        return self.weights * self.similarities

    @property
    def scores(self) -> np.ndarray:
        """(B, K) float64 sums of contributions; nan for a class without descriptions."""
        found = self.contributions
        return np.where(np.isfinite(found).any(2), np.nansum(found, 2), np.nan)

    @property
    def size(self) -> tuple[float, float]:  # type: ignore[override]
        """Inches."""
        return TEXT_WIDTH, self._height * len(self.ids) + 0.45

    @property
    def _height(self) -> float:
        """Inches of one image: its candidates, and a line that says which are not drawn."""
        shown = min(self.candidates.shape[1], _CANDIDATES)
        return shown * (_LINE * (1 + min(self.top, self.weights.shape[2])) + _GAP) + _LINE + 2 * _GAP

    def ranking(self, image: int) -> np.ndarray:
        """(K,) places among the candidates of an image, highest score first, classes without descriptions last."""
        return np.argsort(-self.scores[image], kind="stable")

    def drawn(self, image: int) -> list[int]:
        """Places of the candidates that the figure shows: best scores, of which the last makes room for the truth."""
        order = self.ranking(image).tolist()
        shown, rest = order[:_CANDIDATES], order[_CANDIDATES:]
        true = [place for place in rest if self.candidates[image, place] == self.labels[image]]
        return shown[: _CANDIDATES - len(true)] + true

    def __str__(self) -> str:
        lines = []
        for image, name in enumerate(self.ids):
            decided, true = (plain(self.names[c[image]], _NAME) for c in (self.predicted, self.labels))
            lines.append(f"{plain(str(name), 60)}: decided {decided}, true {true}")
            for place in self.drawn(image):
                score, candidate = self.scores[image, place], plain(self.names[self.candidates[image, place]], _NAME)
                best = [plain(self.texts[image][place][m], 80) for m in self._best(image, place)[:1]]
                lines.append(f"  {score:.4f} {candidate}, most by: {best[0] if best else 'no description'}")
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """One row per image, candidate and description; rank 1 is the description that contributes most."""
        import pandas as pd

        rows = []
        contributions, scores = self.contributions, self.scores
        for image, name in enumerate(self.ids):
            for place, candidate in enumerate(self.candidates[image]):
                given = len(self.texts[image][place])
                order = np.argsort(-contributions[image, place, :given], kind="stable")
                rows += [
                    {
                        "image": name,
                        "candidate": self.names[candidate],
                        "coarse_place": place + 1,
                        "score": scores[image, place],
                        "is_true": bool(candidate == self.labels[image]),
                        "is_decision": bool(candidate == self.predicted[image]),
                        "rank": rank,
                        "description": self.texts[image][place][m],
                        "number": int(m),
                        "weight": self.weights[image, place, m],
                        "similarity": self.similarities[image, place, m],
                        "contribution": contributions[image, place, m],
                    }
                    for rank, m in enumerate(order, start=1)
                ]
        return pd.DataFrame(rows)

    def _best(self, image: int, place: int) -> np.ndarray:
        """Numbers of the descriptions of a candidate that are shown, highest contribution first."""
        given = len(self.texts[image][place])
        return np.argsort(-self.contributions[image, place, :given], kind="stable")[: self.top]

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        # The axes' unit is the inch of the figure, so that lines of text and what they name stay beside.
        look = _COLUMN if is_narrow(ax) else _TEXT
        height = self._height * len(self.ids)
        longest = np.nanmax(np.abs(self.contributions), initial=1e-12)
        for image in range(len(self.ids)):
            top = image * self._height
            if image:
                ax.plot([0, look.width], [top - _GAP / 2] * 2, color=MUTED, linewidth=0.5)
            self._draw_image(ax, image, top + _GAP / 2, look)
            y = top + _GAP
            for place in self.drawn(image):
                y = self._draw_candidate(ax, image, place, y, look, longest, **artist_kw) + _GAP
            self._draw_rest(ax, image, y, look)
        ax.set_aspect("equal")
        ax.set(xlim=(0, look.width), ylim=(height, 0), xticks=[], yticks=[])  # after the pictures, which set limits too
        ax.spines[:].set_visible(False)
        said = f"{_DECISION} decision, {_TRUE} true class; weight \N{MULTIPLICATION SIGN} similarity"
        ax.set_xlabel(said + ", bar: their product" * look.bars, fontsize="small")

    def _draw_image(self, ax: Axes, image: int, top: float, look: _Columns) -> None:
        parts = str(self.ids[image]).split("/")
        if self.pictures:
            picture = self.pictures[image]
            H, W = picture.shape[:2]
            scale = (look.picture - 0.08) / max(H, W)
            ax.imshow(picture, extent=(0, W * scale, top + H * scale, top), aspect="auto")
            top += H * scale + 0.04
            parts = parts[-1:]
        name = "\n".join(plain(part, look.id) for part in parts[-4:])
        _write(ax, 0, top - _LINE / 2, name, color=MUTED, va="top")

    def _draw_candidate(
        self, ax: Axes, image: int, place: int, y: float, look: _Columns, longest: float, **artist_kw: Any
    ) -> float:
        candidate = self.candidates[image, place]
        decided, true = candidate == self.predicted[image], candidate == self.labels[image]
        marks = f"{_DECISION if decided else ''}{_TRUE if true else ''}"
        colour = INK if decided else MUTED
        name = f"{marks} {plain(self.names[candidate], look.name)}".strip()
        _write(ax, look.picture + 0.05, y, name, weight="bold" if marks else "normal")
        _write(ax, look.numbers, y, f"coarse place {place + 1}, score {self.scores[image, place]:.3f}", ha="right")
        for m in self._best(image, place):
            y += _LINE
            weight, similarity = self.weights[image, place, m], self.similarities[image, place, m]
            _write(ax, look.picture + 0.12, y, plain(self.texts[image][place][m], look.sentence), color=MUTED)
            _write(ax, look.numbers, y, f"{weight:.2f} \N{MULTIPLICATION SIGN} {similarity:.2f}", ha="right")
            if not look.bars:
                continue
            style: dict[str, Any] = {"height": 0.6 * _LINE, "edgecolor": colour, "linewidth": 0.6}
            style["facecolor"] = colour if similarity >= 0 else "none"
            left = look.numbers + 0.05
            length = abs(weight * similarity) * (look.width - left) / longest
            ax.barh(y + _LINE / 2, length, left=left, **(style | artist_kw))
        return y + _LINE

    def _draw_rest(self, ax: Axes, image: int, y: float, look: _Columns) -> None:
        drawn = {int(self.candidates[image, place]) for place in self.drawn(image)}
        true, decided = int(self.labels[image]), int(self.predicted[image])
        more = self.candidates.shape[1] - len(drawn)
        parts = [f"{more} more candidate{'s' if more > 1 else ''}"] if more else []
        if true not in self.candidates[image]:
            parts.append(f"true class, no candidate: {plain(self.names[true], _NAME)}")
        if decided not in drawn:
            parts.append(f"decision: {plain(self.names[decided], _NAME)}")
        _write(ax, look.picture + 0.05, y, plain("; ".join(parts), look.rest), color=MUTED, style="italic")


def description_matches(
    features: Features,
    weights: np.ndarray,
    texts: Mapping[str, Sequence[str]],
    *,
    images: LongTailDataset | None = None,
    index: Sequence[int] | None = None,
    top: int = 3,
) -> DescriptionMatches:
    """The descriptions of a few images' candidates with weight, similarity and their product.

    Args:
        features: of a method that re-ranks by descriptions: `extras["candidates"]` (N, K) int and
            `extras["description_match"]` (N, K, M) float cosines, nan where a class has fewer than M descriptions.
        weights: (C, M) float as the method uses them, 0 where there is no description.
        texts: class name -> sentences, as given to create_method; the first M are meant.
        images: the data set that holds the images under the ids of the features; None: no pictures.
        index: rows of the features; None: the first image that re-ranking set right, the first that it broke and the
            first that it left, as far as there are such.
        top: descriptions drawn of each candidate. The table has all.

    Raises:
        ValueError: features without candidates or matches, shapes that do not fit, rows, texts or images not there.
    """
    candidates = candidates_of(features)
    rows = np.asarray(_telling(features, candidates) if index is None else index)
    if (
        rows.ndim != 1
        or not len(rows)
        or rows.dtype.kind not in "iu"
        or not 0 <= rows.min() <= rows.max() < len(features)
    ):
        raise ValueError(f"index={index}: give row numbers of the {len(features)} images, 0 to {len(features) - 1}.")
    if top < 1:
        raise ValueError(f"top={top}: at least one description of each candidate is drawn.")
    matches, weights = _matches(features, candidates, weights)
    M, names = weights.shape[1], tuple(features.classes.names)
    chosen = candidates[rows]
    sentences = {int(c): tuple(map(str, texts.get(names[c], ())))[:M] for c in np.unique(chosen)}
    for candidate, known in zip(chosen.ravel(), np.isfinite(matches[rows]).reshape(-1, M), strict=True):
        given = len(sentences[int(candidate)])
        if known.sum() != given or not known[:given].all():
            raise ValueError(
                f"{names[candidate]!r} has {given} texts and {known.sum()} similarities; pass the texts that the "
                "method was created with."
            )
    return DescriptionMatches(
        arguments={"index": rows.tolist(), "top": top},
        sources=(features.source,),
        ids=features.ids[rows],
        candidates=chosen,
        weights=weights[chosen],
        similarities=matches[rows].astype(np.float64),
        texts=tuple(tuple(sentences[int(c)] for c in row) for row in chosen),
        labels=features.labels[rows],
        predicted=features.decisions[rows],
        pictures=() if images is None else _pictures(images, features.ids[rows]),
        top=top,
        names=names,
    )


def _write(ax: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Text on the line whose upper edge is at y; dollar signs stay text."""
    ax.text(x, y + _LINE / 2, text, **({"fontsize": _SMALL, "va": "center", "color": INK, "parse_math": False} | style))


def _telling(features: Features, candidates: np.ndarray) -> list[int]:
    """The first image set right by re-ranking, the first broken, the first left; all of them, if there are such."""
    before, after = candidates[:, 0] == features.labels, features.correct
    kinds = (after & ~before, before & ~after, before == after)
    return [int(np.flatnonzero(kind)[0]) for kind in kinds if kind.any()]


def _matches(features: Features, candidates: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Similarities (N, K, M) and weights (C, M) that fit each other."""
    if "description_match" not in features.extras:
        raise ValueError(
            f"these features hold no similarities to descriptions (extras: {', '.join(features.extras) or 'none'}); "
            "extract them with a method that re-ranks by descriptions, such as hlc."
        )
    matches = features.extras["description_match"]
    used = np.asarray(weights.detach().cpu() if hasattr(weights, "detach") else weights, dtype=np.float64)
    if matches.ndim != 3 or matches.shape[:2] != candidates.shape:
        raise ValueError(
            f"extras['description_match'] has shape {matches.shape}; expected (N, K, M), (N, K) = {candidates.shape}."
        )
    if used.shape != (len(features.classes), matches.shape[2]):
        raise ValueError(
            f"weights have shape {used.shape}; expected (C, M) = {(len(features.classes), matches.shape[2])}, as the "
            "method uses them."
        )
    return matches, used


def _pictures(images: LongTailDataset, ids: np.ndarray) -> tuple[np.ndarray, ...]:
    found = [images.image(row) for row in rows_of(images, ids)]
    for image in found:
        image.thumbnail((256, 256))
    return tuple(np.asarray(image) for image in found)
