"""Tasks of a reproduction, one after the other or in several processes: one that fails does not lose the others."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

from .trainings import Training


@contextmanager
def pool(jobs: int) -> Iterator[Callable[..., dict[int, str]]]:
    """A function that runs tasks and gives the reasons of those that failed, by their place."""

    def here(function: Callable[..., str], tasks: list[tuple[Any, ...]], log: Callable[[str], None]) -> dict[int, str]:
        failed: dict[int, str] = {}
        for key, task in enumerate(tasks):
            line, why = _guarded(function, task)
            failed |= {key: why} if why else {}
            log(f"{key + 1}/{len(tasks)} {line or why}")
        return failed

    if jobs == 1:
        yield here
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_work) as workers:

        def there(function: Callable[..., str], tasks: list[tuple[Any, ...]], log: Any) -> dict[int, str]:
            began = time.perf_counter()
            failed: dict[int, str] = {}
            waiting = {workers.submit(_guarded, function, task): key for key, task in enumerate(tasks)}
            for done, future in enumerate(as_completed(waiting), start=1):
                line, why = future.result()
                failed |= {waiting[future]: why} if why else {}
                left = (time.perf_counter() - began) / done * (len(tasks) - done)
                log(f"{done}/{len(tasks)} {line or why}" + (f"; about {left / 60:.0f} min left" if left > 90 else ""))
            return failed

        try:
            yield there
        except BaseException:
            workers.shutdown(wait=True, cancel_futures=True)
            raise


def _begin_work() -> None:
    """One thread, and no work for a process that was killed: a run that is trained on cannot be continued elsewhere."""
    import torch

    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _guarded(function: Callable[..., str], task: tuple[Any, ...]) -> tuple[str, str]:
    """(what was done, ""), or ("", why it failed): one arm does not lose the others."""
    try:
        return function(*task), ""
    except Exception as error:
        what = ", ".join(str(each.arm.name if isinstance(each, Training) else each) for each in task)
        return "", f"{what}: {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
