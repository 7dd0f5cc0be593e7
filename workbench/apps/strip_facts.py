"""Numbers of one image as HTML: its classes, the prompts that it matches, the images nearest to it."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
from scipy.special import softmax

from workbench.adapters.prompts import PromptPool
from workbench.diagnostics.base import GROUP_COLOURS, METHOD_COLOURS, MUTED, plain
from workbench.features import Features

from .pictures import Bank
from .prompt_views import without_pool
from .style import MARKS, broken, picture, state

TOP = 5  # classes, and prompts, with a score
WIDTH = 90  # CSS pixels of a bar of 100 %
SIDE = 52  # CSS pixels of a neighbour


def class_scores(features: Features, row: int) -> str:
    """The most probable classes as bars, the true one marked."""
    names, label = features.classes.names, int(features.labels[row])
    head = f"<b>{escape(str(features.ids[row]))}</b><br>true class: {escape(names[label])}"
    if "split" in features.extras:
        head += f"<br>split: {escape(str(features.extras['split'][row]))}"
    if features.logits is None:
        return f"{head}{state('These features hold no scores.', kind='missing')}"
    probability = softmax(features.logits[row].astype(np.float64))
    order = np.argsort(-probability)[:TOP].tolist()
    lines = []
    for c in order if label in order else [*order, label]:
        share, colour = float(probability[c]), GROUP_COLOURS[features.classes.groups[c]]
        name = f"{plain(names[c], 24)}{f' {MARKS[True]}' if c == label else ''}"
        lines.append(_line(name, f"{100 * share:.1f} %", WIDTH * share, colour, title=names[c]))
    return f"{head}<table>{''.join(lines)}</table>"


def prompts_of(features: Features, row: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Prompts (k,) that the image matches, the nearest first, and its similarity (m,) to all; of the last layer."""
    index = features.extras["prompt_index"][row]
    similarity = features.extras.get("prompt_similarity")
    index = index.reshape(-1, index.shape[-1])[-1].astype(np.int64)
    return index, None if similarity is None else similarity[row].reshape(-1, similarity.shape[-1])[-1]


def best_prompts(features: Features, row: int, method: Any) -> list[int]:
    """The prompts that the image matches, the nearest first, where this method has a pool of them."""
    if not isinstance(method, PromptPool) or method.keys is None or "prompt_index" not in features.extras:
        return []
    return [prompt for prompt in prompts_of(features, row)[0].tolist() if prompt < method.pool_size[1]]


def prompt_scores(features: Features, row: int, method: Any) -> str:
    """The most similar prompts as bars, those matched marked; "" where neither features nor method know of prompts."""
    if "prompt_index" not in features.extras:
        if isinstance(method, PromptPool) and method.keys is not None:
            return "<b>prompts</b>" + state("Extract the features with this method to see them.", kind="missing")
        hint = "" if method is None else without_pool(method).split(":")[0] + "."
        return f'<b>prompts</b><div class="wb-caption">{escape(hint)}</div>' if hint else ""
    index, similarity = prompts_of(features, row)
    matched = [f"{prompt}" for prompt in index.tolist()]
    head = f"<b>prompts</b><br>matches {', '.join(matched)}"
    if similarity is None:
        return head
    order = np.argsort(-similarity, kind="stable")[:TOP].tolist()
    lines = []
    for prompt in dict.fromkeys([*order, *index.tolist()]):
        score = float(similarity[prompt])
        name = f"prompt {prompt}{f' {MARKS[True]}' if prompt in index else ''}"
        colour = METHOD_COLOURS[0] if prompt in index else MUTED
        lines.append(_line(name, f"{score:.2f}", WIDTH * min(max(score, 0), 1), colour))
    note = f'<div class="wb-caption">similarity to the key of each, {MARKS[True]} matched</div>'
    return f"{head}<table>{''.join(lines)}</table>{note}"


def neighbours(bank: Bank | None, rows: Any = (), cosines: Any = (), *, of: str = "") -> str:
    """The nearest images of a bank, or how to get one. of: name of the class that they are compared with."""
    head = "<b>nearest training images</b>"
    if bank is None:
        hint = "Pass bank=wb.extract(method, train), bank_images=train to see them."
        return f'{head}<div class="wb-caption">{escape(hint)}</div>'
    features, cells, problem = bank.features, [], ""
    for row, cosine in zip(rows, cosines, strict=True):
        label = int(features.labels[row])
        name, colour = features.classes.names[label], GROUP_COLOURS[features.classes.groups[label]]
        title = f"{features.ids[row]}: {name} ({features.classes.groups[label]}), cosine {cosine:.3f}"
        photo = ""
        if bank.pictures.images is not None and not problem:
            try:
                photo = picture(bank.pictures.one(int(row)), title, width=SIDE)
            except (ValueError, OSError) as error:
                problem = broken(error)
        cells.append(
            f'<div style="width:{SIDE}px;border-bottom:3px solid {colour}" title="{escape(title)}">{photo}'
            f'<div class="wb-caption">{MARKS[name == of]} {cosine:.2f}<br>{escape(plain(name, 12))}</div></div>'
        )
    same = sum(features.classes.names[features.labels[row]] == of for row in rows)
    said = f"{same} of {len(cells)} are of its class; {MARKS[True]} and cosine below"
    if bank.pictures.images is None:
        said += ". Pass bank_images=train to see them."
    return (
        f'{head}<div style="display:flex;flex-wrap:wrap;gap:4px">{"".join(cells)}</div>'
        f'<div class="wb-caption">{escape(said)}</div>{problem}'
    )


def _line(name: str, value: str, width: float, colour: str, *, title: str = "") -> str:
    bar = f'<div style="width:{width:.0f}px;height:10px;background:{colour};display:inline-block"></div>'
    return (
        f'<tr style="white-space:nowrap"><td title="{escape(title)}">{escape(name)}</td><td>{value}</td>'
        f'<td style="text-align:left">{bar}</td></tr>'
    )
