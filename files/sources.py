"""Where a model's files come from: a folder here, or a repository of the Hugging Face hub, told by the name alone."""

from __future__ import annotations

import re
from pathlib import Path

from files.reading import shown

_HUB_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*")


def is_local(source: str) -> bool:
    """Return whether `source` is a folder here rather than a hub id.

    Raises:
        OSError: it can only be a folder, and there is none.
    """
    path = expanded(source)
    if is_folder(path):
        return True
    if _HUB_ID.fullmatch(source) and not is_file(path):
        return False
    what = "it is a file" if is_file(path) else f"no folder {shown(source)}"
    raise OSError(f"{what}: give a folder in the diffusers layout, or a hub id such as org/name")


def check_source(source: str) -> None:
    """Raise OSError where a setting for a hub id or a folder holds neither. An empty one stands for its default."""
    if source:
        is_local(source)


def check_holds(variable: str, source: str, *names: str) -> None:
    """Raise OSError where the folder that `variable` names lacks files of these names; .pth may be .safetensors too."""
    for name in names:
        path = expanded(source) / name
        if not path.exists() and not (path.suffix == ".pth" and path.with_suffix(".safetensors").exists()):
            raise OSError(f"{variable}={shown(source)}: the folder holds no {name}; give one that does, or a hub id")


def expanded(path: str | Path) -> Path:
    """Return a path with ~ and ~name replaced by that home folder, or as it is where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_folder(path: Path) -> bool:
    """Return whether a path leads to a folder; an impossible name, or one that may not be looked at, does not."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Return whether a path leads to a file; an impossible name, or one that may not be looked at, does not."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
