"""What the folders of columns record, read without locks and torch."""

from __future__ import annotations

from pathlib import Path

from benchmark.run.column_folder import IMAGES_NAME, MARK_NAME, journals_in
from benchmark.run.journal_lines import Line, context_of, read_line, read_records
from files.records import Damaged, read_record


def recorded_lines(folder: Path) -> list[Line]:
    """Return the lines of a column's journals; none where its fingerprint cannot be read."""
    try:
        context = context_of(read_record(folder / MARK_NAME))
    except (Damaged, OSError):
        return []
    records = [record for path in journals_in(folder) for record, _ in read_records(path, context)]
    return [line for record in records if record is not None and (line := read_line(record)) is not None]


def count_images(folder: Path) -> int:
    """Return how many images a column's folder holds."""
    return len(list((folder / IMAGES_NAME).glob("*.png")))
