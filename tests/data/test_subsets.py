"""Fewer classes of a data set, as lessons and quick figures use them."""

from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench.data import choose_classes, toybox_lt


def test_a_part_of_the_classes_keeps_their_images_groups_texts_and_taxonomy(tmp_path: Path) -> None:
    whole = wb.Manifest.load("toybox_lt")
    labels = list(range(0, 60, 6))
    part = choose_classes(whole, labels)
    assert part.name == "toybox_lt_10_classes" and len(part.classes) == 10
    for new, old in enumerate(labels):
        assert part.classes.names[new] == whole.classes.names[old]
        for name, split in part.splits.items():
            mine, theirs = split.paths[split.labels == new], whole.splits[name].paths[whole.splits[name].labels == old]
            assert np.array_equal(mine, theirs)
    assert np.array_equal(part.classes.groups, whole.classes.groups[labels])
    assert part.texts == {name: whole.texts[name] for name in part.classes.names}
    assert np.array_equal(part.classes.taxonomy["shape"], whole.classes.taxonomy["shape"][labels])
    again = wb.Manifest.load(part.save(tmp_path))
    assert again.sha256 == part.sha256 and again.classes == part.classes
    assert wb.LongTailDataset(again, "test").image(0).size == (56, 56)


def test_reference_counts_go_with_their_classes() -> None:
    sketch = choose_classes(wb.Manifest.load("toybox_sketch"), [59, 0, 30])
    whole = wb.Manifest.load("toybox_lt").classes
    assert sketch.classes.groups.tolist() == whole.groups[[59, 0, 30]].tolist()


@pytest.mark.parametrize("labels", [[0], [0, 0], [0, 60], [-1, 2]])
def test_a_choice_that_is_none_says_what_there_is(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="different ones of 0 to 59"):
        choose_classes(toybox_lt(), labels)
