"""How much faster HLC's candidates and re-ranking are than Algorithm 1 taken literally, one image and class at a time.

Part of `make bench`. Features are given; one thread and its CPU time, interleaved rounds, medians of the ratios within
them. Scoring all classes is one matrix product in ours, so the ratio has a ceiling: the literal time over that product.
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
        self.head = F.normalize(draw(CLASSES, width), dim=-1)
        self.importance = draw(CLASSES, DESCRIPTIONS)
        self.descriptions = F.normalize(draw(CLASSES, DESCRIPTIONS, width), dim=-1)
        prior = torch.logspace(3, 0.7, CLASSES)
        self.log_prior = (prior / prior.sum()).log()


def literal(inputs: Inputs) -> Tensor:
    """Algorithm 1 from the features on, with v / |v| for its `v.norm(...)` and cosines times 100 -> decisions (B,)."""
    decisions = []
    for v in inputs.features:
        v_norm = v / v.norm(dim=-1, keepdim=True)
        z = 100 * (inputs.head @ v_norm) - inputs.log_prior
        candidates = torch.topk(z, CANDIDATES).indices
        scores = [
            torch.mean(inputs.importance[i].softmax(dim=-1) * (v_norm @ inputs.descriptions[i].T)) for i in candidates
        ]
        decisions.append(candidates[torch.argmax(torch.tensor(scores))])
    return torch.stack(decisions)


def literal_scores(inputs: Inputs) -> list[tuple[Tensor, Tensor]]:
    """What `literal` spends on normalising and scoring alone: (v_norm, z) of each image."""
    found = []
    for v in inputs.features:
        v_norm = v / v.norm(dim=-1, keepdim=True)
        found.append((v_norm, 100 * (inputs.head @ v_norm) - inputs.log_prior))
    return found


def scored(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Unit features (B, E) and adjusted coarse logits (B, C)."""
    features = F.normalize(inputs.features, dim=-1)
    return features, 100 * (features @ inputs.head.T) - inputs.log_prior


def ranked(inputs: Inputs, features: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """What `HLC.classify` does after that: decisions (B,) and the matches of all descriptions (B, K, M)."""
    described = torch.ones(CLASSES, DESCRIPTIONS, dtype=torch.bool)
    candidates = logits.topk(CANDIDATES, dim=1).indices
    weights = reranking.description_weights(inputs.importance, described, "softmax")
    matches = reranking.description_matches(features, inputs.descriptions, candidates)
    scores = 100 * (weights[candidates] * matches).sum(-1)
    return reranking.reranked(logits, candidates, scores).argmax(1), matches


def seconds(run: Callable[[], object]) -> float:
    start = time.thread_time()  # of this thread, so that other programs on the machine count less
    run()
    return time.thread_time() - start


def rerank_ratio(*, rounds: int = 7, width: int = WIDTH) -> dict[str, float]:
    """Times in ms of 1,000 images, and ratios: "all" from the features on; "ranking" without the coarse logits, which
    both need; "ceiling" of "all", were everything behind the coarse logits free.

    Raises:
        RuntimeError: the two do not decide the same.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            inputs = Inputs(width)
            features, logits = scored(inputs)
            differing = int((literal(inputs) != ranked(inputs, features, logits)[0]).sum())
            if differing:
                raise RuntimeError(
                    f"Algorithm 1 and reranking decide differently about {differing} of {IMAGES} images."
                )
            runs: dict[str, Callable[[], object]] = {
                "literal": lambda: literal(inputs),
                "literal coarse": lambda: literal_scores(inputs),
                "coarse": lambda: scored(inputs),
                "ranking": lambda: ranked(inputs, features, logits),
            }
            times = [{name: seconds(run) for name, run in runs.items()} for _ in range(rounds + 1)][1:]  # 1 to warm up
    finally:
        torch.set_num_threads(threads)
    found = {f"{name} ms": 1000 * statistics.median(round_[name] for round_ in times) for name in runs}
    found["all"] = statistics.median(t["literal"] / (t["coarse"] + t["ranking"]) for t in times)
    found["ceiling"] = statistics.median(t["literal"] / t["coarse"] for t in times)
    found["ranking"] = statistics.median((t["literal"] - t["literal coarse"]) / t["ranking"] for t in times)
    return found


if __name__ == "__main__":
    for width in (64, WIDTH):
        print(width, {name: round(value, 1) for name, value in rerank_ratio(width=width).items()})
