"""Which images did a change of method set right, which did it break, and could that be chance?

Test: McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 1947
(`metrics.mcnemar`): of the images whose correctness changed, are significantly more fixed than broken? It takes images
as independent and so speaks of these classes only; `group_report(..., compare=)` speaks of classes like these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench import metrics

from .arms import rows_of_images
from .base import (
    CAPTION_SIZE,
    FONT_SIZE,
    GROUP_COLOURS,
    GROUP_ORDER,
    INK,
    MUTED,
    ROWS,
    TEXT_WIDTH,
    Result,
    dress,
    figure_style,
    is_narrow,
    plain,
    same_classes,
)
from .thumbnails import rows_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.data import LongTailDataset
    from workbench.features import Features

KINDS = {"fixed": "wrong to right", "broken": "right to wrong"}
_COLUMNS = 4  # of a gallery
_LETTERS = 25  # of a class name under a thumbnail of 1/4 text width
_THUMBNAIL = 256  # pixels of the longer side; what is drawn is smaller


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Images of one group whose correctness changed."""

    classes: int  # with images
    images: int
    fixed: int  # wrong before, right after
    broken: int  # right before, wrong after
    p: float  # exact McNemar, two-sided mid-p; 1 where nothing changed, nan without images

    @property
    def net(self) -> float:
        """Change of the share of right images, in [-1, 1]; nan without images."""
        return (self.fixed - self.broken) / self.images if self.images else math.nan

    def __str__(self) -> str:
        if not self.images:
            return "n/a (0 images)"
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return f"net {100 * self.net:+.1f} points, {p}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Changes(Result):
    """What became of each of N images, in the order of the first features."""

    diagnostic: ClassVar[str] = "changes"

    arms: tuple[str, str]  # what the two methods are called
    flows: dict[str, Flow]  # all, many, medium, few
    image_ids: np.ndarray  # (N,) str
    labels: np.ndarray  # (N,) int64 true class
    predicted: np.ndarray  # (2, N) int64 before, after
    confidence: np.ndarray  # (2, N) float32 of the predicted class
    fixed: np.ndarray  # (F,) int64 rows of the images that went from wrong to right, largest move first
    broken: np.ndarray  # (B,) int64 likewise from right to wrong
    class_names: tuple[str, ...]
    groups: np.ndarray  # (C,) "many" | "medium" | "few"
    rule: str

    @property
    def moved(self) -> np.ndarray:
        """(N,) float32 in [-2, 2]: confidence, counted negative where the decision is wrong, after minus before.

        Needs no logits; near 2 for an image that was surely wrong and is surely right.
        """
        signed = np.where(self.predicted == self.labels, self.confidence, -self.confidence)
        return signed[1] - signed[0]

    @property
    def ids(self) -> dict[str, np.ndarray]:
        """ "fixed" and "broken" -> ids of their images, the largest move of confidence first."""
        return {kind: self.image_ids[self.rows(kind)] for kind in KINDS}

    def rows(self, kind: str, group: str | None = None) -> np.ndarray:
        """Rows of the "fixed" or "broken" images, of one shot group or of all, the largest move of confidence first."""
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r} is not known; choose one of {', '.join(KINDS)}.")
        if group not in (None, *GROUP_ORDER):
            raise ValueError(f"group={group!r} is not known; choose one of {', '.join(GROUP_ORDER)}, or None for all.")
        rows = self.fixed if kind == "fixed" else self.broken
        return rows if group is None else rows[self.groups[self.labels[rows]] == group]

    def __str__(self) -> str:
        lines = [
            f"from {self.arms[0]} to {self.arms[1]}; groups: {self.rule}",
            f"{'group':<8}{'classes':>8}{'images':>8}{'fixed':>7}{'broken':>8}",
        ]
        for group, flow in self.flows.items():
            lines.append(f"{group:<8}{flow.classes:>8}{flow.images:>8}{flow.fixed:>7}{flow.broken:>8}  {flow}")
        lines.append("p: exact McNemar test (mid-p), images as independent; it speaks of these classes only")
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Rows of kind "group" with counts, then one row per "fixed" and "broken" image in the order of `ids`."""
        import pandas as pd

        rows: list[dict[str, Any]] = [
            {
                "kind": "group",
                "group": group,
                "classes": flow.classes,
                "images": flow.images,
                "fixed": flow.fixed,
                "broken": flow.broken,
                "net": flow.net,
                "p": flow.p,
            }
            for group, flow in self.flows.items()
        ]
        moved = self.moved
        for kind in KINDS:
            rows += [
                {
                    "kind": kind,
                    "group": self.groups[self.labels[row]],
                    "id": self.image_ids[row],
                    "true": self.class_names[self.labels[row]],
                    "before": self.class_names[self.predicted[0, row]],
                    "after": self.class_names[self.predicted[1, row]],
                    "confidence_before": self.confidence[0, row],
                    "confidence_after": self.confidence[1, row],
                    "moved": moved[row],
                }
                for row in self.rows(kind)
            ]
        return pd.DataFrame(rows).astype(dict.fromkeys(("classes", "images", "fixed", "broken"), "Int64"))

    def _draw(self, ax: Axes, view: str, **artist_kw: Any) -> None:
        from matplotlib.patches import Patch
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        ticks, tight = [], is_narrow(ax)
        for place, group in enumerate(reversed(ROWS)):
            flow, colour = self.flows[group], GROUP_COLOURS.get(group, MUTED)
            ticks.append(f"{group},{chr(10) if tight else ' '}{flow.classes} classes\nn = {flow.images}")
            style = {"edgecolor": colour, "linewidth": 1.2, "height": 0.6}
            ax.barh(place, flow.fixed, **(style | {"color": colour} | artist_kw))
            ax.barh(place, -flow.broken, **(style | {"color": "none"} | artist_kw))
            if flow.images:
                for count, side, align in ((flow.fixed, 1, "left"), (flow.broken, -1, "right")):
                    ax.annotate(
                        f"{count}", (side * count, place), (3 * side, 0), textcoords="offset points", ha=align,
                        va="center", fontsize="small",
                    )  # fmt: skip
            ax.annotate(
                str(flow).replace(", ", "\n"), (1.02, place), xycoords=("axes fraction", "data"), va="center",
                fontsize="small", annotation_clip=False, color=INK if flow.images else MUTED,
            )  # fmt: skip
        ax.axvline(0, color=INK, linewidth=0.8)
        reach = (1.5 if tight else 1.18) * max(1, self.flows["all"].fixed, self.flows["all"].broken)
        ax.set_xlim(-reach, reach)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=4 if tight else 6, integer=True))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):g}"))
        ax.set_yticks(range(len(ROWS)), ticks)
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel(f"images, from {plain(self.arms[0], 32)} to {plain(self.arms[1], 32)}", parse_math=False)
        handles = [
            Patch(facecolor="none", edgecolor=INK, label=KINDS["broken"]),
            Patch(facecolor=INK, edgecolor=INK, label=KINDS["fixed"]),
        ]
        ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, borderaxespad=0.2)
        dress(ax, grid="x")
        ax.spines["left"].set_visible(False)

    def gallery(
        self, dataset: LongTailDataset, kind: str = "fixed", count: int = 12, *, group: str | None = None
    ) -> Figure:
        """Thumbnails of the images whose confidence moved most, each with its true class and both decisions.

        The figure is not pyplot's: a notebook shows it as the value of its cell; elsewhere use `.savefig`.

        Args:
            dataset: holds the images under the ids of the features.
            kind: "fixed" (wrong to right) or "broken" (right to wrong).
            count: at most so many images.
            group: "many", "medium" or "few"; None for all.
        """
        import matplotlib.pyplot as plt

        rows = self.rows(kind, group)
        if count < 1:
            raise ValueError(f"count={count}: a gallery shows at least one image.")
        shown = rows[:count]
        places = rows_of(dataset, self.image_ids[shown])
        lines, columns = max(1, math.ceil(len(shown) / _COLUMNS)), _COLUMNS
        with figure_style():
            figure = plt.figure(figsize=(TEXT_WIDTH * 1.2, 0.75 + 1.95 * lines if len(shown) else 1.0))
            plt.close(figure)  # else a notebook would show it twice
            if not len(shown):
                images = "image" if group is None else f"{group}-shot image"
                figure.text(0.5, 0.5, f"No {images} changed from {KINDS[kind]}.", ha="center", va="center", color=MUTED)
                return figure
            for place, (row, where) in enumerate(zip(shown, places, strict=True)):
                ax = figure.add_subplot(lines, columns, place + 1)
                image = dataset.image(where)
                image.thumbnail((_THUMBNAIL, _THUMBNAIL))
                ax.imshow(np.asarray(image))
                ax.set_xticks([])
                ax.set_yticks([])
                shot = str(self.groups[self.labels[row]])
                for spine in ax.spines.values():
                    spine.set(color=GROUP_COLOURS[shot], linewidth=1.6)
                ax.set_title(self._title(row), fontsize=CAPTION_SIZE - 1, loc="left", pad=3, parse_math=False)
            what = f"{len(shown)} of {len(rows)} images, {KINDS[kind]}, largest move of confidence first"
            arms = " \N{RIGHTWARDS ARROW} ".join(plain(arm, 32) for arm in self.arms)
            heading = figure.suptitle(
                f"{what}\ntrue class, {arms}", x=0.01, ha="left", fontsize=FONT_SIZE, linespacing=1.4
            )
            heading.set_parse_math(False)
            self._legend(figure, shown)
        return figure

    def _title(self, row: int) -> str:
        """Three lines: the true class, the decision before, the decision after, each with its confidence in percent."""
        lines = [plain(self.class_names[self.labels[row]], _LETTERS + 2)]
        for arm, arrow in ((0, ""), (1, "\N{RIGHTWARDS ARROW} ")):
            mark = "\N{CHECK MARK}" if self.predicted[arm, row] == self.labels[row] else "\N{BALLOT X}"
            name = plain(self.class_names[self.predicted[arm, row]], _LETTERS - 4 - len(arrow))
            lines.append(f"{arrow}{mark} {name} {100 * self.confidence[arm, row]:.0f}%")
        return "\n".join(lines)

    def _legend(self, figure: Figure, shown: np.ndarray) -> None:
        from matplotlib.patches import Patch

        of_shown = self.groups[self.labels[shown]]
        frame = {"facecolor": "none", "linewidth": 1.6}
        handles = [
            Patch(edgecolor=GROUP_COLOURS[group], label=f"{group} (n = {(of_shown == group).sum()})", **frame)
            for group in GROUP_ORDER
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=3)


def changes(before: Features, after: Features, *, names: tuple[str, str] = ("before", "after")) -> Changes:
    """The images that are wrong in `before` and right in `after`, and the reverse, by shot group with McNemar's test.

    Args:
        before: of one run.
        after: of another run, of the same images; their order may differ.
        names: what to call the two.
    """
    classes = same_classes([before, after])
    rows = rows_of_images(after, before)
    predicted = np.stack([before.decisions, after.decisions[rows]])
    confidence = np.stack([before.confidence, after.confidence[rows]])
    right = predicted == before.labels
    groups = np.asarray(classes.groups)
    of_image = groups[before.labels]
    flows = {}
    for group in ROWS:
        inside = np.isin(of_image, GROUP_ORDER if group == "all" else [group])
        test = metrics.mcnemar(predicted[1], predicted[0], before.labels, groups, group=group)
        flows[group] = Flow(
            classes=len(np.unique(before.labels[inside])),
            images=test.n,
            fixed=test.first_only,
            broken=test.second_only,
            p=test.p,
        )
    signed = np.where(right, confidence, -confidence)
    order = np.argsort(-np.abs(signed[1] - signed[0]), kind="stable")
    kept = {"predicted": predicted, "confidence": confidence}
    kept |= {"fixed": order[right[1, order] & ~right[0, order]], "broken": order[right[0, order] & ~right[1, order]]}
    for array in kept.values():
        array.setflags(write=False)
    return Changes(
        arguments={"names": list(names)},
        sources=(before.source, after.source),
        arms=(str(names[0]), str(names[1])),
        flows=flows,
        image_ids=before.ids,
        labels=before.labels,
        **kept,
        class_names=tuple(classes.names),
        groups=groups,
        rule=str(classes.rule),
    )
