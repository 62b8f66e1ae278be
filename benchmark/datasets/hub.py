"""Captioned pictures in tables: a data set of the Hugging Face hub, streamed, or a local folder of parquet shards."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.datasets.base import Example
from benchmark.datasets.parquet import Shard, read_column, read_rows
from benchmark.datasets.pictures import decode_example

SPLIT = "train"  # the only split that is read of a hub data set
CAPTION_COLUMNS = ("text", "caption", "prompt")
# WikiArt has no captions: these columns make one, in this order.
COMPOSED_COLUMNS = ("artist", "style", "genre")
FOOTER_BYTES = 1 << 16  # a parquet file's end holds its schema and the statistics of its columns


@dataclass(frozen=True)
class Columns:
    """Where a table keeps what is needed of it. `captions` are one column of text, or several to compose."""

    image: str
    captions: tuple[str, ...]
    label: str | None
    class_names: Mapping[str, tuple[str, ...]]

    def used(self) -> list[str]:
        return list(dict.fromkeys([self.image, *self.captions, *([self.label] if self.label else [])]))

    def caption(self, row: Mapping[str, Any]) -> str:
        """Return the row's text, or "Artist: X, Style: Y, Genre: Z"; a missing text is the empty caption."""
        values = {column: self._value(column, row[column]) for column in self.captions}
        if len(self.captions) == 1:
            return values[self.captions[0]]
        return ", ".join(f"{column.title()}: {tidy_name(value)}" for column, value in values.items())

    def _value(self, column: str, value: Any) -> str:
        names = self.class_names.get(column)
        if value is None or (names is not None and not 0 <= value < len(names)):  # -1 is a label that is not known
            return "" if names is None else f"Unknown {column.title()}"
        return str(value if names is None else names[value]).strip()


def tidy_name(name: str) -> str:
    """Return a class name as words: - and _ are spaces, each word begins with a capital ("vincent-van-gogh")."""
    words = name.replace("-", " ").replace("_", " ").split()
    return " ".join(word[:1].upper() + word[1:] for word in words)


def choose_columns(features: Mapping[str, Any], image_column: str, caption_column: str) -> Columns:
    """Return the columns to read of a table with these `datasets` features; what is named wins over a guess.

    The picture is the single Image column; the caption is composed where artist, style and genre are all there, else
    `text`, `caption` or `prompt`, else the single column of text. The label is `style`, or the single ClassLabel.

    Raises:
        ValueError: a named column is not there, or nothing obvious is.
    """
    from datasets import ClassLabel, Image, Value

    there = f"the columns are {', '.join(features)}"
    for variable, name in (("IMAGE_COLUMN", image_column), ("CAPTION_COLUMN", caption_column)):
        if name and name not in features:
            raise ValueError(f"{variable}={name} is no column of the data set; {there}")
    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    if not image_column and len(images) != 1:
        raise ValueError(f"the data set has {len(images)} picture columns: name one with IMAGE_COLUMN; {there}")
    texts = [
        name for name, feature in features.items()
        if isinstance(feature, Value) and feature.dtype in ("string", "large_string")
    ]  # fmt: skip
    classes = {name: tuple(feature.names) for name, feature in features.items() if isinstance(feature, ClassLabel)}
    readable = {*texts, *classes}
    if caption_column:
        captions: tuple[str, ...] = (caption_column,)
    elif readable.issuperset(COMPOSED_COLUMNS):
        captions = COMPOSED_COLUMNS
    else:
        known = [name for name in CAPTION_COLUMNS if name in texts]
        captions = (known[0],) if known else (texts[0],) if len(texts) == 1 else ()
    if not captions:
        raise ValueError(f"it is not clear which column holds the captions: name it with CAPTION_COLUMN; {there}")
    if not readable.issuperset(captions):
        raise ValueError(f"CAPTION_COLUMN={caption_column} holds neither text nor class names; {there}")
    label = "style" if "style" in classes else next(iter(classes)) if len(classes) == 1 else None
    return Columns(image_column or images[0], captions, label, classes)


class Table:
    """Rows of a table that `datasets` streams: only what is read of it is fetched. Opened when it is first asked.

    Rows in any other order than the table's own are read from its parquet shards.
    """

    name: str
    identity: str
    label_names: tuple[str, ...]  # of the label's column, as the data set writes them
    _source: str  # what is read, for errors
    _remedy: str

    def __init__(self, image_column: str, caption_column: str) -> None:
        self._image_column, self._caption_column = image_column, caption_column
        self._opened: tuple[Any, Columns] | None = None
        self._counted: tuple[tuple[Shard, int], ...] = ()  # the shards with their numbers of rows, after `labels`

    def _load(self) -> Any:
        """Return a streaming dataset."""
        raise NotImplementedError

    def _shards(self) -> Sequence[Shard]:
        """Return the parquet files in the order of their rows. Raises ValueError where it does not lie in such."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> tuple[str, ...]:
        # Only `label_names` is filled in late, since it takes opening the table; the contract wants an attribute.
        if name != "label_names":
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        _, columns = self._open()
        self.label_names = columns.class_names[columns.label] if columns.label else ()
        return self.label_names

    def examples(self, start: int = 0) -> Iterator[Example]:
        """Yield the rows from `start` on. Pictures are decoded here, so that a broken one is a row without picture."""
        return (row() for row in self.undecoded(start))

    def undecoded(self, start: int = 0) -> Iterator[Callable[[], Example]]:
        """Yield the rows from `start` on as functions that decode them."""
        stream, columns = self._open()
        rows = iter(stream.skip(start) if start else stream)
        while True:
            # Reading passes through pyarrow, fsspec, aiohttp and httpx, which each have exceptions of their own.
            try:
                row = next(rows, None)
            except Exception as error:
                raise self._unreadable(error) from error
            if row is None:
                return
            yield partial(self._example, columns, row)

    def labels(self) -> list[int | None]:
        """Return each row's label, None where it is not known; of the shards the labels' column alone is read.

        Raises:
            ValueError: the table has no such column, or does not lie in parquet files.
            OSError: the data cannot be had.
        """
        _, columns = self._open()
        if columns.label is None:
            raise ValueError(f"{self._source} has no column of class names to stratify by")
        shards = self._shards()
        try:
            parts = read_column(shards, columns.label)
        except Exception as error:  # as in `undecoded`
            raise self._unreadable(error) from error
        self._counted = tuple((shard, len(part)) for shard, part in zip(shards, parts, strict=True))
        return [_known(label) for part in parts for label in part]

    def rows_at(self, positions: Sequence[int]) -> Iterator[Callable[[], Example]]:
        """Yield the rows at these ascending positions as functions that decode them; `labels` was called before."""
        _, columns = self._open()
        rows = read_rows(self._counted, positions, columns.used())
        while True:
            try:
                row = next(rows, None)
            except Exception as error:  # as in `undecoded`
                raise self._unreadable(error) from error
            if row is None:
                return
            yield partial(self._example, columns, row)

    def _example(self, columns: Columns, row: Mapping[str, Any]) -> Example:
        label = _known(row[columns.label]) if columns.label else None
        return decode_example(columns.caption(row), self._content(row[columns.image]), label)

    def _open(self) -> tuple[Any, Columns]:
        if self._opened is None:
            from datasets import Image

            try:
                stream = self._load()
                features = stream.features
            except Exception as error:  # for the reason above
                raise self._unreadable(error) from error
            if features is None:
                raise ValueError(f"{self._source} declares no columns; give a folder of parquet shards of it")
            try:
                columns = choose_columns(features, self._image_column, self._caption_column)
            except ValueError as error:
                raise ValueError(f"{self._source}: {error}") from error
            stream = stream.select_columns(columns.used()).cast_column(columns.image, Image(decode=False))
            self._opened = stream, columns
        return self._opened

    def _content(self, cell: Mapping[str, Any] | bytes | None) -> bytes | None:
        """Return a picture's file, fetched where the row only says where it is; None where there is none."""
        if isinstance(cell, bytes):  # a plain binary column, read from its shard
            return cell
        if cell is None or (cell["bytes"] is None and cell["path"] is None):
            return None
        if cell["bytes"] is not None:
            return bytes(cell["bytes"])
        import fsspec  # type: ignore[import-untyped]

        try:
            with fsspec.open(cell["path"], "rb") as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None
        except Exception as error:  # a connection that breaks is no broken picture: the run ends, and can go on
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> OSError:
        reason = " ".join(str(error).split()) or "no reason given"
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
            "give a local folder of pictures or parquet shards with DATASET=/path/to/folder (--dataset of a script), "
            "or DATASET=robots, which works offline"
        )

    def _load(self) -> Any:
        from datasets import load_dataset

        return load_dataset(self._hub_id, split=SPLIT, streaming=True)

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
                "pictures: take the rows in their own order, or give a local folder of parquet shards of it"
            )
        return files


class ParquetFolder(Table):
    """A local folder of parquet shards, read in the order of their paths, with the features written in them."""

    def __init__(self, folder: Path, shards: Sequence[Path], image_column: str = "", caption_column: str = "") -> None:
        super().__init__(image_column, caption_column)
        self.name = folder.name
        self._files = tuple(shards)
        digest = hashlib.sha256()
        for shard in self._files:
            size = shard.stat().st_size
            with shard.open("rb") as file:
                file.seek(max(0, size - FOOTER_BYTES))
                digest.update(f"{shard.relative_to(folder).as_posix()} {size}\n".encode() + file.read())
        columns = _named_columns(image_column, caption_column)
        self.identity = f"parquet {folder.name} {digest.hexdigest()[:16]}{columns}"
        self._source = f"the parquet folder {folder}"
        self._remedy = "mend or remove the shard, or give another DATASET"

    def _load(self) -> Any:
        from datasets import load_dataset

        files = [glob.escape(str(shard)) for shard in self._files]  # `datasets` takes paths for patterns
        return load_dataset("parquet", data_files={SPLIT: files}, split=SPLIT, streaming=True)

    def _shards(self) -> Sequence[Shard]:
        return self._files


def _known(label: int | None) -> int | None:
    return None if label is None or label < 0 else label  # -1 is the hub's "not known"


def _named_columns(image_column: str, caption_column: str) -> str:
    named = (("image", image_column), ("caption", caption_column))
    return "".join(f" {what}={column}" for what, column in named if column)
