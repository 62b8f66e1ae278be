"""The data sets by name: what DATASET and REFERENCE stand for. Adding one is one file and one entry of DATASETS."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.data.sources.base import CaptionedImages
from files.reading import is_regular, is_there, shown
from files.sources import expanded, is_folder

if TYPE_CHECKING:
    from benchmark.data.prompts import PromptSet
    from benchmark.data.reference import Reference

PROMPT_SUFFIXES = (".txt", ".jsonl", ".tsv", ".csv")
STATISTICS_SUFFIXES = (".npz",)


@dataclass(frozen=True)
class Choice:
    """What a data set may need to know of the run. The columns are empty where the user named none.

    captions_needed: whether an image without a caption is an error; of references alone none is needed.
    """

    assets: Path
    seed: int
    image_column: str = ""
    caption_column: str = ""
    captions_needed: bool = True


# Each opens lazily: no network, no heavy import, before the first row is asked for.
def _hub(hub_id: str, name: str, choice: Choice) -> CaptionedImages:
    from benchmark.data.sources.hub import HubImages

    return HubImages(
        hub_id, name, choice.image_column, choice.caption_column, captions_needed=choice.captions_needed
    )  # fmt: skip


def _gundam(choice: Choice) -> CaptionedImages:
    return _hub("Gazoche/gundam-captioned", "Gundam", choice)


def _wikiart(choice: Choice) -> CaptionedImages:
    return _hub("huggan/wikiart", "WikiArt", choice)


def _robots(choice: Choice) -> CaptionedImages:
    from benchmark.data.sources.robots import Robots

    return Robots(choice.assets, choice.seed)


def _emoji(choice: Choice) -> CaptionedImages:
    from benchmark.data.sources.emoji import Emoji

    return Emoji(choice.assets)


DATASETS: Mapping[str, Callable[[Choice], CaptionedImages | PromptSet]] = {
    "gundam": _gundam,
    "wikiart": _wikiart,
    "robots": _robots,
    "emoji": _emoji,
}
WITHOUT_COLUMNS = ("robots", "emoji")


def open_prompts(
    name: str, *, assets: Path, seed: int, image_column: str = "", caption_column: str = ""
) -> CaptionedImages | PromptSet:
    """Return the data set that `name`, the value of DATASET, stands for: captioned images, or prompts without images.

    A name of DATASETS comes first, then a folder or a file of prompts that exists, then a hub id; `./robots` is a
    folder in any case.

    Raises:
        ValueError: the name stands for nothing, or what it stands for holds nothing that can be used.
        OSError: a path that does not exist or cannot be read.
    """
    choice = Choice(assets, seed, image_column, caption_column)
    path = find_dataset(name, image_column, caption_column)
    if path is not None and not is_folder(path):
        from benchmark.data.sources.prompt_file import read_prompt_file

        return read_prompt_file(path, caption_column)
    return _open(name, path, choice)


def open_dataset(
    name: str, *, assets: Path, seed: int, image_column: str = "", caption_column: str = ""
) -> CaptionedImages:
    """Return the captioned images that `name` stands for, as `open_prompts`.

    Raises:
        ValueError, OSError: as `open_prompts`, or `name` stands for prompts without images.
    """
    return _with_images(
        name, open_prompts(name, assets=assets, seed=seed, image_column=image_column, caption_column=caption_column)
    )  # fmt: skip


def open_reference(name: str, *, assets: Path, seed: int, image_column: str = "") -> CaptionedImages | Reference:
    """Return what `name`, the value of REFERENCE, stands for: a data set, whose captions may be missing, or statistics.

    Raises:
        ValueError, OSError: as `open_prompts`.
    """
    path = find_reference(name, image_column)
    if path is not None and not is_folder(path):
        from benchmark.data.sources.statistics import open_statistics

        return open_statistics(path)
    return _with_images(name, _open(name, path, Choice(assets, seed, image_column, captions_needed=False)))


def _with_images(name: str, opened: CaptionedImages | PromptSet) -> CaptionedImages:
    from benchmark.data.prompts import PromptSet

    if isinstance(opened, PromptSet):
        raise ValueError(f"{shown(name)} is prompts without images; images are needed here: give a folder or data set")
    return opened


def _open(name: str, folder: Path | None, choice: Choice) -> CaptionedImages | PromptSet:
    if folder is not None:
        from benchmark.data.sources.folder import open_folder

        return open_folder(folder, choice.image_column, choice.caption_column, captions_needed=choice.captions_needed)
    if name in DATASETS:
        return DATASETS[name](choice)
    return _hub(name, name.partition("/")[2], choice)


def find_dataset(name: str, image_column: str = "", caption_column: str = "") -> Path | None:
    """Return the folder or the file of prompts that `name`, the value of DATASET, stands for. Opens nothing.

    None for data sets that are in no place here: those of DATASETS and of the hub.

    Raises:
        ValueError, OSError: as `open_prompts`, as far as names tell.
    """
    return _find("DATASET", name, PROMPT_SUFFIXES, image_column, caption_column)


def find_folder(name: str, image_column: str = "", caption_column: str = "") -> Path | None:
    """Return the local folder that `name`, the value of DATASET, stands for; None for other data sets. Opens nothing.

    Raises:
        ValueError, OSError: as `find_dataset`.
    """
    path = find_dataset(name, image_column, caption_column)
    return path if path is not None and is_folder(path) else None


def is_same(dataset: str, reference: str) -> bool:
    """Return whether DATASET and REFERENCE are one data set by their names: the same, or one folder's."""
    if dataset == reference:
        return True
    one, other = find_dataset(dataset), find_reference(reference)
    return one is not None and other is not None and one.resolve() == other.resolve()


def find_reference(name: str, image_column: str = "") -> Path | None:
    """Return the folder or the file of statistics that `name`, the value of REFERENCE, stands for. Opens nothing.

    None for data sets that are in no place here.

    Raises:
        ValueError, OSError: as `open_reference`, as far as names tell.
    """
    return _find("REFERENCE", name, STATISTICS_SUFFIXES, image_column, "")


def _find(variable: str, name: str, suffixes: tuple[str, ...], image_column: str, caption_column: str) -> Path | None:
    if name in DATASETS:
        if name in WITHOUT_COLUMNS:
            _refuse_columns(name, image_column, caption_column)
        return None
    given, path = f"{variable}={shown(name)}", expanded(name)
    if is_folder(path):
        if not os.access(path, os.R_OK | os.X_OK):
            raise PermissionError(f"{given}: the folder cannot be read; give one that you may read")
        return path
    files = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}" if len(suffixes) > 1 else suffixes[0]
    if path.suffix.lower() in suffixes:
        if not is_regular(path):
            what = "that is no regular file" if _is_taken(path) else "there is no such file"
            raise FileNotFoundError(f"{given}: {what}")
        if not os.access(path, os.R_OK):
            raise PermissionError(f"{given}: the file cannot be read; give one that you may read")
        return path
    if _is_taken(path):
        what = {"DATASET": "prompts", "REFERENCE": "statistics"}[variable]
        other = (
            " of prompts, which holds no images" if path.suffix.lower() in PROMPT_SUFFIXES else ", or a link to none"
        )
        if variable == "REFERENCE" and path.suffix.lower() == ".npy":
            raise ValueError(
                f"{given} is an array; give a folder that holds images, or statistics as {files}, or score your images "
                "against the array with scripts/score_folder.py"
            )
        raise ValueError(f"{given} is a file{other}; give a folder that holds images, or {what} as {files}")
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name, flags=re.ASCII):
        return None
    if "/" in name or name.startswith(("~", ".")):
        raise FileNotFoundError(f"{given}: there is no such folder")
    near = f" ({name.lower()} was probably meant)" if name.lower() in DATASETS else ""
    raise ValueError(
        f"{given} is no data set{near}; there are {', '.join(DATASETS)}, a local folder, a hub id org/name, or a file "
        f"({files})"
    )


def _is_taken(path: Path) -> bool:
    try:
        return is_there(path)
    except (OSError, ValueError):  # no file can have this name
        return False


def _refuse_columns(name: str, image_column: str, caption_column: str) -> None:
    for variable, value in (("IMAGE_COLUMN", image_column), ("CAPTION_COLUMN", caption_column)):
        if value:
            raise ValueError(f"{variable}={value}: {name} has no columns to choose from; leave it out")
