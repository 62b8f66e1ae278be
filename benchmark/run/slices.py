"""Which requests go into one generate() call: fixed slices of the indices, so that a second run makes the same ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from benchmark.run.journal_lines import Timed


def timed_slices(count: int, batch_size: int) -> list[range]:
    """Return the slices of the indices 0..count-1 that a round times; the last one may be short, and is padded."""
    return _slices(0, count, batch_size)


def bulk_slices(sizes: Sequence[tuple[int, int]], count: int) -> list[tuple[range, int]]:
    """Return the slices of bulk, each with its batch size; the last one may be short, and is padded.

    sizes: (first index, batch size) in ascending order: each size holds from its index on up to the next one's.
    """
    slices = []
    for place, (start, size) in enumerate(sizes):
        stop = sizes[place + 1][0] if place + 1 < len(sizes) else count
        slices += [(indices, size) for indices in _slices(start, min(stop, count), size)]
    return slices


def missing(slices: Sequence[range], *done: Collection[int]) -> list[range]:
    """Return the slices of which a request is not in each of the collections."""
    return [indices for indices in slices if not all(set(indices).issubset(of) for of in done)]


def lacking_rounds(slices: Sequence[range], timed: Iterable[Timed], rounds: int) -> dict[int, list[range]]:
    """Return of each of the first `rounds` rounds that is not complete the slices of which a request was not timed."""
    done: dict[int, set[int]] = {}
    for call in timed:
        done.setdefault(call.round, set()).update(call.indices)
    lacking = {number: missing(slices, done.get(number, ())) for number in range(rounds)}
    return {number: left for number, left in lacking.items() if left}


def padded(indices: range, batch_size: int) -> list[int]:
    """Return the indices of a full call: those of a short slice again from its first on, until it is full."""
    return [indices[place % len(indices)] for place in range(max(batch_size, len(indices)))]


def _slices(start: int, stop: int, size: int) -> list[range]:
    return [range(first, min(first + size, stop)) for first in range(start, stop, size)]
