"""Curves of a run: what metrics.csv holds, stages one after the other, runs without validation or epochs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from diagnostic_examples import CLASSES, trained_run

import workbench as wb
from workbench.diagnostics.convergence import convergence


def test_curves_hold_what_metrics_csv_holds() -> None:
    curve = convergence(trained_run("a")).curves["a"]
    np.testing.assert_allclose(curve.loss, [1, 1 / 2, 1 / 3])
    np.testing.assert_allclose(curve.accuracy["val", "few"], 0.9 * np.array([0.1, 0.2, 0.3]))
    assert curve.classes == {"many": 4, "medium": 4, "few": 4} and curve.boundaries == []


def test_a_trained_run_has_training_and_validation_accuracy_of_every_group(store: Callable[[str], wb.Run]) -> None:
    run = store("lift")
    result = convergence(run.path)
    curve = result.curves["lift"]
    table = run.metrics
    for split in ("train", "val"):
        for group in ("many", "medium", "few", "mean_class", "all"):
            np.testing.assert_array_equal(curve.accuracy[split, group], table[f"{split}_{group}"])
    assert len(curve.loss) == 2 and curve.status == "finished"


def test_stages_follow_one_another_and_their_border_is_marked() -> None:
    result = convergence({"LPT": trained_run("b", epochs=(2, 3))})
    curve = result.curves["LPT"]
    assert curve.boundaries == [2] and curve.epochs.tolist() == [0, 1, 0, 1, 2]
    assert result.to_frame()["finished_epochs"].max() == 5
    ax = result.plot()
    assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"] == [2.5]


def test_runs_stand_side_by_side_under_their_names() -> None:
    result = convergence([trained_run("a"), trained_run("b", val=False)])
    assert list(result.curves) == ["a", "b"] and ("val", "all") not in result.curves["b"].accuracy
    same = convergence([trained_run("a"), trained_run("a")])
    assert len(same.curves) == 2, "folders of one name are told apart by their paths"
    for view in result.views:
        ax = result.plot(view=view)
        ax.figure.canvas.draw()
        if view not in ("groups", "loss"):
            assert len([line for line in ax.lines if len(line.get_xdata()) == 3]) == 3


def test_an_empty_group_says_so() -> None:
    classes = wb.Classes(CLASSES.names, np.full(12, 500))
    result = convergence(trained_run("a", classes=classes))
    assert "few, n/a (0 classes)" in [text.get_text() for text in result.plot().get_legend().get_texts()]
    assert "n/a (0 classes)" in [text.get_text() for text in result.plot(view="few").texts]


def test_a_run_without_a_finished_epoch_is_refused() -> None:
    run = trained_run("a", epochs=())
    (run.path / "metrics.csv").unlink()
    with pytest.raises(ValueError, match="no finished epoch yet"):
        convergence(run)
    with pytest.raises(ValueError, match="nothing was given"):
        convergence([])
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        convergence(run.path / "nothing")
