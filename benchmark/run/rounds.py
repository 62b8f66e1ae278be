"""Generation: every column timed in rounds of fresh processes, then the images beyond the timed ones made in bulk."""

from __future__ import annotations

import math
import traceback
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import TypeVar

from benchmark.console.interruption import Stop
from benchmark.console.plain_text import one_line
from benchmark.console.progress import Progress
from benchmark.data.prompts import PromptSet
from benchmark.measure.findings import PASSES, PassName
from benchmark.run.bulk import BulkJob, make_bulk
from benchmark.run.column_folder import FingerprintError
from benchmark.run.dispatch import Group, Work, fail, run_all
from benchmark.run.groups import loaded_alike
from benchmark.run.jobs import Job
from benchmark.run.journal_lines import NO_PROCESS, Measured, new_process_id
from benchmark.run.remote_progress import RemoteProgress
from benchmark.run.servers import Channel
from benchmark.run.slices import lacking_rounds, missing, timed_slices
from benchmark.run.snapshot import Snapshot
from benchmark.run.worker import Plan, RoundJob, time_round
from models.base import Request

WorkT = TypeVar("WorkT")


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
                fail(job.title, f"{type(error).__name__}: {one_line(error)}", progress, failures)
                continue
            check_bulk_size(job, snapshot)
            for fault in snapshot.faults:
                progress.note(fault)
            requests = tuple(prompts.requests(own.num_samples, own.seed))
            columns.append(OpenColumn(job, snapshot, requests, device))
        session = new_process_id()
        run_all(list(_rounds(columns, session)), progress, stop, failures)
        if not stop():  # what the rounds have told of a column decides how it makes the rest
            left = [column for column in columns if column.job.title not in failures]
            run_all(_bulk(left), progress, stop, failures)


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


def _rounds(columns: Sequence[OpenColumn], session: str) -> Iterator[list[Group]]:
    """Yield the works of each round that is not complete, in groups. `in_order` says which comes first.

    session: which run of the program this is. Columns of one round are compared where one run has timed both.
    """
    lacking = [_lacking(column) for column in columns]
    titles = _progress_titles(columns)
    last = max((number for rounds in lacking for number in rounds), default=-1)
    for number in range(last + 1):
        works = []
        for column, rounds, title in zip(columns, lacking, titles, strict=True):
            if number in rounds:
                own = column.job.column.settings
                # Without the others: a model may prepare for the longest prompt, and rounds are to stay alike.
                requests = column.requests[: own.timed_count()]
                slices = tuple(rounds[number])
                passes, with_idle = _passes(column, number, rounds)
                load_eager = None if column.job.load_eager is column.job.load else column.job.load_eager
                job = RoundJob(
                    column.job.load, requests, column.job.journal, column.plan, number, slices, session, passes,
                    with_idle, load_eager, column.job.column.model.options, title,
                )  # fmt: skip
                doing = f"round {number + 1} of {own.rounds}"
                works.append(Work(column.job, doing, partial(_time, job), partial(_has_timed, job, column), job))
        if works:
            yield [in_order(group, number) for group in in_order(_grouped(works), number)]


def _grouped(works: Sequence[Work]) -> list[list[Work]]:
    """Return the works with those side by side that one load serves."""
    groups: dict[Hashable, list[Work]] = {}
    for work in works:
        groups.setdefault(loaded_alike(work.job), []).append(work)
    return list(groups.values())


def _progress_titles(columns: Sequence[OpenColumn]) -> list[str]:
    """Return what progress calls each column: its title where a sweep has others of its model, "" for the model's name.

    Columns that differ in mode or dtype alone go by the model's name.
    """
    jobs = [column.job for column in columns]
    kinds = [(job.column.name, job.column.mode, job.dtype) for job in jobs]
    counts = Counter(kinds)
    return [job.title if counts[kind] > 1 else "" for job, kind in zip(jobs, kinds, strict=True)]


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


def _bulk(columns: Sequence[OpenColumn]) -> list[list[Group]]:
    """Return the works of making the images beyond the timed ones, where there are any that lack.

    Each has a worker of its own: it may have to load its model again, for another batch size or after memory ran out.
    """
    works: list[Group] = []
    for column, title in zip(columns, _progress_titles(columns), strict=True):
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
            title=title,
        )  # fmt: skip
        works.append([Work(column.job, "bulk", partial(_make, job))])
    return [works] if works else []


def _time(job: RoundJob, channel: Channel) -> None:
    """Time a round in a worker."""
    time_round(job, RemoteProgress(channel), channel.stopped)


def _make(job: BulkJob, channel: Channel) -> None:
    """Make images in bulk in a worker."""
    make_bulk(job, RemoteProgress(channel), channel.stopped)
