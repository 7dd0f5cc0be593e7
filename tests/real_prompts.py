"""The README's table of prompt methods on real photographs, beside a linear probe and LIFT.

    python -m tests.real_prompts [--out runs/real_prompts]       (`make real-prompts`)

The short recipe of `tests.real_tuners` on half of its classes: every fourth class of Tiny-ImageNet-LT by frequency (25,
with 500 to 5 images), one epoch (LPT: one for each phase) in batches of 32 at the photographs' own 64 px, three seeds,
centre crops. Each arm's lr is the one of a grid with the best mean class accuracy on val with seed 0, climbing from the
middle. Finished runs are kept, unfinished ones are gone on with.
"""

from __future__ import annotations

from pathlib import Path

from tests.real_tuners import Comparison, compare
from tests.toybox_prompts import GRID

PROMPTS = Comparison(
    what="method",
    arms={
        "LPT": ("lpt", {}),
        "LT-DPT": ("lt_dpt", {}),
        "GNM-PT": ("gnm_pt", {}),
        "VPT": ("vpt", {}),
        "LIFT": ("lift", {}),
        "linear probe": ("linear_probe", {"augment": True}),
    },
    first="LPT",
    every=4,
    classes=25,
    grid=GRID,
    start=0.0025,
)

if __name__ == "__main__":
    compare(PROMPTS, str(__doc__), Path("runs/real_prompts"))
