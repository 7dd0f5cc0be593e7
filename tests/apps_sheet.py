"""The pictures of the apps in README: `python -m tests.apps_sheet`, minutes.

Each app is opened in JupyterLab in a headless Chromium with the example of `workbench dashboard`, and something chosen
in it: the first at 1400 pixels across the sheet, the others at 1000, two in a row.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent))

from browser.conftest import FLAGS
from browser.lab import Lab
from browser.views import Notebook, opener

OUT = Path(__file__).parents[1] / "notebooks" / "apps.jpg"
GAP, HIGH = 12, 500  # pixels between two pictures, and of those that stand in a row; what is below is cut off
EDGE = "#bdbdbd"

SHEET = {  # app -> what is chosen in it
    "explore": "app.select(\"group == 'few' and not correct\"); app.work.wait(); app.grid.tiles.active = 3",
    "compare": "",
    "prompts": "app = app.show(prompt=2)",
    "lens": "",
    "distances": "",
    "loss_bench": "app = app.set('logit_adjusted', tau=1.0)",
    "prior": "app = app.set(tau=1.0, target='balanced')",
    "descriptions": "",
    "papers": "from workbench.apps.papers import papers; app = papers('ballad:T7').show(measure='few')",
    "train": "app = wb.train(out=FOLDER / 'compare' / 'lift')",  # the run that `compare` has trained
}
CELL = """
from pathlib import Path
import workbench as wb
from workbench.apps.dashboard import dashboard
FOLDER = Path({folder!r})
app = dashboard({name!r}, here={folder!r}, folder=str(FOLDER / {name!r}))
{chosen}
"""
# nothing is loading, no work has its bar and its button, every picture is there, and all stood still for a second
READY = """(app) => new Promise((ready) => {
    let last = performance.now();
    const watch = new MutationObserver(() => { last = performance.now(); });
    watch.observe(app, { subtree: true, childList: true, attributes: true, characterData: true });
    const look = () => {
        const seen = (what) => [...app.querySelectorAll(what)].filter((one) => one.offsetParent);
        const cancel = seen('button').some((one) => one.textContent === 'cancel');
        const chart = seen('.wb-chart').some((one) => !one.firstChild);
        const picture = seen('img').some((one) => !one.complete);
        if (cancel || chart || picture || app.querySelector('.wb-loading')) last = performance.now();
        if (performance.now() - last < 1000) return setTimeout(look, 100);
        watch.disconnect();
        ready();
    };
    look();
})"""


def main() -> None:
    pictures = {}
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(FLAGS))
        lab = Lab(Path(folder))
        try:
            for name, chosen in SHEET.items():
                path = Path(folder) / f"{name}.png"
                with opener(Notebook, lab, browser, size=(1000 if pictures else 1400, 2000)) as opened:
                    view = opened([CELL.format(name=name, folder=folder, chosen=chosen), "app"])
                    app = view.page.locator(f".wb-{name.replace('_', '-')}")
                    app.wait_for()
                    app.evaluate(READY)
                    app.screenshot(path=path)
                picture = Image.open(path).convert("RGB")
                high = min(picture.height, HIGH) if pictures else picture.height
                pictures[name] = framed(picture.crop((0, 0, picture.width, high)))
                print(name, picture.size, flush=True)
        finally:
            lab.close()
            browser.close()
    arranged(list(pictures.values())).save(OUT, quality=76, optimize=True)


def framed(picture: Image.Image) -> Image.Image:
    """With white around it and a line around that."""
    wide, high = picture.size
    card = Image.new("RGB", (wide + 20, high + 20), "white")
    card.paste(picture, (10, 10))
    sheet = Image.new("RGB", (wide + 22, high + 22), EDGE)
    sheet.paste(card, (1, 1))
    return sheet


def arranged(pictures: list[Image.Image]) -> Image.Image:
    """The first across the sheet, the others two in a row below it."""
    first, *others = pictures
    wide = 2 * others[0].width + GAP
    top = first.resize((wide, round(first.height * wide / first.width)), Image.Resampling.LANCZOS)
    step = max(picture.height for picture in others) + GAP
    sheet = Image.new("RGB", (wide, top.height + -(-len(others) // 2) * step), "white")
    sheet.paste(top, (0, 0))
    for place, picture in enumerate(others):
        left, above = place % 2 * (picture.width + GAP), top.height + GAP + place // 2 * step
        sheet.paste(picture, (left, above))
    return sheet


if __name__ == "__main__":
    main()
