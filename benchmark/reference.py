"""The reference pictures of a run: written once to disk, split by content, and the requests that their captions make.

`input/{train,test}/00012_input.png` with `00012_caption.txt` beside it, and `input/manifest.jsonl`: a line with the
data set's identity, then a line for each row. Threads make the rows; a row's line is written after its files and
after the lines of all rows before it, so a kill loses at most the rows in flight. Nothing here is synced to the
platter, unlike generated images: what a power failure might lose can be read from the data set again, and a file that
is not as long as its line says is.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from benchmark.datasets.base import CaptionedImages, Example, undecoded_rows
from benchmark.datasets.hub import Table
from benchmark.datasets.pictures import content_digest as content_digest
from benchmark.datasets.selection import Selection
from metrics.base import ImageSet
from models.base import Request

SCHEMA_VERSION = 1
Split = Literal["train", "test"]
Made = TypeVar("Made")
# Each thread holds a decoded picture, and a painting can have 300 MB.
THREADS = min(16, os.cpu_count() or 1)


@dataclass(frozen=True)
class Row:
    """One row of the data set; `path` is None where its picture does not decode, and its split is then train.

    digest: content digest of the source picture, which `path` may hold a part of; empty without one.
    """

    index: int
    caption: str
    label: int | None
    path: Path | None
    split: Split
    digest: str = ""


@dataclass(frozen=True)
class Reference:
    """The first rows of a data set, on disk. `exhausted`: these are all that it has.

    Request i is made of row i mod the number of rows and of seed + i alone, so that a longer run asks the same at
    the indices it shares with a shorter one, and a caption that comes again comes with a new seed.
    """

    name: str
    identity: str
    label_names: tuple[str, ...]
    rows: tuple[Row, ...]
    exhausted: bool

    def row(self, index: int) -> Row:
        """Return the row that request `index` is made of."""
        return self.rows[index % len(self.rows)]

    def requests(self, n: int, seed: int) -> list[Request]:
        """Return requests 0..n-1. A data set with more rows than were prepared must have had n prepared."""
        assert n <= len(self.rows) or self.exhausted, f"{n} requests of {len(self.rows)} rows, and the set has more"
        return [Request(self.row(i).caption, seed + i, self.row(i).label) for i in range(n)]

    def cycles(self, n: int) -> int:
        """Return how often the most used caption comes in n requests."""
        return -(-n // len(self.rows))

    def without_picture(self) -> int:
        """Return how many rows have a caption and no picture that decodes; the manifest says why."""
        return sum(row.path is None for row in self.rows)

    def pictures(self, n: int) -> ImageSet:
        """Return the first n rows that have pictures, or all of them where there are fewer."""
        return self._image_set([row for row in self.rows if row.path is not None][:n])

    def targets(self, indices: Iterable[int]) -> ImageSet:
        """Return the real picture of each request, aligned with `indices`.

        Where a row has no picture, the path does not exist and the caption is one that nothing was asked for, so that
        the request pairs with nothing.
        """
        return self._image_set([self.row(index) for index in indices])

    def _image_set(self, rows: Sequence[Row]) -> ImageSet:
        return ImageSet(
            self.name,
            tuple(row.path or Path(f"no picture in row {row.index}") for row in rows),
            tuple(f"no picture in row {row.index}" if row.path is None else row.caption for row in rows),
        )


@dataclass(frozen=True)
class _Line:
    """What the manifest says of one row; `file` is relative to its folder, and empty where there is no picture."""

    index: int
    split: Split
    file: str
    caption: str
    label: int | None
    error: str
    sha256: str  # of the decoded source picture, see content_digest
    bytes: int

    def row(self, folder: Path) -> Row:
        path = folder / self.file if self.file else None
        return Row(self.index, self.caption, self.label, path, self.split, self.sha256)

    def is_whole(self, folder: Path) -> bool:
        picture = folder / self.file
        return not self.file or (
            picture.is_file() and picture.stat().st_size == self.bytes and _caption_path(picture).is_file()
        )


def prepare_reference(
    dataset: CaptionedImages, folder: Path, rows: int, progress: Callable[[int, int], None] | None = None
) -> Reference:
    """Write the data set's first `rows` rows into `folder/input`, as far as they are not there, and return them.

    What is there is not read from the data set again: where all is there, the data set is not opened at all.
    `progress` is told how many of how many rows are there.

    Raises:
        ValueError: the folder holds another data set, or the data set has no rows.
        OSError: the data cannot be had.
    """
    assert rows > 0, "a run has at least one request"
    folder = folder / "input"
    manifest = _Manifest(dataset, folder)
    if progress:
        progress(min(len(manifest.lines), rows), rows)
    if len(manifest.lines) < rows and not manifest.exhausted:
        first = len(manifest.lines)
        wanted = enumerate(islice(undecoded_rows(dataset, first), rows - first), start=first)
        for line in _run_ahead(functools.partial(_write_row, folder, index, row) for index, row in wanted):
            manifest.append(line)
            if progress:
                progress(len(manifest.lines), rows)
        if len(manifest.lines) < rows:
            manifest.end()
    if not manifest.lines:
        raise ValueError(f"the data set {dataset.name} has no rows; give another DATASET")
    return Reference(
        dataset.name, dataset.identity, manifest.label_names,
        tuple(line.row(folder) for line in manifest.lines[:rows]),
        exhausted=manifest.exhausted and len(manifest.lines) <= rows,
    )  # fmt: skip


def adopt_arrangement(dataset: CaptionedImages, folder: Path) -> CaptionedImages:
    """Return the selection of this data set that `folder/input` was prepared from, or the data set as it is.

    A folder that holds another data set is left for `prepare_reference` to refuse.
    """
    manifest = folder / "input" / "manifest.jsonl"
    if not isinstance(dataset, Table) or not manifest.is_file():
        return dataset
    try:
        with manifest.open(encoding="utf-8") as file:
            header = json.loads(file.readline())
        selection = Selection(dataset, **header["arrangement"])
    except (ValueError, KeyError, TypeError):  # plain rows, or damaged
        return dataset
    return selection if selection.identity == header.get("identity") else dataset


def split_of(digest: str) -> Split:
    """Return test for a tenth of all digests; the same picture is in the same split in every run and data set."""
    return "test" if int(digest, 16) % 10 == 0 else "train"


class _Manifest:
    """manifest.jsonl: which data set the folder holds, and a line for each row from 0 on that is whole.

    Lines count up to the first that is torn or whose files are not as it says; the rest is cut off and made again.
    """

    def __init__(self, dataset: CaptionedImages, folder: Path) -> None:
        self._path = folder / "manifest.jsonl"
        if not self._path.is_file():
            self._begin(dataset, folder)
        content = self._path.read_bytes()
        whole = 0
        self.lines: list[_Line] = []
        self.exhausted = False
        for number, text in enumerate(content.splitlines(keepends=True)):
            if number == 0:
                self.label_names = self._check_header(text, dataset)
            elif not (text.endswith(b"\n") and self._take(text, folder)):
                break
            whole += len(text)
        if whole < len(content):
            with self._path.open("r+b") as file:
                file.truncate(whole)

    def append(self, line: _Line) -> None:
        """Record a row whose files are written."""
        self._write(asdict(line))
        self.lines.append(line)

    def end(self) -> None:
        """Record that the data set has no more rows."""
        self._write({"exhausted": True})
        self.exhausted = True

    def _begin(self, dataset: CaptionedImages, folder: Path) -> None:
        if any(path.is_file() for split in ("train", "test") for path in (folder / split).glob("*")):
            raise ValueError(
                f"{folder} holds files but no manifest.jsonl, so they are not this program's: choose another "
                "OUTPUT_DIR (--output_dir), or delete them, with FRESH=1 or by hand"
            )
        header: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION, "dataset": dataset.name, "identity": dataset.identity,
            "label_names": dataset.label_names,
        }  # fmt: skip
        if isinstance(dataset, Selection):
            header["arrangement"] = dict(dataset.arrangement)
        for split in ("train", "test"):
            (folder / split).mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(header, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(self._path)

    def _check_header(self, text: bytes, dataset: CaptionedImages) -> tuple[str, ...]:
        afresh = "choose another OUTPUT_DIR (--output_dir), or start over with FRESH=1 or by deleting that folder"
        try:
            header = json.loads(text)
            version, identity, label_names = header["schema_version"], header["identity"], header["label_names"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._path} is damaged, its first line does not say what it holds: {afresh}") from error
        for what, found, wanted in (
            ("manifest version", version, SCHEMA_VERSION),
            ("the data set", identity, dataset.identity),
        ):
            if found != wanted:
                raise ValueError(f"{self._path.parent} holds {what} [{found}], now asked is [{wanted}]: {afresh}")
        return tuple(label_names)

    def _take(self, text: bytes, folder: Path) -> bool:
        try:
            record = json.loads(text)
            if record == {"exhausted": True}:
                self.exhausted = True
                return True
            line = _Line(**record)
        except (ValueError, TypeError):
            return False
        if line.index != len(self.lines) or not line.is_whole(folder):
            return False
        self.lines.append(line)
        return True

    def _write(self, record: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _run_ahead(calls: Iterator[Callable[[], Made]]) -> Iterator[Made]:
    """Yield what the calls return, in their order, while threads work on the next ones.

    Where `calls` itself fails, what was begun is yielded first: it is not lost.
    """
    pending: deque[Future[Made]] = deque()
    failure: Exception | None = None
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="prepare")
    try:
        while True:
            while failure is None and len(pending) < 2 * THREADS + 2:
                try:
                    call = next(calls, None)
                except Exception as error:
                    failure = error
                    break
                if call is None:
                    break
                pending.append(pool.submit(call))
            if not pending:
                break
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if failure is not None:
        raise failure


def _write_row(folder: Path, index: int, make: Callable[[], Example]) -> _Line:
    """Write the row's picture and caption, or nothing where it has no picture, and return its manifest line."""
    example = make()
    if example.image is None:
        return _Line(index, "train", "", example.caption, example.label, example.error, "", 0)
    digest = example.digest or content_digest(example.image)
    split = split_of(hashlib.sha256(example.group.encode()).hexdigest() if example.group else digest)
    file = f"{split}/{index:05d}_input.png"
    picture = folder / file
    partial = picture.with_suffix(".partial")
    example.image.save(partial, format="PNG", compress_level=1)
    partial.replace(picture)
    _caption_path(picture).write_text(example.caption + "\n", encoding="utf-8")
    return _Line(index, split, file, example.caption, example.label, "", digest, picture.stat().st_size)


def _caption_path(picture: Path) -> Path:
    return picture.with_name(picture.name.removesuffix("_input.png") + "_caption.txt")
