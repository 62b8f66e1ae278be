"""Captioned images in a data set of the Hugging Face hub, streamed."""

from __future__ import annotations

import gzip
import lzma
import re
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from benchmark.data.sources.columns import Columns
from benchmark.data.sources.parquet import Shard, plain
from benchmark.data.sources.table import Table, named_columns
from files.hub import NotOnHub, check_reachable, is_offline, list_files, network
from files.reading import MOST_BYTES, MOST_SECONDS, shown

SPLIT = "train"  # the only split that is read of a hub data set
CHUNK_BYTES = 1 << 22
# A file of a repository as `datasets` names it, alone or behind the archives that hold it: zip://a.png::hf://...
_HUB_FILE = re.compile(r"hf://datasets/(?P<id>[^@:]+)@[^/]+/(?P<path>.+)", re.DOTALL)
_ARCHIVE = re.compile(r"(zip|tar|gzip|bz2|xz|zstd|lz4)://.*", re.DOTALL)


class HubImages(Table):
    """A data set of the hub, by its id; its identity is known without the network, so that a prepared run needs none.

    The rows are those of the hub's present version: what has been prepared stays as it was.
    """

    def __init__(
        self, hub_id: str, name: str, image_column: str = "", caption_column: str = "", *, captions_needed: bool = True
    ) -> None:
        super().__init__(image_column, caption_column, captions_needed=captions_needed)
        self.name = name
        self.identity = f"hub {hub_id} {SPLIT}{named_columns(image_column, caption_column)}"
        self._hub_id = hub_id
        self._source = f"the hub's data set {hub_id} (split {SPLIT})"
        self._remedy = (
            "give a local folder of images or parquet shards in its place, as DATASET=/path/to/folder (--dataset of a "
            "script), or DATASET=robots, which works offline"
        )
        self._stream: Any = None

    def check_exists(self) -> None:
        """Ask the hub for the data set's name alone; where the hub cannot be asked, reading the rows says so.

        Raises:
            ValueError: there is no such data set, or it may not be read.
        """
        try:
            list_files(self._hub_id, kind="dataset")
        except NotOnHub as error:
            raise ValueError(f"{self._source} cannot be read: {error}; {self._remedy}") from error
        except OSError:
            return

    def _features(self) -> Mapping[str, Any] | None:
        with _asking_the_hub():
            from datasets import load_dataset

            self._stream = load_dataset(self._hub_id, split=SPLIT, streaming=True)
        features: Mapping[str, Any] | None = self._stream.features
        return features

    def _rows(self, columns: Columns, start: int) -> Iterator[Mapping[str, Any]]:
        from datasets import Image

        stream = self._stream.select_columns(columns.used()).cast_column(columns.image, Image(decode=False))
        place = start
        try:
            for row in stream.skip(start) if start else stream:
                yield row
                place += 1
        except UnicodeDecodeError:
            # `datasets` ends at a text that is not UTF-8. As arrow tables the rows keep their bytes, so that such a
            # text costs itself, as in a local shard.
            for table in stream.skip(place).with_format("arrow"):
                yield {column: plain(table.column(column)[0]) for column in columns.used()}

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
        try:
            with _asking_the_hub():
                from datasets import load_dataset_builder

                config = load_dataset_builder(self._hub_id).config
            files = [str(file) for file in (config.data_files or {}).get(SPLIT, ())]
        except Exception as error:  # as in `undecoded`
            raise self._unreadable(error) from error
        if not files or not all(file.endswith(".parquet") for file in files):
            found = files[0] if files else "no files"
            raise ValueError(
                f"{self._source} is no set of parquet files ({found}), so its labels cannot be read without its "
                "images: take the rows in their own order, or give a local folder of parquet shards of it"
            )
        return files


@contextmanager
def _asking_the_hub() -> Iterator[None]:
    """Let `datasets` ask the hub in the block: not for minutes where it cannot be reached, and not at all offline.

    Raises:
        OSError: it cannot be reached.
    """
    with network(is_offline()):
        if not is_offline():
            check_reachable()
        yield


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
