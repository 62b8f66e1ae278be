"""manifest.jsonl: which data set a folder of reference images holds, and a line for each row, checked as it is read."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from benchmark.datasets.base import CaptionedImages
from benchmark.datasets.selection import Selection
from files import PROGRAM
from files.deletion import delete_named, listed
from files.images import is_our_png
from files.reading import file_digest, read_regular
from files.records import Damaged, seal, unseal
from files.writing import append_line, naming, partial_path, publish, remove_leftovers, write_text

SCHEMA_VERSION = 2
NAME = "manifest.jsonl"
Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
MOST_BYTES = 4_000_000_000
_FILE = re.compile(r"(\d{5,})_(input\.png|caption\.txt)")


@dataclass(frozen=True)
class Row:
    """One row of the data set; `path` is None where its image does not decode, and its split is then train.

    digest: content digest of the source image, which `path` may hold a part of; empty without one.
    """

    index: int
    caption: str
    label: int | None
    path: Path | None
    split: Split
    digest: str = ""


@dataclass(frozen=True)
class Line:
    """What the manifest says of one row; `file` is relative to its folder, and empty where there is no image.

    sha256: content digest of the decoded source image. file_sha256: SHA-256 of the file.
    """

    index: int
    split: Split
    file: str
    caption: str
    label: int | None
    error: str
    sha256: str
    bytes: int
    file_sha256: str

    def row(self, folder: Path) -> Row:
        path = folder / self.file if self.file else None
        return Row(self.index, self.caption, self.label, path, self.split, self.sha256)

    def is_whole(self, folder: Path) -> bool:
        """Return whether the row's files are there as they were written."""
        path = folder / self.file
        try:
            return not self.file or (
                file_digest(path) == self.file_sha256
                and caption_path(path).read_bytes() == f"{self.caption}\n".encode()
            )
        except OSError:
            return False


def image_name(index: int) -> str:
    return f"{index:05d}_input.png"


def caption_path(image: Path) -> Path:
    """Return where the caption of a reference image is."""
    return image.with_name(image.name.removesuffix("_input.png") + "_caption.txt")


class Manifest:
    """The manifest of one data set in `folder`. Nothing is written before `claim`, which the folder's lock must guard.

    lines: the rows that are whole, by index. end: how many rows the data set has, where that is known.

    Raises:
        ValueError: the folder holds another data set, or it cannot be told what it holds.
    """

    def __init__(self, dataset: CaptionedImages, folder: Path) -> None:
        self.folder = folder
        self._dataset = dataset
        self._path = folder / NAME
        self._read()

    def claim(self, announce: Callable[[str], None]) -> None:
        """Write the first line where it is missing, and drop what is damaged or half written; it will be made again."""
        self._read()
        is_new = self._header is None
        if is_new:
            self._header = self._new_header()  # this may open the data set: before anything is written
            self._context = context_of(self._header)
        for split in SPLITS:
            with naming(self.folder / split):
                (self.folder / split).mkdir(parents=True, exist_ok=True)
        for folder in (self.folder, *(self.folder / split for split in SPLITS)):
            remove_leftovers(folder)
        for fault in self._faults:
            announce(fault)
        if is_new or self._faults or self._is_torn:
            self._write_all()

    @property
    def label_names(self) -> tuple[str, ...]:
        assert self._header is not None, "a claimed manifest has a first line"
        return tuple(self._header["label_names"])

    def append(self, line: Line) -> None:
        """Record a row whose files are written aside, and give the files their names."""
        assert line.index not in self.lines
        append_line(self._path, seal(asdict(line), self._context), sync=False)
        if line.file:
            path = self.folder / line.file
            for file in (path, caption_path(path)):
                with naming(file):
                    publish(partial_path(file), file, sync=False)
        self.lines[line.index] = line
        self._in_order = self._in_order and line.index == max(self.lines) and self.end is None

    def finish(self, rows: int) -> None:
        """Record that the data set has no more than so many rows."""
        append_line(self._path, seal({"rows": rows}, self._context), sync=False)
        self.end = rows

    def put_in_order(self) -> None:
        """Write the lines in the order of their rows where rows were made again."""
        if not self._in_order:
            self._write_all()

    # Reading and writing the file.

    def _read(self) -> None:
        self.lines: dict[int, Line] = {}
        self.end: int | None = None
        self._faults: list[str] = []
        self._in_order = True
        texts = _texts(self._path)
        self._is_torn = texts.pop() != b"" if texts else False
        self._header: dict[str, Any] | None = None
        self._context = ""
        if not texts and not self._is_torn:
            return
        try:
            self._header = self._check_header(unseal(texts[0] if texts else b""))
            self._context = context_of(self._header)
            records = list(_records(texts[1:], self._context))
        except Damaged as error:
            # The rows carry their checksums in the context of the first line, so they tell what it said.
            header = self._new_header()
            records = list(_records(texts[1:], context_of(header)))
            if not records or None in records:
                raise ValueError(
                    f"{self._path} is damaged, its first line does not say what it holds ({error}): choose another "
                    f"OUTPUT_DIR (--output-dir), or move {self.folder} away"
                ) from None
            self._header, self._context = header, context_of(header)
            self._faults.append(f"{self._path} is damaged in line 1, which is written again")
        self._take(records)

    def _take(self, records: list[dict[str, Any] | None]) -> None:
        lines: list[Line] = []
        damaged = []
        for number, record in enumerate(records, start=2):
            if record is not None and set(record) == {"rows"} and type(record["rows"]) is int:
                self.end = record["rows"]
            elif record is not None and (line := read_line(record)) is not None:
                lines.append(line)
            else:
                damaged.append(str(number))
        if damaged:
            self._faults.append(f"{self._path} is damaged in line {listed(damaged)}; the rows are made again")
        with ThreadPoolExecutor(thread_name_prefix="digest") as pool:
            whole = list(pool.map(lambda line: line.is_whole(self.folder), lines))
        broken = [line.file for line, is_whole in zip(lines, whole, strict=True) if not is_whole]
        if broken:
            self._faults.append(f"{self.folder}: {listed(broken)} changed or lost; made again")
        self.lines = {line.index: line for line, is_whole in zip(lines, whole, strict=True) if is_whole}
        self._in_order = list(self.lines) == sorted(self.lines)

    def _check_header(self, header: dict[str, Any]) -> dict[str, Any]:
        other = "choose another OUTPUT_DIR (--output-dir), or start over with FRESH=1"
        for what, found, wanted in (
            ("manifest version", header.get("schema_version"), SCHEMA_VERSION),
            ("the data set", header.get("identity"), self._dataset.identity),
        ):
            if found != wanted:
                raise ValueError(f"{self.folder} holds {what} [{found}], now asked is [{wanted}]: {other}")
        names = header.get("label_names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise Damaged("it names no labels")
        return header

    def _new_header(self) -> dict[str, Any]:
        header: dict[str, Any] = {
            "program": PROGRAM, "schema_version": SCHEMA_VERSION, "dataset": self._dataset.name,
            "identity": self._dataset.identity, "label_names": list(self._dataset.label_names),
        }  # fmt: skip
        if isinstance(self._dataset, Selection):
            header["arrangement"] = dict(self._dataset.arrangement)
        return header

    def _write_all(self) -> None:
        assert self._header is not None
        records = [asdict(self.lines[index]) for index in sorted(self.lines)]
        end = [] if self.end is None else [{"rows": self.end}]
        lines = [seal(self._header), *(seal(record, self._context) for record in (*records, *end))]
        write_text(self._path, "".join(f"{line}\n" for line in lines), sync=False)
        self._in_order, self._is_torn = True, False


def context_of(header: Mapping[str, Any]) -> str:
    """Return what the lines' checksums are bound to: lines of two data sets never pass for one another's."""
    return hashlib.sha256(json.dumps(dict(header), sort_keys=True).encode()).hexdigest()


def read_header(folder: Path) -> dict[str, Any]:
    """Return the first line of the manifest in `folder`.

    Raises:
        OSError: there is none.
        Damaged: it is not as it was written.
    """
    texts = _texts(folder / NAME)
    if not texts:
        raise FileNotFoundError(f"there is no {folder / NAME}")
    return unseal(texts[0])


def read_line(record: Mapping[str, Any]) -> Line | None:
    """Return the row that a record tells of, or None where it tells what no row can be."""
    try:
        line = Line(**record)
    except TypeError:
        return None
    is_name = line.file in ("", f"{line.split}/{image_name(line.index)}") if type(line.index) is int else False
    sound = (
        is_name and line.index >= 0 and line.split in SPLITS and (line.label is None or type(line.label) is int)
        and type(line.bytes) is int
        and all(isinstance(text, str) for text in (line.caption, line.error, line.sha256, line.file_sha256))
    )  # fmt: skip
    return line if sound else None


def names_taken(folder: Path) -> list[str]:
    """Return which of the names that a manifest writes are taken in `folder`."""
    names = [NAME] if (folder / NAME).exists() or (folder / NAME).is_symlink() else []
    for split in SPLITS:
        names += [f"{split}/{name}" for name in _file_names(folder / split)]
    return names


def foreign_files(folder: Path, rows: int) -> list[str]:
    """Return which of the names that rows 0..rows-1 write are taken in `folder` by files that are not ours.

    Ours are, beside a manifest, those that it names, and images that name this program as their maker, each with its
    caption.
    """
    taken = names_taken(folder)
    if NAME not in taken or not (texts := _texts(folder / NAME))[:-1]:
        return [name for name in taken if name != NAME]
    try:
        lines = _read_rows(texts[1:-1], context_of(unseal(texts[0])))
    except Damaged:
        lines = []
    named = {line.file for line in lines}
    foreign = []
    for name in taken:
        if (found := _FILE.fullmatch(name.partition("/")[2])) is not None and int(found[1]) < rows:
            image = f"{name.partition('/')[0]}/{image_name(int(found[1]))}"
            if image not in named and not is_our_png(folder / image):
                foreign.append(name)
    return foreign


def _file_names(split: Path) -> list[str]:
    """Return the names in a split's folder that are of our form."""
    if not split.is_dir():
        return []
    with os.scandir(split) as entries:
        return sorted(entry.name for entry in entries if _FILE.fullmatch(entry.name))


def check_clearable(folder: Path) -> None:
    """Raise ValueError where FRESH=1 may delete nothing in `folder`, since its mark is missing or damaged."""
    there = names_taken(folder)
    if not there:
        return
    try:
        reason = "" if read_header(folder).get("program") == PROGRAM else f"{NAME} is not of this program"
    except Damaged as error:
        reason = f"the first line of {NAME} is damaged ({error})"
    except OSError:
        reason = f"there is no {NAME}"
    if reason:
        raise ValueError(
            f"FRESH=1 deletes nothing in {folder}: {reason}, so these files may not be this program's: "
            f"{listed(there)}; choose another OUTPUT_DIR (--output-dir), or move them away"
        )


def clear(folder: Path) -> None:
    """Delete the files that a manifest names, and then the manifest itself. Call it under the lock.

    Raises:
        ValueError: as `check_clearable`.
    """
    check_clearable(folder)
    if not (folder / NAME).is_file():
        return
    context = context_of(read_header(folder))
    lines = [
        line for record in _records(_texts(folder / NAME)[1:-1], context) if record and (line := read_line(record))
    ]
    images = [line.file for line in lines if line.file]
    delete_named(folder, [*images, *(str(caption_path(Path(image))) for image in images)])
    for split in SPLITS:
        remove_leftovers(folder / split)
    delete_named(folder, [NAME])


def _texts(path: Path) -> list[bytes]:
    """Return the file's lines, and behind them what follows the last line's end; empty where there is no file."""
    return read_regular(path, most_bytes=MOST_BYTES).split(b"\n") if path.is_file() else []


def _records(texts: list[bytes], context: str) -> Iterator[dict[str, Any] | None]:
    """Yield the lines' records, None for a damaged one."""
    for text in texts:
        try:
            yield unseal(text, context)
        except Damaged:
            yield None


def _read_rows(texts: list[bytes], context: str) -> list[Line]:
    """Return the rows that whole lines tell of."""
    records = _records(texts, context)
    return [line for record in records if record is not None and (line := read_line(record)) is not None]
