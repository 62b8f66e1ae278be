"""Which batch size makes most images per second: powers of two, each tried as long as the next one pays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmark.measure.out_of_memory import is_out_of_memory

LARGEST = 64
_POWERS = tuple(2**power for power in range(1, LARGEST.bit_length()))
LEAST_GAIN = 0.02  # less seconds per image than with the size before, as a share
LONG_CALL_S = 2.0  # a call of this length is timed once, a shorter one twice
MOST_SECONDS = 90.0  # no larger size is tried once all calls took so long
CALLS_OF_MISSING = 4  # a size of which more than this share of the missing images would go into one call is not tried


@dataclass(frozen=True)
class FoundSize:
    """The size that was chosen. trials: each size that was tried, with its seconds per image. ran_out: of memory."""

    size: int
    trials: tuple[tuple[int, float], ...]
    ran_out: bool = False


def sizes_to_try(missing: int) -> list[int]:
    """Return the batch sizes that come into question where so many images are missing, in ascending order."""
    return [1] + [size for size in _POWERS if size * CALLS_OF_MISSING <= missing]


def find_batch_size(
    call: Callable[[int], float], missing: int, stopped: Callable[[], bool] = lambda: False
) -> FoundSize | None:
    """Return the largest power of two up to LARGEST that fits in memory and up to which each one was faster per image.

    call: makes so many images, which are thrown away, and returns its seconds. missing: images that are to be made.
    The trials of a size make fewer images than that. Returns None once `stopped` says so.

    Raises what `call` raises, but for memory that ran out at a size above 1.
    """
    best, best_s, spent_s = 1, float("inf"), 0.0
    trials: list[tuple[int, float]] = []
    for size in sizes_to_try(missing):
        if stopped():
            return None
        if spent_s >= MOST_SECONDS:
            break
        try:
            calls_s = [call(size), call(size)]  # the first call of a size is no trial
            if calls_s[1] < LONG_CALL_S:
                calls_s.append(call(size))
        except Exception as error:
            if size == 1 or not is_out_of_memory(error):
                raise
            return FoundSize(best, tuple(trials), ran_out=True)
        spent_s += sum(calls_s)
        trials.append((size, image_s := min(calls_s[1:]) / size))
        if image_s > (1 - LEAST_GAIN) * best_s:
            break
        best, best_s = size, image_s
    return FoundSize(best, tuple(trials))
