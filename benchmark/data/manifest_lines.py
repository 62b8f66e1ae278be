"""The lines of a reference folder's manifest.jsonl: what each says, and how they are read back and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from files.listing import LeftOut
from files.reading import file_digest, is_regular, read_regular
from files.records import Damaged, unseal

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
MOST_BYTES = 4_000_000_000


@dataclass(frozen=True)
class Row:
    """One row of the data set; `path` is None where its image does not decode, and its split is then train.

    digest: content digest of the source image, which `path` may hold a part of; empty without one.
    metadata: what the data set says of the row's prompt beside the caption.
    """

    index: int
    caption: str
    label: int | None
    path: Path | None
    split: Split
    digest: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


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
        """Return whether the row's image is there as it was written, with a caption."""
        path = folder / self.file
        try:
            return not self.file or (file_digest(path) == self.file_sha256 and is_regular(caption_path(path)))
        except OSError:
            return False

    def is_edited(self, folder: Path) -> bool:
        """Return whether the caption's file says something else than the data set: somebody edited it to train on."""
        path = caption_path(folder / self.file)
        try:
            return bool(self.file) and read_regular(path) != f"{self.caption}\n".encode()
        except OSError:
            return False


def image_name(index: int) -> str:
    return f"{index:05d}_input.png"


def caption_path(image: Path) -> Path:
    """Return where the caption of a reference image is."""
    return image.with_name(image.name.removesuffix("_input.png") + "_caption.txt")


def context_of(header: Mapping[str, Any]) -> str:
    """Return what the lines' checksums are bound to: lines of two data sets never pass for one another's."""
    return hashlib.sha256(json.dumps(dict(header), sort_keys=True).encode()).hexdigest()


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


def read_left_out(record: Mapping[str, Any]) -> LeftOut | None:
    """Return the file that a record says is no row, or None where it tells of something else."""
    is_one = set(record) == {"left_out", "reason"} and all(isinstance(text, str) for text in record.values())
    return LeftOut(record["left_out"], record["reason"]) if is_one else None


def read_texts(path: Path) -> list[bytes]:
    """Return the file's lines, and behind them what follows the last line's end; empty where there is no file."""
    return read_regular(path, most_bytes=MOST_BYTES).split(b"\n") if path.is_file() else []


def read_records(texts: list[bytes], context: str) -> Iterator[dict[str, Any] | None]:
    """Yield the lines' records, None for a damaged one."""
    for text in texts:
        try:
            yield unseal(text, context)
        except Damaged:
            yield None


def read_rows(texts: list[bytes], context: str) -> list[Line]:
    """Return the rows that whole lines tell of."""
    records = read_records(texts, context)
    return [line for record in records if record is not None and (line := read_line(record)) is not None]
