"""Text towers of CLIP, as built by open_clip, and `load_text_tower`, which hands them out.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, arXiv 2103.00020. A
sentence is cut into tokens, the transformer reads them from left to right, and the vector at the end token, projected
into the joint space of width E, is the sentence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .base import WeightsRecord
from .reading import in_chunks, read, reads_embeddings
from .tags import Tower, find_tower
from .text_tags import MODELS, TINYCLIP, TextSizes, has_text_tower, open_clip_record, text_sizes
from .weights import check_activation, file_sha256, read_weights

TOYBOX = "toybox_clip"
REMEMBERED = 100_000  # sentences whose vectors a frozen tower keeps
OPENAI_SCALE = 100.0  # exp of the logit scale at which CLIP's training clips it, and where OpenAI's weights ended

Tokenizer = Callable[[list[str]], Tensor]


class TextTower(nn.Module):
    """A text tower, frozen and in eval mode as it is handed out. The open_clip model is `.model`.

    While nothing in it requires a gradient, a sentence is encoded once and its vector remembered (in memory, up to
    100,000 sentences; changed weights forget them). Once thawed, `encode` computes every time and carries gradients.

    Args:
        model: token ids (S, L) int64 -> (S, E).
        tokenizer: sentences -> token ids (S, L) int64, padded with 0.
        name: the name it was asked for.
        width: E, the width of the joint image-text space.
        logit_scale: the factor on cosines that makes them logits (exp of CLIP's parameter, 1 / temperature).
        weights: where the weights came from.
        request: the arguments of `load_text_tower` that rebuild this tower, JSON-ready.
    """

    names_only = False

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        *,
        name: str,
        width: int,
        logit_scale: float = OPENAI_SCALE,
        weights: WeightsRecord | None = None,
        request: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model: Any = model.requires_grad_(False)  # Any: open_clip ships no types
        self.tokenizer = tokenizer
        self.name = name
        self.width = width
        self.logit_scale = float(logit_scale)
        self.weights = weights or WeightsRecord(None, None, None)
        self._request = request or {"name": name}
        self._remembered: dict[str, Tensor] = {}
        self._version = -1
        self.eval()

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def tokens(self, sentences: Sequence[str]) -> Tensor:
        """Token ids (S, L) int64 on the tower's device. Sentences beyond the context (77 for CLIP) are cut."""
        if isinstance(sentences, str):
            raise ValueError(f"Give a list of sentences, not the text {sentences[:40]!r}.")
        return self.tokenizer(list(sentences)).to(self.device)

    def encode(self, sentences: Sequence[str]) -> Tensor:
        """sentences: S texts -> (S, E) float32 on the tower's device, not normalised."""
        if isinstance(sentences, str):
            raise ValueError(f"Give a list of sentences, not the text {sentences[:40]!r}.")
        if not sentences:
            return torch.empty(0, self.width, device=self.device)
        parameters = list(self.parameters())
        if any(parameter.requires_grad for parameter in parameters):
            return self._computed(sentences)
        version = sum(parameter._version for parameter in parameters)  # every change in place counts it up
        if version != self._version or len(self._remembered) > REMEMBERED:
            self._remembered, self._version = {}, version
        new = list(dict.fromkeys(sentence for sentence in sentences if sentence not in self._remembered))
        if new:
            with torch.no_grad():
                self._remembered.update(zip(new, self._computed(new).cpu(), strict=True))
        return torch.stack([self._remembered[sentence] for sentence in sentences]).to(self.device)

    def _computed(self, sentences: Sequence[str]) -> Tensor:
        return in_chunks(self._forward, self.tokens(sentences))

    def _forward(self, ids: Tensor) -> Tensor:
        """ids: (S, L) int64 -> (S, E). The end token has the largest id, and no token reads those behind it, so the
        padding behind the longest sentence is left out: the same vectors in a fraction of the time."""
        if not reads_embeddings(self.model):
            encoded: Tensor = self.model(ids)
            return encoded
        end = ids.argmax(-1)  # (S,)
        return read(self.model, self.model.token_embedding(ids[:, : int(end.max()) + 1]), end)

    def spec(self) -> dict[str, Any]:
        """JSON-ready arguments: load_text_tower(**spec) rebuilds this tower and checks the sha256 of its weight file.

        Of a tower built by hand it holds the name alone.
        """
        return {**self._request, "sha256": self.weights.sha256}


def load_text_tower(
    name: str, weights: str | Path | None = None, *, seed: int = 0, sha256: str | None = None
) -> TextTower:
    """The text tower that was trained with an image tower: eval mode, nothing requires a gradient, on the CPU.

    Args:
        name: the name of the image tower as for `load_backbone`, for example
            "vit_base_patch16_clip_quickgelu_224.openai", or "toybox_clip".
        weights: None downloads the tag's pretrained weights; "random" draws them from `seed`; anything else is a local
            file: .safetensors, or .pth / .pt / .bin holding tensors only, in the layout of OpenAI's CLIP or open_clip,
            with or without the image tower. A file without `logit_scale` gets 100, CLIP's.
        seed: of random weights.
        sha256: what the weight file must hash to; a mismatch is refused.

    Raises:
        ValueError: a name without text tower (the message lists those with one), a file that does not fit (it lists
            the names or shapes that differ).
        FileNotFoundError: no file at `weights`, or the pretrained weights could not be downloaded.
    """
    if name == TOYBOX:
        return _toybox(weights, seed=seed, sha256=sha256)
    tower = find_tower(name, tag_needed=weights is None, from_file=weights not in (None, "random"))
    if not has_text_tower(tower):
        raise ValueError(
            f"{name} has no text tower that can be loaded: it was not trained together with one, or with one of "
            f"another kind. There are text towers for {', '.join((*MODELS, *TINYCLIP, TOYBOX))}."
        )
    sizes = text_sizes(tower)
    model, tokenizer = _build(sizes, seed=seed, on_meta=weights != "random")
    known_as = tower.name if tower.tag_known else name
    record, scale = WeightsRecord(None, None, None), 1 / 0.07  # the temperature with which CLIP's training begins
    if weights != "random":
        path = _downloaded(tower) if weights is None else Path(weights).expanduser().absolute()
        if not path.is_file():
            raise FileNotFoundError(
                f"There is no weight file at {path}. weights= takes a file, 'random', or None for pretrained weights."
            )
        digest = file_sha256(path, needed=sha256)
        scale = _load(model, tower, path)
        record = WeightsRecord(tower.name if tower.tag_known else None, digest, str(path))
        weights = weights and path
    request = {"name": known_as, "weights": None if weights is None else str(weights), "seed": seed}
    return TextTower(
        model, tokenizer, name=known_as, width=sizes.joint_width, logit_scale=scale, weights=record, request=request
    )


def _toybox(weights: str | Path | None, *, seed: int, sha256: str | None) -> TextTower:
    from .toybox.towers import JOINT_WIDTH, PACKAGED_CLIP, text_tower

    model, tokenizer, scale = text_tower(weights, seed=seed)
    record = WeightsRecord(None, None, None)
    if weights != "random":
        path = PACKAGED_CLIP if weights is None else Path(weights).expanduser().absolute()
        digest = file_sha256(path, needed=sha256)
        record = WeightsRecord(TOYBOX if weights is None else None, digest, str(path))
        weights = weights and path
    request = {"name": TOYBOX, "weights": None if weights is None else str(weights), "seed": seed}
    return TextTower(
        model, tokenizer, name=TOYBOX, width=JOINT_WIDTH, logit_scale=scale, weights=record, request=request
    )


def _build(sizes: TextSizes, *, seed: int, on_meta: bool) -> tuple[nn.Module, Tokenizer]:
    """open_clip's text transformer, its weights random or on the meta device, and its tokenizer."""
    from open_clip.tokenizer import SimpleTokenizer
    from open_clip.transformer import QuickGELU, TextTransformer

    with torch.random.fork_rng(devices=[]), torch.device("meta" if on_meta else "cpu"):
        torch.default_generator.manual_seed(seed)  # open_clip draws from the global state, which fork_rng gives back
        model: Any = TextTransformer(
            context_length=sizes.context_length,
            vocab_size=sizes.vocab_size,
            width=sizes.width,
            heads=sizes.heads,
            layers=sizes.layers,
            output_dim=sizes.joint_width,
            act_layer=QuickGELU if sizes.quick_gelu else nn.GELU,
        )
    if on_meta:
        model.attn_mask = model.build_causal_mask()  # computed, so no weight file brings it
    tokenizer: Tokenizer = SimpleTokenizer(context_length=sizes.context_length)
    return model, tokenizer


def _downloaded(tower: Tower) -> Path:
    """The CLIP weights of a tag in the local cache, downloaded by open_clip if they are not there yet."""
    import open_clip

    reason: Exception | str = "open_clip records no download for this tag"
    record = open_clip_record(tower)
    if record is not None:
        try:
            return Path(open_clip.download_pretrained(record))
        except (OSError, ValueError, RuntimeError) as error:  # offline, no such file, a proxy that answers otherwise
            reason = error
    raise FileNotFoundError(
        f"The pretrained text weights of {tower.name} are not at hand and could not be downloaded ({reason}). Give a "
        f"local file, load_text_tower({tower.name!r}, weights='open_clip_model.safetensors'), or weights='random' for "
        "a tower that knows nothing."
    )


def _load(model: nn.Module, tower: Tower, path: Path) -> float:
    """Fill a model built on the meta device, float32, strictly; returns the factor on cosines."""
    state = {name: value for name, value in read_weights(path).items() if isinstance(value, Tensor)}
    for prefix in ("module.", "model."):  # DataParallel; a saved TextTower
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    check_activation(tower, state, path)
    if any(name.startswith("text.") for name in state):  # open_clip around towers of other kinds
        scale = state.get("logit_scale")
        state = {name.removeprefix("text."): value for name, value in state.items() if name.startswith("text.")}
    else:
        scale = state.pop("logit_scale", None)
        aside = ("visual.", "input_resolution", "context_length", "vocab_size", "attn_mask", "logit_bias")
        state = {name: value for name, value in state.items() if not name.startswith(aside)}
    _compare(model, state, tower, path)
    broken = [name for name, value in state.items() if not value.isfinite().all()]
    if broken or (scale is not None and not scale.isfinite().all()):
        raise ValueError(f"{path} has values that are not finite in {', '.join(broken[:3]) or 'logit_scale'}.")
    # clones: safetensors may hand out memory that is still mapped to the file
    ready = {name: value.float().contiguous().clone() for name, value in state.items()}
    model.load_state_dict(ready, strict=True, assign=True)
    return OPENAI_SCALE if scale is None else math.exp(float(scale))


def _compare(model: nn.Module, state: dict[str, Tensor], tower: Tower, path: Path) -> None:
    own = model.state_dict()
    shapes = [
        f"{name} is {tuple(state[name].shape)}, needed {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    problems = {
        "missing": [name for name in own if name not in state],
        "not in the tower": [name for name in state if name not in own],
        "of another shape": shapes,
    }
    if any(problems.values()):
        told = "; ".join(f"{len(names)} {kind}: {', '.join(names[:3])}" for kind, names in problems.items() if names)
        raise ValueError(
            f"{path} does not hold the text tower of {tower.architecture}, which has {len(own)} tensors ({told}). Give "
            "a whole CLIP of OpenAI's or open_clip's layout; timm's own files have no text tower."
        )
