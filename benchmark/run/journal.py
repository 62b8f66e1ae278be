"""What has been generated: PNGs and one line for each batch, written so that a kill loses only the work in flight."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from benchmark.report import ownership
from benchmark.run.journal_lines import MOST_BYTES, context_of, read_batch, read_lines, read_loaded
from benchmark.run.journal_lines import Batch as Batch
from benchmark.run.journal_lines import Loaded as Loaded
from files import PROGRAM
from files.deletion import delete_named, listed
from files.images import is_our_png, save_png
from files.locks import locked
from files.reading import file_digest, is_there, read_regular
from files.records import Damaged, read_record, seal, version_of, write_record
from files.writing import append_line, naming, partial_path, publish, remove_leftovers, sync_file, write_text

SCHEMA_VERSION = 2
MARK_NAME, LINES_NAME, IMAGES_NAME = "fingerprint.json", "timings.jsonl", "output"


class FingerprintError(ValueError):
    """The folder holds images made with other settings."""


class DamagedFolder(ValueError):
    """It cannot be told any more with what settings the folder's images were made."""


class Journal:
    """The folder of one model's images: `output/00000.png`, `timings.jsonl`, `fingerprint.json`.

    fingerprint.json is the mark that the folder is ours, and says with what the images were made; timings.jsonl names
    every image before it is there. Each carries checksums, those of the lines in the context of the fingerprint, so
    that lines of two settings are never mixed. Nothing is written before `locked`. count: how many images will be
    written at most; files of others at further names are no fault then.

    Raises:
        FingerprintError: the folder holds another fingerprint: images of two settings are never mixed.
        DamagedFolder: its fingerprint is damaged, and the lines do not tell that it was this one.
        ValueError: the folder holds files that are not this program's at the names that it writes.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, str], count: int | None = None) -> None:
        self.folder = folder
        self._count = count
        self._images = folder / IMAGES_NAME
        self._lines_path = folder / LINES_NAME
        self._fingerprint = {"program": PROGRAM, "schema_version": SCHEMA_VERSION, **fingerprint}
        self._context = context_of(self._fingerprint)
        self._check()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the folder for this process while it generates; a kill lets go of it.

        What a killed process left is tidied: partial images, a torn line, and lines that are damaged.

        Raises:
            OSError: another process generates into the folder: the two would make the same images.
        """
        with naming(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, "generates images"):
            self._check()  # another process may have been here since
            if not (self.folder / MARK_NAME).is_file() or self._mark_fault():
                write_record(self.folder / MARK_NAME, self._fingerprint)
            for folder in (self.folder, self._images):
                remove_leftovers(folder)
            self._drop_damaged_lines()
            yield

    def image_path(self, index: int) -> Path:
        """Return where request `index`'s image is, or will be."""
        return self._images / image_name(index)

    def batches(self) -> list[Batch]:
        """Return every recorded batch whose images are all there as they were written, in the order of their indices.

        A batch made twice (its images were lost, or the run was extended past a short last batch) counts once:
        the later line stands.
        """
        latest = {batch.start: batch for line in self._lines("batch") if (batch := read_batch(line)) is not None}
        with ThreadPoolExecutor(thread_name_prefix="digest") as pool:
            whole = pool.map(self._is_whole, latest.values())
        return sorted(
            (batch for batch, is_whole in zip(latest.values(), whole, strict=True) if is_whole),
            key=lambda batch: batch.start,
        )

    def loaded(self) -> Loaded | None:
        """Return what the last process that loaded the model wrote, with the highest peak memory of all of them."""
        found = [loaded for line in self._lines("loaded") if (loaded := read_loaded(line)) is not None]
        if not found:
            return None
        peaks = [loaded.peak_memory_bytes for loaded in found if loaded.peak_memory_bytes]
        peaks += [peak for line in self._lines("finished") if isinstance(peak := line.get("peak_memory_bytes"), int)]
        return Loaded(**{**asdict(found[-1]), "peak_memory_bytes": max(peaks, default=None)})

    def faults(self) -> list[str]:
        """Return what is damaged and will be made again, a line each."""
        damaged = [number for number, line in self._numbered() if line is None]
        faults = []
        if self._mark_fault():
            faults.append(
                f"{self.folder / MARK_NAME} is damaged; it is written again, since the lines tell what it said"
            )
        if damaged:
            shown = listed(map(str, damaged))
            faults.append(f"{self._lines_path} is damaged in line {shown}; what they told of is made again")
        recorded = [batch for line in self._lines("batch") if (batch := read_batch(line)) is not None]
        starts = {batch.start for batch in self.batches()}
        lost = sorted({batch.start for batch in recorded} - starts)
        changed = [
            str(path) for batch in recorded if batch.start in lost
            for index in range(batch.start, batch.stop) if (path := self.image_path(index)).is_file()
            and not _has_digest(path, batch.digests[index - batch.start])
        ]  # fmt: skip
        if changed:
            faults.append(f"{listed(dict.fromkeys(changed))} changed since this program wrote it; it is made again")
        return faults

    def record_loaded(self, loaded: Loaded) -> None:
        self._append({"kind": "loaded", **asdict(loaded)})

    def record_finished(self, peak_memory_bytes: int | None, loop_s: float, timed_s: float) -> None:
        """Record the whole loop's wall time beside the timed part of it: the difference is our own overhead."""
        self._append({"kind": "finished", "peak_memory_bytes": peak_memory_bytes, "loop_s": loop_s, "timed_s": timed_s})

    def record_batch(self, batch: Batch, images: Sequence[Image.Image]) -> None:
        """Write the batch's images aside, then its line with their digests, and then give them their names.

        So every image that has its name is named by a line, and a line without its images counts for nothing.
        """
        assert len(images) == batch.size, f"{len(images)} images for requests {batch.start}..{batch.stop - 1}"
        with naming(self._images):
            self._images.mkdir(parents=True, exist_ok=True)
        paths = [self.image_path(index) for index in range(batch.start, batch.stop)]
        digests = []
        try:
            for path, image in zip(paths, images, strict=True):
                with naming(path):
                    save_png(image, partial_path(path))
                    sync_file(partial_path(path))
                digests.append(hashlib.sha256(partial_path(path).read_bytes()).hexdigest())
            self._append({"kind": "batch", **asdict(batch), "digests": digests})
            for path in paths:
                with naming(path):
                    publish(partial_path(path), path, sync=False)
        finally:
            for path in paths:
                with suppress(OSError):
                    partial_path(path).unlink(missing_ok=True)

    def _is_whole(self, batch: Batch) -> bool:
        return all(
            _has_digest(self.image_path(index), digest)
            for index, digest in zip(range(batch.start, batch.stop), batch.digests, strict=True)
        )

    def _check(self) -> None:
        """Raise where the folder's images are not of this fingerprint, or not ours; nothing is written."""
        path = self.folder / MARK_NAME
        elsewhere = f"choose another OUTPUT_DIR (--output-dir), or move {self.folder} away"
        if not path.is_file():
            if strangers := foreign_files(self.folder, self._count):
                raise ValueError(
                    f"{self.folder} holds {listed(strangers)} and no {MARK_NAME}, so they may not be this program's: "
                    f"{elsewhere}"
                )
            return
        if fault := self._mark_fault():
            refuse_earlier(self.folder)
            lines = [line for _, line in self._numbered()]
            begun = not lines and names_taken(self.folder) == [MARK_NAME] and PROGRAM.encode() in path.read_bytes()
            if None in lines or not (lines or begun):
                raise DamagedFolder(
                    f"{path} is not as this program wrote it ({fault}), and {LINES_NAME} does not tell that the images "
                    f"were made with these settings: {elsewhere}"
                )
            return
        found = read_record(path)
        for name, value in self._fingerprint.items():
            if found.get(name) != value:
                raise FingerprintError(
                    f"{self.folder} holds images made with {name}={found.get(name)}, now {name}={value}: "
                    "set it back, choose another OUTPUT_DIR, or start over with FRESH=1"
                )

    def _mark_fault(self) -> str:
        """Return what is wrong with fingerprint.json, or "" where it is whole or not there."""
        try:
            read_record(self.folder / MARK_NAME)
        except Damaged as error:
            return str(error)
        except FileNotFoundError:
            return ""
        return ""

    def _numbered(self) -> list[tuple[int, dict[str, Any] | None]]:
        """Return the lines with their numbers from 1 on; a damaged one is None, a torn last one is left out."""
        return [(number, line) for number, (line, _) in enumerate(read_lines(self._lines_path, self._context), start=1)]

    def _lines(self, kind: str) -> list[dict[str, Any]]:
        return [line for _, line in self._numbered() if line is not None and line.get("kind") == kind]

    def _append(self, line: Mapping[str, object]) -> None:
        if not (self.folder / MARK_NAME).is_file():
            write_record(self.folder / MARK_NAME, self._fingerprint)
        append_line(self._lines_path, seal(line, self._context))

    def _drop_damaged_lines(self) -> None:
        """Keep only whole lines; a line that a kill tore, or that was damaged, goes."""
        if not self._lines_path.is_file():
            return
        content = read_regular(self._lines_path, most_bytes=MOST_BYTES)
        kept = b"".join(text for line, text in read_lines(self._lines_path, self._context) if line is not None)
        if kept != content:
            write_text(self._lines_path, kept.decode("utf-8"))


def image_name(index: int) -> str:
    return f"{index:05d}.png"


def foreign_files(folder: Path, count: int | None = None) -> list[str]:
    """Return which of the names that a column of requests 0..count-1 (None: of any) writes are taken by others' files.

    Ours are, in a folder with a mark, those that the journal names, and PNGs that name this program as their maker.
    """
    taken = _written_taken(folder, count)
    mark = folder / MARK_NAME
    has_mark = MARK_NAME in taken and (
        LINES_NAME in taken or (mark.is_file() and PROGRAM.encode() in mark.read_bytes())
    )
    if not has_mark:
        return taken
    try:
        ours = {MARK_NAME, LINES_NAME, *_named_images(folder)}
    except Damaged:
        ours = {MARK_NAME, LINES_NAME}
    return [name for name in taken if name not in ours and not is_our_png(folder / name)]


def check_clearable(folder: Path, count: int | None = None) -> None:
    """Raise ValueError where FRESH=1 may delete nothing in `folder`: see `ownership.check_clearable`.

    count: how many images the next run writes; files at further names do not matter. None: files at any name do.
    """
    ownership.check_clearable(folder, MARK_NAME, _read_mark, _written_taken(folder, count), lambda: _named(folder))


def clear(folder: Path, count: int | None = None) -> None:
    """Delete the images that a folder's journal names, then the journal; the mark goes last. Call it under the lock.

    Raises:
        ValueError: as `check_clearable`; nothing was deleted.
    """
    check_clearable(folder, count)
    if (folder / MARK_NAME).is_file():
        delete_named(folder, _named(folder))
        remove_leftovers(folder / IMAGES_NAME)


def refuse_earlier(folder: Path) -> None:
    """Raise FingerprintError where the folder holds images of another version of this program."""
    mark = folder / MARK_NAME
    version = version_of(mark.read_bytes()) if mark.is_file() else None
    if version not in (None, SCHEMA_VERSION):
        raise FingerprintError(
            f"{folder} holds images of another version of this program (schema_version={version}, now "
            f"{SCHEMA_VERSION}): choose another OUTPUT_DIR (--output-dir), or move {folder} away"
        )


def _written_taken(folder: Path, count: int | None) -> list[str]:
    """Return which names are taken of those that a column of `count` images writes, or of images of any number."""
    taken = names_taken(folder)
    if count is None:
        return taken
    numbers = {name: name.removeprefix(f"{IMAGES_NAME}/").removesuffix(".png") for name in taken}
    return [name for name in taken if not numbers[name].isdecimal() or int(numbers[name]) < count]


def _named(folder: Path) -> list[str]:
    """Return all files that a folder's journal names, the journal and, last, its mark. Raises as `read_record`."""
    return [*_named_images(folder), LINES_NAME, MARK_NAME]


def _read_mark(folder: Path) -> dict[str, Any]:
    """Return what a folder's mark says. Raises as `read_record`."""
    return read_record(folder / MARK_NAME)


def _named_images(folder: Path) -> Iterator[str]:
    """Yield the images that a folder's journal names, relative to the folder. Raises as `read_record`."""
    context = context_of(_read_mark(folder))
    for line, _ in read_lines(folder / LINES_NAME, context):
        if line is not None and line.get("kind") == "batch" and (batch := read_batch(line)) is not None:
            yield from (f"{IMAGES_NAME}/{image_name(index)}" for index in range(batch.start, batch.stop))


def names_taken(folder: Path) -> list[str]:
    """Return which of the names that a journal writes are taken in `folder`."""
    images = folder / IMAGES_NAME
    names = [name for name in (MARK_NAME, LINES_NAME) if is_there(folder / name)]
    if images.is_dir():
        taken = sorted(entry.name for entry in os.scandir(images))
        names += [f"{IMAGES_NAME}/{name}" for name in taken if name.endswith(".png") and name[:-4].isdigit()]
    elif is_there(images):
        names.append(IMAGES_NAME)
    return names


def _has_digest(path: Path, digest: str) -> bool:
    try:
        return file_digest(path) == digest
    except OSError:
        return False
