"""The one selection that all views of an app share: any view may set it, all follow."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from workbench.diagnostics.base import GROUP_ORDER
from workbench.features import Features, splits

MOST_IDS = 200  # named one by one in code; more are written as positions, which take a tenth of the letters


class Selection:
    """Images of one `Features`, with why they are selected.

    Views call `set` and are told of every change by the functions they gave to `observe`; a function that itself sets
    the selection to what it is already is not called again, so linked views do not chase each other. After `keep` all
    other images are out of reach until `release`.
    """

    def __init__(self, features: Features) -> None:
        self.features = features
        self.rows = np.empty(0, dtype=np.int64)  # (n,) positions in the features, sorted
        self.why = ""
        self.kept: np.ndarray | None = None  # (m,) positions that can be selected; None: all
        self._code = ""
        self._kept_by: list[str] = []  # arguments of `.keep(...)`, one after the other
        self._followers: list[Callable[[Selection], None]] = []
        self._frame: pd.DataFrame | None = None
        self._where: dict[str, int] = {}  # row of each id, once somebody asks

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> list[str]:
        return self.features.ids[self.rows].tolist()

    @property
    def code(self) -> str:
        """Arguments of `.select(...)` that give this selection again; empty where nothing is selected."""
        if not self._code and len(self.rows):
            few = len(self.rows) <= MOST_IDS
            self._code = f"ids={self.ids!r}" if few else f"rows={positions(self.rows)!r}"
        return self._code

    @property
    def calls(self) -> str:
        """The calls that give all of it again: `.keep("group == 'few'").select("not correct")`, or nothing."""
        kept = "".join(f".keep({code})" for code in self._kept_by)
        if self.kept is not None and np.array_equal(self.kept, self.rows):
            return kept  # what is kept is selected
        return kept + (f".select({self.code})" if len(self.rows) or self.kept is not None else "")

    @property
    def frame(self) -> pd.DataFrame:
        """One row per image of the features, as `Features.to_frame` gives it, and what was added; what `query` asks.

        Features of several splits have a column `split` too. Texts that repeat are categories: 50,000 of them are
        compared in less than a millisecond.
        """
        if self._frame is None:
            frame, names = self.features.to_frame(), sorted(set(self.features.classes.names))
            for column, kinds in (("name", names), ("predicted", names), ("group", GROUP_ORDER)):
                if column in frame:
                    frame[column] = pd.Categorical(frame[column], categories=pd.Index(kinds, dtype=object))
            several, of_image = splits(self.features)
            if len(several) > 1:
                frame["split"] = pd.Categorical.from_codes(of_image, pd.Index(several, dtype=object))
            self._frame = frame
        return self._frame

    def add(self, column: str, values: np.ndarray) -> None:
        """Let `query` ask for one more value (N,) of each image."""
        self._frame = self.frame.assign(**{column: values})

    def to_frame(self) -> pd.DataFrame:
        """The selected images as a table."""
        chosen = self.frame.iloc[self.rows]
        return chosen.astype({name: object for name in chosen if isinstance(chosen[name].dtype, pd.CategoricalDtype)})

    def observe(self, follower: Callable[[Selection], None]) -> None:
        """Call the function now and after every change."""
        self._followers.append(follower)
        follower(self)

    def set(self, rows: np.ndarray | Sequence[int], why: str, code: str = "") -> None:
        """Select these positions, of those that are kept; `code`: of `.select(...)`, where it is not a list of them."""
        inside = self._marked(rows)
        if self.kept is not None:
            inside &= self._marked(self.kept)
        rows = np.flatnonzero(inside)
        if why == self.why and np.array_equal(rows, self.rows):
            return
        self.rows, self.why, self._code = rows, why, code
        self._tell()

    def clear(self) -> None:
        self.set([], "")

    def invert(self) -> None:
        """All other images, of those that are kept."""
        others = ~self._marked(self.rows)
        # of an expression, its opposite
        code = repr(f"not ({self.why})") if self.why and self._code == repr(self.why) else ""
        self.set(np.flatnonzero(others), f"not ({self.why})" if self.why else "all", code)

    def keep(self) -> None:
        """Put all images but the selected ones out of reach. Without any nothing happens."""
        if len(self.rows) and not np.array_equal(self.rows, self.kept):
            self._kept_by.append(self.code)
            self.kept = self.rows
            self._tell()

    def release(self) -> None:
        """All images can be selected again."""
        if self.kept is not None:
            self.kept, self._kept_by = None, []
            self._tell()

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
        if not self._where:
            self._where = dict(zip(self.features.ids.tolist(), range(len(self.features)), strict=True))
        where = self._where
        missing = [str(name) for name in ids if str(name) not in where]
        if missing:
            raise ValueError(f"{len(missing)} of {len(ids)} images are not in these features (e.g. {missing[0]!r}).")
        self.set([where[str(name)] for name in ids], why)

    def _tell(self) -> None:
        for follower in self._followers:
            follower(self)

    def _marked(self, rows: np.ndarray | Sequence[int]) -> np.ndarray:
        """(N,) bool: true at these positions."""
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self.features):
            raise ValueError(f"positions {rows.min()} to {rows.max()} were selected of {len(self.features)} images.")
        marks = np.zeros(len(self.features), dtype=bool)
        marks[rows] = True
        return marks


def positions(rows: np.ndarray) -> str:
    """Ascending positions (n,) as text, neighbours joined: "0-7,12"; `rows_of` reads it again."""
    ends = np.flatnonzero(np.diff(rows) != 1)
    firsts, lasts = rows[np.r_[0, ends + 1]].tolist(), rows[np.r_[ends, len(rows) - 1]].tolist()
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(firsts, lasts, strict=True))


def rows_of(text: str) -> np.ndarray:
    """(n,) int64 of such a text.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(r"\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*", text):
        raise ValueError(f"{text[:40]!r} is no list of positions such as '0-7,12'.")
    parts = [part.split("-") for part in text.split(",")]
    return np.concatenate([np.arange(int(part[0]), int(part[-1]) + 1) for part in parts])
