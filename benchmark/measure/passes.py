"""The passes of a round: what a worker measures after its timed batches, and never inside them."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from benchmark.console.plain_text import one_line
from benchmark.measure.clock import Clock
from benchmark.measure.energy import measure_energy
from benchmark.measure.findings import Finding, NotMeasured, PassName
from benchmark.measure.memory import measure_memory
from benchmark.measure.nvml import open_card
from benchmark.measure.roofline import measure_roofline
from benchmark.measure.stages import time_stages
from models.base import DType, ImageGenerator, Request

# Memory first: what stages capture for themselves would count into it. Roofline last: it may need a model of its own.
ORDER: tuple[PassName, ...] = ("memory", "stages", "energy", "roofline")


@dataclass(frozen=True)
class Timing:
    """How a warm model was timed, which is what its passes need to know.

    requests: of one full call, prepared. timed_seconds: of a whole timed call, the mean.
    first_call_bytes: of a compiled model, the most that tensors held in its untimed calls; None of any other.
    with_idle: whether the energy pass measures the idle power as well, once for a column.
    """

    requests: Sequence[Request]
    clock: Clock
    device: str
    dtype: DType
    timed_seconds: float
    first_call_bytes: int | None = None
    with_idle: bool = True


def run_passes(
    generator: ImageGenerator, timing: Timing, names: Sequence[PassName], stopped: Callable[[], bool] = lambda: False
) -> Iterator[tuple[PassName, Finding | str]]:
    """Yield what each of these passes found, or the reason why it found nothing; one that fails costs no other.

    `stopped` is asked before each pass, and by passes between calls; a pass that was stopped yields nothing.
    """
    for name in (name for name in ORDER if name in names):
        if stopped():
            return
        try:
            found: Finding | str = _PASSES[name](generator, timing, stopped)
        except NotMeasured as reason:
            found = str(reason)
        except Exception as error:  # whatever a driver or a library raises, the timed batches stand
            if not isinstance(error, OSError | ValueError | torch.OutOfMemoryError):
                traceback.print_exc()
            found = f"{type(error).__name__}: {one_line(error)}"
        if stopped():
            return
        yield name, found


Pass = Callable[[ImageGenerator, Timing, Callable[[], bool]], Finding]


def _memory(generator: ImageGenerator, timing: Timing, _: Callable[[], bool]) -> Finding:
    return measure_memory(_call_of(generator, timing), timing.clock, timing.first_call_bytes)


def _stages(generator: ImageGenerator, timing: Timing, stopped: Callable[[], bool]) -> Finding:
    return time_stages(generator, timing.requests, timing.clock, timing.timed_seconds, stopped)


def _energy(generator: ImageGenerator, timing: Timing, stopped: Callable[[], bool]) -> Finding:
    _refuse_several(generator)
    call, card = _call_of(generator, timing), open_card(timing.device)
    return measure_energy(
        call, len(timing.requests), card, timing.clock, stopped, with_idle=timing.with_idle
    )  # fmt: skip


def _roofline(generator: ImageGenerator, timing: Timing, _: Callable[[], bool]) -> Finding:
    _refuse_several(generator)
    return measure_roofline(generator, timing.requests, timing.clock, timing.device, timing.dtype)


def _refuse_several(generator: ImageGenerator) -> None:
    """Raise NotMeasured for what is read from one card, where a call uses several."""
    if len(generator.devices) > 1:
        raise NotMeasured("components on several GPUs")


def _call_of(generator: ImageGenerator, timing: Timing) -> Callable[[], None]:
    def call() -> None:
        generator.generate(timing.requests)
        generator.check()

    return call


_PASSES: dict[PassName, Pass] = {
    "memory": _memory, "stages": _stages, "energy": _energy, "roofline": _roofline,
}  # fmt: skip
