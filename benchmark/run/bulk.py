"""Images for quality alone: made in large batches, of a size that is found, recorded and used again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmark.console.progress import Progress, Task
from benchmark.measure.clock import Clock
from benchmark.measure.out_of_memory import is_out_of_memory
from benchmark.measure.warmup import WarmUp
from benchmark.ranks.division import Division
from benchmark.run.batch_size_search import FoundSize, find_batch_size, sizes_to_try
from benchmark.run.images import ImageWriter, to_host
from benchmark.run.journal import Journal
from benchmark.run.journal_lines import NO_PROCESS, Batch, BulkSize, Finished, Loaded, new_process_id
from benchmark.run.slices import bulk_slices, missing, padded
from benchmark.run.worker import Plan, describe, is_news
from models.base import ImageGenerator, Request

AUTO = "auto"
MOST_REQUESTS = 2**31  # of a call, before memory has run out


@dataclass(frozen=True)
class BulkJob:
    """What a worker of bulk needs; it can be sent to another process.

    load_eager: loads the model on which a batch size is looked for; `load` itself in eager mode. requests: all of the
    column, of which start..count-1 are made in bulk. asked: the batch size, None: the one that proves fastest. sizes:
    those that are recorded. covered: the requests that have an image. first_call_s, image_s: of the timed calls: the
    first one of a process, and seconds per image; 0 and infinite where they are not known. title: what progress calls
    the model; "": its own name. session, host: which run of the program it is, and on which host. division: among the
    ranks of the run; None: this process is alone. is_search: only the batch size is found and told to the other ranks.
    """

    load: Callable[[], ImageGenerator]
    load_eager: Callable[[], ImageGenerator]
    requests: tuple[Request, ...]
    journal: Journal
    plan: Plan
    asked: int | None
    sizes: tuple[BulkSize, ...]
    covered: frozenset[int]
    start: int
    count: int
    first_call_s: float = 0.0
    image_s: float = float("inf")
    title: str = ""
    session: str = NO_PROCESS
    host: str = ""
    division: Division | None = None
    is_search: bool = False

    @property
    def grown_from(self) -> int | None:
        """From which index on a size is chosen anew, of a run that has at least doubled; None where the sizes stay."""
        counts = [size.count for size in self.sizes if size.asked]  # others only tell how large an image's call was
        chosen_for = max(counts, default=0)
        is_grown = self.asked is None and all(counts) and 0 < 2 * chosen_for <= self.count
        start = max([chosen_for, *(index + 1 for index in self.covered)])
        return start if is_grown and start < self.count else None

    @property
    def compiles_in_vain(self) -> bool:
        """Whether a first call of another batch size takes longer than all missing images at the timed one."""
        left = sum(index not in self.covered for index in range(self.start, self.count))
        return self.load is not self.load_eager and left * self.image_s < self.first_call_s


def make_bulk(job: BulkJob, progress: Progress, stopped: Callable[[], bool] = lambda: False) -> None:
    """Make the images that the column lacks beyond the timed ones, in slices of the recorded batch size.

    Where no size is recorded yet, one is chosen and recorded before the first image. Where memory runs out, the slice
    is made again in halves, and the smaller size recorded. `stopped` is asked before each call. The model is released
    at the end, also after an error.
    """
    bulk = _Bulk(job, progress, stopped)
    if not bulk.missing() or stopped():
        return
    if job.division is not None and not job.division.is_first and not job.division.wait(stopped):
        return  # before anything is asked of the GPU
    bulk.clock.release_memory()
    bulk.clock.reset_peak_memory()
    try:
        if job.division is None:
            bulk.make()
        else:
            bulk.make_share(job.division)
    finally:
        bulk.model = None
        bulk.clock.release_memory()


@dataclass
class _Model:
    """A loaded model, prepared for all requests.

    first_calls_s: seconds of the first call of each batch size, which may compile. known: what was recorded of it.
    """

    generator: ImageGenerator
    prepared: Sequence[Request]
    load_s: float
    first_calls_s: dict[int, float] = field(default_factory=dict)
    known: Loaded | None = None


class _Bulk:
    """The work of a bulk job. model: None before one is loaded, and while its memory is needed for another."""

    def __init__(self, job: BulkJob, progress: Progress, stopped: Callable[[], bool]) -> None:
        self.clock = Clock(job.plan.device)
        self.model: _Model | None = None
        self._job, self._progress, self._stopped = job, progress, stopped
        self._process = new_process_id()
        self._sizes = {size.start: size.size for size in job.sizes}
        self._covered = set(job.covered)
        self._timed_s = 0.0
        self._most = MOST_REQUESTS
        self._tried_s: list[float] = []

    def missing(self) -> list[int]:
        return [index for index in range(self._job.start, self._job.count) if index not in self._covered]

    def make(self) -> None:
        if not self._has_sizes():
            return
        name = self._name(self._loaded())
        loop_start, total = time.perf_counter(), self._job.count - self._job.start
        with self._progress.task(name, total) as task:
            task.advance(total - len(self.missing()), made=False)
            while (failed := self._make_slices(task)) is not None:
                self._halve(*failed, name)
        self._record_finished(time.perf_counter() - loop_start)

    def make_share(self, division: Division) -> None:
        """Make what this rank claims of what all ranks make, and as rank 0 what it makes alone."""
        if division.is_first and not division.is_offered():
            if not self._has_sizes():
                return
            slices = bulk_slices(sorted(self._sizes.items()), self._job.count)
            division.offer([one for one in slices if not self._covered.issuperset(one[0])], self._seconds_per_image())
        if self._job.is_search:
            return
        total = division.shared_count()
        # Rank 0's progress is shown, so it loads before it claims; another one may come too late for a slice.
        is_shown = division.is_first and division.claimed_count() < total
        name = self._name(self._loaded()) if is_shown else self._job.title or division.name
        loop_start, seen = time.perf_counter(), division.claimed_count()
        with self._progress.task(name, total) as task, ImageWriter(self._job.journal) as writer:
            task.advance(seen, made=False)
            for handed_out, (indices, size) in division.claim(self._stopped):
                self._make_whole(indices, size, writer)
                task.advance(handed_out - seen)  # what the other ranks claim counts, too
                seen = handed_out
            writer.drain()
            task.advance(total - seen if not self._stopped() else 0)
        if division.is_first and (alone := division.kept(self._stopped)):
            count = sum(len(indices) for indices, _ in alone)
            with self._progress.task(f"{name} on one GPU", count) as task, ImageWriter(self._job.journal) as writer:
                for indices, size in alone:
                    if self._stopped():
                        break
                    self._make_whole(indices, size, writer)
                    task.advance(len(indices))
        if self.model is not None:
            self._record_finished(time.perf_counter() - loop_start)

    def _make_whole(self, indices: range, size: int, writer: ImageWriter) -> None:
        """Make a slice; where memory runs out, and from then on, in calls of half as many requests."""
        while indices:
            size = min(size, self._most)
            if self._most <= size < len(indices) and self._sizes.get(indices.start) != size:
                self._record_size(indices.start, size)
            try:
                self._make_slice(indices[:size], size, writer)
            except Exception as error:
                if size == 1 or not is_out_of_memory(error):
                    raise
                writer.drain()
                self._most = size // 2
                self._halve(indices, size, self._name(self._loaded()))
            else:
                indices = indices[size:]

    def _seconds_per_image(self) -> float:
        """Return what an image takes at the least, as far as is known by now."""
        trials = [seconds for size in self._job.sizes for _, seconds in size.trials] + self._tried_s
        return min([self._job.image_s, *trials])

    def _name(self, model: _Model) -> str:
        return self._job.title or model.generator.name

    def _has_sizes(self) -> bool:
        """Return whether there is a batch size for all images, once one is chosen where that has to be."""
        start = self._job.grown_from if self._sizes else self._job.start
        return start is None or self._choose_size(start)

    def _choose_size(self, start: int) -> bool:
        """Record the batch size from `start` on; return whether there is one: not where the search was stopped."""
        job, missing = self._job, [index for index in self.missing() if index >= start]
        if job.asked is not None:
            self._record_size(start, job.asked)
        elif job.compiles_in_vain or len(sizes_to_try(len(missing))) == 1:
            self._record_size(start, job.plan.batch_size)
        else:
            self._load(job.load_eager)
            name = self._name(self._loaded())
            found = find_batch_size(lambda size: self._try(size, missing), len(missing), self._stopped)
            # After an error a model may hold what it was at; another one is made for another mode.
            if found is None or found.ran_out or job.load is not job.load_eager:
                self._release()
            if found is None:
                return False
            self._record_size(start, found.size, found.trials)
            self._tried_s = [seconds for _, seconds in found.trials]
            self._progress.note(f"{name}: {_describe_size(found)}")
        return True

    def _try(self, size: int, missing: Sequence[int]) -> float:
        """Make images that are thrown away; return the seconds."""
        model = self._loaded()
        asked = [model.prepared[index] for index in missing[:size]]
        _, seconds = self.clock.time(lambda: model.generator.generate(asked))
        model.generator.check()
        model.first_calls_s.setdefault(size, seconds)
        return seconds

    def _record_size(self, start: int, size: int, trials: tuple[tuple[int, float], ...] = ()) -> None:
        self._sizes[start] = size
        asked = AUTO if self._job.asked is None else str(self._job.asked)
        self._job.journal.record_bulk_size(
            BulkSize(start, size, asked=asked, count=self._job.count, trials=trials, process=self._process)
        )

    def _make_slices(self, task: Task) -> tuple[range, int] | None:
        """Make what is missing; return the slice and its size where memory ran out."""
        with ImageWriter(self._job.journal) as writer:
            for indices, size in bulk_slices(sorted(self._sizes.items()), self._job.count):
                if self._covered.issuperset(indices):
                    continue
                if self._stopped():
                    break
                new = len(set(indices) - self._covered)
                try:
                    self._make_slice(indices, size, writer)
                except Exception as error:
                    if size == 1 or not is_out_of_memory(error):
                        raise
                    return indices, size
                task.advance(new)
        return None

    def _make_slice(self, indices: range, size: int, writer: ImageWriter) -> None:
        model = self._loaded()
        generator, asked = model.generator, [model.prepared[index] for index in padded(indices, size)]
        if size not in model.first_calls_s:
            model.first_calls_s[size] = self.clock.time(lambda: generator.generate(asked))[1]
        known = model.known or self._record_loaded(model, size)
        images_BCHW, seconds = self.clock.time(lambda: generator.generate(asked))
        generator.check()
        prompts = tuple(request.prompt for request in asked[: len(indices)])
        batch = Batch(
            tuple(indices), seconds, prompts, batch_size=size, purpose="bulk", process=self._process,
            ended_at_s=time.time(),
        )  # fmt: skip
        writer.put(batch, to_host(images_BCHW, size, len(indices), generator))
        if is_news(generator, known):
            writer.drain()  # one line at a time
            self._record_loaded(model, size)
        if self._job.plan.device == "cpu":
            writer.drain()  # on a CPU the writer would share the cores of the next call
        self._covered.update(indices)
        self._timed_s += seconds

    def _halve(self, indices: range, size: int, name: str) -> None:
        """Go on from this slice with half the batch size, with a model that never saw the larger one."""
        self._progress.note(f"{name}: batch size {size} did not fit in memory; it goes on with {size // 2}")
        self._release()
        self._record_size(indices.start, size // 2)

    def _loaded(self) -> _Model:
        if self.model is None:
            self._load(self._job.load)
        assert self.model is not None
        return self.model

    def _load(self, load: Callable[[], ImageGenerator]) -> None:
        generator, load_s = self.clock.time(load)
        self.clock.cover(generator.devices)
        self.model = _Model(generator, generator.prepare(self._job.requests), load_s)

    def _release(self) -> None:
        self.model = None
        self.clock.release_memory()

    def _record_finished(self, loop_s: float) -> None:
        self._job.journal.record_finished(
            Finished(self.clock.peak_memory_bytes(), loop_s, self._timed_s, purpose="bulk", process=self._process)
        )

    def _record_loaded(self, model: _Model, size: int) -> Loaded:
        warm = WarmUp((model.first_calls_s[size],), True)
        model.known = describe(
            model.generator, model.load_s, warm, self.clock, "bulk", self._process, session=self._job.session,
            host=self._job.host,
        )  # fmt: skip
        self._job.journal.record_loaded(model.known)
        return model.known


def _describe_size(found: FoundSize) -> str:
    rates = {size: f"{1 / seconds:.3g}" for size, seconds in found.trials}
    compared = "" if found.size == 1 else f" images/s, one by one {rates[1]}"
    return f"bulk in batches of {found.size}: {rates[found.size]}{compared or ' images/s'}"


def make_images(
    load: Callable[[], ImageGenerator],
    requests: Sequence[Request],
    journal: Journal,
    batch_size: int,
    device: str,
    progress: Progress,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Make every image of `requests` that `journal` does not have yet; load nothing if it has them all.

    For scripts that want images and no figures of speed: no warm-up, nothing padded. `stopped` is asked before each
    call. The model is released at the end, also after an error.
    """
    with journal.locked() as there:
        for fault in there.faults:
            progress.note(fault)
        slices = [indices for indices, _ in bulk_slices([(0, batch_size)], len(requests))]
        left = missing(slices, there.pixels())
        if not left or stopped():
            return
        clock = Clock(device)
        clock.release_memory()
        try:
            _make_slices(load, requests, left, journal, clock, progress, stopped)
        finally:
            clock.release_memory()


def _make_slices(
    load: Callable[[], ImageGenerator],
    requests: Sequence[Request],
    slices: Sequence[range],
    journal: Journal,
    clock: Clock,
    progress: Progress,
    stopped: Callable[[], bool],
) -> None:
    generator, process = load(), new_process_id()
    prepared = generator.prepare(requests)
    with ImageWriter(journal) as writer, progress.task(generator.name, len(requests)) as task:
        task.advance(len(requests) - sum(map(len, slices)), made=False)
        for indices in slices:
            if stopped():
                break
            asked = [prepared[index] for index in indices]
            images_BCHW, seconds = clock.time(lambda asked=asked: generator.generate(asked))  # type: ignore[misc]
            generator.check()
            prompts = tuple(request.prompt for request in asked)
            batch = Batch(tuple(indices), seconds, prompts, batch_size=len(asked), purpose="bulk", process=process)
            writer.put(batch, to_host(images_BCHW, len(asked), len(asked), generator))
            task.advance(len(asked))
