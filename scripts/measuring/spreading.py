"""How far apart processes are that time the same model on the same requests."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.run.journal_lines import Timed
from benchmark.run.remote_progress import RemoteProgress
from benchmark.run.servers import Channel
from benchmark.run.worker import RoundJob, time_round

WAYS = ("one_server", "own_servers")


def time_in_worker(job: RoundJob, channel: Channel) -> None:
    """Time a round in a worker. It stands here and not in the script, whose module is another one in a worker."""
    time_round(job, RemoteProgress(channel), channel.stopped)


@dataclass(frozen=True)
class Spread:
    """The latencies of one column's processes, in seconds per image; the processes in the order of their time."""

    latencies_s: tuple[tuple[float, ...], ...]

    @property
    def means_s(self) -> list[float]:
        """The mean latency of each process."""
        return [statistics.fmean(process) for process in self.latencies_s]

    @property
    def between(self) -> float:
        """The coefficient of variation of the processes' means: sample standard deviation / mean."""
        return variation(self.means_s)

    @property
    def expected(self) -> float:
        """What that would be if calls varied as they do in a process, and processes did not differ otherwise."""
        variances = [statistics.variance(process) / len(process) for process in self.latencies_s]
        return math.sqrt(statistics.fmean(variances)) / statistics.fmean(self.means_s)

    def figures(self) -> dict[str, Any]:
        """Return the figures as they are written."""
        means_s = self.means_s
        return {
            "processes": len(means_s), "mean_s": statistics.fmean(means_s), "between_processes": self.between,
            "expected_from_calls": self.expected, "largest_over_smallest": max(means_s) / min(means_s),
            "means_s": means_s, "latencies_s": self.latencies_s,
        }  # fmt: skip


def spread_of(timed: Sequence[Timed]) -> Spread:
    """Return the spread of the processes that made these calls, each process in a round of its own."""
    rounds: dict[int, list[float]] = {}
    for call in timed:
        rounds.setdefault(call.round, []).append(call.seconds / call.batch_size)
    return Spread(tuple(tuple(rounds[number]) for number in sorted(rounds)))


def variation(values: Sequence[float]) -> float:
    """Return the coefficient of variation: sample standard deviation / mean."""
    return statistics.stdev(values) / statistics.fmean(values)
