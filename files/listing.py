"""What a folder holds: its images, its files of text and tables, and, with a reason each, whatever else lies in it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from files.image_kinds import SUFFIXES, classify
from files.paths import is_inside
from files.reading import shown, valid_text

# Files whose suffix says that they are read for what they say, so that no image is looked for in them.
TEXT_SUFFIXES = frozenset({".txt", ".caption"})
TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".json", ".parquet"})
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})  # as little the user's own as hidden files
NAMED = 3  # files of one reason that a line names


@dataclass(frozen=True)
class LeftOut:
    """A file of a folder, or a row of a table in it, that is not used. reason: why, as the end of a sentence."""

    name: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """What lies in a folder, each part sorted. images: by suffix or content; one may turn out to be damaged.

    others: text files and tables by suffix; whoever lists says what they are for. left_out: all else that is no
    hidden file, each with its reason.
    """

    folder: Path
    images: tuple[Path, ...]
    others: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]

    def name(self, path: Path) -> str:
        """Return how a file of this listing is named in messages and records."""
        return name_in(self.folder, path)


def name_in(folder: Path, path: Path) -> str:
    """Return a path as seen from the folder; one that lies elsewhere in full."""
    return valid_text(path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path))


def list_folder(folder: Path, *, nested: bool = True) -> Listing:
    """Return what lies in a folder, and with `nested` in its subfolders.

    An image is what `files.image_kinds` says is one, whatever its suffix. Hidden files and folders, and the files that
    Windows leaves behind, are passed over. A link to a folder is not entered, a link to a file outside is not opened.

    Raises:
        OSError: there is no such folder, or it cannot be listed.
    """
    images: list[Path] = []
    others: list[Path] = []
    left_out: list[LeftOut] = []
    pending = [folder]
    while pending:
        place = pending.pop()
        try:
            with os.scandir(place) as entries:
                there = [entry for entry in entries if not _is_passed_over(entry.name)]
        except OSError as error:
            if place == folder:
                raise
            left_out.append(LeftOut(name_in(folder, place), f"the folder cannot be listed ({error.strerror})"))
            continue
        for entry in there:
            path = place / entry.name
            if entry.is_dir(follow_symlinks=False):
                if nested:
                    pending.append(path)
                else:
                    left_out.append(LeftOut(name_in(folder, path), "a subfolder, which is not entered"))
            elif (suffix := path.suffix.lower()) in SUFFIXES and _leads_to_file(entry):
                images.append(path)
            elif suffix in TEXT_SUFFIXES | TABLE_SUFFIXES and _leads_to_file(entry):
                others.append(path)
            elif reason := _reason(entry, path, folder):
                left_out.append(LeftOut(name_in(folder, path), reason))
            else:
                images.append(path)
    return Listing(
        folder, tuple(sorted(images)), tuple(sorted(others)), tuple(sorted(left_out, key=lambda file: file.name))
    )


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def _leads_to_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _reason(entry: os.DirEntry[str], path: Path, folder: Path) -> str:
    """Return why an entry whose suffix does not say that it is an image or a text is none; empty: it is an image."""
    if entry.is_symlink():
        try:
            inside = is_inside(path, folder)
        except ValueError:
            return "a link that leads nowhere"
        if entry.is_dir():
            where = (
                "of the same data set, whose files count once" if inside else "elsewhere: put the files themselves here"
            )
            return f"a link to a folder {where}"
        if not inside:
            return "a link that leads outside of the folder"
    if not _leads_to_file(entry):
        return "a link that leads nowhere" if entry.is_symlink() else "no regular file"
    return classify(path)


def count_reasons(left_out: Iterable[LeftOut]) -> list[str]:
    """Return for each reason how many files it leaves out, with the first of their names; the most frequent first."""
    left_out = list(left_out)
    counts = Counter(entry.reason for entry in left_out)
    return [f"{count} ({_names(left_out, reason)}): {reason}" for reason, count in counts.most_common()]


def _names(left_out: Sequence[LeftOut], reason: str) -> str:
    names = [entry.name for entry in left_out if entry.reason == reason]
    return ", ".join([*map(shown, names[:NAMED]), *(["..."] if len(names) > NAMED else [])])
