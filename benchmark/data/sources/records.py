"""Tables of text, JSON lines or CSV, read row by row: a row that cannot be read says why and costs no other."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from files.reading import shown

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


def read_jsonl(table: Path, content: bytes) -> Iterator[Record]:
    """Yield the objects of a file of JSON lines; blank lines are skipped."""
    for number, line in enumerate(split_lines(content), start=1):
        if not line.strip():
            continue
        place = f"{shown(table)}, line {number}"
        try:
            record = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            reason = f"{place} is not UTF-8 ({error.reason} at byte {error.start}); save the table as UTF-8"
            yield Record({}, number, reason)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else _json_reason(error)
            yield Record({}, number, f"{place} is not JSON ({reason}); fix or remove it")
        else:
            is_object = isinstance(record, dict)
            yield Record(record, number) if is_object else Record({}, number, f"{place} is no JSON object; fix it")


def _json_reason(error: ValueError | RecursionError) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"


def split_lines(content: bytes) -> list[bytes]:
    """Return the lines of a text file, whatever system's line ends it has, without its byte order mark."""
    return content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")


def read_csv(table: Path, content: bytes, *, separator: str = ",") -> Iterator[Record]:
    """Yield the rows of a CSV, or of a table with another separator.

    Where tabs separate, quotes are part of the text, as the format has it. A byte that is not UTF-8 costs the rows
    whose cells hold it.

    Raises:
        ValueError: the header cannot be read.
    """
    reader = csv.DictReader(
        io.StringIO(content.decode("utf-8-sig", "surrogateescape"), newline=""), delimiter=separator,
        quoting=csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL,
    )  # fmt: skip
    try:
        header = reader.fieldnames or ()
    except csv.Error as error:
        raise ValueError(f"{shown(table)} has no header that can be read ({error}); fix or remove it") from error
    if any(_ESCAPED_BYTE.search(name) for name in header):
        raise ValueError(f"the header of {shown(table)} is not UTF-8; save the table as UTF-8")
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
            error_text = f"{shown(table)}, line {reader.line_num} is not UTF-8; save the table as UTF-8"
            yield Record({}, reader.line_num, error_text)
            continue
        surplus: object = dict[object, object](record).get(None, ())
        cells = sum(value is not None for value in values.values()) + (len(surplus) if isinstance(surplus, list) else 0)
        ragged = "" if cells == len(header) else f"{cells} cells where the header has {len(header)}"
        yield Record(values, reader.line_num, ragged=ragged)
