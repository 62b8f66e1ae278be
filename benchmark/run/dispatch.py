"""Gives the works of columns to workers, each in a process of its own; those of a group share one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from benchmark.console.interruption import Stop
from benchmark.console.progress import Progress
from benchmark.run import servers
from benchmark.run.groups import Began, Ended, Failed, time_members
from benchmark.run.jobs import Job
from benchmark.run.remote_progress import relay
from benchmark.run.servers import Channel, WorkerDied, WorkerFailed, WorkerServer
from benchmark.run.worker import RoundJob

MOST_SERVERS_AT_ONCE = 4  # they start together, before a round: one waiting server holds some hundred megabytes


@dataclass(frozen=True)
class Work:
    """One column's work in one round, or in bulk: what its worker does, and the line that says which it is.

    survives: of a worker that did not come to its end, takes the reason, and returns whether its main work was done.
    round_job: what a worker does that runs it in a group; None: it has a worker of its own.
    """

    job: Job
    doing: str
    run: Callable[[Channel], None]
    survives: Callable[[str], bool] = lambda _: False
    round_job: RoundJob | None = None

    @property
    def title(self) -> str:
        return self.job.title


Group = Sequence[Work]  # that one worker runs, one after another; most are of one work


def run_all(batches: Sequence[Sequence[Group]], progress: Progress, stop: Stop, failures: dict[str, str]) -> None:
    """Run each batch of groups in a server of its own; several servers start at once, while nothing is timed.

    failures: takes, by title, why a column could not be made; such a column has no more works.
    """
    at_once = min(MOST_SERVERS_AT_ONCE, os.cpu_count() or 1)
    for first in range(0, len(batches), at_once):
        some = [left for batch in batches[first : first + at_once] if (left := _left(batch, failures))]
        if not some or stop():
            continue
        preload = servers.modules_for([work.job.column for batch in some for group in batch for work in group])
        with servers.open_servers(len(some), preload) as opened:
            for server in opened:
                with suppress(WorkerDied):  # it is started again for its first work
                    server.is_ready(stop)
            for server, batch in zip(opened, some, strict=True):
                with server:
                    for group in batch:
                        _Dispatch(server, progress, stop, failures).run(group)


def fail(title: str, reason: str, progress: Progress, failures: dict[str, str]) -> None:
    """Say once why a column could not be made."""
    if title not in failures:
        failures[title] = reason
        progress.note(f"{title} failed: {reason}")


def _left(batch: Sequence[Group], failures: Mapping[str, str]) -> list[list[Work]]:
    left = [[work for work in group if work.title not in failures] for group in batch]
    return [group for group in left if group]


@dataclass(frozen=True)
class _Dispatch:
    """How works are run, and what is said of those that do not end well."""

    server: WorkerServer
    progress: Progress
    stop: Stop
    failures: dict[str, str]

    def run(self, group: Group) -> None:
        """Run the works of a group in as few workers as they need: another one goes on where one has ended early."""
        while (left := [work for work in group if work.title not in self.failures]) and not self.stop():
            group = self._run_together(left) if len(left) > 1 else self._run_alone(left[0])

    def _run_alone(self, work: Work) -> list[Work]:
        with relay(self.progress, work.doing) as on_message:
            try:
                self.server.run(work.run, on_message, self.stop)
            except (WorkerFailed, WorkerDied) as error:
                if not self._is_stopped(error):
                    self._tell(work, _reason(error))
        return []

    def _run_together(self, works: Sequence[Work]) -> list[Work]:
        """Run works in one worker; return those that it did not come to, which are always fewer."""
        jobs = tuple(work.round_job for work in works if work.round_job is not None)
        assert len(jobs) == len(works), "works of a group are of one round"
        with relay(self.progress, works[0].doing) as on_message:
            watch = _Watch(on_message, lambda place, line: self._tell(works[place], line))
            try:
                self.server.run(partial(time_members, jobs), watch.take, self.stop)
            except (WorkerFailed, WorkerDied) as error:
                if self._is_stopped(error):
                    return []
                # Those that have begun are timed but for the last one.
                ended_early = (watch.begun or {0}) - watch.done
                for place in sorted(ended_early):
                    self._tell(works[place], _reason(error))
                return [work for place, work in enumerate(works) if place not in watch.done | ended_early]
        return []

    def _is_stopped(self, error: Exception) -> bool:
        """Return whether a worker died since all is stopped: what ends a whole session ends its workers too."""
        return isinstance(error, WorkerDied) and self.stop()

    def _tell(self, work: Work, reason: str) -> None:
        if work.survives(reason):
            self.progress.note(f"{work.title}: {reason} after its timed calls; what passes lack is n/a ({work.doing})")
        else:
            fail(work.title, f"{reason} ({work.doing})", self.progress, self.failures)


@dataclass
class _Watch:
    """What a worker has told of its members, by their places; its other messages go on to `on_message`."""

    on_message: Callable[[object], None]
    on_failure: Callable[[int, str], None]
    begun: set[int] = field(default_factory=set)
    done: set[int] = field(default_factory=set)

    def take(self, message: object) -> None:
        match message:
            case Began(place):
                self.begun.add(place)
            case Ended(place):
                self.done.add(place)
            case Failed(place, line):
                self.done.add(place)
                self.on_failure(place, line)
            case _:
                self.on_message(message)


def _reason(error: WorkerFailed | WorkerDied) -> str:
    return error.line if isinstance(error, WorkerFailed) else str(error)
