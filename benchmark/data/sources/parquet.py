"""Parquet shards read by column or by row: labels without images, and the rows at given places, little at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any

from files.reading import shown

Shard = Path | str  # a local file, or a URL that fsspec opens (hf://...)
# Rows held at once: a painting's file can have 20 MB.
BATCH_ROWS = 8
# Of a column as much is fetched at once; a remote read waits about as long for the first byte as for 8 MiB.
BUFFER_BYTES = 8 << 20
# The labels of a remote shard are few bytes and much waiting.
COLUMN_THREADS = 8


def open_shard(shard: Shard) -> Any:
    """Return the shard as an open `pyarrow.parquet.ParquetFile`; its footer is read, and nothing else."""
    from pyarrow.parquet import ParquetFile

    if isinstance(shard, Path):
        return ParquetFile(shard, buffer_size=BUFFER_BYTES)
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    files, path = url_to_fs(shard)
    # Without fsspec's own read-ahead, which would fetch megabytes of images around every few labels.
    return ParquetFile(files.open(path, "rb", cache_type="none"), buffer_size=BUFFER_BYTES)


def read_column(shards: Sequence[Shard], column: str) -> list[list[Any]]:
    """Return a column's values, shard by shard; no byte of another column is fetched.

    Raises:
        ValueError: a shard lacks the column.
    """

    def read(shard: Shard) -> list[Any]:
        with open_shard(shard) as file:
            check_columns(file, shard, [column])
            return [plain(value) for chunk in file.read(columns=[column]).column(column).chunks for value in chunk]

    with ThreadPoolExecutor(COLUMN_THREADS) as pool:
        return list(pool.map(read, shards))


def count_rows(shards: Sequence[Shard]) -> list[int]:
    """Return each shard's number of rows; its footer alone is read."""

    def count(shard: Shard) -> int:
        with open_shard(shard) as file:
            return int(file.metadata.num_rows)

    with ThreadPoolExecutor(COLUMN_THREADS) as pool:
        return list(pool.map(count, shards))


def check_columns(file: Any, shard: Shard, columns: Sequence[str]) -> None:
    """Raise ValueError where an open shard lacks one of the columns: pyarrow would leave it out without a word."""
    missing = [column for column in columns if column not in file.schema_arrow.names]
    if missing:
        raise ValueError(f"{shown(shard)} has no column {', '.join(missing)}, which other shards have")


def plain(scalar: Any) -> Any:
    """Return a value of an arrow column as Python's own; a text's bytes that are not UTF-8 become U+FFFD."""
    import pyarrow

    if not scalar.is_valid:
        return None
    if isinstance(scalar, (pyarrow.StringScalar, pyarrow.LargeStringScalar)):
        return scalar.as_buffer().to_pybytes().decode("utf-8", "replace")
    if isinstance(scalar, pyarrow.DictionaryScalar):
        return plain(scalar.value)
    if isinstance(scalar, pyarrow.StructScalar):
        return {field.name: plain(scalar[place]) for place, field in enumerate(scalar.type)}
    return scalar.as_py()


def read_rows(
    shards: Sequence[tuple[Shard, int]], positions: Iterable[int], columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield the rows at ascending `positions`, counted over all shards, each given with its number of rows.

    A shard or row group without any of them is not read, and each other one is read once.

    Raises:
        ValueError: a shard lacks a column.
    """
    wanted = iter(positions)
    position = next(wanted, None)
    stops = accumulate(size for _, size in shards)
    for (shard, _), stop in zip(shards, stops, strict=True):
        if position is None:
            return
        if position >= stop:
            continue
        with open_shard(shard) as file:
            check_columns(file, shard, columns)
            first = stop - file.metadata.num_rows
            for group in range(file.num_row_groups):
                last = first + file.metadata.row_group(group).num_rows
                if position is not None and position < last:
                    for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=list(columns)):
                        while position is not None and position < first + batch.num_rows:
                            place = position - first
                            yield {column: plain(batch.column(column)[place]) for column in columns}
                            position = next(wanted, None)
                        first += batch.num_rows
                        if position is None or position >= last:
                            break
                first = last
