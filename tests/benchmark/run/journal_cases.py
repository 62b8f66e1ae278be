"""A column without a model: two rounds of timed calls, images in bulk and a look, written with the journal itself."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmark.run.journal import Journal, pixel_digest
from benchmark.run.journal_lines import Batch, BulkSize, Finished, Line, Loaded, Timed, new_process_id
from benchmark.run.slices import bulk_slices, missing, timed_slices
from benchmark.run.snapshot import Snapshot

FINGERPRINT = {"SEED": "42", "BATCH_SIZE": "2"}
BATCH_SIZE, TIMED, COUNT, ROUNDS, BULK_SIZE = 2, 4, 10, 2, 4


def image_of(index: int) -> Image.Image:
    """Return the image of a request: noise of its index."""
    return Image.frombytes("RGB", (8, 8), random.Random(index).randbytes(8 * 8 * 3))


def make(folder: Path, count: int = COUNT) -> list[str]:
    """Write what the column lacks, as a run does; return what was told."""
    journal = Journal(folder, FINGERPRINT)
    with journal.locked() as there:
        timed = min(count, TIMED)
        for round_ in range(ROUNDS):
            done = [{index for call in there.timed if call.round == round_ for index in call.indices}]
            slices = missing(timed_slices(timed, BATCH_SIZE), *done, *([there.pixels()] if round_ == 0 else []))
            if slices or not any(one.round == round_ and one.purpose == "timed" for one in there.processes):
                _time_round(journal, round_, slices)
        if not set(range(timed, count)).issubset(there.pixels()):
            _make_bulk(journal, there, timed, count)
    if ROUNDS not in there.looks:
        journal.record_look(ROUNDS)
    return list(there.faults)


def record(journal: Journal, *indices: int, seconds: float = 1.0, size: int | None = None, bulk: bool = False) -> None:
    """Write the images of one call."""
    batch = Batch(
        indices, seconds, tuple(f"prompt {index}" for index in indices), batch_size=size or len(indices),
        purpose="bulk" if bulk else "timed",
    )  # fmt: skip
    journal.record_batch(batch, [image_of(index) for index in indices])


def images(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "output").iterdir()}


def lines_of(snapshot: Snapshot) -> Iterator[Line]:
    """Yield the calls and the sizes of bulk that a snapshot has a line of."""
    yield from snapshot.batches
    yield from snapshot.timed
    yield from (bulk for bulk in snapshot.bulk_sizes if bulk.asked)  # of the others the images alone tell


def _time_round(journal: Journal, round_: int, slices: list[range]) -> None:
    process, seconds = new_process_id(), random.Random(round_)
    journal.record_loaded(
        Loaded(
            "Noise", 1_000_000, 8, ("a note",), 0.5, (2.0, 1.0, 1.0), warmup_agreed=True, round=round_, process=process
        )
    )
    for indices in slices:
        pixels = tuple(pixel_digest(image_of(index)) for index in indices)
        taken = seconds.uniform(1, 2)
        journal.record_timed(Timed(tuple(indices), taken, pixels, batch_size=BATCH_SIZE, round=round_, process=process))
        if round_ == 0:
            prompts = tuple(f"prompt {index}" for index in indices)
            batch = Batch(tuple(indices), taken, prompts, batch_size=BATCH_SIZE, pixels=pixels, process=process)
            journal.record_batch(batch, [image_of(index) for index in indices])
    journal.record_finished(Finished(7, 5.0, 4.0, round=round_, process=process))


def _make_bulk(journal: Journal, there: Snapshot, start: int, count: int) -> None:
    process = new_process_id()
    journal.record_loaded(Loaded("Noise", 1_000_000, 8, ("a note",), 0.5, (2.0,), purpose="bulk", process=process))
    sizes = there.bulk_sizes_from(start)
    if not sizes:
        sizes = (BulkSize(start, BULK_SIZE, trials=((1, 0.5), (2, 0.25)), process=process),)
        journal.record_bulk_size(sizes[0])
    slices = dict(bulk_slices([(one.start, one.size) for one in sizes], count))
    for indices in missing(list(slices), there.pixels()):
        record(journal, *indices, size=slices[indices], bulk=True)
    journal.record_finished(Finished(99, 5.0, 4.0, purpose="bulk", process=process))
