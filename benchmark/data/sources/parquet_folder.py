"""Captioned images in a local folder of parquet shards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from benchmark.data.decoding import read_inside
from benchmark.data.sources.base import Survey
from benchmark.data.sources.columns import Columns
from benchmark.data.sources.parquet import Shard, count_rows, open_shard, read_rows
from benchmark.data.sources.table import Table, named_columns
from files.paths import is_inside
from files.reading import shown, valid_text

FOOTER_BYTES = 1 << 16  # a parquet file's end holds its schema and the statistics of its columns


class ParquetFolder(Table):
    """A local folder of parquet shards, read in the order of their paths, with the features written in the first."""

    def __init__(
        self, folder: Path, shards: Sequence[Path], image_column: str = "", caption_column: str = "",
        *, captions_needed: bool = True, survey: Survey | None = None,
    ) -> None:  # fmt: skip
        super().__init__(image_column, caption_column, captions_needed=captions_needed)
        self.survey = survey or Survey(len(shards))
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
        columns = named_columns(image_column, caption_column)
        self.identity = f"parquet {self.name} {digest.hexdigest()[:16]}{columns}"
        self._source = f"the parquet folder {shown(folder)}"
        self._remedy = "fix or remove the shard, or give another data set"

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
