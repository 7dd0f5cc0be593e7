"""Progress bars for training steps and for passes over a data set: widgets in a notebook, text on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm.auto import tqdm


class Bars:
    """The callbacks `step`, `epoch`, `encode` and `file`, with one bar at a time; a context manager closes the last.

        with wb.Bars("LIFT") as bars:
            run = wb.fit(method, train, val, out="runs/lift", on_step=bars.step)
            features = wb.extract(run.method(), test, on_step=bars.encode)

    On a terminal where nobody watches (a log file, a pipe) there is no bar.

    Args:
        label: stands before what the bar counts, to tell several apart.
    """

    def __init__(self, label: str = "") -> None:
        self.label = label
        self.bar: tqdm[Any] | None = None
        self.key: tuple[Any, ...] = ()

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def step(self, clock: Any, parts: dict[str, Any]) -> None:
        """`on_step` of `fit` and `resume`; clock is a `workbench.methods.Clock`."""
        bar = self._at(("training", clock.steps), clock.step + 1, clock.steps, "step")
        bar.set_postfix_str(f"epoch {clock.epoch + 1}/{clock.epochs}, loss {float(parts['loss']):.3f}", refresh=False)

    def epoch(self, row: dict[str, Any]) -> None:
        """`on_epoch` of `fit` and `resume`: one line per epoch, above the bar; also in a log, where there is no bar."""
        from tqdm.auto import tqdm

        scores = [f"{name} {row[name]:.3f}" for name in ("loss", "train_mean_class", "val_mean_class") if name in row]
        notebook = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)  # there, stderr is a red box
        line = f"{row['stage']}, epoch {row['epoch'] + 1}: {', '.join(scores)}"
        tqdm.write(line, file=sys.stdout if notebook else sys.stderr)

    def file(self, done: int, parts: dict[str, Any]) -> None:
        """`on_step` of `import_dataset`."""
        self._at(("files", parts["total"]), done, parts["total"], "file")

    def encode(self, step: int, parts: dict[str, float]) -> None:
        """`on_step` of `extract`, `on_encode` of `fit` and `resume`."""
        done, total = int(parts["done"]), int(parts["total"])
        if step == 0:
            self.key = ()  # perhaps another pass of the same length
        self._at(("images", total), done, total, "image")

    def _at(self, key: tuple[Any, ...], done: int, total: int, unit: str) -> tqdm[Any]:
        from tqdm.auto import tqdm

        if self.bar is None or self.key != key or done < self.bar.n:  # fewer: another stage of the same length
            self.__exit__()
            description = f"{self.label} {key[0]}".lstrip()
            self.bar, self.key = tqdm(total=total, unit=unit, desc=description, disable=None), key
        self.bar.update(done - self.bar.n)
        return self.bar
