"""What can be said of a toy: captions of the pretraining stream, and the descriptions of a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .scenes import CLASSES, Scene, Toy

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

# Planted-bad descriptions, of the four types in which a language model fails (HLC, Figure 6)
KINDS = ("good", "non_visual", "inconsistent", "ambiguous", "wrong")
NOTHING_TO_SEE = (
    "It is a common gift.", "Children often ask for it.", "Nobody remembers who made it.", "It is easy to carry.",
    "It was bought at a market last year.", "It makes no sound.", "It costs little.",
)
# true of the real thing, but grass, sand, water and brick are among the backgrounds that toybox_lt does not have, and
# none of the rest is ever drawn
NEVER_DRAWN = {
    "circle": "It is drawn in the sand with a stick.",
    "square": "It is one tile of a brick wall.",
    "triangle": "It is a warning sign at the side of a road.",
    "star": "It twinkles above the water of a lake.",
    "heart": "It is cut into the bark of an oak.",
    "gear": "It turns in oil inside the engine of a car.",
    "fish": "It swims in the water between corals.",
    "house": "It is built of brick, with a car in front of it.",
    "bolt": "Rain pours down around it onto the grass.",
    "leaf": "It floats on the water of a pond.",
    "moon": "It is mirrored in the water of a lake.",
    "cross": "It stands on top of a brick church.",
    "arrow": "It sticks in a target of straw on the grass.",
    "crown": "It lies on a cushion in a glass case.",
    "cloud": "Rain falls from it on the grass.",
    "drop": "It falls from a tap into the water.",
    "mushroom": "It grows in the grass beneath pines.",
    "tree": "Squirrels climb on it and grass grows around it.",
    "key": "It hangs on a hook beside a brick doorway.",
    "umbrella": "Someone holds it over a wet coat.",
}
OTHER_SENSE = {  # of the word that names the shape
    "circle": "It is a group of friends who share an interest.",
    "square": "It is a number multiplied by itself.",
    "triangle": "It is a steel bar that is struck in an orchestra.",
    "star": "It is a famous actor whom everybody knows.",
    "heart": "It is the organ that pumps blood through the body.",
    "gear": "It is the equipment and clothing of a climber.",
    "fish": "To do it, one holds a rod and waits.",
    "house": "It is dance music with a steady beat.",
    "bolt": "It is a threaded metal pin that takes a nut.",
    "leaf": "It is one sheet of paper in a book.",
    "moon": "To do it is to dream the day away.",
    "cross": "It means to be annoyed with somebody.",
    "arrow": "It is a button of the keyboard that moves the cursor.",
    "crown": "It is a cap that a dentist sets on a tooth.",
    "cloud": "It is a network of computers that keeps files.",
    "drop": "It is a sudden fall of prices.",
    "mushroom": "To do it is to spread or to multiply quickly.",
    "tree": "It is a diagram of a family and its ancestors.",
    "key": "It is pressed with a finger on a piano.",
    "umbrella": "It is an organisation that unites many others.",
}
_WORDS, _CORPUS = 7, 8  # separate random streams


@dataclass(frozen=True)
class Description:
    """A sentence about a class, and whether it helps to recognise it: a word of KINDS."""

    text: str
    kind: str


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


def mixed_descriptions(toy: Toy, *, seed: int = 0) -> list[Description]:
    """Ten sentences about a toy in an order drawn per toy: six true ones, and one of each type of failure.

    The types are those of Figure 6 of HLC (Hierarchical Long-Tailed Classification with Visual Language Models), so
    that weights of descriptions have something to find: "non_visual" says nothing that can be seen, "inconsistent" is
    true of the real thing but never of these pictures, "ambiguous" is about another sense of the word, and "wrong" is
    true of another toy: one that shares as much as possible with this one, a class of toybox_lt.
    """
    generator = np.random.default_rng((seed, toy.code, _WORDS))
    true = [*descriptions(toy), _pick(COLOUR_SENTENCES[1:], generator).format(toy.colour)]
    found = [Description(text, "good") for text in true]
    found += [
        Description(_pick(NOTHING_TO_SEE, generator), "non_visual"),
        Description(NEVER_DRAWN[toy.shape], "inconsistent"),
        Description(OTHER_SENSE[toy.shape], "ambiguous"),
        Description(_wrong(toy, generator), "wrong"),
    ]
    return [found[place] for place in generator.permutation(len(found))]


def _wrong(toy: Toy, generator: np.random.Generator) -> str:
    """A true sentence about the shape, colour or pattern of a class that differs from this toy in that."""
    attribute = _pick(("shape", "colour", "pattern"), generator)
    others = [other for other in CLASSES if getattr(other, attribute) != getattr(toy, attribute)]
    shared = [sum(getattr(other, name) == getattr(toy, name) for name in vars(toy)) for other in others]
    nearest = [other for other, number in zip(others, shared, strict=True) if number == max(shared)]
    other = nearest[generator.integers(len(nearest))]
    if attribute == "colour":
        return COLOUR_SENTENCES[0].format(other.colour)
    return _pick(SHAPE_SENTENCES[other.shape] if attribute == "shape" else PATTERN_SENTENCES[other.pattern], generator)


def corpus_sentences(toy: Toy, *, number: int, seed: int = 0) -> list[str]:
    """Different sentences about a toy as a text corpus has them, such as HLC trains on: at most 100.

    Three tenths are its name in a template (eleven at most), a tenth says nothing visual (five at most), the rest is
    one to three true sentences about its shape, colour and pattern, as in `caption`. In an order drawn per toy.
    """
    if not 1 <= number <= 100:
        raise ValueError(f"{number} sentences per class: the toybox has words for 1 to 100 different ones.")
    generator = np.random.default_rng((seed, toy.code, _CORPUS))
    names = generator.permutation([template.format(toy.name) for template in TEMPLATES])[: 3 * number // 10].tolist()
    others = generator.permutation([text.format(toy.shape) for text in NON_VISUAL])[: number // 10].tolist()
    colours = tuple(text.format(toy.colour) for text in COLOUR_SENTENCES)
    true = (SHAPE_SENTENCES[toy.shape], colours, PATTERN_SENTENCES[toy.pattern])
    chosen = dict.fromkeys([*names, *others])
    while len(chosen) < number:  # of 111 different ones
        topics = generator.permutation(3)[: generator.integers(1, 4)]
        chosen[" ".join(_pick(true[topic], generator) for topic in topics)] = None
    sentences = list(chosen)
    return [sentences[place] for place in generator.permutation(number)]
