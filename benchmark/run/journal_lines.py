"""The lines of a column's journals: what each kind says, and how it is written and read back and checked."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from benchmark.measure.findings import FINDINGS, Finding, MachineState, PassName
from benchmark.report.findings_check import check_finding
from benchmark.report.typed_json import from_json
from files.reading import read_regular
from files.records import Damaged, unseal

MOST_BYTES = 4_000_000_000
MAIN_WRITER, LOOKS_WRITER = "0", "looks"
NO_PROCESS = "00000000"
Purpose = Literal["timed", "bulk"]

_WRITER = re.compile(r"[A-Za-z0-9_.]{1,100}")
_PROCESS = re.compile(r"[0-9a-f]{8}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_SECONDS, _MOST_COUNT = 1e12, 2**62
# Lines of earlier versions lack these; they count as their defaults.
_LATER_FIELDS = frozenset({"ended_at_s", "card", "host"})


def new_process_id() -> str:
    """Return a name for a process that loads a model, by which its lines are found: 8 hexadecimal digits."""
    return secrets.token_hex(4)


@dataclass(frozen=True)
class Call:
    """One generate() call: the requests `indices` whose images count, and the seconds of the whole call.

    batch_size: requests in the call; those above the number of `indices` only filled it up, and their images were
    dropped. round: which of the column's rounds the call belongs to, from 0 on. process: which process made it.
    writer: who wrote the line, which is in the name of its journal.
    """

    indices: tuple[int, ...]
    seconds: float
    _: KW_ONLY
    batch_size: int = 1
    round: int = 0
    process: str = NO_PROCESS
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
class Batch(Call):
    """The images that one call made and that were written, and what each was asked for.

    digests: SHA-256 of each image's file, in hexadecimal; empty before the images are written. pixels: `pixel_digest`
    of each image. purpose: "timed" for a call that a `Timed` line counts as a latency, "bulk" for one whose seconds are
    no latency. ended_at_s: when the call ended, in seconds of Unix time; 0 where that is not known.
    """

    prompts: tuple[str, ...]
    _: KW_ONLY
    digests: tuple[str, ...] = ()
    pixels: tuple[str, ...] = ()
    purpose: Purpose = "timed"
    ended_at_s: float = 0.0


@dataclass(frozen=True)
class Timed(Call):
    """One timed call of a round.

    pixels: `pixel_digest` of each image that it made, whether or not it was written. card: on which of several cards of
    the host, by UUID, where all of them are timed; "" for the card that the column's latencies are measured on.
    """

    pixels: tuple[str, ...]
    _: KW_ONLY
    card: str = ""


@dataclass(frozen=True)
class Loaded:
    """What is known of a model once it is loaded and warm, by the process that loaded it; the last line of each counts.

    session: which run of the program had the process, and host: which host of the run, by its name; "" where that is
    not known. card: as in `Timed`, of a process that timed the model on another card of the host than the column's own.
    load_s: how long loading took in that process; columns that it served one after another have the same.
    warmups_s: seconds of all untimed calls before the first one that counts. warmup_agreed: whether the last of them
    agreed with each other.
    """

    name: str
    parameters: int
    image_size: int
    notes: tuple[str, ...]
    load_s: float
    warmups_s: tuple[float, ...] = ()
    _: KW_ONLY
    warmup_agreed: bool = False
    peak_memory_bytes: int | None = None
    class_conditional: bool = False
    purpose: Purpose = "timed"
    round: int = 0
    process: str = NO_PROCESS
    session: str = NO_PROCESS
    host: str = ""
    card: str = ""
    writer: str = MAIN_WRITER

    @property
    def first_call_s(self) -> float | None:
        """Seconds of the first call, which compiles where the mode does; None where there was no untimed call."""
        return self.warmups_s[0] if self.warmups_s else None

    @property
    def warmup_s(self) -> float:
        """Seconds of all untimed calls together, the first one included."""
        return sum(self.warmups_s)


@dataclass(frozen=True)
class Finished:
    """What a process knew when it had made its last call.

    loop_s: wall time of its whole loop. timed_s: seconds in generate(); the difference is our own overhead.
    """

    peak_memory_bytes: int | None
    loop_s: float
    timed_s: float
    _: KW_ONLY
    purpose: Purpose = "timed"
    round: int = 0
    process: str = NO_PROCESS
    writer: str = MAIN_WRITER


@dataclass(frozen=True)
class Measured:
    """What a pass of a round found, as JSON, or the reason why it found nothing; `finding` gives it its type again.

    seconds: how long the pass took.
    """

    name: PassName
    found: Mapping[str, Any] | None
    reason: str = ""
    _: KW_ONLY
    seconds: float = 0.0
    round: int = 0
    process: str = NO_PROCESS
    writer: str = MAIN_WRITER

    @property
    def finding(self) -> Finding | None:
        if self.found is None:
            return None
        found: Finding = from_json(FINDINGS[self.name], self.found, self.name)
        check_finding(found, self.name)
        return found


@dataclass(frozen=True)
class State:
    """The state of the machine at one end of a process, as JSON; `machine` gives it its type again."""

    edge: Literal["start", "end"]
    state: Mapping[str, Any]
    _: KW_ONLY
    round: int = 0
    process: str = NO_PROCESS
    writer: str = MAIN_WRITER

    @property
    def machine(self) -> MachineState:
        found: MachineState = from_json(MachineState, self.state, "state")
        return found


@dataclass(frozen=True)
class BulkSize:
    """How many requests a call of bulk has from the request `start` on.

    asked: "auto", or the number that was asked for; "" where the line was lost and the images tell the size. count:
    how many images the run had for which it was chosen, 0 where that is not known. trials: (batch size, seconds per
    image) of each size that was tried.
    """

    start: int
    size: int
    _: KW_ONLY
    asked: str = "auto"
    count: int = 0
    trials: tuple[tuple[int, float], ...] = ()
    process: str = NO_PROCESS
    writer: str = MAIN_WRITER


@dataclass(frozen=True)
class Look:
    """A verdict was formed of the first `rounds` rounds of the column."""

    rounds: int
    _: KW_ONLY
    writer: str = LOOKS_WRITER


Line = Batch | Timed | Loaded | Finished | Measured | State | BulkSize | Look


def context_of(fingerprint: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(fingerprint), sort_keys=True).encode()).hexdigest()


def read_records(path: Path, context: str) -> list[tuple[dict[str, Any] | None, bytes]]:
    """Return the records, None for a damaged one, each with its bytes; a last line that has no end yet is left out."""
    if not path.is_file():
        return []
    records: list[tuple[dict[str, Any] | None, bytes]] = []
    for text in read_regular(path, most_bytes=MOST_BYTES).split(b"\n")[:-1]:
        try:
            records.append((unseal(text, context), text + b"\n"))
        except Damaged:
            records.append((None, text + b"\n"))
    return records


def record_of(line: Line) -> dict[str, object]:
    """Return a line as it is written, with its kind."""
    return {"kind": _KIND_OF[type(line)], **asdict(line)}


def read_line(record: Mapping[str, Any]) -> Line | None:
    """Return the line of a record, or None where it is of no known kind or says what cannot be."""
    kind = record.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        return None
    type_, is_sound = _KINDS[kind]
    values = {name: _as_tuples(value) for name, value in record.items() if name != "kind"}
    names = {field.name for field in fields(type_)}
    if values.keys() - names or names - values.keys() - _LATER_FIELDS:
        return None
    line: Line = type_(**values)
    try:
        return line if is_sound(line) else None
    except TypeError:  # a value of another type than a line can have
        return None


def _as_tuples(value: object) -> object:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _is_call(call: Batch | Timed) -> bool:
    return (
        _is_indices(call.indices) and _is_seconds(call.seconds) and call.seconds > 0
        and _is_count(call.batch_size, call.size)
        and _are(call.pixels, _is_digest) and len(call.pixels) == call.size and _has_origin(call)
        and (isinstance(call, Batch) or _is_text(call.card))
    )  # fmt: skip


def _is_batch(batch: Batch) -> bool:
    return (
        _is_call(batch) and _is_purpose(batch.purpose) and _is_seconds(batch.ended_at_s)
        and _are(batch.prompts, _is_text) and len(batch.prompts) == batch.size
        and _are(batch.digests, _is_digest) and len(batch.digests) == batch.size
    )  # fmt: skip


def _is_loaded(loaded: Loaded) -> bool:
    return (
        _is_text(loaded.name) and _are(loaded.notes, _is_text)
        and _is_count(loaded.parameters, 1) and _is_count(loaded.image_size, 1)
        and _is_seconds(loaded.load_s) and _are(loaded.warmups_s, _is_seconds)
        and isinstance(loaded.warmup_agreed, bool) and isinstance(loaded.class_conditional, bool)
        and _is_peak(loaded.peak_memory_bytes) and _is_purpose(loaded.purpose) and _is_process(loaded.session)
        and _is_text(loaded.host) and _is_text(loaded.card) and _has_origin(loaded)
    )  # fmt: skip


def _is_finished(finished: Finished) -> bool:
    return (
        _is_peak(finished.peak_memory_bytes) and _is_seconds(finished.loop_s) and _is_seconds(finished.timed_s)
        and _is_purpose(finished.purpose) and _has_origin(finished)
    )  # fmt: skip


def _is_measured(measured: Measured) -> bool:
    if not (isinstance(measured.name, str) and measured.name in FINDINGS and _is_text(measured.reason)):
        return False
    return _is_seconds(measured.seconds) and _can_be_read(lambda: measured.finding) and _has_origin(measured)


def _is_state(state: State) -> bool:
    return state.edge in ("start", "end") and _can_be_read(lambda: state.machine) and _has_origin(state)


def _can_be_read(read: Callable[[], object]) -> bool:
    try:
        read()
    except Damaged:
        return False
    return True


def _is_bulk_size(bulk: BulkSize) -> bool:
    return (
        _is_count(bulk.start, 0) and _is_count(bulk.size, 1) and _is_count(bulk.count, 0)
        and isinstance(bulk.asked, str) and (bulk.asked == "auto" or bulk.asked.isdecimal())
        and isinstance(bulk.trials, tuple)
        and all(len(trial) == 2 and _is_count(trial[0], 1) and _is_seconds(trial[1]) for trial in bulk.trials)
        and _is_process(bulk.process) and _is_writer(bulk.writer)
    )  # fmt: skip


def _is_look(look: Look) -> bool:
    return _is_count(look.rounds, 1) and _is_writer(look.writer)


_KINDS: dict[str, tuple[type[Any], Callable[[Any], bool]]] = {
    "batch": (Batch, _is_batch), "timed": (Timed, _is_call), "loaded": (Loaded, _is_loaded),
    "finished": (Finished, _is_finished), "measured": (Measured, _is_measured), "state": (State, _is_state),
    "bulk_size": (BulkSize, _is_bulk_size), "look": (Look, _is_look),
}  # fmt: skip
_KIND_OF = {type_: kind for kind, (type_, _) in _KINDS.items()}


def _are(values: object, is_sound: Callable[[object], bool]) -> bool:
    return isinstance(values, tuple) and all(map(is_sound, values))


def _has_origin(line: Batch | Timed | Loaded | Finished | Measured | State) -> bool:
    return _is_count(line.round, 0) and _is_process(line.process) and _is_writer(line.writer)


def _is_indices(value: object) -> bool:
    """Return whether these are requests: there is an index, and each one is larger than the one before."""
    return (
        isinstance(value, tuple) and len(value) > 0 and all(_is_count(index, 0) for index in value)
        and all(first < second for first, second in pairwise(value))
    )  # fmt: skip


def _is_count(value: object, least: int) -> bool:
    return type(value) is int and least <= value <= _MOST_COUNT


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MOST_SECONDS


def _is_peak(value: object) -> bool:
    return value is None or _is_count(value, 0)


def _is_purpose(value: object) -> bool:
    return value in ("timed", "bulk")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _is_process(value: object) -> bool:
    return isinstance(value, str) and _PROCESS.fullmatch(value) is not None


def _is_writer(value: object) -> bool:
    return isinstance(value, str) and _WRITER.fullmatch(value) is not None
