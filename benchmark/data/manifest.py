"""manifest.jsonl: which data set a folder of reference images holds, and a line for each row, checked as it is read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmark.data.manifest_lines import SPLITS as SPLITS
from benchmark.data.manifest_lines import Line as Line
from benchmark.data.manifest_lines import Row as Row
from benchmark.data.manifest_lines import Split as Split
from benchmark.data.manifest_lines import caption_path as caption_path
from benchmark.data.manifest_lines import context_of, read_left_out, read_line, read_records, read_rows, read_texts
from benchmark.data.manifest_lines import image_name as image_name
from benchmark.data.sources.base import Arranged, CaptionedImages, Surveyed
from files import PROGRAM, deletion
from files.deletion import delete_named, listed
from files.images import is_our_png
from files.listing import LeftOut
from files.reading import is_there
from files.records import Damaged, seal, unseal, version_of
from files.writing import append_line, naming, partial_path, publish, remove_leftovers, write_text

SCHEMA_VERSION = 2
NAME = "manifest.jsonl"
ELSEWHERE = "choose another OUTPUT_DIR (--output_dir of a script)"
_FILE = re.compile(r"(\d{5,})_(input\.png|caption\.txt)")


class Manifest:
    """The manifest of one data set in `folder`. Nothing is written before `claim`, which the folder's lock must guard.

    lines: the rows that are whole, by index. end: how many rows the data set has, where that is known. Beside the rows
    it names the files of a folder that are no rows, each with its reason. is_checked: another process has just checked
    the files of all rows, so that they are not read here.

    Raises:
        ValueError: the folder holds another data set, or it cannot be told what it holds.
    """

    def __init__(self, dataset: CaptionedImages, folder: Path, is_checked: bool = False) -> None:
        self.folder = folder
        self._is_checked = is_checked
        self._dataset = dataset
        self._path = folder / NAME
        self.lines: dict[int, Line] = {}
        self.end: int | None = None
        self._header: dict[str, Any] | None = None
        self._context = ""  # of the lines' checksums
        self._faults: list[str] = []  # what is made again
        self._remarks: list[str] = []
        self._in_order, self._is_torn = True, False
        self._last = -1  # the highest index of `lines`
        self._left_out: list[LeftOut] = []  # as the file names them
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
        for remark in (*self._faults, *self._remarks):
            announce(remark)
        left_out = list(self._dataset.survey.left_out) if isinstance(self._dataset, Surveyed) else []
        if is_new or self._faults or self._is_torn or left_out != self._left_out:
            self._left_out = left_out
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
        self._in_order = self._in_order and line.index > self._last and self.end is None
        self.lines[line.index] = line
        self._last = max(self._last, line.index)

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
        self.lines, self.end, self._header, self._context = {}, None, None, ""
        self._faults, self._remarks, self._in_order, self._last, self._left_out = [], [], True, -1, []
        texts = read_texts(self._path)
        self._is_torn = texts.pop() != b"" if texts else False
        if not texts and not self._is_torn:
            return
        try:
            self._header = self._check_header(unseal(texts[0] if texts else b""))
            self._context = context_of(self._header)
            records = list(read_records(texts[1:], self._context))
        except Damaged as error:
            refuse_earlier(self.folder)
            # The rows carry their checksums in the context of the first line, so they tell what it said.
            header = self._new_header()
            records = list(read_records(texts[1:], context_of(header)))
            if not records or None in records:
                raise ValueError(
                    f"{self._path} is damaged, its first line does not say what it holds ({error}): {ELSEWHERE}, or "
                    f"move {self.folder} away"
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
            elif record is not None and (file := read_left_out(record)) is not None:
                self._left_out.append(file)
            elif record is not None and (line := read_line(record)) is not None:
                lines.append(line)
            else:
                damaged.append(str(number))
        if damaged:
            self._faults.append(f"{self._path} is damaged in line {listed(damaged)}; the rows are made again")
        if self._is_checked:
            self.lines = {line.index: line for line in lines}
            return
        with ThreadPoolExecutor(thread_name_prefix="digest") as pool:
            whole = list(pool.map(lambda line: line.is_whole(self.folder), lines))
        broken = [line.file for line, is_whole in zip(lines, whole, strict=True) if not is_whole]
        if broken:
            self._faults.append(f"{self.folder}: {listed(broken)} changed or lost; made again")
        if edited := [str(caption_path(Path(line.file))) for line in lines if line.is_edited(self.folder)]:
            self._remarks.append(
                f"{self.folder}: {listed(edited)} differ from the data set's captions; they are kept, and fine-tuning "
                "reads them"
            )
        self.lines = {line.index: line for line, is_whole in zip(lines, whole, strict=True) if is_whole}
        self._in_order = list(self.lines) == sorted(self.lines)
        self._last = max(self.lines, default=-1)

    def _check_header(self, header: dict[str, Any]) -> dict[str, Any]:
        other = f"{ELSEWHERE}, or start over with FRESH=1"
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
        if isinstance(self._dataset, Arranged):
            header["arrangement"] = dict(self._dataset.arrangement)
        return header

    def _write_all(self) -> None:
        assert self._header is not None
        records = [asdict(self.lines[index]) for index in sorted(self.lines)]
        end = [] if self.end is None else [{"rows": self.end}]
        left_out = [{"left_out": file.name, "reason": file.reason} for file in self._left_out]
        lines = [seal(self._header), *(seal(record, self._context) for record in (*left_out, *records, *end))]
        write_text(self._path, "".join(f"{line}\n" for line in lines), sync=False)
        self._in_order, self._is_torn = True, False


def read_header(folder: Path) -> dict[str, Any]:
    """Return the first line of the manifest in `folder`.

    Raises:
        OSError: there is none.
        Damaged: it is not as it was written.
    """
    texts = read_texts(folder / NAME)
    if not texts:
        raise FileNotFoundError(f"there is no {folder / NAME}")
    return unseal(texts[0])


def names_taken(folder: Path) -> list[str]:
    """Return which of the names that a manifest writes are taken in `folder`."""
    names = [NAME] if is_there(folder / NAME) else []
    for split in SPLITS:
        names += [f"{split}/{name}" for name in _file_names(folder / split)]
    return names


def foreign_files(folder: Path, rows: int) -> list[str]:
    """Return which of the names that rows 0..rows-1 write are taken in `folder` by files that are not ours.

    Ours are, beside a manifest, those that it names, and images that name this program as their maker, each with its
    caption.
    """
    taken = names_taken(folder)
    if NAME not in taken or not (texts := read_texts(folder / NAME))[:-1]:
        return [name for name in taken if name != NAME]
    try:
        lines = read_rows(texts[1:-1], context_of(unseal(texts[0])))
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


def check_clearable(folder: Path, rows: int | None = None) -> None:
    """Raise ValueError where FRESH=1 may delete nothing in `folder`: see `files.deletion.check_clearable`.

    rows: how many rows the next run writes; files at further names do not matter. None: files at any name do.
    """
    there = [
        name for name in names_taken(folder)
        if rows is None or (found := _FILE.fullmatch(name.partition("/")[2])) is None or int(found[1]) < rows
    ]  # fmt: skip
    deletion.check_clearable(folder, NAME, read_header, there, lambda: _named(folder))


def clear(folder: Path, rows: int | None = None) -> None:
    """Delete the files that a manifest names, and then the manifest itself. Call it under the lock.

    Raises:
        ValueError: as `check_clearable`; nothing was deleted.
    """
    check_clearable(folder, rows)
    if (folder / NAME).is_file():
        delete_named(folder, _named(folder))
        for split in SPLITS:
            remove_leftovers(folder / split)


def refuse_earlier(folder: Path) -> None:
    """Raise ValueError where the folder holds references of another version of this program."""
    texts = read_texts(folder / NAME)
    version = version_of(texts[0]) if texts else None
    if version not in (None, SCHEMA_VERSION):
        raise ValueError(
            f"{folder} holds references of another version of this program (manifest version [{version}], now "
            f"[{SCHEMA_VERSION}]): {ELSEWHERE}, or move them away"
        )


def _named(folder: Path) -> list[str]:
    """Return the files that a manifest names, and, last, the manifest; a caption that was edited is its editor's."""
    lines = read_rows(read_texts(folder / NAME)[1:-1], context_of(read_header(folder)))
    lines = [line for line in lines if line.file]
    captions = [str(caption_path(Path(line.file))) for line in lines if not line.is_edited(folder)]
    return [*(line.file for line in lines), *captions, NAME]
