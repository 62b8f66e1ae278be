"""What a column's folder holds at the names that a column writes: whose it is, and what FRESH=1 may delete."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.run.journal_lines import LOOKS_WRITER, MAIN_WRITER, Batch, context_of, read_line, read_records
from files import PROGRAM, deletion
from files.deletion import delete_named
from files.images import is_our_png
from files.reading import is_there
from files.records import Damaged, read_record, unseal, version_of
from files.writing import remove_leftovers

SCHEMA_VERSION = 4
MARK_NAME, IMAGES_NAME = "fingerprint.json", "output"
_LINES_FILE = re.compile(r"timings(-[A-Za-z0-9_.]+)?\.jsonl")


class FingerprintError(ValueError):
    """The folder holds images made with other settings."""


class DamagedFolder(ValueError):
    """It cannot be told any more with what settings the folder's images were made."""


def lines_name(writer: str = MAIN_WRITER) -> str:
    """Return the name of a writer's journal: each writer appends to a file of its own."""
    return "timings.jsonl" if writer == MAIN_WRITER else f"timings-{writer}.jsonl"


# How a line begins, and how it ends; damage to a byte leaves one of both.
_OUR_LINE = re.compile(rb'\{"kind": "[a-z_]+", .*|.*, "checksum": "[0-9a-f]{16}"\}', re.DOTALL)
_FIXED = (lines_name(), lines_name(LOOKS_WRITER))  # of one line: damage to it leaves no other to know the file by


def journals_in(folder: Path) -> list[Path]:
    """Return the journals of all writers in a folder, sorted by name."""
    return [folder / name for name in names_taken(folder) if is_journal(name)]


def is_journal(name: str) -> bool:
    return _LINES_FILE.fullmatch(name) is not None


def image_name(index: int) -> str:
    return f"{index:05d}.png"


def foreign_files(folder: Path, count: int | None = None) -> list[str]:
    """Return which of the names that a column of requests 0..count-1 (None: of any) writes are taken by others' files.

    Ours are, in a folder with a mark, those that the journal names, and PNGs that name this program as their maker. So
    is a journal of one damaged line, which a run empties; FRESH=1 deletes it once it is empty.
    """
    taken = _written_taken(folder, count)
    mark = folder / MARK_NAME
    has_mark = MARK_NAME in taken and (
        any(map(is_journal, taken)) or (mark.is_file() and PROGRAM.encode() in mark.read_bytes())
    )
    if not has_mark:
        return taken
    ours = {MARK_NAME, *_FIXED}
    try:
        ours |= {*_named_images(folder), *(path.name for path in _own_journals(folder))}
        ours |= {name for name in taken if is_journal(name) and _is_one_line_of_ours(folder / name)}
    except Damaged:
        ours |= {name for name in taken if is_journal(name)}
    return [name for name in taken if name not in ours and not is_our_png(folder / name)]


def check_clearable(folder: Path, count: int | None = None) -> None:
    """Raise ValueError where FRESH=1 may delete nothing in `folder`: see `files.deletion.check_clearable`.

    count: how many images the next run writes; files at further names do not matter. None: files at any name do.
    """
    deletion.check_clearable(folder, MARK_NAME, _read_mark, _written_taken(folder, count), lambda: _named(folder))


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
    if version not in (None, SCHEMA_VERSION) and not _is_damaged_version(mark.read_bytes()):
        raise FingerprintError(
            f"{folder} holds images of another version of this program (schema_version={version}, now "
            f"{SCHEMA_VERSION}): choose another OUTPUT_DIR (--output-dir), or move {folder} away"
        )


def _is_damaged_version(text: bytes) -> bool:
    """Return whether a mark of this version tells another one by a damaged digit alone: all else fits its checksum."""
    try:
        unseal(json.dumps({**json.loads(text), "schema_version": SCHEMA_VERSION}))
    except Damaged:
        return False
    return True


def _written_taken(folder: Path, count: int | None) -> list[str]:
    """Return which names are taken of those that a column of `count` images writes, or of images of any number."""
    taken = names_taken(folder)
    if count is None:
        return taken
    numbers = {name: name.removeprefix(f"{IMAGES_NAME}/").removesuffix(".png") for name in taken}
    return [name for name in taken if not numbers[name].isdecimal() or int(numbers[name]) < count]


def _named(folder: Path) -> list[str]:
    """Return all files that a folder's journal names, its journals and, last, its mark. Raises as `read_record`."""
    return [*_named_images(folder), *(path.name for path in _own_journals(folder)), MARK_NAME]


def _read_mark(folder: Path) -> dict[str, Any]:
    """Return what a folder's mark says. Raises as `read_record`."""
    return read_record(folder / MARK_NAME)


def _own_journals(folder: Path) -> list[Path]:
    """Return the journals in a folder that are ours.

    Those are the main one, that of looks, and others that are empty or hold a line of the mark's context.
    """
    context = context_of(_read_mark(folder))

    def is_ours(path: Path) -> bool:
        records = read_records(path, context)
        return path.name in _FIXED or not records or any(record is not None for record, _ in records)

    return [path for path in journals_in(folder) if is_ours(path)]


def _is_one_line_of_ours(path: Path) -> bool:
    """Return whether a journal has a single line, in the form of ours, whether or not its checksum fits."""
    records = read_records(path, context="")
    return len(records) == 1 and _OUR_LINE.fullmatch(records[0][1].rstrip(b"\n")) is not None


def _named_images(folder: Path) -> Iterator[str]:
    """Yield the images that a folder's journal names, relative to the folder. Raises as `read_record`."""
    context = context_of(_read_mark(folder))
    for path in journals_in(folder):
        for record, _ in read_records(path, context):
            if record is not None and isinstance(line := read_line(record), Batch):
                yield from (f"{IMAGES_NAME}/{image_name(index)}" for index in line.indices)


def names_taken(folder: Path) -> list[str]:
    """Return which of the names that a journal writes are taken in `folder`."""
    images = folder / IMAGES_NAME
    names = [MARK_NAME] if is_there(folder / MARK_NAME) else []
    if folder.is_dir():
        names += sorted(entry.name for entry in os.scandir(folder) if is_journal(entry.name))
    if images.is_dir():
        taken = sorted(entry.name for entry in os.scandir(images))
        names += [f"{IMAGES_NAME}/{name}" for name in taken if name.endswith(".png") and name[:-4].isdigit()]
    elif is_there(images):
        names.append(IMAGES_NAME)
    return names
