"""What the passes of a round found, and the state of the machine around it: data alone, without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from models.base import StageName

PassName = Literal["stages", "memory", "energy", "roofline"]
PASSES: tuple[PassName, ...] = get_args(PassName)


class NotMeasured(Exception):
    """A pass has no figure here; its text is the reason, as a cell shows it: "no GPU"."""


@dataclass(frozen=True)
class StageTime:
    """What one call of `generate` spends in a stage: the mean over the watched calls.

    calls: how often the stage's networks are entered; for VAR's and Infinity's backbone once a scale.
    call_seconds: of each of these in their order. What lies between them is in `seconds` alone.
    """

    name: StageName
    seconds: float
    calls: int
    call_seconds: tuple[float, ...]


@dataclass(frozen=True)
class Stages:
    """The stages of a call in their order.

    seconds: of a whole watched call, the mean over `watched_calls`. unwatched_seconds: of a whole call that was not
    watched, the mean of as many, made before and after those. timed_seconds: the mean of the timed calls of the same
    worker. batch_size: requests in a call of either kind.
    """

    stages: tuple[StageTime, ...]
    seconds: float
    unwatched_seconds: float
    timed_seconds: float
    watched_calls: int
    batch_size: int

    @property
    def ratio(self) -> float:
        """Sum of the stages over the latency of unwatched calls: 1 where watching costs nothing."""
        return sum(stage.seconds for stage in self.stages) / self.unwatched_seconds

    def ratio_error(self, variation: float) -> float:
        """Return the standard error of `ratio`, that of two means of so many calls.

        variation: the coefficient of variation from call to call.
        """
        return variation * math.sqrt(2 / self.watched_calls)


@dataclass(frozen=True)
class Memory:
    """Device memory that a call needs, the weights included.

    peak_tensor_bytes: the most that tensors held. peak_reserved_bytes: the most that the allocator held for them.
    since: of what. "call": of one call after all that nothing refers to was released. "first call": of all calls from
    the first one on, in which networks are compiled and captured, since what a replayed graph uses does not count as
    held by tensors; the reservation is that of a call. expandable_segments: whether the allocator grew its segments.
    card_peaks_bytes: of a model on several GPUs, the most that tensors held on each, by its name; both peaks above are
    then sums over the cards.
    """

    peak_tensor_bytes: int
    peak_reserved_bytes: int
    since: Literal["call", "first call"]
    expandable_segments: bool
    card_peaks_bytes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Energy:
    """Energy of the whole card over calls back to back.

    source: NVML's counter of energy, or samples of the power where a card has no counter.
    images, seconds: of the span that was measured. mean_power_w: the mean of samples of the power over this span; None
    where it cannot be read. idle_power_w: of the card before the calls, with the model in its memory.
    clock_limits: reasons that held the clocks down meanwhile, as NVML names them.
    """

    joules_per_image: float
    images: float
    seconds: float
    mean_power_w: float | None
    idle_power_w: float | None
    source: Literal["counter", "power samples"]
    clock_limits: tuple[str, ...] = ()

    @property
    def power_ratio(self) -> float | None:
        """Energy over mean power times time: 1 where counter and samples agree."""
        if self.mean_power_w is None:
            return None
        return self.joules_per_image * self.images / (self.mean_power_w * self.seconds)


@dataclass(frozen=True)
class Roofline:
    """What one image costs, and what this device can do: counted and measured once for a column.

    flops_per_image: floating-point operations of the matrix products, convolutions and attention of the plain network,
    a multiplication and an addition counted as two. weight_bytes_per_image: bytes of weights that its operations read.
    matrix_flops_per_s: of a large matrix product in `dtype`, now, on this device. copy_bytes_per_s: bytes read and
    written each second by a copy in the device's memory.
    """

    flops_per_image: float
    weight_bytes_per_image: float
    matrix_flops_per_s: float
    copy_bytes_per_s: float
    dtype: str


Finding = Stages | Memory | Energy | Roofline
FINDINGS: dict[PassName, type[Finding]] = {"stages": Stages, "memory": Memory, "energy": Energy, "roofline": Roofline}


@dataclass(frozen=True)
class Findings:
    """What the passes of one process found.

    unmeasured: by the name of a pass, why it found nothing. pass_seconds: by its name, how long it took.
    """

    stages: Stages | None = None
    memory: Memory | None = None
    energy: Energy | None = None
    roofline: Roofline | None = None
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    pass_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MachineState:
    """The state of the machine at one end of a round; what cannot be read is None or empty.

    other_processes: those that have the card in use and are not of this run, each with its number and name.
    clock_limits: reasons that hold the clocks down, as NVML names them; power_limit_w is in force, and
    default_power_limit_w is what the card was sold with. load_average: of the host over the last minute.
    other_cpu_cores: how many cores other processes kept busy between the start and the end of the round, known at its
    end. other_cards: how many cards the host has beside those in use; busy_cards: the UUIDs of those of them on which
    a process computes, of this run or not. unread: why nothing is known of the card, or "" where something is.
    """

    unix_s: float
    card_uuid: str = ""
    driver: str = ""
    other_processes: tuple[str, ...] = ()
    used_memory_bytes: int | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    clock_limits: tuple[str, ...] = ()
    temperature_c: int | None = None
    power_limit_w: float | None = None
    default_power_limit_w: float | None = None
    load_average: float | None = None
    other_cpu_cores: float | None = None
    cpu_cores: int = 0
    cpu_governor: str = ""
    unread: str = ""
    other_cards: int = 0
    busy_cards: tuple[str, ...] = ()
