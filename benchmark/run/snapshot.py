"""What a column's folder held when its journals were read: whole images, timed calls, processes, sizes of bulk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from benchmark.run.column_folder import IMAGES_NAME, image_name
from benchmark.run.journal_lines import Batch, BulkSize, Finished, Line, Loaded, Look, Measured, State, Timed

_Call = TypeVar("_Call", Batch, Timed)


@dataclass(frozen=True)
class Snapshot:
    """What a column's folder held when its journals were read: all that a phase learns of the column.

    batches: those whose images are all there as they were written, in the order of their indices.
    timed: the timed calls of all rounds, by round and then by indices; in a round, each request counts once.
    timed_on: likewise, those on other cards of the host than the column's own, by the card's UUID. No other field has
    anything of their processes but measured and states.
    bulk_calls: every call of bulk of which the end is known, in the order of these, whatever became of its images.
    loaded: what the last process that timed the model wrote (without one: the last one that made images in bulk), with
    the highest peak memory of all that timed it. The larger batches of bulk do not count into it.
    processes: what each process that loaded the model wrote last, in the order of the journals.
    finished: what each process wrote at its end; one that was killed wrote nothing.
    measured: what passes found, in the order of the journals. states: of the machine, likewise.
    bulk_sizes: the batch sizes of bulk, ascending by the index from which they hold; where a line was lost, the images
    that are there tell the size.
    looks: of how many rounds verdicts were formed before, in that order, each once.
    faults: what is damaged and will be made again, a line each.
    """

    folder: Path
    batches: tuple[Batch, ...] = ()
    timed: tuple[Timed, ...] = ()
    loaded: Loaded | None = None
    processes: tuple[Loaded, ...] = ()
    finished: tuple[Finished, ...] = ()
    bulk_sizes: tuple[BulkSize, ...] = ()
    looks: tuple[int, ...] = ()
    faults: tuple[str, ...] = ()
    measured: tuple[Measured, ...] = ()
    states: tuple[State, ...] = ()
    timed_on: Mapping[str, tuple[Timed, ...]] = field(default_factory=dict)
    bulk_calls: tuple[Batch, ...] = ()

    def image_path(self, index: int) -> Path:
        """Return where request `index`'s image is, or will be."""
        return self.folder / IMAGES_NAME / image_name(index)

    def asked(self, count: int) -> dict[int, str]:
        """Return, of requests 0..count-1, those that have an image, each with what it was asked for, in their order."""
        asked = {
            index: prompt
            for batch in self.batches
            for index, prompt in zip(batch.indices, batch.prompts, strict=True)
            if index < count
        }
        return dict(sorted(asked.items()))

    def pixels(self) -> dict[int, str]:
        """Return the digest of the pixels of each image that is there, by its request."""
        return {
            index: digest
            for batch in self.batches
            for index, digest in zip(batch.indices, batch.pixels, strict=True)
        }  # fmt: skip

    def bulk_sizes_from(self, start: int) -> tuple[BulkSize, ...]:
        """Return the batch sizes of bulk for all requests from `start` on; () where no size is known yet.

        Where the line of the first ones was lost, with their images, they get the size of those that follow; the slices
        of these still begin where they did.
        """
        known = self.bulk_sizes
        if not known or known[0].start <= start:
            return known
        return (replace(known[0], start=start), *known)


def take_snapshot(folder: Path, lines: Sequence[Line], whole: Sequence[Batch], faults: Sequence[str]) -> Snapshot:
    """Return what the lines of all journals say together; a later line stands where two speak of the same.

    whole: those of the batches whose images are all there as they were written, in the order of the lines.
    """
    batches = tuple(sorted(without_overlaps(whole), key=lambda batch: batch.start))
    timed = [line for line in lines if isinstance(line, Timed)]
    cards = dict.fromkeys(call.card for call in timed if call.card)
    elsewhere = {line.process for line in lines if isinstance(line, Timed | Loaded) and line.card}
    loaded = [line for line in lines if isinstance(line, Loaded) and line.process not in elsewhere]
    finished = tuple(line for line in lines if isinstance(line, Finished) and line.process not in elsewhere)
    return Snapshot(
        folder, batches, _timed_on("", timed), _last_loaded(loaded, finished), _of_each_process(loaded), finished,
        _bulk_sizes([line for line in lines if isinstance(line, BulkSize)], batches),
        tuple(dict.fromkeys(line.rounds for line in lines if isinstance(line, Look))), tuple(faults),
        tuple(line for line in lines if isinstance(line, Measured)),
        tuple(line for line in lines if isinstance(line, State)),
        {card: _timed_on(card, timed) for card in cards}, _bulk_calls(lines),
    )  # fmt: skip


def without_overlaps(calls: Sequence[_Call]) -> list[_Call]:
    """Return the calls without those of which a later one has a request: each request counts once."""
    kept: list[_Call] = []
    taken: set[int] = set()
    for call in reversed(calls):
        if taken.isdisjoint(call.indices):
            kept.append(call)
            taken.update(call.indices)
    return kept


def _timed_on(card: str, calls: Iterable[Timed]) -> tuple[Timed, ...]:
    """Return the calls on one card, by round and then by indices; "" stands for the column's own."""
    rounds: dict[int, list[Timed]] = {}
    for call in calls:
        if call.card == card:
            rounds.setdefault(call.round, []).append(call)
    return tuple(
        call for number in sorted(rounds)
        for call in sorted(without_overlaps(rounds[number]), key=lambda call: call.start)
    )  # fmt: skip


def _bulk_calls(lines: Iterable[Line]) -> tuple[Batch, ...]:
    calls = [line for line in lines if isinstance(line, Batch) and line.purpose == "bulk" and line.ended_at_s]
    return tuple(sorted(calls, key=lambda call: call.ended_at_s))


def _last_loaded(loaded: Sequence[Loaded], finished: Sequence[Finished]) -> Loaded | None:
    if not loaded:
        return None
    timing = [line for line in loaded if line.purpose == "timed"]
    peaks = [line.peak_memory_bytes for line in timing]
    peaks += [line.peak_memory_bytes for line in finished if line.purpose == "timed"]
    return replace((timing or loaded)[-1], peak_memory_bytes=max(filter(None, peaks), default=None))


def _of_each_process(loaded: Iterable[Loaded]) -> tuple[Loaded, ...]:
    last = {(line.process, line.purpose, line.round): line for line in loaded}
    return tuple(last.values())


def _bulk_sizes(recorded: Iterable[BulkSize], batches: Iterable[Batch]) -> tuple[BulkSize, ...]:
    """Return the recorded sizes, and those of images in bulk that were made at another one, whose line was lost."""
    sizes = dict(sorted({line.start: line for line in recorded}.items()))
    for batch in (batch for batch in batches if batch.purpose == "bulk"):
        in_force = max((start for start in sizes if start <= batch.start), default=None)
        if in_force is None or sizes[in_force].size != batch.batch_size:
            sizes[batch.start] = BulkSize(
                batch.start, batch.batch_size, asked="", process=batch.process, writer=batch.writer
            )
    return tuple(sizes[start] for start in sorted(sizes))
