"""Paths that stand in a file: they must stay inside the folder that the file belongs to."""

from __future__ import annotations

from pathlib import Path

from files.reading import shown


def resolve_inside(folder: Path, name: str) -> Path:
    """Return the file or folder that `name`, read from a file in `folder`, stands for; it need not exist.

    A symlink is followed where it leads to a place inside the folder, or to the `blobs` of the same repository in the
    Hugging Face cache, which is made of such links.

    Raises:
        ValueError: the name is empty, cannot be a path, or leads outside of the folder.
    """
    if not name:
        raise ValueError("the name is empty")
    path = folder / name
    if is_inside(path, folder):
        return path
    raise ValueError(f"{shown(name)} leads outside of {folder}; a path in a file must stay inside its folder")


def is_inside(path: Path, folder: Path) -> bool:
    """Return whether `path`, with its symlinks followed, stays inside `folder` or in its repository's blobs.

    Raises:
        ValueError: it cannot be a path: it holds a NUL, is too long, or its links go round.
    """
    try:
        target, root = path.resolve(), folder.resolve()
        path.stat()  # a loop and a name that is too long show only here, a missing file is no fault
    except FileNotFoundError:
        pass
    except (OSError, RuntimeError, UnicodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition(":")[0]
        raise ValueError(f"{shown(path)} cannot be a path ({reason})") from None
    blobs = blobs_of(root)
    return target.is_relative_to(root) or (blobs is not None and target.is_relative_to(blobs))


def blobs_of(folder: Path) -> Path | None:
    """Return where the Hugging Face cache keeps the files of a snapshot: REPOSITORY/blobs; None for other folders."""
    for parent in folder.parents:
        if parent.name == "snapshots":
            blobs = parent.parent / "blobs"
            return blobs if blobs.is_dir() else None
    return None
