"""How the slices of a column's bulk are divided among ranks: whole slices, each claimed once, in their order.

Rank 0 lists the slices that lack and keeps the last ones for itself, where the work is long enough: it makes them once
the others of its host have ended, so that the run also has the rate of one GPU alone. Everything here can be sent to a
worker, which claims by itself.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from benchmark.ranks.board import Address, Board, board_of_process
from benchmark.ranks.launch import Launch
from benchmark.ranks.ranks import never, wait_until

LEAST_SHARED_SECONDS = 75.0  # of the phase of all ranks, so that 60 of them can be counted
SECONDS_ALONE = 12.0
LEAST_ALONE = 5  # calls
Slice = tuple[range, int]  # the requests of a call, and the batch size


@dataclass(frozen=True)
class Division:
    """One column's bulk, divided among ranks. name: of the column, the same for all ranks.

    after: the column before it, "" for the first one. On rank 0's host it is begun once that one has ended for rank 0,
    which would not make the last slices alone else.
    """

    address: Address
    launch: Launch
    name: str
    after: str = ""

    @property
    def is_first(self) -> bool:
        return self.launch.rank == 0

    def offer(self, slices: Sequence[Slice], seconds_per_image: float) -> None:
        """Tell the others what there is to make. seconds_per_image: on one GPU, infinite where that is not known."""
        kept = count_alone(slices, seconds_per_image, self.launch.ranks)
        shared = slices[: len(slices) - kept]
        self._board.put(self._shared, _packed(shared))
        self._board.put(self._kept, _packed(slices[len(shared) :]))

    def is_offered(self) -> bool:
        """Return whether rank 0 has told what there is to make."""
        return self._board.has(self._shared, self._kept)

    def wait(self, stopped: Callable[[], bool] = never) -> bool:
        """Wait until `is_offered` and this rank may begin; return False where it was stopped before."""
        before = [] if not self.after or self.launch.node else [replace(self, name=self.after)._closed]
        return wait_until(lambda: self._board.has(self._shared, self._kept, *before), stopped)

    def claim(self, stopped: Callable[[], bool] = never) -> Iterator[tuple[int, Slice]]:
        """Yield slices that no other rank makes, each with how many images all ranks have claimed with it."""
        shared = self._slices(self._shared)
        handed_out = list(accumulate(len(indices) for indices, _ in shared))
        while not stopped() and not self._board.has(self._closed):
            place = self._board.add(self._counter) - 1
            if place >= len(shared):
                return
            yield handed_out[place], shared[place]

    def claimed_count(self) -> int:
        """Return how many images ranks have claimed by now."""
        claimed = self._board.add(self._counter, 0)
        return sum(len(indices) for indices, _ in self._slices(self._shared)[:claimed])

    def shared_count(self) -> int:
        """Return how many images all ranks make together."""
        return sum(len(indices) for indices, _ in self._slices(self._shared))

    def kept(self, stopped: Callable[[], bool] = never) -> list[Slice]:
        """Return what rank 0 makes alone, once the others of its host have ended; nothing where it was stopped."""
        assert self.is_first
        kept = self._slices(self._kept)
        others = [f"{self._ended}/{rank}" for rank in self.launch.node_ranks if rank]
        return kept if not kept or wait_until(lambda: self._board.has(*others), stopped) else []

    def end(self) -> None:
        """Say that this rank makes no more of the column; rank 0 says so for all, as when the column has failed."""
        if self.is_first:
            self._board.put(self._closed, True)
            for name in (self._shared, self._kept):
                self._board.put_first(name, [])
        self._board.put(f"{self._ended}/{self.launch.rank}", True)

    @property
    def _board(self) -> Board:
        return board_of_process(self.address, os.getpid())

    def _slices(self, name: str) -> list[Slice]:
        return _unpacked(self._board.get(name))

    @property
    def _shared(self) -> str:
        return f"bulk/{self.name}/shared"

    @property
    def _kept(self) -> str:
        return f"bulk/{self.name}/kept"

    @property
    def _counter(self) -> str:
        return f"bulk/{self.name}/claimed"

    @property
    def _closed(self) -> str:
        return f"bulk/{self.name}/closed"

    @property
    def _ended(self) -> str:
        return f"bulk/{self.name}/ended"


def _packed(slices: Sequence[Slice]) -> list[tuple[int, int, int]]:
    """Return slices as (first request, end, batch size), one for all that follow one another: the store takes 8 MiB."""
    packed: list[tuple[int, int, int]] = []
    for indices, size in slices:
        if packed and packed[-1][1:] == (indices.start, size) and (indices.start - packed[-1][0]) % size == 0:
            packed[-1] = (packed[-1][0], indices.stop, size)
        else:
            packed.append((indices.start, indices.stop, size))
    return packed


def _unpacked(packed: Sequence[tuple[int, int, int]]) -> list[Slice]:
    return [
        (range(first, min(first + size, end)), size) for start, end, size in packed
        for first in range(start, end, size)
    ]  # fmt: skip


def count_alone(slices: Sequence[Slice], seconds_per_image: float, ranks: int) -> int:
    """Return how many of the last slices one rank makes alone: enough for a rate, where the rest takes a minute."""
    if not slices or not math.isfinite(seconds_per_image) or seconds_per_image <= 0:
        return 0
    size = slices[-1][1]
    count = max(LEAST_ALONE, math.ceil(SECONDS_ALONE / (size * seconds_per_image)))
    shared = slices[: len(slices) - count]
    seconds = sum(len(indices) for indices, _ in shared) * seconds_per_image / ranks
    return count if len(slices) > count and seconds >= LEAST_SHARED_SECONDS else 0
