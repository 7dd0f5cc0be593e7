"""Learning-rate schedules against the executed schedulers of the authors' codes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from workbench.optim import SCHEDULES, WITH_WARMUP, learning_rate

RECORDED = {
    "sched_lpt_lr0.02_E40_W5": "timm_cosine",
    "sched_lpt_lr0.02_E90_W1": "timm_cosine",
    "sched_gnm_lr0.005_E70": "cosine_lag",
    "sched_lift_lr0.01_E10": "cosine",
    "sched_lift_lr0.02_E20": "cosine",
    "sched_ballad_lr1e-05_E50": "cosine_ahead",
    "sched_ballad_lr0.2_E10": "cosine_ahead",
    "sched_vpt_lr1.0_E100_W10": "cosine_warmup",
    "sched_vptrep_lr0.01_E100_W10": "timm_cosine_lag",
    "sched_adaptformer_lr0.05_E100": "cosine_warmup",
    "sched_xmodal_lr0.0005_N1000": "cosine_from_warmup",
}


@pytest.mark.parametrize(("case_id", "schedule"), RECORDED.items())
def test_a_schedule_equals_the_authors_code(golden: Callable, case_id: str, schedule: str) -> None:
    case = golden(case_id)
    (key,) = case.record["outputs"]
    settings = case.settings
    lengths = {"epochs": settings.get("epochs", settings.get("iters"))}
    lengths["warmup_epochs"] = settings.get("warmup", settings.get("warmup_iters", 0))
    warmup_lr = settings.get("warmup_lr_init", settings.get("warmup_min_lr", 1e-6))
    epochs = np.arange(len(case.arrays[key])) / (4 if "grid" in settings else 1)
    rates = [learning_rate(schedule, lr=settings["lr"], epoch=e, **lengths, warmup_lr=warmup_lr) for e in epochs]
    case.check(np.array(rates), key)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_stays_between_zero_and_its_peak(schedule: str) -> None:
    for epochs in (1, 2, 7):
        for warmup in range(epochs + 1) if schedule in WITH_WARMUP else (0,):
            lengths = {"epochs": epochs, "warmup_epochs": warmup}
            rates = [learning_rate(schedule, lr=0.1, epoch=epoch, **lengths) for epoch in range(epochs)]
            assert 0.0 <= min(rates) <= max(rates) <= 0.1


def test_schedules_without_warmup_need_no_warmup_arguments() -> None:
    assert learning_rate("constant", lr=0.1, epoch=3, epochs=4) == 0.1
    assert learning_rate("timm_cosine", lr=0.1, epoch=3, epochs=4) == learning_rate("cosine", lr=0.1, epoch=3, epochs=4)


def test_errors_say_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="'linear' is not known; choose one of constant, cosine, cosine_lag"):
        learning_rate("linear", lr=0.1, epoch=0, epochs=10)
    with pytest.raises(ValueError, match="epoch=10 is outside this stage of 10 epochs"):
        learning_rate("cosine", lr=0.1, epoch=10, epochs=10)
    with pytest.raises(ValueError, match="'cosine' has no warm-up; choose one of cosine_warmup"):
        learning_rate("cosine", lr=0.1, epoch=0, epochs=10, warmup_epochs=1)
    with pytest.raises(ValueError, match="warmup_epochs=11 is not between 0 and epochs=10"):
        learning_rate("timm_cosine", lr=0.1, epoch=0, epochs=10, warmup_epochs=11)
