"""What has been generated: PNGs and one line for each batch, written so that a kill loses only the work in flight."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

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
from benchmark.run.journal_lines import MAIN_WRITER, MOST_BYTES, context_of, read_batch, read_lines, read_loaded
from benchmark.run.journal_lines import Batch as Batch
from benchmark.run.journal_lines import Loaded as Loaded
from files import PROGRAM
from files.deletion import listed
from files.images import save_png
from files.locks import locked
from files.reading import file_digest, read_regular
from files.records import Damaged, read_record, seal, write_record
from files.writing import append_line, naming, partial_path, publish, remove_leftovers, sync_file, write_text


@dataclass(frozen=True)
class Snapshot:
    """What a column's folder held when its journals were read: all that a phase learns of the column.

    batches: of the first round, in the order of their indices, each with all its images there as they were written.
    loaded: what the last process that loaded the model wrote, with the highest peak memory of all of them.
    faults: what is damaged and will be made again, a line each.
    """

    folder: Path
    batches: tuple[Batch, ...] = ()
    loaded: Loaded | None = None
    faults: tuple[str, ...] = ()

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


class Journal:
    """The folder of one model's images: `output/00000.png`, `timings.jsonl`, `fingerprint.json`.

    fingerprint.json is the mark that the folder is ours, and says with what the images were made; timings.jsonl names
    every image before it is there. Each carries checksums, those of the lines in the context of the fingerprint, so
    that lines of two settings are never mixed. Each writer appends to a journal of its own; all of them are read.
    Nothing is written before `locked`.

    count: how many images will be written at most; files of others at further names are no fault then. defaults: what a
    setting was where a recorded fingerprint lacks it. writer: the name of this writer, in each line and in the name of
    its journal.

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
    ) -> None:
        self.folder = folder
        self._count = count
        self._writer = writer
        self._images = folder / IMAGES_NAME
        self._lines_path = folder / lines_name(writer)
        self._fingerprint = {"program": PROGRAM, "schema_version": SCHEMA_VERSION, **fingerprint}
        self._defaults = dict(defaults or {})
        self._context = context_of(self._fingerprint)
        self._check()

    @contextmanager
    def locked(self) -> Iterator[Snapshot]:
        """Keep the folder for this process while it generates, and give what it holds; a kill lets go of it.

        What a killed process left is tidied: partial images, a torn line, and lines that are damaged.

        Raises:
            OSError: another process generates into the folder: the two would make the same images.
        """
        with naming(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, "generates images"):
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

    def read(self) -> Snapshot:
        """Return what the folder holds now. Every journal is read once, and every image's digest is checked.

        A batch made twice (its images were lost, or the run was extended past a short last batch) counts once: of the
        lines whose images are whole, the later one stands.
        """
        numbered = self._numbered()
        lines = [line for _, _, line in numbered if line is not None]
        recorded = [batch for line in lines if line.get("kind") == "batch" and (batch := read_batch(line)) is not None]
        made = [batch for batch in recorded if batch.round == 0]
        with ThreadPoolExecutor(thread_name_prefix="digest") as pool:
            whole = list(pool.map(self._is_whole, made))
        batches = _without_overlaps([batch for batch, is_whole in zip(made, whole, strict=True) if is_whole])
        covered = {index for batch in batches for index in batch.indices}
        lost = [batch for batch in made if not covered.issuperset(batch.indices)]
        return Snapshot(
            self.folder,
            tuple(sorted(batches, key=lambda batch: batch.start)),
            _last_loaded(lines),
            (*self._damage(numbered), *self._changes(lost)),
        )

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
            faults.append(f"{path} is damaged in line {listed(numbers)}; what these lines recorded is made again")
        return faults

    def _changes(self, lost: Sequence[Batch]) -> list[str]:
        changed = [
            str(path) for batch in sorted(lost, key=lambda batch: batch.start)
            for index, digest in zip(batch.indices, batch.digests, strict=True)
            if (path := self.image_path(index)).is_file() and not _has_digest(path, digest)
        ]  # fmt: skip
        return [f"{listed(changed)} changed since this program wrote it; it is made again"] if changed else []

    def record_loaded(self, loaded: Loaded) -> None:
        self._append({"kind": "loaded", **asdict(replace(loaded, writer=self._writer))})

    def record_finished(self, peak_memory_bytes: int | None, loop_s: float, timed_s: float) -> None:
        """Record the whole loop's wall time beside the timed part of it: the difference is our own overhead."""
        self._append({
            "kind": "finished", "peak_memory_bytes": peak_memory_bytes, "loop_s": loop_s, "timed_s": timed_s,
            "round": 0, "writer": self._writer,
        })  # fmt: skip

    def record_batch(self, batch: Batch, images: Sequence[Image.Image]) -> None:
        """Write the batch's images aside, then its line with their digests, and then give them their names.

        So every image that has its name is named by a line, and a line without its images counts for nothing.
        """
        assert len(images) == batch.size, f"{len(images)} images for requests {batch.indices}"
        with naming(self._images):
            self._images.mkdir(parents=True, exist_ok=True)
        paths = [self.image_path(index) for index in batch.indices]
        digests = []
        try:
            for path, image in zip(paths, images, strict=True):
                with naming(path):
                    save_png(image, partial_path(path))
                    sync_file(partial_path(path))
                digests.append(hashlib.sha256(partial_path(path).read_bytes()).hexdigest())
            written = replace(batch, digests=tuple(digests), writer=self._writer)
            self._append({"kind": "batch", **asdict(written)})
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
                raise FingerprintError(
                    f"{self.folder} holds images made {_with(name, recorded, 'with ')}, now {_with(name, now)}: "
                    "set it back, choose another OUTPUT_DIR, or start over with FRESH=1"
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
            (path, number, line)
            for path in column_folder.journals_in(self.folder)
            for number, (line, _) in enumerate(read_lines(path, self._context), start=1)
        ]

    def _append(self, line: Mapping[str, object]) -> None:
        if not (self.folder / MARK_NAME).is_file():
            write_record(self.folder / MARK_NAME, self._fingerprint)
        append_line(self._lines_path, seal(line, self._context))

    def _drop_damaged_lines(self) -> None:
        """Keep only whole lines; a line that a kill tore, or that was damaged, goes."""
        for path in column_folder.journals_in(self.folder):
            content = read_regular(path, most_bytes=MOST_BYTES)
            kept = b"".join(text for line, text in read_lines(path, self._context) if line is not None)
            if kept != content:
                write_text(path, kept.decode("utf-8"))


def _without_overlaps(batches: Sequence[Batch]) -> list[Batch]:
    """Return the batches without those of which a later one has a request: each request counts once."""
    kept: list[Batch] = []
    taken: set[int] = set()
    for batch in reversed(batches):
        if taken.isdisjoint(batch.indices):
            kept.append(batch)
            taken.update(batch.indices)
    return kept


def _last_loaded(lines: Sequence[Mapping[str, Any]]) -> Loaded | None:
    """Return what the last process that loaded the model wrote, with the highest peak memory of all of them."""
    found = [loaded for line in lines if line.get("kind") == "loaded" and (loaded := read_loaded(line)) is not None]
    if not found:
        return None
    peaks = [loaded.peak_memory_bytes for loaded in found if loaded.peak_memory_bytes]
    finished = [line.get("peak_memory_bytes") for line in lines if line.get("kind") == "finished"]
    peaks += [peak for peak in finished if isinstance(peak, int)]
    return replace(found[-1], peak_memory_bytes=max(peaks, default=None))


def _with(name: str, value: object, word: str = "") -> str:
    return f"without {name}" if value is None else f"{word}{name}={value}"


def _has_digest(path: Path, digest: str) -> bool:
    try:
        return file_digest(path) == digest
    except OSError:
        return False
