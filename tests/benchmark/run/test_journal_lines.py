"""The lines of a journal: each kind is read back as it was written, and what cannot be is no line."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from journal_cases import FINGERPRINT, image_of, lines_of, make
from PIL import Image

from benchmark.measure.findings import Energy, MachineState
from benchmark.report.typed_json import to_json
from benchmark.run import journal_lines
from benchmark.run.column_folder import SCHEMA_VERSION
from benchmark.run.journal import Journal, pixel_digest
from benchmark.run.journal_lines import (
    Batch,
    BulkSize,
    Finished,
    Line,
    Loaded,
    Look,
    Measured,
    State,
    Timed,
    new_process_id,
    read_line,
    record_of,
)
from files.records import read_record, seal

DIGESTS = ("0a" * 32, "f9" * 32)
ENERGY = to_json(Energy(3.5, 100.0, 5.0, 70.0, 40.0, "counter", ("SwPowerCap",)))
NO_TIME = ENERGY | {"seconds": 0.0}
STATE = to_json(MachineState(1.5, "GPU-1", "580.1", ("7 python",), 10, temperature_c=40, load_average=0.5, cpu_cores=2))
LINES: dict[str, Line] = {
    "batch": Batch(
        (0, 2), 1.5, ("a", "b"), digests=DIGESTS, pixels=DIGESTS, batch_size=4, purpose="bulk", round=0,
        process="0123abcd", writer="gpu1",
    ),
    "timed": Timed((4,), 0.25, DIGESTS[:1], batch_size=2, round=3, process="0123abcd"),
    "loaded": Loaded(
        "VAR", 10, 256, ("a note", "another"), 2.0, (9.0, 1.0), warmup_agreed=True, peak_memory_bytes=5,
        class_conditional=True, round=1, process="0123abcd",
    ),
    "finished": Finished(None, 3.0, 2.0, purpose="bulk", round=0, process="0123abcd"),
    "bulk_size": BulkSize(25, 8, asked="64", count=60, trials=((1, 0.5), (2, 0.3)), process="0123abcd"),
    "measured": Measured("energy", ENERGY, seconds=6.5, round=2, process="0123abcd"),
    "state": State("end", STATE, round=2, process="0123abcd"),
    "look": Look(4),
}  # fmt: skip

NO_SECONDS: tuple[object, ...] = (None, -5, "1.0", True, float("nan"), 10**400)
NO_COUNT: tuple[object, ...] = (None, -1, 1.0, True, "2", 10**400)
NO_TEXTS: tuple[object, ...] = (None, "ab", ["a"], ["a", 1], ["a", "b", "c"])
NO_DIGESTS: tuple[object, ...] = (None, [], [DIGESTS[0]], [DIGESTS[0], "f9"], [DIGESTS[0], DIGESTS[1].upper()], "a")
NO_ORIGIN = {"process": (None, "", "0123abc", "0123ABCD", 7), "writer": (None, "", "../x", 0)}
NO_INDICES: tuple[object, ...] = (None, [], [2, 0], [0, 0], [-1, 2], [0, 1.0], [0, True], [[0], 2], "02", {"0": 2})
LATER = {"ended_at_s", "card", "host"}  # lines of earlier versions lack these
IMPOSSIBLE: dict[str, dict[str, tuple[object, ...]]] = {
    "batch": {
        "indices": (*NO_INDICES, [0, 1, 2]), "seconds": (*NO_SECONDS, 0), "prompts": NO_TEXTS, "digests": NO_DIGESTS,
        "pixels": NO_DIGESTS, "batch_size": (*NO_COUNT, 1), "purpose": (None, "", "warm", ["bulk"]), "round": NO_COUNT,
        "ended_at_s": NO_SECONDS, **NO_ORIGIN,
    },
    "timed": {
        "indices": NO_INDICES, "seconds": (*NO_SECONDS, 0), "pixels": ([], list(DIGESTS), ["f9"]),
        "batch_size": (*NO_COUNT, 0), "round": NO_COUNT, "card": (None, 1), **NO_ORIGIN,
    },
    "loaded": {
        "name": (None, 1), "parameters": (*NO_COUNT, 0), "image_size": (*NO_COUNT, 0), "notes": (None, "note", [1]),
        "load_s": NO_SECONDS, "warmups_s": (None, 1.0, [1.0, None], [-1.0], [[1.0]]), "warmup_agreed": (None, 1),
        "peak_memory_bytes": (-1, 1.0, True), "class_conditional": (None, 0), "purpose": (None, "warm"),
        "round": NO_COUNT, "session": NO_ORIGIN["process"], "host": (None, 1), "card": (None, 1), **NO_ORIGIN,
    },
    "finished": {
        "peak_memory_bytes": (-1, "1"), "loop_s": NO_SECONDS, "timed_s": NO_SECONDS, "purpose": (None, "warm"),
        "round": NO_COUNT, **NO_ORIGIN,
    },
    "bulk_size": {
        "start": NO_COUNT, "size": (*NO_COUNT, 0), "asked": (None, "", "many", 64, "-1"), "count": NO_COUNT,
        "trials": (None, [1, 0.5], [[1]], [[0, 0.5]], [[1, -0.5]], [[1, 0.5, 2]], {"1": 0.5}), **NO_ORIGIN,
    },
    "measured": {
        "name": (None, "", "speed", ["energy"], "stages"), "found": ([], "a", {}, ENERGY | {"images": "many"}, NO_TIME),
        "reason": (None, 1), "seconds": NO_SECONDS, "round": NO_COUNT, **NO_ORIGIN,
    },
    "state": {
        "edge": (None, "", "middle", ["end"]), "state": (None, [], {}, STATE | {"unix_s": "now"}, STATE | {"more": 1}),
        "round": NO_COUNT, **NO_ORIGIN,
    },
    "look": {"rounds": (*NO_COUNT, 0), "writer": NO_ORIGIN["writer"]},
}  # fmt: skip


@pytest.mark.parametrize("kind", LINES)
def test_a_line_of_each_kind_is_read_back_as_it_was_written(kind: str) -> None:
    record = record_of(LINES[kind])
    assert record["kind"] == kind
    assert read_line(json.loads(json.dumps(record))) == LINES[kind]


@pytest.mark.parametrize("kind", LINES)
def test_a_line_that_says_what_cannot_be_is_none(kind: str) -> None:
    record = json.loads(json.dumps(record_of(LINES[kind])))
    assert IMPOSSIBLE[kind].keys() == record.keys() - {"kind"}, "each field has a case"
    for name, values in IMPOSSIBLE[kind].items():
        passed = [value for value in values if read_line(record | {name: value}) is not None]
        assert passed == [], name
        without = read_line({key: value for key, value in record.items() if key != name})
        assert (without is not None) == (name in LATER), f"without {name}"
    assert read_line(record | {"more": 1}) is None
    kinds: tuple[object, ...] = (None, "", "warm", ["batch"], {})
    assert [read_line(record | {"kind": other}) for other in kinds] == [None] * 5


@pytest.mark.parametrize("seconds", [None, -5, "1.0", True, 0, float("1e999")])
def test_a_line_with_a_fitting_checksum_and_impossible_seconds_is_no_batch(tmp_path: Path, seconds: object) -> None:
    make(tmp_path / "column")
    whole = Journal(tmp_path / "column", FINGERPRINT).read()
    context = journal_lines.context_of(read_record(tmp_path / "column" / "fingerprint.json"))
    with (tmp_path / "column" / "timings.jsonl").open("a") as file:
        for line in (replace(whole.batches[0], seconds=1.0), replace(whole.timed[0], seconds=1.0)):
            record = record_of(line)
            text = seal(record if seconds == float("inf") else record | {"seconds": seconds}, context)
            file.write(text.replace('"seconds": 1.0', '"seconds": Infinity') + "\n")
    found = Journal(tmp_path / "column", FINGERPRINT).read()
    assert [*lines_of(found)] == [*lines_of(whole)], "the lines before stand"


def test_what_cannot_be_read_back_is_never_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path, FINGERPRINT)
    images = [image_of(0), image_of(1)]
    with journal.locked():
        with pytest.raises(AssertionError, match="says what cannot be"):
            journal.record_batch(Batch((0, 1), 1.0, ("a", "b"), batch_size=1), images)
        with pytest.raises(AssertionError, match="2 images for requests"):
            journal.record_batch(Batch((0,), 1.0, ("a",)), images)
    assert list(tmp_path.glob("*.jsonl")) == []
    assert list((tmp_path / "output").iterdir()) == []


def test_the_name_of_a_process_is_new_each_time_and_8_hexadecimal_digits() -> None:
    names = {new_process_id() for _ in range(50)}
    assert len(names) == 50
    assert all(re.fullmatch(r"[0-9a-f]{8}", name) for name in names)


def test_figures_of_loading_follow_from_the_untimed_calls() -> None:
    assert (LINES["loaded"].first_call_s, LINES["loaded"].warmup_s) == (9.0, 10.0)  # type: ignore[union-attr]
    assert Loaded("VAR", 1, 1, (), 0.0).first_call_s is None


def test_the_digest_of_pixels_is_that_of_the_image_and_not_of_its_file() -> None:
    image, packed = image_of(1), io.BytesIO()
    image.save(packed, "PNG", compress_level=1)
    assert pixel_digest(Image.open(packed)) == pixel_digest(image)
    other = image.copy()
    other.putpixel((0, 0), (1, 2, 3))
    wide, high = (Image.frombytes("RGB", size, bytes(24)) for size in ((4, 2), (2, 4)))
    grey = Image.frombytes("L", (4, 6), bytes(24))
    assert len({pixel_digest(one) for one in (image, other, wide, high, grey)}) == 5


def test_a_folder_says_the_version_of_its_lines(tmp_path: Path) -> None:
    with Journal(tmp_path, FINGERPRINT).locked():
        pass
    assert read_record(tmp_path / "fingerprint.json")["schema_version"] == SCHEMA_VERSION == 4
