"""Deletes files by name: those that a record of ours names, and nothing beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from files import PROGRAM
from files.paths import resolve_inside
from files.records import Damaged

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


def check_clearable(
    folder: Path,
    mark: str,
    read_mark: Callable[[Path], Mapping[str, Any]],
    there: Sequence[str],
    named: Callable[[], Iterable[str]],
) -> None:
    """Raise ValueError where FRESH=1 may delete nothing in `folder`.

    That is where its mark is missing, damaged or another's, and where something would be left at a name of ours, so
    that the next run would be refused.

    mark: the mark's name. read_mark: reads the mark of a folder; raises OSError where there is none, and Damaged.
    there: the files at names of ours; without any there is nothing to delete. named: gives those that the folder's
    record names and that are as they were written.
    """
    if not there:
        return
    try:
        reason = "" if read_mark(folder).get("program") == PROGRAM else f"{mark} is not of this program"
    except Damaged as error:
        reason = f"{mark} is damaged ({error})"
    except OSError:
        reason = f"there is no {mark}"
    if reason:
        raise ValueError(
            f"FRESH=1 deletes nothing in {folder}: {reason}, so these files may not be this program's: "
            f"{listed(there)}; choose another OUTPUT_DIR (--output-dir), or move them away"
        )
    gone = set(deletable(folder, named()))
    if left := [name for name in there if name not in gone]:
        raise ValueError(
            f"FRESH=1 deletes nothing in {folder}: {listed(left)} would be left, since no whole line names them, they "
            "were edited, or they lie behind a link; run once without FRESH=1, which makes again what is damaged, or "
            "move them away"
        )
