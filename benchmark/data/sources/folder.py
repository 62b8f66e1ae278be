"""Captioned images in a local folder: files with a table, files with captions beside them, or parquet."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmark.data.decoding import decode_example, without_image
from benchmark.data.sources.base import CaptionedImages, Example, Survey
from benchmark.data.sources.image_files import (
    FoundRows,
    captions_beside,
    in_caption_order,
    missing_captions,
    nothing_found,
    rows_beside,
)
from benchmark.data.sources.image_files import ImageFile as ImageFile
from benchmark.data.sources.image_files import check_captions as check_captions
from benchmark.data.sources.image_tables import (
    ImageTable,
    metadata_tables,
    other_tables,
    rows_of_tables,
    unread_tables,
)
from benchmark.data.sources.parquet_folder import ParquetFolder
from files.listing import TEXT_SUFFIXES, LeftOut, Listing, list_folder
from files.paths import is_inside
from files.reading import shown, valid_text

OWN_TABLES = frozenset({"manifest.jsonl"})  # of a folder that this program prepared


class ImageFolder:
    """Images as files; they are read when their row is asked for."""

    label_names: tuple[str, ...] = ()

    def __init__(self, folder: Path, files: Sequence[ImageFile], survey: Survey) -> None:
        self.name = valid_text(folder.name)
        self.survey = survey
        self._files = tuple(files)
        digest = hashlib.sha256()
        sizes = _Sizes(folder)
        for file in self._files:
            digest.update(json.dumps([_name_in(folder, file.path), sizes.of(file.path), file.caption]).encode())
        self.identity = f"folder {self.name} {digest.hexdigest()[:16]}"

    def __len__(self) -> int:
        return len(self._files)

    def losses(self) -> list[LeftOut]:
        """Return the rows that have no image, as far as that is known without reading one."""
        rows = ((number, file.loss()) for number, file in enumerate(self._files))
        return [LeftOut(f"row {number}", loss) for number, loss in rows if loss]

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

    metadata.jsonl, .csv, .tsv or .json: a row for each of theirs, with the image in a column such as `file_name` (from
    the table's own folder) and its caption in one such as `text`. Else parquet shards. Else images with a text file
    beside each: NAME_caption.txt or NAME.txt for NAME.png, and 00000_caption.txt for 00000_input.png, in the order of
    the file names, whatever subfolders they are in. Else the one table of any name, in the folder itself, that has
    such columns. Hidden files and folders are passed over; what else is no row is in `survey`, with its reason. A row
    whose file is missing, no image, or outside of the folder is a row without image. captions_needed: whether an image
    without a caption is left out; else its caption is empty.

    Raises:
        ValueError: none of these is there, half of the images or more have no caption, or no row of a table can be
            used.
    """
    folder = folder.resolve()
    listing = list_folder(folder)
    tables = metadata_tables(listing, image_column, caption_column, captions_needed)
    shards = [path for path in listing.others if path.suffix.lower() == ".parquet"]
    if not tables and shards:
        otherwise = "the parquet shards are read, and this where a cell of theirs names it"
        survey = _survey(listing, FoundRows([], set(shards)), otherwise)
        return ParquetFolder(
            folder, shards, image_column, caption_column, captions_needed=captions_needed, survey=survey
        )
    if tables:
        found = rows_of_tables(listing, tables, image_column, caption_column, captions_needed)
    else:
        found = _rows_without_metadata(listing, image_column, caption_column, captions_needed)
    return ImageFolder(folder, found.rows, _survey(listing, found))


def _rows_without_metadata(
    listing: Listing, image_column: str, caption_column: str, captions_needed: bool
) -> FoundRows:
    """Return the rows of images with captions beside them, or, where not all have one, of a table of any name."""
    folder = listing.folder
    named = [(variable, column) for variable, column in
             (("IMAGE_COLUMN", image_column), ("CAPTION_COLUMN", caption_column)) if column]  # fmt: skip
    texts = captions_beside(listing)
    bare = [image for image in in_caption_order(listing.images) if not texts[image]]
    if not captions_needed and not named:
        if not listing.images:
            raise ValueError(nothing_found(listing))
        rows = [] if len(bare) == len(texts) else rows_beside(listing, texts).rows
        rows += [ImageFile(image, "", folder) for image in bare]
        order = {image: place for place, image in enumerate(in_caption_order(listing.images))}
        return FoundRows(sorted(rows, key=lambda row: order[row.path]), {*listing.images, *_first_texts(texts)})
    tables = other_tables(listing, image_column, caption_column, captions_needed) if bare or named else []
    if tables := _one_table(folder, tables):
        return rows_of_tables(listing, tables, image_column, caption_column, captions_needed)
    for variable, column in named:
        if unread := unread_tables(listing):
            raise ValueError(f"{variable}={column} alone makes no table of a file in {shown(folder)}{unread}")
        raise ValueError(f"{variable}={column}: {folder} holds no table with columns; leave it out")
    if not listing.images:
        raise ValueError(nothing_found(listing))
    if 2 * len(bare) >= len(listing.images):  # no slip any more, but another layout
        raise ValueError(missing_captions(folder, listing.images, bare, unread_tables(listing)))
    return rows_beside(listing, texts)


def _one_table(folder: Path, tables: list[ImageTable]) -> list[ImageTable]:
    """Return the tables if there is at most one. Raises ValueError for several: which to use would be a guess."""
    if len(tables) > 1:
        names = ", ".join(shown(table.path.name) for table in tables)
        raise ValueError(
            f"{shown(folder)} holds {len(tables)} tables of images ({names}): rename the one to use to metadata.csv "
            "(or .jsonl, .tsv, .json)"
        )
    return tables


def _first_texts(texts: dict[Path, list[Path]]) -> Iterator[Path]:
    return (found[0] for found in texts.values() if found)


def _survey(listing: Listing, found: FoundRows, otherwise: str = "") -> Survey:
    """Return what was found in the folder. otherwise: the reason of what neither is used nor has another reason."""
    left_out = [*listing.left_out, *found.left_out]
    named = {entry.name for entry in left_out}
    for path in (*listing.images, *listing.others):
        if path not in found.used and path.name not in OWN_TABLES and (name := listing.name(path)) not in named:
            left_out.append(LeftOut(name, otherwise or _reason(path)))
    files = len(listing.images) + len(listing.others) + len(listing.left_out)
    return Survey(files, tuple(sorted(left_out, key=lambda entry: entry.name)), tuple(found.notes))


def _reason(path: Path) -> str:
    if path.suffix.lower() in TEXT_SUFFIXES:
        return "a text that no image takes its caption from"
    return "a table that is not used: it has no columns of files and captions, or captions come from elsewhere"


def image_files(folder: Path) -> list[ImageFile]:
    """Return a folder's own images with their captions, as `survey_images`."""
    return survey_images(folder)[0]


def survey_images(folder: Path) -> tuple[list[ImageFile], Survey]:
    """Return a folder's own images with their captions, and what lies in it beside them.

    Captions are those of its metadata tables, else those beside the images; where not all have one, those of the one
    table of another name, as in `open_folder`. A row that cannot be used has an `error`; `check_captions` refuses it.

    Raises:
        ValueError: as `captioned_images`, no row of the table can be used, or there are several tables of other names.
    """
    if folder.is_dir():
        own = list_folder(folder, nested=False)
        tables = metadata_tables(own, "", "", captions_needed=True)
        if not tables and not all(captions_beside(own).values()):
            tables = _one_table(folder, other_tables(own, "", "", captions_needed=True))
        if tables:  # which may name files in subfolders
            whole = list_folder(folder)
            found = rows_of_tables(whole, tables, "", "")
            # Texts beside the images that are used say mostly what the table does, which was made of them.
            texts = captions_beside(whole)
            found.used.update(text for image in found.used & texts.keys() for text in texts[image])
            return found.rows, _survey(whole, found)
    listing, found = _captioned(folder)
    return found.rows, _survey(listing, found)


def captioned_images(folder: Path) -> list[ImageFile]:
    """Return a folder's own images with the captions beside them, in the order of their names; no subfolders.

    Raises:
        ValueError: there is no such folder, no image in it, or an image without a caption.
    """
    return _captioned(folder)[1].rows


def _captioned(folder: Path) -> tuple[Listing, FoundRows]:
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}; expected one with images and their captions")
    listing = list_folder(folder, nested=False)
    if not listing.images:
        raise ValueError(f"{folder} holds no images; expected 00000_input.png with 00000_caption.txt, and so on")
    texts = captions_beside(listing)
    if bare := [image for image in in_caption_order(listing.images) if not texts[image]]:
        raise ValueError(missing_captions(folder, listing.images, bare, unread_tables(listing, settable=False)))
    return listing, rows_beside(listing, texts)
