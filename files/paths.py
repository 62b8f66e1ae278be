"""Paths that stand in a file: they must stay inside the folder that the file belongs to."""

from __future__ import annotations

import re
from pathlib import Path

from files.reading import shown

MOST_LINKS = 40  # as many as Linux follows
_REPOSITORY = re.compile(r"(models|datasets|spaces|kernels)--.+", re.DOTALL)
_HASH = re.compile(r"[0-9a-f]{64}")


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
    except (FileNotFoundError, PermissionError):
        pass
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{shown(path)} cannot be a path ({_reason(error)})") from None
    if target.is_relative_to(root):
        return True
    blobs = blobs_of(root)
    return blobs is not None and (target.is_relative_to(blobs) or _is_shared_blob(path, target, blobs))


def _reason(error: Exception) -> str:
    if isinstance(error, RuntimeError):  # as Path.resolve says it before Python 3.13
        return "its symlinks go round"
    if isinstance(error, UnicodeError):
        return "it holds a character that no file name can hold"
    return getattr(error, "strerror", None) or str(error)


def blobs_of(folder: Path) -> Path | None:
    """Return where the Hugging Face cache keeps the files of a snapshot: KIND--NAME/blobs; None for other folders."""
    for parent in folder.parents:
        if parent.name == "snapshots" and _REPOSITORY.fullmatch(parent.parent.name):
            blobs = parent.parent / "blobs"
            return blobs if blobs.is_dir() else None
    return None


def _is_shared_blob(path: Path, target: Path, blobs: Path) -> bool:
    """Return whether `path` links to a blob of its repository, which links to the store that repositories share.

    huggingface_hub may keep a file once for all repositories: CACHE/blobs/ab/ab12... with its hash as its name.
    """
    place = target.parts[-3:]
    if target.parent.parent != blobs.parents[1] / "blobs" or not _HASH.fullmatch(place[2]) or place[2][:2] != place[1]:
        return False
    for _ in range(MOST_LINKS):
        if not path.is_symlink():
            return False
        path = (path.parent.resolve() / path.readlink()).absolute()
        if path.parent.resolve() == blobs:
            return True
    return False
