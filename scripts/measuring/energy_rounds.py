"""Energy per image in a worker of its own, and how far apart workers are."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.measure.clock import Clock
from benchmark.measure.energy import measure_energy
from benchmark.measure.findings import Energy, MachineState, NotMeasured
from benchmark.measure.machine_state import StateReader
from benchmark.measure.nvml import open_card
from benchmark.measure.warmup import warm_up
from benchmark.report.typed_json import to_json
from benchmark.run.servers import Channel
from benchmark.run.worker import Plan
from models.base import ImageGenerator, Request


@dataclass(frozen=True)
class Measured:
    """What a worker found: the energy, or the reason why there is none, and the machine's state at both ends.

    latency_s: of the last untimed call, the whole call.
    """

    energy: Energy | None
    reason: str
    latency_s: float
    start: MachineState
    end: MachineState

    def figures(self) -> dict[str, Any]:
        """Return them as they are written."""
        power_ratio = None if self.energy is None else self.energy.power_ratio
        return {**to_json(self), "power_ratio": power_ratio}


@dataclass(frozen=True)
class EnergyJob:
    """What a worker needs; it can be sent to another process. seconds: for which calls are measured at least."""

    load: Callable[[], ImageGenerator]
    requests: tuple[Request, ...]
    plan: Plan
    seconds: float


def measure_in_worker(job: EnergyJob, channel: Channel) -> None:
    """Load, warm up, and measure calls of all requests; send what was found.

    It stands here and not in the script, whose module is another one in a worker.
    """
    reader, clock = StateReader(job.plan.device), Clock(job.plan.device)
    generator = job.load()
    start = reader.start()
    prepared = generator.prepare(job.requests)

    def call() -> None:
        generator.generate(prepared)
        generator.check()

    warm = warm_up(lambda: clock.time(call)[1], job.plan.warmup, channel.stopped)
    energy, reason = None, ""
    try:
        card = open_card(job.plan.device)
        energy = measure_energy(call, len(prepared), card, clock, channel.stopped, job.seconds)
    except NotMeasured as error:
        reason = str(error)
    channel.send(Measured(energy, reason, warm.seconds[-1], start, reader.end()))


@dataclass(frozen=True)
class EnergySpread:
    """The energy of one column in several workers."""

    found: tuple[Energy, ...]

    @property
    def mean_j(self) -> float:
        """Joules per image, the mean over workers."""
        return statistics.fmean(energy.joules_per_image for energy in self.found)

    @property
    def range(self) -> float:
        """How far the largest is above the smallest, over the mean."""
        joules = [energy.joules_per_image for energy in self.found]
        return (max(joules) - min(joules)) / self.mean_j

    @property
    def power_ratios(self) -> list[float]:
        """Energy over mean power times time, of the workers that know it."""
        return [ratio for energy in self.found if (ratio := energy.power_ratio) is not None]

    def figures(self) -> dict[str, Any]:
        """Return the figures as they are written."""
        return {"mean_j_per_image": self.mean_j, "range_over_mean": self.range, "power_ratios": self.power_ratios}


def spread_of(measured: Sequence[Measured]) -> EnergySpread | None:
    """Return the spread of the workers that found an energy; None of fewer than two."""
    found = tuple(worker.energy for worker in measured if worker.energy is not None)
    return EnergySpread(found) if len(found) > 1 else None
