"""A round of one model: loaded in a process of its own, warmed up, timed call by call, and measured in passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmark.console.progress import Progress
from benchmark.measure.clock import Clock
from benchmark.measure.findings import PassName
from benchmark.measure.machine_state import StateReader
from benchmark.measure.passes import Timing, run_passes
from benchmark.measure.warmup import WarmUp, warm_up
from benchmark.report.typed_json import to_json
from benchmark.run.images import to_host
from benchmark.run.journal import Journal, pixel_digest
from benchmark.run.journal_lines import (
    NO_PROCESS,
    Batch,
    Finished,
    Loaded,
    Measured,
    Purpose,
    State,
    Timed,
    new_process_id,
)
from benchmark.run.slices import padded
from models.base import DType, ImageGenerator, Request


@dataclass(frozen=True)
class Plan:
    """How one model is timed: requests per call, untimed calls before the timed ones at least, device and dtype."""

    batch_size: int
    warmup: int
    device: str
    dtype: DType = "float32"


@dataclass(frozen=True)
class RoundJob:
    """What a worker of a round needs; it can be sent to another process.

    requests: all that a round times, since a model prepares for all that it will be asked. slices: those of their
    indices that the round still lacks; with none of them, only what is known of the model is recorded. session: which
    run of the program it is. passes: what is measured after the timed calls. with_idle: the power of the idle card,
    too, where energy is. load_eager: of a compiled model, gives the
    same one in eager mode, whose operations can be counted; None: `load` does. options: those that `load` loads with,
    where another job's load can serve them. title: what progress calls the model; "": its own name. host: which host of
    the run this is. card: where other cards of the host are timed, too, which of them; no image is kept then.
    """

    load: Callable[[], ImageGenerator]
    requests: tuple[Request, ...]
    journal: Journal
    plan: Plan
    round: int
    slices: tuple[range, ...]
    session: str = NO_PROCESS
    passes: tuple[PassName, ...] = ()
    with_idle: bool = True
    load_eager: Callable[[], ImageGenerator] | None = None
    options: Any = None
    title: str = ""
    host: str = ""
    card: str = ""

    @property
    def counts_on_eager(self) -> bool:
        """Whether a pass needs the same model in eager mode."""
        return self.load_eager is not None and "roofline" in self.passes


class LoadedModel:
    """A model in this process, from its load to its release; `give` loads it, and asks it for other jobs' options.

    process: the identity of this process. load_s: seconds of the load, which all jobs that it serves share.
    """

    def __init__(self, device: str) -> None:
        self.process, self.load_s = new_process_id(), 0.0
        self.reader = StateReader(device)
        self.clock = Clock(device)
        self.clock.release_memory()
        self.clock.reset_peak_memory()
        self._generator: ImageGenerator | None = None
        self._load_peak_bytes = 0
        self._has_started = False

    def give(self, job: RoundJob, load: Callable[[], ImageGenerator]) -> ImageGenerator:
        """Return the model that `load` gives, or, where one is loaded already, the same networks for the job's options.

        What the former job's model held beside the networks is released first. The peak of memory begins anew, and with
        what loading took, as if the job were alone.
        """
        if self._generator is None:
            generator, self.load_s = self.clock.time(load)
            self.clock.cover(generator.devices)
            self._generator, self._load_peak_bytes = generator, self.clock.peak_memory_bytes() or 0
            return generator
        generator = self._generator = self._generator.with_options(job.options)
        self.clock.release_unused()
        self.clock.reset_peak_memory(self._load_peak_bytes)
        return generator

    def record_start(self, job: RoundJob) -> None:
        """Record the machine's state before this job's calls."""
        devices = () if self._generator is None else self._generator.devices
        state = self.reader.start_again() if self._has_started else self.reader.start(devices)
        self._has_started = True
        job.journal.record_state(State("start", to_json(state), round=job.round, process=self.process))

    def record_end(self, job: RoundJob) -> None:
        """Record the machine's state after this job's calls."""
        job.journal.record_state(State("end", to_json(self.reader.end()), round=job.round, process=self.process))

    def release(self) -> None:
        """Let go of the model, so that another one finds the device empty."""
        self._generator = None
        self.clock.release_memory()


def time_round(job: RoundJob, progress: Progress, stopped: Callable[[], bool] = lambda: False) -> None:
    """Load, warm up, and time a call for each slice; the images of round 0 are kept, of later rounds their digests.

    Inside the timer: generate(), from prompts to uint8 images on the device. Outside: loading, warm-up, the copy to
    the host, PNG files. Nothing else runs in this process meanwhile. The passes follow. `stopped` is asked before each
    call. The model is released at the end, also after an error.
    """
    if stopped():
        return
    model = LoadedModel(job.plan.device)
    try:
        timing = time_and_measure(job, model, progress, stopped)
    finally:
        model.release()
    if timing is not None and job.counts_on_eager and not stopped():
        try:  # the compiled model is gone by now, so that there is memory for the eager one
            count_on_eager(job, timing, model, progress, stopped)
        finally:
            model.release()


def time_and_measure(
    job: RoundJob, model: LoadedModel, progress: Progress, stopped: Callable[[], bool]
) -> Timing | None:
    """Return what passes need to know; None where there was nothing to time, or it was stopped."""
    clock, process, batch_size = model.clock, model.process, job.plan.batch_size
    generator = model.give(job, job.load)
    load_s = model.load_s
    model.record_start(job)
    prepared = generator.prepare(job.requests)
    first = _full_call(prepared, batch_size)
    clock.begin_span()
    warm = warm_up(lambda: clock.time(lambda: generator.generate(first))[1], job.plan.warmup, stopped)
    peaks = clock.span_peaks_bytes()
    if stopped():
        return None
    known = describe(generator, load_s, warm, clock, "timed", process, job.round, job.session, job.host, job.card)
    job.journal.record_loaded(known)
    timed_s, done, loop_start = 0.0, 0, time.perf_counter()
    with progress.task(job.title or generator.name, sum(map(len, job.slices))) as task:
        for indices in job.slices:
            if stopped():
                break
            asked = [prepared[index] for index in padded(indices, batch_size)]
            images_BCHW, seconds = clock.time(lambda asked=asked: generator.generate(asked))  # type: ignore[misc]
            generator.check()
            images = to_host(images_BCHW, len(asked), len(indices), generator)
            pixels = tuple(map(pixel_digest, images))
            timed = Timed(
                tuple(indices), seconds, pixels, batch_size=batch_size, round=job.round, process=process, card=job.card
            )
            job.journal.record_timed(timed)
            if job.round == 0 and not job.card:
                prompts = tuple(request.prompt for request in asked[: len(indices)])
                batch = Batch(
                    timed.indices, seconds, prompts, pixels=pixels, batch_size=batch_size, purpose="timed",
                    process=process,
                )  # fmt: skip
                job.journal.record_batch(batch, images)
            if is_news(generator, known):
                known = describe(
                    generator, load_s, warm, clock, "timed", process, job.round, job.session, job.host, job.card
                )
                job.journal.record_loaded(known)
            timed_s, done = timed_s + seconds, done + 1
            task.advance(len(indices))
    loop_s = time.perf_counter() - loop_start
    model.record_end(job)
    job.journal.record_finished(
        Finished(clock.peak_memory_bytes(), loop_s, timed_s, purpose="timed", round=job.round, process=process)
    )
    if not done or done < len(job.slices):
        return None
    is_compiled = job.load_eager is not None
    first_call_bytes = peaks[0] if peaks is not None and is_compiled else None
    timing = Timing(first, clock, job.plan.device, job.plan.dtype, timed_s / done, first_call_bytes, job.with_idle)
    here = tuple(name for name in job.passes if name != "roofline" or not is_compiled)
    _measure(generator, timing, here, job, process, progress, stopped)
    return timing


def count_on_eager(
    job: RoundJob, timing: Timing, model: LoadedModel, progress: Progress, stopped: Callable[[], bool]
) -> None:
    """Run the pass that needs plain operations, for a compiled model, on the same one in eager mode.

    model: has been released since it was timed, or has loaded the eager one for another job.
    """
    assert job.load_eager is not None, "the model was compiled"
    began = timing.clock.now()
    generator = model.give(job, job.load_eager)
    if stopped():
        return
    requests = _full_call(generator.prepare(job.requests), job.plan.batch_size)
    _measure(generator, replace(timing, requests=requests), ("roofline",), job, model.process, progress, stopped, began)


def _full_call(prepared: Sequence[Request], batch_size: int) -> list[Request]:
    return [prepared[index % len(prepared)] for index in range(batch_size)]


def _measure(
    generator: ImageGenerator, timing: Timing, names: Sequence[PassName], job: RoundJob, process: str,
    progress: Progress, stopped: Callable[[], bool], began: float | None = None,
) -> None:  # fmt: skip
    """Run passes and record what they found. began: when the first one did, where that was before this call."""
    if not names:
        return
    began = timing.clock.now() if began is None else began
    with progress.task(f"{job.title or generator.name} passes", len(names), "passes") as task:
        for name, found in run_passes(generator, timing, names, stopped):
            now = timing.clock.now()
            reason = found if isinstance(found, str) else ""
            content = None if isinstance(found, str) else to_json(found)
            job.journal.record_measured(
                Measured(name, content, reason, seconds=now - began, round=job.round, process=process)
            )
            began = now
            task.advance(1)


def describe(
    generator: ImageGenerator, load_s: float, warm: WarmUp, clock: Clock, purpose: Purpose,
    process: str, round_: int = 0, session: str = NO_PROCESS, host: str = "", card: str = "",
) -> Loaded:  # fmt: skip
    """Return what is known of a loaded model by now."""
    return Loaded(
        name=generator.name, parameters=generator.parameters, image_size=generator.image_size,
        notes=generator.notes, load_s=load_s, warmups_s=warm.seconds, warmup_agreed=warm.agreed,
        peak_memory_bytes=clock.peak_memory_bytes(), class_conditional=generator.class_conditional,
        round=round_, purpose=purpose, process=process, session=session, host=host, card=card,
    )  # fmt: skip


def is_news(generator: ImageGenerator, known: Loaded) -> bool:
    """Return whether images have shown more of a model: the size that a pipeline chose, what it blacked out."""
    return (generator.image_size, generator.notes) != (known.image_size, known.notes)
