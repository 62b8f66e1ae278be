"""A card whose power, time and users a test decides; it is the card's clock as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from benchmark.measure.nvml import Listed, UsedMemory
from benchmark.measure.power_log import LOOK_SECONDS


class FakeGpu:
    """Its time passes in `advance` alone. The counter of energy takes over the true energy every `tick_seconds`.

    watts: its power now. joules: the true energy so far. limits, listed, memory_bytes: what it says of itself.
    """

    driver = "580.65"

    def __init__(self, watts: float = 100.0, tick_seconds: float = 0.1, first_tick: float = 0.0373) -> None:
        self.uuid = "GPU-aa"
        self.watts, self.joules, self.seconds = watts, 0.0, 0.0
        self.tick_seconds, self._next_tick = tick_seconds, first_tick
        self.counter_mj: int | None = 0
        self.has_power = True
        self.failures: dict[str, str] = {}
        self.limits: tuple[str, ...] = ()
        self.held: dict[str, int] = {}
        self.listed: tuple[Listed, ...] | None = ()
        self.memory: UsedMemory | None = UsedMemory(0)
        self.split = False
        self.waits = 0
        self._look: Callable[[], None] | None = None
        self._next_look = 0.0
        self.counter_works = True

    def advance(self, seconds: float) -> None:
        """Let time pass, with ticks and looks at their moments."""
        end = self.seconds + seconds
        while self.seconds < end:
            moment = min(end, self._next_tick, self._next_look if self._look else end)
            self.joules += self.watts * (moment - self.seconds)
            self.seconds = moment
            if moment == self._next_tick:
                self._next_tick += self.tick_seconds
                if self.counter_mj is not None and self.counter_works:
                    self.counter_mj = round(self.joules * 1000)
            if self._look and moment == self._next_look:
                self._look()
                self._next_look += LOOK_SECONDS

    @contextmanager
    def polling(self, look: Callable[[], None]) -> Iterator[None]:
        """Look every LOOK_SECONDS of the card's time."""
        self._look, self._next_look = look, self.seconds
        try:
            yield
        finally:
            self._look = None

    @property
    def is_polled(self) -> bool:
        return self._look is not None

    def now(self, wait: bool = True) -> float:
        self.waits += wait
        return self.seconds

    def synchronize(self) -> None:
        self.waits += 1

    def energy_mj(self) -> int | None:
        return self.counter_mj

    def power_w(self) -> float | None:
        return self.watts if self.has_power else None

    def sm_clock_mhz(self) -> int | None:
        return 1980

    def memory_clock_mhz(self) -> int | None:
        return 3201

    def temperature_c(self) -> int | None:
        return 41

    def power_limit_w(self) -> float | None:
        return 650.0

    def default_power_limit_w(self) -> float | None:
        return 700.0

    def clock_limits(self) -> tuple[str, ...]:
        return self.limits

    def held_ns(self) -> Mapping[str, int]:
        return dict(self.held)

    def used_memory(self) -> UsedMemory | None:
        return self.memory

    def processes(self) -> tuple[Listed, ...] | None:
        return self.listed

    def is_split(self) -> bool:
        return self.split
