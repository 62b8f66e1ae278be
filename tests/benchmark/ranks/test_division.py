"""Slices of bulk are claimed once each; rank 0 keeps the last ones where the work is long enough."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from itertools import zip_longest

import pytest
from torch.distributed import TCPStore

from benchmark.ranks.board import Address, Board, StoreLost, open_board
from benchmark.ranks.division import LEAST_ALONE, Division, Slice, count_alone
from benchmark.ranks.launch import Launch


@pytest.fixture
def address(request: pytest.FixtureRequest) -> Iterator[Address]:
    """Yield where a store is served, under a name of the test's own."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    yield Address("127.0.0.1", store.port, request.node.name)
    del store


def slices(count: int, size: int = 8) -> list[Slice]:
    return [(range(start, start + size), size) for start in range(0, count * size, size)]


def of_rank(address: Address, rank: int, ranks: int = 2, name: str = "SDXL (steps 8)") -> Division:
    division = Division(address, Launch(rank, ranks, rank, ranks), name)
    sent: Division = pickle.loads(pickle.dumps(division))
    return sent


def test_two_ranks_claim_each_slice_once_and_in_order(address: Address) -> None:
    first, second = of_rank(address, 0), of_rank(address, 1)
    assert not second.is_offered()
    first.offer(slices(7), seconds_per_image=0.001)
    assert second.wait()
    assert second.shared_count() == 56
    claimed = [each for pair in zip_longest(first.claim(), second.claim()) for each in pair if each is not None]
    assert [one for _, one in claimed] == slices(7)
    assert [handed_out for handed_out, _ in claimed] == [8, 16, 24, 32, 40, 48, 56]
    assert first.kept() == []


def test_a_million_slices_are_told_in_few_bytes_and_gaps_and_short_slices_stay(address: Address) -> None:
    first, second = of_rank(address, 0), of_rank(address, 1)
    first.offer(slices(1_000_000, 1), seconds_per_image=float("inf"))
    assert second.shared_count() == 1_000_000
    gaps: list[Slice] = [(range(2, 4), 2), (range(6, 8), 2), (range(8, 12), 4), (range(12, 15), 4), (range(15, 17), 4)]
    other, third = of_rank(address, 0, name="PixArt"), of_rank(address, 1, name="PixArt")
    other.offer(gaps, seconds_per_image=float("inf"))
    assert [one for _, one in third.claim()] == gaps


def test_rank_0_makes_the_last_slices_once_the_others_of_its_host_have_ended(address: Address) -> None:
    first, second = of_rank(address, 0), of_rank(address, 1)
    first.offer(slices(40), seconds_per_image=1.0)  # 320 s on one GPU
    shared = [one for _, one in second.claim()]
    looks = iter([False, False, True])
    assert first.kept(lambda: next(looks)) == [], "stopped while it waited"
    second.end()
    assert shared + first.kept() == slices(40)
    assert len(first.kept()) == LEAST_ALONE


def test_short_work_and_work_of_unknown_length_keeps_no_slice_for_rank_0() -> None:
    assert count_alone(slices(40), 1.0, 2) == LEAST_ALONE
    assert count_alone(slices(40), 1.0, 8) == 0, "35 slices on eight GPUs take 35 s"
    assert count_alone(slices(400), 0.1, 2) == 15, "12 s"
    assert count_alone(slices(400), float("inf"), 2) == 0
    assert count_alone([], 1.0, 2) == 0


def test_a_column_that_rank_0_gives_up_ends_for_all(address: Address) -> None:
    first, second = of_rank(address, 0), of_rank(address, 1)
    first.end()
    assert second.wait()
    assert list(second.claim()) == []
    other, third = of_rank(address, 0, name="PixArt"), of_rank(address, 1, name="PixArt")
    other.offer(slices(3), 0.1)
    claims = third.claim()
    assert next(claims)[1] == slices(3)[0]
    other.end()
    assert list(claims) == []


def test_waiting_for_what_is_to_be_made_can_be_stopped(address: Address) -> None:
    assert not of_rank(address, 1).wait(lambda: True)


def test_rank_0s_host_begins_a_column_once_rank_0_has_ended_the_one_before(address: Address) -> None:
    before = of_rank(address, 0, name="PixArt")
    of_rank(address, 0).offer(slices(3), 0.1)  # as for other hosts, which begin at once
    here = Division(address, Launch(1, 3, 1, 2, 0), "SDXL (steps 8)", after="PixArt")
    elsewhere = Division(address, Launch(2, 3, 0, 1, 1), "SDXL (steps 8)", after="PixArt")
    looks = iter([False, True])
    assert elsewhere.wait()
    assert not here.wait(lambda: next(looks))
    before.end()
    assert here.wait()


def test_values_are_told_to_all_and_the_first_of_two_stands(address: Address) -> None:
    one, other = open_board(address), open_board(address)
    one.put("session", {"a": (1, 2)})
    assert one.has("session"), "the store answers this once it has the value"
    assert other.get("session") == {"a": (1, 2)}
    assert one.put_first("lost", "rank 1")
    assert not other.put_first("lost", "rank 2")
    assert other.get("lost") == "rank 1"
    assert (one.add("count"), other.add("count"), one.add("count", 3)) == (1, 2, 5)
    assert not open_board(Address(address.host, address.port, "another attempt")).has("session")


def test_a_store_that_is_not_there_is_one_line() -> None:
    class Gone:
        def set(self, *_: object) -> None:
            raise RuntimeError("Broken pipe\n frame 0")

    with pytest.raises(StoreLost, match=r"does not answer \(Broken pipe\)") as caught:
        Board(Gone(), Address("", 0, "")).put("a", 1)
    assert "\n" not in str(caught.value)
