"""Prompts without images, in a file: one a line (.txt), or a row each of a table (.jsonl, .tsv, .csv)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmark.data.prompts import Prompt, PromptSet
from benchmark.data.sources.columns import FILE_COLUMNS, known_columns, list_columns, near_column
from benchmark.data.sources.records import Record, read_table, split_lines, unquoted
from files.image_kinds import SUFFIXES
from files.reading import SAVE_AS_UTF_8, as_utf_8, read_regular, shown, valid_text

# Which column holds the prompt, where CAPTION_COLUMN names none: the first of these, in any case of letters.
PROMPT_COLUMNS = ("prompt", "text", "caption", "description")
LABEL_COLUMNS = ("class_label", "label")
FILE_COLUMN = "file_name"  # of a table of images
MOST_CHARACTERS = 10_000  # of a prompt; every text encoder cuts far earlier
MOST_DIGITS = 9  # of a class label


def read_prompt_file(path: Path, prompt_column: str = "") -> PromptSet:
    """Return the prompts of a file, with the class label and the metadata that a table gives them.

    A table's prompts are in `prompt_column`, else in the first of PROMPT_COLUMNS; whole numbers in `class_label` or
    `label` are class labels; all other columns are metadata. Blank prompts, and null in JSON, are skipped, and `note`
    says how many.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no text in UTF-8 or in the encoding that its byte order mark tells, holds no prompt, or a
            line cannot be used; one line that names it.
    """
    content = as_utf_8(read_regular(path), path)
    _check_text(path, content)
    is_table = path.suffix.lower() != ".txt"
    if prompt_column and not is_table:
        raise ValueError(f"CAPTION_COLUMN={prompt_column}: {shown(path)} has no columns; leave it out")
    rows = list(_table_rows(path, content, prompt_column) if is_table else _text_rows(path, content))
    prompts = tuple(prompt for prompt in rows if prompt is not None)
    if not prompts:
        raise ValueError(f"{shown(path)} holds no prompts; expected one a line, or a table with a column prompt")
    blank = len(rows) - len(prompts)
    name = valid_text(path.stem)
    digest = hashlib.sha256("".join(json.dumps([prompt.text, prompt.class_label]) for prompt in prompts).encode())
    note = (
        f"{blank} blank {'row' if is_table else 'line'}{'' if blank == 1 else 's'} of {valid_text(path.name)} skipped"
    )
    return PromptSet(
        name, f"prompts {name} {digest.hexdigest()[:16]}", (), prompts, exhausted=True, note=note if blank else ""
    )


def _check_text(path: Path, content: bytes) -> None:
    """Raise ValueError where a file is no text in UTF-8."""
    for number, line in enumerate(split_lines(content), start=1):
        place = f"{shown(path)}, line {number}"
        if b"\0" in line:
            raise ValueError(f"{place} holds a NUL, which no text has; save the prompts as UTF-8")
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{place} is not UTF-8 ({error.reason} at byte {error.start}); {SAVE_AS_UTF_8}") from error


def _text_rows(path: Path, content: bytes) -> Iterator[Prompt | None]:
    """Yield a prompt for each line, None for a blank one; what ends the last line is no line."""
    lines = split_lines(content)
    for number, line in enumerate(lines[:-1] if not lines[-1] else lines, start=1):
        text = line.decode("utf-8").strip()
        yield _checked(Prompt(number - 1, text), f"{shown(path)}, line {number}") if text else None


def _table_rows(path: Path, content: bytes, prompt_column: str) -> Iterator[Prompt | None]:
    """Yield a prompt for each row of a table, None where it has a blank one."""
    records = list(read_table(path, content))
    unusable = [record.error for record in records if record.error]
    if unusable:
        raise ValueError(unusable[0])
    columns = list(dict.fromkeys(column for record in records for column in record.values))
    if file_column := _column_of_images(records, columns):
        raise ValueError(
            f"{shown(path)} is a table of images (it has a column {shown(file_column)}): give its folder, "
            f"{shown(path.parent)}, or a table without that column for the prompts alone"
        )
    if prompt_column and prompt_column not in columns and records:
        raise ValueError(
            f"CAPTION_COLUMN={prompt_column} is no column of {shown(path)}; the columns are {list_columns(columns)}"
        )
    column = prompt_column or _first_of(PROMPT_COLUMNS, columns)
    if column is None and records:
        near = near_column(columns, PROMPT_COLUMNS)
        raise ValueError(
            f"{shown(path)} has none of the columns {', '.join(PROMPT_COLUMNS)}: name the one that holds the prompts "
            f"with CAPTION_COLUMN{f' ({shown(near)} was probably meant)' if near else ''}; the columns are "
            f"{list_columns(columns)}"
        )
    label_column = _first_of(LABEL_COLUMNS, [name for name in columns if name != column])
    for row, record in enumerate(records):
        place = f"{shown(path)}, line {record.line}"
        if record.ragged:
            raise ValueError(f"{place} has {record.ragged}: a text with the separator in it needs quotes, or a .jsonl")
        assert column is not None
        text = record.values.get(column)
        if text is None and column in record.values:  # JSON's null
            yield None
            continue
        if not isinstance(text, str):
            raise ValueError(f"{place} has no text in column {column!r}; fix or remove the row")
        text = unquoted(text) if path.suffix.lower() == ".tsv" else text
        others = {name: value for name, value in record.values.items() if name not in (column, label_column)}
        label = _label(record.values.get(label_column), label_column, place) if label_column else None
        prompt = Prompt(row, valid_text(text).strip(), label, _metadata(others))
        yield _checked(prompt, place) if prompt.text else None


def _first_of(names: tuple[str, ...], columns: list[str]) -> str | None:
    return next(iter(known_columns(names, columns)), None)


def _column_of_images(records: list[Record], columns: list[str]) -> str:
    """Return the column that makes a table one of images: file_name, or one whose first cell is an image's name."""
    if FILE_COLUMN in columns:
        return FILE_COLUMN
    first = records[0].values if records else {}
    named = known_columns(FILE_COLUMNS, columns)
    return next((name for name in named if Path(str(first.get(name))).suffix.lower() in SUFFIXES), "")


def _label(value: object, column: str, place: str) -> int | None:
    """Return a class label, None for an empty cell. Raises ValueError where it is no whole number from 0 on."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    text = str(value).strip()
    is_number = text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS
    if isinstance(value, int | str) and not isinstance(value, bool) and is_number:
        return int(text)
    raise ValueError(
        f"{place} has {shown(text)} in column {column!r}, where a class's whole number is expected; fix it, or rename "
        "the column"
    )


def _metadata(values: Mapping[str, object]) -> dict[str, str]:
    """Return the other cells of a row as text: strings as they are, what else JSON has as JSON, without empty ones."""
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in values.items()
        if value is not None and value != ""
    }
    return {valid_text(name): valid_text(text) for name, text in texts.items()}


def _checked(prompt: Prompt, place: str) -> Prompt:
    if len(prompt.text) > MOST_CHARACTERS:
        raise ValueError(f"{place} has {len(prompt.text):,} characters; a prompt has at most {MOST_CHARACTERS:,}")
    return prompt
