"""Captioned images in a local folder: files with a metadata table, files with captions beside them, or parquet."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmark.data.decoding import decode_example, outside, read_inside, without_image
from benchmark.data.sources.base import CaptionedImages, Example
from benchmark.data.sources.columns import CAPTION_COLUMNS, list_columns
from benchmark.data.sources.parquet_folder import ParquetFolder
from benchmark.data.sources.records import Record, read_csv, read_jsonl
from files.images import SUFFIXES
from files.paths import is_inside
from files.reading import is_regular, shown, valid_text

IMAGE_SUFFIXES = SUFFIXES
TABLE_NAMES = ("metadata.jsonl", "metadata.csv")
FILE_COLUMN = "file_name"
IMAGE_STEM_END, CAPTION_STEM_END = "_input", "_caption"


@dataclass(frozen=True)
class ImageFile:
    """One row: an image's file, which may be missing where a metadata table names it, and its caption.

    root: the data set's folder, in which the file must lie. error: why the row cannot be used; empty where it can.
    """

    path: Path
    caption: str
    root: Path
    error: str = ""

    def read(self) -> bytes:
        """Return the file's content.

        Raises:
            ValueError: the row cannot be used, or its file cannot be read or lies outside of `root`; one line.
            OSError: this process has no memory or no file descriptors left.
        """
        if self.error:
            raise ValueError(self.error)
        return read_inside(self.path, self.root)

    def fault(self) -> str:
        """Return why the row cannot be used, known without reading its file: its error, or a path that leads outside.

        A file that is missing or damaged is no fault yet. Empty: none.
        """
        try:
            return self.error or ("" if is_inside(self.path, self.root) else outside(self.path, self.root))
        except ValueError as error:
            return str(error)


class ImageFolder:
    """Images as files; they are read when their row is asked for."""

    label_names: tuple[str, ...] = ()

    def __init__(self, folder: Path, files: Sequence[ImageFile]) -> None:
        self.name = valid_text(folder.name)
        self._files = tuple(files)
        digest = hashlib.sha256()
        sizes = _Sizes(folder)
        for file in self._files:
            digest.update(json.dumps([_name_in(folder, file.path), sizes.of(file.path), file.caption]).encode())
        self.identity = f"folder {self.name} {digest.hexdigest()[:16]}"

    def __len__(self) -> int:
        return len(self._files)

    def examples(self, start: int = 0) -> Iterator[Example]:
        """Yield the rows from `start` on."""
        return (row() for row in self.undecoded(start))

    def undecoded(self, start: int = 0) -> Iterator[Callable[[], Example]]:
        """Yield the rows from `start` on as functions that read and decode them."""
        return (partial(_read_example, file) for file in self._files[start:])


def _read_example(file: ImageFile) -> Example:
    try:
        content = file.read()
    except ValueError as error:
        return without_image(file.caption, str(error))
    return decode_example(file.caption, content)


def _name_in(folder: Path, path: Path) -> str:
    try:
        return str(path.relative_to(folder))
    except ValueError:  # an absolute path in a table
        return str(path)


class _Sizes:
    """The sizes of files in a folder; of what lies outside not even the size is asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parents: dict[Path, bool] = {}

    def of(self, path: Path) -> int | None:
        """Return the size of a regular file inside the folder, None of anything else."""
        try:
            if path.name in ("", ".."):
                return None
            if path.parent not in self._parents:
                self._parents[path.parent] = is_inside(path.parent, self._folder)
            if not self._parents[path.parent]:
                return None
            state = path.lstat()
            if stat.S_ISLNK(state.st_mode):
                state = path.stat() if is_inside(path, self._folder) else state
        except (OSError, ValueError):
            return None
        return state.st_size if stat.S_ISREG(state.st_mode) else None


def open_folder(
    folder: Path, image_column: str = "", caption_column: str = "", *, captions_needed: bool = True
) -> CaptionedImages:
    """Return the images of a folder by what lies in it, subfolders included.

    metadata.jsonl or metadata.csv: a row for each of theirs, with the image in `file_name` (from the table's own
    folder) and its caption in `text`, `caption` or `prompt`. Else parquet shards. Else images with a text file
    beside each: NAME_caption.txt or NAME.txt for NAME.png, and 00000_caption.txt for 00000_input.png, in the order of
    the file names, whatever subfolders they are in. Hidden files and folders are left alone. A row whose file is
    missing, no image, or outside of the folder is a row without image. captions_needed: whether an image without a
    caption is an error; else its caption is empty.

    Raises:
        ValueError: none of these is there, an image has no caption, or no row of a table can be used.
    """
    folder = folder.resolve()
    found = _files_in(folder)
    tables = [path for path in found if path.name in TABLE_NAMES]
    if tables:
        rows = [
            row for table in tables for row in _rows(table, folder, image_column, caption_column, captions_needed)
        ]  # fmt: skip
        return ImageFolder(folder, rows)
    shards = [path for path in found if path.suffix == ".parquet"]
    if shards:
        return ParquetFolder(folder, shards, image_column, caption_column, captions_needed=captions_needed)
    for variable, column in (("IMAGE_COLUMN", image_column), ("CAPTION_COLUMN", caption_column)):
        if column:
            raise ValueError(f"{variable}={column}: {folder} holds no table with columns; leave it out")
    images = [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise ValueError(f"{shown(folder)} holds neither images nor parquet shards; give a folder that does")
    return ImageFolder(folder, _captioned_beside(folder, images, frozenset(found), captions_needed))


def _files_in(folder: Path) -> list[Path]:
    """Return the files of a folder and its subfolders, sorted; no hidden ones, and no symlink to a folder is entered.

    A subfolder that cannot be listed counts as empty.
    """
    found, pending = [], [folder]
    while pending:
        place = pending.pop()
        try:
            with os.scandir(place) as entries:
                listed = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError:
            if place == folder:
                raise
            continue
        for entry in listed:
            path = place / entry.name
            if entry.is_dir(follow_symlinks=False):
                pending.append(path)
            elif is_regular(path):
                found.append(path)
    return sorted(found)


def image_files(folder: Path) -> list[ImageFile]:
    """Return a folder's own images with their captions: as its metadata.jsonl or .csv says, else those beside them.

    A row that cannot be used has an `error`; `check_captions` refuses it.

    Raises:
        ValueError: as `captioned_images`, or no row of the table can be used.
    """
    for name in TABLE_NAMES:
        if is_regular(folder / name):
            return _rows(folder / name, folder, "", "")
    return captioned_images(folder)


def check_captions(folder: Path, files: Sequence[ImageFile]) -> None:
    """Raise ValueError where a row cannot be used or its caption is empty: nothing could be learnt from it."""
    unusable = [fault for file in files if (fault := file.fault())]
    if unusable:
        raise ValueError(f"{len(unusable)} of {len(files)} rows of {shown(folder)} cannot be used: {unusable[0]}")
    empty = [shown(file.path.name) for file in files if not file.caption]
    if empty:
        raise ValueError(f"{len(empty)} of {len(files)} captions in {folder} are empty, first that of {empty[0]}")


def captioned_images(folder: Path) -> list[ImageFile]:
    """Return a folder's own images with the captions beside them, in the order of their names; no subfolders.

    Raises:
        ValueError: there is no such folder, no image in it, or an image without a caption.
    """
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}; expected one with images and their captions")
    found = frozenset(path for path in folder.iterdir() if not path.name.startswith(".") and is_regular(path))
    images = [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise ValueError(f"{folder} holds no images; expected 00000_input.png with 00000_caption.txt, and so on")
    return _captioned_beside(folder, images, found)


def _rows(
    table: Path, root: Path, file_column: str, caption_column: str, captions_needed: bool = True
) -> list[ImageFile]:
    """Return the table's rows. One that cannot be used has an error and no file; where all are so, it is raised."""
    file_column = file_column or FILE_COLUMN
    records = list(_read_table(table, root))
    columns = list(dict.fromkeys(column for record in records for column in record.values))
    caption_column = caption_column or next((name for name in CAPTION_COLUMNS if name in columns), "text")
    wanted = [(file_column, "IMAGE_COLUMN")]
    if captions_needed:
        wanted.append((caption_column, "CAPTION_COLUMN"))
    rows = []
    for number, record in enumerate(records, start=1):
        caption = record.values.get(caption_column)
        caption = valid_text(caption).strip() if isinstance(caption, str) else ""
        error = record.error or next(
            (
                f"{shown(table)}, row {number}: no text in column {column!r}; the columns are {list_columns(columns)}: "
                f"fix the row, or name the column with {variable}"
                for column, variable in wanted
                if not isinstance(record.values.get(column), str)
            ),
            "",
        )
        if not error and not (name := str(record.values[file_column])):
            error = f"{shown(table)}, row {number}: the file's name is empty"
        # A row without a usable name gets that of its line, which no file has.
        path = table.parent / (f"row {number} of {table.name}" if error else name)
        rows.append(ImageFile(path, caption, root, error))
    if rows and all(row.error for row in rows):
        raise ValueError(rows[0].error)
    return rows


def _read_table(table: Path, root: Path) -> Iterator[Record]:
    try:
        content = read_inside(table, root)
    except ValueError as error:
        raise ValueError(f"{error}: fix or remove the table") from error
    return read_jsonl(table, content) if table.suffix == ".jsonl" else read_csv(table, content)


def _captioned_beside(
    folder: Path, images: Sequence[Path], found: frozenset[Path], captions_needed: bool = True
) -> list[ImageFile]:
    rows, bare = [], []
    for image in sorted(images, key=lambda path: (path.name, path)):
        stem = image.stem
        stems = [stem + CAPTION_STEM_END, stem]
        if stem.endswith(IMAGE_STEM_END):
            stems.append(stem.removesuffix(IMAGE_STEM_END) + CAPTION_STEM_END)
        texts = [text for name in stems if (text := image.with_name(f"{name}.txt")) in found]
        if texts:
            rows.append(_beside(folder, image, texts[0]))
        elif captions_needed:
            bare.append(image)
        else:
            rows.append(ImageFile(image, "", folder))
    if bare:
        stem = bare[0].stem
        usual = stem.removesuffix(IMAGE_STEM_END) + CAPTION_STEM_END
        raise ValueError(
            f"{len(bare)} of {len(images)} images in {shown(folder)} have no caption, first "
            f"{shown(bare[0].name)}: give each a {shown(stem)}.txt or {shown(usual)}.txt, or a metadata.jsonl with "
            "file_name and text"
        )
    if all(row.error for row in rows):
        raise ValueError(rows[0].error)
    return rows


def _beside(folder: Path, image: Path, text: Path) -> ImageFile:
    """Return an image with the caption in `text`; where that cannot be read, the row has the reason as its error."""
    try:
        content = read_inside(text, folder)
        caption = content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n").strip()
    except UnicodeDecodeError as error:
        reason = f"{shown(text)} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        return ImageFile(image, "", folder, reason)
    except ValueError as error:
        return ImageFile(image, "", folder, str(error))
    return ImageFile(image, caption, folder)
