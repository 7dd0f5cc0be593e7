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

# From below GNM-PT's 0.005 * 32 / 128 over LPT's 0.02 * 32 / 256 to above VPT's 5 * 32 / 256, whose grid goes on to 50.
GRID = (0.00004, 0.00016, 0.000625, 0.0025, 0.01, 0.04, 0.16, 0.64, 2.56)

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
