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
from workbench.heads import CosineHead
from workbench.losses import asymmetric_gcl, cross_entropy
from workbench.methods.base import Clock, Encoded, Method, Output, Stage, check_choice

if TYPE_CHECKING:
    from workbench.backbones import Backbone
    from workbench.data import Classes, Manifest, Preprocessing

PHASES = ("both", "shared", "group", "joint")
PHASE_1, PHASE_2 = ("head.", "shared"), ("head.", "pool", "keys")  # what each trains
EPOCHS = {"inaturalist2018": 80}  # per phase; 40 elsewhere (App. B)
RELEASED = {  # tensors of the authors' phase-2 files, and their axes
    "Prompt_Tokens": ("blocks", "length", "width"),
    "Prompt_Tokens_pool": ("groups", "last blocks", "length", "width"),
    "Prompt_Keys": ("groups", "width"),
    "head.weight": ("width", "classes"),  # transposed against ours
}


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

    @property
    def tuned(self) -> tuple[str, ...]:
        return ("head.", "shared", "pool", "keys")

    @property
    def picked(self) -> int:
        return self.config.prompts

    def warm_start(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the shared prompts and the head of a phase-1 run: `run.method().state()`."""
        own = {"shared": self.shared, "head.weight": self.head.weight}
        for name, parameter in own.items():
            if name not in tensors or tensors[name].shape != parameter.shape:
                found = tuple(tensors[name].shape) if name in tensors else "nothing"
                raise ValueError(
                    f"warm_start needs {name} of shape {tuple(parameter.shape)} and has {found}; give the state of an "
                    "lpt run on the same data set, backbone and number of prompts."
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
        return (x + block.mlp(x))[:, :image_tokens]

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
        positive, negative = (0.5, 8.0) if instance else (0.0, 4.0)
        options: dict[str, Any] = {"gamma_positive": positive, "gamma_negative": negative}
        if self.config.a_gcl == "printed":
            options |= {"margin": 0.0, "printed": True}
        assert output.cosine is not None
        counts, generator = self.classes.counts, torch.default_generator  # which training sets anew at every step
        return asymmetric_gcl(output.cosine, labels, counts, scale=self.config.scale, generator=generator, **options)

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
        sampling = dual if self.config.phase1_sampling == "dual" else (self.config.phase1_sampling,)
        source = "LPT App. B and code"
        if self.config.phases == "joint":
            joint = {**shared, "epochs": 2 * epochs}
            return [Stage(name="joint", samplers=dual, trainable=self.tuned, source=f"{source}, Table 9", **joint)]
        stages = []
        if self.config.phases in ("both", "shared"):
            guess = f"{source}; samplers and loss of phase 1 are a guess"
            mixup = self.config.mixup
            stages += [Stage(name="shared", samplers=sampling, trainable=PHASE_1, mixup=mixup, source=guess, **shared)]
        if self.config.phases in ("both", "group"):
            stages += [Stage(name="group", samplers=dual, trainable=PHASE_2, source=source, **shared)]
        return stages

    def preprocessing(self, train: bool) -> Preprocessing:
        """Random crops and flips; a test image is squashed to 256 x 256 and its centre taken (code)."""
        usual = super().preprocessing(train)
        return usual if train else replace(usual, name=f"squash-{usual.size}", resize_mode="squash")

    @classmethod
    def small(cls) -> dict[str, Any]:
        return {"prompts": 2, "groups": 3}


def from_released(
    tensors: Mapping[str, Tensor], *, depth: int, width: int, num_classes: int
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """What the authors' code saved of phase 2 -> options of `lpt`, its `state` (float32), and the other tensors.

    No tensor tells k and the scale: they are the code's, 2 and 20. Nor does one tell the order of the classes, which is
    that of the lists that the authors trained with.

    Args:
        tensors: "state_dict" of the file, its names with or without "module." (of DataParallel) and "prompt_learner.".
            The others are those of the tower, in timm's names.
        depth, width: blocks and D of the tower, and
        num_classes: of the data set that they shall be used with.

    Raises:
        ValueError: tensors that are missing, that contradict each other, the tower or the data set, or not finite.
    """
    rest = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    inside = "prompt_learner." if any(name.startswith("prompt_learner.") for name in rest) else ""
    found = {name: rest.pop(inside + name) for name in RELEASED if inside + name in rest}
    wrong = [name for name, axes in RELEASED.items() if name not in found or found[name].ndim != len(axes)]
    if wrong:
        held = sorted(tensors, key=lambda name: "rompt" not in name)
        there = [f"{name} {tuple(tensors[name].shape)}" for name in held[:6]] + ["..."] * (len(held) > 6)
        needed = ", ".join(f"{name} ({', '.join(axes)})" for name, axes in RELEASED.items())
        raise ValueError(
            f"LPT's released files hold {needed}; {', '.join(wrong)} is missing or has other axes here. These "
            f"{len(held)} tensors are there: {', '.join(there) or 'none'}."
        )
    shared, pool, keys, head = found.values()
    (L, length, _), (m, last, group_length, _) = shared.shape, pool.shape
    widths = shared.shape[2], pool.shape[3], keys.shape[1], head.shape[0]
    problems = {
        f"prompts for {L} blocks, but the tower has {depth}": L != depth,
        f"prompts, group prompts, keys and head {widths} wide, but the tower {width}": set(widths) != {width},
        f"{length} prompts per block, but {group_length} per group and block": length != group_length,
        f"{m} groups, but {len(keys)} keys": m != len(keys),
        f"group prompts for the last {last} of {L} blocks": not 1 <= last <= L,
        f"{head.shape[1]} classes, but the data set has {num_classes}": head.shape[1] != num_classes,
        "values that are not finite": not all(bool(tensor.isfinite().all()) for tensor in found.values()),
    }
    if any(problems.values()):
        told = [text for text, holds in problems.items() if holds]
        raise ValueError(
            f"it has {'; '.join(told)}. Give the tower and the data set that these tensors were trained with."
        )
    options = {"phases": "both", "prompts": length, "groups": m, "shared_blocks": L - last}
    state = {"shared": shared, "pool": pool, "keys": keys, "head.weight": head.T}
    return options, {name: tensor.float().contiguous() for name, tensor in state.items()}, rest
