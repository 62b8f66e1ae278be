"""Deletes files by name: those that a record of ours names, and nothing beside them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from files.paths import resolve_inside

MOST_NAMED = 5


def delete_named(folder: Path, names: Iterable[str]) -> int:
    """Delete files of `folder` by their names relative to it, then the subfolders that are empty; return how many.

    A name that leads outside of the folder, a folder at a file's name, and files without a name here stay.
    """
    deleted, parents = 0, set()
    for name in names:
        try:
            path = resolve_inside(folder, name)
        except ValueError:
            continue
        if path.is_symlink() or not path.is_file():
            continue
        path.unlink()
        deleted += 1
        parents.add(path.parent)
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
