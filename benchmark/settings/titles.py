"""What columns are called: the model's name, and what else differs between the columns of a run; and their folders."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from benchmark.console.plain_text import visible
from benchmark.settings.column_key import ColumnKey

# What a run writes beside the folders of the columns. "reference" is also the contact sheet's last column.
WRITTEN_NAMES = (
    "results.json", "results.csv", "samples.png", "frontier.png", "report.html", "cache", "reference", "CACHEDIR.TAG",
)  # fmt: skip
REMEDY = "rename the model's folder (download one of the hub into a folder of another name)"
MOST_BYTES = 200  # a file name has at most 255, and endings are added
MODE, DTYPE, PLAIN_MODE = "MODE", "DTYPE", "eager"
WHOLE = re.compile(r"-?[0-9]+\.0")
IN_FOLDER_NAME = re.compile(r"[A-Za-z0-9 .+-]{1,40}")  # what of a sweep's value stands in the name of a folder


def titles_of(names: Sequence[str], keys: Sequence[ColumnKey], marks: Sequence[str] = ()) -> list[str]:
    """Return the titles of a run's columns: each model's name, and in brackets what tells it from the others.

    names: of each column's model with its options, "VAR-d16". A mode that is not the plain one always stands there;
    another axis or an option stands there where columns of one name differ in it: "SDXL (steps 8, compiled)".
    marks: what stands in all titles, "several GPUs".

    Raises:
        ValueError: two columns are the same.
    """
    titles = []
    for name, key in zip(names, keys, strict=True):
        others = [other for of, other in zip(names, keys, strict=True) if of == name]
        if sum(other == key for other in others) > 1:
            raise ValueError(f"MODELS names {name} twice; each column is one model")
        if any(other.family != key.family for other in others):
            raise ValueError(f"{name} would be two columns, of two families: rename that model's folder in MODELS")
        differing = [
            variable for variable in (*key.options, *key.axes)
            if variable != MODE and len({other.values.get(variable) for other in others}) > 1
        ]  # fmt: skip
        details = [_detail(variable, key, others) for variable in differing]
        mode = key.axes.get(MODE, PLAIN_MODE)
        details += [*([mode] if mode != PLAIN_MODE else []), *marks]
        titles.append(f"{name} ({', '.join(details)})" if details else name)
    return titles


def _detail(variable: str, key: ColumnKey, others: Sequence[ColumnKey]) -> str:
    """Return how a column says what a variable is: "steps 8" for SDXL_STEPS; of a path as much as tells it apart."""
    value = key.values.get(variable, "")
    values = {other.values.get(variable, "") for other in others}
    prefix = f"{key.family}_".upper()
    if "/" in value:
        return _distinct_end(value, values)
    if variable == DTYPE:
        return value
    shown = shown_value(value)
    is_other = shown != value and shown in values
    return f"{variable.removeprefix(prefix).lower().replace('_', ' ')} {value if is_other else shown}"


def shown_value(text: str) -> str:
    """Return an option's value as a reader writes it: a whole number without ".0"."""
    return text.removesuffix(".0") if WHOLE.fullmatch(text) else text


def _distinct_end(path: str, paths: set[str]) -> str:
    """Return the shortest end of a path that no other of `paths` has: "a/x" of "./a/x" and "./b/x"."""
    parts = PurePosixPath(path).parts
    for count in range(1, len(parts) + 1):
        if sum(PurePosixPath(other).parts[-count:] == parts[-count:] for other in paths) == 1:
            return "/".join(part.strip("/") for part in parts[-count:])
    return path


def folder_name(name: str, axes: Mapping[str, str], held_out: bool = False, swept: Sequence[str] = ()) -> str:
    """Return the name of a new column's folder in OUTPUT_DIR: "VAR-d16" in the mode compiled -> "VAR-d16-compiled".

    swept: what a sweep varies: "SDXL" with "steps 8" -> "SDXL-steps-8". What would read badly is left out.
    Images of held-out captions alone have a folder of their own, beside those of runs that asked all of them.
    """
    mode = axes.get(MODE, PLAIN_MODE)
    folder = name.replace(" (", "-").replace(")", "").replace("/", "-")
    readable = [text.replace(" ", "-") for text in swept if IN_FOLDER_NAME.fullmatch(text)]
    return "-".join([folder, *readable, *([mode] if mode != PLAIN_MODE else []), *(["held-out"] if held_out else [])])


def check_titles(titles: Sequence[str]) -> None:
    """Check the names of a run's models.

    Raises:
        ValueError: a name is taken by what the program writes, or cannot be shown.
    """
    for title in titles:
        if problem := _problem(title):
            raise ValueError(f"MODELS: a column cannot be called {title!r}, {problem}; {REMEDY}")


def check_dataset_name(name: str, variable: str = "DATASET") -> None:
    """Raise ValueError where a data set's folder in OUTPUT_DIR would be called like what the program writes there."""
    if problem := _problem(name):
        raise ValueError(f"{variable}: a data set cannot be called {name!r}, {problem}; rename its folder")


def _problem(title: str) -> str:
    """Return what is wrong with a name by itself, or nothing."""
    if compared(folder_name(title, {})) in map(compared, WRITTEN_NAMES):
        return "which is a name that the program writes in OUTPUT_DIR"
    if title.startswith("."):
        return "since hidden files are left alone"
    if visible(title) != title:
        return "which holds a control character or one that cannot be seen"
    if not title.strip() or len(title.encode()) > MOST_BYTES:
        return f"which is blank or longer than {MOST_BYTES} bytes"
    return ""


def compared(name: str) -> str:
    """Return a name as file systems compare it that know no case and only composed characters."""
    return unicodedata.normalize("NFC", name).casefold()
