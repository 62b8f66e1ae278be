"""Checkpoints of networks that are ours, as they lie on a disk: a hub id, a folder, or the file itself.

Nothing here imports torch: what a file holds is known once it is loaded (`models.weights`).
"""

from __future__ import annotations

from pathlib import Path

from files.reading import shown
from files.sources import expanded, is_file, is_folder, is_local

SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")


def is_checkpoint(path: Path) -> bool:
    """Return whether a path leads to a file that can hold weights, by its suffix."""
    return path.suffix in SUFFIXES and is_file(path)


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a folder that can hold weights, in the order of their names."""
    return sorted(path for path in folder.iterdir() if is_checkpoint(path))


def check_checkpoint(source: str) -> None:
    """Raise OSError where a setting for a checkpoint holds no hub id, folder or file of weights."""
    place = expanded(source)
    if is_file(place) and not is_checkpoint(place):
        raise OSError(f"it is a file, and none of weights ({', '.join(SUFFIXES)}): give one, its folder, or a hub id")
    if not is_file(place):
        is_local(source)


def here(source: str) -> Path | None:
    """Return the folder or file that a setting for a checkpoint names, or None where it is a hub id."""
    place = expanded(source)
    return place if is_folder(place) or is_file(place) else None


def named(folder: Path, published: str) -> Path | None:
    """Return the file of this published name in a folder, as it is or as .safetensors, or None."""
    paths = (folder / published, (folder / published).with_suffix(".safetensors"))
    return next((path for path in paths if is_file(path)), None)


def check_place(variable: str, place: Path, *published: str) -> None:
    """Raise OSError where a folder has neither a file of each published name nor another one that may be it."""
    if is_file(place):
        return
    missing = [name for name in published if named(place, name) is None]
    others = set(weight_files(place)) - {named(place, name) for name in published}
    if missing and not others:
        raise OSError(f"{variable}={shown(place)}: the folder holds no {missing[0]}; give one that does, or a hub id")
