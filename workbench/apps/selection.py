"""The one selection that all views of an app share: any view may set it, all follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from workbench.features import Features


class Selection:
    """Images of one `Features`, with why they are selected.

    Views call `set` and are told of every change by the functions they gave to `observe`; a function that itself sets
    the selection to what it is already is not called again, so linked views do not chase each other.
    """

    def __init__(self, features: Features) -> None:
        self.features = features
        self.rows = np.empty(0, dtype=np.int64)  # (n,) positions in the features, sorted
        self.why = ""
        self.code = ""  # arguments of `.select(...)` that give this selection again
        self._followers: list[Callable[[Selection], None]] = []
        self._frame: pd.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> list[str]:
        return [str(name) for name in self.features.ids[self.rows]]

    @property
    def frame(self) -> pd.DataFrame:
        """One row per image of the features, as `Features.to_frame` gives it; what `query` asks."""
        if self._frame is None:
            self._frame = self.features.to_frame()
        return self._frame

    def to_frame(self) -> pd.DataFrame:
        """The selected images as a table."""
        return self.frame.iloc[self.rows]

    def observe(self, follower: Callable[[Selection], None]) -> None:
        """Call the function now and after every change."""
        self._followers.append(follower)
        follower(self)

    def set(self, rows: np.ndarray | Sequence[int], why: str, code: str = "") -> None:
        """Select these positions; `code` is what `.select(...)` takes to do the same, by default the ids."""
        rows = np.unique(np.asarray(rows, dtype=np.int64))
        if len(rows) and not 0 <= rows[0] <= rows[-1] < len(self.features):
            raise ValueError(f"positions {rows[0]} to {rows[-1]} were selected of {len(self.features)} images.")
        if np.array_equal(rows, self.rows) and why == self.why:
            return
        self.rows, self.why = rows, why
        self.code = code or (f"ids={self.ids!r}" if len(rows) else "")
        for follower in self._followers:
            follower(self)

    def clear(self) -> None:
        self.set([], "")

    def invert(self) -> None:
        """All other images."""
        others = np.setdiff1d(np.arange(len(self.features)), self.rows)
        code = repr(f"not ({self.why})") if self.code == repr(self.why) else ""  # of an expression, its opposite
        self.set(others, f"not ({self.why})" if self.why else "all", code)

    def query(self, expression: str) -> None:
        """Select by an expression over the columns of `frame`: "group == 'few' and not correct".

        Raises:
            ValueError: an expression that pandas cannot evaluate to one truth value per image.
        """
        columns = ", ".join(self.frame.columns)
        try:
            chosen = self.frame.eval(expression, engine="python")
        except Exception as error:
            raise ValueError(f"cannot select by {expression!r}: {error}. Columns are {columns}.") from error
        if not isinstance(chosen, pd.Series) or chosen.dtype != bool:
            raise ValueError(
                f"{expression!r} is no condition: it must be true or false of every image. Columns: {columns}."
            )
        self.set(np.flatnonzero(chosen.to_numpy()), expression, repr(expression))

    def take(self, ids: Sequence[str], why: str = "by name") -> None:
        """Select images by their ids; ValueError for ids that the features do not hold."""
        where = {str(name): row for row, name in enumerate(self.features.ids)}
        missing = [str(name) for name in ids if str(name) not in where]
        if missing:
            raise ValueError(f"{len(missing)} of {len(ids)} images are not in these features (e.g. {missing[0]!r}).")
        self.set([where[str(name)] for name in ids], why)
