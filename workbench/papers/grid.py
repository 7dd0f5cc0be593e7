"""Choose from a grid without trying all of it."""

from __future__ import annotations

from collections.abc import Callable


def climb(score: Callable[[float], float], grid: tuple[float, ...], start: float) -> tuple[float, dict[float, float]]:
    """The lr of a grid that climbing from `start` ends at, and the score of each that was tried."""
    scores: dict[float, float] = {}

    def at(place: int) -> float:
        lr = grid[place]
        if lr not in scores:
            scores[lr] = score(lr)
        return scores[lr]

    place = grid.index(start)
    while True:
        best = max((p for p in (place, place - 1, place + 1) if 0 <= p < len(grid)), key=at)
        if best == place:
            return grid[place], scores
        place = best
