"""A head on cached features: known optimum, planted imbalance, gradients in closed form, borders in the plane."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from workbench.heads import CosineHead, LayerNormalised, LinearHead
from workbench.losses import LOSSES
from workbench.training import fit_head, gradient_shares, logit_gradients, three_clouds
from workbench.training.plane import EXTENT, best_borders, border_lines, borders, decided, lifted, regions


def softmax(z: np.ndarray) -> np.ndarray:
    shares = np.exp(z - z.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


@pytest.fixture
def linear() -> LinearHead:
    return LinearHead(3, 3, generator=torch.Generator().manual_seed(3))


def test_cross_entropy_reaches_the_optimum_of_logistic_regression() -> None:
    plane = three_clouds()
    fitted = fit_head(plane.vectors, plane.labels, 3, head="linear", steps=800, lr=0.1, weight_decay=0.0)
    optimum = LogisticRegression(C=1e6).fit(plane.points, plane.labels).predict_log_proba(plane.points)
    own = np.arange(len(plane.labels)), plane.labels
    reached, best = -np.log(softmax(fitted.logits)[own]).mean(), -optimum[own].mean()
    assert best <= reached + 1e-6 and reached == pytest.approx(best, rel=0.01)
    assert (
        fitted.losses[0] > 2 * fitted.losses[-1]
        and fitted.predict(plane.vectors).tolist() == fitted.logits.argmax(1).tolist()
    )


def test_the_same_arguments_give_the_same_head_and_leave_the_global_generator_alone() -> None:
    plane, state = three_clouds(), torch.get_rng_state()
    options = {"margin": 0.1, "noise_scale": 1.0}
    heads = [
        fit_head(plane.vectors, plane.labels, 3, loss="gcl", options=options, steps=20, batch_size=64, seed=seed).logits
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(heads[0], heads[1]) and not np.allclose(heads[0], heads[2])
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("loss", "options"), [("logit_adjusted", {"tau": 1.0}), ("class_balanced", {"beta": 0.999})])
def test_losses_that_know_the_counts_give_the_rare_class_its_region_back(loss: str, options: dict[str, float]) -> None:
    plane = three_clouds()
    few = {
        name: plane.accuracy(borders(fit_head(plane.vectors, plane.labels, 3, loss=name, options=given).head))["few"]
        for name, given in (("cross_entropy", {}), (loss, options))
    }
    assert few[loss].low > few["cross_entropy"].high + 0.2
    best = plane.accuracy(best_borders())["few"].estimate
    assert few["cross_entropy"].high < best - 0.2


def test_batches_use_every_image_before_one_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[int] = []
    steps: list[tuple[int, int]] = []

    def spy(logits: torch.Tensor, labels: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        met.extend(labels.tolist())
        return logits.sum()

    monkeypatch.setitem(LOSSES, "spy", spy)
    vectors = np.eye(6, dtype=np.float32)
    fit_head(
        vectors, np.arange(6), 6, loss="spy", steps=6, batch_size=2, on_step=lambda done, of: steps.append((done, of))
    )
    assert sorted(met[:6]) == sorted(met[6:]) == list(range(6)) and met[:6] != met[6:]
    assert steps == [(done, 6) for done in range(1, 7)]


def test_what_a_step_raises_ends_the_training() -> None:
    plane = three_clouds()

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_head(plane.vectors, plane.labels, 3, on_step=stop)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"loss": "hinge"}, "loss='hinge' is not known; choose one of cross_entropy"),
        ({"loss": "ldam", "head": "linear"}, "ldam needs cosines"),
        ({"head": "round"}, "head='round' is not known"),
        ({"steps": 0}, "steps=0"),
        ({"labels": np.zeros(3, int)}, r"vectors \(248, 3\) and labels \(3,\) do not fit"),
        ({"num_classes": 2}, "labels run from 0 to 2"),
        ({"num_classes": 4, "loss": "logit_adjusted"}, "counts is below 1 for 1 of 4 classes"),
        ({"lr": 1e30, "head": "linear"}, "no longer finite after"),
    ],
)
def test_what_does_not_fit_is_refused(changed: dict[str, object], message: str) -> None:
    plane = three_clouds()
    given = {"vectors": plane.vectors, "labels": plane.labels, "num_classes": 3} | changed
    with pytest.raises(ValueError, match=message):
        fit_head(**given)  # type: ignore[arg-type]


def test_the_gradient_of_cross_entropy_is_p_minus_y(linear: LinearHead) -> None:
    plane = three_clouds()
    z = plane.vectors @ linear.weight.detach().numpy().T
    truth = np.eye(3)[plane.labels]
    found = logit_gradients(linear, plane.vectors, plane.labels)
    np.testing.assert_allclose(found, (softmax(z) - truth) / len(z), atol=1e-7)
    log_prior = np.log(plane.counts / plane.counts.sum())
    found = logit_gradients(linear, plane.vectors, plane.labels, loss="logit_adjusted", options={"tau": 0.7})
    np.testing.assert_allclose(found, (softmax(z + 0.7 * log_prior) - truth) / len(z), atol=1e-7)


def test_the_gradient_of_a_loss_on_cosines_is_by_the_logits() -> None:
    plane = three_clouds()
    head = CosineHead(3, 3, scale=12.0, generator=torch.Generator().manual_seed(3))
    rows, x = head.weight.detach().numpy(), plane.vectors / np.linalg.norm(plane.vectors, axis=1, keepdims=True)
    truth = np.eye(3)[plane.labels]
    margins = 0.4 * (plane.counts / plane.counts.min()) ** -0.25
    expected = softmax(12 * (x @ rows.T - truth * margins)) - truth
    found = logit_gradients(head, plane.vectors, plane.labels, loss="ldam", options={"max_margin": 0.4})
    np.testing.assert_allclose(found, expected / len(x), atol=1e-6)


def test_shares_of_the_gradient_are_of_summed_lengths() -> None:
    gradients = np.array([[3.0, 4.0], [0.0, 5.0], [6.0, 8.0], [0.0, 0.0]])
    shares = gradient_shares(gradients, np.array(["many", "many", "few", "few"]))
    assert shares == {"many": 0.5, "medium": 0.0, "few": 0.5}
    assert math.isnan(gradient_shares(np.zeros((2, 2)), np.array(["many", "few"]))["few"])


@pytest.mark.parametrize("head", ["linear", "l2_normalised", "cosine"])
def test_regions_are_where_the_head_decides(head: str) -> None:
    plane = three_clouds()
    fitted = fit_head(plane.vectors, plane.labels, 3, head=head, steps=60)
    rows = borders(fitted.head)
    points = np.random.default_rng(0).uniform(EXTENT[::2], EXTENT[1::2], size=(400, 2))
    chosen = fitted.predict(lifted(points))
    assert decided(points, rows).tolist() == chosen.tolist()
    areas = []
    for k, polygon in enumerate(regions(rows)):
        ahead = np.roll(polygon, -1, axis=0) - polygon
        to = points[:, None] - polygon  # left of every edge is inside of a convex polygon
        inside = (ahead[:, 0] * to[..., 1] - ahead[:, 1] * to[..., 0] >= 0).all(1) & (len(polygon) > 0)
        assert inside.tolist() == (chosen == k).tolist()
        areas.append(0.5 * float(np.sum(polygon[:, 0] * ahead[:, 1] - polygon[:, 1] * ahead[:, 0])))
    assert sum(areas) == pytest.approx((EXTENT[1] - EXTENT[0]) * (EXTENT[3] - EXTENT[2]))


def test_each_border_is_drawn_once_and_a_class_can_be_without_a_region() -> None:
    lines = border_lines(best_borders())
    assert len(lines) == 3
    for ends in lines:
        scores = np.sort(lifted(ends.mean(0, keepdims=True)).astype(float) @ best_borders().T)[0]
        assert scores[-1] == pytest.approx(scores[-2], abs=1e-5)
    shapes = [len(polygon) for polygon in regions(np.array([[1.0, 0, 0], [-1.0, 0, 0], [0, 0, -9.0]]))]
    assert shapes == [4, 4, 0]


def test_only_heads_with_straight_borders_have_them() -> None:
    generator = torch.Generator().manual_seed(0)
    for head in (LayerNormalised(3, 3, generator=generator), LinearHead(4, 3, generator=generator)):
        with pytest.raises(ValueError, match="no straight borders"):
            borders(head)
    with pytest.raises(ValueError, match="three counts from 1 on"):
        three_clouds((200, 0, 8))


def test_the_points_of_a_seed_are_the_same_and_test_points_do_not_depend_on_the_counts() -> None:
    first, again, other = three_clouds(), three_clouds((20, 4, 1)), three_clouds(seed=1)
    assert np.array_equal(first.test_points, again.test_points) and again.counts.tolist() == [20, 4, 1]
    assert not np.array_equal(first.points, other.points)
