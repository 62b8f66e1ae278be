"""Timing work on a device: synchronised before and after, and the device's peak memory beside it."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import torch

ResultT = TypeVar("ResultT")


class Clock:
    """Times calls on one device ("cpu", "cuda", "cuda:1"). Work on a GPU is asynchronous: both ends wait for it."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)

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

    def reset_peak_memory(self) -> None:
        """Forget the peak so far: the next model's begins here."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def peak_memory_bytes(self) -> int | None:
        """Return the most bytes of device memory that tensors held since the last reset; None on a CPU."""
        return torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else None

    def release_memory(self) -> None:
        """Give back what nothing refers to any more, so that the next model finds the device empty."""
        if "torch._dynamo" in sys.modules:  # importing it takes a second, and then nothing is compiled yet
            torch._dynamo.reset()  # compiled code holds the weights it was compiled for
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
