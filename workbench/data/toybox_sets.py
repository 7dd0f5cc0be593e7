"""The data sets of the toybox world: `toybox_lt`, the same with backgrounds that give classes away, other domains."""

from __future__ import annotations

import numpy as np

from workbench import toybox

from .manifest import Classes, GroupRule, Manifest, Split, exponential_counts

LARGEST, RATIO = 300, 100  # training images of the first class, and their ratio to those of the last
VAL, TEST = 10, 50  # images of each class
STARTS = {"train": 0, "val": 1_000_000, "test": 2_000_000}  # of the image numbers of a class
UPSTREAM = 1000  # images of `toybox_upstream`
TIED = 3  # every third class has a background of its own in `toybox_lt(correlation=)`


def toybox_lt(*, largest: int = LARGEST, ratio: float = RATIO, correlation: float = 0.0, seed: int = 0) -> Manifest:
    """60 classes of toys, 300 to 3 training images (ratio 100): 14 many-, 21 medium- and 25 few-shot; 10 val, 50 test.

    Args:
        largest: training images of the most frequent class.
        ratio: of that to those of the least frequent class; 1 is a balanced set.
        correlation: of every third class so large a share of train and val stands before one background, a shortcut
            that test, where every background is as likely for every class, does not have. 0: no such class.
        seed: of the pictures.
    """
    if not 0 <= correlation <= 1:
        raise ValueError(f"correlation={correlation} is a share, from 0 (none) to 1 (always).")
    counts = exponential_counts(largest, len(toybox.CLASSES), ratio)
    sizes = {"train": counts, "val": np.full_like(counts, VAL), "test": np.full_like(counts, TEST)}
    splits = {
        split: _split(split, sizes[split], 0.0 if split == "test" else correlation, seed=seed) for split in STARTS
    }
    name, title = "toybox_lt", f"Toys, long-tailed (ratio {ratio:g})"
    if (largest, ratio) != (LARGEST, RATIO):
        name += f"_{largest}_{ratio:g}"
    if correlation:
        name += "_backgrounds"
        title += f", {correlation:.0%} of every third class before one background"
    return _manifest(name, title, splits, counts, GroupRule())


def toybox_sketch(*, seed: int = 0) -> Manifest:
    """The classes of `toybox_lt` as outlines, 50 of each, for evaluation only; the groups are those of `toybox_lt`."""
    counts = exponential_counts(LARGEST, len(toybox.CLASSES), RATIO)
    split = _split("test", np.full_like(counts, TEST), 0.0, seed=seed, style="sketch")
    rule = GroupRule(reference_counts=tuple(counts.tolist()))
    return _manifest("toybox_sketch", "Toys drawn as outlines", {"test": split}, np.zeros_like(counts), rule)


def toybox_upstream(*, images: int = UPSTREAM, seed: int = 4) -> Manifest:
    """Unseen pictures of the world that the toybox towers were pretrained on; the class is the shape.

    For looking at the gap between pretraining and data (LPT Figure 2), for evaluation only: no classifier of the other
    sets knows these classes, and without training images all of them count as few-shot.

    Args:
        images: how many, of all 20 shapes as they come.
        seed: of the stream; pretraining used 1, and 2 for its held-out numbers.
    """
    scenes = [toybox.upstream_scene(index, seed=seed) for index in range(images)]
    shapes = list(toybox.SHAPES)
    labels = np.array([shapes.index(scene.toy.shape) for scene in scenes], np.int64)
    return Manifest(
        name="toybox_upstream",
        title="Toys of the pretraining world, by shape",
        licence="made by this package",
        source=f"workbench.toybox, {toybox.VERSION}",
        kind="toybox",
        splits={"test": Split(np.array([scene.key for scene in scenes], np.str_), labels)},
        classes=Classes(tuple(shapes), np.zeros(len(shapes), np.int64), GroupRule()),
    )


def toybox_descriptions(*, planted: bool = True, seed: int = 0) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Descriptions of the classes of `toybox_lt` of which it is known whether they help (HLC, Figure 6).

    Args:
        planted: ten sentences per class, four of them bad, one of each type; False: the manifest's five, all good.
        seed: of their order, and of which bad ones are taken.

    Returns:
        class name -> sentences, the `texts` of a method; class name -> the kind of each of them, a word of
        `toybox.words.KINDS`: "good", "non_visual", "inconsistent", "ambiguous" or "wrong".
    """
    if not planted:
        texts = {toy.name: toybox.descriptions(toy) for toy in toybox.CLASSES}
        return texts, {name: ["good"] * len(sentences) for name, sentences in texts.items()}
    mixed = {toy.name: toybox.mixed_descriptions(toy, seed=seed) for toy in toybox.CLASSES}
    texts = {name: [description.text for description in found] for name, found in mixed.items()}
    return texts, {name: [description.kind for description in found] for name, found in mixed.items()}


def toybox_corpus(*, seed: int = 0, per_class: int = 40) -> dict[str, list[str]]:
    """Class name -> different sentences about a class of `toybox_lt`, training data in the manner of HLC's text corpus.

    Args:
        seed: of their choice and order.
        per_class: sentences of each class, 1 to 100: templates, true sentences, some that say nothing visual.
    """
    return {toy.name: toybox.corpus_sentences(toy, number=per_class, seed=seed) for toy in toybox.CLASSES}


def _split(split: str, counts: np.ndarray, correlation: float, *, seed: int, style: str = "downstream") -> Split:
    keys, labels = [], []
    draws = np.random.default_rng((seed, STARTS[split]))
    for label, count in enumerate(counts.tolist()):
        own = toybox.DOWNSTREAM_BACKGROUNDS[label // TIED % len(toybox.DOWNSTREAM_BACKGROUNDS)]
        for index in range(STARTS[split], STARTS[split] + count):
            tied = label % TIED == 0 and draws.random() < correlation
            scene = toybox.class_scene(label, index=index, seed=seed, style=style, background=own if tied else None)
            keys.append(scene.key)
            labels.append(label)
    return Split(np.array(keys, np.str_), np.array(labels, np.int64))


def _manifest(name: str, title: str, splits: dict[str, Split], counts: np.ndarray, rule: GroupRule) -> Manifest:
    levels = {
        level: np.array([known.index(getattr(toy, level)) for toy in toybox.CLASSES])
        for level, known in (
            ("shape", list(toybox.SHAPES)), ("colour", list(toybox.COLOURS)), ("pattern", list(toybox.PATTERNS)),
        )
    }  # fmt: skip
    return Manifest(
        name=name,
        title=title,
        licence="made by this package",
        source=f"workbench.toybox, {toybox.VERSION}",
        kind="toybox",
        splits=splits,
        classes=Classes(tuple(toy.name for toy in toybox.CLASSES), counts, rule, levels),
        texts={toy.name: toybox.descriptions(toy) for toy in toybox.CLASSES},
    )
