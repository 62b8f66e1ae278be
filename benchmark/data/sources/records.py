"""Tables of text, JSON or CSV, read row by row: a row that cannot be read says why and costs no other."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from files.reading import SAVE_AS_UTF_8, as_utf_8, shown

_TOLD_SEPARATOR = re.compile("sep=([,;\t|])", re.IGNORECASE)
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")  # what decoding makes of a byte that is not UTF-8


@dataclass(frozen=True)
class Record:
    """What a row of a table holds. line: its number in the file, of a row of several lines the last.

    error: why it holds nothing. ragged: how its number of cells differs from the header's; the surplus is dropped.
    """

    values: Mapping[str, object]
    line: int
    error: str = ""
    ragged: str = ""


def read_table(table: Path, content: bytes) -> Iterator[Record]:
    """Yield the rows of a table by its suffix: .jsonl, .json, .tsv, or CSV.

    Raises:
        ValueError: the content is not in the encoding that its byte order mark tells, or nothing of it can be read.
    """
    content = as_utf_8(content, table)
    suffix = table.suffix.lower()
    if suffix == ".jsonl":
        return read_jsonl(table, content)
    if suffix == ".json":
        return read_json(table, content)
    return read_csv(table, content, separator="\t" if suffix == ".tsv" else "")


def read_json(table: Path, content: bytes) -> Iterator[Record]:
    """Yield the objects of a JSON array, or of a file of JSON lines; a row's line is its number in the array.

    Raises:
        ValueError: it is neither.
    """
    if content.lstrip()[:1] != b"[":
        yield from read_jsonl(table, content)
        return
    try:
        rows = json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        reason = f"{shown(table)} is not UTF-8 ({error.reason} at byte {error.start}); {SAVE_AS_UTF_8}"
        raise ValueError(reason) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{shown(table)} is not JSON ({_json_reason(error)}); fix or remove it") from error
    for number, row in enumerate(rows, start=1):
        is_object = isinstance(row, dict)
        error_text = f"{shown(table)}, entry {number} is no JSON object; fix it"
        yield Record(row, number) if is_object else Record({}, number, error_text)


def read_jsonl(table: Path, content: bytes) -> Iterator[Record]:
    """Yield the objects of a file of JSON lines; blank lines are skipped."""
    for number, line in enumerate(split_lines(content), start=1):
        if not line.strip():
            continue
        place = f"{shown(table)}, line {number}"
        try:
            record = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            reason = f"{place} is not UTF-8 ({error.reason} at byte {error.start}); {SAVE_AS_UTF_8}"
            yield Record({}, number, reason)
        except (ValueError, RecursionError) as error:
            yield Record({}, number, f"{place} is not JSON ({_json_reason(error)}); fix or remove it")
        else:
            is_object = isinstance(record, dict)
            yield Record(record, number) if is_object else Record({}, number, f"{place} is no JSON object; fix it")


def _json_reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    return "it is nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"


def split_lines(content: bytes) -> list[bytes]:
    """Return the lines of a text file, whatever system's line ends it has, without its byte order mark."""
    content = content.removeprefix(b"\xef\xbb\xbf")
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")


def find_separator(header: str) -> str:
    """Return what separates the cells of a CSV's first line: the comma, or what some spreadsheets write in its place.

    That is ; where the comma is the decimal mark, and a tab in what Excel calls Unicode text.
    """
    outside = "".join(header.split('"')[::2])  # without what stands in quotes
    return max((",", ";", "\t"), key=outside.count)  # the first of those that are equally frequent


def unquoted(text: str) -> str:
    """Return a cell between tabs without the quotes that a writer of CSV puts around a text that holds quotes.

    Where quotes stand around a text without others, or others are not doubled, they are part of the text.
    """
    inner = text[1:-1]
    is_quoted = len(text) > 1 and text[0] == text[-1] == '"' and '""' in inner and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if is_quoted else text


def read_csv(table: Path, content: bytes, *, separator: str = "") -> Iterator[Record]:
    """Yield the rows of a CSV, or of a table with the given separator; without one, the first line tells it.

    Where a tab is given, quotes are part of the text, as the format has it. A byte that is not UTF-8 costs the rows
    whose cells hold it.

    Raises:
        ValueError: the header cannot be read.
    """
    text = content.decode("utf-8-sig", "surrogateescape")
    first = re.split(r"[\r\n]", text, maxsplit=1)[0]
    told = _TOLD_SEPARATOR.fullmatch(first)
    file = io.StringIO(text, newline="")
    if told is not None:  # a line for Excel alone
        file.readline()
    reader = csv.DictReader(
        file, delimiter=separator or (str(told[1]) if told is not None else find_separator(first)),
        quoting=csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL,
    )  # fmt: skip
    try:
        header = reader.fieldnames or ()
    except csv.Error as error:
        raise ValueError(f"{shown(table)} has no header that can be read ({error}); fix or remove it") from error
    if any(_ESCAPED_BYTE.search(name) for name in header):
        raise ValueError(f"the header of {shown(table)} is not UTF-8; {SAVE_AS_UTF_8}")
    while True:
        try:
            record = next(reader, None)
        except csv.Error as error:
            number = reader.line_num + 1
            yield Record({}, number, f"{shown(table)}, line {number} is not CSV ({error}); fix or remove it")
            continue
        if record is None:
            return
        # A row that is longer than the header has its surplus under the key None, a shorter one None as values.
        values = {name: value for name, value in record.items() if isinstance(name, str)}
        if any(isinstance(value, str) and _ESCAPED_BYTE.search(value) for value in values.values()):
            error_text = f"{shown(table)}, line {reader.line_num} is not UTF-8; {SAVE_AS_UTF_8}"
            yield Record({}, reader.line_num, error_text)
            continue
        surplus: object = dict[object, object](record).get(None, ())
        cells = sum(value is not None for value in values.values()) + (len(surplus) if isinstance(surplus, list) else 0)
        ragged = "" if cells == len(header) else f"{cells} cells where the header has {len(header)}"
        yield Record(values, reader.line_num, ragged=ragged)
