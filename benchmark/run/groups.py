"""Groups: columns that differ only in arguments of the call, which one worker of a round runs with one load."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from benchmark.console.plain_text import one_line
from benchmark.console.progress import Progress
from benchmark.measure.passes import Timing
from benchmark.run.jobs import Job
from benchmark.run.remote_progress import RemoteProgress
from benchmark.run.servers import Channel
from benchmark.run.worker import LoadedModel, RoundJob, count_on_eager, time_and_measure


@dataclass(frozen=True)
class Began:
    """The work of a member began: its timed calls, or, once all members are timed, what is counted of it after that."""

    place: int


@dataclass(frozen=True)
class Ended:
    """A member is done with."""

    place: int


@dataclass(frozen=True)
class Failed:
    """A member's work raised an error, which costs no other member. line: "TypeName: text"."""

    place: int
    line: str


Event = Began | Ended | Failed


def loaded_alike(job: Job) -> Hashable:
    """Return what columns have in common that one load serves; for a column that shares none, what it alone has.

    All that is recorded of how images are made must be the same, but for the arguments of the call: the family, the
    other options, mode, dtype and settings, the LoRA.
    """
    family, options = job.column.model.family, job.column.loaded_options
    if options is None:
        return job.journal.folder
    variables = {f"{family.key}_{name}".upper() for name in family.call_options}
    recorded = {name: value for name, value in job.journal.fingerprint.items() if name not in variables}
    return (
        family.key,
        job.column.mode,
        job.dtype,
        options,
        tuple(sorted((name, repr(recorded[name])) for name in recorded)),
    )


def time_group(
    jobs: Sequence[RoundJob],
    progress: Progress,
    tell: Callable[[Event], None],
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Do for each job what `time_round` does, one after another, with what the first one loads.

    Each has a warm-up, timed calls and passes of its own, and peaks of memory without the others. What has to be
    counted on an eager model is so when all are timed. An error that a user can cause (ValueError, OSError) costs its
    job alone; after any other one the process may be damaged, and another has to run the rest.

    tell: takes what becomes of each job. stopped: is asked before each call.
    """
    if stopped():
        return
    model = LoadedModel(jobs[0].plan.device)
    uncounted: list[tuple[int, Timing]] = []
    try:
        for place, job in enumerate(jobs):
            if stopped():
                return
            tell(Began(place))
            try:
                timing = time_and_measure(job, model, progress, stopped)
            except (OSError, ValueError) as error:
                tell(_failed(place, error))
                continue
            if timing is not None and job.counts_on_eager:
                uncounted.append((place, timing))
            else:
                tell(Ended(place))
    finally:
        model.release()
    if not uncounted:
        return
    try:
        for place, timing in uncounted:
            if stopped():
                return
            tell(Began(place))
            try:
                count_on_eager(jobs[place], timing, model, progress, stopped)
            except (OSError, ValueError) as error:
                tell(_failed(place, error))
            else:
                tell(Ended(place))
    finally:
        model.release()


def time_members(jobs: tuple[RoundJob, ...], channel: Channel) -> None:
    """Time a group in a worker."""
    time_group(jobs, RemoteProgress(channel), channel.send, channel.stopped)


def _failed(place: int, error: Exception) -> Failed:
    return Failed(place, f"{type(error).__name__}: {one_line(error)}")
