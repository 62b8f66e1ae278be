"""Generation: every column timed in rounds of fresh processes, then the images beyond the timed ones made in bulk."""

from __future__ import annotations

import math
import traceback
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import TypeVar

from benchmark.console.interruption import Stop
from benchmark.console.plain_text import one_line
from benchmark.console.progress import Progress, silent_stream
from benchmark.data.prompts import PromptSet
from benchmark.measure.findings import PASSES, PassName
from benchmark.ranks.division import Division
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
from benchmark.run.team import NO_TEAM, Team
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
    jobs: Sequence[Job], prompts: PromptSet, device: str, progress: Progress, stop: Stop, failures: dict[str, str],
    team: Team = NO_TEAM,
) -> None:  # fmt: skip
    """Time every round that a column lacks, and make its images; another run would find them on disk.

    The folders of all columns are kept for this process until the end.

    failures: takes, by title, why a column could not be made; it costs no other. team: of several ranks of a run, this
    is rank 0, which times; images in bulk are divided among all.

    Raises:
        FingerprintError: a column has images in bulk of another BULK_BATCH_SIZE; nothing was generated yet.
    """
    with ExitStack() as folders:
        columns = list(_open(jobs, prompts, device, progress, failures, folders))
        session, without_size = new_process_id(), dict[str, str]()  # such a column is timed all the same
        team.begin(session)
        team.wait_for_quiet(stop)
        if team.has_other_hosts and not stop():  # they begin with bulk at once, and need to know its batch size
            team.skip_all_but([column.job.title for column in columns])
            run_all(_bulk(columns, session, team, is_search=True), progress, stop, without_size)
        run_all(list(_rounds(columns, session, team.launch.host)), progress, stop, failures)
        failures.update({title: reason for title, reason in without_size.items() if title not in failures})
        team.end_own_rounds(stop)
        if stop():
            return
        left = [column for column in columns if column.job.title not in failures]
        team.skip_all_but([column.job.title for column in left])
        # What the rounds have told of a column decides how it makes the rest.
        run_all(_bulk(left, session, team), progress, stop, failures)
        lacking, idle = team.end_bulk(stop)
        for title, reason in {**idle, **lacking}.items():
            if title not in failures:
                progress.note(
                    f"{title}: {reason}; {team.remedy if title in lacking else 'the other ranks have made it'}"
                )
        if not team.apart:  # rank 0 would make again what is in other folders
            left = [column for column in columns if column.job.title in lacking and column.job.title not in failures]
            run_all(_bulk(_read_again(left), session), progress, stop, failures)


def generate_beside(
    jobs: Sequence[Job], prompts: PromptSet, device: str, stop: Stop, failures: dict[str, str], team: Team
) -> None:
    """Make this rank's share of the images in bulk, once rank 0 has timed its rounds, and time this card's own.

    failures: takes, by title, what this rank could not make; rank 0 makes it then.
    """
    progress = Progress(silent_stream())
    with ExitStack() as folders:
        if team.leads_folder:
            columns = list(_open(jobs, prompts, device, progress, failures, folders))
            session = team.join(stop)
        else:
            session = team.join(stop)  # rank 0 has made the folders by then
            columns = [_open_beside(job, prompts, device) for job in jobs]
        if team.wait_for_turn(stop):
            timed = [replace(column, snapshot=column.job.journal.read()) for column in columns]
            run_all(list(_rounds(timed, session, card=team.card(device))), progress, stop, failures)
            team.end_turn()
        if team.wait_for_rounds(stop):
            columns = [column for column in columns if column.job.title not in failures]
            team.skip_all_but([column.job.title for column in columns])
            idle = dict(failures)
            run_all(_bulk(columns, session, team), progress, stop, failures)
            team.end_bulk(stop, {title: failures[title] for title in failures if title not in idle}, idle)


def _open(
    jobs: Sequence[Job], prompts: PromptSet, device: str, progress: Progress, failures: dict[str, str],
    folders: ExitStack,
) -> Iterator[OpenColumn]:  # fmt: skip
    for job in jobs:
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
        yield OpenColumn(job, snapshot, _requests(job, prompts), device)


def _open_beside(job: Job, prompts: PromptSet, device: str) -> OpenColumn:
    """Return a column whose folder another rank holds, and reads: this one makes what it is told to."""
    return OpenColumn(job, Snapshot(job.journal.folder), _requests(job, prompts), device)


def _requests(job: Job, prompts: PromptSet) -> tuple[Request, ...]:
    own = job.column.settings
    return tuple(prompts.requests(own.num_samples, own.seed))


def _read_again(columns: Sequence[OpenColumn]) -> list[OpenColumn]:
    return [replace(column, snapshot=column.job.journal.read()) for column in columns]


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


def _rounds(columns: Sequence[OpenColumn], session: str, host: str = "", card: str = "") -> Iterator[list[Group]]:
    """Yield the works of each round that is not complete, in groups. `in_order` says which comes first.

    session: which run of the program this is. Columns of one round are compared where one run has timed both. card:
    where other cards of the host are timed, too, the one that these rounds are timed on.
    """
    lacking = [_lacking(column) if not card else _lacking_on(column, card) for column in columns]
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
                passes, with_idle = ((), False) if card else _passes(column, number, rounds)
                load_eager = None if column.job.load_eager is column.job.load else column.job.load_eager
                job = RoundJob(
                    column.job.load, requests, column.job.journal, column.plan, number, slices, session, passes,
                    with_idle, load_eager, column.job.column.model.options, title, host, card,
                )  # fmt: skip
                doing = f"round {number + 1} of {own.rounds}"
                survives = partial(_has_timed, job, column) if not card else partial(_give_up, None)
                works.append(Work(column.job, doing, partial(_time, job), survives, job))
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


def _lacking_on(column: OpenColumn, card: str) -> dict[int, list[range]]:
    """Return the slices that each round on another card than the column's own lacks."""
    settings = column.job.column.settings
    slices = timed_slices(settings.timed_count(), settings.batch_size)
    return lacking_rounds(slices, column.snapshot.timed_on.get(card, ()), settings.rounds)


def _bulk(
    columns: Sequence[OpenColumn], session: str, team: Team = NO_TEAM, is_search: bool = False
) -> list[list[Group]]:
    """Return the works of making the images beyond the timed ones, where there are any that lack.

    Each has a worker of its own: it may have to load its model again, for another batch size or after memory ran out.
    is_search: each finds the batch size alone, for other hosts.
    """
    works: list[Group] = []
    before = ["", *(column.job.title for column in columns)]
    for column, title, after in zip(columns, _progress_titles(columns), before, strict=False):
        settings, journal = column.job.column.settings, column.job.journal
        division = team.division(column.job.title, after)
        start, covered = settings.timed_count(), frozenset(column.snapshot.pixels())
        if covered.issuperset(range(start, settings.num_samples)):
            if team.is_first:  # also of a search: other hosts wait for no column that has all of its images
                team.skip([column.job.title])
            continue
        # With the rounds that this run has added; other ranks are told what they are to make.
        snapshot = journal.read() if team.is_first else column.snapshot
        first_calls = [one.first_call_s for one in snapshot.processes if one.purpose == "timed" and one.first_call_s]
        job = BulkJob(
            load=column.job.load, load_eager=column.job.load_eager, requests=column.requests, journal=journal,
            plan=column.plan, asked=None if settings.bulk_batch_size == "auto" else settings.bulk_batch_size,
            sizes=snapshot.bulk_sizes_from(start) if _has_bulk(snapshot) else (),
            covered=frozenset(snapshot.pixels()), start=start,
            count=settings.num_samples, first_call_s=max(first_calls, default=0.0),
            image_s=fmean(call.seconds / call.batch_size for call in snapshot.timed) if snapshot.timed else math.inf,
            title=title, session=session, host=team.launch.host, division=division, is_search=is_search,
        )  # fmt: skip
        works.append([Work(column.job, "bulk", partial(_make, job), partial(_give_up, division))])
    return [works] if works else []


def _give_up(division: Division | None, _reason: str) -> bool:
    """Let the other ranks go on without this one's worker, which did not come to its end; its work is not done."""
    if division is not None:
        division.end()
    return False


def _time(job: RoundJob, channel: Channel) -> None:
    """Time a round in a worker."""
    time_round(job, RemoteProgress(channel), channel.stopped)


def _make(job: BulkJob, channel: Channel) -> None:
    """Make images in bulk in a worker."""
    make_bulk(job, RemoteProgress(channel), channel.stopped)
    if job.division is not None and not job.is_search:
        job.division.end()
