"""What fit refuses, records and computes."""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scenario
import torch
from safetensors.torch import load_file

import workbench as wb
from workbench.methods import Clock, Method
from workbench.training import step as steps
from workbench.training.batches import epoch_draws


@pytest.fixture
def lift() -> Method:
    return scenario.method()


def test_a_test_split_is_refused_unless_allowed(lift: Method, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    short = [replace(stage, epochs=1) for stage in scenario.stages(lift)[:1]]
    with pytest.raises(ValueError, match="split 'test'"):
        wb.fit(lift, scenario.data("train"), scenario.data("test"), out=tmp_path / "run", stages=short)
    assert not (tmp_path / "run").exists()
    run = wb.fit(
        lift, scenario.data("train"), scenario.data("test"), out=tmp_path / "run", stages=short, allow_test=True
    )
    assert run.config["allow_test"] is True
    assert "no longer an estimate" in caplog.text


def test_an_existing_folder_is_never_touched(lift: Method, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="left as it is"):
        wb.fit(lift, scenario.data("train"), out=tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_continue_returns_a_finished_run_goes_on_with_a_stopped_one_and_refuses_another(tmp_path: Path) -> None:
    steps_taken: list[int] = []

    def stop_at_three(clock: Clock, parts: object) -> None:
        steps_taken.append(clock.step)
        if len(steps_taken) == 3:
            signal.raise_signal(signal.SIGINT)

    whole = scenario.start(tmp_path / "whole")
    stopped = scenario.start(tmp_path / "run", existing="continue", on_step=stop_at_three)
    assert stopped.status["status"] == "interrupted"
    continued = scenario.start(tmp_path / "run", existing="continue")
    expected, found = (load_file(run.path / "weights.safetensors") for run in (whole, continued))
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    again = scenario.start(tmp_path / "run", existing="continue", on_step=lambda clock, parts: pytest.fail("trained"))
    assert again.path == continued.path
    with pytest.raises(ValueError, match=r"2 settings differ: .*stages.0.lr \(there 0.05, now 0.1\)"):
        built = scenario.method()
        first, second = scenario.stages(built)
        changed = [replace(first, lr=0.1), second]
        data = scenario.data
        wb.fit(built, data("train"), data("val"), out=tmp_path / "run", seed=6, stages=changed, existing="continue")


def test_a_loss_that_is_not_finite_stops_with_advice_and_keeps_the_weights(lift: Method, tmp_path: Path) -> None:
    stage = replace(scenario.stages(lift)[0], mixup=0.0, micro_batch_size=None)

    class Diverging(type(lift)):  # type: ignore[misc]
        def loss(self, outputs: list, labels: list, clock: Clock) -> dict:
            parts = super().loss(outputs, labels, clock)
            return {"loss": parts["loss"] * (float("nan") if clock.step == 2 else 1.0)}

    lift.__class__ = Diverging
    with pytest.raises(FloatingPointError, match="lower lr"):
        wb.fit(lift, scenario.data("train"), out=tmp_path / "run", stages=[stage])
    run = wb.Run.load(tmp_path / "run")
    assert run.status["status"] == "failed"
    assert all(tensor.isfinite().all() for tensor in run.method().state().values())


def test_only_what_the_stage_names_is_trained(lift: Method, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in lift.state_dict().items()}
    stage = replace(scenario.stages(lift)[0], epochs=1, trainable=("head.",))
    wb.fit(lift, scenario.data("train"), out=tmp_path / "run", stages=[stage])
    changed = {name for name, tensor in lift.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"head.weight"}


def test_a_factor_multiplies_the_lr_of_the_parameters_it_names_alone(tmp_path: Path) -> None:
    moved = {}
    for factors in ((), (("head.bias", 10.0),)):
        manifest = wb.Manifest.load("digits_lt")
        backbone = wb.load_backbone("test_vit.r160_in1k", weights="random", input_size=32)
        method = wb.create_method("linear_probe", backbone, manifest.classes)
        before = {name: tensor.clone() for name, tensor in method.state().items()}
        (recipe,) = method.stages(manifest)
        once = {"epochs": 1, "batch_size": 1000, "micro_batch_size": 8, "momentum": 0.0, "weight_decay": 0.0}
        stage = replace(recipe, warmup_epochs=0, schedule="constant", lr=0.1, lr_factors=factors, **once)
        train = wb.LongTailDataset(manifest, "train", per_class=2)
        wb.fit(method, train, out=tmp_path / f"{len(factors)}", stages=[stage])
        moved[factors] = {name: tensor - before[name] for name, tensor in method.state().items()}
    plain, faster = moved.values()
    torch.testing.assert_close(faster["head.weight"], plain["head.weight"])
    torch.testing.assert_close(faster["head.bias"], 10 * plain["head.bias"])
    assert plain["head.bias"].abs().max() > 0


def test_metrics_have_a_row_per_epoch_with_groups(tmp_path: Path) -> None:
    run = scenario.start(tmp_path / "run")
    assert run.metrics["stage"].tolist() == ["mixed", "mixed", "balanced", "balanced"]
    for group in ("all", "many", "medium", "few", "mean_class"):
        assert run.metrics[f"val_{group}"].between(0, 1).all()
        assert run.metrics[f"train_{group}"].between(0, 1).all()
    assert not (run.path / "checkpoint.safetensors").exists()


def test_the_best_epoch_is_kept_where_a_stage_selects(tmp_path: Path) -> None:
    run = scenario.start(tmp_path / "run")
    method, val = run.method(), scenario.data("val")
    features = wb.extract(method, val, views="centre")
    classes = [np.mean(features.correct[features.labels == label]) for label in np.unique(features.labels)]
    last_stage = run.metrics[run.metrics["stage"] == "balanced"]
    assert np.mean(classes) == pytest.approx(last_stage["val_mean_class"].max())


def test_accumulated_gradients_equal_those_of_the_whole_batch(lift: Method) -> None:
    (recipe, _) = scenario.stages(lift)
    images, labels = torch.rand(10, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(10)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    found = []
    for micro in (None, 4):
        stage = replace(recipe, mixup=0.0, batch_size=10, micro_batch_size=micro)
        trainable = steps.freeze_all_but(lift, stage.trainable)
        lift.zero_grad()
        parts = steps.gradients(lift, stage, [(images, labels)], Clock(0, 1, 0, 1), scaler)
        found.append((parts["loss"], [parameter.grad.clone() for parameter in trainable.values()]))
    torch.testing.assert_close(found[0], found[1])


def test_the_seed_of_fit_decides_the_augmentation_and_epochs_are_reported(tmp_path: Path) -> None:
    manifest, rows = wb.Manifest.load("digits_lt"), []
    for data_seed, fit_seed in ((3, 5), (4, 5), (3, 6)):
        built = scenario.method()
        train = wb.LongTailDataset(manifest, "train", per_class=12, seed=data_seed)
        stages = [replace(scenario.stages(built)[0], epochs=1, mixup=0.0)]
        out = tmp_path / f"{data_seed}-{fit_seed}"
        wb.fit(built, train, out=out, seed=fit_seed, stages=stages, on_epoch=rows.append)
    assert len(rows) == 3
    assert rows[0]["loss"] == rows[1]["loss"] != rows[2]["loss"]


def test_a_run_whose_images_moved_resumes_with_their_new_root(tmp_path: Path) -> None:
    digits = wb.LongTailDataset(wb.Manifest.load("digits_lt"), "train", per_class=3)
    before, after = tmp_path / "before", tmp_path / "after"
    for i, label in enumerate(digits.labels):
        (before / str(label)).mkdir(parents=True, exist_ok=True)
        digits.image(i).save(before / str(label) / f"{i}.png")
    manifest = wb.import_dataset(before, "moving", out=tmp_path / "manifests").manifest
    built = wb.create_method("lift", wb.load_backbone(**scenario.BACKBONE), manifest.classes, bottleneck=2)
    stages = [replace(stage.shortened(2), batch_size=8) for stage in built.stages(manifest)]

    def stop(clock: Clock, parts: dict) -> None:
        raise KeyboardInterrupt

    train = wb.LongTailDataset(manifest, "train", root=before)
    run = wb.fit(built, train, out=tmp_path / "run", stages=stages, on_step=stop)
    before.rename(after)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        wb.resume(run.path)
    assert wb.resume(run.path, root=after).status["status"] == "finished"


def test_an_epoch_draws_every_image_once_and_counts_repetitions() -> None:
    labels = np.repeat(np.arange(3), [20, 5, 2])
    stage = wb.Stage(
        epochs=2, batch_size=8, trainable=("head.",), lr=0.1, samplers=("shuffle", "class_aware"), source="test"
    )
    shuffled, balanced = epoch_draws(stage, labels, seed=0, stage_index=0, epoch=0)
    flat = [draw for batch in shuffled for draw in batch]
    assert sorted(flat) == [(index, 0) for index in range(27)]
    assert [len(batch) for batch in shuffled] == [8, 8, 8, 3] == [len(batch) for batch in balanced]
    flat = [draw for batch in balanced for draw in batch]
    assert len(set(flat)) == len(flat) == 27
    assert max(count for _, count in flat) >= 2
    again, _ = epoch_draws(stage, labels, seed=0, stage_index=0, epoch=0)
    other, _ = epoch_draws(stage, labels, seed=0, stage_index=0, epoch=1)
    assert again == shuffled != other


def test_a_repeated_draw_is_augmented_differently() -> None:
    train = scenario.data("train").with_preprocessing(scenario.method().preprocessing(train=True))
    first, again, second = train[(0, 0)][0], train[(0, 0)][0], train[(0, 1)][0]
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_shortening_rescales_the_warm_up_and_says_so() -> None:
    stage = wb.Stage(
        epochs=20, warmup_epochs=5, schedule="timm_cosine", batch_size=8, trainable=("head.",), lr=0.1, source="paper"
    )
    short = stage.shortened(4)
    assert (short.epochs, short.warmup_epochs) == (4, 1)
    assert short.source == "paper; 4 epochs instead of 20"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "cosign"}, "cosine"),
        ({"epochs": 0}, "at least 1"),
        ({"lr": 0.0}, "positive"),
        ({"warmup_epochs": 9}, "fewer than epochs"),
        ({"micro_batch_size": 99}, r"1\.\.8"),
        ({"optimiser": "adam"}, "adamw"),
        ({"lr_factors": (("head.", 0.0),)}, "positive"),
        ({"lr_factors": (("backbone.", 2.0),)}, r"trains \(head\.\)"),
    ],
)
def test_a_bad_stage_says_what_is_allowed(changes: dict, message: str) -> None:
    stage = wb.Stage(epochs=2, batch_size=8, trainable=("head.",), lr=0.1, source="test")
    with pytest.raises(ValueError, match=message):
        replace(stage, **changes)


def test_a_full_disk_keeps_the_last_checkpoint_and_says_how_to_go_on(
    lift: Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench import runs

    real, calls = runs.save_file, []

    def save(*arguments: object, **options: object) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        real(*arguments, **options)

    monkeypatch.setattr(runs, "save_file", save)
    stages = [replace(scenario.stages(lift)[0], epochs=4)]
    with pytest.raises(OSError, match="disk is full"):
        wb.fit(lift, scenario.data("train"), out=tmp_path / "run", stages=stages)
    assert wb.Run.load(tmp_path / "run").status["status"] == "failed"
    assert wb.resume(tmp_path / "run").status["status"] == "finished"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")
def test_mixed_precision_trains_and_resumes_on_a_gpu(tmp_path: Path) -> None:
    def stop(clock: Clock, parts: dict) -> None:
        if clock.step == 7:
            raise KeyboardInterrupt

    found = []
    for on_step in (None, stop):
        method = scenario.method().cuda()
        stages = scenario.stages(method)
        assert all(stage.precision == "amp" for stage in stages)
        out = tmp_path / f"run{len(found)}"
        run = wb.fit(method, scenario.data("train"), out=out, seed=5, stages=stages, on_step=on_step)
        if on_step is stop:
            assert run.status["status"] == "interrupted"
            run = wb.resume(out)
        print(f"peak memory {run.status['peak_gpu_bytes'] / 2**20:.0f} MiB")
        found.append(load_file(run.path / "weights.safetensors"))
    # kernels of a GPU may add in another order: close, not equal
    torch.testing.assert_close(found[0], found[1], rtol=1e-2, atol=1e-3)
