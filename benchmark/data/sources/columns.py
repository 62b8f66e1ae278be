"""Which columns of a table hold image, caption and label, and what a row's caption is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from files.reading import shown, valid_text

# The names that people give to the columns of a table, of any kind: the first that is there counts.
FILE_COLUMNS = (
    "file_name", "filename", "file", "image_file", "image_file_name", "image_filename", "image_name", "image_path",
    "image", "img", "img_path", "img_name", "path", "file_path", "filepath", "photo", "jpg", "png",
)  # fmt: skip
CAPTION_COLUMNS = (
    "text", "caption", "prompt", "description", "image_description", "captions", "sentence", "alt_text", "alt", "title",
    "comment", "notes",
)  # fmt: skip
# WikiArt has no captions: these columns make one, in this order.
COMPOSED_COLUMNS = ("artist", "style", "genre")
COLUMNS_NAMED = 20  # in an error


@dataclass(frozen=True)
class Columns:
    """Where a table keeps what is needed of it. `captions` are one column of text, several to compose, or none."""

    image: str
    captions: tuple[str, ...]
    label: str | None
    class_names: Mapping[str, tuple[str, ...]]

    def used(self) -> list[str]:
        return list(dict.fromkeys([self.image, *self.captions, *([self.label] if self.label else [])]))

    def caption(self, row: Mapping[str, Any]) -> str:
        """Return the row's text, or "Artist: X, Style: Y, Genre: Z"; a missing text is the empty caption."""
        values = {column: self._value(column, row[column]) for column in self.captions}
        if not values:
            return ""
        if len(self.captions) == 1:
            return values[self.captions[0]]
        return ", ".join(f"{column.title()}: {tidy_name(value)}" for column, value in values.items())

    def known_label(self, value: Any) -> int | None:
        """Return a label as it is, or None where it is not known: the hub's -1, or no number of a class."""
        if self.label is None or not isinstance(value, int):
            return None
        return value if 0 <= value < len(self.class_names[self.label]) else None

    def _value(self, column: str, value: Any) -> str:
        names = self.class_names.get(column)
        if names is None:
            return "" if value is None else str(value).strip()
        if not isinstance(value, int) or not 0 <= value < len(names):  # -1 is a label that is not known
            return f"Unknown {column.title()}"
        return names[value].strip()


def simple_name(column: str) -> str:
    """Return a column's name as it is compared: in lower case, with _ for spaces and hyphens ("File Name")."""
    return column.strip().casefold().replace(" ", "_").replace("-", "_")


def known_columns(names: Sequence[str], columns: Iterable[str]) -> list[str]:
    """Return those of a table's columns that have one of these names, in any case of letters, in the names' order."""
    by_name: dict[str, str] = {}
    for column in columns:
        by_name.setdefault(simple_name(column), column)
    exact = set(columns)
    return [name if name in exact else by_name[name] for name in names if name in exact or name in by_name]


def near_column(columns: Iterable[str], names: Sequence[str]) -> str:
    """Return the column whose name is nearly one of these, and most so of the first; empty where no name is near."""
    simple = {simple_name(column): column for column in columns}
    for name in names:
        if found := get_close_matches(name, simple, n=1, cutoff=0.75):
            return simple[found[0]]
    return ""


def tidy_name(name: str) -> str:
    """Return a class name as words: - and _ are spaces, each word begins with a capital ("vincent-van-gogh")."""
    words = name.replace("-", " ").replace("_", " ").split()
    return " ".join(word[:1].upper() + word[1:] for word in words)


def list_columns(columns: Sequence[str]) -> str:
    """Return a table's columns as an error names them: the first of them, on one line."""
    names = ", ".join(shown(column) for column in columns[:COLUMNS_NAMED])
    return names if len(columns) <= COLUMNS_NAMED else f"{names} and {len(columns) - COLUMNS_NAMED} more"


def choose_columns(
    features: Mapping[str, Any], image_column: str, caption_column: str, *, captions_needed: bool = True
) -> Columns:
    """Return the columns to read of a table with these `datasets` features; what is named wins over a guess.

    The image is the single Image column, or the one called `image`; where there is none, a column of FILE_COLUMNS that
    holds files or their names. The caption is composed where artist, style and genre are all there, else the first of
    CAPTION_COLUMNS, else the single column of text. The label is `style`, or the single ClassLabel.

    captions_needed: whether it is an error that no column is obviously that of the captions.

    Raises:
        ValueError: a named column is not there, or nothing obvious is.
    """
    from datasets import ClassLabel, Image, Value

    there = f"the columns are {list_columns(list(features))}"
    for variable, name in (("IMAGE_COLUMN", image_column), ("CAPTION_COLUMN", caption_column)):
        if name and name not in features:
            raise ValueError(f"{variable}={name} is no column of the data set; {there}")
    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    texts = [
        name for name, feature in features.items()
        if isinstance(feature, Value) and feature.dtype in ("string", "large_string")
    ]  # fmt: skip
    if not image_column and len(images) != 1:
        likely = images or [name for name, feature in features.items() if name in texts or _holds_files(feature)]
        found = known_columns(("image",) if images else FILE_COLUMNS, likely)
        if not found:
            raise ValueError(f"the data set has {len(images)} image columns: name one with IMAGE_COLUMN; {there}")
        image_column = found[0]
    classes = {
        name: tuple(valid_text(str(label)) for label in feature.names)
        for name, feature in features.items()
        if isinstance(feature, ClassLabel)
    }
    readable = {*texts, *classes}
    if caption_column:
        captions: tuple[str, ...] = (caption_column,)
    elif readable.issuperset(COMPOSED_COLUMNS):
        captions = COMPOSED_COLUMNS
    else:
        others = [name for name in texts if name != image_column]
        known = known_columns(CAPTION_COLUMNS, others)
        captions = (known[0],) if known else (others[0],) if len(others) == 1 else ()
    if not captions and captions_needed:
        raise ValueError(f"it is not clear which column holds the captions: name it with CAPTION_COLUMN; {there}")
    if not readable.issuperset(captions):
        raise ValueError(f"CAPTION_COLUMN={caption_column} holds neither text nor class names; {there}")
    label = "style" if "style" in classes else next(iter(classes)) if len(classes) == 1 else None
    return Columns(image_column or images[0], captions, label, classes)


def _holds_files(feature: Any) -> bool:
    """Return whether a column holds whole files: bytes, or, as `datasets` keeps images, bytes beside a path."""
    if isinstance(feature, Mapping):
        return "bytes" in feature
    return getattr(feature, "dtype", "") in ("binary", "large_binary")
