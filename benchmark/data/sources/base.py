"""What a data set of captioned images is: numbered rows, each an image with its caption; and what it may offer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from files.listing import LeftOut, count_reasons

if TYPE_CHECKING:
    from PIL.Image import Image


MOST_REASONS = 5  # that one line names


@dataclass(frozen=True)
class Example:
    """One row. `image` is RGB, or None where the row's image does not decode: `error` then says why.

    group: rows of one group stay in one split; empty: the image's content alone decides.
    digest: content digest of the source image where `image` is a part of it; empty: `image` is the source.
    """

    caption: str
    image: Image | None
    label: int | None = None
    error: str = ""
    group: str = ""
    digest: str = ""


class CaptionedImages(Protocol):
    """A data set of captioned images, read in the order of its rows.

    name: the folder's name under OUTPUT_DIR, "Gundam".
    identity: what the run's fingerprint holds of it: name, and seed or version where the rows depend on them.
    label_names: class names in the order of the labels, or empty.
    """

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str: ...

    @property
    def label_names(self) -> tuple[str, ...]: ...

    def examples(self, start: int = 0) -> Iterator[Example]:
        """Yield the rows from `start` on, until there are no more. Raises OSError where the data cannot be read."""
        ...


@runtime_checkable
class Undecoded(Protocol):
    """What a data set may offer beside `examples`: its rows before their images are decoded, for work in threads."""

    def undecoded(self, start: int = 0) -> Iterator[Callable[[], Example]]:
        """Yield, for each row from `start` on, a function that makes it; any thread may call it, once."""
        ...


@runtime_checkable
class Described(Protocol):
    """What a data set may offer beside `examples`: what it says of a row's prompt beside the caption."""

    def metadata(self, row: int) -> Mapping[str, str]: ...


# How an entry of what is left out is named that is a row of a table, and no file.
_ROW = re.compile(r", row \d+$")


@dataclass(frozen=True)
class Survey:
    """What was found where a data set lies. files: how many there are, apart from hidden ones.

    left_out: the files, and the rows of tables, that are no rows of the data set. notes: what else a user must know.
    """

    files: int
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    def summary(self, name: str) -> str:
        """Return one line on what was found: how many files, and what is left out, by reason."""
        if self.left_out:
            count = len(self.left_out)
            what = "1 file or row of a table" if count == 1 else f"{count:,} files or rows of tables"
            used = self.files - sum(not _ROW.search(entry.name) for entry in self.left_out)
            counted = f"{used:,} used, {what} left out: {self._reasons()}"
        else:
            counted = "all used"
        files = "1 file" if self.files == 1 else f"{self.files:,} files"
        return "; ".join((f"{name}: {files}, {counted}", *self.notes))

    def note(self, name: str) -> str:
        """Return what the footer says of the data set's folder; empty where all was used."""
        return f"{self.summary(name)} (input/manifest.jsonl names all)" if self.left_out or self.notes else ""

    def _reasons(self) -> str:
        """Return the counts of the most frequent reasons, each with the first names."""
        reasons = count_reasons(self.left_out)
        more = [f"{len(reasons) - MOST_REASONS} other reasons"] if len(reasons) > MOST_REASONS else []
        return "; ".join(reasons[:MOST_REASONS] + more)


@runtime_checkable
class Surveyed(Protocol):
    """What a data set may offer beside `examples`: what lies where it was read and is not among its rows."""

    @property
    def name(self) -> str: ...

    @property
    def survey(self) -> Survey: ...


@runtime_checkable
class Arranged(Protocol):
    """A data set whose rows are chosen or changed in a way that a manifest's first line records."""

    arrangement: Mapping[str, int]


@runtime_checkable
class Arrangeable(Protocol):
    """What a data set may offer: its rows as a manifest's first line says that they were arranged."""

    def arranged(self, header: Mapping[str, Any]) -> CaptionedImages | None:
        """Return the data set so arranged, or None where the line tells of plain rows or of another data set."""
        ...


def undecoded_rows(dataset: CaptionedImages, start: int = 0) -> Iterator[Callable[[], Example]]:
    """Yield the rows from `start` on as functions that make them: undecoded where the data set offers that."""
    if isinstance(dataset, Undecoded):
        return dataset.undecoded(start)
    return (partial(_same, example) for example in dataset.examples(start))


def _same(example: Example) -> Example:
    return example
