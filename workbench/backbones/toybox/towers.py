"""The towers that come with the package: toybox_vit, toybox_clip, and the text tower that belongs to toybox_clip.

Both image towers are timm's VisionTransformer at 56 pixels, patch 8, width 96, depth 12, three heads, class token
(Dosovitskiy et al., ICLR 2021, arXiv 2010.11929). toybox_clip adds a projection into a joint space and a text
transformer as in CLIP (Radford et al., ICML 2021, arXiv 2103.00020), built by open_clip.

A shipped file is a safetensors file in half precision. toybox_vit.safetensors has timm's names. toybox_clip.safetensors
has open_clip's names for a CLIP around a timm tower (`visual.trunk.*`, `visual.head.proj.weight`, `text.*`,
`logit_scale`) and one tensor more, `text.token_ids`: the vocabulary of 49,408 tokens would take 9 MB, so only the rows
of tokens met in pretraining are stored, behind row 0, which all others share.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from workbench.backbones.weights import read_weights

IMAGE_SIZE = 56
PATCH = 8
WIDTH = 96
DEPTH = 12
HEADS = 3
JOINT_WIDTH = 64

TEXT_LAYERS = 3
CONTEXT = 32  # tokens of a sentence with its two marks; longer ones are cut
VOCABULARY = 49408  # of CLIP's byte-pair encoding
UNKNOWN = 0  # the row that every token not met in pretraining shares
MARKS = (49406, 49407)  # start and end of text

PACKAGED_CLIP = Path(__file__).parent / "toybox_clip.safetensors"

Tokenizer = Callable[[list[str]], Tensor]


def build_vit(*, img_size: int = IMAGE_SIZE) -> VisionTransformer:
    """The image tower without a head. timm draws its weights from torch's global state: call it inside fork_rng."""
    return VisionTransformer(
        img_size=img_size, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=0
    )


class TextEncoder(nn.Module):
    """open_clip's text transformer over the stored rows of the vocabulary.

    Args:
        token_ids: (V,) int64, the tokens of CLIP's vocabulary that have a row of their own.

    Attributes:
        transformer: open_clip's TextTransformer with 1 + V rows; row 0 is the one of unknown tokens.
        token_ids: (V,) int64, ascending, so the end of text, CLIP's largest token, has the last row.
        rows: (49408,) int64, the row of each token.
    """

    token_ids: Tensor
    rows: Tensor

    def __init__(self, token_ids: Tensor) -> None:
        super().__init__()
        from open_clip.transformer import TextTransformer

        token_ids = token_ids.unique()  # sorts
        if not set(MARKS) <= set(token_ids.tolist()):
            raise ValueError(f"token_ids must hold {MARKS}, the marks of start and end of text.")
        rows = torch.full((VOCABULARY,), UNKNOWN)
        rows[token_ids] = torch.arange(1, len(token_ids) + 1)
        self.register_buffer("token_ids", token_ids)
        self.register_buffer("rows", rows, persistent=False)
        self.transformer: Any = TextTransformer(  # Any: nn.Module hides what open_clip puts on it
            context_length=CONTEXT,
            vocab_size=len(token_ids) + 1,
            width=WIDTH,
            heads=HEADS,
            layers=TEXT_LAYERS,
            output_dim=JOINT_WIDTH,
        )

    def forward(self, token_ids: Tensor) -> Tensor:
        """token_ids: (S, L) int64 of CLIP's vocabulary, L <= 32 -> (S, E) in the joint space, not normalised."""
        return self.embed_rows(self.rows[token_ids])

    def embed_rows(self, rows: Tensor) -> Tensor:
        """rows: (S, L) int64, L <= 32, each row with the end of text -> (S, E), not normalised."""
        text, length = self.transformer, rows.shape[1]
        x = text.token_embedding(rows) + text.positional_embedding[:length]
        x = text.ln_final(text.transformer(x, attn_mask=text.attn_mask[:length, :length]))
        end = x[torch.arange(len(rows), device=rows.device), rows.argmax(1)]  # the end of text has the largest row
        projected: Tensor = end @ text.text_projection
        return projected


def tokenizer() -> Tokenizer:
    """CLIP's byte-pair tokenizer, which open_clip carries: sentences (S) -> (S, 32) int64, longer ones are cut."""
    from open_clip.tokenizer import SimpleTokenizer

    tokenize: Any = SimpleTokenizer(context_length=CONTEXT)
    return lambda sentences: tokenize(sentences) if sentences else torch.zeros((0, CONTEXT), dtype=torch.int64)


def text_tower(weights: str | Path | None = None, *, seed: int = 0) -> tuple[TextEncoder, Tokenizer, float]:
    """The text tower of toybox_clip, float32, eval mode, nothing requires a gradient.

    Args:
        weights: None takes the packaged file, "random" draws a tower that knows the two marks only, anything else is a
            file in the layout of toybox_clip.safetensors.
        seed: of random weights.

    Returns:
        Module (S, L) int64 -> (S, E) float32, not normalised; tokenizer; logit scale, the factor on cosines.

    Raises:
        FileNotFoundError: no file there.
        ValueError: a file without this text tower.
    """
    if weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # open_clip draws from the global state
            encoder = TextEncoder(torch.tensor(MARKS))
        return encoder.requires_grad_(False).eval(), tokenizer(), 1 / 0.07
    path = PACKAGED_CLIP if weights is None else Path(weights).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no weight file at {path}. weights= takes a file in the layout of toybox_clip.safetensors, "
            "'random', or None for the one in the package."
        )
    state = read_weights(path)
    if not {"text.token_ids", "logit_scale"} <= state.keys():
        raise ValueError(
            f"{path} has no text tower of the toybox (text.token_ids and logit_scale are missing); give a file that "
            "`python -m workbench.backbones.toybox.pretrain clip` wrote."
        )
    scale = float(state["logit_scale"].float().exp())
    with torch.random.fork_rng(devices=[]):
        encoder = TextEncoder(state["text.token_ids"])
    tensors = {"token_ids": state.pop("text.token_ids").long()}
    tensors |= {f"transformer.{k[5:]}": v.float() for k, v in state.items() if k.startswith("text.")}
    encoder.load_state_dict(tensors, strict=True)
    return encoder.requires_grad_(False).eval(), tokenizer(), scale


def pack_vit(tower: nn.Module, path: Path) -> None:
    """Write an image tower as a half-precision safetensors file under timm's names."""
    _save({name: value for name, value in tower.state_dict().items() if not name.startswith("head.")}, path)


def pack_clip(tower: nn.Module, text: TextEncoder, logit_scale: Tensor, path: Path) -> None:
    """Write image tower, projection, text tower and log of the logit scale as one half-precision safetensors file."""
    names = {"head.weight": "visual.head.proj.weight"}
    tensors = {names.get(name, f"visual.trunk.{name}"): value for name, value in tower.state_dict().items()}
    tensors |= {f"text.{name}": value for name, value in text.transformer.state_dict().items()}
    tensors |= {"text.token_ids": text.token_ids, "logit_scale": logit_scale.detach()}
    _save(tensors, path)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    halves = {name: value.half() if value.is_floating_point() else value.int() for name, value in tensors.items()}
    temporary = path.with_suffix(".tmp")
    safetensors.torch.save_file({name: value.cpu().contiguous() for name, value in halves.items()}, temporary)
    temporary.replace(path)
