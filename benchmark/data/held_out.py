"""No leak: what an adapter was trained on is left out of the prompts and references of all columns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmark.data.reference import Reference, Row, prepare_reference, tell
from benchmark.data.sources.base import CaptionedImages
from metrics.base import ImageSet, OpenTask, no_progress
from models.base import TrainingData

# With fewer held-out images than this (or than the run asks for) nothing could be said of a model's quality.
LEAST_HELD_OUT = 100


@dataclass(frozen=True)
class HeldOut:
    """The reference that a run uses. digest: of what was left out, "" where nothing was; note: for the footer.

    left_out: for each adapted column, its training images among the rows. leaks: for each adapted column whose
    training images could not be left out, what its scores must be read with.
    """

    reference: Reference
    left_out: Mapping[str, ImageSet] = field(default_factory=dict)
    digest: str = ""
    note: str = ""
    leaks: Mapping[str, str] = field(default_factory=dict)


def prepare_held_out(
    dataset: CaptionedImages,
    folder: Path,
    rows: int,
    training: Mapping[str, TrainingData],
    open_task: OpenTask = no_progress,
    announce: Callable[[str], None] = tell,
) -> HeldOut:
    """Prepare `rows` rows that no adapted column was trained on; `training` is by the columns' titles.

    Where too few are left in the data set, the first `rows` are used as they are, and the columns are marked.

    Raises:
        OSError, ValueError: as prepare_reference.
    """

    def prepare(count: int) -> Reference:
        with open_task(f"{dataset.name} references", count) as report:
            return prepare_reference(dataset, folder, count, lambda done, _: report(done), announce)

    seen = tuple(training.values())
    reference = prepare(rows)
    kept = without(reference, seen)
    while len(kept.rows) < rows and not reference.exhausted:
        # A quarter more at least: what is missing shrinks slowly where most of what comes was trained on.
        more = max(rows - len(kept.rows), len(reference.rows) // 4)
        reference = prepare(len(reference.rows) + more)
        kept = without(reference, seen)
    if len(kept.rows) > rows:
        reference = first_rows(reference, kept.rows[rows - 1].index + 1)
        kept = without(reference, seen)
    if len(kept.rows) == len(reference.rows):
        return HeldOut(reference)
    usable = sum(row.path is not None for row in kept.rows)
    # Rows without an image are no sign of it as long as there are as many rows as were asked for.
    if len(kept.rows) < rows and usable < min(LEAST_HELD_OUT, rows):
        reference = prepare(rows)
        return HeldOut(reference, leaks=_leaks(reference, training, usable))
    removed = [row for row in reference.rows if _is_seen(row, seen)]
    pictures = [row for row in removed if any(data.holds_image(row.digest) for data in seen)]
    digest = hashlib.sha256("".join(sorted({d for data in seen for d in data.pictures | data.captions})).encode())
    note = (
        f"; {len(removed)} of {len(reference.rows)} rows, whose image ({len(pictures)}) or caption "
        f"{' and '.join(training)} was trained on, are left out of prompts and references, for every column"
    )
    left_out = {title: _training_images(pictures, data) for title, data in training.items()}
    return HeldOut(kept, left_out, digest.hexdigest()[:16], note)


def first_rows(reference: Reference, count: int) -> Reference:
    """Return the reference of the first `count` rows; requests of more than these do not go round."""
    return replace(
        reference, rows=reference.rows[:count], exhausted=reference.exhausted and count >= len(reference.rows)
    )


def without(reference: Reference, seen: tuple[TrainingData, ...]) -> Reference:
    """Return the reference without the rows whose image or caption was trained on; requests count the others."""
    return replace(reference, rows=tuple(row for row in reference.rows if not _is_seen(row, seen)))


def _is_seen(row: Row, seen: tuple[TrainingData, ...]) -> bool:
    return any(data.holds_image(row.digest) or data.holds_caption(row.caption) for data in seen)


def _training_images(rows: Sequence[Row], data: TrainingData) -> ImageSet:
    paths = (row.path for row in rows if row.path is not None and data.holds_image(row.digest))
    return ImageSet("training images", tuple(paths))


def _leaks(reference: Reference, training: Mapping[str, TrainingData], left: int) -> dict[str, str]:
    leaks = {}
    for title, data in training.items():
        trained = sum(_is_seen(row, (data,)) for row in reference.rows)
        if trained:
            leaks[title] = (
                f"trained on {trained} of the {len(reference.rows)} reference rows, and only {left} others are left: "
                "its scores say nothing about new images"
            )
    return leaks
