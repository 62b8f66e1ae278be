"""No leak: which rows of a data set no LoRA was trained on, by digest of image or caption."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmark.data.manifest_lines import Row
from benchmark.data.preparation import PreparedRows
from metrics.base import ImageSet
from models.base import TrainingData

# With fewer held-out rows than this (or than the run asks for) nothing could be said of a model's quality.
LEAST_HELD_OUT = 100


@dataclass(frozen=True)
class Kept:
    """What is left of a data set's rows for the run.

    rows: those that no LoRA was trained on; all where nothing was left out. looked_at: the rows that they are of.
    too_few: how many others there are, where they are too few to leave the trained ones out; None where they are not.
    """

    rows: PreparedRows
    looked_at: PreparedRows
    removed: tuple[Row, ...] = ()
    too_few: int | None = None


def keep_unseen(
    prepare: Callable[[int], PreparedRows], count: int, seen: Sequence[TrainingData], *, with_images: bool = True
) -> Kept:
    """Return `count` rows that no LoRA was trained on, and which were left out for it.

    prepare: gives as many first rows as it is asked for, or all that there are. Where too few are left, the first
    `count` rows are returned as they are, and `too_few` is set. with_images: only rows with an image count as left.

    Raises:
        OSError, ValueError: as `prepare`.
    """
    all_rows = prepare(count)
    kept = without(all_rows, seen)
    while len(kept.rows) < count and not all_rows.exhausted:
        # A quarter more at least: what is missing shrinks slowly where most of what comes was trained on.
        more = max(count - len(kept.rows), len(all_rows.rows) // 4)
        all_rows = prepare(len(all_rows.rows) + more)
        kept = without(all_rows, seen)
    if len(kept.rows) > count:
        all_rows = first_rows(all_rows, kept.rows[count - 1].index)
        kept = without(all_rows, seen)
    if len(kept.rows) == len(all_rows.rows):
        return Kept(all_rows, all_rows)
    usable = sum(row.path is not None or not with_images for row in kept.rows)
    # Rows without an image are no sign of it as long as there are as many rows as were asked for.
    if len(kept.rows) < count and usable < min(LEAST_HELD_OUT, count):
        all_rows = prepare(count)
        return Kept(all_rows, all_rows, too_few=usable)
    return Kept(kept, all_rows, tuple(row for row in all_rows.rows if is_seen(row, seen)))


def first_rows(rows: PreparedRows, last: int) -> PreparedRows:
    """Return the rows up to number `last`; requests of more than these do not go round."""
    kept = tuple(row for row in rows.rows if row.index <= last)
    return replace(rows, rows=kept, exhausted=rows.exhausted and len(kept) == len(rows.rows))


def without(rows: PreparedRows, seen: Sequence[TrainingData]) -> PreparedRows:
    """Return the rows without those whose image or caption was trained on; requests count the others."""
    return replace(rows, rows=tuple(row for row in rows.rows if not is_seen(row, seen)))


def is_seen(row: Row, seen: Sequence[TrainingData]) -> bool:
    """Return whether a row's image or caption was trained on."""
    return any(data.holds_image(row.digest) or data.holds_caption(row.caption) for data in seen)


def training_images(rows: Sequence[Row], data: TrainingData) -> ImageSet:
    """Return the images of those rows whose image was trained on."""
    paths = (row.path for row in rows if row.path is not None and data.holds_image(row.digest))
    return ImageSet("training images", tuple(paths))
