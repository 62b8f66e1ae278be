"""Tables that name images and their captions: which of a folder's files are such, and what their rows say."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from benchmark.data.decoding import read_inside
from benchmark.data.sources.columns import (
    CAPTION_COLUMNS,
    FILE_COLUMNS,
    known_columns,
    list_columns,
    near_column,
    simple_name,
)
from benchmark.data.sources.image_files import FoundRows, ImageFile
from benchmark.data.sources.records import Record, find_separator, read_table, unquoted
from files.image_kinds import SPREADSHEET
from files.listing import LeftOut, Listing
from files.reading import decode_head, read_head, shown, valid_text

TABLE_NAMES = ("metadata.jsonl", "metadata.csv")  # as `datasets` has them: a table of images, or an error
LIKELY_NAMES = ("metadata.tsv", "metadata.json")  # which other programs write too, with something else in them
SUFFIXES = frozenset({".jsonl", ".csv", ".tsv", ".json"})
FILE_COLUMN = "file_name"
# What programs write into folders of images, and what is never a table of images for all its columns.
OWN_NAMES = frozenset({"manifest.jsonl", "results.csv", "results.json", "dataset_info.json", "state.json"})
_HEADER_BYTES = 4096
# How PixArt-Sigma keeps its training data: the images of InternData/data_info.json lie in InternImgs.
INTERN_TABLE, INTERN_IMAGES = "InternData/data_info.json", "InternImgs"


@dataclass(frozen=True)
class ImageTable:
    """A table that was read: its rows as they stand, and its columns in their order."""

    path: Path
    records: Sequence[Record]
    columns: Sequence[str]

    def has_images(self, image_column: str, caption_column: str, captions_needed: bool) -> bool:
        """Return whether a row has text in a column of files and in one of captions, by name or as they are called."""
        files = [image_column] if image_column else known_columns(FILE_COLUMNS, self.columns)
        texts = [caption_column] if caption_column else known_columns(CAPTION_COLUMNS, self.columns)
        return any(
            any(isinstance(record.values.get(name), str) for name in files)
            and (not captions_needed or any(isinstance(record.values.get(name), str) for name in texts))
            for record in self.records
        )


def metadata_tables(
    listing: Listing, image_column: str, caption_column: str, captions_needed: bool
) -> list[ImageTable]:
    """Return the tables of the usual names, in any case of letters, wherever in the folder they lie.

    Raises:
        ValueError: one that is called as `datasets` has it cannot be read.
    """
    tables = []
    for path in listing.others:
        if path.name.lower() in TABLE_NAMES:
            tables.append(open_table(path, listing.folder))
        elif path.name.lower() in LIKELY_NAMES or path.as_posix().endswith(f"/{INTERN_TABLE}"):
            tables += _if_of_images(path, listing, image_column, caption_column, captions_needed)
    return tables


def other_tables(listing: Listing, image_column: str, caption_column: str, captions_needed: bool) -> list[ImageTable]:
    """Return the tables of any other name in the folder itself that have a column of files and one of captions."""
    return [
        table
        for path in listing.others
        if path.parent == listing.folder and _may_be_table(path)
        for table in _if_of_images(path, listing, image_column, caption_column, captions_needed)
    ]


def _may_be_table(path: Path) -> bool:
    """Return whether a file may be a table of images: by its suffix, or a text whose first line names such columns.

    Spreadsheets save what they call Unicode text with the suffix of a text.
    """
    if path.suffix.lower() != ".txt":
        return path.suffix.lower() in SUFFIXES and path.name.lower() not in OWN_NAMES
    try:
        head = b"" if path.is_symlink() else read_head(path, _HEADER_BYTES)
    except OSError:
        return False
    first = re.split(r"[\r\n]", decode_head(head), maxsplit=1)[0]
    cells = [cell.strip('" ') for cell in first.split(find_separator(first))]
    return bool(known_columns(FILE_COLUMNS, cells) and known_columns(CAPTION_COLUMNS, cells))


def _if_of_images(
    path: Path, listing: Listing, image_column: str, caption_column: str, captions_needed: bool
) -> list[ImageTable]:
    """Return the table where it is one of images; one that cannot be read is none."""
    try:
        table = open_table(path, listing.folder)
    except ValueError:
        return []
    return [table] if table.has_images(image_column, caption_column, captions_needed) else []


def unread_tables(listing: Listing, *, settable: bool = True) -> str:
    """Return what in the folder may have been meant as its table, and what to do, as a sentence's end; or nothing.

    settable: whether the user can name columns.
    """
    return near_names(listing) or _unknown_columns(listing, settable) or _spreadsheet(listing)


def _spreadsheet(listing: Listing) -> str:
    name = next((file.name for file in listing.left_out if file.reason == SPREADSHEET), "")
    return f"; {shown(name)} is {SPREADSHEET}" if name else ""


def _unknown_columns(listing: Listing, settable: bool) -> str:
    """Return what is said of the table whose columns are not known by their names; of several, the likeliest."""
    names = _Names(listing)
    told: dict[bool, str] = {}
    for path in listing.others:
        if path.parent != listing.folder or path.suffix.lower() not in SUFFIXES or path.name.lower() in OWN_NAMES:
            continue
        try:
            table = open_table(path, listing.folder)
        except ValueError:
            continue
        columns = list(table.columns)
        if any(names.holds(path, column) for column in columns):
            told.setdefault(True, f"; {shown(path.name)} has no header: put file_name,text above its first line")
            continue
        file = next(iter(known_columns(FILE_COLUMNS, columns)), "") or _column_of_images(table, names)
        file = file or near_column(columns, FILE_COLUMNS)
        others = [column for column in columns if column != file]
        text = next(iter(known_columns(CAPTION_COLUMNS, others)), "") or near_column(others, CAPTION_COLUMNS)
        text = text or (others[0] if file and len(others) == 1 else "")
        wanted = [
            (variable, column, plain)
            for variable, column, plain, known in
            (("IMAGE_COLUMN", file, "file_name", FILE_COLUMNS), ("CAPTION_COLUMN", text, "text", CAPTION_COLUMNS))
            if not column or simple_name(column) not in known
        ]  # fmt: skip
        if not wanted or len(columns) < 2:
            continue
        named = " ".join(f"{variable}={shown(column) or '...'}" for variable, column, _ in wanted)
        renamed = " and ".join(f"{shown(column) or 'a column'} to {plain}" for _, column, plain in wanted)
        remedy = f"name them as {named}" if settable else f"rename {renamed}"
        told.setdefault(
            bool(file), f"; the columns of {shown(path.name)} are not known ({list_columns(columns)}): {remedy}"
        )
    return told.get(True) or told.get(False, "")


def _column_of_images(table: ImageTable, names: _Names) -> str:
    """Return the first column in which most rows name an image; empty: there is none."""
    for column in table.columns:
        found = sum(names.holds(table.path, str(record.values.get(column) or "")) for record in table.records)
        if 2 * found > len(table.records):
            return column
    return ""


def near_names(listing: Listing) -> str:
    """Return the names in the folder that are nearly those of a table, as a sentence's end; or nothing."""
    names = [path.name for path in listing.others] + [Path(file.name).name for file in listing.left_out]
    near = [name for name in names if get_close_matches(name.lower(), TABLE_NAMES, n=1, cutoff=0.8)]
    near = [name for name in near if name.lower() not in (*TABLE_NAMES, *LIKELY_NAMES)]
    return f"; rename {shown(near[0])}, if it is meant to be one" if near else ""


def open_table(path: Path, root: Path) -> ImageTable:
    """Return a table's rows.

    Raises:
        ValueError: it leads outside of the data set, or cannot be read; one line.
    """
    try:
        content = read_inside(path, root)
    except ValueError as error:
        raise ValueError(f"{error}: fix or remove the table") from error
    records = [record for record in read_table(path, content) if record.error or not _is_blank(record)]
    return ImageTable(path, records, list(dict.fromkeys(column for record in records for column in record.values)))


def _is_blank(record: Record) -> bool:
    """Return whether a row holds nothing, as those behind a spreadsheet's last one."""
    return bool(record.values) and all(value is None or value == "" for value in record.values.values())


def rows_of_tables(
    listing: Listing, tables: Sequence[ImageTable], image_column: str, caption_column: str,
    captions_needed: bool = True,
) -> FoundRows:  # fmt: skip
    """Return a row for each of the tables' rows, in their order. One that cannot be used has an error and no file.

    A row that names the same file with the same caption as one before it is left out, and so is an image that no table
    names. image_column, caption_column: where they are empty, the columns are found by their names.

    Raises:
        ValueError: no row of a table can be used.
    """
    names = _Names(listing)
    found = FoundRows([], {table.path for table in tables})
    seen: dict[Path, set[str]] = {}
    again = 0
    for table in tables:
        rows, notes, named = _rows(table, listing, names, image_column, caption_column, captions_needed)
        for path in named:
            seen.setdefault(path, set())
        found.notes.extend(notes)
        if rows and all(row.error for row in rows):
            raise ValueError(rows[0].error)
        for number, row in enumerate(rows, start=1):
            place = Path(os.path.normpath(row.path))
            captions = seen.setdefault(place, set())
            if row.caption in captions and not row.error:
                line = f"{listing.name(table.path)}, row {number}"
                found.left_out.append(LeftOut(line, "a row that names the same image with the same caption again"))
                continue
            again += bool(row.caption and captions - {""})  # rows without a caption are counted elsewhere
            captions.add(row.caption)
            found.rows.append(row)
    if again:
        told = "1 row names" if again == 1 else f"{again} rows name"
        what = "it is used too" if again == 1 else "they are used too"
        found.notes.append(f"{told} an image that another row names with another caption; {what}")
    found.used.update(path for path in listing.images if path in seen)
    who = f"{listing.name(tables[0].path)} does not name it" if len(tables) == 1 else "no table names it"
    found.left_out.extend(LeftOut(listing.name(path), who) for path in listing.images if path not in seen)
    return found


def _rows(
    table: ImageTable, listing: Listing, names: _Names, image_column: str, caption_column: str, captions_needed: bool
) -> tuple[list[ImageFile], list[str], set[Path]]:
    """Return a table's rows, what is told of them, and the images that rows name which cannot be used."""
    columns = table.columns
    values = [record.values for record in table.records]
    files = [image_column] if image_column else _with_text(known_columns(FILE_COLUMNS, columns), values)
    texts = [caption_column] if caption_column else known_columns(CAPTION_COLUMNS, columns)
    file_column = files[0] if files else FILE_COLUMN
    wanted: list[tuple[str, str, Sequence[str]]] = [(file_column, "IMAGE_COLUMN", FILE_COLUMNS)]
    if captions_needed:
        wanted.append((texts[0] if texts else "text", "CAPTION_COLUMN", CAPTION_COLUMNS))
    is_tsv = table.path.suffix.lower() == ".tsv"
    rows, filled, ragged = [], 0, 0
    lost: set[Path] = set()
    for number, record in enumerate(table.records, start=1):
        captions = [text for name in texts if isinstance(text := record.values.get(name), str)]
        caption = next((text for text in captions if text.strip()), "")
        filled += bool(caption.strip()) and caption != record.values.get(texts[0])
        ragged += bool(record.ragged)
        caption = valid_text(unquoted(caption) if is_tsv else caption).strip()
        error = record.error or next(
            (
                f"{shown(table.path)}, row {number}: no text in column {column!r}; the columns are "
                f"{list_columns(columns)}: fix the row, or name the column with "
                f"{variable}{_near(column, columns, known)}"
                for column, variable, known in wanted
                if not isinstance(record.values.get(column), str) and not (variable == "CAPTION_COLUMN" and captions)
            ),
            "",
        )
        if not error and not record.values[file_column]:
            error = f"{shown(table.path)}, row {number}: the file's name is empty"
        uncaptioned = not record.error and captions_needed and all(record.values.get(name) is None for name in texts)
        path = names.find(table.path, str(record.values.get(file_column) or ""))
        if error:  # such a row gets the name of its line, which no file has
            lost.add(path)
            path = table.path.parent / f"row {number} of {table.path.name}"
        rows.append(ImageFile(path, caption, listing.folder, error, uncaptioned))
    notes = []
    name = listing.name(table.path)
    if filled:
        others = ", ".join(map(shown, texts[1:]))
        notes.append(f"{name}: rows whose caption is that of {others}, since {shown(texts[0])} is empty: {filled}")
    if ragged:
        told = "more or fewer cells than its header; a caption with the separator in it needs quotes"
        notes.append(f"{name}: {ragged} of {len(rows)} rows have {told}")
    return rows, notes, lost


def _with_text(names: Iterable[str], rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Return those of the columns that hold text in any row, or all of them where none does."""
    names = list(names)
    return [name for name in names if any(isinstance(row.get(name), str) for row in rows)] or names


def _near(column: str, columns: Sequence[str], known: Sequence[str]) -> str:
    near = "" if column in columns else near_column(columns, known)
    return f" ({shown(near)} was probably meant)" if near and simple_name(near) not in known else ""


class _Names:
    """Where the files lie that tables name: beside the table, or, under a name that only one image has, below it."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._there = frozenset(listing.images)
        self._by_name: dict[Path, dict[str, list[Path]]] = {}

    def holds(self, table: Path, name: str) -> bool:
        """Return whether `name` in `table` stands for an image."""
        return bool(name.strip()) and self.find(table, name) in self._there

    def find(self, table: Path, name: str) -> Path:
        """Return the image that `name` in `table` stands for; where there is none, the path that the name gives.

        A name may lack its suffix or its folder, or be in another case of letters.
        """
        path = table.parent / name
        if path in self._there:
            return path
        base = table.parent
        if table.as_posix().endswith(f"/{INTERN_TABLE}"):
            base = table.parents[1] / INTERN_IMAGES
            path = base / name
            if path in self._there:
                return path
        plain = name.strip().replace("\\", "/")
        if plain.startswith(("/", "~")) or ":" in plain or ".." in plain.split("/"):
            return path
        found = self._below(base).get(_folded(plain), [])
        return found[0] if len(found) == 1 else path

    def _below(self, folder: Path) -> Mapping[str, list[Path]]:
        """Return the images below a folder by all names that a table may call them by."""
        if folder not in self._by_name:
            names: dict[str, list[Path]] = defaultdict(list)
            for image in self._listing.images:
                if image.is_relative_to(folder):
                    inside = image.relative_to(folder)
                    for name in {inside.as_posix(), inside.with_suffix("").as_posix(), image.name, image.stem}:
                        names[_folded(name)].append(image)
            self._by_name[folder] = names
        return self._by_name[folder]


def _folded(name: str) -> str:
    return name.casefold().removeprefix("./")
