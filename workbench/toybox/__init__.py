"""The toybox: a small world of rendered toys, so that lessons and tests need neither downloads nor days.

A class is a combination, "striped red star"; upstream (pretraining) and downstream (`toybox_lt`) share every attribute
but no class, and the downstream pictures are spoilt: covered, blurred, badly lit, on backgrounds never met upstream.
Every picture is a function of its `Scene`, comes with the true mask of its toy, and can be rendered on another
background.
"""

from .scenes import (
    CLASSES,
    DOWNSTREAM_BACKGROUNDS,
    SIZE,
    STYLES,
    UPSTREAM_BACKGROUNDS,
    VERSION,
    Scene,
    Toy,
    class_scene,
    every_toy,
    render,
    scene_of,
    upstream_scene,
    upstream_toys,
)
from .shapes import SHAPES
from .textures import BACKGROUNDS, COLOURS, PATTERNS
from .words import Description, caption, corpus_sentences, descriptions, mixed_descriptions

__all__ = [
    "BACKGROUNDS",
    "CLASSES",
    "COLOURS",
    "DOWNSTREAM_BACKGROUNDS",
    "PATTERNS",
    "SHAPES",
    "SIZE",
    "STYLES",
    "UPSTREAM_BACKGROUNDS",
    "VERSION",
    "Description",
    "Scene",
    "Toy",
    "caption",
    "class_scene",
    "corpus_sentences",
    "descriptions",
    "every_toy",
    "mixed_descriptions",
    "render",
    "scene_of",
    "upstream_scene",
    "upstream_toys",
]
