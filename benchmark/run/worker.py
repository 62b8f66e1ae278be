"""A round of one model: loaded in a process of its own, warmed up, and timed call by call."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmark.console.progress import Progress
from benchmark.measure.clock import Clock
from benchmark.measure.warmup import WarmUp, warm_up
from benchmark.run.images import to_host
from benchmark.run.journal import Journal, pixel_digest
from benchmark.run.journal_lines import NO_PROCESS, Batch, Finished, Loaded, Purpose, Timed, new_process_id
from benchmark.run.slices import padded
from models.base import ImageGenerator, Request


@dataclass(frozen=True)
class Plan:
    """How one model is timed: requests per call, untimed calls before the timed ones at least, and the device."""

    batch_size: int
    warmup: int
    device: str


@dataclass(frozen=True)
class RoundJob:
    """What a worker of a round needs; it can be sent to another process.

    requests: all that a round times, since a model prepares for all that it will be asked. slices: those of their
    indices that the round still lacks; with none of them, only what is known of the model is recorded. session: which
    run of the program it is.
    """

    load: Callable[[], ImageGenerator]
    requests: tuple[Request, ...]
    journal: Journal
    plan: Plan
    round: int
    slices: tuple[range, ...]
    session: str = NO_PROCESS


def time_round(job: RoundJob, progress: Progress, stopped: Callable[[], bool] = lambda: False) -> None:
    """Load, warm up, and time a call for each slice; the images of round 0 are kept, of later rounds their digests.

    Inside the timer: generate(), from prompts to uint8 images on the device. Outside: loading, warm-up, the copy to
    the host, PNG files. Nothing else runs in this process meanwhile. `stopped` is asked before each call. The model is
    released at the end, also after an error.
    """
    if stopped():
        return
    clock = Clock(job.plan.device)
    clock.release_memory()
    clock.reset_peak_memory()
    try:
        _time_slices(job, clock, progress, stopped)
    finally:
        clock.release_memory()


def _time_slices(job: RoundJob, clock: Clock, progress: Progress, stopped: Callable[[], bool]) -> None:
    process, batch_size = new_process_id(), job.plan.batch_size
    generator, load_s = clock.time(job.load)
    prepared = generator.prepare(job.requests)
    first = [prepared[index % len(prepared)] for index in range(batch_size)]
    warm = warm_up(lambda: clock.time(lambda: generator.generate(first))[1], job.plan.warmup, stopped)
    if stopped():
        return
    known = describe(generator, load_s, warm, clock, "timed", process, job.round, job.session)
    job.journal.record_loaded(known)
    timed_s, loop_start = 0.0, time.perf_counter()
    with progress.task(generator.name, sum(map(len, job.slices))) as task:
        for indices in job.slices:
            if stopped():
                break
            asked = [prepared[index] for index in padded(indices, batch_size)]
            images_BCHW, seconds = clock.time(lambda asked=asked: generator.generate(asked))  # type: ignore[misc]
            generator.check()
            images = to_host(images_BCHW, len(asked), len(indices), generator)
            pixels = tuple(map(pixel_digest, images))
            timed = Timed(tuple(indices), seconds, pixels, batch_size=batch_size, round=job.round, process=process)
            job.journal.record_timed(timed)
            if job.round == 0:
                prompts = tuple(request.prompt for request in asked[: len(indices)])
                batch = Batch(
                    timed.indices, seconds, prompts, pixels=pixels, batch_size=batch_size, purpose="timed",
                    process=process,
                )  # fmt: skip
                job.journal.record_batch(batch, images)
            if is_news(generator, known):
                known = describe(generator, load_s, warm, clock, "timed", process, job.round, job.session)
                job.journal.record_loaded(known)
            timed_s += seconds
            task.advance(len(indices))
    loop_s = time.perf_counter() - loop_start
    job.journal.record_finished(
        Finished(clock.peak_memory_bytes(), loop_s, timed_s, purpose="timed", round=job.round, process=process)
    )


def describe(
    generator: ImageGenerator, load_s: float, warm: WarmUp, clock: Clock, purpose: Purpose,
    process: str, round_: int = 0, session: str = NO_PROCESS,
) -> Loaded:  # fmt: skip
    """Return what is known of a loaded model by now."""
    return Loaded(
        name=generator.name, parameters=generator.parameters, image_size=generator.image_size,
        notes=generator.notes, load_s=load_s, warmups_s=warm.seconds, warmup_agreed=warm.agreed,
        peak_memory_bytes=clock.peak_memory_bytes(), class_conditional=generator.class_conditional,
        round=round_, purpose=purpose, process=process, session=session,
    )  # fmt: skip


def is_news(generator: ImageGenerator, known: Loaded) -> bool:
    """Return whether images have shown more of a model: the size that a pipeline chose, what it blacked out."""
    return (generator.image_size, generator.notes) != (known.image_size, known.notes)
