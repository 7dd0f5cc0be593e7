"""What a method is: the contract between backbones, training, runs and diagnostics.

A method owns its backbone and splits its forward pass in two, `encode` (images to features, the expensive part) and
`classify` (features to logits), so that a stage in which nothing before the head moves can train on cached features.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from workbench.backbones import TextTower, joint_embeddings
from workbench.data import default_expand, evaluation_preprocessing, training_preprocessing
from workbench.methods.stages import Clock as Clock
from workbench.methods.stages import Stage as Stage
from workbench.methods.stages import check_choice as check_choice

if TYPE_CHECKING:
    from workbench.backbones import Backbone, SentenceEncoder
    from workbench.data import Classes, LongTailDataset, Manifest, Preprocessing

Sentences = Mapping[str, Sequence[str]]  # class name -> sentences

METHODS = {
    "zero_shot": "workbench.methods.zero_shot:ZeroShot",
    "linear_probe": "workbench.methods.linear_probe:LinearProbe",
    "full_finetune": "workbench.methods.full_finetune:FullFinetune",
    "wise_ft": "workbench.methods.wise_ft:WiSEFT",
    "lift": "workbench.methods.lift:LIFT",
    "vpt": "workbench.methods.vpt:VPT",
    "lpt": "workbench.methods.lpt:LPT",
    "gnm_pt": "workbench.methods.gnm_pt:GNMPT",
    "lt_dpt": "workbench.methods.lt_dpt:LTDPT",
    "coop": "workbench.methods.coop:CoOp",
    "ballad": "workbench.methods.ballad:BALLAD",
    "hlc": "workbench.methods.hlc:HLC",
}


@dataclass(frozen=True)
class Encoded:
    """What `encode` returns. features: (B, D) float32; extras: named tensors with B rows each."""

    features: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    """What `classify` returns.

    logits: (B, C), scaled: softmax(logits) is the model's probability and argmax its decision.
    features: (B, D), what the head saw. cosine: (B, C) in [-1, 1], or None where the head has none.
    extras: named tensors with B rows each (matched prompts, candidates, ...).
    """

    logits: Tensor
    features: Tensor
    cosine: Tensor | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)


class Method(nn.Module):
    """A way to turn a pretrained backbone into a long-tailed classifier.

    Subclasses set `name`, `Config` (a frozen keyword-only dataclass: the options of `create_method`), build their
    modules in `__init__`, and define `tuned`, `encode`, `loss` and `stages`; `classify` is the head unless overridden.
    One that reads class names also sets `uses_text` and defines `use_text`; one that runs or trains the text tower
    itself sets `owns_text` and keeps it as `text_tower`.
    """

    name: ClassVar[str]
    Config: ClassVar[type]
    uses_text: ClassVar[bool] = False  # False: a text tower given to `create_method` is left aside
    owns_text: ClassVar[bool] = False  # True: the text tower is a module of the method, and a run builds it again
    # how `extract` looks at a test image unless told otherwise: data.Preprocessing.with_views, and what is averaged
    test_views: str = "centre"
    test_expand: int | None = None  # pixels; None: data.default_expand
    test_resize: Literal["shorter", "square"] = "shorter"
    test_mean: Literal["logits", "log_probabilities"] = "logits"

    head: nn.Module
    text_tower: TextTower | None
    clock: Clock | None = None  # where training stands, set by `fit` before each step; None outside of training

    def __init__(self, backbone: Backbone, classes: Classes, config: Any, *, seed: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classes = classes
        self.config = config
        self.seed = seed
        self.text_tower = None
        self.text: dict[str, Any] | None = None  # `spec()` of the text tower that `use_text` read, for the record

    # -- what a subclass says about itself ---------------------------------------------------------------------------

    @property
    def tuned(self) -> tuple[str, ...]:
        """Prefixes of the parameter names that any stage trains; `state` holds these and all that is not backbone."""
        raise NotImplementedError

    def prepare(self, train: LongTailDataset, **progress: Any) -> None:
        """Set up what needs training images before the first step (a head from class means). Called once by `fit`."""

    def use_text(self, text: SentenceEncoder | None, texts: Sentences | None, corpus: Sentences | None) -> None:
        """Take from a text tower what the method needs of it; ValueError where it needs one and there is none.

        Called once by `create_method`, not when a run is opened again: what is taken belongs into `state`, unless the
        method owns the tower.
        """

    def needed_text(self, text: SentenceEncoder | None, asked_by: str | None = None) -> SentenceEncoder:
        """The text tower, which is noted for the record; ValueError where there is none. asked_by: options."""
        if text is None:
            who = f"{self.name} needs" if asked_by is None else f"{asked_by} need"
            raise ValueError(
                f"{who} the text tower of the backbone: create_method({self.name!r}, backbone, classes, "
                "text=load_text_tower(name)), with the name of the backbone (workbench fit --text)."
            )
        self.text = text.spec()
        return text

    def owned_text(self, text: SentenceEncoder | None) -> TextTower:
        """`needed_text` for a method that runs the tower itself: a copy, on the method's device, since the caller's may
        serve other methods. ValueError for class vectors."""
        text = self.needed_text(text)
        if not isinstance(text, TextTower):
            raise ValueError(f"{self.name} runs the text tower itself; give load_text_tower(name), not class vectors.")
        return copy.deepcopy(text).to(self.device)

    @property
    def joint_width(self) -> int:
        """E, the width of the joint image-text space; ValueError where the image tower has none."""
        if self.backbone.joint_width is None:
            raise ValueError(
                f"{self.name} compares images with sentences, but {self.backbone.name} has no joint image-text space. "
                "Use a CLIP tower with its projection, for example vit_base_patch16_clip_quickgelu_224.openai."
            )
        return self.backbone.joint_width

    def embed_classes(self, text: SentenceEncoder, templates: str | None, texts: Sentences | None = None) -> Tensor:
        """Class embeddings (C, E) of unit length: `backbones.joint_embeddings` of the method's own classes."""
        return joint_embeddings(self.backbone, text, self.classes.names, templates=templates, texts=texts)

    def warm_start(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from the tensors of a trained method; ValueError where this method has no such phase."""
        raise ValueError(f"{self.name} does not continue another run; leave warm_start out.")

    def encode(self, images: Tensor) -> Encoded:
        """images: (B, 3, H, W) float32, normalised -> features (B, D)."""
        raise NotImplementedError

    def classify(self, encoded: Encoded) -> Output:
        logits, cosine = self.head(encoded.features)
        return Output(logits, encoded.features, cosine, encoded.extras)

    def loss(self, outputs: list[Output], labels: list[Tensor], clock: Clock) -> dict[str, Tensor]:
        """One output and labels (B,) int64 per sampler of the stage -> {"loss": scalar, ...parts worth watching}."""
        raise NotImplementedError

    def stages(self, manifest: Manifest) -> list[Stage]:
        """The authors' recipe for this data set, or for the nearest one they report."""
        raise NotImplementedError

    def preprocessing(self, train: bool) -> Preprocessing:
        """Random crops and flips for training, shorter side x 256/224 and the centre for testing, both bilinear: LIFT's
        transforms. A method whose authors do otherwise overrides this."""
        mean, std = self.backbone.normalisation
        build = training_preprocessing if train else evaluation_preprocessing
        return build(self.backbone.input_size, mean=mean, std=std)

    def clip_preprocessing(self, train: bool) -> Preprocessing:
        """CLIP's own: random crops and flips, for testing the shorter side at the size of the input, both bicubic."""
        size, (mean, std) = self.backbone.input_size, self.backbone.normalisation
        if train:
            return training_preprocessing(size, interpolation="bicubic", mean=mean, std=std)
        return evaluation_preprocessing(size, resize=size, interpolation="bicubic", mean=mean, std=std)

    def test_preprocessing(self, views: str | None = None, expand: int | None = None) -> Preprocessing:
        """The test transform with "centre" (1), "five", "ten" or "random<number>" crops per image, which five and ten
        take from an image `expand` pixels wider; None is the method's own."""
        if expand is None:
            expand = self.test_expand
        if expand is None:
            expand = default_expand(self.backbone.input_size, self.backbone.patch_size)
        mode = {"shorter": "shorter", "square": "squash"}[self.test_resize]
        return self.preprocessing(train=False).with_views(views or self.test_views, expand, resize_mode=mode)

    def ensemble(self, logits: Tensor) -> Tensor:
        """logits: (B, V, C) of the views of each image -> (B, C), softmax of which is the ensemble's probability."""
        if self.test_mean == "log_probabilities":
            logits = logits.float().log_softmax(-1)
        return logits.float().mean(1)

    @classmethod
    def small(cls) -> dict[str, Any]:
        """Options that make the method tiny enough for the contract test on a two-block tower."""
        return {}

    # -- what every method shares ------------------------------------------------------------------------------------

    def forward(self, images: Tensor) -> Output:
        return self.classify(self.encode(images))

    def train(self, mode: bool = True) -> Method:
        """Both towers stay in eval mode: their dropout, drop path and batch statistics never act."""
        super().train(mode)
        self.backbone.eval()
        if self.text_tower is not None:
            self.text_tower.eval()
        return self

    @property
    def device(self) -> torch.device:
        return self.backbone.device

    @property
    def options(self) -> dict[str, Any]:
        """The options `create_method` needs to build this method again, JSON-ready."""
        return asdict(self.config)

    def state(self) -> dict[str, Tensor]:
        """Everything that differs from the pretrained weights, by parameter name."""
        return {
            name: tensor.detach()
            for name, tensor in self.state_dict().items()
            if not name.startswith(("backbone.", "text_tower.")) or name.startswith(self.tuned)
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Load what `state` gave. ValueError names the tensors that are missing, unknown or of another shape."""
        own = self.state()
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        shapes = [
            f"{name} is {tuple(state[name].shape)}, needed {tuple(own[name].shape)}"
            for name in own.keys() & state.keys()
            if own[name].shape != state[name].shape
        ]
        if missing or unknown or shapes:
            parts = {"missing": missing, "unknown": unknown, "of another shape": sorted(shapes)}
            problems = "; ".join(f"{key}: {_first(names)}" for key, names in parts.items() if names)
            raise ValueError(
                f"These weights do not fit {self.name} with {len(self.classes)} classes and options {self.options} "
                f"({problems}). Build the method with the options and classes of the run that saved them."
            )
        with torch.no_grad():
            for name, tensor in state.items():
                own[name].copy_(tensor)


def _first(names: list[str], limit: int = 3) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def method_class(name: str) -> type[Method]:
    """The class registered under `name`; ValueError lists the known names."""
    check_choice("method", name, tuple(METHODS))
    module, _, attribute = METHODS[name].partition(":")
    found: type[Method] = getattr(importlib.import_module(module), attribute)
    return found


def create_method(
    name: str,
    backbone: Backbone,
    classes: Classes,
    *,
    text: SentenceEncoder | None = None,
    texts: Sentences | None = None,
    corpus: Sentences | None = None,
    warm_start: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    **options: Any,
) -> Method:
    """Build a method on a backbone of its own.

    Args:
        name: a key of METHODS.
        backbone: a fresh one from `load_backbone`; the method owns it from now on.
        classes: names, training counts and shot-group rule of the data set.
        text: the text tower of this backbone, from `load_text_tower`, or class vectors from `load_class_vectors`. A
            method that has no use for text leaves it aside.
        texts: class name -> sentences about the class, `Manifest.texts`; used where the options ask for descriptions.
        corpus: class name -> sentences that are training data beside the images (HLC).
        warm_start: `run.method().state()` of a first phase, for a method that continues one (LPT, BALLAD).
        seed: initialises heads and adapters.
        options: fields of the method's `Config`.

    Raises:
        ValueError: an unknown method, option or value (the message lists what is allowed), or a text tower that is
            needed and missing, or that does not belong to the backbone.
    """
    method = rebuild_method(name, backbone, classes, seed=seed, options=options)
    if method.uses_text:
        method.use_text(text, texts, corpus)
    if warm_start is not None:
        method.warm_start(warm_start)
    return method


def rebuild_method(name: str, backbone: Backbone, classes: Classes, *, seed: int, options: dict[str, Any]) -> Method:
    """As `create_method`, for a method whose `state` is loaded next and brings along what came from a text tower."""
    cls = method_class(name)
    known = {entry.name for entry in fields(cls.Config)}
    if unknown := sorted(options.keys() - known):
        allowed = ", ".join(sorted(known)) or "none"
        raise ValueError(f"Method {name!r} has no option {', '.join(unknown)}; its options are: {allowed}.")
    return cls(backbone, classes, cls.Config(**options), seed=seed)
