"""Captioned images in tables: a data set of the Hugging Face hub, streamed, or a local folder of parquet shards."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import re
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from benchmark.data.decoding import decode_example, read_inside, without_image
from benchmark.data.sources.base import Example
from benchmark.data.sources.columns import Columns, choose_columns
from benchmark.data.sources.parquet import Shard, count_rows, open_shard, read_column, read_rows
from files.paths import is_inside
from files.reading import MOST_BYTES, MOST_SECONDS, shown, valid_text

SPLIT = "train"  # the only split that is read of a hub data set
FOOTER_BYTES = 1 << 16  # a parquet file's end holds its schema and the statistics of its columns
CHUNK_BYTES = 1 << 22
# A file of a repository as `datasets` names it, alone or behind the archives that hold it: zip://a.png::hf://...
_HUB_FILE = re.compile(r"hf://datasets/(?P<id>[^@:]+)@[^/]+/(?P<path>.+)", re.DOTALL)
_ARCHIVE = re.compile(r"(zip|tar|gzip|bz2|xz|zstd|lz4)://.*", re.DOTALL)


class Table:
    """Rows of a table, of which only what is needed is fetched. Opened when it is first asked.

    Rows in any other order than the table's own are read from its parquet shards.
    """

    name: str
    identity: str
    label_names: tuple[str, ...]  # of the label's column, as the data set writes them
    _source: str  # what is read, for errors
    _remedy: str

    def __init__(self, image_column: str, caption_column: str) -> None:
        self._image_column, self._caption_column = image_column, caption_column
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
                self._chosen = choose_columns(features, self._image_column, self._caption_column)
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


class HubImages(Table):
    """A data set of the hub, by its id; its identity is known without the network, so that a prepared run needs none.

    The rows are those of the hub's present version: what has been prepared stays as it was.
    """

    def __init__(self, hub_id: str, name: str, image_column: str = "", caption_column: str = "") -> None:
        super().__init__(image_column, caption_column)
        self.name = name
        self.identity = f"hub {hub_id} {SPLIT}{_named_columns(image_column, caption_column)}"
        self._hub_id = hub_id
        self._source = f"the hub's data set {hub_id} (split {SPLIT})"
        self._remedy = (
            "give a local folder of images or parquet shards with DATASET=/path/to/folder (--dataset of a script), "
            "or DATASET=robots, which works offline"
        )

        self._stream: Any = None

    def _features(self) -> Mapping[str, Any] | None:
        from datasets import load_dataset

        self._stream = load_dataset(self._hub_id, split=SPLIT, streaming=True)
        features: Mapping[str, Any] | None = self._stream.features
        return features

    def _rows(self, columns: Columns, start: int) -> Iterator[Mapping[str, Any]]:
        from datasets import Image

        stream = self._stream.select_columns(columns.used()).cast_column(columns.image, Image(decode=False))
        yield from stream.skip(start) if start else stream

    def _read(self, path: str) -> bytes:
        """Return the content of a file of this very repository; no other address is ever fetched."""
        if not is_file_of(path, self._hub_id):
            raise ValueError(f"{shown(path)} is no file of the data set {self._hub_id}; nothing else is fetched")
        import fsspec  # type: ignore[import-untyped]

        try:
            with fsspec.open(path, "rb") as file:
                return _read_limited(file, path)
        except FileNotFoundError as error:
            raise ValueError(f"there is no file {shown(path)}") from error
        except (zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error, tarfile.TarError) as error:
            raise ValueError(f"{shown(path)} cannot be unpacked ({error})") from error
        except _TooLarge as error:
            raise ValueError(str(error)) from error
        except Exception as error:  # a connection that breaks is no broken image: the run ends, and can go on
            raise self._unreadable(error) from error

    def _shards(self) -> Sequence[Shard]:
        from datasets import load_dataset_builder

        try:
            files = [str(file) for file in (load_dataset_builder(self._hub_id).config.data_files or {}).get(SPLIT, ())]
        except Exception as error:  # as in `undecoded`
            raise self._unreadable(error) from error
        if not files or not all(file.endswith(".parquet") for file in files):
            found = files[0] if files else "no files"
            raise ValueError(
                f"{self._source} is no set of parquet files ({found}), so its labels cannot be read without its "
                "images: take the rows in their own order, or give a local folder of parquet shards of it"
            )
        return files


def is_file_of(path: str, hub_id: str) -> bool:
    """Return whether a cell's path is one that `datasets` makes for a file of this repository, maybe in an archive."""
    *archives, address = path.split("::")
    found = _HUB_FILE.fullmatch(address)
    return (
        found is not None
        and found["id"].casefold() == hub_id.casefold()
        and ".." not in found["path"].split("/")
        and all(_ARCHIVE.fullmatch(archive) for archive in archives)
    )


class _TooLarge(Exception):
    """A remote file is larger than any image may be, or comes too slowly; the text says which."""


def _read_limited(file: Any, path: str) -> bytes:
    deadline = time.monotonic() + MOST_SECONDS
    chunks, left = [], MOST_BYTES + 1
    while chunk := file.read(min(CHUNK_BYTES, left)):
        chunks.append(chunk)
        left -= len(chunk)
        if left <= 0:
            raise _TooLarge(f"{shown(path)} has more than {MOST_BYTES:,} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{shown(path)} could not be read within {MOST_SECONDS:.0f} s")
    return b"".join(chunks)


class ParquetFolder(Table):
    """A local folder of parquet shards, read in the order of their paths, with the features written in the first."""

    def __init__(self, folder: Path, shards: Sequence[Path], image_column: str = "", caption_column: str = "") -> None:
        super().__init__(image_column, caption_column)
        self.name = valid_text(folder.name)
        self._folder = folder
        self._files = tuple(shards)
        digest = hashlib.sha256()
        for shard in self._files:
            if not is_inside(shard, folder):
                raise ValueError(f"the shard {shown(shard)} is a symlink that leads outside of the data set; remove it")
            size = shard.stat().st_size
            with shard.open("rb") as file:
                file.seek(max(0, size - FOOTER_BYTES))
                name = shard.relative_to(folder).as_posix()
                digest.update(f"{name} {size}\n".encode("utf-8", "surrogateescape") + file.read())
        columns = _named_columns(image_column, caption_column)
        self.identity = f"parquet {self.name} {digest.hexdigest()[:16]}{columns}"
        self._source = f"the parquet folder {shown(folder)}"
        self._remedy = "fix or remove the shard, or give another DATASET"

    def _features(self) -> Mapping[str, Any] | None:
        from datasets import Features

        with open_shard(self._files[0]) as file:
            features: Mapping[str, Any] = Features.from_arrow_schema(file.schema_arrow)
        return features

    def _rows(self, columns: Columns, start: int) -> Iterator[Mapping[str, Any]]:
        counted = tuple(zip(self._files, count_rows(self._files), strict=True))
        yield from read_rows(counted, count(start), columns.used())

    def _shards(self) -> Sequence[Shard]:
        return self._files

    def _read(self, path: str) -> bytes:
        """Return the content of a file of this folder: a cell's path counts from the folder, as `files.paths` says."""
        if not path:
            raise ValueError("the file's name is empty")
        return read_inside(self._folder / path, self._folder)


def _named_columns(image_column: str, caption_column: str) -> str:
    named = (("image", image_column), ("caption", caption_column))
    return "".join(f" {what}={column}" for what, column in named if column)
