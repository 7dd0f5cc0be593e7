"""LPT: long-tailed prompt tuning. Prompts shared by all classes, then groups of prompts that an image picks.

Dong et al., "LPT: Long-tailed Prompt Tuning for Image Classification", ICLR 2023, arXiv 2210.01033; authors' code
DongSky/LPT (phase 2 only). Places-LT with a ViT-B/16 of ImageNet-21k: all 50.07, few 46.88 by pooled test images.

Phase 1 (stage "shared"): prompts u_i before every block and a cosine head. Phase 2 (stage "group"): the phase-1 pass,
now frozen, gives a query, its final class token; the k keys nearest to it by cosine name the groups whose mean r is
appended, beside u_i, before the last L - K blocks of a second pass. Both passes share the first K blocks, which are
computed once here (the released code computes them twice, with the same result).

Where the paper and the released code differ, or are silent (reference in brackets; the default is the first):

- `a_gcl` "released": with smoothing 0.1, which is all that negatives count, and a margin of 0.1; "printed": eq. 8 with
  its sign mended, negatives in full, no margin.
- `base_lr` 0.02 (code) or 0.002 (App. B), times batch / 256; `weight_decay` 0.01 (code; the author calls it "relatively
  large") or 1e-4 (App. B); warm-up of 5 epochs (App. B) where the code's default is 1. Batch 256 is the code's.
- The key term is multiplied by the fading weight on the instance branch, whose A-GCL has focusing (0.5, 8) and not (0,
  4) as the balanced one (code; eq. 5 differs). Its constant 1 is left out. The code halves the *sum* of the k cosines,
  which for its k = 2 is the mean; here it is the mean for any k.
- **Phase 1 was never released, so its recipe is a guess**: two branches with a fading weight as in phase 2 (the author
  mentions dual sampling and a larger weight decay); `phase1_sampling` "class_aware" is the balanced branch alone, which
  the paper's own Table 8 suggests; `mixup` (App. B names it without a strength) is off, as in phase 2's code.
- `extra` adds what Table 15 joins to LPT, of which the paper has two names and no recipe, so it is a guess: LIFT's
  adapters or the tower's LayerNorms, trained in phase 1 beside the shared prompts and, like them, frozen in phase 2, so
  that both passes are the phase-1 tower.
- `phase2_loss` "gcl" (Table 20) is A-GCL without what makes it asymmetric: the released margin and noise, no focusing
  and no smoothing, on both branches.
- The released blocks have LayerNorms with eps 1e-5, the pretrained weights were made with 1e-6; here the tower's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.adapters.prompts import PromptPool, draw_normal, with_prompts
from workbench.adapters.tuners import Tuner
from workbench.heads import CosineHead
from workbench.losses import asymmetric_gcl, cross_entropy, gcl
from workbench.methods.base import Clock, Encoded, Method, Output, Stage, check_choice

if TYPE_CHECKING:
    from workbench.backbones import Backbone
    from workbench.data import Classes, Manifest, Preprocessing

PHASES = ("both", "shared", "group", "joint")
PHASE_1, PHASE_2 = ("head.", "shared"), ("head.", "pool", "keys")  # what each trains; `extra` in phase 1
CLOUD = {"margin": 0.1, "noise_scale": 0.5}  # of GCL, as in the released A-GCL
EPOCHS = {"inaturalist2018": 80}  # per phase; 40 elsewhere (App. B)


@dataclass(frozen=True, kw_only=True)
class LPTConfig:
    """Options of `lpt`."""

    phases: Literal["both", "shared", "group", "joint"] = "both"  # group: phase 2 from the shared prompts and head of a
    # phase-1 run (`warm_start`); joint: all at once, for the epochs of both (Table 9)
    prompts: int = 10  # length of u_i and of each group's prompts
    shared_blocks: int | None = None  # K, first blocks without group prompts; None: half of them (Table 17: 6 of 12)
    groups: int = 20  # m (Table 12)
    top_k: int = 2  # k, groups averaged for an image (Table 18)
    query: Literal["phase1", "pretrained"] = (
        "phase1"  # what picks groups: the phase-1 pass, or the bare tower (Table 10)
    )
    eta: float = 0.5  # weight of the instance-balanced branch in the first epoch; it fades to 0 (Table 19)
    a_gcl: Literal["released", "printed"] = "released"
    phase1_loss: Literal["a_gcl", "cross_entropy"] = "a_gcl"  # cross_entropy: row b of Table 8
    phase1_sampling: Literal["dual", "class_aware", "shuffle"] = "dual"
    phase2_loss: Literal["a_gcl", "gcl"] = "a_gcl"  # Table 20
    phase2_sampling: Literal["dual", "class_aware"] = "dual"  # class_aware: row a of Table 19
    extra: Literal["none", "layer_norm", "adapter"] = "none"  # Table 15: LPT + FT-Norm, LPT + Adapter
    base_lr: float = 0.02
    weight_decay: float = 0.01
    mixup: float = 0.0  # alpha, phase 1 only
    dropout: float = 0.1  # of the feature before the head, in training (code)
    scale: float = 20.0  # of the cosines

    def __post_init__(self) -> None:
        check_choice("phases", self.phases, PHASES)
        check_choice("query", self.query, ("phase1", "pretrained"))
        check_choice("a_gcl", self.a_gcl, ("released", "printed"))
        check_choice("phase1_loss", self.phase1_loss, ("a_gcl", "cross_entropy"))
        check_choice("phase1_sampling", self.phase1_sampling, ("dual", "class_aware", "shuffle"))
        check_choice("phase2_loss", self.phase2_loss, ("a_gcl", "gcl"))
        check_choice("phase2_sampling", self.phase2_sampling, ("dual", "class_aware"))
        check_choice("extra", self.extra, ("none", "layer_norm", "adapter"))
        if self.extra == "layer_norm" and self.query == "pretrained":
            raise ValueError("extra='layer_norm' tunes the tower that query='pretrained' takes as it was; choose one.")
        for name in ("prompts", "groups", "top_k"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.top_k > self.groups:
            raise ValueError(f"top_k={self.top_k} groups cannot be picked of groups={self.groups}.")
        if self.shared_blocks is not None and self.shared_blocks < 0:
            raise ValueError(f"shared_blocks={self.shared_blocks} must not be negative.")
        if self.eta < 0 or not 0 <= self.dropout < 1:
            raise ValueError(f"eta={self.eta} must not be negative, and dropout={self.dropout} must lie in [0, 1).")


class LPT(PromptPool, Method):
    name = "lpt"
    Config = LPTConfig
    head: CosineHead

    def __init__(self, backbone: Backbone, classes: Classes, config: LPTConfig, *, seed: int) -> None:
        super().__init__(backbone, classes, config, seed=seed)
        depth, width = len(backbone.blocks), backbone.width  # a tower without blocks says here what it does not have
        self.first = depth // 2 if config.shared_blocks is None else config.shared_blocks  # K
        if self.first >= depth:
            raise ValueError(f"shared_blocks={self.first} leaves none of the {depth} blocks for group prompts.")
        generator = torch.Generator().manual_seed(seed)
        self.head = CosineHead(width, len(classes), scale=config.scale, generator=generator)
        self.dropout = nn.Dropout(config.dropout)
        self.shared = draw_normal(depth, config.prompts, width, generator=generator)  # u_i
        self.pool: nn.Parameter | None = None
        self.keys: nn.Parameter | None = None
        if config.phases != "shared":
            self.pool = draw_normal(config.groups, depth - self.first, config.prompts, width, generator=generator)
            self.keys = draw_normal(config.groups, width, generator=generator)
        self.adapters = Tuner(
            backbone,
            config.extra,
            num_classes=len(classes),
            blocks=None,
            bottleneck=None,  # LIFT's rule
            rounding="floor",
            prompts=1,
            proportion=1.0,
            lora_alpha=1.0,
            generator=generator,
        )

    @property
    def tuned(self) -> tuple[str, ...]:
        return ("head.", "shared", "pool", "keys", *self.adapters.trained)

    @property
    def picked(self) -> int:
        return self.config.prompts

    def warm_start(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the shared prompts, the head and what `extra` tuned from a phase-1 run: `run.method().state()`."""
        first = (*PHASE_1, *self.adapters.trained)
        own = {name: parameter for name, parameter in self.named_parameters() if name.startswith(first)}
        for name, parameter in own.items():
            if name not in tensors or tensors[name].shape != parameter.shape:
                found = tuple(tensors[name].shape) if name in tensors else "nothing"
                raise ValueError(
                    f"warm_start needs {name} of shape {tuple(parameter.shape)} and has {found}; give the state of an "
                    "lpt run on the same data set, backbone, number of prompts and extra."
                )
            parameter.data.copy_(tensors[name])

    # -- forward -----------------------------------------------------------------------------------------------------

    @property
    def _phase(self) -> str:
        """Stage in training, the last one after it: "shared", "group" or "joint"."""
        if self.clock is not None and self.clock.stage in ("shared", "group", "joint"):
            return self.clock.stage
        return {"both": "group"}.get(self.config.phases, self.config.phases)

    def encode(self, images: Tensor) -> Encoded:
        backbone, phase = self.backbone, self._phase
        x = backbone.embed(images)  # (B, P+N, D)
        for i in range(len(backbone.blocks) if phase == "shared" else self.first):
            x = self._block(i, x, self.shared[i])
        if phase == "shared":
            return Encoded(backbone.pool(x))
        if self.config.query == "pretrained":
            query = backbone.encode(images)
        else:
            query = x
            for i in range(self.first, len(backbone.blocks)):
                query = self._block(i, query, self.shared[i])
            query = backbone.pool(query)
        assert self.pool is not None and self.keys is not None
        similarity = F.normalize(query, dim=-1) @ F.normalize(self.keys, dim=-1).T  # (B, m)
        _, index = self.choose(similarity)  # (B, k), nearest first
        chosen = self.pool[index].mean(1)  # (B, L-K, p, D): r, eq. 3
        for i in range(self.first, len(backbone.blocks)):
            both = torch.cat([self.shared[i].expand(len(x), -1, -1), chosen[:, i - self.first]], dim=1)
            x = self._block(i, x, both)
        extras = {"prompt_index": index, "prompt_similarity": similarity, "query": query}
        return Encoded(backbone.pool(x), extras)

    def _block(self, i: int, x: Tensor, prompts: Tensor) -> Tensor:
        """Block i with prompts (p, D) or (B, p, D) behind the image's tokens; their outputs are dropped."""
        image_tokens = x.shape[1]
        block = self.backbone.blocks[i]
        x = with_prompts(x, prompts, image_tokens)
        x = x + block.attend(x)
        branch = block.mlp(x)
        if str(i) in self.adapters.adapter:
            branch = branch + self.adapters.adapter[str(i)](branch)
        return (x + branch)[:, :image_tokens]

    def classify(self, encoded: Encoded) -> Output:
        logits, cosine = self.head(self.dropout(encoded.features))
        return Output(logits, encoded.features, cosine, encoded.extras)

    # -- training ----------------------------------------------------------------------------------------------------

    def loss(self, outputs: list[Output], labels: list[Tensor], clock: Clock) -> dict[str, Tensor]:
        """One branch, or the class-balanced and the instance-balanced one, whose weight fades: beta of eq. 5."""
        fading = max(0.0, self.config.eta * (clock.epochs - clock.epoch) / clock.epochs)
        parts: dict[str, Tensor] = {}
        for number, (output, targets) in enumerate(zip(outputs, labels, strict=True)):
            instance = number == 1
            branch = "instance" if instance else "balanced"
            parts[branch] = self._classification(output, targets, instance, clock)
            if "prompt_index" in output.extras:
                near = output.extras["prompt_similarity"].gather(1, output.extras["prompt_index"]).mean()
                parts[f"{branch}_similarity"] = near
                parts[branch] = parts[branch] - near
        total = parts["balanced"] + fading * parts["instance"] if "instance" in parts else parts["balanced"]
        return {"loss": total, **parts}

    def _classification(self, output: Output, labels: Tensor, instance: bool, clock: Clock) -> Tensor:
        if clock.stage == "shared" and self.config.phase1_loss == "cross_entropy":
            return cross_entropy(output.logits, labels)
        assert output.cosine is not None
        options: dict[str, Any] = {"scale": self.config.scale, **CLOUD}
        options["generator"] = torch.default_generator  # which training sets anew at every step
        if clock.stage != "shared" and self.config.phase2_loss == "gcl":
            return gcl(output.cosine, labels, self.classes.counts, **options)
        positive, negative = (0.5, 8.0) if instance else (0.0, 4.0)
        options |= {"gamma_positive": positive, "gamma_negative": negative}
        if self.config.a_gcl == "printed":
            options |= {"margin": 0.0, "printed": True}
        return asymmetric_gcl(output.cosine, labels, self.classes.counts, **options)

    def stages(self, manifest: Manifest) -> list[Stage]:
        epochs = EPOCHS.get(manifest.name, 40)
        shared: dict[str, Any] = {
            "epochs": epochs,
            "batch_size": 256,
            "lr": self.config.base_lr,  # times batch / 256
            "weight_decay": self.config.weight_decay,
            "schedule": "timm_cosine",
            "warmup_epochs": 5,
            "warmup_lr": 1e-6,
            "precision": "fp32",
        }
        dual: tuple[str, ...] = ("class_aware", "shuffle")
        first = dual if self.config.phase1_sampling == "dual" else (self.config.phase1_sampling,)
        second = dual if self.config.phase2_sampling == "dual" else (self.config.phase2_sampling,)
        source = "LPT App. B and code"
        if self.config.phases == "joint":
            joint = {**shared, "epochs": 2 * epochs}
            return [Stage(name="joint", samplers=second, trainable=self.tuned, source=f"{source}, Table 9", **joint)]
        stages = []
        if self.config.phases in ("both", "shared"):
            guess = f"{source}; samplers and loss of phase 1 are a guess"
            mixup = self.config.mixup
            trainable = (*PHASE_1, *self.adapters.trained)
            stages += [Stage(name="shared", samplers=first, trainable=trainable, mixup=mixup, source=guess, **shared)]
        if self.config.phases in ("both", "group"):
            stages += [Stage(name="group", samplers=second, trainable=PHASE_2, source=source, **shared)]
        return stages

    def preprocessing(self, train: bool) -> Preprocessing:
        """Random crops and flips; a test image is squashed to 256 x 256 and its centre taken (code)."""
        usual = super().preprocessing(train)
        return usual if train else replace(usual, name=f"squash-{usual.size}", resize_mode="squash")

    @classmethod
    def small(cls) -> dict[str, Any]:
        return {"prompts": 2, "groups": 3}
