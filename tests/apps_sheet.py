"""The pictures of the apps in README: `python -m tests.apps_sheet`, after `make reproduce`, whose runs they show.

Each app is opened in JupyterLab in a headless Chromium at 1400 pixels, with something chosen in it.
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

ROOT = Path(__file__).parents[1]
OUT = ROOT / "notebooks" / "apps.jpg"
COLUMNS, WIDE, HIGH = 3, 620, 470  # of the sheet, and of one picture in pixels

SETUP = f"""
import workbench as wb
runs = {str(ROOT / "runs")!r}
def opened(path):
    run = wb.Run.load(f"{{runs}}/{{path}}")
    method = run.method()
    return run, method
test = wb.LongTailDataset(wb.Manifest.load("toybox_lt"), "test", per_class=20)
train = wb.LongTailDataset(wb.Manifest.load("toybox_lt"), "train")
"""
SHEET = {  # app -> what opens it, as `app`
    "explore": """
run, method = opened("toybox_tables/AdaptFormer-lr0.01-seed0")
features = wb.extract(method, test, views="centre")
app = wb.explore(features, test, method).select("group == 'few' and not correct")
app.work.wait()
app.tiles.active = 3""",
    "compare": """
_, one = opened("toybox_tables/AdaptFormer-lr0.01-seed0")
_, two = opened("toybox_tables/linear probe-lr0.01-seed0")
seen = {name: wb.extract(each, test, views="centre") for name, each in {"LIFT": one, "linear probe": two}.items()}
app = wb.compare(seen, test)""",
    "prompts": """
_, method = opened("toybox_prompts/LPT phase 2-lr0.01-seed0")
app = wb.prompts(method, test).show(prompt=6)""",
    "lens": """
_, one = opened("toybox_prompts/GNM-PT-lr0.01-seed0")
_, two = opened("toybox_prompts/LT-DPT-lr0.01-seed0")
app = wb.lens({"gnm_pt": one, "lt_dpt": two}, test)""",
    "distances": """
_, method = opened("toybox_tables/AdaptFormer-lr0.01-seed0")
images = {"train": train, "test": test}
app = wb.distances(*(wb.extract(method, part, views="centre") for part in images.values()), images)""",
    "train": """
import os
os.chdir(runs + "/..")
app = wb.train(out=runs + "/toybox_tables/AdaptFormer-lr0.01-seed0")""",
    "loss_bench": "app = wb.loss_bench()",
    "prior": """
_, method = opened("toybox_tables/CE-lr0.01-seed0")
app = wb.prior(wb.extract(method, test, views="centre"), method).set(tau=1.0, target="balanced")""",
    "descriptions": """
_, method = opened("toybox_hlc/HLC-lr0.0005-factor1-seed0")
features = wb.extract(method, test, views="centre")
from workbench.data import toybox_descriptions
app = wb.descriptions(method, features, test, texts=toybox_descriptions()[0])""",
}


def main() -> None:
    pictures = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(FLAGS))
        lab = Lab(Path(folder))
        try:
            for name, cell in SHEET.items():
                path = Path(folder) / f"{name}.png"
                with opener(Notebook, lab, browser) as opened:
                    view = opened([SETUP + cell, "app"])
                    view.resize(1400, 2000)
                    app = view.page.locator(".wb-app").first
                    app.wait_for()
                    app.scroll_into_view_if_needed()
                    view.page.wait_for_timeout(8000)  # answers of threads; a picture, not a test
                    app.screenshot(path=path)
                picture = Image.open(path).convert("RGB")
                scale = WIDE / picture.width
                pictures.append(picture.resize((WIDE, round(scale * picture.height)), Image.Resampling.LANCZOS))
                print(name, picture.size)
        finally:
            lab.close()
            browser.close()
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (WIDE + 10) - 10, rows * (HIGH + 10) - 10), "white")
    for place, picture in enumerate(pictures):
        top, left = place // COLUMNS * (HIGH + 10), place % COLUMNS * (WIDE + 10)
        sheet.paste(picture.crop((0, 0, WIDE, min(picture.height, HIGH))), (left, top))
    sheet.save(OUT, quality=85)


if __name__ == "__main__":
    main()
