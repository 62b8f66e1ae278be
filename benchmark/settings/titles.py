"""The names of columns, and the folders in OUTPUT_DIR that they stand for: no two may meet, none may be ours."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from benchmark.console.plain_text import visible
from models.base import Mode

# What a run writes beside the folders of the columns. "reference" is also the contact sheet's last column.
WRITTEN_NAMES = ("results.json", "results.csv", "samples.png", "report.html", "cache", "reference", "CACHEDIR.TAG")
REMEDY = "rename the model's folder (download one of the hub into a folder of another name)"
MOST_BYTES = 200  # a file name has at most 255, and endings are added


def title_with_mode(title: str, mode: Mode) -> str:
    """Return a column's title; the mode stands in it where that is not the plain one."""
    return title if mode == "eager" else f"{title} ({mode})"


def folder_name(title: str, held_out: bool = False) -> str:
    """Return the name of a column's folder in OUTPUT_DIR: "VAR-d16 (compiled)" -> "VAR-d16-compiled".

    Images of held-out captions alone have a folder of their own, beside those of runs that asked all of them.
    """
    name = title.replace(" (", "-").replace(")", "").replace("/", "-")
    return f"{name}-held-out" if held_out else name


def check_titles(titles: Sequence[str], modes: Sequence[Mode]) -> None:
    """Check the titles of a run's models, without their modes.

    Raises:
        ValueError: a title is taken by what the program writes, cannot be shown, or two columns have one folder.
    """
    for title in titles:
        if problem := _problem(title):
            raise ValueError(f"MODELS: a column cannot be called {title!r}, {problem}; {REMEDY}")
        if titles.count(title) > 1:
            raise ValueError(f"MODELS names {title} twice; each column is one model")
    taken: dict[str, str] = {}
    for title in titles:
        for mode in modes:
            column = title_with_mode(title, mode)
            for held_out in (False, True):
                name = folder_name(column, held_out)
                other = taken.setdefault(_compared(name), column)
                if other != column:
                    raise ValueError(
                        f"MODELS: {column} and {other} would share the folder {name} in OUTPUT_DIR; {REMEDY}"
                    )


def check_dataset_name(name: str) -> None:
    """Raise ValueError where a data set's folder in OUTPUT_DIR would be called like what the program writes there."""
    if problem := _problem(name):
        raise ValueError(f"DATASET: a data set cannot be called {name!r}, {problem}; rename its folder")


def _problem(title: str) -> str:
    """Return what is wrong with a title by itself, or nothing."""
    if _compared(folder_name(title)) in map(_compared, WRITTEN_NAMES):
        return "which is a name that the program writes in OUTPUT_DIR"
    if title.startswith("."):
        return "since hidden files are left alone"
    if visible(title) != title:
        return "which holds a control character or one that cannot be seen"
    if not title.strip() or len(title.encode()) > MOST_BYTES:
        return f"which is blank or longer than {MOST_BYTES} bytes"
    return ""


def _compared(name: str) -> str:
    """Return a name as file systems compare it that know no case and only composed characters."""
    return unicodedata.normalize("NFC", name).casefold()
