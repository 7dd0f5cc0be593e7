"""What each tower is pretrained to do: its loss on a batch, its held-out numbers, its file."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from workbench import toybox

from .towers import DEPTH, JOINT_WIDTH, MARKS, UNKNOWN, WIDTH, TextEncoder, build_vit, pack_clip, pack_vit, tokenizer
from .upstream import ATTRIBUTES, Batch, Pool, attributes, held_out_scenes, held_out_toy_scenes, held_out_toys, render

LOSS_WEIGHTS = {"shape": 2.0, "colour": 0.5, "pattern": 0.5, "background": 0.5}  # shape is by far the hardest
UNKNOWN_RATE = 0.03  # of the tokens of a caption, replaced to train the row that unknown tokens share
LARGEST_SCALE = 100.0  # of the cosines, as in CLIP
CAPTIONS = 20_000  # read for the vocabulary
PROMPTS = {
    "shape": ("a photo of a {}.", "a picture of a {}."),
    "colour": ("a photo of a {} thing.", "It is painted {}."),
    "pattern": ("a photo of a {} thing.", "a {} thing"),
    "background": ("a photo of a thing on {}.", "a thing in front of {}."),
}
NAME_PROMPTS = ("a photo of a {}.", "a picture of a {}.")


def to_pixels(images: np.ndarray, device: torch.device) -> Tensor:
    """(B, 56, 56, 3) uint8 -> (B, 3, 56, 56) float32 in [-1, 1], which is mean 0.5 and std 0.5."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def encode(tower: Any, images: Tensor) -> Tensor:
    """images (B, 3, 56, 56) -> features (B, D): the class token after the final LayerNorm."""
    pooled: Tensor = tower.forward_head(tower.forward_features(images), pre_logits=True)
    return pooled


def new_tower() -> Any:
    """An image tower whose branches and positions count from the first step on.

    timm's start, a standard deviation of 0.02 everywhere, is made for wide towers: at width 96 the branches add next to
    nothing. Here each keeps the size of its input, divided by sqrt(2 depth) where it ends (GPT-2), and positions start
    as sines and cosines.
    """
    tower: Any = build_vit()
    for block in tower.blocks:
        for linear in (block.attn.qkv, block.mlp.fc1):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        for linear in (block.attn.proj, block.mlp.fc2):
            nn.init.normal_(linear.weight, std=(linear.in_features * 2 * DEPTH) ** -0.5)
    rows, columns = torch.meshgrid(*map(torch.arange, tower.patch_embed.grid_size), indexing="ij")
    frequency = 100.0 ** (-torch.arange(WIDTH // 4) / (WIDTH // 4))
    waves = [f(place.reshape(-1, 1) * frequency) for place in (columns, rows) for f in (torch.sin, torch.cos)]
    with torch.no_grad():
        tower.pos_embed[0, 1:] = 0.3 * torch.cat(waves, 1)
    return tower


@contextmanager
def fast_attention(tower: Any) -> Iterator[None]:
    """Attention written out on the CPU: at 50 tokens and bfloat16 it takes less than half the time of the fused one."""
    on_cpu = next(tower.parameters()).device.type == "cpu"
    for block in tower.blocks:
        block.attn.fused_attn = not on_cpu
    if not on_cpu:
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield


class Task(nn.Module):
    """A tower and what it is trained with. Parameters are drawn from torch's global state: build inside fork_rng."""

    tower: Any

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def loss(self, batch: Batch, *, generator: np.random.Generator) -> dict[str, Tensor]:
        """{"loss": scalar, ...accuracies in [0, 1]}; generator draws the captions."""
        raise NotImplementedError

    def held_out(self, *, count: int, per_toy: int) -> dict[str, float]:
        """Accuracies in [0, 1] on scenes never trained on: `count` of any kind, `per_toy` of each held-out toy."""
        raise NotImplementedError

    def save(self, path: Path) -> None:
        raise NotImplementedError

    @torch.no_grad()
    def features(self, images: np.ndarray) -> Tensor:
        """(N, 56, 56, 3) uint8 -> (N, D) float32 on the CPU."""
        chunks = np.array_split(images, -(-len(images) // 256))
        with fast_attention(self.tower), autocast(self.device):
            parts = [encode(self.tower, to_pixels(chunk, self.device)) for chunk in chunks]
        return torch.cat(parts).float().cpu()


def autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16)


class Supervised(Task):
    """toybox_vit: one linear head on the class token for each of shape, colour, pattern and background."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.tower = new_tower()
        self.heads = nn.ModuleDict({name: nn.Linear(WIDTH, len(values)) for name, values in ATTRIBUTES.items()})

    def loss(self, batch: Batch, *, generator: np.random.Generator) -> dict[str, Tensor]:
        features = encode(self.tower, to_pixels(batch.images, self.device))
        labels = torch.from_numpy(batch.attributes).to(self.device)
        parts: dict[str, Tensor] = {"loss": features.new_zeros((), dtype=torch.float32)}
        for (name, head), label in zip(self.heads.items(), labels.T, strict=True):
            logits = head(features).float()
            parts["loss"] = parts["loss"] + LOSS_WEIGHTS[name] * F.cross_entropy(logits, label)
            parts[name] = (logits.argmax(1) == label).float().mean()
        return parts

    @torch.no_grad()
    def held_out(self, *, count: int, per_toy: int) -> dict[str, float]:
        report = {}
        for kind, scenes in (("", held_out_scenes(count)), ("new_toys_", held_out_toy_scenes(per_toy))):
            features = self.features(render(scenes)).to(self.device)
            labels = torch.from_numpy(attributes(scenes)).to(self.device)
            for (name, head), label in zip(self.heads.items(), labels.T, strict=True):
                report[kind + name] = (head(features).argmax(1) == label).float().mean().item()
        return report

    def save(self, path: Path) -> None:
        pack_vit(self.tower, path)


class Contrastive(Task):
    """toybox_clip: images against their captions, InfoNCE in both directions with a learned scale (CLIP, figure 3)."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.tower = new_tower()
        self.tower.head = nn.Linear(WIDTH, JOINT_WIDTH, bias=False)
        nn.init.normal_(self.tower.head.weight, std=WIDTH**-0.5)
        self._tokenizer = tokenizer()
        self._tokens = functools.lru_cache(maxsize=200_000)(lambda sentence: self._tokenizer([sentence])[0])
        draws = np.random.default_rng(0)
        met = [self._tokens(toybox.caption(scene, generator=draws)) for scene in pool.scenes[:CAPTIONS]]
        self.text = TextEncoder(torch.cat([torch.tensor(MARKS), *(row[: row.argmax()] for row in met)]))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def loss(self, batch: Batch, *, generator: np.random.Generator) -> dict[str, Tensor]:
        captions = [toybox.caption(scene, generator=generator) for scene in batch.scenes]
        tokens = torch.stack([self._tokens(caption) for caption in captions])
        ends = tokens.argmax(1)
        places = torch.arange(tokens.shape[1])
        hidden = torch.from_numpy(generator.random(tokens.shape) < UNKNOWN_RATE)
        hidden &= (places > 0) & (places < ends[:, None])  # the marks of start and end stay
        rows = self.text.rows[tokens.to(self.device)].masked_fill(hidden.to(self.device), UNKNOWN)
        sentences = self.text.embed_rows(rows[:, : int(ends.max()) + 1])
        features = encode(self.tower, to_pixels(batch.images, self.device))
        cosine = F.normalize(self.tower.head(features).float(), dim=1) @ F.normalize(sentences.float(), dim=1).T
        logits = cosine * self.logit_scale.clamp(max=math.log(LARGEST_SCALE)).exp()
        label = torch.arange(len(logits), device=self.device)
        loss = (F.cross_entropy(logits, label) + F.cross_entropy(logits.T, label)) / 2
        matched = (logits.argmax(1) == label).float().mean()
        return {"loss": loss, "matched": matched, "scale": self.logit_scale.detach().exp()}

    @torch.no_grad()
    def held_out(self, *, count: int, per_toy: int) -> dict[str, float]:
        scenes = held_out_scenes(count)
        images = self._embedded(render(scenes))
        report = {}
        for (name, values), label in zip(ATTRIBUTES.items(), attributes(scenes).T, strict=True):
            predicted = (images @ self._classes(list(values), PROMPTS[name]).T).argmax(1)
            report[name] = (predicted == torch.from_numpy(label)).float().mean().item()
        toys = held_out_toys()
        images = self._embedded(render(held_out_toy_scenes(per_toy)))
        predicted = (images @ self._classes([toy.name for toy in toys], NAME_PROMPTS).T).argmax(1)
        labels = torch.arange(len(toys)).repeat_interleave(per_toy)
        return report | {"new_toys_name_of_60": (predicted == labels).float().mean().item()}

    def _embedded(self, images: np.ndarray) -> Tensor:
        return F.normalize(F.linear(self.features(images), self.tower.head.weight.float().cpu()), dim=1)

    def _classes(self, names: list[str], prompts: tuple[str, ...]) -> Tensor:
        """(C, E): normalised mean over prompts of normalised sentences."""
        tokens = self._tokenizer([prompt.format(name) for name in names for prompt in prompts]).to(self.device)
        sentences = F.normalize(self.text(tokens).float(), dim=1).reshape(len(names), len(prompts), -1)
        return F.normalize(sentences.mean(1), dim=1).cpu()

    def save(self, path: Path) -> None:
        pack_clip(self.tower, self.text, self.logit_scale, path)
