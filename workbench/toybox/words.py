"""What can be said of a toy: captions of the pretraining stream, and the descriptions of a class."""

from __future__ import annotations

import numpy as np

from .scenes import Scene, Toy

TEMPLATES = (
    "a photo of a {}.", "a picture of a {}.", "a photo of one {}.", "an image of the {}.", "a blurry photo of a {}.",
    "a drawing of a {}.", "a bright photo of a {}.", "a dark photo of a {}.", "a close-up photo of a {}.", "{}", "a {}",
)
SHAPE_SENTENCES = {
    "circle": ("It is perfectly round, without any corner.", "Its edge is one even curve."),
    "square": ("It has four equal sides and four right angles.", "It is a box with straight edges."),
    "triangle": ("It has three corners and three straight sides.", "It narrows to a point at the top."),
    "star": ("It has five pointed tips around its centre.", "Its outline goes in and out five times."),
    "heart": ("It has two round lobes on top and a point below.", "It is shaped like the sign of love."),
    "gear": ("It is a wheel with teeth and a hole in the middle.", "Short square teeth stand around its rim."),
    "fish": ("It has an oval body and a forked tail.", "It has a tail fin and a small eye."),
    "house": ("It has a pointed roof, a chimney and a door.", "A roof sits on top of its walls."),
    "bolt": ("It is a zigzag of lightning.", "It is a jagged flash with two sharp ends."),
    "leaf": ("It is a pointed oval with a short stem.", "It is slender, with a stalk at its lower end."),
    "moon": ("It is a crescent with two horns.", "It is a sickle, hollow on one side."),
    "cross": ("Two bars of equal length cross in its middle.", "It looks like a plus sign."),
    "arrow": ("It has a shaft and a broad pointed head.", "It points to one side."),
    "crown": ("It has three spikes above a broad base.", "It is what a king wears."),
    "cloud": ("It is made of puffy round bumps with a flat base.", "Soft bulges make up its outline."),
    "drop": ("It is round below and runs to a tip above.", "It looks like a tear."),
    "mushroom": ("It has a domed cap on a stout stalk.", "A wide cap sits on its stem."),
    "tree": ("It has stacked triangular branches over a trunk.", "It is a fir with a short trunk."),
    "key": ("It has a ring at one end and teeth at the other.", "It is a long shaft with a bow and two bits."),
    "umbrella": ("It has a canopy with a scalloped hem and a hooked handle.", "A dome stands over its bent stick."),
}
PATTERN_SENTENCES = {
    "plain": ("It has one even colour all over.", "Its surface is plain and without marks."),
    "striped": ("Parallel bands run across it.", "It is covered with straight stripes."),
    "dotted": ("Round spots cover it.", "It is sprinkled with dots."),
    "checked": ("Its surface is a checkerboard.", "Small squares of two shades alternate on it."),
    "ringed": ("Rings run around its centre.", "Concentric circles are painted on it."),
}
COLOUR_SENTENCES = ("Its colour is {}.", "It is painted {}.", "The whole thing looks {}.")
NON_VISUAL = (
    "A {} like this one is a common gift.", "Children often ask for a {}.", "Nobody remembers who made this {}.",
    "The {} was bought at a market last year.", "A {} is easy to carry.",
)


def _pick(options: tuple[str, ...], generator: np.random.Generator) -> str:
    return options[generator.integers(len(options))]


def caption(scene: Scene, *, generator: np.random.Generator) -> str:
    """One caption as the web might have it.

    The full name in a template (half of them), part of the name, the name before its background, one to three sentences
    about what can be seen, or one that says nothing visual.
    """
    toy = scene.toy
    kind = generator.random()
    if kind < 0.5:
        return _pick(TEMPLATES, generator).format(toy.name)
    if kind < 0.62:
        link = "in front of" if scene.background in ("brick", "sky", "night", "wood") else "on"
        return f"a {toy.name} {link} {scene.background}."
    if kind < 0.75:
        pattern, colour, shape = toy.pattern, toy.colour, toy.shape
        parts = (shape, f"{colour} {shape}", f"{pattern} {shape}", f"{pattern} {colour} thing")
        return _pick(TEMPLATES, generator).format(_pick(parts, generator))
    if kind < 0.94:
        sentences = [
            _pick(SHAPE_SENTENCES[toy.shape], generator),
            _pick(COLOUR_SENTENCES, generator).format(toy.colour),
            _pick(PATTERN_SENTENCES[toy.pattern], generator),
        ]
        chosen = generator.permutation(3)[: generator.integers(1, 4)]
        return " ".join(sentences[i] for i in chosen)
    return _pick(NON_VISUAL, generator).format(toy.shape)


def descriptions(toy: Toy) -> list[str]:
    """Sentences about what a toy looks like, all true: two of its shape, one of its colour, two of its pattern."""
    colour = COLOUR_SENTENCES[0].format(toy.colour)
    return [*SHAPE_SENTENCES[toy.shape], colour, *PATTERN_SENTENCES[toy.pattern]]
