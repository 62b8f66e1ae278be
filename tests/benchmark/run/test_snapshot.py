"""What the lines of a column say together: rounds, processes, sizes of bulk, looks; and what a kill leaves of them."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
from journal_cases import FINGERPRINT, image_of, images, make, record

from benchmark.run import column_folder
from benchmark.run.journal import Journal, pixel_digest
from benchmark.run.journal_lines import BulkSize, Finished, Loaded, Timed
from benchmark.run.slices import bulk_slices
from benchmark.run.snapshot import Snapshot
from files.records import seal


def timed(*indices: int, seconds: float = 1.0, round_: int = 0) -> Timed:
    pixels = tuple(pixel_digest(image_of(index)) for index in indices)
    return Timed(indices, seconds, pixels, batch_size=len(indices), round=round_)


def loaded(process: str, peak: int | None, *, bulk: bool = False, round_: int = 0) -> Loaded:
    return Loaded(
        "Noise", 1, 8, (), 0.1, (1.0,), peak_memory_bytes=peak, process=process, round=round_,
        purpose="bulk" if bulk else "timed",
    )  # fmt: skip


def read(folder: Path) -> Snapshot:
    return Journal(folder, FINGERPRINT).read()


def drop_lines(folder: Path, word: str) -> None:
    """Damage the lines that hold a word, as a failing disk would."""
    path = folder / "timings.jsonl"
    path.write_text("".join(
        line.replace(word, "~", 1) if word in line else line for line in path.read_text().splitlines(keepends=True)
    ))  # fmt: skip


def sizes(snapshot: Snapshot, start: int = 4) -> list[tuple[int, int]]:
    return [(one.start, one.size) for one in snapshot.bulk_sizes_from(start)]


def test_timed_calls_are_sorted_by_round_and_in_a_round_the_later_one_of_a_request_stands(tmp_path: Path) -> None:
    journal = Journal(tmp_path, FINGERPRINT)
    with journal.locked():
        for call in (
            timed(0, 1, round_=1), timed(2, round_=0), timed(0, 1, round_=0), timed(2, 3, seconds=5.0, round_=0),
        ):  # fmt: skip
            journal.record_timed(call)
    assert [(call.round, call.indices, call.seconds) for call in read(tmp_path).timed] == [
        (0, (0, 1), 1.0), (0, (2, 3), 5.0), (1, (0, 1), 1.0),
    ]  # fmt: skip
    assert read(tmp_path).batches == (), "a timed call is no image"


def test_after_a_kill_between_a_timed_call_and_its_images_both_are_made_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, FINGERPRINT)
    with journal.locked():
        journal.record_timed(timed(0, 1, seconds=9.0))
    assert read(tmp_path).pixels() == {}
    make(tmp_path)
    snapshot = read(tmp_path)
    assert [call.indices for call in snapshot.timed if call.round == 0] == [(0, 1), (2, 3)]
    assert snapshot.timed[0].seconds != 9.0
    assert snapshot.pixels() == {index: pixel_digest(image_of(index)) for index in range(10)}


def test_a_batch_of_which_one_image_has_no_name_yet_has_no_image(tmp_path: Path) -> None:
    make(tmp_path)
    whole = images(tmp_path)
    (tmp_path / "output" / "00005.png").unlink()
    assert sorted(read(tmp_path).pixels()) == [0, 1, 2, 3, 8, 9]
    assert make(tmp_path) == [], "an image that is not there is no damage"
    assert images(tmp_path) == whole


@pytest.mark.parametrize("kind", ["loaded", "timed", "batch", "finished", "bulk_size"])
def test_a_line_that_was_torn_is_left_out_and_takes_no_later_line_with_it(tmp_path: Path, kind: str) -> None:
    make(tmp_path)
    path = tmp_path / "timings.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    place = next(number for number, line in enumerate(lines) if f'"kind": "{kind}"' in line)
    path.write_text("".join(lines[:place]) + lines[place][:-20])
    before = read(tmp_path)
    assert before.faults == ()
    Journal(tmp_path, FINGERPRINT).record_timed(timed(50, round_=7))  # by a process that did not take the lock anew
    after = read(tmp_path)
    assert [call for call in after.timed if call not in before.timed] == [timed(50, round_=7)]
    assert set(before.timed) <= set(after.timed)
    make(tmp_path)
    assert read(tmp_path).faults == ()
    assert sorted(read(tmp_path).pixels()) == list(range(10))


def test_a_lost_line_of_a_process_costs_no_timed_call(tmp_path: Path) -> None:
    make(tmp_path)
    whole = read(tmp_path)
    drop_lines(tmp_path, '"warmups_s"')
    snapshot = read(tmp_path)
    assert (snapshot.loaded, snapshot.processes) == (None, ())
    assert (snapshot.timed, snapshot.batches) == (whole.timed, whole.batches)
    make(tmp_path)
    assert read(tmp_path).timed == whole.timed
    assert {(one.purpose, one.round) for one in read(tmp_path).processes} == {("timed", 0), ("timed", 1)}


def test_a_process_counts_with_its_last_line_and_bulk_not_into_the_peak_memory(tmp_path: Path) -> None:
    journal = Journal(tmp_path, FINGERPRINT)
    with journal.locked():
        journal.record_loaded(loaded("0000000a", 3))
        journal.record_loaded(loaded("0000000a", 4))
        journal.record_finished(Finished(9, 1.0, 1.0, process="0000000a"))
        journal.record_loaded(loaded("0000000b", 5, round_=1))
        journal.record_loaded(loaded("0000000c", 70, bulk=True))
        journal.record_finished(Finished(90, 1.0, 1.0, purpose="bulk", process="0000000c"))
    snapshot = read(tmp_path)
    assert [(one.process, one.peak_memory_bytes) for one in snapshot.processes] == [
        ("0000000a", 4), ("0000000b", 5), ("0000000c", 70),
    ]  # fmt: skip
    assert snapshot.loaded is not None
    assert (snapshot.loaded.process, snapshot.loaded.peak_memory_bytes) == ("0000000b", 9)
    assert [one.peak_memory_bytes for one in snapshot.finished] == [9, 90]


def test_what_bulk_alone_tells_of_a_model_stands_where_nothing_was_timed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, FINGERPRINT)
    with journal.locked():
        journal.record_loaded(loaded("0000000c", 70, bulk=True))
    snapshot = read(tmp_path)
    assert snapshot.loaded is not None
    assert (snapshot.loaded.process, snapshot.loaded.peak_memory_bytes) == ("0000000c", None)


def test_of_two_sizes_of_bulk_from_the_same_request_on_the_later_one_stands(tmp_path: Path) -> None:
    journal = Journal(tmp_path, FINGERPRINT)
    with journal.locked():
        for bulk in (BulkSize(12, 2), BulkSize(4, 8), BulkSize(4, 4, asked="8")):
            journal.record_bulk_size(bulk)
    assert read(tmp_path).bulk_sizes == (BulkSize(4, 4, asked="8"), BulkSize(12, 2))


def test_where_a_size_of_bulk_was_lost_the_images_tell_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path, FINGERPRINT)
    with journal.locked():
        journal.record_bulk_size(BulkSize(4, 4))
        record(journal, 4, 5, 6, 7, bulk=True)
        journal.record_bulk_size(BulkSize(8, 2))
        for first in (8, 10):
            record(journal, first, first + 1, bulk=True)
        record(journal, 12, size=2, bulk=True)
    assert sizes(read(tmp_path)) == [(4, 4), (8, 2)]
    drop_lines(tmp_path, '"bulk_size"')
    assert sizes(read(tmp_path)) == [(4, 4), (8, 2)]
    assert {one.asked for one in read(tmp_path).bulk_sizes} == {""}
    for index in range(4, 8):
        (tmp_path / "output" / f"{index:05d}.png").unlink()
    assert sizes(read(tmp_path)) == [(4, 2), (8, 2)], "the first ones get the size of those that follow"


def test_slices_stay_where_they_were_when_the_size_of_the_first_ones_was_lost(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path, bulk_sizes=(BulkSize(7, 4),))
    assert bulk_slices(sizes(snapshot), 15) == [(range(4, 7), 4), (range(7, 11), 4), (range(11, 15), 4)]
    assert Snapshot(tmp_path).bulk_sizes_from(4) == ()


def test_a_timed_image_tells_no_size_of_bulk(tmp_path: Path) -> None:
    journal = Journal(tmp_path, FINGERPRINT)
    with journal.locked():
        record(journal, 0, 1)
    assert read(tmp_path).bulk_sizes == ()


def test_a_look_is_recorded_once_for_each_number_of_rounds_and_without_the_lock(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "timings-looks.jsonl").unlink()
    journal = Journal(tmp_path, FINGERPRINT)
    with journal.locked():  # another process's
        for rounds in (8, 4, 12, 8):
            Journal(tmp_path, FINGERPRINT).record_look(rounds)
    assert read(tmp_path).looks == (8, 4, 12), "in their order"
    assert len((tmp_path / "timings-looks.jsonl").read_text().splitlines()) == 3
    column_folder.clear(tmp_path)
    assert list(tmp_path.glob("*.jsonl")) == []


def test_a_damaged_look_is_forgotten_and_leaves_the_folder_ours(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "timings-looks.jsonl").write_text(seal({"kind": "look", "rounds": 4, "writer": "looks"}) + "\n")
    assert column_folder.foreign_files(tmp_path) == []
    assert read(tmp_path).looks == ()
    assert len(read(tmp_path).faults) == 1
    make(tmp_path)
    assert (read(tmp_path).looks, read(tmp_path).faults) == ((2,), ())


def test_a_journal_sent_to_another_process_writes_under_the_lock_of_its_sender(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "column", FINGERPRINT, 10)
    with journal.locked():
        sent = pickle.loads(pickle.dumps(journal))
        record(sent, 0, 1)
        sent.record_timed(timed(0, 1))
    assert sorted(read(tmp_path / "column").pixels()) == [0, 1]
    assert len(read(tmp_path / "column").timed) == 1


def test_receiving_a_journal_looks_at_no_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "column", FINGERPRINT, 10)
    with journal.locked():
        pass
    sent = pickle.dumps(journal)
    (tmp_path / "column" / "fingerprint.json").write_text("{")
    (tmp_path / "column" / "timings.jsonl").write_text("{}\n")
    assert pickle.loads(sent).image_path(3) == tmp_path / "column" / "output" / "00003.png"
    shutil.rmtree(tmp_path / "column")
    assert pickle.loads(sent).folder == tmp_path / "column"
