"""What is said of a toy is what it is planted to be: true, or bad in a known way; a corpus speaks of its class."""

import re

import numpy as np
import pytest

from workbench import toybox
from workbench.data import toybox_corpus, toybox_descriptions
from workbench.toybox.words import (
    COLOUR_SENTENCES,
    KINDS,
    NEVER_DRAWN,
    NON_VISUAL,
    NOTHING_TO_SEE,
    OTHER_SENSE,
    PATTERN_SENTENCES,
    SHAPE_SENTENCES,
    TEMPLATES,
)

TEXTS, KIND_OF = toybox_descriptions()


def facts(toy: toybox.Toy) -> dict[str, set[str]]:
    """Every true sentence about a toy, by attribute; written from the tables, not from the functions."""
    return {
        "shape": set(SHAPE_SENTENCES[toy.shape]),
        "colour": {text.format(toy.colour) for text in COLOUR_SENTENCES},
        "pattern": set(PATTERN_SENTENCES[toy.pattern]),
    }


def of_kind(toy: toybox.Toy, kind: str) -> list[str]:
    return [text for text, own in zip(TEXTS[toy.name], KIND_OF[toy.name], strict=True) if own == kind]


def test_every_class_has_six_good_sentences_and_one_of_each_failure_in_an_order_of_its_own() -> None:
    assert list(TEXTS) == list(KIND_OF) == [toy.name for toy in toybox.CLASSES]
    for toy in toybox.CLASSES:
        assert len(set(TEXTS[toy.name])) == 10
        assert sorted(KIND_OF[toy.name]) == sorted([*["good"] * 6, *KINDS[1:]])
    bad = np.array([[kind != "good" for kind in kinds] for kinds in KIND_OF.values()])
    assert (bad.sum(0) > 10).all()  # of 60, 24 expected: no place gives the kind away


@pytest.mark.parametrize("toy", toybox.CLASSES, ids=lambda toy: toy.name)
def test_good_sentences_are_true_and_bad_ones_are_not_about_this_toy(toy: toybox.Toy) -> None:
    true = set.union(*facts(toy).values())
    assert set(of_kind(toy, "good")) <= true and set(toybox.descriptions(toy)) < set(of_kind(toy, "good"))
    (wrong,), (other_sense,), (never,) = (of_kind(toy, kind) for kind in ("wrong", "ambiguous", "inconsistent"))
    assert wrong not in true and other_sense == OTHER_SENSE[toy.shape] and never == NEVER_DRAWN[toy.shape]
    assert of_kind(toy, "non_visual")[0] in NOTHING_TO_SEE
    assert not any(re.search(rf"\b{toy.shape}\b", text) for text in (other_sense, never, *NOTHING_TO_SEE))


def test_a_wrong_sentence_is_true_of_another_class_that_shares_all_else() -> None:
    attributes = []
    for toy in toybox.CLASSES:
        (wrong,) = of_kind(toy, "wrong")
        (attribute,) = {name for other in toybox.CLASSES for name, texts in facts(other).items() if wrong in texts}
        attributes.append(attribute)
        differ = [o for o in toybox.CLASSES if getattr(o, attribute) != getattr(toy, attribute)]
        shared = {o: sum(getattr(o, n) == getattr(toy, n) for n in ("shape", "colour", "pattern")) for o in differ}
        assert max(shared[o] for o in differ if wrong in facts(o)[attribute]) == max(shared.values())
    assert {attributes.count(name) > 8 for name in ("shape", "colour", "pattern")} == {True}  # of 60, 20 expected


def test_what_is_never_drawn_names_no_background_of_these_pictures() -> None:
    assert set(NEVER_DRAWN) == set(OTHER_SENSE) == set(toybox.SHAPES)
    for text in NEVER_DRAWN.values():
        assert not set(re.findall("[a-z]+", text.lower())) & set(toybox.DOWNSTREAM_BACKGROUNDS)
    every = [*NEVER_DRAWN.values(), *OTHER_SENSE.values(), *NOTHING_TO_SEE]
    words = set(re.findall("[a-z]+", " ".join(every).lower()))
    assert len(set(every)) == len(every) and not words & (set(toybox.COLOURS) | set(toybox.PATTERNS))


def test_descriptions_and_corpus_are_the_same_on_every_call_and_others_with_another_seed() -> None:
    assert toybox_descriptions() == (TEXTS, KIND_OF) and toybox_corpus() == toybox_corpus()
    assert toybox_descriptions(seed=1)[0] != TEXTS and toybox_corpus(seed=1) != toybox_corpus()
    own, kinds = toybox_descriptions(planted=False)
    assert own == {toy.name: toybox.descriptions(toy) for toy in toybox.CLASSES}
    assert {name: len(texts) for name, texts in own.items()} == {name: len(texts) for name, texts in kinds.items()}
    assert {kind for found in kinds.values() for kind in found} == {"good"}


def test_the_corpus_names_its_class_says_what_is_true_and_some_that_cannot_be_seen() -> None:
    corpus = toybox_corpus(per_class=40)
    assert list(corpus) == [toy.name for toy in toybox.CLASSES]
    for toy in toybox.CLASSES:
        found = corpus[toy.name]
        assert len(found) == len(set(found)) == 40
        named = {template.format(toy.name) for template in TEMPLATES} & set(found)
        unseen = {text.format(toy.shape) for text in NON_VISUAL} & set(found)
        assert (len(named), len(unseen)) == (11, 4)
        true = set.union(*facts(toy).values())
        rest = [set(re.findall(r"[^.]+\.", text)) for text in found if text not in named | unseen]
        assert all({part.strip() for part in parts} <= true for parts in rest)
    with pytest.raises(ValueError, match="101 sentences per class"):
        toybox_corpus(per_class=101)
    assert [len(texts) for texts in toybox_corpus(per_class=100).values()] == [100] * 60
