"""Progress bars on the terminal for training steps and for passes over a data set; none where nobody watches."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

    from workbench.methods import Clock


class Bars:
    """The callbacks `step`, `encode` and `file`, with one bar at a time; a context manager that closes the last."""

    def __init__(self) -> None:
        self.bar: tqdm[Any] | None = None
        self.key: tuple[Any, ...] = ()

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def step(self, clock: Clock, parts: dict[str, Any]) -> None:
        bar = self._at(("training", clock.steps), clock.step + 1, clock.steps, "step")
        bar.set_postfix_str(f"epoch {clock.epoch + 1}/{clock.epochs}, loss {float(parts['loss']):.3f}", refresh=False)

    def epoch(self, row: dict[str, Any]) -> None:
        """One line per epoch, above the bar; also in a log file, where there is no bar."""
        from tqdm import tqdm

        scores = [f"{name} {row[name]:.3f}" for name in ("loss", "train_mean_class", "val_mean_class") if name in row]
        tqdm.write(f"{row['stage']}, epoch {row['epoch'] + 1}: {', '.join(scores)}", file=sys.stderr)

    def file(self, done: int, parts: dict[str, Any]) -> None:
        self._at(("files", parts["total"]), done, parts["total"], "file")

    def encode(self, step: int, parts: dict[str, float]) -> None:
        done, total = int(parts["done"]), int(parts["total"])
        if step == 0:
            self.key = ()  # perhaps another pass of the same length
        self._at(("images", total), done, total, "image")

    def _at(self, key: tuple[Any, ...], done: int, total: int, unit: str) -> tqdm[Any]:
        from tqdm import tqdm

        if self.bar is None or self.key != key:
            self.__exit__()
            self.bar, self.key = tqdm(total=total, unit=unit, desc=str(key[0]), disable=None), key
        self.bar.update(done - self.bar.n)
        return self.bar
