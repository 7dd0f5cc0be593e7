"""How much faster HLC's candidates and re-ranking are than Algorithm 1 taken literally, one image and class at a time.

Part of `make bench`. Features are given; all of torch's threads, interleaved rounds, medians of the ratios within them.
Taken literally, the cosine of eq. 1 normalises the classifier for every image, and eq. 4 takes the log of the prior.
With both done once beforehand ("prepared") the algorithm's loop is nearer to ours: scoring all classes is then the same
product, and the ratio has a ceiling, the loop's time over that of our product.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.methods import reranking

IMAGES, CLASSES, CANDIDATES, DESCRIPTIONS, WIDTH = 1000, 1000, 5, 10, 512


class Inputs:
    """Random features, head, cached descriptions, their weights and a long-tailed prior."""

    def __init__(self, width: int = WIDTH) -> None:
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        self.features = draw(IMAGES, width)
        self.head = draw(CLASSES, width)
        self.importance = draw(CLASSES, DESCRIPTIONS)
        self.descriptions = F.normalize(draw(CLASSES, DESCRIPTIONS, width), dim=-1)
        prior = torch.logspace(3, 0.7, CLASSES)
        self.prior = prior / prior.sum()


def literal(inputs: Inputs, *, prepared: bool = False) -> Tensor:
    """Algorithm 1 from the features on, with v / |v| for its `v.norm(...)` and cosines times 100 -> decisions (B,)."""
    head, log_prior = F.normalize(inputs.head, dim=-1), inputs.prior.log()
    decisions = []
    for v in inputs.features:
        if not prepared:
            head, log_prior = F.normalize(inputs.head, dim=-1), inputs.prior.log()
        v_norm = v / v.norm(dim=-1, keepdim=True)
        z = 100 * (head @ v_norm) - log_prior
        candidates = torch.topk(z, CANDIDATES).indices
        scores = [
            torch.mean(inputs.importance[i].softmax(dim=-1) * (v_norm @ inputs.descriptions[i].T)) for i in candidates
        ]
        decisions.append(candidates[torch.argmax(torch.tensor(scores))])
    return torch.stack(decisions)


def scored(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Unit features (B, E) and adjusted coarse logits (B, C)."""
    features = F.normalize(inputs.features, dim=-1)
    return features, 100 * (features @ F.normalize(inputs.head, dim=-1).T) - inputs.prior.log()


def ranked(inputs: Inputs, features: Tensor, logits: Tensor) -> Tensor:
    """What `HLC.classify` decides after that -> (B,)."""
    described = torch.ones(CLASSES, DESCRIPTIONS, dtype=torch.bool)
    candidates = logits.topk(CANDIDATES, dim=1).indices
    weights = reranking.description_weights(inputs.importance, described, "softmax")
    scores = 100 * reranking.candidate_scores(features, inputs.descriptions, weights, candidates)
    return reranking.reranked(logits, candidates, scores).argmax(1)


def seconds(run: Callable[[], object], times: int) -> float:
    """Mean of so many in a row."""
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times


def rerank_ratio(*, rounds: int = 7, width: int = WIDTH) -> dict[str, float]:
    """Times in ms of 1,000 images, and ratios from the features on: "literal", "prepared", and the "ceiling" of the
    latter, were everything behind the coarse logits free.

    Raises:
        RuntimeError: they do not decide the same.
    """
    with torch.inference_mode():
        inputs = Inputs(width)
        features, logits = scored(inputs)
        candidates = logits.topk(CANDIDATES, dim=1).indices
        differing = int((literal(inputs) != ranked(inputs, features, logits)).sum())
        if differing:
            raise RuntimeError(f"Algorithm 1 and reranking decide differently about {differing} of {IMAGES} images.")
        runs: dict[str, Callable[[], object]] = {
            "literal": lambda: literal(inputs),
            "prepared": lambda: literal(inputs, prepared=True),
            "coarse": lambda: scored(inputs),
            "ranking": lambda: ranked(inputs, features, logits),
            "explaining": lambda: reranking.description_matches(features, inputs.descriptions, candidates),
        }
        repeats = {name: 1 if name in ("literal", "prepared") else 10 for name in runs}  # ours takes a few ms
        times = [{name: seconds(run, repeats[name]) for name, run in runs.items()} for _ in range(rounds + 1)][1:]
    found = {f"{name} ms": 1000 * statistics.median(round_[name] for round_ in times) for name in runs}
    for name in ("literal", "prepared"):
        found[name] = statistics.median(t[name] / (t["coarse"] + t["ranking"]) for t in times)
    found["ceiling"] = statistics.median(t["prepared"] / t["coarse"] for t in times)
    return found


if __name__ == "__main__":
    for width in (64, WIDTH):
        print(width, {name: round(value, 1) for name, value in rerank_ratio(width=width).items()})
