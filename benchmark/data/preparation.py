"""A data set's rows written to disk, once: images and captions, split by content, in the order of the rows.

`input/{train,test}/00012_input.png` with `00012_caption.txt` beside it, and `input/manifest.jsonl`: a line with the
data set's identity, then a line for each row. Threads write the rows aside; a row's files get their names after its
line was written, so the manifest names every file, and a kill loses at most the rows in flight. Nothing here is
synced, unlike generated images: what a power failure might lose can be read from the data set again, and so is a file
that is not as its line says.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from benchmark.console.plain_text import visible
from benchmark.data.decoding import content_digest
from benchmark.data.manifest import (
    ELSEWHERE,
    NAME,
    SPLITS,
    Line,
    Manifest,
    Row,
    Split,
    caption_path,
    foreign_files,
    image_name,
)
from benchmark.data.prompts import Prompt, PromptSet
from benchmark.data.reference import Reference
from benchmark.data.sources.base import CaptionedImages, Described, Example, undecoded_rows
from files.deletion import listed
from files.images import save_png
from files.locks import locked
from files.writing import naming, partial_path, remove_leftovers

Made = TypeVar("Made")
# Each thread holds a decoded image, and a painting can have 300 MB.
THREADS = min(16, os.cpu_count() or 1)


@dataclass(frozen=True)
class PreparedRows:
    """The first rows of a data set; `exhausted`: these are all that it has. uncaptioned: see `keep_captioned`.

    Their captions are prompts, and their images a reference that belongs to these prompts.
    """

    name: str
    identity: str
    label_names: tuple[str, ...]
    rows: tuple[Row, ...]
    exhausted: bool
    uncaptioned: int = 0

    @property
    def prompts(self) -> PromptSet:
        prompts = tuple(Prompt(row.index, row.caption, row.label, row.metadata) for row in self.rows)
        return PromptSet(self.name, self.identity, self.label_names, prompts, self.exhausted)

    @property
    def reference(self) -> Reference:
        return Reference(self.name, self.identity, self.rows, belongs_to=self.identity)


def tell(message: str) -> None:
    """Print one line on stderr."""
    print(visible(message), file=sys.stderr, flush=True)


def prepare_reference(
    dataset: CaptionedImages,
    folder: Path,
    rows: int,
    progress: Callable[[int, int], None] | None = None,
    announce: Callable[[str], None] = tell,
) -> Reference:
    """Prepare rows as `prepare_rows` does, for their images alone. Raises as it does."""
    return prepare_rows(dataset, folder, rows, progress, announce).reference


def prepare_rows(
    dataset: CaptionedImages,
    folder: Path,
    rows: int,
    progress: Callable[[int, int], None] | None = None,
    announce: Callable[[str], None] = tell,
    is_prepared: bool = False,
) -> PreparedRows:
    """Write the data set's first `rows` rows into `folder/input`, as far as they are not there, and return them.

    What is there is not read from the data set again: where all is there, the data set is not opened at all.
    `progress` is told how many of how many rows are there; `announce`, what is waited for and what was damaged.

    is_prepared: another process of the run has just done so; nothing is written, and no image is read.

    Raises:
        ValueError: the folder holds another data set, or files that are not this program's at the names that it
            writes; or the data set has no rows.
        OSError: the data cannot be read, or a row cannot be written.
    """
    assert rows > 0, "at least one row is asked for"
    folder = folder / "input"
    manifest = Manifest(dataset, folder, is_prepared)  # refuses another data set before anything is written
    if not is_prepared:
        _write_rows(dataset, manifest, rows, progress, announce)
    if not manifest.lines:
        raise ValueError(f"the data set {dataset.name} has no rows; give another one")
    exhausted = manifest.end is not None
    kept = [manifest.lines[index] for index in sorted(manifest.lines)[:rows]]
    found = tuple(line.row(folder) for line in kept)
    if isinstance(dataset, Described):
        found = tuple(replace(row, metadata=dataset.metadata(row.index)) for row in found)
    return PreparedRows(
        dataset.name, dataset.identity, manifest.label_names, found,
        exhausted=exhausted and len(manifest.lines) <= rows,
    )  # fmt: skip


def _write_rows(
    dataset: CaptionedImages,
    manifest: Manifest,
    rows: int,
    progress: Callable[[int, int], None] | None,
    announce: Callable[[str], None],
) -> None:
    """Write the rows that the folder lacks, under its lock. Raises as `prepare_rows`."""
    folder = manifest.folder
    if strangers := foreign_files(folder, rows):
        mark = folder / NAME
        size = mark.stat().st_size if mark.is_file() else None
        reason = {None: f"no {NAME}", 0: f"an empty {NAME}"}.get(size, f"a {NAME} that does not name them")
        raise ValueError(
            f"{folder} holds {listed(strangers)} and {reason}, so they may not be this program's: {ELSEWHERE}, or move "
            "them away"
        )
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "prepares reference images", announce=announce):
        manifest.claim(announce)
        _fill(dataset, manifest, rows, progress)


def _fill(dataset: CaptionedImages, manifest: Manifest, rows: int, progress: Callable[[int, int], None] | None) -> None:
    """Write the rows below `rows` that the manifest lacks."""
    last = rows if manifest.end is None else min(rows, manifest.end)
    missing = [index for index in range(last) if index not in manifest.lines]
    done = last - len(missing)
    if progress:
        progress(done, rows)
    if not missing and (last == rows or manifest.end is not None):
        return
    first, wanted = (missing[0] if missing else last), set(missing)
    stream = enumerate(islice(undecoded_rows(dataset, first), rows - first), start=first)
    calls = (functools.partial(_write_row, manifest.folder, index, row) for index, row in stream if index in wanted)
    try:
        for line in _run_ahead(calls):
            manifest.append(line)
            done += 1
            if progress:
                progress(done, rows)
    finally:
        for split in SPLITS:
            remove_leftovers(manifest.folder / split, own=True)  # rows that a failure left without a line
    lost = [index for index in missing if index not in manifest.lines]
    there = max(manifest.lines, default=-1) + 1
    if lost and lost[0] < there:
        raise ValueError(
            f"{manifest.folder} lacks row {lost[0]}, which {dataset.name} no longer has: {ELSEWHERE}, "
            "or start over with FRESH=1"
        )
    if lost and manifest.end is None:
        manifest.finish(there)
    manifest.put_in_order()


def split_of(digest: str) -> Split:
    """Return test for a tenth of all digests; the same image is in the same split in every run and data set."""
    return "test" if int(digest, 16) % 10 == 0 else "train"


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


def _write_row(folder: Path, index: int, make: Callable[[], Example]) -> Line:
    """Write the row's image and caption aside, or nothing where it has no image, and return its manifest line."""
    example = make()
    if example.image is None:
        return Line(index, "train", "", example.caption, example.label, example.error, "", 0, "")
    digest = example.digest or content_digest(example.image)
    split = split_of(hashlib.sha256(example.group.encode()).hexdigest() if example.group else digest)
    file = f"{split}/{image_name(index)}"
    path = folder / file
    with naming(path):
        save_png(example.image, partial_path(path))
        content = hashlib.sha256(partial_path(path).read_bytes()).hexdigest()
        size = partial_path(path).stat().st_size
    with naming(caption_path(path)):
        partial_path(caption_path(path)).write_text(example.caption + "\n", encoding="utf-8", newline="")
    return Line(index, split, file, example.caption, example.label, "", digest, size, content)
