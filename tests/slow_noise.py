"""A model for runs whose workers are processes: it waits in each call, and can kill its own process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

import models
from models.base import ImageGenerator, ModelFamily, Request, Runtime, option


@dataclass(frozen=True)
class SlowOptions:
    seconds: float = option(0.1, "what a call waits")


@dataclass(frozen=True)
class DyingOptions:
    calls: int = option(3, "the call in which its process is killed")


class Noise(ImageGenerator):
    def __init__(self, name: str, runtime: Runtime, seconds: float = 0.0, calls: int = 0) -> None:
        self.name, self.image_size, self.parameters = name, 8, 1_000_000
        self.mode = runtime.mode
        self._seconds, self._calls_left = seconds, calls

    def generate(self, requests: Sequence[Request]) -> torch.Tensor:
        time.sleep(self._seconds)
        self._calls_left -= 1
        if self._calls_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        draws = [torch.Generator().manual_seed(request.seed) for request in requests]
        return torch.stack([torch.randint(0, 256, (3, 8, 8), generator=draw, dtype=torch.uint8) for draw in draws])


def load_slow(options: SlowOptions, runtime: Runtime) -> Noise:
    return Noise("Slow", runtime, seconds=options.seconds)


def load_dying(options: DyingOptions, runtime: Runtime) -> Noise:
    return Noise("Dying", runtime, calls=options.calls)


FAMILIES = (
    ModelFamily("slow", SlowOptions, lambda _: "Slow", lambda *_: "made up", load_slow),
    ModelFamily("dying", DyingOptions, lambda _: "Dying", lambda *_: "made up", load_dying),
)


def main() -> None:
    """Be run_inference.py with these models."""
    models.FAMILIES = (*models.FAMILIES, *FAMILIES)
    import run_inference

    run_inference.leave(run_inference.main())
