"""The data sets by name: `open_dataset` turns DATASET into captioned images. Adding one is one entry of DATASETS."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.data.sources.base import CaptionedImages
from files.reading import shown
from files.sources import expanded, is_folder


@dataclass(frozen=True)
class Choice:
    """What a data set may need to know of the run. The columns are empty where the user named none."""

    assets: Path
    seed: int
    image_column: str = ""
    caption_column: str = ""


# Each opens lazily: no network, no heavy import, before the first row is asked for.
def _gundam(choice: Choice) -> CaptionedImages:
    from benchmark.data.sources.hub import HubImages

    return HubImages("Gazoche/gundam-captioned", "Gundam", choice.image_column, choice.caption_column)


def _wikiart(choice: Choice) -> CaptionedImages:
    from benchmark.data.sources.hub import HubImages

    return HubImages("huggan/wikiart", "WikiArt", choice.image_column, choice.caption_column)


def _robots(choice: Choice) -> CaptionedImages:
    from benchmark.data.sources.robots import Robots

    return Robots(choice.assets, choice.seed)


def _emoji(choice: Choice) -> CaptionedImages:
    from benchmark.data.sources.emoji import Emoji

    return Emoji(choice.assets)


DATASETS: Mapping[str, Callable[[Choice], CaptionedImages]] = {
    "gundam": _gundam,
    "wikiart": _wikiart,
    "robots": _robots,
    "emoji": _emoji,
}
WITHOUT_COLUMNS = ("robots", "emoji")


def open_dataset(
    name: str, *, assets: Path, seed: int, image_column: str = "", caption_column: str = ""
) -> CaptionedImages:
    """Return the data set that `name`, the value of DATASET, stands for.

    A name of DATASETS comes first, then a folder that exists, then a hub id; `./robots` is a folder in any case.

    Raises:
        ValueError: the name stands for nothing, or the folder holds no captioned images.
        OSError: a path that does not exist.
    """
    path = find_folder(name, image_column, caption_column)
    if name in DATASETS:
        return DATASETS[name](Choice(assets, seed, image_column, caption_column))
    if path is not None:
        from benchmark.data.sources.folder import open_folder

        return open_folder(path, image_column, caption_column)
    from benchmark.data.sources.hub import HubImages

    return HubImages(name, name.partition("/")[2], image_column, caption_column)


def find_folder(name: str, image_column: str = "", caption_column: str = "") -> Path | None:
    """Return the local folder that `name`, the value of DATASET, stands for; None for other data sets. Opens nothing.

    Raises:
        ValueError, OSError: as `open_dataset`, as far as names tell.
    """
    if name in DATASETS:
        if name in WITHOUT_COLUMNS:
            _refuse_columns(name, image_column, caption_column)
        return None
    path = expanded(name)
    if is_folder(path):
        if not os.access(path, os.R_OK | os.X_OK):
            raise PermissionError(f"DATASET={shown(name)}: the folder cannot be read; give one that you may read")
        return path
    if os.path.lexists(path):
        raise ValueError(f"DATASET={shown(name)} is a file, or a link to none; give the folder that holds the images")
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name, flags=re.ASCII):
        return None
    if "/" in name or name.startswith(("~", ".")):
        raise FileNotFoundError(f"DATASET={shown(name)}: there is no such folder")
    near = f" ({name.lower()} was probably meant)" if name.lower() in DATASETS else ""
    raise ValueError(
        f"DATASET={shown(name)} is no data set{near}; "
        f"there are {', '.join(DATASETS)}, a local folder, or a hub id org/name"
    )


def _refuse_columns(name: str, image_column: str, caption_column: str) -> None:
    for variable, value in (("IMAGE_COLUMN", image_column), ("CAPTION_COLUMN", caption_column)):
        if value:
            raise ValueError(f"{variable}={value}: {name} has no columns to choose from; leave it out")
