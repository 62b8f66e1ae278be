"""Parquet shards read by column or by row: labels without pictures, and the rows at given places, little at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any

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
    # Without fsspec's own read-ahead, which would fetch megabytes of pictures around every few labels.
    return ParquetFile(files.open(path, "rb", cache_type="none"), buffer_size=BUFFER_BYTES)


def read_column(shards: Sequence[Shard], column: str) -> list[list[Any]]:
    """Return a column's values, shard by shard; no byte of another column is fetched."""

    def read(shard: Shard) -> list[Any]:
        with open_shard(shard) as file:
            values: list[Any] = file.read(columns=[column]).column(column).to_pylist()
        return values

    with ThreadPoolExecutor(COLUMN_THREADS) as pool:
        return list(pool.map(read, shards))


def read_rows(
    shards: Sequence[tuple[Shard, int]], positions: Sequence[int], columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield the rows at ascending `positions`, counted over all shards, each given with its number of rows.

    A shard or row group without any of them is not read, and each other one is read once.
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
            first = stop - file.metadata.num_rows
            for group in range(file.num_row_groups):
                last = first + file.metadata.row_group(group).num_rows
                if position is not None and position < last:
                    for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=list(columns)):
                        while position is not None and position < first + batch.num_rows:
                            yield batch.slice(position - first, 1).to_pylist()[0]
                            position = next(wanted, None)
                        first += batch.num_rows
                        if position is None or position >= last:
                            break
                first = last
