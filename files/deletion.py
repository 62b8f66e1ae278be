"""Deletes files by name: those that a record of ours names, and nothing beside them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from files.paths import resolve_inside

MOST_NAMED = 5


def deletable(folder: Path, names: Iterable[str]) -> list[str]:
    """Return which of the names, relative to `folder`, are regular files in it; a link and what lies behind it is none.

    A name that leads outside of the folder is none either.
    """
    found = []
    for name in names:
        try:
            path = resolve_inside(folder, name)
        except ValueError:
            continue
        if path.is_file() and not path.is_symlink():
            found.append(name)
    return found


def delete_named(folder: Path, names: Iterable[str]) -> int:
    """Delete the files of `folder` that are `deletable`, then the subfolders that are empty; return how many."""
    deleted, parents = 0, set()
    for name in deletable(folder, names):
        (folder / name).unlink()
        deleted += 1
        parents.add((folder / name).parent)
    for parent in sorted(parents, key=lambda path: len(path.parts), reverse=True):
        if parent != folder:
            with suppress(OSError):  # it holds something else
                parent.rmdir()
    return deleted


def listed(names: Iterable[str]) -> str:
    """Return the first few of some names, and how many more there are, for a message."""
    found = list(names)
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return ", ".join(found[:MOST_NAMED]) + more
