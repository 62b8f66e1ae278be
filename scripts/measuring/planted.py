"""A slowdown that is planted: the same model with a wait inside `generate()`, to be found by the verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from benchmark.measure.clock import Clock
from models.base import ImageGenerator, Request, Stage, StageWatch

if TYPE_CHECKING:
    from torch import Tensor, nn


class Slowed:
    """A generator that waits after each call, busily, for a share of the seconds that the call took.

    slowdown: the share: with 0.03 a call takes 1.03 times as long.
    """

    def __init__(self, generator: ImageGenerator, device: str, slowdown: float) -> None:
        self._generator = generator
        self._device, self._clock = device, Clock(device)
        self._slowdown = slowdown
        self.name = generator.name
        self.parameters = generator.parameters
        self.class_conditional = generator.class_conditional
        self.devices = generator.devices
        self.image_size, self.notes = generator.image_size, generator.notes

    def prepare(self, requests: Sequence[Request]) -> list[Request]:
        return self._generator.prepare(requests)

    def generate(self, requests: Sequence[Request]) -> Tensor:
        start = self._clock.now()
        images_BCHW = self._generator.generate(requests)
        end = self._clock.now()
        # Some of it shows only once there are images.
        self.image_size, self.notes = self._generator.image_size, self._generator.notes
        until = end + self._slowdown * (end - start)
        while self._clock.now(wait=False) < until:
            pass  # a sleep would end late by more than a short call's share
        return images_BCHW

    def with_options(self, options: Any) -> Slowed:
        return Slowed(self._generator.with_options(options), self._device, self._slowdown)

    def check(self) -> None:
        self._generator.check()

    def networks(self) -> Sequence[nn.Module]:
        return self._generator.networks()

    def stages(self) -> tuple[Stage, ...]:
        return self._generator.stages()

    def watched(self, watch: StageWatch) -> AbstractContextManager[None]:
        return self._generator.watched(watch)


def load_slowed(load: Callable[[], ImageGenerator], device: str, slowdown: float) -> ImageGenerator:
    """Return what `load` returns, slowed down. A partial of it can be sent to a worker."""
    return Slowed(load(), device, slowdown)
