"""A model whose images are noise, and the work of a column with it, for the tests of rounds and of bulk."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmark.console.progress import Progress
from benchmark.measure.findings import PassName
from benchmark.run.bulk import BulkJob, make_bulk
from benchmark.run.journal import Journal
from benchmark.run.snapshot import Snapshot
from benchmark.run.worker import Plan, RoundJob, time_round
from models.base import ImageGenerator, Request

FINGERPRINT = {"MODEL": "noise"}


class Noise(ImageGenerator):
    """Its image is noise from the request's seed. calls: the seeds of each call.

    fail_at: the call, from 0 on, that fails. fits: requests in a call for which memory suffices. on_call: is told the
    number of each call before it is made.
    """

    def __init__(
        self, fail_at: int | None = None, fits: int = 1000, on_call: Callable[[int], None] = lambda _: None
    ) -> None:
        self.name, self.image_size, self.parameters = "Noise", 8, 1_000_000
        self.calls: list[list[int]] = []
        self.loads = 0
        self._fail_at, self._fits, self._on_call = fail_at, fits, on_call

    def generate(self, requests: Sequence[Request]) -> torch.Tensor:
        self._on_call(len(self.calls))
        self.calls.append([request.seed for request in requests])
        if len(self.calls) - 1 == self._fail_at:
            raise RuntimeError("the model broke")
        if len(requests) > self._fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        draws = [torch.Generator().manual_seed(request.seed) for request in requests]
        return torch.stack([torch.randint(0, 256, (3, 8, 8), generator=draw, dtype=torch.uint8) for draw in draws])

    def load(self) -> Noise:
        """Return itself, and count how often it was asked for."""
        self.loads += 1
        return self


def make_requests(count: int) -> tuple[Request, ...]:
    return tuple(Request(index, f"image {index}", index) for index in range(count))


def open_journal(folder: Path) -> Journal:
    return Journal(folder, FINGERPRINT)


def read(folder: Path) -> Snapshot:
    return open_journal(folder).read()


def time_slices(
    folder: Path,
    generator: ImageGenerator,
    *slices: range,
    round_: int = 0,
    batch_size: int = 1,
    warmup: int = 0,
    count: int = 8,
    stopped: Callable[[], bool] = lambda: False,
    passes: tuple[PassName, ...] = (),
    load_eager: Callable[[], ImageGenerator] | None = None,
) -> Snapshot:
    """Time a round of a column of `count` requests as a worker does; return what its folder holds then."""
    journal = open_journal(folder)
    load = generator.load if isinstance(generator, Noise) else lambda: generator
    plan = Plan(batch_size, warmup, "cpu")
    job = RoundJob(
        load, make_requests(count), journal, plan, round_, slices, passes=passes, load_eager=load_eager
    )  # fmt: skip
    with journal.locked():
        time_round(job, Progress(io.StringIO()), stopped)
    return journal.read()


def bulk(
    folder: Path,
    generator: Noise,
    start: int,
    count: int,
    asked: int | None = None,
    eager: Noise | None = None,
    said: io.StringIO | None = None,
    stopped: Callable[[], bool] = lambda: False,
    first_call_s: float = 0.0,
    image_s: float = float("inf"),
) -> Snapshot:
    """Make the images start..count-1 in bulk as a worker does; return what the folder holds then."""
    journal = open_journal(folder)
    with journal.locked() as there:
        load = generator.load
        job = BulkJob(
            load=load, load_eager=load if eager is None else eager.load, requests=make_requests(count),
            journal=journal, plan=Plan(1, 0, "cpu"), asked=asked, sizes=there.bulk_sizes_from(start),
            covered=frozenset(there.pixels()), start=start, count=count,
            first_call_s=first_call_s, image_s=image_s,
        )  # fmt: skip
        make_bulk(job, Progress(said or io.StringIO()), stopped)
    return journal.read()
