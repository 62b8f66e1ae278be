"""Captioned pictures in a local folder: files with a metadata table, files with captions beside them, or parquet."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmark.datasets.base import CaptionedImages, Example
from benchmark.datasets.hub import CAPTION_COLUMNS, ParquetFolder
from benchmark.datasets.pictures import decode_example

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
FILE_COLUMN = "file_name"
PICTURE_STEM_END, CAPTION_STEM_END = "_input", "_caption"


@dataclass(frozen=True)
class PictureFile:
    """One row: a picture's file, which may be missing where a metadata table names it, and its caption."""

    path: Path
    caption: str


class PictureFolder:
    """Pictures as files; they are read when their row is asked for."""

    label_names: tuple[str, ...] = ()

    def __init__(self, folder: Path, files: Sequence[PictureFile]) -> None:
        self.name = folder.name
        self._files = tuple(files)
        digest = hashlib.sha256()
        for file in self._files:
            size = file.path.stat().st_size if file.path.is_file() else None
            digest.update(json.dumps([str(file.path.relative_to(folder)), size, file.caption]).encode())
        self.identity = f"folder {folder.name} {digest.hexdigest()[:16]}"

    def __len__(self) -> int:
        return len(self._files)

    def examples(self, start: int = 0) -> Iterator[Example]:
        """Yield the rows from `start` on."""
        return (row() for row in self.undecoded(start))

    def undecoded(self, start: int = 0) -> Iterator[Callable[[], Example]]:
        """Yield the rows from `start` on as functions that read and decode them."""
        return (partial(_read_example, file) for file in self._files[start:])


def _read_example(file: PictureFile) -> Example:
    try:
        return decode_example(file.caption, file.path.read_bytes())
    except FileNotFoundError:
        return Example(file.caption, None, error=f"there is no file {file.path}")


def open_folder(folder: Path, image_column: str = "", caption_column: str = "") -> CaptionedImages:
    """Return the pictures of a folder by what lies in it, subfolders included.

    metadata.jsonl or metadata.csv: a row for each of theirs, with the picture in `file_name` (from the table's own
    folder) and its caption in `text`, `caption` or `prompt`. Else parquet shards. Else pictures with a text file
    beside each: NAME_caption.txt or NAME.txt for NAME.png, and 00000_caption.txt for 00000_input.png, in the order of
    the file names, whatever subfolders they are in. Hidden files and folders are left alone.

    Raises:
        ValueError: none of these is there, or a picture has no caption.
    """
    folder = folder.resolve()
    found = [
        path for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]  # fmt: skip
    tables = [path for path in found if path.name in ("metadata.jsonl", "metadata.csv")]
    if tables:
        return PictureFolder(folder, [row for table in tables for row in _rows(table, image_column, caption_column)])
    shards = [path for path in found if path.suffix == ".parquet"]
    if shards:
        return ParquetFolder(folder, shards, image_column, caption_column)
    for variable, column in (("IMAGE_COLUMN", image_column), ("CAPTION_COLUMN", caption_column)):
        if column:
            raise ValueError(f"{variable}={column}: {folder} holds no table with columns; leave it out")
    pictures = [path for path in found if path.suffix.lower() in PICTURE_SUFFIXES]
    if not pictures:
        raise ValueError(f"{folder} holds neither pictures nor parquet shards; DATASET needs a folder that does")
    return PictureFolder(folder, _captioned_beside(folder, pictures, frozenset(found)))


def picture_files(folder: Path) -> list[PictureFile]:
    """Return a folder's own pictures with their captions: as its metadata.jsonl or .csv says, else those beside them.

    Raises:
        ValueError: as `captioned_pictures`, or a row of the table without a caption.
    """
    for name in ("metadata.jsonl", "metadata.csv"):
        if (folder / name).is_file():
            return _rows(folder / name, "", "")
    return captioned_pictures(folder)


def check_captions(folder: Path, files: Sequence[PictureFile]) -> None:
    """Raise ValueError where a caption is empty: nothing could be learnt from it."""
    empty = [file.path.name for file in files if not file.caption]
    if empty:
        raise ValueError(f"{len(empty)} of {len(files)} captions in {folder} are empty, first that of {empty[0]}")


def captioned_pictures(folder: Path) -> list[PictureFile]:
    """Return a folder's own pictures with the captions beside them, in the order of their names; no subfolders.

    Raises:
        ValueError: there is no such folder, no picture in it, or a picture without a caption.
    """
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}; expected one with pictures and their captions")
    found = frozenset(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    pictures = [path for path in found if path.suffix.lower() in PICTURE_SUFFIXES]
    if not pictures:
        raise ValueError(f"{folder} holds no pictures; expected 00000_input.png with 00000_caption.txt, and so on")
    return _captioned_beside(folder, pictures, found)


def _rows(table: Path, file_column: str, caption_column: str) -> list[PictureFile]:
    file_column = file_column or FILE_COLUMN
    records = _read_jsonl(table) if table.suffix == ".jsonl" else _read_csv(table)
    columns = list(dict.fromkeys(column for record in records for column in record))
    caption_column = caption_column or next((name for name in CAPTION_COLUMNS if name in columns), "text")
    rows = []
    for number, record in enumerate(records, start=1):
        for column, variable in ((file_column, "IMAGE_COLUMN"), (caption_column, "CAPTION_COLUMN")):
            if not isinstance(record.get(column), str):
                raise ValueError(
                    f"{table}, row {number}: no text in column {column!r}; the columns are {', '.join(columns)}: "
                    f"mend the row, or name the column with {variable}"
                )
        rows.append(PictureFile(table.parent / str(record[file_column]), str(record[caption_column]).strip()))
    return rows


def _read_jsonl(table: Path) -> list[Mapping[str, object]]:
    records: list[Mapping[str, object]] = []
    for number, line in enumerate(table.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{table}, line {number} is not JSON ({error.msg}); mend or remove it") from error
        if not isinstance(record, dict):
            raise ValueError(f"{table}, line {number} is no JSON object; mend or remove it")
        records.append(record)
    return records


def _read_csv(table: Path) -> list[Mapping[str, object]]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        return [dict(record) for record in csv.DictReader(file)]


def _captioned_beside(folder: Path, pictures: Sequence[Path], found: frozenset[Path]) -> list[PictureFile]:
    rows, bare = [], []
    for picture in sorted(pictures, key=lambda path: (path.name, path)):
        stem = picture.stem
        stems = [stem + CAPTION_STEM_END, stem]
        if stem.endswith(PICTURE_STEM_END):
            stems.append(stem.removesuffix(PICTURE_STEM_END) + CAPTION_STEM_END)
        texts = [text for name in stems if (text := picture.with_name(f"{name}.txt")) in found]
        if texts:
            rows.append(PictureFile(picture, texts[0].read_text(encoding="utf-8").strip()))
        else:
            bare.append(picture)
    if bare:
        stem = bare[0].stem
        usual = stem.removesuffix(PICTURE_STEM_END) + CAPTION_STEM_END
        raise ValueError(
            f"{len(bare)} of {len(pictures)} pictures in {folder} have no caption, first {bare[0].name}: give each a "
            f"{stem}.txt or {usual}.txt, or a metadata.jsonl with file_name and text"
        )
    return rows
