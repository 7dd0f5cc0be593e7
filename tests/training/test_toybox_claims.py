"""Conclusions of papers that are tests and not only measurements: large differences, fixed seeds, a margin."""

from dataclasses import replace
from pathlib import Path

import pytest

import workbench as wb
from workbench.data import toybox_corpus, toybox_descriptions

MARGIN = 0.03


@pytest.mark.slow
def test_logit_adjustment_is_above_cross_entropy_on_few_shot(tmp_path: Path) -> None:
    """LIFT's classifier on frozen features of `toybox_clip`, begun from text; measured on these seeds: 0.517 against
    0.299."""
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


@pytest.mark.slow
def test_balanced_draws_in_phase_b_lift_few_shot_classes(tmp_path: Path) -> None:
    """BALLAD's adapter on CLIP as it is, from balanced and from natural draws; measured on these seeds: 0.568
    against 0.406."""
    manifest = wb.Manifest.load("toybox_lt")
    train = wb.LongTailDataset(manifest, "train")
    test = wb.LongTailDataset(manifest, "test", per_class=20)
    text = wb.load_text_tower("toybox_clip")
    few = {}
    for sampler in ("class_aware", "shuffle"):
        found = []
        for seed in (0, 1):
            backbone = wb.load_backbone("toybox_clip")
            method = wb.create_method(
                "ballad",
                backbone,
                manifest.classes,
                text=text,
                seed=seed,
                towers="none",
                sampler_b=sampler,
                cached=True,
            )
            (recipe,) = method.stages(manifest)
            stage = replace(recipe, batch_size=32)
            run = wb.fit(method, train, out=tmp_path / f"{sampler}-{seed}", seed=seed, stages=[stage])
            found.append(wb.extract(run.method(), test, views="centre"))
        few[sampler] = wb.group_report(found).accuracy["few"]
    assert few["class_aware"] > few["shuffle"] + MARGIN


@pytest.mark.slow
def test_planted_bad_descriptions_end_with_lower_weights(tmp_path: Path) -> None:
    """HLC on frozen features, four of ten descriptions planted-bad: lower mean weight in more than half of the classes,
    by a sign test. Measured: 56 of 60 classes."""
    manifest = wb.Manifest.load("toybox_lt")
    texts, kinds = toybox_descriptions()
    method = wb.create_method(
        "hlc", wb.load_backbone("toybox_clip"), manifest.classes, text=wb.load_text_tower("toybox_clip"), texts=texts,
        corpus=toybox_corpus(), corpus_templates=None, visual="none", weights_lr_factor=10.0,
    )  # fmt: skip
    (recipe,) = method.stages(manifest)
    stage = replace(recipe.shortened(5), batch_size=32, cached=True)
    run = wb.fit(method, wb.LongTailDataset(manifest, "train"), out=tmp_path / "run", stages=[stage])
    weights = run.method().description_weights.numpy()
    signs = wb.description_weights(weights, kinds, classes=manifest.classes).signs["all"]
    assert signs.share > 0.5 + MARGIN and signs.p < 0.01
