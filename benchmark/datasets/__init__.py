"""The data sets by name: `open_dataset` turns DATASET into captioned pictures. Adding one is one entry of DATASETS."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.datasets.base import CaptionedImages


@dataclass(frozen=True)
class Choice:
    """What a data set may need to know of the run. The columns are empty where the user named none."""

    assets: Path
    seed: int
    image_column: str = ""
    caption_column: str = ""


# Each opens lazily: no network, no heavy import, before the first row is asked for.
def _gundam(choice: Choice) -> CaptionedImages:
    from benchmark.datasets.hub import HubImages

    return HubImages("Gazoche/gundam-captioned", "Gundam", choice.image_column, choice.caption_column)


def _wikiart(choice: Choice) -> CaptionedImages:
    from benchmark.datasets.hub import HubImages

    return HubImages("huggan/wikiart", "WikiArt", choice.image_column, choice.caption_column)


def _robots(choice: Choice) -> CaptionedImages:
    from benchmark.datasets.robots import Robots

    _refuse_columns("robots", choice)
    return Robots(choice.assets, choice.seed)


def _emoji(choice: Choice) -> CaptionedImages:
    from benchmark.datasets.emoji import Emoji

    _refuse_columns("emoji", choice)
    return Emoji(choice.assets)


DATASETS: Mapping[str, Callable[[Choice], CaptionedImages]] = {
    "gundam": _gundam,
    "wikiart": _wikiart,
    "robots": _robots,
    "emoji": _emoji,
}


def open_dataset(
    name: str, *, assets: Path, seed: int, image_column: str = "", caption_column: str = ""
) -> CaptionedImages:
    """Return the data set that `name`, the value of DATASET, stands for.

    A name of DATASETS comes first, then a folder that exists, then a hub id; `./robots` is a folder in any case.

    Raises:
        ValueError: the name stands for nothing, or the folder holds no captioned pictures.
        OSError: a path that does not exist.
    """
    choice = Choice(assets, seed, image_column, caption_column)
    if name in DATASETS:
        return DATASETS[name](choice)
    path = Path(name).expanduser()
    if path.is_dir():
        from benchmark.datasets.folder import open_folder

        return open_folder(path, image_column, caption_column)
    if path.is_file():
        raise ValueError(f"DATASET={name} is a file; give the folder that holds it")
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name, flags=re.ASCII):
        from benchmark.datasets.hub import HubImages

        return HubImages(name, name.partition("/")[2], image_column, caption_column)
    if "/" in name or name.startswith(("~", ".")):
        raise FileNotFoundError(f"DATASET={name}: there is no such folder")
    raise ValueError(
        f"DATASET={name!r} is no data set; there are {', '.join(DATASETS)}, a local folder, or a hub id org/name"
    )


def _refuse_columns(name: str, choice: Choice) -> None:
    for variable, value in (("IMAGE_COLUMN", choice.image_column), ("CAPTION_COLUMN", choice.caption_column)):
        if value:
            raise ValueError(f"{variable}={value}: {name} has no columns to choose from; leave it out")
