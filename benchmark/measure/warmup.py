"""Warming up: untimed calls until the last ones take equally long, since early calls of a process take longer."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LAST_CALLS = 3
MOST_VARIATION = 0.1  # standard deviation of the last calls over their mean
MOST_CALLS = 10
MOST_SECONDS = 6.0


@dataclass(frozen=True)
class WarmUp:
    """The seconds of each untimed call, and whether the last ones agreed."""

    seconds: tuple[float, ...]
    agreed: bool


def warm_up(call: Callable[[], float], least: int, stopped: Callable[[], bool] = lambda: False) -> WarmUp:
    """Call until LAST_CALLS calls in a row vary by at most MOST_VARIATION; the first call of all is never among them.

    More than `least` calls are made no longer than MOST_SECONDS after the first one, and no more than MOST_CALLS. Where
    there are fewer than LAST_CALLS then, those that there are agree or not.

    call: makes one call and returns its seconds. least: calls that are made at least; 0: the first call alone, which is
    enough then. stopped: is asked before each call after the first.
    """
    seconds = [call()]
    if least == 0:
        return WarmUp(tuple(seconds), True)
    while not stopped():
        if len(seconds) >= least and len(seconds) > LAST_CALLS and _agree(seconds):
            break
        if len(seconds) >= max(least, MOST_CALLS) or (len(seconds) >= least and sum(seconds[1:]) >= MOST_SECONDS):
            break
        seconds.append(call())
    return WarmUp(tuple(seconds), _agree(seconds))


def _agree(seconds: Sequence[float]) -> bool:
    last = seconds[1:][-LAST_CALLS:]
    return len(last) < 2 or statistics.pstdev(last) <= MOST_VARIATION * statistics.mean(last)
