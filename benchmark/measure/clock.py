"""Timing work on a device, or on several: synchronised before and after, with the peak memory beside it."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

ResultT = TypeVar("ResultT")
Mark = float | torch.cuda.Event  # a moment in the work of a device: seconds of a CPU's clock, or an event of a stream


class Clock:
    """Times calls on one device ("cpu", "cuda", "cuda:1"). Work on a GPU is asynchronous: both ends wait for it.

    Of a model that is on several GPUs (see `cover`), each end waits for all of them, and the bytes are their sum.
    """

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._devices: tuple[torch.device, ...] = (self._device,)
        self._earlier_peak_bytes = 0  # before the span of `begin_span`

    def cover(self, devices: Sequence[str]) -> None:
        """Time work on all of these devices from now on: those of `ImageGenerator.devices`; none: on its own alone."""
        self._devices = tuple(map(torch.device, devices)) or (self._device,)

    @property
    def _cards(self) -> list[torch.device]:
        return [device for device in self._devices if device.type == "cuda"]

    def synchronize(self) -> None:
        """Wait until the device has done all that it was asked."""
        for card in self._cards:
            torch.cuda.synchronize(card)

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
        """Return a mark behind all that was asked of the device so far; the host does not wait for it.

        Of several it does: an event belongs to one device, and its time cannot be held against another's.
        """
        if len(self._devices) > 1:
            return self.now()
        if not self._cards:
            return self.now(wait=False)
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._cards[0]))
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
        self._reset_peaks()

    def peak_memory_bytes(self) -> int | None:
        """Return the most bytes of device memory that tensors held since the last reset; None on a CPU.

        Of several devices each has its own peak, which need not be at the same moment: their sum.
        """
        if not self._cards:
            return None
        return max(self._earlier_peak_bytes, sum(map(torch.cuda.max_memory_allocated, self._cards)))

    def begin_span(self) -> None:
        """Begin a span that has a peak of its own; the peak since the reset goes on."""
        self._earlier_peak_bytes = self.peak_memory_bytes() or 0
        self._reset_peaks()

    def _reset_peaks(self) -> None:
        for card in self._cards:
            torch.cuda.reset_peak_memory_stats(card)

    def span_peaks_bytes(self) -> tuple[int, int] | None:
        """Return the most that tensors held, and that the allocator held for them, in the span; None on a CPU."""
        cards = self._cards
        if not cards:
            return None
        return sum(map(torch.cuda.max_memory_allocated, cards)), sum(map(torch.cuda.max_memory_reserved, cards))

    def card_peaks_bytes(self) -> dict[str, int]:
        """Return the most that tensors held in the span on each of several GPUs, by its name; of one GPU nothing."""
        cards = self._cards if len(self._cards) > 1 else []
        return {str(card): torch.cuda.max_memory_allocated(card) for card in cards}

    def release_unused(self) -> None:
        """Give back what nothing refers to any more; compiled code stays."""
        gc.collect()
        if self._cards:
            torch.cuda.empty_cache()

    def release_memory(self) -> None:
        """Give back what nothing refers to any more, so that the next model finds the device empty."""
        if "torch._dynamo" in sys.modules:  # importing it takes a second, and then nothing is compiled yet
            torch._dynamo.reset()  # compiled code holds the weights it was compiled for
        self.release_unused()
