"""The one conclusion of a paper that is a test and not only a measurement: logit adjustment lifts few-shot classes."""

from dataclasses import replace
from pathlib import Path

import pytest

import workbench as wb

MARGIN = 0.03  # measured on these seeds: 0.517 against 0.299


@pytest.mark.slow
def test_logit_adjustment_is_above_cross_entropy_on_few_shot(tmp_path: Path) -> None:
    """LIFT's classifier on frozen features of `toybox_clip`, begun from text; two seeds."""
    manifest = wb.Manifest.load("toybox_lt")
    train = wb.LongTailDataset(manifest, "train")
    test = wb.LongTailDataset(manifest, "test", per_class=20)
    text = wb.load_text_tower("toybox_clip")
    few = {}
    for loss in ("logit_adjusted", "cross_entropy"):
        found = []
        for seed in (0, 1):
            backbone = wb.load_backbone("toybox_clip")
            method = wb.create_method(
                "lift", backbone, manifest.classes, text=text, seed=seed, tuner="none", loss=loss, views="centre"
            )
            (recipe,) = method.stages(manifest)
            stage = replace(recipe.shortened(5), batch_size=32, lr=0.1, cached=True)
            run = wb.fit(method, train, out=tmp_path / f"{loss}-{seed}", seed=seed, stages=[stage])
            found.append(wb.extract(run.method(), test))
        few[loss] = wb.group_report(found).accuracy["few"]
    assert few["logit_adjusted"] > few["cross_entropy"] + MARGIN
