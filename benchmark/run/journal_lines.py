"""The lines of a column's timings.jsonl: what each kind says, and how they are read back and checked."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from files.reading import read_regular
from files.records import Damaged, unseal

MOST_BYTES = 4_000_000_000


@dataclass(frozen=True)
class Batch:
    """One timed generate() call: requests start..stop-1, what each was asked for, and the seconds for all of them.

    `cold` marks a first call in a process that did no warm-up: it is kept, but not a latency. digests: SHA-256 of each
    image's file, in hexadecimal; empty before the images are written.
    """

    start: int
    stop: int
    seconds: float
    prompts: tuple[str, ...]
    cold: bool = False
    digests: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return self.stop - self.start


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
        fields = {name: line[name] for name in ("start", "stop", "seconds", "prompts", "cold", "digests")}
        batch = Batch(**{**fields, "prompts": tuple(fields["prompts"]), "digests": tuple(fields["digests"])})
    except (KeyError, TypeError):
        return None
    sound = (
        type(batch.start) is int and type(batch.stop) is int and 0 <= batch.start < batch.stop
        and _is_seconds(batch.seconds) and batch.seconds > 0 and isinstance(batch.cold, bool)
        and len(batch.prompts) == len(batch.digests) == batch.size
        and all(isinstance(text, str) for text in (*batch.prompts, *batch.digests))
    )  # fmt: skip
    return batch if sound else None


def read_loaded(line: Mapping[str, Any]) -> Loaded | None:
    """Return what a line tells of a loaded model, or None where it says what cannot be."""
    fields = {name: value for name, value in line.items() if name != "kind"}
    try:
        loaded = Loaded(**{**fields, "notes": tuple(fields["notes"])})
    except (KeyError, TypeError):
        return None
    optional = (loaded.first_call_s, loaded.peak_memory_bytes)
    sound = (
        isinstance(loaded.name, str) and all(isinstance(note, str) for note in loaded.notes)
        and all(type(count) is int and count > 0 for count in (loaded.parameters, loaded.image_size))
        and all(map(_is_seconds, (loaded.load_s, loaded.warmup_s, *(value for value in optional if value is not None))))
    )  # fmt: skip
    return loaded if sound else None


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
