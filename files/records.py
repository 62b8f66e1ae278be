"""JSON with a checksum: lines of journals, and small files, of which a changed digit is seen when they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from files.reading import read_regular
from files.writing import write_text

CHECKSUM = "checksum"
CHECKSUM_DIGITS = 16


class Damaged(ValueError):
    """A record is not what was written; the text says how."""


def seal(record: Mapping[str, Any], context: str = "") -> str:
    """Return the record as one line of JSON with a checksum of itself and of `context`, in which alone it counts.

    Numbers must be finite. A record has string keys and values that JSON has.
    """
    content = dict(record)
    assert CHECKSUM not in content, "a record has its checksum from here alone"
    return json.dumps(content | {CHECKSUM: _checksum(content, context)}, allow_nan=False)


def unseal(line: str | bytes, context: str = "") -> dict[str, Any]:
    """Return the record of a line that `seal` wrote in the same context, without its checksum.

    Raises:
        Damaged: it is no such line.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"not JSON ({type(error).__name__})") from None
    if not isinstance(found, dict):
        raise Damaged(f"a {type(found).__name__} instead of a JSON object")
    promised = found.pop(CHECKSUM, None)
    try:
        is_same = promised == _checksum(found, context)
    except (ValueError, RecursionError):
        is_same = False
    if not is_same:
        raise Damaged("its checksum is missing" if promised is None else "its checksum does not fit its content")
    return found


def write_record(path: Path, record: Mapping[str, Any], *, sync: bool = True) -> None:
    """Write a file with one record, whole or not at all. Raises OSError that names `path`."""
    content = dict(record)
    text = json.dumps(content | {CHECKSUM: _checksum(content, "")}, indent=1, allow_nan=False)
    write_text(path, text + "\n", sync=sync)


def read_record(path: Path) -> dict[str, Any]:
    """Return the record of a file that `write_record` wrote.

    Raises:
        OSError: the file cannot be read.
        Damaged: it is not what was written; the text does not name the file.
    """
    return unseal(read_regular(path))


def version_of(text: str | bytes) -> object:
    """Return the `schema_version` of a record of any version, whatever its checksum; None where it tells none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found.get("schema_version") if isinstance(found, dict) else None


def _checksum(content: Mapping[str, Any], context: str) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(f"{context}\n{text}".encode()).hexdigest()[:CHECKSUM_DIGITS]
