"""What --check says is left to do, and how long that takes by what the columns' folders record."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from journal_cases import image_of

from benchmark.measure.machine import Machine
from benchmark.run.columns import Column, choose_models, plan_columns
from benchmark.run.jobs import open_jobs
from benchmark.run.journal import Journal
from benchmark.run.journal_lines import Batch, Loaded, Measured, Timed
from benchmark.run.remaining import Remaining, describe_remaining, remaining
from benchmark.settings.fields import settings_class

MACHINE = Machine("cpu", "float32", "CPU", {"torch": "2"})
CALL_S, BULK_S, WARMUPS_S, LOAD_S, PASS_S = 40.0, 12.0, (9.0, 6.0), 100.0, 7.0


def columns_of(output: Path, **given: Any) -> list[Column]:
    """Return columns of ten images, of which each of two rounds times four in batches of two."""
    settings = settings_class()(
        WEIGHTS="tiny", MODELS="sdxl", OUTPUT_DIR=output, NUM_SAMPLES=10, TIMED_SAMPLES=4, BATCH_SIZE=2, ROUNDS=2,
        PASSES="stages", **given,
    )  # fmt: skip
    return plan_columns(settings, choose_models(settings, "Robots", lambda _: None), MACHINE)


def record(column: Column, rounds: int, *, bulk: int = 0) -> Path:
    """Write what so many rounds leave, and so many images in bulk; return the column's folder."""
    (job,) = open_jobs([column], MACHINE, "robots")
    with job.journal.locked():
        for number in range(rounds):
            _record_round(job.journal, number)
        for index in range(4, 4 + bulk):
            _record_images(job.journal, (index,), BULK_S, "bulk")
    return job.journal.folder


def _record_round(journal: Journal, number: int) -> None:
    loaded = Loaded("SDXL", 1, 64, (), LOAD_S, WARMUPS_S, round=number, process=f"{number:08x}")
    journal.record_loaded(loaded)
    for indices in ((0, 1), (2, 3)):
        if number == 0:
            _record_images(journal, indices, CALL_S, "timed")
        pixels = tuple("0" * 64 for _ in indices)
        journal.record_timed(Timed(indices, CALL_S, pixels, batch_size=2, round=number, process=loaded.process))
    journal.record_measured(
        Measured("stages", None, "for a test", seconds=PASS_S, round=number, process=loaded.process)
    )


def _record_images(journal: Journal, indices: tuple[int, ...], seconds: float, purpose: Any) -> None:
    batch = Batch(indices, seconds, tuple("a" for _ in indices), batch_size=len(indices), purpose=purpose)
    journal.record_batch(batch, [image_of(index) for index in indices])


def test_a_column_without_records_lacks_everything_and_has_no_time(tmp_path: Path) -> None:
    (column,) = columns_of(tmp_path)
    found = remaining(column, tmp_path / "nowhere")
    assert (found.images, found.rounds, found.seconds) == (10, 2, None)
    assert describe_remaining([found]) == (
        "left to do: 10 images and 2 timed rounds; no column has records that tell how long that takes"
    )


def test_what_one_round_recorded_tells_how_long_the_rest_takes(tmp_path: Path) -> None:
    (column,) = columns_of(tmp_path)
    found = remaining(column, record(column, 1, bulk=2))
    assert (found.images, found.rounds, found.load_s) == (4, 1, LOAD_S)
    assert found.seconds == pytest.approx(2 * CALL_S + 4 * BULK_S + sum(WARMUPS_S) + PASS_S)


def test_images_in_bulk_count_as_timed_ones_where_none_was_made(tmp_path: Path) -> None:
    (column,) = columns_of(tmp_path)
    found = remaining(column, record(column, 2))
    assert (found.images, found.rounds) == (6, 0)
    assert found.seconds == pytest.approx(6 * CALL_S / 2)


def test_the_images_of_a_first_round_are_not_counted_twice(tmp_path: Path) -> None:
    (column,) = columns_of(tmp_path)
    found = remaining(column, record(column, 2, bulk=6), fresh=True)
    assert (found.images, found.rounds) == (10, 2)
    assert found.seconds == pytest.approx(4 * CALL_S + 6 * BULK_S + 2 * sum(WARMUPS_S) + 2 * PASS_S)


def test_a_whole_column_has_nothing_left(tmp_path: Path) -> None:
    (column,) = columns_of(tmp_path)
    found = remaining(column, record(column, 2, bulk=6))
    assert (found.images, found.rounds, found.seconds) == (0, 0, 0.0)
    assert describe_remaining([found]) == "left to do: nothing"


def left(columns: list[Column], *seconds: float | None, rounds: int = 3) -> Iterator[Remaining]:
    for column, each in zip(columns, seconds, strict=True):
        yield Remaining(column, 400, rounds, each, load_s=0.0 if each is None else LOAD_S)


def test_columns_without_records_are_counted_and_not_guessed(tmp_path: Path) -> None:
    columns = columns_of(tmp_path, SWEEP="sdxl.steps=1,2,3", MODE="eager,compiled")[:3]
    told = describe_remaining(list(left(columns, 3000.0, 3900.0, None)))
    assert told == (
        "left to do: 1,200 images and 9 timed rounds, about 2.0 hours for the 2 columns with records; 1 has none"
    )


def test_columns_that_one_load_serves_are_loaded_once_a_round(tmp_path: Path) -> None:
    steps = columns_of(tmp_path, SWEEP="sdxl.steps=1,2")
    modes = columns_of(tmp_path, MODE="eager,compiled")
    assert ", about 10 minutes for" in describe_remaining(list(left(steps, 150.0, 150.0)))
    assert ", about 15 minutes for" in describe_remaining(list(left(modes, 140.0, 140.0)))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (1.0, "less than a minute"),
        (61.0, "about 1 minute"),
        (899.0, "about 15 minutes"),
        (36_000.0, "about 10.0 hours"),
    ],
)
def test_times_are_told_as_a_plan_needs_them(tmp_path: Path, seconds: float, expected: str) -> None:
    (column,) = columns_of(tmp_path)
    told = describe_remaining([dataclasses.replace(one, load_s=0.0) for one in left([column], seconds)])
    assert told == f"left to do: 400 images and 3 timed rounds, {expected} for the 1 column with records"
