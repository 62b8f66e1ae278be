"""What a card's counter of energy and its power were while something ran, as a thread beside it saw them."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import numpy as np

from benchmark.measure.nvml import IDLE, Card

LOOK_SECONDS = 0.01
LOOKS_PER_SAMPLE = 5  # cards have a new power no more often than every 20 ms

Polling = Callable[[Callable[[], None]], AbstractContextManager[None]]


class Time(Protocol):
    """What is needed of a clock."""

    def now(self, wait: bool = True) -> float:
        """Return the seconds since some moment in the past. wait: until the device has done all that it was asked."""


@contextmanager
def poll_in_thread(look: Callable[[], None]) -> Iterator[None]:
    """Call `look` every LOOK_SECONDS in a thread, which ends with the block; an error of it is raised then.

    The thread sleeps between two looks, and NVML's functions run without Python's lock. What is left is some twenty
    microseconds of Python per look, and two hand-overs of the lock: well below one percent of the time.
    """
    ended = threading.Event()

    def poll() -> None:
        while not ended.is_set():
            look()
            ended.wait(LOOK_SECONDS)

    with ThreadPoolExecutor(1, "power") as threads:
        polling = threads.submit(poll)
        try:
            yield
        finally:
            ended.set()
    polling.result()


class PowerLog:
    """The moments at which the counter advanced, in seconds of the clock, and samples of the power between them.

    A tick lies between two looks, LOOK_SECONDS apart; its moment is taken to be in the middle, so that it is off by
    half of that, in either direction.
    """

    def __init__(self, card: Card, clock: Time) -> None:
        self._card, self._clock = card, clock
        self._looks = 0
        self._last: tuple[float, int] | None = None
        self._ticks: list[tuple[float, float]] = []  # seconds, joules
        self._samples: list[tuple[float, float]] = []  # seconds, watts
        self._limits: list[tuple[float, tuple[str, ...]]] = []

    def look(self) -> None:
        """Read the counter, and every LOOKS_PER_SAMPLE looks the power and what holds the clocks down."""
        seconds, energy_mj = self._clock.now(wait=False), self._card.energy_mj()
        if energy_mj is not None:
            if self._last is not None and energy_mj != self._last[1]:
                self._ticks.append(((self._last[0] + seconds) / 2, energy_mj / 1000))
            self._last = seconds, energy_mj
        if self._looks % LOOKS_PER_SAMPLE == 0:
            if (power_w := self._card.power_w()) is not None:
                self._samples.append((seconds, power_w))
            self._limits.append((seconds, self._card.clock_limits()))
        self._looks += 1

    def has_tick(self, start: float, end: float = math.inf) -> bool:
        """Return whether the counter has advanced between two moments."""
        return any(start < seconds <= end for seconds, _ in self._ticks)

    def energy_j(self, start: float, end: float) -> float:
        """Return the energy between two moments, each of which lies between two ticks."""
        ticks = self._ticks[:]
        assert ticks[0][0] <= start <= end <= ticks[-1][0], "a tick lies before the start, and one after the end"
        times, joules = zip(*ticks, strict=True)
        at_start_j, at_end_j = np.interp([start, end], times, joules)
        return float(at_end_j - at_start_j)

    def mean_counted_w(self, start: float, end: float) -> float | None:
        """Return the mean power from the first to the last tick between two moments; None of fewer than two ticks."""
        ticks = [tick for tick in self._ticks if start <= tick[0] <= end]
        if len(ticks) < 2:
            return None
        return (ticks[-1][1] - ticks[0][1]) / (ticks[-1][0] - ticks[0][0])

    def mean_sampled_w(self, start: float, end: float) -> float | None:
        """Return the mean of the samples between two moments, weighted with time; None where there are none."""
        samples = self._samples[:]
        if not samples or samples[-1][0] < start:
            return None
        times, powers_w = zip(*samples, strict=True)
        moments = [start, *(seconds for seconds in times if start < seconds < end), end]
        return float(np.trapezoid(np.interp(moments, times, powers_w), moments) / (end - start))

    def clock_limits(self, start: float, end: float) -> tuple[str, ...]:
        """Return all reasons that held the clocks down between two moments, but for having nothing to do."""
        seen = {name: None for seconds, names in self._limits if start <= seconds <= end for name in names}
        return tuple(sorted(name for name in seen if name != IDLE))
