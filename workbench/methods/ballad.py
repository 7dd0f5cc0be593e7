"""BALLAD: CLIP trained further on the long tail, then a residual linear adapter trained on balanced draws.

Ma et al., "A Simple Long-Tailed Recognition Baseline via Vision-Language Model", arXiv 2111.14745; authors' code
gaopengcuhk/BALLAD @ 189603c, whose published form runs ImageNet-LT with a CLIP ResNet-50 only. Accuracy to expect from
CLIP ViT-B/16: ImageNet-LT 75.7, Places-LT 49.5, CIFAR-100-LT (ratio 100) 77.8 (Table 9).

Phase A (stage "A"): both towers learn from the images and the class prompts, logits scale · cos(v, u). Phase B (stage
"B"): both are frozen, and x = residual · W v + (1 - residual) · v takes the place of v, which is not normalised before.

Where paper and code differ, the default is the code's (option in brackets):

- The printed adapter has a ReLU and a bias (eq. 5), the code's is W alone (`printed_adapter`).
- Eq. 2 contrasts an image with the prompts of its batch, the code with those of all classes (`contrast`). The sum from
  text to image (eq. 3) is in neither.
- The printed temperature is 1; the code's factor on cosines is the literal 100, at which CLIP's training ended, and is
  not trained; here that of the text tower (`scale`).
- Joint training (Figure 4) and adapters on the text side (Table 6) are not in the code: the text adapter acts on the
  class vector as the other on the image's, before normalisation (ours), and joint training runs for the epochs of both.
- Mix-balanced sampling has no formula: `data.sampling.mix_balanced` is that of the paper it cites. Random prompts
  (Table 10): one per class and step, and the mean of all at test time (ours).

Different here: an epoch's last incomplete batch is trained on, phase B continues the last epoch of phase A and not the
best on val, and a text tower that is random from the start (Table 4) is `load_text_tower(name, "random")`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.adapters.residual import ResidualLinear
from workbench.backbones import SentenceEncoder, TextTower, class_sentences
from workbench.backbones.text import OPENAI_SCALE
from workbench.losses import cross_entropy
from workbench.methods.base import Clock, Encoded, Method, Output, Sentences, Stage, check_choice

if TYPE_CHECKING:
    from workbench.backbones import Backbone
    from workbench.data import Classes, Manifest, Preprocessing

TOWERS = {"both": ("backbone.", "text_tower."), "vision": ("backbone.",), "language": ("text_tower.",), "none": ()}
SIDES = {"visual": ("visual",), "language": ("language",), "both": ("visual", "language"), "none": ()}
SAMPLING = ("shuffle", "class_aware", "square_root", "mix_balanced")
TOWER_LR, ADAPTER_LR = 1e-5, 0.2


@dataclass(frozen=True, kw_only=True)
class BALLADConfig:
    """Options of `ballad`."""

    phases: Literal["both", "A", "B", "joint"] = "both"  # B: phase B after a phase-A run (`warm_start`), or on CLIP as
    # it is; joint: towers and adapter at once (Figure 4)
    towers: Literal["both", "vision", "language", "none"] = "both"  # trained in phase A (Table 5); none: no phase A
    adapter: Literal["visual", "language", "both", "none"] = "visual"  # Table 6; none: no phase B
    printed_adapter: bool = False  # with the ReLU and the bias of eq. 5
    residual: float = 0.2  # lambda, share of the adapted feature (Figure 5)
    contrast: Literal["classes", "batch"] = "classes"  # what an image is told from
    templates: str = "single"  # a set of backbones.TEMPLATES or a template with {}; the paper's seven: imagenet_7
    prompts: Literal["all", "random"] = "all"  # in training: the mean of all templates, or a random one (Table 10)
    sampler_a: str = "shuffle"  # one of SAMPLING (Table 7)
    sampler_b: str = "class_aware"  # one of SAMPLING (Tables 7 and 8); class_aware: class-balanced
    cached: bool = False  # phase B on features computed once, without augmentation
    scale: float | None = None  # on cosines; None: the text tower's own, for OpenAI's CLIP the 100 of the code

    def __post_init__(self) -> None:
        check_choice("phases", self.phases, ("both", "A", "B", "joint"))
        check_choice("towers", self.towers, tuple(TOWERS))
        check_choice("adapter", self.adapter, tuple(SIDES))
        check_choice("contrast", self.contrast, ("classes", "batch"))
        check_choice("prompts", self.prompts, ("all", "random"))
        check_choice("sampler_a", self.sampler_a, SAMPLING)
        check_choice("sampler_b", self.sampler_b, SAMPLING)
        if not 0 <= self.residual <= 1:
            raise ValueError(f"residual={self.residual} is a share, from 0 (no adapter) to 1; the paper has 0.2.")
        if self.scale is not None and not self.scale > 0:
            raise ValueError(f"scale={self.scale} must be positive, or None for the text tower's own; CLIP's is 100.")
        for problem in self._contradictions():
            raise ValueError(problem)

    def _contradictions(self) -> Iterator[str]:
        if self.towers == "none" and self.adapter == "none":
            yield "towers='none' with adapter='none' trains nothing; that is the method zero_shot."
        if self.phases in ("A", "joint") and self.towers == "none":
            yield f"phases={self.phases!r} trains towers, but towers='none'; choose phases='B'."
        if self.phases in ("B", "joint") and self.adapter == "none":
            yield f"phases={self.phases!r} trains an adapter, but adapter='none'; choose phases='A'."
        if self.templates == "descriptions":
            yield "templates='descriptions' is not for ballad, which trains with prompts made of class names."
        if self.cached and self.phases in ("A", "joint"):
            yield f"cached=True is about phase B, which phases={self.phases!r} does not have; leave it out."


class BALLAD(Method):
    name = "ballad"
    Config = BALLADConfig
    uses_text = True
    owns_text = True
    adapter_acts: Tensor  # () bool, in `state`: phase A has no adapter, so a run that stopped in it has none either

    def __init__(self, backbone: Backbone, classes: Classes, config: BALLADConfig, *, seed: int) -> None:
        super().__init__(backbone, classes, config, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        sides = () if config.phases == "A" else SIDES[config.adapter]
        form: dict[str, Any] = {"printed": config.printed_adapter, "generator": generator}
        self.adapter = nn.ModuleDict(
            {side: ResidualLinear(self.joint_width, config.residual, **form) for side in sides}
        )
        self.register_buffer("adapter_acts", torch.tensor(config.phases in ("B", "joint") or config.towers == "none"))
        self._known: tuple[tuple[int, bool], Tensor] | None = None  # class vectors, and what they were computed from

    # -- text --------------------------------------------------------------------------------------------------------

    def use_text(self, text: SentenceEncoder | None, texts: Sentences | None, corpus: Sentences | None) -> None:
        self.text_tower = tower = self.owned_text(text)
        self.embed_classes(tower, self.config.templates)  # the errors of towers and templates that do not fit
        self.config = replace(self.config, scale=self.config.scale or tower.logit_scale)

    def class_vectors(self) -> Tensor:
        """(C, E): the text vector of each class's prompt, or the mean of the unit vectors of its prompts.

        Without gradients (evaluation, a frozen tower) they are computed once and kept until a weight changes.
        """
        tower = self.text_tower
        if tower is None:
            raise ValueError("ballad has no text tower yet: build it with create_method(..., text=) or Run.method().")
        random = self.training and self.config.prompts == "random"
        parameters = list(tower.parameters())
        learns = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in parameters)
        if random or learns:
            return self._encoded(tower, random)
        key = (sum(parameter._version for parameter in parameters), torch.is_inference_mode_enabled())
        if self._known is None or self._known[0] != key or self._known[1].device != self.device:
            with torch.no_grad():
                self._known = (key, self._encoded(tower, random=False))
        return self._known[1]

    def _encoded(self, tower: TextTower, random: bool) -> Tensor:
        groups = class_sentences(self.classes.names, self.config.templates)
        if random:
            picks = torch.randint(len(groups[0]), (len(groups),)).tolist()
            groups = [[group[pick]] for group, pick in zip(groups, picks, strict=True)]
        vectors = tower.encode([sentence for group in groups for sentence in group])
        if len(groups[0]) == 1:
            return vectors
        return F.normalize(vectors, dim=-1).view(len(groups), -1, tower.width).mean(1)

    # -- forward -----------------------------------------------------------------------------------------------------

    def encode(self, images: Tensor) -> Encoded:
        return Encoded(self.backbone.project(self.backbone.encode(images)))

    def classify(self, encoded: Encoded) -> Output:
        if self.training and self.clock is not None:
            self.adapter_acts.fill_(self.clock.stage != "A")
        x, u = encoded.features, self.class_vectors()
        if self.adapter_acts:
            x, u = (
                self.adapter[side](z) if side in self.adapter else z for side, z in (("visual", x), ("language", u))
            )
        cosine = F.linear(F.normalize(x, dim=-1), F.normalize(u, dim=-1))
        return Output((self.config.scale or OPENAI_SCALE) * cosine, x, cosine, encoded.extras)

    def loss(self, outputs: list[Output], labels: list[Tensor], clock: Clock) -> dict[str, Tensor]:
        logits, y = outputs[0].logits, labels[0]
        if self.config.contrast == "batch":  # the i-th image against the prompts of all images of the batch, eq. 2
            return {"loss": cross_entropy(logits[:, y], torch.arange(len(y), device=y.device))}
        return {"loss": cross_entropy(logits, y)}

    # -- training ----------------------------------------------------------------------------------------------------

    @property
    def tuned(self) -> tuple[str, ...]:
        return (*(("adapter.",) if len(self.adapter) else ()), *TOWERS[self.config.towers])

    def warm_start(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the towers of a phase-A run: `run.method().state()`."""
        own = {name: tensor for name, tensor in self.state().items() if name.startswith(("backbone.", "text_tower."))}
        wrong = [name for name, tensor in own.items() if name not in tensors or tensors[name].shape != tensor.shape]
        config = self.config
        if wrong or not own or config.phases != "B":
            first = f", first {wrong[0]}" if wrong else ""
            raise ValueError(
                f"warm_start continues phase A with phases='B' and the same towers; here phases={config.phases!r}, "
                f"towers={config.towers!r}, and {len(wrong)} of {len(own)} tensors are missing or of another shape"
                f"{first}. Give run.method().state() of a ballad run on these towers."
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(tensors[name])

    def stages(self, manifest: Manifest) -> list[Stage]:
        config, towers = self.config, TOWERS[self.config.towers]
        shared: dict[str, Any] = {
            "batch_size": 512,
            "weight_decay": 5e-4,
            "schedule": "cosine_ahead",
            "precision": "amp",
            "source": "BALLAD sec. 4.1 and the authors' configuration (weight decay, schedule, scale)",
        }
        a = Stage(name="A", epochs=50, lr=TOWER_LR, trainable=towers, samplers=(config.sampler_a,), **shared)
        b = Stage(
            name="B",
            epochs=10,
            lr=ADAPTER_LR,
            trainable=("adapter.",),
            samplers=(config.sampler_b,),
            cached=config.cached,
            **shared,
        )
        if config.phases == "joint":
            factors = (("adapter.", ADAPTER_LR / TOWER_LR),)
            return [replace(a, name="joint", epochs=60, trainable=(*towers, "adapter."), lr_factors=factors)]
        first = [a] if towers and config.phases != "B" else []
        return first + ([b] if len(self.adapter) else [])

    def preprocessing(self, train: bool) -> Preprocessing:
        """The code's: random crops of half the area and more, mirrored, with jittered colours; for testing the shorter
        side resized to the input size and its centre; both bicubic."""
        usual = self.clip_preprocessing(train)
        if not train:
            return usual
        augmentations = ("flip", "colour_jitter")
        return replace(usual, name=f"ballad-{usual.size}", scale=(0.5, 1.0), augmentations=augmentations)

    @classmethod
    def small(cls) -> dict[str, Any]:
        return {"towers": "vision"}
