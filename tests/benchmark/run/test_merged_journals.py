"""Several writers append to journals of their own in one column's folder; a reader sees them as one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmark.run import column_folder
from benchmark.run.journal import Journal
from benchmark.run.journal_lines import Batch, Loaded, Timed
from benchmark.run.slices import missing, timed_slices

FINGERPRINT = {"SEED": "42"}


def record(folder: Path, writer: str, *indices: int, seconds: float = 1.0) -> None:
    journal = Journal(folder, FINGERPRINT, writer=writer)
    with journal.locked():
        batch = Batch(indices, seconds, tuple(f"prompt {index}" for index in indices), batch_size=len(indices))
        journal.record_batch(batch, [Image.new("RGB", (8, 8), (index, 0, 0)) for index in indices])


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    record(tmp_path, "0", 0, 1)
    record(tmp_path, "gpu1", 2, 3)
    record(tmp_path, "gpu2", 4)
    return tmp_path


def test_each_writer_has_a_journal_and_all_are_read_as_one(merged: Path) -> None:
    assert sorted(path.name for path in merged.glob("*.jsonl")) == [
        "timings-gpu1.jsonl", "timings-gpu2.jsonl", "timings.jsonl",
    ]  # fmt: skip
    snapshot = Journal(merged, FINGERPRINT).read()
    assert [(batch.indices, batch.writer, batch.round) for batch in snapshot.batches] == [
        ((0, 1), "0", 0), ((2, 3), "gpu1", 0), ((4,), "gpu2", 0),
    ]  # fmt: skip
    assert snapshot.asked(4) == {index: f"prompt {index}" for index in range(4)}
    assert snapshot.faults == ()


def test_a_writers_journal_is_found_by_its_name_where_a_listing_does_not_show_it_yet(
    merged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def list_late(folder: Path) -> list[Path]:
        return [folder / "timings.jsonl"]

    monkeypatch.setattr(column_folder, "journals_in", list_late)
    assert Journal(merged, FINGERPRINT).read().asked(9).keys() == {0, 1}
    knowing = Journal(merged, FINGERPRINT, others=("0", "gpu1", "gpu2", "gpu3"))
    assert knowing.read().asked(9).keys() == {0, 1, 2, 3, 4}


def test_a_line_lists_its_indices_and_names_its_round_and_its_writer(merged: Path) -> None:
    line = json.loads((merged / "timings-gpu1.jsonl").read_text())
    assert (line["indices"], line["round"], line["writer"]) == ([2, 3], 0, "gpu1")


def test_a_batch_of_a_later_round_is_no_image_of_the_first(tmp_path: Path) -> None:
    record(tmp_path, "0", 0)
    journal = Journal(tmp_path, FINGERPRINT, writer="later")
    first = journal.read().batches[0]
    with journal.locked():
        journal._record(replace(first, round=1, seconds=9.0, writer="later"))
    (batch,) = Journal(tmp_path, FINGERPRINT).read().batches
    assert (batch.seconds, batch.round) == (1.0, 0)


def test_a_damaged_journal_of_one_writer_costs_its_batches_alone(merged: Path) -> None:
    path = merged / "timings-gpu1.jsonl"
    path.write_text(path.read_text().replace('"prompt 2"', '"prompt 7"'))
    snapshot = Journal(merged, FINGERPRINT).read()
    assert [batch.indices for batch in snapshot.batches] == [(0, 1), (4,)]
    assert snapshot.faults == (f"{path} is damaged in line 1; what these lines recorded is made again",)


@pytest.mark.parametrize("damaged", ['"kin', '"loaded"', '"gpu9"', '"checks', "end"])
def test_a_journal_of_one_line_that_is_damaged_is_ours_and_costs_that_line_alone(merged: Path, damaged: str) -> None:
    journal = Journal(merged, FINGERPRINT, writer="gpu9")
    with journal.locked():
        journal.record_loaded(Loaded("Noise", 1, 8, (), 0.1))
    path = merged / "timings-gpu9.jsonl"
    text = path.read_text()
    place = len(text) - 2 if damaged == "end" else text.index(damaged) + 2
    path.write_text(text[:place] + "~" + text[place + 1 :])
    assert column_folder.foreign_files(merged) == []
    with pytest.raises(ValueError, match=r"timings-gpu9\.jsonl would be left.*run once without FRESH=1"):
        column_folder.clear(merged)
    with Journal(merged, FINGERPRINT).locked() as snapshot:
        assert snapshot.faults == (f"{path} is damaged in line 1; what these lines recorded is made again",)
        assert len(snapshot.pixels()) == 5
    column_folder.clear(merged)
    assert not path.exists()


def test_a_journal_of_another_column_at_a_writers_name_is_foreign(merged: Path) -> None:
    other = Journal(merged / "other", {"SEED": "43"}, writer="gpu9")
    with other.locked():
        for round_ in (0, 1):
            other.record_loaded(Loaded("Noise", 1, 8, (), 0.1, round=round_))
    (merged / "timings-gpu9.jsonl").write_bytes((merged / "other" / "timings-gpu9.jsonl").read_bytes())
    assert column_folder.foreign_files(merged) == ["timings-gpu9.jsonl"]


def test_what_one_loaded_counts_with_the_highest_peak_of_all(merged: Path) -> None:
    for writer, peak in (("0", 7), ("gpu1", 9)):
        journal = Journal(merged, FINGERPRINT, writer=writer)
        with journal.locked():
            journal.record_loaded(Loaded("Noise", 1, 8, (), 0.1, peak_memory_bytes=peak))
    loaded = Journal(merged, FINGERPRINT).read().loaded
    assert loaded is not None
    assert loaded.peak_memory_bytes == 9


def test_fresh_deletes_the_journals_of_all_writers(merged: Path) -> None:
    column_folder.clear(merged)
    assert list(merged.rglob("*.png")) == list(merged.glob("*.json*")) == []


def test_a_file_of_somebody_else_at_a_writers_name_is_foreign(merged: Path) -> None:
    (merged / "timings-notes.jsonl").write_text("my notes\n")
    assert column_folder.foreign_files(merged) == ["timings-notes.jsonl"]
    with pytest.raises(ValueError, match="timings-notes"):
        column_folder.clear(merged)


def test_a_batch_that_lacks_requests_between_its_own_leaves_them_to_be_made() -> None:
    recorded = Batch((0, 2, 4), 1.0, ("",) * 3, batch_size=3).indices
    assert missing(timed_slices(5, 1), recorded) == [range(1, 2), range(3, 4)]
    assert missing(timed_slices(5, 5), recorded) == [range(5)]


def test_what_another_writer_made_again_counts_whatever_the_names_of_the_journals(merged: Path) -> None:
    for index in (0, 1):
        (merged / "output" / f"{index:05d}.png").unlink()
    journal = Journal(merged, FINGERPRINT, writer="w1")
    with journal.locked():
        images = [Image.new("RGB", (8, 8), (200, index, 0)) for index in (0, 1)]
        journal.record_batch(Batch((0, 1), 5.0, ("prompt 0", "prompt 1"), batch_size=2), images)
    snapshot = Journal(merged, FINGERPRINT).read()
    assert [(batch.indices, batch.seconds) for batch in snapshot.batches] == [
        ((0, 1), 5.0), ((2, 3), 1.0), ((4,), 1.0),
    ]  # fmt: skip
    assert snapshot.faults == ()


def test_rounds_that_several_writers_timed_are_one(merged: Path) -> None:
    for writer, round_ in (("gpu1", 1), ("0", 0), ("gpu2", 2), ("gpu2", 1)):
        journal = Journal(merged, FINGERPRINT, writer=writer)
        with journal.locked():
            journal.record_timed(Timed((0,), 1.0, ("0" * 64,), round=round_))
    assert [(call.round, call.writer) for call in Journal(merged, FINGERPRINT).read().timed] == [
        (0, "0"), (1, "gpu2"), (2, "gpu2"),
    ]  # fmt: skip


def test_no_writer_has_the_name_of_the_journal_of_looks(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="looks"):
        Journal(tmp_path, FINGERPRINT, writer="looks")


def test_a_request_that_two_batches_hold_counts_once(tmp_path: Path) -> None:
    record(tmp_path, "0", 0, 1)
    record(tmp_path, "w1", 1, 2)
    batches = Journal(tmp_path, FINGERPRINT).read().batches
    indices = [index for batch in batches for index in batch.indices]
    assert len(indices) == len(set(indices))
