"""What a student answered: one JSON file on this computer, written whole or not at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

PARTS = ("predictions", "checks")


class Answers:
    """Predictions and checks by key. Every change reads the file anew, so that two notebooks can share one.

    Args:
        path: of the JSON file; missing is empty.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()  # the folder of a notebook may change while it runs

    def read(self) -> dict[str, dict[str, dict[str, Any]]]:
        """{"predictions": {key: ...}, "checks": {key: ...}}.

        Raises:
            ValueError: the file is something else.
        """
        if not self.path.exists():
            return {part: {} for part in PARTS}
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self._strange() from error
        good = isinstance(kept, dict) and all(isinstance(kept.get(part), dict) for part in PARTS)
        if not good or not all(isinstance(entry, dict) for part in PARTS for entry in kept[part].values()):
            raise self._strange()
        return kept

    def prediction(self, key: str) -> dict[str, Any]:
        """question, options, unit; once committed answer and time; once revealed truth and hit. {}: never asked."""
        return self.read()["predictions"].get(key, {})

    def ask(self, key: str, question: str, options: list[str] | None, unit: str) -> None:
        """Note a question; an answer stays, unless the question now has other options."""
        asked = {"question": question, "options": options, "unit": unit}
        old = self.prediction(key)
        if {name: old.get(name) for name in asked} == asked:
            return
        keep = old.get("answer") in options if options else isinstance(old.get("answer"), float)
        self._change(lambda kept: kept["predictions"].update({key: (old if keep else {}) | asked}))

    def predict(self, key: str, answer: Any) -> None:
        """Keep an answer: one of the options, or a number (text is read, with a comma too).

        Raises:
            ValueError: no finite number.
        """
        asked = self.prediction(key)
        if asked.get("options") is None:
            try:
                number = float(str(answer).strip().replace(",", "."))
            except ValueError:
                number = math.nan
            if not math.isfinite(number):
                raise ValueError(f"{answer!r} is no number; write one such as 42.5.")
            answer = number
        entry = asked | {"answer": answer, "time": _now()}
        self._change(lambda kept: kept["predictions"].update({key: entry}))

    def reveal(self, key: str, truth: str | float, hit: bool | None) -> None:
        """Keep what was measured, beside what was predicted."""
        known = isinstance(truth, str) or math.isfinite(truth)  # JSON has no NaN
        entry = self.prediction(key) | {"truth": truth if known else None, "hit": hit}
        self._change(lambda kept: kept["predictions"].update({key: entry}))

    def check(self, key: str, right: bool, why: str, *, tried: bool = True) -> None:
        """Keep the outcome of one more try; not `tried`: of none, as while the lines are still to be written."""
        tries = self.read()["checks"].get(key, {}).get("tries", 0) + bool(tried)
        entry = {"right": bool(right), "why": why[:200], "tries": tries, "time": _now()}
        self._change(lambda kept: kept["checks"].update({key: entry}))

    def _change(self, edit: Callable[[dict[str, dict[str, Any]]], None]) -> None:
        kept = self.read()
        edit(kept)
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        part.write_text(json.dumps(kept, indent=1, ensure_ascii=False), encoding="utf-8")
        part.replace(self.path)

    def _strange(self) -> ValueError:
        return ValueError(f"{self.path} is no file of answers; move it away, or pass another store=.")


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
