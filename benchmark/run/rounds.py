"""Generation: every column timed in rounds of fresh processes, then the images beyond the timed ones made in bulk."""

from __future__ import annotations

import math
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import TypeVar

from benchmark.console.interruption import Stop
from benchmark.console.plain_text import one_line
from benchmark.console.progress import Progress
from benchmark.data.prompts import PromptSet
from benchmark.measure.findings import PASSES, PassName
from benchmark.run import servers
from benchmark.run.bulk import BulkJob, make_bulk
from benchmark.run.column_folder import FingerprintError
from benchmark.run.jobs import Job
from benchmark.run.journal_lines import NO_PROCESS, Measured, new_process_id
from benchmark.run.remote_progress import RemoteProgress, relay
from benchmark.run.servers import Channel, WorkerDied, WorkerFailed, WorkerServer
from benchmark.run.slices import lacking_rounds, missing, timed_slices
from benchmark.run.snapshot import Snapshot
from benchmark.run.worker import Plan, RoundJob, time_round
from models.base import Request

WorkT = TypeVar("WorkT")
MOST_SERVERS_AT_ONCE = 4  # they start together, before a round: one waiting server holds some hundred megabytes


@dataclass(frozen=True)
class Work:
    """One column's worker in one round, or in bulk: what it does, and the line that says which it is.

    survives: of a worker that did not come to its end, takes the reason, and returns whether its main work was done.
    """

    job: Job
    doing: str
    run: Callable[[Channel], None]
    survives: Callable[[str], bool] = lambda _: False

    @property
    def title(self) -> str:
        return self.job.title


@dataclass(frozen=True)
class OpenColumn:
    """A column whose folder this process holds, with what it held."""

    job: Job
    snapshot: Snapshot
    requests: tuple[Request, ...]
    device: str

    @property
    def plan(self) -> Plan:
        own = self.job.column.settings
        return Plan(own.batch_size, own.warmup, self.device, self.job.dtype)


def generate(
    jobs: Sequence[Job], prompts: PromptSet, device: str, progress: Progress, stop: Stop, failures: dict[str, str]
) -> None:
    """Time every round that a column lacks, and make its images; another run would find them on disk.

    The folders of all columns are kept for this process until the end.

    failures: takes, by title, why a column could not be made; it costs no other.

    Raises:
        FingerprintError: a column has images in bulk of another BULK_BATCH_SIZE; nothing was generated yet.
    """
    with ExitStack() as folders:
        columns = []
        for job in jobs:
            own = job.column.settings
            try:
                snapshot = folders.enter_context(job.journal.locked())
            except Exception as error:  # one column's folder must not take the others' results with it
                if not isinstance(error, OSError | ValueError):
                    traceback.print_exc()
                _fail(job.title, f"{type(error).__name__}: {one_line(error)}", progress, failures)
                continue
            check_bulk_size(job, snapshot)
            for fault in snapshot.faults:
                progress.note(fault)
            requests = tuple(prompts.requests(own.num_samples, own.seed))
            columns.append(OpenColumn(job, snapshot, requests, device))
        session = new_process_id()
        _run_all(list(_rounds(columns, session)), progress, stop, failures)
        if not stop():  # what the rounds have told of a column decides how it makes the rest
            left = [column for column in columns if column.job.title not in failures]
            _run_all(_bulk(left), progress, stop, failures)


def check_bulk_size(job: Job, snapshot: Snapshot) -> None:
    """Raise FingerprintError where a column has images in bulk that were made with another BULK_BATCH_SIZE.

    It is no part of the folder's fingerprint, since the timed images do not depend on it.
    """
    now = str(job.column.settings.bulk_batch_size)
    recorded = {size.asked for size in snapshot.bulk_sizes if size.asked}
    if _has_bulk(snapshot) and recorded - {now}:
        raise FingerprintError(
            f"{snapshot.folder} holds images made with BULK_BATCH_SIZE={', '.join(sorted(recorded))}, now "
            f"BULK_BATCH_SIZE={now}: set it back, choose another OUTPUT_DIR, or start over with FRESH=1"
        )


def _has_bulk(snapshot: Snapshot) -> bool:
    return any(batch.purpose == "bulk" for batch in snapshot.batches)


def _rounds(columns: Sequence[OpenColumn], session: str) -> Iterator[list[Work]]:
    """Yield the work of each round that is not complete. `in_order` says which column comes first.

    session: which run of the program this is. Columns of one round are compared where one run has timed both.
    """
    lacking = [_lacking(column) for column in columns]
    last = max((number for rounds in lacking for number in rounds), default=-1)
    for number in range(last + 1):
        works = []
        for column, rounds in zip(columns, lacking, strict=True):
            if number in rounds:
                own = column.job.column.settings
                # Without the others: a model may prepare for the longest prompt, and rounds are to stay alike.
                requests = column.requests[: own.timed_count()]
                slices = tuple(rounds[number])
                passes, with_idle = _passes(column, number, rounds)
                load_eager = None if column.job.load_eager is column.job.load else column.job.load_eager
                job = RoundJob(
                    column.job.load, requests, column.job.journal, column.plan, number, slices, session, passes,
                    with_idle, load_eager,
                )  # fmt: skip
                doing = f"round {number + 1} of {own.rounds}"
                works.append(Work(column.job, doing, partial(_time, job), partial(_has_timed, job, column)))
        if works:
            yield in_order(works, number)


def _passes(
    column: OpenColumn, number: int, rounds: Mapping[int, Sequence[range]]
) -> tuple[tuple[PassName, ...], bool]:
    """Return the passes of a round, and whether the idle power is measured, too.

    Passes run in the first and in the last of the rounds that are timed now: in all of them they would take a third
    more. What is the same in each process is measured once for a column.

    rounds: the slices that each round of the column lacks.
    """
    timed = sorted(each for each, slices in rounds.items() if slices)
    if number not in (*timed[:1], *timed[-1:]):
        return (), False
    found = {line.name for line in column.snapshot.measured if line.found is not None}
    lacking = frozenset(PASSES) - found if number == timed[0] else frozenset()
    names = column.job.column.settings.pass_names()
    return tuple(name for name in names if name != "roofline" or name in lacking), "energy" in lacking


def _has_timed(job: RoundJob, column: OpenColumn, reason: str) -> bool:
    """Return whether a round is complete whose worker did not come to its end; its passes then have the reason."""
    own, found = column.job.column.settings, job.journal.read()
    slices = timed_slices(own.timed_count(), own.batch_size)
    if not job.slices or job.round in lacking_rounds(slices, found.timed, own.rounds):
        return False
    process = next((call.process for call in reversed(found.timed) if call.round == job.round), NO_PROCESS)
    there = {line.name for line in found.measured if line.process == process}
    for name in job.passes:
        if name not in there:
            job.journal.record_measured(Measured(name, None, reason, round=job.round, process=process))
    return True


def in_order(works: Sequence[WorkT], number: int) -> list[WorkT]:
    """Return the works of a round in its order: A B C, C B A, B C A, A C B, C A B, ...

    The order is reversed from round to round, so that a drift cancels. Of three or more columns, every second round
    begins with the next one: else what the first process of a round pays would always fall on the first or the last.
    """
    shift = number // 2 % len(works) if len(works) > 2 else 0
    turned = [*works[shift:], *works[:shift]]
    return turned if number % 2 == 0 else turned[::-1]


def _lacking(column: OpenColumn) -> dict[int, list[range]]:
    """Return the slices that each round lacks; the first one also makes again the images that are lost."""
    snapshot, settings = column.snapshot, column.job.column.settings
    slices = timed_slices(settings.timed_count(), settings.batch_size)
    lacking = lacking_rounds(slices, snapshot.timed, settings.rounds)
    without_image = missing(slices, snapshot.pixels())
    first = [indices for indices in slices if indices in without_image or indices in lacking.get(0, ())]
    if first:
        lacking[0] = first
    told = {loaded.round for loaded in snapshot.processes if loaded.purpose == "timed"}
    for number in range(settings.rounds):
        if number not in told:  # a model is also loaded where only what is known of it was lost
            lacking.setdefault(number, [])
    return lacking


def _bulk(columns: Sequence[OpenColumn]) -> list[list[Work]]:
    """Return the work of making the images beyond the timed ones, where there are any that lack."""
    works = []
    for column in columns:
        settings, journal = column.job.column.settings, column.job.journal
        start, covered = settings.timed_count(), frozenset(column.snapshot.pixels())
        if covered.issuperset(range(start, settings.num_samples)):
            continue
        snapshot = journal.read()  # with the rounds that this run has added
        first_calls = [one.first_call_s for one in snapshot.processes if one.purpose == "timed" and one.first_call_s]
        job = BulkJob(
            load=column.job.load, load_eager=column.job.load_eager, requests=column.requests, journal=journal,
            plan=column.plan, asked=None if settings.bulk_batch_size == "auto" else settings.bulk_batch_size,
            sizes=snapshot.bulk_sizes_from(start) if _has_bulk(snapshot) else (),
            covered=frozenset(snapshot.pixels()), start=start,
            count=settings.num_samples, first_call_s=max(first_calls, default=0.0),
            image_s=fmean(call.seconds / call.batch_size for call in snapshot.timed) if snapshot.timed else math.inf,
        )  # fmt: skip
        works.append(Work(column.job, "bulk", partial(_make, job)))
    return [works] if works else []


def _run_all(groups: Sequence[Sequence[Work]], progress: Progress, stop: Stop, failures: dict[str, str]) -> None:
    """Run each group of works in a server of its own; several servers start at once, while nothing is timed."""
    at_once = min(MOST_SERVERS_AT_ONCE, os.cpu_count() or 1)
    for first in range(0, len(groups), at_once):
        some = [left for group in groups[first : first + at_once] if (left := _left(group, failures))]
        if not some or stop():
            continue
        preload = servers.modules_for([work.job.column for group in some for work in group])
        with servers.open_servers(len(some), preload) as opened:
            for server in opened:
                with suppress(WorkerDied):  # it is started again for its first work
                    server.is_ready(stop)
            for server, group in zip(opened, some, strict=True):
                with server:
                    _run_group(server, group, progress, stop, failures)


def _left(group: Sequence[Work], failures: dict[str, str]) -> list[Work]:
    return [work for work in group if work.title not in failures]


def _run_group(
    server: WorkerServer, group: Sequence[Work], progress: Progress, stop: Stop, failures: dict[str, str]
) -> None:
    """Run a group's works one after another."""
    for work in _left(group, failures):
        if stop():
            return
        with relay(progress, work.doing) as on_message:
            try:
                server.run(work.run, on_message, stop)
            except (WorkerFailed, WorkerDied) as error:
                reason = error.line if isinstance(error, WorkerFailed) else str(error)
                if isinstance(error, WorkerDied) and stop():
                    continue  # what ends a whole session ends its workers too
                if work.survives(reason):
                    progress.note(
                        f"{work.title}: {reason} after its timed calls; what passes lack is n/a ({work.doing})"
                    )
                else:
                    _fail(work.title, f"{reason} ({work.doing})", progress, failures)


def _fail(title: str, reason: str, progress: Progress, failures: dict[str, str]) -> None:
    if title not in failures:
        failures[title] = reason
        progress.note(f"{title} failed: {reason}")


def _time(job: RoundJob, channel: Channel) -> None:
    """Time a round in a worker."""
    time_round(job, RemoteProgress(channel), channel.stopped)


def _make(job: BulkJob, channel: Channel) -> None:
    """Make images in bulk in a worker."""
    make_bulk(job, RemoteProgress(channel), channel.stopped)
