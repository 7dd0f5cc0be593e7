"""Make the towers of the toybox world again: `python -m workbench.backbones.toybox.pretrain vit --out runs/toybox_vit`.

What is trained on what. Both towers see upstream scenes of `workbench.toybox` and nothing else: no toy of the 60
classes of toybox_lt, none of 60 further toys kept for measuring, only the upstream backgrounds and style.

vit     supervised: one linear head on the class token for each of shape, colour, pattern and background. The heads
        stay behind; the file holds the tower.
clip    contrastive: images against captions of `toybox.caption` (Radford et al., ICML 2021, arXiv 2103.00020). Half of
        each batch agrees in colour and pattern, so that shapes must be told apart. 3 % of the tokens are hidden behind
        the row that all unknown tokens share, so that this row is trained.

Optimisers: Muon (Jordan et al., 2024, kellerjordan.github.io/posts/muon; scaled as in Liu et al., 2025, arXiv
2502.16982) for the matrices of the blocks, AdamW for the rest, one cosine schedule, bfloat16 autocast.

Every draw is a function of (seed, step). State is saved once a minute; the same command goes on where it stopped, with
the same final weights on the same machine.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from workbench import toybox

from .tasks import Contrastive, Supervised, Task, autocast, fast_attention
from .upstream import Pool

logger = logging.getLogger(__name__)

TASKS: dict[str, type[Task]] = {"vit": Supervised, "clip": Contrastive}
STATE = (("momentum_buffer",), ("step", "exp_avg", "exp_avg_sq"))  # what Muon and AdamW remember of a parameter
GLIMPSE = {"count": 1000, "per_toy": 10}  # held-out scenes measured on the way
HELD_OUT_COUNTS = {"count": 5000, "per_toy": 20}  # and at the end


@dataclass(frozen=True)
class Recipe:
    """How a tower is trained."""

    tower: str  # "vit" | "clip"
    samples: int
    batch_size: int
    pool: int  # distinct upstream images
    hard: float = 0.0  # share of a batch that agrees in colour and pattern
    lr: float = 3e-3  # of Muon, for the matrices of the blocks
    adam_lr: float = 1e-3  # of AdamW, for everything else; both follow the same schedule
    weight_decay: float = 0.05  # of matrices only
    betas: tuple[float, float] = (0.9, 0.98)
    momentum: float = 0.95
    warmup: float = 0.02  # share of the steps
    clip_norm: float = 1.0
    seed: int = 0

    @property
    def steps(self) -> int:
        return max(1, self.samples // self.batch_size)

    def pace(self, step: int) -> float:
        """What the learning rates are multiplied by: linear warm-up, then a cosine to zero."""
        warm = max(1, round(self.warmup * self.steps))
        if step < warm:
            return (step + 1) / warm
        return (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm))) / 2


RECIPES = {
    "vit": Recipe("vit", samples=320_000, batch_size=128, pool=200_000),
    "clip": Recipe("clip", samples=400_000, batch_size=128, pool=200_000, hard=0.5),
}


def _optimizers(task: Task, recipe: Recipe) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the rest."""
    named = list(task.named_parameters())
    inner = [p for name, p in named if p.ndim == 2 and "blocks." in name]  # timm's blocks, open_clip's resblocks
    known = {id(p) for p in inner}
    rest = [p for _, p in named if id(p) not in known]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    muon = torch.optim.Muon(
        inner,
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        adjust_lr_fn="match_rms_adamw",
    )
    return muon, torch.optim.AdamW(groups, lr=recipe.adam_lr, betas=recipe.betas, fused=True)


class Pretraining:
    """The loop: everything it needs to go on lies in `out`.

    Args:
        recipe: how to train; a folder that holds another one is refused.
        out: folder of checkpoint.safetensors, log.jsonl and, at the end, toybox_<tower>.safetensors and held_out.json.
        pool: rendered images.
        device: where to train.
    """

    def __init__(self, recipe: Recipe, out: Path, pool: Pool, *, device: torch.device) -> None:
        self.recipe, self.out, self.pool = recipe, out, pool
        out.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(recipe.seed)  # timm and open_clip draw from the global state
            self.task = TASKS[recipe.tower](pool).to(device)
        self.optimizers = _optimizers(self.task, recipe)
        self.step = 0
        self._resume()

    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoint.safetensors"

    @property
    def log(self) -> Path:
        return self.out / "log.jsonl"

    def run(
        self, *, until: int | None = None, save_every: float = 60.0, log_every: int = 100, evaluations: int = 10
    ) -> None:
        """Train up to a step (the end when None), then save; at the end also write the file and held-out numbers.

        Args:
            until: step to stop at.
            save_every: seconds between checkpoints.
            log_every: steps between lines of the log.
            evaluations: how often held-out numbers are taken on the way.
        """
        recipe = self.recipe
        until = recipe.steps if until is None else min(until, recipe.steps)
        saved = logged = time.monotonic()
        sums: dict[str, float] = {}
        count = 0
        while self.step < until:
            parts = self.advance()
            count += 1
            for name, value in parts.items():
                sums[name] = sums.get(name, 0.0) + float(value)
            now = time.monotonic()
            if self.step % log_every == 0 or self.step == recipe.steps:
                means = {name: round(value / count, 4) for name, value in sums.items()}
                rate = round(count * recipe.batch_size / (now - logged), 1)
                self._log({"step": self.step, "samples": self.step * recipe.batch_size, **means, "images_per_s": rate})
                sums, count, logged = {}, 0, now
            if self.step % -(-recipe.steps // evaluations) == 0 and self.step < recipe.steps:
                report = self.task.eval().held_out(**GLIMPSE)
                self._log({"step": self.step, "held_out": {k: round(v, 4) for k, v in report.items()}})
                logged += time.monotonic() - now
            if now - saved > save_every:
                self.save()
                saved = time.monotonic()
        self.save()
        if self.step == recipe.steps:
            self.finish()

    def finish(self) -> None:
        report = self.task.eval().held_out(**HELD_OUT_COUNTS)
        self._log({"step": self.step, "held_out": {k: round(v, 4) for k, v in report.items()}})
        record = {"world": toybox.VERSION, "recipe": asdict(self.recipe), "held_out": report}
        (self.out / "held_out.json").write_text(json.dumps(record, indent=2) + "\n")
        self.task.save(self.out / f"toybox_{self.recipe.tower}.safetensors")

    def advance(self) -> dict[str, Tensor]:
        recipe, device = self.recipe, self.task.device
        generator = np.random.default_rng((recipe.seed, self.step))
        batch = self.pool.draw(recipe.batch_size, generator=generator, hard=recipe.hard)
        for optimizer, lr in zip(self.optimizers, (recipe.lr, recipe.adam_lr), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = lr * recipe.pace(self.step)
        self.task.train()
        with fast_attention(self.task.tower), autocast(device):
            parts = self.task.loss(batch, generator=generator)
        self.task.zero_grad(set_to_none=True)
        parts["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.task.parameters(), recipe.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        return {name: value.detach() for name, value in parts.items()}

    def _log(self, line: dict[str, Any]) -> None:
        logger.info("%s", json.dumps(line))
        with self.log.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def save(self) -> None:
        """Weights, moments of the optimiser and position, replaced in one go."""
        tensors = {f"task.{name}": value for name, value in self.task.state_dict().items()}
        for name, parameter in self.task.named_parameters():
            for optimizer in self.optimizers:
                tensors |= {f"{key}.{name}": value for key, value in optimizer.state.get(parameter, {}).items()}
        record = {"recipe": self._recipe(), "step": str(self.step), "world": toybox.VERSION}
        temporary = self.checkpoint.with_suffix(".tmp")
        ready = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        safetensors.torch.save_file(ready, temporary, metadata=record)
        temporary.replace(self.checkpoint)

    def _recipe(self) -> str:
        return json.dumps(asdict(self.recipe), sort_keys=True)

    def _resume(self) -> None:
        if not self.checkpoint.is_file():
            return
        with safetensors.safe_open(self.checkpoint, framework="pt") as file:
            record = file.metadata()
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
        if (record["recipe"], record["world"]) != (self._recipe(), toybox.VERSION):
            raise ValueError(
                f"{self.checkpoint} was made with another recipe ({record['world']}: {record['recipe']}), but this is "
                f"{toybox.VERSION}: {self._recipe()}. Give its options again, or another --out."
            )
        self.task.load_state_dict({k[5:]: v for k, v in tensors.items() if k.startswith("task.")}, strict=True)
        parameters = dict(self.task.named_parameters())
        for optimizer, keys in zip(self.optimizers, STATE, strict=True):
            own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            for name, parameter in parameters.items():
                if id(parameter) in own:
                    optimizer.state[parameter] = {key: tensors[f"{key}.{name}"].to(parameter.device) for key in keys}
        self.step = int(record["step"])
        if self.log.is_file():  # lines behind the checkpoint will be written again
            lines = [line for line in self.log.read_text().splitlines() if json.loads(line)["step"] <= self.step]
            self.log.write_text("".join(line + "\n" for line in lines))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m workbench.backbones.toybox.pretrain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tower", choices=sorted(TASKS))
    parser.add_argument("--out", type=Path, required=True, help="folder; what it already holds is continued")
    parser.add_argument("--pool", type=Path, help="folder of rendered images, may be shared (default: pool beside OUT)")
    parser.add_argument("--samples", type=int, help="images seen; fewer give a tower that knows less")
    parser.add_argument("--pool-size", type=int, help="distinct images")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; more than one barely help")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")
    given = parser.parse_args(arguments)
    changes = {
        "samples": given.samples,
        "pool": given.pool_size,
        "batch_size": given.batch_size,
        "seed": given.seed,
    }
    base = asdict(RECIPES[given.tower])
    recipe = Recipe(**{**base, **{k: v for k, v in changes.items() if v is not None}})
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(given.threads)
    cuda = given.device == "cuda" or (given.device == "auto" and torch.cuda.is_available())
    device = torch.device("cuda" if cuda else "cpu")
    pool = Pool(
        given.pool or given.out.absolute().parent / "pool",
        recipe.pool,
        on_chunk=lambda done, total: logger.info("rendered chunk %d of at most %d", done, total),
    )
    Pretraining(recipe, given.out, pool, device=device).run()


if __name__ == "__main__":
    main()
