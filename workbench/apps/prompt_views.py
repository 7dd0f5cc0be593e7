"""What the app `prompts` draws: bars of matches, accuracies with and without a prompt, where a prompt looks."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench import metrics
from workbench.adapters.prompts import PromptPool
from workbench.diagnostics import heat_maps
from workbench.diagnostics.attention import prompt_attention
from workbench.diagnostics.base import GROUP_COLOURS, GROUP_MARKERS, GROUP_ORDER, ROWS, percent, plain
from workbench.diagnostics.localisation import localisation
from workbench.diagnostics.prompt_ablation import PromptAblation
from workbench.diagnostics.prompt_matching import PromptMatching
from workbench.methods import METHODS, method_class

from .chart import axis, group_bars, shares
from .style import MARKS, picture

if TYPE_CHECKING:
    from workbench.data import LongTailDataset
    from workbench.features import Features

ALL = "all"
SIDE = 200  # CSS pixels of a picture
RANKS = ("best", "second-best")
MOST = 25  # prompts with a number below


def matching_bars(matching: PromptMatching, of: Any, name: str) -> dict[str, Any]:
    """Keywords of `Chart.show`: how often each prompt is matched; a mark's key is "prompt.rank.group".

    of "all": a bar for each group, of the best match; a group or the index of a class: best and second-best.
    """
    m = len(matching.live)
    if of == ALL:
        bars = [(group, 0, matching.by_group[group][0], GROUP_COLOURS[group], 1.0) for group in GROUP_ORDER]
        legend: list[dict[str, Any]] = [
            {"label": f"{g} ({_classes(matching, g)})", "colour": GROUP_COLOURS[g], "marker": GROUP_MARKERS[g]}
            for g in GROUP_ORDER
        ]
    else:
        group = of if isinstance(of, str) else str(matching.groups[of])
        found = matching.by_group[of] if isinstance(of, str) else matching.proportions[of]
        ranks = range(min(2, len(found)))
        bars = [(name, rank, found[rank], GROUP_COLOURS[group], 1 - 0.6 * rank) for rank in ranks]
        legend = [
            {"label": f"{RANKS[rank]} match", "colour": GROUP_COLOURS[group], "opacity": 1 - 0.6 * rank}
            for rank in ranks
        ]
    width = 0.84 / len(bars)
    marks: list[dict[str, Any]] = [
        {
            "kind": "bar", "x": prompt + (n - (len(bars) - 1) / 2) * width, "w": width, "y": 100 * float(found[prompt]),
            "colour": colour, "opacity": opacity, "key": f"{prompt}.{rank}.{label if of == ALL else ''}",
            "title": f"prompt {prompt}: {RANKS[rank]} match of {100 * found[prompt]:.1f} % of the images of {label}",
        }
        for n, (label, rank, found, colour, opacity) in enumerate(bars)
        for prompt in range(m)
    ]  # fmt: skip
    marks.append({"kind": "level", "y": 100 / m, "dash": True})
    top = max([mark["y"] for mark in marks if math.isfinite(mark["y"])])
    ticks = [(prompt, str(prompt)) for prompt in range(0, m, max(1, -(-m // MOST)))]
    best = [f"{label} {int(np.nanargmax(f))} ({100 * np.nanmax(f):.1f} %)" for label, _, f, *_ in bars if _any(f)]
    return {
        "marks": marks,
        "legend": legend,
        "x": axis(-0.6, m - 0.4, "prompt (dashed: all alike)", ticks=ticks),
        "y": shares("images (%)", high=min(100, 1.08 * top)),
        "alt": f"how often each of {m} prompts is matched; most by {'; '.join(best)}",
        "height": 230,
    }


def pool_line(matching: PromptMatching) -> str:
    """HTML: how much of the pool lives, and what the choice tells about the class."""
    dead = np.flatnonzero(~matching.live).tolist()
    text = (
        f"live {int(matching.live.sum())}/{len(matching.live)} · the best match tells {matching.information:.2f} bits "
        f"about the class (shuffled labels {matching.shuffled.mean():.2f}, p = {matching.p_value:.2g}) · "
        f"{'none is dead' if not dead else 'never matched: ' + ' '.join(map(str, dead))}"
    )
    return escape(text)


def accuracies(features: Features) -> dict[str, Any]:
    """Keywords of `Chart.show`: group accuracies of the decisions about features."""
    assert features.predicted is not None
    return _group_bars({"all prompts": features.predicted}, features.labels, np.asarray(features.classes.groups))


def accuracies_without(found: PromptAblation) -> dict[str, Any]:
    """Keywords of `Chart.show`: group accuracies with all prompts, and without the one that was switched off."""
    arms = {"all prompts": found.predicted, f"without {found.prompts[0]}": found.without[0]}
    return _group_bars(arms, found.labels, found.groups)


def _group_bars(arms: dict[str, np.ndarray], labels: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    values = {
        name: {group: metrics.group_interval(decided, labels, groups, group=group) for group in ROWS}
        for name, decided in arms.items()
    }
    present = np.unique(labels)
    sizes = {group: int((groups[present] == group).sum()) for group in GROUP_ORDER} | {ALL: len(present)}
    return group_bars(values, sizes, ROWS)


def moved(found: PromptAblation) -> str:
    """HTML: which share of each group picks the prompt, and what changes without it."""
    prompt = int(found.prompts[0])
    used, changed = (found.shares(mask[0]) for mask in (found.used, found.changed))
    lines, verdicts = [], []
    for group in ROWS:
        change = found.differences[prompt, group]
        points = percent(change.estimate, change.low, change.high, sign=True)
        cells = (group, f"{percent(used[group])} %", f"{percent(changed[group])} %", points)
        lines.append("".join(f"<td>{cell}</td>" for cell in cells))
        verdicts.append(f"{group} {change.verdict}")
    head = "<tr><th></th><th>pick it</th><th>decided otherwise</th><th>accuracy, points</th></tr>"
    note = f"without prompt {prompt} images take their next nearest; accuracy: {', '.join(verdicts)}"
    rows = "".join(f'<tr style="white-space:nowrap">{line}</tr>' for line in lines)
    return f'<table>{head}{rows}</table><div class="wb-caption">{escape(note)}</div>'


def looks_of(method: Any, dataset: LongTailDataset, row: int, prompt: int, block: int) -> str:
    """HTML: an image, where the prompt looks in it, and which patches read the prompt."""
    shown = dataset.with_preprocessing(method.test_preprocessing("centre"))
    x, label = shown[row][0][None], int(dataset.labels[row])
    found = prompt_attention(method, x, prompt, block)
    mask = shown.mask(row, seen=True)
    photo = heat_maps.as_pictures(method.backbone.pixels(x))
    name, tokens = dataset.classes.names[label], method.picked
    T = found.probabilities.shape[-1]
    looks, read = found.looks(tokens), found.read_by(tokens)
    unused = "" if found.prompts_count else "; nothing of this reaches the feature: the method drops what comes out"
    out = f"{100 * looks[0].sum():.0f} % of its attention on patches (even: {100 * looks[0].size / T:.0f} %)"
    lowest, mean, highest = (100 * float(f(read[0])) for f in (np.min, np.mean, np.max))
    back = (
        f"a patch gives it {mean:.1f} % of its attention, {lowest:.1f} to {highest:.1f} (even: {100 * tokens / T:.1f})"
    )
    parts = [
        ("image", photo[0], f"{name}, as the method is shown it" + _object(None, mask)),
        (f"what prompt {prompt} looks at", *_over(photo, looks, out + unused, mask)),
        (f"which patches read prompt {prompt}", *_over(photo, read, back, mask)),
    ]
    cells = []
    for title, pixels, said in parts:
        html = picture(pixels, f"{title}: {said}", width=SIDE)
        cells.append(
            f'<div style="flex:1 1 0;max-width:{SIDE + 60}px"><b>{escape(title)}</b><br>{html}'
            f'<div class="wb-caption">{escape(said)}</div></div>'
        )
    note = (
        f"prompt {prompt} alone, {tokens} tokens in block {block}; the image itself mixes {method.config.top_k} of its "
        "picks. Each map is stretched to its own range."
    )
    return f'<div style="display:flex;gap:16px">{"".join(cells)}</div><div class="wb-caption">{escape(note)}</div>'


def _over(photo: np.ndarray, values: np.ndarray, text: str, mask: np.ndarray | None) -> tuple[np.ndarray, str]:
    maps = heat_maps.enlarged(values, (photo.shape[1], photo.shape[2]))
    return heat_maps.blended(photo, maps)[0], text + _object(maps, mask)


def _object(maps: np.ndarray | None, mask: np.ndarray | None) -> str:
    """What the object covers, or which share of a map lies on it, where that is known."""
    if mask is None or not mask.any():
        return ""
    if maps is None:
        return f"; the object covers {100 * mask.mean():.0f} %"
    share = localisation({"map": maps}, mask[None]).values["energy"][0, 0]
    return f"; {100 * share:.0f} % of the map on the object" if math.isfinite(share) else ""


def _classes(matching: PromptMatching, group: str) -> str:
    return f"{int(((matching.groups == group) & (matching.images > 0)).sum())} classes"


def _any(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).any())


def cells_of(features: Features, rows: np.ndarray) -> list[dict[str, str]]:
    """What `Tiles` says of these images."""
    names, groups, cells = features.classes.names, np.asarray(features.classes.groups), []
    for r in rows:
        label = features.labels[r]
        cell = {"title": f"{features.ids[r]}: {names[label]} ({groups[label]})", "caption": plain(names[label], 11)}
        if features.predicted is not None:
            cell["caption"] = f"{MARKS[bool(features.predicted[r] == label)]} {plain(names[label], 8)}"
            cell["title"] += f"; predicted {names[features.predicted[r]]}"
        cells.append(cell | {"colour": GROUP_COLOURS[groups[label]]})
    return cells


def without_pool(method: Any) -> str:
    """Why there is nothing to see of this method, and of which there is."""
    pools = " and ".join(name for name in METHODS if issubclass(method_class(name), PromptPool))
    if isinstance(method, PromptPool):
        return f"{method.name} has no pool of prompts with its options, so images pick none."  # type: ignore[attr-defined]
    return (
        f"Images of {method.name} pick no prompts: what it trains is the same for each of them. Methods whose images "
        f"pick from a pool are {pools}. Where {method.name} looks is shown by lens(method, images)."
    )
