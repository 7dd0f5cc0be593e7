"""HLC's inspector: what it shows is what the method computes; an edit reaches every view; code gives it again."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import workbench as wb
from workbench.apps.description_views import SETS
from workbench.apps.descriptions import Descriptions, descriptions
from workbench.features import Features
from workbench.methods.base import Encoded
from workbench.methods.hlc import HLC, HLCConfig

from .conftest import HOSTILE

C, M, N, E = 20, 3, 80, 64
NAMES = (HOSTILE, *(f"class {c}" for c in range(1, C)))
TEXTS = {name: [f"{name}, in view {number}" for number in range(M if c else 2)] for c, name in enumerate(NAMES)}


@cache
def text_tower() -> Any:
    return wb.load_text_tower("toybox_clip")


@cache
def inputs() -> tuple[HLC, Features]:
    rng = torch.Generator().manual_seed(0)
    classes = wb.Classes(NAMES, np.arange(C, 0, -1) ** 2, wb.GroupRule())
    config = HLCConfig(visual="none", cross_modal=False, descriptions=M, scale=20.0, candidates=4)
    method = HLC(wb.load_backbone("toybox_clip"), classes, config, seed=0)
    centres = F.normalize(torch.randn(C, E, generator=rng), dim=-1)
    method.head.weight = torch.nn.Parameter(centres + 0.15 * torch.randn(C, E, generator=rng))
    method.importance = torch.nn.Parameter(torch.rand(C, M, generator=rng))
    method.described[0, 2] = False
    method.descriptions = F.normalize(centres[:, None] + 0.25 * torch.randn(C, M, E, generator=rng), dim=-1)
    method.descriptions[0, 2] = 0
    method.eval()
    labels = torch.arange(N) % C
    vectors = centres[labels] + 0.25 * torch.randn(N, E, generator=rng)
    with torch.no_grad():
        output = method.classify(Encoded(vectors))
    features = Features(
        vectors=vectors.numpy(),
        logits=output.logits.numpy(),
        predicted=output.logits.argmax(1).numpy(),
        confidence=output.logits.softmax(1).amax(1).numpy(),
        labels=labels.numpy(),
        ids=np.array([f"test/{i}.jpg" for i in range(N)]),
        classes=classes,
    )
    return method, features


def settled(app: Descriptions) -> Descriptions:
    app.work.wait()
    app.images.pictured.work.wait()
    return app


@pytest.fixture
def shown() -> Descriptions:
    return settled(descriptions(*inputs(), texts=TEXTS))


def decided(method: HLC) -> list[int]:
    with torch.no_grad():
        return method.classify(Encoded(torch.tensor(inputs()[1].vectors))).logits.argmax(1).tolist()


def line(app: Descriptions, number: int) -> Any:
    return app.rows.lines[app.rows.numbers.index(number)]


def test_sets_of_images_are_those_of_the_coarse_classifier_and_the_decision(shown: Descriptions) -> None:
    method, features = inputs()
    with torch.no_grad():
        candidates = method.classify(Encoded(torch.tensor(features.vectors))).extras["candidates"].numpy()
    coarse, labels, right = candidates[:, 0], features.labels, features.correct
    known = (candidates == labels[:, None]).any(1)
    expected = (
        (coarse != labels) & right,
        (coarse == labels) & ~right,
        ~right & known,
        ~known,
        labels < 0,
        labels >= 0,
    )
    for which, inside in zip(SETS, expected, strict=True):
        shown.images.set.value = which
        assert shown.images.selection.rows.tolist() == np.flatnonzero(inside).tolist(), which
        assert len(shown.images.tiles.cells) == min(inside.sum(), 60)
    assert expected[0].sum() > 1 and expected[2].sum() > 1, "or this test shows nothing"
    shown.images.search.value = "class 3"
    assert set(labels[shown.images.selection.rows]) == {3}


def test_weights_cosines_and_probabilities_are_the_methods(shown: Descriptions) -> None:
    method, features = inputs()
    r = int(shown.images.selection.rows[1])
    shown.images.tiles.active = 1
    assert shown.row == r and shown.candidate == features.predicted[r]
    with torch.no_grad():
        output = method.classify(Encoded(torch.tensor(features.vectors[r : r + 1])))
    candidates = output.extras["candidates"][0].tolist()
    for c in candidates:
        shown.bars.picked = {"key": str(c), "n": c}
        weights = method.description_weights[c].numpy()
        cosines = output.extras["description_match"][0, candidates.index(c)].numpy()
        products = weights * cosines
        assert shown.rows.numbers == np.argsort(-products[: len(TEXTS[NAMES[c]])]).tolist()
        for number in shown.rows.numbers:
            assert line(shown, number).text.value == TEXTS[NAMES[c]][number]
            said = f"{weights[number]:.2f} &times; {cosines[number]:.3f} = {products[number]:.4f}"
            assert said in line(shown, number).numbers.value
    drawn = {m["key"]: m["y"] for m in shown.bars.spec["marks"] if m["kind"] == "bar" and m.get("opacity") is None}
    assert [drawn[str(c)] for c in candidates] == pytest.approx(
        (100 * output.logits.exp()[0, candidates]).tolist(), abs=0.05
    )


def test_an_edit_decides_as_a_method_made_so_and_every_view_follows(shown: Descriptions) -> None:
    method, features = inputs()
    shown.images.ask(SETS[-1], "")
    for c in (4, 7):
        r = int(np.flatnonzero(features.predicted == c)[0])
        shown.look(str(features.ids[r]), NAMES[c])
        line(shown, 1).used.value = False
        line(shown, 0).factor.value = 0.1
    edited = copy.deepcopy(method)
    with torch.no_grad():
        edited.described[[4, 7], 1] = False
        edited.importance[[4, 7], 0] += np.log(0.1)
    after = decided(edited)
    changed = np.flatnonzero(np.array(after) != features.predicted)
    assert len(changed), "or this test shows nothing"
    assert shown.edit_log.edits.decisions.tolist() == after
    assert f"{len(changed)} of {N} decisions are others" in shown.effect.value
    few = wb.metrics.group_accuracy(np.array(after), features.labels, np.asarray(features.classes.groups))["few"]
    assert f"<td>{100 * few:.1f}</td>" in shown.effect.value
    assert f"silence({NAMES[4]!r}, 1)" in shown.code.code and f"weigh({NAMES[7]!r}, 0, 0.1)" in shown.code.code
    captions = [cell["title"].split("; decision ")[1] for cell in shown.images.tiles.cells]
    assert captions == [NAMES[c] for c in after[:60]]
    shown.images.set.value = "changed by the edits"
    assert shown.images.selection.rows.tolist() == changed.tolist()
    assert "with your edits: " in shown.about.value
    shown.undo.click()
    assert shown.edit_log.edits.decisions.tolist() == features.predicted.tolist() and "No edits" in shown.effect.value
    assert "silence" not in shown.code.code and "with your edits: " not in shown.about.value


def test_a_sentence_is_encoded_with_the_text_tower() -> None:
    method, features = inputs()
    app = settled(descriptions(method, features, texts=TEXTS, text=text_tower()))
    assert "may be rewritten" in app.head.value and not app.rows.lines[0].text.disabled
    c, number = app.candidate, app.rows.numbers[0]
    line(app, number).text.value = "It is a red star."
    settled(app)
    edited = copy.deepcopy(method)
    edited.descriptions[c, number] = F.normalize(text_tower().encode(["It is a red star."])[0].detach(), dim=-1)
    assert app.edit_log.edits.decisions.tolist() == decided(edited)
    assert f"reword({NAMES[c]!r}, {number}, 'It is a red star.')" in app.code.code
    line(app, number).text.value = " "
    settled(app)
    assert "An empty sentence says nothing" in app.message.value and line(app, number).text.value == "It is a red star."
    line(app, number).text.value = TEXTS[NAMES[c]][number]
    settled(app)
    assert "reword" not in app.code.code and app.edit_log.edits.decisions.tolist() == features.predicted.tolist()


def test_the_line_of_code_gives_what_is_seen_again() -> None:
    method, features = inputs()
    app = settled(descriptions(method, features, texts=TEXTS, text=text_tower()))
    app.select("wrong, truth among candidates")
    app.images.tiles.active = 1
    app.bars.picked = {"key": str(int(app.edit_log.edits.candidates[app.row, 2])), "n": 1}
    line(app, 1).used.value = False
    line(app, 0).factor.value = 3.0
    line(app, 0).text.value = "It is blue."
    settled(app)
    given = {"descriptions": descriptions, "method": method, "features": features, "dataset": None}
    again = settled(eval(app.code.code, given | {"texts": TEXTS, "text": text_tower()}))
    assert again.code.code == app.code.code and (again.row, again.candidate) == (app.row, app.candidate)
    assert again.edit_log.edits.decisions.tolist() == app.edit_log.edits.decisions.tolist()
    assert again.bars.spec == app.bars.spec and again.effect.value == app.effect.value
    written = [sorted(one.numbers.value for one in each.rows.lines) for each in (app, again)]
    assert written[0] == written[1], "an edit leaves the lines where they are; looking anew ranks them again"


def test_states_say_what_to_do(shown: Descriptions) -> None:
    method, features = inputs()
    assert "features is a NoneType; give Features" in descriptions(method, None).message.value  # type: ignore[arg-type]
    probe = wb.create_method("linear_probe", method.backbone, method.classes)
    assert "linear_probe has no weighted descriptions" in descriptions(probe, features).message.value
    fewer = replace(features, classes=wb.Classes(tuple(map(str, range(C))), features.classes.counts))
    assert "names or order differ" in descriptions(method, fewer).message.value
    narrow = settled(descriptions(method, replace(features, vectors=features.vectors[:, :9])))
    assert "this hlc takes (N, 64)" in narrow.message.value
    unnamed = settled(descriptions(method, features))
    assert "No sentences were given" in unnamed.note.value and line(unnamed, 0).text.value == "description 0"
    other = settled(descriptions(method, features, texts={name: ["one"] for name in NAMES}))
    assert "others than those that the method was made of" in other.note.value
    strange = settled(descriptions(method, replace(features, predicted=(features.predicted + 1) % C), texts=TEXTS))
    assert "for 0 % of the images only" in strange.note.value
    assert "to rewrite sentences pass text=wb.load_text_tower" in shown.head.value and shown.rows.lines[0].text.disabled
    assert "Pass dataset=LongTailDataset" in shown.images.message.value
    shown.images.set.value = "changed by the edits"
    assert "No image is chosen" in shown.about.value and "No images are like that" in shown.images.tiles.empty
    with pytest.raises(ValueError, match="No class is called 'x'"):
        shown.silence("x", 0)
    with pytest.raises(ValueError, match="No image of these features"):
        shown.look("x", NAMES[0])


def test_what_is_refused_is_said_and_the_control_goes_back(shown: Descriptions) -> None:
    _, features = inputs()
    r = int(np.flatnonzero((shown.edit_log.edits.candidates == 0).any(1).numpy())[0])
    shown.look(str(features.ids[r]), HOSTILE)
    line(shown, 0).used.value = False
    line(shown, 1).used.value = False
    assert "keeps at least one description" in shown.message.value and line(shown, 1).used.value
    assert "<img" not in shown.message.value + shown.head.value + shown.about.value + shown.images.chip.text.value
    line(shown, 0).used.value = True
    assert shown.message.value == "" and shown.edit_log.changes == {}


def test_images_are_shown_and_a_method_brings_its_tower() -> None:
    manifest = wb.Manifest.load("toybox_lt")
    test = wb.LongTailDataset(manifest, "test", per_class=1)
    method = wb.create_method(
        "hlc", wb.load_backbone("toybox_clip"), manifest.classes, text=text_tower(), texts=manifest.texts, prompts=1
    )
    app = settled(descriptions(method.eval(), wb.extract(method, test), test))
    settled(app.select("all images"))
    assert app.images.tiles.sheet and "<img" in app.about.value and app.note.value == ""
    assert line(app, 0).text.value == manifest.texts[manifest.classes.names[app.candidate]][0]
    assert app.edit_log.tower is not None and "may be rewritten" in app.head.value
