"""The timed loop: every request of a run through one model, each batch timed and written, resumable at any batch."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from benchmark.console.progress import Progress
from benchmark.measure.clock import Clock
from benchmark.run.journal import Batch, Journal, Loaded
from models.base import ImageGenerator, Request

if TYPE_CHECKING:
    from torch import Tensor

WRITER_QUEUE_BATCHES = 4


@dataclass(frozen=True)
class Plan:
    """How one model is to be run: requests per call, and untimed calls before the timed ones."""

    batch_size: int
    warmup: int
    device: str


def slice_batches(count: int, batch_size: int) -> list[range]:
    """Return the fixed slices of the indices 0..count-1: batch k always begins at k * batch_size."""
    return [range(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]


def missing_batches(count: int, batch_size: int, recorded: Sequence[Batch]) -> list[range]:
    """Return the slices of which a request is in no recorded batch."""
    done = {index for batch in recorded for index in batch.indices}
    return [indices for indices in slice_batches(count, batch_size) if not done.issuperset(indices)]


def generate_images(
    load: Callable[[], ImageGenerator],
    requests: Sequence[Request],
    journal: Journal,
    plan: Plan,
    progress: Progress,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Make and time every image of `requests` that `journal` does not have yet; load nothing if it has them all.

    Inside the timer: generate(), from prompts to uint8 images on the device. Outside: loading, warm-up, the copy to
    the host, PNG files. `stopped` is asked before each batch. The model is released at the end, also after an error.
    """
    with journal.locked() as there:
        for fault in there.faults:
            progress.note(fault)
        missing = missing_batches(len(requests), plan.batch_size, there.batches)
        # A model is also loaded where only what is known of it was lost.
        if (missing or there.loaded is None) and not stopped():
            _load_and_run(load, requests, missing, journal, plan, progress, stopped)


def _load_and_run(
    load: Callable[[], ImageGenerator],
    requests: Sequence[Request],
    missing: Sequence[range],
    journal: Journal,
    plan: Plan,
    progress: Progress,
    stopped: Callable[[], bool],
) -> None:
    clock = Clock(plan.device)
    clock.release_memory()
    clock.reset_peak_memory()
    try:
        _run_batches(load, requests, missing, journal, plan, clock, progress, stopped)
    finally:
        clock.release_memory()


def _run_batches(
    load: Callable[[], ImageGenerator],
    requests: Sequence[Request],
    missing: Sequence[range],
    journal: Journal,
    plan: Plan,
    clock: Clock,
    progress: Progress,
    stopped: Callable[[], bool],
) -> None:
    generator, load_s = clock.time(load)
    prepared = generator.prepare(requests)
    first = [prepared[index % len(prepared)] for index in range(plan.batch_size)]
    warmups_s = [clock.time(lambda: generator.generate(first))[1] for _ in range(plan.warmup)]
    known = _describe(generator, load_s, warmups_s, clock)
    journal.record_loaded(known)
    cold = not warmups_s
    is_cpu = plan.device == "cpu"
    timed_s, loop_start = 0.0, time.perf_counter()
    with _Writer(journal) as writer, progress.task(generator.name, len(requests)) as task:
        task.advance(len(requests) - sum(map(len, missing)), made=False)
        for indices in missing:
            if stopped():
                break
            asked = prepared[indices.start : indices.stop]
            images_BCHW, seconds = clock.time(lambda asked=asked: generator.generate(asked))  # type: ignore[misc]
            generator.check()
            prompts = tuple(request.prompt for request in asked)
            batch = Batch(tuple(indices), seconds, prompts, cold=cold)
            writer.put(batch, _to_host(images_BCHW, len(asked), generator))
            if (generator.image_size, generator.notes) != (known.image_size, known.notes):
                # Some of it shows only once there are images: the size that a pipeline chose, what it blacked out.
                known = _describe(generator, load_s, warmups_s, clock)
                writer.drain()  # one line at a time
                journal.record_loaded(known)
            if is_cpu:
                writer.drain()  # on a CPU the writer would share the cores of the next timed call
            cold = False
            timed_s += seconds
            task.advance(len(asked))
    journal.record_finished(clock.peak_memory_bytes(), loop_s=time.perf_counter() - loop_start, timed_s=timed_s)


def _describe(generator: ImageGenerator, load_s: float, warmups_s: Sequence[float], clock: Clock) -> Loaded:
    return Loaded(
        name=generator.name, parameters=generator.parameters, image_size=generator.image_size,
        notes=generator.notes, load_s=load_s, first_call_s=warmups_s[0] if warmups_s else None,
        warmup_s=sum(warmups_s), peak_memory_bytes=clock.peak_memory_bytes(),
        class_conditional=generator.class_conditional,
    )  # fmt: skip


def _to_host(images_BCHW: Tensor, count: int, generator: ImageGenerator) -> list[Image.Image]:
    shape = tuple(images_BCHW.shape)
    assert (*shape[:2], max(shape[2:])) == (count, 3, generator.image_size), f"{generator.name} returned {shape}"
    assert str(images_BCHW.dtype) == "torch.uint8", f"{generator.name} returned {images_BCHW.dtype}"
    return [Image.fromarray(image) for image in images_BCHW.permute(0, 2, 3, 1).cpu().contiguous().numpy()]


class _Writer:
    """A thread that records batches, with a bounded queue; an error of its own surfaces at the next call."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._queue: queue.Queue[tuple[Batch, list[Image.Image]] | None] = queue.Queue(WRITER_QUEUE_BATCHES)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="image-writer", daemon=True)

    def __enter__(self) -> _Writer:
        self._thread.start()
        return self

    def __exit__(self, error_type: object, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if error_type is None:
            self._raise_error()

    def put(self, batch: Batch, images: list[Image.Image]) -> None:
        self._raise_error()
        self._queue.put((batch, images))

    def drain(self) -> None:
        """Wait until all that was put is recorded."""
        self._queue.join()
        self._raise_error()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                if self._error is None:
                    self._journal.record_batch(*item)
            except Exception as error:  # carried over to the thread that generates, and raised there
                self._error = error
            finally:
                self._queue.task_done()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
