"""Timing work on a device: synchronised before and after, and the device's peak memory beside it."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import torch

ResultT = TypeVar("ResultT")
Mark = float | torch.cuda.Event  # a moment in the work of a device: seconds of a CPU's clock, or an event of a stream


class Clock:
    """Times calls on one device ("cpu", "cuda", "cuda:1"). Work on a GPU is asynchronous: both ends wait for it."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._earlier_peak_bytes = 0  # before the span of `begin_span`

    def synchronize(self) -> None:
        """Wait until the device has done all that it was asked."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def now(self, wait: bool = True) -> float:
        """Return the seconds since some moment in the past. wait: until the device has done all that it was asked."""
        if wait:
            self.synchronize()
        return time.perf_counter()

    def time(self, work: Callable[[], ResultT]) -> tuple[ResultT, float]:
        """Return what `work` returns, and the seconds until the device had finished it."""
        start = self.now()
        result = work()
        return result, self.now() - start

    def mark(self) -> Mark:
        """Return a mark behind all that was asked of the device so far; the host does not wait for it."""
        if self._device.type != "cuda":
            return self.now(wait=False)
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def seconds_between(self, first: Mark, second: Mark) -> float:
        """Return the seconds from one mark to a later one. The device must have passed both: `synchronize` first."""
        if isinstance(first, torch.cuda.Event):
            assert isinstance(second, torch.cuda.Event)
            milliseconds: float = first.elapsed_time(second)
            return milliseconds / 1e3
        assert not isinstance(second, torch.cuda.Event)
        return second - first

    def reset_peak_memory(self, at_least_bytes: int = 0) -> None:
        """Forget the peak so far: the next model's begins here. at_least_bytes: what it is known to have held before.

        That is what loading took, where a model that was loaded once is asked for something else.
        """
        self._earlier_peak_bytes = at_least_bytes
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def peak_memory_bytes(self) -> int | None:
        """Return the most bytes of device memory that tensors held since the last reset; None on a CPU."""
        if self._device.type != "cuda":
            return None
        return max(self._earlier_peak_bytes, torch.cuda.max_memory_allocated(self._device))

    def begin_span(self) -> None:
        """Begin a span that has a peak of its own; the peak since the reset goes on."""
        self._earlier_peak_bytes = self.peak_memory_bytes() or 0
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def span_peaks_bytes(self) -> tuple[int, int] | None:
        """Return the most that tensors held, and that the allocator held for them, in the span; None on a CPU."""
        if self._device.type != "cuda":
            return None
        return torch.cuda.max_memory_allocated(self._device), torch.cuda.max_memory_reserved(self._device)

    def release_unused(self) -> None:
        """Give back what nothing refers to any more; compiled code stays."""
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def release_memory(self) -> None:
        """Give back what nothing refers to any more, so that the next model finds the device empty."""
        if "torch._dynamo" in sys.modules:  # importing it takes a second, and then nothing is compiled yet
            torch._dynamo.reset()  # compiled code holds the weights it was compiled for
        self.release_unused()
