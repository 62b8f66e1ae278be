"""Which requests go into one call."""

from __future__ import annotations

from benchmark.run.journal_lines import Timed
from benchmark.run.slices import bulk_slices, lacking_rounds, missing, padded, timed_slices


def timed(round_: int, *indices: int) -> Timed:
    return Timed(indices, 1.0, ("",) * len(indices), round=round_)


def test_timed_slices_are_fixed_slices_of_the_indices() -> None:
    assert timed_slices(5, 2) == [range(0, 2), range(2, 4), range(4, 5)]


def test_a_short_slice_is_padded_with_its_own_requests_again() -> None:
    assert padded(range(4, 5), 3) == [4, 4, 4]
    assert padded(range(4, 6), 3) == [4, 5, 4]
    assert padded(range(4, 7), 3) == [4, 5, 6]


def test_bulk_begins_where_its_size_was_recorded() -> None:
    assert bulk_slices([(25, 16)], 60) == [(range(25, 41), 16), (range(41, 57), 16), (range(57, 60), 16)]


def test_a_halved_batch_size_holds_from_its_index_on() -> None:
    assert bulk_slices([(2, 4), (6, 2)], 11) == [
        (range(2, 6), 4), (range(6, 8), 2), (range(8, 10), 2), (range(10, 11), 2)
    ]  # fmt: skip


def test_bulk_slices_of_a_shorter_run_are_the_first_ones_of_a_longer_one() -> None:
    assert bulk_slices([(25, 8)], 60)[:4] == bulk_slices([(25, 8)], 57)
    assert bulk_slices([(25, 8), (41, 4)], 30) == [(range(25, 30), 8)]


def test_a_slice_is_missing_where_one_request_is_in_one_of_the_collections_alone() -> None:
    slices = timed_slices(4, 2)
    assert missing(slices, {0, 1, 2, 3}) == []
    assert missing(slices, {0, 1, 2}) == [range(2, 4)]
    assert missing(slices, {0, 1, 2, 3}, {0, 2, 3}) == [range(0, 2)]


def test_a_round_lacks_what_was_not_timed_in_it() -> None:
    slices = timed_slices(3, 2)
    calls = [timed(0, 0, 1), timed(0, 2), timed(1, 0, 1)]
    assert lacking_rounds(slices, calls, 3) == {1: [range(2, 3)], 2: [range(0, 2), range(2, 3)]}
    assert lacking_rounds(slices, calls, 1) == {}


def test_a_short_last_slice_is_timed_again_where_the_run_is_extended() -> None:
    assert lacking_rounds(timed_slices(4, 2), [timed(0, 0, 1), timed(0, 2)], 1) == {0: [range(2, 4)]}
