"""The loss bench and the prior in JupyterLab: what is chosen is trained and seen, sliders are followed at once.

The prior is also driven as a page of Voila, as the prompt app is in `test_prompts.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from browser.gestures import latency

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from browser.views import Dashboard, Notebook

pytestmark = pytest.mark.slow

BENCH = """
from workbench.apps.loss_bench import loss_bench
bench = loss_bench()
bench
"""
PRIOR = """
import types, numpy as np, torch
from scipy.special import softmax
from workbench.apps.prior import prior
from workbench.data import Classes
from workbench.features import Features
from workbench.heads import LinearHead

rng = np.random.default_rng(0)
labels, counts = np.repeat(np.arange(100), 100), (500 * 0.01 ** (np.arange(100) / 99)).astype(int)
means = rng.normal(size=(100, 32))
vectors = (means[labels] + 1.6 * rng.normal(size=(10_000, 32))).astype(np.float32)
head = LinearHead(32, 100, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    head.weight.copy_(torch.from_numpy(0.4 * means))
    head.bias.copy_(torch.from_numpy(np.log(counts) - 0.2 * (means**2).sum(1)))
logits = head(torch.from_numpy(vectors))[0].detach().numpy()
features = Features(
    vectors=vectors, logits=logits, predicted=logits.argmax(1), confidence=softmax(logits, axis=1).max(1),
    labels=labels, ids=np.arange(10_000).astype(str), classes=Classes(tuple(f"class {c}" for c in range(100)), counts),
)
app = prior(features, types.SimpleNamespace(head=head))
app
"""
LABELS = "[...document.querySelectorAll('.wb-prior svg')].map((chart) => chart.getAttribute('aria-label')).join('|')"


@pytest.fixture(scope="module")
def view(module_notebook: Callable[[list[str]], Notebook]) -> Notebook:
    """Both apps in one notebook: a kernel that imports torch costs seconds."""
    return module_notebook([BENCH, PRIOR])


def bars(app: Locator, card: str) -> list[str]:
    """What the bars of a card say on hover."""
    return app.locator(".wb-card", has_text=card).locator("rect > title").all_text_contents()


def test_a_loss_that_is_chosen_is_trained_and_seen(view: Notebook) -> None:
    app = view.frame.locator(".wb-loss-bench")
    app.locator("svg[aria-label*='LA τ 1: many']").first.wait_for()
    regions = app.locator(".wb-card", has_text="Decision regions")
    before = regions.locator("svg").get_attribute("aria-label")
    app.get_by_role("combobox").first.select_option(label="LDAM")
    app.locator("svg[aria-label*='LDAM largest margin 0.5: many']").nth(1).wait_for()
    few = view.evaluate_in_kernel("100 * bench._known[bench.settings].accuracy['few'].estimate")
    seen = bars(app, "Accuracy by group")
    assert any(bar.startswith(f"LDAM largest margin 0.5, few: {few:.1f} %") for bar in seen)
    assert any(bar.startswith("was LA τ 1, few: ") for bar in seen)
    assert regions.locator("svg").get_attribute("aria-label") != before
    assert regions.locator("[clip-path] title", has_text="training point").count() == 248
    app.get_by_text("cached features", exact=True).click()
    app.get_by_text("There are no features to retrain a head on").wait_for()
    app.get_by_text("2-D toy", exact=True).click()
    app.locator(".wb-code", has_text="loss_bench().set('ldam', max_margin=0.5)").wait_for()
    regions.locator("svg").wait_for()
    assert view.errors == []


def test_sliders_of_the_prior_move_the_bars_at_10000_images_of_100_classes(view: Notebook) -> None:
    app = view.frame.locator(".wb-prior")
    app.locator("svg[aria-label*='adjusted: all']").nth(1).wait_for()
    handle = app.get_by_role("slider").first

    def lower(number: int) -> None:
        view.page.evaluate(f"() => {{ window.seen = {LABELS}; }}")
        handle.press("ArrowLeft")

    def moved(number: int) -> str:
        told = f"tau={round(0.95 - 0.05 * number, 2)},"
        return (
            f"document.querySelector('.wb-prior .wb-code').textContent.includes('{told}') && {LABELS} !== window.seen"
        )

    milliseconds = latency(view.page, lower, moved, repeats=5)
    print(f"from key to bars: {milliseconds:.0f} ms")
    assert milliseconds < 1500, "300 ms on an idle machine"
    assert view.evaluate_in_kernel("app.tau.value") == pytest.approx(0.75)
    few = view.evaluate_in_kernel("100 * app._intervals(app.decisions)['few'].estimate")
    assert any(bar.startswith(f"adjusted, few: {few:.1f} %") for bar in bars(app, "Accuracy by group"))
    assert view.errors == []


def test_the_prior_is_a_page_of_voila_whose_controls_move_the_bars(
    dashboard: Callable[[list[str]], Dashboard],
) -> None:
    view = dashboard([PRIOR])
    app = view.frame.locator(".wb-prior")
    app.locator("svg[aria-label*='adjusted: all']").nth(1).wait_for()
    before = bars(app, "Accuracy by group")
    for act, code in (
        (lambda: app.get_by_role("slider").first.press("ArrowRight"), "set(tau=1.05, target='balanced')"),
        (lambda: app.get_by_role("combobox").first.select_option(label="as in training"), "target='training'"),
    ):
        act()
        app.locator(".wb-code", has_text=code).wait_for()
        few = view.evaluate_in_kernel("100 * app._intervals(app.decisions)['few'].estimate")
        bar = app.locator("rect > title", has_text=f"adjusted, few: {few:.1f} %").first
        bar.wait_for(state="attached")
    after = bars(app, "Accuracy by group")
    assert after != before and len(after) == len(before) == 8
    app.get_by_role("button", name="reset").click()
    app.locator(".wb-code", has_text="set(tau=1.0, target='balanced')").wait_for()
    app.locator("rect > title", has_text=before[3]).wait_for(state="attached")
    assert view.last_error() is None and view.errors == []
