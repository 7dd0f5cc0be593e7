"""CLIP's vectors of the class names on a real pretrained ViT, which a ridge map has given a joint space."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import real_text
import torch
import torch.nn.functional as F
from torch import Tensor

import workbench as wb

pytestmark = pytest.mark.slow

PROMPT = "a_photo_of_a"


@dataclass(frozen=True)
class Fitted:
    features: Tensor  # (1000, D) of one photograph per ImageNet class
    text: Tensor  # (1000, E)
    projection: Tensor  # (E, D), fitted on the other 800 classes
    test: Tensor  # (200,) classes: the 100 of Tiny-ImageNet-LT and 100 more
    manifest: wb.Manifest  # of two training and two test photographs of each class of Tiny-ImageNet-LT


@pytest.fixture(scope="module")
def fitted(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    folder = tmp_path_factory.mktemp("real_text")
    with (real_text.PHOTOS / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    seen: dict[tuple[str, str], int] = {}
    with (folder / "few.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["split", "path", "label"])
        writer.writeheader()
        for row in rows:
            key = (row["split"], row["label"])
            seen[key] = seen.get(key, 0) + 1
            if seen[key] <= 2:
                writer.writerow(row)
    names = real_text.PHOTOS / "classes.csv"
    options = {"root": real_text.PHOTOS, "splits": {"val": "test"}, "class_names": names, "out": folder}
    manifest = wb.import_dataset(folder / "few.csv", "few", **options).manifest
    tiny = real_text.tested_classes()
    others = np.random.default_rng(0).permutation(np.setdiff1d(np.arange(1000), tiny))
    test, fit = torch.from_numpy(np.concatenate([tiny, others[:100]])), torch.from_numpy(others[100:])
    features = torch.from_numpy(real_text.encode_photographs(real_text.SHARP))
    text = real_text.load_vectors(PROMPT, manifest.classes.names).vectors
    projection = real_text.fit_projection(features[fit], text[fit], "text to features")
    return Fitted(features, text, projection, test, manifest)


def test_names_find_the_photographs_of_classes_that_were_not_fitted(fitted: Fitted) -> None:
    found = real_text.answer(fitted.projection, fitted.features[fitted.test], fitted.text[fitted.test])
    assert (found == torch.arange(200)).double().mean() >= 0.5  # 60 % over random splits; chance is 0.5 %


def test_lift_starts_from_the_names_far_above_chance(fitted: Fitted) -> None:
    method = real_text.begin("text", fitted.manifest.classes, fitted.projection, seed=0)
    assert method.options["initialisation"] == "text" and method.backbone.joint_width == 512
    text = F.normalize(fitted.text[fitted.test[:100]], dim=1)  # (C, E)
    torch.testing.assert_close(method.head.weight.detach(), F.normalize(text @ fitted.projection, dim=1))
    torch.testing.assert_close(method.head.weight.norm(dim=1).detach(), torch.ones(100))
    images = wb.LongTailDataset(fitted.manifest, "test", root=real_text.PHOTOS)
    assert len(images) == 200
    assert wb.extract(method, images, views="centre").correct.mean() > 0.1  # 24 % on all 5,000; chance is 1 %


def test_a_run_begun_from_text_opens_without_the_map(fitted: Fitted, tmp_path: Path) -> None:
    method = real_text.begin("text", fitted.manifest.classes, fitted.projection, seed=0)
    train = wb.LongTailDataset(fitted.manifest, "train", root=real_text.PHOTOS, per_class=1)
    (stage,) = [stage.shortened(1) for stage in method.stages(fitted.manifest)]
    run = wb.fit(method, train, out=tmp_path / "run", stages=[stage])
    assert run.config["text"]["key"] == PROMPT and run.config["text"]["vectors"] == str(real_text.TEXT)
    images = run.dataset("test", per_class=1)
    trained, opened = (wb.extract(each, images, views="centre") for each in (method, run.method()))
    assert np.array_equal(trained.logits, opened.logits)
