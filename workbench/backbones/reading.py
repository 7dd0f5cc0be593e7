"""How CLIP's text transformer reads token embeddings, and sentences in which learnt vectors stand for words.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, arXiv 2103.00020;
the learnt vectors are those of CoOp (Zhou et al., IJCV 2022, arXiv 2109.01134, eq. 2). W is the transformer's width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from .text import TextTower

CHUNK = 256  # sentences per forward pass
THAWED_CHUNK = 128  # and where gradients go through it: the activations of a chunk are held at once


def encode_prompts(tower: TextTower, ids: Tensor, places: Tensor, context: Tensor) -> Tensor:
    """Sentences in which learnt vectors stand for some of the tokens; gradients go to those vectors.

    Args:
        tower: of CLIP's kind.
        ids: (S, L) int64 token ids, as from `tower.tokens`; what stands at `places` does not count.
        places: (S, K) int64, the positions of the K learnt vectors, before the end token.
        context: (K, W) vectors for all sentences, or (S, K, W), of the kind that `embed_tokens` gives.

    Returns:
        (S, E) float32 on the tower's device, not normalised.
    """
    ids, places = ids.to(tower.device), places.to(tower.device)
    model = reader(tower)

    def encode(ids: Tensor, places: Tensor, context: Tensor) -> Tensor:
        end = ids.scatter(1, places, -1).argmax(-1)  # (S,)
        x = embed_tokens(tower, ids[:, : int(end.max()) + 1])  # (S, L, W)
        rows = torch.arange(len(ids), device=ids.device)[:, None]
        return read(model, x.index_put((rows, places), context.to(x)), end)

    return in_chunks(encode, ids, places, context.expand(len(ids), *context.shape[-2:]))


def embed_tokens(tower: TextTower, ids: Tensor) -> Tensor:
    """Token ids (S, L) int64 -> their embeddings (S, L, W), without positions."""
    model, ids = reader(tower), ids.to(tower.device)
    embeddings: Tensor = model.token_embedding(ids if model is tower.model else tower.model.rows[ids])
    return embeddings


def context_length(tower: TextTower) -> int:
    """Tokens of a sentence with its two marks, at most: 77 for CLIP."""
    return int(reader(tower).context_length)


def token_width(tower: TextTower) -> int:
    """W, the width of a token's embedding."""
    return int(reader(tower).token_embedding.embedding_dim)


def reader(tower: TextTower) -> Any:
    """The open_clip transformer in a tower that reads token embeddings; ValueError where there is none of that kind."""
    model = tower.model  # the toybox's tower is one around open_clip's, with fewer rows of embeddings
    model = model if hasattr(model, "token_embedding") else getattr(model, "transformer", None)
    if not reads_embeddings(model):
        raise ValueError(
            f"{tower.name} does not read token embeddings as CLIP's text tower does, so learnt vectors cannot stand "
            "for words in it. Use one of OpenAI's layout, for example vit_base_patch16_clip_quickgelu_224.openai."
        )
    return model


def reads_embeddings(model: Any) -> bool:
    """Whether this is open_clip's transformer as in CLIP: causal, read at the end token, projected by a matrix."""
    if getattr(model, "pool_type", "") != "argmax" or getattr(model, "cls_emb", None) is not None:
        return False
    return model.attn_mask is not None and isinstance(model.text_projection, Tensor)


def read(model: Any, x: Tensor, end: Tensor) -> Tensor:
    """x: (S, L, W) token embeddings, without positions; end: (S,) int64, where the end token stands -> (S, E)."""
    length = x.shape[1]
    x = x + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x[torch.arange(len(end), device=end.device), end])  # (S, W)
    projected: Tensor = x @ model.text_projection
    return projected


def in_chunks(encode: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """`encode` of `rows`, tensors of S rows each, a few of them at a time -> (S, E) float32.

    Where gradients are wanted, a chunk keeps its rows only and is computed again on the way back, so that the memory is
    that of one chunk however many sentences there are.
    """
    graph = torch.is_grad_enabled()
    size = THAWED_CHUNK if graph else CHUNK
    encoded = []
    for start in range(0, len(rows[0]), size):
        chunk = [row[start : start + size] for row in rows]
        encoded.append(checkpoint(encode, *chunk, use_reentrant=False) if graph else encode(*chunk))
    return torch.cat(encoded).float()
