"""Domain shift: `workbench report RUN --data OTHER` asks a run the same question of its own images and of others."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.features import Features
    from workbench.runs import Run


class Shift:
    """Another data set, asked the same question as a run's own: images of the classes that both have."""

    def __init__(self, run: Run, arguments: argparse.Namespace) -> None:
        import workbench as wb
        from workbench.data import match_classes

        self.split = arguments.split
        self.matching = match_classes(wb.Manifest.load(arguments.data), run.classes, arguments.classes)
        self.manifest = self.matching.manifest(self.split)
        if self.manifest.kind in ("files", "cifar100") and arguments.data_root is None:
            raise ValueError(
                f"{self.manifest.name} consists of image files: say with --data-root FOLDER where they are."
            )
        if not len(self.manifest.split(self.split)):
            raise ValueError(f"{self.manifest.name} has no {self.split} image of the classes that it shares.")

    def __str__(self) -> str:
        classes, images = self.matching.left_out(self.split)
        lines = [f"{self.manifest.name}, {self.split} (domain shift): {self.matching}"]
        if classes:
            lines.append(f"left out: {images:,} images of {classes} classes without a match")
        if self.matching.by_table:
            lines.append(f"both tables decide between these {self.matching.shared} classes only")
        elif (self.matching.of_known < 0).any():
            lines.append("both tables are of images of these classes; the method decides between all of its own")
        return "\n".join(lines)

    def asked(self, features: Features) -> Features:
        """The images of shared classes, and their decisions between merged classes where a table merged some."""
        place = self.matching.of_known[features.labels]
        kept = place >= 0
        if not kept.any():
            raise ValueError(f"the run's own {self.split} split has no image of the classes it shares with the other.")
        if not self.matching.by_table:
            arrays = {name: getattr(features, name)[kept] for name in ("vectors", "predicted", "confidence", "labels")}
            logits = None if features.logits is None else features.logits[kept]
            return replace(features, **arrays, logits=logits, ids=features.ids[kept], extras={})
        if features.logits is None:
            raise ValueError("--classes needs the logits, which were left out as too large; use --per-class.")
        predicted, confidence = self.matching.decide(features.logits[kept])
        return replace(
            features,
            vectors=features.vectors[kept],
            logits=None,
            predicted=predicted,
            confidence=confidence,
            labels=place[kept],
            ids=features.ids[kept],
            classes=self.matching.merged,
            extras={},
        )
