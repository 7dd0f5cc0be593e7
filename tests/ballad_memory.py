"""Memory of a BALLAD phase-A step on CLIP ViT-B/16 with the 1,000 prompts of ImageNet, computed without a GPU.

    python -m tests.ballad_memory [--images 128]

Bytes that autograd keeps for the way back are counted on the CPU (random weights, float32) for one chunk of prompts and
for one image, and added to weights, gradients and SGD's momentum. Under autocast they are fewer: an upper bound but for
the framework's own buffers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

import workbench as wb
from workbench.backbones import class_sentences, reading

TAG = "vit_base_patch16_clip_quickgelu_224.openai"


def kept(compute: Callable[[], torch.Tensor], parameters: set[int]) -> int:
    """Bytes that a forward pass keeps for its backward pass, each storage once, weights not counted."""
    seen: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    alive = []  # a storage that were freed could be counted under the same address again
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        alive.append(compute())
    return sum(seen.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=128, help="of a micro-batch (Stage.micro_batch_size)")
    images = parser.parse_args().images
    text = wb.load_text_tower(TAG, "random").requires_grad_(True)
    tower = wb.load_backbone(TAG, weights="random").requires_grad_(True)
    sentences = [group[0] for group in class_sentences(IMAGENET_CLASSNAMES, "single")]
    own = {p.untyped_storage().data_ptr() for module in (text, tower) for p in module.parameters()}
    chunk = sorted(sentences, key=len)[-reading.THAWED_CHUNK :]  # the longest, so the largest a chunk can be
    one_chunk = kept(lambda: text._forward(text.tokens(chunk)), own)
    everything = sum(
        kept(lambda part=part: text._forward(text.tokens(part)), own)  # type: ignore[misc]
        for part in (sentences[i : i + reading.THAWED_CHUNK] for i in range(0, len(sentences), reading.THAWED_CHUNK))
    )
    checkpointed = kept(lambda: text.encode(sentences), own)
    an_image = kept(lambda: tower.project(tower.encode(torch.zeros(1, 3, 224, 224))), own)
    weights = 4 * sum(p.numel() for module in (text, tower) for p in module.parameters())
    total = 3 * weights + images * an_image + one_chunk + checkpointed
    rows = {
        "weights, gradients and momentum of both towers": 3 * weights,
        f"{images} images": images * an_image,
        f"one chunk of {reading.THAWED_CHUNK} prompts, computed again": one_chunk,
        "what the chunks keep meanwhile": checkpointed,
        "together": total,
        "the 1,000 prompts without chunks": everything,
    }
    for name, size in rows.items():
        print(f"{name}: {size / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
