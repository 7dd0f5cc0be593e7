"""From class names to class embeddings: cleaning names, sets of sentence templates, averaging over sentences.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, arXiv 2103.00020,
sec. 3.1.4: a class is the mean of the unit vectors of its sentences. A template stands for its article too ("a photo of
a apple."): that is what the published numbers were made with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Backbone

DESCRIPTIONS = "descriptions"


class SentenceEncoder(Protocol):
    """What stands for a text tower: `TextTower`, or `ClassVectors`, which knows class names only."""

    width: int  # E
    logit_scale: float
    names_only: bool

    def encode(self, sentences: Sequence[str]) -> Tensor: ...

    def spec(self) -> dict[str, Any]: ...


def _openai(name: str) -> tuple[str, ...]:
    """A template set that OpenAI published with CLIP, from open_clip's copy of it."""
    import open_clip

    return tuple(template("{}") for template in getattr(open_clip, name))


def _toybox() -> tuple[str, ...]:
    from workbench.toybox.words import TEMPLATES as upstream

    return upstream


# name -> its templates; {} is the class name
TEMPLATES: dict[str, Callable[[], tuple[str, ...]]] = {
    "class_name": lambda: ("{}",),
    "single": lambda: ("a photo of a {}.",),  # LIFT, BALLAD
    "imagenet_80": lambda: _openai("OPENAI_IMAGENET_TEMPLATES"),  # LIFT's "ensemble"
    "imagenet_7": lambda: _openai("SIMPLE_IMAGENET_TEMPLATES"),  # the 7 of them that do best on ImageNet
    "toybox": _toybox,  # those of the captions toybox_clip was trained on
}


def check_templates(templates: str | Sequence[str]) -> None:
    """Raises ValueError unless `templates` is a set's name, "descriptions", a template with its {}, or several."""
    if isinstance(templates, str) and (templates in TEMPLATES or templates == DESCRIPTIONS):
        return
    each = (templates,) if isinstance(templates, str) or not isinstance(templates, Sequence) else templates
    wrong = [template for template in each if not isinstance(template, str) or "{}" not in template]
    if wrong or not each:
        told = f", where {wrong[0]!r} has no {{}}," if wrong and each is templates else ""
        raise ValueError(
            f"templates={templates!r}{told} is not known; choose one of {', '.join((*TEMPLATES, DESCRIPTIONS))}, or "
            "write templates with {} for the class name, one such as 'a painting of a {}.' or a list of them."
        )


def clean_class_name(name: str) -> str:
    """A class name as it stands in a sentence: "airplane_cabin" -> "airplane cabin".

    Underscores become spaces, as in LIFT; so do slashes ("church/outdoor"), and spaces at the ends and double ones go.
    The case stays: CLIP's tokenizer ignores it.
    """
    return " ".join(name.replace("_", " ").replace("/", " ").split())


def class_sentences(
    names: Sequence[str], templates: str | Sequence[str], texts: Mapping[str, Sequence[str]] | None = None
) -> list[list[str]]:
    """For each class its sentences.

    Args:
        names: C class names as the data set has them; cleaned here.
        templates: a key of TEMPLATES; "descriptions": the sentences of `texts`, as they are and without the name (as in
            LIFT); or a template of your own with {} for the name, or several.
        texts: class name (uncleaned) -> sentences about the class, `Manifest.texts`.
    """
    check_templates(templates)
    if templates == DESCRIPTIONS:
        lacking = [name for name in names if not (texts or {}).get(name)]
        if lacking:
            raise ValueError(
                f"templates='descriptions' needs texts= with sentences for every class, but {len(lacking)} of "
                f"{len(names)} have none, first {lacking[0]!r}. Pass manifest.texts of a data set that has texts, or "
                f"choose one of {', '.join(TEMPLATES)}."
            )
        assert texts is not None
        return [list(texts[name]) for name in names]
    if isinstance(templates, str):
        chosen = TEMPLATES[templates]() if templates in TEMPLATES else (templates,)
    else:
        chosen = tuple(templates)
    # replace, not format: a class name or template may hold other braces
    return [[template.replace("{}", clean_class_name(name)) for template in chosen] for name in names]


@torch.no_grad()
def class_embeddings(
    encoder: SentenceEncoder,
    names: Sequence[str],
    *,
    templates: str | Sequence[str] | None = None,
    texts: Mapping[str, Sequence[str]] | None = None,
    unit: bool = True,
) -> Tensor:
    """One vector per class: unit vectors of its sentences, their mean, again of unit length.

    Args:
        encoder: a `TextTower`, which remembers sentences it has seen; or `ClassVectors`, whose sentences were chosen
            when they were made, so `templates` must be None.
        names: C class names.
        templates, texts: as for `class_sentences`; None is "single".
        unit: False leaves the mean as long as it is. Its inner product with a unit vector is then the mean of the
            cosines with the sentences, the score of Menon and Vondrick (ICLR 2023, arXiv 2210.07183, eq. 1).

    Returns:
        (C, E) float32, on the encoder's device.
    """
    if encoder.names_only:
        if templates is not None:
            raise ValueError(
                f"templates={templates!r} cannot be filled in: class vectors come with the sentences they were made "
                "from. Leave templates out, or use load_text_tower."
            )
        sentences = [[clean_class_name(name)] for name in names]
    else:
        sentences = class_sentences(names, templates or "single", texts)
    vectors = F.normalize(encoder.encode([sentence for group in sentences for sentence in group]), dim=-1)
    means = torch.stack([group.mean(0) for group in vectors.split([len(group) for group in sentences])])
    return F.normalize(means, dim=-1) if unit else means


def joint_embeddings(
    backbone: Backbone,
    encoder: SentenceEncoder,
    names: Sequence[str],
    *,
    templates: str | Sequence[str] | None = None,
    texts: Mapping[str, Sequence[str]] | None = None,
    unit: bool = True,
) -> Tensor:
    """`class_embeddings` for the joint space of an image tower: (C, E) float32, on the image tower's device.

    Raises:
        ValueError: the image tower has no joint space, or one of another width than the text vectors.
    """
    check_joint_space(backbone, encoder)
    return class_embeddings(encoder, names, templates=templates, texts=texts, unit=unit).to(backbone.device)


def check_joint_space(backbone: Backbone, encoder: SentenceEncoder) -> None:
    """ValueError unless the image tower has a joint space, as wide as the text vectors."""
    if backbone.joint_width is None:
        raise ValueError(
            f"{backbone.name} has no joint image-text space, so class names cannot be compared with its images. Use a "
            "CLIP tower with its projection, for example vit_base_patch16_clip_quickgelu_224.openai, or leave text out."
        )
    if encoder.width != backbone.joint_width:
        raise ValueError(
            f"The text vectors are {encoder.width} wide and the joint space of {backbone.name} is "
            f"{backbone.joint_width} wide: they belong to different models. Load both towers under the same name."
        )
