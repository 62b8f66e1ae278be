"""The lines of a column's timings.jsonl: what each kind says, and how they are read back and checked."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from files.reading import read_regular
from files.records import Damaged, unseal

MOST_BYTES = 4_000_000_000
MAIN_WRITER = "0"
_WRITER = re.compile(r"[A-Za-z0-9_.]{1,100}")


@dataclass(frozen=True)
class Batch:
    """One timed generate() call: the requests `indices`, what each was asked for, and the seconds for all of them.

    cold: it is a first call in a process that did no warm-up: it is kept, but is no latency. digests: SHA-256 of each
    image's file, in hexadecimal; empty before the images are written. round: which of the column's rounds the call
    belongs to. writer: who made it, which is in the name of its journal.
    """

    indices: tuple[int, ...]
    seconds: float
    prompts: tuple[str, ...]
    cold: bool = False
    digests: tuple[str, ...] = ()
    round: int = 0
    writer: str = MAIN_WRITER

    @property
    def start(self) -> int:
        return self.indices[0]

    @property
    def stop(self) -> int:
        return self.indices[-1] + 1

    @property
    def size(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class Loaded:
    """What is known of a model once it is loaded and warm, written once for each process that loads it."""

    name: str
    parameters: int
    image_size: int
    notes: tuple[str, ...]
    load_s: float
    first_call_s: float | None
    warmup_s: float
    peak_memory_bytes: int | None = None
    class_conditional: bool = False
    round: int = 0
    writer: str = MAIN_WRITER


def context_of(fingerprint: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(fingerprint), sort_keys=True).encode()).hexdigest()


def read_lines(path: Path, context: str) -> list[tuple[dict[str, Any] | None, bytes]]:
    """Return the lines, None for a damaged one, each with its bytes; a last line that has no end yet is left out."""
    if not path.is_file():
        return []
    lines: list[tuple[dict[str, Any] | None, bytes]] = []
    for text in read_regular(path, most_bytes=MOST_BYTES).split(b"\n")[:-1]:
        try:
            lines.append((unseal(text, context), text + b"\n"))
        except Damaged:
            lines.append((None, text + b"\n"))
    return lines


def read_batch(line: Mapping[str, Any]) -> Batch | None:
    """Return the batch of a line, or None where the line says what no batch can be."""
    try:
        values: dict[str, Any] = {field.name: line[field.name] for field in fields(Batch)}
        for name in ("indices", "prompts", "digests"):
            values[name] = tuple(values[name])
        batch = Batch(**values)
        sound = (
            all(type(index) is int and index >= 0 for index in batch.indices) and _ascends(batch.indices)
            and _is_seconds(batch.seconds) and batch.seconds > 0 and isinstance(batch.cold, bool)
            and len(batch.prompts) == len(batch.digests) == batch.size
            and all(isinstance(text, str) for text in (*batch.prompts, *batch.digests))
            and _is_origin(batch.round, batch.writer)
        )  # fmt: skip
    except (KeyError, TypeError):
        return None
    return batch if sound else None


def read_loaded(line: Mapping[str, Any]) -> Loaded | None:
    """Return what a line tells of a loaded model, or None where it says what cannot be."""
    values = {name: value for name, value in line.items() if name != "kind"}
    try:
        loaded = Loaded(**{**values, "notes": tuple(values["notes"])})
    except (KeyError, TypeError):
        return None
    optional = (loaded.first_call_s, loaded.peak_memory_bytes)
    sound = (
        isinstance(loaded.name, str) and all(isinstance(note, str) for note in loaded.notes)
        and all(type(count) is int and count > 0 for count in (loaded.parameters, loaded.image_size))
        and all(map(_is_seconds, (loaded.load_s, loaded.warmup_s, *(value for value in optional if value is not None))))
        and isinstance(loaded.class_conditional, bool) and _is_origin(loaded.round, loaded.writer)
    )  # fmt: skip
    return loaded if sound else None


def _ascends(indices: Sequence[int]) -> bool:
    """Return whether there is an index, and each one is larger than the one before."""
    return len(indices) > 0 and all(first < second for first, second in pairwise(indices))


def _is_origin(round_: object, writer: object) -> bool:
    return type(round_) is int and round_ >= 0 and isinstance(writer, str) and _WRITER.fullmatch(writer) is not None


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
