"""One run on two hosts without a shared file system: rank 0's OUTPUT_DIR, another host's, and that of one process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from journal_cases import BULK_SIZE, FINGERPRINT, TIMED, make, record
from PIL import Image

from benchmark.data.sources.base import Example
from benchmark.run.journal import Journal
from benchmark.run.journal_lines import BulkSize, Finished, Loaded, new_process_id
from benchmark.run.snapshot import Snapshot

COUNT = 20  # timed are requests 0..3; bulk has the slices that begin at 4, 8, 12 and 16
TITLE = "Noise"


class Colours:
    """Captioned images of six colours."""

    name = "Colours"
    label_names: tuple[str, ...] = ()

    def __init__(self, identity: str = "colours") -> None:
        self.identity = identity

    def examples(self, start: int = 0) -> Iterator[Example]:
        for row in range(start, 6):
            yield Example(f"colour {row}", Image.new("RGB", (4, 3), (row, 0, 0)), row % 2, "")


def begin(output: Path) -> Path:
    """Write what rank 0 records before bulk: two timed rounds, a look and the size of bulk; return the column."""
    folder = output / TITLE
    make(folder, TIMED)
    journal = Journal(folder, FINGERPRINT)
    with journal.locked():
        journal.record_bulk_size(BulkSize(TIMED, BULK_SIZE, count=COUNT))
    return folder


def add(output: Path, starts: Iterable[int], writer: str, shade: int | None = None) -> Path:
    """Write the slices of bulk that begin at `starts`; shade: what all their images show, where it is not noise."""
    folder = output / TITLE
    journal, process = Journal(folder, FINGERPRINT, writer=writer), new_process_id()
    with journal.locked():
        journal.record_loaded(Loaded(TITLE, 1_000_000, 8, (), 0.5, purpose="bulk", process=process, host=writer))
        for start in starts:
            if shade is None:
                record(journal, *range(start, start + BULK_SIZE), size=BULK_SIZE, bulk=True)
            else:
                images = [Image.new("RGB", (8, 8), (shade, 0, 0))] * BULK_SIZE
                batch = replace(journal.read().batches[0], indices=tuple(range(start, start + BULK_SIZE)))
                prompts = tuple(f"prompt {index}" for index in batch.indices)
                journal.record_batch(
                    replace(batch, prompts=prompts, pixels=(), digests=(), batch_size=BULK_SIZE, purpose="bulk"), images
                )
        journal.record_finished(Finished(99, 5.0, 4.0, purpose="bulk", process=process))
    return folder


def contents(*folders: Path) -> dict[str, bytes]:
    """Return every file in the folders, by its path."""
    return {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


def held(output: Path) -> Snapshot:
    """Return what the column in an OUTPUT_DIR holds, wherever it lies."""
    return replace(Journal(output / TITLE, FINGERPRINT).read(), folder=Path())


def images(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (output / TITLE / "output").iterdir()}
