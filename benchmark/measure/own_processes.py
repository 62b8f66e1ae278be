"""This run's own processes, and the processor time of theirs and of all others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

LEAST_SECONDS = 1.0  # the system counts processor time in hundredths of a second on each core


@dataclass(frozen=True)
class OwnProcesses:
    """This process, those that it comes from (its fork server, the program), and those that it started."""

    above: tuple[psutil.Process, ...]
    here: psutil.Process
    below: tuple[psutil.Process, ...]

    @property
    def pids(self) -> frozenset[int]:
        """Their numbers."""
        return frozenset(process.pid for process in (*self.above, self.here, *self.below))

    def cpu_seconds(self) -> float:
        """Return the processor time that they have used; processes that are above count without their other children.

        A process that ended counts with the one that started it and waited for its end. The sum is in whole hundredths
        of a second, as the system counts them, so that it never falls by the rounding of another order of its parts.
        """
        with_children = sum(_cpu_seconds(process, children=True) for process in (self.here, *self.below))
        return round(with_children + sum(_cpu_seconds(process, children=False) for process in self.above), 2)


def find_own_processes() -> OwnProcesses:
    """Return this run's processes as they are now."""
    here = psutil.Process()
    return OwnProcesses(_found(here.parents), here, _found(lambda: here.children(recursive=True)))


def _found(find: Callable[[], Sequence[psutil.Process]]) -> tuple[psutil.Process, ...]:
    try:
        return tuple(find())
    except psutil.Error:  # one has ended meanwhile
        return ()


def _cpu_seconds(process: psutil.Process, children: bool) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    own = times.user + times.system
    return float(own + times.children_user + times.children_system if children else own)


@dataclass(frozen=True)
class ProcessorTime:
    """Processor seconds up to a moment, in seconds of a steady clock: of the whole host, and of this run."""

    seconds: float
    host_s: float
    own_s: float


def read_processor_time(own: OwnProcesses) -> ProcessorTime:
    """Return the processor time up to now. That of a hypervisor's other guests counts as the host's."""
    times = psutil.cpu_times()
    idle_s = times.idle + getattr(times, "iowait", 0.0)
    guests_s = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # user and nice have them already
    return ProcessorTime(time.monotonic(), sum(times) - idle_s - guests_s, own.cpu_seconds())


def other_cores(start: ProcessorTime, end: ProcessorTime) -> float | None:
    """Return how many cores other processes kept busy meanwhile; None where that was too short, or is not told."""
    seconds, host_s = end.seconds - start.seconds, end.host_s - start.host_s
    if seconds < LEAST_SECONDS or host_s <= 0:
        return None
    return max(0.0, (host_s - (end.own_s - start.own_s)) / seconds)
