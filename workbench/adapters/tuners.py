"""One frozen tower, many ways to tune it: the lightweight fine-tuning methods that LIFT compares, alone or together.

Shi et al., "Long-Tail Learning with Foundation Model: Heavy Fine-Tuning Hurts", ICML 2024, arXiv 2309.10019, sec. 4
and App. D; authors' code shijxcs/LIFT @ 661ead9. Where a part sits and how it starts is said in its own file.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from workbench.adapters.linear import LoRA, ScaleShift
from workbench.adapters.masks import MaskedLinear, biases, block_range, norms
from workbench.adapters.prompts import draw_prompts, with_prompts
from workbench.adapters.residual import Adapter, AdaptFormer, OriginalAdaptFormer, bottleneck_width

ALONE = ("none", "full", "partial", "arbitrary")  # say for every weight of a block whether it trains
TOGETHER = (
    "adaptformer",
    "adaptformer_original",
    "adapter",
    "lora",
    "bitfit",
    "layer_norm",
    "vpt_shallow",
    "vpt_deep",
    "ssf",
)
RIVALS = (("vpt_shallow", "vpt_deep"), ("adaptformer", "adaptformer_original"))
RESNET = ("none", "full", "ssf", "bitfit")  # what a tower without transformer blocks can take
LINEARS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")  # in the order in which masks are drawn
SCALED = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")  # layers that SSF follows


def tuner_names(tuner: str) -> tuple[str, ...]:
    """ "ssf+bitfit" -> ("ssf", "bitfit"). ValueError for unknown names and for names that do not go together."""
    names = tuple(tuner.split("+"))
    if unknown := [name for name in names if name not in (*ALONE, *TOGETHER)]:
        raise ValueError(
            f"tuner={tuner!r}: {', '.join(map(repr, unknown))} is not known; choose one of {', '.join(ALONE)}, or one "
            f"or several joined by + of {', '.join(TOGETHER)}."
        )
    if len(names) > 1 and (alone := [name for name in names if name in ALONE]):
        raise ValueError(f"tuner={tuner!r}: {alone[0]!r} already says which weights train; it goes with no other.")
    rivals = [pair for pair in RIVALS if set(pair) <= set(names)]
    if len(set(names)) < len(names) or rivals:
        raise ValueError(f"tuner={tuner!r}: each part once" + "".join(f", {a} or {b} but not both" for a, b in rivals))
    return names


class Tuner(nn.Module):
    """The parts that a tuner adds to a tower, and the names of all that it trains.

    Parts beside the blocks are modules of this one, by kind and block: `adaptformer.11`. Parts inside a block (LoRA,
    SSF, masks) replace its layers within the tower.

    Args:
        backbone: changed in place by LoRA, SSF and masks.
        tuner: a name of ALONE, or names of TOGETHER joined by "+".
        num_classes: C, for the default bottleneck.
        blocks: tune the last k blocks, or blocks a to b - 1 of a pair (a, b); None: all. Unlike in the authors' code it
            also holds for biases and norms.
        bottleneck: r of AdaptFormer, Adapter and LoRA; None: the paper's rule (`bottleneck_width`).
        rounding: of that rule.
        prompts: prompts per block (VPT).
        proportion: alpha of "arbitrary".
        lora_alpha: LoRA's factor is lora_alpha / r.
        generator: draws initial weights and masks.
    """

    def __init__(
        self,
        backbone: Any,
        tuner: str,
        *,
        num_classes: int,
        blocks: int | tuple[int, int] | None,
        bottleneck: int | None,
        rounding: Literal["floor", "ceil"],
        prompts: int,
        proportion: float,
        lora_alpha: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        names = tuner_names(tuner)
        self.trained: tuple[str, ...] = ()  # name prefixes within a method that has .backbone, and this as .adapters
        # by number of the block: "11"
        self.prompts, self.adaptformer, self.adapter = nn.ParameterDict(), nn.ModuleDict(), nn.ModuleDict()
        self.after: ScaleShift | None = None  # on the feature of a tower without blocks
        if names == ("none",):
            return
        if not backbone.is_vit and set(names) <= set(RESNET):
            self._tune_resnet(backbone, names, blocks, generator)
            return
        chosen = block_range(backbone, blocks)  # a tower without blocks says here what it does not have
        width, model = backbone.width, backbone.model
        rank = bottleneck or bottleneck_width(num_classes, len(backbone.blocks), rounding=rounding)
        if "vpt_deep" in names or "vpt_shallow" in names:
            for i in chosen if "vpt_deep" in names else chosen[:1]:
                self.prompts[str(i)] = draw_prompts(prompts, width, backbone.patch_size, generator=generator)
        if "adaptformer" in names or "adaptformer_original" in names:
            form = AdaptFormer if "adaptformer" in names else OriginalAdaptFormer
            self.adaptformer.update({str(i): form(width, rank, generator=generator) for i in chosen})
        if "adapter" in names:
            self.adapter.update({str(i): Adapter(width, rank, generator=generator) for i in chosen})
        for i in chosen:
            self._replace_layers(model.blocks[i], names, rank, proportion, lora_alpha, generator)
        new = [name for name, parameter in model.named_parameters() if parameter.requires_grad]  # the tower is frozen
        # the entries of a mask and their places go together: "...qkv.weight_" means both
        inside = tuple(dict.fromkeys(f"backbone.model.{name.removesuffix('entries')}" for name in new))
        if "full" in names or "partial" in names:
            inside += tuple(f"backbone.model.blocks.{i}." for i in chosen)
        if "bitfit" in names:
            inside += biases(backbone, chosen)
        if "layer_norm" in names:
            inside += norms(backbone, chosen)
        self.trained = inside + (("adapters.",) if any(True for _ in self.parameters()) else ())

    def _replace_layers(
        self, block: Any, names: tuple[str, ...], rank: int, proportion: float, alpha: float, generator: torch.Generator
    ) -> None:
        """Put LoRA, SSF and masks in the place of the layers that they change."""
        replaced: dict[str, nn.Module] = {}
        if "arbitrary" in names:
            for place in LINEARS:
                replaced[place] = MaskedLinear(block.get_submodule(place), proportion, generator=generator)
        if "ssf" in names:
            for place in SCALED:
                layer = block.get_submodule(place)
                width = layer.out_features if isinstance(layer, nn.Linear) else block.norm1.weight.shape[0]
                replaced[place] = nn.Sequential(layer, ScaleShift(width, generator=generator))
        if "lora" in names:  # added to the scaled projection where SSF is there too
            base, width = replaced.get("attn.qkv", block.attn.qkv), block.attn.qkv.in_features
            replaced["attn.qkv"] = LoRA(base, width, rank, alpha=alpha, generator=generator)
        for place, module in replaced.items():
            block.set_submodule(place, module)

    def _tune_resnet(
        self, backbone: Any, names: tuple[str, ...], blocks: int | tuple[int, int] | None, generator: torch.Generator
    ) -> None:
        """All weights, all biases, or SSF on the feature (LIFT App. G, Tables 21 and 22: 0.034M and 0.002M)."""
        if blocks is not None:
            raise ValueError(f"blocks={blocks}, but {backbone.name} has no transformer blocks; leave it out.")
        if "full" in names:
            self.trained += ("backbone.model.",)
        if "bitfit" in names:
            self.trained += biases(backbone, None)
        if "ssf" in names:
            self.after = ScaleShift(backbone.width, generator=generator)
            self.trained += ("adapters.",)

    def encode(self, backbone: Any, images: Tensor) -> Tensor:
        """images: (B, 3, H, W) float32, normalised -> features (B, D)."""
        if not (self.prompts or self.adaptformer or self.adapter):
            features: Tensor = backbone.encode(images)
            return features if self.after is None else self.after(features)
        x = backbone.embed(images)  # (B, P+N, D)
        image_tokens = x.shape[1]
        for i, block in enumerate(backbone.blocks):
            key = str(i)
            if key in self.prompts:
                x = with_prompts(x, self.prompts[key], image_tokens)
            x = x + block.attend(x)
            branch = block.mlp(x)
            if key in self.adapter:  # sequential: after the MLP
                branch = branch + self.adapter[key](branch)
            if key in self.adaptformer:  # parallel: reads the tokens before the MLP's norm (authors' code, issue 9)
                branch = branch + self.adaptformer[key](x)
            x = x + branch
        pooled: Tensor = backbone.pool(x)
        return pooled
