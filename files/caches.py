"""Folders of what can be computed again: marked as the CACHEDIR.TAG convention says, and kept free of leftovers."""

from __future__ import annotations

from pathlib import Path

from files import PROGRAM
from files.locks import locked
from files.writing import remove_leftovers, write_text

TAG_NAME = "CACHEDIR.TAG"
# The first line is fixed by the convention (https://bford.info/cachedir/); backup programs look for it.
TAG = f"Signature: 8a477f597d28d172789f06886806bc55\n# This folder is a cache of {PROGRAM}; it may be deleted.\n"


def open_cache(folder: Path) -> None:
    """Make a cache folder with its mark; in one that is there, delete what killed processes left half written.

    A folder that holds files and no mark of ours is used, and nothing is deleted in it.

    Raises:
        OSError: it cannot be made or written.
    """
    tag = folder / TAG_NAME
    if not folder.is_dir() or not any(folder.iterdir()):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(tag, TAG, sync=False)
    elif tag.is_file() and tag.read_bytes() == TAG.encode():
        try:
            with locked(folder, "tidies the cache"):
                for place in (folder, *(path for path in folder.iterdir() if path.is_dir())):
                    remove_leftovers(place)
        except OSError:
            return  # another process does just that
