"""Joins copies of one run that hosts without a shared file system made: what each of them recorded and generated."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmark.run.column_folder import MARK_NAME, journals_in
from benchmark.run.copies import Join, plan_joins
from benchmark.run.journal import MOST_THREADS, Journal, published_at_end
from benchmark.run.journal_lines import Batch, context_of, read_line, read_records
from benchmark.run.snapshot import Snapshot
from files.locks import locked
from files.reading import has_digest, read_regular
from files.records import read_record, seal
from files.writing import naming, partial_path, sync_file, write_text

IMAGES_AT_ONCE = 100  # a kill loses the copying of so many at most
DOING = "joins copies of a run"


@dataclass(frozen=True)
class Joined:
    """What joining did for one column.

    taken: how many images were copied. there: how many requests have an image now. wanted: how many images the run
    makes, as its journals say; 0 where they do not.
    """

    title: str
    taken: int
    there: int
    wanted: int

    def __str__(self) -> str:
        there = f"{self.there:,} of {self.wanted:,}" if self.wanted else f"{self.there:,}"
        return f"{self.title}: {self.taken:,} {'image' if self.taken == 1 else 'images'} taken, {there} there now"


def join_copies(outputs: Sequence[Path], announce: Callable[[str], None]) -> list[Joined]:
    """Add to the first OUTPUT_DIR what the others hold of the same run; return what was done for each column.

    Everything is checked, and all folders are locked, before anything but locks is written. A second call, and one
    after a kill, adds what is missing. Where two copies have an image of one request, or timed one call, that of the
    first stands. The other copies are only read. announce: gets what was damaged and left out.

    Raises:
        ValueError: as `plan_joins`; nothing was written.
        OSError: a process uses a folder, or something cannot be read or written.
    """
    plan = plan_joins(outputs)
    with ExitStack() as locks:
        for source in dict.fromkeys(source for join in plan for source in join.sources):
            locks.enter_context(locked(source, DOING, remedy="another copy"))
        if plan_joins(outputs) != plan:
            raise OSError(f"a run in one of {', '.join(map(str, outputs))} has just begun a column: call it again")
        journals = [Journal(join.target, join.fingerprint) for join in plan]
        snapshots = [locks.enter_context(journal.locked(DOING)) for journal in journals]
        return [_join(*each, announce) for each in zip(plan, journals, snapshots, strict=True)]


def _join(join: Join, journal: Journal, there: Snapshot, announce: Callable[[str], None]) -> Joined:
    for fault in there.faults:
        announce(fault)
    covered = set(there.pixels())
    taken = 0
    for source in join.sources:
        found = Journal(source, read_record(source / MARK_NAME)).read()
        for fault in found.faults:
            announce(f"left out: {fault}")
        chosen = [batch for batch in found.batches if covered.isdisjoint(batch.indices)]
        covered.update(index for batch in chosen for index in batch.indices)
        taken += _take(join, source, chosen, journal)
        if left := len(found.pixels().keys() - covered):
            announce(f"left out: {left:,} images in {source}, made in calls that overlap with calls of another copy")
    now = journal.read()
    wanted = max((size.count for size in now.bulk_sizes), default=0)
    requests = [index for index in now.pixels() if index < wanted or not wanted]
    return Joined(join.target.name, taken, len(requests), wanted)


def _take(join: Join, source: Path, chosen: Sequence[Batch], journal: Journal) -> int:
    """Add the lines of a copy to the journals of the target, and the images of the chosen batches; return how many.

    The lines of a batch are added as `Journal.record_batch` does it: between the images' content and their names.
    """
    lines = _Lines(join, source, chosen)
    lines.write()
    taken = 0
    for batches in _groups(chosen):
        copied = {
            journal.image_path(index): (source / journal.image_path(index).relative_to(join.target), digest)
            for batch in batches for index, digest in zip(batch.indices, batch.digests, strict=True)
            if not has_digest(journal.image_path(index), digest)
        }  # fmt: skip
        with published_at_end(copied):
            with ThreadPoolExecutor(MOST_THREADS, "image") as pool:
                for _ in pool.map(_copy_aside, copied, copied.values()):
                    pass
            lines.release(batches)
            lines.write()
        taken += len(copied)
    return taken


class _Lines:
    """The journals of a target with the lines of a copy added; those of chosen batches wait for their images."""

    def __init__(self, join: Join, source: Path, chosen: Collection[Batch]) -> None:
        self._target = join.target
        self._waiting = set(chosen)
        self._pages: dict[str, list[tuple[bytes, Batch | None]]] = {}  # each line, and the batch that it waits for
        self._written: dict[str, bytes] = {}
        context, of_source = context_of(join.fingerprint), context_of(read_record(source / MARK_NAME))
        for path in journals_in(source):
            ours = {key: (text, None) for key, text, _ in _keyed(join.target / path.name, context, context)}
            theirs: dict[str, tuple[bytes, Batch | None]] = {}
            for key, text, batch in _keyed(path, of_source, context):
                if key in ours or batch is None or batch in self._waiting:
                    theirs[key] = (text, batch)
            self._pages[path.name] = [ours.get(key) or theirs[key] for key in union(list(ours), list(theirs))]
            self._written[path.name] = b"".join(text for text, _ in ours.values())

    def release(self, batches: Collection[Batch]) -> None:
        """Have the lines of these batches written next: their images are on the disk."""
        self._waiting.difference_update(batches)

    def write(self) -> None:
        for name, page in self._pages.items():
            content = b"".join(text for text, batch in page if batch is None or batch not in self._waiting)
            if content != self._written[name]:
                write_text(self._target / name, content.decode("utf-8"))
                self._written[name] = content


def _keyed(path: Path, context: str, new_context: str) -> Iterator[tuple[str, bytes, Batch | None]]:
    """Yield the whole lines of a journal: a key that is the same in all copies, the text, and the batch with images.

    context: of the lines' checksums; the text carries one in `new_context`. A line that the journal has twice has two
    keys.
    """
    seen: dict[str, int] = {}
    for record, text in read_records(path, context):
        if record is None or (line := read_line(record)) is None:
            continue
        content = json.dumps(record, sort_keys=True)
        seen[content] = seen.get(content, 0) + 1
        if context != new_context:
            text = f"{seal(record, new_context)}\n".encode()
        yield f"{seen[content]} {content}", text, line if isinstance(line, Batch) and line.round == 0 else None


def union(ours: Sequence[str], theirs: Sequence[str]) -> list[str]:
    """Return the lines of two copies of a journal, each once, in an order that keeps that of both.

    Between lines that both have, theirs come first: where two lines speak of the same, the later one stands. Where the
    copies disagree about the order of common lines, it is ours. Joining again changes nothing, and neither does a kill.
    """
    common = set(ours)
    joined: list[str] = []
    done: set[str] = set()
    rest = list(reversed(theirs))
    for line in ours:
        while rest and (rest[-1] not in common or rest[-1] in done):
            if (other := rest.pop()) not in common:
                joined.append(other)
        joined.append(line)
        done.add(line)
    return joined + [line for line in reversed(rest) if line not in common]


def _groups(batches: Sequence[Batch]) -> Iterator[list[Batch]]:
    """Yield the batches in groups of about `IMAGES_AT_ONCE` images."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if sum(one.size for one in group) >= IMAGES_AT_ONCE:
            yield group
            group = []
    if group:
        yield group


def _copy_aside(path: Path, original: tuple[Path, str]) -> None:
    """Write the content of the original beside `path`, synced, where it has the digest that is recorded of it."""
    source, digest = original
    content = read_regular(source)
    if hashlib.sha256(content).hexdigest() != digest:
        raise OSError(f"{source} changed while it was copied: call it again")
    partial = partial_path(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        sync_file(partial)
