"""Copies of one run are joined: what each recorded and generated is there once, and a kill loses nothing."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from copies_of_a_run import COUNT, TITLE, add, begin, contents, held, images
from journal_cases import FINGERPRINT, make, record

from benchmark.run import column_folder, journal, merging
from benchmark.run.journal import Journal
from benchmark.run.journal_lines import Batch
from benchmark.run.merging import join_copies, union
from benchmark.run.recorded import recorded_lines
from files.locks import LOCK_NAME
from files.records import read_record
from files.writing import PREFIX
from scripts.measuring.damaging import copy_tree


@pytest.fixture
def copies(tmp_path: Path) -> tuple[Path, Path]:
    """Rank 0's copy with the rounds and two slices of bulk, and another host's with two slices by two ranks."""
    first, second = tmp_path / "first", tmp_path / "second"
    begin(first)
    add(first, [4, 12], "0")
    add(second, [8], "rank2")
    add(second, [16], "rank3")
    return first, second


def join(*outputs: Path) -> tuple[list[str], list[str]]:
    """Join the copies; return what was done for the columns, and what was announced."""
    announced: list[str] = []
    return list(map(str, join_copies(outputs, announced.append))), announced


def test_joined_copies_equal_one_process_and_the_same_command_finds_all_there(
    copies: tuple[Path, Path], tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    begin(alone)
    add(alone, [4, 8, 12, 16], "0")
    assert join(*copies) == ([f"{TITLE}: 8 images taken, 20 of 20 there now"], [])
    joined, one = held(copies[0]), held(alone)
    assert images(copies[0]) == images(alone)
    assert (joined.pixels(), joined.asked(COUNT)) == (one.pixels(), one.asked(COUNT))
    assert [(call.indices, call.seconds) for call in joined.timed] == [
        (call.indices, call.seconds) for call in one.timed
    ]
    assert (joined.looks, joined.faults) == (one.looks, ())
    there = contents(copies[0])
    assert make(copies[0] / TITLE, COUNT) == []
    assert contents(copies[0]) == there


def test_joining_again_changes_nothing_and_the_other_copy_stays_as_it_is(copies: tuple[Path, Path]) -> None:
    second = contents(copies[1])
    join(*copies)
    first = contents(copies[0])
    assert join(*copies) == ([f"{TITLE}: 0 images taken, 20 of 20 there now"], [])
    assert contents(copies[0]) == first
    assert contents(copies[1]) == second


def test_joined_in_either_order_copies_give_the_same(copies: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = (copy_tree(copy, tmp_path / f"{copy.name}-again") for copy in copies)
    join(*copies)
    join(second, first)
    assert held(second) == held(copies[0])
    assert images(second) == images(copies[0])


def test_three_copies_are_joined_at_once(copies: tuple[Path, Path], tmp_path: Path) -> None:
    third = tmp_path / "third"
    add(third, [20], "rank4")
    done, _ = join(*copies, third)
    assert done == [f"{TITLE}: 12 images taken, 20 of 20 there now"]
    assert sorted(held(copies[0]).pixels()) == list(range(24))


def test_lines_of_one_writer_in_both_copies_are_there_once_and_in_their_order(
    copies: tuple[Path, Path], tmp_path: Path
) -> None:
    ahead = copy_tree(copies[0], tmp_path / "ahead")  # begins as the first does
    add(ahead, [8], "0")
    add(copies[0], [16], "0")
    before = [(folder / TITLE / "timings.jsonl").read_text().splitlines() for folder in (copies[0], ahead)]
    join(copies[0], ahead)
    joined = (copies[0] / TITLE / "timings.jsonl").read_text().splitlines()
    assert len(joined) == len(set(joined))
    assert set(joined) == {line for lines in before for line in lines}
    for lines in before:
        assert [line for line in joined if line in lines] == lines
    assert sorted(held(copies[0]).pixels()) == list(range(20))


@pytest.mark.parametrize(
    ("ours", "theirs", "joined"),
    [
        ("abc", "abc", "abc"),
        ("ab", "abcd", "abcd"),
        ("abcd", "ab", "abcd"),
        ("", "ab", "ab"),
        ("abx", "aby", "abyx"),
        ("axc", "ayc", "ayxc"),
        ("ba", "ab", "ba"),
        ("bca", "axbc", "bcax"),
    ],
)
def test_two_journals_are_one_with_theirs_before_ours_between_common_lines(ours: str, theirs: str, joined: str) -> None:
    assert "".join(union(ours, theirs)) == joined
    assert "".join(union(joined, theirs)) == joined
    for kept in range(2 ** len(set(joined) - set(ours))):  # what a kill left of the join
        new = [line for line in joined if line not in ours]
        there = [line for line in joined if line in ours or kept >> new.index(line) & 1]
        assert "".join(union(there, theirs)) == joined


def test_what_the_first_copy_has_whole_stands_and_what_it_lost_is_taken(copies: tuple[Path, Path]) -> None:
    add(copies[1], [4], "rank2", shade=200)
    add(copies[1], [12], "rank3", shade=100)
    before = images(copies[0])
    (copies[0] / TITLE / "output" / "00013.png").write_bytes(b"damaged")
    done, announced = join(*copies)
    assert done == [f"{TITLE}: 12 images taken, 20 of 20 there now"]
    assert [line.rpartition("/")[2] for line in announced] == [
        "00013.png changed since this program wrote it; it is made again"
    ]
    after = images(copies[0])
    assert {name for name in before if after[name] != before[name]} == {f"{index:05d}.png" for index in range(12, 16)}
    assert held(copies[0]).faults == ()


def test_timed_calls_of_the_first_copy_stand_where_two_hosts_timed_the_same_rounds(
    copies: tuple[Path, Path], tmp_path: Path
) -> None:
    begin(tmp_path / "apart")
    before = [held(output) for output in (copies[0], tmp_path / "apart")]
    assert before[0].timed != before[1].timed
    join(copies[0], tmp_path / "apart")
    joined = held(copies[0])
    assert joined.timed == before[0].timed
    assert joined.batches == before[0].batches
    assert len(joined.processes) == len(before[0].processes) + 2


def test_a_damaged_image_of_the_other_copy_is_named_and_not_taken(copies: tuple[Path, Path]) -> None:
    damaged = copies[1] / TITLE / "output" / "00009.png"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    done, announced = join(*copies)
    assert done == [f"{TITLE}: 4 images taken, 16 of 20 there now"]
    assert announced == [f"left out: {damaged} changed since this program wrote it; it is made again"]
    assert not {f"{index:05d}.png" for index in range(8, 12)} & images(copies[0]).keys()
    assert held(copies[0]).faults == ()


def test_a_damaged_line_of_the_other_copy_is_named_and_not_taken(copies: tuple[Path, Path]) -> None:
    path = copies[1] / TITLE / "timings-rank3.jsonl"
    path.write_text(path.read_text().replace('"prompt 16"', '"prompt 61"'))
    done, announced = join(*copies)
    assert done == [f"{TITLE}: 4 images taken, 16 of 20 there now"]
    assert announced == [f"left out: {path} is damaged in line 2; what these lines recorded is made again"]


def test_calls_that_overlap_with_those_of_the_first_copy_are_left_out_and_told(copies: tuple[Path, Path]) -> None:
    journal = Journal(copies[1] / TITLE, FINGERPRINT, writer="rank4")
    with journal.locked():
        record(journal, 14, 15, 20, 21, bulk=True)
    done, announced = join(*copies)
    assert done == [f"{TITLE}: 8 images taken, 20 of 20 there now"]
    assert announced == [
        f"left out: 2 images in {copies[1] / TITLE}, made in calls that overlap with calls of another copy"
    ]


def test_a_column_that_the_first_copy_lacks_is_taken_whole(copies: tuple[Path, Path], tmp_path: Path) -> None:
    first = tmp_path / "other"
    blobs = Journal(first / "Blobs", {"SEED": "7"})
    with blobs.locked():
        record(blobs, 0)
    done, _ = join(first, copies[0])
    assert done == ["Blobs: 0 images taken, 1 there now", f"{TITLE}: 12 images taken, 12 of 20 there now"]
    assert images(first) == images(copies[0])
    assert held(first) == held(copies[0])


def test_columns_of_one_fingerprint_belong_together_whatever_their_titles(copies: tuple[Path, Path]) -> None:
    (copies[1] / TITLE).rename(copies[1] / "Noise (eager)")
    done, _ = join(*copies)
    assert done == [f"{TITLE}: 8 images taken, 20 of 20 there now"]
    assert [path.name for path in copies[0].iterdir()] == [TITLE]


def test_a_setting_that_one_copy_does_not_record_counts_as_its_default(tmp_path: Path) -> None:
    known = {"FAMILY": "sdxl", "SEED": "42"}
    for name, mark, index in (("old", known, 0), ("new", {**known, "CAPTION_COLUMN": ""}, 1)):
        journal = Journal(tmp_path / name / TITLE, mark)
        with journal.locked():
            record(journal, index)
    assert join(tmp_path / "old", tmp_path / "new") == ([f"{TITLE}: 1 image taken, 2 there now"], [])
    assert sorted(Journal(tmp_path / "old" / TITLE, known).read().pixels()) == [0, 1]


def test_fresh_deletes_all_that_was_joined(copies: tuple[Path, Path]) -> None:
    join(*copies)
    assert column_folder.foreign_files(copies[0] / TITLE) == []
    column_folder.clear(copies[0] / TITLE)
    assert [path.name for path in (copies[0] / TITLE).iterdir()] == [LOCK_NAME]


def test_a_kill_at_any_step_loses_nothing_and_the_same_command_goes_on(
    copies: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "IMAGES_AT_ONCE", 4)
    whole = copy_tree(copies[0], tmp_path / "whole")
    join(whole, copies[1])
    steps = died = 0
    while True:
        first = copy_tree(copies[0], tmp_path / "killed" / str(steps))
        child = multiprocessing.get_context("fork").Process(target=die_at, args=(steps, first, copies[1]))
        child.start()
        child.join(60)
        check_nothing_is_lost(first, copies[0])
        died += child.exitcode == 9
        join(first, copies[1])
        assert journals(first) == journals(whole)
        assert images(first) == images(whole)
        assert not list(first.rglob(f"{PREFIX}*"))
        steps += 1
        if child.exitcode == 0:
            break
    assert died == steps - 1 == 20  # 8 images aside, 4 writes of journals, 8 names


def die_at(step: int, first: Path, second: Path) -> None:
    """Join, and die as by kill -9 before the given of all steps that write."""
    left = [step]

    def dying(write: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            if left[0] == 0:
                os._exit(9)
            left[0] -= 1
            return write(*arguments, **named)

        return wrapped

    merging.MOST_THREADS = 1  # type: ignore[misc]
    for module, name in ((merging, "_copy_aside"), (merging, "write_text"), (journal, "publish")):
        setattr(module, name, dying(getattr(module, name)))
    join(first, second)
    os._exit(0)


def check_nothing_is_lost(first: Path, before: Path) -> None:
    found = held(first)
    assert found.faults == ()
    assert found.pixels().items() >= held(before).pixels().items()
    lines = recorded_lines(first / TITLE)
    named = {f"{index:05d}.png" for line in lines if isinstance(line, Batch) for index in line.indices}
    assert {path.name for path in (first / TITLE / "output").glob("*.png") if PREFIX not in path.name} <= named


def journals(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (output / TITLE).glob("*.jsonl")}


def test_a_disk_that_fills_up_names_the_path_and_leaves_no_part_of_an_image(
    copies: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = images(copies[0])

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merging, "sync_file", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/output/000\d\d.png'"):
        join(*copies)
    assert images(copies[0]) == before
    monkeypatch.undo()
    assert join(*copies)[0] == [f"{TITLE}: 8 images taken, 20 of 20 there now"]


def test_the_mark_of_a_joined_column_is_that_of_the_first_copy(copies: tuple[Path, Path]) -> None:
    mark = read_record(copies[0] / TITLE / column_folder.MARK_NAME)
    join(*copies)
    assert read_record(copies[0] / TITLE / column_folder.MARK_NAME) == mark
