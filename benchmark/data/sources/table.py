"""Captioned images in a table, wherever it lies: its rows in their own order, its labels apart, or rows at places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from benchmark.data.decoding import decode_example, without_image
from benchmark.data.selection import Selection
from benchmark.data.sources.base import CaptionedImages, Example
from benchmark.data.sources.columns import Columns, choose_columns
from benchmark.data.sources.parquet import Shard, read_column, read_rows
from files.reading import MOST_BYTES, valid_text


class Table:
    """Rows of a table, of which only what is needed is fetched. Opened when it is first asked.

    Rows in any other order than the table's own are read from its parquet shards.
    """

    name: str
    identity: str
    label_names: tuple[str, ...]  # of the label's column, as the data set writes them
    _source: str  # what is read, for errors
    _remedy: str

    def __init__(self, image_column: str, caption_column: str, *, captions_needed: bool = True) -> None:
        self._image_column, self._caption_column = image_column, caption_column
        self._captions_needed = captions_needed
        self._chosen: Columns | None = None
        self._counted: tuple[tuple[Shard, int], ...] = ()  # the shards with their numbers of rows, after `labels`

    def _features(self) -> Mapping[str, Any] | None:
        """Return the table's `datasets` features by column, None where it declares none; may fail in any way."""
        raise NotImplementedError

    def _rows(self, columns: Columns, start: int) -> Iterator[Mapping[str, Any]]:
        """Yield the used columns of the rows from `start` on, images undecoded; may fail in any way."""
        raise NotImplementedError

    def _shards(self) -> Sequence[Shard]:
        """Return the parquet files in the order of their rows. Raises ValueError where it does not lie in such."""
        raise NotImplementedError

    def _read(self, path: str) -> bytes:
        """Return the content of the file that a cell names.

        Raises:
            ValueError: it is no file that this table may name, or damaged: its row has no image.
            OSError: it cannot be fetched now.
        """
        raise NotImplementedError

    def __getattr__(self, name: str) -> tuple[str, ...]:
        # Only `label_names` is filled in late, since it takes opening the table; the contract wants an attribute.
        if name != "label_names":
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        columns = self._columns()
        self.label_names = columns.class_names[columns.label] if columns.label else ()
        return self.label_names

    def examples(self, start: int = 0) -> Iterator[Example]:
        """Yield the rows from `start` on. Images are decoded here, so that a broken one is a row without image."""
        return (row() for row in self.undecoded(start))

    def undecoded(self, start: int = 0) -> Iterator[Callable[[], Example]]:
        """Yield the rows from `start` on as functions that decode them."""
        columns = self._columns()
        yield from self._undecoded(columns, self._rows(columns, start))

    def labels(self) -> list[int | None]:
        """Return each row's label, None where it is not known; of the shards the labels' column alone is read.

        Raises:
            ValueError: the table has no such column, or does not lie in parquet files.
            OSError: the data cannot be fetched.
        """
        columns = self._columns()
        if columns.label is None:
            raise ValueError(f"{self._source} has no column of class names to stratify by")
        shards = self._shards()
        try:
            parts = read_column(shards, columns.label)
        except Exception as error:  # as in `_undecoded`
            raise self._unreadable(error) from error
        self._counted = tuple((shard, len(part)) for shard, part in zip(shards, parts, strict=True))
        return [columns.known_label(label) for part in parts for label in part]

    def rows_at(self, positions: Sequence[int]) -> Iterator[Callable[[], Example]]:
        """Yield the rows at these ascending positions as functions that decode them; `labels` was called before."""
        columns = self._columns()
        yield from self._undecoded(columns, read_rows(self._counted, positions, columns.used()))

    def arranged(self, header: Mapping[str, Any]) -> CaptionedImages | None:
        """Return the sample of this table that a manifest's first line tells of, or None where it is none."""
        try:
            selection = Selection(self, **header["arrangement"])
        except (KeyError, TypeError):  # plain rows, or of another form
            return None
        return selection if selection.identity == header.get("identity") else None

    def _undecoded(self, columns: Columns, rows: Iterator[Mapping[str, Any]]) -> Iterator[Callable[[], Example]]:
        while True:
            # Reading passes through pyarrow, fsspec, aiohttp and httpx, which each have exceptions of their own.
            try:
                row = next(rows, None)
            except Exception as error:
                raise self._unreadable(error) from error
            if row is None:
                return
            yield partial(self._example, columns, row)

    def _example(self, columns: Columns, row: Mapping[str, Any]) -> Example:
        label = columns.known_label(row[columns.label]) if columns.label else None
        caption = columns.caption(row)
        try:
            content = self._content(row[columns.image])
        except ValueError as error:
            return without_image(caption, str(error), label)
        return decode_example(caption, content, label)

    def _columns(self) -> Columns:
        if self._chosen is None:
            try:
                features = self._features()
            except Exception as error:  # for the reason in `_undecoded`
                raise self._unreadable(error) from error
            if features is None:
                raise ValueError(f"{self._source} declares no columns; give a folder of parquet shards of it")
            try:
                self._chosen = choose_columns(
                    features, self._image_column, self._caption_column, captions_needed=self._captions_needed
                )
            except ValueError as error:
                raise ValueError(f"{self._source}: {error}") from error
        return self._chosen

    def _content(self, cell: Any) -> bytes | None:
        """Return an image's file, read where the row only says where it is; None where there is none.

        Raises:
            ValueError: the cell holds something else, or names a file that cannot be read; its row has no image.
            OSError: the file cannot be fetched now.
        """
        path = None
        if isinstance(cell, Mapping):
            cell, path = cell.get("bytes"), cell.get("path")
        elif isinstance(cell, str):
            cell, path = None, cell
        if cell is None and path is None:
            return None
        if isinstance(cell, bytes):
            if len(cell) > MOST_BYTES:
                raise ValueError(f"the image has {len(cell):,} bytes; at most {MOST_BYTES:,} are read")
            return cell
        if cell is None and isinstance(path, str):
            return self._read(path)
        raise ValueError(f"the cell holds no image file but a {type(path if cell is None else cell).__name__}")

    def _unreadable(self, error: Exception) -> OSError:
        reason = " ".join(valid_text(str(error)).split()) or "no reason given"
        return OSError(f"{self._source} cannot be read ({type(error).__name__}: {reason}); {self._remedy}")


def named_columns(image_column: str, caption_column: str) -> str:
    """Return what a table's identity says of the columns that the user named."""
    named = (("image", image_column), ("caption", caption_column))
    return "".join(f" {what}={column}" for what, column in named if column)
