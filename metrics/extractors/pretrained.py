"""Finds a feature network of transformers: in a local folder, in the hub's cache, or on the hub."""

from __future__ import annotations

from pathlib import Path

from files.downloads import show_bar
from metrics.base import MetricUnavailable
from metrics.needed import WEIGHTS_FILES, hub_network


def find_folder(source: str, variable: str) -> Path:
    """Return the folder with a model's config.json and weights; a hub id is downloaded where the hub can be reached.

    Raises:
        MetricUnavailable: it was not found; the text says what to set `variable` to.
    """
    try:
        return _find(source)
    except OSError as error:
        reason = " ".join(str(error).split())[:300]
        raise MetricUnavailable(
            f"{source} was not found ({reason}): set {variable} to a folder with its config.json and {WEIGHTS_FILES[0]}"
        ) from error


def _find(source: str) -> Path:
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return hub_network(source).fetch(show_bar)
    for names in (("config.json",), WEIGHTS_FILES):
        if not any((folder / name).is_file() for name in names):
            raise OSError(f"the folder holds no {names[0]}")
    return folder


def weights_file(folder: Path) -> Path:
    """Return the file that holds a network's weights; transformers takes the first of these, too."""
    return next((path for name in WEIGHTS_FILES if (path := folder / name).is_file()), folder / WEIGHTS_FILES[0])
