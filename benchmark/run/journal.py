"""What has been generated and timed: PNGs and lines of journals, so that a kill loses only the work in flight."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from benchmark.measure.machine import are_cpus
from benchmark.run import column_folder
from benchmark.run.column_folder import (
    IMAGES_NAME,
    MARK_NAME,
    SCHEMA_VERSION,
    DamagedFolder,
    FingerprintError,
    image_name,
    lines_name,
)
from benchmark.run.journal_lines import (
    LOOKS_WRITER,
    MAIN_WRITER,
    MOST_BYTES,
    Batch,
    BulkSize,
    Finished,
    Line,
    Loaded,
    Look,
    Measured,
    State,
    Timed,
    context_of,
    read_line,
    read_records,
    record_of,
)
from benchmark.run.snapshot import Snapshot, take_snapshot
from files import PROGRAM
from files.deletion import listed
from files.images import save_png
from files.locks import locked
from files.reading import has_digest, read_regular
from files.records import Damaged, read_record, seal, write_record
from files.writing import append_line, naming, partial_path, publish, remove_leftovers, sync_file, write_text

MOST_THREADS = 8  # of those that write the images of one batch


class Journal:
    """The folder of one model's images: `output/00000.png`, `timings.jsonl`, `fingerprint.json`.

    fingerprint.json is the mark that the folder is ours, and says with what the images were made; timings.jsonl names
    every image before it is there. Each carries checksums, those of the lines in the context of the fingerprint, so
    that lines of two settings are never mixed. Each writer appends to a journal of its own; all of them are read.
    Nothing is written before `locked`. A journal can be pickled and sent to a process that writes for the one that
    keeps the lock; lines are added by one process and one thread at a time.

    count: how many images will be written at most; files of others at further names are no fault then. defaults: what a
    setting was where a recorded fingerprint lacks it. writer: the name of this writer, in each line and in the name of
    its journal. others: writers of this run on other hosts: a listing of the folder may not show their new journals for
    a while, and a look at their names does.

    Raises:
        FingerprintError: the folder holds another fingerprint: images of two settings are never mixed.
        DamagedFolder: its fingerprint is damaged, and the lines do not tell that it was this one.
        ValueError: the folder holds files that are not this program's at the names that it writes.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: Mapping[str, str],
        count: int | None = None,
        *,
        defaults: Mapping[str, str] | None = None,
        writer: str = MAIN_WRITER,
        others: Sequence[str] = (),
    ) -> None:
        assert writer != LOOKS_WRITER, "the journal of looks has no other lines"
        self.folder = folder
        self._count = count
        self._writer, self._others = writer, tuple(others)
        self._images = folder / IMAGES_NAME
        self._lines_path = folder / lines_name(writer)
        self._fingerprint = {"program": PROGRAM, "schema_version": SCHEMA_VERSION, **fingerprint}
        self._defaults = dict(defaults or {})
        self._context = context_of(self._fingerprint)
        self._check()

    @property
    def fingerprint(self) -> Mapping[str, object]:
        """With what the column's images are made, as it is recorded."""
        return self._fingerprint

    @contextmanager
    def locked(self, doing: str = "generates images") -> Iterator[Snapshot]:
        """Keep the folder for this process while it generates, and give what it holds; a kill lets go of it.

        What a killed process left is tidied: partial images, a torn line, and lines that are damaged. doing: what this
        process does there, for others to read.

        Raises:
            OSError: another process generates into the folder: the two would make the same images.
        """
        with naming(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, doing):
            self._check()  # another process may have been here since
            snapshot = self.read()
            if not (self.folder / MARK_NAME).is_file() or self._mark_fault():
                write_record(self.folder / MARK_NAME, self._fingerprint)
            for folder in (self.folder, self._images):
                remove_leftovers(folder)
            self._drop_damaged_lines()
            yield snapshot

    def image_path(self, index: int) -> Path:
        """Return where request `index`'s image is, or will be."""
        return self._images / image_name(index)

    def image_paths(self) -> tuple[Path, ...]:
        """Return the PNGs that are in the folder, in the order of their requests, whether this run made them or not."""
        return tuple(sorted(self._images.glob("*.png"), key=lambda path: (len(path.name), path.name)))

    def read(self) -> Snapshot:
        """Return what the folder holds now. Every journal is read once, and every image's digest is checked.

        A batch made twice (its images were lost, or the run was extended past a short last batch) counts once: of the
        lines whose images are whole, the later one stands.
        """
        numbered = self._numbered()
        lines = [line for _, _, record in numbered if record is not None and (line := read_line(record)) is not None]
        made = [line for line in lines if isinstance(line, Batch) and line.round == 0]
        with ThreadPoolExecutor(thread_name_prefix="digest") as pool:
            are_whole = list(pool.map(self._is_whole, made))
        whole = [batch for batch, is_whole in zip(made, are_whole, strict=True) if is_whole]
        snapshot = take_snapshot(self.folder, lines, whole, self._damage(numbered))
        covered = snapshot.pixels()
        lost = [batch for batch in made if not all(index in covered for index in batch.indices)]
        return replace(snapshot, faults=(*snapshot.faults, *self._changes(lost)))

    def _damage(self, numbered: Sequence[tuple[Path, int, Mapping[str, Any] | None]]) -> list[str]:
        faults = []
        if self._mark_fault():
            faults.append(
                f"{self.folder / MARK_NAME} is damaged; it is written again, since the lines tell what it said"
            )
        damaged: dict[Path, list[str]] = {}
        for path, number, line in numbered:
            if line is None:
                damaged.setdefault(path, []).append(str(number))
        for path, numbers in damaged.items():
            lost = "what these lines recorded is made again"
            if path.name == lines_name(LOOKS_WRITER):
                lost = "that a verdict was formed before may be forgotten"
            faults.append(f"{path} is damaged in line {listed(numbers)}; {lost}")
        return faults

    def _changes(self, lost: Sequence[Batch]) -> list[str]:
        changed = [
            str(path) for batch in sorted(lost, key=lambda batch: batch.start)
            for index, digest in zip(batch.indices, batch.digests, strict=True)
            if (path := self.image_path(index)).is_file() and not has_digest(path, digest)
        ]  # fmt: skip
        return [f"{listed(changed)} changed since this program wrote it; it is made again"] if changed else []

    def record_loaded(self, loaded: Loaded) -> None:
        self._record(replace(loaded, writer=self._writer))

    def record_finished(self, finished: Finished) -> None:
        self._record(replace(finished, writer=self._writer))

    def record_timed(self, timed: Timed) -> None:
        self._record(replace(timed, writer=self._writer))

    def record_measured(self, measured: Measured) -> None:
        self._record(replace(measured, writer=self._writer))

    def record_state(self, state: State) -> None:
        self._record(replace(state, writer=self._writer))

    def record_bulk_size(self, bulk_size: BulkSize) -> None:
        self._record(replace(bulk_size, writer=self._writer))

    def record_look(self, rounds: int) -> None:
        """Record that a verdict was formed of `rounds` rounds, once for each number; no lock of the folder is needed.

        Call it while no other process does: the journal of looks has no lock of its own.
        """
        path = self.folder / lines_name(LOOKS_WRITER)
        recorded = [read_line(record) for record, _ in read_records(path, self._context) if record is not None]
        if Look(rounds) not in recorded:
            self._append(path, Look(rounds))

    def record_batch(self, batch: Batch, images: Sequence[Image.Image]) -> None:
        """Write the batch's images aside, then its line with their digests, and then give them their names.

        So every image that has its name is named by a line, and a line without its images counts for nothing.
        """
        assert len(images) == batch.size, f"{len(images)} images for requests {batch.indices}"
        with naming(self._images):
            self._images.mkdir(parents=True, exist_ok=True)
        paths = [self.image_path(index) for index in batch.indices]
        with published_at_end(paths):
            with ThreadPoolExecutor(MOST_THREADS, "image") as pool:  # packing and syncing let other threads run
                digests = tuple(pool.map(_write_aside, paths, images))
            pixels = batch.pixels or tuple(map(pixel_digest, images))
            self._record(replace(batch, digests=digests, pixels=pixels, writer=self._writer))

    def _is_whole(self, batch: Batch) -> bool:
        return all(
            has_digest(self.image_path(index), digest)
            for index, digest in zip(batch.indices, batch.digests, strict=True)
        )

    def _check(self) -> None:
        """Raise where the folder's images are not of this fingerprint, or not ours; nothing is written."""
        path = self.folder / MARK_NAME
        elsewhere = f"choose another OUTPUT_DIR (--output-dir), or move {self.folder} away"
        if not path.is_file():
            if strangers := column_folder.foreign_files(self.folder, self._count):
                raise ValueError(
                    f"{self.folder} holds {listed(strangers)} and no {MARK_NAME}, so they may not be this program's: "
                    f"{elsewhere}"
                )
            return
        if fault := self._mark_fault():
            column_folder.refuse_earlier(self.folder)
            lines = [line for _, _, line in self._numbered()]
            begun = (
                not lines and column_folder.names_taken(self.folder) == [MARK_NAME]
                and PROGRAM.encode() in path.read_bytes()
            )  # fmt: skip
            if None in lines or not (lines or begun):
                raise DamagedFolder(
                    f"{path} is not as this program wrote it ({fault}), and the journal does not tell that the images "
                    f"were made with these settings: {elsewhere}"
                )
            return
        column_folder.refuse_earlier(self.folder)
        found = read_record(path)
        for name in (*self._fingerprint, *(name for name in found if name not in self._fingerprint)):
            now = self._fingerprint.get(name)
            recorded = found.get(name, self._defaults.get(name))
            if recorded != now:
                how = " with OMP_NUM_THREADS" if are_cpus(recorded, now) else ""
                raise FingerprintError(
                    f"{self.folder} holds images made {_with(name, recorded, 'with ')}, now {_with(name, now)}: "
                    f"set it back{how}, choose another OUTPUT_DIR, or start over with FRESH=1"
                )
        self._context = context_of(found)  # the lines carry checksums in the context of what is recorded

    def _mark_fault(self) -> str:
        """Return what is wrong with fingerprint.json, or "" where it is whole or not there."""
        try:
            read_record(self.folder / MARK_NAME)
        except Damaged as error:
            return str(error)
        except FileNotFoundError:
            return ""
        return ""

    def _numbered(self) -> list[tuple[Path, int, dict[str, Any] | None]]:
        """Return the lines of all journals, each with its journal and its number from 1 on.

        A damaged line is None. A torn last one is left out.
        """
        return [
            (path, number, record)
            for path in self._journals()
            for number, (record, _) in enumerate(read_records(path, self._context), start=1)
        ]

    def _journals(self) -> list[Path]:
        there = column_folder.journals_in(self.folder)
        named = (self.folder / lines_name(writer) for writer in self._others)
        return sorted({*there, *(path for path in named if path.is_file())})

    def _record(self, line: Line) -> None:
        if not (self.folder / MARK_NAME).is_file():
            write_record(self.folder / MARK_NAME, self._fingerprint)
        self._append(self._lines_path, line)

    def _append(self, path: Path, line: Line) -> None:
        record = record_of(line)
        assert read_line(record) == line, f"a line that says what cannot be: {line}"
        text = seal(record, self._context)
        append_line(path, text if _ends_whole(path) else f"\n{text}")

    def _drop_damaged_lines(self) -> None:
        """Keep only whole lines; a line that a kill tore, or that was damaged, goes."""
        for path in column_folder.journals_in(self.folder):
            content = read_regular(path, most_bytes=MOST_BYTES)
            kept = b"".join(text for record, text in read_records(path, self._context) if record is not None)
            if kept != content:
                write_text(path, kept.decode("utf-8"))


def pixel_digest(image: Image.Image) -> str:
    """Return the SHA-256 of an image's mode, size and pixels, in hexadecimal: what its file says, however packed."""
    digest = hashlib.sha256(f"{image.mode} {image.width}x{image.height}\n".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


@contextmanager
def published_at_end(paths: Collection[Path]) -> Iterator[None]:
    """Give what the block has written aside for each path, synced, its name at the end; an error leaves nothing aside.

    Raises:
        OSError: one cannot get its name; the error names it. Those before it have theirs.
    """
    try:
        yield
        for path in paths:
            with naming(path):
                publish(partial_path(path), path, sync=False)
    finally:
        for path in paths:
            with suppress(OSError):
                partial_path(path).unlink(missing_ok=True)


def _write_aside(path: Path, image: Image.Image) -> str:
    """Write the image that will be at `path` beside it, synced; return the digest of the file."""
    partial = partial_path(path)
    with naming(path):
        save_png(image, partial)
        sync_file(partial)
    return hashlib.sha256(partial.read_bytes()).hexdigest()


def _ends_whole(path: Path) -> bool:
    """Return whether a journal ends with a whole line, and not with one that a kill or a full disk tore."""
    if not path.is_file() or path.stat().st_size == 0:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _with(name: str, value: object, word: str = "") -> str:
    return f"without {name}" if value is None else f"{word}{name}={value}"
